// What the selective scan and its gradients share on the CPU: the exponentials, and the ways of a block of channels between
// memory and [step][lane] or [state][lane]. Included once per instruction set by files that use foreach_target.
#if defined(SSM_CPU_SELECTIVE_SCAN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SSM_CPU_SELECTIVE_SCAN_INL_H_
#undef SSM_CPU_SELECTIVE_SCAN_INL_H_
#else
#define SSM_CPU_SELECTIVE_SCAN_INL_H_
#endif

#include "cpu/math-inl.h"

#include "core/mutate.h"

#include <algorithm>
#include <cstring>

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
// The same where a step that is no number must be seen in its decay: forward it is in what the step adds, too.
template <class Lane, class A>
HWY_INLINE A transition_or_nan(Vec<Lane> s, A a) {
    A e = transition<Lane>(s, a);
    if constexpr (HWY_TARGET != HWY_AVX3 && std::is_same_v<Lane, float>) // where exp2_fast clamps it away
        e.re = hn::Add(e.re, hn::IfThenElseZero(hn::IsNaN(s), s));
    return e;
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

// b or c of some states as [step][state]; or, constant, as [state][lane] with stride 0.
template <class A>
struct StepStates {
    const A* data;
    int64_t stride;
    bool is_constant;
};

// U: storage of u, dt, z, y and their gradients. A: type of a and of the states.
template <class U, class A>
class SelectiveScanTensors {
  protected:
    using Lane = typename Traits<U>::Lane;
    using X = VectorOf<A>;
    // Of b and c per step.
    using BC = std::conditional_t<Traits<A>::complex, A, U>;
    static constexpr int64_t n = lanes_of<Lane>();

    SelectiveScanTensors(const SequenceShape& shape, int64_t states, const void* rates)
        : shape(shape), states(states), rates(rates) {}

    // (width, N) in memory to [state][lane], unused lanes zero.
    void transpose(const A* from, int64_t width, A* to) const {
        for (int64_t state = 0; state < states; ++state)
            for (int64_t l = 0; l < n; ++l)
                to[state * n + l] = l < width ? from[l * states + state] : A{};
    }

    void prepare(int64_t channel, int64_t width, A* a) const {
        transpose(static_cast<const A*>(rates) + channel * states, width, a);
        if constexpr (std::is_same_v<Lane, float>) {
            constexpr double log2e = 1.4426950408889634074;
            for (int64_t i = 0; i < states * n; ++i) {
                if constexpr (Traits<A>::complex)
                    a[i].re = static_cast<float>(a[i].re * log2e);
                else
                    a[i] = static_cast<float>(a[i] * log2e);
            }
        }
    }

    // Rows along time, `rows` of them and `steps` long, to to[step * to_stride + row]; steps up to the next multiple of the
    // lanes and rows up to the lanes are written.
    template <class S>
    static void transpose_rows(const S* from, int64_t row_stride, int64_t rows, int64_t steps, Lane* to, int64_t to_stride) {
        const Tag<Lane> d;
        int64_t i = 0;
        if constexpr (std::is_same_v<S, Lane>)
            for (; rows == n && i + n <= steps; i += n)
                transpose_square(from + i, row_stride, to + i * to_stride, to_stride);
        for (; i < steps; i += n) {
            alignas(64) Lane square[n * n] = {};
            const int64_t some = std::min(n, steps - i);
            for (int64_t r = 0; r < rows; ++r) {
                const S* row = from + r * row_stride + i;
                hn::Store((some == n ? load(row) : load_some(row, some)).re, d, square + r * n);
            }
            transpose_square(square, n, to + i * to_stride, to_stride);
        }
    }

    // Channels [channel, channel + width) and steps [t, t + steps) as [step][lane], unused lanes zero.
    void load_block(const Sequence& s, int64_t t, int64_t steps, int64_t channel, int64_t width, Lane* to) const {
        const U* from =
            static_cast<const U*>(s.data) + batch * s.batch_stride + channel * s.channel_stride + t * s.time_stride;
        const Tag<Lane> d;
        if (shape.layout == Layout::time_contiguous)
            transpose_rows(from, s.channel_stride, width, steps, to, n);
        else if (width == n)
            for (int64_t i = 0; i < steps; ++i)
                hn::Store(load(from + i * s.time_stride).re, d, to + i * n);
        else
            for (int64_t i = 0; i < steps; ++i)
                hn::Store(load_some(from + i * s.time_stride, width).re, d, to + i * n);
    }

    void store_block(const Sequence& s, int64_t t, int64_t steps, int64_t channel, int64_t width, const Lane* from) const {
        U* to = static_cast<U*>(s.data) + batch * s.batch_stride + channel * s.channel_stride + t * s.time_stride;
        const Tag<Lane> d;
        if (shape.layout == Layout::channel_contiguous) {
            for (int64_t i = 0; i < steps; ++i) {
                const VectorOf<U> x = {hn::Load(d, from + i * n)};
                if (width == n)
                    store(to + i * s.time_stride, x);
                else
                    store_some(to + i * s.time_stride, x, width);
            }
            return;
        }
        int64_t i = 0;
        if constexpr (std::is_same_v<U, Lane>)
            for (; width == n && i + n <= steps; i += n)
                transpose_square(from + i * n, n, to + i, s.channel_stride);
        for (; i < steps; i += n) {
            alignas(64) Lane square[n * n];
            transpose_square(from + i * n, n, square, n);
            const int64_t some = std::min(n, steps - i);
            for (int64_t l = 0; l < width; ++l) {
                const VectorOf<U> x = {hn::Load(d, square + l * n)};
                if (some == n)
                    store(to + l * s.channel_stride + i, x);
                else
                    store_some(to + l * s.channel_stride + i, x, some);
            }
        }
    }

    // Zeros, where steps are padding.
    void clear_block(const Sequence& s, int64_t t, int64_t steps, int64_t channel, int64_t width) const {
        U* to = static_cast<U*>(s.data) + batch * s.batch_stride + channel * s.channel_stride + t * s.time_stride;
        const bool by_time = shape.layout == Layout::time_contiguous;
        const int64_t rows = by_time ? width : steps, row_size = by_time ? steps : width;
        for (int64_t row = 0; row < rows; ++row, to += by_time ? s.channel_stride : s.time_stride)
            std::memset(static_cast<void*>(to), 0, static_cast<size_t>(row_size) * sizeof(U));
    }

    // b or c of `count` states from `state` on: in place where states are neighbours, else copied to the buffer.
    StepStates<A> load_states(const StateSequence& s, int64_t t, int64_t steps, int64_t state, int64_t count,
                              A* buffer) const {
        if (s.is_constant)
            return {nullptr, 0, true};
        const BC* from = static_cast<const BC*>(s.data) + batch * s.batch_stride + group * s.group_stride +
                         state * s.state_stride + t * s.time_stride;
        if constexpr (std::is_same_v<BC, A>)
            if (s.state_stride == 1)
                return {from, s.time_stride, false};
        if constexpr (Traits<A>::complex) {
            for (int64_t i = 0; i < steps; ++i)
                for (int64_t k = 0; k < count; ++k)
                    buffer[i * most_states + k] = from[i * s.time_stride + k * s.state_stride];
        } else if (s.time_stride == 1) {
            for (int64_t k = 0; k < count; k += n)
                transpose_rows(from + k * s.state_stride, s.state_stride, std::min(n, count - k), steps, buffer + k,
                               most_states);
        } else {
            for (int64_t i = 0; i < steps; ++i)
                for (int64_t k = 0; k < count; k += n) {
                    const BC* row = from + i * s.time_stride + k;
                    store(buffer + i * most_states + k, X{(k + n <= count ? load(row) : load_some(row, count - k)).re});
                }
        }
        return {buffer, most_states, false};
    }

    // Constant b or c of one block of channels: [state][lane].
    void load_constant(const StateSequence& s, int64_t channel, int64_t width, int64_t state, int64_t count, A* to) const {
        if (!s.is_constant)
            return;
        const A* from = static_cast<const A*>(s.data) + channel * states + state;
        for (int64_t k = 0; k < count; ++k)
            for (int64_t l = 0; l < n; ++l)
                to[k * n + l] = l < width ? from[l * states + k] : A{};
    }

    // A parameter of each channel, zero where it is absent.
    void per_channel(const void* data, int64_t channel, int64_t width, Lane* to) const {
        for (int64_t l = 0; l < n; ++l)
            to[l] = data && l < width ? static_cast<const Lane*>(data)[channel + l] : Lane{0};
    }

    const SequenceShape& shape;
    const int64_t states;
    const void* const rates; // a
    int64_t batch = 0, group = 0;
};

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
