// Gradients of diagonal_ssm. A first pass over time keeps the state before each tile. From the last tile to the first the
// states of the tile are computed again, some states at a time, and the gradient g of the state runs back through them:
//     g_t = 2 conj(c) gy_t + conj(a_bar) g_{t+1},   grad_u_t = Re(conj(b_bar) g_t) + d gy_t,
//     grad a_bar = sum g_t conj(x_{t-1}),   grad b_bar = sum g_t u_t,   grad c = sum 2 gy_t conj(x_t).
// Sums are made tile by tile, rows of states are added up in their order, and a, b and dt get theirs in double precision. 30
// operations for a state and step.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/diagonal_ssm_backward.cpp"
#include "hwy/foreach_target.h"

#include "cpu/diagonal_ssm-inl.h"
#include "cpu/thread_pool.h"

#include "core/mutate.h"
#include "core/params/diagonal_ssm_backward.h"

#ifndef SSM_CPU_DIAGONAL_SSM_BACKWARD_PLAN_
#define SSM_CPU_DIAGONAL_SSM_BACKWARD_PLAN_
namespace ssm::cpu {
// The workspace, in elements: coefficients of the heads, sums of each row and head, and for each thread the state before
// each tile and the gradient of the state.
struct DiagonalBackwardPlan {
    static constexpr int64_t sums = 6; // of a_bar, b_bar and c
    int64_t padded, heads, pairs, tile, tiles, slots;

    int64_t sum_count() const { return sums * padded + pole_multiple; } // and of d
    int64_t slot_count() const { return (tiles + 2) * 2 * padded; }
    template <class Lane>
    int64_t sums_at() const {
        return SystemPlanes<Lane>::count(heads, padded);
    }
    template <class Lane>
    int64_t slots_at() const {
        return sums_at<Lane>() + pairs * sum_count();
    }
    template <class Lane>
    uint64_t bytes() const {
        return static_cast<uint64_t>(slots_at<Lane>() + slots * slot_count()) * sizeof(Lane);
    }
};
} // namespace ssm::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

// Of a tile and some states: each before its step, and after the last one.
template <class Lane>
struct StateHistory {
    alignas(64) Lane re[(most_tile + 1) * 2 * lanes_of<Lane>()], im[(most_tile + 1) * 2 * lanes_of<Lane>()];
};

template <class Lane>
HWY_NOINLINE void keep_states(const SystemPlanes<Lane>& planes, const DiagonalBackwardPlan& plan, const Lane* u,
                              int64_t length, Lane* kept) {
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    const int64_t padded = plan.padded, tiles = (length + plan.tile - 1) / plan.tile;
    for (int64_t tile = 0; tile + 1 < tiles; ++tile) {
        const Lane *const x_re = kept + tile * 2 * padded, *const x_im = x_re + padded;
        Lane *const next_re = kept + (tile + 1) * 2 * padded, *const next_im = next_re + padded;
        for_each_block<Lane>(padded, [&](int64_t first, auto vectors) SSM_INLINE_LAMBDA {
            constexpr int Vectors = decltype(vectors)::value;
            ComplexVector<Lane> a[Vectors], b[Vectors], state[Vectors];
            unrolled<Vectors>([&](auto k) SSM_INLINE_LAMBDA {
                const int64_t i = first + k * n;
                a[k] = load_parts(planes.a_re + i, planes.a_im + i);
                b[k] = load_parts(planes.b_re + i, planes.b_im + i);
                state[k] = load_parts(x_re + i, x_im + i);
            });
            for (int64_t t = 0; t < plan.tile; ++t) {
                const auto input = hn::Set(d, u[tile * plan.tile + t]);
                unrolled<Vectors>([&](auto k) SSM_INLINE_LAMBDA { state[k] = advance(a[k], state[k], b[k], input); });
            }
            unrolled<Vectors>([&](auto k) SSM_INLINE_LAMBDA {
                const int64_t i = first + k * n;
                const auto drift = load_parts(planes.drift_re + i, planes.drift_im + i);
                store_parts(corrected(state[k], drift, plan.tile), next_re + i, next_im + i);
            });
        });
    }
}

