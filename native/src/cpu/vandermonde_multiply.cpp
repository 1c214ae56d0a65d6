// y_l = sum_n v_n exp(x_n l) as a product of matrices: with l = T l1 + l0 the terms are p(l1, n) t(n, l0), p = v exp(x T l1)
// and t = exp(x l0), so that y is p t, real and imaginary parts side by side in the sum: 2 products and sums for a pole and
// step (4 where y is complex), no exponential. The tables are powers in double precision, begun anew from exact phases
// every few rows, rounded once. 4 bytes for a step and row.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/vandermonde_multiply.cpp"
#include "hwy/foreach_target.h"

#include "cpu/poles-inl.h"
#include "cpu/product-inl.h"
#include "cpu/thread_pool.h"

#include "core/mutate.h"
#include "core/params/vandermonde_multiply.h"

#include <algorithm>

#ifndef SSM_CPU_VANDERMONDE_MULTIPLY_PLAN_
#define SSM_CPU_VANDERMONDE_MULTIPLY_PLAN_
namespace ssm::cpu {
constexpr int64_t vandermonde_columns = 64; // T
constexpr int64_t vandermonde_rows = 64;    // l1 of a task
} // namespace ssm::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

// The tables for some poles at once.
template <class Lane>
struct PowerTables {
    static constexpr int64_t poles = 256 / sizeof(Lane);
    static constexpr int64_t rows = 32, anchor_rows = 16; // rows that are at hand at once
    alignas(64) Lane by_column[vandermonde_columns * 2 * poles];
    alignas(64) Lane columns[2 * poles * vandermonde_columns];
    alignas(64) Lane re[rows * 2 * poles], im[rows * 2 * poles]; // left factors of y's parts
    alignas(64) Lane y_re[rows * vandermonde_columns], y_im[rows * vandermonde_columns];
};

// columns[k][l0], k being the real parts of `count` poles, then their imaginary ones.
template <class Lane>
HWY_NOINLINE void fill_columns(const PolePlanes& planes, int64_t first, int64_t count, PowerTables<Lane>& tables) {
    const Tag<double> d;
    constexpr int64_t n = lanes_of<double>();
    for (int64_t i = 0; i < count; i += n) {
        const auto x_re = hn::LoadU(d, planes.x_re + first + i), x_im = hn::LoadU(d, planes.x_im + first + i);
        const Powers step = power_of(x_re, x_im, hn::Set(d, 1.0));
        Powers power = constant<Powers>(1);
        for (int64_t l = 0; l < vandermonde_columns; ++l) {
            store_as(tables.by_column + l * 2 * count + i, power.re);
            store_as(tables.by_column + l * 2 * count + count + i, power.im);
            power = multiply(power, step);
        }
    }
    transpose(tables.by_column, 2 * count, vandermonde_columns, 2 * count, tables.columns, vandermonde_columns);
}

// Left factors of `rows` rows from l1 = begin on.
template <class Lane>
HWY_NOINLINE void fill_rows(const PolePlanes& planes, int64_t first, int64_t count, int64_t begin, int64_t rows,
                            bool conjugate_pairs, PowerTables<Lane>& tables) {
    const Tag<double> d;
    constexpr int64_t n = lanes_of<double>();
    const double scale = conjugate_pairs ? SSM_MUTATE("vandermonde_multiply.cpu.single_pair", 2, 1) : 1;
    for (int64_t i = 0; i < count; i += n) {
        const auto at = [&](const double* plane) SSM_INLINE_LAMBDA { return hn::LoadU(d, plane + first + i); };
        const auto x_re = at(planes.x_re), x_im = at(planes.x_im), shift = at(planes.shift);
        const Powers v = {hn::Mul(at(planes.v_re), hn::Set(d, scale)), hn::Mul(at(planes.v_im), hn::Set(d, scale))};
        const Powers step = power_of(x_re, x_im, hn::Set(d, static_cast<double>(vandermonde_columns)));
        Powers power = v;
        for (int64_t r = 0; r < rows; ++r) {
            if (r % PowerTables<Lane>::anchor_rows == 0) {
                const double l = static_cast<double>((begin + r) * vandermonde_columns);
                const auto m = hn::Sub(hn::Set(d, SSM_MUTATE("vandermonde_multiply.cpu.lost_start", l, l * (r > 0))), shift);
                power = multiply(v, power_of(x_re, x_im, m));
            }
            Lane* const re = tables.re + r * 2 * count + i;
            store_as(re, power.re);
            store_as(re + count, hn::Neg(power.im));
            if (!conjugate_pairs) {
                Lane* const im = tables.im + r * 2 * count + i;
                store_as(im, power.im);
                store_as(im + count, power.re);
            }
            power = multiply(power, step);
        }
    }
}

