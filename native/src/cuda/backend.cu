// The table of core/backend.h over the CUDA runtime. Compiled for the host it is the emulated backend, whose device does
// everything before a call returns.
#include "cuda/primitives/cuda.h"

#include "build_id.h"
#include "cuda/context.h"
#include "cuda/operations.h"

#include <cstdio>
#include <cstring>
#include <new>

namespace ssm {
namespace {

#if defined(SSM_EMULATED)
constexpr int32_t device_type = SSM_DEVICE_EMULATED;
#else
constexpr int32_t device_type = SSM_DEVICE_CUDA;
#endif

BackendHost backend_host{};

} // namespace

int32_t fail(int32_t status, const char* sentence) {
    backend_host.set_error(sentence);
    return status;
}

int32_t status_of(cudaError_t error, const char* what) {
    if (error == cudaSuccess) {
        return SSM_SUCCESS;
    }
    cudaGetLastError(); // an error that is not sticky is answered once
    char sentence[512];
    std::snprintf(sentence, sizeof(sentence), "%s: %s (%s)", what, cudaGetErrorString(error), cudaGetErrorName(error));
    switch (static_cast<int>(error)) {
    case 2: // cudaErrorMemoryAllocation
        return fail(SSM_ERROR_OUT_OF_MEMORY, sentence);
    case 35: // cudaErrorInsufficientDriver: no driver, or one older than this runtime
        return fail(SSM_ERROR_DRIVER_MISSING, sentence);
    case 100: // cudaErrorNoDevice
    case 101: // cudaErrorInvalidDevice
        return fail(SSM_ERROR_NO_DEVICE, sentence);
    case 209: // cudaErrorNoKernelImageForDevice
    case 222: // cudaErrorUnsupportedPtxVersion
        return fail(SSM_ERROR_NO_KERNEL_IMAGE, sentence);
    case 214: // cudaErrorECCUncorrectable
    case 220: // cudaErrorNvlinkUncorrectable
    case 700: // cudaErrorIllegalAddress
    case 702: // cudaErrorLaunchTimeout
    case 710: // cudaErrorAssert
    case 714: // cudaErrorHardwareStackError
    case 715: // cudaErrorIllegalInstruction
    case 716: // cudaErrorMisalignedAddress
    case 717: // cudaErrorInvalidAddressSpace
    case 718: // cudaErrorInvalidPc
    case 719: // cudaErrorLaunchFailure
    case 999: // cudaErrorUnknown
        return fail(SSM_ERROR_DEVICE_FAULT, sentence);
    default:
        return fail(SSM_ERROR_INTERNAL, sentence);
    }
}

namespace {

// Makes a device current and the former one again at the end.
class CurrentDevice {
  public:
    explicit CurrentDevice(int device) {
        error = cudaGetDevice(&former);
        if (error == cudaSuccess && former != device) {
            error = cudaSetDevice(device);
            changed = error == cudaSuccess;
        }
    }
    ~CurrentDevice() {
        if (changed) {
            cudaSetDevice(former);
        }
    }
    CurrentDevice(const CurrentDevice&) = delete;
    CurrentDevice& operator=(const CurrentDevice&) = delete;

    cudaError_t error;

