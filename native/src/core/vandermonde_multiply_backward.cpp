// Argument checks of the gradients of the sums of exponentials.
#include "core/poles.h"

using namespace ssm;

namespace {

// The checked call.
struct VandermondeMultiplyBackward : Call<VandermondeMultiplyBackwardParams> {
    VandermondeMultiplyBackward(const ssm_context& context, const ssm_vandermonde_multiply_backward_args* given,
                                Purpose purpose)
        : Call(context, purpose) {
        const auto args = read_arguments(given);
        const Tensor& v = contract.input("v", args.v);
        const Tensor& x = contract.input("x", args.x);
        const Tensor& grad_y = contract.input("grad_y", args.grad_y);
        const Tensor& grad_v = contract.optional_output("grad_v", args.grad_v);
        const Tensor& grad_x = contract.optional_output("grad_x", args.grad_x);
        params.conjugate_pairs = read_bool("conjugate_pairs", args.conjugate_pairs);

        read_poles(params, v);
        for (const Tensor* tensor : {&x, &grad_v, &grad_x})
            expect_type(*tensor, params.type);
        expect_type(grad_y, params.conjugate_pairs ? real_type(params.type) : params.type);
        for (const Tensor* tensor : {&x, &grad_v, &grad_x})
            expect_shape(*tensor, {params.rows, params.states});
        expect_rank(grad_y, 2);
        params.length = grad_y.shape[1];
        expect_shape(grad_y, {params.rows, params.length});
        contract.expect_outputs_apart();

        if (v.count == 0 || params.length == 0 || !(grad_v || grad_x)) {
            pass_on({{&absent, &grad_v}, {&absent, &grad_x}});
            return;
        }
        plan.add_compact(params.source.v, v);
        plan.add_compact(params.source.x, x);
        plan.add_compact(params.grad_y, grad_y);
        plan.add_compact(params.grad_v, grad_v);
        plan.add_compact(params.grad_x, grad_x);
    }
};

} // namespace

extern "C" int32_t ssm_vandermonde_multiply_backward(ssm_context* context,
                                                     const ssm_vandermonde_multiply_backward_args* args) {
    return run_operation<VandermondeMultiplyBackward>(context, args, &Backend::vandermonde_multiply_backward,
                                                      &Backend::vandermonde_multiply_backward_workspace);
}

extern "C" int32_t ssm_vandermonde_multiply_backward_workspace(ssm_context* context,
                                                               const ssm_vandermonde_multiply_backward_args* args,
                                                               uint64_t* bytes) {
    return query_workspace<VandermondeMultiplyBackward>(context, args, bytes,
                                                        &Backend::vandermonde_multiply_backward_workspace);
}
