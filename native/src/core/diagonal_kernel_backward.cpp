// Argument checks of the gradients of a diagonal system's convolution kernel.
#include "core/poles.h"

using namespace ssm;

namespace {

// The checked call.
struct DiagonalKernelBackward : Call<VandermondeMultiplyBackwardParams> {
    const Tensor *a, *dt;

    DiagonalKernelBackward(const ssm_context& context, const ssm_diagonal_kernel_backward_args* given, Purpose purpose)
        : Call(context, purpose) {
        const auto args = read_arguments(given);
        a = &contract.input("a", args.a);
        const Tensor& b = contract.input("b", args.b);
        const Tensor& c = contract.input("c", args.c);
        dt = &contract.input("dt", args.dt);
        const Tensor& grad_k = contract.input("grad_k", args.grad_k);
        const Tensor& grad_a = contract.optional_output("grad_a", args.grad_a);
        const Tensor& grad_b = contract.optional_output("grad_b", args.grad_b);
        const Tensor& grad_c = contract.optional_output("grad_c", args.grad_c);
        const Tensor& grad_dt = contract.optional_output("grad_dt", args.grad_dt);
        PoleSource& source = params.source;
        source.is_system = params.conjugate_pairs = true;
        source.rule = read_rule(args.discretization, args.alpha);
        source.softmax = read_bool("softmax", args.softmax);

        read_poles(params, *a);
        for (const Tensor* tensor : {&b, &c, &grad_a, &grad_b, &grad_c}) {
            expect_type(*tensor, params.type);
            expect_shape(*tensor, {params.rows, params.states});
        }
        for (const Tensor* tensor : {dt, &grad_k, &grad_dt})
            expect_type(*tensor, real_type(params.type));
        for (const Tensor* tensor : {dt, &grad_dt})
            expect_shape(*tensor, {params.rows});
        expect_rank(grad_k, 2);
        params.length = grad_k.shape[1];
        expect_shape(grad_k, {params.rows, params.length});
        contract.expect_outputs_apart();

        if (a->count == 0 || params.length == 0 || !(grad_a || grad_b || grad_c || grad_dt)) {
            pass_on({{&absent, &grad_a}, {&absent, &grad_b}, {&absent, &grad_c}, {&absent, &grad_dt}});
            return;
        }
        plan.add_compact(source.a, *a);
        plan.add_compact(source.b, b);
        plan.add_compact(source.c, c);
        plan.add_compact(source.dt, *dt);
        plan.add_compact(params.grad_y, grad_k);
        plan.add_compact(params.grad_a, grad_a);
        plan.add_compact(params.grad_b, grad_b);
        plan.add_compact(params.grad_c, grad_c);
        plan.add_compact(params.grad_dt, grad_dt);
    }

    void check_values(ssm_context& context) const {
        check_finite(context, *a);
        check_positive(context, *dt);
    }
};

} // namespace

extern "C" int32_t ssm_diagonal_kernel_backward(ssm_context* context, const ssm_diagonal_kernel_backward_args* args) {
    return run_operation<DiagonalKernelBackward>(context, args, &Backend::vandermonde_multiply_backward,
                                                 &Backend::vandermonde_multiply_backward_workspace);
}

extern "C" int32_t ssm_diagonal_kernel_backward_workspace(ssm_context* context,
                                                          const ssm_diagonal_kernel_backward_args* args, uint64_t* bytes) {
    return query_workspace<DiagonalKernelBackward>(context, args, bytes, &Backend::vandermonde_multiply_backward_workspace);
}
