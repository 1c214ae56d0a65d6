// y_l = sum_n v_n / (z_l - w_n). Lanes are nodes, a pole is broadcast. A conjugate pair is one quotient:
//     v / d1 + conj(v) / d2 = (2 Re(v) (z - Re w) - 2 Im(v) Im(w)) / (d1 d2),  d1 = z - w, d2 = z - conj(w),
// whose denominator is the product of the two differences, never z^2 - 2 Re(w) z + |w|^2: near a pole that cancels. 19
// operations for a pair and node, 13 for a pole alone; 16 bytes per node and row.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/cauchy_multiply.cpp"
#include "hwy/foreach_target.h"

#include "cpu/math-inl.h"
#include "cpu/thread_pool.h"

#include "core/mutate.h"
#include "core/params/cauchy_multiply.h"

#include <algorithm>

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

constexpr int64_t cauchy_block = 128; // poles that are at hand at once

template <class Lane>
struct CauchyPole {
    Lane re, im;
    Lane first, second; // of a pair 2 Re(v) and -2 Im(v) Im(w), else v
};

template <class S>
CauchyPole<typename Traits<S>::Lane> cauchy_pole(S v, S w, bool is_pair) {
    if (!is_pair)
        return {w.re, w.im, v.re, v.im};
    return {w.re, w.im, 2 * v.re, SSM_MUTATE("cauchy_multiply.cpu.wrong_conjugate", -2, 2) * v.im * w.im};
}

#undef SSM_CAUCHY_VECTORS
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
#define SSM_CAUCHY_VECTORS 2
#else
#define SSM_CAUCHY_VECTORS 1
#endif

// y += the poles' terms at some vectors of nodes.
template <class Lane, int Vectors, bool pairs>
HWY_INLINE void add_poles(const CauchyPole<Lane>* poles, int64_t count, const ComplexVector<Lane> (&z)[Vectors],
                          ComplexVector<Lane> (&y)[Vectors]) {
    const Tag<Lane> d;
    Vec<Lane> twice[Vectors];
    unrolled<Vectors>([&](auto k) SSM_INLINE_LAMBDA { twice[k] = hn::Add(z[k].im, z[k].im); });
    for (int64_t n = 0; n < count; ++n) {
        const auto re = hn::Set(d, poles[n].re), im = hn::Set(d, poles[n].im);
        const auto first = hn::Set(d, poles[n].first), second = hn::Set(d, poles[n].second);
        unrolled<Vectors>([&](auto k) SSM_INLINE_LAMBDA {
            const auto x = hn::Sub(z[k].re, re), below = hn::Sub(z[k].im, im);
            Vec<Lane> top_re, top_im, bottom_re, bottom_im;
            if constexpr (pairs) {
                const auto above = hn::Add(z[k].im, im);
                bottom_re = hn::MulSub(x, x, hn::Mul(below, above));
                bottom_im = hn::Mul(x, twice[k]);
                top_re = hn::MulAdd(first, x, second);
                top_im = hn::Mul(first, z[k].im);
            } else {
                bottom_re = x;
                bottom_im = below;
                top_re = first;
                top_im = second;
            }
            const auto r = reciprocal<Lane>(hn::MulAdd(bottom_re, bottom_re, hn::Mul(bottom_im, bottom_im)));
            y[k].re = hn::MulAdd(hn::MulAdd(top_re, bottom_re, hn::Mul(top_im, bottom_im)), r, y[k].re);
            y[k].im = hn::MulAdd(hn::NegMulAdd(top_re, bottom_im, hn::Mul(top_im, bottom_re)), r, y[k].im);
        });
    }
}

template <class S, bool pairs>
HWY_NOINLINE void cauchy_row(const CauchyMultiplyParams& p, int64_t row, int64_t begin, int64_t end) {
    using Lane = typename Traits<S>::Lane;
    constexpr int64_t n = lanes<S>();
    const S *const v = static_cast<const S*>(p.v) + row * p.states, *const w = static_cast<const S*>(p.w) + row * p.states;
    const S* const z = static_cast<const S*>(p.z);
    S* const y = static_cast<S*>(p.y) + row * p.length;
    CauchyPole<Lane> poles[cauchy_block];
    for (int64_t first = 0; first < p.states; first += cauchy_block) {
        const int64_t count = std::min(cauchy_block, p.states - first);
        for (int64_t i = 0; i < count; ++i)
            poles[i] = cauchy_pole(v[first + i], w[first + i], pairs);
        const bool adds = SSM_MUTATE("cauchy_multiply.cpu.lost_block", first > 0, false);
        const ComplexVector<Lane> zero = constant<ComplexVector<Lane>>(0);
        int64_t l = begin;
        for (; l + SSM_CAUCHY_VECTORS * n <= end; l += SSM_CAUCHY_VECTORS * n) {
            ComplexVector<Lane> nodes[SSM_CAUCHY_VECTORS], sums[SSM_CAUCHY_VECTORS];
            unrolled<SSM_CAUCHY_VECTORS>([&](auto k) SSM_INLINE_LAMBDA {
                nodes[k] = load(z + l + k * n);
                sums[k] = adds ? load(y + l + k * n) : zero;
            });
            add_poles<Lane, SSM_CAUCHY_VECTORS, pairs>(poles, count, nodes, sums);
            unrolled<SSM_CAUCHY_VECTORS>([&](auto k) SSM_INLINE_LAMBDA { store(y + l + k * n, sums[k]); });
        }
        for (; l < end; l += n) {
            const int64_t some = std::min(n, end - l - SSM_MUTATE("cauchy_multiply.cpu.off_by_one_tail", 0, 1));
            ComplexVector<Lane> nodes[1] = {load_some(z + l, some)}, sums[1] = {adds ? load_some(y + l, some) : zero};
            add_poles<Lane, 1, pairs>(poles, count, nodes, sums);
            store_some(y + l, sums[0], some);
        }
    }
}

void cauchy_multiply_task(const CauchyMultiplyParams& p, int64_t row, int64_t begin, int64_t end) {
    with_storage(p.type, [&](auto type) {
        using S = typename decltype(type)::type;
        if constexpr (Traits<S>::complex)
            p.conjugate_pairs ? cauchy_row<S, true>(p, row, begin, end) : cauchy_row<S, false>(p, row, begin, end);
    });
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(cauchy_multiply_task);
} // namespace

int32_t cauchy_multiply(BackendContext* context, const CauchyMultiplyParams* params) {
    constexpr int64_t nodes = 1024; // of a task; a multiple of all vectors, so that the cut changes no bit
    const CauchyMultiplyParams& p = *params;
    const int64_t parts = (p.length + nodes - 1) / nodes;
    const auto run = HWY_DYNAMIC_DISPATCH(cauchy_multiply_task);
    parallel_for(p.rows * parts, context->threads, [&](int64_t task) {
        const int64_t begin = task % parts * nodes;
        run(p, task / parts, begin, std::min(p.length, begin + nodes));
    });
    return success;
}

int32_t cauchy_multiply_workspace(BackendContext*, const CauchyMultiplyParams*, uint64_t* bytes) {
    *bytes = 0;
    return success;
}

} // namespace ssm::cpu
#endif
