// discretize_diagonal: a thread for each state, in double precision (core/diagonal_system.h). 4 e bytes for a state and a
// few hundred operations in double precision: a set-up operation, whose launch takes longer than its work.
#include "cuda/poles.h"

#include "core/mutate.h"
#include "core/params/discretize_diagonal.h"
#include "cuda/operations.h"

namespace ssm {
namespace {

constexpr int discretize_threads = 128;

// ---- Kernels -------------------------------------------------------------------------------------------------------------

template <typename R>
__global__ void __launch_bounds__(discretize_threads) discretize_diagonal_kernel(DiscretizeDiagonalParams p) {
    const int64_t count = p.rows * p.states - SSM_MUTATE("discretize_diagonal.cuda.off_by_one_tail", 0, 1);
    const int64_t stride = static_cast<int64_t>(gridDim.x) * discretize_threads;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * discretize_threads + threadIdx.x; i < count; i += stride) {
        const int64_t row = i / p.states;
        const double dt = static_cast<double>(static_cast<const R*>(p.dt)[row]);
        const double interval = p.interval ? static_cast<double>(static_cast<const R*>(p.interval)[row]) : 1.0;
        const ComplexDouble a = complex_at<R>(p.a, i);
        if (p.a_bar) {
            const double own = SSM_MUTATE("discretize_diagonal.cuda.no_interval", interval, 1.0);
            store_complex<R>(p.a_bar, i, discretized_state(p.rule, a, dt, own));
        }
        if (p.b_bar) {
            const ComplexDouble input = discretized_input(p.rule, a, dt, interval);
            store_complex<R>(p.b_bar, i,
                             complex_at<R>(p.b, i) *
                                 SSM_MUTATE("discretize_diagonal.cuda.conjugated", input, conjugate(input)));
        }
    }
}

} // namespace

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t discretize_diagonal(BackendContext* context, const DiscretizeDiagonalParams* params) {
    return dispatch_complex(params->type, [&](auto real) {
        const int64_t states = params->rows * params->states;
        return status_of(launch(discretize_diagonal_kernel<decltype(real)>,
                                blocks_for((states + discretize_threads - 1) / discretize_threads), dim3(discretize_threads),
                                0, context->stream, *params),
                         "discretize_diagonal");
    });
}

int32_t discretize_diagonal_workspace(BackendContext*, const DiscretizeDiagonalParams*, uint64_t* bytes) {
    *bytes = 0;
    return success;
}

} // namespace ssm
