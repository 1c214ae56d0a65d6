// A transform for convolution: of N complex points, in whatever order it leaves them, and back. Real signals of n = 2 N
// numbers are multiplied as polynomials modulo X^n + 1. Modulo X^N - i that is a polynomial with the complex coefficients
// x_p + i x_{p+N}; evaluated at the N roots it is multiplied point by point. So one row is one complex transform of half its
// length, and a product needs no partner point.
//
// Forward every level splits blocks in four (fft_tables.h), with the constants of the block, not of the point: they are
// broadcast, and no table is as long as the data. Where a block is a vector, as many as a vector has lanes are transposed,
// so that the last levels run across vectors, and transposed back on the way home. Transforms that do not fit the
// second-level cache are N1 rows: the first levels run over columns, a few vectors wide, of which all rows are at hand; then
// a row is a transform with another root, which becomes the common one by a twist, so that one table serves all rows.
#if defined(SSM_CPU_FFT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SSM_CPU_FFT_INL_H_
#undef SSM_CPU_FFT_INL_H_
#else
#define SSM_CPU_FFT_INL_H_
#endif

#include "cpu/fft.h"
#include "cpu/fft_tables.h"
#include "cpu/simd-inl.h"
#include "cpu/thread_pool.h"

#include <algorithm>
#include <cmath>

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

// Points in split form, a vector of each part.
template <class Lane>
using Point = ComplexVector<Lane>;

template <class Lane>
HWY_INLINE Point<Lane> load_point(const Lane* re, const Lane* im) {
    const Tag<Lane> d;
    return {hn::LoadU(d, re), hn::LoadU(d, im)};
}
template <class Lane>
HWY_INLINE void store_point(Point<Lane> x, Lane* re, Lane* im) {
    const Tag<Lane> d;
    hn::StoreU(x.re, d, re);
    hn::StoreU(x.im, d, im);
}
template <class Lane>
HWY_INLINE Point<Lane> broadcast_point(const Lane* w) {
    const Tag<Lane> d;
    return {hn::Set(d, w[0]), hn::Set(d, w[1])};
}
template <class Lane>
HWY_INLINE Point<Lane> subtract(Point<Lane> x, Point<Lane> y) {
    return {hn::Sub(x.re, y.re), hn::Sub(x.im, y.im)};
}
// x conj(w)
template <class Lane>
HWY_INLINE Point<Lane> multiply_conjugate(Point<Lane> x, Point<Lane> w) {
    return {hn::MulAdd(x.im, w.im, hn::Mul(x.re, w.re)), hn::NegMulAdd(x.re, w.im, hn::Mul(x.im, w.re))};
}
// x + i y, x - i y
template <class Lane>
HWY_INLINE Point<Lane> add_turned(Point<Lane> x, Point<Lane> y) {
    return {hn::Sub(x.re, y.im), hn::Add(x.im, y.re)};
}
template <class Lane>
HWY_INLINE Point<Lane> subtract_turned(Point<Lane> x, Point<Lane> y) {
    return {hn::Add(x.re, y.im), hn::Sub(x.im, y.re)};
}

// A block splits in four: coefficients a + b Y + c Y^2 + d Y^3 at Y = w, -w, i w, -i w.
template <class Lane>
HWY_INLINE void split_in_four(Point<Lane>& a, Point<Lane>& b, Point<Lane>& c, Point<Lane>& d, Point<Lane> w1, Point<Lane> w2,
                              Point<Lane> w3) {
    b = multiply(b, w1);
    c = multiply(c, w2);
    d = multiply(d, w3);
    const Point<Lane> p0 = add(a, c), p1 = subtract(a, c), q0 = add(b, d), q1 = subtract(b, d);
    a = add(p0, q0);
    b = subtract(p0, q0);
    c = add_turned(p1, q1);
    d = subtract_turned(p1, q1);
}
// And back, four times as large.
template <class Lane>
HWY_INLINE void join_four(Point<Lane>& a, Point<Lane>& b, Point<Lane>& c, Point<Lane>& d, Point<Lane> w1, Point<Lane> w2,
                          Point<Lane> w3) {
    const Point<Lane> p0 = add(a, b), q0 = subtract(a, b), p1 = add(c, d), r = subtract(c, d);
    a = add(p0, p1);
    c = multiply_conjugate(subtract(p0, p1), w2);
    b = multiply_conjugate(subtract_turned(q0, r), w1);
    d = multiply_conjugate(add_turned(q0, r), w3);
}

