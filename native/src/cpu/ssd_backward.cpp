// Gradients of ssd as matrix products over chunks of steps. With g = grad_y silu(z), L[i][j] the decay from step j to step
// i, H the state before the chunk and D the gradient of the state behind it, both [p][n]:
//   M = C B^T o L,  W = g x^T o L s,
//   grad_c = decay g H + W b,   grad_b = decay s x D + W^T c,   grad_x = s (decay B D^T + M^T g) + d g,
//   D before = decay D + (decay g)^T C.
// The gradient of s has two parts: <x, grad_x / s>, and a q, with q_i the sum over all that goes through the decay of step
// i: what enters before it and leaves with it or later. q is made of suffix and prefix sums of products and nowhere of
// differences, which would lose it where decays are strong.
//
// A sequence goes forward once for the states before its chunks, which are kept, and then backward. Per channel, state and
// step: one fused sum forward, four to five backward.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/ssd_backward.cpp"
#include "hwy/foreach_target.h"

#include "cpu/silu-inl.h"
#include "cpu/ssd-inl.h"

#include "core/mutate.h"
#include "core/params/ssd_backward.h"

#ifndef SSM_CPU_SSD_BACKWARD_PLAN_
#define SSM_CPU_SSD_BACKWARD_PLAN_
namespace ssm::cpu {
// A chunk of a sequence.
struct SsdChunk {
    int64_t time, steps;
    int64_t saved; // where the state before it is kept; -1: it is zero
    bool restarts; // nothing goes through to the steps before
};

// A task is a batch element and some neighbouring heads of a group, over all time. grad_b and grad_c are sums over the heads
// of a group: of a task's in its own order, then of the tasks in theirs. The cut depends on the shape alone.
struct SsdBackwardPlan {
    int64_t lanes, chunk;
    int64_t heads_per_task, tasks_per_group, tasks;
    int64_t area_bytes, areas;
    int64_t shared_bytes; // of what the tasks leave behind

    int64_t padded(int64_t count) const { return (count + lanes - 1) / lanes * lanes; }
    Areas scratch(void* base) const { return Areas(base, area_bytes, areas); }
    uint64_t workspace_bytes() const { return static_cast<uint64_t>(scratch(nullptr).size() + shared_bytes); }
};

// What the tasks leave behind: sums of each batch element, and of each task of a group.
template <class Lane>
struct SsdPartialSums {
    double* a;    // (B,H)
    double* bias; // (B,H)
    Lane* d;      // (B,H,P)
    Lane *b, *c;  // (tasks of a group,B,L,G,N); null where a group is one task

    SsdPartialSums() = default;
    SsdPartialSums(const SsdBackwardParams& p, const SsdBackwardPlan& plan, Scratch& scratch) {
        const int64_t heads = p.shape.batch * p.shape.channels;
        a = scratch.take<double>(heads);
        bias = scratch.take<double>(heads);
        d = scratch.take<Lane>(heads * p.channels);
        const int64_t numbers = plan.tasks_per_group * p.shape.batch * p.shape.length * p.groups * p.states;
        b = p.grad_b.data && plan.tasks_per_group > 1 ? scratch.take<Lane>(numbers) : nullptr;
        c = p.grad_c.data && plan.tasks_per_group > 1 ? scratch.take<Lane>(numbers) : nullptr;
    }
};

// A task's scratch.
template <class Lane>
struct SsdBackwardBuffers {
    SsdChunk* chunks;
    Lane* saved;  // [chunk][head][p][n]
    Lane* state;  // [head][p][n]
    Lane* behind; // the gradients of the states behind a chunk, the same
    Lane* d;      // sums for grad_d, [head][p]
    Lane *b, *c;  // [step][n]
    Lane *grad_b, *grad_c;
    Lane* b_turned; // [n][step]
    Lane* products; // C B^T
    // Of one head: rows of steps
    Lane *x, *g, *x_to_end, *g_from_start, *r, *y; // by channels
    Lane* x_turned;                                // [p][step]
    Lane *outer, *m, *w;                           // by steps: g x^T, M, W
    Lane *through_b, *through_c;                   // by states
    Lane* turned;                                  // [n][p]

