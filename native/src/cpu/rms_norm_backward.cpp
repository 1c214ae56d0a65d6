// Gradients of rms_norm and gated_rms_norm. A group of a row is read twice, as in the forward call: first for mean(g n), and
// where rstd is not given for the sum of squares, then for the gradients. The sums of grad_weight and grad_bias over the
// rows: a task is a block of rows whose number depends on the shape alone, it adds up its own in the workspace, and the
// blocks are added in their order.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/rms_norm_backward.cpp"
#include "hwy/foreach_target.h"

#include "cpu/rms_norm-inl.h"
#include "cpu/silu-inl.h"
#include "cpu/thread_pool.h"

#include "core/mutate.h"

#include <algorithm>
#include <cmath>

#ifndef SSM_CPU_RMS_NORM_BACKWARD_PLAN_
#define SSM_CPU_RMS_NORM_BACKWARD_PLAN_
namespace ssm::cpu {
// Each block of rows has `sums` rows of row_size numbers in the workspace: of grad_weight and of grad_bias, where wanted.
struct NormBackwardPlan {
    int64_t blocks;
    int64_t block_rows;
    int64_t sums;
    int64_t row_size;
    int64_t count() const { return blocks * sums * row_size; }
};
} // namespace ssm::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

enum class NormKind { plain, gate_first, gate_last };

// Of one group of a row; what is absent is null. T: storage of grad_y, z and their kin. X: of x and the residuals.
template <class T, class X>
struct NormGradients {
    using Lane = typename Traits<T>::Lane;
    const X* x;
    const T *z, *grad_y;
    const X* grad_residual_out;
    T* grad_x;
    X* grad_residual;
    T* grad_z;
    const Lane *weight, *bias;
    Lane *weight_sums, *bias_sums; // are added to
    int64_t width;
    Lane eps;
};

template <class T, class X, NormKind kind>
HWY_NOINLINE void differentiate(const NormGradients<T, X>& group, const typename Traits<T>::Lane* given_rstd) {
    using Lane = typename Traits<T>::Lane;
    const Tag<Lane> d;
    // What the norm was taken of, and the gradient of n weight + bias.
    struct Terms {
        Vec<Lane> x, grad_y, h, g;
        Silu<Lane> gate;
    };
    const auto terms_at = [&](int64_t i, auto part) SSM_INLINE_LAMBDA {
        Terms t;
        t.h = t.x = load_part<Lane>(group.x + i, part);
        t.g = t.grad_y = load_part<Lane>(group.grad_y + i, part);
        if constexpr (kind != NormKind::plain)
            t.gate = silu_and_slope<Lane>(load_part<Lane>(group.z + i, part));
        if constexpr (kind == NormKind::gate_first)
            t.h = hn::Mul(t.x, t.gate.value);
        if constexpr (kind == NormKind::gate_last)
            t.g = hn::Mul(t.grad_y, t.gate.value);
        return t;
    };
    Lane sums[2];
    sum_parts<Lane, 2>(group.width, sums, [&](int64_t i, auto part, auto& sum) SSM_INLINE_LAMBDA {
        const Terms t = terms_at(i, part);
        sum[0] = hn::MulAdd(t.h, t.h, sum[0]);
        sum[1] = hn::MulAdd(hn::Mul(t.g, load_or(group.weight, i, part, Lane{1})), t.h, sum[1]);
    });
    const Lane count = static_cast<Lane>(group.width);
    const Lane rstd = given_rstd ? *given_rstd : Lane{1} / std::sqrt(sums[0] / count + group.eps);
    const auto scale = hn::Set(d, rstd);
    const auto mean = hn::Set(d, SSM_MUTATE("rms_norm_backward.cpu.no_mean", rstd * sums[1] / count, Lane{0}));
    for_each_part<Lane>(group.width, [&](int64_t i, auto part) SSM_INLINE_LAMBDA {
        const Terms t = terms_at(i, part);
        const auto weight = load_or(group.weight, i, part, Lane{1});
        const auto n = hn::Mul(t.h, scale);
        const auto grad_h = hn::Mul(scale, hn::NegMulAdd(n, mean, hn::Mul(t.g, weight)));
        if constexpr (kind == NormKind::plain) {
            const auto gradient =
                group.grad_residual_out ? hn::Add(grad_h, load_part<Lane>(group.grad_residual_out + i, part)) : grad_h;
            if (group.grad_residual)
                store_part<Lane>(group.grad_residual + i, gradient, part);
            if (group.grad_x)
                store_part<Lane>(group.grad_x + i, gradient, part);
        } else {
            if (group.grad_z) {
                const auto before = kind == NormKind::gate_first
                                        ? hn::Mul(grad_h, t.x)
                                        : hn::Mul(t.grad_y, hn::MulAdd(n, weight, load_or(group.bias, i, part, Lane{0})));
                store_part<Lane>(
                    group.grad_z + i,
                    hn::Mul(before, SSM_MUTATE("rms_norm_backward.cpu.wrong_slope", t.gate.slope, t.gate.value)), part);
            }
            if (group.grad_x)
                store_part<Lane>(group.grad_x + i, kind == NormKind::gate_first ? hn::Mul(grad_h, t.gate.value) : grad_h,
                                 part);
        }
        if (group.weight_sums)
            store_part<Lane>(group.weight_sums + i, hn::MulAdd(t.g, n, load_part<Lane>(group.weight_sums + i, part)), part);
        if (group.bias_sums)
            store_part<Lane>(group.bias_sums + i, hn::Add(t.g, load_part<Lane>(group.bias_sums + i, part)), part);
    });
}

