// Mamba-2's state space duality as matrix products over chunks of steps. For a head, with L[i][j] the decay from step j to
// step i and H the state before the chunk, kept as [n][p]:
//   y = (C B^T o L) (s x) + decay C H,   H = decay H + B^T (decay to the end s x).
// Heads of a group go through a chunk one after the other and share C B^T. Per channel, state and step: two fused sums, and
// a fraction chunk / 2 N of a third. A restart of the state cuts a chunk, so that nothing has to be masked.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/ssd.cpp"
#include "hwy/foreach_target.h"

#include "cpu/ssd-inl.h"

#include "core/mutate.h"

#ifndef SSM_CPU_SSD_PLAN_
#define SSM_CPU_SSD_PLAN_
namespace ssm::cpu {
// A task is a batch element and some neighbouring heads of a group over all time; or, where there are few heads, one head
// over one part of time. Then a part
//   1. runs from zero for its last state and the sum of its s a,
//   2. waits for the state its predecessor leaves and publishes the decay of that sum times it plus its own,
//   3. runs again from its predecessor's state.
// The cut into parts depends on the shape alone; that of the heads changes no bit.
struct SsdPlan {
    int64_t lanes, chunk;
    int64_t heads_per_task, tasks_per_group;
    int64_t part, parts; // steps; 1 part: not cut
    int64_t tasks;
    int64_t area_bytes, areas;
    int64_t slot_bytes, slots; // where parts meet: a flag (64 bytes) and a head's state

    int64_t padded(int64_t count) const { return (count + lanes - 1) / lanes * lanes; }
    Areas scratch(void* base) const { return Areas(base, area_bytes, areas); }
    uint64_t workspace_bytes() const { return static_cast<uint64_t>(scratch(nullptr).size() + slots * slot_bytes); }
    char* slot(void* base, int64_t index) const {
        return static_cast<char*>(base) + scratch(nullptr).size() + index * slot_bytes;
    }
    std::atomic<int64_t>& flag(void* base, int64_t index) const {
        return *reinterpret_cast<std::atomic<int64_t>*>(slot(base, index));
    }
};

// A task's scratch.
template <class Lane>
struct SsdBuffers {
    Lane* state;    // [head][n][p]
    Lane *b, *c;    // [step][n], of 16-bit storage alone
    Lane* b_turned; // [n][step]
    Lane* products; // C B^T
    Lane* decayed;  // of one head: C B^T o L
    Lane *x, *x_to_end, *y;

    SsdBuffers() = default;
    SsdBuffers(const SsdParams& p, const SsdPlan& plan, Scratch& scratch) {
        const int64_t steps = plan.chunk, row = plan.padded(steps), channels = plan.padded(p.channels);
        const int64_t states = size_of(p.type) == 2 ? plan.padded(p.states) : 0;
        state = scratch.take<Lane>(plan.heads_per_task * p.states * channels);
        b = scratch.take<Lane>(steps * states);
        c = scratch.take<Lane>(steps * states);
        b_turned = scratch.take<Lane>(p.states * row);
        products = scratch.take<Lane>(steps * row);
        decayed = scratch.take<Lane>(steps * row);
        x = scratch.take<Lane>(steps * channels);
        x_to_end = scratch.take<Lane>(steps * channels);
        y = scratch.take<Lane>(steps * channels);
    }
};
} // namespace ssm::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

// U: storage of x, dt, b, c, z, y.
template <class U>
class Ssd {
  public:
    using Lane = typename Traits<U>::Lane;
    static constexpr int64_t n = lanes_of<Lane>();

    Ssd(const SsdParams& p, const SsdPlan& plan) : p(p), plan(plan), heads(p.shape.channels) {
        row = plan.padded(plan.chunk);
        channels = plan.padded(p.channels);
        head_state = p.states * channels;
    }

    void run(int64_t task) {
        plan.scratch(p.workspace.data).use([&](void* area) {
            Scratch scratch(area);
            buffers = SsdBuffers<Lane>(p, plan, scratch);
            if (plan.parts == 1)
                run_heads(task);
            else
                run_part(task);
        });
    }

