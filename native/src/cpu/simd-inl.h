// Vectors of numbers, real or complex, and the scans of a pair of them along the lanes. Included once per instruction
// set by files that use foreach_target.
#if defined(SSM_CPU_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SSM_CPU_SIMD_INL_H_
#undef SSM_CPU_SIMD_INL_H_
#else
#define SSM_CPU_SIMD_INL_H_
#endif

#include "cpu/numbers.h"

#include "hwy/highway.h"

#include <type_traits>
#include <utility>

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

template <class Lane>
using Tag = hn::ScalableTag<Lane>;
template <class Lane>
using Vec = hn::Vec<Tag<Lane>>;
template <class Lane>
constexpr int64_t lanes_of() {
    return static_cast<int64_t>(hn::MaxLanes(Tag<Lane>()));
}

#undef SSM_INLINE_LAMBDA
#define SSM_INLINE_LAMBDA __attribute__((always_inline)) HWY_ATTR

// f(0), f(1) ... f(Count - 1) with constants for arguments: arrays indexed by them stay in registers. (A loop of many
// instructions is not unrolled by the compiler.)
template <class F, int... K>
HWY_INLINE void unrolled(std::integer_sequence<int, K...>, const F& f) {
    (f(std::integral_constant<int, K>()), ...);
}
template <int Count, class F>
HWY_INLINE void unrolled(const F& f) {
    unrolled(std::make_integer_sequence<int, Count>(), f);
}

// One number per lane.
template <class L>
struct RealVector {
    using Lane = L;
    Vec<L> re;
};
template <class L>
struct ComplexVector {
    using Lane = L;
    Vec<L> re, im;
};
template <class S>
using VectorOf =
    std::conditional_t<Traits<S>::complex, ComplexVector<typename Traits<S>::Lane>, RealVector<typename Traits<S>::Lane>>;
template <class S>
constexpr int64_t lanes() {
    return lanes_of<typename Traits<S>::Lane>();
}

// ---- Arithmetic

template <class L>
HWY_INLINE RealVector<L> add(RealVector<L> x, RealVector<L> y) {
    return {hn::Add(x.re, y.re)};
}
template <class L>
HWY_INLINE ComplexVector<L> add(ComplexVector<L> x, ComplexVector<L> y) {
    return {hn::Add(x.re, y.re), hn::Add(x.im, y.im)};
}
template <class L>
HWY_INLINE RealVector<L> multiply(RealVector<L> x, RealVector<L> y) {
    return {hn::Mul(x.re, y.re)};
}
template <class L>
HWY_INLINE ComplexVector<L> multiply(ComplexVector<L> x, ComplexVector<L> y) {
    return {hn::NegMulAdd(x.im, y.im, hn::Mul(x.re, y.re)), hn::MulAdd(x.im, y.re, hn::Mul(x.re, y.im))};
}
// x y + z
template <class L>
HWY_INLINE RealVector<L> multiply_add(RealVector<L> x, RealVector<L> y, RealVector<L> z) {
    return {hn::MulAdd(x.re, y.re, z.re)};
}
template <class L>
HWY_INLINE ComplexVector<L> multiply_add(ComplexVector<L> x, ComplexVector<L> y, ComplexVector<L> z) {
    return {hn::NegMulAdd(x.im, y.im, hn::MulAdd(x.re, y.re, z.re)), hn::MulAdd(x.im, y.re, hn::MulAdd(x.re, y.im, z.im))};
}
template <class L>
HWY_INLINE RealVector<L> conjugate(RealVector<L> x) {
    return x;
}
template <class L>
HWY_INLINE ComplexVector<L> conjugate(ComplexVector<L> x) {
    return {x.re, hn::Neg(x.im)};
}

// ---- Every lane the same

template <class L>
HWY_INLINE void set(RealVector<L>& x, L value) {
    x.re = hn::Set(Tag<L>(), value);
}
template <class L>
HWY_INLINE void set(ComplexVector<L>& x, L value) {
    x.re = hn::Set(Tag<L>(), value);
    x.im = hn::Zero(Tag<L>());
}
template <class L>
HWY_INLINE void set(ComplexVector<L>& x, Complex<L> value) {
    x.re = hn::Set(Tag<L>(), value.re);
    x.im = hn::Set(Tag<L>(), value.im);
}
template <class X>
HWY_INLINE X constant(typename X::Lane value) {
    X x;
    set(x, value);
    return x;
}
template <class X, class State>
HWY_INLINE X broadcast(State value) {
    X x;
    set(x, value);
    return x;
}