template <class T, class X>
void run_block(const RmsNormBackwardParams& p, const NormBackwardPlan& plan, int64_t block) {
    using Lane = typename Traits<T>::Lane;
    const RowShape& shape = p.shape;
    const auto function = [&] {
        if constexpr (std::is_same_v<T, X>) {
            if (p.z.data)
                return p.norm_before_gate ? differentiate<T, X, NormKind::gate_last>
                                          : differentiate<T, X, NormKind::gate_first>;
        }
        return differentiate<T, X, NormKind::plain>;
    }();
    Lane* const sums = static_cast<Lane*>(p.workspace.data) + block * plan.sums * plan.row_size;
    if (plan.sums > 0)
        std::fill_n(sums, plan.sums * plan.row_size, Lane{0});
    const int64_t first = block * plan.block_rows, last = std::min(shape.rows(), first + plan.block_rows);
    for (int64_t row = first; row < last; ++row) {
        NormGradients<T, X> group = {row_of<const X>(p.x, shape, row),
                                     row_of<const T>(p.z, shape, row),
                                     row_of<const T>(p.grad_y, shape, row),
                                     row_of<const X>(p.grad_residual_out, shape, row),
                                     row_of<T>(p.grad_x, shape, row),
                                     row_of<X>(p.grad_residual, shape, row),
                                     row_of<T>(p.grad_z, shape, row),
                                     static_cast<const Lane*>(p.weight),
                                     static_cast<const Lane*>(p.bias),
                                     p.grad_weight ? sums : nullptr,
                                     p.grad_bias ? sums + (plan.sums - 1) * plan.row_size : nullptr,
                                     shape.group,
                                     static_cast<Lane>(p.eps)};
        const Lane* rstd = p.rstd ? static_cast<const Lane*>(p.rstd) + row * shape.groups() : nullptr;
        const auto advance = [&](auto*& pointer, int64_t by) {
            if (pointer)
                pointer += by;
        };
        for (int64_t i = 0; i < shape.groups(); ++i) {
            function(group, rstd);
            advance(group.x, shape.group);
            advance(group.z, shape.group);
            advance(group.grad_y, shape.group);
            advance(group.grad_residual_out, shape.group);
            advance(group.grad_x, shape.group);
            advance(group.grad_residual, shape.group);
            advance(group.grad_z, shape.group);
            advance(group.weight, shape.group);
            advance(group.bias, shape.group);
            advance(group.weight_sums, shape.group);
            advance(group.bias_sums, shape.group);
            advance(rstd, 1);
        }
    }
}

