// Products of square tiles in shared memory by a block of four warps, sums in registers: each warp has a quarter of the rows
// and all columns. 16-bit operands go through the tensor cores where there are some for their type (from sm_80 on), summed
// in float32; everything else through fused multiply-adds. Both add up the inner index in an order that the shape alone
// decides.
//
// A tile lies in rows of `pitch` elements, 16-byte aligned. An operand may lie either way: `inner` says that the inner index
// is the contiguous one. Rows, columns and inner indices beyond the given numbers are skipped as far as that is easy, in
// steps of tile_step; what the tile holds up to the next multiple of that must be numbers, zero where they are to add
// nothing.
#pragma once

#include "cuda/primitives/numbers.h"
#include "cuda/primitives/vector.h"
#include "cuda/primitives/warp.h"

namespace ssm {

constexpr int tile_threads = 4 * warp_size;
constexpr int tile_step = 16;

// T: the operands.
template <typename T>
constexpr int tile_size = sizeof(T) == 8 ? 32 : 64;
// Rows that are read at once begin in different banks.
template <typename T, int size = tile_size<T>>
constexpr int tile_pitch = size + 16 / static_cast<int>(sizeof(T));

enum class Contiguous { inner, outer };

// Sums by fused multiply-adds: half of a warp's lanes have half of its rows, a lane every 16th column.
template <typename T, int size>
struct FusedTileSums {
    using R = Compute<T>;
    static constexpr int warp_rows = size / 4;
    static constexpr int rows = warp_rows / 2;
    static constexpr int columns = size / 16;
    static constexpr int count = rows * columns;
    static constexpr int row_lanes = 16; // neighbouring lanes with the same rows

    R sums[count];

    // Which of the thread's rows a sum is of.
    SSM_INLINE static constexpr int row_of(int i) { return i / columns; }
    SSM_DEVICE static int row(int i) { return warp_id() * warp_rows + lane_id() / 16 * rows + row_of(i); }
    SSM_DEVICE static int column(int i) { return i % columns * 16 + lane_id() % 16; }

    // Sums += a b; a is rows x inner, b inner x columns.
    template <Contiguous a_order, Contiguous b_order>
    SSM_DEVICE void add(const T* a, int a_pitch, const T* b, int b_pitch, int some_rows, int some_columns, int inner) {
        if (warp_id() * warp_rows >= some_rows) {
            return;
        }
        constexpr int width = 16 / static_cast<int>(sizeof(R)); // inner indices at a time
        const int first_row = row(0);
        const int first_column = column(0);
#pragma unroll 1
        for (int k = 0; k < inner; k += width) {
            R left[rows][width];
            if constexpr (a_order == Contiguous::inner) {
#pragma unroll
                for (int r = 0; r < rows; ++r) {
                    const Vector<T, width> vector = load_vector<width>(a + (first_row + r) * a_pitch + k);
#pragma unroll
                    for (int w = 0; w < width; ++w) {
                        left[r][w] = widen(vector[w]);
                    }
                }
            } else {
                constexpr int together = rows < width ? rows : width;
#pragma unroll
                for (int w = 0; w < width; ++w) {
#pragma unroll
                    for (int r = 0; r < rows; r += together) {
                        const Vector<T, together> vector = load_vector<together>(a + (k + w) * a_pitch + first_row + r);
#pragma unroll
                        for (int i = 0; i < together; ++i) {
                            left[r + i][w] = widen(vector[i]);
                        }
                    }
                }
            }
#pragma unroll
            for (int c = 0; c < columns; ++c) {
                if (c * 16 < some_columns) {
                    R right[width];
                    if constexpr (b_order == Contiguous::inner) {
                        const Vector<T, width> vector = load_vector<width>(b + (first_column + c * 16) * b_pitch + k);
#pragma unroll
                        for (int w = 0; w < width; ++w) {
                            right[w] = widen(vector[w]);
                        }
                    } else {
#pragma unroll
                        for (int w = 0; w < width; ++w) {
                            right[w] = widen(b[(k + w) * b_pitch + first_column + c * 16]);
                        }
                    }
#pragma unroll
                    for (int w = 0; w < width; ++w) {
#pragma unroll
                        for (int r = 0; r < rows; ++r) {
                            sums[r * columns + c] = multiply_add(left[r][w], right[w], sums[r * columns + c]);
                        }
                    }
                }
            }
        }
    }
};

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800

namespace detail {

// d += a b of one warp, 16 x 16 by 16 x 8; row r of a and d is lane / 4 + 8 i, column and inner index lane % 4 * 2 + 8 i.
#if defined(__CUDA_ARCH__)
template <typename T>
SSM_DEVICE void multiply_fragments(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    if constexpr (std::is_same<T, Half>::value) {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    } else {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
}
// Four 8 x 8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8.
template <bool transposed>
SSM_DEVICE void load_matrices(uint32_t (&to)[4], const void* row) {
    const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
    if constexpr (transposed) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(address)
                     : "memory");
    } else {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(address)
                     : "memory");
    }
}
#endif

} // namespace detail

