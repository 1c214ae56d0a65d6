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

// Of z / (1 + exp(-z)), without a difference of near numbers.
template <class Lane>
HWY_INLINE Silu<Lane> silu_and_slope(Vec<Lane> z) {
    const Tag<Lane> d;
    const auto one = hn::Set(d, Lane{1});
    const auto most = hn::Set(d, exp_bounded_most<Lane>);
    const auto bounded = hn::Min(hn::Max(z, hn::Neg(most)), most);
    const auto e = exp_bounded<Lane>(hn::Neg(hn::Abs(bounded)));
    const auto large = reciprocal<Lane>(hn::Add(one, e)), small = hn::Mul(e, large);
    const auto is_negative = hn::Lt(bounded, hn::Zero(d));
    const auto sigmoid = hn::IfThenElse(is_negative, small, large), rest = hn::IfThenElse(is_negative, large, small);
    const auto value = hn::IfThenZeroElse(hn::Lt(z, hn::Neg(most)), hn::Mul(z, sigmoid));
    return {value, hn::IfThenElse(hn::IsNaN(z), z, hn::Mul(sigmoid, hn::MulAdd(bounded, rest, one)))};
}
template <class Lane>
HWY_INLINE Vec<Lane> silu_slope(Vec<Lane> z) {
    return silu_and_slope<Lane>(z).slope;
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
