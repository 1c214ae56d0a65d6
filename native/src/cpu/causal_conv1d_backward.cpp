// Gradients of the short causal convolution. A task takes some channels over a tile of time; it computes the sum before the
// activation again, W - 1 steps further than the tile, because grad_x looks ahead. Its sums for grad_weight and grad_bias go
// into the workspace, a row for every tile, and are added up tile after tile in the end: the order depends on the shape
// alone.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/causal_conv1d_backward.cpp"
#include "hwy/foreach_target.h"

#include "cpu/causal_conv1d-inl.h"
#include "cpu/silu-inl.h"

#include "core/mutate.h"
#include "core/params/causal_conv1d_backward.h"

#ifndef SSM_CPU_CAUSAL_CONV1D_BACKWARD_PLAN_
#define SSM_CPU_CAUSAL_CONV1D_BACKWARD_PLAN_
namespace ssm::cpu {
// The sums of channel c of a row begin at number (row row_channels + c) (W + 1). Where time is contiguous they are the
// gradients of its weights and then of its bias; where channels are, those of a vector's channels lie side by side.
struct ParameterSums {
    int64_t row_channels; // a multiple of any vector's lanes
    int64_t rows;
    bool wanted;

    int64_t count(int64_t width) const { return wanted ? rows * row_channels * (width + 1) : 0; }
    // The memory behind them.
    void* behind(void* base, int64_t width, int64_t size) const {
        return static_cast<char*>(base) + (count(width) * size + 63) / 64 * 64;
    }
};
} // namespace ssm::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

// sums[j] += the sum over vectors i of g_i in_{i + j}, for j below width, and sums[width] += the sum of the g_i. The last
// vector has `left` lanes that count, if left is not 0: beyond them lie steps of no concern, perhaps not numbers.
template <class Lane>
HWY_NOINLINE void correlate(const Lane* g, const Lane* in, int64_t shift, int64_t width, int64_t vectors, int64_t left,
                            Lane* sums) {
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    const int64_t whole = left ? vectors - 1 : vectors;
    const auto mask = hn::FirstN(d, static_cast<size_t>(left));
    int64_t j = 0;
    const auto run = [&](auto at_once) SSM_INLINE_LAMBDA {
        constexpr int many = decltype(at_once)::value;
        for (; j + many <= width; j += many) {
            Vec<Lane> sum[many];
            unrolled<many>([&](auto k) SSM_INLINE_LAMBDA { sum[k] = hn::Load(d, sums + (j + k) * n); });
            for (int64_t i = 0; i < whole; ++i) {
                const auto gi = hn::LoadU(d, g + i * n);
                unrolled<many>([&](auto k) SSM_INLINE_LAMBDA {
                    sum[k] = hn::MulAdd(gi, hn::LoadU(d, in + i * n + (j + k) * shift), sum[k]);
                });
            }
            if (left) {
                const auto gi = hn::IfThenElseZero(mask, hn::LoadU(d, g + whole * n));
                unrolled<many>([&](auto k) SSM_INLINE_LAMBDA {
                    const auto x = hn::IfThenElseZero(mask, hn::LoadU(d, in + whole * n + (j + k) * shift));
                    sum[k] = hn::MulAdd(gi, x, sum[k]);
                });
            }
            unrolled<many>([&](auto k) SSM_INLINE_LAMBDA { hn::Store(sum[k], d, sums + (j + k) * n); });
        }
    };
    run(std::integral_constant<int, 4>());
    run(std::integral_constant<int, 1>());
    auto sum = hn::Load(d, sums + width * n);
    for (int64_t i = 0; i < whole; ++i)
        sum = hn::Add(sum, hn::LoadU(d, g + i * n));
    if (left)
        sum = hn::Add(sum, hn::IfThenElseZero(mask, hn::LoadU(d, g + whole * n)));
    hn::Store(sum, d, sums + width * n);
}

template <class S>
class CausalConv1dBackward {
  public:
    using Lane = typename Traits<S>::Lane;
    static constexpr int64_t n = lanes_of<Lane>();

    CausalConv1dBackward(const CausalConv1dBackwardParams& p, const CausalConv1dPlan& plan, const ParameterSums& parameters)
        : p(p), plan(plan), parameters(parameters), history(p.width - 1) {}

