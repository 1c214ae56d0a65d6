// h_t = a_t h_{t-1} + b_t. Where time is contiguous the lanes are neighbouring steps: a vector of pairs (a, b) is scanned in
// registers under composition of the maps h -> a h + b, and the state enters at the end by one product and sum. Where
// channels are contiguous the lanes are channels and each step is one product and sum. 12 bytes per float32 element,
// 2 operations per element in channels, about 2 log2(lanes) + 2 in time.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/linear_recurrence.cpp"
#include "hwy/foreach_target.h"

#include "cpu/tiles-inl.h"

#include "core/mutate.h"

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

template <class S>
class LinearRecurrence {
  public:
    using State = typename Traits<S>::State;
    using X = VectorOf<S>;
    static constexpr int64_t n = lanes<S>();

    explicit LinearRecurrence(const LinearRecurrenceParams& p)
        : p(p), channels(p.shape.channels), step(p.shape.layout == Layout::channel_contiguous) {}

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
        if (step)
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
        if (step)
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
        X carry = broadcast<X>(*state);
        int64_t i = 0;
        for (; i + n <= count; i += n) {
            X f = load_steps<reversed>(a, count, i), x = load_steps<reversed>(b, count, i);
            scan_affine(f, x);
            x = multiply_add(f, carry, x);
            store_steps<reversed>(h, count, i, x);
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

    template <bool reversed>
    void aggregate_time(const S* a, const S* b, int64_t count, State* factor, State* state) const {
        X total = broadcast<X>(*factor), carry = broadcast<X>(*state);
        const auto take = [&](X f, X x) HWY_ATTR {
            scan_affine(f, x);
            carry = broadcast_last(multiply_add(f, carry, x));
            total = multiply(total, broadcast_last(f));
        };
        int64_t i = 0;
        for (; i + n <= count; i += n)
            take(load_steps<reversed>(a, count, i), load_steps<reversed>(b, count, i));
        if (i < count)
            take(last_factor<reversed>(a, count, i), load_last_steps<reversed>(b, count, i, element<S>(0)));
        *factor = lane<State>(total, 0);
        *state = lane<State>(carry, 0);
    }

    void scan_channels(const Piece& piece, const S* a, const S* b, S* h, int64_t count, State* state) const {
        const int64_t full = count / n * n;
        for (int64_t i = 0; i < piece.count; ++i) {
            const int64_t t = p.shape.reverse ? piece.count - 1 - i : i;
            const S *at = a + t * p.a.time_stride, *bt = b + t * p.b.time_stride;
            S* ht = h + t * p.h.time_stride;
            for (int64_t c = 0; c < full; c += n) {
                const X x = multiply_add(load(at + c), load(state + c), load(bt + c));
                store(state + c, x);
                store(ht + c, x);
            }
            if (full < count) {
                const int64_t some = count - full;
                const X x =
                    multiply_add(load_some(at + full, some), load_some(state + full, some), load_some(bt + full, some));
                store_some(state + full, x, some);
                store_some(ht + full, x, some);
            }
        }
    }

    void aggregate_channels(const Piece& piece, const S* a, const S* b, int64_t count, State* factor, State* state) const {
        for (int64_t i = 0; i < piece.count; ++i) {
            const int64_t t = p.shape.reverse ? piece.count - 1 - i : i;
            const S *at = a + t * p.a.time_stride, *bt = b + t * p.b.time_stride;
            int64_t c = 0;
            for (; c + n <= count; c += n) {
                const X f = load(at + c);
                store(state + c, multiply_add(f, load(state + c), load(bt + c)));
                store(factor + c, multiply(f, load(factor + c)));
            }
            if (c < count) {
                const int64_t some = count - c;
                const X f = load_some(at + c, some);
                store_some(state + c, multiply_add(f, load_some(state + c, some), load_some(bt + c, some)), some);
                store_some(factor + c, multiply(f, load_some(factor + c, some)), some);
            }
        }
    }

    const LinearRecurrenceParams& p;
    const int64_t channels;
    const bool step; // lanes are channels
};

void linear_recurrence_task(const LinearRecurrenceParams& p, const TilePlan& plan, int64_t task) {
    with_storage(p.type, [&](auto type) {
        using S = typename decltype(type)::type;
        run_task(LinearRecurrence<S>(p), p.shape, plan, p.workspace.data, task);
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
    return plan_tiles(p.shape, size_of(p.type), size_of(state_type(p.type)), context->linear_recurrence_tile);
}
} // namespace

int32_t linear_recurrence(BackendContext* context, const LinearRecurrenceParams* params) {
    const TilePlan tiles = plan(context, *params);
    if (tiles.workspace_bytes() > params->workspace.bytes)
        return fail(SSM_ERROR_WORKSPACE_TOO_SMALL, "linear_recurrence: workspace too small");
    clear_slots(tiles, params->workspace.data);
    const auto run = HWY_DYNAMIC_DISPATCH(linear_recurrence_task);
    parallel_for(tiles.tasks(), context->threads, [&](int64_t task) { run(*params, tiles, task); });
    return SSM_SUCCESS;
}

int32_t linear_recurrence_workspace(BackendContext* context, const LinearRecurrenceParams* params, uint64_t* bytes) {
    *bytes = plan(context, *params).workspace_bytes();
    return SSM_SUCCESS;
}

} // namespace ssm::cpu
#endif
