// Mamba-1's selective scan. The lanes are channels; the states of a block of channels stay in registers over a block of
// steps, whose B and C lie in the first-level cache. Per channel, state and step: one product s a, one exponential (its
// rounding, a polynomial of degree 5 and its scaling), a product s u b and two fused sums.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/selective_scan.cpp"
#include "hwy/foreach_target.h"

#include "cpu/math-inl.h"
#include "cpu/tiles.h"

#include "core/mutate.h"

#ifndef SSM_CPU_SELECTIVE_SCAN_PLAN_
#define SSM_CPU_SELECTIVE_SCAN_PLAN_
namespace ssm::cpu {
// Blocks of channels never cross a group. A task is a batch element, a group and some neighbouring blocks of it.
struct SelectiveScanPlan {
    int64_t group_channels;
    int64_t blocks_per_task;
    int64_t tasks_per_group;
    int64_t tasks;
    int64_t time_block;
};
} // namespace ssm::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

constexpr int64_t most_steps = 64;  // of a block of time
constexpr int64_t most_states = 32; // whose b and c are at hand at a time

template <class Lane>
HWY_INLINE Vec<Lane> decay(Vec<Lane> s, RealVector<Lane> a) {
    if constexpr (std::is_same_v<Lane, float>)
        return exp2_fast(hn::Mul(s, a.re)); // a is premultiplied by log2(e)
    else
        return exp<Lane>(hn::Mul(s, a.re));
}
template <class Lane>
HWY_INLINE RealVector<Lane> transition(Vec<Lane> s, RealVector<Lane> a) {
    return {decay<Lane>(s, a)};
}
template <class Lane>
HWY_INLINE ComplexVector<Lane> transition(Vec<Lane> s, ComplexVector<Lane> a) {
    const auto r = decay<Lane>(s, RealVector<Lane>{a.re});
    Vec<Lane> sine, cosine;
    sine_cosine<Lane>(s, a.im, sine, cosine);
    return {hn::Mul(r, cosine), hn::Mul(r, sine)};
}
template <class Lane>
HWY_INLINE RealVector<Lane> scaled(Vec<Lane> s, RealVector<Lane> b) {
    return {hn::Mul(s, b.re)};
}
template <class Lane>
HWY_INLINE ComplexVector<Lane> scaled(Vec<Lane> s, ComplexVector<Lane> b) {
    return {hn::Mul(s, b.re), hn::Mul(s, b.im)};
}
// sum + Re(h c)
template <class Lane>
HWY_INLINE Vec<Lane> real_dot(RealVector<Lane> h, RealVector<Lane> c, Vec<Lane> sum) {
    return hn::MulAdd(h.re, c.re, sum);
}
template <class Lane>
HWY_INLINE Vec<Lane> real_dot(ComplexVector<Lane> h, ComplexVector<Lane> c, Vec<Lane> sum) {
    return hn::NegMulAdd(h.im, SSM_MUTATE("selective_scan.cpu.conjugate", c.im, hn::Neg(c.im)), hn::MulAdd(h.re, c.re, sum));
}

// U: storage of u, dt, z, y. A: type of a and of the states.
template <class U, class A>
class SelectiveScan {
  public:
    using Lane = typename Traits<U>::Lane;
    using X = VectorOf<A>;
    // Of b and c per step.
    using BC = std::conditional_t<Traits<A>::complex, A, U>;
    static constexpr int64_t n = lanes_of<Lane>();

    SelectiveScan(const SelectiveScanParams& p, const SelectiveScanPlan& plan) : p(p), plan(plan) {}

    void run(int64_t task) {
        const int64_t blocks = (plan.group_channels + n - 1) / n;
        batch = task / (plan.tasks_per_group * p.groups);
        group = task / plan.tasks_per_group % p.groups;
        const int64_t first = task % plan.tasks_per_group * plan.blocks_per_task;
        const int64_t last = std::min(blocks, first + plan.blocks_per_task);
        // The task's part of the workspace: for each block a and the states, [state][lane].
        A* const base =
            static_cast<A*>(p.workspace.data) + ((batch * p.groups + group) * blocks + first) * (2 * p.states * n);
        for (int64_t block = first; block < last; ++block)
            prepare(channel_of(block), width_of(block), base + (block - first) * 2 * p.states * n);
        for_each_piece(p.shape, batch, 0, p.shape.length, [&](const Piece& piece) {
            for (int64_t block = first; block < last; ++block)
                begin(piece, channel_of(block), width_of(block), states_of(base, block - first));
            for (int64_t t = 0; t < piece.count; t += plan.time_block) {
                loaded = -1;
                const int64_t steps = std::min(plan.time_block, piece.count - t);
                for (int64_t block = first; block < last; ++block)
                    scan(piece.time + t, steps, channel_of(block), width_of(block),
                         base + (block - first) * 2 * p.states * n);
            }
            for (int64_t block = first; block < last; ++block)
                finish(piece, channel_of(block), width_of(block), states_of(base, block - first));
        });
    }

