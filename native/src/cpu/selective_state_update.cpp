// One step of the selective scan, or a few: memory is the limit, and for one token the cost of the call.
//
// A block is as many neighbouring channels of a head as a vector has lanes. What each channel has once (s, x, z, y) is
// computed with channels in the lanes. The states of a channel are neighbours in memory, so its states are the lanes: four
// channels at a time share the loads of b and c, and their partial sums of h c are folded into one vector. Where a vector
// has no use for N lanes, or states are not neighbours, channels are the lanes there too.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/selective_state_update.cpp"
#include "hwy/foreach_target.h"

#include "cpu/lanes-inl.h"
#include "cpu/math-inl.h"
#include "cpu/thread_pool.h"

#include "core/mutate.h"
#include "core/params/selective_state_update.h"

#include <algorithm>
#include <atomic>

#ifndef SSM_CPU_SELECTIVE_STATE_UPDATE_PLAN_
#define SSM_CPU_SELECTIVE_STATE_UPDATE_PLAN_
namespace ssm::cpu {
// A task is a run of blocks. Blocks are independent of each other: how they are cut into tasks changes no bit.
struct StateUpdatePlan {
    int64_t lanes;
    int64_t head_blocks; // blocks of a head
    int64_t blocks;
    int64_t blocks_per_task;
    int64_t tasks;
    int64_t chunk;      // states whose b and c are at hand at a time
    int64_t area_bytes; // a task's scratch: a flag (64 bytes), then a block's states; 0: none is needed
    int64_t areas;

    std::atomic<int64_t>& flag(void* base, int64_t area) const {
        return *reinterpret_cast<std::atomic<int64_t>*>(static_cast<char*>(base) + area * area_bytes);
    }
};
constexpr int64_t most_states_at_hand = 256;
} // namespace ssm::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

// exp(s a), where a float's s is premultiplied by log2(e).
template <class Lane>
HWY_INLINE Vec<Lane> decay(Vec<Lane> s, Vec<Lane> a) {
    if constexpr (std::is_same_v<Lane, float>)
        return exp2_fast(hn::Mul(s, a));
    else
        return exp<Lane>(hn::Mul(s, a));
}
template <class Lane>
HWY_INLINE Vec<Lane> premultiplied(Vec<Lane> s) {
    return std::is_same_v<Lane, float> ? hn::Mul(s, hn::Set(Tag<Lane>(), Lane(1.4426950408889634074))) : s;
}

// What the states of a block are made of: channel l has h + l * channel_stride, states are state_stride apart.
template <class S>
struct States {
    S* h;
    int64_t channel_stride, state_stride;
};
// The same of a: states are neighbours. Null where e holds exp(s a) already.
template <class Lane>
struct Rates {
    const Lane* a;
    int64_t channel_stride;
};
// Of each channel.
template <class Lane>
struct Steps {
    const Lane* s; // premultiplied; exp(s a) where rates are null
    const Lane* sx;
};

// Lane k of every 16 bytes takes the sum of v[k]'s lanes there.
template <class Lane>
HWY_INLINE Vec<Lane> fold(const Vec<Lane> (&v)[block_lanes<Lane>()]) {
#if HWY_TARGET == HWY_SCALAR
    return v[0];
#else
    const Tag<Lane> d;
    const auto pair = [&](auto x, auto y)
                          SSM_INLINE_LAMBDA { return hn::Add(hn::InterleaveLower(d, x, y), hn::InterleaveUpper(d, x, y)); };
    if constexpr (block_lanes<Lane>() == 2) {
        return pair(v[0], v[1]);
    } else {
        const hn::Repartition<double, Tag<Lane>> dd;
        const auto low = hn::BitCast(dd, pair(v[0], v[1])), high = hn::BitCast(dd, pair(v[2], v[3]));
        return hn::Add(hn::BitCast(d, hn::InterleaveLower(dd, low, high)),
                       hn::BitCast(d, hn::InterleaveUpper(dd, low, high)));
    }
#endif
}

