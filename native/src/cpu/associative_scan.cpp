// y_t = y_{t-1} o x_t for a sum, product, maximum or minimum. The lanes are neighbouring steps where time is contiguous
// (log2(lanes) combinations in registers per vector) and channels where channels are. 8 bytes per float32 element.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/associative_scan.cpp"
#include "hwy/foreach_target.h"

#include "cpu/tiles-inl.h"

#include "core/mutate.h"
#include "core/params/associative_scan.h"

#include <limits>

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

struct AddOperator {
    template <class X>
    static HWY_INLINE X combine(X earlier, X later) {
        return add(earlier, later);
    }
    template <class Lane>
    static constexpr Lane identity() {
        return 0;
    }
};
struct MultiplyOperator {
    template <class X>
    static HWY_INLINE X combine(X earlier, X later) {
        return multiply(earlier, later);
    }
    template <class Lane>
    static constexpr Lane identity() {
        return SSM_MUTATE("associative_scan.cpu.wrong_identity", Lane{1}, Lane{0});
    }
};
// The processors differ in what they make of a NaN; here one of either side stays.
template <class V, class F>
HWY_INLINE V keep_nan(V earlier, V later, const F& f) {
    return hn::IfThenElse(hn::IsNaN(earlier), earlier, hn::IfThenElse(hn::IsNaN(later), later, f(earlier, later)));
}
struct MaximumOperator {
    template <class X>
    static HWY_INLINE X combine(X earlier, X later) {
        return {SSM_MUTATE("associative_scan.cpu.lost_nan",
                           keep_nan(earlier.re, later.re, [](auto x, auto y) HWY_ATTR { return hn::Max(x, y); }),
                           hn::IfThenElse(hn::Gt(later.re, earlier.re), later.re, earlier.re))};
    }
    template <class Lane>
    static constexpr Lane identity() {
        return -std::numeric_limits<Lane>::infinity();
    }
};
struct MinimumOperator {
    template <class X>
    static HWY_INLINE X combine(X earlier, X later) {
        return {keep_nan(earlier.re, later.re, [](auto x, auto y) HWY_ATTR { return hn::Min(x, y); })};
    }
    template <class Lane>
    static constexpr Lane identity() {
        return std::numeric_limits<Lane>::infinity();
    }
};

template <class S, class Operator>
class AssociativeScan {
  public:
    using Lane = typename Traits<S>::Lane;
    using State = typename Traits<S>::State;
    using X = VectorOf<S>;
    static constexpr int64_t n = lanes<S>();

    AssociativeScan(const AssociativeScanParams& p, bool stream)
        : p(p), channels(p.shape.channels), lanes_are_channels(p.shape.layout == Layout::channel_contiguous),
          stream(stream && p.x.data != p.y.data) {}

    void begin(const Piece& piece, int64_t channel, int64_t count, State* state) const {
        const State* initial = static_cast<const State*>(p.initial_state);
        // A sequence without steps and without a state before it leaves zero, whatever the operator.
        const bool empty = piece.count == 0 && piece.ends;
        for (int64_t i = 0; i < count; ++i)
            state[i] = initial ? initial[piece.row * channels + channel + i] : empty ? State{} : neutral();
    }

    void finish(int64_t row, int64_t channel, int64_t count, const State* state) const {
        if (State* last = static_cast<State*>(p.last_state))
            std::copy_n(state, count, last + row * channels + channel);
    }

    void scan(const Piece& piece, int64_t batch, int64_t channel, int64_t count, State* state) const {
        const S* x = at(p.x, piece, batch, channel);
        S* y = at(p.y, piece, batch, channel);
        if (lanes_are_channels)
            scan_channels(piece, x, y, count, state);
        else if (p.shape.reverse)
            scan_time<true>(x, y, piece.count, state);
        else
            scan_time<false>(x, y, piece.count, state);
    }

    void identity(int64_t count, State*, State* state) const { std::fill_n(state, count, neutral()); }

    void aggregate(const Piece& piece, int64_t batch, int64_t channel, int64_t count, State*, State* state) const {
        const S* x = at(p.x, piece, batch, channel);
        if (lanes_are_channels)
            aggregate_channels(piece, x, count, state);
        else if (p.shape.reverse)
            aggregate_time<true>(x, piece.count, state);
        else
            aggregate_time<false>(x, piece.count, state);
    }

    void compose(const State*, const State* aggregate, int64_t count, State* state) const {
        for (int64_t i = 0; i < count; i += n) {
            const int64_t some = std::min(n, count - i);
            const X earlier = load_some(state + i, some), later = load_some(aggregate + i, some);
            store_some(state + i, SSM_MUTATE("associative_scan.cpu.dropped_carry", Operator::combine(earlier, later), later),
                       some);
        }
    }

  private:
    static State neutral() {
        if constexpr (Traits<S>::complex)
            return {Operator::template identity<Lane>(), 0};
        else
            return Operator::template identity<Lane>();
    }

    S* at(const Sequence& s, const Piece& piece, int64_t batch, int64_t channel) const {
        return static_cast<S*>(s.data) + batch * s.batch_stride + channel * s.channel_stride + piece.time * s.time_stride;
    }

    static HWY_INLINE X scan_lanes(X x) {
        const X fill = constant<X>(Operator::template identity<Lane>());
        scan_steps<Lane>([&](auto move) HWY_ATTR { x = Operator::combine(move(x, fill), x); });
        return x;
    }

    // The last steps with the identity behind them. (A storage type cannot hold every identity, a lane can.)
    template <bool reversed>
    static HWY_INLINE X load_tail(const S* x, int64_t count, int64_t i) {
        alignas(64) State buffer[n];
        store(buffer, load_last_steps<reversed>(x, count, i, element<S>(0)));
        for (int64_t k = count - i; k < n; ++k)
            buffer[k] = neutral();
        return load(buffer);
    }

