// Gradients of h_t = a_t h_{t-1} + b_t. Written with what is handed on, q_t = conj(a_t) g_t, the recurrence
//   g_t = grad_h_t + q_{t+1},   q_t = conj(a_t) q_{t+1} + conj(a_t) grad_h_t
// runs against the forward direction with the coefficient of its own step: q starts as grad_last_state, ends as
// grad_initial_state, and nothing is shifted in memory but h in grad_a_t = g_t conj(h_{t-1}). 20 bytes per float32 element.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/linear_recurrence_backward.cpp"
#include "hwy/foreach_target.h"

#include "cpu/tiles-inl.h"

#include "core/mutate.h"
#include "core/params/linear_recurrence_backward.h"

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

template <class S>
class LinearRecurrenceBackward {
  public:
    using State = typename Traits<S>::State;
    using X = VectorOf<S>;
    static constexpr int64_t n = lanes<S>();

    // shape: as in the call, with reverse turned round.
    LinearRecurrenceBackward(const LinearRecurrenceBackwardParams& p, const SequenceShape& shape, bool stream)
        : p(p), shape(shape), channels(shape.channels), lanes_are_channels(shape.layout == Layout::channel_contiguous),
          stream(stream) {}

    void begin(const Piece& piece, int64_t channel, int64_t count, State* state) const {
        const State* last = static_cast<const State*>(p.grad_last_state);
        for (int64_t i = 0; i < count; ++i)
            state[i] = last ? last[piece.row * channels + channel + i] : State{};
    }

    void finish(int64_t row, int64_t channel, int64_t count, const State* state) const {
        if (State* initial = static_cast<State*>(p.grad_initial_state))
            std::copy_n(state, count, initial + row * channels + channel);
    }

    void scan(const Piece& piece, int64_t batch, int64_t channel, int64_t count, State* state) const {
        if (lanes_are_channels)
            scan_channels(piece, batch, channel, count, state);
        else if (shape.reverse)
            scan_time<true>(piece, batch, channel, state);
        else
            scan_time<false>(piece, batch, channel, state);
    }

    void identity(int64_t count, State* factor, State* state) const {
        std::fill_n(factor, count, element<State>(1));
        std::fill_n(state, count, State{});
    }

    void aggregate(const Piece& piece, int64_t batch, int64_t channel, int64_t count, State* factor, State* state) const {
        if (lanes_are_channels)
            aggregate_channels(piece, batch, channel, count, factor, state);
        else if (shape.reverse)
            aggregate_time<true>(piece, batch, channel, factor, state);
        else
            aggregate_time<false>(piece, batch, channel, factor, state);
    }

    void compose(const State* factor, const State* aggregate, int64_t count, State* state) const {
        for (int64_t i = 0; i < count; i += n) {
            const int64_t some = std::min(n, count - i);
            const X f = load_some(factor + i, some), s = load_some(state + i, some), b = load_some(aggregate + i, some);
            store_some(state + i, SSM_MUTATE("linear_recurrence_backward.cpu.dropped_carry", multiply_add(f, s, b), b),
                       some);
        }
    }

  private:
    S* at(const Sequence& s, const Piece& piece, int64_t batch, int64_t channel) const {
        return s.data ? static_cast<S*>(s.data) + batch * s.batch_stride + channel * s.channel_stride +
                            piece.time * s.time_stride
                      : nullptr;
    }

    static HWY_INLINE X factor_of(X a) { return SSM_MUTATE("linear_recurrence_backward.cpu.missing_conj", conjugate(a), a); }

    // h before the sequence's first step (zero where there is none), for channels from `channel` on.
    State before_first(int64_t row, int64_t channel) const {
        const State* initial = static_cast<const State*>(p.initial_state);
        return initial
                   ? SSM_MUTATE("linear_recurrence_backward.cpu.initial_state", initial[row * channels + channel], State{})
                   : State{};
    }