// Sums by the tensor cores.
template <typename T>
struct TensorTileSums {
    static constexpr int warp_rows = 16;
    static constexpr int count = 32;
    static constexpr int row_lanes = 4;

    float sums[count]; // of each 8 columns four

    SSM_INLINE static constexpr int row_of(int i) { return i % 4 / 2; }
    SSM_DEVICE static int row(int i) { return warp_id() * warp_rows + lane_id() / 4 + row_of(i) * 8; }
    SSM_DEVICE static int column(int i) { return i / 4 * 8 + lane_id() % 4 * 2 + i % 2; }

    template <Contiguous a_order, Contiguous b_order>
    SSM_DEVICE void add(const T* a, int a_pitch, const T* b, int b_pitch, int some_rows, int some_columns, int inner) {
        const int first_row = warp_id() * warp_rows;
        if (first_row >= some_rows) {
            return;
        }
#if defined(__CUDA_ARCH__)
        const int low = lane_id() % 8;
        const int odd = lane_id() / 8 % 2 * 8;
        const int high = lane_id() / 16 * 8;
#pragma unroll 1
        for (int k = 0; k < inner; k += 16) {
            uint32_t left[4];
            if constexpr (a_order == Contiguous::inner) {
                detail::load_matrices<false>(left, a + (first_row + low + odd) * a_pitch + k + high);
            } else {
                detail::load_matrices<true>(left, a + (k + low + high) * a_pitch + first_row + odd);
            }
#pragma unroll
            for (int c = 0; c < 64; c += 16) {
                if (c < some_columns) {
                    uint32_t right[4];
                    if constexpr (b_order == Contiguous::inner) {
                        detail::load_matrices<false>(right, b + (c + low + high) * b_pitch + k + odd);
                    } else {
                        detail::load_matrices<true>(right, b + (k + low + odd) * b_pitch + c + high);
                    }
                    float(&even)[4] = *reinterpret_cast<float(*)[4]>(sums + c / 2);
                    float(&next)[4] = *reinterpret_cast<float(*)[4]>(sums + c / 2 + 4);
                    detail::multiply_fragments<T>(even, left, right[0], right[1]);
                    detail::multiply_fragments<T>(next, left, right[2], right[3]);
                }
            }
        }
#else
        const int whole = (inner + 15) / 16 * 16;
        for (int i = 0; i < count; ++i) {
            const int r = row(i);
            const int c = column(i);
            if (c / 16 * 16 >= some_columns) {
                continue;
            }
            for (int k = 0; k < whole; ++k) {
                const float left = widen(a[a_order == Contiguous::inner ? r * a_pitch + k : k * a_pitch + r]);
                const float right = widen(b[b_order == Contiguous::inner ? c * b_pitch + k : k * b_pitch + c]);
                sums[i] = multiply_add(left, right, sums[i]);
            }
        }
#endif
    }
};

#endif

namespace detail {
template <typename T, int size>
struct TileSumsOf {
    using Type = FusedTileSums<T, size>;
};
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
template <>
struct TileSumsOf<Half, 64> {
    using Type = TensorTileSums<Half>;
};
template <>
struct TileSumsOf<BFloat16, 64> {
    using Type = TensorTileSums<BFloat16>;
};
#endif
} // namespace detail

// One block's sums of a tile: sums[i], of row(i) and column(i).
template <typename T, int size = tile_size<T>>
struct TileSums : detail::TileSumsOf<T, size>::Type {
    using Base = typename detail::TileSumsOf<T, size>::Type;
    SSM_DEVICE void clear() {
#pragma unroll
        for (int i = 0; i < Base::count; ++i) {
            this->sums[i] = 0;
        }
    }
    // f(sum, row, column) for each of the thread's.
    template <typename Function>
    SSM_DEVICE void each(const Function& f) {
#pragma unroll
        for (int i = 0; i < Base::count; ++i) {
            f(this->sums[i], Base::row(i), Base::column(i));
        }
    }
    // to[row] += the sum of f(sum, row, column) over the columns of each row; a row belongs to one warp.
    template <typename R, typename Function>
    SSM_DEVICE void add_rows(R* to, const Function& f) {
        constexpr int rows = Base::warp_rows * Base::row_lanes / warp_size; // of a thread
#pragma unroll
        for (int r = 0; r < rows; ++r) {
            R sum = 0;
            int own = 0;
#pragma unroll
            for (int i = 0; i < Base::count; ++i) {
                if (Base::row_of(i) == r) {
                    own = Base::row(i);
                    sum += f(this->sums[i], own, Base::column(i));
                }
            }
            for (int lanes = 1; lanes < Base::row_lanes; lanes *= 2) {
                sum += shuffle_xor(sum, lanes);
            }
            if (lane_id() % Base::row_lanes == 0) {
                to[own] += sum;
            }
        }
    }
};

} // namespace ssm
