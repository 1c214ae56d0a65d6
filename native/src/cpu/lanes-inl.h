// Vectors whose lanes are channels, of tensors with any strides.
#if defined(SSM_CPU_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SSM_CPU_LANES_INL_H_
#undef SSM_CPU_LANES_INL_H_
#else
#define SSM_CPU_LANES_INL_H_
#endif

#include "cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

// One number per channel, `stride` apart; lanes beyond `width` are zero.
template <class S>
HWY_INLINE VectorOf<S> load_lanes(const S* p, int64_t stride, int64_t width) {
    if (stride == 1)
        return width == lanes<S>() ? load(p) : load_some(p, width);
    alignas(64) S buffer[lanes<S>()] = {};
    for (int64_t l = 0; l < width; ++l)
        buffer[l] = p[l * stride];
    return load(buffer);
}
template <class S>
HWY_INLINE void store_lanes(S* p, int64_t stride, int64_t width, VectorOf<S> x) {
    if (stride == 1 && width == lanes<S>())
        return store(p, x);
    if (stride == 1)
        return store_some(p, x, width);
    alignas(64) S buffer[lanes<S>()];
    store(buffer, x);
    for (int64_t l = 0; l < width; ++l)
        p[l * stride] = buffer[l];
}

// The same of real numbers whose storage is known at run time alone, `place` elements behind `data`: code for each type
// here, and not in all that uses them. Lanes as they lie in memory do without the call.
template <class Lane>
HWY_NOINLINE Vec<Lane> load_stored_slowly(DataType type, const void* data, int64_t place, int64_t stride, int64_t width) {
    auto x = hn::Zero(Tag<Lane>());
    with_storage_of<Lane>(type, [&](auto of) HWY_ATTR {
        x = load_lanes(static_cast<const typename decltype(of)::type*>(data) + place, stride, width).re;
    });
    return x;
}
template <class Lane>
HWY_NOINLINE void store_stored_slowly(DataType type, void* data, int64_t place, int64_t stride, int64_t width, Vec<Lane> x) {
    with_storage_of<Lane>(type, [&](auto of) HWY_ATTR {
        using S = typename decltype(of)::type;
        store_lanes(static_cast<S*>(data) + place, stride, width, VectorOf<S>{x});
    });
}
template <class Lane>
HWY_INLINE Vec<Lane> load_stored(DataType type, const void* data, int64_t place, int64_t stride, int64_t width) {
    if (size_of(type) == sizeof(Lane) && stride == 1 && width == lanes_of<Lane>())
        return hn::LoadU(Tag<Lane>(), static_cast<const Lane*>(data) + place);
    return load_stored_slowly<Lane>(type, data, place, stride, width);
}
template <class Lane>
HWY_INLINE void store_stored(DataType type, void* data, int64_t place, int64_t stride, int64_t width, Vec<Lane> x) {
    if (size_of(type) == sizeof(Lane) && stride == 1 && width == lanes_of<Lane>())
        return hn::StoreU(x, Tag<Lane>(), static_cast<Lane*>(data) + place);
    store_stored_slowly<Lane>(type, data, place, stride, width, x);
}

// Numbers as they lie in memory, 16-bit ones by their bits: what can be moved without being converted.
template <class S>
using Word = std::conditional_t<sizeof(S) == 2, uint16_t, S>;
template <class S>
using WordTag = std::conditional_t<sizeof(S) == 2, hn::Rebind<uint16_t, Tag<float>>, Tag<typename Traits<S>::Lane>>;

// Two to four numbers of each of as many neighbours as a vector has lanes: v[k] takes number k of each. Real types.
template <int Count, class S>
HWY_INLINE void load_interleaved(const S* p, Vec<typename Traits<S>::Lane> (&v)[Count]) {
    const WordTag<S> d;
    const Word<S>* const from = reinterpret_cast<const Word<S>*>(p);
    hn::Vec<WordTag<S>> words[Count];
    if constexpr (Count == 2)
        hn::LoadInterleaved2(d, from, words[0], words[1]);
    else if constexpr (Count == 3)
        hn::LoadInterleaved3(d, from, words[0], words[1], words[2]);
    else
        hn::LoadInterleaved4(d, from, words[0], words[1], words[2], words[3]);
    alignas(64) S buffer[lanes<S>()];
    for (int k = 0; k < Count; ++k) {
        hn::StoreU(words[k], d, reinterpret_cast<Word<S>*>(buffer));
        v[k] = load(buffer).re;
    }
}
template <int Count, class S>
HWY_INLINE void store_interleaved(S* p, const Vec<typename Traits<S>::Lane> (&v)[Count]) {
    const WordTag<S> d;
    Word<S>* const to = reinterpret_cast<Word<S>*>(p);
    hn::Vec<WordTag<S>> words[Count];
    alignas(64) S buffer[lanes<S>()];
    for (int k = 0; k < Count; ++k) {
        store(buffer, VectorOf<S>{v[k]});
        words[k] = hn::LoadU(d, reinterpret_cast<const Word<S>*>(buffer));
    }
    if constexpr (Count == 2)
        hn::StoreInterleaved2(words[0], words[1], d, to);
    else if constexpr (Count == 3)
        hn::StoreInterleaved3(words[0], words[1], words[2], d, to);
    else
        hn::StoreInterleaved4(words[0], words[1], words[2], words[3], d, to);
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
