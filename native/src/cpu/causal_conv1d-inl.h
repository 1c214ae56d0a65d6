// What the short convolution and its gradients share. Both layouts are the same sums of vectors: where time is contiguous a
// vector holds successive steps of one channel and the next tap lies one lane further, where channels are it holds one step
// of neighbouring channels and the next tap is the next vector.
#if defined(SSM_CPU_CAUSAL_CONV1D_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SSM_CPU_CAUSAL_CONV1D_INL_H_
#undef SSM_CPU_CAUSAL_CONV1D_INL_H_
#else
#define SSM_CPU_CAUSAL_CONV1D_INL_H_
#endif

#include "cpu/causal_conv1d.h"
#include "cpu/math-inl.h"

#include <cstring>

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

constexpr int64_t block_vectors = 64; // that are gathered into a buffer at a time
// Between buffers, so that they do not lie at the same offset of a page (see convolve_fixed).
constexpr int64_t apart_vectors = 21;
constexpr int64_t most_history = CausalConv1dParams::most_width - 1;

// Channels that a vector holds, and how a buffer of them is stepped through.
struct Lineup {
    bool by_time;
    int64_t channels;    // 1 where by_time
    int64_t step;        // lanes from one step to the next in a buffer
    int64_t block_steps; // in block_vectors
    int64_t lanes;
    int64_t vectors(int64_t steps) const { return (steps * step + lanes - 1) / lanes; }
};
template <class Lane>
Lineup line_up(Layout layout, int64_t channels) {
    constexpr int64_t n = lanes_of<Lane>();
    if (layout == Layout::time_contiguous)
        return {true, 1, 1, block_vectors * n, n};
    return {false, std::min(n, channels), n, block_vectors, n};
}

// Steps [from, from + count) of a sequence, counted from its first, widened into a buffer; up to a vector of zeros may
// follow. Steps before the first come from the state, `history` of them for each channel; null is zero.
template <class S>
HWY_INLINE void gather(const Lineup& lineup, const S* first, int64_t time_stride, const typename Traits<S>::State* state,
                       int64_t history, int64_t from, int64_t count, typename Traits<S>::Lane* to) {
    using Lane = typename Traits<S>::Lane;
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    int64_t i = 0;
    for (; i < count && from + i < 0; ++i)
        for (int64_t l = 0; l < lineup.step; ++l)
            to[i * lineup.step + l] = state && l < lineup.channels ? state[l * history + history + from + i] : Lane{0};
    if (i == count)
        return;
    const S* p = first + (from + i) * time_stride;
    if (lineup.by_time) {
        for (; i + n <= count; i += n, p += n)
            hn::StoreU(load(p).re, d, to + i);
        if (i < count)
            hn::StoreU(load_some(p, count - i).re, d, to + i);
    } else if (lineup.channels == n) {
        for (; i < count; ++i, p += time_stride)
            hn::Store(load(p).re, d, to + i * n);
    } else {
        for (; i < count; ++i, p += time_stride)
            hn::Store(load_some(p, lineup.channels).re, d, to + i * n);
    }
}

// The way back, of `count` steps.
template <class S>
HWY_INLINE void scatter(const Lineup& lineup, const typename Traits<S>::Lane* from, int64_t count, S* to,
                        int64_t time_stride) {
    using Lane = typename Traits<S>::Lane;
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    if (lineup.by_time) {
        int64_t i = 0;
        for (; i + n <= count; i += n)
            store(to + i, VectorOf<S>{hn::LoadU(d, from + i)});
        if (i < count)
            store_some(to + i, VectorOf<S>{hn::LoadU(d, from + i)}, count - i);
        return;
    }
    for (int64_t i = 0; i < count; ++i, to += time_stride) {
        const VectorOf<S> x = {hn::Load(d, from + i * n)};
        if (lineup.channels == n)
            store(to, x);
        else
            store_some(to, x, lineup.channels);
    }
}