// Count channels over `states` states, the states in the lanes. Their sums by lane are added to sums: of one channel as they
// are, of as many as 16 bytes have lanes folded.
template <class Lane, class S, bool is_tied, int Count>
HWY_NOINLINE void advance_channels(int64_t states, States<S> h, Rates<Lane> rates, const Lane* b, const Lane* c,
                                   Steps<Lane> steps, Lane* sums) {
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    Vec<Lane> s[Count], sx[Count], sum[Count];
    unrolled<Count>([&](auto i) SSM_INLINE_LAMBDA {
        s[i] = hn::Set(d, steps.s[i]);
        sx[i] = hn::Set(d, steps.sx[i]);
        sum[i] = hn::Zero(d);
    });
    int64_t k = 0;
    for (; k + n <= states; k += n) {
        const auto bv = hn::LoadU(d, b + k), cv = hn::LoadU(d, c + k);
        unrolled<Count>([&](auto i) SSM_INLINE_LAMBDA {
            S* const at = h.h + i * h.channel_stride + k;
            auto e = s[i];
            if constexpr (!is_tied)
                e = decay<Lane>(s[i], hn::LoadU(d, rates.a + i * rates.channel_stride + k));
            const auto before = load(at).re;
            const auto after = hn::MulAdd(e, before, hn::Mul(sx[i], bv));
            store(at, VectorOf<S>{SSM_MUTATE("selective_state_update.cpu.stale_state", after, before)});
            sum[i] = hn::MulAdd(after, cv, sum[i]);
        });
    }
    const int64_t rest = SSM_MUTATE("selective_state_update.cpu.lost_tail", states - k, states - k - 1);
    if (rest > 0) {
        const auto bv = load_some(b + k, rest).re, cv = load_some(c + k, rest).re;
        const auto inside = hn::FirstN(d, static_cast<size_t>(rest));
        unrolled<Count>([&](auto i) SSM_INLINE_LAMBDA {
            S* const at = h.h + i * h.channel_stride + k;
            auto e = s[i];
            if constexpr (!is_tied)
                e = decay<Lane>(s[i], load_some(rates.a + i * rates.channel_stride + k, rest).re);
            const auto after = hn::MulAdd(e, load_some(at, rest).re, hn::Mul(sx[i], bv));
            store_some(at, VectorOf<S>{after}, rest);
            // Lanes beyond the end must not bring in what an infinite s makes of them.
            sum[i] = hn::MulAdd(hn::IfThenElseZero(inside, after), cv, sum[i]);
        });
    }
    if constexpr (Count == 1)
        hn::Store(hn::Add(hn::Load(d, sums), sum[0]), d, sums);
    else
        hn::Store(hn::Add(hn::Load(d, sums), fold<Lane>(sum)), d, sums);
}

// A block over `states` states, the channels in the lanes; sum takes the sums.
template <class Lane, class S, bool is_tied>
HWY_NOINLINE void advance_lanes(int64_t states, int64_t width, States<S> h, Rates<Lane> rates, const Lane* b, const Lane* c,
                                Steps<Lane> steps, Lane* sums) {
    const Tag<Lane> d;
    const auto s = hn::Load(d, steps.s), sx = hn::Load(d, steps.sx);
    auto sum = hn::Load(d, sums);
    for (int64_t k = 0; k < states; ++k) {
        S* const at = h.h + k * h.state_stride;
        auto e = s;
        if constexpr (!is_tied)
            e = decay<Lane>(s, load_lanes(rates.a + k, rates.channel_stride, width).re);
        const auto before = load_lanes(at, h.channel_stride, width).re;
        const auto after = hn::MulAdd(e, before, hn::Mul(sx, hn::Set(d, b[k])));
        store_lanes(at, h.channel_stride, width,
                    VectorOf<S>{SSM_MUTATE("selective_state_update.cpu.stale_lanes", after, before)});
        sum = hn::MulAdd(after, hn::Set(d, c[k]), sum);
    }
    hn::Store(sum, d, sums);
}

// S: storage of the state. That of x, dt, b, c, z and y is known at run time alone.
template <class S>
class StateUpdate {
  public:
    using Lane = typename Traits<S>::Lane;
    static constexpr int64_t n = lanes_of<Lane>();
    static constexpr bool is_narrow = !std::is_same_v<S, Lane>;

