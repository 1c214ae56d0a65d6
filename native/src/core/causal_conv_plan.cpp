// Argument checks of the prepared spectrum of the long causal convolution.
#include "core/causal_conv.h"

using namespace ssm;

namespace {

// The checked call.
struct CausalConvPlan : Call<CausalConvPlanParams> {
    CausalConvPlan(const ssm_context& context, const ssm_causal_conv_plan_args* given, Purpose purpose)
        : Call(context, purpose) {
        const auto args = read_arguments(given);
        const Tensor& k = contract.input("k", args.k);
        const Tensor& k_reverse = contract.optional_input("k_reverse", args.k_reverse);
        const Tensor& spectrum = contract.output("spectrum", args.spectrum);

        expect_type(k, {DataType::float32, DataType::float64});
        params.type = k.type();
        expect_type(k_reverse, params.type);
        expect_type(spectrum, params.type);

        expect_rank(k, 2);
        params.heads = k.shape[0];
        params.taps = expect_taps(k, params.heads);
        expect_shape(k_reverse, {params.heads, params.taps});
        params.spectrum_length = expect_spectrum(spectrum, params.heads, params.taps, bool(k_reverse));

        contract.expect_outputs_apart();

        if (params.heads == 0) {
            pass_on({});
            return;
        }
        plan.add_compact(params.k, k);
        plan.add_compact(params.k_reverse, k_reverse);
        plan.add_compact(params.spectrum, spectrum);
    }
};

} // namespace

extern "C" int32_t ssm_causal_conv_plan(ssm_context* context, const ssm_causal_conv_plan_args* args) {
    return run_operation<CausalConvPlan>(context, args, &Backend::causal_conv_plan, &Backend::causal_conv_plan_workspace);
}

extern "C" int32_t ssm_causal_conv_plan_workspace(ssm_context* context, const ssm_causal_conv_plan_args* args,
                                                  uint64_t* bytes) {
    return query_workspace<CausalConvPlan>(context, args, bytes, &Backend::causal_conv_plan_workspace);
}
