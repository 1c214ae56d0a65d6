// Words in global memory through which blocks tell each other about finished work, and the payload behind them. The
// writer stores the payload and then the flag with store_release; the reader sees the flag with load_acquire and then
// loads the payload with load_payload. All at the scope of the device; sm_70 and later.
// In the emulation every load of a flag lets other blocks and threads run, so that spinning ends; loading flags for ever
// while nothing is stored is the error "no progress".
#pragma once

#include "cuda/primitives/cuda.h"

#include <cstring>
#include <type_traits>

namespace ssm {

#if defined(__CUDACC__)

SSM_DEVICE uint32_t load_acquire(const uint32_t* flag) {
    uint32_t value;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
    return value;
}
SSM_DEVICE uint64_t load_acquire(const uint64_t* flag) {
    uint64_t value;
    asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(flag) : "memory");
    return value;
}
SSM_DEVICE uint32_t load_relaxed(const uint32_t* flag) {
    uint32_t value;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
    return value;
}
SSM_DEVICE uint64_t load_relaxed(const uint64_t* flag) {
    uint64_t value;
    asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(flag) : "memory");
    return value;
}
SSM_DEVICE void store_release(uint32_t* flag, uint32_t value) {
    asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(flag), "r"(value) : "memory");
}
SSM_DEVICE void store_release(uint64_t* flag, uint64_t value) {
    asm volatile("st.release.gpu.global.u64 [%0], %1;" ::"l"(flag), "l"(value) : "memory");
}
SSM_DEVICE void store_relaxed(uint32_t* flag, uint32_t value) {
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(flag), "r"(value) : "memory");
}
SSM_DEVICE void store_relaxed(uint64_t* flag, uint64_t value) {
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(flag), "l"(value) : "memory");
}

namespace detail {
// The widest word that T consists of and is aligned to.
template <typename T>
constexpr int payload_word = sizeof(T) % 16 == 0 && alignof(T) >= 16 ? 16
                             : sizeof(T) % 8 == 0 && alignof(T) >= 8 ? 8
                                                                     : 4;
} // namespace detail

// A payload of 4 bytes or a multiple of it, in words as wide as its alignment allows, up to 128 bits. Not atomic as a
// whole: the flag is what says that it is complete.
template <typename T>
SSM_DEVICE T load_payload(const T* payload) {
    static_assert(std::is_trivially_copyable<T>::value && sizeof(T) % 4 == 0 && alignof(T) >= 4, "a payload of words");
    T value;
    if constexpr (detail::payload_word<T> == 16) {
        uint64_t words[sizeof(T) / 8];
#pragma unroll
        for (int i = 0; i < int(sizeof(T) / 8); i += 2) {
            asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];"
                         : "=l"(words[i]), "=l"(words[i + 1])
                         : "l"(reinterpret_cast<const uint64_t*>(payload) + i)
                         : "memory");
        }
        memcpy(&value, words, sizeof(T));
    } else if constexpr (detail::payload_word<T> == 8) {
        uint64_t words[sizeof(T) / 8];
#pragma unroll
        for (int i = 0; i < int(sizeof(T) / 8); ++i) {
            words[i] = load_relaxed(reinterpret_cast<const uint64_t*>(payload) + i);
        }
        memcpy(&value, words, sizeof(T));
    } else {
        uint32_t words[sizeof(T) / 4];
#pragma unroll
        for (int i = 0; i < int(sizeof(T) / 4); ++i) {
            words[i] = load_relaxed(reinterpret_cast<const uint32_t*>(payload) + i);
        }
        memcpy(&value, words, sizeof(T));
    }
    return value;
}

template <typename T>
SSM_DEVICE void store_payload(T* payload, std::common_type_t<T> value) {
    static_assert(std::is_trivially_copyable<T>::value && sizeof(T) % 4 == 0 && alignof(T) >= 4, "a payload of words");
    if constexpr (detail::payload_word<T> == 16) {
        uint64_t words[sizeof(T) / 8];
        memcpy(words, &value, sizeof(T));
#pragma unroll
        for (int i = 0; i < int(sizeof(T) / 8); i += 2) {
            asm volatile("st.relaxed.gpu.global.v2.u64 [%0], {%1, %2};" ::"l"(reinterpret_cast<uint64_t*>(payload) + i),
                         "l"(words[i]), "l"(words[i + 1])
                         : "memory");
        }
    } else if constexpr (detail::payload_word<T> == 8) {
        uint64_t words[sizeof(T) / 8];
        memcpy(words, &value, sizeof(T));
#pragma unroll
        for (int i = 0; i < int(sizeof(T) / 8); ++i) {
            store_relaxed(reinterpret_cast<uint64_t*>(payload) + i, words[i]);
        }
    } else {
        uint32_t words[sizeof(T) / 4];
        memcpy(words, &value, sizeof(T));
#pragma unroll
        for (int i = 0; i < int(sizeof(T) / 4); ++i) {
            store_relaxed(reinterpret_cast<uint32_t*>(payload) + i, words[i]);
        }
    }
}

#else

template <typename Word>
Word load_acquire(const Word* flag, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    static_assert(sizeof(Word) == 4 || sizeof(Word) == 8, "a flag is a word of 32 or 64 bits");
    emulation::check_aligned(flag, sizeof(Word), {file, line});
    emulation::let_others_run({file, line});
    return *flag;
}
template <typename Word>
Word load_relaxed(const Word* flag, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return load_acquire(flag, file, line);
}
template <typename Word>
void store_release(Word* flag, std::common_type_t<Word> value, const char* file = __builtin_FILE(),
                   int line = __builtin_LINE()) {
    emulation::check_aligned(flag, sizeof(Word), {file, line});
    emulation::note_progress();
    *flag = value;
}
template <typename Word>
void store_relaxed(Word* flag, std::common_type_t<Word> value, const char* file = __builtin_FILE(),
                   int line = __builtin_LINE()) {
    store_release(flag, value, file, line);
}

template <typename T>
T load_payload(const T* payload, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    static_assert(std::is_trivially_copyable<T>::value && sizeof(T) % 4 == 0 && alignof(T) >= 4, "a payload of words");
    emulation::check_aligned(payload, alignof(T), {file, line});
    return *payload;
}
template <typename T>
void store_payload(T* payload, const std::common_type_t<T>& value, const char* file = __builtin_FILE(),
                   int line = __builtin_LINE()) {
    static_assert(std::is_trivially_copyable<T>::value && sizeof(T) % 4 == 0 && alignof(T) >= 4, "a payload of words");
    emulation::check_aligned(payload, alignof(T), {file, line});
    *payload = value;
}

#endif

} // namespace ssm
