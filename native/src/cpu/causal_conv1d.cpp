// The short causal convolution of each channel: a fused product and sum per weight, and silu. With a handful of weights
// memory is the limit: float32 and float64 go from x to y without a copy between, except where the state or an end is in a
// vector.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/causal_conv1d.cpp"
#include "hwy/foreach_target.h"

#include "cpu/causal_conv1d-inl.h"

#include "core/mutate.h"
#include "core/params/causal_conv1d.h"

#include "hwy/cache_control.h"

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

template <class S>
class CausalConv1d {
  public:
    using Lane = typename Traits<S>::Lane;
    static constexpr int64_t n = lanes_of<Lane>();

    CausalConv1d(const CausalConv1dParams& p, const CausalConv1dPlan& plan) : p(p), plan(plan), history(p.width - 1) {}

    void run(int64_t task) {
        const int64_t batch = task / (plan.tiles * plan.blocks), tile = task / plan.blocks % plan.tiles;
        const int64_t first = task % plan.blocks * plan.channel_block;
        const int64_t last = std::min(p.shape.channels, first + plan.channel_block);
        const int64_t begin = tile * plan.tile, end = std::min(p.shape.length, begin + plan.tile);
        if (p.shape.layout == Layout::time_contiguous) {
            for (int64_t channel = first; channel < last; ++channel) {
                line_up_at(channel, last, all_weights, all_biases);
                for_each_piece(p.shape, batch, begin, end, [&](const Piece& piece) { run_piece(batch, channel, piece); });
            }
        } else {
            // A few steps of all the task's channels at a time: runs of neighbours in memory. Where x goes to y without a
            // buffer they are very few, because steps lie whole pages apart, and the processor holds a load back while a
            // store to the same place in another page is on its way.
            const int64_t few_steps = std::is_same_v<S, Lane> && p.width <= 16 ? 4 : 32;
            for (int64_t t = begin; t < end; t += few_steps)
                for (int64_t channel = first; channel < last; channel += n) {
                    const int64_t place = channel - first;
                    line_up_at(channel, last, all_weights + place * p.width, all_biases + place, t == begin);
                    for_each_piece(p.shape, batch, t, std::min(end, t + few_steps),
                                   [&](const Piece& piece) { run_piece(batch, channel, piece); });
                }
        }
        if (plan.stream)
            hwy::FlushStream();
    }

  private:
    // The channels from this one on that a vector holds, with their weights and biases.
    void line_up_at(int64_t channel, int64_t last, Lane* weights_of, Lane* bias_of, bool is_new = true) {
        lineup = line_up<Lane>(p.shape.layout, last - channel);
        weights = weights_of;
        bias = bias_of;
        if (!is_new)
            return;
        spread(lineup, static_cast<const Lane*>(p.weight) + channel * p.width, p.width, weights_of);
        spread(lineup, p.bias ? static_cast<const Lane*>(p.bias) + channel : nullptr, 1, bias_of);
    }

    void run_piece(int64_t batch, int64_t channel, const Piece& piece) {
        const SequencePart part = part_of(p.shape, piece);
        const int64_t state_at = (piece.row * p.shape.channels + channel) * history;
        x = static_cast<const S*>(p.x.data) + batch * p.x.batch_stride + channel * p.x.channel_stride +
            part.start * p.x.time_stride;
        y = static_cast<S*>(p.y.data) + batch * p.y.batch_stride + channel * p.y.channel_stride +
            part.start * p.y.time_stride;
        state = p.initial_state ? static_cast<const Lane*>(p.initial_state) + state_at : nullptr;
        int64_t t = part.from;
        if constexpr (std::is_same_v<S, Lane>) {
            if (lineup.by_time || lineup.channels == n) {
                const int64_t with_state = std::min(part.to, SSM_MUTATE("causal_conv1d.cpu.lost_state", history, 0));
                if (t < with_state) {
                    buffered(t, with_state);
                    t = with_state;
                }
                const int64_t vectors = (part.to - t) / (lineup.by_time ? n : 1);
                const int64_t in_step = lineup.by_time ? n : p.x.time_stride,
                              out_step = lineup.by_time ? n : p.y.time_stride;
                Lane* const out = y + t * p.y.time_stride;
                convolve<Lane>(p.width, x + (t - history) * p.x.time_stride, in_step, p.x.time_stride, weights, bias,
                               vectors, p.silu, out, out_step, plan.stream && can_stream(out, out_step));
                t += vectors * (lineup.by_time ? n : 1);
            }
        }
        buffered(t, SSM_MUTATE("causal_conv1d.cpu.off_by_one_tail", part.to, part.to - (part.to - part.from > 2)));
        if (piece.ends && p.last_state)
            leave_state(part.length, static_cast<Lane*>(p.last_state) + state_at);
    }

