// Argument checks of the gradients of the sums over poles.
#include "core/poles.h"

using namespace ssm;

namespace {

// The checked call.
struct CauchyMultiplyBackward : Call<CauchyMultiplyBackwardParams> {
    CauchyMultiplyBackward(const ssm_context& context, const ssm_cauchy_multiply_backward_args* given, Purpose purpose)
        : Call(context, purpose) {
        const auto args = read_arguments(given);
        const Tensor& v = contract.input("v", args.v);
        const Tensor& w = contract.input("w", args.w);
        const Tensor& z = contract.input("z", args.z);
        const Tensor& grad_y = contract.input("grad_y", args.grad_y);
        const Tensor& grad_v = contract.optional_output("grad_v", args.grad_v);
        const Tensor& grad_w = contract.optional_output("grad_w", args.grad_w);
        params.conjugate_pairs = read_bool("conjugate_pairs", args.conjugate_pairs);

        read_poles(params, v);
        for (const Tensor* tensor : {&w, &z, &grad_y, &grad_v, &grad_w})
            expect_type(*tensor, params.type);
        for (const Tensor* tensor : {&w, &grad_v, &grad_w})
            expect_shape(*tensor, {params.rows, params.states});
        expect_rank(z, 1);
        params.length = z.shape[0];
        expect_shape(grad_y, {params.rows, params.length});
        contract.expect_outputs_apart();

        if (v.count == 0 || params.length == 0 || !(grad_v || grad_w)) {
            pass_on({{&absent, &grad_v}, {&absent, &grad_w}});
            return;
        }
        plan.add_compact(params.v, v);
        plan.add_compact(params.w, w);
        plan.add_compact(params.z, z);
        plan.add_compact(params.grad_y, grad_y);
        plan.add_compact(params.grad_v, grad_v);
        plan.add_compact(params.grad_w, grad_w);
    }
};

} // namespace

extern "C" int32_t ssm_cauchy_multiply_backward(ssm_context* context, const ssm_cauchy_multiply_backward_args* args) {
    return run_operation<CauchyMultiplyBackward>(context, args, &Backend::cauchy_multiply_backward,
                                                 &Backend::cauchy_multiply_backward_workspace);
}

extern "C" int32_t ssm_cauchy_multiply_backward_workspace(ssm_context* context,
                                                          const ssm_cauchy_multiply_backward_args* args, uint64_t* bytes) {
    return query_workspace<CauchyMultiplyBackward>(context, args, bytes, &Backend::cauchy_multiply_backward_workspace);
}
