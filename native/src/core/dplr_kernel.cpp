// Argument checks of the kernel of diagonal plus low-rank systems.
#include "core/state_space.h"

using namespace ssm;

namespace {

// The checked call.
struct DplrKernel : Call<DplrKernelParams> {
    DplrTensors system;
    const Tensor* k;

    DplrKernel(const ssm_context& context, const ssm_dplr_kernel_args* given, Purpose purpose)
        : DplrKernel(context, read_arguments(given), purpose) {}

    void check_values(ssm_context& context) const {
        check_positive(context, *system.dt);
        check_nonzero(context, *system.eigenvalues);
    }

  private:
    DplrKernel(const ssm_context& context, const ssm_dplr_kernel_args& args, Purpose purpose)
        : Call(context, purpose), system(contract, args), k(&contract.output("k", args.k)) {
        params.c_is_tilde = read_bool("c_is_tilde", args.c_is_tilde);
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

extern "C" int32_t ssm_dplr_kernel(ssm_context* context, const ssm_dplr_kernel_args* args) {
    return run_operation<DplrKernel>(context, args, &Backend::dplr_kernel, &Backend::dplr_kernel_workspace);
}

extern "C" int32_t ssm_dplr_kernel_workspace(ssm_context* context, const ssm_dplr_kernel_args* args, uint64_t* bytes) {
    return query_workspace<DplrKernel>(context, args, bytes, &Backend::dplr_kernel_workspace);
}