    SsdBackwardBuffers() = default;
    SsdBackwardBuffers(const SsdBackwardParams& p, const SsdBackwardPlan& plan, Scratch& scratch) {
        const int64_t steps = plan.chunk, row = plan.padded(steps), channels = plan.padded(p.channels);
        const int64_t states = plan.padded(p.states), heads = plan.heads_per_task, one = p.channels * states;
        chunks = scratch.take<SsdChunk>(p.shape.length);
        // A chunk whose state before is not zero follows a full one, or is the first of a sequence.
        saved = scratch.take<Lane>((p.shape.length / steps + 1) * heads * one);
        state = scratch.take<Lane>(heads * one);
        behind = scratch.take<Lane>(heads * one);
        d = scratch.take<Lane>(heads * channels);
        for (Lane** by_states : {&b, &c, &grad_b, &grad_c, &through_b, &through_c})
            *by_states = scratch.take<Lane>(steps * states);
        for (Lane** by_channels : {&x, &g, &x_to_end, &g_from_start, &r, &y})
            *by_channels = scratch.take<Lane>(steps * channels);
        for (Lane** by_steps : {&products, &outer, &m, &w})
            *by_steps = scratch.take<Lane>(steps * row);
        b_turned = scratch.take<Lane>(p.states * row);
        x_turned = scratch.take<Lane>(p.channels * row);
        turned = scratch.take<Lane>(p.states * channels);
    }
};
} // namespace ssm::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

template <class Lane>
HWY_INLINE double sum_of(Vec<Lane> x) {
    return static_cast<double>(lane<Lane>(sum_of_lanes(RealVector<Lane>{x}), 0));
}

// <x, y> of `count` numbers lane by lane, added to sum; what lies behind them in the last vectors may be anything.
template <class Lane>
HWY_INLINE Vec<Lane> add_products(const Lane* x, const Lane* y, int64_t count, Vec<Lane> sum) {
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    int64_t k = 0;
    for (; k + n <= count; k += n)
        sum = hn::MulAdd(hn::LoadU(d, x + k), hn::LoadU(d, y + k), sum);
    if (k < count) {
        const auto mask = hn::FirstN(d, static_cast<size_t>(count - k));
        sum = hn::Add(sum, hn::IfThenElseZero(mask, hn::Mul(hn::LoadU(d, x + k), hn::LoadU(d, y + k))));
    }
    return sum;
}

// to[i] = <x_i, y_i> of rows of `count` numbers.
template <class Lane>
HWY_NOINLINE void dot_rows(const Lane* x, const Lane* y, int64_t rows, int64_t row, int64_t count, Lane* to) {
    for (int64_t i = 0; i < rows; ++i)
        to[i] = static_cast<Lane>(sum_of<Lane>(add_products(x + i * row, y + i * row, count, hn::Zero(Tag<Lane>()))));
}

template <class Lane>
HWY_NOINLINE void add_to(const Lane* from, int64_t count, Lane* to) {
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    for (int64_t i = 0; i < count; i += n)
        hn::StoreU(hn::Add(hn::LoadU(d, to + i), hn::LoadU(d, from + i)), d, to + i);
}

// q[i] = sum of x[k][j] y[k][j] over k >= i and j < i; of the factors the lower triangle counts.
template <class Lane>
HWY_NOINLINE void sums_across(const Lane* x, const Lane* y, int64_t steps, int64_t row, Lane* q) {
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    alignas(64) Lane columns[most_ssd_chunk];
    for (int64_t j = 0; j < steps; j += n)
        hn::Store(hn::Zero(d), d, columns + j);
    for (int64_t k = steps - 1; k >= 0; --k) {
        auto sum = hn::Zero(d);
        for (int64_t j = 0; j <= k; j += n) {
            const auto product = hn::Mul(hn::LoadU(d, x + k * row + j), hn::LoadU(d, y + k * row + j));
            const size_t inside = static_cast<size_t>(std::min(n, k + 1 - j)),
                         before = static_cast<size_t>(std::min(n, k - j));
            const auto column = hn::Add(hn::Load(d, columns + j), hn::IfThenElseZero(hn::FirstN(d, inside), product));
            hn::Store(column, d, columns + j);
            sum = hn::Add(sum, hn::IfThenElseZero(hn::FirstN(d, before), column));
        }
        q[k] = static_cast<Lane>(sum_of<Lane>(sum));
    }
}

