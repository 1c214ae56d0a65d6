// The generating function of a diagonal plus low-rank system at vectors of frequencies.
//
// At omega = exp(-i theta) the transform of the kernel is 2 c~ [q (1 - omega) - (1 + omega) A]^-1 b with q = 2 / dt. As
// 1 - omega = 2 i sin(theta/2) exp(-i theta/2) and 1 + omega = 2 cos(theta/2) exp(-i theta/2), it is
//     F = exp(i theta/2) (S_00 - cos S_0r [(I + cos S_rs)^-1]_rs S_s0),   S_xy = sum_n x_n y_n / (i q sin - cos w_n),
// which divides by nothing that vanishes at omega = -1.
#if defined(SSM_CPU_DPLR_KERNEL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SSM_CPU_DPLR_KERNEL_INL_H_
#undef SSM_CPU_DPLR_KERNEL_INL_H_
#else
#define SSM_CPU_DPLR_KERNEL_INL_H_
#endif

#include "cpu/dplr_kernel.h"
#include "cpu/simd-inl.h"

#include "core/mutate.h"

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

template <class L>
HWY_INLINE ComplexVector<L> subtract(ComplexVector<L> x, ComplexVector<L> y) {
    return {hn::Sub(x.re, y.re), hn::Sub(x.im, y.im)};
}
// z - x y
template <class L>
HWY_INLINE ComplexVector<L> subtract_product(ComplexVector<L> x, ComplexVector<L> y, ComplexVector<L> z) {
    return multiply_add(ComplexVector<L>{hn::Neg(x.re), hn::Neg(x.im)}, y, z);
}
template <class L>
HWY_INLINE ComplexVector<L> scaled(Vec<L> x, ComplexVector<L> y) {
    return {hn::Mul(x, y.re), hn::Mul(x, y.im)};
}
template <class L>
HWY_INLINE ComplexVector<L> inverted(ComplexVector<L> x) {
    const auto scale = hn::Div(hn::Set(Tag<L>(), L{1}), hn::MulAdd(x.re, x.re, hn::Mul(x.im, x.im)));
    return {hn::Mul(x.re, scale), hn::Neg(hn::Mul(x.im, scale))};
}

template <class Lane, int Rank>
struct DplrSums {
    ComplexVector<Lane> at[1 + Rank][1 + Rank];
};

// The sums at frequencies of sines and cosines; turn is q times the sine.
template <class Lane, int Rank>
HWY_NOINLINE void sum_states(const DplrNumbers<Lane>& numbers, int64_t states, Vec<Lane> turn, Vec<Lane> cosine,
                             DplrSums<Lane, Rank>& sums) {
    using X = ComplexVector<Lane>;
    const Tag<Lane> d;
    constexpr int64_t n = lanes_of<Lane>();
    for (int64_t i = 0; i < states; ++i) {
        const X w{hn::Set(d, numbers.w[2 * i]), hn::Set(d, numbers.w[2 * i + 1])};
        const X one_over = inverted(X{hn::Neg(hn::Mul(cosine, w.re)), hn::NegMulAdd(cosine, w.im, turn)});
        hn::Store(one_over.re, d, numbers.reciprocals + 2 * i * n);
        hn::Store(one_over.im, d, numbers.reciprocals + (2 * i + 1) * n);
    }
    for (int x = 0; x <= Rank; ++x) {
        X own[1 + Rank];
        unrolled<1 + Rank>([&](auto y) SSM_INLINE_LAMBDA { own[y] = constant<X>(0); });
        const Lane* const rows = numbers.products + 2 * x * (1 + Rank) * states;
        for (int64_t i = 0; i < states; ++i) {
            const X one_over{hn::Load(d, numbers.reciprocals + 2 * i * n),
                             hn::Load(d, numbers.reciprocals + (2 * i + 1) * n)};
            unrolled<1 + Rank>([&](auto y) SSM_INLINE_LAMBDA {
                const Lane* const product = rows + 2 * (y * states + i);
                own[y] = multiply_add(X{hn::Set(d, product[0]), hn::Set(d, product[1])}, one_over, own[y]);
            });
        }
        unrolled<1 + Rank>([&](auto y) SSM_INLINE_LAMBDA { sums.at[x][y] = own[y]; });
    }
}

// What a frequency needs beyond the sums: y = (I + cos S_rs)^-1 S_s0 and z = S_0r (I + cos S_rs)^-1.
template <class Lane, int Rank>
struct DplrSolution {
    ComplexVector<Lane> y[Rank], z[Rank];
};

// m (Rank x Rank), x: right side and solution. Without exchanges, as core/dplr_system.h says.
template <class Lane, int Rank>
HWY_INLINE void eliminate(ComplexVector<Lane> (&m)[Rank][Rank], ComplexVector<Lane> (&x)[Rank]) {
    for (int k = 0; k < Rank; ++k) {
        const auto pivot = inverted(m[k][k]);
        for (int i = k + 1; i < Rank; ++i) {
            const auto factor = multiply(m[i][k], pivot);
            for (int j = k + 1; j < Rank; ++j)
                m[i][j] = subtract_product(factor, m[k][j], m[i][j]);
            x[i] = subtract_product(factor, x[k], x[i]);
        }
        m[k][k] = pivot;
    }
    for (int k = Rank - 1; k >= 0; --k) {
        for (int j = k + 1; j < Rank; ++j)
            x[k] = subtract_product(m[k][j], x[j], x[k]);
        x[k] = multiply(x[k], m[k][k]);
    }
}

template <class Lane, int Rank>
HWY_INLINE DplrSolution<Lane, Rank> solve_low_rank(const DplrSums<Lane, Rank>& sums, Vec<Lane> cosine) {
    DplrSolution<Lane, Rank> solution;
    const auto one = hn::Set(Tag<Lane>(), Lane{1});
    for (const bool transposed : {false, true}) {
        ComplexVector<Lane> m[Rank][Rank];
        for (int r = 0; r < Rank; ++r)
            for (int s = 0; s < Rank; ++s) {
                m[r][s] = scaled(cosine, transposed ? sums.at[1 + s][1 + r] : sums.at[1 + r][1 + s]);
                if (r == s)
                    m[r][s].re = hn::Add(m[r][s].re, one);
            }
        auto& x = transposed ? solution.z : solution.y;
        for (int r = 0; r < Rank; ++r)
            x[r] = transposed ? sums.at[0][1 + r] : sums.at[1 + r][0];
        eliminate<Lane, Rank>(m, x);
    }
    return solution;
}

// Conjugate pairs: the conjugates' sums are the conjugates of those at the opposite frequency.
template <class Lane, int Rank>
HWY_INLINE void add_conjugates(DplrSums<Lane, Rank>& sums, const DplrSums<Lane, Rank>& opposite) {
    for (int x = 0; x <= Rank; ++x)
        for (int y = 0; y <= Rank; ++y)
            sums.at[x][y] = add(sums.at[x][y], conjugate(opposite.at[x][y]));
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
