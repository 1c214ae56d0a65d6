// The border between core and a backend: a C table of functions. The CPU backend is linked in; the CUDA and the
// emulated backend are shared libraries that export one function, ssm_backend_table. Functions answer an ssm_status
// and on failure leave a sentence through host->set_error. They never throw.
#pragma once

#include "core/params/associative_scan.h"
#include "core/params/cauchy_multiply.h"
#include "core/params/cauchy_multiply_backward.h"
#include "core/params/causal_conv.h"
#include "core/params/causal_conv1d.h"
#include "core/params/causal_conv1d_backward.h"
#include "core/params/causal_conv1d_update.h"
#include "core/params/dense_kernel.h"
#include "core/params/dense_ssm.h"
#include "core/params/diagonal_scan.h"
#include "core/params/diagonal_ssm.h"
#include "core/params/diagonal_ssm_backward.h"
#include "core/params/discretize_diagonal.h"
#include "core/params/dplr_kernel.h"
#include "core/params/dplr_kernel_backward.h"
#include "core/params/dplr_ssm.h"
#include "core/params/hippo_project.h"
#include "core/params/linear_recurrence.h"
#include "core/params/linear_recurrence_backward.h"
#include "core/params/mamba3.h"
#include "core/params/mamba3_backward.h"
#include "core/params/mamba3_update.h"
#include "core/params/rms_norm.h"
#include "core/params/selective_scan.h"
#include "core/params/selective_scan_backward.h"
#include "core/params/selective_state_update.h"
#include "core/params/ssd.h"
#include "core/params/ssd_backward.h"
#include "core/params/vandermonde_multiply.h"
#include "core/params/vandermonde_multiply_backward.h"
#include "ssmcuda/ssmcuda.h"

namespace ssm {

struct BackendContext; // a backend's own: device, stream, plan caches, options

// What core offers to a backend.
struct BackendHost {
    uint32_t struct_size;
    void (*set_error)(const char* sentence);
};

enum class CopyKind : int32_t { host_to_device, device_to_host, device_to_device };

struct Backend {
    uint32_t struct_size;
    uint32_t abi;         // backend_abi; core refuses another number
    const char* build_id; // SSM_BUILD_ID; core refuses another text
    int32_t device_type;  // ssm_device_type

    // Devices. device_count leaves a sentence in set_error when it answers an error (driver missing, no kernel image).
    int32_t (*device_count)(int32_t* count);
    int32_t (*device_properties)(int32_t device_id, ssm_device_properties* properties);

    // Contexts. Every function restores the current device of the calling thread.
    int32_t (*context_create)(int32_t device_id, BackendContext** context);
    int32_t (*context_destroy)(BackendContext* context);
    int32_t (*set_stream)(BackendContext* context, void* stream); // null: the context's own; orders new after old
    int32_t (*get_stream)(BackendContext* context, void** stream);
    int32_t (*set_threads)(BackendContext* context, int32_t threads);
    int32_t (*set_option)(BackendContext* context, const char* name, int64_t value); // SSM_ERROR_INVALID_ARGUMENT: unknown
    int32_t (*synchronize)(BackendContext* context);
    int32_t (*notify)(BackendContext* context, void (*callback)(void*, int32_t), void* user);
    int32_t (*stream_create)(BackendContext* context, void** stream);
    int32_t (*stream_destroy)(BackendContext* context, void* stream);

    // Memory. free and host_free may be called from any thread.
    int32_t (*allocate)(BackendContext* context, uint64_t bytes, void** pointer);
    int32_t (*free)(BackendContext* context, void* pointer);
    int32_t (*host_allocate)(BackendContext* context, uint64_t bytes, void** pointer);
    int32_t (*host_free)(BackendContext* context, void* pointer);
    int32_t (*copy)(BackendContext* context, void* destination, const void* source, uint64_t bytes, CopyKind kind);
    int32_t (*set)(BackendContext* context, void* destination, int32_t value, uint64_t bytes);

    // Events and graphs.
    int32_t (*event_create)(BackendContext* context, void** event);
    int32_t (*event_destroy)(void* event);
    int32_t (*event_record)(BackendContext* context, void* event);
    int32_t (*event_wait)(BackendContext* context, void* event);
    int32_t (*event_query)(void* event, int32_t* completed);
    int32_t (*event_synchronize)(void* event);
    int32_t (*event_elapsed)(void* start, void* end, double* seconds);
    // Null where the device is synchronous (CPU, emulated): core records and replays the calls itself.
    int32_t (*capture_begin)(BackendContext* context);
    int32_t (*capture_end)(BackendContext* context, void** graph);
    int32_t (*graph_launch)(BackendContext* context, void* graph);
    int32_t (*graph_destroy)(void* graph);

    int32_t (*strided_copy)(BackendContext* context, const StridedCopyParams* params);
#define SSM_OPERATION(name, Params)                                                                                         \
    int32_t (*name)(BackendContext * context, const Params* params);                                                        \
    int32_t (*name##_workspace)(BackendContext * context, const Params* params, uint64_t* bytes);
#include "core/operations.inc"
#undef SSM_OPERATION
};

constexpr uint32_t backend_abi = 1;

// The CPU backend, native/src/cpu/backend.cpp.
const Backend* cpu_backend(const BackendHost* host);

} // namespace ssm

// What a backend library exports.
extern "C" SSM_API const ssm::Backend* ssm_backend_table(const ssm::BackendHost* host);
