// The recurrence of diagonal plus low-rank systems. The discretised system is diagonal and low rank too
// (core/dplr_system.h): x' = a x - sum_r u_r (v_r . x) + b u_t. A task is a head of a sequence, its vectors hold states, and
// one pass over them makes a step: it also sums up y and what v_r . x is in the next step. Bytes: u and y; the rest is in
// the caches. Operations for a state and step: 8 + 6 R multiply-adds.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/dplr_ssm.cpp"
#include "hwy/foreach_target.h"

#include "cpu/simd-inl.h"

#include "core/mutate.h"
#include "core/params/dplr_ssm.h"
#include "cpu/dense.h" // state_width

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

// Rows of a head, each of the width: a, b, c, u_r, v_r, real parts and imaginary parts of each.
template <class Lane>
HWY_INLINE ComplexVector<Lane> load_row(const Lane* rows, int64_t width, int64_t row, int64_t i) {
    const Tag<Lane> d;
    return {hn::Load(d, rows + 2 * row * width + i), hn::Load(d, rows + (2 * row + 1) * width + i)};
}

template <class Lane, int Rank>
HWY_NOINLINE void run_sequence(const DplrSsmParams& p, const Lane* rows, Lane* scratch, int64_t head, int64_t row,
                               int64_t batch, int64_t begin, int64_t end) {
    using X = ComplexVector<Lane>;
    const Tag<Lane> d;
    constexpr int64_t n = lanes_of<Lane>();
    const int64_t states = p.system.states, width = state_width<Lane>(states);
    const int64_t at = 2 * (row * p.system.heads + head) * states;
    const bool pairs = p.system.conjugate_pairs;
    Lane *const re = scratch, *const im = scratch + width;
    std::fill_n(scratch, 2 * width, Lane{0});
    if (p.initial_state)
        for (int64_t i = 0; i < states; ++i) {
            re[i] = static_cast<const Lane*>(p.initial_state)[at + 2 * i];
            im[i] = static_cast<const Lane*>(p.initial_state)[at + 2 * i + 1];
        }
    const Lane skip = p.d ? static_cast<const Lane*>(p.d)[head] : Lane{0}, twice = pairs ? Lane{2} : Lane{1};
    const Lane* const u = static_cast<const Lane*>(p.u.data) + batch * p.u.batch_stride + head * p.u.channel_stride;
    Lane* const y = static_cast<Lane*>(p.y.data) + batch * p.y.batch_stride + head * p.y.channel_stride;
    X seen[Rank]; // v_r . x, in every lane
    const auto finish = [&](const X(&sums)[Rank]) SSM_INLINE_LAMBDA {
        unrolled<Rank>([&](auto r) SSM_INLINE_LAMBDA {
            seen[r].re = hn::Mul(hn::Set(d, twice), hn::SumOfLanes(d, sums[r].re));
            seen[r].im = pairs ? hn::Zero(d) : hn::SumOfLanes(d, sums[r].im);
        });
    };
    {
        X sums[Rank];
        unrolled<Rank>([&](auto r) SSM_INLINE_LAMBDA { sums[r] = constant<X>(0); });
        for (int64_t i = 0; i < width; i += n) {
            const X x{hn::Load(d, re + i), hn::Load(d, im + i)};
            unrolled<Rank>([&](auto r) SSM_INLINE_LAMBDA {
                sums[r] = multiply_add(load_row(rows, width, 3 + Rank + r, i), x, sums[r]);
            });
        }
        finish(sums);
    }
    for (int64_t t = begin; t < end; ++t) {
        const Lane value = u[t * p.u.time_stride];
        const auto input = hn::Set(d, value);
        auto output = hn::Zero(d);
        X sums[Rank];
        unrolled<Rank>([&](auto r) SSM_INLINE_LAMBDA { sums[r] = constant<X>(0); });
        for (int64_t i = 0; i < width; i += n) {
            const X b = load_row(rows, width, 1, i), c = load_row(rows, width, 2, i);
            X x{hn::Load(d, re + i), hn::Load(d, im + i)};
            x = multiply_add(load_row(rows, width, 0, i), x, X{hn::Mul(b.re, input), hn::Mul(b.im, input)});
            unrolled<Rank>([&](auto r) SSM_INLINE_LAMBDA {
                const X column = load_row(rows, width, 3 + r, i);
                x = multiply_add(X{hn::Neg(column.re), hn::Neg(column.im)}, seen[r], x);
            });
            hn::Store(x.re, d, re + i);
            hn::Store(x.im, d, im + i);
            output = hn::NegMulAdd(c.im, x.im, hn::MulAdd(c.re, x.re, output));
            unrolled<Rank>([&](auto r) SSM_INLINE_LAMBDA {
                sums[r] = multiply_add(load_row(rows, width, 3 + Rank + r, i), x, sums[r]);
            });
        }
        finish(sums);
        y[t * p.y.time_stride] = SSM_MUTATE("dplr_ssm.cpu.half", twice, Lane{1}) * hn::GetLane(hn::SumOfLanes(d, output)) +
                                 SSM_MUTATE("dplr_ssm.cpu.no_skip", skip, Lane{0}) * value;
    }
    if (p.last_state)
        for (int64_t i = 0; i < states; ++i) {
            static_cast<Lane*>(p.last_state)[at + 2 * i] = re[i];
            static_cast<Lane*>(p.last_state)[at + 2 * i + 1] = SSM_MUTATE("dplr_ssm.cpu.conjugate", im[i], -im[i]);
        }
}

