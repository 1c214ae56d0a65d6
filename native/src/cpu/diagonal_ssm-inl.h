// Loops that the recurrence of a diagonal system and its gradients share. Lanes are states.
#if defined(SSM_CPU_DIAGONAL_SSM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SSM_CPU_DIAGONAL_SSM_INL_H_
#undef SSM_CPU_DIAGONAL_SSM_INL_H_
#else
#define SSM_CPU_DIAGONAL_SSM_INL_H_
#endif

#include "cpu/diagonal_ssm.h"
#include "cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

template <class Lane>
HWY_INLINE ComplexVector<Lane> load_parts(const Lane* re, const Lane* im) {
    const Tag<Lane> d;
    return {hn::LoadU(d, re), hn::LoadU(d, im)};
}
template <class Lane>
HWY_INLINE void store_parts(ComplexVector<Lane> x, Lane* re, Lane* im) {
    const Tag<Lane> d;
    hn::StoreU(x.re, d, re);
    hn::StoreU(x.im, d, im);
}

// a x + b u
template <class Lane>
HWY_INLINE ComplexVector<Lane> advance(ComplexVector<Lane> a, ComplexVector<Lane> x, ComplexVector<Lane> b, Vec<Lane> u) {
    return {hn::NegMulAdd(a.im, x.im, hn::MulAdd(a.re, x.re, hn::Mul(b.re, u))),
            hn::MulAdd(a.im, x.re, hn::MulAdd(a.re, x.im, hn::Mul(b.im, u)))};
}

// x after `count` steps whose a was off by drift.
template <class Lane>
HWY_INLINE ComplexVector<Lane> corrected(ComplexVector<Lane> x, ComplexVector<Lane> drift, int64_t count) {
    if constexpr (sizeof(Lane) == 8)
        return x;
    const auto steps = hn::Set(Tag<Lane>(), static_cast<Lane>(count));
    return multiply_add(ComplexVector<Lane>{hn::Mul(drift.re, steps), hn::Mul(drift.im, steps)}, x, x);
}

// to_t = the sum of the lanes of sums[t] + scale from_t for `count` steps; rows of sums have room for whole vectors of
// steps.
template <class Lane>
HWY_INLINE void store_sums(const Lane* sums, int64_t count, Lane scale, const Lane* from, Lane* to) {
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    alignas(64) Lane turned[n * n];
    for (int64_t k = 0; k < count; k += n) {
        transpose_square(sums + k * n, n, turned, n);
        const int64_t some = std::min(n, count - k);
        auto total = hn::Mul(hn::Set(d, scale), load_some(from + k, some).re);
        for (int64_t i = 0; i < n; ++i)
            total = hn::Add(total, hn::Load(d, turned + i * n));
        store_some(to + k, RealVector<Lane>{total}, some);
    }
}

// A row of complex states as real and imaginary parts, zero where there are none.
template <class Lane>
void take_state(const void* states, int64_t row, int64_t count, Lane* re, Lane* im) {
    const int64_t padded = padded_poles(count);
    std::fill_n(re, padded, Lane{0});
    std::fill_n(im, padded, Lane{0});
    if (!states)
        return;
    const Lane* const from = static_cast<const Lane*>(states) + 2 * row * count;
    for (int64_t i = 0; i < count; ++i) {
        re[i] = from[2 * i];
        im[i] = from[2 * i + 1];
    }
}
template <class Lane>
void give_state(void* states, int64_t row, int64_t count, const Lane* re, const Lane* im) {
    if (!states)
        return;
    Lane* const to = static_cast<Lane*>(states) + 2 * row * count;
    for (int64_t i = 0; i < count; ++i) {
        to[2 * i] = re[i];
        to[2 * i + 1] = im[i];
    }
}

// Vectors of states that are in registers at once: 2, and what is left over by itself. Calls f(first, vectors).
template <class Lane, class F>
HWY_INLINE void for_each_block(int64_t padded, const F& f) {
    constexpr int64_t n = lanes_of<Lane>();
    int64_t i = 0;
    for (; i + 2 * n <= padded; i += 2 * n)
        f(i, std::integral_constant<int, 2>());
    for (; i < padded; i += n)
        f(i, std::integral_constant<int, 1>());
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
