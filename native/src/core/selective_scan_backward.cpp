// Argument checks of the gradients of the selective scan.
#include "core/selective_scan.h"

#include "core/operation.h"

using namespace ssm;

namespace {

// The checked call.
struct SelectiveScanBackward : Call<SelectiveScanBackwardParams> {
    const Tensor *u, *dt, *a, *b, *c, *d, *z, *dt_bias, *initial_state, *cu_seqlens, *grad_y, *grad_last_state;
    const Tensor *grad_u, *grad_dt, *grad_a, *grad_b, *grad_c, *grad_d, *grad_z, *grad_dt_bias, *grad_initial_state;
    const Tensor* seq_idx;

    SelectiveScanBackward(const ssm_context& context, const ssm_selective_scan_backward_args* given, Purpose purpose)
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
        grad_y = &contract.input("grad_y", args.grad_y);
        grad_last_state = &contract.optional_input("grad_last_state", args.grad_last_state);
        grad_u = &contract.optional_output("grad_u", args.grad_u);
        grad_dt = &contract.optional_output("grad_dt", args.grad_dt);
        grad_a = &contract.optional_output("grad_a", args.grad_a);
        grad_b = &contract.optional_output("grad_b", args.grad_b);
        grad_c = &contract.optional_output("grad_c", args.grad_c);
        grad_d = &contract.optional_output("grad_d", args.grad_d);
        grad_z = &contract.optional_output("grad_z", args.grad_z);
        grad_dt_bias = &contract.optional_output("grad_dt_bias", args.grad_dt_bias);
        grad_initial_state = &contract.optional_output("grad_initial_state", args.grad_initial_state);
        seq_idx = &contract.optional_input("seq_idx", args.seq_idx);
        params.dt_softplus = read_bool("dt_softplus", args.dt_softplus);

        expect_type(*u, {DataType::float32, DataType::float64, DataType::float16, DataType::bfloat16});
        params.type = u->type();
        const DataType real = state_type(params.type);
        for (const Tensor* tensor : {dt, z, grad_y, grad_u, grad_dt, grad_z})
            expect_type(*tensor, params.type);
        for (const Tensor* tensor : {d, dt_bias, grad_d, grad_dt_bias})
            expect_type(*tensor, real);
        expect_type(*a, {real, complex_type(real)});
        params.state = a->type();
        for (const Tensor* tensor : {initial_state, grad_last_state, grad_a, grad_initial_state})
            expect_type(*tensor, params.state);

        SequenceShape& shape = read_shape(params.shape, *u, *cu_seqlens);
        const int64_t batch = shape.batch, channels = shape.channels, length = shape.length, rows = shape.state_rows();
        for (const Tensor* tensor : {dt, z, grad_y, grad_u, grad_dt, grad_z})
            expect_shape(*tensor, {batch, channels, length});
        expect_rank(*a, 2);
        const int64_t states = a->shape[1];
        for (const Tensor* tensor : {a, grad_a})
            expect_shape(*tensor, {channels, states});
        for (const Tensor* tensor : {d, dt_bias, grad_d, grad_dt_bias})
            expect_shape(*tensor, {channels});
        for (const Tensor* tensor : {initial_state, grad_last_state, grad_initial_state})
            expect_shape(*tensor, {rows, channels, states});
        params.groups = expect_state_sequences({b, c}, params.type, params.state, batch, channels, states, length);
        expect_like(*grad_b, *b);
        expect_like(*grad_c, *c);
        if (*grad_z && !*z)
            fail_argument("z", "a tensor, as grad_z is wanted", "NULL");
        expect_seq_idx(*seq_idx, shape);

        contract.expect_outputs_apart();

        // Without a step the last state is the initial one, and so are their gradients; sums over no steps are zero.
        if (u->count == 0) {
            pass_on({{grad_last_state, grad_initial_state},
                     {&absent, grad_a},
                     {&absent, grad_b},
                     {&absent, grad_c},
                     {&absent, grad_d},
                     {&absent, grad_dt_bias}});
            return;
        }
        const auto per_step = [](const Tensor* tensor) { return tensor->rank == state_sequence_rank ? tensor : &absent; };
        const Layout layout = choose_layout(
            {u, dt, z, grad_y, grad_u, grad_dt, grad_z, per_step(b), per_step(c), per_step(grad_b), per_step(grad_c)});
        shape.layout = layout;
        params.states = states;
        plan.add(params.u, *u, layout);
        plan.add(params.dt, *dt, layout);
        plan.add(params.z, *z, layout);
        plan.add(params.grad_y, *grad_y, layout);
        plan.add(params.grad_u, *grad_u, layout);
        plan.add(params.grad_dt, *grad_dt, layout);
        plan.add(params.grad_z, *grad_z, layout);
        plan.add(params.b, *b, layout);
        plan.add(params.c, *c, layout);
        plan.add(params.grad_b, *grad_b, layout);
        plan.add(params.grad_c, *grad_c, layout);
        plan.add_compact(params.a, *a);
        plan.add_compact(params.d, *d);
        plan.add_compact(params.dt_bias, *dt_bias);
        plan.add_compact(params.initial_state, *initial_state);
        plan.add_compact(params.grad_last_state, *grad_last_state);
        plan.add_compact(params.grad_a, *grad_a);
        plan.add_compact(params.grad_d, *grad_d);
        plan.add_compact(params.grad_dt_bias, *grad_dt_bias);
        plan.add_compact(params.grad_initial_state, *grad_initial_state);
        plan.add_compact(params.seq_idx, *seq_idx);
    }

    void check_values(ssm_context& context) const {
        Call::check_values(context);
        check_finite(context, *a);
    }

    static void expect_like(const Tensor& gradient, const Tensor& of) {
        if (of.rank == state_sequence_rank)
            expect_shape(gradient, {of.shape[0], of.shape[1], of.shape[2], of.shape[3]});
        else
            expect_shape(gradient, {of.shape[0], of.shape[1]});
        expect_type(gradient, of.type());
    }
};

} // namespace

extern "C" int32_t ssm_selective_scan_backward(ssm_context* context, const ssm_selective_scan_backward_args* args) {
    return run_operation<SelectiveScanBackward>(context, args, &Backend::selective_scan_backward,
                                                &Backend::selective_scan_backward_workspace);
}

extern "C" int32_t ssm_selective_scan_backward_workspace(ssm_context* context, const ssm_selective_scan_backward_args* args,
                                                         uint64_t* bytes) {
    return query_workspace<SelectiveScanBackward>(context, args, bytes, &Backend::selective_scan_backward_workspace);
}
