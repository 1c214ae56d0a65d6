// exp, log1p, softplus, the logistic function, sine and cosine of vectors, float and double, within a few units in the last
// place. exp2_fast is the one for inner loops. Polynomials are Taylor's where the interval is short enough for that.
#if defined(SSM_CPU_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SSM_CPU_MATH_INL_H_
#undef SSM_CPU_MATH_INL_H_
#else
#define SSM_CPU_MATH_INL_H_
#endif

#include "cpu/simd-inl.h"

#include <cstddef>

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

template <class Lane>
struct FloatFormat;
template <>
struct FloatFormat<float> {
    static constexpr int mantissa = 23;
    static constexpr float round = 12582912.0f; // 1.5 2^23: adding it leaves an integer in the low bits
    static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
    // pi / 2 in three parts, the first two short enough for exact products with small integers.
    static constexpr float half_pi[3] = {1.5703125f, 4.837512969970703125e-4f, 7.54978995489188216e-8f};
    static constexpr float exp_least = -104.0f, exp_most = 89.0f;
    static constexpr int exp_terms = 8, log1p_terms = 8, sine_terms = 5, cosine_terms = 6;
};
template <>
struct FloatFormat<double> {
    static constexpr int mantissa = 52;
    static constexpr double round = 6755399441055744.0; // 1.5 2^52
    static constexpr double ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
    static constexpr double half_pi[3] = {1.57079625129699707031, 7.54978941586159635336e-8, 5.39030285815811905290e-15};
    static constexpr double exp_least = -746.0, exp_most = 710.0;
    static constexpr int exp_terms = 14, log1p_terms = 18, sine_terms = 9, cosine_terms = 10;
};

template <class Lane>
HWY_INLINE Vec<Lane> constant_vector(Lane value) {
    return hn::Set(Tag<Lane>(), value);
}

// Integers in floating point to powers of two; exponents of normal numbers only.
template <class Lane>
HWY_INLINE Vec<Lane> power_of_two(Vec<Lane> n) {
    using F = FloatFormat<Lane>;
    const Tag<Lane> d;
    const hn::RebindToUnsigned<Tag<Lane>> du;
    const auto bits = hn::BitCast(du, hn::Add(n, hn::Set(d, F::round)));
    return hn::BitCast(d, hn::Add(hn::ShiftLeft<F::mantissa>(bits), hn::BitCast(du, hn::Set(d, Lane{1}))));
}

template <class Lane>
HWY_INLINE Vec<Lane> round_to_integer(Vec<Lane> x) {
    const auto magic = constant_vector<Lane>(FloatFormat<Lane>::round);
    return hn::Sub(hn::Add(x, magic), magic);
}

template <class Lane, size_t N>
HWY_INLINE Vec<Lane> horner(Vec<Lane> x, const Lane (&coefficients)[N]) {
    auto p = constant_vector<Lane>(coefficients[N - 1]);
    for (size_t i = N - 1; i-- > 0;)
        p = hn::MulAdd(p, x, constant_vector<Lane>(coefficients[i]));
    return p;
}

template <class Lane, int N>
struct Coefficients {
    Lane c[N];
};
template <class Lane, int N, class F>
constexpr Coefficients<Lane, N> make_coefficients(F f) {
    Coefficients<Lane, N> result = {};
    for (int i = 0; i < N; ++i)
        result.c[i] = static_cast<Lane>(f(i));
    return result;
}
constexpr double inverse_factorial(int n) {
    double f = 1;
    for (int i = 2; i <= n; ++i)
        f *= i;
    return 1 / f;
}

// 2^x on [-0.5, 0.5], minimax, relative, 1 exactly at 0.
constexpr double exp2_minimax[] = {1.0, 6.931470037e-01, 2.402224243e-01, 5.550733581e-02, 9.671512991e-03, 1.326472731e-03};

