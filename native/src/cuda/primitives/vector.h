// Vectors of elements that are loaded and stored in accesses of up to 16 bytes. The pointer must be aligned to the
// vector's own alignment: min(16, N * sizeof(T)) bytes; a GPU faults otherwise and so does the emulation.
// Streaming accesses are for data that is used once: they are not kept in the first-level cache and leave the second
// first.
#pragma once

#include "cuda/primitives/cuda.h"

#include <cstring>
#include <type_traits>

namespace ssm {

template <typename T, int N>
struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Vector {
    static_assert((N & (N - 1)) == 0, "a power of two");
    T elements[N];
    SSM_INLINE T& operator[](int i) { return elements[i]; }
    SSM_INLINE const T& operator[](int i) const { return elements[i]; }
};

// Elements of T in 16 bytes.
template <typename T>
constexpr int vector_elements = 16 / static_cast<int>(sizeof(T));

// Whether vectors of `bytes` can be used at this address.
SSM_INLINE bool is_aligned(const void* pointer, int64_t bytes) {
    return reinterpret_cast<uintptr_t>(pointer) % static_cast<uintptr_t>(bytes) == 0;
}

#if defined(__CUDACC__)

namespace detail {
// The word that a vector of this size is moved in.
template <int bytes>
struct WordOf;
template <>
struct WordOf<1> {
    using Type = unsigned char;
};
template <>
struct WordOf<2> {
    using Type = unsigned short;
};
template <>
struct WordOf<4> {
    using Type = unsigned int;
};
template <>
struct WordOf<8> {
    using Type = uint2;
};
template <>
struct WordOf<16> {
    using Type = uint4;
};
template <typename V>
using Word = typename WordOf<(sizeof(V) < 16 ? int(sizeof(V)) : 16)>::Type;
} // namespace detail

template <int N, typename T>
SSM_DEVICE Vector<T, N> load_vector(const T* pointer) {
    using Word = detail::Word<Vector<T, N>>;
    constexpr int count = sizeof(Vector<T, N>) / sizeof(Word);
    Word words[count];
#pragma unroll
    for (int i = 0; i < count; ++i) {
        words[i] = reinterpret_cast<const Word*>(pointer)[i];
    }
    Vector<T, N> vector;
    memcpy(&vector, words, sizeof(vector));
    return vector;
}
template <int N, typename T>
SSM_DEVICE Vector<T, N> load_vector_streaming(const T* pointer) {
    using Word = detail::Word<Vector<T, N>>;
    constexpr int count = sizeof(Vector<T, N>) / sizeof(Word);
    Word words[count];
#pragma unroll
    for (int i = 0; i < count; ++i) {
        words[i] = __ldcs(reinterpret_cast<const Word*>(pointer) + i);
    }
    Vector<T, N> vector;
    memcpy(&vector, words, sizeof(vector));
    return vector;
}
template <int N, typename T>
SSM_DEVICE void store_vector(T* pointer, Vector<T, N> vector) {
    using Word = detail::Word<Vector<T, N>>;
    constexpr int count = sizeof(Vector<T, N>) / sizeof(Word);
    Word words[count];
    memcpy(words, &vector, sizeof(vector));
#pragma unroll
    for (int i = 0; i < count; ++i) {
        reinterpret_cast<Word*>(pointer)[i] = words[i];
    }
}
template <int N, typename T>
SSM_DEVICE void store_vector_streaming(T* pointer, Vector<T, N> vector) {
    using Word = detail::Word<Vector<T, N>>;
    constexpr int count = sizeof(Vector<T, N>) / sizeof(Word);
    Word words[count];
    memcpy(words, &vector, sizeof(vector));
#pragma unroll
    for (int i = 0; i < count; ++i) {
        __stcs(reinterpret_cast<Word*>(pointer) + i, words[i]);
    }
}

#else

template <int N, typename T>
Vector<T, N> load_vector(const T* pointer, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    emulation::check_aligned(pointer, alignof(Vector<T, N>), {file, line});
    Vector<T, N> vector;
    std::memcpy(&vector, pointer, sizeof(vector));
    return vector;
}
template <int N, typename T>
Vector<T, N> load_vector_streaming(const T* pointer, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return load_vector<N>(pointer, file, line);
}
template <int N, typename T>
void store_vector(T* pointer, const Vector<T, N>& vector, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    emulation::check_aligned(pointer, alignof(Vector<T, N>), {file, line});
    std::memcpy(pointer, &vector, sizeof(vector));
}
template <int N, typename T>
void store_vector_streaming(T* pointer, const Vector<T, N>& vector, const char* file = __builtin_FILE(),
                            int line = __builtin_LINE()) {
    store_vector<N>(pointer, vector, file, line);
}

#endif

} // namespace ssm
