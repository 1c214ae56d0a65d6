// Argument checks of Mamba-2's gated norm.
#include "core/rms_norm.h"

using namespace ssm;

namespace {

// The checked call.
struct GatedRmsNorm : RmsNormCall<RmsNormParams> {
    const Tensor *x, *z, *weight, *bias, *y, *rstd;

    GatedRmsNorm(const ssm_context& context, const ssm_gated_rms_norm_args* given, Purpose purpose)
        : RmsNormCall(context, purpose) {
        const auto args = read_arguments(given);
        x = &contract.input("x", args.x);
        z = &contract.optional_input("z", args.z);
        weight = &contract.optional_input("weight", args.weight);
        bias = &contract.optional_input("bias", args.bias);
        y = &contract.output("y", args.y);
        rstd = &contract.optional_output("rstd", args.rstd);
        contract.allow_inplace(*y, *x);
        contract.allow_inplace(*y, *z);
        params.norm_before_gate = read_bool("norm_before_gate", args.norm_before_gate);
        read_eps(args.eps);

        read_type(params.type, *x);
        params.residual = params.type;
        for (const Tensor* tensor : {z, y})
            expect_type(*tensor, params.type);
        for (const Tensor* tensor : {weight, bias, rstd})
            expect_type(*tensor, state_type(params.type));

        read_shape(*x, args.group_size);
        for (const Tensor* tensor : {weight, bias})
            expect_shape(*tensor, {params.shape.width});
        for (const Tensor* tensor : {z, y})
            expect_rows(*tensor, *x, params.shape.width);
        if (params.shape.width > 0)
            expect_rows(*rstd, *x, params.shape.groups());
        contract.expect_outputs_apart();

        if (x->count == 0) {
            pass_on({});
            return;
        }
        place(params.x, *x);
        place(params.z, *z);
        place(params.y, *y);
        merge_axes();
        plan.add_compact(params.weight, *weight);
        plan.add_compact(params.bias, *bias);
        plan.add_compact(params.rstd, *rstd);
    }
};

} // namespace

extern "C" int32_t ssm_gated_rms_norm(ssm_context* context, const ssm_gated_rms_norm_args* args) {
    return run_operation<GatedRmsNorm>(context, args, &Backend::rms_norm, &Backend::rms_norm_workspace);
}

extern "C" int32_t ssm_gated_rms_norm_workspace(ssm_context* context, const ssm_gated_rms_norm_args* args, uint64_t* bytes) {
    return query_workspace<GatedRmsNorm>(context, args, bytes, &Backend::rms_norm_workspace);
}
