// Argument checks of the gradients of Mamba-2's gated norm.
#include "core/rms_norm.h"

using namespace ssm;

namespace {

// The checked call.
struct GatedRmsNormBackward : RmsNormCall<RmsNormBackwardParams> {
    const Tensor *x, *z, *weight, *bias, *rstd, *grad_y, *grad_x, *grad_z, *grad_weight, *grad_bias;

    GatedRmsNormBackward(const ssm_context& context, const ssm_gated_rms_norm_backward_args* given, Purpose purpose)
        : RmsNormCall(context, purpose) {
        const auto args = read_arguments(given);
        x = &contract.input("x", args.x);
        z = &contract.optional_input("z", args.z);
        weight = &contract.optional_input("weight", args.weight);
        bias = &contract.optional_input("bias", args.bias);
        rstd = &contract.optional_input("rstd", args.rstd);
        grad_y = &contract.input("grad_y", args.grad_y);
        grad_x = &contract.optional_output("grad_x", args.grad_x);
        grad_z = &contract.optional_output("grad_z", args.grad_z);
        grad_weight = &contract.optional_output("grad_weight", args.grad_weight);
        grad_bias = &contract.optional_output("grad_bias", args.grad_bias);
        contract.allow_inplace(*grad_x, *grad_y);
        contract.allow_inplace(*grad_z, *z);
        params.norm_before_gate = read_bool("norm_before_gate", args.norm_before_gate);
        read_eps(args.eps);

        read_type(params.type, *x);
        params.x_type = params.type;
        for (const Tensor* tensor : {z, grad_y, grad_x, grad_z})
            expect_type(*tensor, params.type);
        for (const Tensor* tensor : {weight, bias, rstd, grad_weight, grad_bias})
            expect_type(*tensor, state_type(params.type));

        read_shape(*x, args.group_size);
        for (const Tensor* tensor : {weight, bias, grad_weight, grad_bias})
            expect_shape(*tensor, {params.shape.width});
        for (const Tensor* tensor : {z, grad_y, grad_x, grad_z})
            expect_rows(*tensor, *x, params.shape.width);
        if (params.shape.width > 0)
            expect_rows(*rstd, *x, params.shape.groups());
        if (*grad_z && !*z)
            fail_argument("z", "a tensor, because grad_z is asked for", "none");
        contract.expect_outputs_apart();

        if (x->count == 0) { // sums over no rows
            pass_on({{&absent, grad_weight}, {&absent, grad_bias}});
            return;
        }
        place(params.x, *x);
        place(params.z, *z);
        place(params.grad_y, *grad_y);
        place(params.grad_x, *grad_x);
        place(params.grad_z, *grad_z);
        merge_axes();
        plan.add_compact(params.weight, *weight);
        plan.add_compact(params.bias, *bias);
        plan.add_compact(params.rstd, *rstd);
        plan.add_compact(params.grad_weight, *grad_weight);
        plan.add_compact(params.grad_bias, *grad_bias);
    }
};

} // namespace

extern "C" int32_t ssm_gated_rms_norm_backward(ssm_context* context, const ssm_gated_rms_norm_backward_args* args) {
    return run_operation<GatedRmsNormBackward>(context, args, &Backend::rms_norm_backward,
                                               &Backend::rms_norm_backward_workspace);
}

extern "C" int32_t ssm_gated_rms_norm_backward_workspace(ssm_context* context, const ssm_gated_rms_norm_backward_args* args,
                                                         uint64_t* bytes) {
    return query_workspace<GatedRmsNormBackward>(context, args, bytes, &Backend::rms_norm_backward_workspace);
}