  private:
    void run_heads(int64_t task) {
        const int64_t per_group = heads / p.groups, in_group = task % plan.tasks_per_group;
        batch = task / (plan.tasks_per_group * p.groups);
        group = task / plan.tasks_per_group % p.groups;
        first = group * per_group + in_group * plan.heads_per_task;
        last = std::min((group + 1) * per_group, first + plan.heads_per_task);
        run_steps(true, 0, p.shape.length);
    }

    void run_part(int64_t task) {
        const int64_t part = task / plan.slots, slot = task % plan.slots;
        batch = slot / heads;
        first = slot % heads;
        last = first + 1;
        group = first / (heads / p.groups);
        const int64_t begin = part * plan.part, end = std::min(p.shape.length, begin + plan.part);
        Lane* const own = buffers.state;
        restarts = false;
        sum = 0;
        if (part + 1 < plan.parts) {
            std::fill_n(own, head_state, Lane{0});
            is_zero[0] = true;
            run_steps(false, begin, end);
        }
        std::atomic<int64_t>& flag = plan.flag(p.workspace.data, slot);
        Lane* const published = reinterpret_cast<Lane*>(plan.slot(p.workspace.data, slot) + 64);
        Backoff backoff;
        while (flag.load(std::memory_order_acquire) != part)
            backoff.pause();
        const Tag<Lane> d;
        constexpr double unit = std::is_same_v<Lane, float> ? 1.4426950408889634074 : 1;
        const auto decay = decay_of<Lane>(hn::Set(d, static_cast<Lane>(sum * unit)), hn::Zero(d));
        for (int64_t i = 0; i < head_state; i += n) {
            const auto mine = hn::Load(d, own + i), before = part > 0 ? hn::Load(d, published + i) : hn::Zero(d);
            hn::Store(before, d, own + i);
            const auto after = hn::MulAdd(decay, before, mine);
            hn::Store(restarts ? mine : SSM_MUTATE("ssd.cpu.lost_part", after, mine), d, published + i);
        }
        flag.store(part + 1, std::memory_order_release);
        is_zero[0] = false;
        run_steps(true, begin, end);
    }

    // With outputs, or for the states, the sums of s a and restarts alone.
    void run_steps(bool outputs, int64_t begin, int64_t end) {
        for_each_piece(p.shape, batch, begin, end, [&](const Piece& piece) {
            if (piece.starts) {
                restarts = true;
                for (int64_t head = first; head < last; ++head)
                    begin_state(piece.row, head);
            }
            const int32_t* const ids = p.seq_idx ? p.seq_idx + batch * p.shape.length : nullptr;
            const int64_t piece_end = piece.time + piece.count;
            for (int64_t t = piece.time, steps; t < piece_end; t += steps) {
                const bool has_before = t > piece.time || !piece.starts;
                if (ids && has_before && ids[t] != SSM_MUTATE("ssd.cpu.missed_restart", ids[t - 1], ids[t])) {
                    restarts = true;
                    std::fill_n(is_zero, last - first, true);
                }
                steps = steps_until_restart(ids, t, std::min(plan.chunk, piece_end - t));
                run_chunk(outputs, t, steps);
            }
            if (outputs && piece.ends && p.last_state)
                for (int64_t head = first; head < last; ++head)
                    end_state(piece.row, head);
        });
    }

    Lane* state_of(int64_t head) const { return buffers.state + (head - first) * head_state; }

    void begin_state(int64_t state_row, int64_t head) {
        const Lane* initial = static_cast<const Lane*>(p.initial_state);
        is_zero[head - first] = !initial;
        Lane* const state = state_of(head);
        std::fill_n(state, head_state, Lane{0});
        if (initial)
            transpose(initial + (state_row * heads + head) * p.channels * p.states, p.states, p.channels, p.states, state,
                      channels);
    }

    void end_state(int64_t state_row, int64_t head) const {
        Lane* to = static_cast<Lane*>(p.last_state) + (state_row * heads + head) * p.channels * p.states;
        if (is_zero[head - first]) // no step since
            return static_cast<void>(std::fill_n(to, p.channels * p.states, Lane{0}));
        transpose(state_of(head), channels, p.states, p.channels, to, p.states);
    }