// The derivative of s by dt.
template <class Lane>
HWY_NOINLINE void step_slopes(const SsdInputs& p, const ChunkDecays<Lane>& chunk, Lane* to) {
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    const auto one = hn::Set(d, Lane{1}), zero = hn::Zero(d);
    for (int64_t i = 0; i < chunk.steps; i += n) {
        const auto x = hn::Load(d, chunk.biased + i);
        auto slope = one, s = x;
        if (p.dt_softplus) {
            s = softplus<Lane>(x);
            slope = hn::Div(one, hn::Add(one, exp<Lane>(hn::Neg(x))));
        }
        if (p.dt_min > 0)
            slope = hn::IfThenElse(hn::Lt(s, hn::Set(d, static_cast<Lane>(p.dt_min))), zero, slope);
        if (p.dt_max > 0)
            slope = hn::IfThenElse(hn::Gt(s, hn::Set(d, static_cast<Lane>(p.dt_max))), zero, slope);
        hn::Store(slope, d, to + i);
    }
}

// U: storage of the sequences.
template <class U>
class SsdBackward {
  public:
    using Lane = typename Traits<U>::Lane;
    static constexpr int64_t n = lanes_of<Lane>();

    SsdBackward(const SsdBackwardParams& p, const SsdBackwardPlan& plan) : p(p), plan(plan), heads(p.shape.channels) {
        row = plan.padded(plan.chunk);
        channels = plan.padded(p.channels);
        states = plan.padded(p.states);
        head_state = p.channels * states;
        Scratch scratch(static_cast<char*>(p.workspace.data) + plan.scratch(nullptr).size());
        partial = SsdPartialSums<Lane>(p, plan, scratch);
    }

    void run(int64_t task) {
        plan.scratch(p.workspace.data).use([&](void* area) {
            Scratch scratch(area);
            buffers = SsdBackwardBuffers<Lane>(p, plan, scratch);
            const int64_t per_group = heads / p.groups;
            in_group = task % plan.tasks_per_group;
            batch = task / (plan.tasks_per_group * p.groups);
            group = task / plan.tasks_per_group % p.groups;
            first = group * per_group + in_group * plan.heads_per_task;
            last = std::min((group + 1) * per_group, first + plan.heads_per_task);
            std::fill_n(buffers.d, (last - first) * channels, Lane{0});
            std::fill_n(a_sums, last - first, 0.0);
            std::fill_n(bias_sums, last - first, 0.0);
            for_each_piece(p.shape, batch, 0, p.shape.length, [&](const Piece& piece) { run_sequence(piece); });
            for (int64_t head = first; head < last; ++head) {
                partial.a[batch * heads + head] = a_sums[head - first];
                partial.bias[batch * heads + head] = bias_sums[head - first];
                std::copy_n(buffers.d + (head - first) * channels, p.channels,
                            partial.d + (batch * heads + head) * p.channels);
            }
        });
    }

  private:
    Lane* of_head(Lane* all, int64_t head) const { return all + (head - first) * head_state; }
    int64_t state_offset(const Piece& piece, int64_t head) const {
        return (piece.row * heads + head) * p.channels * p.states;
    }

    void run_sequence(const Piece& piece) {
        const int64_t count = run_forward(piece);
        const Lane* grad_last = static_cast<const Lane*>(p.grad_last_state);
        nothing_behind = !grad_last;
        for (int64_t head = first; grad_last && head < last; ++head)
            widen_rows(grad_last + state_offset(piece, head), p.states, p.channels, p.states, of_head(buffers.behind, head),
                       states);
        for (int64_t k = count - 1; k >= 0; --k) {
            run_chunk(buffers.chunks[k], k == 0);
            if (SSM_MUTATE("ssd_backward.cpu.leaky_restart", buffers.chunks[k].restarts, false))
                nothing_behind = true;
        }
        for (int64_t head = first; p.grad_initial_state && head < last; ++head) {
            Lane* const to = static_cast<Lane*>(p.grad_initial_state) + state_offset(piece, head);
            for (int64_t c = 0; c < p.channels; ++c)
                for (int64_t k = 0; k < p.states; ++k)
                    to[c * p.states + k] = nothing_behind ? Lane{0} : of_head(buffers.behind, head)[c * states + k];
        }
    }