// One block of `size` points; w: six numbers of the block.
template <bool forward, class Lane>
HWY_INLINE void pass_four(Lane* re, Lane* im, int64_t size, const Lane* w) {
    constexpr int64_t n = lanes_of<Lane>();
    const Point<Lane> w1 = broadcast_point(w), w2 = broadcast_point(w + 2), w3 = broadcast_point(w + 4);
    const int64_t q = size / 4;
    for (int64_t k = 0; k < q; k += n) {
        Lane *const r = re + k, *const i = im + k;
        Point<Lane> a = load_point(r, i), b = load_point(r + q, i + q), c = load_point(r + 2 * q, i + 2 * q),
                    d = load_point(r + 3 * q, i + 3 * q);
        if constexpr (forward)
            split_in_four(a, b, c, d, w1, w2, w3);
        else
            join_four(a, b, c, d, w1, w2, w3);
        store_point(a, r, i);
        store_point(b, r + q, i + q);
        store_point(c, r + 2 * q, i + 2 * q);
        store_point(d, r + 3 * q, i + 3 * q);
    }
}
template <bool forward, class Lane>
HWY_INLINE void pass_two(Lane* re, Lane* im, int64_t size, const Lane* w) {
    constexpr int64_t n = lanes_of<Lane>();
    const Point<Lane> w2 = broadcast_point(w + 2);
    const int64_t q = size / 2;
    for (int64_t k = 0; k < q; k += n) {
        Lane *const r = re + k, *const i = im + k;
        Point<Lane> a = load_point(r, i), b = load_point(r + q, i + q);
        if constexpr (forward) {
            b = multiply(b, w2);
            store_point(add(a, b), r, i);
            store_point(subtract(a, b), r + q, i + q);
        } else {
            store_point(add(a, b), r, i);
            store_point(multiply_conjugate(subtract(a, b), w2), r + q, i + q);
        }
    }
}

// All levels of a block down to blocks of `stop` points, or up from them. Large blocks are finished quarter by quarter, so
// that their lower levels run in the first-level cache.
template <bool forward, class Lane>
void run_passes(Lane* re, Lane* im, int64_t size, int64_t stop, int64_t block) {
    constexpr int64_t near = 16384 / sizeof(Lane); // points of which both parts stay close
    if (size <= stop)
        return;
    const Lane* const table = fft_block_table<Lane>();
    const bool by_two = log2_of(size / stop) % 2 == 1;
    const int64_t parts = by_two ? 2 : 4, part = size / parts;
    const auto own = [&]() HWY_ATTR {
        if (by_two)
            pass_two<forward>(re, im, size, table + 6 * block);
        else
            pass_four<forward>(re, im, size, table + 6 * block);
    };
    if (forward)
        own();
    if (part > near) {
        for (int64_t i = 0; i < parts; ++i)
            run_passes<forward>(re + i * part, im + i * part, part, stop, parts * block + i);
    } else if (forward) {
        for (int64_t m = part, blocks = parts; m > stop; m /= 4, blocks *= 4)
            for (int64_t i = 0; i < blocks; ++i)
                pass_four<true>(re + i * m, im + i * m, m, table + 6 * (block * blocks + i));
    } else {
        int64_t blocks = size / (4 * stop);
        for (int64_t m = 4 * stop; m <= part; m *= 4, blocks /= 4)
            for (int64_t i = 0; i < blocks; ++i)
                pass_four<false>(re + i * m, im + i * m, m, table + 6 * (block * blocks + i));
    }
    if (!forward)
        own();
}

// As many blocks of a vector as it has lanes, transposed: vector j holds point j of each.
template <class Lane>
struct Chunk {
    static constexpr int64_t n = lanes_of<Lane>();
    static constexpr int64_t points = n * n;
    static constexpr int64_t table = 2 * n * (n - 1); // numbers of the tail table
    alignas(64) Lane re[points], im[points];

