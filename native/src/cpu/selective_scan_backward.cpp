// Gradients of Mamba-1's selective scan. The lanes are channels, as in the forward operation. A task first runs forward and
// keeps the states at the start of every block of time; then it takes the blocks of time from the last to the first, and in
// each, for a few states at a time, computes decays and states again and goes back through them with g, what the loss
// depends on the state by. Per channel, state and step: two or, in the last block of time, one exponential, three
// multiply-adds forward twice, nine products and sums backward.
//
// The gradients of b and c are sums over channels: vectors of channels are added up per step and state over the blocks of
// channels of a task, then their lanes, and the tasks' sums, each in a part of the workspace, at the end.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/selective_scan_backward.cpp"
#include "hwy/foreach_target.h"

#include "cpu/selective_scan-inl.h"
#include "cpu/sequence_runs.h"
#include "cpu/tiles.h"

#include "core/mutate.h"
#include "core/params/selective_scan_backward.h"

#include <atomic>
#include <cstring>

#ifndef SSM_CPU_SELECTIVE_SCAN_BACKWARD_PLAN_
#define SSM_CPU_SELECTIVE_SCAN_BACKWARD_PLAN_
namespace ssm::cpu {
// Blocks of channels, one vector wide, never cross a group of b and c. A task is a batch element, a group, some neighbouring
// blocks of it and a chunk of time: all of it, unless there are few channels. With chunks
//   1. every chunk runs forward from zero and backward from zero, for the state it leaves and what it makes of g,
//   2. both are folded over the chunks, each block of channels by itself,
//   3. every chunk runs with the state before it and the g behind it.
// The cut depends on the shape alone, because it decides in which order gradients are summed.
struct SelectiveScanBackwardPlan {
    static constexpr int64_t most_time_block = 32;

    int64_t lanes, group_channels;
    int64_t blocks; // of a group
    int64_t blocks_per_task, tasks_per_group;
    int64_t chunk, chunks; // steps; 1 chunk: not cut
    int64_t tasks;
    int64_t time_block;
    int64_t state_bytes; // the states of a block, whole cache lines
    int64_t keeps;       // states a task keeps on its way forward
    int64_t area_bytes;  // a task's scratch
    int64_t areas;
    int64_t link_bytes; // what a chunk of a block leaves: the state, g, the sum of s, flags
    int64_t links;
    int64_t columns;   // 1 and one for each of b and c that is constant
    int64_t row_bytes; // sums of one block over a chunk: of a, constant b and c, d and dt_bias
    int64_t rows, all_blocks;
    int64_t part_bytes; // the sums for b, and for c, of a task per group: (B,G,N,L) or (B,G,L,N)
    int64_t run_states; // where seq_idx is given, states that a task keeps within a block of time
    SequenceRunTable runs;

    int64_t area_offset(int64_t area) const { return area * area_bytes; }
    int64_t link_offset(int64_t link) const { return areas * area_bytes + link * link_bytes; }
    int64_t row_offset(int64_t row, int64_t block) const {
        return link_offset(links) + (row * all_blocks + block) * row_bytes;
    }
    // which: 0 for b, 1 for c.
    int64_t part_offset(int64_t which, int64_t part) const {
        return row_offset(rows, 0) + (which * tasks_per_group + part) * part_bytes;
    }
    uint64_t workspace_bytes() const { return static_cast<uint64_t>(part_offset(2, 0) + runs.bytes()); }
    void* runs_at(void* base) const { return static_cast<char*>(base) + part_offset(2, 0); }
    std::atomic<int64_t>& flag(void* base, int64_t area) const {
        return *reinterpret_cast<std::atomic<int64_t>*>(static_cast<char*>(base) + area_offset(area));
    }
};

// What a call of the task function does, with a task, a block of channels or some rows.
enum class SelectiveScanBackwardPhase { summarize, fold, run, add_rows, add_parts_b, add_parts_c };
} // namespace ssm::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

constexpr int64_t most_block_steps = SelectiveScanBackwardPlan::most_time_block;

// Re(x conj(y)) + sum
template <class Lane>
HWY_INLINE Vec<Lane> real_inner(RealVector<Lane> x, RealVector<Lane> y, Vec<Lane> sum) {
    return hn::MulAdd(x.re, y.re, sum);
}
template <class Lane>
HWY_INLINE Vec<Lane> real_inner(ComplexVector<Lane> x, ComplexVector<Lane> y, Vec<Lane> sum) {
    return hn::MulAdd(x.im, y.im, hn::MulAdd(x.re, y.re, sum));
}
// factor x + y
template <class Lane>
HWY_INLINE RealVector<Lane> scaled_add(Vec<Lane> factor, RealVector<Lane> x, RealVector<Lane> y) {
    return {hn::MulAdd(factor, x.re, y.re)};
}
template <class Lane>
HWY_INLINE ComplexVector<Lane> scaled_add(Vec<Lane> factor, ComplexVector<Lane> x, ComplexVector<Lane> y) {
    return {hn::MulAdd(factor, x.re, y.re), hn::MulAdd(factor, x.im, y.im)};
}
template <class Lane>
HWY_INLINE Vec<Lane> logistic(Vec<Lane> x) {
    return hn::Div(constant_vector<Lane>(Lane(1)), hn::Add(constant_vector<Lane>(Lane(1)), exp<Lane>(hn::Neg(x))));
}

// b or c of state k at a step: [step][state], or constant [state][lane], which comes one state at a time.
template <class A, int Count>
HWY_INLINE VectorOf<A> state_at(StepStates<A> states, int64_t step, int k) {
    const A* at = states.data + step * states.stride;
    return Count == 1 && states.is_constant ? load(at) : broadcast<VectorOf<A>>(at[k]);
}

// What a block of time has per step, [step][lane].
template <class Lane>
struct StepValues {
    static constexpr int64_t size = most_block_steps * lanes_of<Lane>();
    alignas(64) Lane u[size], s[size], su[size];
    alignas(64) Lane slope[size];    // ds / d(dt)
    alignas(64) Lane gy[size];       // grad_y silu(z), twice that where states are complex
    alignas(64) Lane grad_z[size];   // grad_y silu'(z), then times y
    alignas(64) Lane y[size];        // sum of Re(h c)
    alignas(64) Lane of_input[size]; // sum of Re(g conj(b))
    alignas(64) Lane of_rate[size];  // sum of Re(g conj(e h a))
};