    // Cuts the sequence and keeps the states before its chunks; answers how many there are.
    int64_t run_forward(const Piece& piece) {
        const Lane* initial = static_cast<const Lane*>(p.initial_state);
        const int32_t* const ids = p.seq_idx ? p.seq_idx + batch * p.shape.length : nullptr;
        const int64_t end = piece.time + piece.count;
        const int64_t all_heads = (last - first) * head_state;
        int64_t count = 0, saved = 0;
        bool is_zero = !initial;
        for (int64_t head = first; initial && head < last; ++head)
            widen_rows(initial + state_offset(piece, head), p.states, p.channels, p.states, of_head(buffers.state, head),
                       states);
        for (int64_t t = piece.time, steps; t < end; t += steps) {
            const bool restarts = ids && t > piece.time && ids[t] != ids[t - 1];
            is_zero = is_zero || restarts;
            steps = steps_until_restart(ids, t, std::min(plan.chunk, end - t));
            buffers.chunks[count++] = {t, steps, is_zero ? -1 : saved, restarts};
            if (!is_zero)
                std::copy_n(buffers.state, all_heads, buffers.saved + saved++ * all_heads);
            if (t + steps == end || (ids && ids[t + steps] != ids[t]))
                continue; // nobody reads the state behind
            load_states(p.b, t, steps, buffers.b);
            for (int64_t head = first; head < last; ++head) {
                read_decays<U>(p, batch, head, t, steps, decays);
                widen_rows(place_of<const U>(p.x, batch, head, t), p.x.time_stride, steps, p.channels, buffers.x, channels);
                for (int64_t i = 0; i < steps; ++i)
                    decays.to_end[i] *= decays.s[i];
                scale_rows(buffers.x, decays.to_end, steps, channels, buffers.x_to_end);
                const Lane total = decays.total();
                product<Lane>(p.channels, p.states, steps, {buffers.x_to_end, 1, channels}, buffers.b, states,
                              {of_head(buffers.state, head), states, !is_zero, &total, 0});
            }
            is_zero = false;
        }
        return count;
    }

    void load_states(const HeadTensor& tensor, int64_t t, int64_t steps, Lane* to) const {
        widen_rows(place_of<const U>(tensor, batch, group, t), tensor.time_stride, steps, p.states, to, states);
    }

    void run_chunk(const SsdChunk& chunk, bool is_first) {
        const int64_t t = chunk.time, steps = chunk.steps;
        load_states(p.b, t, steps, buffers.b);
        load_states(p.c, t, steps, buffers.c);
        transpose(buffers.b, states, steps, p.states, buffers.b_turned, row);
        product<Lane>(steps, steps, p.states, {buffers.c, states, 1}, buffers.b_turned, row,
                      {buffers.products, row, false, nullptr, 0});
        std::fill_n(buffers.grad_b, steps * states, Lane{0});
        std::fill_n(buffers.grad_c, steps * states, Lane{0});
        const bool wants_before = is_first ? p.grad_initial_state != nullptr : !chunk.restarts;
        for (int64_t head = first; head < last; ++head)
            run_head(chunk, head, wants_before);
        if (wants_before)
            nothing_behind = false;
        leave(p.grad_b, p.wide_b ? static_cast<Lane*>(p.wide_b) : partial.b, buffers.grad_b, t, steps);
        leave(p.grad_c, p.wide_c ? static_cast<Lane*>(p.wide_c) : partial.c, buffers.grad_c, t, steps);
    }

    // Of the task: the gradient itself where the group is one task, else its part of it.
    void leave(const HeadTensor& tensor, Lane* parts, const Lane* from, int64_t t, int64_t steps) const {
        if (parts)
            for (int64_t i = 0; i < steps; ++i)
                std::copy_n(from + i * states, p.states,
                            parts + (((in_group * p.shape.batch + batch) * p.shape.length + t + i) * p.groups + group) *
                                        p.states);
        else if (tensor.data)
            for (int64_t i = 0; i < steps; ++i)
                write_row(from + i * states, p.states, place_of<U>(tensor, batch, group, t + i));
    }

    static void write_row(const Lane* from, int64_t count, U* to) {
        const Tag<Lane> d;
        for (int64_t k = 0; k < count; k += n) {
            const VectorOf<U> x = {hn::LoadU(d, from + k)};
            if (k + n <= count)
                store(to + k, x);
            else
                store_some(to + k, x, count - k);
        }
    }

