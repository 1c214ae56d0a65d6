// Small calculations in double that a team of threads does together: the threads of a block on a GPU, one thread on the CPU.
// A team has rank() and size(), and sync(), after which everybody sees what everybody wrote. What is written here once runs
// on every backend.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define SSM_TEAM __host__ __device__ inline
#else
#define SSM_TEAM inline
#endif

namespace ssm {

// The team of one.
struct Alone {
    static constexpr int columns = 8; // of a product that are worked on together
    SSM_TEAM int64_t rank() const { return 0; }
    SSM_TEAM int64_t size() const { return 1; }
    SSM_TEAM void sync() const {}
};

// f(i) for every i in [0, count), shared out. Who reads the results waits with sync().
template <class Team, class F>
SSM_TEAM void share(const Team& team, int64_t count, const F& f) {
    for (int64_t i = team.rank(); i < count; i += team.size())
        f(i);
}

// x y + z, rounded once where that is one instruction.
SSM_TEAM double fused(double x, double y, double z) {
#if defined(__CUDA_ARCH__)
    return fma(x, y, z);
#else
    return x * y + z;
#endif
}

struct ComplexDouble {
    double re, im;
};
SSM_TEAM ComplexDouble operator+(ComplexDouble x, ComplexDouble y) {
    return {x.re + y.re, x.im + y.im};
}
SSM_TEAM ComplexDouble operator-(ComplexDouble x, ComplexDouble y) {
    return {x.re - y.re, x.im - y.im};
}
SSM_TEAM ComplexDouble operator*(ComplexDouble x, ComplexDouble y) {
    return {x.re * y.re - x.im * y.im, x.re * y.im + x.im * y.re};
}
SSM_TEAM ComplexDouble operator*(double x, ComplexDouble y) {
    return {x * y.re, x * y.im};
}
SSM_TEAM ComplexDouble conj(ComplexDouble x) {
    return {x.re, -x.im};
}
SSM_TEAM ComplexDouble inverse(ComplexDouble x) {
    const double scale = 1 / (x.re * x.re + x.im * x.im);
    return {x.re * scale, -x.im * scale};
}

// Numbers of either precision, by their index.
SSM_TEAM double load_real(const void* data, bool is_double, int64_t i) {
    return is_double ? static_cast<const double*>(data)[i] : static_cast<double>(static_cast<const float*>(data)[i]);
}
SSM_TEAM ComplexDouble load_complex(const void* data, bool is_double, int64_t i) {
    return {load_real(data, is_double, 2 * i), load_real(data, is_double, 2 * i + 1)};
}
SSM_TEAM void store_real(void* data, bool is_double, int64_t i, double value) {
    if (is_double)
        static_cast<double*>(data)[i] = value;
    else
        static_cast<float*>(data)[i] = static_cast<float>(value);
}
SSM_TEAM void store_complex(void* data, bool is_double, int64_t i, ComplexDouble value) {
    store_real(data, is_double, 2 * i, value.re);
    store_real(data, is_double, 2 * i + 1, value.im);
}

// Hands out parts of a piece of memory, 64-byte aligned; without memory it only counts.
class TeamMemory {
  public:
    SSM_TEAM explicit TeamMemory(void* data) : data(static_cast<char*>(data)), used(0) {}
    template <class T>
    SSM_TEAM T* take(int64_t count) {
        char* const part = data ? data + used : nullptr;
        used += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
        return reinterpret_cast<T*>(part);
    }
    SSM_TEAM int64_t bytes() const { return used; }

  private:
    char* data;
    int64_t used;
};

} // namespace ssm