    StateUpdate(const SelectiveStateUpdateParams& p, const StateUpdatePlan& plan) : p(p), plan(plan) {}

    void run(int64_t task) {
        if (plan.area_bytes == 0)
            return run_blocks(task);
        // No more tasks run at once than there are areas.
        int64_t area = 0;
        while (plan.flag(p.workspace.data, area).exchange(1, std::memory_order_acquire) != 0)
            area = (area + 1) % plan.areas;
        scratch = reinterpret_cast<Lane*>(static_cast<char*>(p.workspace.data) + area * plan.area_bytes + 64);
        run_blocks(task);
        plan.flag(p.workspace.data, area).store(0, std::memory_order_release);
    }

  private:
    void run_blocks(int64_t task) {
        const int64_t first = task * plan.blocks_per_task, last = std::min(plan.blocks, first + plan.blocks_per_task);
        for (int64_t block = first; block < last; ++block) {
            const int64_t heads = block / plan.head_blocks;
            row = heads / p.heads;
            head = heads % p.heads;
            channel = block % plan.head_blocks * n;
            width = std::min(n, p.channels - channel);
            run_block();
        }
    }

    // Of this block's first channel.
    int64_t place(const HeadTensor& tensor, int64_t batch, int64_t step) const {
        return batch * tensor.batch_stride + head * tensor.head_stride + channel * tensor.channel_stride +
               step * tensor.time_stride;
    }
    template <class T>
    T* at(const HeadTensor& tensor, int64_t batch, int64_t step) const {
        return static_cast<T*>(tensor.data) + place(tensor, batch, step);
    }
    Vec<Lane> load_step(const HeadTensor& tensor, int64_t step) const {
        return load_stored<Lane>(p.type, tensor.data, place(tensor, row, step), tensor.channel_stride, width);
    }
    // Zero where it is absent.
    Vec<Lane> load_parameter(const HeadTensor& tensor) const {
        if (!tensor.data)
            return hn::Zero(Tag<Lane>());
        return load_lanes(at<const Lane>(tensor, 0, 0), tensor.channel_stride, width).re;
    }

    void run_block() {
        const int64_t slot = p.slots ? SSM_MUTATE("selective_state_update.cpu.wrong_slot", int64_t{p.slots[row]}, row) : row;
        if (slot < 0 || slot >= p.rows) {
            for (int64_t t = 0; t < p.steps; ++t)
                store_step(t, hn::Zero(Tag<Lane>()));
            return;
        }
        const States<S> own = {at<S>(p.update, slot, 0), p.update.channel_stride, p.update.state_stride};
        by_states = p.update.state_stride == 1 && 2 * p.states > n;
        if constexpr (is_narrow) {
            if (scratch) { // between steps the state is not rounded
                const States<Lane> wide = by_states ? States<Lane>{scratch, p.states, 1} : States<Lane>{scratch, 1, n};
                copy_states<S, Lane>(own, wide);
                run_steps(wide);
                return copy_states<Lane, S>(wide, own);
            }
        }
        run_steps(own);
    }

    template <class From, class To>
    void copy_states(States<From> from, States<To> to) const {
        if (!by_states) {
            for (int64_t k = 0; k < p.states; ++k)
                store_lanes(to.h + k * to.state_stride, to.channel_stride, width,
                            {load_lanes(from.h + k * from.state_stride, from.channel_stride, width).re});
            return;
        }
        for (int64_t l = 0; l < width; ++l)
            for (int64_t k = 0; k < p.states; k += n)
                store_lanes(to.h + l * to.channel_stride + k, 1, std::min(n, p.states - k),
                            {load_lanes(from.h + l * from.channel_stride + k, 1, std::min(n, p.states - k)).re});
    }

    template <class Stored>
    void run_steps(States<Stored> h) {
        const Tag<Lane> d;
        const auto bias = load_parameter(p.dt_bias), skip = load_parameter(p.d);
        for (int64_t t = 0; t < p.steps; ++t) {
            const auto x = load_step(p.x, t);
            auto step = hn::Add(load_step(p.dt, t), bias);
            if (p.dt_softplus)
                step = softplus<Lane>(step);
            alignas(64) Lane s[n], sx[n];
            const auto rate = premultiplied<Lane>(step);
            hn::Store(p.is_tied ? decay<Lane>(rate, load_parameter(p.a)) : rate, d, s);
            hn::Store(hn::Mul(step, x), d, sx);
            auto y = hn::MulAdd(skip, x, by_states ? sum_by_states(t, h, {s, sx}) : sum_by_lanes(t, h, {s, sx}));
            if (p.z.data)
                y = hn::Mul(y, silu<Lane>(load_step(p.z, t)));
            store_step(t, y);
        }
    }