    // b or c of the group in the chunk, as lanes.
    Factor<Lane> states_of(const HeadTensor& tensor, int64_t t, int64_t steps, Lane* buffer) const {
        const U* from = place_of<const U>(tensor, batch, group, t);
        if constexpr (std::is_same_v<U, Lane>) {
            return {from, tensor.time_stride, 1};
        } else {
            const int64_t width = plan.padded(p.states);
            widen_rows(from, tensor.time_stride, steps, p.states, buffer, width);
            return {buffer, width, 1};
        }
    }

    void run_chunk(bool outputs, int64_t t, int64_t steps) {
        const Factor<Lane> b = states_of(p.b, t, steps, buffers.b);
        Factor<Lane> c = {};
        if (outputs) {
            c = states_of(p.c, t, steps, buffers.c);
            transpose(b.data, b.row, steps, p.states, buffers.b_turned, row);
            product<Lane>(steps, steps, p.states, c, buffers.b_turned, row, {buffers.products, row, false, nullptr, 0});
        }
        for (int64_t head = first; head < last; ++head)
            run_head(outputs, head, t, steps, b, c);
    }

    void run_head(bool outputs, int64_t head, int64_t t, int64_t steps, Factor<Lane> b, Factor<Lane> c) {
        read_decays<U>(p, batch, head, t, steps, decays);
        sum += decays.sum;
        widen_rows(place_of<const U>(p.x, batch, head, t), p.x.time_stride, steps, p.channels, buffers.x, channels);
        scale_rows(buffers.x, decays.s, steps, channels, buffers.x);
        Lane* const state = state_of(head);
        bool& starts = is_zero[head - first];
        if (outputs) {
            if (!starts)
                product<Lane>(steps, p.channels, p.states, c, state, channels, {buffers.y, channels, false, nullptr, 0});
            decay_products(decays, buffers.products, row, buffers.decayed);
            product<Lane, Triangle::lower>(steps, p.channels, steps, {buffers.decayed, row, 1}, buffers.x, channels,
                                           {buffers.y, channels, !starts, decays.from_start, 1});
            write(head, t, steps);
        }
        scale_rows(buffers.x, decays.to_end, steps, channels, buffers.x_to_end);
        const Lane total = decays.total();
        product<Lane>(p.states, p.channels, SSM_MUTATE("ssd.cpu.short_chunk", steps, steps - 1), {b.data, 1, b.row},
                      buffers.x_to_end, channels, {state, channels, !starts, &total, 0});
        starts = false;
    }

    // y = (y + d x) silu(z) of the chunk.
    void write(int64_t head, int64_t t, int64_t steps) const {
        const Tag<Lane> d;
        const Lane* skip = static_cast<const Lane*>(p.d);
        if (skip)
            skip += p.d_per_channel ? head * p.channels : head;
        for (int64_t i = 0; i < steps; ++i) {
            const U* const x = place_of<const U>(p.x, batch, head, t + i);
            const U* const z = p.z.data ? place_of<const U>(p.z, batch, head, t + i) : nullptr;
            U* const to = place_of<U>(p.y, batch, head, t + i);
            const auto own = hn::Set(d, p.skip.data ? *place_of<const Lane>(p.skip, batch, head, t + i) : Lane{0});
            for (int64_t k = 0; k < p.channels; k += n) {
                const int64_t count = std::min(n, p.channels - k);
                const bool whole = count == n;
                auto y = hn::Load(d, buffers.y + i * channels + k);
                if (skip || p.skip.data) {
                    auto factor = own;
                    if (skip)
                        factor = hn::Add(own, p.d_per_channel ? load_some(skip + k, count).re : hn::Set(d, *skip));
                    y = hn::MulAdd(factor, (whole ? load(x + k) : load_some(x + k, count)).re, y);
                }
                if (z)
                    y = hn::Mul(y, silu<Lane>((whole ? load(z + k) : load_some(z + k, count)).re));
                if (whole)
                    store(to + k, VectorOf<U>{y});
                else
                    store_some(to + k, VectorOf<U>{y}, count);
            }
        }
    }