    void run(int64_t task) {
        const int64_t row = task / plan.blocks, batch = row / plan.tiles, tile = row % plan.tiles;
        const int64_t first = task % plan.blocks * plan.channel_block;
        const int64_t last = std::min(p.shape.channels, first + plan.channel_block);
        const int64_t begin = tile * plan.tile, end = std::min(p.shape.length, begin + plan.tile);
        std::fill_n(no_bias, n, Lane{0});
        runs = plan.runs.row(parameters.behind(p.workspace.data, p.width, sizeof(Lane)), batch);
        if (p.seq_idx && p.grad_x.data)
            clear_gaps(runs, p.shape.layout, first_of<S>(p.grad_x, batch, first, 0), p.grad_x, last - first, begin,
                       SSM_MUTATE("causal_conv1d_backward.cpu.padding_left", end, end - 1));
        if (p.shape.layout == Layout::time_contiguous) {
            for (int64_t channel = first; channel < last; ++channel) {
                line_up_at(channel, last, 0, true);
                run_steps(batch, channel, begin, end);
                leave_sums(row, channel);
            }
            return;
        }
        // Some steps of all the task's channels at a time: runs of neighbours in memory.
        constexpr int64_t some_steps = 32;
        for (int64_t t = begin; t < end; t += some_steps)
            for (int64_t channel = first; channel < last; channel += n) {
                line_up_at(channel, last, channel - first, t == begin);
                run_steps(batch, channel, t, std::min(end, t + some_steps));
            }
        for (int64_t channel = first; channel < last; channel += n) {
            line_up_at(channel, last, channel - first, false);
            leave_sums(row, channel);
        }
    }

  private:
    // The channels from this one on that a vector holds, the task's `place`th and following, with their weights and sums.
    void line_up_at(int64_t channel, int64_t last, int64_t place, bool is_new) {
        lineup = line_up<Lane>(p.shape.layout, last - channel);
        weights = all_weights + place * p.width;
        turned = all_turned + place * p.width;
        bias = all_biases + place;
        sums = all_sums + place * (p.width + 1);
        if (!is_new)
            return;
        spread(lineup, static_cast<const Lane*>(p.weight) + channel * p.width, p.width, weights);
        spread(lineup, p.bias ? static_cast<const Lane*>(p.bias) + channel : nullptr, 1, bias);
        for (int64_t j = 0; j < p.width; ++j)
            std::copy_n(weights + j * n, n, turned + (history - j) * n);
        std::fill_n(sums, (p.width + 1) * n, Lane{0});
    }

    template <class T>
    T* first_of(const Sequence& s, int64_t batch, int64_t channel, int64_t start) const {
        return static_cast<T*>(s.data) + batch * s.batch_stride + channel * s.channel_stride + start * s.time_stride;
    }

    // Steps [begin, end) of the lanes' channels.
    void run_steps(int64_t batch, int64_t channel, int64_t begin, int64_t end) {
        if (p.seq_idx)
            return run_runs(batch, channel, begin, end);
        for_each_piece(p.shape, batch, begin, end, [&](const Piece& piece) {
            const SequencePart part = part_of(p.shape, piece);
            take(batch, channel, part.start, piece.row);
            run_part(part);
        });
    }

    // Sequences by their steps without padding, which a sequence's runs hold one after the other.
    void run_runs(int64_t batch, int64_t channel, int64_t begin, int64_t end) {
        if (runs.count == 0 && begin == 0) { // nothing but padding
            take(batch, channel, 0, batch);
            run_part({0, 0, 0, 0});
        }
        for (int64_t i = runs.find(begin); i < runs.count && runs[i].begin < end;) {
            const SequenceRun& own = runs[i];
            int64_t last = i;
            while (last + 1 < runs.count && runs[last + 1].first == own.first && runs[last + 1].begin < end)
                ++last;
            take(batch, channel, 0, batch);
            if (own.first > 0)
                state = nullptr, grad_initial_state = nullptr;
            if (own.first != runs[runs.count - 1].first)
                grad_last_state = SSM_MUTATE("causal_conv1d_backward.cpu.state_of_another", nullptr, grad_last_state);
            first_run = own.first;
            run_part({0, own.length, own.offset + std::max(begin - own.begin, int64_t{0}),
                      runs[last].offset + std::min(end, runs[last].end) - runs[last].begin});
            i = last + 1;
        }
    }