  private:
    int former = 0;
    bool changed = false;
};

// Runs f, which answers a cudaError_t, with the device current.
template <typename Function>
int32_t on_device(int device, const char* what, const Function& f) {
    const CurrentDevice current(device);
    return status_of(current.error != cudaSuccess ? current.error : f(), what);
}

// ---- Devices -------------------------------------------------------------------------------------------------------------

int32_t device_count(int32_t* count) {
    *count = 0;
    int devices = 0;
    cudaError_t error = cudaGetDeviceCount(&devices);
    if (error == cudaSuccess && devices == 0) {
        error = cudaErrorNoDevice;
    }
    if (error != cudaSuccess) {
        return status_of(error, "CUDA devices");
    }
    const int32_t status = on_device(0, "CUDA kernels on device 0", [] { return kernels_present(); });
    if (status == SSM_SUCCESS) {
        *count = devices;
    }
    return status;
}

int32_t device_properties(int32_t device_id, ssm_device_properties* properties) {
    cudaDeviceProp found;
    cudaError_t error = cudaGetDeviceProperties(&found, device_id);
    int l2_bytes = 0;
    int driver = 0;
    int runtime = 0;
    int shared_bytes = 0;
    if (error == cudaSuccess) {
        error = cudaDriverGetVersion(&driver);
    }
    if (error == cudaSuccess) {
        error = cudaRuntimeGetVersion(&runtime);
    }
    if (error == cudaSuccess) {
        error = cudaDeviceGetAttribute(&l2_bytes, cudaDevAttrL2CacheSize, device_id);
    }
    if (error == cudaSuccess) {
        error = cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device_id);
    }
    if (error != cudaSuccess) {
        return status_of(error, "properties of the device");
    }
    const uint32_t size = properties->struct_size;
    *properties = {};
    properties->struct_size = size;
    properties->device_type = device_type;
    properties->device_id = device_id;
    properties->multiprocessors = found.multiProcessorCount;
    properties->compute_major = found.major;
    properties->compute_minor = found.minor;
    properties->driver_version = driver;
    properties->runtime_version = runtime;
    properties->total_memory = static_cast<int64_t>(found.totalGlobalMem);
    properties->shared_memory_per_block = shared_bytes;
    properties->last_level_cache = l2_bytes;
    std::snprintf(properties->name, sizeof(properties->name), "%s", found.name);
    return SSM_SUCCESS;
}

// ---- Contexts ------------------------------------------------------------------------------------------------------------

int32_t context_destroy(BackendContext* context);

int32_t context_create(int32_t device_id, BackendContext** created) {
    int devices = 0;
    cudaError_t error = cudaGetDeviceCount(&devices);
    if (error != cudaSuccess) {
        return status_of(error, "CUDA devices");
    }
    if (device_id < 0 || device_id >= devices) {
        return fail(SSM_ERROR_NO_DEVICE, "device_id: there is no such device");
    }
    BackendContext* context = new (std::nothrow) BackendContext;
    if (!context) {
        return fail(SSM_ERROR_OUT_OF_MEMORY, "context: out of host memory");
    }
    context->device = device_id;
    const int32_t status = on_device(device_id, "context", [&] {
        error = kernels_present();
        int pools = 0;
        if (error == cudaSuccess) {
            error = cudaDeviceGetAttribute(&context->multiprocessors, cudaDevAttrMultiProcessorCount, device_id);
        }
        if (error == cudaSuccess) {
            error = cudaDeviceGetAttribute(&pools, cudaDevAttrMemoryPoolsSupported, device_id);
        }
        context->memory_pools = pools != 0;
        if (error == cudaSuccess) {
            error = cudaStreamCreateWithFlags(&context->own_stream, cudaStreamNonBlocking);
        }
        if (error == cudaSuccess) {
            error = cudaEventCreateWithFlags(&context->order, cudaEventDisableTiming);
        }
        return error;
    });
    context->stream = context->own_stream;
    if (status != SSM_SUCCESS) {
        const CurrentDevice current(device_id);
        if (context->own_stream) {
            cudaStreamDestroy(context->own_stream);
        }
        delete context;
        return status;
    }
    *created = context;
    return SSM_SUCCESS;
}

int32_t context_destroy(BackendContext* context) {
    int32_t status;
    {
        const CurrentDevice current(context->device);
        status = status_of(cudaStreamSynchronize(context->stream), "context");
        if (context->stream != context->own_stream) {
            cudaStreamSynchronize(context->own_stream);
        }
        cudaEventDestroy(context->order);
        cudaStreamDestroy(context->own_stream);
    }
    delete context;
    return status;
}

int32_t set_stream(BackendContext* context, void* stream) {
    const std::lock_guard<std::mutex> lock(context->mutex);
    const cudaStream_t next = stream ? static_cast<cudaStream_t>(stream) : context->own_stream;
    if (next == context->stream) {
        return SSM_SUCCESS;
    }
    const int32_t status = on_device(context->device, "set_stream", [&] {
        const cudaError_t error = cudaEventRecord(context->order, context->stream);
        return error != cudaSuccess ? error : cudaStreamWaitEvent(next, context->order, 0);
    });
    if (status == SSM_SUCCESS) {
        context->stream = next;
    }
    return status;
}

int32_t get_stream(BackendContext* context, void** stream) {
    *stream = context->stream;
    return SSM_SUCCESS;
}

int32_t set_threads(BackendContext*, int32_t) {
    return SSM_SUCCESS; // host threads, of which a GPU uses none
}

int32_t set_option(BackendContext* context, const char* name, int64_t value) {
    static constexpr struct {
        const char* name;
        int64_t most;
    } options[] = {
        {"associative_scan.tile", INT32_MAX},
        {"associative_scan.path", 2},
        {"linear_recurrence.tile", INT32_MAX},
        {"linear_recurrence.path", 2},
        {"linear_recurrence_backward.tile", INT32_MAX},
        {"linear_recurrence_backward.path", 2},
        {"selective_scan.tile", INT32_MAX},
        {"selective_scan.path", INT32_MAX},
        {"selective_scan_backward.tile", INT32_MAX},
        {"selective_scan_backward.path", INT32_MAX},
        {"selective_state_update.tile", INT32_MAX},
        {"causal_conv.tile", INT32_MAX},
        {"causal_conv.path", 4},
        {"causal_conv_backward.tile", INT32_MAX},
        {"causal_conv_backward.path", 4},
        {"causal_conv1d.tile", INT32_MAX},
        {"causal_conv1d.path", 1},
        {"causal_conv1d_backward.tile", INT32_MAX},
        {"causal_conv1d_backward.path", 1},
        {"ssd.tile", INT32_MAX},
        {"ssd.path", INT32_MAX},
        {"ssd_backward.tile", INT32_MAX},
        {"causal_conv1d_update.path", 1},
        {"rms_norm_backward.tile", INT32_MAX},
        {"mamba3.tile", INT32_MAX},
        {"mamba3_backward.tile", INT32_MAX},
        {"diagonal_ssm.tile", INT32_MAX},
        {"diagonal_ssm_backward.tile", INT32_MAX},
    };
    for (const auto& option : options) {
        if (std::strcmp(option.name, name) == 0) {
            if (value < 0 || value > option.most) {
                return fail(SSM_ERROR_INVALID_ARGUMENT, "value: out of the range of this option");
            }
            context->options.set(option.name, value);
            return SSM_SUCCESS;
        }
    }
#if defined(SSM_EMULATED)
    if (emulation::set_option(name, value)) {
        return SSM_SUCCESS;
    }
#endif
    return fail(SSM_ERROR_INVALID_ARGUMENT, "name: not an option of the CUDA backend, or a value it does not have");
}

int32_t synchronize(BackendContext* context) {
    return on_device(context->device, "synchronize", [&] { return cudaStreamSynchronize(context->stream); });
}

struct Notification {
    void (*callback)(void*, int32_t);
    void* user;
};

int32_t notify(BackendContext* context, void (*callback)(void*, int32_t), void* user) {
    Notification* notification = new (std::nothrow) Notification{callback, user};
    if (!notification) {
        return fail(SSM_ERROR_OUT_OF_MEMORY, "notify: out of host memory");
    }
    // cudaLaunchHostFunc would not call after a fault.
    const int32_t status = on_device(context->device, "notify", [&] {
        return cudaStreamAddCallback(
            context->stream,
            [](cudaStream_t, cudaError_t error, void* data) {
                const Notification call = *static_cast<Notification*>(data);
                delete static_cast<Notification*>(data);
                call.callback(call.user, error == cudaSuccess ? SSM_SUCCESS : SSM_ERROR_DEVICE_FAULT);
            },
            notification, 0);
    });
    if (status != SSM_SUCCESS) {
        delete notification;
    }
    return status;
}

int32_t stream_create(BackendContext* context, void** stream) {
    return on_device(context->device, "stream_create", [&] {
        return cudaStreamCreateWithFlags(reinterpret_cast<cudaStream_t*>(stream), cudaStreamNonBlocking);
    });
}

int32_t stream_destroy(BackendContext* context, void* stream) {
    return on_device(context->device, "stream_destroy",
                     [&] { return cudaStreamDestroy(static_cast<cudaStream_t>(stream)); });
}

// ---- Memory --------------------------------------------------------------------------------------------------------------

int32_t allocate(BackendContext* context, uint64_t bytes, void** pointer) {
    *pointer = nullptr;
    if (bytes == 0) {
        return SSM_SUCCESS;
    }
    return on_device(context->device, "allocate", [&] {
        return context->memory_pools ? cudaMallocAsync(pointer, static_cast<size_t>(bytes), context->stream)
                                     : cudaMalloc(pointer, static_cast<size_t>(bytes));
    });
}

cudaError_t free_on_stream(BackendContext* context, void* pointer) {
    return context->memory_pools ? cudaFreeAsync(pointer, context->stream) : cudaFree(pointer);
}

int32_t free_memory(BackendContext* context, void* pointer) {
    if (!pointer) {
        return SSM_SUCCESS;
    }
    const std::lock_guard<std::mutex> lock(context->mutex);
    if (context->capturing) {
        try {
            context->freed_in_capture.push_back(pointer);
        } catch (const std::bad_alloc&) {
            return fail(SSM_ERROR_OUT_OF_MEMORY, "free: out of host memory");
        }
        return SSM_SUCCESS;
    }
    return on_device(context->device, "free", [&] { return free_on_stream(context, pointer); });
}

int32_t host_allocate(BackendContext* context, uint64_t bytes, void** pointer) {
    *pointer = nullptr;
    if (bytes == 0) {
        return SSM_SUCCESS;
    }
    return on_device(context->device, "host_allocate", [&] { return cudaMallocHost(pointer, static_cast<size_t>(bytes)); });
}

int32_t host_free(BackendContext* context, void* pointer) {
    return pointer ? on_device(context->device, "host_free", [&] { return cudaFreeHost(pointer); }) : SSM_SUCCESS;
}

int32_t copy(BackendContext* context, void* destination, const void* source, uint64_t bytes, CopyKind kind) {
    if (bytes == 0) {
        return SSM_SUCCESS;
    }
    const cudaMemcpyKind direction = kind == CopyKind::host_to_device   ? cudaMemcpyHostToDevice
                                     : kind == CopyKind::device_to_host ? cudaMemcpyDeviceToHost
                                                                        : cudaMemcpyDeviceToDevice;
    return on_device(context->device, "copy", [&] {
        return cudaMemcpyAsync(destination, source, static_cast<size_t>(bytes), direction, context->stream);
    });
}

int32_t set(BackendContext* context, void* destination, int32_t value, uint64_t bytes) {
    if (bytes == 0) {
        return SSM_SUCCESS;
    }
    return on_device(context->device, "set",
                     [&] { return cudaMemsetAsync(destination, value, static_cast<size_t>(bytes), context->stream); });
}

// ---- Events and graphs ---------------------------------------------------------------------------------------------------

struct Event {
    int device;
    cudaEvent_t event;
};

int32_t event_create(BackendContext* context, void** created) {
    Event* event = new (std::nothrow) Event{context->device, nullptr};
    if (!event) {
        return fail(SSM_ERROR_OUT_OF_MEMORY, "event_create: out of host memory");
    }
    const int32_t status = on_device(context->device, "event_create",
                                     [&] { return cudaEventCreateWithFlags(&event->event, cudaEventDefault); });
    if (status != SSM_SUCCESS) {
        delete event;
        return status;
    }
    *created = event;
    return SSM_SUCCESS;
}

int32_t event_destroy(void* handle) {
    Event* event = static_cast<Event*>(handle);
    const int32_t status = on_device(event->device, "event_destroy", [&] { return cudaEventDestroy(event->event); });
    delete event;
    return status;
}

int32_t event_record(BackendContext* context, void* handle) {
    return on_device(context->device, "event_record",
                     [&] { return cudaEventRecord(static_cast<Event*>(handle)->event, context->stream); });
}

int32_t event_wait(BackendContext* context, void* handle) {
    return on_device(context->device, "event_wait",
                     [&] { return cudaStreamWaitEvent(context->stream, static_cast<Event*>(handle)->event, 0); });
}

int32_t event_query(void* handle, int32_t* completed) {
    const Event* event = static_cast<Event*>(handle);
    return on_device(event->device, "event_query", [&] {
        const cudaError_t error = cudaEventQuery(event->event);
        *completed = error == cudaSuccess;
        return error == cudaErrorNotReady ? cudaSuccess : error;
    });
}

int32_t event_synchronize(void* handle) {
    const Event* event = static_cast<Event*>(handle);
    return on_device(event->device, "event_synchronize", [&] { return cudaEventSynchronize(event->event); });
}

int32_t event_elapsed(void* start, void* end, double* seconds) {
    float milliseconds = 0;
    const int32_t status = on_device(static_cast<Event*>(start)->device, "event_elapsed", [&] {
        return cudaEventElapsedTime(&milliseconds, static_cast<Event*>(start)->event, static_cast<Event*>(end)->event);
    });
    *seconds = static_cast<double>(milliseconds) * 1e-3;
    return status;
}

#if !defined(SSM_EMULATED)

struct Graph {
    int device;
    cudaGraph_t graph;
    cudaGraphExec_t executable;
};

int32_t capture_begin(BackendContext* context) {
    const std::lock_guard<std::mutex> lock(context->mutex);
    const int32_t status = on_device(context->device, "capture_begin", [&] {
        return cudaStreamBeginCapture(context->stream, cudaStreamCaptureModeThreadLocal);
    });
    context->capturing = status == SSM_SUCCESS;
    return status;
}

int32_t graph_destroy(void* handle) {
    Graph* graph = static_cast<Graph*>(handle);
    const int32_t status = on_device(graph->device, "graph_destroy", [&] {
        cudaError_t error = graph->executable ? cudaGraphExecDestroy(graph->executable) : cudaSuccess;
        if (graph->graph) {
            const cudaError_t second = cudaGraphDestroy(graph->graph);
            error = error != cudaSuccess ? error : second;
        }
        return error;
    });
    delete graph;
    return status;
}

int32_t capture_end(BackendContext* context, void** created) {
    *created = nullptr;
    const std::lock_guard<std::mutex> lock(context->mutex);
    cudaGraph_t captured = nullptr;
    int32_t status = on_device(context->device, "capture_end", [&] {
        const cudaError_t error = cudaStreamEndCapture(context->stream, &captured);
        context->capturing = false;
        for (void* pointer : context->freed_in_capture) {
            free_on_stream(context, pointer);
        }
        context->freed_in_capture.clear();
        return error;
    });
    if (status != SSM_SUCCESS) {
        return status;
    }
    Graph* graph = new (std::nothrow) Graph{context->device, captured, nullptr};
    if (!graph) {
        const CurrentDevice current(context->device);
        cudaGraphDestroy(captured);
        return fail(SSM_ERROR_OUT_OF_MEMORY, "capture_end: out of host memory");
    }
    status = on_device(context->device, "capture_end", [&] {
#if CUDART_VERSION >= 12000
        return cudaGraphInstantiate(&graph->executable, graph->graph, 0);
#else
        return cudaGraphInstantiate(&graph->executable, graph->graph, nullptr, nullptr, 0);
#endif
    });
    if (status != SSM_SUCCESS) {
        graph_destroy(graph);
        return status;
    }
    *created = graph;
    return SSM_SUCCESS;
}

int32_t graph_launch(BackendContext* context, void* graph) {
    return on_device(context->device, "graph_launch",
                     [&] { return cudaGraphLaunch(static_cast<Graph*>(graph)->executable, context->stream); });
}

#endif

// ---- Operations ----------------------------------------------------------------------------------------------------------

// An operation with the context's device current.
template <typename Params, int32_t (*operation)(BackendContext*, const Params*)>
int32_t run(BackendContext* context, const Params* params) {
    const CurrentDevice current(context->device);
    return current.error != cudaSuccess ? status_of(current.error, "device") : operation(context, params);
}

const Backend* table() {
    static const Backend backend = [] {
        Backend b{};
        b.struct_size = sizeof(Backend);
        b.abi = backend_abi;
        b.build_id = SSM_BUILD_ID;
        b.device_type = device_type;
        b.device_count = device_count;
        b.device_properties = device_properties;
        b.context_create = context_create;
        b.context_destroy = context_destroy;
        b.set_stream = set_stream;
        b.get_stream = get_stream;
        b.set_threads = set_threads;
        b.set_option = set_option;
        b.synchronize = synchronize;
        b.notify = notify;
        b.stream_create = stream_create;
        b.stream_destroy = stream_destroy;
        b.allocate = allocate;
        b.free = free_memory;
        b.host_allocate = host_allocate;
        b.host_free = host_free;
        b.copy = copy;
        b.set = set;
        b.event_create = event_create;
        b.event_destroy = event_destroy;
        b.event_record = event_record;
        b.event_wait = event_wait;
        b.event_query = event_query;
        b.event_synchronize = event_synchronize;
        b.event_elapsed = event_elapsed;
#if !defined(SSM_EMULATED)
        b.capture_begin = capture_begin;
        b.capture_end = capture_end;
        b.graph_launch = graph_launch;
        b.graph_destroy = graph_destroy;
#endif
        b.strided_copy = run<StridedCopyParams, strided_copy>;
#define SSM_OPERATION(operation, Params)                                                                                    \
    b.operation = run<Params, operation>;                                                                                   \
    b.operation##_workspace = operation##_workspace;
#include "core/operations.inc"
#undef SSM_OPERATION
        return b;
    }();
    return &backend;
}

} // namespace
} // namespace ssm

extern "C" SSM_API const ssm::Backend* ssm_backend_table(const ssm::BackendHost* host) {
    if (!host || host->struct_size < sizeof(ssm::BackendHost)) {
        return nullptr;
    }
    ssm::backend_host = *host;
    return ssm::table();
}