// Count states forward over the steps of a block of time.
template <class A, int Count>
HWY_NOINLINE void carry_states(int64_t steps, const A* a, A* h, StepStates<A> b, const typename Traits<A>::Lane* s,
                               const typename Traits<A>::Lane* su) {
    using Lane = typename Traits<A>::Lane;
    constexpr int64_t n = lanes<A>();
    const Tag<Lane> d;
    VectorOf<A> hv[Count];
    unrolled<Count>([&](auto k) SSM_INLINE_LAMBDA { hv[k] = load(h + k * n); });
    for (int64_t i = 0; i < steps; ++i) {
        const auto si = hn::Load(d, s + i * n), sui = hn::Load(d, su + i * n);
        unrolled<Count>([&](auto k) SSM_INLINE_LAMBDA {
            hv[k] =
                multiply_add(transition<Lane>(si, load(a + k * n)), hv[k], scaled<Lane>(sui, state_at<A, Count>(b, i, k)));
        });
    }
    unrolled<Count>([&](auto k) SSM_INLINE_LAMBDA { store(h + k * n, hv[k]); });
}

// Count g backward over the steps of a block of time, no gradients taken.
template <class A, int Count>
HWY_NOINLINE void carry_back(int64_t steps, const A* a, A* g, StepStates<A> c, const typename Traits<A>::Lane* s,
                             const typename Traits<A>::Lane* gy) {
    using Lane = typename Traits<A>::Lane;
    constexpr int64_t n = lanes<A>();
    const Tag<Lane> d;
    VectorOf<A> gv[Count];
    unrolled<Count>([&](auto k) SSM_INLINE_LAMBDA { gv[k] = load(g + k * n); });
    for (int64_t i = steps - 1; i >= 0; --i) {
        const auto si = hn::Load(d, s + i * n), gyi = hn::Load(d, gy + i * n);
        unrolled<Count>([&](auto k) SSM_INLINE_LAMBDA {
            gv[k] = multiply(conjugate(transition_or_nan<Lane>(si, load(a + k * n))),
                             scaled_add<Lane>(gyi, conjugate(state_at<A, Count>(c, i, k)), gv[k]));
        });
    }
    unrolled<Count>([&](auto k) SSM_INLINE_LAMBDA { store(g + k * n, gv[k]); });
}

// Where the gradients of some b or c are summed over channels: [step][state][lane]; constant, [state][lane] with stride 0.
template <class A>
struct StepSums {
    A* data;
    int64_t stride;
};

// Count states of a block of time: forward from h, backward from g, which becomes what reaches the step before.
template <class A, int Count>
HWY_NOINLINE void differentiate_states(int64_t steps, const A* a, const A* rate, const A* h, A* g, A* grad_a,
                                       StepStates<A> b, StepStates<A> c, StepSums<A> grad_b, StepSums<A> grad_c,
                                       bool wants_y, StepValues<typename Traits<A>::Lane>& at) {
    using Lane = typename Traits<A>::Lane;
    using X = VectorOf<A>;
    constexpr int64_t n = lanes<A>();
    const Tag<Lane> d;
    alignas(64) A decays[most_block_steps * Count * n], before[most_block_steps * Count * n];
    X hv[Count];
    unrolled<Count>([&](auto k) SSM_INLINE_LAMBDA { hv[k] = load(h + k * n); });
    for (int64_t i = 0; i < steps; ++i) {
        const auto si = hn::Load(d, at.s + i * n), sui = hn::Load(d, at.su + i * n);
        A *const decay_at = decays + i * Count * n, *const before_at = before + i * Count * n;
        unrolled<Count>([&](auto k) SSM_INLINE_LAMBDA {
            const X e = transition_or_nan<Lane>(si, load(a + k * n));
            store(decay_at + k * n, e);
            store(before_at + k * n, hv[k]);
            hv[k] = multiply_add(e, hv[k], scaled<Lane>(sui, state_at<A, Count>(b, i, k)));
        });
        if (wants_y) {
            auto y = hn::Load(d, at.y + i * n);
            unrolled<Count>([&](auto k) SSM_INLINE_LAMBDA { y = real_dot<Lane>(hv[k], state_at<A, Count>(c, i, k), y); });
            hn::Store(y, d, at.y + i * n);
        }
    }
    X gv[Count], grad_av[Count];
    unrolled<Count>([&](auto k) SSM_INLINE_LAMBDA {
        gv[k] = load(g + k * n);
        grad_av[k] = load(grad_a + k * n);
    });
    for (int64_t i = steps - 1; i >= 0; --i) {
        const auto si = hn::Load(d, at.s + i * n), sui = hn::Load(d, at.su + i * n), gyi = hn::Load(d, at.gy + i * n);
        auto of_input = hn::Load(d, at.of_input + i * n), of_rate = hn::Load(d, at.of_rate + i * n);
        const A *const decay_at = decays + i * Count * n, *const before_at = before + i * Count * n;
        A *const to_b = grad_b.data + i * grad_b.stride, *const to_c = grad_c.data + i * grad_c.stride;
        unrolled<Count>([&](auto k) SSM_INLINE_LAMBDA {
            const X bv = state_at<A, Count>(b, i, k), cv = state_at<A, Count>(c, i, k);
            gv[k] = scaled_add<Lane>(gyi, SSM_MUTATE("selective_scan_backward.cpu.conjugate", conjugate(cv), cv), gv[k]);
            store(to_c + k * n, scaled_add<Lane>(gyi, conjugate(hv[k]), load(to_c + k * n)));
            store(to_b + k * n, scaled_add<Lane>(sui, gv[k], load(to_b + k * n)));
            of_input = real_inner<Lane>(gv[k], bv, of_input);
            const X e = load(decay_at + k * n);
            hv[k] = load(before_at + k * n);
            const X product = multiply(gv[k], conjugate(multiply(e, hv[k])));
            grad_av[k] = scaled_add<Lane>(si, product, grad_av[k]);
            of_rate = real_inner<Lane>(product, load(rate + k * n), of_rate);
            gv[k] = multiply(conjugate(e), gv[k]);
        });
        hn::Store(of_input, d, at.of_input + i * n);
        hn::Store(of_rate, d, at.of_rate + i * n);
    }
    unrolled<Count>([&](auto k) SSM_INLINE_LAMBDA {
        store(g + k * n, SSM_MUTATE("selective_scan_backward.cpu.dropped_carry", gv[k], load(g + k * n)));
        store(grad_a + k * n, grad_av[k]);
    });
}

