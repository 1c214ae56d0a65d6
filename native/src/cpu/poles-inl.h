// Powers of poles, lanes being poles, in double precision whatever the operation computes in.
#if defined(SSM_CPU_POLES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SSM_CPU_POLES_INL_H_
#undef SSM_CPU_POLES_INL_H_
#else
#define SSM_CPU_POLES_INL_H_
#endif

#include "cpu/math-inl.h"
#include "cpu/poles.h"

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

using Powers = ComplexVector<double>;

// exp(x m); the phase is the exact product, reduced.
HWY_INLINE Powers power_of(Vec<double> x_re, Vec<double> x_im, Vec<double> m) {
    const auto size = exp<double>(hn::Mul(x_re, m));
    Vec<double> sine, cosine;
    sine_cosine<double>(x_im, m, sine, cosine);
    return {hn::Mul(size, cosine), hn::Mul(size, sine)};
}

// Stores lanes of double as Lane. What is not a normal number of it becomes zero: it would be slow, and nothing is left of
// it in a sum.
HWY_INLINE void store_as(double* to, Vec<double> x) {
    hn::StoreU(x, Tag<double>(), to);
}
HWY_INLINE void store_as(float* to, Vec<double> x) {
    const hn::Rebind<float, Tag<double>> narrow;
    const Tag<double> d;
    const auto kept = hn::IfThenElseZero(hn::Not(hn::Lt(hn::Abs(x), hn::Set(d, 1.2e-38))), x);
    hn::StoreU(hn::DemoteTo(narrow, kept), narrow, to);
}
HWY_INLINE Vec<double> load_as_double(const double* from) {
    return hn::LoadU(Tag<double>(), from);
}
HWY_INLINE Vec<double> load_as_double(const float* from) {
    const hn::Rebind<float, Tag<double>> narrow;
    return hn::PromoteTo(Tag<double>(), hn::LoadU(narrow, from));
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