template <class Lane>
void run_head(const DplrSsmParams& p, const void* rows, int64_t row_bytes, void* scratch, int64_t task) {
    const int64_t heads = p.system.heads, head = task % heads, row = task / heads;
    const bool is_packed = p.shape.cu_seqlens != nullptr;
    const int64_t batch = is_packed ? 0 : row, begin = is_packed ? p.shape.cu_seqlens[row] : 0;
    const int64_t end = is_packed ? p.shape.cu_seqlens[row + 1] : p.shape.length;
    const auto run = p.system.rank == 1   ? run_sequence<Lane, 1>
                     : p.system.rank == 2 ? run_sequence<Lane, 2>
                     : p.system.rank == 3 ? run_sequence<Lane, 3>
                                          : run_sequence<Lane, 4>;
    run(p, reinterpret_cast<const Lane*>(static_cast<const char*>(rows) + head * row_bytes), static_cast<Lane*>(scratch),
        head, row, batch, begin, end);
}

void run_dplr(const DplrSsmParams& p, const void* rows, int64_t row_bytes, void* scratch, int64_t task) {
    if (p.system.type == DataType::float64)
        run_head<double>(p, rows, row_bytes, scratch, task);
    else
        run_head<float>(p, rows, row_bytes, scratch, task);
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "core/dplr_system.h"
#include "cpu/context.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(run_dplr);

struct DplrSsmPlan {
    int64_t width, row_bytes, area_bytes, areas; // of a head's rows
    explicit DplrSsmPlan(const DplrSsmParams& p) {
        const int64_t states = p.system.states;
        const bool is_double = p.system.type == DataType::float64;
        width = is_double ? state_width<double>(states) : state_width<float>(states);
        row_bytes = 2 * (3 + 2 * p.system.rank) * width * size_of(p.system.type);
        TeamMemory count(nullptr);
        DplrDiscrete(count, states, static_cast<int>(p.system.rank));
        area_bytes = std::max(2 * width * size_of(p.system.type), count.bytes());
        areas = std::min<int64_t>(p.system.heads * std::max<int64_t>(1, p.shape.state_rows()), usable_threads());
    }
    int64_t rows_bytes(const DplrSsmParams& p) const { return p.system.heads * row_bytes; }
    Areas scratch(const DplrSsmParams& p, char* base) const { return Areas(base + rows_bytes(p), area_bytes, areas); }
};

template <class Lane>
void make_rows(const DplrSsmParams& p, int64_t head, int64_t width, void* area, Lane* rows) {
    const DplrHead own = dplr_head(p.system, head);
    const int rank = own.rank;
    const int64_t states = own.states;
    TeamMemory parts(area);
    const DplrDiscrete discrete(parts, states, rank);
    discretize_dplr(Alone(), own, discrete);
    const auto put = [&](int64_t row, const auto& value) {
        for (int64_t i = 0; i < width; ++i) {
            const ComplexDouble number = i < states ? value(i) : ComplexDouble{0, 0};
            rows[2 * row * width + i] = static_cast<Lane>(number.re);
            rows[(2 * row + 1) * width + i] = static_cast<Lane>(number.im);
        }
    };
    put(0, [&](int64_t i) { return discrete.a[i]; });
    put(1, [&](int64_t i) { return discrete.b[i]; });
    put(2, [&](int64_t i) { return load_complex(dplr_c(p.system, head), own.is_double, i); });
    for (int r = 0; r < rank; ++r) {
        put(3 + r, [&](int64_t i) { return discrete.u[r * states + i]; });
        put(3 + rank + r, [&](int64_t i) { return discrete.v[r * states + i]; });
    }
}
} // namespace

int32_t dplr_ssm(BackendContext* context, const DplrSsmParams* params) {
    const DplrSsmParams& p = *params;
    const DplrSsmPlan plan(p);
    char* const base = static_cast<char*>(p.workspace.data);
    const Areas areas = plan.scratch(p, base);
    if (static_cast<uint64_t>(plan.rows_bytes(p) + areas.size()) > p.workspace.bytes)
        return fail(error_workspace_too_small, "dplr_ssm: workspace too small");
    areas.clear();
    parallel_for(p.system.heads, context->threads, [&](int64_t head) {
        areas.use([&](void* area) {
            char* const rows = base + head * plan.row_bytes;
            if (p.system.type == DataType::float64)
                make_rows(p, head, plan.width, area, reinterpret_cast<double*>(rows));
            else
                make_rows(p, head, plan.width, area, reinterpret_cast<float*>(rows));
        });
    });
    const auto run = HWY_DYNAMIC_DISPATCH(run_dplr);
    parallel_for(p.system.heads * p.shape.state_rows(), context->threads,
                 [&](int64_t task) { areas.use([&](void* area) { run(p, base, plan.row_bytes, area, task); }); });
    return success;
}

int32_t dplr_ssm_workspace(BackendContext*, const DplrSsmParams* params, uint64_t* bytes) {
    const DplrSsmPlan plan(*params);
    *bytes = static_cast<uint64_t>(plan.rows_bytes(*params) + plan.scratch(*params, nullptr).size());
    return success;
}

} // namespace ssm::cpu
#endif
