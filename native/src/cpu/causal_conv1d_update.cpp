// One step of the short convolution, or a few. Channels are the lanes: a block is as many neighbouring channels of a batch
// element as a vector has, whose state and steps are laid side by side in a buffer and convolved as in causal_conv1d, with
// the same order of sums. Two to four weights are loaded, and a state of one to three steps loaded and stored, by
// interleaving. Memory is the limit: 2 (W - 1) numbers of the state, x and y for a channel and call.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/causal_conv1d_update.cpp"
#include "hwy/foreach_target.h"

#include "cpu/causal_conv1d-inl.h"
#include "cpu/lanes-inl.h"
#include "cpu/thread_pool.h"

#include "core/mutate.h"
#include "core/params/causal_conv1d_update.h"

#include <algorithm>

#ifndef SSM_CPU_CAUSAL_CONV1D_UPDATE_PLAN_
#define SSM_CPU_CAUSAL_CONV1D_UPDATE_PLAN_
namespace ssm::cpu {
// An item is a group of rows through a block of channels whose weights are at hand together; a task is a run of items.
// Channels have nothing in common: the cut changes no bit.
struct ConvolutionUpdatePlan {
    int64_t channel_block;
    int64_t group_rows;
    int64_t groups; // of rows, for each block
    int64_t items;
    int64_t items_per_task;
    int64_t tasks;
    int64_t chunk; // steps in the buffer at a time
};
constexpr int64_t most_update_chunk = 64;
} // namespace ssm::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

// S: storage of the state. That of x and y is known at run time alone.
template <class S>
class ConvolutionUpdate {
  public:
    using Lane = typename Traits<S>::Lane;
    static constexpr int64_t n = lanes_of<Lane>();

    ConvolutionUpdate(const CausalConv1dUpdateParams& p, const ConvolutionUpdatePlan& plan)
        : p(p), plan(plan), history(p.width - 1) {}

    void run(int64_t item) {
        const int64_t begin = item / plan.groups * plan.channel_block,
                      end = std::min(p.channels, begin + plan.channel_block);
        const int64_t first = item % plan.groups * plan.group_rows, last = std::min(p.batch, first + plan.group_rows);
        alignas(64) Lane weights[CausalConv1dPlan::most_weights], biases[CausalConv1dPlan::most_neighbours];
        for (channel = begin; channel < end; channel += n) {
            width = std::min(n, end - channel);
            load_parameters(weights + (channel - begin) * p.width, biases + (channel - begin));
        }
        for (row = first; row < last; ++row)
            for (channel = begin; channel < end; channel += n) {
                width = std::min(n, end - channel);
                run_block(weights + (channel - begin) * p.width, biases + (channel - begin));
            }
    }

  private:
    // Those of this block, a vector for each weight.
    void load_parameters(Lane* weights, Lane* biases) const {
        const Lane* const matrix = static_cast<const Lane*>(p.weight) + channel * p.width;
        const Lane* const bias = static_cast<const Lane*>(p.bias);
        const Lineup lineup = line_up<Lane>(Layout::channel_contiguous, width);
        if (!(width == n && with_count(p.width, [&](auto count) SSM_INLINE_LAMBDA { interleave<count>(matrix, weights); })))
            spread(lineup, matrix, p.width, weights);
        spread(lineup, bias ? bias + channel : nullptr, 1, biases);
    }

    // Calls f with two, three or four as a constant; false where count is another.
    template <class F>
    static HWY_INLINE bool with_count(int64_t count, const F& f) {
        switch (count) {
        case 2:
            return f(std::integral_constant<int, 2>()), true;
        case 3:
            return f(std::integral_constant<int, 3>()), true;
        case 4:
            return f(std::integral_constant<int, 4>()), true;
        default:
            return false;
        }
    }
    template <int Count, class T>
    static HWY_INLINE void interleave(const T* from, Lane* to) {
        Vec<Lane> v[Count];
        load_interleaved<Count>(from, v);
        unrolled<Count>([&](auto k) SSM_INLINE_LAMBDA { hn::Store(v[k], Tag<Lane>(), to + k * n); });
    }

    // Of this block's first channel.
    int64_t place(const StepTensor& tensor, int64_t batch, int64_t step) const {
        return batch * tensor.batch_stride + channel * tensor.channel_stride + step * tensor.step_stride;
    }
    template <class T>
    T* at(const StepTensor& tensor, int64_t batch, int64_t step) const {
        return static_cast<T*>(tensor.data) + place(tensor, batch, step);
    }
    void store_step(int64_t t, Vec<Lane> y) const {
        store_stored<Lane>(p.type, p.y.data, place(p.y, row, t), p.y.channel_stride, width, y);
    }
    Vec<Lane> load_state(int64_t place) const {
        return load_lanes(at<const S>(p.update, slot, place), p.update.channel_stride, width).re;
    }
    void store_state(int64_t place, Vec<Lane> x) const {
        store_lanes(at<S>(p.update, slot, place), p.update.channel_stride, width, VectorOf<S>{x});
    }

