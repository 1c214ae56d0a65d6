// A step of a dense system.
#if defined(SSM_CPU_DENSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SSM_CPU_DENSE_INL_H_
#undef SSM_CPU_DENSE_INL_H_
#else
#define SSM_CPU_DENSE_INL_H_
#endif

#include "cpu/dense.h"
#include "cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

// Vectors of states [first, first + Vectors lanes) of next = a_bar x + b_bar u.
template <class Lane, int Vectors>
HWY_INLINE void step_states(int64_t states, int64_t width, const Lane* step, int64_t first, Vec<Lane> u, const Lane* x,
                            Lane* next) {
    const Tag<Lane> d;
    constexpr int64_t n = lanes_of<Lane>();
    const Lane* const columns = step + first;
    Vec<Lane> sums[Vectors];
    unrolled<Vectors>([&](auto v)
                          SSM_INLINE_LAMBDA { sums[v] = hn::Mul(u, hn::Load(d, columns + states * width + v * n)); });
    for (int64_t j = 0; j < states; ++j) {
        const auto own = hn::Set(d, x[j]);
        unrolled<Vectors>(
            [&](auto v) SSM_INLINE_LAMBDA { sums[v] = hn::MulAdd(own, hn::Load(d, columns + j * width + v * n), sums[v]); });
    }
    unrolled<Vectors>([&](auto v) SSM_INLINE_LAMBDA { hn::Store(sums[v], d, next + first + v * n); });
}

// next = a_bar x + b_bar u; both have whole vectors.
template <class Lane>
HWY_INLINE void step_dense(int64_t states, int64_t width, const Lane* step, Lane input, const Lane* x, Lane* next) {
    constexpr int64_t n = lanes_of<Lane>();
    const auto u = hn::Set(Tag<Lane>(), input);
    int64_t i = 0;
    for (; i + 4 * n <= width; i += 4 * n)
        step_states<Lane, 4>(states, width, step, i, u, x, next);
    for (; i < width; i += n)
        step_states<Lane, 1>(states, width, step, i, u, x, next);
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
