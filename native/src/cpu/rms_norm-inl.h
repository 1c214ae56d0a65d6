// What rms_norm and its gradients share: where rows lie, and what the norm is taken of.
#if defined(SSM_CPU_RMS_NORM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SSM_CPU_RMS_NORM_INL_H_
#undef SSM_CPU_RMS_NORM_INL_H_
#else
#define SSM_CPU_RMS_NORM_INL_H_
#endif

#include "core/params/rms_norm.h"
#include "cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

// Null where the tensor is absent.
template <class S>
S* row_of(const RowTensor& tensor, const RowShape& shape, int64_t row) {
    if (!tensor.data)
        return nullptr;
    if (shape.extents[0] == 1 && shape.extents[1] == 1)
        return static_cast<S*>(tensor.data) + row * tensor.strides[2];
    const int64_t outer = row / shape.extents[2];
    return static_cast<S*>(tensor.data) + outer / shape.extents[1] * tensor.strides[0] +
           outer % shape.extents[1] * tensor.strides[1] + row % shape.extents[2] * tensor.strides[2];
}

// Vectors of a run of numbers: whole ones and what is left.
template <class Lane>
struct WholePart {
    static constexpr int64_t count = lanes_of<Lane>();
};
struct LastPart {
    int64_t count;
};
template <class Lane, class S>
HWY_INLINE Vec<Lane> load_part(const S* p, WholePart<Lane>) {
    return load(p).re;
}
template <class Lane, class S>
HWY_INLINE Vec<Lane> load_part(const S* p, LastPart part) {
    return load_some(p, part.count).re;
}
template <class Lane, class S>
HWY_INLINE void store_part(S* p, Vec<Lane> x, WholePart<Lane>) {
    store(p, VectorOf<S>{x});
}
template <class Lane, class S>
HWY_INLINE void store_part(S* p, Vec<Lane> x, LastPart part) {
    store_some(p, VectorOf<S>{x}, part.count);
}
// Parameters that may be absent.
template <class Lane, class Part>
HWY_INLINE Vec<Lane> load_or(const Lane* p, int64_t i, Part part, Lane value) {
    return p ? load_part<Lane>(p + i, part) : hn::Set(Tag<Lane>(), value);
}

// Calls f(i, part) for all of `width` numbers.
template <class Lane, class F>
HWY_INLINE void for_each_part(int64_t width, const F& f) {
    constexpr int64_t n = lanes_of<Lane>();
    int64_t i = 0;
    for (; i + n <= width; i += n)
        f(i, WholePart<Lane>());
    if (i < width)
        f(i, LastPart{width - i});
}

// The sums over `width` numbers of what f(i, part, sums) adds to each of Count sums, in four interleaved runs.
template <class Lane, int Count, class F>
HWY_INLINE void sum_parts(int64_t width, Lane (&result)[Count], const F& f) {
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    Vec<Lane> sums[4][Count];
    unrolled<4>([&](auto k)
                    SSM_INLINE_LAMBDA { unrolled<Count>([&](auto c) SSM_INLINE_LAMBDA { sums[k][c] = hn::Zero(d); }); });
    int64_t i = 0;
    for (; i + 4 * n <= width; i += 4 * n)
        unrolled<4>([&](auto k) SSM_INLINE_LAMBDA { f(i + k * n, WholePart<Lane>(), sums[k]); });
    for (; i + n <= width; i += n)
        f(i, WholePart<Lane>(), sums[0]);
    if (i < width)
        f(i, LastPart{width - i}, sums[1]);
    unrolled<Count>([&](auto c) SSM_INLINE_LAMBDA {
        const auto total = hn::Add(hn::Add(sums[0][c], sums[1][c]), hn::Add(sums[2][c], sums[3][c]));
        result[c] = hn::GetLane(sum_of_lanes(RealVector<Lane>{total}).re);
    });
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
