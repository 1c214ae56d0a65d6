// What mamba3, its gradients and its update compute alike of a head: the sizes of steps, and rows of b and c with their
// biases, turned by the angles.
#if defined(SSM_CPU_MAMBA3_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SSM_CPU_MAMBA3_INL_H_
#undef SSM_CPU_MAMBA3_INL_H_
#else
#define SSM_CPU_MAMBA3_INL_H_
#endif

#include "cpu/mamba3.h"
#include "cpu/math-inl.h"
#include "cpu/ssd-inl.h"

#include "core/mutate.h"

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

constexpr double two_pi = 6.28318530717958647692;

template <class Lane>
HWY_INLINE Lane total_of(Vec<Lane> x) {
    return lane<Lane>(sum_of_lanes(RealVector<Lane>{x}), 0);
}

template <class Lane>
struct Tanh {
    Vec<Lane> value, slope;
};

// Relatively accurate from the smallest results to those near 1, and its derivative.
template <class Lane>
HWY_INLINE Tanh<Lane> tanh_and_slope(Vec<Lane> x) {
    using F = FloatFormat<Lane>;
    const Tag<Lane> d;
    // (exp(y) - 1) / y by Taylor's series where the difference would lose digits.
    constexpr auto series = make_coefficients<Lane, F::exp_terms>([](int i) { return inverse_factorial(i + 1); });
    const auto y = hn::Mul(hn::Abs(x), hn::Set(d, Lane(-2)));
    const auto e = exp<Lane>(y), one = hn::Set(d, Lane{1});
    const auto near = hn::Mul(y, horner<Lane>(hn::Max(y, hn::Set(d, Lane(-0.35))), series.c));
    const auto less_one = hn::IfThenElse(hn::Gt(y, hn::Set(d, Lane(-0.35))), near, hn::Sub(e, one));
    const auto scale = hn::Div(one, hn::Add(hn::Set(d, Lane(2)), less_one));
    const auto value = hn::CopySign(hn::Mul(less_one, scale), x);
    return {value, hn::Mul(hn::Mul(hn::Set(d, Lane(4)), e), hn::Mul(scale, scale))};
}

// `count` numbers of a head along time, as lanes; `to` has room for whole vectors.
template <class U>
HWY_NOINLINE void read_along_time(const HeadTensor& tensor, int64_t batch, int64_t head, int64_t t, int64_t count,
                                  typename Traits<U>::Lane* to) {
    using Lane = typename Traits<U>::Lane;
    constexpr int64_t n = lanes_of<Lane>();
    const U* const from = place_of<const U>(tensor, batch, head, t);
    for (int64_t i = 0; i < count; i += n) {
        alignas(64) U some[lanes<U>()] = {};
        for (int64_t k = 0; k < n && i + k < count; ++k)
            some[k] = from[(i + k) * tensor.time_stride];
        hn::StoreU(load(some).re, Tag<Lane>(), to + i);
    }
}

template <class U>
HWY_NOINLINE void write_along_time(const HeadTensor& tensor, int64_t batch, int64_t head, int64_t t, int64_t count,
                                   const typename Traits<U>::Lane* from) {
    using Lane = typename Traits<U>::Lane;
    constexpr int64_t n = lanes_of<Lane>();
    U* const to = place_of<U>(tensor, batch, head, t);
    for (int64_t i = 0; i < count; i += n) {
        alignas(64) U some[lanes<U>()];
        store(some, VectorOf<U>{hn::LoadU(Tag<Lane>(), from + i)});
        for (int64_t k = 0; k < n && i + k < count; ++k)
            to[(i + k) * tensor.time_stride] = some[k];
    }
}

// A row of lanes to memory, each times a factor.
template <class U>
HWY_NOINLINE void write_row(const typename Traits<U>::Lane* from, typename Traits<U>::Lane factor, int64_t count, U* to) {
    using Lane = typename Traits<U>::Lane;
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    for (int64_t k = 0; k < count; k += n) {
        const VectorOf<U> x = {hn::Mul(hn::LoadU(d, from + k), hn::Set(d, factor))};
        if (k + n <= count)
            store(to + k, x);
        else
            store_some(to + k, x, count - k);
    }
}

// The product of two rows as they lie in memory.
template <class U>
HWY_NOINLINE typename Traits<U>::Lane product_of_rows(const U* x, const U* y, int64_t count) {
    using Lane = typename Traits<U>::Lane;
    constexpr int64_t n = lanes_of<Lane>();
    auto sum = hn::Zero(Tag<Lane>());
    for (int64_t k = 0; k < count; k += n) {
        const int64_t some = std::min(n, count - k);
        sum = hn::MulAdd(load_some(x + k, some).re, load_some(y + k, some).re, sum);
    }
    return total_of<Lane>(sum);
}

// One head of a batch element. P: the parameters of the operation.
template <class U, class P>
class Mamba3Head {
  public:
    using Lane = typename Traits<U>::Lane;
    static constexpr int64_t n = lanes_of<Lane>();

    Mamba3Head(const P& p, int64_t heads, const Mamba3Buffers<Lane>& buffers, int64_t batch, int64_t head)
        : p(p), buffers(buffers), batch(batch), head(head), group(head / (heads / p.groups)),
          angle_group(p.angles > 0 ? head / (heads / p.angle_groups) : 0), width(buffers.width) {
        for (Lane* row : {buffers.b_bias, buffers.c_bias, buffers.b, buffers.c, buffers.turn})
            std::fill_n(row, width, Lane{0});
        if (p.b_bias)
            std::copy_n(static_cast<const Lane*>(p.b_bias) + head * p.states, p.states, buffers.b_bias);
        if (p.c_bias)
            std::copy_n(static_cast<const Lane*>(p.c_bias) + head * p.states, p.states, buffers.c_bias);
    }

