// Argument checks of the selective scan.
#include "core/selective_scan.h"

#include "core/operation.h"

using namespace ssm;

namespace {

// The checked call.
struct SelectiveScan : Call<SelectiveScanParams> {
    const Tensor *u, *dt, *a, *b, *c, *d, *z, *dt_bias, *initial_state, *cu_seqlens, *y, *last_state, *seq_idx;

    SelectiveScan(const ssm_context& context, const ssm_selective_scan_args* given, Purpose purpose)
        : Call(context, purpose) {
        const auto args = read_arguments(given);
        u = &contract.input("u", args.u);
        dt = &contract.input("dt", args.dt);
        a = &contract.input("a", args.a);
        b = &contract.input("b", args.b);
        c = &contract.input("c", args.c);
        d = &contract.optional_input("d", args.d);
        z = &contract.optional_input("z", args.z);
        dt_bias = &contract.optional_input("dt_bias", args.dt_bias);
        initial_state = &contract.optional_input("initial_state", args.initial_state);
        cu_seqlens = &contract.optional_input("cu_seqlens", args.cu_seqlens);
        y = &contract.output("y", args.y);
        last_state = &contract.optional_output("last_state", args.last_state);
        seq_idx = &contract.optional_input("seq_idx", args.seq_idx);
        params.dt_softplus = read_bool("dt_softplus", args.dt_softplus);

        expect_type(*u, {DataType::float32, DataType::float64, DataType::float16, DataType::bfloat16});
        params.type = u->type();
        const DataType real = state_type(params.type);
        for (const Tensor* tensor : {dt, z, y})
            expect_type(*tensor, params.type);
        for (const Tensor* tensor : {d, dt_bias})
            expect_type(*tensor, real);
        expect_type(*a, {real, complex_type(real)});
        params.state = a->type();
        for (const Tensor* tensor : {initial_state, last_state})
            expect_type(*tensor, params.state);

        SequenceShape& shape = read_shape(params.shape, *u, *cu_seqlens);
        const int64_t batch = shape.batch, channels = shape.channels, length = shape.length, rows = shape.state_rows();
        for (const Tensor* tensor : {dt, z, y})
            expect_shape(*tensor, {batch, channels, length});
        expect_rank(*a, 2);
        const int64_t states = a->shape[1];
        expect_shape(*a, {channels, states});
        for (const Tensor* tensor : {d, dt_bias})
            expect_shape(*tensor, {channels});
        for (const Tensor* tensor : {initial_state, last_state})
            expect_shape(*tensor, {rows, channels, states});
        params.groups = expect_state_sequences({b, c}, params.type, params.state, batch, channels, states, length);
        expect_seq_idx(*seq_idx, shape);

        contract.expect_outputs_apart();

        if (u->count == 0) {
            pass_on({{initial_state, last_state}});
            return;
        }
        const Layout layout = choose_layout(
            {u, dt, z, y, b->rank == state_sequence_rank ? b : &absent, c->rank == state_sequence_rank ? c : &absent});
        shape.layout = layout;
        params.states = states;
        plan.add(params.u, *u, layout);
        plan.add(params.dt, *dt, layout);
        plan.add(params.z, *z, layout);
        plan.add(params.y, *y, layout);
        plan.add(params.b, *b, layout);
        plan.add(params.c, *c, layout);
        plan.add_compact(params.a, *a);
        plan.add_compact(params.d, *d);
        plan.add_compact(params.dt_bias, *dt_bias);
        plan.add_compact(params.initial_state, *initial_state);
        plan.add_compact(params.last_state, *last_state);
        plan.add_compact(params.seq_idx, *seq_idx);
    }

    void check_values(ssm_context& context) const {
        Call::check_values(context);
        check_finite(context, *a);
    }
};

} // namespace

extern "C" int32_t ssm_selective_scan(ssm_context* context, const ssm_selective_scan_args* args) {
    return run_operation<SelectiveScan>(context, args, &Backend::selective_scan, &Backend::selective_scan_workspace);
}

extern "C" int32_t ssm_selective_scan_workspace(ssm_context* context, const ssm_selective_scan_args* args, uint64_t* bytes) {
    return query_workspace<SelectiveScan>(context, args, bytes, &Backend::selective_scan_workspace);
}
