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

// ---- Between memory and blocks. Functions of their own, so that each is compiled once for all that uses them.

// Rows along time, `rows` of them and `steps` long, to to[step * to_stride + row]; steps up to the next multiple of the
// lanes and rows up to the lanes are written.
template <class S, class Lane>
HWY_NOINLINE void transpose_rows(const S* from, int64_t row_stride, int64_t rows, int64_t steps, Lane* to,
                                 int64_t to_stride) {
    constexpr int64_t n = lanes_of<Lane>();
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

// The other way, the lanes being rows.
template <class S, class Lane>
HWY_NOINLINE void transpose_steps(const Lane* from, int64_t rows, int64_t steps, S* to, int64_t row_stride) {
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    int64_t i = 0;
    if constexpr (std::is_same_v<S, Lane>)
        for (; rows == n && i + n <= steps; i += n)
            transpose_square(from + i * n, n, to + i, row_stride);
    for (; i < steps; i += n) {
        alignas(64) Lane square[n * n];
        transpose_square(from + i * n, n, square, n);
        const int64_t some = std::min(n, steps - i);
        for (int64_t l = 0; l < rows; ++l) {
            const VectorOf<S> x = {hn::Load(d, square + l * n)};
            if (some == n)
                store(to + l * row_stride + i, x);
            else
                store_some(to + l * row_stride + i, x, some);
        }
    }
}

// `steps` times `width` neighbours, at most the lanes.
template <class S, class Lane>
HWY_NOINLINE void load_steps(const S* from, int64_t stride, int64_t width, int64_t steps, Lane* to, int64_t to_stride) {
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    for (int64_t i = 0; i < steps; ++i)
        hn::StoreU((width == n ? load(from + i * stride) : load_some(from + i * stride, width)).re, d, to + i * to_stride);
}
template <class S, class Lane>
HWY_NOINLINE void store_steps(const Lane* from, int64_t width, int64_t steps, S* to, int64_t stride) {
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    for (int64_t i = 0; i < steps; ++i) {
        const VectorOf<S> x = {hn::Load(d, from + i * n)};
        if (width == n)
            store(to + i * stride, x);
        else
            store_some(to + i * stride, x, width);
    }
}

// A: type of a and of the states. The sequences' type, which `type` says, counts in the functions above alone.
template <class A>
class SelectiveScanTensors {
  protected:
    using Lane = typename Traits<A>::Lane;
    using X = VectorOf<A>;
    static constexpr int64_t n = lanes_of<Lane>();

    SelectiveScanTensors(const SequenceShape& shape, DataType type, int64_t states, const void* rates)
        : shape(shape), type(type), states(states), rates(rates) {}

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

    // Channels [channel, channel + width) and steps [t, t + steps) as [step][lane], unused lanes zero.
    void load_block(const Sequence& s, int64_t t, int64_t steps, int64_t channel, int64_t width, Lane* to) const {
        with_storage_of<Lane>(type, [&](auto of) {
            const auto* from = place<typename decltype(of)::type>(s, t, channel);
            if (shape.layout == Layout::time_contiguous)
                transpose_rows(from, s.channel_stride, width, steps, to, n);
            else
                load_steps(from, s.time_stride, width, steps, to, n);
        });
    }

    void store_block(const Sequence& s, int64_t t, int64_t steps, int64_t channel, int64_t width, const Lane* from) const {
        with_storage_of<Lane>(type, [&](auto of) {
            auto* to = place<typename decltype(of)::type>(s, t, channel);
            if (shape.layout == Layout::time_contiguous)
                transpose_steps(from, width, steps, to, s.channel_stride);
            else
                store_steps(from, width, steps, to, s.time_stride);
        });
    }

    // Zeros, where steps are padding.
    void clear_block(const Sequence& s, int64_t t, int64_t steps, int64_t channel, int64_t width) const {
        with_storage_of<Lane>(type, [&](auto of) {
            auto* to = place<typename decltype(of)::type>(s, t, channel);
            const bool by_time = shape.layout == Layout::time_contiguous;
            const int64_t rows = by_time ? width : steps, row_size = by_time ? steps : width;
            for (int64_t row = 0; row < rows; ++row, to += by_time ? s.channel_stride : s.time_stride)
                std::memset(static_cast<void*>(to), 0, static_cast<size_t>(row_size) * sizeof(*to));
        });
    }

    // b or c of `count` states from `state` on: in place where states are neighbours, else copied to the buffer.
    StepStates<A> load_states(const StateSequence& s, int64_t t, int64_t steps, int64_t state, int64_t count,
                              A* buffer) const {
        if (s.is_constant)
            return {nullptr, 0, true};
        const int64_t offset = batch * s.batch_stride + group * s.group_stride + state * s.state_stride + t * s.time_stride;
        if (s.state_stride == 1 && (Traits<A>::complex || size_of(type) == sizeof(Lane)))
            return {static_cast<const A*>(s.data) + offset, s.time_stride, false};
        if constexpr (Traits<A>::complex) {
            const A* from = static_cast<const A*>(s.data) + offset;
            for (int64_t i = 0; i < steps; ++i)
                for (int64_t k = 0; k < count; ++k)
                    buffer[i * most_states + k] = from[i * s.time_stride + k * s.state_stride];
        } else {
            with_storage_of<Lane>(type, [&](auto of) {
                const auto* from = static_cast<const typename decltype(of)::type*>(s.data) + offset;
                for (int64_t k = 0; k < count; k += n) {
                    const int64_t some = std::min(n, count - k);
                    if (s.time_stride == 1)
                        transpose_rows(from + k * s.state_stride, s.state_stride, some, steps, buffer + k, most_states);
                    else
                        load_steps(from + k, s.time_stride, some, steps, buffer + k, most_states);
                }
            });
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

    template <class S>
    S* place(const Sequence& s, int64_t t, int64_t channel) const {
        return static_cast<S*>(s.data) + batch * s.batch_stride + channel * s.channel_stride + t * s.time_stride;
    }

    const SequenceShape& shape;
    const DataType type;
    const int64_t states;
    const void* const rates; // a
    int64_t batch = 0, group = 0;
};

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
