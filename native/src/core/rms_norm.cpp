// Argument checks of the norm by the root of the mean square.
#include "core/rms_norm.h"

using namespace ssm;

namespace {

// The checked call.
struct RmsNorm : RmsNormCall<RmsNormParams> {
    const Tensor *x, *residual, *weight, *bias, *y, *residual_out, *rstd;

    RmsNorm(const ssm_context& context, const ssm_rms_norm_args* given, Purpose purpose) : RmsNormCall(context, purpose) {
        const auto args = read_arguments(given);
        x = &contract.input("x", args.x);
        residual = &contract.optional_input("residual", args.residual);
        weight = &contract.optional_input("weight", args.weight);
        bias = &contract.optional_input("bias", args.bias);
        y = &contract.output("y", args.y);
        residual_out = &contract.optional_output("residual_out", args.residual_out);
        rstd = &contract.optional_output("rstd", args.rstd);
        for (const Tensor* output : {y, residual_out}) {
            contract.allow_inplace(*output, *x);
            contract.allow_inplace(*output, *residual);
        }
        read_eps(args.eps);

        read_type(params.type, *x);
        expect_type(*y, params.type);
        expect_type_or_state(*residual, params.type);
        if (*residual)
            expect_type(*residual_out, residual->type());
        else
            expect_type_or_state(*residual_out, params.type);
        params.residual = *residual ? residual->type() : *residual_out ? residual_out->type() : params.type;
        for (const Tensor* tensor : {weight, bias, rstd})
            expect_type(*tensor, state_type(params.type));

        read_shape(*x);
        for (const Tensor* tensor : {weight, bias})
            expect_shape(*tensor, {params.shape.width});
        for (const Tensor* tensor : {residual, y, residual_out})
            expect_rows(*tensor, *x, params.shape.width);
        expect_rows(*rstd, *x, -1);
        contract.expect_outputs_apart();

        if (x->count == 0) {
            pass_on({});
            return;
        }
        place(params.x, *x);
        place(params.residual_in, *residual);
        place(params.y, *y);
        place(params.residual_out, *residual_out);
        merge_axes();
        plan.add_compact(params.weight, *weight);
        plan.add_compact(params.bias, *bias);
        plan.add_compact(params.rstd, *rstd);
    }
};

} // namespace

extern "C" int32_t ssm_rms_norm(ssm_context* context, const ssm_rms_norm_args* args) {
    return run_operation<RmsNorm>(context, args, &Backend::rms_norm, &Backend::rms_norm_workspace);
}

extern "C" int32_t ssm_rms_norm_workspace(ssm_context* context, const ssm_rms_norm_args* args, uint64_t* bytes) {
    return query_workspace<RmsNorm>(context, args, bytes, &Backend::rms_norm_workspace);
}
