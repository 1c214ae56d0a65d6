// Gradients of cauchy_multiply: for each pole two sums over the nodes, of g conj(q) and g conj(q)^2 with q = 1 / (z - w),
// to which the other one of a pair adds the conjugates of its own. Lanes are nodes; their sums are made for some nodes at a
// time and those added up in double precision. 20 operations for a pole and node.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/cauchy_multiply_backward.cpp"
#include "hwy/foreach_target.h"

#include "cpu/math-inl.h"
#include "cpu/thread_pool.h"

#include "core/mutate.h"
#include "core/params/cauchy_multiply_backward.h"

#include <algorithm>

#ifndef SSM_CPU_CAUCHY_MULTIPLY_BACKWARD_PLAN_
#define SSM_CPU_CAUCHY_MULTIPLY_BACKWARD_PLAN_
namespace ssm::cpu {
constexpr int64_t cauchy_backward_poles = 32; // of a task
} // namespace ssm::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

constexpr int64_t cauchy_nodes = 256; // whose real and imaginary parts are taken apart at once

template <class Lane>
struct CauchyNodes {
    alignas(64) Lane z_re[cauchy_nodes], z_im[cauchy_nodes], g_re[cauchy_nodes], g_im[cauchy_nodes];
};
template <class Lane>
struct CauchySums {
    Vec<Lane> re, im, square_re, square_im;
};

// The terms of one pole, whose difference from the node is (x, y); those of the other one of a pair are conjugated.
template <class Lane, bool other>
HWY_INLINE void add_terms(Vec<Lane> x, Vec<Lane> y, Vec<Lane> g_re, Vec<Lane> g_im, CauchySums<Lane>& sums) {
    const auto r = reciprocal<Lane>(hn::MulAdd(x, x, hn::Mul(y, y)));
    const auto re = hn::Mul(x, r), im = hn::Mul(y, r); // conj(q)
    const auto square_re = hn::MulSub(re, re, hn::Mul(im, im)), half_im = hn::Mul(re, im);
    const auto square_im = hn::Add(half_im, half_im);
    sums.re = hn::NegMulAdd(g_im, im, hn::MulAdd(g_re, re, sums.re));
    sums.square_re = hn::NegMulAdd(g_im, square_im, hn::MulAdd(g_re, square_re, sums.square_re));
    if constexpr (other) {
        sums.im = hn::NegMulAdd(g_im, re, hn::NegMulAdd(g_re, im, sums.im));
        sums.square_im = hn::NegMulAdd(g_im, square_re, hn::NegMulAdd(g_re, square_im, sums.square_im));
    } else {
        sums.im = hn::MulAdd(g_im, re, hn::MulAdd(g_re, im, sums.im));
        sums.square_im = hn::MulAdd(g_im, square_re, hn::MulAdd(g_re, square_im, sums.square_im));
    }
}

template <class Lane>
HWY_INLINE double sum_as_double(Vec<Lane> x) {
    return static_cast<double>(lane<Lane>(sum_of_lanes(RealVector<Lane>{x}), 0));
}