// exp(x) within 2 units in the last place; subnormal, zero and infinite results are right, NaN stays.
template <class Lane>
HWY_INLINE Vec<Lane> exp(Vec<Lane> x) {
    using F = FloatFormat<Lane>;
    constexpr auto series = make_coefficients<Lane, F::exp_terms>([](int i) { return inverse_factorial(i); });
    const auto clamped = hn::Min(hn::Max(x, constant_vector<Lane>(F::exp_least)), constant_vector<Lane>(F::exp_most));
    const auto n = round_to_integer<Lane>(hn::Mul(clamped, constant_vector<Lane>(Lane(1.4426950408889634074))));
    auto r = hn::NegMulAdd(n, constant_vector<Lane>(F::ln2_high), clamped);
    r = hn::NegMulAdd(n, constant_vector<Lane>(F::ln2_low), r);
    // Two factors, because 2^n alone may be subnormal or too large.
    const auto half = round_to_integer<Lane>(hn::Mul(n, constant_vector<Lane>(Lane(0.5))));
    const auto p = hn::Mul(horner<Lane>(r, series.c), power_of_two<Lane>(half));
    return hn::IfThenElse(hn::IsNaN(x), x, hn::Mul(p, power_of_two<Lane>(hn::Sub(n, half))));
}

// log(1 + e) for e in [0, 1], as 2 atanh(e / (2 + e)).
template <class Lane>
HWY_INLINE Vec<Lane> log1p_unit(Vec<Lane> e) {
    constexpr auto series = make_coefficients<Lane, FloatFormat<Lane>::log1p_terms>([](int i) { return 2.0 / (2 * i + 1); });
    const auto z = hn::Div(e, hn::Add(e, constant_vector<Lane>(Lane(2))));
    return hn::Mul(z, horner<Lane>(hn::Mul(z, z), series.c));
}

// log(1 + exp(x)), relatively accurate from the smallest results to the largest.
template <class Lane>
HWY_INLINE Vec<Lane> softplus(Vec<Lane> x) {
    const auto e = exp<Lane>(hn::Neg(hn::Abs(x)));
    const auto result = hn::Add(hn::Max(x, hn::Zero(Tag<Lane>())), log1p_unit<Lane>(e));
    return hn::IfThenElse(hn::IsNaN(x), x, result);
}

// exp(x) for inner loops, in float within 3e-7, where |x| <= exp_bounded_most: the result and its reciprocal are normal
// numbers. NaN stays.
template <class Lane>
constexpr Lane exp_bounded_most = Lane(sizeof(Lane) == 4 ? 87 : 708);
template <class Lane>
HWY_INLINE Vec<Lane> exp_bounded(Vec<Lane> x) {
    using F = FloatFormat<Lane>;
    const auto n = round_to_integer<Lane>(hn::Mul(x, constant_vector<Lane>(Lane(1.4426950408889634074))));
    auto r = hn::NegMulAdd(n, constant_vector<Lane>(F::ln2_high), x);
    r = hn::NegMulAdd(n, constant_vector<Lane>(F::ln2_low), r);
    Vec<Lane> p;
    if constexpr (sizeof(Lane) == 4) {
        constexpr auto minimax = make_coefficients<float, 6>([](int i) {
            double c = exp2_minimax[i];
            for (; i > 0; --i)
                c *= 1.4426950408889634074;
            return c;
        });
        p = horner<Lane>(r, minimax.c);
    } else {
        constexpr auto series = make_coefficients<Lane, F::exp_terms>([](int i) { return inverse_factorial(i); });
        p = horner<Lane>(r, series.c);
    }
    return hn::Mul(p, power_of_two<Lane>(n));
}

// 1 / x of a normal number with a normal reciprocal, within an ulp.
template <class Lane>
HWY_INLINE Vec<Lane> reciprocal(Vec<Lane> x) {
    const auto one = constant_vector<Lane>(Lane(1));
#if HWY_TARGET == HWY_AVX3
    // 14 bits and a step of Newton's: a division takes as long as everything around it.
    if constexpr (sizeof(Lane) == 4) {
        const auto y = hn::ApproximateReciprocal(x);
        return hn::MulAdd(y, hn::NegMulAdd(x, y, one), y);
    }
#endif
    return hn::Div(one, x);
}

