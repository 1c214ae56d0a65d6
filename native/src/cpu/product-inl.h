// Products of matrices that lie in the caches, some rows and two vectors of columns at a time in registers. Every element is
// one chain of fused sums in the order of the inner index, however rows and columns are cut.
#if defined(SSM_CPU_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SSM_CPU_PRODUCT_INL_H_
#undef SSM_CPU_PRODUCT_INL_H_
#else
#define SSM_CPU_PRODUCT_INL_H_
#endif

#include "cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

// The left factor; element (i, k) at data[i * row + k * column].
template <class Lane>
struct Factor {
    const Lane* data;
    int64_t row, column;
};

// Which elements of a square left factor count: all, those with k <= i, those with k >= i. The others are not read: what is
// infinite or no number there does not come in as 0 times it.
enum class Triangle { none, lower, upper };

#undef SSM_PRODUCT_ROWS
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
#define SSM_PRODUCT_ROWS 8 // of 32 registers, 16 hold sums
#else
#define SSM_PRODUCT_ROWS 6
#endif

// What becomes of the product.
template <class Lane>
struct Target {
    Lane* data;
    int64_t row;
    bool adds;         // to what is there, each row times its scale where scale is not null
    const Lane* scale; // of row i at scale[i * scale_step]
    int64_t scale_step;
};

template <class Lane, int Rows, int Vectors, Triangle triangle>
HWY_INLINE void product_block(int64_t i, int64_t depth, Factor<Lane> a, const Lane* b, int64_t b_row, Target<Lane> to) {
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    Vec<Lane> sum[Rows * Vectors];
    Lane* const c = to.data + i * to.row;
    unrolled<Rows>([&](auto r) SSM_INLINE_LAMBDA {
        unrolled<Vectors>([&](auto v) SSM_INLINE_LAMBDA {
            auto& own = sum[r * Vectors + v];
            own = to.adds ? hn::LoadU(d, c + r * to.row + v * n) : hn::Zero(d);
            if (to.adds && to.scale)
                own = hn::Mul(own, hn::Set(d, to.scale[(i + r) * to.scale_step]));
        });
    });
    const Lane* const rows = a.data + i * a.row;
    const auto add_all = [&](int64_t begin, int64_t end) SSM_INLINE_LAMBDA {
        for (int64_t k = begin; k < end; ++k) {
            Vec<Lane> bv[Vectors];
            unrolled<Vectors>([&](auto v) SSM_INLINE_LAMBDA { bv[v] = hn::LoadU(d, b + k * b_row + v * n); });
            const Lane* const ak = rows + k * a.column;
            unrolled<Rows>([&](auto r) SSM_INLINE_LAMBDA {
                const auto av = hn::Set(d, ak[r * a.row]);
                unrolled<Vectors>(
                    [&](auto v) SSM_INLINE_LAMBDA { sum[r * Vectors + v] = hn::MulAdd(av, bv[v], sum[r * Vectors + v]); });
            });
        }
    };
    if constexpr (triangle == Triangle::none) {
        add_all(0, depth);
    } else {
        if (triangle == Triangle::lower)
            add_all(0, i);
        unrolled<Rows>([&](auto k) SSM_INLINE_LAMBDA {
            unrolled<Rows>([&](auto r) SSM_INLINE_LAMBDA {
                if constexpr (triangle == Triangle::lower ? k <= r : k >= r) {
                    const auto av = hn::Set(d, rows[r * a.row + (i + k) * a.column]);
                    unrolled<Vectors>([&](auto v) SSM_INLINE_LAMBDA {
                        sum[r * Vectors + v] =
                            hn::MulAdd(av, hn::LoadU(d, b + (i + k) * b_row + v * n), sum[r * Vectors + v]);
                    });
                }
            });
        });
        if (triangle == Triangle::upper)
            add_all(i + Rows, depth);
    }
    unrolled<Rows>([&](auto r) SSM_INLINE_LAMBDA {
        unrolled<Vectors>([&](auto v) SSM_INLINE_LAMBDA { hn::StoreU(sum[r * Vectors + v], d, c + r * to.row + v * n); });
    });
}

template <class Lane, int Vectors, Triangle triangle>
HWY_NOINLINE void product_columns(int64_t rows, int64_t depth, Factor<Lane> a, const Lane* b, int64_t b_row,
                                  Target<Lane> to) {
    int64_t i = 0;
    for (; i + SSM_PRODUCT_ROWS <= rows; i += SSM_PRODUCT_ROWS)
        product_block<Lane, SSM_PRODUCT_ROWS, Vectors, triangle>(i, depth, a, b, b_row, to);
    for (; i + 4 <= rows; i += 4)
        product_block<Lane, 4, Vectors, triangle>(i, depth, a, b, b_row, to);
    for (; i < rows; ++i)
        product_block<Lane, 1, Vectors, triangle>(i, depth, a, b, b_row, to);
}

// rows x columns, of which whole vectors are computed: rows of b and of the target have room for them.
template <class Lane, Triangle triangle = Triangle::none>
HWY_INLINE void product(int64_t rows, int64_t columns, int64_t depth, Factor<Lane> a, const Lane* b, int64_t b_row,
                        Target<Lane> to) {
    constexpr int64_t n = lanes_of<Lane>();
    int64_t k = 0;
    const auto at = [&](int64_t column) {
        Target<Lane> part = to;
        part.data += column;
        return part;
    };
    for (; k + n < columns; k += 2 * n)
        product_columns<Lane, 2, triangle>(rows, depth, a, b + k, b_row, at(k));
    for (; k < columns; k += n)
        product_columns<Lane, 1, triangle>(rows, depth, a, b + k, b_row, at(k));
}

// to[j * to_row + i] = from[i * from_row + j]; S is Lane or a storage type of it on the side of `from`.
template <class Lane>
HWY_NOINLINE void transpose(const Lane* from, int64_t from_row, int64_t rows, int64_t columns, Lane* to, int64_t to_row) {
    constexpr int64_t n = lanes_of<Lane>();
    int64_t i = 0;
    for (; i + n <= rows; i += n) {
        int64_t j = 0;
        for (; j + n <= columns; j += n)
            transpose_square(from + i * from_row + j, from_row, to + j * to_row + i, to_row);
        for (; j < columns; ++j)
            for (int64_t k = i; k < i + n; ++k)
                to[j * to_row + k] = from[k * from_row + j];
    }
    for (; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j)
            to[j * to_row + i] = from[i * from_row + j];
}

// Rows of a storage type as rows of lanes, whole vectors: what is behind the last column is zero.
template <class S>
HWY_NOINLINE void widen_rows(const S* from, int64_t from_row, int64_t rows, int64_t columns, typename Traits<S>::Lane* to,
                             int64_t to_row) {
    constexpr int64_t n = lanes<S>();
    const Tag<typename Traits<S>::Lane> d;
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t k = 0; k < columns; k += n) {
            const S* p = from + i * from_row + k;
            hn::StoreU((k + n <= columns ? load(p) : load_some(p, columns - k)).re, d, to + i * to_row + k);
        }
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