    void store_step(int64_t t, Vec<Lane> y) const {
        store_stored<Lane>(p.type, p.y.data, place(p.y, row, t), p.y.channel_stride, width, y);
    }

    Rates<Lane> rates_of(int64_t state) const {
        return p.is_tied ? Rates<Lane>{} : Rates<Lane>{at<const Lane>(p.a, 0, 0) + state, p.a.channel_stride};
    }

    // b or c of `count` states from `state` on: in place where that can be, else converted into the buffer.
    const Lane* load_states(const HeadTensor& tensor, int64_t t, int64_t state, int64_t count, Lane* buffer) const {
        const int64_t group = head / (p.heads / p.groups);
        const int64_t from =
            row * tensor.batch_stride + group * tensor.head_stride + state * tensor.state_stride + t * tensor.time_stride;
        if (tensor.state_stride == 1 && size_of(p.type) == sizeof(Lane))
            return static_cast<const Lane*>(tensor.data) + from;
        for (int64_t k = 0; k < count; k += n) // the buffer ends at a whole vector
            hn::Store(load_stored<Lane>(p.type, tensor.data, from + k * tensor.state_stride, tensor.state_stride,
                                        std::min(n, count - k)),
                      Tag<Lane>(), buffer + k);
        return buffer;
    }

    // f(first state, their number, b, c) for each chunk of states.
    template <class F>
    HWY_INLINE void for_each_chunk(int64_t t, const F& f) const {
        alignas(64) Lane b_buffer[most_states_at_hand], c_buffer[most_states_at_hand];
        for (int64_t state = 0; state < p.states; state += plan.chunk) {
            const int64_t count = std::min(plan.chunk, p.states - state);
            f(state, count, load_states(p.b, t, state, count, b_buffer), load_states(p.c, t, state, count, c_buffer));
        }
    }

    template <class Stored>
    Vec<Lane> sum_by_states(int64_t t, States<Stored> h, Steps<Lane> steps) const {
        const Tag<Lane> d;
        constexpr int m = block_lanes<Lane>();
        const int64_t groups = width / m, rest = width % m;
        alignas(64) Lane folded[n / m * n] = {}, alone[m * n]; // of every m channels a vector; of the rest one each
        if (rest > 0)
            std::fill_n(alone, m * n, Lane{0});
        const auto advance = p.is_tied ? advance_channels<Lane, Stored, true, m> : advance_channels<Lane, Stored, false, m>;
        const auto advance_one =
            p.is_tied ? advance_channels<Lane, Stored, true, 1> : advance_channels<Lane, Stored, false, 1>;
        for_each_chunk(t, [&](int64_t state, int64_t count, const Lane* b, const Lane* c) {
            const Rates<Lane> rates = rates_of(state);
            for (int64_t l = 0; l < width; l += l < groups * m ? m : 1) {
                const States<Stored> own = {h.h + l * h.channel_stride + state, h.channel_stride, 1};
                const Rates<Lane> own_rates = {rates.a + l * rates.channel_stride, rates.channel_stride};
                const Steps<Lane> own_steps = {steps.s + l, steps.sx + l};
                if (l < groups * m)
                    advance(count, own, own_rates, b, c, own_steps, folded + l / m * n);
                else
                    advance_one(count, own, own_rates, b, c, own_steps, alone + (l - groups * m) * n);
            }
        });
        if (rest > 0) {
            Vec<Lane> sums[m];
            unrolled<m>([&](auto i) SSM_INLINE_LAMBDA { sums[i] = hn::Load(d, alone + i * n); });
            hn::Store(fold<Lane>(sums), d, folded + groups * n);
        }
        // Each 16 bytes of a vector hold its channels' sums over some lanes.
        auto sum = load_blocks(folded, n);
        for (int64_t k = m; k < n; k += m)
            sum = hn::Add(sum, load_blocks(folded + k, n));
        return sum;
    }

