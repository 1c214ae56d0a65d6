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
        runs = plan.runs.row(p.workspace.data, batch);
        if (p.seq_idx)
            clear_gaps(runs, p.shape.layout, at(p.y, batch, first, 0), p.y, last - first, begin,
                       SSM_MUTATE("causal_conv1d.cpu.padding_left", end, end - 1));
        if (p.shape.layout == Layout::time_contiguous) {
            for (int64_t channel = first; channel < last; ++channel) {
                line_up_at(channel, last, all_weights, all_biases);
                run_steps(batch, channel, begin, end);
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
                    run_steps(batch, channel, t, std::min(end, t + few_steps));
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

    S* at(const Sequence& s, int64_t batch, int64_t channel, int64_t t) const {
        return static_cast<S*>(s.data) + batch * s.batch_stride + channel * s.channel_stride + t * s.time_stride;
    }
    // The state of the first of the lanes' channels.
    const Lane* initial_state_of(int64_t row, int64_t channel) const {
        return p.initial_state ? static_cast<const Lane*>(p.initial_state) + (row * p.shape.channels + channel) * history
                               : nullptr;
    }
    void leave_state_of(int64_t row, int64_t channel, int64_t length) {
        if (p.last_state)
            leave_state(length, static_cast<Lane*>(p.last_state) + (row * p.shape.channels + channel) * history);
    }

    // Steps [begin, end) of the lanes' channels.
    void run_steps(int64_t batch, int64_t channel, int64_t begin, int64_t end) {
        if (p.seq_idx)
            return run_runs(batch, channel, begin, end);
        for_each_piece(p.shape, batch, begin, end, [&](const Piece& piece) {
            const SequencePart part = part_of(p.shape, piece);
            x = at(p.x, batch, channel, part.start);
            y = at(p.y, batch, channel, part.start);
            state = initial_state_of(piece.row, channel);
            run_part(part);
            if (piece.ends)
                leave_state_of(piece.row, channel, part.length);
        });
    }

    // Each run is a sequence of its own, whose state is what comes before it in its sequence.
    void run_runs(int64_t batch, int64_t channel, int64_t begin, int64_t end) {
        if (runs.count == 0 && begin == 0) { // nothing but padding
            state = initial_state_of(batch, channel);
            leave_state_of(batch, channel, 0);
        }
        runs.for_each(begin, end, [&](const RunPart& own) {
            const SequenceRun& run = runs[own.run];
            const int64_t from = own.time - run.begin, to = from + own.count;
            const bool is_last = own.run + 1 == runs.count && own.time + own.count == run.end;
            x = at(p.x, batch, channel, run.begin);
            y = at(p.y, batch, channel, run.begin);
            if (from < history || (is_last && run.count() < history))
                find_state(batch, channel, own.run);
            run_part({run.begin, run.count(), from, to});
            if (is_last)
                leave_state_of(batch, channel, run.count());
        });
    }

    // The W - 1 steps before a run: the initial state, zeros, or, where padding lies before it, steps of earlier runs.
    void find_state(int64_t batch, int64_t channel, int64_t index) {
        const bool is_first = SSM_MUTATE("causal_conv1d.cpu.state_of_another", runs[index].first, int64_t{0}) == 0;
        state = is_first ? initial_state_of(batch, channel) : nullptr;
        if (SSM_MUTATE("causal_conv1d.cpu.taps_stop_at_padding", runs[index].offset, int64_t{0}) == 0)
            return;
        int64_t left = history;
        for (int64_t i = index - 1; i >= runs[index].first && left > 0; --i) {
            const int64_t some = std::min(left, runs[i].count());
            left -= some;
            gather(lineup, static_cast<const S*>(at(p.x, batch, channel, runs[i].end - some)), p.x.time_stride,
                   static_cast<const Lane*>(nullptr), int64_t{0}, int64_t{0}, some, in);
            for (int64_t l = 0; l < lineup.channels; ++l)
                for (int64_t k = 0; k < some; ++k)
                    joined[l * history + left + k] = in[k * lineup.step + l];
        }
        for (int64_t l = 0; l < lineup.channels; ++l)
            for (int64_t k = 0; k < left; ++k)
                joined[l * history + k] = state ? state[l * history + history - left + k] : Lane{0};
        state = joined;
    }

    // With x, y and state as they are at the sequence's first step.
    void run_part(const SequencePart& part) {
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
    SequenceRuns runs;
    const S* x = nullptr; // the first step of the sequence at hand
    S* y = nullptr;
    const Lane* state = nullptr;
    const Lane *weights = nullptr, *bias = nullptr; // of the lanes
    alignas(64) Lane all_weights[CausalConv1dPlan::most_weights], all_biases[CausalConv1dPlan::most_neighbours];
    alignas(64) Lane in[(block_vectors + most_history + 1 + apart_vectors) * n], out[block_vectors * n];
    alignas(64) Lane joined[most_history * n]; // the state of a run behind padding
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
    CausalConv1dPlan plan = plan_causal_conv1d(p.shape, p.width, size_of(p.type), context->options.get("causal_conv1d.tile"),
                                               task_elements, last_level_cache());
    plan.runs = SequenceRunTable(p.shape, p.seq_idx);
    if (static_cast<uint64_t>(plan.runs.bytes()) > p.workspace.bytes)
        return fail(error_workspace_too_small, "causal_conv1d: workspace too small");
    plan.runs.find_runs(p.workspace.data, context->threads);
    const auto run = HWY_DYNAMIC_DISPATCH(causal_conv1d_task);
    parallel_for(plan.tasks(p.shape.batch), context->threads, [&](int64_t task) { run(p, plan, task); });
    return success;
}

int32_t causal_conv1d_workspace(BackendContext*, const CausalConv1dParams* params, uint64_t* bytes) {
    *bytes = static_cast<uint64_t>(SequenceRunTable(params->shape, params->seq_idx).bytes());
    return success;
}

} // namespace ssm::cpu
#endif