  private:
    int64_t channel_of(int64_t block) const { return group * plan.group_channels + block * n; }
    int64_t width_of(int64_t block) const { return std::min(n, plan.group_channels - block * n); }
    A* states_of(A* base, int64_t index) const { return base + (2 * index + 1) * p.states * n; }

    // (width, N) in memory to [state][lane], unused lanes zero.
    void transpose(const A* from, int64_t width, A* to) const {
        for (int64_t state = 0; state < p.states; ++state)
            for (int64_t l = 0; l < n; ++l)
                to[state * n + l] = l < width ? from[l * p.states + state] : A{};
    }

    void prepare(int64_t channel, int64_t width, A* a) const {
        transpose(static_cast<const A*>(p.a) + channel * p.states, width, a);
        if constexpr (std::is_same_v<Lane, float>) {
            constexpr double log2e = 1.4426950408889634074;
            for (int64_t i = 0; i < p.states * n; ++i) {
                if constexpr (Traits<A>::complex)
                    a[i].re = static_cast<float>(a[i].re * log2e);
                else
                    a[i] = static_cast<float>(a[i] * log2e);
            }
        }
    }

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

    // Channels [channel, channel + width) and steps [t, t + steps) as [step][lane], unused lanes zero.
    void load_block(const Sequence& s, int64_t t, int64_t steps, int64_t channel, int64_t width, Lane* to) const {
        const U* from =
            static_cast<const U*>(s.data) + batch * s.batch_stride + channel * s.channel_stride + t * s.time_stride;
        const Tag<Lane> d;
        if (p.shape.layout == Layout::channel_contiguous) {
            for (int64_t i = 0; i < steps; ++i) {
                const U* row = from + i * s.time_stride;
                hn::Store((width == n ? load(row) : load_some(row, width)).re, d, to + i * n);
            }
            return;
        }
        alignas(64) Lane row[most_steps + n];
        for (int64_t l = 0; l < n; ++l) {
            if (l < width) {
                const U* channel_row = from + l * s.channel_stride;
                int64_t i = 0;
                for (; i + n <= steps; i += n)
                    hn::StoreU(load(channel_row + i).re, d, row + i);
                if (i < steps)
                    hn::StoreU(load_some(channel_row + i, steps - i).re, d, row + i);
            } else {
                std::fill_n(row, steps, Lane{0});
            }
            for (int64_t i = 0; i < steps; ++i)
                to[i * n + l] = row[i];
        }
    }

    void store_block(const Sequence& s, int64_t t, int64_t steps, int64_t channel, int64_t width, const Lane* from) const {
        U* to = static_cast<U*>(s.data) + batch * s.batch_stride + channel * s.channel_stride + t * s.time_stride;
        const Tag<Lane> d;
        if (p.shape.layout == Layout::channel_contiguous) {
            for (int64_t i = 0; i < steps; ++i) {
                const VectorOf<U> x = {hn::Load(d, from + i * n)};
                if (width == n)
                    store(to + i * s.time_stride, x);
                else
                    store_some(to + i * s.time_stride, x, width);
            }
            return;
        }
        alignas(64) Lane row[most_steps + n];
        for (int64_t l = 0; l < width; ++l) {
            for (int64_t i = 0; i < steps; ++i)
                row[i] = from[i * n + l];
            U* channel_row = to + l * s.channel_stride;
            int64_t i = 0;
            for (; i + n <= steps; i += n)
                store(channel_row + i, VectorOf<U>{hn::LoadU(d, row + i)});
            if (i < steps)
                store_some(channel_row + i, VectorOf<U>{hn::LoadU(d, row + i)}, steps - i);
        }
    }