// x / (1 + exp(-x)), 0 below -exp_bounded_most.
template <class Lane>
HWY_INLINE Vec<Lane> silu(Vec<Lane> x) {
    const auto most = constant_vector<Lane>(exp_bounded_most<Lane>);
    const auto bounded = hn::Min(hn::Max(x, hn::Neg(most)), most);
    const auto e = exp_bounded<Lane>(hn::Neg(bounded));
    const auto y = hn::Mul(x, reciprocal<Lane>(hn::Add(constant_vector<Lane>(Lane(1)), e)));
    return hn::IfThenZeroElse(hn::Lt(x, hn::Neg(most)), y);
}

// Sine and cosine of the product x y, whose rounding is made good where the processor has fused products.
template <class Lane>
HWY_INLINE void sine_cosine(Vec<Lane> x, Vec<Lane> y, Vec<Lane>& sine, Vec<Lane>& cosine) {
    using F = FloatFormat<Lane>;
    const Tag<Lane> d;
    const hn::RebindToUnsigned<Tag<Lane>> du;
    constexpr auto sines =
        make_coefficients<Lane, F::sine_terms>([](int i) { return (i % 2 ? -1 : 1) * inverse_factorial(2 * i + 1); });
    constexpr auto cosines =
        make_coefficients<Lane, F::cosine_terms>([](int i) { return (i % 2 ? -1 : 1) * inverse_factorial(2 * i); });
    const auto angle = hn::Mul(x, y);
    const auto n = hn::Add(hn::Mul(angle, hn::Set(d, Lane(0.63661977236758134308))), hn::Set(d, F::round));
    const auto quadrant = hn::BitCast(du, n);
    const auto q = hn::Sub(n, hn::Set(d, F::round));
    auto r = hn::NegMulAdd(q, hn::Set(d, F::half_pi[0]), angle);
    r = hn::NegMulAdd(q, hn::Set(d, F::half_pi[1]), r);
    r = hn::NegMulAdd(q, hn::Set(d, F::half_pi[2]), r);
    r = hn::Add(r, hn::MulSub(x, y, angle));
    const auto r2 = hn::Mul(r, r);
    const auto s = hn::Mul(r, horner<Lane>(r2, sines.c)), c = horner<Lane>(r2, cosines.c);
    constexpr int top = sizeof(Lane) * 8 - 2; // bit 1 of the quadrant to the sign's place
    const auto one = hn::Set(du, hn::TFromD<decltype(du)>{1});
    const auto sign_bit = hn::Set(du, hn::TFromD<decltype(du)>{1} << (sizeof(Lane) * 8 - 1));
    const auto swap = hn::RebindMask(d, hn::Ne(hn::And(quadrant, one), hn::Zero(du)));
    const auto sine_sign = hn::BitCast(d, hn::And(hn::ShiftLeft<top>(quadrant), sign_bit));
    const auto cosine_sign = hn::BitCast(d, hn::And(hn::ShiftLeft<top>(hn::Add(quadrant, one)), sign_bit));
    sine = hn::Xor(hn::IfThenElse(swap, c, s), sine_sign);
    cosine = hn::Xor(hn::IfThenElse(swap, s, c), cosine_sign);
}

// 2^x for inner loops: 2.4e-7 relative, and 1 exactly at 0, so that many small steps do not add up an error. Below -126 it
// is 2^-126 or less.
HWY_INLINE Vec<float> exp2_fast(Vec<float> x) {
    constexpr auto minimax = make_coefficients<float, 6>([](int i) { return exp2_minimax[i]; });
#if HWY_TARGET == HWY_AVX3
    // The scaling instruction takes any exponent: nothing to clamp.
    const auto n = round_to_integer<float>(x);
    return Vec<float>{_mm512_scalef_ps(horner<float>(hn::Sub(x, n), minimax.c).raw, n.raw)};
#else
    const Tag<uint32_t> du;
    const Tag<float> df;
    const auto magic = constant_vector(FloatFormat<float>::round);
    const auto clamped = hn::Min(hn::Max(x, constant_vector(-126.0f)), constant_vector(127.4f));
    const auto shifted = hn::Add(clamped, magic);
    const auto p = horner<float>(hn::Sub(clamped, hn::Sub(shifted, magic)), minimax.c);
    // p lies in [0.7, 1.42]: its exponent takes n without overflow.
    return hn::BitCast(df, hn::Add(hn::BitCast(du, p), hn::ShiftLeft<23>(hn::BitCast(du, shifted))));
#endif
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
