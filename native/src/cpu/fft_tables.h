// The constants of the transform in fft-inl.h.
//
// A transform of N points evaluates a polynomial of degree below N by splitting its modulus: X^N - c into X^{N/2} - s and
// X^{N/2} + s with s^2 = c, and so on down to first powers. The blocks of all levels are numbered like a binary heap: block
// 1 is the whole, the halves of block h are 2 h and 2 h + 1. With c = exp(2 pi i angle), angle(1) is 1/4 (X^N = i), angle(2
// h) is angle(h) / 2 and angle(2 h + 1) is angle(h) / 2 + 1/2. So the constants of a block depend on h alone, whatever N is.
#pragma once

#include <cstdint>

namespace ssm::cpu {

// In turns; exact.
double fft_block_angle(int64_t block);

// Blocks below this have their constants in a table: those of the columns and of the rows of every transform.
constexpr int64_t fft_blocks = 8192;
// Six numbers for block h at 6 h: w, w^2 and w^3 with w = exp(2 pi i angle(h) / 4), real and imaginary parts.
template <class Lane>
const Lane* fft_block_table();

// The constants of the levels within a vector, `lanes` blocks side by side: for each `lanes` blocks of `lanes` points, lanes
// - 1 pairs of vectors, in the order the transform takes them. points: of a row.
template <class Lane>
const Lane* fft_tail_table(int64_t points, int64_t lanes);

} // namespace ssm::cpu
