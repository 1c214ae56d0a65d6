// Argument checks of the gradients of the kernel of diagonal plus low-rank systems.
#include "core/state_space.h"

using namespace ssm;

namespace {

// The checked call.
struct DplrKernelBackward : Call<DplrKernelBackwardParams> {
    DplrTensors system;
    const Tensor *grad_k, *grad_eigenvalues, *grad_p, *grad_b, *grad_c, *grad_dt;

    DplrKernelBackward(const ssm_context& context, const ssm_dplr_kernel_backward_args* given, Purpose purpose)
        : DplrKernelBackward(context, read_arguments(given), purpose) {}

    void check_values(ssm_context& context) const {
        check_positive(context, *system.dt);
        check_nonzero(context, *system.eigenvalues);
    }

  private:
    DplrKernelBackward(const ssm_context& context, const ssm_dplr_kernel_backward_args& args, Purpose purpose)
        : Call(context, purpose), system(contract, args) {
        grad_k = &contract.input("grad_k", args.grad_k);
        grad_eigenvalues = &contract.optional_output("grad_eigenvalues", args.grad_eigenvalues);
        grad_p = &contract.optional_output("grad_p", args.grad_p);
        grad_b = &contract.optional_output("grad_b", args.grad_b);
        grad_c = &contract.optional_output("grad_c", args.grad_c);
        grad_dt = &contract.optional_output("grad_dt", args.grad_dt);
        params.c_is_tilde = read_bool("c_is_tilde", args.c_is_tilde);
        system.check(args, params.system);
        const DataType type = params.system.type, complex = complex_of(type);
        const int64_t heads = params.system.heads, states = params.system.states;
        expect_type(*grad_k, type);
        expect_type(*grad_dt, type);
        for (const Tensor* tensor : {grad_eigenvalues, grad_p, grad_b, grad_c})
            expect_type(*tensor, complex);
        expect_rank(*grad_k, 2);
        params.length = grad_k->shape[1];
        expect_shape(*grad_k, {heads, params.length});
        for (const Tensor* tensor : {grad_eigenvalues, grad_b, grad_c})
            expect_shape(*tensor, {heads, states});
        expect_shape(*grad_p, {heads, params.system.rank, states});
        expect_shape(*grad_dt, {heads});
        contract.expect_outputs_apart();
        if (grad_k->count == 0) { // no element of a kernel: no gradient
            pass_on(
                {{&absent, grad_eigenvalues}, {&absent, grad_p}, {&absent, grad_b}, {&absent, grad_c}, {&absent, grad_dt}});
            return;
        }
        system.place(plan, params.system);
        plan.add_compact(params.grad_k, *grad_k);
        plan.add_compact(params.grad_eigenvalues, *grad_eigenvalues);
        plan.add_compact(params.grad_p, *grad_p);
        plan.add_compact(params.grad_b, *grad_b);
        plan.add_compact(params.grad_c, *grad_c);
        plan.add_compact(params.grad_dt, *grad_dt);
    }
};

} // namespace

extern "C" int32_t ssm_dplr_kernel_backward(ssm_context* context, const ssm_dplr_kernel_backward_args* args) {
    return run_operation<DplrKernelBackward>(context, args, &Backend::dplr_kernel_backward,
                                             &Backend::dplr_kernel_backward_workspace);
}

extern "C" int32_t ssm_dplr_kernel_backward_workspace(ssm_context* context, const ssm_dplr_kernel_backward_args* args,
                                                      uint64_t* bytes) {
    return query_workspace<DplrKernelBackward>(context, args, bytes, &Backend::dplr_kernel_backward_workspace);
}
