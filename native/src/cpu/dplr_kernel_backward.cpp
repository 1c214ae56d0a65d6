// Gradients of the kernel of diagonal plus low-rank systems.
//
// The gradient of k, transformed, is that of the spectrum. As F' = S_00 - cos z S_r0 is a left row times a right column,
// the gradient of the sums is one too: gS_xy = t conj(zeta_x) conj(eta_y), with t the gradient of F', zeta = (1, -cos z) and
// eta = (1, -cos y). So a frequency leaves 1 + 2 R numbers for each of its signs, and a state sums up over the frequencies,
// with c' = c + sum zeta_r conj(p_r), b' = b + sum eta_r p_r and T = t conj(1/d):
//     left factor x: T conj(zeta_x b'), right factor y: T conj(eta_y c'), divisor d = i q sin - cos w: -T conj(c' b' / d).
// Three passes: frequencies of a head (vectors of them), states of a head (vectors of frequencies), and heads, where the
// factors' gradients become those of c, b and p, and where c is not c_tilde those of the conversion are added, in double.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/dplr_kernel_backward.cpp"
#include "hwy/foreach_target.h"

#include "cpu/dplr_kernel-inl.h"

#include "core/params/dplr_kernel_backward.h"

#ifndef SSM_CPU_DPLR_KERNEL_BACKWARD_SUMS_
#define SSM_CPU_DPLR_KERNEL_BACKWARD_SUMS_
namespace ssm::cpu {
// What a state sums up over the frequencies.
struct DplrStateSums {
    ComplexDouble left[1 + dplr_most_rank], right[1 + dplr_most_rank], w;
    double q;
};
// Rows that a frequency leaves: for each sign t, zeta_r, eta_r, real and imaginary parts.
constexpr int64_t dplr_adjoint_rows(int64_t rank) {
    return 2 * (1 + 2 * rank) * 2;
}
} // namespace ssm::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

template <class Lane, int Rank>
HWY_INLINE void store_adjoint(Lane* rows, int64_t width, ComplexVector<Lane> t, Vec<Lane> cosine,
                              const DplrSolution<Lane, Rank>& solution, bool conjugated) {
    const Tag<Lane> d;
    const auto put = [&](int64_t row, ComplexVector<Lane> value) HWY_ATTR {
        hn::Store(value.re, d, rows + 2 * row * width);
        hn::Store(conjugated ? hn::Neg(value.im) : value.im, d, rows + (2 * row + 1) * width);
    };
    const auto minus = hn::Neg(cosine);
    put(0, t);
    for (int r = 0; r < Rank; ++r) {
        put(1 + r, scaled(minus, solution.z[r]));
        put(1 + Rank + r, scaled(SSM_MUTATE("dplr_kernel_backward.cpu.no_low_rank", minus, hn::Zero(d)), solution.y[r]));
    }
}

template <class Lane, int Rank>
HWY_NOINLINE void run_part(const DplrSystem& system, const DplrKernelMemory& memory, const DplrNumbers<Lane>& numbers,
                           Lane* adjoint, int64_t head, int64_t part) {
    using X = ComplexVector<Lane>;
    const Tag<Lane> d;
    constexpr int64_t n = lanes_of<Lane>();
    const DplrHead own = dplr_head(system, head);
    fill_numbers(own, memory.c_of(system, head), numbers);
    const auto q = hn::Set(d, static_cast<Lane>(own.q));
    const int64_t length = memory.transform.length, width = memory.width;
    const int64_t last = std::min(width, (part + 1) * dplr_part);
    const ComplexDouble* const spectrum = memory.spectra + head * memory.frequencies;
    for (int64_t j = part * dplr_part; j < last; j += n) {
        const auto sine = hn::Load(d, reinterpret_cast<const Lane*>(memory.sines) + j);
        const auto cosine = hn::Load(d, reinterpret_cast<const Lane*>(memory.cosines) + j);
        // Each frequency stands for its opposite too, but for the first and that of -1.
        alignas(64) Lane re[lanes_of<Lane>()], im[lanes_of<Lane>()];
        for (int64_t k = 0; k < n; ++k) {
            const int64_t frequency = j + k;
            const double weight = frequency >= memory.frequencies ? 0
                                  : frequency == 0 || 2 * frequency == length
                                      ? 1
                                      : SSM_MUTATE("dplr_kernel_backward.cpu.weight", 2, 1);
            const ComplexDouble g =
                weight == 0 ? ComplexDouble{0, 0} : weight / static_cast<double>(length) * spectrum[frequency];
            re[k] = static_cast<Lane>(g.re);
            im[k] = static_cast<Lane>(g.im);
        }
        X t = multiply(X{cosine, hn::Neg(sine)}, X{hn::Load(d, re), hn::Load(d, im)});
        const auto turn = hn::Mul(q, sine);
        DplrSums<Lane, Rank> sums, opposite;
        sum_states<Lane, Rank>(numbers, own.states, turn, cosine, sums);
        sum_states<Lane, Rank>(numbers, own.states, hn::Neg(turn), cosine, opposite);
        Lane *const rows = adjoint + j, *const opposite_rows = rows + 2 * (1 + 2 * Rank) * width;
        if (own.conjugate_pairs) {
            add_conjugates(sums, opposite);
            const auto solution = solve_low_rank(sums, cosine);
            store_adjoint<Lane, Rank>(rows, width, t, cosine, solution, false);
            store_adjoint<Lane, Rank>(opposite_rows, width, t, cosine, solution, true);
        } else {
            t = scaled(hn::Set(d, Lane(0.5)), t);
            store_adjoint<Lane, Rank>(rows, width, t, cosine, solve_low_rank(sums, cosine), false);
            store_adjoint<Lane, Rank>(opposite_rows, width, conjugate(t), cosine, solve_low_rank(opposite, cosine), false);
        }
    }
}