// ---- Lanes moved. `each` applies a function of plain vectors to the real and the imaginary parts.

template <class L, class F>
HWY_INLINE RealVector<L> each(RealVector<L> x, RealVector<L> y, const F& f) {
    return {f(x.re, y.re)};
}
template <class L, class F>
HWY_INLINE ComplexVector<L> each(ComplexVector<L> x, ComplexVector<L> y, const F& f) {
    return {f(x.re, y.re), f(x.im, y.im)};
}

template <class X>
HWY_INLINE X reverse(X x) {
    return each(x, x, [](auto v, auto) HWY_ATTR { return hn::Reverse(Tag<typename X::Lane>(), v); });
}

// Vectors consist of blocks of 16 bytes; a baseline without vectors has one lane.
template <class Lane>
constexpr int block_lanes() {
    return lanes_of<Lane>() == 1 ? 1 : 16 / static_cast<int>(sizeof(Lane));
}
template <class Lane>
constexpr int blocks() {
    return static_cast<int>(lanes_of<Lane>()) / block_lanes<Lane>();
}

// Lanes move up by K within each block of 16 bytes; what enters comes from fill, whose lanes are all alike.
template <int K, class X>
HWY_INLINE X shift_in_blocks([[maybe_unused]] X x, X fill) {
#if HWY_TARGET == HWY_SCALAR
    return fill;
#else
    using Lane = typename X::Lane;
    return each(x, fill, [](auto v, auto f) HWY_ATTR {
        return hn::CombineShiftRightBytes<16 - K* static_cast<int>(sizeof(Lane))>(Tag<Lane>(), v, f);
    });
#endif
}

// A permutation whose lanes may instead come from a second vector.
template <class Lane>
struct Permutation {
    alignas(64) hwy::MakeUnsigned<Lane> index[HWY_MAX_BYTES / sizeof(Lane)];
    alignas(64) Lane keep[HWY_MAX_BYTES / sizeof(Lane)]; // nonzero: from the first vector
};

// The last lane of each lower half of 2 * Half blocks goes to every lane of the upper half; fill to the lower ones.
template <class Lane, int Half>
constexpr Permutation<Lane> make_carry() {
    Permutation<Lane> p = {};
    for (int i = 0; i < blocks<Lane>() * block_lanes<Lane>(); ++i) {
        const int block = i / block_lanes<Lane>(), base = block / (2 * Half) * (2 * Half);
        const bool upper = block - base >= Half;
        p.index[i] = static_cast<hwy::MakeUnsigned<Lane>>(upper ? (base + Half) * block_lanes<Lane>() - 1 : 0);
        p.keep[i] = upper ? Lane{1} : Lane{0};
    }
    return p;
}
// Every lane moves up by one, fill enters at lane 0.
template <class Lane>
constexpr Permutation<Lane> make_shift() {
    Permutation<Lane> p = {};
    for (int i = 1; i < blocks<Lane>() * block_lanes<Lane>(); ++i) {
        p.index[i] = static_cast<hwy::MakeUnsigned<Lane>>(i - 1);
        p.keep[i] = Lane{1};
    }
    return p;
}
template <class Lane, int Half>
alignas(64) constexpr Permutation<Lane> carry_permutation = make_carry<Lane, Half>();
template <class Lane>
alignas(64) constexpr Permutation<Lane> shift_permutation = make_shift<Lane>();

template <class Lane, const Permutation<Lane>& p>
HWY_INLINE Vec<Lane> permute_lanes(Vec<Lane> v, Vec<Lane> fill) {
#if HWY_TARGET == HWY_AVX3
    // One instruction moves and fills.
    constexpr auto keep = [] {
        unsigned bits = 0;
        for (int i = 0; i < lanes_of<Lane>(); ++i)
            bits |= p.keep[i] != 0 ? 1u << i : 0u;
        return bits;
    }();
    const __m512i index = _mm512_load_si512(p.index);
    if constexpr (sizeof(Lane) == 4)
        return Vec<Lane>{_mm512_mask_permutexvar_ps(fill.raw, static_cast<__mmask16>(keep), index, v.raw)};
    else
        return Vec<Lane>{_mm512_mask_permutexvar_pd(fill.raw, static_cast<__mmask8>(keep), index, v.raw)};
#else
    const Tag<Lane> d;
    const hn::RebindToSigned<Tag<Lane>> di;
    const auto index = hn::SetTableIndices(d, reinterpret_cast<const hn::TFromD<decltype(di)>*>(p.index));
    const auto keep = hn::Ne(hn::Load(d, p.keep), hn::Zero(d));
    return hn::IfThenElse(keep, hn::TableLookupLanes(v, index), fill);
#endif
}
template <const auto& p, class X>
HWY_INLINE X permute(X x, X fill) {
    return each(x, fill, [](auto v, auto f) HWY_ATTR { return permute_lanes<typename X::Lane, p>(v, f); });
}

