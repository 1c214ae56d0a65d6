// The CUDA runtime's functions for one emulated device. Everything runs when it is queued, so that streams and events
// are little more than handles; a stream remembers the fault of a kernel, as CUDA does.
#include "emulation/internal.h"

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>
#include <utility>

namespace ssm::emulation {

struct Event {
    std::optional<std::chrono::steady_clock::time_point> time; // when it was recorded
};

namespace {

struct Handles {
    Stream standard; // the legacy and the per-thread default stream
    std::set<Stream*> streams;
};
Handles& handles = *new Handles; // never destroyed: contexts may outlive static objects

struct LastError {
    cudaError_t error = cudaSuccess; // until cudaGetLastError
    cudaError_t told = cudaSuccess;  // the error of the sentence
    std::string sentence;
};
thread_local LastError last;

#define SSM_ERROR_TEXT(name, number, sentence) {name, {#name, sentence}},
const auto& error_texts = *new std::map<cudaError_t, std::array<const char*, 2>>{SSM_CUDA_ERRORS(SSM_ERROR_TEXT)};

const char* text_of(cudaError_t error, int kind) {
    auto found = error_texts.find(error);
    return (found != error_texts.end() ? found->second : error_texts.at(cudaErrorUnknown))[kind];
}

// Success, or why nothing can be queued on this stream.
cudaError_t check(cudaStream_t handle) {
    Stream* stream = find_stream(handle);
    if (!stream)
        return report(cudaErrorInvalidResourceHandle, "there is no such stream");
    return stream->fault == cudaSuccess ? cudaSuccess : report(stream->fault, stream->sentence);
}

// Success if the range is as told: inside an allocation, or none of the device's.
cudaError_t check(const void* pointer, size_t bytes, bool is_device, const char* name) {
    if (is_device ? in_allocation(pointer, bytes) : !in_device_memory(pointer))
        return cudaSuccess;
    return report(cudaErrorInvalidValue, say(name, ": ", bytes, " bytes of ", is_device ? "device" : "host",
                                             " memory expected, ", describe(pointer), " given"));
}

} // namespace

cudaError_t report(cudaError_t error, const std::string& sentence) {
    last.error = last.told = error;
    last.sentence = sentence;
    return error;
}

Stream* find_stream(cudaStream_t handle) {
    if (reinterpret_cast<uintptr_t>(handle) <= 2) // null, cudaStreamLegacy, cudaStreamPerThread
        return &handles.standard;
    return handles.streams.count(handle) ? handle : nullptr;
}

cudaError_t report_fault(Stream& stream, cudaError_t error, const std::string& sentence) {
    stream.fault = error;
    stream.sentence = sentence;
    return report(error, sentence);
}

} // namespace ssm::emulation

using namespace ssm::emulation;