    template <bool reversed>
    void scan_time(const S* x, S* y, int64_t count, State* state) const {
        const bool streams = stream && can_stream_steps<reversed>(y, count), exclusive = p.exclusive;
        X carry = broadcast<X>(*state);
        int64_t i = 0;
        for (; i + n <= count; i += n) {
            const X inclusive = Operator::combine(carry, scan_lanes(load_steps<reversed>(x, count, i)));
            store_steps<reversed>(y, count, i, exclusive ? shift_up_one(inclusive, carry) : inclusive, streams);
            carry = broadcast_last(inclusive);
        }
        if (i < count) {
            const X inclusive = Operator::combine(carry, scan_lanes(load_tail<reversed>(x, count, i)));
            store_last_steps<reversed>(y, count - SSM_MUTATE("associative_scan.cpu.off_by_one_tail", 0, 1), i,
                                       exclusive ? shift_up_one(inclusive, carry) : inclusive);
            carry = broadcast_last(inclusive);
        }
        *state = lane<State>(carry, 0);
    }

    template <bool reversed>
    void aggregate_time(const S* x, int64_t count, State* state) const {
        X total = constant<X>(Operator::template identity<Lane>());
        int64_t i = 0;
        for (; i + n <= count; i += n)
            total = Operator::combine(total, load_steps<reversed>(x, count, i));
        if (i < count)
            total = Operator::combine(total, load_tail<reversed>(x, count, i));
        *state = lane<State>(Operator::combine(broadcast<X>(*state), scan_lanes(total)), n - 1);
    }

    // Some steps at a time, so that the states are loaded and stored less often. y is null where only the state is wanted.
    template <int Steps>
    HWY_INLINE void steps_of_channels(const S* x, S* y, int64_t sign, int64_t count, State* state, bool streams) const {
        const int64_t xs = sign * p.x.time_stride, ys = sign * p.y.time_stride;
        const bool exclusive = p.exclusive;
        int64_t c = 0;
        for (; c + n <= count; c += n) {
            X s = load(state + c);
            for (int k = 0; k < Steps; ++k) {
                const X before = s;
                s = Operator::combine(s, load(x + k * xs + c));
                if (y)
                    store_or_stream(y + k * ys + c, exclusive ? before : s, streams);
            }
            store(state + c, s);
        }
        if (c < count) {
            const int64_t some = count - c;
            X s = load_some(state + c, some);
            for (int k = 0; k < Steps; ++k) {
                const X before = s;
                s = Operator::combine(s, load_some(x + k * xs + c, some));
                if (y)
                    store_some(y + k * ys + c, exclusive ? before : s, some);
            }
            store_some(state + c, s, some);
        }
    }

    void scan_channels(const Piece& piece, const S* x, S* y, int64_t count, State* state) const {
        constexpr int most_steps = 4;
        const bool streams = stream && y && can_stream(y, p.y.time_stride);
        const int64_t sign = p.shape.reverse ? -1 : 1, first = p.shape.reverse ? piece.count - 1 : 0;
        int64_t i = 0;
        const auto run = [&](auto steps) HWY_ATTR {
            const int64_t t = first + sign * i;
            steps_of_channels<decltype(steps)::value>(x + t * p.x.time_stride, y ? y + t * p.y.time_stride : nullptr, sign,
                                                      count, state, streams);
            i += decltype(steps)::value;
        };
        while (i + most_steps <= piece.count)
            run(std::integral_constant<int, most_steps>());
        while (i < piece.count)
            run(std::integral_constant<int, 1>());
    }

    void aggregate_channels(const Piece& piece, const S* x, int64_t count, State* state) const {
        scan_channels(piece, x, nullptr, count, state);
    }

    const AssociativeScanParams& p;
    const int64_t channels;
    const bool lanes_are_channels, stream;
};

void associative_scan_task(const AssociativeScanParams& p, const TilePlan& plan, int64_t task) {
    with_storage(p.type, [&](auto type) {
        using S = typename decltype(type)::type;
        const auto run = [&](auto op) {
            run_task(AssociativeScan<S, decltype(op)>(p, plan.stream), p.shape, plan, p.workspace.data, task);
        };
        if (p.combine == Combine::add)
            run(AddOperator());
        else if (p.combine == Combine::multiply)
            run(MultiplyOperator());
        else if constexpr (!Traits<S>::complex) {
            if (p.combine == Combine::maximum)
                run(MaximumOperator());
            else
                run(MinimumOperator());
        }
    });
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(associative_scan_task);

TilePlan plan(const BackendContext* context, const AssociativeScanParams& p) {
    return plan_tiles(p.shape, size_of(p.type), size_of(state_type(p.type)), context->options.get("associative_scan.tile"),
                      2, last_level_cache());
}
} // namespace

int32_t associative_scan(BackendContext* context, const AssociativeScanParams* params) {
    const TilePlan tiles = plan(context, *params);
    if (tiles.workspace_bytes() > params->workspace.bytes)
        return fail(error_workspace_too_small, "associative_scan: workspace too small");
    clear_chains(tiles, params->workspace.data);
    const auto run = HWY_DYNAMIC_DISPATCH(associative_scan_task);
    parallel_for(tiles.tasks(), context->threads, [&](int64_t task) { run(*params, tiles, task); });
    return success;
}

int32_t associative_scan_workspace(BackendContext* context, const AssociativeScanParams* params, uint64_t* bytes) {
    *bytes = plan(context, *params).workspace_bytes();
    return success;
}

} // namespace ssm::cpu
#endif
