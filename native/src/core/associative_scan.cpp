// Argument checks of the associative scan.
#include "core/arguments.h"
#include "core/plan.h"

#include <limits>

using namespace ssm;

namespace {

// The checked call.
struct Scan {
    Contract contract;
    const Tensor *x, *initial_state, *cu_seqlens, *y, *last_state;
    AssociativeScanParams params{};
    Plan plan;
    bool is_empty = false;

    Scan(const ssm_context& context, const ssm_associative_scan_args* given, Purpose purpose) : contract(context, purpose) {
        const auto args = read_arguments(given);
        x = &contract.input("x", args.x);
        initial_state = &contract.optional_input("initial_state", args.initial_state);
        cu_seqlens = &contract.optional_input("cu_seqlens", args.cu_seqlens);
        y = &contract.output("y", args.y);
        last_state = &contract.optional_output("last_state", args.last_state);

        if (args.combine < SSM_COMBINE_ADD || args.combine > SSM_COMBINE_MINIMUM) {
            fail_argument("combine", "a value of ssm_combine", std::to_string(args.combine));
        }
        params.combine = static_cast<Combine>(args.combine);
        params.shape.reverse = read_bool("reverse", args.reverse);
        params.exclusive = read_bool("exclusive", args.exclusive);
        const bool is_extremum = params.combine == Combine::maximum || params.combine == Combine::minimum;
        if (is_extremum && params.exclusive)
            fail_argument("exclusive", "0 with maximum and minimum", "1");

        if (is_extremum) {
            expect_type(*x, {DataType::float32, DataType::float64, DataType::float16, DataType::bfloat16});
        } else {
            expect_storage_type(*x);
        }
        params.type = x->type();
        expect_type(*y, params.type);
        expect_type(*initial_state, state_type(params.type));
        expect_type(*last_state, state_type(params.type));

        expect_rank(*x, sequence_rank);
        const int64_t batch = x->shape[0], channels = x->shape[1], length = x->shape[2];
        const int64_t sequences = expect_cu_seqlens(*cu_seqlens, "x", batch);
        const int64_t rows = *cu_seqlens ? sequences : batch;
        expect_shape(*y, {batch, channels, length});
        expect_shape(*initial_state, {rows, channels});
        expect_shape(*last_state, {rows, channels});

        contract.allow_inplace(*y, *x);
        contract.expect_outputs_apart();

        is_empty = x->count == 0;
        if (is_empty)
            return;
        const Layout layout = choose_layout({x, y});
        params.shape.layout = layout;
        params.shape.batch = batch;
        params.shape.channels = channels;
        params.shape.length = length;
        params.shape.sequences = sequences;
        plan.add_cu_seqlens(params.shape.cu_seqlens, *cu_seqlens);
        plan.add(params.x, *x, layout);
        plan.add(params.y, *y, layout);
        plan.add_compact(params.initial_state, *initial_state);
        plan.add_compact(params.last_state, *last_state);
    }

    // Without a step the last state is the initial one, or the operator's identity.
    void pass_on(ssm_context& context) const {
        double identity = 0;
        if (params.combine == Combine::multiply)
            identity = 1;
        if (params.combine == Combine::maximum)
            identity = -std::numeric_limits<double>::infinity();
        if (params.combine == Combine::minimum)
            identity = std::numeric_limits<double>::infinity();
        const double wide[2] = {identity, 0};
        const float narrow[2] = {static_cast<float>(identity), 0};
        const bool is_double = params.type == DataType::float64 || params.type == DataType::complex128;
        pass_state_on(context, *initial_state, *last_state, is_double ? static_cast<const void*>(wide) : narrow);
    }
};

} // namespace

extern "C" int32_t ssm_associative_scan(ssm_context* context, const ssm_associative_scan_args* args) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        Scan scan(self, args, Purpose::run);
        check_cu_seqlens(self, *scan.cu_seqlens, scan.x->shape[2]);
        if (scan.is_empty)
            return scan.pass_on(self);
        run(self, scan.plan, scan.params, self.backend.associative_scan, self.backend.associative_scan_workspace);
    });
}

extern "C" int32_t ssm_associative_scan_workspace(ssm_context* context, const ssm_associative_scan_args* args,
                                                  uint64_t* bytes) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        uint64_t& answer = required_pointer("bytes", "a pointer", bytes);
        answer = 0;
        const Scan scan(self, args, Purpose::query);
        answer = scan.is_empty ? pass_state_on_workspace(*scan.initial_state, *scan.last_state)
                               : workspace_bytes(self, scan.plan, scan.params, self.backend.associative_scan_workspace);
    });
}
