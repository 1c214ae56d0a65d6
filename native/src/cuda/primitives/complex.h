// Complex numbers for kernels. Multiplication is the plain formula with fused multiply-adds, which rounds alike on the
// device and in the emulation; infinities and NaN spread as the formula says.
#pragma once

#include "cuda/primitives/cuda.h"

#include <math.h> // fma for float and double in the global namespace

namespace ssm {

template <typename T>
struct alignas(2 * sizeof(T)) Complex {
    using Real = T;
    T re;
    T im;
};

template <typename T>
SSM_INLINE Complex<T> operator+(Complex<T> x, Complex<T> y) {
    return {x.re + y.re, x.im + y.im};
}
template <typename T>
SSM_INLINE Complex<T> operator-(Complex<T> x, Complex<T> y) {
    return {x.re - y.re, x.im - y.im};
}
template <typename T>
SSM_INLINE Complex<T> operator-(Complex<T> x) {
    return {-x.re, -x.im};
}
// x y + z
template <typename T>
SSM_INLINE Complex<T> multiply_add(Complex<T> x, Complex<T> y, Complex<T> z) {
    return {fma(-x.im, y.im, fma(x.re, y.re, z.re)), fma(x.im, y.re, fma(x.re, y.im, z.im))};
}
template <typename T>
SSM_INLINE Complex<T> operator*(Complex<T> x, Complex<T> y) {
    return {fma(-x.im, y.im, x.re * y.re), fma(x.im, y.re, x.re * y.im)};
}
template <typename T>
SSM_INLINE Complex<T> operator*(T x, Complex<T> y) {
    return {x * y.re, x * y.im};
}
template <typename T>
SSM_INLINE Complex<T> operator*(Complex<T> x, T y) {
    return {x.re * y, x.im * y};
}
template <typename T>
SSM_INLINE Complex<T> conjugate(Complex<T> x) {
    return {x.re, -x.im};
}
template <typename T>
SSM_INLINE bool operator==(Complex<T> x, Complex<T> y) {
    return x.re == y.re && x.im == y.im;
}
template <typename T>
SSM_INLINE bool operator!=(Complex<T> x, Complex<T> y) {
    return !(x == y);
}

} // namespace ssm
