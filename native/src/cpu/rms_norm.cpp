// rms_norm and gated_rms_norm. A row, or a group of it, is read twice: for the sum of squares, and for the result, when it
// comes from the first-level cache. What memory sees is one read of each input and one write of each output; with a gate
// the two exponentials of an element fit beside that. Rows are independent: the cut into tasks changes no bit.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/rms_norm.cpp"
#include "hwy/foreach_target.h"

#include "cpu/rms_norm-inl.h"
#include "cpu/thread_pool.h"

#include "core/mutate.h"

#include <algorithm>
#include <cmath>

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

enum class NormKind { plain, residual, gate_first, gate_last };

// Of one group of a row; what is absent is null.
template <class T, class X>
struct NormGroup {
    using Lane = typename Traits<T>::Lane;
    const T *x, *z;
    const X* residual;
    const Lane *weight, *bias;
    T* y;
    X* residual_out;
    int64_t width;
    Lane eps;
    bool stream;
};

// T: storage of x, z and y. X: storage of the residuals. Answers rstd.
template <class T, class X, NormKind kind>
HWY_NOINLINE typename Traits<T>::Lane normalize(const NormGroup<T, X>& group) {
    using Lane = typename Traits<T>::Lane;
    const Tag<Lane> d;
    const auto input = [&](int64_t i, auto part) SSM_INLINE_LAMBDA {
        auto h = load_part<Lane>(group.x + i, part);
        if constexpr (kind == NormKind::residual)
            h = hn::Add(h, load_part<Lane>(group.residual + i, part));
        if constexpr (kind == NormKind::gate_first)
            h = hn::Mul(h, silu<Lane>(load_part<Lane>(group.z + i, part)));
        return h;
    };
    Lane sums[1];
    sum_parts<Lane, 1>(group.width, sums, [&](int64_t i, auto part, auto& sum) SSM_INLINE_LAMBDA {
        const auto h = input(i, part);
        sum[0] = hn::MulAdd(h, h, sum[0]);
    });
    const Lane mean = sums[0] / static_cast<Lane>(SSM_MUTATE("rms_norm.cpu.wrong_mean", group.width, group.width + 1));
    const Lane rstd = Lane{1} / std::sqrt(mean + group.eps);
    const auto scale = hn::Set(d, rstd);
    const bool stream_y =
        group.stream && can_stream(group.y, 0) && static_cast<const void*>(group.y) != static_cast<const void*>(group.x);
    for_each_part<Lane>(group.width, [&](int64_t i, auto part) SSM_INLINE_LAMBDA {
        const auto h = input(i, part);
        auto y = hn::Mul(h, scale);
        if (group.weight)
            y = hn::Mul(y, load_part<Lane>(group.weight + i, part));
        if (group.bias)
            y = hn::Add(y, load_part<Lane>(group.bias + i, part));
        if constexpr (kind == NormKind::gate_last)
            y = hn::Mul(
                y, SSM_MUTATE("rms_norm.cpu.no_gate", silu<Lane>(load_part<Lane>(group.z + i, part)), hn::Set(d, Lane{1})));
        if constexpr (kind == NormKind::plain || kind == NormKind::residual)
            if (group.residual_out)
                store_part<Lane>(group.residual_out + i, SSM_MUTATE("rms_norm.cpu.wrong_residual", h, y), part);
        if constexpr (std::is_same_v<decltype(part), WholePart<Lane>>)
            store_or_stream(group.y + i, VectorOf<T>{y}, stream_y);
        else
            store_part<Lane>(group.y + i, y, part);
    });
    return rstd;
}

template <class T, class X>
void run_rows(const RmsNormParams& p, bool stream, int64_t first, int64_t last) {
    using Lane = typename Traits<T>::Lane;
    const RowShape& shape = p.shape;
    const auto function = [&] {
        if constexpr (std::is_same_v<T, X>) {
            if (p.z.data)
                return p.norm_before_gate ? normalize<T, X, NormKind::gate_last> : normalize<T, X, NormKind::gate_first>;
        }
        return p.residual_in.data ? normalize<T, X, NormKind::residual> : normalize<T, X, NormKind::plain>;
    }();
    for (int64_t row = first; row < last; ++row) {
        NormGroup<T, X> group = {row_of<const T>(p.x, shape, row),
                                 row_of<const T>(p.z, shape, row),
                                 row_of<const X>(p.residual_in, shape, row),
                                 static_cast<const Lane*>(p.weight),
                                 static_cast<const Lane*>(p.bias),
                                 row_of<T>(p.y, shape, row),
                                 row_of<X>(p.residual_out, shape, row),
                                 shape.group,
                                 static_cast<Lane>(p.eps),
                                 stream};
        const auto advance = [&](auto*& pointer) {
            if (pointer)
                pointer += shape.group;
        };
        for (int64_t i = 0; i < shape.groups(); ++i) {
            const Lane rstd = function(group);
            if (p.rstd)
                static_cast<Lane*>(p.rstd)[row * shape.groups() + i] = rstd;
            advance(group.x);
            advance(group.z);
            advance(group.residual);
            advance(group.weight);
            advance(group.bias);
            advance(group.y);
            advance(group.residual_out);
        }
    }
}

void rms_norm_rows(const RmsNormParams& p, bool stream, int64_t first, int64_t last) {
    with_storage(p.type, [&](auto type) {
        using T = typename decltype(type)::type;
        if constexpr (!Traits<T>::complex) {
            if (p.residual == p.type)
                run_rows<T, T>(p, stream, first, last);
            else
                run_rows<T, typename Traits<T>::State>(p, stream, first, last);
        }
    });
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(rms_norm_rows);
} // namespace

int32_t rms_norm(BackendContext* context, const RmsNormParams* params) {
    constexpr int64_t task_elements = 32768;
    const RmsNormParams& p = *params;
    const int64_t rows = p.shape.rows(), tensors = 2 + (p.z.data || p.residual_in.data) + (p.residual_out.data != nullptr);
    const bool stream =
        rows * p.shape.width * tensors * size_of(p.type) > std::max<int64_t>(last_level_cache(), int64_t{1} << 20);
    const int64_t task_rows = std::max<int64_t>(1, task_elements / p.shape.width);
    const auto run = HWY_DYNAMIC_DISPATCH(rms_norm_rows);
    parallel_for((rows + task_rows - 1) / task_rows, context->threads,
                 [&](int64_t task) { run(p, stream, task * task_rows, std::min(rows, (task + 1) * task_rows)); });
    return success;
}

int32_t rms_norm_workspace(BackendContext*, const RmsNormParams*, uint64_t* bytes) {
    *bytes = 0;
    return success;
}

} // namespace ssm::cpu
#endif