// clang-format off
const char* cudaGetErrorName(cudaError_t error) { return text_of(error, 0); }
cudaError_t cudaGetLastError() { return std::exchange(last.error, cudaSuccess); }
cudaError_t cudaGetDeviceCount(int* count) { *count = 1; return cudaSuccess; }
cudaError_t cudaGetDevice(int* device) { *device = 0; return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { return cudaRuntimeGetVersion(version); }
cudaError_t cudaRuntimeGetVersion(int* version) { *version = 11080; return cudaSuccess; }
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) { *attributes = {1024}; return cudaSuccess; }
cudaError_t cudaMalloc(void** pointer, size_t bytes) { return cudaMallocAsync(pointer, bytes, nullptr); }
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t) { return cudaFree(pointer); }
cudaError_t cudaFreeHost(void* pointer) { free(pointer); return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { Lock lock; return check(stream); }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t, unsigned) { return cudaStreamSynchronize(stream); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { *event = new Event; return cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t event) { delete event; return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
// clang-format on

// ---- Errors --------------------------------------------------------------------------------------------------------------

const char* cudaGetErrorString(cudaError_t error) {
    return error != cudaSuccess && error == last.told ? last.sentence.c_str() : text_of(error, 1);
}

// ---- Device --------------------------------------------------------------------------------------------------------------

cudaError_t cudaSetDevice(int device) {
    return device == 0 ? cudaSuccess : report(cudaErrorInvalidDevice, "there is one emulated device, number 0");
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
    Lock lock;
    if (cudaSetDevice(device) != cudaSuccess)
        return cudaErrorInvalidDevice;
    *properties = {};
    snprintf(properties->name, sizeof(properties->name), "Emulated sm_%d", int(options.architecture));
    properties->totalGlobalMem = device_memory_bytes;
    properties->major = int(options.architecture / 10);
    properties->minor = int(options.architecture % 10);
    properties->multiProcessorCount = 4;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    cudaDeviceProp properties;
    cudaError_t error = cudaGetDeviceProperties(&properties, device);
    *value = attribute == cudaDevAttrMultiProcessorCount            ? properties.multiProcessorCount
             : attribute == cudaDevAttrL2CacheSize                  ? 4 << 20
             : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? int(shared_memory_limit(options.architecture))
                                                                    : 1; // cudaDevAttrMemoryPoolsSupported
    return error;
}

// ---- Memory --------------------------------------------------------------------------------------------------------------

cudaError_t cudaFree(void* pointer) {
    Lock lock;
    std::string damage;
    if (pointer && !release(pointer, &damage))
        return report(cudaErrorInvalidValue, "free of " + describe(pointer));
    return damage.empty() ? cudaSuccess : report(cudaErrorIllegalAddress, damage);
}

cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t stream) {
    Lock lock;
    cudaError_t error = check(stream);
    if (error != cudaSuccess)
        return error;
    *pointer = bytes == 0 ? nullptr : allocate(bytes);
    return bytes == 0 || *pointer ? cudaSuccess
                                  : report(cudaErrorMemoryAllocation, say("out of memory: ", bytes, " bytes asked for, ",
                                                                          device_memory_bytes - bytes_in_use(), " free"));
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
    *pointer = bytes == 0 || bytes > SIZE_MAX / 2 ? nullptr : aligned_alloc(256, (bytes + 255) & ~size_t{255});
    return bytes == 0 || *pointer
               ? cudaSuccess
               : report(cudaErrorMemoryAllocation, say("out of host memory: ", bytes, " bytes asked for"));
}

cudaError_t cudaMemcpyAsync(void* destination, const void* source, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    Lock lock;
    cudaError_t error = check(stream);
    if (error != cudaSuccess || bytes == 0)
        return error;
    error = check(destination, bytes, kind != cudaMemcpyDeviceToHost, "destination of a copy");
    if (error == cudaSuccess)
        error = check(source, bytes, kind != cudaMemcpyHostToDevice, "source of a copy");
    Access access;
    if (error == cudaSuccess)
        memmove(destination, source, bytes);
    return error;
}

cudaError_t cudaMemsetAsync(void* destination, int value, size_t bytes, cudaStream_t stream) {
    Lock lock;
    cudaError_t error = check(stream);
    if (error == cudaSuccess && bytes > 0)
        error = check(destination, bytes, true, "destination of a set");
    Access access;
    if (error == cudaSuccess)
        memset(destination, value, bytes);
    return error;
}

// ---- Streams and events --------------------------------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
    Lock lock;
    *stream = new Stream;
    handles.streams.insert(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    Lock lock;
    if (handles.streams.erase(stream) == 0)
        return report(cudaErrorInvalidResourceHandle, "there is no such stream");
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t callback, void* user, unsigned) {
    cudaError_t error = cudaStreamSynchronize(stream);
    callback(stream, error, user);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    Lock lock;
    cudaError_t error = check(stream);
    if (error == cudaSuccess)
        event->time = std::chrono::steady_clock::now();
    return error;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
    Lock lock;
    if (!start->time || !end->time)
        return report(cudaErrorInvalidResourceHandle, "an event that was not recorded");
    *milliseconds = std::chrono::duration<float, std::milli>(*end->time - *start->time).count();
    return cudaSuccess;
}
