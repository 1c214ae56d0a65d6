// 16-bit floating point as storage: Half is IEEE binary16, BFloat16 the upper half of a binary32. Arithmetic is done in
// float. Conversion from float rounds to nearest, ties to even; every NaN becomes 0x7fff on the device and here.
#pragma once

#include "cuda/primitives/cuda.h"

#include <cstring>
#if defined(__CUDACC__)
#include <cuda_fp16.h>
#endif

namespace ssm {

struct Half {
    uint16_t bits;
};

struct BFloat16 {
    uint16_t bits;
};

namespace detail {
SSM_INLINE uint32_t float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}
SSM_INLINE float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}
} // namespace detail

#if defined(__CUDACC__)

SSM_DEVICE float to_float(Half value) {
    return __half2float(__ushort_as_half(value.bits));
}
SSM_DEVICE Half to_half(float value) {
    return {__half_as_ushort(__float2half_rn(value))};
}

#else

inline float to_float(Half value) {
    uint32_t sign = (value.bits & 0x8000u) << 16;
    uint32_t magnitude = value.bits & 0x7fffu;
    if (magnitude >= 0x7c00u) { // infinity, NaN
        return detail::float_of_bits(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
    }
    // As a binary32 of the same fields the value is 2^112 too small, subnormal numbers included, and the product exact.
    return detail::float_of_bits(sign | detail::float_bits(detail::float_of_bits(magnitude << 13) * 0x1p112f));
}
inline Half to_half(float value) {
    uint32_t bits = detail::float_bits(value);
    uint32_t sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) { // NaN
        return {0x7fff};
    }
    if (bits >= 0x477ff000u) { // 65520 and more round to infinity
        return {static_cast<uint16_t>(sign | 0x7c00u)};
    }
    if (bits < 0x38800000u) { // subnormal: adding 1/2 rounds at 2^-24, the unit of subnormal numbers
        uint32_t units = detail::float_bits(detail::float_of_bits(bits) + 0.5f) - 0x3f000000u;
        return {static_cast<uint16_t>(sign | units)};
    }
    uint32_t odd = bits >> 13 & 1;
    return {static_cast<uint16_t>(sign | (bits - (112u << 23) + 0xfffu + odd) >> 13)};
}

#endif

SSM_INLINE float to_float(BFloat16 value) {
    return detail::float_of_bits(static_cast<uint32_t>(value.bits) << 16);
}
SSM_INLINE BFloat16 to_bfloat16(float value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    uint16_t rounded;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(rounded) : "f"(value));
    return {rounded};
#else
    uint32_t bits = detail::float_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return {0x7fff};
    }
    return {static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
#endif
}

} // namespace ssm