void rms_norm_backward_block(const RmsNormBackwardParams& p, const NormBackwardPlan& plan, int64_t block) {
    with_storage(p.type, [&](auto type) {
        using T = typename decltype(type)::type;
        if constexpr (!Traits<T>::complex) {
            if (p.x_type == p.type)
                run_block<T, T>(p, plan, block);
            else
                run_block<T, typename Traits<T>::State>(p, plan, block);
        }
    });
}

// The columns [first, last) of one of the sums over all blocks.
template <class Lane>
void add_blocks(const NormBackwardPlan& plan, const Lane* sums, int64_t first, int64_t last, Lane* to) {
    for_each_part<Lane>(last - first, [&](int64_t i, auto part) SSM_INLINE_LAMBDA {
        const Lane* p = sums + first + i;
        auto total = load_part<Lane>(p, part);
        const int64_t blocks = SSM_MUTATE("rms_norm_backward.cpu.dropped_block", plan.blocks, 1);
        for (int64_t block = 1; block < blocks; ++block)
            total = hn::Add(total, load_part<Lane>(p + block * plan.sums * plan.row_size, part));
        store_part<Lane>(to + first + i, total, part);
    });
}
template <class Lane>
void add_sums(const RmsNormBackwardParams& p, const NormBackwardPlan& plan, int64_t first, int64_t last) {
    const Lane* sums = static_cast<const Lane*>(p.workspace.data);
    if (p.grad_weight)
        add_blocks(plan, sums, first, last, static_cast<Lane*>(p.grad_weight));
    if (p.grad_bias)
        add_blocks(plan, sums + (plan.sums - 1) * plan.row_size, first, last, static_cast<Lane*>(p.grad_bias));
}
void rms_norm_backward_sums(const RmsNormBackwardParams& p, const NormBackwardPlan& plan, int64_t first, int64_t last) {
    if (state_type(p.type) == DataType::float64)
        add_sums<double>(p, plan, first, last);
    else
        add_sums<float>(p, plan, first, last);
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(rms_norm_backward_block);
HWY_EXPORT(rms_norm_backward_sums);

// block_rows_option: rows of a block as a test wants them.
NormBackwardPlan make_plan(const BackendContext* context, const RmsNormBackwardParams& p) {
    constexpr int64_t block_elements = 32768, most_blocks = 64, most_lanes = 16;
    const int64_t rows = p.shape.rows();
    NormBackwardPlan plan = {};
    plan.sums = (p.grad_weight != nullptr) + (p.grad_bias != nullptr);
    plan.row_size = (p.shape.width + most_lanes - 1) / most_lanes * most_lanes;
    plan.block_rows = std::max<int64_t>(1, block_elements / p.shape.width);
    if (plan.sums > 0)
        plan.block_rows = std::max(plan.block_rows, (rows + most_blocks - 1) / most_blocks);
    if (const int64_t tile = context->options.get("rms_norm_backward.tile"))
        plan.block_rows = tile;
    plan.blocks = (rows + plan.block_rows - 1) / plan.block_rows;
    return plan;
}
} // namespace

int32_t rms_norm_backward(BackendContext* context, const RmsNormBackwardParams* params) {
    const RmsNormBackwardParams& p = *params;
    const NormBackwardPlan plan = make_plan(context, p);
    if (static_cast<uint64_t>(plan.count() * size_of(state_type(p.type))) > p.workspace.bytes)
        return fail(error_workspace_too_small, "rms_norm_backward: workspace too small");
    const auto run = HWY_DYNAMIC_DISPATCH(rms_norm_backward_block);
    parallel_for(plan.blocks, context->threads, [&](int64_t block) { run(p, plan, block); });
    if (plan.sums == 0)
        return success;
    constexpr int64_t columns = 1024;
    const auto add = HWY_DYNAMIC_DISPATCH(rms_norm_backward_sums);
    parallel_for((p.shape.width + columns - 1) / columns, context->threads,
                 [&](int64_t task) { add(p, plan, task * columns, std::min(p.shape.width, (task + 1) * columns)); });
    return success;
}

int32_t rms_norm_backward_workspace(BackendContext* context, const RmsNormBackwardParams* params, uint64_t* bytes) {
    *bytes = static_cast<uint64_t>(make_plan(context, *params).count() * size_of(state_type(params->type)));
    return success;
}

} // namespace ssm::cpu
#endif
