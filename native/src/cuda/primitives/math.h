// Elementary functions for kernels, with their accuracy.
#pragma once

#include "cuda/primitives/cuda.h"
#include "cuda/primitives/half.h"

#include <math.h>

namespace ssm {

// 2^x within 2 units in the last place: the special-function unit's own exponential. Results below 2^-126 are zero.
SSM_DEVICE float fast_exp2(float x) {
#if defined(__CUDA_ARCH__)
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
#else
    const float result = exp2f(x);
    return result < 0x1p-126f ? 0.0f : result;
#endif
}

// 2^x within 3 units in the last place, by multiply-adds alone: for kernels in which exponentials are many and the
// special-function unit, which gives one where the multiply-add units give eight, would be the limit. A minimax polynomial
// of 2^f on |f| <= 1/2 that is 1 at 0, so that decays near one keep what they have; results below 2^-126 are zero, from
// 2^127.5 on infinite. Before sm_80 the multiply-add units have half the width and nothing to spare.
SSM_DEVICE float polynomial_exp2(float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
    return fast_exp2(x);
#else
    constexpr float shifter = 0x1.8p23f; // its last places are the integers
#if defined(__CUDA_ARCH__)
    float bounded;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(bounded) : "f"(x), "f"(-127.0f));
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(bounded) : "f"(bounded), "f"(128.0f));
#else
    const float bounded = x < -127.0f ? -127.0f : x > 128.0f ? 128.0f : x;
#endif
    const float shifted = bounded + shifter;
    const float f = bounded - (shifted - shifter);
    float power = fmaf(0x1.5bba14p-10f, f, 0x1.3cea88p-7f);
    power = fmaf(power, f, 0x1.c6b752p-5f);
    power = fmaf(power, f, 0x1.ebf9bcp-3f);
    power = fmaf(power, f, 0x1.62e42ap-1f);
    power = fmaf(power, f, 1.0f);
    const float scale =
        detail::float_of_bits((detail::float_bits(shifted) << 23) + 0x3f800000u); // 0 for -127, infinite for 128
#if defined(__CUDA_ARCH__)
    float result;
    asm("mul.ftz.f32 %0, %1, %2;" : "=f"(result) : "f"(power), "f"(scale));
    return result;
#else
    const float result = power * scale;
    return result < 0x1p-126f ? 0.0f : result;
#endif
#endif
}

// The value, of which the compiler knows nothing: what is computed from it stays in its loop and takes no registers around
// it.
template <typename T>
SSM_DEVICE T opaque(T value) {
#if defined(__CUDA_ARCH__)
    if constexpr (sizeof(T) == 8) {
        asm volatile("" : "+l"(value));
    } else {
        asm volatile("" : "+r"(value));
    }
#endif
    return value;
}

// sin(pi x) and cos(pi x). The reduction is exact, so that large phases lose nothing.
SSM_DEVICE void sincos_pi(float x, float& sine, float& cosine) {
#if defined(__CUDA_ARCH__)
    sincospif(x, &sine, &cosine);
#else
    const double reduced = static_cast<double>(x) - 2 * rint(static_cast<double>(x) / 2);
    sine = static_cast<float>(sin(3.14159265358979323846 * reduced));
    cosine = static_cast<float>(cos(3.14159265358979323846 * reduced));
#endif
}
SSM_DEVICE void sincos_pi(double x, double& sine, double& cosine) {
#if defined(__CUDA_ARCH__)
    sincospi(x, &sine, &cosine);
#else
    const double reduced = x - 2 * rint(x / 2);
    sine = sin(3.14159265358979323846 * reduced);
    cosine = cos(3.14159265358979323846 * reduced);
#endif
}

// 1 / x within an ulp where x and the result are normal numbers: a division takes several times as long.
SSM_DEVICE float fast_reciprocal(float x) {
#if defined(__CUDA_ARCH__)
    float result;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
#else
    return 1.0f / x;
#endif
}
SSM_DEVICE double fast_reciprocal(double x) {
    return 1.0 / x;
}

// log(1 + exp(x)), accurate at both ends: for large x it is x, for small x it is exp(x).
SSM_DEVICE float softplus(float x) {
    return (x > 0 ? x : 0.0f) + log1pf(expf(-fabsf(x)));
}
SSM_DEVICE double softplus(double x) {
    return (x > 0 ? x : 0.0) + log1p(exp(-fabs(x)));
}

// x / (1 + exp(-x)). The quick quotient is within 2 units in the last place, and 0 where the divisor is beyond 2^126.
SSM_DEVICE float silu(float x) {
#if defined(__CUDA_ARCH__)
    return __fdividef(x, 1.0f + expf(-x));
#else
    return x / (1.0f + expf(-x));
#endif
}
SSM_DEVICE double silu(double x) {
    return x / (1.0 + exp(-x));
}

} // namespace ssm
