// Mamba-1's selective scan. The lanes are channels; the states of a block of channels stay in registers over a block of
// steps, whose B and C lie in the first-level cache. Per channel, state and step: one product s a, one exponential (its
// rounding, a polynomial of degree 5 and its scaling), a product s u b and two fused sums.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/selective_scan.cpp"
#include "hwy/foreach_target.h"

#include "cpu/selective_scan-inl.h"
#include "cpu/sequence_runs.h"
#include "cpu/tiles.h"

#include "core/mutate.h"
#include "core/params/selective_scan.h"

#include <atomic>

#ifndef SSM_CPU_SELECTIVE_SCAN_PLAN_
#define SSM_CPU_SELECTIVE_SCAN_PLAN_
namespace ssm::cpu {
// Blocks of channels, one vector wide, never cross a group of B and C. A task is a batch element, a group and some
// neighbouring blocks of it over all time; or, where there are few channels, one block over one chunk of time. Then a chunk
//   1. runs from zero for its last state and the sum of its s,
//   2. waits for the state its predecessor leaves and publishes exp(a sum s) times it plus its own,
//   3. runs again from its predecessor's state.
// The cut into chunks depends on the shape alone; that of the channels changes no bit.
struct SelectiveScanPlan {
    int64_t lanes, group_channels;
    int64_t blocks; // of a group
    int64_t blocks_per_task, tasks_per_group;
    int64_t chunk, chunks; // steps; 1 chunk: not cut
    int64_t tasks;
    int64_t time_block;
    int64_t area_bytes; // a task's scratch: a flag (64 bytes), then a and h of each of its blocks, [state][lane]
    int64_t areas;
    int64_t slot_bytes; // where chunks meet: a flag (64 bytes) and the states of a block
    int64_t slots;
    SequenceRunTable runs; // behind the slots

    uint64_t workspace_bytes() const { return static_cast<uint64_t>(slot_offset(slots) + runs.bytes()); }
    void* runs_at(void* base) const { return static_cast<char*>(base) + slot_offset(slots); }
    std::atomic<int64_t>& flag(void* base, int64_t offset) const {
        return *reinterpret_cast<std::atomic<int64_t>*>(static_cast<char*>(base) + offset);
    }
    int64_t slot_offset(int64_t slot) const { return areas * area_bytes + slot * slot_bytes; }
};
} // namespace ssm::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

// Count states over the steps of a block. Not inlined: one copy for every storage type.
template <class A, int Count>
HWY_NOINLINE void advance_states(int64_t steps, const A* a, A* h, StepStates<A> b, StepStates<A> c,
                                 const typename Traits<A>::Lane* s, const typename Traits<A>::Lane* su,
                                 typename Traits<A>::Lane* sum) {
    using Lane = typename Traits<A>::Lane;
    using X = VectorOf<A>;
    constexpr int64_t n = lanes<A>();
    const Tag<Lane> d;
    X hv[Count];
    unrolled<Count>([&](auto k) SSM_INLINE_LAMBDA { hv[k] = load(h + k * n); });
    for (int64_t i = 0; i < steps; ++i) {
        const auto si = hn::Load(d, s + i * n), sui = hn::Load(d, su + i * n);
        auto y = hn::Load(d, sum + i * n);
        const A *bi = b.data + i * b.stride, *ci = c.data + i * c.stride;
        unrolled<Count>([&](auto k) SSM_INLINE_LAMBDA {
            // Constant b and c come one state at a time.
            const X bv = Count == 1 && b.is_constant ? load(bi) : broadcast<X>(bi[k]);
            const X cv = Count == 1 && c.is_constant ? load(ci) : broadcast<X>(ci[k]);
            hv[k] = multiply_add(transition<Lane>(si, load(a + k * n)), hv[k], scaled<Lane>(sui, bv));
            y = real_dot<Lane>(hv[k], cv, y);
        });
        hn::Store(y, d, sum + i * n);
    }
    unrolled<Count>([&](auto k) SSM_INLINE_LAMBDA {
        store(h + k * n, SSM_MUTATE("selective_scan.cpu.dropped_carry", hv[k], load(h + k * n)));
    });
}

