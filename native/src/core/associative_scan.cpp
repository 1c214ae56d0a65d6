// Argument checks of the associative scan.
#include "core/operation.h"

#include <limits>

using namespace ssm;

namespace {

// The checked call.
struct Scan : Call<AssociativeScanParams> {
    const Tensor *x, *initial_state, *cu_seqlens, *y, *last_state;

    Scan(const ssm_context& context, const ssm_associative_scan_args* given, Purpose purpose) : Call(context, purpose) {
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

        SequenceShape& shape = read_shape(params.shape, *x, *cu_seqlens);
        const int64_t batch = shape.batch, channels = shape.channels, length = shape.length, rows = shape.state_rows();
        expect_shape(*y, {batch, channels, length});
        expect_shape(*initial_state, {rows, channels});
        expect_shape(*last_state, {rows, channels});

        contract.allow_inplace(*y, *x);
        contract.expect_outputs_apart();

        if (x->count == 0) {
            pass_on({{initial_state, last_state}});
            return;
        }
        const Layout layout = choose_layout({x, y});
        shape.layout = layout;
        plan.add(params.x, *x, layout);
        plan.add(params.y, *y, layout);
        plan.add_compact(params.initial_state, *initial_state);
        plan.add_compact(params.last_state, *last_state);
    }

    // Without a step the last state is the initial one, or the operator's identity.
    void run_empty(ssm_context& context) const {
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
    return run_operation<Scan>(context, args, &Backend::associative_scan, &Backend::associative_scan_workspace);
}

extern "C" int32_t ssm_associative_scan_workspace(ssm_context* context, const ssm_associative_scan_args* args,
                                                  uint64_t* bytes) {
    return query_workspace<Scan>(context, args, bytes, &Backend::associative_scan_workspace);
}