    // A sequence that begins at step `start`, with the states of a row.
    void take(int64_t batch, int64_t channel, int64_t start, int64_t row) {
        const int64_t state_at = (row * p.shape.channels + channel) * history;
        const auto state_of = [&](const void* states) {
            return states ? static_cast<const Lane*>(states) + state_at : nullptr;
        };
        x = first_of<const S>(p.x, batch, channel, start);
        grad_y = first_of<const S>(p.grad_y, batch, channel, start);
        grad_x = p.grad_x.data ? first_of<S>(p.grad_x, batch, channel, start) : nullptr;
        state = state_of(p.initial_state);
        grad_last_state = SSM_MUTATE("causal_conv1d_backward.cpu.lost_state_gradient", state_of(p.grad_last_state), nullptr);
        grad_initial_state = p.grad_initial_state ? static_cast<Lane*>(p.grad_initial_state) + state_at : nullptr;
    }

    void run_part(const SequencePart& part) {
        if (part.length == 0 && grad_initial_state) {
            for (int64_t i = 0; i < lineup.channels * history; ++i)
                grad_initial_state[i] = grad_last_state ? grad_last_state[i] : Lane{0};
        }
        for (int64_t t = part.from; t < part.to; t += lineup.block_steps)
            run_block(part.length, t, std::min(part.to, t + lineup.block_steps));
    }

    // Steps [from, from + count) of the sequence at hand into a buffer; from may be negative, see gather.
    void gather_steps(const S* steps, int64_t time_stride, const Lane* before, int64_t from, int64_t count, Lane* to) const {
        if (!p.seq_idx)
            return gather(lineup, steps, time_stride, before, history, from, count, to);
        int64_t done = std::clamp(-from, int64_t{0}, count);
        gather(lineup, steps, time_stride, before, history, from, done, to);
        for_each_stretch(from + done, from + count, [&](int64_t time, int64_t some) {
            gather(lineup, steps + time * time_stride, time_stride, static_cast<const Lane*>(nullptr), int64_t{0},
                   int64_t{0}, some, to + done * lineup.step);
            done += some;
        });
    }
    void scatter_steps(const Lane* steps, int64_t from, int64_t count) const {
        const int64_t stride = p.grad_x.time_stride;
        if (!p.seq_idx)
            return scatter(lineup, steps, count, grad_x + from * stride, stride);
        for_each_stretch(from, from + count, [&](int64_t time, int64_t some) {
            scatter(lineup, steps, some, grad_x + time * stride, stride);
            steps += some * lineup.step;
        });
    }
    // Calls f(time, count) for the runs' parts of steps [from, to) of the sequence.
    template <class F>
    void for_each_stretch(int64_t from, int64_t to, const F& f) const {
        if (from >= to)
            return;
        const SequenceRun* const first = runs.runs + first_run;
        int64_t i = std::partition_point(
                        first, runs.runs + runs.count,
                        [&](const SequenceRun& run) { return run.first == first_run && run.offset + run.count() <= from; }) -
                    runs.runs;
        for (; from < to; ++i) {
            const int64_t end = std::min(to, runs[i].offset + runs[i].count());
            f(SSM_MUTATE("causal_conv1d_backward.cpu.padding_not_passed_over", runs[i].begin + from - runs[i].offset,
                         runs[first_run].begin + from),
              end - from);
            from = end;
        }
    }

    // Steps [from, to) of the sequence.
    void run_block(int64_t length, int64_t from, int64_t to) {
        const int64_t steps = to - from, step = lineup.step;
        // grad_x of a step needs the g of W - 1 more.
        const int64_t end = std::min(length, SSM_MUTATE("causal_conv1d_backward.cpu.no_look_ahead", to + history, to));
        const int64_t known = end - from;
        Lane* const g_now = g + history * step; // of step `from`; before it zeros
        std::fill_n(in + (history + known) * step, n, Lane{0});
        gather_steps(x, p.x.time_stride, state, from - history, history + known, in);
        std::fill_n(g, history * step, Lane{0});
        gather_steps(grad_y, p.grad_y.time_stride, nullptr, from, known, g_now);
        if (p.silu) {
            convolve<Lane>(p.width, in, n, step, weights, bias, lineup.vectors(known), false, out, n, false);
            const Tag<Lane> d;
            for (int64_t i = 0; i < known * step; i += n)
                hn::StoreU(hn::Mul(hn::LoadU(d, g_now + i), silu_slope<Lane>(hn::Load(d, out + i))), d, g_now + i);
        }
        std::fill(g_now + known * step, g_now + (steps + history) * step + n, Lane{0});
        if (grad_x) {
            convolve<Lane>(p.width, g_now, n, step, turned, no_bias, lineup.vectors(steps), false, out, n, false);
            add_last_state(length, from, to);
            scatter_steps(out, from, steps);
        }
        if (from == 0 && grad_initial_state)
            run_initial_state(length);
        if (parameters.wanted) {
            const int64_t left = lineup.by_time ? steps % n : 0;
            correlate<Lane>(g_now, in, step, p.width, lineup.vectors(steps), left, sums);
        }
    }