    const SsdParams& p;
    const SsdPlan& plan;
    const int64_t heads;
    int64_t row, channels, head_state; // of the buffers
    SsdBuffers<Lane> buffers;
    int64_t batch = 0, group = 0, first = 0, last = 0; // the task's heads
    bool restarts = false;
    double sum = 0;
    bool is_zero[most_ssd_heads]; // the state, whose buffer then holds anything
    ChunkDecays<Lane> decays;
};

void ssd_task(const SsdParams& p, const SsdPlan& plan, int64_t task) {
    with_storage(p.type, [&](auto type) {
        using U = typename decltype(type)::type;
        if constexpr (!Traits<U>::complex)
            Ssd<U>(p, plan).run(task);
    });
}

int64_t ssd_lanes(int64_t lane_bytes) {
    return lane_bytes == 4 ? lanes_of<float>() : lanes_of<double>();
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(ssd_task);
HWY_EXPORT(ssd_lanes);

SsdPlan make_plan(const BackendContext* context, const SsdParams& p) {
    constexpr int64_t few_heads = 8, default_part = 2048;
    const int64_t threads = context->threads > 0 ? std::min(context->threads, usable_threads()) : usable_threads();
    const int64_t tile = context->options.get("ssd.tile");
    const int64_t rows = p.shape.batch, heads = p.shape.channels, per_group = heads / p.groups;
    SsdPlan plan = {};
    plan.lanes = HWY_DYNAMIC_DISPATCH(ssd_lanes)(size_of(state_type(p.type)));
    plan.chunk = ssd_chunk(p);
    plan.part = tile > 0 ? tile : default_part;
    plan.parts = 1;
    if (p.shape.length > plan.part && (tile > 0 || (rows * heads <= few_heads && p.shape.length > 2 * plan.part)))
        plan.parts = (p.shape.length + plan.part - 1) / plan.part;
    // Enough tasks for every thread, but heads together share the products of b and c.
    plan.heads_per_task =
        plan.parts > 1 ? 1 : std::clamp<int64_t>(rows * heads / (4 * threads), 1, std::min(per_group, most_ssd_heads));
    plan.tasks_per_group = (per_group + plan.heads_per_task - 1) / plan.heads_per_task;
    plan.tasks = plan.parts > 1 ? rows * heads * plan.parts : rows * p.groups * plan.tasks_per_group;
    Scratch scratch(nullptr);
    if (state_type(p.type) == DataType::float64)
        SsdBuffers<double>(p, plan, scratch);
    else
        SsdBuffers<float>(p, plan, scratch);
    plan.area_bytes = scratch.size();
    plan.areas = std::min<int64_t>(plan.tasks, usable_threads());
    if (plan.parts > 1) {
        plan.slots = rows * heads;
        plan.slot_bytes = 64 + (p.states * plan.padded(p.channels) * size_of(state_type(p.type)) + 63) / 64 * 64;
    }
    return plan;
}
} // namespace

int32_t ssd(BackendContext* context, const SsdParams* params) {
    const SsdParams& p = *params;
    const SsdPlan plan = make_plan(context, p);
    if (plan.workspace_bytes() > p.workspace.bytes)
        return fail(error_workspace_too_small, "ssd: workspace too small");
    plan.scratch(p.workspace.data).clear();
    for (int64_t slot = 0; slot < plan.slots; ++slot)
        plan.flag(p.workspace.data, slot).store(0, std::memory_order_relaxed);
    const auto run = HWY_DYNAMIC_DISPATCH(ssd_task);
    parallel_for(plan.tasks, context->threads, [&](int64_t task) { run(p, plan, task); });
    return success;
}

int32_t ssd_workspace(BackendContext* context, const SsdParams* params, uint64_t* bytes) {
    *bytes = make_plan(context, *params).workspace_bytes();
    return success;
}

} // namespace ssm::cpu
#endif