// One head of one row of states.
template <class Lane>
HWY_NOINLINE void run_head(const DiagonalSsmBackwardParams& p, const DiagonalBackwardPlan& plan, int64_t row, int64_t head,
                           int64_t slot) {
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    const int64_t padded = plan.padded, pair = row * plan.heads + head;
    Lane* const base = static_cast<Lane*>(p.workspace.data);
    const SystemPlanes<Lane> planes(base, head, padded);
    Lane* const totals = base + plan.sums_at<Lane>() + pair * plan.sum_count();
    Lane* const kept = base + plan.slots_at<Lane>() + slot * plan.slot_count();
    Lane *const g_re = kept + (plan.tiles + 1) * 2 * padded, *const g_im = g_re + padded;
    const RowSpan span = span_of_row(p.shape, row);
    const auto place = [&](const Sequence& s) {
        return static_cast<Lane*>(s.data) + span.batch * s.batch_stride + head * s.channel_stride + span.begin;
    };
    const Lane *const u = place(p.u), *const grad_y = place(p.grad_y);
    const Lane skip = p.d ? static_cast<const Lane*>(p.d)[head] : Lane{0};
    alignas(64) Lane sums[most_tile * n];
    StateHistory<Lane> history;
    std::fill_n(totals, plan.sum_count(), Lane{0});
    take_state(p.initial_state, pair, p.states, kept, kept + padded);
    keep_states(planes, plan, u, span.length, kept);
    take_state(p.grad_last_state, pair, p.states, g_re, g_im);
    double total_d = 0;
    for (int64_t tile = (span.length + plan.tile - 1) / plan.tile - 1; tile >= 0; --tile) {
        const int64_t begin = tile * plan.tile, count = std::min(plan.tile, span.length - begin);
        const Lane *const own_u = u + begin, *const own_y = grad_y + begin;
        const Lane *const x_re = kept + tile * 2 * padded, *const x_im = x_re + padded;
        for_each_block<Lane>(padded, [&](int64_t first, auto vectors) SSM_INLINE_LAMBDA {
            constexpr int Vectors = decltype(vectors)::value;
            ComplexVector<Lane> a[Vectors], b[Vectors], c[Vectors], state[Vectors];
            unrolled<Vectors>([&](auto k) SSM_INLINE_LAMBDA {
                const int64_t i = first + k * n;
                a[k] = load_parts(planes.a_re + i, planes.a_im + i);
                b[k] = load_parts(planes.b_re + i, planes.b_im + i);
                c[k] = load_parts(planes.c_re + i, planes.c_im + i);
                state[k] = load_parts(x_re + i, x_im + i);
            });
            const auto at = [&](int64_t t, int64_t k) SSM_INLINE_LAMBDA { return (t * Vectors + k) * n; };
            for (int64_t t = 0; t < count; ++t) {
                const auto input = hn::Set(d, own_u[t]);
                unrolled<Vectors>([&](auto k) SSM_INLINE_LAMBDA {
                    store_parts(state[k], history.re + at(t, k), history.im + at(t, k));
                    state[k] = advance(a[k], state[k], b[k], input);
                });
            }
            ComplexVector<Lane> g[Vectors], of_a[Vectors], of_b[Vectors], of_c[Vectors];
            unrolled<Vectors>([&](auto k) SSM_INLINE_LAMBDA {
                const int64_t i = first + k * n;
                g[k] = load_parts(g_re + i, g_im + i);
                of_a[k] = of_b[k] = of_c[k] = constant<ComplexVector<Lane>>(0);
            });
            for (int64_t t = count - 1; t >= 0; --t) {
                const auto input = hn::Set(d, own_u[t]), output = hn::Set(d, own_y[t]);
                auto sum = first > 0 ? hn::Load(d, sums + t * n) : hn::Zero(d);
                unrolled<Vectors>([&](auto k) SSM_INLINE_LAMBDA {
                    const auto before = load_parts(history.re + at(t, k), history.im + at(t, k));
                    of_c[k] = {hn::MulAdd(output, state[k].re, of_c[k].re), hn::NegMulAdd(output, state[k].im, of_c[k].im)};
                    const ComplexVector<Lane> now = {hn::MulAdd(c[k].re, output, g[k].re),
                                                     hn::NegMulAdd(c[k].im, output, g[k].im)};
                    sum = hn::MulAdd(b[k].im, now.im, hn::MulAdd(b[k].re, now.re, sum));
                    of_b[k] = {hn::MulAdd(now.re, input, of_b[k].re), hn::MulAdd(now.im, input, of_b[k].im)};
                    of_a[k] = multiply_add(now, conjugate(before), of_a[k]);
                    g[k] = multiply(SSM_MUTATE("diagonal_ssm_backward.cpu.wrong_conjugate", conjugate(a[k]), a[k]), now);
                    state[k] = before;
                });
                hn::Store(sum, d, sums + t * n);
            }
            unrolled<Vectors>([&](auto k) SSM_INLINE_LAMBDA {
                const int64_t i = first + k * n;
                const auto drift = load_parts(planes.drift_re + i, planes.drift_im + i);
                store_parts(corrected(g[k], conjugate(drift), count), g_re + i, g_im + i);
                const auto add_to = [&](int64_t plane, ComplexVector<Lane> x) SSM_INLINE_LAMBDA {
                    Lane *const re = totals + plane * padded + i, *const im = re + padded;
                    store_parts(add(load_parts(re, im), x), re, im);
                };
                add_to(0, of_a[k]);
                add_to(2, of_b[k]);
                add_to(4, of_c[k]);
            });
        });
        if (SSM_MUTATE("diagonal_ssm_backward.cpu.dropped_carry", false, true))
            std::fill_n(g_re, 2 * padded, Lane{0});
        Lane tile_d = 0;
        for (int64_t t = 0; t < count; ++t)
            tile_d += own_u[t] * own_y[t];
        total_d += static_cast<double>(tile_d);
        if (p.grad_u.data)
            store_sums(sums, count, SSM_MUTATE("diagonal_ssm_backward.cpu.no_skip", skip, Lane{0}), own_y,
                       place(p.grad_u) + begin);
    }
    totals[DiagonalBackwardPlan::sums * padded] = static_cast<Lane>(total_d);
    give_state(p.grad_initial_state, pair, p.states, g_re, g_im);
}

