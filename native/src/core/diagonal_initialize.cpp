// Eigenvalues that diagonal systems start from.
#include "core/hippo_normal.h"
#include "core/host_values.h"
#include "core/mutate.h"

using namespace ssm;

namespace {

std::complex<double> eigenvalue(int32_t init, int64_t n, int64_t states) {
    const double i = static_cast<double>(n),
                 all = SSM_MUTATE("hippo_setup.cpu.half_the_states", 2, 1) * static_cast<double>(states);
    switch (init) {
    case SSM_DIAGONAL_INIT_LIN:
        return {-0.5, hippo_pi * i};
    case SSM_DIAGONAL_INIT_INV:
        return {-0.5, all / hippo_pi * (all / (2 * i + 1) - 1)};
    case SSM_DIAGONAL_INIT_REAL:
        return {-(i + 1), 0};
    default:
        return {-0.5, (2 * i + 1) * (2 * i + 1) / hippo_pi};
    }
}

} // namespace

extern "C" int32_t ssm_diagonal_initialize(ssm_context* context, const ssm_diagonal_initialize_args* given) {
    return run_on_host(context, [&](Contract& contract) {
        const auto args = read_arguments(given);
        const Tensor& eigenvalues = contract.output("eigenvalues", args.eigenvalues);
        const Tensor& b = contract.optional_output("b", args.b);
        if (args.init < SSM_DIAGONAL_INIT_LIN || args.init > SSM_DIAGONAL_INIT_QUAD)
            fail_argument("init", "an ssm_diagonal_init", std::to_string(args.init));
        expect_type(eigenvalues, {DataType::complex64, DataType::complex128});
        expect_type(b, eigenvalues.type());
        expect_rank(eigenvalues, 1);
        const int64_t states = eigenvalues.shape[0];
        if (states < 1)
            fail_argument("eigenvalues", "at least one state", "shape (0)");
        expect_shape(b, {states});
        contract.expect_outputs_apart();
        if (args.init == SSM_DIAGONAL_INIT_LEGS) {
            const HippoNormal normal = hippo_normal(Measure::legs, states);
            for (int64_t n = 0; n < states; ++n) {
                put(eigenvalues, {n}, normal.eigenvalues(n));
                if (b)
                    put(b, {n}, normal.b(n));
            }
            return;
        }
        for (int64_t n = 0; n < states; ++n) {
            put(eigenvalues, {n}, eigenvalue(args.init, n, states));
            if (b)
                put(b, {n}, std::complex<double>(1));
        }
    });
}
