// What ssd and its gradients compute alike of a chunk of steps: the steps' sizes and decays.
#if defined(SSM_CPU_SSD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SSM_CPU_SSD_INL_H_
#undef SSM_CPU_SSD_INL_H_
#else
#define SSM_CPU_SSD_INL_H_
#endif

#include "cpu/math-inl.h"
#include "cpu/product-inl.h"
#include "cpu/ssd.h"

#include "core/params/ssd.h"

#include <cmath>

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

// exp of a sum of s a, given in two parts; in float32 the parts are of the sum times log2(e).
template <class Lane>
HWY_INLINE Vec<Lane> decay_of(Vec<Lane> high, Vec<Lane> low) {
    if constexpr (std::is_same_v<Lane, float>)
        return exp2_fast(hn::Add(high, low));
    else
        return exp<Lane>(hn::Add(high, low));
}

// Steps of one head. The logarithms of the decays are summed in double, with what rounding loses, and kept in two parts, so
// that their differences are good to the last place however far from the chunk's start; quotients of the exponentials would
// overflow.
template <class Lane>
struct ChunkDecays {
    alignas(64) Lane biased[most_ssd_chunk]; // dt + dt_bias
    alignas(64) Lane s[most_ssd_chunk];
    alignas(64) Lane high[most_ssd_chunk], low[most_ssd_chunk];
    alignas(64) Lane from_start[most_ssd_chunk]; // the decay of the state before the chunk
    alignas(64) Lane to_end[most_ssd_chunk];     // of a step's own part up to the chunk's end
    int64_t steps;
    double sum; // of s a

    Lane total() const { return from_start[steps - 1]; }

    // The decay from step j on, exclusive, to step i.
    HWY_INLINE Vec<Lane> between(Vec<Lane> high_i, Vec<Lane> low_i, int64_t j) const {
        const Tag<Lane> d;
        return decay_of<Lane>(hn::Sub(high_i, hn::Load(d, high + j)), hn::Sub(low_i, hn::Load(d, low + j)));
    }
};

// Where the head's step t lies.
template <class U>
HWY_INLINE U* place_of(const HeadTensor& tensor, int64_t batch, int64_t head, int64_t t) {
    return static_cast<U*>(tensor.data) + batch * tensor.batch_stride + head * tensor.head_stride + t * tensor.time_stride;
}

template <class U>
HWY_NOINLINE void read_decays(const SsdInputs& p, int64_t batch, int64_t head, int64_t t, int64_t steps,
                              ChunkDecays<typename Traits<U>::Lane>& chunk) {
    using Lane = typename Traits<U>::Lane;
    constexpr int64_t n = lanes_of<Lane>();
    constexpr double unit = std::is_same_v<Lane, float> ? 1.4426950408889634074 : 1;
    const Tag<Lane> d;
    const U* const dt = place_of<const U>(p.dt, batch, head, t);
    const bool given = p.log_decay.data != nullptr;
    const int64_t stride = p.dt.time_stride, padded = (steps + n - 1) / n * n;
    for (int64_t i = 0; !given && i < steps; i += n) {
        alignas(64) U some[lanes<U>()] = {};
        for (int64_t k = 0; k < n && i + k < steps; ++k)
            some[k] = dt[(i + k) * stride];
        hn::Store(load(some).re, d, chunk.biased + i);
    }
    const auto bias = hn::Set(d, p.dt_bias ? static_cast<const Lane*>(p.dt_bias)[head] : Lane{0});
    const auto least = hn::Set(d, static_cast<Lane>(p.dt_min)), most = hn::Set(d, static_cast<Lane>(p.dt_max));
    for (int64_t i = 0; !given && i < padded; i += n) {
        auto s = hn::Add(hn::Load(d, chunk.biased + i), bias);
        hn::Store(s, d, chunk.biased + i);
        if (p.dt_softplus)
            s = softplus<Lane>(s);
        if (p.dt_min > 0)
            s = hn::IfThenElse(hn::Lt(s, least), least, s);
        if (p.dt_max > 0)
            s = hn::IfThenElse(hn::Gt(s, most), most, s);
        hn::Store(s, d, chunk.s + i);
    }
    for (int64_t i = 0; given && i < steps; ++i) // for the sums; s is 1 behind them
        chunk.s[i] = *place_of<const Lane>(p.log_decay, batch, head, t + i);
    const double a = given ? unit : static_cast<double>(static_cast<const Lane*>(p.a)[head]) * unit;
    double sum = 0, rest = 0; // rest: what the sum and its terms have lost to rounding
    for (int64_t i = 0; i < steps; ++i) {
        const double s = static_cast<double>(chunk.s[i]);
        const bool vanishes = s * a < ssd_least_logarithm;
        const double term = vanishes ? ssd_least_logarithm : s * a, next = sum + term, back = next - sum;
        rest += (sum - (next - back)) + (term - back) + (vanishes ? 0 : std::fma(s, a, -term));
        sum = next;
        chunk.high[i] = static_cast<Lane>(sum);
        chunk.low[i] = static_cast<Lane>(sum - static_cast<double>(chunk.high[i]) + rest);
    }
    chunk.steps = steps;
    chunk.sum = sum / unit;
    if (given)
        std::fill_n(chunk.s, steps, Lane{1});
    for (int64_t i = steps; i < padded; ++i)
        chunk.s[i] = chunk.high[i] = chunk.low[i] = 0;
    const auto high = hn::Set(d, chunk.high[steps - 1]), low = hn::Set(d, chunk.low[steps - 1]);
    for (int64_t i = 0; i < padded; i += n) {
        hn::Store(decay_of<Lane>(hn::Load(d, chunk.high + i), hn::Load(d, chunk.low + i)), d, chunk.from_start + i);
        hn::Store(chunk.between(high, low, i), d, chunk.to_end + i);
    }
}

// to[i][j] = products[i][j] times the decay from step j to step i, for j <= i; what lies behind is undefined.
template <class Lane>
HWY_NOINLINE void decay_products(const ChunkDecays<Lane>& chunk, const Lane* products, int64_t row, Lane* to) {
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    for (int64_t i = 0; i < chunk.steps; ++i) {
        const auto high = hn::Set(d, chunk.high[i]), low = hn::Set(d, chunk.low[i]);
        for (int64_t j = 0; j <= i; j += n)
            hn::StoreU(hn::Mul(chunk.between(high, low, j), hn::LoadU(d, products + i * row + j)), d, to + i * row + j);
    }
}

// Rows of steps, each times a factor of its own: to = factor from.
template <class Lane>
HWY_NOINLINE void scale_rows(const Lane* from, const Lane* factor, int64_t rows, int64_t row, Lane* to) {
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t k = 0; k < row; k += n)
            hn::StoreU(hn::Mul(hn::Set(d, factor[i]), hn::LoadU(d, from + i * row + k)), d, to + i * row + k);
}

// How many steps from t on run without a restart, up to `most`.
inline int64_t steps_until_restart(const int32_t* ids, int64_t t, int64_t most) {
    if (!ids)
        return most;
    int64_t count = 1;
    while (count < most && ids[t + count] == ids[t])
        ++count;
    return count;
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