template <class Lane>
HWY_INLINE ComplexVector<Lane> set_number(ComplexDouble value) {
    return {hn::Set(Tag<Lane>(), static_cast<Lane>(value.re)), hn::Set(Tag<Lane>(), static_cast<Lane>(value.im))};
}
template <class Lane>
HWY_INLINE ComplexDouble total(ComplexVector<Lane> x) {
    const Tag<Lane> d;
    return {static_cast<double>(hn::GetLane(hn::SumOfLanes(d, x.re))),
            static_cast<double>(hn::GetLane(hn::SumOfLanes(d, x.im)))};
}

// The sums of state i over all frequencies.
template <class Lane, int Rank>
HWY_NOINLINE void run_state(const DplrSystem& system, const DplrKernelMemory& memory, const Lane* adjoint, int64_t head,
                            int64_t i, DplrStateSums& result) {
    using X = ComplexVector<Lane>;
    const Tag<Lane> d;
    constexpr int64_t n = lanes_of<Lane>();
    const DplrHead own = dplr_head(system, head);
    const int64_t width = memory.width;
    const X w = set_number<Lane>(own.eigenvalue(i)), b = set_number<Lane>(own.b_of(i));
    const X c = set_number<Lane>(load_complex(memory.c_of(system, head), own.is_double, i));
    X p[Rank], left[1 + Rank], right[1 + Rank], grad_w = constant<X>(0);
    unrolled<Rank>([&](auto r) SSM_INLINE_LAMBDA { p[r] = set_number<Lane>(own.p_of(r, i)); });
    unrolled<1 + Rank>([&](auto x) SSM_INLINE_LAMBDA { left[x] = right[x] = constant<X>(0); });
    auto grad_q = hn::Zero(d);
    const auto q = hn::Set(d, static_cast<Lane>(own.q));
    for (int sign = 0; sign < 2; ++sign) {
        const Lane* const rows = adjoint + sign * 2 * (1 + 2 * Rank) * width;
        const auto at = [&](int64_t row, int64_t j) HWY_ATTR {
            return X{hn::Load(d, rows + 2 * row * width + j), hn::Load(d, rows + (2 * row + 1) * width + j)};
        };
        for (int64_t j = 0; j < width; j += n) {
            auto sine = hn::Load(d, reinterpret_cast<const Lane*>(memory.sines) + j);
            const auto cosine = hn::Load(d, reinterpret_cast<const Lane*>(memory.cosines) + j);
            if (sign == 1)
                sine = hn::Neg(sine);
            const X one_over = inverted(X{hn::Neg(hn::Mul(cosine, w.re)), hn::NegMulAdd(cosine, w.im, hn::Mul(q, sine))});
            X own_b = b, own_c = c;
            unrolled<Rank>([&](auto r) SSM_INLINE_LAMBDA {
                own_c = multiply_add(at(1 + r, j), conjugate(p[r]), own_c);
                own_b = multiply_add(at(1 + Rank + r, j), p[r], own_b);
            });
            const X t = multiply(at(0, j), conjugate(one_over));
            const X of_left = multiply(t, conjugate(own_b)), of_right = multiply(t, conjugate(own_c));
            left[0] = add(left[0], of_left);
            right[0] = add(right[0], of_right);
            unrolled<Rank>([&](auto r) SSM_INLINE_LAMBDA {
                left[1 + r] = multiply_add(of_left, conjugate(at(1 + r, j)), left[1 + r]);
                right[1 + r] = multiply_add(of_right, conjugate(at(1 + Rank + r, j)), right[1 + r]);
            });
            // Minus the gradient of the divisor.
            const X divisor = multiply(of_left, conjugate(multiply(one_over, own_c)));
            grad_w = add(grad_w, scaled(cosine, divisor));
            grad_q = hn::NegMulAdd(sine, divisor.im, grad_q);
        }
    }
    for (int x = 0; x <= Rank; ++x) {
        result.left[x] = total(left[x]);
        result.right[x] = total(right[x]);
    }
    result.w = total(grad_w);
    result.q = static_cast<double>(hn::GetLane(hn::SumOfLanes(d, grad_q)));
}