void diagonal_ssm_backward_task(const DiagonalSsmBackwardParams& p, const DiagonalBackwardPlan& plan, int64_t row,
                                int64_t head, int64_t slot) {
    p.type == DataType::complex128 ? run_head<double>(p, plan, row, head, slot) : run_head<float>(p, plan, row, head, slot);
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"

#include <atomic>

namespace ssm::cpu {
namespace {
HWY_EXPORT(diagonal_ssm_backward_task);

DiagonalBackwardPlan make_plan(const BackendContext* context, const DiagonalSsmBackwardParams& p) {
    DiagonalBackwardPlan plan = {};
    plan.padded = padded_poles(p.states);
    plan.heads = p.shape.channels;
    plan.pairs = p.shape.state_rows() * plan.heads;
    plan.tile = tile_of(context->options.get("diagonal_ssm_backward.tile"));
    plan.tiles = (p.shape.length + plan.tile - 1) / plan.tile;
    const int64_t threads = context->threads > 0 ? context->threads : usable_threads();
    plan.slots = std::min(threads, plan.pairs);
    return plan;
}

template <class Lane>
void finish_head(const DiagonalSsmBackwardParams& p, const DiagonalBackwardPlan& plan, int64_t head) {
    const Lane* const sums = static_cast<const Lane*>(p.workspace.data) + plan.sums_at<Lane>();
    const auto total = [&](int64_t i) {
        double sum = 0;
        for (int64_t pair = head; pair < plan.pairs; pair += plan.heads)
            sum += static_cast<double>(sums[pair * plan.sum_count() + i]);
        return sum;
    };
    double grad_dt = 0;
    for (int64_t n = 0; n < p.states; ++n) {
        const auto complex_total = [&](int64_t plane) {
            return ComplexDouble{total(plane * plan.padded + n), total((plane + 1) * plan.padded + n)};
        };
        const int64_t index = head * p.states + n;
        const StepGradients gradients =
            step_gradients<Lane>(p.rule, p.a, p.b, p.dt, head, index, complex_total(0), complex_total(2));
        if (p.grad_a)
            store_complex<Lane>(p.grad_a, index, gradients.a);
        if (p.grad_b)
            store_complex<Lane>(p.grad_b, index, gradients.b);
        if (p.grad_c)
            store_complex<Lane>(p.grad_c, index, scaled(2.0, complex_total(4)));
        grad_dt += gradients.dt;
    }
    if (p.grad_dt)
        static_cast<Lane*>(p.grad_dt)[head] = static_cast<Lane>(grad_dt);
    if (p.grad_d)
        static_cast<Lane*>(p.grad_d)[head] = static_cast<Lane>(total(DiagonalBackwardPlan::sums * plan.padded));
}

template <class Lane>
int32_t run_all(const DiagonalSsmBackwardParams& p, const DiagonalBackwardPlan& plan, int threads) {
    if (plan.bytes<Lane>() > p.workspace.bytes)
        return fail(error_workspace_too_small, "diagonal_ssm_backward: workspace too small");
    parallel_for(plan.heads, threads, [&](int64_t head) { fill_system<Lane>(p, head); });
    const auto run = HWY_DYNAMIC_DISPATCH(diagonal_ssm_backward_task);
    // A task for each thread's memory; which of the pairs it takes changes no result.
    std::atomic<int64_t> next{0};
    parallel_for(plan.slots, threads, [&](int64_t slot) {
        for (int64_t pair; (pair = next.fetch_add(1, std::memory_order_relaxed)) < plan.pairs;)
            run(p, plan, pair / plan.heads, pair % plan.heads, slot);
    });
    parallel_for(plan.heads, threads, [&](int64_t head) { finish_head<Lane>(p, plan, head); });
    return success;
}
} // namespace

int32_t diagonal_ssm_backward(BackendContext* context, const DiagonalSsmBackwardParams* params) {
    const DiagonalBackwardPlan plan = make_plan(context, *params);
    return params->type == DataType::complex128 ? run_all<double>(*params, plan, context->threads)
                                                : run_all<float>(*params, plan, context->threads);
}

int32_t diagonal_ssm_backward_workspace(BackendContext* context, const DiagonalSsmBackwardParams* params, uint64_t* bytes) {
    const DiagonalBackwardPlan plan = make_plan(context, *params);
    *bytes = params->type == DataType::complex128 ? plan.bytes<double>() : plan.bytes<float>();
    return success;
}

} // namespace ssm::cpu
#endif
