// What the long convolution and its gradients share: signals as they are read into transforms, spectra, and the direct sum.
#if defined(SSM_CPU_CAUSAL_CONV_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SSM_CPU_CAUSAL_CONV_INL_H_
#undef SSM_CPU_CAUSAL_CONV_INL_H_
#else
#define SSM_CPU_CAUSAL_CONV_INL_H_
#endif

#include "cpu/causal_conv.h"
#include "cpu/fft-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

// f(i, count) for vectors of a run of `count` numbers, the last one perhaps not whole.
template <class Lane, class F>
HWY_INLINE void for_each_vector(int64_t count, const F& f) {
    constexpr int64_t n = lanes_of<Lane>();
    for (int64_t i = 0; i < count; i += n)
        f(i, std::min(n, count - i));
}
template <class S>
HWY_INLINE VectorOf<S> load_up_to(const S* p, int64_t count) {
    return count == lanes<S>() ? load(p) : load_some(p, count);
}
template <class S>
HWY_INLINE void store_up_to(S* p, VectorOf<S> x, int64_t count) {
    if (count == lanes<S>())
        store(p, x);
    else
        store_some(p, x, count);
}

// The steps of one sequence, of one head: data times gate. Steps before `low` come from the state, where there is one, and
// are zero otherwise, as are those from `high` on.
template <class S>
struct Signal {
    using Lane = typename Traits<S>::Lane;
    const S* data = nullptr;
    const S* gate = nullptr;
    const Lane* state = nullptr;
    int64_t history = 0; // steps of the state
    int64_t low = 0, high = 0;

    HWY_INLINE VectorOf<S> load_steps(int64_t t, int64_t count) const {
        const VectorOf<S> x = load_up_to(data + t, count);
        return gate ? multiply(x, load_up_to(gate + t, count)) : x;
    }

    // Steps [t, t + count), times sign.
    HWY_NOINLINE void read(int64_t t, int64_t count, Lane sign, Lane* to) const {
        const int64_t end = t + count;
        const auto clear = [&](int64_t until) {
            const int64_t some = std::min(end, until) - t;
            if (some > 0) {
                std::fill_n(to, some, Lane{0});
                t += some;
                to += some;
            }
        };
        clear(state ? -history : low);
        if (state)
            for (const int64_t until = std::min(end, int64_t{0}); t < until; ++t)
                *to++ = sign * state[history + t];
        const int64_t some = std::min(end, high) - t;
        if (some > 0) {
            const auto signs = constant<RealVector<Lane>>(sign);
            for_each_vector<Lane>(some, [&](int64_t i, int64_t left) HWY_ATTR {
                store_up_to(to + i, multiply(signs, load_steps(t + i, left)), left);
            });
            t += some;
            to += some;
        }
        clear(end);
    }
    // Places [p, p + count) of a segment from step s on (TransformCut), of which `past` before it are seen.
    void read_window(int64_t s, int64_t past, int64_t length, int64_t p, int64_t count, Lane* to) const {
        const int64_t ahead = std::clamp<int64_t>(length - past - p, 0, count);
        if (ahead > 0)
            read(s + p, ahead, Lane{1}, to);
        if (ahead < count)
            read(s + p + ahead - length, count - ahead, Lane{-1}, to + ahead);
    }
};

// The steps of u of a sequence, or of another tensor like it; null where it is absent.
template <class S>
HWY_INLINE S* steps_of(const Sequence& s, int64_t batch, int64_t head, int64_t begin) {
    return s.data ? static_cast<S*>(s.data) + batch * s.batch_stride + head * s.channel_stride + begin : nullptr;
}

// The kernels of a head.
template <class Lane>
struct Taps {
    const Lane *k, *k_reverse;
    TransformCut cut;

    Taps(const void* k_of_all, const void* k_reverse_of_all, int64_t taps, int64_t head, const TransformCut& cut)
        : k(static_cast<const Lane*>(k_of_all) + head * taps),
          k_reverse(k_reverse_of_all ? static_cast<const Lane*>(k_reverse_of_all) + head * taps : nullptr), cut(cut) {}