    // The steps before the first: where g is at hand from the first step on, with zeros before it.
    void run_initial_state(int64_t length) {
        for (int64_t k = 0; k < history; k += lineup.block_steps) {
            const int64_t some = std::min(lineup.block_steps, history - k);
            convolve<Lane>(p.width, g + k * lineup.step, n, lineup.step, turned, no_bias, lineup.vectors(some), false, out,
                           n, false);
            add_last_state(length, k - history, k - history + some);
            for (int64_t l = 0; l < lineup.channels; ++l)
                for (int64_t i = 0; i < some; ++i)
                    grad_initial_state[l * history + k + i] = out[i * lineup.step + l];
        }
    }

    // out holds the gradients of the steps [from, to); the last W - 1 of the sequence are the last state.
    void add_last_state(int64_t length, int64_t from, int64_t to) {
        if (!grad_last_state)
            return;
        const int64_t first = length - history;
        for (int64_t t = std::max(from, first); t < to; ++t)
            for (int64_t l = 0; l < lineup.channels; ++l)
                out[(t - from) * lineup.step + l] += grad_last_state[l * history + t - first];
    }

    void leave_sums(int64_t row, int64_t channel) {
        if (!parameters.wanted)
            return;
        Lane* to = static_cast<Lane*>(p.workspace.data) + (row * parameters.row_channels + channel) * (p.width + 1);
        if (!lineup.by_time) {
            std::copy_n(sums, (p.width + 1) * n, to);
            return;
        }
        const Tag<Lane> d;
        for (int64_t j = 0; j <= p.width; ++j)
            to[j] = hn::GetLane(sum_of_lanes(RealVector<Lane>{hn::Load(d, sums + j * n)}).re);
    }

    const CausalConv1dBackwardParams& p;
    const CausalConv1dPlan& plan;
    const ParameterSums& parameters;
    const int64_t history; // W - 1
    Lineup lineup = {};
    SequenceRuns runs;                       // of the batch element
    int64_t first_run = 0;                   // of the sequence at hand
    const S *x = nullptr, *grad_y = nullptr; // the first step of the sequence at hand
    S* grad_x = nullptr;
    const Lane *state = nullptr, *grad_last_state = nullptr;
    Lane* grad_initial_state = nullptr;
    static constexpr int64_t buffer = (block_vectors + 2 * most_history + 2 + apart_vectors) * n;
    // Of the lanes at hand, and of all channels of the task.
    Lane *weights = nullptr, *turned = nullptr, *bias = nullptr, *sums = nullptr;
    static constexpr int64_t most = CausalConv1dPlan::most_weights, most_sums = most + CausalConv1dPlan::most_neighbours;
    alignas(64) Lane all_weights[most], all_turned[most], all_sums[most_sums];
    alignas(64) Lane all_biases[CausalConv1dPlan::most_neighbours], no_bias[n];
    alignas(64) Lane in[buffer], g[buffer], out[buffer];
};

void causal_conv1d_backward_task(const CausalConv1dBackwardParams& p, const CausalConv1dPlan& plan,
                                 const ParameterSums& parameters, int64_t task) {
    with_storage(p.type, [&](auto type) {
        using S = typename decltype(type)::type;
        if constexpr (!Traits<S>::complex)
            CausalConv1dBackward<S>(p, plan, parameters).run(task);
    });
}

