// A transform for convolution in shared memory: cpu/fft_tables.h has the mathematics. The points of a polynomial modulo
// X^N - i, evaluated at its roots by splitting blocks in eight, in place; block h of a level (1 is the whole, parts of h are
// 8 h .. 8 h + 7) multiplies coefficient j of a butterfly by w^j, w = exp(2 pi i angle(h) / 8). Nobody needs the points in
// another order than the one that is left.
#pragma once

#include "cuda/primitives/complex.h"
#include "cuda/primitives/cuda.h"
#include "cuda/primitives/math.h"

namespace ssm {

// Points of a transform that shared memory holds, on every device: 64 KiB.
template <typename R>
constexpr int fft_points = 65536 / static_cast<int>(sizeof(Complex<R>));

// Where a point lies, so that threads that take neighbours, or every eighth point, meet all banks.
template <typename R>
SSM_DEVICE int fft_place(int point) {
    constexpr int bits = sizeof(R) == 4 ? 4 : 3;
    return point ^ (point >> bits & ((1 << bits) - 1));
}

SSM_DEVICE int log2_of_power(int power) {
    return 31 - __clz(power);
}

SSM_DEVICE int64_t reverse_bits(int64_t value, int count) {
    int64_t reversed = 0;
    for (int i = 0; i < count; ++i) {
        reversed = reversed << 1 | (value >> i & 1);
    }
    return reversed;
}
SSM_DEVICE int reverse_few_bits(int value, int count) {
#if defined(__CUDA_ARCH__)
    return count == 0 ? 0 : static_cast<int>(__brev(static_cast<unsigned>(value)) >> (32 - count));
#else
    return static_cast<int>(reverse_bits(value, count));
#endif
}

// The angle of block 2^level + index, in turns; exact, a quarter for block 1. (rev + 1/4) / 2^level.
template <typename R>
SSM_DEVICE R fft_angle(int level, int index) {
    return (static_cast<R>(reverse_few_bits(index, level)) + R(0.25)) / static_cast<R>(1 << level);
}

// x i and x conj(y)
template <typename R>
SSM_DEVICE Complex<R> turned(Complex<R> x) {
    return {-x.im, x.re};
}
template <typename R>
SSM_DEVICE Complex<R> multiply_conjugate(Complex<R> x, Complex<R> y) {
    return {fma(x.im, y.im, x.re * y.re), fma(-x.re, y.im, x.im * y.re)};
}

// The first powers of exp(2 pi i turns).
template <int count, typename R>
SSM_DEVICE void fft_powers(R turns, Complex<R> (&w)[count]) {
    w[0] = {R(1), R(0)};
    sincos_pi(2 * turns, w[1].im, w[1].re);
#pragma unroll
    for (int i = 2; i < count; ++i) {
        w[i] = w[i / 2] * w[i - i / 2];
    }
}

// Two, four or eight coefficients to values, in the order of the blocks, and back; the way back is `radix` times as large.
template <typename R>
SSM_DEVICE void fft_split(Complex<R>& a, Complex<R>& b) {
    const Complex<R> sum = a + b;
    b = a - b;
    a = sum;
}
template <typename R>
SSM_DEVICE void fft_split(Complex<R>& a, Complex<R>& b, Complex<R>& c, Complex<R>& d) {
    const Complex<R> p0 = a + c, p1 = a - c, q0 = b + d, q1 = turned(b - d);
    a = p0 + q0;
    b = p0 - q0;
    c = p1 + q1;
    d = p1 - q1;
}
template <typename R>
SSM_DEVICE void fft_join(Complex<R>& a, Complex<R>& b, Complex<R>& c, Complex<R>& d) {
    const Complex<R> p0 = a + b, q0 = a - b, p1 = c + d, r = turned(c - d);
    a = p0 + p1;
    b = q0 - r;
    c = p0 - p1;
    d = q0 + r;
}
template <bool forward, int radix, typename R>
SSM_DEVICE void fft_butterfly(Complex<R> (&x)[radix]) {
    if constexpr (radix == 2) {
        fft_split(x[0], x[1]);
    } else if constexpr (radix == 4) {
        if constexpr (forward) {
            fft_split(x[0], x[1], x[2], x[3]);
        } else {
            fft_join(x[0], x[1], x[2], x[3]);
        }
    } else {
        const R half = R(0.70710678118654752440);
        const Complex<R> eighth = {half, half};
        if constexpr (forward) {
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                fft_split(x[j], x[j + 4]);
            }
            x[5] = x[5] * eighth;
            x[6] = turned(x[6]);
            x[7] = turned(x[7] * eighth);
            fft_split(x[0], x[1], x[2], x[3]);
            fft_split(x[4], x[5], x[6], x[7]);
        } else {
            fft_join(x[0], x[1], x[2], x[3]);
            fft_join(x[4], x[5], x[6], x[7]);
            x[5] = multiply_conjugate(x[5], eighth);
            x[6] = -turned(x[6]);
            x[7] = -turned(multiply_conjugate(x[7], eighth));
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                fft_split(x[j], x[j + 4]);
            }
        }
    }
}