// Zeros where steps [from, to) are padding, in channels [first, last): s begins at step 0 of the channel `first`.
template <class S>
void clear_gaps(const SequenceRuns& runs, Layout layout, S* s, const Sequence& strides, int64_t channels, int64_t from,
                int64_t to) {
    runs.for_each_gap(from, to, [&](int64_t begin, int64_t end) {
        const bool by_time = layout == Layout::time_contiguous;
        const int64_t rows = by_time ? channels : end - begin, row_size = by_time ? end - begin : channels;
        S* row = s + begin * strides.time_stride;
        for (int64_t i = 0; i < rows; ++i, row += by_time ? strides.channel_stride : strides.time_stride)
            std::memset(static_cast<void*>(row), 0, static_cast<size_t>(row_size) * sizeof(S));
    });
}

// The parameters of the lanes' channels, one vector for each of `count` columns of a matrix (channels, count); null is zero.
template <class Lane>
void spread(const Lineup& lineup, const Lane* matrix, int64_t count, Lane* to) {
    constexpr int64_t n = lanes_of<Lane>();
    for (int64_t j = 0; j < count; ++j)
        for (int64_t l = 0; l < n; ++l) {
            const int64_t channel = lineup.by_time ? 0 : l;
            to[j * n + l] = matrix && channel < lineup.channels ? matrix[channel * count + j] : Lane{0};
        }
}

// out_i = act(bias + sum over j of weights_j in_{i + j}) for vectors i: in_i lies at in + i in_step, and j shifts more. The
// order of the sum is the same for every vector. Fixed: the width where it is known, else 0.
template <class Lane, int Fixed>
HWY_NOINLINE void convolve_fixed(const Lane* in, int64_t in_step, int64_t shift, const Lane* weights, int64_t width,
                                 const Lane* bias, int64_t vectors, bool use_silu, Lane* out, int64_t out_step,
                                 bool stream) {
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    const auto start = hn::Load(d, bias);
    Vec<Lane> fixed[Fixed > 0 ? Fixed : 1];
    if constexpr (Fixed > 0)
        unrolled<Fixed>([&](auto j) SSM_INLINE_LAMBDA { fixed[j] = hn::Load(d, weights + j * n); });
    // From the last vector to the first: input and output often lie at the same offset of their pages, and the processor
    // holds a load back while a store to the same offset is on its way. Forward, each load would meet the store just made.
    int64_t i = vectors;
    const auto run = [&](auto at_once, int64_t to) SSM_INLINE_LAMBDA {
        constexpr int many = decltype(at_once)::value;
        while (i > to) {
            i -= many;
            const Lane* const p = in + i * in_step;
            Vec<Lane> sum[many];
            unrolled<many>([&](auto k) SSM_INLINE_LAMBDA { sum[k] = start; });
            const auto tap = [&](int64_t j, Vec<Lane> w) SSM_INLINE_LAMBDA {
                unrolled<many>([&](auto k) SSM_INLINE_LAMBDA {
                    sum[k] = hn::MulAdd(w, hn::LoadU(d, p + k * in_step + j * shift), sum[k]);
                });
            };
            if constexpr (Fixed > 0)
                unrolled<Fixed>([&](auto j) SSM_INLINE_LAMBDA { tap(j, fixed[j]); });
            else
                for (int64_t j = 0; j < width; ++j)
                    tap(j, hn::Load(d, weights + j * n));
            unrolled<many>([&](auto k) SSM_INLINE_LAMBDA {
                store_or_stream(out + (i + k) * out_step, RealVector<Lane>{use_silu ? silu<Lane>(sum[k]) : sum[k]}, stream);
            });
        }
    };
    run(std::integral_constant<int, 1>(), vectors / 4 * 4);
    run(std::integral_constant<int, 4>(), 0);
}
template <class Lane, class... Arguments>
HWY_INLINE void convolve(int64_t width, const Lane* in, int64_t in_step, int64_t shift, const Lane* weights,
                         Arguments... arguments) {
    switch (width) {
    case 2:
        return convolve_fixed<Lane, 2>(in, in_step, shift, weights, width, arguments...);
    case 3:
        return convolve_fixed<Lane, 3>(in, in_step, shift, weights, width, arguments...);
    case 4:
        return convolve_fixed<Lane, 4>(in, in_step, shift, weights, width, arguments...);
    default:
        return convolve_fixed<Lane, 0>(in, in_step, shift, weights, width, arguments...);
    }
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