    // As a polynomial modulo X^length + 1: what a step takes from later ones has negative powers.
    void read(int64_t p, int64_t count, Lane* to) const {
        for (int64_t i = p; i < p + count; ++i) {
            const int64_t from_end = cut.length - 1 - i;
            *to++ = i <= cut.past ? k[i]
                    : from_end < SSM_MUTATE("causal_conv.cpu.lost_reverse_tap", cut.future, cut.future - 1)
                        ? -k_reverse[from_end]
                        : Lane{0};
        }
    }
    // From the tap that meets the earliest step to the one that meets the latest; reversed for gradients.
    void line_up(bool reversed, Lane* to) const {
        const int64_t count = cut.past + 1 + cut.future;
        for (int64_t i = 0; i < count; ++i) {
            const int64_t at = reversed ? count - 1 - i : i;
            to[i] = at <= cut.past ? k[cut.past - at] : k_reverse[at - cut.past - 1];
        }
    }
};

// The head's spectrum, divided by the points: N numbers of real parts, N of imaginary ones.
template <class Lane>
void make_spectrum(const CausalConvWork& work, const Taps<Lane>& taps, Lane* re, Lane* im, Lane* tiles, int threads,
                   Lane* spectrum) {
    const int64_t points = work.fft.points;
    run_fft<true, false>(
        work.fft, re, im, tiles, threads, [&](int64_t p, int64_t count, Lane* to) { taps.read(p, count, to); },
        [&](int64_t base, const Lane* chunk_re, const Lane* chunk_im) HWY_ATTR {
            const auto scale = constant<RealVector<Lane>>(Lane{1} / static_cast<Lane>(points));
            for (int64_t i = 0; i < Chunk<Lane>::points; i += lanes_of<Lane>()) {
                store(spectrum + base + i, multiply(scale, load(chunk_re + i)));
                store(spectrum + points + base + i, multiply(scale, load(chunk_im + i)));
            }
        },
        [](int64_t, int64_t, const Lane*) {});
}

// A chunk times the spectrum, or its conjugate.
template <bool conjugated, class Lane>
HWY_INLINE void multiply_chunk(int64_t points, int64_t base, const Lane* spectrum, Lane* re, Lane* im) {
    for (int64_t i = 0; i < Chunk<Lane>::points; i += lanes_of<Lane>()) {
        const Point<Lane> x = load_point(re + i, im + i), w = load_point(spectrum + base + i, spectrum + points + base + i);
        store_point(conjugated ? multiply_conjugate(x, w) : multiply(x, w), re + i, im + i);
    }
}

// out_i = sum_m weights_m in_{i+m}, added to what is there where asked. in and out may be touched up to a vector past their
// ends.
template <class Lane>
HWY_NOINLINE void correlate(const Lane* in, const Lane* weights, int64_t taps, Lane* out, int64_t count, bool is_added) {
    constexpr int64_t n = lanes_of<Lane>();
    using V = RealVector<Lane>;
    constexpr int many = 8;
    int64_t i = 0;
    const auto finish = [&](int64_t at, V sum) HWY_ATTR { store(out + at, is_added ? add(sum, load(out + at)) : sum); };
    for (; i + many * n <= count; i += many * n) {
        V sums[many];
        unrolled<many>([&](auto v) HWY_ATTR { sums[v] = constant<V>(0); });
        for (int64_t m = 0; m < taps; ++m) {
            const V w = constant<V>(weights[m]);
            const Lane* const from = in + i + m;
            unrolled<many>([&](auto v) HWY_ATTR { sums[v] = multiply_add(w, load(from + v * n), sums[v]); });
        }
        unrolled<many>([&](auto v) HWY_ATTR { finish(i + v * n, sums[v]); });
    }
    // One or two left are sums along the taps.
    for (; count - i > 2; i += n) {
        V sum = constant<V>(0);
        for (int64_t m = 0; m < taps; ++m)
            sum = multiply_add(constant<V>(weights[m]), load(in + i + m), sum);
        finish(i, sum);
    }
    for (; i < count; ++i) {
        V sum = constant<V>(0);
        for_each_vector<Lane>(taps, [&](int64_t m, int64_t left) HWY_ATTR {
            sum = multiply_add(load_up_to(weights + m, left), load_up_to(in + i + m, left), sum);
        });
        const Lane total = lane<Lane>(sum_of_lanes(sum), 0);
        out[i] = is_added ? total + out[i] : total;
    }
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