// s from dt where s will be, s u, and the slope of s if wanted; the sum of s is added to total.
template <class Lane>
HWY_NOINLINE void prepare_input(int64_t steps, const Lane* bias, bool use_softplus, bool wants_slope, StepValues<Lane>& at,
                                Lane* total) {
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    const auto one = constant_vector<Lane>(Lane(1));
    auto all = hn::Load(d, total);
    for (int64_t i = 0; i < steps * n; i += n) {
        auto x = hn::Add(hn::Load(d, at.s + i), hn::Load(d, bias));
        auto slope = one;
        if (use_softplus) {
            if (wants_slope) { // the logistic function, from the exponential that softplus has too
                const auto e = exp<Lane>(hn::Neg(hn::Abs(x)));
                slope = hn::Div(hn::IfThenElse(hn::Lt(x, hn::Zero(d)), e, one), hn::Add(one, e));
            }
            x = softplus<Lane>(x);
        }
        all = hn::Add(all, x);
        hn::Store(x, d, at.s + i);
        hn::Store(hn::Mul(x, hn::Load(d, at.u + i)), d, at.su + i);
        if (wants_slope)
            hn::Store(slope, d, at.slope + i);
    }
    hn::Store(all, d, total);
}

// gy and grad_z from grad_y where gy will be, and z where grad_z will be.
template <class Lane>
HWY_NOINLINE void prepare_output(int64_t steps, bool has_gate, Lane factor, StepValues<Lane>& at) {
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    const auto one = constant_vector<Lane>(Lane(1));
    for (int64_t i = 0; i < steps * n; i += n) {
        auto gy = hn::Load(d, at.gy + i);
        if (has_gate) {
            const auto z = hn::Load(d, at.grad_z + i), sigmoid = logistic<Lane>(z);
            const auto rise = hn::Mul(sigmoid, hn::MulAdd(z, hn::Sub(one, sigmoid), one));
            hn::Store(hn::Mul(gy, rise), d, at.grad_z + i);
            gy = hn::Mul(gy, hn::Mul(z, sigmoid));
        }
        hn::Store(hn::Mul(gy, hn::Set(d, factor)), d, at.gy + i);
    }
}

// From the sums over states: grad_u in place of of_input, grad_dt of of_rate, grad_z.
template <class Lane>
HWY_NOINLINE void finish_steps(int64_t steps, bool has_gate, Lane factor, const Lane* skip, StepValues<Lane>& at,
                               Lane* grad_d, Lane* grad_bias) {
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    const auto skips = hn::Load(d, skip), to_gy = hn::Set(d, Lane(1) / factor);
    auto sum_d = hn::Load(d, grad_d), sum_bias = hn::Load(d, grad_bias);
    for (int64_t i = (steps - 1) * n; i >= 0; i -= n) {
        const auto u = hn::Load(d, at.u + i), gy = hn::Mul(hn::Load(d, at.gy + i), to_gy);
        const auto of_input = hn::Load(d, at.of_input + i);
        const auto grad_s = hn::MulAdd(u, of_input, hn::Load(d, at.of_rate + i));
        const auto grad_dt = hn::Mul(grad_s, hn::Load(d, at.slope + i));
        sum_d = hn::MulAdd(gy, u, sum_d);
        sum_bias = hn::Add(grad_dt, sum_bias);
        hn::Store(hn::MulAdd(hn::Load(d, at.s + i), of_input, hn::Mul(gy, skips)), d, at.of_input + i);
        hn::Store(grad_dt, d, at.of_rate + i);
        if (has_gate) {
            const auto y = hn::MulAdd(skips, u, hn::Mul(hn::Set(d, factor), hn::Load(d, at.y + i)));
            hn::Store(hn::Mul(hn::Load(d, at.grad_z + i), y), d, at.grad_z + i);
        }
    }
    hn::Store(sum_d, d, grad_d);
    hn::Store(sum_bias, d, grad_bias);
}

// The sum of the lanes of each of `count` vectors; vectors up to a multiple of the lanes are read, as many numbers written.
template <class A>
HWY_NOINLINE void sum_lanes(const A* from, int64_t count, A* to) {
    constexpr int64_t n = lanes<A>();
    if constexpr (Traits<A>::complex) {
        for (int64_t v = 0; v < count; ++v) {
            A sum = from[v * n];
            for (int64_t l = 1; l < n; ++l)
                sum = {sum.re + from[v * n + l].re, sum.im + from[v * n + l].im};
            to[v] = sum;
        }
    } else {
        const Tag<A> d;
        alignas(64) A square[n * n];
        for (int64_t v = 0; v < count; v += n) {
            transpose_square(from + v * n, n, square, n);
            auto sum = hn::Load(d, square);
            for (int64_t l = 1; l < n; ++l)
                sum = hn::Add(sum, hn::Load(d, square + l * n));
            hn::StoreU(sum, d, to + v);
        }
    }
}

template <class A>
class SelectiveScanBackward : SelectiveScanTensors<A> {
  public:
    using Base = SelectiveScanTensors<A>;
    using Base::n;
    using typename Base::Lane;
    using typename Base::X;
    static constexpr Lane factor = Traits<A>::complex ? Lane{2} : Lane{1};

    SelectiveScanBackward(const SelectiveScanBackwardParams& p, const SelectiveScanBackwardPlan& plan)
        : Base(p.shape, p.type, p.states, p.a), p(p), plan(plan), back(p.shape) {
        back.reverse = true;
    }

    // Phase 1, for one block of channels and one chunk.
    void summarize(int64_t task) {
        const int64_t blocks = p.shape.batch * plan.all_blocks, block = task % blocks;
        take(block / plan.blocks, block % plan.blocks, 1, task / blocks);
        with_area([&]() HWY_ATTR {
            A *const h = h_of(first), *const g = g_of(first);
            const Link link = link_at(first, chunk);
            bool starts = false, ends = false; // a sequence starts, ends inside: nothing gets past it
            const Tag<Lane> d;
            hn::Store(hn::Zero(d), d, total);
            std::fill_n(h, p.states * n, A{});
            std::fill_n(g, p.states * n, A{});
            if (p.seq_idx) {
                starts = summarize_runs();
                std::copy_n(h, p.states * n, link.h);
                std::copy_n(total, n, link.total);
                ends = summarize_runs_back();
            } else {
                for_each_piece(p.shape, batch, begin, end, [&](const Piece& piece) {
                    starts = starts || piece.starts;
                    if (piece.starts)
                        load_states_at(p.initial_state, piece.row, first, h);
                    for (int64_t t = 0; t < piece.count; t += plan.time_block)
                        carry(piece.time + t, std::min(plan.time_block, piece.count - t), first);
                });
                std::copy_n(h, p.states * n, link.h);
                std::copy_n(total, n, link.total);
                for_each_piece(back, batch, shape.length - end, shape.length - begin, [&](const Piece& piece) {
                    ends = ends || piece.starts;
                    if (piece.starts)
                        load_states_at(p.grad_last_state, piece.row, first, g);
                    for (int64_t t = last_block(piece.count); t >= 0; t -= plan.time_block)
                        carry_g(piece.time + t, std::min(plan.time_block, piece.count - t), first);
                });
            }
            std::copy_n(g, p.states * n, link.g);
            link.flags[0] = starts;
            link.flags[1] = ends;
        });
    }