    // In the order of this scan step i comes before what was, forward, the step before it; so h_{t-1} is the step after
    // it in the run of h, and beyond the run it is the neighbour in memory or, at the end of the sequence, the initial
    // state.
    template <bool reversed>
    void scan_time(const Piece& piece, int64_t batch, int64_t channel, State* state) const {
        const int64_t count = piece.count;
        if (count == 0)
            return;
        const S *a = at(p.a, piece, batch, channel), *grad_h = at(p.grad_h, piece, batch, channel);
        const S* h = at(p.h, piece, batch, channel);
        S *grad_a = at(p.grad_a, piece, batch, channel), *grad_b = at(p.grad_b, piece, batch, channel);
        const bool stream_a = stream && can_stream_steps<reversed>(grad_a, count);
        const bool stream_b = stream && can_stream_steps<reversed>(grad_b, count);
        X carry = broadcast<X>(*state);
        X beyond = constant<X>(0); // h before the last step of the run
        // Steps whose h_{t-1} lies in memory: all but the one that ends the sequence.
        const int64_t shifted = piece.ends ? count - 1 : count;
        const S* previous = !h ? nullptr : reversed ? h - 1 : h + 1; // its element t is h_{t-1}
        if (grad_a && piece.ends)
            beyond = broadcast<X>(before_first(piece.row, channel));
        for (int64_t i = 0; i < count; i += n) {
            const bool full = i + n <= count;
            X f = full ? load_steps<reversed>(a, count, i) : load_last_steps<reversed>(a, count, i, element<S>(1));
            const X gh =
                full ? load_steps<reversed>(grad_h, count, i) : load_last_steps<reversed>(grad_h, count, i, element<S>(0));
            f = factor_of(f);
            X q = multiply(f, gh);
            scan_affine(f, q);
            q = multiply_add(f, carry, q);
            const X g = add(gh, shift_up_one(q, carry));
            carry = broadcast_last(q);
            if (grad_b) {
                if (full)
                    store_steps<reversed>(grad_b, count, i, g, stream_b);
                else
                    store_last_steps<reversed>(
                        grad_b, count - SSM_MUTATE("linear_recurrence_backward.cpu.off_by_one_tail", 0, 1), i, g);
            }
            if (grad_a) {
                X before;
                if (i + n <= shifted) {
                    before = load_steps<reversed>(previous, count, i);
                } else {
                    // The run's last steps: one by one, the sequence's own end from the initial state.
                    alignas(64) State buffer[n] = {};
                    const int64_t left = std::min(n, count - i);
                    for (int64_t k = 0; k < left; ++k) {
                        const int64_t t = reversed ? count - 1 - i - k : i + k;
                        buffer[k] = i + k < shifted ? lane<State>(load_some(previous + t, 1), 0) : lane<State>(beyond, 0);
                    }
                    before = load(buffer);
                }
                const X ga = multiply(g, factor_of(before));
                if (full)
                    store_steps<reversed>(grad_a, count, i, ga, stream_a);
                else
                    store_last_steps<reversed>(grad_a, count, i, ga);
            }
        }
        *state = lane<State>(carry, 0);
    }

    template <bool reversed>
    void aggregate_time(const Piece& piece, int64_t batch, int64_t channel, State* factor, State* state) const {
        const int64_t count = piece.count;
        const S *a = at(p.a, piece, batch, channel), *grad_h = at(p.grad_h, piece, batch, channel);
        // The lanes run backward: the product of a step's coefficient with those behind it is one scan of the lanes, and
        // the sums of the vectors stay apart, lane by lane, to the end.
        X total = broadcast<X>(*factor), before = broadcast<X>(*state), sum = constant<X>(0);
        int64_t i = 0;
        for (; i + n <= count; i += n) {
            const X products = scan_product(factor_of(load_steps_backward<reversed>(a, count, i)));
            const X all = broadcast_last(products);
            sum = multiply_add(all, sum, multiply(products, load_steps_backward<reversed>(grad_h, count, i)));
            before = multiply(all, before);
            total = multiply(all, total);
        }
        X carry = add(before, sum_of_lanes(sum));
        if (i < count) {
            X f = factor_of(load_last_steps<reversed>(a, count, i, element<S>(1)));
            X q = multiply(f, load_last_steps<reversed>(grad_h, count, i, element<S>(0)));
            scan_affine(f, q);
            carry = broadcast_last(multiply_add(f, carry, q));
            total = multiply(total, broadcast_last(f));
        }
        *factor = lane<State>(total, 0);
        *state = lane<State>(carry, 0);
    }