    // b or c of `count` states from `state` on: [step][most_states].
    void load_states(const StateSequence& s, int64_t t, int64_t steps, int64_t state, int64_t count, A* to) const {
        if (s.is_constant)
            return;
        const BC* from = static_cast<const BC*>(s.data) + batch * s.batch_stride + group * s.group_stride +
                         state * s.state_stride + t * s.time_stride;
        for (int64_t i = 0; i < steps; ++i)
            for (int64_t k = 0; k < count; ++k)
                to[i * most_states + k] = lane<A>(load_some(from + i * s.time_stride + k * s.state_stride, 1), 0);
    }

    // Constant b or c of one block of channels: [state][lane].
    void load_constant(const StateSequence& s, int64_t channel, int64_t width, int64_t state, int64_t count, A* to) const {
        if (!s.is_constant)
            return;
        const A* from = static_cast<const A*>(s.data) + channel * p.states + state;
        for (int64_t k = 0; k < count; ++k)
            for (int64_t l = 0; l < n; ++l)
                to[k * n + l] = l < width ? from[l * p.states + k] : A{};
    }

    void scan(int64_t t, int64_t steps, int64_t channel, int64_t width, A* a) {
        A* const h = a + p.states * n;
        const Tag<Lane> d;
        alignas(64) Lane s[most_steps * n], su[most_steps * n], sum[most_steps * n], u[most_steps * n];
        load_block(p.dt, t, steps, channel, width, s);
        load_block(p.u, t, steps, channel, width, u);
        const auto bias = per_channel(p.dt_bias, channel, width);
        for (int64_t i = 0; i < steps; ++i) {
            auto x = hn::Add(hn::Load(d, s + i * n), bias);
            if (p.dt_softplus)
                x = softplus<Lane>(x);
            hn::Store(x, d, s + i * n);
            hn::Store(hn::Mul(x, hn::Load(d, u + i * n)), d, su + i * n);
            hn::Store(hn::Zero(d), d, sum + i * n);
        }
        for (int64_t state = 0; state < p.states; state += most_states) {
            const int64_t count = std::min(most_states, p.states - state);
            if (loaded != state) {
                load_states(p.b, t, steps, state, count, b);
                load_states(p.c, t, steps, state, count, c);
                loaded = state;
            }
            alignas(64) A constant_b[most_states * n], constant_c[most_states * n];
            load_constant(p.b, channel, width, state, count, constant_b);
            load_constant(p.c, channel, width, state, count, constant_c);
            const auto each_states = [&](auto b_constant, auto c_constant) {
                constexpr bool bc = decltype(b_constant)::value, cc = decltype(c_constant)::value;
                const A *b_from = bc ? constant_b : b, *c_from = cc ? constant_c : c;
                int64_t k = 0;
                for (; k + 4 <= count; k += 4)
                    steps_of_states<4, bc, cc>(steps, a + (state + k) * n, h + (state + k) * n, b_from + k * (bc ? n : 1),
                                               c_from + k * (cc ? n : 1), s, su, sum);
                for (; k < count; ++k)
                    steps_of_states<1, bc, cc>(steps, a + (state + k) * n, h + (state + k) * n, b_from + k * (bc ? n : 1),
                                               c_from + k * (cc ? n : 1), s, su, sum);
            };
            if (p.b.is_constant) {
                if (p.c.is_constant)
                    each_states(std::true_type(), std::true_type());
                else
                    each_states(std::true_type(), std::false_type());
            } else {
                if (p.c.is_constant)
                    each_states(std::false_type(), std::true_type());
                else
                    each_states(std::false_type(), std::false_type());
            }
        }
        const auto skip = per_channel(p.d, channel, width);
        const auto twice = hn::Set(d, Traits<A>::complex ? Lane{2} : Lane{1});
        if (p.z.data)
            load_block(p.z, t, steps, channel, width, s);
        for (int64_t i = 0; i < steps; ++i) {
            auto y = hn::MulAdd(skip, hn::Load(d, u + i * n), hn::Mul(twice, hn::Load(d, sum + i * n)));
            if (p.z.data)
                y = hn::Mul(y, silu<Lane>(hn::Load(d, s + i * n)));
            hn::Store(y, d, sum + i * n);
        }
        store_block(p.y, t, SSM_MUTATE("selective_scan.cpu.off_by_one_tail", steps, steps - (steps < most_steps)), channel,
                    width, sum);
    }