// s from dt, s u, and zero for the sums; the sum of s is added to total.
template <class Lane>
HWY_NOINLINE void prepare_steps(int64_t steps, const Lane* bias, bool use_softplus, const Lane* u, Lane* s, Lane* su,
                                Lane* sum, Lane* total) {
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    auto all = hn::Load(d, total);
    for (int64_t i = 0; i < steps; ++i) {
        auto x = hn::Add(hn::Load(d, s + i * n), hn::Load(d, bias));
        if (use_softplus)
            x = softplus<Lane>(x);
        all = hn::Add(all, x);
        hn::Store(x, d, s + i * n);
        hn::Store(hn::Mul(x, hn::Load(d, u + i * n)), d, su + i * n);
        hn::Store(hn::Zero(d), d, sum + i * n);
    }
    hn::Store(all, d, total);
}

// y = (factor sum + skip u) silu(z), in place of the sums; z may be null.
template <class Lane>
HWY_NOINLINE void finish_steps(int64_t steps, Lane factor, const Lane* skip, const Lane* u, const Lane* z, Lane* sum) {
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    for (int64_t i = 0; i < steps; ++i) {
        auto y =
            hn::MulAdd(hn::Load(d, skip), hn::Load(d, u + i * n), hn::Mul(hn::Set(d, factor), hn::Load(d, sum + i * n)));
        if (z)
            y = hn::Mul(y, silu<Lane>(hn::Load(d, z + i * n)));
        hn::Store(y, d, sum + i * n);
    }
}

template <class A>
class SelectiveScan : SelectiveScanTensors<A> {
  public:
    using Base = SelectiveScanTensors<A>;
    using Base::n;
    using typename Base::Lane;
    using typename Base::X;

    SelectiveScan(const SelectiveScanParams& p, const SelectiveScanPlan& plan)
        : Base(p.shape, p.type, p.states, p.a), p(p), plan(plan) {}

    void run(int64_t task) {
        // No more tasks run at once than there are areas.
        int64_t area = 0;
        while (plan.flag(p.workspace.data, area * plan.area_bytes).exchange(1, std::memory_order_acquire) != 0)
            area = (area + 1) % plan.areas;
        base = reinterpret_cast<A*>(static_cast<char*>(p.workspace.data) + area * plan.area_bytes + 64);
        if (plan.chunks == 1)
            run_blocks(task);
        else
            run_chunk(task);
        plan.flag(p.workspace.data, area * plan.area_bytes).store(0, std::memory_order_release);
    }

  private:
    using Base::batch;
    using Base::clear_block;
    using Base::group;
    using Base::load_block;
    using Base::load_constant;
    using Base::load_states;
    using Base::per_channel;
    using Base::prepare;
    using Base::store_block;
    using Base::transpose;

    void run_blocks(int64_t task) {
        batch = task / (plan.tasks_per_group * p.groups);
        group = task / plan.tasks_per_group % p.groups;
        first = task % plan.tasks_per_group * plan.blocks_per_task;
        last = std::min(plan.blocks, first + plan.blocks_per_task);
        for (int64_t block = first; block < last; ++block)
            prepare(channel_of(block), width_of(block), a_of(block));
        run_steps(true, 0, p.shape.length);
    }