    void scan_channels(const Piece& piece, int64_t batch, int64_t channel, int64_t count, State* state) const {
        const S *a = at(p.a, piece, batch, channel), *grad_h = at(p.grad_h, piece, batch, channel);
        const S* h = at(p.h, piece, batch, channel);
        S *grad_a = at(p.grad_a, piece, batch, channel), *grad_b = at(p.grad_b, piece, batch, channel);
        const State* initial = static_cast<const State*>(p.initial_state);
        const bool stream_a = stream && can_stream(grad_a, p.grad_a.time_stride);
        const bool stream_b = stream && can_stream(grad_b, p.grad_b.time_stride);
        for (int64_t i = 0; i < piece.count; ++i) {
            const int64_t t = shape.reverse ? piece.count - 1 - i : i;
            const bool at_end = piece.ends && i + 1 == piece.count; // forward, the sequence's first step
            const S *at = a + t * p.a.time_stride, *ght = grad_h + t * p.grad_h.time_stride;
            // This scan runs against the forward one: the step before t, forward, is the next one here.
            const S* ht = grad_a && !at_end ? h + (t + (shape.reverse ? -1 : 1)) * p.h.time_stride : nullptr;
            const State* first =
                initial && SSM_MUTATE("linear_recurrence_backward.cpu.initial_state_of_channels", true, false)
                    ? initial + piece.row * channels + channel
                    : nullptr;
            S* gat = grad_a ? grad_a + t * p.grad_a.time_stride : nullptr;
            S* gbt = grad_b ? grad_b + t * p.grad_b.time_stride : nullptr;
            int64_t c = 0;
            for (; c + n <= count; c += n) {
                const X g = add(load(ght + c), load(state + c));
                store(state + c, multiply(factor_of(load(at + c)), g));
                if (gbt)
                    store_or_stream(gbt + c, g, stream_b);
                if (gat) {
                    const X before = ht ? load(ht + c) : first ? load(first + c) : constant<X>(0);
                    store_or_stream(gat + c, multiply(g, factor_of(before)), stream_a);
                }
            }
            if (c < count) {
                const int64_t some = count - c;
                const X g = add(load_some(ght + c, some), load_some(state + c, some));
                store_some(state + c, multiply(factor_of(load_some(at + c, some)), g), some);
                if (gbt)
                    store_some(gbt + c, g, some);
                if (gat) {
                    const X before = ht ? load_some(ht + c, some) : first ? load_some(first + c, some) : constant<X>(0);
                    store_some(gat + c, multiply(g, factor_of(before)), some);
                }
            }
        }
    }

    void aggregate_channels(const Piece& piece, int64_t batch, int64_t channel, int64_t count, State* factor,
                            State* state) const {
        const S *a = at(p.a, piece, batch, channel), *grad_h = at(p.grad_h, piece, batch, channel);
        for (int64_t i = 0; i < piece.count; ++i) {
            const int64_t t = shape.reverse ? piece.count - 1 - i : i;
            const S *at = a + t * p.a.time_stride, *ght = grad_h + t * p.grad_h.time_stride;
            int64_t c = 0;
            for (; c + n <= count; c += n) {
                const X f = factor_of(load(at + c));
                store(state + c, multiply(f, add(load(ght + c), load(state + c))));
                store(factor + c, multiply(f, load(factor + c)));
            }
            if (c < count) {
                const int64_t some = count - c;
                const X f = factor_of(load_some(at + c, some));
                store_some(state + c, multiply(f, add(load_some(ght + c, some), load_some(state + c, some))), some);
                store_some(factor + c, multiply(f, load_some(factor + c, some)), some);
            }
        }
    }

    const LinearRecurrenceBackwardParams& p;
    const SequenceShape& shape;
    const int64_t channels;
    const bool lanes_are_channels, stream;
};

void linear_recurrence_backward_task(const LinearRecurrenceBackwardParams& p, const SequenceShape& shape,
                                     const TilePlan& plan, int64_t task) {
    with_storage(p.type, [&](auto type) {
        using S = typename decltype(type)::type;
        run_task(LinearRecurrenceBackward<S>(p, shape, plan.stream), shape, plan, p.workspace.data, task);
    });
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(linear_recurrence_backward_task);

SequenceShape turned(const LinearRecurrenceBackwardParams& p) {
    SequenceShape shape = p.shape;
    shape.reverse = !shape.reverse;
    return shape;
}

TilePlan plan(const BackendContext* context, const LinearRecurrenceBackwardParams& p) {
    return plan_tiles(p.shape, size_of(p.type), size_of(state_type(p.type)),
                      context->options.get("linear_recurrence_backward.tile"), 5, last_level_cache());
}
} // namespace

int32_t linear_recurrence_backward(BackendContext* context, const LinearRecurrenceBackwardParams* params) {
    const TilePlan tiles = plan(context, *params);
    if (tiles.workspace_bytes() > params->workspace.bytes)
        return fail(error_workspace_too_small, "linear_recurrence_backward: workspace too small");
    clear_chains(tiles, params->workspace.data);
    const SequenceShape shape = turned(*params);
    const auto run = HWY_DYNAMIC_DISPATCH(linear_recurrence_backward_task);
    parallel_for(tiles.tasks(), context->threads, [&](int64_t task) { run(*params, shape, tiles, task); });
    return success;
}

int32_t linear_recurrence_backward_workspace(BackendContext* context, const LinearRecurrenceBackwardParams* params,
                                             uint64_t* bytes) {
    *bytes = plan(context, *params).workspace_bytes();
    return success;
}

} // namespace ssm::cpu
#endif