    // Phase 2, for one block of channels: each chunk's own state and g become the state before it and the g behind it.
    void fold(int64_t block) {
        take(block / plan.blocks, block % plan.blocks, 1, 0);
        with_area([&]() HWY_ATTR {
            const A* const a = a_of(first);
            A *const h = h_of(first), *const g = g_of(first);
            const Tag<Lane> d;
            std::fill_n(h, p.states * n, A{});
            std::fill_n(g, p.states * n, A{});
            const auto pass = [&](bool forward, const Link& link, A* own, A* carried) HWY_ATTR {
                const auto sum = hn::Load(d, link.total);
                const bool restarts = link.flags[forward ? 0 : 1] != 0;
                for (int64_t i = 0; i < p.states * n; i += n) {
                    const X before = load(carried + i), left = load(own + i);
                    X decay = transition_or_nan<Lane>(sum, load(a + i));
                    if (!forward)
                        decay = conjugate(decay);
                    const X after = multiply_add(decay, before, left);
                    store(own + i, before);
                    store(carried + i, restarts ? left : SSM_MUTATE("selective_scan_backward.cpu.lost_chunk", after, left));
                }
            };
            for (int64_t chunk = 0; chunk < plan.chunks; ++chunk)
                pass(true, link_at(first, chunk), link_at(first, chunk).h, h);
            for (int64_t chunk = plan.chunks - 1; chunk >= 0; --chunk)
                pass(false, link_at(first, chunk), link_at(first, chunk).g, g);
        });
    }

    // Phase 3.
    void run(int64_t task) {
        const int64_t part = task % plan.tasks_per_group, chunk = task / plan.tasks_per_group % plan.chunks;
        take(task / (plan.tasks_per_group * plan.chunks), part * plan.blocks_per_task, plan.blocks_per_task, chunk);
        with_area([&]() HWY_ATTR {
            for (int64_t block = first; block < last; ++block)
                std::memset(row_of(block), 0, static_cast<size_t>(plan.row_bytes));
            if (p.seq_idx) {
                keep_states_of_runs();
                return differentiate_runs(part);
            }
            for_each_piece(p.shape, batch, begin, end, [&](const Piece& piece) { keep_states(piece); });
            for_each_piece(back, batch, shape.length - end, shape.length - begin,
                           [&](const Piece& piece) { differentiate(piece, part); });
        });
    }

    // After all tasks: the sums of the rows of one block, and the gradients they are.
    void add_rows(int64_t block) {
        take(block / plan.blocks, block % plan.blocks, 1, 0);
        const int64_t group_block = group * plan.blocks + first, count = plan.row_bytes / static_cast<int64_t>(sizeof(Lane));
        Lane* const sum = row_at(0, group_block);
        const int64_t rows = SSM_MUTATE("selective_scan_backward.cpu.dropped_row", plan.rows, 1);
        for (int64_t row = 1; row < rows; ++row) {
            const Lane* const from = row_at(row, group_block);
            for (int64_t i = 0; i < count; ++i)
                sum[i] += from[i];
        }
        const int64_t channel = channel_of(first), width = width_of(first);
        const A* const of_states = reinterpret_cast<const A*>(sum);
        const auto give_states = [&](void* gradient, const A* from) {
            if (!gradient)
                return;
            A* const to = static_cast<A*>(gradient) + channel * p.states;
            for (int64_t l = 0; l < width; ++l)
                for (int64_t state = 0; state < p.states; ++state)
                    to[l * p.states + state] = from[state * n + l];
        };
        give_states(p.grad_a, of_states);
        give_states(p.b.is_constant ? p.grad_b.data : nullptr, of_states + column_b() * p.states * n);
        give_states(p.c.is_constant ? p.grad_c.data : nullptr, of_states + column_c() * p.states * n);
        const Lane* const of_channels = reinterpret_cast<const Lane*>(of_states + plan.columns * p.states * n);
        if (p.grad_d)
            std::copy_n(of_channels, width, static_cast<Lane*>(p.grad_d) + channel);
        if (p.grad_dt_bias)
            std::copy_n(of_channels + n, width, static_cast<Lane*>(p.grad_dt_bias) + channel);
    }