    void run_chunk(int64_t task) {
        const int64_t chunk = task / plan.slots, slot = task % plan.slots;
        batch = slot / (plan.blocks * p.groups);
        group = slot / plan.blocks % p.groups;
        first = slot % plan.blocks;
        last = first + 1;
        A *const a = a_of(first), *const h = h_of(first);
        prepare(channel_of(first), width_of(first), a);
        const int64_t begin = chunk * plan.chunk, end = std::min(p.shape.length, begin + plan.chunk);
        const bool is_last = chunk + 1 == plan.chunks;
        const Tag<Lane> d;
        bool restarts = false; // a sequence starts inside: nothing of the predecessor's state gets past it
        hn::Store(hn::Zero(d), d, total);
        if (!is_last) {
            std::fill_n(h, p.states * n, A{});
            restarts = run_steps(false, begin, end);
        }
        std::atomic<int64_t>& flag = plan.flag(p.workspace.data, plan.slot_offset(slot));
        A* const published = reinterpret_cast<A*>(static_cast<char*>(p.workspace.data) + plan.slot_offset(slot) + 64);
        Backoff backoff;
        while (flag.load(std::memory_order_acquire) != chunk)
            backoff.pause();
        const auto sum = hn::Load(d, total);
        for (int64_t i = 0; i < p.states * n; i += n) {
            const X own = load(h + i), before = chunk > 0 ? load(published + i) : constant<X>(0);
            store(h + i, before);
            const X after = multiply_add(transition<Lane>(sum, load(a + i)), before, own);
            store(published + i, restarts ? own : SSM_MUTATE("selective_scan.cpu.lost_chunk", after, own));
        }
        flag.store(chunk + 1, std::memory_order_release);
        run_steps(true, begin, end);
    }

    // With outputs, or for the states and the sum of s alone. Answers whether a sequence starts among these steps.
    bool run_steps(bool outputs, int64_t from, int64_t to) {
        bool starts = false;
        if (p.seq_idx)
            return run_runs(outputs, from, to);
        for_each_piece(p.shape, batch, from, to, [&](const Piece& piece) {
            starts = starts || piece.starts;
            run_piece(outputs, piece);
        });
        return starts;
    }

    // The same where seq_idx says what the sequences are. The row's own ends are pieces without steps, because padding may
    // lie there.
    bool run_runs(bool outputs, int64_t from, int64_t to) {
        const SequenceRuns row = plan.runs.row(plan.runs_at(p.workspace.data), batch);
        bool starts = from == 0;
        if (from == 0)
            run_piece(outputs, Piece{batch, 0, 0, true, false});
        row.for_each(from, to, [&](const RunPart& part) {
            if (SSM_MUTATE("selective_scan.cpu.missed_restart", part.restarts, false)) {
                starts = true;
                for (int64_t block = first; block < last; ++block)
                    std::fill_n(h_of(block), p.states * n, A{});
            }
            run_piece(outputs, Piece{batch, part.time, part.count, false, false});
        });
        if (outputs)
            row.for_each_gap(from, to, [&](int64_t gap, int64_t end) {
                const int64_t steps = SSM_MUTATE("selective_scan.cpu.padding_left", end - gap, end - gap - 1);
                for (int64_t block = first; block < last; ++block)
                    clear_block(p.y, gap, steps, channel_of(block), width_of(block));
            });
        if (SSM_MUTATE("selective_scan.cpu.state_lost_in_padding", to, row.count ? row[row.count - 1].end : 0) ==
            p.shape.length)
            run_piece(outputs, Piece{batch, to, 0, false, true});
        return starts;
    }

    // With outputs, or for the states and the sum of s alone.
    void run_piece(bool outputs, const Piece& piece) {
        if (piece.starts)
            for (int64_t block = first; block < last; ++block)
                begin(piece, channel_of(block), width_of(block), h_of(block));
        for (int64_t t = 0; t < piece.count; t += plan.time_block) {
            loaded = -1;
            const int64_t steps = std::min(plan.time_block, piece.count - t);
            for (int64_t block = first; block < last; ++block)
                scan(outputs, piece.time + t, steps, channel_of(block), width_of(block), a_of(block), h_of(block));
        }
        if (outputs && piece.ends)
            for (int64_t block = first; block < last; ++block)
                finish(piece, channel_of(block), width_of(block), h_of(block));
    }

