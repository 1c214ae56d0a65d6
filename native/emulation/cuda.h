// The part of CUDA that the files of native/src/cuda use, for the host compiler. The language: qualifiers, built-in
// variables, barriers, warp functions, atomics. The runtime: devices, memory, streams, events. Everything queued runs at
// once. engine.cpp says how kernels run and what is checked.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
    constexpr dim3(uint3 other) : x(other.x), y(other.y), z(other.z) {}
};

// ---- The runtime ---------------------------------------------------------------------------------------------------------

#define SSM_CUDA_ERRORS(X)                                                                                                  \
    X(cudaSuccess, 0, "no error")                                                                                           \
    X(cudaErrorInvalidValue, 1, "invalid argument")                                                                         \
    X(cudaErrorMemoryAllocation, 2, "out of memory")                                                                        \
    X(cudaErrorInvalidConfiguration, 9, "invalid configuration argument")                                                   \
    X(cudaErrorNoDevice, 100, "no device")                                                                                  \
    X(cudaErrorInvalidDevice, 101, "invalid device ordinal")                                                                \
    X(cudaErrorInvalidResourceHandle, 400, "invalid resource handle")                                                       \
    X(cudaErrorNotReady, 600, "not ready")                                                                                  \
    X(cudaErrorIllegalAddress, 700, "an illegal memory access was encountered")                                             \
    X(cudaErrorLaunchTimeout, 702, "the launch timed out")                                                                  \
    X(cudaErrorIllegalInstruction, 715, "an illegal instruction was encountered")                                           \
    X(cudaErrorMisalignedAddress, 716, "misaligned address")                                                                \
    X(cudaErrorLaunchFailure, 719, "unspecified launch failure")                                                            \
    X(cudaErrorUnknown, 999, "unknown error")
#define SSM_ENUMERATOR(name, number, sentence) name = number,
enum cudaError_t : int { SSM_CUDA_ERRORS(SSM_ENUMERATOR) };
#undef SSM_ENUMERATOR

enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };

enum cudaDeviceAttr {
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrL2CacheSize = 38,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
    cudaDevAttrMemoryPoolsSupported = 115
};
struct cudaFuncAttributes {
    int maxThreadsPerBlock;
};
struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem;
    int major, minor, multiProcessorCount;
};

namespace ssm::emulation {
struct Stream;
struct Event;
} // namespace ssm::emulation
using cudaStream_t = ssm::emulation::Stream*;
using cudaEvent_t = ssm::emulation::Event*;
using cudaStreamCallback_t = void (*)(cudaStream_t stream, cudaError_t status, void* user);

constexpr unsigned cudaStreamNonBlocking = 1;
constexpr unsigned cudaEventDefault = 0;
constexpr unsigned cudaEventDisableTiming = 2;

// For the last fault of this thread the string is the whole sentence: fault, block, thread, files and lines.
const char* cudaGetErrorString(cudaError_t error);
const char* cudaGetErrorName(cudaError_t error);
cudaError_t cudaGetLastError();

cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);

cudaError_t cudaMalloc(void** pointer, size_t bytes);
cudaError_t cudaFree(void* pointer);
cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t stream);
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream);
cudaError_t cudaMallocHost(void** pointer, size_t bytes);
cudaError_t cudaFreeHost(void* pointer);
cudaError_t cudaMemcpyAsync(void* destination, const void* source, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream = nullptr);
cudaError_t cudaMemsetAsync(void* destination, int value, size_t bytes, cudaStream_t stream = nullptr);

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t callback, void* user, unsigned flags);

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end);

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function);
template <typename Function>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, Function* function) {
    return cudaFuncGetAttributes(attributes, reinterpret_cast<const void*>(function));
}
template <typename T>
cudaError_t cudaMalloc(T** pointer, size_t bytes) {
    return cudaMalloc(reinterpret_cast<void**>(pointer), bytes);
}

// ---- What kernels call in the engine -------------------------------------------------------------------------------------