template <class X>
HWY_INLINE X shift_up_one(X x, X fill) {
    using Lane = typename X::Lane;
    if constexpr (lanes_of<Lane>() == 1)
        return fill;
    else if constexpr (blocks<Lane>() == 1)
        return shift_in_blocks<1>(x, fill);
    else
        return permute<shift_permutation<Lane>>(x, fill);
}

// The last lane in every lane.
template <class X>
HWY_INLINE X broadcast_last(X x) {
    using Lane = typename X::Lane;
    return each(x, x, [](auto v, auto) HWY_ATTR {
        const Tag<Lane> d;
        const hn::RebindToSigned<Tag<Lane>> di;
        using Index = hn::TFromD<decltype(di)>;
        return hn::TableLookupLanes(v, hn::IndicesFromVec(d, hn::Set(di, static_cast<Index>(lanes_of<Lane>() - 1))));
    });
}

// ---- Scans along the lanes. Step(f) is called with a function that moves lanes up and fills with its second argument.

template <class Lane, class Step>
HWY_INLINE void scan_steps(const Step& step) {
    if constexpr (block_lanes<Lane>() >= 2 && lanes_of<Lane>() >= 2)
        step([](auto x, auto fill) HWY_ATTR { return shift_in_blocks<1>(x, fill); });
    if constexpr (block_lanes<Lane>() >= 4 && lanes_of<Lane>() >= 4)
        step([](auto x, auto fill) HWY_ATTR { return shift_in_blocks<2>(x, fill); });
    if constexpr (blocks<Lane>() >= 2)
        step([](auto x, auto fill) HWY_ATTR { return permute<carry_permutation<Lane, 1>>(x, fill); });
    if constexpr (blocks<Lane>() >= 4)
        step([](auto x, auto fill) HWY_ATTR { return permute<carry_permutation<Lane, 2>>(x, fill); });
}

// (a, b) of each lane becomes the composition of the maps h -> a h + b of the lanes up to it.
template <class X>
HWY_INLINE void scan_affine(X& a, X& b) {
    const X one = constant<X>(1), zero = constant<X>(0);
    scan_steps<typename X::Lane>([&](auto move) HWY_ATTR {
        b = multiply_add(a, move(b, zero), b);
        a = multiply(a, move(a, one));
    });
}

// Each lane becomes the product of the lanes up to it.
template <class X>
HWY_INLINE X scan_product(X x) {
    const X one = constant<X>(1);
    scan_steps<typename X::Lane>([&](auto move) HWY_ATTR { x = multiply(x, move(x, one)); });
    return x;
}

// The sum of the lanes, in every lane.
template <class X>
HWY_INLINE X sum_of_lanes(X x) {
    const X zero = constant<X>(0);
    scan_steps<typename X::Lane>([&](auto move) HWY_ATTR { x = add(x, move(x, zero)); });
    return broadcast_last(x);
}

// ---- float16 and bfloat16