    // Steps [t, to), from buffer to buffer.
    void buffered(int64_t t, int64_t to) {
        for (; t < to; t += lineup.block_steps) {
            const int64_t steps = std::min(lineup.block_steps, to - t), vectors = lineup.vectors(steps);
            const int64_t filled = (steps + history) * lineup.step;
            std::fill_n(in + filled, n, Lane{0});
            gather(lineup, x, p.x.time_stride, state, history, t - history, steps + history, in);
            convolve<Lane>(p.width, in, n, lineup.step, weights, bias, vectors, p.silu, out, n, false);
            scatter(lineup, out, steps, y + t * p.y.time_stride, p.y.time_stride);
        }
    }

    // The last W - 1 steps; where the sequence is shorter, the state's own last ones come first.
    void leave_state(int64_t length, Lane* to) {
        gather(lineup, x, p.x.time_stride, SSM_MUTATE("causal_conv1d.cpu.short_state", state, nullptr), history,
               length - history, history, in);
        for (int64_t l = 0; l < lineup.channels; ++l)
            for (int64_t k = 0; k < history; ++k)
                to[l * history + k] = in[k * lineup.step + l];
    }

    const CausalConv1dParams& p;
    const CausalConv1dPlan& plan;
    const int64_t history; // W - 1
    Lineup lineup = {};
    const S* x = nullptr; // the first step of the sequence at hand
    S* y = nullptr;
    const Lane* state = nullptr;
    const Lane *weights = nullptr, *bias = nullptr; // of the lanes
    alignas(64) Lane all_weights[CausalConv1dPlan::most_weights], all_biases[CausalConv1dPlan::most_neighbours];
    alignas(64) Lane in[(block_vectors + most_history + 1 + apart_vectors) * n], out[block_vectors * n];
};

void causal_conv1d_task(const CausalConv1dParams& p, const CausalConv1dPlan& plan, int64_t task) {
    with_storage(p.type, [&](auto type) {
        using S = typename decltype(type)::type;
        if constexpr (!Traits<S>::complex)
            CausalConv1d<S>(p, plan).run(task);
    });
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(causal_conv1d_task);
} // namespace

int32_t causal_conv1d(BackendContext* context, const CausalConv1dParams* params) {
    const CausalConv1dParams& p = *params;
    constexpr int64_t task_elements = 32768;
    const CausalConv1dPlan plan = plan_causal_conv1d(
        p.shape, p.width, size_of(p.type), context->options.get("causal_conv1d.tile"), task_elements, last_level_cache());
    const auto run = HWY_DYNAMIC_DISPATCH(causal_conv1d_task);
    parallel_for(plan.tasks(p.shape.batch), context->threads, [&](int64_t task) { run(p, plan, task); });
    return success;
}

int32_t causal_conv1d_workspace(BackendContext*, const CausalConv1dParams*, uint64_t* bytes) {
    *bytes = 0;
    return success;
}

} // namespace ssm::cpu
#endif