template <class Lane, int Rank>
void run_rank(const DplrSystem& system, const DplrKernelMemory& memory, void* area, void* adjoint, DplrStateSums* sums,
              int64_t head, int64_t task) {
    Lane* const rows = static_cast<Lane*>(adjoint) + head * dplr_adjoint_rows(Rank) * memory.width;
    if (sums)
        return run_state<Lane, Rank>(system, memory, rows, head, task, sums[head * system.states + task]);
    TeamMemory parts(area);
    const DplrNumbers<Lane> numbers(parts, system.states, system.rank);
    run_part<Lane, Rank>(system, memory, numbers, rows, head, task);
}

template <class Lane>
void run_lane(const DplrSystem& system, const DplrKernelMemory& memory, void* area, void* adjoint, DplrStateSums* sums,
              int64_t head, int64_t task) {
    const auto run = system.rank == 1   ? run_rank<Lane, 1>
                     : system.rank == 2 ? run_rank<Lane, 2>
                     : system.rank == 3 ? run_rank<Lane, 3>
                                        : run_rank<Lane, 4>;
    run(system, memory, area, adjoint, sums, head, task);
}

// Without sums the pass over frequencies, `task` being a part of them; with sums that over states, `task` being one.
void dplr_adjoint(const DplrSystem& system, const DplrKernelMemory& memory, void* area, void* adjoint, DplrStateSums* sums,
                  int64_t head, int64_t task) {
    if (system.type == DataType::float64)
        run_lane<double>(system, memory, area, adjoint, sums, head, task);
    else
        run_lane<float>(system, memory, area, adjoint, sums, head, task);
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(dplr_adjoint);

// Beyond what the forward call has: the adjoint rows of all heads and the sums of all states.
struct BackwardMemory {
    DplrKernelMemory kernel;
    char* adjoint;
    DplrStateSums* sums;
    BackwardMemory(TeamMemory& memory, const DplrKernelBackwardParams& p)
        : kernel(memory, p.system, p.length, p.c_is_tilde),
          adjoint(
              memory.take<char>(p.system.heads * dplr_adjoint_rows(p.system.rank) * kernel.width * size_of(p.system.type))),
          sums(memory.take<DplrStateSums>(p.system.heads * p.system.states)) {}
};

// The last pass: gradients of a head in double.
struct HeadMemory {
    ComplexDouble *c, *w, *p;
    HeadMemory(TeamMemory& memory, const DplrSystem& system)
        : c(memory.take<ComplexDouble>(system.states)), w(memory.take<ComplexDouble>(system.states)),
          p(memory.take<ComplexDouble>(system.states * system.rank)) {}
};

int64_t area_bytes(const DplrKernelBackwardParams& p) {
    const int rank = static_cast<int>(p.system.rank);
    TeamMemory sums(nullptr), tilde(nullptr), transform(nullptr), head(nullptr);
    if (p.system.type == DataType::float64)
        DplrNumbers<double>(sums, p.system.states, p.system.rank);
    else
        DplrNumbers<float>(sums, p.system.states, p.system.rank);
    if (!p.c_is_tilde)
        DplrTildeMemory(tilde, p.system.states, rank);
    TransformMemory(transform, TransformPlan(p.length));
    HeadMemory(head, p.system);
    if (!p.c_is_tilde)
        DplrTildeGradientMemory(head, p.system.states, rank);
    return std::max({sums.bytes(), tilde.bytes(), transform.bytes(), head.bytes()});
}

Areas areas_of(const DplrKernelBackwardParams& p, int64_t used, char* base) {
    return Areas(base + used, area_bytes(p), std::min<int64_t>(p.system.heads * p.system.states, usable_threads()));
}

// The factors' gradients to those of the parameters.
void finish_head(const DplrKernelBackwardParams& p, const BackwardMemory& memory, int64_t head, void* area) {
    const DplrSystem& system = p.system;
    const bool is_double = system.type == DataType::float64;
    const int64_t states = system.states;
    const DplrHead own = dplr_head(system, head);
    TeamMemory parts(area);
    const HeadMemory out(parts, system);
    double q = 0;
    for (int64_t n = 0; n < states; ++n) {
        const DplrStateSums& sums = memory.sums[head * states + n];
        out.c[n] = sums.left[0];
        out.w[n] = sums.w;
        q += sums.q;
        for (int r = 0; r < own.rank; ++r)
            out.p[r * states + n] = sums.right[1 + r] + SSM_MUTATE("dplr_kernel_backward.cpu.no_left",
                                                                   conj(sums.left[1 + r]), (ComplexDouble{0, 0}));
        if (p.grad_b)
            store_complex(p.grad_b, is_double, head * states + n, sums.right[0]);
    }
    double dt = -q * own.q * own.q / 2; // q = 2 / dt
    if (!p.c_is_tilde) {
        const DplrTildeGradientMemory tilde(parts, states, own.rank);
        dplr_tilde_gradient(Alone(), own, dplr_c(system, head), p.length, tilde, out.c, out.w, out.p, &dt);
    }
    for (int64_t n = 0; n < states; ++n) {
        if (p.grad_c)
            store_complex(p.grad_c, is_double, head * states + n, out.c[n]);
        if (p.grad_eigenvalues)
            store_complex(p.grad_eigenvalues, is_double, head * states + n, out.w[n]);
        for (int r = 0; p.grad_p && r < own.rank; ++r)
            store_complex(p.grad_p, is_double, (head * own.rank + r) * states + n, out.p[r * states + n]);
    }
    if (p.grad_dt)
        store_real(p.grad_dt, is_double, head, dt);
}

} // namespace