namespace ssm::emulation {

struct Where {
    const char* file;
    int line;
};

// Where the running thread is in its grid.
struct Place {
    uint3 thread, block;
    dim3 block_size, grid_size;
};
extern Place* current;

enum class Exchange { index, up, down, exclusive_or, any, all, ballot, sync };
struct Request {
    Exchange kind;
    unsigned mask;
    const void* in; // `bytes` of a shuffle, the bool of a vote
    void* out;      // as many bytes, an unsigned
    unsigned bytes;
    int argument, width; // the lane, delta or lane mask of a shuffle
};

// All threads of the block.
void barrier(Where where);
// All lanes of the mask, which request alike.
void exchange(const Request& request, Where where);
template <typename T>
T shuffle(Exchange kind, unsigned mask, const T& value, int argument, int width, Where where) {
    T result;
    exchange({kind, mask, &value, &result, sizeof(T), argument, width}, where);
    return result;
}
inline unsigned vote(Exchange kind, unsigned mask, bool predicate, Where where) {
    unsigned result;
    exchange({kind, mask, &predicate, &result, 0, 0, 32}, where);
    return result;
}
// A point where a thread that polls a flag gives way.
void let_others_run(Where where);
// Something happened that can end another thread's polling.
void note_progress();
void* shared_memory(size_t bytes, Where where);
// Ends the kernel with a fault of the running thread.
[[noreturn]] void fail(cudaError_t error, Where where, const char* what);
inline void check_aligned(const void* pointer, size_t alignment, Where where) {
    if (reinterpret_cast<uintptr_t>(pointer) % alignment != 0)
        fail(cudaErrorMisalignedAddress, where, "misaligned address");
}

// A stream and the line where it was handed to launch.
struct StreamAt {
    cudaStream_t stream;
    Where where;
    StreamAt(cudaStream_t stream, const char* file = __builtin_FILE(), int line = __builtin_LINE())
        : stream(stream), where{file, line} {}
};

struct Launch {
    void (*run)(const void* call); // one thread of the kernel
    const void* call;
    dim3 grid, block;
    size_t shared_bytes;
    StreamAt stream;
};
cudaError_t run(const Launch& launch);

// "emulated.order": of threads and blocks, 0 ascending, 1 descending, 2 and more shuffled with this seed.
// "emulated.resident_blocks": how many blocks run at a time (0: 2). "emulated.poison": the pattern in fresh device and
// shared memory, 0 or 1. "emulated.architecture": 75, 80, 86, 89, 90 (0: 90). False: no such option or value.
// They hold for the whole process.
bool set_option(const char* name, int64_t value);
// Runs host code and answers its access to device memory as an error instead of the end of the process.
cudaError_t guarded(void (*function)(void* user), void* user, const char* file = __builtin_FILE(),
                    int line = __builtin_LINE());

} // namespace ssm::emulation

// ---- The language --------------------------------------------------------------------------------------------------------

#define threadIdx (::ssm::emulation::current->thread)
#define blockIdx (::ssm::emulation::current->block)
#define blockDim (::ssm::emulation::current->block_size)
#define gridDim (::ssm::emulation::current->grid_size)

#define SSM_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

// clang-format off
inline void __syncthreads(SSM_HERE) { ssm::emulation::barrier({file, line}); }
inline void __trap(SSM_HERE) { ssm::emulation::fail(cudaErrorIllegalInstruction, {file, line}, "__trap()"); }
// One native thread runs all kernels, so that an order of memory operations and atomicity come by themselves.
inline void __threadfence() {}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(unsigned(x)); }
// clang-format on
inline void __syncwarp(unsigned mask = 0xffffffffu, SSM_HERE) {
    ssm::emulation::exchange({ssm::emulation::Exchange::sync, mask, nullptr, nullptr, 0, 0, 32}, {file, line});
}
#define SSM_SHUFFLE(name, kind, Argument)                                                                                   \
    template <typename T>                                                                                                   \
    T name(unsigned mask, T value, Argument argument, int width = 32, SSM_HERE) {                                           \
        static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "a number of 32 or 64 bits");          \
        return ssm::emulation::shuffle(ssm::emulation::Exchange::kind, mask, value, int(argument), width, {file, line});    \
    }
SSM_SHUFFLE(__shfl_sync, index, int)
SSM_SHUFFLE(__shfl_up_sync, up, unsigned)
SSM_SHUFFLE(__shfl_down_sync, down, unsigned)
SSM_SHUFFLE(__shfl_xor_sync, exclusive_or, int)
#undef SSM_SHUFFLE
inline unsigned __ballot_sync(unsigned mask, int predicate, SSM_HERE) {
    return ssm::emulation::vote(ssm::emulation::Exchange::ballot, mask, predicate != 0, {file, line});
}
inline int __any_sync(unsigned mask, int predicate, SSM_HERE) {
    return int(ssm::emulation::vote(ssm::emulation::Exchange::any, mask, predicate != 0, {file, line}));
}
inline int __all_sync(unsigned mask, int predicate, SSM_HERE) {
    return int(ssm::emulation::vote(ssm::emulation::Exchange::all, mask, predicate != 0, {file, line}));
}
#undef SSM_HERE
template <typename T>
T atomicAdd(T* address, std::common_type_t<T> value) {
    ssm::emulation::note_progress();
    T old = *address;
    *address = old + value;
    return old;
}