    void run_head(const SsdChunk& chunk, int64_t head, bool wants_before) {
        const int64_t t = chunk.time, steps = chunk.steps;
        const Lane* const before =
            chunk.saved < 0 ? nullptr : of_head(buffers.saved + chunk.saved * (last - first) * head_state, head);
        Lane* const behind = nothing_behind ? nullptr : of_head(buffers.behind, head);
        read_decays<U>(p, batch, head, t, steps, decays);
        widen_rows(place_of<const U>(p.x, batch, head, t), p.x.time_stride, steps, p.channels, buffers.x, channels);
        load_gradient(head, t, steps);
        scale_rows(buffers.g, decays.from_start, steps, channels, buffers.g_from_start);
        alignas(64) Lane own[most_ssd_chunk]; // s times the decay to the end
        for (int64_t i = 0; i < steps; ++i)
            own[i] = decays.s[i] * decays.to_end[i];
        scale_rows(buffers.x, own, steps, channels, buffers.x_to_end);

        // M and W.
        transpose(buffers.x, channels, steps, p.channels, buffers.x_turned, row);
        product<Lane>(steps, steps, p.channels, {buffers.g, channels, 1}, buffers.x_turned, row,
                      {buffers.outer, row, false, nullptr, 0});
        decay_products(decays, buffers.products, row, buffers.m);
        decay_products(decays, buffers.outer, row, buffers.w);
        scale_columns(decays.s, steps, buffers.w);

        alignas(64) Lane through_start[most_ssd_chunk] = {}, through_end[most_ssd_chunk] = {}, across[most_ssd_chunk];
        // grad_c, and what goes from the state before into each step.
        if (before) {
            product<Lane>(steps, p.states, p.channels, {buffers.g_from_start, channels, 1}, before, states,
                          {buffers.through_c, states, false, nullptr, 0});
            dot_rows(buffers.through_c, buffers.c, steps, states, p.states, through_start);
            add_to(buffers.through_c, steps * states, buffers.grad_c);
        }
        product<Lane, Triangle::lower>(steps, p.states, steps, {buffers.w, row, 1}, buffers.b, states,
                                       {buffers.grad_c, states, true, nullptr, 0});
        // grad_b, and what goes from each step into the state behind.
        if (behind) {
            product<Lane>(steps, p.states, p.channels, {buffers.x_to_end, channels, 1}, behind, states,
                          {buffers.through_b, states, false, nullptr, 0});
            dot_rows(buffers.through_b, buffers.b, steps, states, p.states, through_end);
            add_to(buffers.through_b, steps * states, buffers.grad_b);
        }
        product<Lane, Triangle::upper>(steps, p.states, steps, {buffers.w, 1, row}, buffers.c, states,
                                       {buffers.grad_b, states, true, nullptr, 0});
        // The gradient of s x, which is x's up to the skip.
        if (behind) {
            transpose(behind, states, p.channels, p.states, buffers.turned, channels);
            product<Lane>(steps, p.channels, p.states, {buffers.b, states, 1}, buffers.turned, channels,
                          {buffers.r, channels, false, nullptr, 0});
        }
        product<Lane, Triangle::upper>(steps, p.channels, steps, {buffers.m, 1, row}, buffers.g, channels,
                                       {buffers.r, channels, behind != nullptr, decays.to_end, 1});
        write_x(head, t, steps);
        if (p.grad_z.data)
            write_z(head, t, steps, before);

        // Of the sizes of the steps.
        sums_across(buffers.products, buffers.w, steps, row, across);
        double both = 0;
        if (before && behind)
            both = static_cast<double>(decays.total()) * dot_states(before, behind);
        write_steps(head, t, steps, across, through_start, through_end, both);

        if (wants_before) {
            const Lane total = decays.total();
            Lane* const to = of_head(buffers.behind, head);
            product<Lane>(p.channels, p.states, steps, {buffers.g_from_start, 1, channels}, buffers.c, states,
                          {to, states, behind != nullptr, &total, 0});
        }
    }

    static void scale_columns(const Lane* factor, int64_t steps, Lane* to, int64_t row) {
        const Tag<Lane> d;
        for (int64_t i = 0; i < steps; ++i)
            for (int64_t j = 0; j <= i; j += n)
                hn::StoreU(hn::Mul(hn::Load(d, factor + j), hn::LoadU(d, to + i * row + j)), d, to + i * row + j);
    }
    void scale_columns(const Lane* factor, int64_t steps, Lane* to) const { scale_columns(factor, steps, to, row); }