    // Count states over all steps of the block.
    template <int Count, bool b_constant, bool c_constant>
    static void steps_of_states(int64_t steps, const A* a, A* h, const A* b, const A* c, const Lane* s, const Lane* su,
                                Lane* sum) {
        const Tag<Lane> d;
        X av[Count], hv[Count];
        for (int k = 0; k < Count; ++k) {
            av[k] = load(a + k * n);
            hv[k] = load(h + k * n);
        }
        for (int64_t i = 0; i < steps; ++i) {
            const auto si = hn::Load(d, s + i * n), sui = hn::Load(d, su + i * n);
            auto y = hn::Load(d, sum + i * n);
            for (int k = 0; k < Count; ++k) {
                const X bv = b_constant ? load(b + k * n) : broadcast<X>(b[i * most_states + k]);
                const X cv = c_constant ? load(c + k * n) : broadcast<X>(c[i * most_states + k]);
                hv[k] = multiply_add(transition<Lane>(si, av[k]), hv[k], scaled<Lane>(sui, bv));
                y = real_dot<Lane>(hv[k], cv, y);
            }
            hn::Store(y, d, sum + i * n);
        }
        for (int k = 0; k < Count; ++k)
            store(h + k * n, SSM_MUTATE("selective_scan.cpu.dropped_carry", hv[k], load(h + k * n)));
    }

    // A parameter of each channel, zero where it is absent.
    Vec<Lane> per_channel(const void* data, int64_t channel, int64_t width) const {
        if (!data)
            return hn::Zero(Tag<Lane>());
        return load_some(static_cast<const Lane*>(data) + channel, width).re;
    }

    const SelectiveScanParams& p;
    const SelectiveScanPlan& plan;
    int64_t batch = 0, group = 0;
    int64_t loaded = -1; // the first of the states whose b and c lie in the buffers
    alignas(64) A b[most_steps * most_states], c[most_steps * most_states];
};

void selective_scan_task(const SelectiveScanParams& p, const SelectiveScanPlan& plan, int64_t task) {
    with_storage(p.type, [&](auto type) {
        using U = typename decltype(type)::type;
        using Lane = typename Traits<U>::Lane;
        if constexpr (!Traits<U>::complex) {
            if (is_complex(p.state))
                SelectiveScan<U, Complex<Lane>>(p, plan).run(task);
            else
                SelectiveScan<U, Lane>(p, plan).run(task);
        }
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

int64_t blocks_per_group(const SelectiveScanParams& p) {
    const int64_t lanes = HWY_DYNAMIC_DISPATCH(selective_scan_lanes)(size_of(state_type(p.type)));
    return (p.shape.channels / p.groups + lanes - 1) / lanes;
}
uint64_t workspace_bytes(const SelectiveScanParams& p) {
    const int64_t lanes = HWY_DYNAMIC_DISPATCH(selective_scan_lanes)(size_of(state_type(p.type)));
    return static_cast<uint64_t>(p.shape.batch * p.groups * blocks_per_group(p) * 2 * p.states * lanes * size_of(p.state));
}
} // namespace

int32_t selective_scan(BackendContext* context, const SelectiveScanParams* params) {
    const SelectiveScanParams& p = *params;
    if (p.shape.channels == 0 || p.shape.batch == 0)
        return SSM_SUCCESS;
    if (workspace_bytes(p) > p.workspace.bytes)
        return fail(SSM_ERROR_WORKSPACE_TOO_SMALL, "selective_scan: workspace too small");
    const int64_t blocks = blocks_per_group(p), threads = context->threads > 0 ? context->threads : usable_threads();
    SelectiveScanPlan plan;
    plan.group_channels = p.shape.channels / p.groups;
    // Channels do not touch each other, so their grouping changes no bit: enough tasks for every thread.
    plan.blocks_per_task =
        std::clamp<int64_t>(p.shape.batch * p.groups * blocks / (4 * threads), 1, std::min<int64_t>(blocks, 8));
    plan.tasks_per_group = (blocks + plan.blocks_per_task - 1) / plan.blocks_per_task;
    plan.tasks = p.shape.batch * p.groups * plan.tasks_per_group;
    plan.time_block = context->selective_scan_tile > 0 ? std::min<int64_t>(context->selective_scan_tile, 64) : 64;
    const auto run = HWY_DYNAMIC_DISPATCH(selective_scan_task);
    parallel_for(plan.tasks, context->threads, [&](int64_t task) { run(p, plan, task); });
    return SSM_SUCCESS;
}

int32_t selective_scan_workspace(BackendContext* context, const SelectiveScanParams* params, uint64_t* bytes) {
    (void)context;
    *bytes = params->shape.channels == 0 || params->shape.batch == 0 ? 0 : workspace_bytes(*params);
    return SSM_SUCCESS;
}

} // namespace ssm::cpu
#endif
