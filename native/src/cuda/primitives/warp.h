// Warps: lanes, votes, and shuffles of any trivially copyable type of 4 bytes or a multiple of it, word by word.
// All lanes named in the mask take part, the caller among them; a source lane is one of the mask.
#pragma once

#include "cuda/primitives/cuda.h"

#include <cstring>
#include <type_traits>

namespace ssm {

constexpr int warp_size = 32;
constexpr unsigned full_mask = 0xffffffffu;

// For blocks of one dimension.
SSM_DEVICE int lane_id() {
    return static_cast<int>(threadIdx.x) & (warp_size - 1);
}
SSM_DEVICE int warp_id() {
    return static_cast<int>(threadIdx.x) / warp_size;
}

#if defined(__CUDACC__)

namespace detail {
template <typename T, typename Shuffle>
SSM_DEVICE T shuffle_words(T value, Shuffle shuffle_word) {
    static_assert(std::is_trivially_copyable<T>::value && sizeof(T) % 4 == 0, "a type of whole words");
    unsigned words[sizeof(T) / 4];
    memcpy(words, &value, sizeof(T));
#pragma unroll
    for (int i = 0; i < int(sizeof(T) / 4); ++i) {
        words[i] = shuffle_word(words[i]);
    }
    T result;
    memcpy(&result, words, sizeof(T));
    return result;
}

template <typename T>
struct ShuffleIndex {
    int lane;
    unsigned mask;
    int width;
    SSM_DEVICE T operator()(T word) const { return __shfl_sync(mask, word, lane, width); }
};
template <typename T>
struct ShuffleUp {
    int delta;
    unsigned mask;
    int width;
    SSM_DEVICE T operator()(T word) const { return __shfl_up_sync(mask, word, delta, width); }
};
template <typename T>
struct ShuffleDown {
    int delta;
    unsigned mask;
    int width;
    SSM_DEVICE T operator()(T word) const { return __shfl_down_sync(mask, word, delta, width); }
};
template <typename T>
struct ShuffleXor {
    int lanes;
    unsigned mask;
    int width;
    SSM_DEVICE T operator()(T word) const { return __shfl_xor_sync(mask, word, lanes, width); }
};
} // namespace detail

// The value of `lane`.
template <typename T>
SSM_DEVICE T shuffle(T value, int lane, unsigned mask = full_mask, int width = warp_size) {
    return detail::shuffle_words(value, detail::ShuffleIndex<unsigned>{lane, mask, width});
}
// The value of the lane `delta` below; the lowest lanes get their own.
template <typename T>
SSM_DEVICE T shuffle_up(T value, int delta, unsigned mask = full_mask, int width = warp_size) {
    return detail::shuffle_words(value, detail::ShuffleUp<unsigned>{delta, mask, width});
}
// The value of the lane `delta` above; the highest lanes get their own.
template <typename T>
SSM_DEVICE T shuffle_down(T value, int delta, unsigned mask = full_mask, int width = warp_size) {
    return detail::shuffle_words(value, detail::ShuffleDown<unsigned>{delta, mask, width});
}
template <typename T>
SSM_DEVICE T shuffle_xor(T value, int lanes, unsigned mask = full_mask, int width = warp_size) {
    return detail::shuffle_words(value, detail::ShuffleXor<unsigned>{lanes, mask, width});
}
SSM_DEVICE unsigned warp_ballot(bool predicate, unsigned mask = full_mask) {
    return __ballot_sync(mask, predicate);
}
SSM_DEVICE bool warp_any(bool predicate, unsigned mask = full_mask) {
    return __any_sync(mask, predicate) != 0;
}
SSM_DEVICE bool warp_all(bool predicate, unsigned mask = full_mask) {
    return __all_sync(mask, predicate) != 0;
}

#else

// The twins take the line of the call along, and move a whole T in one exchange.
template <typename T>
T shuffle(const T& value, int lane, unsigned mask = full_mask, int width = warp_size, const char* file = __builtin_FILE(),
          int line = __builtin_LINE()) {
    return emulation::shuffle(emulation::Exchange::index, mask, value, lane, width, {file, line});
}
template <typename T>
T shuffle_up(const T& value, int delta, unsigned mask = full_mask, int width = warp_size,
             const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return emulation::shuffle(emulation::Exchange::up, mask, value, delta, width, {file, line});
}
template <typename T>
T shuffle_down(const T& value, int delta, unsigned mask = full_mask, int width = warp_size,
               const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return emulation::shuffle(emulation::Exchange::down, mask, value, delta, width, {file, line});
}
template <typename T>
T shuffle_xor(const T& value, int lanes, unsigned mask = full_mask, int width = warp_size,
              const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return emulation::shuffle(emulation::Exchange::exclusive_or, mask, value, lanes, width, {file, line});
}
inline unsigned warp_ballot(bool predicate, unsigned mask = full_mask, const char* file = __builtin_FILE(),
                            int line = __builtin_LINE()) {
    return __ballot_sync(mask, predicate, file, line);
}
inline bool warp_any(bool predicate, unsigned mask = full_mask, const char* file = __builtin_FILE(),
                     int line = __builtin_LINE()) {
    return __any_sync(mask, predicate, file, line) != 0;
}
inline bool warp_all(bool predicate, unsigned mask = full_mask, const char* file = __builtin_FILE(),
                     int line = __builtin_LINE()) {
    return __all_sync(mask, predicate, file, line) != 0;
}

#endif

} // namespace ssm
