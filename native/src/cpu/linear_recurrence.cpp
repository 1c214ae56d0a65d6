// h_t = a_t h_{t-1} + b_t. Where time is contiguous the lanes are neighbouring steps: a vector of pairs (a, b) is scanned in
// registers under composition of the maps h -> a h + b, and the state enters at the end by one product and sum. Where
// channels are contiguous the lanes are channels and each step is one product and sum. 12 bytes per float32 element,
// 2 operations per element in channels, about 2 log2(lanes) + 2 in time.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/linear_recurrence.cpp"
#include "hwy/foreach_target.h"

#include "cpu/tiles-inl.h"

#include "core/mutate.h"
#include "core/params/linear_recurrence.h"

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

template <class S>
class LinearRecurrence {
  public:
    using State = typename Traits<S>::State;
    using X = VectorOf<S>;
    static constexpr int64_t n = lanes<S>();

    LinearRecurrence(const LinearRecurrenceParams& p, bool stream)
        : p(p), channels(p.shape.channels), lanes_are_channels(p.shape.layout == Layout::channel_contiguous),
          stream(stream && p.h.data != p.a.data && p.h.data != p.b.data) {}

    void begin(const Piece& piece, int64_t channel, int64_t count, State* state) const {
        const State* initial = static_cast<const State*>(p.initial_state);
        for (int64_t i = 0; i < count; ++i)
            state[i] = initial ? initial[piece.row * channels + channel + i] : State{};
    }

    void finish(int64_t row, int64_t channel, int64_t count, const State* state) const {
        if (State* last = static_cast<State*>(p.last_state))
            std::copy_n(state, count, last + row * channels + channel);
    }

    void scan(const Piece& piece, int64_t batch, int64_t channel, int64_t count, State* state) const {
        const S *a = at(p.a, piece, batch, channel), *b = at(p.b, piece, batch, channel);
        S* h = at(p.h, piece, batch, channel);
        if (lanes_are_channels)
            scan_channels(piece, a, b, h, count, state);
        else if (p.shape.reverse)
            scan_time<true>(a, b, h, piece.count, state);
        else
            scan_time<false>(a, b, h, piece.count, state);
    }

    void identity(int64_t count, State* factor, State* state) const {
        std::fill_n(factor, count, element<State>(1));
        std::fill_n(state, count, State{});
    }

    void aggregate(const Piece& piece, int64_t batch, int64_t channel, int64_t count, State* factor, State* state) const {
        const S *a = at(p.a, piece, batch, channel), *b = at(p.b, piece, batch, channel);
        if (lanes_are_channels)
            aggregate_channels(piece, a, b, count, factor, state);
        else if (p.shape.reverse)
            aggregate_time<true>(a, b, piece.count, factor, state);
        else
            aggregate_time<false>(a, b, piece.count, factor, state);
    }

    void compose(const State* factor, const State* aggregate, int64_t count, State* state) const {
        for (int64_t i = 0; i < count; i += n) {
            const int64_t some = std::min(n, count - i);
            const X f = load_some(factor + i, some), s = load_some(state + i, some), b = load_some(aggregate + i, some);
            store_some(state + i, SSM_MUTATE("linear_recurrence.cpu.dropped_carry", multiply_add(f, s, b), b), some);
        }
    }

  private:
    S* at(const Sequence& s, const Piece& piece, int64_t batch, int64_t channel) const {
        return static_cast<S*>(s.data) + batch * s.batch_stride + channel * s.channel_stride + piece.time * s.time_stride;
    }

    template <bool reversed>
    static HWY_INLINE X last_factor(const S* a, int64_t count, int64_t i) {
        return load_last_steps<reversed>(a, count, i,
                                         SSM_MUTATE("linear_recurrence.cpu.wrong_identity", element<S>(1), element<S>(0)));
    }

    template <bool reversed>
    void scan_time(const S* a, const S* b, S* h, int64_t count, State* state) const {
        const bool streams = stream && can_stream_steps<reversed>(h, count);
        X carry = broadcast<X>(*state);
        int64_t i = 0;
        for (; i + n <= count; i += n) {
            X f = load_steps<reversed>(a, count, i), x = load_steps<reversed>(b, count, i);
            scan_affine(f, x);
            x = multiply_add(f, carry, x);
            store_steps<reversed>(h, count, i, x, streams);
            carry = broadcast_last(x);
        }
        if (i < count) {
            X f = last_factor<reversed>(a, count, i), x = load_last_steps<reversed>(b, count, i, element<S>(0));
            scan_affine(f, x);
            x = multiply_add(f, carry, x);
            store_last_steps<reversed>(h, count - SSM_MUTATE("linear_recurrence.cpu.off_by_one_tail", 0, 1), i, x);
            carry = broadcast_last(x);
        }
        *state = lane<State>(carry, 0);
    }

    // sum of b_i times the product of the a behind it: the lanes run backward, so that those products are one scan of the
    // lanes, and the sums of the vectors stay apart, lane by lane, to the end.
    template <bool reversed>
    void aggregate_time(const S* a, const S* b, int64_t count, State* factor, State* state) const {
        const X one = constant<X>(1);
        X total = broadcast<X>(*factor), sum = constant<X>(0);
        X before = broadcast<X>(*state);
        int64_t i = 0;
        for (; i + n <= count; i += n) {
            const X products = scan_product(load_steps_backward<reversed>(a, count, i));
            const X behind = shift_up_one(products, one), all = broadcast_last(products);
            sum = multiply_add(all, sum, multiply(behind, load_steps_backward<reversed>(b, count, i)));
            before = multiply(all, before);
            total = multiply(all, total);
        }
        X carry = add(before, sum_of_lanes(sum));
        if (i < count) {
            X f = last_factor<reversed>(a, count, i), x = load_last_steps<reversed>(b, count, i, element<S>(0));
            scan_affine(f, x);
            carry = broadcast_last(multiply_add(f, carry, x));
            total = multiply(total, broadcast_last(f));
        }
        *factor = lane<State>(total, 0);
        *state = lane<State>(carry, 0);
    }