    double dot_states(const Lane* x, const Lane* y) const {
        auto sum = hn::Zero(Tag<Lane>());
        for (int64_t i = 0; i < p.channels; ++i)
            sum = add_products(x + i * states, y + i * states, p.states, sum);
        return sum_of<Lane>(sum);
    }

    // f(step, channel, count) for every vector of channels of the chunk.
    template <class F>
    HWY_INLINE void each_vector(int64_t steps, const F& f) const {
        for (int64_t i = 0; i < steps; ++i)
            for (int64_t k = 0; k < p.channels; k += n)
                f(i, k, std::min(n, p.channels - k));
    }
    Vec<Lane> load_at(const HeadTensor& tensor, int64_t head, int64_t t, int64_t k, int64_t count) const {
        const U* const from = place_of<const U>(tensor, batch, head, t) + k;
        return (count == n ? load(from) : load_some(from, count)).re;
    }
    void store_at(const HeadTensor& tensor, int64_t head, int64_t t, int64_t k, int64_t count, Vec<Lane> x) const {
        U* const to = place_of<U>(tensor, batch, head, t) + k;
        if (count == n)
            store(to, VectorOf<U>{x});
        else
            store_some(to, VectorOf<U>{x}, count);
    }
    Vec<Lane> skip_at(int64_t head, int64_t t, int64_t k, int64_t count) const {
        const Tag<Lane> d;
        const Lane* const skip = static_cast<const Lane*>(p.d);
        const auto own = hn::Set(d, p.skip.data ? *place_of<const Lane>(p.skip, batch, head, t) : Lane{0});
        if (!skip)
            return own;
        return hn::Add(own, p.d_per_channel ? load_some(skip + head * p.channels + k, count).re : hn::Set(d, skip[head]));
    }

    // g, and the sums for grad_d.
    void load_gradient(int64_t head, int64_t t, int64_t steps) const {
        const Tag<Lane> d;
        Lane* const sums = buffers.d + (head - first) * channels;
        each_vector(steps, [&](int64_t i, int64_t k, int64_t count) {
            auto g = load_at(p.grad_y, head, t + i, k, count);
            if (p.z.data)
                g = hn::Mul(g, silu<Lane>(load_at(p.z, head, t + i, k, count)));
            hn::StoreU(g, d, buffers.g + i * channels + k);
            hn::StoreU(hn::MulAdd(g, hn::LoadU(d, buffers.x + i * channels + k), hn::LoadU(d, sums + k)), d, sums + k);
        });
    }

    void write_x(int64_t head, int64_t t, int64_t steps) const {
        const Tag<Lane> d;
        if (!p.grad_x.data)
            return;
        each_vector(steps, [&](int64_t i, int64_t k, int64_t count) {
            const auto own = hn::Mul(hn::Set(d, decays.s[i]), hn::LoadU(d, buffers.r + i * channels + k));
            store_at(p.grad_x, head, t + i, k, count,
                     hn::MulAdd(skip_at(head, t + i, k, count), hn::LoadU(d, buffers.g + i * channels + k), own));
        });
    }

    // grad_z = grad_y y silu'(z), with y computed again.
    void write_z(int64_t head, int64_t t, int64_t steps, const Lane* before) {
        const Tag<Lane> d;
        if (before) {
            transpose(before, states, p.channels, p.states, buffers.turned, channels);
            product<Lane>(steps, p.channels, p.states, {buffers.c, states, 1}, buffers.turned, channels,
                          {buffers.y, channels, false, nullptr, 0});
        }
        scale_columns(decays.s, steps, buffers.m);
        product<Lane, Triangle::lower>(steps, p.channels, steps, {buffers.m, row, 1}, buffers.x, channels,
                                       {buffers.y, channels, before != nullptr, decays.from_start, 1});
        each_vector(steps, [&](int64_t i, int64_t k, int64_t count) {
            const auto y = hn::MulAdd(skip_at(head, t + i, k, count), hn::LoadU(d, buffers.x + i * channels + k),
                                      hn::LoadU(d, buffers.y + i * channels + k));
            const auto slope = silu_slope<Lane>(load_at(p.z, head, t + i, k, count));
            store_at(p.grad_z, head, t + i, k, count, hn::Mul(hn::Mul(load_at(p.grad_y, head, t + i, k, count), y), slope));
        });
    }

