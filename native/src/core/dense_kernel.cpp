// Argument checks of the kernel of dense systems.
#include "core/state_space.h"

using namespace ssm;

namespace {

// The checked call.
struct DenseKernel : Call<DenseKernelParams> {
    DenseTensors system;
    const Tensor* k;

    DenseKernel(const ssm_context& context, const ssm_dense_kernel_args* given, Purpose purpose)
        : DenseKernel(context, read_arguments(given), purpose) {}

    void check_values(ssm_context& context) const {
        check_positive(context, *system.dt);
        check_finite(context, *system.a);
    }

  private:
    DenseKernel(const ssm_context& context, const ssm_dense_kernel_args& args, Purpose purpose)
        : Call(context, purpose), system(contract, args), k(&contract.output("k", args.k)) {
        system.check(args, params.system);
        expect_type(*k, params.system.type);
        expect_rank(*k, 2);
        params.length = k->shape[1];
        expect_shape(*k, {params.system.heads, params.length});
        contract.expect_outputs_apart();
        if (k->count == 0) {
            pass_on({});
            return;
        }
        system.place(plan, params.system);
        plan.add_compact(params.k, *k);
    }
};

} // namespace

extern "C" int32_t ssm_dense_kernel(ssm_context* context, const ssm_dense_kernel_args* args) {
    return run_operation<DenseKernel>(context, args, &Backend::dense_kernel, &Backend::dense_kernel_workspace);
}

extern "C" int32_t ssm_dense_kernel_workspace(ssm_context* context, const ssm_dense_kernel_args* args, uint64_t* bytes) {
    return query_workspace<DenseKernel>(context, args, bytes, &Backend::dense_kernel_workspace);
}
