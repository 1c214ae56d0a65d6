// The mathematics of discretized diagonal systems in double precision, a handful of numbers for each state, which every
// backend sets up its kernels from. With s = dt a and phi(s) = (exp(s) - 1) / s. Everything is written so that it holds at
// s = 0 and loses nothing near it.
#pragma once

#include "core/params/diagonal_system.h"

#include <math.h>

#if defined(__CUDACC__)
#define SSM_EVERYWHERE __host__ __device__ __forceinline__
#else
#define SSM_EVERYWHERE inline
#endif

namespace ssm {

// T is double, but where a discretization is needed for each step of a sequence.
template <class T>
struct ComplexNumber {
    T re, im;
};
using ComplexDouble = ComplexNumber<double>;

template <class T>
SSM_EVERYWHERE ComplexNumber<T> operator+(ComplexNumber<T> x, ComplexNumber<T> y) {
    return {x.re + y.re, x.im + y.im};
}
template <class T>
SSM_EVERYWHERE ComplexNumber<T> operator-(ComplexNumber<T> x, ComplexNumber<T> y) {
    return {x.re - y.re, x.im - y.im};
}
template <class T>
SSM_EVERYWHERE ComplexNumber<T> operator*(ComplexNumber<T> x, ComplexNumber<T> y) {
    return {x.re * y.re - x.im * y.im, x.re * y.im + x.im * y.re};
}
template <class T>
SSM_EVERYWHERE ComplexNumber<T> scaled(T x, ComplexNumber<T> y) {
    return {x * y.re, x * y.im};
}
template <class T>
SSM_EVERYWHERE ComplexNumber<T> conjugate(ComplexNumber<T> x) {
    return {x.re, -x.im};
}
template <class T>
SSM_EVERYWHERE T squared_magnitude(ComplexNumber<T> x) {
    return x.re * x.re + x.im * x.im;
}
template <class T>
SSM_EVERYWHERE ComplexNumber<T> operator/(ComplexNumber<T> x, ComplexNumber<T> y) {
    return scaled(1 / squared_magnitude(y), x * conjugate(y));
}
// On the device the phase is reduced to part of a turn here, in two parts: sin and cos would keep memory for phases of any
// size.
SSM_EVERYWHERE ComplexNumber<double> exponential(ComplexNumber<double> x) {
    const double size = exp(x.re);
#if defined(__CUDA_ARCH__)
    const double turns = x.im * 0.31830988618379067154; // half turns
    const double low = fma(x.im, 0.31830988618379067154, -turns) + x.im * -1.9678676675182486e-17;
    double sine, cosine;
    sincospi((turns - 2 * rint(turns / 2)) + low, &sine, &cosine);
    return {size * cosine, size * sine};
#else
    return {size * cos(x.im), size * sin(x.im)};
#endif
}
SSM_EVERYWHERE ComplexNumber<float> exponential(ComplexNumber<float> x) {
    const float size = expf(x.re);
#if defined(__CUDA_ARCH__)
    const float turns = x.im * 0.318309886f; // half turns
    const float low = fmaf(x.im, 0.318309886f, -turns) + x.im * 1.28412765e-8f;
    float sine, cosine;
    sincospif((turns - 2 * rintf(turns / 2)) + low, &sine, &cosine);
    return {size * cosine, size * sine};
#else
    return {size * cosf(x.im), size * sinf(x.im)};
#endif
}
// log(1 + x). The logarithm of 0 is taken for -10,000, whose exponential is 0, so that 0 times it is 0.
SSM_EVERYWHERE ComplexDouble logarithm_1p(ComplexDouble x) {
    const double size = 0.5 * log1p(2 * x.re + squared_magnitude(x));
    return {size > -10000 ? size : -10000.0, atan2(x.im, 1 + x.re)};
}

// Below this the series of phi are right to the last places with 16 terms, beyond it nothing cancels.
constexpr double phi_series_squared = 0.25;

// (exp(s) - 1) / s = sum of s^k / (k+1)!
template <class T>
SSM_EVERYWHERE ComplexNumber<T> phi(ComplexNumber<T> s) {
    const ComplexNumber<T> one{1, 0};
    if (squared_magnitude(s) >= T(phi_series_squared))
        return (exponential(s) - one) / s;
    ComplexNumber<T> sum = one;
    for (int k = sizeof(T) == 4 ? 9 : 17; k >= 2; --k)
        sum = one + scaled(1 / T(k), s * sum);
    return sum;
}
// Its derivative, the sum of (k+1) s^k / (k+2)!
SSM_EVERYWHERE ComplexDouble phi_slope(ComplexDouble s) {
    const ComplexDouble one{1, 0};
    if (squared_magnitude(s) >= phi_series_squared)
        return (exponential(s) - phi(s)) / s;
    ComplexDouble sum = one;
    for (int k = 16; k >= 0; --k)
        sum = one + scaled((k + 2.0) / ((k + 1.0) * (k + 3.0)), s * sum);
    return scaled(0.5, sum);
}

// ---- Discretizations. interval: the time of the state in units of dt, 1 where there are no events.

template <class T>
SSM_EVERYWHERE ComplexNumber<T> one_minus_alpha_s(DiscretizationRule rule, ComplexNumber<T> s) {
    const T alpha = T(rule.alpha);
    return {1 - alpha * s.re, -alpha * s.im};
}
template <class T>
SSM_EVERYWHERE ComplexNumber<T> one_plus_rest_s(DiscretizationRule rule, ComplexNumber<T> s) {
    const T rest = T(1 - rule.alpha);
    return {1 + rest * s.re, rest * s.im};
}

template <class T>
SSM_EVERYWHERE ComplexNumber<T> discretized_state(DiscretizationRule rule, ComplexNumber<T> a, T dt, T interval) {
    const ComplexNumber<T> s = scaled(dt * interval, a);
    if (rule.kind == Discretization::generalized_bilinear)
        return one_plus_rest_s(rule, s) / one_minus_alpha_s(rule, s);
    return exponential(s);
}
// Its logarithm.
SSM_EVERYWHERE ComplexDouble discretized_logarithm(DiscretizationRule rule, ComplexDouble a, double dt) {
    const ComplexDouble s = scaled(dt, a);
    if (rule.kind == Discretization::generalized_bilinear)
        return logarithm_1p(scaled(1 - rule.alpha, s)) - logarithm_1p(scaled(-rule.alpha, s));
    return s;
}
// b_bar / b.
template <class T>
SSM_EVERYWHERE ComplexNumber<T> discretized_input(DiscretizationRule rule, ComplexNumber<T> a, T dt, T interval) {
    const T time = dt * interval;
    switch (rule.kind) {
    case Discretization::generalized_bilinear:
        return ComplexNumber<T>{time, 0} / one_minus_alpha_s(rule, scaled(time, a));
    case Discretization::dirac:
        return {1, 0};
    case Discretization::async:
        return scaled(dt, phi(scaled(dt, a)));
    default:
        return scaled(time, phi(scaled(time, a)));
    }
}

// Derivatives by s, a and dt, without events.
SSM_EVERYWHERE ComplexDouble state_slope(DiscretizationRule rule, ComplexDouble a, double dt) {
    const ComplexDouble s = scaled(dt, a);
    if (rule.kind != Discretization::generalized_bilinear)
        return exponential(s);
    const ComplexDouble below = one_minus_alpha_s(rule, s);
    return ComplexDouble{1, 0} / (below * below);
}
SSM_EVERYWHERE ComplexDouble logarithm_slope(DiscretizationRule rule, ComplexDouble a, double dt) {
    const ComplexDouble one{1, 0}, s = scaled(dt, a);
    if (rule.kind != Discretization::generalized_bilinear)
        return one;
    return one / (one_plus_rest_s(rule, s) * one_minus_alpha_s(rule, s));
}
struct InputSlopes {
    ComplexDouble by_a, by_dt;
};
SSM_EVERYWHERE InputSlopes input_slopes(DiscretizationRule rule, ComplexDouble a, double dt) {
    const ComplexDouble s = scaled(dt, a);
    if (rule.kind == Discretization::dirac)
        return {{0, 0}, {0, 0}};
    if (rule.kind != Discretization::generalized_bilinear)
        return {scaled(dt * dt, phi_slope(s)), exponential(s)};
    const ComplexDouble below = one_minus_alpha_s(rule, s), square = ComplexDouble{1, 0} / (below * below);
    return {scaled(rule.alpha * dt * dt, square), square};
}

// ---- The terms v exp(x (l - shift)) of a Vandermonde sum

struct Pole {
    ComplexDouble v, x;
    double shift; // steps that are left out of the exponent, so that growing powers divided by their sum do not overflow
};

// What the powers are multiplied by for their sum to be 1.
SSM_EVERYWHERE ComplexDouble softmax_scale(ComplexDouble x, int64_t length) {
    const double count = static_cast<double>(length), sign = x.re > 0 ? -1 : 1;
    return phi(x) / scaled(count, phi(scaled(sign * count, x)));
}

// exp(x m) / (exp(x m) - 1) for the m-th part of the logarithm's slope.
SSM_EVERYWHERE ComplexDouble growth_share(ComplexDouble x, double m) {
    if (x.re > 0)
        return ComplexDouble{1, 0} / (x * phi(scaled(-m, x)));
    return exponential(scaled(m, x)) / (x * phi(scaled(m, x)));
}
// The derivative of the logarithm of the sum of exp(x l), l < length.
SSM_EVERYWHERE ComplexDouble softmax_slope(ComplexDouble x, int64_t length) {
    const double count = static_cast<double>(length);
    if (squared_magnitude(scaled(count, x)) < 1e-8)
        return ComplexDouble{(count - 1) / 2, 0} + scaled((count * count - 1) / 12, x);
    return growth_share(x, count) - growth_share(x, 1);
}

template <class Real>
SSM_EVERYWHERE ComplexDouble complex_at(const void* data, int64_t index) {
    const Real* const parts = static_cast<const Real*>(data) + 2 * index;
    return {static_cast<double>(parts[0]), static_cast<double>(parts[1])};
}
template <class Real>
SSM_EVERYWHERE void store_complex(void* data, int64_t index, ComplexDouble value) {
    Real* const parts = static_cast<Real*>(data) + 2 * index;
    parts[0] = static_cast<Real>(value.re);
    parts[1] = static_cast<Real>(value.im);
}

// Of state `index` of row `row`.
template <class Real>
SSM_EVERYWHERE Pole pole_at(const PoleSource& source, int64_t row, int64_t index, int64_t length) {
    if (!source.is_system)
        return {complex_at<Real>(source.v, index), complex_at<Real>(source.x, index), 0};
    const ComplexDouble a = complex_at<Real>(source.a, index);
    const double dt = static_cast<double>(static_cast<const Real*>(source.dt)[row]);
    Pole pole;
    pole.x = discretized_logarithm(source.rule, a, dt);
    pole.v =
        complex_at<Real>(source.c, index) * complex_at<Real>(source.b, index) * discretized_input(source.rule, a, dt, 1.0);
    pole.shift = 0;
    if (source.softmax) {
        pole.v = pole.v * softmax_scale(pole.x, length);
        pole.shift = pole.x.re > 0 ? static_cast<double>(length) : 0;
    }
    return pole;
}

// The two sums over time that every gradient is made of: of g conj(e) and l g conj(e), e being exp(x (l - shift)).
struct PoleSums {
    ComplexDouble plain, weighted;
};

struct SystemGradients {
    ComplexDouble a, b, c;
    double dt;
};
// Of real k = 2 Re sum c b_bar a_bar^l.
template <class Real>
SSM_EVERYWHERE SystemGradients system_gradients(const PoleSource& source, int64_t row, int64_t index, int64_t length,
                                                PoleSums sums) {
    const ComplexDouble a = complex_at<Real>(source.a, index), b = complex_at<Real>(source.b, index);
    const ComplexDouble c = complex_at<Real>(source.c, index);
    const double dt = static_cast<double>(static_cast<const Real*>(source.dt)[row]);
    const ComplexDouble x = discretized_logarithm(source.rule, a, dt);
    const ComplexDouble input = discretized_input(source.rule, a, dt, 1.0);
    ComplexDouble scale{2, 0}, weighted = sums.weighted;
    if (source.softmax) {
        scale = scaled(2.0, softmax_scale(x, length));
        weighted = weighted - conjugate(softmax_slope(x, length)) * sums.plain;
    }
    const ComplexDouble of_product = conjugate(scale) * sums.plain; // of c b input
    const ComplexDouble of_x = conjugate(scale * c * b * input) * weighted;
    const ComplexDouble of_input = conjugate(c * b) * of_product;
    const ComplexDouble x_by_s = logarithm_slope(source.rule, a, dt);
    const InputSlopes slopes = input_slopes(source.rule, a, dt);
    SystemGradients gradients;
    gradients.c = conjugate(b * input) * of_product;
    gradients.b = conjugate(c * input) * of_product;
    gradients.a = conjugate(scaled(dt, x_by_s)) * of_x + conjugate(slopes.by_a) * of_input;
    gradients.dt = (conjugate(a * x_by_s) * of_x + conjugate(slopes.by_dt) * of_input).re;
    return gradients;
}

// From the gradients of a_bar and b_bar to those of a, b and dt.
struct StepGradients {
    ComplexDouble a, b;
    double dt;
};
template <class Real>
SSM_EVERYWHERE StepGradients step_gradients(DiscretizationRule rule, const void* a_data, const void* b_data,
                                            const void* dt_data, int64_t row, int64_t index, ComplexDouble of_a_bar,
                                            ComplexDouble of_b_bar) {
    const ComplexDouble a = complex_at<Real>(a_data, index), b = complex_at<Real>(b_data, index);
    const double dt = static_cast<double>(static_cast<const Real*>(dt_data)[row]);
    const ComplexDouble slope = state_slope(rule, a, dt);
    const InputSlopes slopes = input_slopes(rule, a, dt);
    const ComplexDouble of_input = conjugate(b) * of_b_bar;
    StepGradients gradients;
    gradients.b = conjugate(discretized_input(rule, a, dt, 1.0)) * of_b_bar;
    gradients.a = conjugate(scaled(dt, slope)) * of_a_bar + conjugate(slopes.by_a) * of_input;
    gradients.dt = (conjugate(a * slope) * of_a_bar + conjugate(slopes.by_dt) * of_input).re;
    return gradients;
}

} // namespace ssm
