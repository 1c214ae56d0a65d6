// Argument checks of the gradients of the norm by the root of the mean square.
#include "core/rms_norm.h"

using namespace ssm;

namespace {

// The checked call.
struct RmsNormBackward : RmsNormCall<RmsNormBackwardParams> {
    const Tensor *x, *weight, *rstd, *grad_y, *grad_residual_out, *grad_x, *grad_residual, *grad_weight, *grad_bias;

    RmsNormBackward(const ssm_context& context, const ssm_rms_norm_backward_args* given, Purpose purpose)
        : RmsNormCall(context, purpose) {
        const auto args = read_arguments(given);
        x = &contract.input("x", args.x);
        weight = &contract.optional_input("weight", args.weight);
        rstd = &contract.optional_input("rstd", args.rstd);
        grad_y = &contract.input("grad_y", args.grad_y);
        grad_residual_out = &contract.optional_input("grad_residual_out", args.grad_residual_out);
        grad_x = &contract.optional_output("grad_x", args.grad_x);
        grad_residual = &contract.optional_output("grad_residual", args.grad_residual);
        grad_weight = &contract.optional_output("grad_weight", args.grad_weight);
        grad_bias = &contract.optional_output("grad_bias", args.grad_bias);
        contract.allow_inplace(*grad_x, *grad_y);
        contract.allow_inplace(*grad_residual, *grad_residual_out);
        read_eps(args.eps);

        read_type(params.type, *grad_y);
        expect_type_or_state(*x, params.type);
        params.x_type = x->type();
        for (const Tensor* tensor : {grad_residual_out, grad_residual})
            expect_type(*tensor, params.x_type);
        expect_type(*grad_x, params.type);
        for (const Tensor* tensor : {weight, rstd, grad_weight, grad_bias})
            expect_type(*tensor, state_type(params.type));

        read_shape(*x);
        for (const Tensor* tensor : {weight, grad_weight, grad_bias})
            expect_shape(*tensor, {params.shape.width});
        for (const Tensor* tensor : {grad_y, grad_residual_out, grad_x, grad_residual})
            expect_rows(*tensor, *x, params.shape.width);
        expect_rows(*rstd, *x, -1);
        contract.expect_outputs_apart();

        if (x->count == 0) { // sums over no rows
            pass_on({{&absent, grad_weight}, {&absent, grad_bias}});
            return;
        }
        place(params.x, *x);
        place(params.grad_y, *grad_y);
        place(params.grad_residual_out, *grad_residual_out);
        place(params.grad_x, *grad_x);
        place(params.grad_residual, *grad_residual);
        merge_axes();
        plan.add_compact(params.weight, *weight);
        plan.add_compact(params.rstd, *rstd);
        plan.add_compact(params.grad_weight, *grad_weight);
        plan.add_compact(params.grad_bias, *grad_bias);
    }
};

} // namespace

extern "C" int32_t ssm_rms_norm_backward(ssm_context* context, const ssm_rms_norm_backward_args* args) {
    return run_operation<RmsNormBackward>(context, args, &Backend::rms_norm_backward, &Backend::rms_norm_backward_workspace);
}

extern "C" int32_t ssm_rms_norm_backward_workspace(ssm_context* context, const ssm_rms_norm_backward_args* args,
                                                   uint64_t* bytes) {
    return query_workspace<RmsNormBackward>(context, args, bytes, &Backend::rms_norm_backward_workspace);
}
