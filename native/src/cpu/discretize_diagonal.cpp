// a_bar and b_bar of a diagonal system: some numbers for each state, in double precision (core/diagonal_system.h).
#include "core/params/discretize_diagonal.h"
#include "core/diagonal_system.h"
#include "core/mutate.h"
#include "cpu/context.h"
#include "cpu/thread_pool.h"

namespace ssm::cpu {
namespace {

template <class Real>
void discretize_row(const DiscretizeDiagonalParams& p, int64_t row) {
    const double dt = static_cast<double>(static_cast<const Real*>(p.dt)[row]);
    const double interval = p.interval ? static_cast<double>(static_cast<const Real*>(p.interval)[row]) : 1.0;
    const int64_t states = SSM_MUTATE("discretize_diagonal.cpu.off_by_one_tail", p.states, p.states - 1);
    for (int64_t i = row * p.states; i < row * p.states + states; ++i) {
        const ComplexDouble a = complex_at<Real>(p.a, i);
        if (p.a_bar) {
            const double own = SSM_MUTATE("discretize_diagonal.cpu.no_interval", interval, 1.0);
            store_complex<Real>(p.a_bar, i, discretized_state(p.rule, a, dt, own));
        }
        if (p.b_bar) {
            const ComplexDouble input = discretized_input(p.rule, a, dt, interval);
            store_complex<Real>(p.b_bar, i,
                                complex_at<Real>(p.b, i) *
                                    SSM_MUTATE("discretize_diagonal.cpu.conjugated", input, conjugate(input)));
        }
    }
}

} // namespace

int32_t discretize_diagonal(BackendContext* context, const DiscretizeDiagonalParams* params) {
    parallel_for(params->rows, context->threads, [&](int64_t row) {
        params->type == DataType::complex128 ? discretize_row<double>(*params, row) : discretize_row<float>(*params, row);
    });
    return success;
}

int32_t discretize_diagonal_workspace(BackendContext*, const DiscretizeDiagonalParams*, uint64_t* bytes) {
    *bytes = 0;
    return success;
}

} // namespace ssm::cpu