    HWY_INLINE void enter(const Lane* from_re, const Lane* from_im, const Lane* w) {
        transpose_square(from_re, n, re, n);
        transpose_square(from_im, n, im, n);
        int64_t size = n, blocks = 1;
        if (is_odd) {
            pass<2>(0, size, [&](Point<Lane>* x) HWY_ATTR { two<true>(x, w); });
            w += 2 * n;
            size /= 2;
            blocks *= 2;
        }
        for (; size > 1; size /= 4, blocks *= 4)
            for (int64_t block = 0; block < blocks; ++block, w += 6 * n)
                pass<4>(block * size, size, [&](Point<Lane>* x) HWY_ATTR { four<true>(x, w); });
    }
    HWY_INLINE void leave(Lane* to_re, Lane* to_im, const Lane* w) {
        w += table;
        for (int64_t size = 4, blocks = n / 4; blocks >= 1; size *= 4, blocks /= 4)
            for (int64_t block = blocks - 1; block >= 0; --block) {
                w -= 6 * n;
                pass<4>(block * size, size, [&](Point<Lane>* x) HWY_ATTR { four<false>(x, w); });
            }
        if (is_odd) {
            w -= 2 * n;
            pass<2>(0, n, [&](Point<Lane>* x) HWY_ATTR { two<false>(x, w); });
        }
        transpose_square(re, n, to_re, n);
        transpose_square(im, n, to_im, n);
    }

  private:
    static constexpr bool is_odd = n == 2 || n == 8 || n == 32;

    template <bool forward>
    static HWY_INLINE void two(Point<Lane>* x, const Lane* w) {
        const Point<Lane> w2 = load_point(w, w + n);
        const Point<Lane> a = x[0], b = x[1];
        if constexpr (forward) {
            const Point<Lane> turned = multiply(b, w2);
            x[0] = add(a, turned);
            x[1] = subtract(a, turned);
        } else {
            x[0] = add(a, b);
            x[1] = multiply_conjugate(subtract(a, b), w2);
        }
    }
    template <bool forward>
    static HWY_INLINE void four(Point<Lane>* x, const Lane* w) {
        const Point<Lane> w1 = load_point(w, w + n), w2 = load_point(w + 2 * n, w + 3 * n),
                          w3 = load_point(w + 4 * n, w + 5 * n);
        if constexpr (forward)
            split_in_four(x[0], x[1], x[2], x[3], w1, w2, w3);
        else
            join_four(x[0], x[1], x[2], x[3], w1, w2, w3);
    }
    // f of the points of a block that lie size / parts vectors apart.
    template <int parts, class F>
    HWY_INLINE void pass(int64_t first, int64_t size, const F& f) {
        const int64_t q = size / parts;
        for (int64_t j = first; j < first + q; ++j) {
            Point<Lane> x[parts];
            for (int k = 0; k < parts; ++k)
                x[k] = load_point(re + (j + k * q) * n, im + (j + k * q) * n);
            f(x);
            for (int k = 0; k < parts; ++k)
                store_point(x[k], re + (j + k * q) * n, im + (j + k * q) * n);
        }
    }
};

// Points of a row times exp(+-2 pi i turns p): its root becomes that of block 1, or comes back. The factors are products of
// two, of which one counts points and the other runs of points.
template <class Lane>
class Twist {
  public:
    Twist(int64_t points, double turns) : runs(points / fine) {
        if (runs == 0)
            return;
        fill(turns, fine, low_re, low_im, 1);
        fill(turns * fine, runs, high, high + 1, 2);
    }
    template <bool forward>
    void apply(Lane* re, Lane* im) const {
        constexpr int64_t n = lanes_of<Lane>();
        for (int64_t i = 0; i < runs; ++i) {
            const Point<Lane> h = broadcast_point(high + 2 * i);
            for (int64_t p = 0; p < fine; p += n) {
                Lane *const r = re + i * fine + p, *const m = im + i * fine + p;
                const Point<Lane> w = multiply(h, load_point(low_re + p, low_im + p)), x = load_point(r, m);
                store_point(forward ? multiply(x, w) : multiply_conjugate(x, w), r, m);
            }
        }
    }

  private:
    static constexpr int64_t fine = 64, most_runs = fft_row_points / fine;
    static_assert(fine % lanes_of<Lane>() == 0);

    // exp(2 pi i turns k) for k below count. In double a product's error stays far below float's; double has no such room.
    static void fill(double turns, int64_t count, Lane* re, Lane* im, int64_t step) {
        constexpr double turn = 6.283185307179586476925286766559;
        const double part = turns - std::floor(turns);
        const double once_re = std::cos(turn * part), once_im = std::sin(turn * part);
        double now_re = 1, now_im = 0;
        for (int64_t k = 0; k < count; ++k) {
            if (sizeof(Lane) == 8 && k > 0) {
                const double whole = part * static_cast<double>(k), rest = whole - std::floor(whole);
                now_re = std::cos(turn * rest);
                now_im = std::sin(turn * rest);
            }
            re[k * step] = static_cast<Lane>(now_re);
            im[k * step] = static_cast<Lane>(now_im);
            const double next = now_re * once_re - now_im * once_im;
            now_im = now_re * once_im + now_im * once_re;
            now_re = next;
        }
    }