// Channels [first, last) of grad_weight and grad_bias.
template <class Lane>
void add_rows(const CausalConv1dBackwardParams& p, const ParameterSums& parameters, int64_t first, int64_t last) {
    constexpr int64_t n = lanes_of<Lane>();
    const bool by_time = p.shape.layout == Layout::time_contiguous;
    const int64_t columns = p.width + 1, row_size = parameters.row_channels * columns;
    alignas(64) Lane total[CausalConv1dParams::most_width + 1];
    for (int64_t channel = first; channel < last; ++channel) {
        const int64_t at = by_time ? channel * columns : channel / n * n * columns + channel % n;
        const int64_t stride = by_time ? 1 : n;
        const Lane* row = static_cast<const Lane*>(p.workspace.data) + at;
        std::fill_n(total, columns, Lane{0});
        const int64_t rows = SSM_MUTATE("causal_conv1d_backward.cpu.dropped_row", parameters.rows, 1);
        for (int64_t i = 0; i < rows; ++i, row += row_size)
            for (int64_t j = 0; j < columns; ++j)
                total[j] += row[j * stride];
        if (p.grad_weight)
            std::copy_n(total, p.width, static_cast<Lane*>(p.grad_weight) + channel * p.width);
        if (p.grad_bias)
            static_cast<Lane*>(p.grad_bias)[channel] = total[p.width];
    }
}
void causal_conv1d_backward_rows(const CausalConv1dBackwardParams& p, const ParameterSums& parameters, int64_t first,
                                 int64_t last) {
    if (state_type(p.type) == DataType::float64)
        add_rows<double>(p, parameters, first, last);
    else
        add_rows<float>(p, parameters, first, last);
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(causal_conv1d_backward_task);
HWY_EXPORT(causal_conv1d_backward_rows);

CausalConv1dPlan make_plan(const BackendContext* context, const CausalConv1dBackwardParams& p) {
    // Large tiles: each leaves a row of W + 1 sums for every channel, and computes W - 1 steps of its neighbour again.
    constexpr int64_t task_elements = 131072;
    CausalConv1dPlan plan =
        plan_causal_conv1d(p.shape, p.width, size_of(p.type), context->options.get("causal_conv1d_backward.tile"),
                           task_elements, last_level_cache());
    plan.runs = SequenceRunTable(p.shape, p.seq_idx);
    return plan;
}
ParameterSums make_sums(const CausalConv1dPlan& plan, const CausalConv1dBackwardParams& p) {
    constexpr int64_t most_lanes = 16;
    return {(p.shape.channels + most_lanes - 1) / most_lanes * most_lanes, p.shape.batch * plan.tiles,
            p.grad_weight || p.grad_bias};
}
uint64_t workspace_bytes(const CausalConv1dPlan& plan, const ParameterSums& sums, const CausalConv1dBackwardParams& p) {
    const int64_t of_sums = sums.count(p.width) * size_of(state_type(p.type)), of_runs = plan.runs.bytes();
    return static_cast<uint64_t>(of_runs ? (of_sums + 63) / 64 * 64 + of_runs : of_sums);
}
} // namespace

int32_t causal_conv1d_backward(BackendContext* context, const CausalConv1dBackwardParams* params) {
    const CausalConv1dBackwardParams& p = *params;
    const CausalConv1dPlan plan = make_plan(context, p);
    const ParameterSums parameters = make_sums(plan, p);
    if (workspace_bytes(plan, parameters, p) > p.workspace.bytes)
        return fail(error_workspace_too_small, "causal_conv1d_backward: workspace too small");
    plan.runs.find_runs(parameters.behind(p.workspace.data, p.width, size_of(state_type(p.type))), context->threads);
    const auto run = HWY_DYNAMIC_DISPATCH(causal_conv1d_backward_task);
    parallel_for(plan.tasks(p.shape.batch), context->threads, [&](int64_t task) { run(p, plan, parameters, task); });
    if (!parameters.wanted)
        return success;
    constexpr int64_t at_once = 64;
    const auto add = HWY_DYNAMIC_DISPATCH(causal_conv1d_backward_rows);
    parallel_for((p.shape.channels + at_once - 1) / at_once, context->threads, [&](int64_t task) {
        add(p, parameters, task * at_once, std::min(p.shape.channels, (task + 1) * at_once));
    });
    return success;
}

int32_t causal_conv1d_backward_workspace(BackendContext* context, const CausalConv1dBackwardParams* params,
                                         uint64_t* bytes) {
    const CausalConv1dBackwardParams& p = *params;
    const CausalConv1dPlan plan = make_plan(context, p);
    *bytes = workspace_bytes(plan, make_sums(plan, p), p);
    return success;
}

} // namespace ssm::cpu
#endif