// Half precision by integer arithmetic, for processors without the instruction; exact, rounds to nearest even.
HWY_INLINE Vec<float> from_half_bits(Vec<uint32_t> half) {
    const Tag<uint32_t> du;
    const Tag<float> df;
    const auto exponent_mask = hn::Set(du, 0x0F800000u);
    const auto magnitude = hn::ShiftLeft<13>(hn::And(half, hn::Set(du, 0x7FFFu)));
    const auto exponent = hn::And(magnitude, exponent_mask);
    const auto rebiased = hn::Add(magnitude, hn::Set(du, 112u << 23));
    const auto special = hn::Add(rebiased, hn::Set(du, 112u << 23));
    const auto subnormal = hn::BitCast(
        du, hn::Sub(hn::BitCast(df, hn::Add(rebiased, hn::Set(du, 1u << 23))), hn::BitCast(df, hn::Set(du, 113u << 23))));
    auto bits = hn::IfThenElse(hn::Eq(exponent, exponent_mask), special, rebiased);
    bits = hn::IfThenElse(hn::Eq(exponent, hn::Zero(du)), subnormal, bits);
    return hn::BitCast(df, hn::Or(bits, hn::ShiftLeft<16>(hn::And(half, hn::Set(du, 0x8000u)))));
}
HWY_INLINE Vec<uint32_t> to_half_bits(Vec<float> x) {
    const Tag<uint32_t> du;
    const Tag<int32_t> di;
    const Tag<float> df;
    const auto bits = hn::BitCast(du, x);
    const auto sign = hn::And(bits, hn::Set(du, 0x80000000u));
    const auto magnitude = hn::Xor(bits, sign);
    const auto odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(du, 1u));
    const auto normal = hn::ShiftRight<13>(hn::Add(hn::Add(magnitude, hn::Set(du, 0xC8000FFFu)), odd));
    const auto magic = hn::Set(du, 126u << 23);
    const auto small = hn::Sub(hn::BitCast(du, hn::Add(hn::BitCast(df, magnitude), hn::BitCast(df, magic))), magic);
    const auto signed_magnitude = hn::BitCast(di, magnitude);
    const auto is_nan = hn::Gt(signed_magnitude, hn::Set(di, 0x7F800000));
    const auto is_large = hn::Gt(signed_magnitude, hn::Set(di, 0x477FFFFF));
    const auto is_small = hn::Lt(signed_magnitude, hn::Set(di, 0x38800000));
    auto result = hn::IfThenElse(hn::RebindMask(du, is_small), small, normal);
    result = hn::IfThenElse(hn::RebindMask(du, is_large), hn::Set(du, 0x7C00u), result);
    result = hn::IfThenElse(hn::RebindMask(du, is_nan), hn::Set(du, 0x7E00u), result);
    return hn::Or(result, hn::ShiftRight<16>(sign));
}

#undef SSM_HALF_INSTRUCTIONS
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
#define SSM_HALF_INSTRUCTIONS 1
#else
#define SSM_HALF_INSTRUCTIONS 0
#endif

template <class S>
HWY_INLINE Vec<float> load_narrow(const S* p) {
    const Tag<float> df;
    const Tag<uint32_t> du;
    const hn::Rebind<uint16_t, Tag<float>> dn;
    const auto bits = hn::LoadU(dn, reinterpret_cast<const uint16_t*>(p));
    if constexpr (std::is_same_v<S, BFloat16>) {
        return hn::BitCast(df, hn::ShiftLeft<16>(hn::PromoteTo(du, bits)));
    } else {
#if SSM_HALF_INSTRUCTIONS
        return hn::PromoteTo(df, hn::BitCast(hn::Rebind<hwy::float16_t, Tag<float>>(), bits));
#else
        return from_half_bits(hn::PromoteTo(du, bits));
#endif
    }
}
template <class S>
HWY_INLINE void store_narrow(S* p, Vec<float> x) {
    const Tag<uint32_t> du;
    const Tag<int32_t> di;
    const hn::Rebind<uint16_t, Tag<float>> dn;
    if constexpr (std::is_same_v<S, BFloat16>) {
        const auto bits = hn::BitCast(du, x);
        const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
        const auto rounded = hn::Add(hn::Add(bits, hn::Set(du, 0x7FFFu)), odd);
        const auto quiet = hn::Or(bits, hn::Set(du, 0x00400000u));
        const auto is_nan = hn::RebindMask(du, hn::IsNaN(x));
        const auto high = hn::ShiftRight<16>(hn::IfThenElse(is_nan, quiet, rounded));
        hn::StoreU(hn::DemoteTo(dn, hn::BitCast(di, high)), dn, reinterpret_cast<uint16_t*>(p));
    } else {
#if SSM_HALF_INSTRUCTIONS
        const hn::Rebind<hwy::float16_t, Tag<float>> dh;
        hn::StoreU(hn::BitCast(dn, hn::DemoteTo(dh, x)), dn, reinterpret_cast<uint16_t*>(p));
#else
        hn::StoreU(hn::DemoteTo(dn, hn::BitCast(di, to_half_bits(x))), dn, reinterpret_cast<uint16_t*>(p));
#endif
    }
}

// ---- Loads and stores, any alignment