// Rows [begin, end) of l1.
template <class S>
HWY_NOINLINE void multiply_rows(const VandermondeMultiplyParams& p, int64_t row, int64_t begin, int64_t end) {
    using Lane = typename Traits<S>::Lane;
    using Tables = PowerTables<Lane>;
    constexpr int64_t columns = vandermonde_columns, n = lanes_of<Lane>();
    const int64_t padded = padded_poles(p.states);
    const PolePlanes planes(p.workspace.data, row, padded);
    Tables tables;
    Lane* const real_y = static_cast<Lane*>(p.y) + row * p.length;
    S* const complex_y = static_cast<S*>(p.y) + row * p.length;
    for (int64_t first = 0; first < padded; first += Tables::poles) {
        const int64_t count = std::min(Tables::poles, padded - first);
        fill_columns(planes, first, count, tables);
        for (int64_t l1 = begin; l1 < end; l1 += Tables::rows) {
            const int64_t rows = std::min(Tables::rows, end - l1);
            fill_rows(planes, first, count, l1, rows, p.conjugate_pairs, tables);
            const int64_t steps = std::min(rows * columns, p.length - l1 * columns);
            const bool adds = SSM_MUTATE("vandermonde_multiply.cpu.lost_block", first > 0, false);
            const auto multiply_into = [&](const Lane* factor, Lane* y, int64_t from, int64_t to) HWY_ATTR {
                product<Lane>(to - from, columns, 2 * count, {factor + from * 2 * count, 2 * count, 1}, tables.columns,
                              columns, {y, columns, adds, nullptr, 0});
            };
            if (p.conjugate_pairs) {
                // Whole rows in their place, what is left of one through a row of its own.
                Lane* const y = real_y + l1 * columns;
                const int64_t whole = steps / columns, left = steps % columns;
                multiply_into(tables.re, y, 0, whole);
                if (left > 0) {
                    std::copy_n(y + whole * columns, adds ? left : 0, tables.y_re);
                    multiply_into(tables.re, tables.y_re, whole, whole + 1);
                    std::copy_n(tables.y_re, left, y + whole * columns);
                }
                continue;
            }
            S* const y = complex_y + l1 * columns;
            const Tag<Lane> d;
            for (int64_t i = 0; adds && i < steps; i += n) {
                const auto before = load_some(y + i, std::min(n, steps - i));
                hn::StoreU(before.re, d, tables.y_re + i);
                hn::StoreU(before.im, d, tables.y_im + i);
            }
            multiply_into(tables.re, tables.y_re, 0, rows);
            multiply_into(tables.im, tables.y_im, 0, rows);
            for (int64_t i = 0; i < steps; i += n) {
                const ComplexVector<Lane> now = {hn::LoadU(d, tables.y_re + i), hn::LoadU(d, tables.y_im + i)};
                const int64_t some = std::min(n, steps - i);
                some == n ? store(y + i, now) : store_some(y + i, now, some);
            }
        }
    }
}

void vandermonde_multiply_task(const VandermondeMultiplyParams& p, int64_t row, int64_t begin, int64_t end) {
    with_storage(p.type, [&](auto type) {
        using S = typename decltype(type)::type;
        if constexpr (Traits<S>::complex)
            multiply_rows<S>(p, row, begin, end);
    });
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(vandermonde_multiply_task);
} // namespace

int32_t vandermonde_multiply(BackendContext* context, const VandermondeMultiplyParams* params) {
    const VandermondeMultiplyParams& p = *params;
    if (static_cast<uint64_t>(PolePlanes::bytes(p.rows, p.states)) > p.workspace.bytes)
        return fail(error_workspace_too_small, "vandermonde_multiply: workspace too small");
    parallel_for(p.rows, context->threads, [&](int64_t row) { fill_poles(p, row); });
    const int64_t rows = (p.length + vandermonde_columns - 1) / vandermonde_columns;
    const int64_t parts = (rows + vandermonde_rows - 1) / vandermonde_rows;
    const auto run = HWY_DYNAMIC_DISPATCH(vandermonde_multiply_task);
    parallel_for(p.rows * parts, context->threads, [&](int64_t task) {
        const int64_t begin = task % parts * vandermonde_rows;
        run(p, task / parts, begin, std::min(rows, begin + vandermonde_rows));
    });
    return success;
}

int32_t vandermonde_multiply_workspace(BackendContext*, const VandermondeMultiplyParams* params, uint64_t* bytes) {
    *bytes = static_cast<uint64_t>(PolePlanes::bytes(params->rows, params->states));
    return success;
}

} // namespace ssm::cpu
#endif