    void write_steps(int64_t head, int64_t t, int64_t steps, const Lane* across, const Lane* through_start,
                     const Lane* through_end, double both) {
        alignas(64) Lane direct[most_ssd_chunk], slopes[most_ssd_chunk], grad_dt[most_ssd_chunk];
        double q[most_ssd_chunk];
        dot_rows(buffers.x, buffers.r, steps, channels, p.channels, direct);
        double sum = both;
        for (int64_t i = steps - 1; i >= 0; --i) { // what leaves with step i or later
            sum += static_cast<double>(through_start[i]);
            q[i] = sum + static_cast<double>(across[i]);
        }
        sum = 0;
        for (int64_t i = 1; i < steps; ++i) { // what enters before it
            sum += static_cast<double>(SSM_MUTATE("ssd_backward.cpu.no_last_state", through_end[i - 1], Lane{0}));
            q[i] += sum;
        }
        if (p.grad_log_decay.data) {
            for (int64_t i = 0; i < steps; ++i)
                *place_of<Lane>(p.grad_log_decay, batch, head, t + i) = static_cast<Lane>(q[i]);
            return;
        }
        step_slopes(p, decays, slopes);
        const double a = static_cast<double>(static_cast<const Lane*>(p.a)[head]);
        double& a_sum = a_sums[head - first];
        double& bias_sum = bias_sums[head - first];
        for (int64_t i = 0; i < steps; ++i) {
            a_sum += static_cast<double>(decays.s[i]) * q[i];
            const double gradient = (static_cast<double>(direct[i]) + a * q[i]) * static_cast<double>(slopes[i]);
            bias_sum += gradient;
            grad_dt[i] = static_cast<Lane>(gradient);
        }
        if (!p.grad_dt.data)
            return;
        U* const to = place_of<U>(p.grad_dt, batch, head, t);
        alignas(64) U narrow[lanes<U>()];
        for (int64_t i = 0; i < steps; i += n) {
            store(narrow, VectorOf<U>{hn::Load(Tag<Lane>(), grad_dt + i)});
            for (int64_t k = 0; k < n && i + k < steps; ++k)
                to[(i + k) * p.grad_dt.time_stride] = narrow[k];
        }
    }

    const SsdBackwardParams& p;
    const SsdBackwardPlan& plan;
    const int64_t heads;
    int64_t row, channels, states, head_state; // of the buffers
    SsdPartialSums<Lane> partial;
    SsdBackwardBuffers<Lane> buffers;
    int64_t batch = 0, group = 0, in_group = 0, first = 0, last = 0;
    bool nothing_behind = false; // of gradients
    double a_sums[most_ssd_heads], bias_sums[most_ssd_heads];
    ChunkDecays<Lane> decays;
};

// The sums over the tasks of a group, of some steps of a batch element; and of the parameters over the batch.
template <class U>
void add_up_tasks(const SsdBackwardParams& p, const SsdBackwardPlan& plan, int64_t block) {
    using Lane = typename Traits<U>::Lane;
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    Scratch scratch(static_cast<char*>(p.workspace.data) + plan.scratch(nullptr).size());
    const SsdPartialSums<Lane> partial(p, plan, scratch);
    const int64_t steps = p.shape.length, begin = block * plan.chunk, all = p.shape.batch * steps;
    const int64_t end = std::min(all, begin + plan.chunk);
    const std::pair<const HeadTensor&, const Lane*> sums[] = {{p.grad_b, partial.b}, {p.grad_c, partial.c}};
    for (const auto& [tensor, parts] : sums)
        for (int64_t i = begin * p.groups; parts && i < end * p.groups; ++i) {
            U* const to = place_of<U>(tensor, i / p.groups / steps, i % p.groups, i / p.groups % steps);
            for (int64_t k = 0; k < p.states; k += n) {
                const int64_t count = std::min(n, p.states - k);
                auto sum = hn::Zero(d);
                for (int64_t task = 0; task < SSM_MUTATE("ssd_backward.cpu.one_task", plan.tasks_per_group, 1); ++task)
                    sum = hn::Add(sum, load_some(parts + (task * all * p.groups + i) * p.states + k, count).re);
                store_some(to + k, VectorOf<U>{sum}, count);
            }
        }
    const int64_t heads = p.shape.channels;
    for (int64_t head = 0; block == 0 && head < heads; ++head) {
        double a = 0, bias = 0, in_head = 0;
        for (int64_t b = 0; b < p.shape.batch; ++b) {
            a += partial.a[b * heads + head];
            bias += partial.bias[b * heads + head];
        }
        for (int64_t c = 0; c < p.channels; ++c) {
            double of_channel = 0;
            for (int64_t b = 0; b < p.shape.batch; ++b)
                of_channel += static_cast<double>(partial.d[(b * heads + head) * p.channels + c]);
            in_head += of_channel;
            if (p.grad_d && p.grad_d_per_channel)
                static_cast<Lane*>(p.grad_d)[head * p.channels + c] = static_cast<Lane>(of_channel);
        }
        if (p.grad_d && !p.grad_d_per_channel)
            static_cast<Lane*>(p.grad_d)[head] = static_cast<Lane>(in_head);
        if (p.grad_a)
            static_cast<Lane*>(p.grad_a)[head] = static_cast<Lane>(a);
        if (p.grad_dt_bias)
            static_cast<Lane*>(p.grad_dt_bias)[head] = static_cast<Lane>(bias);
    }
}