template <class S>
HWY_NOINLINE void cauchy_gradients(const CauchyMultiplyBackwardParams& p, int64_t row, int64_t first, int64_t count) {
    using Lane = typename Traits<S>::Lane;
    constexpr int64_t n = lanes<S>();
    const Tag<Lane> d;
    const S *const v = static_cast<const S*>(p.v) + row * p.states + first, *const w = static_cast<const S*>(p.w) +
                                                                                       row * p.states + first;
    const S *const z = static_cast<const S*>(p.z), *const g = static_cast<const S*>(p.grad_y) + row * p.length;
    CauchyNodes<Lane> nodes;
    double totals[cauchy_backward_poles][4] = {};
    for (int64_t begin = 0; begin < p.length; begin += cauchy_nodes) {
        const int64_t some = std::min(cauchy_nodes, p.length - begin), whole = (some + n - 1) / n * n;
        for (int64_t i = 0; i < whole; i += n) {
            const int64_t left = std::min(n, some - i);
            const auto nodes_z = load_some(z + begin + i, left), nodes_g = load_some(g + begin + i, left);
            hn::Store(nodes_z.re, d, nodes.z_re + i);
            hn::Store(nodes_z.im, d, nodes.z_im + i);
            hn::Store(nodes_g.re, d, nodes.g_re + i);
            hn::Store(nodes_g.im, d, nodes.g_im + i);
        }
        // A node that is there in place of none: its g is zero, and its quotients are finite.
        std::fill(nodes.z_re + some, nodes.z_re + whole, nodes.z_re[0]);
        std::fill(nodes.z_im + some, nodes.z_im + whole, nodes.z_im[0]);
        for (int64_t i = 0; i < count; ++i) {
            const auto re = hn::Set(d, w[i].re), im = hn::Set(d, w[i].im), zero = hn::Zero(d);
            CauchySums<Lane> sums = {zero, zero, zero, zero};
            for (int64_t l = 0; l < whole; l += n) {
                const auto x = hn::Sub(hn::Load(d, nodes.z_re + l), re), y = hn::Load(d, nodes.z_im + l);
                const auto g_re = hn::Load(d, nodes.g_re + l), g_im = hn::Load(d, nodes.g_im + l);
                add_terms<Lane, false>(x, hn::Sub(y, im), g_re, g_im, sums);
                if (p.conjugate_pairs)
                    add_terms<Lane, true>(
                        x, SSM_MUTATE("cauchy_multiply_backward.cpu.wrong_conjugate", hn::Add(y, im), hn::Sub(y, im)), g_re,
                        g_im, sums);
            }
            if (SSM_MUTATE("cauchy_multiply_backward.cpu.lost_nodes", false, begin > 0))
                continue;
            totals[i][0] += sum_as_double<Lane>(sums.re);
            totals[i][1] += sum_as_double<Lane>(sums.im);
            totals[i][2] += sum_as_double<Lane>(sums.square_re);
            totals[i][3] += sum_as_double<Lane>(sums.square_im);
        }
    }
    const auto store_at = [&](void* gradient, int64_t i, double re, double im) {
        if (gradient)
            static_cast<S*>(gradient)[row * p.states + first + i] = {static_cast<Lane>(re), static_cast<Lane>(im)};
    };
    for (int64_t i = 0; i < count; ++i) {
        const double *const t = totals[i], v_re = v[i].re,
                            v_im = SSM_MUTATE("cauchy_multiply_backward.cpu.v_not_conjugated", -v[i].im, v[i].im);
        store_at(p.grad_v, i, t[0], t[1]);
        store_at(p.grad_w, i, v_re * t[2] - v_im * t[3], v_re * t[3] + v_im * t[2]);
    }
}

void cauchy_multiply_backward_task(const CauchyMultiplyBackwardParams& p, int64_t row, int64_t first, int64_t count) {
    with_storage(p.type, [&](auto type) {
        using S = typename decltype(type)::type;
        if constexpr (Traits<S>::complex)
            cauchy_gradients<S>(p, row, first, count);
    });
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(cauchy_multiply_backward_task);
} // namespace

int32_t cauchy_multiply_backward(BackendContext* context, const CauchyMultiplyBackwardParams* params) {
    const CauchyMultiplyBackwardParams& p = *params;
    const int64_t parts = (p.states + cauchy_backward_poles - 1) / cauchy_backward_poles;
    const auto run = HWY_DYNAMIC_DISPATCH(cauchy_multiply_backward_task);
    parallel_for(p.rows * parts, context->threads, [&](int64_t task) {
        const int64_t first = task % parts * cauchy_backward_poles;
        run(p, task / parts, first, std::min(cauchy_backward_poles, p.states - first));
    });
    return success;
}

int32_t cauchy_multiply_backward_workspace(BackendContext*, const CauchyMultiplyBackwardParams*, uint64_t* bytes) {
    *bytes = 0;
    return success;
}

} // namespace ssm::cpu
#endif