    // Some steps at a time, so that the states are loaded and stored less often.
    static constexpr int most_steps = 4;

    template <int Steps>
    HWY_INLINE void scan_steps_of_channels(const S* a, const S* b, S* h, int64_t sign, int64_t count, State* state,
                                           bool streams) const {
        const int64_t as = sign * p.a.time_stride, bs = sign * p.b.time_stride, hs = sign * p.h.time_stride;
        int64_t c = 0;
        for (; c + n <= count; c += n) {
            X x = load(state + c);
            for (int k = 0; k < Steps; ++k) {
                x = multiply_add(load(a + k * as + c), x, load(b + k * bs + c));
                store_or_stream(h + k * hs + c, x, streams);
            }
            store(state + c, x);
        }
        if (c < count) {
            const int64_t some = count - c;
            X x = load_some(state + c, some);
            for (int k = 0; k < Steps; ++k) {
                x = multiply_add(load_some(a + k * as + c, some), x, load_some(b + k * bs + c, some));
                store_some(h + k * hs + c, x, some);
            }
            store_some(state + c, x, some);
        }
    }

    void scan_channels(const Piece& piece, const S* a, const S* b, S* h, int64_t count, State* state) const {
        const bool streams = stream && can_stream(h, p.h.time_stride);
        const int64_t sign = p.shape.reverse ? -1 : 1, first = p.shape.reverse ? piece.count - 1 : 0;
        int64_t i = 0;
        const auto run = [&](auto steps) HWY_ATTR {
            const int64_t t = first + sign * i;
            scan_steps_of_channels<decltype(steps)::value>(a + t * p.a.time_stride, b + t * p.b.time_stride,
                                                           h + t * p.h.time_stride, sign, count, state, streams);
            i += decltype(steps)::value;
        };
        while (i + most_steps <= piece.count)
            run(std::integral_constant<int, most_steps>());
        while (i < piece.count)
            run(std::integral_constant<int, 1>());
    }

    template <int Steps>
    HWY_INLINE void aggregate_steps_of_channels(const S* a, const S* b, int64_t sign, int64_t count, State* factor,
                                                State* state) const {
        const int64_t as = sign * p.a.time_stride, bs = sign * p.b.time_stride;
        int64_t c = 0;
        for (; c + n <= count; c += n) {
            X x = load(state + c), f = load(factor + c);
            for (int k = 0; k < Steps; ++k) {
                const X at = load(a + k * as + c);
                x = multiply_add(at, x, load(b + k * bs + c));
                f = multiply(at, f);
            }
            store(state + c, x);
            store(factor + c, f);
        }
        if (c < count) {
            const int64_t some = count - c;
            X x = load_some(state + c, some), f = load_some(factor + c, some);
            for (int k = 0; k < Steps; ++k) {
                const X at = load_some(a + k * as + c, some);
                x = multiply_add(at, x, load_some(b + k * bs + c, some));
                f = multiply(at, f);
            }
            store_some(state + c, x, some);
            store_some(factor + c, f, some);
        }
    }

    void aggregate_channels(const Piece& piece, const S* a, const S* b, int64_t count, State* factor, State* state) const {
        const int64_t sign = p.shape.reverse ? -1 : 1, first = p.shape.reverse ? piece.count - 1 : 0;
        int64_t i = 0;
        const auto run = [&](auto steps) HWY_ATTR {
            const int64_t t = first + sign * i;
            aggregate_steps_of_channels<decltype(steps)::value>(a + t * p.a.time_stride, b + t * p.b.time_stride, sign,
                                                                count, factor, state);
            i += decltype(steps)::value;
        };
        while (i + most_steps <= piece.count)
            run(std::integral_constant<int, most_steps>());
        while (i < piece.count)
            run(std::integral_constant<int, 1>());
    }

    const LinearRecurrenceParams& p;
    const int64_t channels;
    const bool lanes_are_channels, stream;
};

void linear_recurrence_task(const LinearRecurrenceParams& p, const TilePlan& plan, int64_t task) {
    with_storage(p.type, [&](auto type) {
        using S = typename decltype(type)::type;
        run_task(LinearRecurrence<S>(p, plan.stream), p.shape, plan, p.workspace.data, task);
    });
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(linear_recurrence_task);

TilePlan plan(const BackendContext* context, const LinearRecurrenceParams& p) {
    return plan_tiles(p.shape, size_of(p.type), size_of(state_type(p.type)), context->options.get("linear_recurrence.tile"),
                      3, last_level_cache());
}
} // namespace

int32_t linear_recurrence(BackendContext* context, const LinearRecurrenceParams* params) {
    const TilePlan tiles = plan(context, *params);
    if (tiles.workspace_bytes() > params->workspace.bytes)
        return fail(error_workspace_too_small, "linear_recurrence: workspace too small");
    clear_chains(tiles, params->workspace.data);
    const auto run = HWY_DYNAMIC_DISPATCH(linear_recurrence_task);
    parallel_for(tiles.tasks(), context->threads, [&](int64_t task) { run(*params, tiles, task); });
    return success;
}

int32_t linear_recurrence_workspace(BackendContext* context, const LinearRecurrenceParams* params, uint64_t* bytes) {
    *bytes = plan(context, *params).workspace_bytes();
    return success;
}

} // namespace ssm::cpu
#endif