void ssd_backward_task(const SsdBackwardParams& p, const SsdBackwardPlan& plan, int64_t task) {
    with_storage(p.type, [&](auto type) {
        using U = typename decltype(type)::type;
        if constexpr (!Traits<U>::complex)
            SsdBackward<U>(p, plan).run(task);
    });
}

void ssd_backward_sums(const SsdBackwardParams& p, const SsdBackwardPlan& plan, int64_t block) {
    with_storage(p.type, [&](auto type) {
        using U = typename decltype(type)::type;
        if constexpr (!Traits<U>::complex)
            add_up_tasks<U>(p, plan, block);
    });
}

int64_t ssd_backward_lanes(int64_t lane_bytes) {
    return lane_bytes == 4 ? lanes_of<float>() : lanes_of<double>();
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(ssd_backward_task);
HWY_EXPORT(ssd_backward_sums);
HWY_EXPORT(ssd_backward_lanes);

template <class Lane>
void count_bytes(const SsdBackwardParams& p, SsdBackwardPlan& plan) {
    Scratch area(nullptr), shared(nullptr);
    SsdBackwardBuffers<Lane>(p, plan, area);
    SsdPartialSums<Lane>(p, plan, shared);
    plan.area_bytes = area.size();
    plan.shared_bytes = shared.size();
}

SsdBackwardPlan make_plan(const SsdBackwardParams& p) {
    // Enough for many threads, and few, because each leaves its part of grad_b and grad_c behind.
    constexpr int64_t enough_tasks = 16;
    const int64_t heads = p.shape.channels, per_group = heads / p.groups;
    SsdBackwardPlan plan = {};
    plan.lanes = HWY_DYNAMIC_DISPATCH(ssd_backward_lanes)(size_of(state_type(p.type)));
    plan.chunk = ssd_chunk(p);
    plan.heads_per_task = std::clamp<int64_t>(p.shape.batch * heads / enough_tasks, 1, std::min(per_group, most_ssd_heads));
    plan.tasks_per_group = (per_group + plan.heads_per_task - 1) / plan.heads_per_task;
    plan.tasks = p.shape.batch * p.groups * plan.tasks_per_group;
    plan.areas = std::min<int64_t>(plan.tasks, usable_threads());
    state_type(p.type) == DataType::float64 ? count_bytes<double>(p, plan) : count_bytes<float>(p, plan);
    return plan;
}
} // namespace

int32_t ssd_backward(BackendContext* context, const SsdBackwardParams* params) {
    const SsdBackwardParams& p = *params;
    const SsdBackwardPlan plan = make_plan(p);
    if (plan.workspace_bytes() > p.workspace.bytes)
        return fail(error_workspace_too_small, "ssd_backward: workspace too small");
    plan.scratch(p.workspace.data).clear();
    const auto run = HWY_DYNAMIC_DISPATCH(ssd_backward_task);
    const auto add_up = HWY_DYNAMIC_DISPATCH(ssd_backward_sums);
    parallel_for(plan.tasks, context->threads, [&](int64_t task) { run(p, plan, task); });
    parallel_for((p.shape.batch * p.shape.length + plan.chunk - 1) / plan.chunk, context->threads,
                 [&](int64_t block) { add_up(p, plan, block); });
    return success;
}

int32_t ssd_backward_workspace(BackendContext*, const SsdBackwardParams* params, uint64_t* bytes) {
    *bytes = make_plan(*params).workspace_bytes();
    return success;
}

} // namespace ssm::cpu
#endif