// One level: blocks of `size` of the `points` become `radix` each. All threads of the block take part and meet at its end.
template <bool forward, int radix, typename R>
SSM_DEVICE void fft_pass(Complex<R>* shared, int points, int size) {
    const int level = log2_of_power(points) - log2_of_power(size);
    const int part = size / radix, part_bits = log2_of_power(part);
    for (int i = static_cast<int>(threadIdx.x); i < points / radix; i += static_cast<int>(blockDim.x)) {
        const int block = i >> part_bits, at = block * size + (i & (part - 1));
        Complex<R> w[radix], x[radix];
        fft_powers(fft_angle<R>(level, block) / R(radix), w);
#pragma unroll
        for (int j = 0; j < radix; ++j) {
            x[j] = shared[fft_place<R>(at + j * part)];
            if constexpr (forward) {
                x[j] = j > 0 ? x[j] * w[j] : x[j];
            }
        }
        fft_butterfly<forward>(x);
#pragma unroll
        for (int j = 0; j < radix; ++j) {
            if constexpr (!forward) {
                x[j] = j > 0 ? multiply_conjugate(x[j], w[j]) : x[j];
            }
            shared[fft_place<R>(at + j * part)] = x[j];
        }
    }
    __syncthreads();
}

// How many points the first level splits a block into so that the others split in eight: 1, 2 or 4.
SSM_DEVICE int fft_first_radix(int size, int stop) {
    int radix = size / stop;
    while (radix >= 8) {
        radix /= 8;
    }
    return radix;
}

// All levels from the whole down to blocks of `stop` points, or up from them.
template <bool forward, typename R>
SSM_DEVICE void fft_passes(Complex<R>* shared, int points, int stop) {
    const int first = fft_first_radix(points, stop);
    if constexpr (forward) {
        if (first == 2) {
            fft_pass<true, 2>(shared, points, points);
        } else if (first == 4) {
            fft_pass<true, 4>(shared, points, points);
        }
        for (int size = points / first; size > stop; size /= 8) {
            fft_pass<true, 8>(shared, points, size);
        }
    } else {
        for (int size = 8 * stop; size <= points / first; size *= 8) {
            fft_pass<false, 8>(shared, points, size);
        }
        if (first == 2) {
            fft_pass<false, 2>(shared, points, points);
        } else if (first == 4) {
            fft_pass<false, 4>(shared, points, points);
        }
    }
}

// A whole transform. Between the way there and the way back visit(place, x) has the values, of which each thread keeps eight
// at a time: place j * points / 8 + i, so that neighbours in memory are neighbouring threads. points: 64 at least.
template <bool has_forward, bool has_inverse, typename R, typename Visit>
SSM_DEVICE void run_fft(Complex<R>* shared, int points, const Visit& visit) {
    if constexpr (has_forward) {
        fft_passes<true>(shared, points, 8);
    }
    const int blocks = points / 8, level = log2_of_power(blocks);
    for (int i = static_cast<int>(threadIdx.x); i < blocks; i += static_cast<int>(blockDim.x)) {
        Complex<R> w[8], x[8];
        fft_powers(fft_angle<R>(level, i) / R(8), w);
        if constexpr (has_forward) {
#pragma unroll
            for (int j = 0; j < 8; ++j) {
                x[j] = shared[fft_place<R>(8 * i + j)];
                x[j] = j > 0 ? x[j] * w[j] : x[j];
            }
            fft_butterfly<true>(x);
        }
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            visit(j * blocks + i, x[j]);
        }
        if constexpr (has_inverse) {
            fft_butterfly<false>(x);
#pragma unroll
            for (int j = 0; j < 8; ++j) {
                shared[fft_place<R>(8 * i + j)] = j > 0 ? multiply_conjugate(x[j], w[j]) : x[j];
            }
        }
    }
    __syncthreads();
    if constexpr (has_inverse) {
        fft_passes<false>(shared, points, 8);
    }
}

} // namespace ssm