    A* a_of(int64_t block) const { return base + (block - first) * 2 * p.states * n; }
    A* h_of(int64_t block) const { return a_of(block) + p.states * n; }
    int64_t channel_of(int64_t block) const { return group * plan.group_channels + block * n; }
    int64_t width_of(int64_t block) const { return std::min(n, plan.group_channels - block * n); }
    void begin(const Piece& piece, int64_t channel, int64_t width, A* h) const {
        if (const A* initial = static_cast<const A*>(p.initial_state))
            transpose(initial + (piece.row * p.shape.channels + channel) * p.states, width, h);
        else
            std::fill_n(h, p.states * n, A{});
    }

    void finish(const Piece& piece, int64_t channel, int64_t width, const A* h) const {
        if (A* last = static_cast<A*>(p.last_state)) {
            A* to = last + (piece.row * p.shape.channels + channel) * p.states;
            for (int64_t l = 0; l < width; ++l)
                for (int64_t state = 0; state < p.states; ++state)
                    to[l * p.states + state] = h[state * n + l];
        }
    }

    void scan(bool outputs, int64_t t, int64_t steps, int64_t channel, int64_t width, const A* a, A* h) {
        alignas(64) Lane s[most_steps * n], su[most_steps * n], sum[most_steps * n], u[most_steps * n], parameter[n];
        load_block(p.dt, t, steps, channel, width, s);
        load_block(p.u, t, steps, channel, width, u);
        per_channel(p.dt_bias, channel, width, parameter);
        prepare_steps<Lane>(steps, parameter, p.dt_softplus, u, s, su, sum, total);
        for (int64_t state = 0; state < p.states; state += most_states) {
            const int64_t count = std::min(most_states, p.states - state);
            if (loaded != state) {
                b = load_states(p.b, t, steps, state, count, b_buffer);
                c = load_states(p.c, t, steps, state, count, c_buffer);
                loaded = state;
            }
            alignas(64) A constant_b[most_states * n], constant_c[most_states * n];
            load_constant(p.b, channel, width, state, count, constant_b);
            load_constant(p.c, channel, width, state, count, constant_c);
            int64_t k = 0;
            const auto run = [&](auto number) {
                constexpr int many = decltype(number)::value;
                for (; k + many <= count; k += many)
                    advance_states<A, many>(steps, a + (state + k) * n, h + (state + k) * n,
                                            b.is_constant ? StepStates<A>{constant_b + k * n, 0, true}
                                                          : StepStates<A>{b.data + k, b.stride, false},
                                            c.is_constant ? StepStates<A>{constant_c + k * n, 0, true}
                                                          : StepStates<A>{c.data + k, c.stride, false},
                                            s, su, sum);
            };
            // As many states as the registers hold beside the polynomial's coefficients; only float32 is worth the code.
            if constexpr (std::is_same_v<A, float>) {
                if (!b.is_constant && !c.is_constant) {
                    if constexpr (HWY_TARGET == HWY_AVX3)
                        run(std::integral_constant<int, 16>());
                    run(std::integral_constant<int, 4>());
                }
            }
            run(std::integral_constant<int, 1>());
        }
        if (!outputs)
            return;
        per_channel(p.d, channel, width, parameter);
        if (p.z.data)
            load_block(p.z, t, steps, channel, width, s);
        finish_steps<Lane>(steps, Traits<A>::complex ? Lane{2} : Lane{1}, parameter, u, p.z.data ? s : nullptr, sum);
        store_block(p.y, t, SSM_MUTATE("selective_scan.cpu.off_by_one_tail", steps, steps - (steps < most_steps)), channel,
                    width, sum);
    }

    const SelectiveScanParams& p;
    const SelectiveScanPlan& plan;
    A* base = nullptr;
    int64_t first = 0, last = 0; // the task's blocks
    int64_t loaded = -1;         // the first of the states whose b and c are at hand
    StepStates<A> b = {}, c = {};
    alignas(64) Lane total[n] = {}; // sum of s
    alignas(64) A b_buffer[most_steps * most_states], c_buffer[most_steps * most_states];
};

void selective_scan_task(const SelectiveScanParams& p, const SelectiveScanPlan& plan, int64_t task) {
    with_storage(p.state, [&](auto state) {
        using A = typename decltype(state)::type;
        if constexpr (std::is_same_v<A, typename Traits<A>::State>)
            SelectiveScan<A>(p, plan).run(task);
    });
}