    template <class Stored>
    Vec<Lane> sum_by_lanes(int64_t t, States<Stored> h, Steps<Lane> steps) const {
        const Tag<Lane> d;
        alignas(64) Lane sums[n] = {};
        const auto function = p.is_tied ? advance_lanes<Lane, Stored, true> : advance_lanes<Lane, Stored, false>;
        for_each_chunk(t, [&](int64_t state, int64_t count, const Lane* b, const Lane* c) {
            function(count, width, {h.h + state * h.state_stride, h.channel_stride, h.state_stride}, rates_of(state), b, c,
                     steps, sums);
        });
        return hn::Load(d, sums);
    }

    const SelectiveStateUpdateParams& p;
    const StateUpdatePlan& plan;
    Lane* scratch = nullptr;
    int64_t row = 0, head = 0, channel = 0, width = 0; // of the block
    bool by_states = false;
};

void state_update_task(const SelectiveStateUpdateParams& p, const StateUpdatePlan& plan, int64_t task) {
    with_storage(p.state, [&](auto state) {
        using S = typename decltype(state)::type;
        if constexpr (!Traits<S>::complex)
            StateUpdate<S>(p, plan).run(task);
    });
}

int64_t state_update_lanes(int64_t lane_bytes) {
    return lane_bytes == 4 ? lanes_of<float>() : lanes_of<double>();
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(state_update_task);
HWY_EXPORT(state_update_lanes);

StateUpdatePlan make_plan(const BackendContext* context, const SelectiveStateUpdateParams& p) {
    // A state whose decay is an exponential of its own takes about as long as four.
    constexpr int64_t task_work = 16384, untied_work = 4;
    StateUpdatePlan plan = {};
    plan.lanes = HWY_DYNAMIC_DISPATCH(state_update_lanes)(size_of(state_type(p.type)));
    plan.head_blocks = (p.channels + plan.lanes - 1) / plan.lanes;
    plan.blocks = p.batch * p.heads * plan.head_blocks;
    const double work = static_cast<double>(p.states) * static_cast<double>(std::min(plan.lanes, p.channels)) *
                        static_cast<double>(p.steps) * (p.is_tied ? 1 : untied_work);
    plan.blocks_per_task = std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(task_work) / work));
    plan.tasks = (plan.blocks + plan.blocks_per_task - 1) / plan.blocks_per_task;
    const int64_t chunk = context->options.get("selective_state_update.tile");
    plan.chunk =
        chunk > 0 ? std::min(most_states_at_hand, (chunk + plan.lanes - 1) / plan.lanes * plan.lanes) : most_states_at_hand;
    if (p.steps > 1 && size_of(p.state) == 2) {
        plan.area_bytes = 64 + (p.states * plan.lanes * 4 + 63) / 64 * 64;
        plan.areas = std::min<int64_t>(plan.tasks, usable_threads());
    }
    return plan;
}
} // namespace

int32_t selective_state_update(BackendContext* context, const SelectiveStateUpdateParams* params) {
    const SelectiveStateUpdateParams& p = *params;
    const StateUpdatePlan plan = make_plan(context, p);
    if (static_cast<uint64_t>(plan.areas * plan.area_bytes) > p.workspace.bytes)
        return fail(error_workspace_too_small, "selective_state_update: workspace too small");
    for (int64_t area = 0; area < plan.areas; ++area)
        plan.flag(p.workspace.data, area).store(0, std::memory_order_relaxed);
    const auto run = HWY_DYNAMIC_DISPATCH(state_update_task);
    parallel_for(plan.tasks, context->threads, [&](int64_t task) { run(p, plan, task); });
    return success;
}

int32_t selective_state_update_workspace(BackendContext* context, const SelectiveStateUpdateParams* params,
                                         uint64_t* bytes) {
    const StateUpdatePlan plan = make_plan(context, *params);
    *bytes = static_cast<uint64_t>(plan.areas * plan.area_bytes);
    return success;
}

} // namespace ssm::cpu
#endif