    void run_block(const Lane* weights, const Lane* bias) {
        const Tag<Lane> d;
        slot = p.slots ? SSM_MUTATE("causal_conv1d_update.cpu.wrong_slot", int64_t{p.slots[row]}, row) : row;
        if (slot < 0 || slot >= p.rows) {
            for (int64_t t = 0; t < p.steps; ++t)
                store_step(t, hn::Zero(d));
            return;
        }
        // The last W - 1 steps, then those of the call.
        alignas(64) Lane in[(most_history + most_update_chunk) * n], out[most_update_chunk * n];
        const bool is_ring = p.cache_seqlens != nullptr, is_window = !is_ring && p.length == history;
        const bool interleaved = is_window && width == n && p.update.step_stride == 1 && p.update.channel_stride == history;
        // Where step 0 lies: in the ring, or once the state has moved on. Then step t does t places behind it.
        const int64_t origin = is_ring && p.length > 0 ? remainder(p.cache_seqlens[row]) : p.length - p.steps;
        load_window(is_ring ? origin : p.length, interleaved, in);
        if (!is_ring && !is_window)
            for (int64_t k = 0; k + p.steps < p.length; ++k)
                store_state(k, load_state(k + p.steps));
        for (int64_t first = 0; first < p.steps; first += plan.chunk) {
            const int64_t count = std::min(plan.chunk, p.steps - first);
            Lane* const steps = in + history * n;
            for (int64_t t = 0; t < count; ++t)
                hn::Store(load_stored<Lane>(p.type, p.x.data, place(p.x, row, first + t), p.x.channel_stride, width), d,
                          steps + t * n);
            convolve(p.width, static_cast<const Lane*>(in), n, n, weights, bias, count, p.silu, out, n, false);
            if (!is_window)
                for (int64_t t = std::max<int64_t>(0, p.steps - p.length - first); t < count; ++t)
                    store_state(is_ring ? remainder(origin + first + t) : origin + first + t, hn::Load(d, steps + t * n));
            for (int64_t t = 0; t < count; ++t)
                store_step(first + t, hn::Load(d, out + t * n));
            const int64_t moved = SSM_MUTATE("causal_conv1d_update.cpu.stale_window", count, 0);
            for (int64_t k = 0; k < history; ++k)
                hn::Store(hn::Load(d, in + (k + moved) * n), d, in + k * n);
        }
        if (is_window)
            store_window(interleaved, in);
    }

    // Of a place in the ring.
    int64_t remainder(int64_t place) const {
        const int64_t rest = place % p.length;
        return rest < 0 ? rest + p.length : rest;
    }

    // The W - 1 steps before `end`.
    void load_window(int64_t end, bool interleaved, Lane* to) const {
        const Tag<Lane> d;
        if (interleaved && with_count(history, [&](auto count) SSM_INLINE_LAMBDA {
                interleave<count>(at<const S>(p.update, slot, 0), to);
            }))
            return;
        int64_t place = end - history;
        place += SSM_MUTATE("causal_conv1d_update.cpu.no_wrap", place < 0, false) ? p.length : 0;
        for (int64_t k = 0; k < history; ++k, ++place) {
            place -= place == p.length ? p.length : 0;
            hn::Store(load_state(std::max<int64_t>(0, place)), d, to + k * n);
        }
    }
    void store_window(bool interleaved, const Lane* from) const {
        const Tag<Lane> d;
        if (interleaved && with_count(history, [&](auto count) SSM_INLINE_LAMBDA {
                Vec<Lane> v[count];
                unrolled<count>([&](auto k) SSM_INLINE_LAMBDA { v[k] = hn::Load(d, from + k * n); });
                store_interleaved<count>(at<S>(p.update, slot, 0), v);
            }))
            return;
        for (int64_t k = 0; k < history; ++k)
            store_state(k, hn::Load(d, from + k * n));
    }

    const CausalConv1dUpdateParams& p;
    const ConvolutionUpdatePlan& plan;
    const int64_t history;
    int64_t row = 0, slot = 0, channel = 0, width = 0; // of the block
};

void causal_conv1d_update_item(const CausalConv1dUpdateParams& p, const ConvolutionUpdatePlan& plan, int64_t item) {
    with_storage(p.state, [&](auto state) {
        using S = typename decltype(state)::type;
        if constexpr (!Traits<S>::complex)
            ConvolutionUpdate<S>(p, plan).run(item);
    });
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(causal_conv1d_update_item);

ConvolutionUpdatePlan make_plan(const BackendContext* context, const CausalConv1dUpdateParams& p) {
    constexpr int64_t task_elements = 16384, most_lanes = 16;
    ConvolutionUpdatePlan plan = {};
    plan.channel_block =
        std::min(CausalConv1dPlan::most_neighbours, CausalConv1dPlan::most_weights / p.width / most_lanes * most_lanes);
    const int64_t row_elements = std::min(plan.channel_block, p.channels) * p.steps;
    plan.group_rows = std::min(p.batch, std::max<int64_t>(1, task_elements / row_elements));
    plan.groups = (p.batch + plan.group_rows - 1) / plan.group_rows;
    plan.items = plan.groups * ((p.channels + plan.channel_block - 1) / plan.channel_block);
    plan.items_per_task = std::max<int64_t>(1, task_elements / (row_elements * plan.group_rows));
    plan.tasks = (plan.items + plan.items_per_task - 1) / plan.items_per_task;
    const int64_t chunk = context->options.get("causal_conv1d_update.tile");
    plan.chunk = chunk > 0 ? std::min(chunk, most_update_chunk) : most_update_chunk;
    return plan;
}
} // namespace

int32_t causal_conv1d_update(BackendContext* context, const CausalConv1dUpdateParams* params) {
    const CausalConv1dUpdateParams& p = *params;
    const ConvolutionUpdatePlan plan = make_plan(context, p);
    const auto run = HWY_DYNAMIC_DISPATCH(causal_conv1d_update_item);
    parallel_for(plan.tasks, context->threads, [&](int64_t task) {
        const int64_t end = std::min(plan.items, (task + 1) * plan.items_per_task);
        for (int64_t item = task * plan.items_per_task; item < end; ++item)
            run(p, plan, item);
    });
    return success;
}

int32_t causal_conv1d_update_workspace(BackendContext*, const CausalConv1dUpdateParams*, uint64_t* bytes) {
    *bytes = 0;
    return success;
}

} // namespace ssm::cpu
#endif