    // After all tasks: some rows of grad_b and grad_c, where these are per step, from the sums of the tasks.
    void add_parts(const StateSequence& gradient, int64_t which, int64_t first_row, int64_t last_row) const {
        const bool by_time = p.shape.layout == Layout::time_contiguous;
        const int64_t length = by_time ? p.shape.length : p.states, rows = by_time ? p.states : p.shape.length;
        const int64_t parts = SSM_MUTATE("selective_scan_backward.cpu.dropped_part", plan.tasks_per_group, 1);
        const int64_t row_stride = by_time ? gradient.state_stride : gradient.time_stride;
        for (int64_t row = first_row; row < last_row; ++row) {
            const int64_t group_row = row / rows;
            const int64_t offset = group_row / p.groups * gradient.batch_stride +
                                   group_row % p.groups * gradient.group_stride + row % rows * row_stride;
            const auto add_row = [&](auto* to) {
                for (int64_t i = 0; i < length; i += n) {
                    const int64_t some = std::min(n, length - i);
                    X sum = constant<X>(0);
                    for (int64_t part = 0; part < parts; ++part) {
                        const A* const from = part_at(which, part) + row * length + i;
                        const X x = some == n ? load(from) : load_some(from, some);
                        sum = part == 0 ? x : add(sum, x);
                    }
                    VectorOf<std::remove_pointer_t<decltype(to)>> x;
                    x.re = sum.re;
                    if constexpr (Traits<A>::complex)
                        x.im = sum.im;
                    some == n ? store(to + i, x) : store_some(to + i, x, some);
                }
            };
            if constexpr (Traits<A>::complex)
                add_row(static_cast<A*>(gradient.data) + offset);
            else
                with_storage_of<Lane>(
                    p.type, [&](auto of) { add_row(static_cast<typename decltype(of)::type*>(gradient.data) + offset); });
        }
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
    using Base::shape;
    using Base::store_block;
    using Base::transpose;

    struct Link {
        A *h, *g;
        Lane* total;
        int64_t* flags;
    };

    void take(int64_t group_row, int64_t first_block, int64_t count, int64_t the_chunk) {
        batch = group_row / p.groups;
        group = group_row % p.groups;
        first = first_block;
        last = std::min(plan.blocks, first + count);
        chunk = the_chunk;
        begin = chunk * plan.chunk;
        end = std::min(shape.length, begin + plan.chunk);
        runs = plan.runs.row(plan.runs_at(p.workspace.data), batch);
    }

    // Runs f with scratch memory of its own, in which the blocks' a lies.
    template <class F>
    void with_area(const F& f) {
        // No more tasks run at once than there are areas.
        int64_t area = 0;
        while (plan.flag(p.workspace.data, area).exchange(1, std::memory_order_acquire) != 0)
            area = (area + 1) % plan.areas;
        base = static_cast<char*>(p.workspace.data) + plan.area_offset(area) + 64;
        for (int64_t block = first; block < last; ++block) {
            prepare(channel_of(block), width_of(block), a_of(block));
            transpose(static_cast<const A*>(p.a) + channel_of(block) * p.states, width_of(block), rate_of(block));
        }
        f();
        plan.flag(p.workspace.data, area).store(0, std::memory_order_release);
    }

    // The area: a, the same times what exponentials want, h and g of each block; the states kept; the sums for b and for c.
    A* states_at(int64_t index) const { return reinterpret_cast<A*>(base + index * plan.state_bytes); }
    A* a_of(int64_t block) const { return states_at(4 * (block - first)); }
    A* rate_of(int64_t block) const { return states_at(4 * (block - first) + 1); }
    A* h_of(int64_t block) const { return states_at(4 * (block - first) + 2); }
    A* g_of(int64_t block) const { return states_at(4 * (block - first) + 3); }
    A* kept_at(int64_t time, int64_t block) const {
        const int64_t keep = (time - begin) / plan.time_block;
        return states_at(plan.blocks_per_task * (4 + keep) + block - first);
    }
    A* sums_b() const { return states_at(plan.blocks_per_task * (4 + plan.keeps)); }
    A* sums_c() const { return sums_b() + most_block_steps * p.states * n; }
    // The state before part i of a block of time.
    A* run_state_at(int64_t i, int64_t block) const {
        return states_at(plan.blocks_per_task * (4 + plan.keeps + i) + 2 * most_block_steps + block - first);
    }
    int64_t channel_of(int64_t block) const { return group * plan.group_channels + block * n; }
    int64_t width_of(int64_t block) const { return std::min(n, plan.group_channels - block * n); }
    int64_t last_block(int64_t count) const { return count > 0 ? (count - 1) / plan.time_block * plan.time_block : -1; }

    Link link_at(int64_t block, int64_t of_chunk) const {
        char* const at_link = static_cast<char*>(p.workspace.data) +
                              plan.link_offset(((batch * p.groups + group) * plan.blocks + block) * plan.chunks + of_chunk);
        return {reinterpret_cast<A*>(at_link), reinterpret_cast<A*>(at_link + plan.state_bytes),
                reinterpret_cast<Lane*>(at_link + 2 * plan.state_bytes),
                reinterpret_cast<int64_t*>(at_link + 2 * plan.state_bytes + 64)};
    }
    Lane* row_at(int64_t row, int64_t group_block) const {
        return reinterpret_cast<Lane*>(static_cast<char*>(p.workspace.data) + plan.row_offset(row, group_block));
    }
    // The sums of a block of the task: over states of a, constant b and c, then of d and dt_bias.
    A* row_of(int64_t block) const {
        return reinterpret_cast<A*>(row_at(batch * plan.chunks + chunk, group * plan.blocks + block));
    }
    int64_t column_b() const { return 1; }
    int64_t column_c() const { return p.b.is_constant ? 2 : 1; }
    A* part_at(int64_t which, int64_t part) const {
        return reinterpret_cast<A*>(static_cast<char*>(p.workspace.data) + plan.part_offset(which, part));
    }

    // (R,D,N) of one block, zero where it is absent.
    void load_states_at(const void* from, int64_t row, int64_t block, A* to) const {
        if (from)
            transpose(static_cast<const A*>(from) + (row * shape.channels + channel_of(block)) * p.states, width_of(block),
                      to);
        else
            std::fill_n(to, p.states * n, A{});
    }
    void leave_initial_gradient(int64_t row) const {
        A* const gradient = static_cast<A*>(p.grad_initial_state);
        for (int64_t block = first; gradient && block < last; ++block) {
            A* const to = gradient + (row * shape.channels + channel_of(block)) * p.states;
            for (int64_t l = 0; l < width_of(block); ++l)
                for (int64_t state = 0; state < p.states; ++state)
                    to[l * p.states + state] = g_of(block)[state * n + l];
        }
    }

    void load_input(int64_t t, int64_t steps, int64_t block, bool wants_slope = false) {
        const int64_t channel = channel_of(block), width = width_of(block);
        load_block(p.dt, t, steps, channel, width, at.s);
        load_block(p.u, t, steps, channel, width, at.u);
        per_channel(p.dt_bias, channel, width, parameter);
        prepare_input<Lane>(steps, parameter, p.dt_softplus, wants_slope, at, total);
    }
    void load_output(int64_t t, int64_t steps, int64_t block) {
        const int64_t channel = channel_of(block), width = width_of(block);
        load_block(p.grad_y, t, steps, channel, width, at.gy);
        if (p.z.data)
            load_block(p.z, t, steps, channel, width, at.grad_z);
        prepare_output<Lane>(steps, p.z.data != nullptr, factor, at);
    }

    // Calls f(count, state, b, c) for all states, a few at a time, always the same ones.
    template <class F>
    void for_each_states(int64_t t, int64_t steps, int64_t block, const F& f) {
        for (int64_t from = 0; from < p.states; from += most_states) {
            const int64_t count = std::min(most_states, p.states - from);
            if (loaded != from || loaded_time != t) {
                b = load_states(p.b, t, steps, from, count, b_buffer);
                c = load_states(p.c, t, steps, from, count, c_buffer);
                loaded = from;
                loaded_time = t;
            }
            load_constant(p.b, channel_of(block), width_of(block), from, count, constant_b);
            load_constant(p.c, channel_of(block), width_of(block), from, count, constant_c);
            for_each_count(count, [&](auto many, int64_t k) {
                f(many, from + k,
                  b.is_constant ? StepStates<A>{constant_b + k * n, 0, true} : StepStates<A>{b.data + k, b.stride, false},
                  c.is_constant ? StepStates<A>{constant_c + k * n, 0, true} : StepStates<A>{c.data + k, c.stride, false});
            });
        }
    }
    template <class F>
    void for_each_count(int64_t count, const F& f) const {
        // As many states as the registers hold; only float32 is worth the code.
        constexpr int many = HWY_TARGET == HWY_AVX3 ? 4 : 2;
        int64_t k = 0;
        if constexpr (std::is_same_v<A, float>)
            if (!p.b.is_constant && !p.c.is_constant)
                for (; k + many <= count; k += many)
                    f(std::integral_constant<int, many>(), k);
        for (; k < count; ++k)
            f(std::integral_constant<int, 1>(), k);
    }

    // h of one block over some steps.
    void carry(int64_t t, int64_t steps, int64_t block) {
        load_input(t, steps, block);
        A *const a = a_of(block), *const h = h_of(block);
        for_each_states(t, steps, block, [&](auto many, int64_t state, StepStates<A> own_b, StepStates<A>) {
            carry_states<A, many.value>(steps, a + state * n, h + state * n, own_b, at.s, at.su);
        });
    }

    // g of one block back over some steps.
    void carry_g(int64_t t, int64_t steps, int64_t block) {
        load_input(t, steps, block);
        load_output(t, steps, block);
        A *const a = a_of(block), *const g = g_of(block);
        for_each_states(t, steps, block, [&](auto many, int64_t state, StepStates<A>, StepStates<A> own_c) {
            carry_back<A, many.value>(steps, a + state * n, g + state * n, own_c, at.s, at.gy);
        });
    }

    // The states at the starts of the blocks of time, but for those that are the start of a sequence.
    void keep_states(const Piece& piece) {
        for (int64_t block = first; block < last; ++block) {
            if (piece.starts)
                load_states_at(p.initial_state, piece.row, block, h_of(block));
            else
                std::copy_n(link_at(block, chunk).h, p.states * n, h_of(block));
        }
        for (int64_t t = 0; t < piece.count; t += plan.time_block)
            for (int64_t block = first; block < last; ++block) {
                if (t > 0 || !piece.starts)
                    std::copy_n(h_of(block), p.states * n, kept_at(piece.time + t, block));
                if (t + plan.time_block < piece.count)
                    carry(piece.time + t, plan.time_block, block);
            }
    }

    // A piece in the direction of the gradients: it starts with the last step of its sequence.
    void differentiate(const Piece& piece, int64_t part) {
        for (int64_t block = first; block < last; ++block) {
            if (piece.starts)
                load_states_at(p.grad_last_state, piece.row, block, g_of(block));
            else
                std::copy_n(link_at(block, chunk).g, p.states * n, g_of(block));
        }
        for (int64_t t = last_block(piece.count); t >= 0; t -= plan.time_block) {
            const int64_t steps = std::min(plan.time_block, piece.count - t);
            clear_sums(steps);
            for (int64_t block = first; block < last; ++block) {
                const A* h = kept_at(piece.time + t, block);
                if (t == 0 && piece.ends) {
                    load_states_at(p.initial_state, piece.row, block, h_of(block));
                    h = h_of(block);
                }
                differentiate_block(piece.time + t, steps, block, h);
            }
            leave_sums(p.b, p.grad_b, sums_b(), part_at(0, part), piece.time + t, steps);
            leave_sums(p.c, p.grad_c, sums_c(), part_at(1, part), piece.time + t, steps);
        }
        if (piece.ends)
            leave_initial_gradient(piece.row);
    }

    // ---- Where seq_idx says what the sequences are. Blocks of time lie as they would without it; in each, the parts of
    // runs are taken one by one, and padding is not looked at.

    int64_t end_of_block(int64_t t) const { return std::min(end, t + plan.time_block); }
    void clear(A* state) const { std::fill_n(state, p.states * n, A{}); }

    struct Parts {
        RunPart of[most_block_steps];
        int64_t count = 0;
    };
    Parts parts_of_block(int64_t t) const {
        Parts parts;
        runs.for_each(t, end_of_block(t), [&](const RunPart& part) { parts.of[parts.count++] = part; });
        return parts;
    }

    // Of phase 1. Each answers whether a sequence starts (ends) inside.
    bool summarize_runs() {
        bool starts = begin == 0;
        if (starts)
            load_states_at(p.initial_state, batch, first, h_of(first));
        for (int64_t t = begin; t < end; t += plan.time_block)
            runs.for_each(t, end_of_block(t), [&](const RunPart& part) {
                if (part.restarts)
                    clear(h_of(first));
                starts = starts || part.restarts;
                carry(part.time, part.count, first);
            });
        return starts;
    }
    bool summarize_runs_back() {
        bool ends = end == shape.length;
        if (ends)
            load_states_at(p.grad_last_state, batch, first, g_of(first));
        for (int64_t t = begin + last_block(end - begin); t >= begin; t -= plan.time_block) {
            const Parts parts = parts_of_block(t);
            for (int64_t i = parts.count - 1; i >= 0; --i) {
                carry_g(parts.of[i].time, parts.of[i].count, first);
                if (parts.of[i].restarts)
                    clear(g_of(first));
                ends = ends || parts.of[i].restarts;
            }
        }
        return ends;
    }

    // Of phase 3: the states at the starts of all blocks of time.
    void keep_states_of_runs() {
        for (int64_t block = first; block < last; ++block) {
            if (begin == 0)
                load_states_at(p.initial_state, batch, block, h_of(block));
            else
                std::copy_n(link_at(block, chunk).h, p.states * n, h_of(block));
        }
        for (int64_t t = begin; t < end; t += plan.time_block)
            for (int64_t block = first; block < last; ++block) {
                std::copy_n(h_of(block), p.states * n, kept_at(t, block));
                if (end_of_block(t) < end)
                    runs.for_each(t, end_of_block(t), [&](const RunPart& part) { carry_run(part, block); });
            }
    }
    void carry_run(const RunPart& part, int64_t block) {
        if (SSM_MUTATE("selective_scan_backward.cpu.missed_restart", part.restarts, false))
            clear(h_of(block));
        carry(part.time, part.count, block);
    }

    void differentiate_runs(int64_t part) {
        for (int64_t block = first; block < last; ++block) {
            if (end == shape.length)
                load_states_at(p.grad_last_state, batch, block, g_of(block));
            else
                std::copy_n(link_at(block, chunk).g, p.states * n, g_of(block));
        }
        for (int64_t t = begin + last_block(end - begin); t >= begin; t -= plan.time_block) {
            const Parts parts = parts_of_block(t);
            for (int64_t block = first; block < last; ++block) {
                std::copy_n(kept_at(t, block), p.states * n, h_of(block));
                for (int64_t i = 0; i < parts.count; ++i) {
                    if (parts.of[i].restarts)
                        clear(h_of(block));
                    std::copy_n(h_of(block), p.states * n, run_state_at(i, block));
                    if (i + 1 < parts.count)
                        carry_run(parts.of[i], block);
                }
            }
            for (int64_t i = parts.count - 1; i >= 0; --i) {
                const RunPart& own = parts.of[i];
                clear_sums(own.count);
                for (int64_t block = first; block < last; ++block) {
                    differentiate_block(own.time, own.count, block, run_state_at(i, block));
                    if (SSM_MUTATE("selective_scan_backward.cpu.gradient_crosses_restart", own.restarts, false))
                        clear(g_of(block));
                }
                leave_sums(p.b, p.grad_b, sums_b(), part_at(0, part), own.time, own.count);
                leave_sums(p.c, p.grad_c, sums_c(), part_at(1, part), own.time, own.count);
            }
            runs.for_each_gap(t, end_of_block(t), [&](int64_t gap, int64_t gap_end) { clear_gap(gap, gap_end, part); });
        }
        if (begin == 0)
            leave_initial_gradient(batch);
    }

    // Gradients at padding.
    void clear_gap(int64_t t, int64_t gap_end, int64_t part) const {
        const int64_t steps = SSM_MUTATE("selective_scan_backward.cpu.padding_left", gap_end - t, gap_end - t - 1);
        for (const Sequence* gradient : {&p.grad_u, &p.grad_dt, &p.grad_z})
            for (int64_t block = first; gradient->data && block < last; ++block)
                clear_block(*gradient, t, steps, channel_of(block), width_of(block));
        const bool by_time = shape.layout == Layout::time_contiguous;
        const auto clear_part = [&](const StateSequence& of, const StateSequence& gradient, A* of_part) {
            if (of.is_constant || !gradient.data)
                return;
            A* const to = of_part + (batch * p.groups + group) * p.states * shape.length;
            if (by_time)
                for (int64_t state = 0; state < p.states; ++state)
                    std::fill_n(to + state * shape.length + t, steps, A{});
            else
                std::fill_n(to + t * p.states, steps * p.states, A{});
        };
        clear_part(p.b, p.grad_b, part_at(0, part));
        clear_part(p.c, p.grad_c, part_at(1, part));
    }

    void differentiate_block(int64_t t, int64_t steps, int64_t block, const A* h) {
        const int64_t channel = channel_of(block), width = width_of(block);
        load_input(t, steps, block, true);
        load_output(t, steps, block);
        for (Lane* sums : {at.y, at.of_input, at.of_rate})
            std::fill_n(sums, steps * n, Lane{0});
        A* const row = row_of(block);
        const bool wants_y = p.grad_z.data != nullptr;
        for_each_states(t, steps, block, [&](auto many, int64_t state, StepStates<A> own_b, StepStates<A> own_c) {
            constexpr int64_t stride = many.value * n;
            A* const sum_a = row + state * n;
            const StepSums<A> to_b = p.b.is_constant ? StepSums<A>{sum_a + column_b() * p.states * n, 0}
                                                     : StepSums<A>{sums_b() + state * most_block_steps * n, stride};
            const StepSums<A> to_c = p.c.is_constant ? StepSums<A>{sum_a + column_c() * p.states * n, 0}
                                                     : StepSums<A>{sums_c() + state * most_block_steps * n, stride};
            differentiate_states<A, many.value>(steps, a_of(block) + state * n, rate_of(block) + state * n, h + state * n,
                                                g_of(block) + state * n, sum_a, own_b, own_c, to_b, to_c, wants_y, at);
        });
        per_channel(p.d, channel, width, parameter);
        Lane* const of_channels = reinterpret_cast<Lane*>(row + plan.columns * p.states * n);
        finish_steps<Lane>(steps, wants_y, factor, parameter, at, of_channels, of_channels + n);
        const int64_t tail =
            SSM_MUTATE("selective_scan_backward.cpu.off_by_one_tail", steps, steps - (steps < plan.time_block));
        if (p.grad_u.data)
            store_block(p.grad_u, t, steps, channel, width, at.of_input);
        if (p.grad_dt.data)
            store_block(p.grad_dt, t, tail, channel, width, at.of_rate);
        if (p.grad_z.data)
            store_block(p.grad_z, t, steps, channel, width, at.grad_z);
    }

    // The sums for b and c lie as for_each_states goes: [some states][step][state][lane].
    void clear_sums(int64_t steps) const {
        for_each_count_of_all([&](auto many, int64_t state) {
            const int64_t vectors = (steps * many.value + n - 1) / n * n;
            if (!p.b.is_constant)
                std::fill_n(sums_b() + state * most_block_steps * n, vectors * n, A{});
            if (!p.c.is_constant)
                std::fill_n(sums_c() + state * most_block_steps * n, vectors * n, A{});
        });
    }
    template <class F>
    void for_each_count_of_all(const F& f) const {
        for (int64_t from = 0; from < p.states; from += most_states)
            for_each_count(std::min(most_states, p.states - from), [&](auto many, int64_t k) { f(many, from + k); });
    }
    void leave_sums(const StateSequence& of, const StateSequence& gradient, const A* sums, A* part, int64_t t,
                    int64_t steps) const {
        if (of.is_constant || !gradient.data)
            return;
        const bool by_time = shape.layout == Layout::time_contiguous;
        const int64_t state_stride = by_time ? shape.length : 1, time_stride = by_time ? 1 : p.states;
        A* const to = part + (batch * p.groups + group) * p.states * shape.length + t * time_stride;
        for_each_count_of_all([&](auto many, int64_t state) {
            alignas(64) A numbers[most_block_steps * many.value + n];
            sum_lanes(sums + state * most_block_steps * n, steps * many.value, numbers);
            for (int64_t k = 0; k < many.value; ++k)
                for (int64_t i = 0; i < steps; ++i)
                    to[(state + k) * state_stride + i * time_stride] = numbers[i * many.value + k];
        });
    }

    const SelectiveScanBackwardParams& p;
    const SelectiveScanBackwardPlan& plan;
    SequenceShape back; // the same seen against time
    SequenceRuns runs;  // of the batch element
    char* base = nullptr;
    int64_t first = 0, last = 0, chunk = 0, begin = 0, end = 0; // the task's blocks and steps
    int64_t loaded = -1, loaded_time = -1;                      // the first of the states whose b and c are at hand
    StepStates<A> b = {}, c = {};
    StepValues<Lane> at;
    alignas(64) Lane total[n] = {}; // sum of s
    alignas(64) Lane parameter[n];
    alignas(64) A b_buffer[most_steps * most_states], c_buffer[most_steps * most_states];
    alignas(64) A constant_b[most_states * n], constant_c[most_states * n];
};

void selective_scan_backward_task(const SelectiveScanBackwardParams& p, const SelectiveScanBackwardPlan& plan,
                                  SelectiveScanBackwardPhase phase, int64_t first, int64_t last) {
    using Phase = SelectiveScanBackwardPhase;
    const auto with = [&](auto state) {
        SelectiveScanBackward<typename decltype(state)::type> operation(p, plan);
        switch (phase) {
        case Phase::summarize:
            return operation.summarize(first);
        case Phase::fold:
            return operation.fold(first);
        case Phase::run:
            return operation.run(first);
        case Phase::add_rows:
            return operation.add_rows(first);
        case Phase::add_parts_b:
            return operation.add_parts(p.grad_b, 0, first, last);
        case Phase::add_parts_c:
            return operation.add_parts(p.grad_c, 1, first, last);
        }
    };
    with_storage(p.state, [&](auto state) {
        using A = typename decltype(state)::type;
        if constexpr (std::is_same_v<A, typename Traits<A>::State>)
            with(state);
    });
}

int64_t selective_scan_backward_lanes(int64_t lane_bytes) {
    return lane_bytes == 4 ? lanes_of<float>() : lanes_of<double>();
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(selective_scan_backward_task);
HWY_EXPORT(selective_scan_backward_lanes);

int64_t ceil_divide(int64_t x, int64_t y) {
    return (x + y - 1) / y;
}

SelectiveScanBackwardPlan make_plan(const BackendContext* context, const SelectiveScanBackwardParams& p) {
    constexpr int64_t few_channels = 64, default_chunk = 1024, most_time_block = SelectiveScanBackwardPlan::most_time_block;
    // Parts of the work on one group, each with sums of its own for b and c: as many as threads may want, and no more,
    // because the sums take memory. Neighbouring blocks share the conversion of b and c and the sums over lanes.
    constexpr int64_t wanted_tasks = 32, most_parts = 32, most_shared_blocks = 8;
    const int64_t tile = context->options.get("selective_scan_backward.tile");
    const SequenceShape& shape = p.shape;
    SelectiveScanBackwardPlan plan = {};
    if (shape.channels == 0 || shape.batch == 0)
        return plan;
    const int64_t lane_bytes = size_of(state_type(p.type)), real_states = size_of(p.state) / lane_bytes;
    plan.lanes = HWY_DYNAMIC_DISPATCH(selective_scan_backward_lanes)(lane_bytes);
    plan.group_channels = shape.channels / p.groups;
    plan.blocks = ceil_divide(plan.group_channels, plan.lanes);
    plan.all_blocks = p.groups * plan.blocks;
    plan.time_block = tile > 0 ? std::min(tile, most_time_block) : most_time_block;
    plan.chunk = tile > 0 ? tile : default_chunk;
    plan.chunks = 1;
    if (shape.length > plan.chunk &&
        (tile > 0 || (shape.batch * shape.channels <= few_channels && shape.length > 2 * plan.chunk)))
        plan.chunks = ceil_divide(shape.length, plan.chunk);
    else
        plan.chunk = shape.length;
    const int64_t even = std::clamp<int64_t>(shape.batch * plan.all_blocks / wanted_tasks, 1, most_shared_blocks);
    plan.blocks_per_task = plan.chunks > 1 ? 1 : std::max(even, ceil_divide(plan.blocks, most_parts));
    plan.tasks_per_group = ceil_divide(plan.blocks, plan.blocks_per_task);
    plan.tasks = shape.batch * p.groups * plan.tasks_per_group * plan.chunks;

    plan.state_bytes = ceil_divide(p.states * plan.lanes * size_of(p.state), 64) * 64;
    plan.keeps = plan.chunk / plan.time_block + 1;
    plan.run_states = p.seq_idx ? most_time_block : 0;
    plan.area_bytes =
        64 + (plan.blocks_per_task * (4 + plan.keeps + plan.run_states) + 2 * most_time_block) * plan.state_bytes;
    plan.runs = SequenceRunTable(shape, p.seq_idx);
    plan.areas = std::min<int64_t>(std::max(plan.tasks, plan.all_blocks * shape.batch), usable_threads());
    plan.link_bytes = 2 * plan.state_bytes + 128;
    plan.links = plan.chunks > 1 ? shape.batch * plan.all_blocks * plan.chunks : 0;
    plan.columns = 1 + p.b.is_constant + p.c.is_constant;
    plan.row_bytes = ceil_divide((plan.columns * p.states * real_states + 2) * plan.lanes * lane_bytes, 64) * 64;
    plan.rows = shape.batch * plan.chunks;
    if ((p.grad_b.data && !p.b.is_constant) || (p.grad_c.data && !p.c.is_constant))
        plan.part_bytes = ceil_divide(shape.batch * p.groups * p.states * shape.length * size_of(p.state), 64) * 64;
    return plan;
}
} // namespace

int32_t selective_scan_backward(BackendContext* context, const SelectiveScanBackwardParams* params) {
    using Phase = SelectiveScanBackwardPhase;
    const SelectiveScanBackwardParams& p = *params;
    const SelectiveScanBackwardPlan plan = make_plan(context, p);
    if (plan.tasks == 0)
        return success;
    if (plan.workspace_bytes() > p.workspace.bytes)
        return fail(error_workspace_too_small, "selective_scan_backward: workspace too small");
    for (int64_t area = 0; area < plan.areas; ++area)
        plan.flag(p.workspace.data, area).store(0, std::memory_order_relaxed);
    plan.runs.find_runs(plan.runs_at(p.workspace.data), context->threads);
    const auto run = HWY_DYNAMIC_DISPATCH(selective_scan_backward_task);
    const auto each = [&](Phase phase, int64_t tasks) {
        parallel_for(tasks, context->threads, [&](int64_t task) { run(p, plan, phase, task, task + 1); });
    };
    if (plan.chunks > 1) {
        each(Phase::summarize, p.shape.batch * plan.all_blocks * plan.chunks);
        each(Phase::fold, p.shape.batch * plan.all_blocks);
    }
    each(Phase::run, plan.tasks);
    if (p.grad_a || p.grad_d || p.grad_dt_bias || p.b.is_constant || p.c.is_constant)
        each(Phase::add_rows, plan.all_blocks);
    const auto add_parts = [&](const StateSequence& gradient, bool is_constant, Phase phase) {
        if (!gradient.data || is_constant)
            return;
        const bool by_time = p.shape.layout == Layout::time_contiguous;
        const int64_t numbers = by_time ? p.shape.length : p.states;
        const int64_t rows = p.shape.batch * p.groups * (by_time ? p.states : p.shape.length);
        const int64_t at_once = std::max<int64_t>(1, 16384 / std::max<int64_t>(numbers, 1));
        parallel_for(ceil_divide(rows, at_once), context->threads,
                     [&](int64_t task) { run(p, plan, phase, task * at_once, std::min(rows, (task + 1) * at_once)); });
    };
    add_parts(p.grad_b, p.b.is_constant, Phase::add_parts_b);
    add_parts(p.grad_c, p.c.is_constant, Phase::add_parts_c);
    return success;
}

int32_t selective_scan_backward_workspace(BackendContext* context, const SelectiveScanBackwardParams* params,
                                          uint64_t* bytes) {
    *bytes = make_plan(context, *params).workspace_bytes();
    return success;
}

} // namespace ssm::cpu
#endif
