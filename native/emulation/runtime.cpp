// The CUDA runtime's functions for one emulated device. Everything runs when it is queued, so that streams and events
// are little more than handles; a stream remembers the fault of a kernel, as CUDA does.
#include "emulation/internal.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <set>

namespace ssm::emulation {

struct Event {
    std::chrono::steady_clock::time_point time;
    bool is_recorded = false;
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

struct ErrorText {
    cudaError_t error;
    const char* name;
    const char* sentence;
};
#define SSM_ERROR_TEXT(name, number, sentence) {name, #name, sentence},
const ErrorText error_texts[] = {SSM_CUDA_ERRORS(SSM_ERROR_TEXT)};

const ErrorText& text_of(cudaError_t error) {
    auto found = std::find_if(std::begin(error_texts), std::end(error_texts), [=](auto& one) { return one.error == error; });
    return found != std::end(error_texts) ? *found : *std::prev(found);
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
    if (!handle || handle == cudaStreamLegacy || handle == cudaStreamPerThread)
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

// ---- Errors --------------------------------------------------------------------------------------------------------------

const char* cudaGetErrorString(cudaError_t error) {
    return error != cudaSuccess && error == last.told ? last.sentence.c_str() : text_of(error).sentence;
}

const char* cudaGetErrorName(cudaError_t error) {
    return text_of(error).name;
}

cudaError_t cudaGetLastError() {
    cudaError_t error = last.error;
    last.error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError() {
    return last.error;
}

// ---- Device --------------------------------------------------------------------------------------------------------------

cudaError_t cudaGetDeviceCount(int* count) {
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    return device == 0 ? cudaSuccess : report(cudaErrorInvalidDevice, "there is one emulated device, number 0");
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
    Lock lock;
    if (cudaSetDevice(device) != cudaSuccess)
        return cudaErrorInvalidDevice;
    *properties = {};
    snprintf(properties->name, sizeof(properties->name), "Emulated sm_%d", static_cast<int>(options.architecture));
    properties->totalGlobalMem = device_memory_bytes;
    properties->sharedMemPerBlock = 48 << 10;
    properties->sharedMemPerBlockOptin = shared_memory_limit(options.architecture);
    properties->sharedMemPerMultiprocessor =
        shared_memory_limit(options.architecture) + (options.architecture == 75 ? 0 : 1 << 10);
    properties->major = static_cast<int>(options.architecture / 10);
    properties->minor = static_cast<int>(options.architecture % 10);
    properties->multiProcessorCount = 4;
    properties->l2CacheSize = 4 << 20;
    properties->warpSize = warpSize;
    properties->maxThreadsPerBlock = 1024;
    properties->maxThreadsPerMultiProcessor = options.architecture == 75 ? 1024 : 2048;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    cudaDeviceProp properties;
    cudaError_t error = cudaGetDeviceProperties(&properties, device);
    if (error != cudaSuccess)
        return error;
    const struct {
        cudaDeviceAttr attribute;
        size_t value;
    } values[] = {
        {cudaDevAttrMaxThreadsPerBlock, size_t(properties.maxThreadsPerBlock)},
        {cudaDevAttrMaxSharedMemoryPerBlock, properties.sharedMemPerBlock},
        {cudaDevAttrWarpSize, size_t(properties.warpSize)},
        {cudaDevAttrMultiProcessorCount, size_t(properties.multiProcessorCount)},
        {cudaDevAttrL2CacheSize, size_t(properties.l2CacheSize)},
        {cudaDevAttrMaxThreadsPerMultiProcessor, size_t(properties.maxThreadsPerMultiProcessor)},
        {cudaDevAttrComputeCapabilityMajor, size_t(properties.major)},
        {cudaDevAttrComputeCapabilityMinor, size_t(properties.minor)},
        {cudaDevAttrMaxSharedMemoryPerMultiprocessor, properties.sharedMemPerMultiprocessor},
        {cudaDevAttrMaxSharedMemoryPerBlockOptin, properties.sharedMemPerBlockOptin},
        {cudaDevAttrMemoryPoolsSupported, 1},
    };
    for (const auto& one : values) {
        if (one.attribute == attribute) {
            *value = static_cast<int>(one.value);
            return cudaSuccess;
        }
    }
    return report(cudaErrorInvalidValue, "there is no such device attribute");
}

cudaError_t cudaDriverGetVersion(int* version) {
    return cudaRuntimeGetVersion(version);
}

cudaError_t cudaRuntimeGetVersion(int* version) {
    *version = 11080;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
    Lock lock;
    *free_bytes = device_memory_bytes - bytes_in_use();
    *total_bytes = device_memory_bytes;
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
    *attributes = {1024};
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int value) {
    Lock lock;
    return value >= 0 && static_cast<size_t>(value) <= shared_memory_limit(options.architecture)
               ? cudaSuccess
               : report(cudaErrorInvalidValue, "more shared memory than the architecture has");
}

// ---- Memory --------------------------------------------------------------------------------------------------------------

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
    return cudaMallocAsync(pointer, bytes, nullptr);
}

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

cudaError_t cudaFreeAsync(void* pointer, cudaStream_t) {
    return cudaFree(pointer);
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
    *pointer = bytes == 0 || bytes > SIZE_MAX / 2 ? nullptr : aligned_alloc(256, (bytes + 255) & ~size_t{255});
    return bytes == 0 || *pointer
               ? cudaSuccess
               : report(cudaErrorMemoryAllocation, say("out of host memory: ", bytes, " bytes asked for"));
}

cudaError_t cudaFreeHost(void* pointer) {
    free(pointer);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* destination, const void* source, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    Lock lock;
    cudaError_t error = check(stream);
    if (error != cudaSuccess || bytes == 0)
        return error;
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice ||
                     (kind == cudaMemcpyDefault && in_device_memory(destination));
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice ||
                       (kind == cudaMemcpyDefault && in_device_memory(source));
    error = check(destination, bytes, to_device, "destination of a copy");
    if (error == cudaSuccess)
        error = check(source, bytes, from_device, "source of a copy");
    if (error == cudaSuccess) {
        Access access;
        memmove(destination, source, bytes);
    }
    return error;
}

cudaError_t cudaMemsetAsync(void* destination, int value, size_t bytes, cudaStream_t stream) {
    Lock lock;
    cudaError_t error = check(stream);
    if (error == cudaSuccess && bytes > 0) {
        error = check(destination, bytes, true, "destination of a set");
        if (error == cudaSuccess) {
            Access access;
            memset(destination, value, bytes);
        }
    }
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

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    Lock lock;
    return check(stream);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t, unsigned) {
    return cudaStreamSynchronize(stream);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* user) {
    cudaError_t error = cudaStreamSynchronize(stream);
    if (error == cudaSuccess)
        function(user);
    return error;
}

cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t callback, void* user, unsigned) {
    cudaError_t error = cudaStreamSynchronize(stream);
    callback(stream, error, user);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    *event = new Event;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    Lock lock;
    cudaError_t error = check(stream);
    if (error == cudaSuccess) {
        event->time = std::chrono::steady_clock::now();
        event->is_recorded = true;
    }
    return error;
}

cudaError_t cudaEventQuery(cudaEvent_t) {
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t) {
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
    Lock lock;
    if (!start->is_recorded || !end->is_recorded)
        return report(cudaErrorInvalidResourceHandle, "an event that was not recorded");
    *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
    return cudaSuccess;
}