int32_t dplr_kernel_backward(BackendContext* context, const DplrKernelBackwardParams* params) {
    const DplrKernelBackwardParams& p = *params;
    const DplrSystem& system = p.system;
    TeamMemory workspace(p.workspace.data);
    const BackwardMemory memory(workspace, p);
    const DplrKernelMemory& kernel = memory.kernel;
    const Areas areas = areas_of(p, workspace.bytes(), static_cast<char*>(p.workspace.data));
    if (static_cast<uint64_t>(workspace.bytes() + areas.size()) > p.workspace.bytes)
        return fail(error_workspace_too_small, "dplr_kernel_backward: workspace too small");
    areas.clear();
    const bool is_double = system.type == DataType::float64;
    const auto in_area = [&](int64_t count, const auto& task) {
        parallel_for(count, context->threads, [&](int64_t i) { areas.use([&](void* area) { task(i, area); }); });
    };
    fill_angles(kernel, system.type);
    in_area(1, [&](int64_t, void* area) {
        TeamMemory parts(area);
        fill_tables(Alone(), kernel.transform, kernel.tables, TransformMemory(parts, kernel.transform));
    });
    if (kernel.tilde)
        in_area(system.heads, [&](int64_t head, void* area) {
            TeamMemory parts(area);
            const DplrTildeMemory tilde(parts, system.states, static_cast<int>(system.rank));
            char* const to = kernel.tilde + 2 * head * system.states * size_of(system.type);
            dplr_to_tilde(Alone(), dplr_head(system, head), dplr_c(system, head), p.length, tilde,
                          [&](int64_t n, ComplexDouble value) { store_complex(to, is_double, n, value); });
        });
    in_area((system.heads + 1) / 2, [&](int64_t pair, void* area) {
        TeamMemory parts(area);
        ComplexDouble* const first = kernel.spectra + 2 * pair * kernel.frequencies;
        spectra_of_rows(
            Alone(), kernel.transform, kernel.tables, TransformMemory(parts, kernel.transform),
            [&](int64_t which, int64_t l) { return load_real(p.grad_k, is_double, (2 * pair + which) * p.length + l); },
            first, 2 * pair + 1 < system.heads ? first + kernel.frequencies : nullptr);
    });
    const auto adjoint = HWY_DYNAMIC_DISPATCH(dplr_adjoint);
    const int64_t parts = (kernel.width + dplr_part - 1) / dplr_part;
    in_area(system.heads * parts, [&](int64_t task, void* area) {
        adjoint(system, kernel, area, memory.adjoint, nullptr, task / parts, task % parts);
    });
    in_area(system.heads * system.states, [&](int64_t task, void* area) {
        adjoint(system, kernel, area, memory.adjoint, memory.sums, task / system.states, task % system.states);
    });
    in_area(system.heads, [&](int64_t head, void* area) { finish_head(p, memory, head, area); });
    return success;
}

int32_t dplr_kernel_backward_workspace(BackendContext*, const DplrKernelBackwardParams* params, uint64_t* bytes) {
    TeamMemory workspace(nullptr);
    const BackwardMemory memory(workspace, *params);
    *bytes = static_cast<uint64_t>(workspace.bytes() + areas_of(*params, 0, nullptr).size());
    return success;
}

} // namespace ssm::cpu
#endif