template <class S>
HWY_INLINE VectorOf<S> load(const S* p) {
    using Lane = typename Traits<S>::Lane;
    const Tag<Lane> d;
    VectorOf<S> x;
    if constexpr (Traits<S>::complex)
        hn::LoadInterleaved2(d, reinterpret_cast<const Lane*>(p), x.re, x.im);
    else if constexpr (sizeof(S) == 2)
        x.re = load_narrow(p);
    else
        x.re = hn::LoadU(d, p);
    return x;
}
template <class S>
HWY_INLINE void store(S* p, VectorOf<S> x) {
    using Lane = typename Traits<S>::Lane;
    const Tag<Lane> d;
    if constexpr (Traits<S>::complex)
        hn::StoreInterleaved2(x.re, x.im, d, reinterpret_cast<Lane*>(p));
    else if constexpr (sizeof(S) == 2)
        store_narrow(p, x.re);
    else
        hn::StoreU(x.re, d, p);
}

// The first `count` elements, at most lanes; the other lanes are zero. Nothing beyond them is touched.
template <class S>
HWY_INLINE VectorOf<S> load_some(const S* p, int64_t count) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
    if constexpr (!Traits<S>::complex && sizeof(S) >= 4) {
        const Tag<S> d;
        return {hn::MaskedLoad(hn::FirstN(d, static_cast<size_t>(count)), d, p)};
    }
#endif
    alignas(64) S buffer[lanes<S>()] = {};
    for (int64_t i = 0; i < count; ++i)
        buffer[i] = p[i];
    return load(buffer);
}
template <class S>
HWY_INLINE void store_some(S* p, VectorOf<S> x, int64_t count) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
    if constexpr (!Traits<S>::complex && sizeof(S) >= 4) {
        const Tag<S> d;
        hn::BlendedStore(x.re, hn::FirstN(d, static_cast<size_t>(count)), d, p);
        return;
    }
#endif
    alignas(64) S buffer[lanes<S>()];
    store(buffer, x);
    for (int64_t i = 0; i < count; ++i)
        p[i] = buffer[i];
}

// Whether vectors stored at p and every `stride` elements from it may pass the caches by: whole, aligned vectors alone.
template <class S>
bool can_stream(const S* p, int64_t stride) {
    constexpr uintptr_t bytes = sizeof(S) * static_cast<uintptr_t>(lanes<S>());
    return !Traits<S>::complex && sizeof(S) >= 4 && bytes >= 16 && reinterpret_cast<uintptr_t>(p) % bytes == 0 &&
           static_cast<uint64_t>(stride) * sizeof(S) % bytes == 0;
}
template <class S>
HWY_INLINE void store_or_stream(S* p, VectorOf<S> x, bool stream) {
    if constexpr (!Traits<S>::complex && sizeof(S) >= 4) {
        if (stream) {
            hn::Stream(x.re, Tag<S>(), p);
            return;
        }
    }
    store(p, x);
}

// The lane `index` as a value of the state's type.
template <class State, class X>
HWY_INLINE State lane(X x, int64_t index) {
    alignas(64) State buffer[lanes<State>()];
    store(buffer, x);
    return buffer[index];
}

// ---- A run of `count` elements along time, seen in the order of the scan: step 0 is the lowest address, or the highest
// where the scan is reversed. Vectors are cut from step 0 on, whatever the address.

template <bool reversed, class S>
HWY_INLINE VectorOf<S> load_steps(const S* run, int64_t count, int64_t step) {
    if constexpr (reversed)
        return reverse(load(run + (count - step - lanes<S>())));
    else
        return load(run + step);
}
template <bool reversed, class S>
HWY_INLINE void store_steps(S* run, int64_t count, int64_t step, VectorOf<S> x, bool stream) {
    if constexpr (reversed)
        store_or_stream(run + (count - step - lanes<S>()), reverse(x), stream);
    else
        store_or_stream(run + step, x, stream);
}
// The same steps with the last one in lane 0, as aggregates want them.
template <bool reversed, class S>
HWY_INLINE VectorOf<S> load_steps_backward(const S* run, int64_t count, int64_t step) {
    return load_steps<!reversed>(run, count, count - step - lanes<S>());
}
template <bool reversed, class S>
HWY_INLINE bool can_stream_steps(const S* run, int64_t count) {
    return can_stream(reversed ? run + count : run, 0);
}
// The last steps, fewer than lanes; the other lanes repeat `rest`.
template <bool reversed, class S>
HWY_INLINE VectorOf<S> load_last_steps(const S* run, int64_t count, int64_t step, S rest) {
    alignas(64) S buffer[lanes<S>()];
    const int64_t left = count - step;
    for (int64_t i = 0; i < lanes<S>(); ++i)
        buffer[i] = i >= left ? rest : reversed ? run[left - 1 - i] : run[step + i];
    return load(buffer);
}
template <bool reversed, class S>
HWY_INLINE void store_last_steps(S* run, int64_t count, int64_t step, VectorOf<S> x) {
    alignas(64) S buffer[lanes<S>()];
    store(buffer, x);
    const int64_t left = count - step;
    for (int64_t i = 0; i < left; ++i)
        run[reversed ? left - 1 - i : step + i] = buffer[i];
}