    const int64_t runs;
    alignas(64) Lane low_re[fine], low_im[fine], high[2 * most_runs];
};

// A transform forward, a visit of the points, and the way back.
//     fill(p, count, to)      real numbers [p, p + count) of the signal, p below 2 N
//     visit(base, re, im)     Chunk::points points from base on, to be changed in place or kept
//     store(p, count, from)   real numbers of the result, N times as large
// Without a forward part visit gives the points. re, im: N each. tiles: of fft.tile_numbers() for each worker.
template <bool has_forward, bool has_inverse, class Lane, class Fill, class Visit, class Store>
void run_fft(const FftShape& fft, Lane* re, Lane* im, Lane* tiles, int threads, const Fill& fill, const Visit& visit,
             const Store& store) {
    constexpr int64_t n = lanes_of<Lane>();
    const int64_t points = fft.points, rows = fft.rows, length = points / rows;
    const auto for_each_tile = [&](const auto& f) {
        if (rows == 1)
            return;
        const int64_t width = fft.tile_columns();
        for_each_task(length / width, fft.workers(threads), threads, [&](int64_t worker, int64_t tile) {
            Lane* const own = tiles + worker * fft.tile_numbers();
            f(own, own + rows * width, tile * width, width);
        });
    };
    if constexpr (has_forward) {
        if (rows == 1) {
            fill(int64_t{0}, points, re);
            fill(points, points, im);
        }
        for_each_tile([&](Lane* tile_re, Lane* tile_im, int64_t column, int64_t width) {
            for (int64_t row = 0; row < rows; ++row) {
                fill(row * length + column, width, tile_re + row * width);
                fill(points + row * length + column, width, tile_im + row * width);
            }
            run_passes<true>(tile_re, tile_im, rows * width, width, 1);
            for (int64_t row = 0; row < rows; ++row) {
                std::copy_n(tile_re + row * width, width, re + row * length + column);
                std::copy_n(tile_im + row * width, width, im + row * length + column);
            }
        });
    }
    const Lane* const table = fft_tail_table<Lane>(length, n);
    const auto run_row = [&](int64_t row) HWY_ATTR {
        Lane *const row_re = re + row * length, *const row_im = im + row * length;
        // One row is block 1 already and needs no twist.
        const Twist<Lane> twist(rows > 1 ? length : 0, (fft_block_angle(rows + row) - 0.25) / static_cast<double>(length));
        if constexpr (has_forward) {
            if (rows > 1)
                twist.template apply<true>(row_re, row_im);
            run_passes<true>(row_re, row_im, length, n, 1);
        }
        Chunk<Lane> chunk;
        for (int64_t base = 0; base < length; base += chunk.points) {
            const Lane* const w = table + base / chunk.points * chunk.table;
            if constexpr (has_forward)
                chunk.enter(row_re + base, row_im + base, w);
            visit(row * length + base, chunk.re, chunk.im);
            if constexpr (has_inverse)
                chunk.leave(row_re + base, row_im + base, w);
        }
        if constexpr (has_inverse) {
            run_passes<false>(row_re, row_im, length, n, 1);
            if (rows > 1)
                twist.template apply<false>(row_re, row_im);
        }
    };
    if (rows == 1)
        run_row(0);
    else
        parallel_for(rows, threads, [&](int64_t row) { run_row(row); });
    if constexpr (has_inverse) {
        for_each_tile([&](Lane* tile_re, Lane* tile_im, int64_t column, int64_t width) {
            for (int64_t row = 0; row < rows; ++row) {
                std::copy_n(re + row * length + column, width, tile_re + row * width);
                std::copy_n(im + row * length + column, width, tile_im + row * width);
            }
            run_passes<false>(tile_re, tile_im, rows * width, width, 1);
            for (int64_t row = 0; row < rows; ++row) {
                store(row * length + column, width, tile_re + row * width);
                store(points + row * length + column, width, tile_im + row * width);
            }
        });
        if (rows == 1) {
            store(int64_t{0}, points, re);
            store(points, points, im);
        }
    }
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