    // s, lambda and 1 - lambda of some steps.
    void read_steps(int64_t t, int64_t count) const {
        const Tag<Lane> d;
        const auto one = hn::Set(d, Lane{1});
        const auto bias = hn::Set(d, p.dt_bias ? static_cast<const Lane*>(p.dt_bias)[head] : Lane{0});
        read_along_time<U>(p.dt, batch, head, t, count, buffers.biased);
        read_along_time<U>(p.trap, batch, head, t, count, buffers.lambda);
        for (int64_t i = 0; i < count; i += n) {
            const auto biased = hn::Add(hn::LoadU(d, buffers.biased + i), bias);
            hn::StoreU(biased, d, buffers.biased + i);
            hn::StoreU(p.dt_softplus ? softplus<Lane>(biased) : biased, d, buffers.s + i);
            const auto trap = hn::LoadU(d, buffers.lambda + i);
            const auto e = exp<Lane>(hn::Neg(hn::Abs(trap)));
            const auto large = hn::Div(one, hn::Add(one, e)), small = hn::Mul(e, large);
            const auto is_negative = hn::Lt(trap, hn::Zero(d));
            hn::StoreU(hn::IfThenElse(is_negative, small, large), d, buffers.lambda + i);
            hn::StoreU(hn::IfThenElse(is_negative, large, small), d, buffers.rest + i);
        }
    }
    Lane rate(int64_t t) const { return *place_of<const Lane>(p.a, batch, head, t); }

    void begin_turn(const Lane* angle) const {
        for (int64_t i = 0; i < p.angles; ++i)
            buffers.turn[i] = angle ? angle[i] * static_cast<Lane>(1 / two_pi) : Lane{0};
        wrap();
    }
    void end_turn(Lane* angle) const { write_row(buffers.turn, static_cast<Lane>(two_pi), p.angles, angle); }
    void wrap() const {
        const Tag<Lane> d;
        for (int64_t i = 0; i < p.angles; i += n) {
            const auto turn = hn::LoadU(d, buffers.turn + i);
            hn::StoreU(hn::Sub(turn, hn::Round(turn)), d, buffers.turn + i);
        }
    }
    // theta_t from theta_{t-1}, as parts of a whole turn.
    void turn(int64_t t, Lane s) const {
        if (p.angles == 0)
            return;
        const Tag<Lane> d;
        const U* const angles = place_of<const U>(p.angle, batch, angle_group, t);
        const auto factor = hn::Set(d, Lane(0.5) * s);
        for (int64_t i = 0; i < p.angles; i += n) {
            const auto value = tanh_and_slope<Lane>(load_angles(angles, i)).value;
            const auto turn = hn::MulAdd(factor, value, hn::LoadU(d, buffers.turn + i));
            hn::StoreU(hn::Sub(turn, hn::Round(turn)), d, buffers.turn + i);
        }
    }
    Vec<Lane> load_angles(const U* angles, int64_t i) const {
        return (i + n <= p.angles ? load(angles + i) : load_some(angles + i, p.angles - i)).re;
    }

    // b and c of a step with their biases; answers their product.
    Lane load_rows(int64_t t) const {
        const Tag<Lane> d;
        const U* const b = place_of<const U>(p.b, batch, group, t);
        const U* const c = place_of<const U>(p.c, batch, group, t);
        auto sum = hn::Zero(d);
        for (int64_t k = 0; k < p.states; k += n) {
            const int64_t count = std::min(n, p.states - k);
            const auto own_b =
                hn::Add((count == n ? load(b + k) : load_some(b + k, count)).re, hn::LoadU(d, buffers.b_bias + k));
            const auto own_c =
                hn::Add((count == n ? load(c + k) : load_some(c + k, count)).re, hn::LoadU(d, buffers.c_bias + k));
            hn::StoreU(own_b, d, buffers.b + k);
            hn::StoreU(own_c, d, buffers.c + k);
            sum = hn::MulAdd(own_b, own_c, sum);
        }
        return total_of<Lane>(sum);
    }

    // f(first number of the row, first pair, sine, cosine) for every vector of pairs.
    template <class F>
    HWY_INLINE void each_pair(const F& f) const {
        const Tag<Lane> d;
        for (int64_t i = 0; 2 * i < p.states; i += n) {
            Vec<Lane> sine = hn::Zero(d), cosine = hn::Set(d, Lane{1});
            if (i < p.angles)
                sine_cosine<Lane>(hn::LoadU(d, buffers.turn + i), hn::Set(d, static_cast<Lane>(two_pi)), sine, cosine);
            f(2 * i, i, sine, cosine);
        }
    }
    // k and q of b and c.
    void rotate() const {
        const Tag<Lane> d;
        each_pair([&](int64_t at, int64_t, Vec<Lane> sine, Vec<Lane> cosine) HWY_ATTR {
            for (const auto& [from, to] : {std::pair(buffers.b, buffers.k), std::pair(buffers.c, buffers.q)}) {
                Vec<Lane> u, v;
                hn::LoadInterleaved2(d, from + at, u, v);
                const auto turned_u = hn::NegMulAdd(v, sine, hn::Mul(u, cosine));
                const auto turned_v = hn::MulAdd(u, sine, hn::Mul(v, cosine));
                hn::StoreInterleaved2(turned_u, turned_v, d, to + at);
            }
        });
    }

    const P& p;
    const Mamba3Buffers<Lane>& buffers;
    const int64_t batch, head, group, angle_group, width;
};

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