// ---- Transposes

// 16 bytes of each of a vector's blocks: block k from p + k * stride.
template <class Lane>
HWY_INLINE Vec<Lane> load_blocks(const Lane* p, [[maybe_unused]] int64_t stride) {
#if HWY_TARGET == HWY_SCALAR
    return hn::LoadU(Tag<Lane>(), p);
#else
    [[maybe_unused]] const hn::CappedTag<Lane, 16 / sizeof(Lane)> d1;
    [[maybe_unused]] const hn::Twice<decltype(d1)> d2;
    if constexpr (blocks<Lane>() == 1)
        return hn::LoadU(Tag<Lane>(), p);
    else if constexpr (blocks<Lane>() == 2)
        return hn::Combine(Tag<Lane>(), hn::LoadU(d1, p + stride), hn::LoadU(d1, p));
    else
        return hn::Combine(Tag<Lane>(), hn::Combine(d2, hn::LoadU(d1, p + 3 * stride), hn::LoadU(d1, p + 2 * stride)),
                           hn::Combine(d2, hn::LoadU(d1, p + stride), hn::LoadU(d1, p)));
#endif
}

// to[j * to_stride + i] = from[i * from_stride + j] for i and j below the lanes. Blocks are gathered from the rows that are
// block_lanes apart, so that only lanes within a block have to change places.
template <class Lane>
HWY_INLINE void transpose_square(const Lane* from, [[maybe_unused]] int64_t from_stride, Lane* to,
                                 [[maybe_unused]] int64_t to_stride) {
    const Tag<Lane> d;
#if HWY_TARGET == HWY_SCALAR
    hn::StoreU(hn::LoadU(d, from), d, to);
#else
    constexpr int n = static_cast<int>(lanes_of<Lane>()), m = block_lanes<Lane>();
    for (int j = 0; j < n; j += m) {
        const Lane* p = from + j;
        if constexpr (m == 4) {
            const hn::Repartition<double, Tag<Lane>> dd;
            const auto r0 = load_blocks(p, 4 * from_stride), r1 = load_blocks(p + from_stride, 4 * from_stride);
            const auto r2 = load_blocks(p + 2 * from_stride, 4 * from_stride);
            const auto r3 = load_blocks(p + 3 * from_stride, 4 * from_stride);
            const auto a = hn::BitCast(dd, hn::InterleaveLower(d, r0, r1)),
                       b = hn::BitCast(dd, hn::InterleaveUpper(d, r0, r1));
            const auto e = hn::BitCast(dd, hn::InterleaveLower(d, r2, r3)),
                       f = hn::BitCast(dd, hn::InterleaveUpper(d, r2, r3));
            hn::StoreU(hn::BitCast(d, hn::InterleaveLower(dd, a, e)), d, to + j * to_stride);
            hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(dd, a, e)), d, to + (j + 1) * to_stride);
            hn::StoreU(hn::BitCast(d, hn::InterleaveLower(dd, b, f)), d, to + (j + 2) * to_stride);
            hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(dd, b, f)), d, to + (j + 3) * to_stride);
        } else {
            const auto r0 = load_blocks(p, 2 * from_stride), r1 = load_blocks(p + from_stride, 2 * from_stride);
            hn::StoreU(hn::InterleaveLower(d, r0, r1), d, to + j * to_stride);
            hn::StoreU(hn::InterleaveUpper(d, r0, r1), d, to + (j + 1) * to_stride);
        }
    }
#endif
}

// An element of storage type with a small integer value.
template <class S>
constexpr S element(int value) {
    if constexpr (std::is_same_v<S, Float16>)
        return {static_cast<uint16_t>(value == 0 ? 0 : 0x3C00)};
    else if constexpr (std::is_same_v<S, BFloat16>)
        return {static_cast<uint16_t>(value == 0 ? 0 : 0x3F80)};
    else if constexpr (Traits<S>::complex)
        return {static_cast<typename Traits<S>::Lane>(value), 0};
    else
        return static_cast<S>(value);
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
