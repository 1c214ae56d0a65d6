// Storage types and the types they are computed in: float16 and bfloat16 in float, every other type in itself.
#pragma once

#include "cuda/primitives/complex.h"
#include "cuda/primitives/cuda.h"
#include "cuda/primitives/half.h"

#include <type_traits>

namespace ssm {

namespace detail {
template <typename T>
struct ComputeOf {
    using Type = T;
};
template <>
struct ComputeOf<Half> {
    using Type = float;
};
template <>
struct ComputeOf<BFloat16> {
    using Type = float;
};
template <typename T>
struct RealOf {
    using Type = T;
};
template <typename T>
struct RealOf<Complex<T>> {
    using Type = T;
};
} // namespace detail

template <typename T>
using Compute = typename detail::ComputeOf<T>::Type;
// The type of the real part of a number of a compute type.
template <typename T>
using Real = typename detail::RealOf<T>::Type;

template <typename T>
SSM_DEVICE T widen(T value) {
    return value;
}
SSM_DEVICE float widen(Half value) {
    return to_float(value);
}
SSM_DEVICE float widen(BFloat16 value) {
    return to_float(value);
}

namespace detail {
template <typename T>
struct Narrow {
    SSM_DEVICE static T from(T value) { return value; }
};
template <>
struct Narrow<Half> {
    SSM_DEVICE static Half from(float value) { return to_half(value); }
};
template <>
struct Narrow<BFloat16> {
    SSM_DEVICE static BFloat16 from(float value) { return to_bfloat16(value); }
};
} // namespace detail

template <typename T>
SSM_DEVICE T narrow(Compute<T> value) {
    return detail::Narrow<T>::from(value);
}

// x y + z, rounded once for real numbers.
SSM_DEVICE float multiply_add(float x, float y, float z) {
    return fmaf(x, y, z);
}
SSM_DEVICE double multiply_add(double x, double y, double z) {
    return fma(x, y, z);
}
SSM_DEVICE float conjugate(float x) {
    return x;
}
SSM_DEVICE double conjugate(double x) {
    return x;
}

template <typename T>
SSM_DEVICE T number(double value) {
    if constexpr (std::is_floating_point<T>::value) {
        return static_cast<T>(value);
    } else {
        return T{static_cast<Real<T>>(value), 0};
    }
}

} // namespace ssm
