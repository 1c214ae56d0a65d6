// silu with its derivative, as gradients need both.
#if defined(SSM_CPU_SILU_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SSM_CPU_SILU_INL_H_
#undef SSM_CPU_SILU_INL_H_
#else
#define SSM_CPU_SILU_INL_H_
#endif

#include "cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

template <class Lane>
struct Silu {
    Vec<Lane> value, slope;
};

// Of z / (1 + exp(-z)), with an exponential that cannot overflow and no difference of near numbers.
template <class Lane>
HWY_INLINE Silu<Lane> silu_and_slope(Vec<Lane> z) {
    const Tag<Lane> d;
    const auto one = hn::Set(d, Lane{1});
    const auto e = exp<Lane>(hn::Neg(hn::Abs(z)));
    const auto large = hn::Div(one, hn::Add(one, e)), small = hn::Mul(e, large);
    const auto is_negative = hn::Lt(z, hn::Zero(d));
    const auto sigmoid = hn::IfThenElse(is_negative, small, large), rest = hn::IfThenElse(is_negative, large, small);
    return {hn::Mul(z, sigmoid), hn::Mul(sigmoid, hn::MulAdd(z, rest, one))};
}
template <class Lane>
HWY_INLINE Vec<Lane> silu_slope(Vec<Lane> z) {
    return silu_and_slope<Lane>(z).slope;
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