int64_t selective_scan_lanes(int64_t lane_bytes) {
    return lane_bytes == 4 ? lanes_of<float>() : lanes_of<double>();
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(selective_scan_task);
HWY_EXPORT(selective_scan_lanes);

SelectiveScanPlan make_plan(const BackendContext* context, const SelectiveScanParams& p) {
    constexpr int64_t few_channels = 64, default_chunk = 1024, most_steps = 64;
    const int64_t threads = context->threads > 0 ? std::min(context->threads, usable_threads()) : usable_threads();
    const int64_t tile = context->options.get("selective_scan.tile");
    SelectiveScanPlan plan = {};
    if (p.shape.channels == 0 || p.shape.batch == 0)
        return plan;
    plan.lanes = HWY_DYNAMIC_DISPATCH(selective_scan_lanes)(size_of(state_type(p.type)));
    plan.group_channels = p.shape.channels / p.groups;
    plan.blocks = (plan.group_channels + plan.lanes - 1) / plan.lanes;
    const int64_t all_blocks = p.shape.batch * p.groups * plan.blocks;
    plan.time_block = tile > 0 ? std::min(tile, most_steps) : most_steps;
    plan.chunk = tile > 0 ? tile : default_chunk;
    plan.chunks = 1;
    if (p.shape.length > plan.chunk &&
        (tile > 0 || (p.shape.batch * p.shape.channels <= few_channels && p.shape.length > 2 * plan.chunk)))
        plan.chunks = (p.shape.length + plan.chunk - 1) / plan.chunk;
    // Enough tasks for every thread, but blocks together share the conversion of B and C.
    plan.blocks_per_task =
        plan.chunks > 1 ? 1 : std::clamp<int64_t>(all_blocks / (4 * threads), 1, std::min<int64_t>(plan.blocks, 8));
    plan.tasks_per_group = (plan.blocks + plan.blocks_per_task - 1) / plan.blocks_per_task;
    plan.tasks = plan.chunks > 1 ? all_blocks * plan.chunks : p.shape.batch * p.groups * plan.tasks_per_group;
    const int64_t block_bytes = (p.states * plan.lanes * size_of(p.state) + 63) / 64 * 64;
    plan.area_bytes = 64 + plan.blocks_per_task * 2 * block_bytes;
    plan.areas = std::min<int64_t>(plan.tasks, usable_threads());
    plan.slot_bytes = 64 + block_bytes;
    plan.slots = plan.chunks > 1 ? all_blocks : 0;
    plan.runs = SequenceRunTable(p.shape, p.seq_idx);
    return plan;
}
} // namespace

int32_t selective_scan(BackendContext* context, const SelectiveScanParams* params) {
    const SelectiveScanParams& p = *params;
    const SelectiveScanPlan plan = make_plan(context, p);
    if (plan.tasks == 0)
        return success;
    if (plan.workspace_bytes() > p.workspace.bytes)
        return fail(error_workspace_too_small, "selective_scan: workspace too small");
    for (int64_t area = 0; area < plan.areas; ++area)
        plan.flag(p.workspace.data, area * plan.area_bytes).store(0, std::memory_order_relaxed);
    for (int64_t slot = 0; slot < plan.slots; ++slot)
        plan.flag(p.workspace.data, plan.slot_offset(slot)).store(0, std::memory_order_relaxed);
    plan.runs.find_runs(plan.runs_at(p.workspace.data), context->threads);
    const auto run = HWY_DYNAMIC_DISPATCH(selective_scan_task);
    parallel_for(plan.tasks, context->threads, [&](int64_t task) { run(p, plan, task); });
    return success;
}

int32_t selective_scan_workspace(BackendContext* context, const SelectiveScanParams* params, uint64_t* bytes) {
    *bytes = make_plan(context, *params).workspace_bytes();
    return success;
}

} // namespace ssm::cpu
#endif
