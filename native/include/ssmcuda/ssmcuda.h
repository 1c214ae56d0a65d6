/* ssmcuda.h: state-space-model kernels behind one C ABI.
 *
 * Conventions, for every function and operation:
 *   - Every call returns an ssm_status as int32_t; nothing aborts, throws or prints. ssm_last_error() gives the
 *     sentence for the last failure on this thread: the argument, what was expected and what came.
 *   - Tensors are DLPack views. lanes is 1, byte_offset is honoured, NULL strides mean compact. Strides are
 *     non-negative; 0 broadcasts an input. Data contiguous in time or in channels is used in place, anything else
 *     is packed into the workspace first.
 *   - An argument struct starts with struct_size = sizeof(the struct). Zero is the default of every other field:
 *     an absent tensor is NULL. A smaller size than this library knows means a zero tail; a larger one is accepted
 *     if the part that is not known is zero.
 *   - The comment of a field starts with: in, out or inout; required or optional; the shape; then the text.
 *     "inplace x" says that this output may be the very tensor given as x (same pointer, same strides);
 *     any other overlap of an output with another tensor is an error.
 *   - Names of dimensions: A angles, B batch, C channels, D inner channels, G groups, H heads, J groups of angles, K rows of
 *     a cache of states, L length (time), N state size, P channels of a head, S packed sequences, R rows of a state: S with
 *     cu_seqlens, otherwise B, T steps at once.
 *   - Storage types are float32, float64, complex64, complex128, float16 and bfloat16; float16 and bfloat16 are
 *     computed in float32. "state type" is float32 for those two and the storage type for the others;
 *     states carried from call to call have that type, so that splitting a sequence loses nothing.
 *   - Packed batches: cu_seqlens is int64 (S+1), first 0, last L, non-decreasing, on the operation's device; B = 1
 *     and time is the concatenation. The values are checked on the CPU; a GPU cannot look at them without waiting,
 *     so there, unless the context checks (ssm_context_set_checking), values out of range are clamped into the sequence
 *     and the result is unspecified, never unsafe.
 *   - Sequence ids: seq_idx is int32 (B,L), any values. seq_idx[b,t] >= 0 names the sequence that a step belongs to; where
 *     it differs from the id of the step before, padding passed over, the sequence starts anew: its state is zero, and
 *     nothing reaches it from before. An id may come back and is a new sequence then. The first id of a row keeps the
 *     initial state. A negative id is padding: the step is as though absent. It changes no state, what it holds (NaN even)
 *     has no effect, outputs and gradients there are 0, and a last state is that after the last step that is none. Not
 *     beside cu_seqlens. (seq_idx of ssd knows no padding: there every change of the id is a restart.)
 *   - Zero-sized tensors are success with nothing written, except that a last state becomes the initial state
 *     (zero if absent, of a scan the operator's identity) where only the length is zero.
 *   - An operation is asynchronous on the context's stream (the CPU finishes before it returns), allocates nothing
 *     once the workspace has grown to its size and can be captured into a graph.
 *   - Results are bit-identical for the same build, instruction set, device model, shapes and strides.
 */
#ifndef SSMCUDA_SSMCUDA_H_
#define SSMCUDA_SSMCUDA_H_

#include <stdint.h>

#include "dlpack.h"

#if defined(SSM_STATIC)
#define SSM_API
#elif defined(_WIN32)
#if defined(SSM_BUILD)
#define SSM_API __declspec(dllexport)
#else
#define SSM_API __declspec(dllimport)
#endif
#else
#define SSM_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Raised when an existing struct, function or meaning changes; adding to the tail of a struct does not raise it. */
#define SSM_ABI_VERSION 1

/** What a call answers. */
typedef enum ssm_status {
    SSM_SUCCESS = 0,
    /** An argument is wrong: dtype, shape, strides, device, overlap, a NULL that must not be, an unknown enum value. */
    SSM_ERROR_INVALID_ARGUMENT = 1,
    /** The argument is well formed, but this operation or device does not support it. */
    SSM_ERROR_UNSUPPORTED = 2,
    /** The device or the host has not enough memory; the context stays usable. */
    SSM_ERROR_OUT_OF_MEMORY = 3,
    /** The workspace given, or kept while capturing, is smaller than the bytes the sentence names. */
    SSM_ERROR_WORKSPACE_TOO_SMALL = 4,
    /** The driver of the device is not installed. */
    SSM_ERROR_DRIVER_MISSING = 5,
    /** There is no such device. */
    SSM_ERROR_NO_DEVICE = 6,
    /** The backend's library file was not found, or is not one of this build. */
    SSM_ERROR_LIBRARY_NOT_FOUND = 7,
    /** The backend has no kernels that this device can run. */
    SSM_ERROR_NO_KERNEL_IMAGE = 8,
    /** The device reported a fault in work that was queued before; every later call on the context answers this. */
    SSM_ERROR_DEVICE_FAULT = 9,
    /** The call is not legal now, for example ending a capture that was not begun. */
    SSM_ERROR_INVALID_STATE = 10,
    /** A defect of this library. */
    SSM_ERROR_INTERNAL = 11
} ssm_status;

/** Devices, by their DLPack numbers. */
typedef enum ssm_device_type {
    /** The best device present: CUDA, else the CPU; never the emulated one. */
    SSM_DEVICE_DEFAULT = 0,
    SSM_DEVICE_CPU = 1,
    SSM_DEVICE_CUDA = 2,
    /** The CUDA kernels compiled for the host, for tests. */
    SSM_DEVICE_EMULATED = 12
} ssm_device_type;

/** The operator of an associative scan. */
typedef enum ssm_combine {
    SSM_COMBINE_ADD = 0,
    SSM_COMBINE_MULTIPLY = 1,
    /** Real types only. A NaN stays from where it appears to the end of the scan. */
    SSM_COMBINE_MAXIMUM = 2,
    /** Real types only. A NaN stays from where it appears to the end of the scan. */
    SSM_COMBINE_MINIMUM = 3
} ssm_combine;

/** What a convolution's sum goes through before it is written. */
typedef enum ssm_activation {
    SSM_ACTIVATION_NONE = 0,
    /** z / (1 + exp(-z)). */
    SSM_ACTIVATION_SILU = 1
} ssm_activation;

/** How a continuous system x' = A x + B u becomes one of steps: x_t = a_bar x_{t-1} + b_bar u_t. */
typedef enum ssm_discretization {
    /** Zero-order hold: a_bar = exp(dt A), b_bar = A^-1 (a_bar - I) B, its limit where A is singular. */
    SSM_DISCRETIZATION_ZOH = 0,
    /** (I - dt/2 A) a_bar = I + dt/2 A, (I - dt/2 A) b_bar = dt B. */
    SSM_DISCRETIZATION_BILINEAR = 1,
    /** a_bar = I + dt A, b_bar = dt B. */
    SSM_DISCRETIZATION_EULER = 2,
    /** (I - dt A) a_bar = I, (I - dt A) b_bar = dt B. */
    SSM_DISCRETIZATION_BACKWARD_EULER = 3,
    /** (I - alpha dt A) a_bar = I + (1 - alpha) dt A, (I - alpha dt A) b_bar = dt B, with alpha from 0 to 1. */
    SSM_DISCRETIZATION_GENERALIZED_BILINEAR = 4,
    /** a_bar = exp(dt A), b_bar = B: the input comes in impulses. Diagonal systems alone. */
    SSM_DISCRETIZATION_DIRAC = 5,
    /** a_bar over the time since the last input, b_bar over a fixed step. Diagonal systems alone. */
    SSM_DISCRETIZATION_ASYNC = 6
} ssm_discretization;

/** What HiPPO's coefficients are measured by. */
typedef enum ssm_hippo_measure {
    /** Scaled Legendre: all of the past, evenly. */
    SSM_HIPPO_LEGS = 0,
    /** Translated Legendre: a window of the length 1 (in its unhalved form). */
    SSM_HIPPO_LEGT = 1,
    /** Translated Laguerre: the past with a weight that decays as exp(-time). */
    SSM_HIPPO_LAGT = 2,
    /** Truncated Fourier: a window of the length 2; N is even. */
    SSM_HIPPO_FOUT = 3,
    /** legt in the scaling of the Legendre memory unit: a window of the length 1. */
    SSM_HIPPO_LMU = 4
} ssm_hippo_measure;

/** What was before the first sample that is projected. */
typedef enum ssm_hippo_start {
    /** Nothing: the coefficients were 0. */
    SSM_HIPPO_START_ZERO = 0,
    /** The first sample, forever. */
    SSM_HIPPO_START_FIRST = 1
} ssm_hippo_start;

/** Eigenvalues that a diagonal system starts its training from (Gu et al. 2022, arXiv 2206.11893), n = 0 .. N-1 with N the
 *  half that is given. */
typedef enum ssm_diagonal_init {
    /** -1/2 + i pi n. */
    SSM_DIAGONAL_INIT_LIN = 0,
    /** -1/2 + i 2N/pi (2N/(2n+1) - 1). */
    SSM_DIAGONAL_INIT_INV = 1,
    /** Those of the normal part of legs, ascending. */
    SSM_DIAGONAL_INIT_LEGS = 2,
    /** -(n+1). */
    SSM_DIAGONAL_INIT_REAL = 3,
    /** -1/2 + i (2n+1)^2 / pi. */
    SSM_DIAGONAL_INIT_QUAD = 4
} ssm_diagonal_init;

/** One device, one stream, one workspace. One thread at a time; contexts are independent of each other. */
typedef struct ssm_context ssm_context;
/** A point in a context's stream. */
typedef struct ssm_event ssm_event;
/** Captured work that can be launched again. */
typedef struct ssm_graph ssm_graph;

/** What a device is. */
typedef struct ssm_device_properties {
    /** sizeof(ssm_device_properties). */
    uint32_t struct_size;
    /** enum ssm_device_type. */
    int32_t device_type;
    int32_t device_id;
    /** CUDA multiprocessors, or the CPU's hardware threads. */
    int32_t multiprocessors;
    /** Compute capability; 0 on a CPU. */
    int32_t compute_major;
    int32_t compute_minor;
    /** As the CUDA runtime counts, 1000 * major + 10 * minor; 0 on a CPU. */
    int32_t driver_version;
    int32_t runtime_version;
    /** Bytes. */
    int64_t total_memory;
    /** Bytes of shared memory that one block may ask for; 0 on a CPU. */
    int64_t shared_memory_per_block;
    /** Bytes of the last-level cache; 0 if unknown. */
    int64_t last_level_cache;
    /** UTF-8, zero-terminated. */
    char name[256];
    /** The instruction sets the CPU kernels were compiled for and this CPU has, the one in use first; empty elsewhere. */
    char instruction_sets[256];
} ssm_device_properties;

/* ---- Library ---------------------------------------------------------------------------------------------------- */

/** SSM_ABI_VERSION of the library that answers. */
SSM_API uint32_t ssm_abi_version(void);
/** The version as text, "1.2.3". Static storage. */
SSM_API const char* ssm_version(void);
/** The name of a status, "SSM_ERROR_UNSUPPORTED"; "unknown status" for other numbers. Static storage. */
SSM_API const char* ssm_status_name(int32_t status);
/** The sentence of the last failure on this thread, UTF-8, never NULL; valid until the next failing call on it. */
SSM_API const char* ssm_last_error(void);
/** The size of a struct ("ssm_device_properties") or the offset of a field ("ssm_device_properties.name") in bytes. */
SSM_API int32_t ssm_layout(const char* name, int64_t* value);

/** Loads a backend from a file, absolute path. The CUDA backend beside the library is found without this. */
SSM_API int32_t ssm_backend_load(const char* path);
/** What was tried so far to find backends and devices and how it ended, a line each. Valid until the next call on this
 * thread. */
SSM_API const char* ssm_backend_log(void);
/** How many devices of a type there are; 0 with success if the backend is absent (ssm_backend_log says why). */
SSM_API int32_t ssm_device_count(int32_t device_type, int32_t* count);
SSM_API int32_t ssm_device_get_properties(int32_t device_type, int32_t device_id, ssm_device_properties* properties);

/* ---- Contexts --------------------------------------------------------------------------------------------------- */

/** Makes a context with a stream of its own. Asking for CUDA where it is absent is an error that says why. */
SSM_API int32_t ssm_context_create(int32_t device_type, int32_t device_id, ssm_context** context);
/** Waits for the context's work and frees what it holds. Everything made from it must be gone. NULL is success. */
SSM_API int32_t ssm_context_destroy(ssm_context* context);
SSM_API int32_t ssm_context_get_device(ssm_context* context, int32_t* device_type, int32_t* device_id);
/** Uses a foreign stream (a CUstream or cudaStream_t as a pointer) from now on, ordered after what was queued before.
 *  NULL goes back to the context's own stream; the legacy default stream is (void*)1, the per-thread one (void*)2. */
SSM_API int32_t ssm_context_set_stream(ssm_context* context, void* stream);
SSM_API int32_t ssm_context_get_stream(ssm_context* context, void** stream);
/** Uses the caller's memory on the context's device as workspace, 256-byte aligned; NULL and 0: the context's own, which
 * grows. */
SSM_API int32_t ssm_context_set_workspace(ssm_context* context, void* pointer, uint64_t bytes);
/** At most this many threads for one CPU operation; 0: as many as the process may use. Results do not depend on it. */
SSM_API int32_t ssm_context_set_threads(ssm_context* context, int32_t threads);
/** 1: values that are wrong in tensors on a device are errors too, as they always are on the CPU: cu_seqlens and slots that
 *  are none, two elements of one slot, a or eigenvalues that are not finite or (dplr_kernel) 0, dt of S4's systems not above
 *  0, times that do not ascend. Each call then waits for the device, so this is for finding mistakes; while work is captured
 *  into a graph of the device's own nothing is looked at. 0, the default: no such wait. */
SSM_API int32_t ssm_context_set_checking(ssm_context* context, int32_t enabled);
/** Sets a tuning or test option by name ("linear_recurrence.tile"); docs/native.md lists them. 0 is the default. */
SSM_API int32_t ssm_context_set_option(ssm_context* context, const char* name, int64_t value);
/** Waits until everything queued has ended. A device fault is answered here at the latest. */
SSM_API int32_t ssm_context_synchronize(ssm_context* context);
/** Calls back once everything queued so far has ended, on any thread, perhaps before this returns.
 *  The callback must not call this library. status: how the work ended. */
SSM_API int32_t ssm_context_notify(ssm_context* context, void (*callback)(void* user, int32_t status), void* user);

/** A further stream on the context's device; on a CPU a token. Destroy it before the context. */
SSM_API int32_t ssm_stream_create(ssm_context* context, void** stream);
SSM_API int32_t ssm_stream_destroy(ssm_context* context, void* stream);

/* ---- Memory ----------------------------------------------------------------------------------------------------- */

/** Device memory, 256-byte aligned, ordered on the stream. 0 bytes give NULL. */
SSM_API int32_t ssm_allocate(ssm_context* context, uint64_t bytes, void** pointer);
/** Frees, ordered on the stream; legal from any thread. NULL is success. */
SSM_API int32_t ssm_free(ssm_context* context, void* pointer);
/** Page-locked host memory that copies run asynchronously with (plain aligned memory on a CPU context). */
SSM_API int32_t ssm_host_allocate(ssm_context* context, uint64_t bytes, void** pointer);
/** Legal from any thread; the caller has waited for copies that use it. */
SSM_API int32_t ssm_host_free(ssm_context* context, void* pointer);
/** Copies between tensors of one dtype and shape, any non-negative strides, host or device on either side.
 *  With pageable host memory it returns when the host side is done with; otherwise it is asynchronous. */
SSM_API int32_t ssm_copy(ssm_context* context, const DLTensor* source, const DLTensor* destination);
/** Sets every byte of a compact device tensor. */
SSM_API int32_t ssm_set(ssm_context* context, const DLTensor* destination, int32_t value);

/* ---- Events and graphs ------------------------------------------------------------------------------------------ */

SSM_API int32_t ssm_event_create(ssm_context* context, ssm_event** event);
SSM_API int32_t ssm_event_destroy(ssm_event* event);
SSM_API int32_t ssm_event_record(ssm_context* context, ssm_event* event);
/** Work queued on the context from now on waits for the event. */
SSM_API int32_t ssm_event_wait(ssm_context* context, ssm_event* event);
/** 1 if everything before the event has ended, or it was never recorded. */
SSM_API int32_t ssm_event_query(ssm_event* event, int32_t* completed);
SSM_API int32_t ssm_event_synchronize(ssm_event* event);
SSM_API int32_t ssm_event_elapsed(ssm_event* start, ssm_event* end, double* seconds);

/** From here to ssm_capture_end, operations and device copies are recorded instead of run. */
SSM_API int32_t ssm_capture_begin(ssm_context* context);
SSM_API int32_t ssm_capture_end(ssm_context* context, ssm_graph** graph);
/** Runs the captured work on the context's stream. The tensors and the workspace of the capture must still be there. */
SSM_API int32_t ssm_graph_launch(ssm_context* context, ssm_graph* graph);
SSM_API int32_t ssm_graph_destroy(ssm_graph* graph);

/* ---- Operations ------------------------------------------------------------------------------------------------- */
/* ssm_X(context, &args) runs X; ssm_X_workspace(context, &args, &bytes) answers the workspace that call needs.        */

/** y_t = x_0 o x_1 o ... o x_t along time; reverse: y_t = x_t o ... o x_{L-1}. exclusive leaves x_t itself out. */
typedef struct ssm_associative_scan_args {
    /** sizeof(ssm_associative_scan_args). */
    uint32_t struct_size;
    /** enum ssm_combine: the operator o. */
    int32_t combine;
    /** bool: scan from the end of time to its start. */
    int32_t reverse;
    /** bool: y_t combines what lies before t; add and multiply only. */
    int32_t exclusive;
    /** in required (B,C,L): any storage type; maximum and minimum take real types. */
    const DLTensor* x;
    /** in optional (R,C): state type; combined before everything else, in place of the identity. */
    const DLTensor* initial_state;
    /** in optional (S+1): int64, where packed sequences start and end. */
    const DLTensor* cu_seqlens;
    /** out required (B,C,L) inplace x: the type of x. */
    const DLTensor* y;
    /** out optional (R,C): state type; everything combined, initial_state included. */
    const DLTensor* last_state;
} ssm_associative_scan_args;
SSM_API int32_t ssm_associative_scan(ssm_context* context, const ssm_associative_scan_args* args);
SSM_API int32_t ssm_associative_scan_workspace(ssm_context* context, const ssm_associative_scan_args* args, uint64_t* bytes);

/** h_t = a_t h_{t-1} + b_t; reverse: h_t = a_t h_{t+1} + b_t from the end of time, where initial_state lies beyond the end.
 */
typedef struct ssm_linear_recurrence_args {
    /** sizeof(ssm_linear_recurrence_args). */
    uint32_t struct_size;
    /** bool: run from the end of time to its start. */
    int32_t reverse;
    /** in required (B,C,L): any storage type. */
    const DLTensor* a;
    /** in required (B,C,L): the type of a. */
    const DLTensor* b;
    /** in optional (R,C): state type; zero if absent. */
    const DLTensor* initial_state;
    /** in optional (S+1): int64, where packed sequences start and end. */
    const DLTensor* cu_seqlens;
    /** out required (B,C,L) inplace a b: the type of a. */
    const DLTensor* h;
    /** out optional (R,C): state type; the final h in the direction of the scan. */
    const DLTensor* last_state;
} ssm_linear_recurrence_args;
SSM_API int32_t ssm_linear_recurrence(ssm_context* context, const ssm_linear_recurrence_args* args);
SSM_API int32_t ssm_linear_recurrence_workspace(ssm_context* context, const ssm_linear_recurrence_args* args,
                                                uint64_t* bytes);

/** Gradients of linear_recurrence: g_t = grad_h_t + conj(a_{t+1}) g_{t+1}, with grad_last_state added at the last step;
 *  grad_b = g, grad_a_t = g_t conj(h_{t-1}), grad_initial_state = conj(a_0) g_0 (time turned round where reverse).
 *  For complex x, grad_x is dL/dRe(x) + i dL/dIm(x). */
typedef struct ssm_linear_recurrence_backward_args {
    /** sizeof(ssm_linear_recurrence_backward_args). */
    uint32_t struct_size;
    /** bool: as in the forward call. */
    int32_t reverse;
    /** in required (B,C,L): any storage type. */
    const DLTensor* a;
    /** in optional (B,C,L): the type of a; needed for grad_a where h is absent. */
    const DLTensor* b;
    /** in optional (B,C,L): the type of a; what the forward call gave. Without it h is computed again from b. */
    const DLTensor* h;
    /** in optional (R,C): state type; as in the forward call. */
    const DLTensor* initial_state;
    /** in optional (S+1): int64, as in the forward call. */
    const DLTensor* cu_seqlens;
    /** in required (B,C,L): the type of a. */
    const DLTensor* grad_h;
    /** in optional (R,C): state type; zero if absent. */
    const DLTensor* grad_last_state;
    /** out optional (B,C,L): the type of a. */
    const DLTensor* grad_a;
    /** out optional (B,C,L): the type of a. */
    const DLTensor* grad_b;
    /** out optional (R,C): state type. */
    const DLTensor* grad_initial_state;
} ssm_linear_recurrence_backward_args;
SSM_API int32_t ssm_linear_recurrence_backward(ssm_context* context, const ssm_linear_recurrence_backward_args* args);
SSM_API int32_t ssm_linear_recurrence_backward_workspace(ssm_context* context,
                                                         const ssm_linear_recurrence_backward_args* args, uint64_t* bytes);

/** Mamba-1's selective scan (Gu and Dao 2023, arXiv 2312.00752, algorithm 2):
 *  s = dt + dt_bias, through softplus where asked; h_t = exp(s a) h_{t-1} + s b_t u_t; y = (h_t . c_t + d u) silu(z).
 *  Channel i reads group i / (D/G). With complex a the states are complex and y takes 2 Re(h_t . c_t). */
typedef struct ssm_selective_scan_args {
    /** sizeof(ssm_selective_scan_args). */
    uint32_t struct_size;
    /** bool: s = log(1 + exp(dt + dt_bias)). */
    int32_t dt_softplus;
    /** in required (B,D,L): float32, float64, float16 or bfloat16. */
    const DLTensor* u;
    /** in required (B,D,L): the type of u; Mamba's delta. */
    const DLTensor* dt;
    /** in required (D,N): the state type of u, or the complex type of that precision. */
    const DLTensor* a;
    /** in required (B,G,N,L) or (D,N): per step, of the type of u (of a where a is complex), or constant, of the type of a.
     */
    const DLTensor* b;
    /** in required (B,G,N,L) or (D,N): as b. */
    const DLTensor* c;
    /** in optional (D): the state type of u; zero if absent. */
    const DLTensor* d;
    /** in optional (B,D,L): the type of u; without it y is not gated. */
    const DLTensor* z;
    /** in optional (D): the state type of u; zero if absent. */
    const DLTensor* dt_bias;
    /** in optional (R,D,N): the type of a; zero if absent. */
    const DLTensor* initial_state;
    /** in optional (S+1): int64, where packed sequences start and end. */
    const DLTensor* cu_seqlens;
    /** out required (B,D,L): the type of u. */
    const DLTensor* y;
    /** out optional (R,D,N): the type of a. */
    const DLTensor* last_state;
    /** in optional (B,L): int32, the sequence of each step; negative is padding. Not beside cu_seqlens. */
    const DLTensor* seq_idx;
} ssm_selective_scan_args;
SSM_API int32_t ssm_selective_scan(ssm_context* context, const ssm_selective_scan_args* args);
SSM_API int32_t ssm_selective_scan_workspace(ssm_context* context, const ssm_selective_scan_args* args, uint64_t* bytes);

/** Gradients of selective_scan. With g_t what the loss depends on h_t by, e_t = exp(s_t a) and gy = grad_y silu(z):
 *  g_t = gy_t conj(c_t) + conj(e_{t+1}) g_{t+1}, twice gy where a is complex, with grad_last_state added at the last step;
 *  grad_b = s u g and grad_c = gy conj(h), summed over the channels of a group, grad_a = sum s g conj(e h_{t-1}), and so on.
 *  The states are computed again, from some kept on the way. Sums run in a fixed order. Without a step they are zero.
 *  For complex x, grad_x is dL/dRe(x) + i dL/dIm(x). */
typedef struct ssm_selective_scan_backward_args {
    /** sizeof(ssm_selective_scan_backward_args). */
    uint32_t struct_size;
    /** bool: as in the forward call. */
    int32_t dt_softplus;
    /** in required (B,D,L): float32, float64, float16 or bfloat16. */
    const DLTensor* u;
    /** in required (B,D,L): the type of u. */
    const DLTensor* dt;
    /** in required (D,N): the state type of u, or the complex type of that precision. */
    const DLTensor* a;
    /** in required (B,G,N,L) or (D,N): per step, of the type of u (of a where a is complex), or constant, of the type of a.
     */
    const DLTensor* b;
    /** in required (B,G,N,L) or (D,N): as b. */
    const DLTensor* c;
    /** in optional (D): the state type of u; as in the forward call. */
    const DLTensor* d;
    /** in optional (B,D,L): the type of u; as in the forward call. */
    const DLTensor* z;
    /** in optional (D): the state type of u; as in the forward call. */
    const DLTensor* dt_bias;
    /** in optional (R,D,N): the type of a; as in the forward call. */
    const DLTensor* initial_state;
    /** in optional (S+1): int64, as in the forward call. */
    const DLTensor* cu_seqlens;
    /** in required (B,D,L): the type of u. */
    const DLTensor* grad_y;
    /** in optional (R,D,N): the type of a; zero if absent. */
    const DLTensor* grad_last_state;
    /** out optional (B,D,L): the type of u. */
    const DLTensor* grad_u;
    /** out optional (B,D,L): the type of u. */
    const DLTensor* grad_dt;
    /** out optional (D,N): the type of a. */
    const DLTensor* grad_a;
    /** out optional (B,G,N,L) or (D,N): shape and type of b. */
    const DLTensor* grad_b;
    /** out optional (B,G,N,L) or (D,N): shape and type of c. */
    const DLTensor* grad_c;
    /** out optional (D): the state type of u. */
    const DLTensor* grad_d;
    /** out optional (B,D,L): the type of u; wants z. */
    const DLTensor* grad_z;
    /** out optional (D): the state type of u. */
    const DLTensor* grad_dt_bias;
    /** out optional (R,D,N): the type of a. */
    const DLTensor* grad_initial_state;
    /** in optional (B,L): int32, as in the forward call. */
    const DLTensor* seq_idx;
} ssm_selective_scan_backward_args;
SSM_API int32_t ssm_selective_scan_backward(ssm_context* context, const ssm_selective_scan_backward_args* args);
SSM_API int32_t ssm_selective_scan_backward_workspace(ssm_context* context, const ssm_selective_scan_backward_args* args,
                                                      uint64_t* bytes);

/** One step of a selective scan, or T of them, on a state that stays where it is: what a model runs for each new token.
 *  s = dt + dt_bias, through softplus where asked; state = exp(s a) state + s b x; y = (state . c + d x) silu(z).
 *  Two forms, told apart by the rank of state. Mamba-1, as selective_scan: D channels, channel i reads group i / (D/G), time
 *  is the last axis. Mamba-2, as ssd: H heads of P channels, a, dt, d and dt_bias have one value per head, head i reads
 *  group i / (H/G), time is the second axis. (Heads with parameters per channel are Mamba-1's form with D = H P.)
 *  With slots, batch element i has its state in row slots[i] of state, which may have any number K of rows, and -1 skips it:
 *  no state is read or written and y is zero. Other values, and two elements of one slot, are errors on the CPU and where
 *  the context checks; otherwise a GPU takes those values for -1, and the one slot's state is unspecified. Without slots
 *  K = B.
 *  All arithmetic is float32 (float64 for float64). A 16-bit state is rounded once, at the end of the T steps. */
typedef struct ssm_selective_state_update_args {
    /** sizeof(ssm_selective_state_update_args). */
    uint32_t struct_size;
    /** bool: s = log(1 + exp(dt + dt_bias)). */
    int32_t dt_softplus;
    /** inout required (K,D,N) or (K,H,P,N): float32, float16 or bfloat16 whatever x is; float64 if and only if x is. */
    const DLTensor* state;
    /** in required (B,D) or (B,D,T) or (B,H,P) or (B,T,H,P): float32, float64, float16 or bfloat16. */
    const DLTensor* x;
    /** in required (B,D) or (B,D,T) or (B,H) or (B,T,H): the type of x. */
    const DLTensor* dt;
    /** in required (D,N) or (H): the state type of x. */
    const DLTensor* a;
    /** in required (B,G,N) or (B,G,N,T) or (B,T,G,N): the type of x. */
    const DLTensor* b;
    /** in required (B,G,N) or (B,G,N,T) or (B,T,G,N): the type of x. */
    const DLTensor* c;
    /** in optional (D) or (H): the state type of x; zero if absent. */
    const DLTensor* d;
    /** in optional (B,D) or (B,D,T) or (B,H,P) or (B,T,H,P): the type of x; without it y is not gated. */
    const DLTensor* z;
    /** in optional (D) or (H): the state type of x; zero if absent. */
    const DLTensor* dt_bias;
    /** in optional (B): int32, the row of state that each batch element has, or -1. */
    const DLTensor* slots;
    /** out required (B,D) or (B,D,T) or (B,H,P) or (B,T,H,P) inplace x z: the type of x. */
    const DLTensor* y;
} ssm_selective_state_update_args;
SSM_API int32_t ssm_selective_state_update(ssm_context* context, const ssm_selective_state_update_args* args);
SSM_API int32_t ssm_selective_state_update_workspace(ssm_context* context, const ssm_selective_state_update_args* args,
                                                     uint64_t* bytes);

/** A short causal convolution along time of each channel by itself, as Mamba has before its scan:
 *  y_t = act(bias + sum_j weight_j x_{t-W+1+j}), j = 0 .. W-1; before x lie the W-1 steps of initial_state. */
typedef struct ssm_causal_conv1d_args {
    /** sizeof(ssm_causal_conv1d_args). */
    uint32_t struct_size;
    /** enum ssm_activation: act. */
    int32_t activation;
    /** in required (B,D,L): float32, float64, float16 or bfloat16. */
    const DLTensor* x;
    /** in required (D,W): the state type of x; W is 1 to 256, and weight_{W-1} meets x_t. */
    const DLTensor* weight;
    /** in optional (D): the state type of x; zero if absent. */
    const DLTensor* bias;
    /** in optional (R,D,W-1): the state type of x, the steps just before x, oldest first; zero if absent. */
    const DLTensor* initial_state;
    /** in optional (S+1): int64, where packed sequences start and end. */
    const DLTensor* cu_seqlens;
    /** out required (B,D,L): the type of x. */
    const DLTensor* y;
    /** out optional (R,D,W-1): the state type of x, the last W-1 steps; of initial_state too where L is less. */
    const DLTensor* last_state;
    /** in optional (B,L): int32, the sequence of each step; negative is padding, which the taps pass over. Steps of the last
     *  state that lie before its sequence are zero. Not beside cu_seqlens. */
    const DLTensor* seq_idx;
} ssm_causal_conv1d_args;
SSM_API int32_t ssm_causal_conv1d(ssm_context* context, const ssm_causal_conv1d_args* args);
SSM_API int32_t ssm_causal_conv1d_workspace(ssm_context* context, const ssm_causal_conv1d_args* args, uint64_t* bytes);

/** Gradients of causal_conv1d. With z the sum before act, computed again, and g = grad_y act'(z):
 *  grad_x_t = sum_j weight_j g_{t+W-1-j}, grad_weight_j = sum_{b,t} g_t x_{t-W+1+j}, grad_bias = sum_{b,t} g_t, and
 *  grad_last_state is added to what became the last state. Without a step grad_weight and grad_bias are zero. */
typedef struct ssm_causal_conv1d_backward_args {
    /** sizeof(ssm_causal_conv1d_backward_args). */
    uint32_t struct_size;
    /** enum ssm_activation: as in the forward call. */
    int32_t activation;
    /** in required (B,D,L): float32, float64, float16 or bfloat16. */
    const DLTensor* x;
    /** in required (D,W): the state type of x; W is 1 to 256. */
    const DLTensor* weight;
    /** in optional (D): the state type of x; as in the forward call. */
    const DLTensor* bias;
    /** in optional (R,D,W-1): the state type of x; as in the forward call. */
    const DLTensor* initial_state;
    /** in optional (S+1): int64, as in the forward call. */
    const DLTensor* cu_seqlens;
    /** in required (B,D,L): the type of x. */
    const DLTensor* grad_y;
    /** in optional (R,D,W-1): the state type of x; zero if absent. */
    const DLTensor* grad_last_state;
    /** out optional (B,D,L): the type of x. */
    const DLTensor* grad_x;
    /** out optional (D,W): the state type of x. */
    const DLTensor* grad_weight;
    /** out optional (D): the state type of x. */
    const DLTensor* grad_bias;
    /** out optional (R,D,W-1): the state type of x. */
    const DLTensor* grad_initial_state;
    /** in optional (B,L): int32, as in the forward call. */
    const DLTensor* seq_idx;
} ssm_causal_conv1d_backward_args;
SSM_API int32_t ssm_causal_conv1d_backward(ssm_context* context, const ssm_causal_conv1d_backward_args* args);
SSM_API int32_t ssm_causal_conv1d_backward_workspace(ssm_context* context, const ssm_causal_conv1d_backward_args* args,
                                                     uint64_t* bytes);

/** Mamba-2's state space duality, chunk by chunk as matrix products. With s = dt + dt_bias, through softplus where asked and
 *  then held between dt_min and dt_max, h_t = exp(s a) h_{t-1} + s x_t b_t^T and y_t = (h_t c_t + d x_t) silu(z_t). The
 * state restarts from zero at every step whose seq_idx differs from that of the step before it in the same sequence. */
typedef struct ssm_ssd_args {
    /** sizeof(ssm_ssd_args). */
    uint32_t struct_size;
    /** bool: s = softplus(dt + dt_bias). */
    int32_t dt_softplus;
    /** Steps that are computed together, at most; 0: chosen. Results depend on it by rounding alone. */
    int64_t chunk_size;
    /** The least that s may be; 0: no limit. */
    double dt_min;
    /** The most that s may be, at least dt_min; 0: no limit. */
    double dt_max;
    /** in required (B,L,H,P): float32, float64, float16 or bfloat16. */
    const DLTensor* x;
    /** in required (B,L,H): the type of x. */
    const DLTensor* dt;
    /** in required (H): the state type of x. */
    const DLTensor* a;
    /** in required (B,L,G,N): the type of x; H / G neighbouring heads read the same group. */
    const DLTensor* b;
    /** in required (B,L,G,N): the type of x. */
    const DLTensor* c;
    /** in optional (H) or (H,P): the state type of x; zero if absent. */
    const DLTensor* d;
    /** in optional (B,L,H,P): the type of x; without it y is not gated. */
    const DLTensor* z;
    /** in optional (H): the state type of x; zero if absent. */
    const DLTensor* dt_bias;
    /** in optional (R,H,P,N): the state type of x; zero if absent. Kept whatever the first seq_idx is. */
    const DLTensor* initial_state;
    /** in optional (B,L): int32; may take a value again later. */
    const DLTensor* seq_idx;
    /** in optional (S+1): int64, where packed sequences start and end. */
    const DLTensor* cu_seqlens;
    /** out required (B,L,H,P): the type of x. */
    const DLTensor* y;
    /** out optional (R,H,P,N): the state type of x; h after the last step. */
    const DLTensor* last_state;
} ssm_ssd_args;
SSM_API int32_t ssm_ssd(ssm_context* context, const ssm_ssd_args* args);
SSM_API int32_t ssm_ssd_workspace(ssm_context* context, const ssm_ssd_args* args, uint64_t* bytes);

/** Gradients of ssd. With g = grad_y silu(z), H_t the state and D_t the gradient of the loss by it:
 *  D_t = g_t c_t^T + exp(s_{t+1} a) D_{t+1}, grad_x = s D b + d g, grad_b = s D^T x and grad_c = H^T g, summed over the
 * heads of a group, grad_s = x^T D b + a exp(s a) (D_t . H_{t-1}), grad_z = grad_y (h c + d x) silu'(z). grad_last_state is
 * added to the last D. Where s is at a limit, dt has no gradient. Without a step, gradients of parameters are zero. */
typedef struct ssm_ssd_backward_args {
    /** sizeof(ssm_ssd_backward_args). */
    uint32_t struct_size;
    /** bool: as in the forward call. */
    int32_t dt_softplus;
    /** Steps that are computed together, at most; 0: chosen. Results depend on it by rounding alone. */
    int64_t chunk_size;
    /** As in the forward call. */
    double dt_min;
    /** As in the forward call. */
    double dt_max;
    /** in required (B,L,H,P): float32, float64, float16 or bfloat16. */
    const DLTensor* x;
    /** in required (B,L,H): the type of x. */
    const DLTensor* dt;
    /** in required (H): the state type of x. */
    const DLTensor* a;
    /** in required (B,L,G,N): the type of x. */
    const DLTensor* b;
    /** in required (B,L,G,N): the type of x. */
    const DLTensor* c;
    /** in optional (H) or (H,P): the state type of x; as in the forward call. */
    const DLTensor* d;
    /** in optional (B,L,H,P): the type of x; as in the forward call. */
    const DLTensor* z;
    /** in optional (H): the state type of x; as in the forward call. */
    const DLTensor* dt_bias;
    /** in optional (R,H,P,N): the state type of x; as in the forward call. */
    const DLTensor* initial_state;
    /** in optional (B,L): int32, as in the forward call. */
    const DLTensor* seq_idx;
    /** in optional (S+1): int64, as in the forward call. */
    const DLTensor* cu_seqlens;
    /** in required (B,L,H,P): the type of x. */
    const DLTensor* grad_y;
    /** in optional (R,H,P,N): the state type of x; zero if absent. */
    const DLTensor* grad_last_state;
    /** out optional (B,L,H,P): the type of x. */
    const DLTensor* grad_x;
    /** out optional (B,L,H): the type of x. */
    const DLTensor* grad_dt;
    /** out optional (H): the state type of x. */
    const DLTensor* grad_a;
    /** out optional (B,L,G,N): the type of x. */
    const DLTensor* grad_b;
    /** out optional (B,L,G,N): the type of x. */
    const DLTensor* grad_c;
    /** out optional (H) or (H,P): the state type of x; shaped as d where d is given. */
    const DLTensor* grad_d;
    /** out optional (B,L,H,P): the type of x; needs z. */
    const DLTensor* grad_z;
    /** out optional (H): the state type of x. */
    const DLTensor* grad_dt_bias;
    /** out optional (R,H,P,N): the state type of x. */
    const DLTensor* grad_initial_state;
} ssm_ssd_backward_args;
SSM_API int32_t ssm_ssd_backward(ssm_context* context, const ssm_ssd_backward_args* args);
SSM_API int32_t ssm_ssd_backward_workspace(ssm_context* context, const ssm_ssd_backward_args* args, uint64_t* bytes);
/** One step of causal_conv1d, or T of them, on a state that stays where it is: what a model runs for each new token.
 *  The state holds the last S steps of each channel, S being W-1 or more. Without cache_seqlens the oldest comes first: T
 *  steps move it on by T. With cache_seqlens it is a ring: step t of batch element i lies at (cache_seqlens[i] + t) mod S,
 *  any int32 being a legal count of the steps before, and nothing else moves.
 *  With slots, batch element i has its state in row slots[i] of state, which may have any number K of rows, and -1 skips it:
 *  no state is read or written and y is zero. Other values, and two elements of one slot, are errors on the CPU and where
 *  the context checks; otherwise a GPU takes those values for -1, and the one slot's state is unspecified. Without slots
 *  K = B.
 *  All arithmetic is float32 (float64 for float64). Between the T steps of a call a 16-bit state is not rounded. */
typedef struct ssm_causal_conv1d_update_args {
    /** sizeof(ssm_causal_conv1d_update_args). */
    uint32_t struct_size;
    /** enum ssm_activation: act. */
    int32_t activation;
    /** inout required (K,D,S): float32, float16 or bfloat16 whatever x is; float64 if and only if x is. */
    const DLTensor* state;
    /** in required (B,D) or (B,D,T): float32, float64, float16 or bfloat16. */
    const DLTensor* x;
    /** in required (D,W): the state type of x; W is 1 to 256, and weight_{W-1} meets x_t. */
    const DLTensor* weight;
    /** in optional (D): the state type of x; zero if absent. */
    const DLTensor* bias;
    /** in optional (B): int32, the row of state that each batch element has, or -1. */
    const DLTensor* slots;
    /** in optional (B): int32, the steps that came before; the state is a ring. */
    const DLTensor* cache_seqlens;
    /** out required (B,D) or (B,D,T) inplace x: the type of x. */
    const DLTensor* y;
} ssm_causal_conv1d_update_args;
SSM_API int32_t ssm_causal_conv1d_update(ssm_context* context, const ssm_causal_conv1d_update_args* args);
SSM_API int32_t ssm_causal_conv1d_update_workspace(ssm_context* context, const ssm_causal_conv1d_update_args* args,
                                                   uint64_t* bytes);

/** y = n weight + bias with n = h / sqrt(mean(h^2) + eps) and h = x + residual, each row along the last axis by itself
 *  (Zhang and Sennrich 2019, arXiv 1910.07467): what stands before every Mamba block. h is not rounded on the way to y.
 *  x has one to four axes. */
typedef struct ssm_rms_norm_args {
    /** sizeof(ssm_rms_norm_args). */
    uint32_t struct_size;
    /** 0 or more. */
    double eps;
    /** in required (...,D): float32, float64, float16 or bfloat16. */
    const DLTensor* x;
    /** in optional (...,D): the type of x or its state type; zero if absent. */
    const DLTensor* residual;
    /** in optional (D): the state type of x; one if absent. */
    const DLTensor* weight;
    /** in optional (D): the state type of x; zero if absent. */
    const DLTensor* bias;
    /** out required (...,D) inplace x residual: the type of x. */
    const DLTensor* y;
    /** out optional (...,D) inplace x residual: the type of residual, or where that is absent the type of x or its state
     *  type; h. */
    const DLTensor* residual_out;
    /** out optional (...): the state type of x; 1 / sqrt(mean(h^2) + eps) of each row. */
    const DLTensor* rstd;
} ssm_rms_norm_args;
SSM_API int32_t ssm_rms_norm(ssm_context* context, const ssm_rms_norm_args* args);
SSM_API int32_t ssm_rms_norm_workspace(ssm_context* context, const ssm_rms_norm_args* args, uint64_t* bytes);

/** Gradients of rms_norm. With n as there and g = grad_y weight, the gradient of h, and so of x and of residual, is
 *  rstd (g - n mean(g n)) + grad_residual_out; grad_weight = sum of grad_y n and grad_bias = sum of grad_y over the rows. */
typedef struct ssm_rms_norm_backward_args {
    /** sizeof(ssm_rms_norm_backward_args). */
    uint32_t struct_size;
    /** As in the forward call. */
    double eps;
    /** in required (...,D): h, which is residual_out where there was a residual; the type of grad_y or its state type. */
    const DLTensor* x;
    /** in optional (D): the state type of grad_y; as in the forward call. */
    const DLTensor* weight;
    /** in optional (...): the state type of grad_y; what the forward call gave. Computed again if absent. */
    const DLTensor* rstd;
    /** in required (...,D): float32, float64, float16 or bfloat16. */
    const DLTensor* grad_y;
    /** in optional (...,D): the type of x; zero if absent. */
    const DLTensor* grad_residual_out;
    /** out optional (...,D) inplace grad_y: the type of grad_y. */
    const DLTensor* grad_x;
    /** out optional (...,D) inplace grad_residual_out: the type of x; the same gradient. */
    const DLTensor* grad_residual;
    /** out optional (D): the state type of grad_y. */
    const DLTensor* grad_weight;
    /** out optional (D): the state type of grad_y. */
    const DLTensor* grad_bias;
} ssm_rms_norm_backward_args;
SSM_API int32_t ssm_rms_norm_backward(ssm_context* context, const ssm_rms_norm_backward_args* args);
SSM_API int32_t ssm_rms_norm_backward_workspace(ssm_context* context, const ssm_rms_norm_backward_args* args,
                                                uint64_t* bytes);

/** Mamba-2's gated norm (Dao and Gu 2024, arXiv 2405.21060, section 7): y = n weight + bias with n the norm of x silu(z), or
 *  with norm_before_gate y = (n weight + bias) silu(z) with n the norm of x. The mean is over each run of group_size
 *  neighbours of the last axis by itself. x has one to four axes. */
typedef struct ssm_gated_rms_norm_args {
    /** sizeof(ssm_gated_rms_norm_args). */
    uint32_t struct_size;
    /** bool: the gate comes after the norm. */
    int32_t norm_before_gate;
    /** A divisor of D; 0: D, one group. G = D / group_size. */
    int64_t group_size;
    /** 0 or more. */
    double eps;
    /** in required (...,D): float32, float64, float16 or bfloat16. */
    const DLTensor* x;
    /** in optional (...,D): the type of x; without it y is not gated. */
    const DLTensor* z;
    /** in optional (D): the state type of x; one if absent. */
    const DLTensor* weight;
    /** in optional (D): the state type of x; zero if absent. */
    const DLTensor* bias;
    /** out required (...,D) inplace x z: the type of x. */
    const DLTensor* y;
    /** out optional (...,G): the state type of x; 1 / sqrt(mean + eps) of each group. */
    const DLTensor* rstd;
} ssm_gated_rms_norm_args;
SSM_API int32_t ssm_gated_rms_norm(ssm_context* context, const ssm_gated_rms_norm_args* args);
SSM_API int32_t ssm_gated_rms_norm_workspace(ssm_context* context, const ssm_gated_rms_norm_args* args, uint64_t* bytes);

/** Gradients of gated_rms_norm. */
typedef struct ssm_gated_rms_norm_backward_args {
    /** sizeof(ssm_gated_rms_norm_backward_args). */
    uint32_t struct_size;
    /** bool: as in the forward call. */
    int32_t norm_before_gate;
    /** As in the forward call. */
    int64_t group_size;
    /** As in the forward call. */
    double eps;
    /** in required (...,D): float32, float64, float16 or bfloat16. */
    const DLTensor* x;
    /** in optional (...,D): the type of x; as in the forward call. */
    const DLTensor* z;
    /** in optional (D): the state type of x; as in the forward call. */
    const DLTensor* weight;
    /** in optional (D): the state type of x; as in the forward call. */
    const DLTensor* bias;
    /** in optional (...,G): the state type of x; what the forward call gave. Computed again if absent. */
    const DLTensor* rstd;
    /** in required (...,D): the type of x. */
    const DLTensor* grad_y;
    /** out optional (...,D) inplace grad_y: the type of x. */
    const DLTensor* grad_x;
    /** out optional (...,D) inplace z: the type of x; only where there is a z. */
    const DLTensor* grad_z;
    /** out optional (D): the state type of x. */
    const DLTensor* grad_weight;
    /** out optional (D): the state type of x. */
    const DLTensor* grad_bias;
} ssm_gated_rms_norm_backward_args;
SSM_API int32_t ssm_gated_rms_norm_backward(ssm_context* context, const ssm_gated_rms_norm_backward_args* args);
SSM_API int32_t ssm_gated_rms_norm_backward_workspace(ssm_context* context, const ssm_gated_rms_norm_backward_args* args,
                                                      uint64_t* bytes);

/** Mamba-3's recurrence, of single inputs and outputs. With s = dt + dt_bias, through softplus where asked, and lambda =
 *  sigmoid(trap), theta_t = theta_{t-1} + pi tanh(angles_t) s_t turns neighbours (2 i, 2 i + 1) of k_t = R(theta_t) (b_t +
 *  b_bias) and q_t = R(theta_t) (c_t + c_bias), from the first on, by an angle for each pair: (u, v) becomes (u cos - v sin,
 *  u sin + v cos). h_t = exp(s_t a_t) (h_{t-1} + (1 - lambda_t) s_t x_{t-1} k_{t-1}^T) + lambda_t s_t x_t k_t^T and
 *  y_t = (h_t q_t + d x_t) silu(z_t). What goes on from call to call is h, theta, k and x of the last step. */
typedef struct ssm_mamba3_args {
    /** sizeof(ssm_mamba3_args). */
    uint32_t struct_size;
    /** bool: s = softplus(dt + dt_bias). */
    int32_t dt_softplus;
    /** in required (B,L,H,P): float32, float64, float16 or bfloat16. */
    const DLTensor* x;
    /** in required (B,L,H): the type of x. */
    const DLTensor* dt;
    /** in required (H) or (B,L,H): the state type of x. */
    const DLTensor* a;
    /** in required (B,L,G,N): the type of x; H / G neighbouring heads read the same group. */
    const DLTensor* b;
    /** in required (B,L,G,N): the type of x. */
    const DLTensor* c;
    /** in required (B,L,H): the type of x; lambda before its sigmoid. */
    const DLTensor* trap;
    /** in optional (B,L,J,A): the type of x; 2 A is at most N, and H / J neighbouring heads read the same angles. Without
     *  them nothing turns. */
    const DLTensor* angles;
    /** in optional (H,N): the state type of x; zero if absent. */
    const DLTensor* b_bias;
    /** in optional (H,N): the state type of x; zero if absent. */
    const DLTensor* c_bias;
    /** in optional (H) or (H,P): the state type of x; zero if absent. */
    const DLTensor* d;
    /** in optional (B,L,H,P): the type of x; without it y is not gated. */
    const DLTensor* z;
    /** in optional (H): the state type of x; zero if absent. */
    const DLTensor* dt_bias;
    /** in optional (R,H,P,N): the state type of x; h before the first step, zero if absent. */
    const DLTensor* initial_state;
    /** in optional (R,H,A): the state type of x; theta before the first step, zero if absent. */
    const DLTensor* initial_angle;
    /** in optional (R,H,N): the state type of x; k before the first step. With initial_x or not at all; zero if absent. */
    const DLTensor* initial_b;
    /** in optional (R,H,P): the state type of x; x before the first step. */
    const DLTensor* initial_x;
    /** in optional (S+1): int64, where packed sequences start and end. */
    const DLTensor* cu_seqlens;
    /** out required (B,L,H,P): the type of x. */
    const DLTensor* y;
    /** out optional (R,H,P,N): the state type of x; h after the last step. */
    const DLTensor* last_state;
    /** out optional (R,H,A): the state type of x; theta after the last step, from -pi to pi. Needs angles. */
    const DLTensor* last_angle;
    /** out optional (R,H,N): the state type of x; k of the last step. */
    const DLTensor* last_b;
    /** out optional (R,H,P): the state type of x; x of the last step. */
    const DLTensor* last_x;
} ssm_mamba3_args;
SSM_API int32_t ssm_mamba3(ssm_context* context, const ssm_mamba3_args* args);
SSM_API int32_t ssm_mamba3_workspace(ssm_context* context, const ssm_mamba3_args* args, uint64_t* bytes);

/** Gradients of mamba3, of all that is differentiable, the states in and out among it. Without a step, gradients of
 *  parameters are zero. */
typedef struct ssm_mamba3_backward_args {
    /** sizeof(ssm_mamba3_backward_args). */
    uint32_t struct_size;
    /** bool: as in the forward call. */
    int32_t dt_softplus;
    /** in required (B,L,H,P): float32, float64, float16 or bfloat16. */
    const DLTensor* x;
    /** in required (B,L,H): the type of x. */
    const DLTensor* dt;
    /** in required (H) or (B,L,H): the state type of x. */
    const DLTensor* a;
    /** in required (B,L,G,N): the type of x. */
    const DLTensor* b;
    /** in required (B,L,G,N): the type of x. */
    const DLTensor* c;
    /** in required (B,L,H): the type of x. */
    const DLTensor* trap;
    /** in optional (B,L,J,A): the type of x; as in the forward call. */
    const DLTensor* angles;
    /** in optional (H,N): the state type of x; as in the forward call. */
    const DLTensor* b_bias;
    /** in optional (H,N): the state type of x; as in the forward call. */
    const DLTensor* c_bias;
    /** in optional (H) or (H,P): the state type of x; as in the forward call. */
    const DLTensor* d;
    /** in optional (B,L,H,P): the type of x; as in the forward call. */
    const DLTensor* z;
    /** in optional (H): the state type of x; as in the forward call. */
    const DLTensor* dt_bias;
    /** in optional (R,H,P,N): the state type of x; as in the forward call. */
    const DLTensor* initial_state;
    /** in optional (R,H,A): the state type of x; as in the forward call. */
    const DLTensor* initial_angle;
    /** in optional (R,H,N): the state type of x; as in the forward call. */
    const DLTensor* initial_b;
    /** in optional (R,H,P): the state type of x; as in the forward call. */
    const DLTensor* initial_x;
    /** in optional (S+1): int64, as in the forward call. */
    const DLTensor* cu_seqlens;
    /** in required (B,L,H,P): the type of x. */
    const DLTensor* grad_y;
    /** in optional (R,H,P,N): the state type of x; zero if absent. */
    const DLTensor* grad_last_state;
    /** in optional (R,H,A): the state type of x; zero if absent. Needs angles. */
    const DLTensor* grad_last_angle;
    /** in optional (R,H,N): the state type of x; zero if absent. */
    const DLTensor* grad_last_b;
    /** in optional (R,H,P): the state type of x; zero if absent. */
    const DLTensor* grad_last_x;
    /** out optional (B,L,H,P): the type of x. */
    const DLTensor* grad_x;
    /** out optional (B,L,H): the type of x. */
    const DLTensor* grad_dt;
    /** out optional (H) or (B,L,H): the state type of x; shaped as a. */
    const DLTensor* grad_a;
    /** out optional (B,L,G,N): the type of x. */
    const DLTensor* grad_b;
    /** out optional (B,L,G,N): the type of x. */
    const DLTensor* grad_c;
    /** out optional (B,L,H): the type of x. */
    const DLTensor* grad_trap;
    /** out optional (B,L,J,A): the type of x. Needs angles. */
    const DLTensor* grad_angles;
    /** out optional (H,N): the state type of x. */
    const DLTensor* grad_b_bias;
    /** out optional (H,N): the state type of x. */
    const DLTensor* grad_c_bias;
    /** out optional (H) or (H,P): the state type of x; shaped as d where d is given. */
    const DLTensor* grad_d;
    /** out optional (B,L,H,P): the type of x; needs z. */
    const DLTensor* grad_z;
    /** out optional (H): the state type of x. */
    const DLTensor* grad_dt_bias;
    /** out optional (R,H,P,N): the state type of x. */
    const DLTensor* grad_initial_state;
    /** out optional (R,H,A): the state type of x. Needs angles. */
    const DLTensor* grad_initial_angle;
    /** out optional (R,H,N): the state type of x. */
    const DLTensor* grad_initial_b;
    /** out optional (R,H,P): the state type of x. */
    const DLTensor* grad_initial_x;
} ssm_mamba3_backward_args;
SSM_API int32_t ssm_mamba3_backward(ssm_context* context, const ssm_mamba3_backward_args* args);
SSM_API int32_t ssm_mamba3_backward_workspace(ssm_context* context, const ssm_mamba3_backward_args* args, uint64_t* bytes);

/** One step of mamba3, or T of them, on states that stay where they are: what a model runs for each new token.
 *  With slots, batch element i has its states in row slots[i], of which there may be any number K, and -1 skips it: no state
 *  is read or written and y is zero. Two elements of one slot leave an unspecified state. On the CPU other values are an
 *  error; a GPU takes them for -1. Without slots K = B. */
typedef struct ssm_mamba3_update_args {
    /** sizeof(ssm_mamba3_update_args). */
    uint32_t struct_size;
    /** bool: s = softplus(dt + dt_bias). */
    int32_t dt_softplus;
    /** inout required (K,H,P,N): the state type of x; h. */
    const DLTensor* state;
    /** inout optional (K,H,A): the state type of x; theta. With angles or not at all. */
    const DLTensor* angle_state;
    /** inout required (K,H,N): the state type of x; k of the step before. */
    const DLTensor* b_state;
    /** inout required (K,H,P): the state type of x; x of the step before. */
    const DLTensor* x_state;
    /** in required (B,H,P) or (B,T,H,P): float32, float64, float16 or bfloat16. */
    const DLTensor* x;
    /** in required (B,H) or (B,T,H): the type of x. */
    const DLTensor* dt;
    /** in required (H) or (B,H) or (B,T,H): the state type of x; (H), or shaped as dt. */
    const DLTensor* a;
    /** in required (B,G,N) or (B,T,G,N): the type of x; H / G neighbouring heads read the same group. */
    const DLTensor* b;
    /** in required (B,G,N) or (B,T,G,N): the type of x. */
    const DLTensor* c;
    /** in required (B,H) or (B,T,H): the type of x; lambda before its sigmoid. */
    const DLTensor* trap;
    /** in optional (B,J,A) or (B,T,J,A): the type of x; as in mamba3. */
    const DLTensor* angles;
    /** in optional (H,N): the state type of x; zero if absent. */
    const DLTensor* b_bias;
    /** in optional (H,N): the state type of x; zero if absent. */
    const DLTensor* c_bias;
    /** in optional (H) or (H,P): the state type of x; zero if absent. */
    const DLTensor* d;
    /** in optional (B,H,P) or (B,T,H,P): the type of x; without it y is not gated. */
    const DLTensor* z;
    /** in optional (H): the state type of x; zero if absent. */
    const DLTensor* dt_bias;
    /** in optional (B): int32, the row of the states that each batch element has, or -1. */
    const DLTensor* slots;
    /** out required (B,H,P) or (B,T,H,P) inplace x z: the type of x. */
    const DLTensor* y;
} ssm_mamba3_update_args;
SSM_API int32_t ssm_mamba3_update(ssm_context* context, const ssm_mamba3_update_args* args);
SSM_API int32_t ssm_mamba3_update_workspace(ssm_context* context, const ssm_mamba3_update_args* args, uint64_t* bytes);

/** A long convolution along time of each head by itself: with x = pre_gate u,
 *  y_t = post_gate_t (sum_j k_j x_{t-j} + sum_j k_reverse_j x_{t+1+j} + d x_t), j = 0 .. K-1.
 *  K may be of any size; taps that reach beyond a sequence meet zeros. A stream is convolved in blocks of any length: each
 *  call takes what the one before left in last_state, and gives what one call over all of it gives (to rounding: the cut
 *  into transforms falls elsewhere). What comes after a block is not known, so states do not go with k_reverse.
 *  A NaN or an infinity among the steps may spoil all of its sequence, but no other one. */
typedef struct ssm_causal_conv_args {
    /** sizeof(ssm_causal_conv_args). */
    uint32_t struct_size;
    /** in required (B,H,L): float32, float64, float16 or bfloat16. */
    const DLTensor* u;
    /** in required (H,K): the state type of u; K is at least 1. Where sequences are packed K should not be more than the
     *  longest has steps. */
    const DLTensor* k;
    /** in optional (H,K): the state type of u; the taps that meet later steps, the next one first. */
    const DLTensor* k_reverse;
    /** in optional (H): the state type of u; zero if absent. */
    const DLTensor* d;
    /** in optional (B,H,L): the type of u; one if absent. */
    const DLTensor* pre_gate;
    /** in optional (B,H,L): the type of u; one if absent. */
    const DLTensor* post_gate;
    /** in optional (R,H,K-1): the state type of u; x of the K-1 steps before u, oldest first; zero if absent. Not beside
     *  k_reverse. */
    const DLTensor* initial_state;
    /** in optional (S+1): int64, where packed sequences start and end. */
    const DLTensor* cu_seqlens;
    /** in optional (H,F): the state type of u; what causal_conv_plan made of the same k and k_reverse on this device. */
    const DLTensor* spectrum;
    /** out required (B,H,L): the type of u. */
    const DLTensor* y;
    /** out optional (R,H,K-1): the state type of u; x of the last K-1 steps, of initial_state too where L is less. Not
     *  beside k_reverse. */
    const DLTensor* last_state;
} ssm_causal_conv_args;
SSM_API int32_t ssm_causal_conv(ssm_context* context, const ssm_causal_conv_args* args);
SSM_API int32_t ssm_causal_conv_workspace(ssm_context* context, const ssm_causal_conv_args* args, uint64_t* bytes);
/** Answers an F that suits a call: how many numbers a head's spectrum has. What y and spectrum are does not matter, nor what
 *  the tensors hold. */
SSM_API int32_t ssm_causal_conv_spectrum_length(ssm_context* context, const ssm_causal_conv_args* args, int64_t* length);

/** The transforms of kernels, made once for many calls of causal_conv. F is a power of two, 512 to 2^27; with k alone it is
 *  at least K, with k_reverse at least 2 K. A transform gives F-K+1 steps (F-2K+1), or a whole sequence that fits; so F
 * serves any length of u, the one from ssm_causal_conv_spectrum_length best. The order of the numbers is the device's own.
 */
typedef struct ssm_causal_conv_plan_args {
    /** sizeof(ssm_causal_conv_plan_args). */
    uint32_t struct_size;
    /** in required (H,K): float32 or float64. */
    const DLTensor* k;
    /** in optional (H,K): the type of k. */
    const DLTensor* k_reverse;
    /** out required (H,F): the type of k. */
    const DLTensor* spectrum;
} ssm_causal_conv_plan_args;
SSM_API int32_t ssm_causal_conv_plan(ssm_context* context, const ssm_causal_conv_plan_args* args);
SSM_API int32_t ssm_causal_conv_plan_workspace(ssm_context* context, const ssm_causal_conv_plan_args* args, uint64_t* bytes);

/** Gradients of causal_conv. With s the sum that post_gate multiplies, computed again, and g = post_gate grad_y:
 *  grad_x_t = sum_j k_j g_{t+j} + sum_j k_reverse_j g_{t-1-j} + d g_t, with grad_last_state added to what became the last
 *  state; grad_u = pre_gate grad_x, grad_pre_gate = u grad_x, grad_post_gate = s grad_y, grad_k_j = sum_{b,t} g_t x_{t-j},
 *  grad_k_reverse_j = sum_{b,t} g_t x_{t+1+j}, grad_d = sum_{b,t} g_t x_t. Without a step sums are zero. */
typedef struct ssm_causal_conv_backward_args {
    /** sizeof(ssm_causal_conv_backward_args). */
    uint32_t struct_size;
    /** in required (B,H,L): float32, float64, float16 or bfloat16. */
    const DLTensor* u;
    /** in required (H,K): the state type of u; as in the forward call. */
    const DLTensor* k;
    /** in optional (H,K): the state type of u; as in the forward call. */
    const DLTensor* k_reverse;
    /** in optional (H): the state type of u; as in the forward call. */
    const DLTensor* d;
    /** in optional (B,H,L): the type of u; as in the forward call. */
    const DLTensor* pre_gate;
    /** in optional (B,H,L): the type of u; as in the forward call. */
    const DLTensor* post_gate;
    /** in optional (R,H,K-1): the state type of u; as in the forward call. */
    const DLTensor* initial_state;
    /** in optional (S+1): int64, as in the forward call. */
    const DLTensor* cu_seqlens;
    /** in required (B,H,L): the type of u. */
    const DLTensor* grad_y;
    /** in optional (R,H,K-1): the state type of u; zero if absent. Not beside k_reverse. */
    const DLTensor* grad_last_state;
    /** out optional (B,H,L): the type of u. */
    const DLTensor* grad_u;
    /** out optional (H,K): the state type of u. */
    const DLTensor* grad_k;
    /** out optional (H,K): the state type of u. Only beside k_reverse. */
    const DLTensor* grad_k_reverse;
    /** out optional (H): the state type of u. */
    const DLTensor* grad_d;
    /** out optional (B,H,L): the type of u. Only beside pre_gate. */
    const DLTensor* grad_pre_gate;
    /** out optional (B,H,L): the type of u. Only beside post_gate. */
    const DLTensor* grad_post_gate;
    /** out optional (R,H,K-1): the state type of u. Not beside k_reverse. */
    const DLTensor* grad_initial_state;
} ssm_causal_conv_backward_args;
SSM_API int32_t ssm_causal_conv_backward(ssm_context* context, const ssm_causal_conv_backward_args* args);
SSM_API int32_t ssm_causal_conv_backward_workspace(ssm_context* context, const ssm_causal_conv_backward_args* args,
                                                   uint64_t* bytes);

/* Set-up operations. Their tensors lie in host memory, whatever the device of the context; they run at once, and are not
 * part of a capture. */

/** The system c' = a c + b f of a measure (Gu et al. 2020, arXiv 2008.07669). */
typedef struct ssm_hippo_matrix_args {
    /** sizeof(ssm_hippo_matrix_args). */
    uint32_t struct_size;
    /** enum ssm_hippo_measure: which. */
    int32_t measure;
    /** out required (N,N): float32 or float64, on the host; N is at least 1, and even for fout. */
    const DLTensor* a;
    /** out optional (N): the type of a, on the host. */
    const DLTensor* b;
} ssm_hippo_matrix_args;
SSM_API int32_t ssm_hippo_matrix(ssm_context* context, const ssm_hippo_matrix_args* args);

/** The system of a measure as A = V (diag(w) - sum_r p_r p_r^*) V^* with V unitary (Gu et al. 2021, arXiv 2111.00396): the
 *  half with positive imaginary parts of w, ascending, N states of 2N; the other half are its conjugates. M = 2N. legs, lagt
 *  and fout have rank 1, legt has rank 2, lmu has no such form. */
typedef struct ssm_hippo_nplr_args {
    /** sizeof(ssm_hippo_nplr_args). */
    uint32_t struct_size;
    /** enum ssm_hippo_measure: which. */
    int32_t measure;
    /** out required (N): complex64 or complex128, on the host; w, N at least 1. */
    const DLTensor* eigenvalues;
    /** out optional (R,N): the type of eigenvalues, on the host; rows beyond the rank are 0. */
    const DLTensor* p;
    /** out optional (N): the type of eigenvalues, on the host; V^* b. */
    const DLTensor* b;
    /** out optional (M,N): the type of eigenvalues, on the host; the columns of V. A row c of the dense system is c V here.
     */
    const DLTensor* v;
} ssm_hippo_nplr_args;
SSM_API int32_t ssm_hippo_nplr(ssm_context* context, const ssm_hippo_nplr_args* args);

/** Eigenvalues and inputs that a diagonal system starts from. */
typedef struct ssm_diagonal_initialize_args {
    /** sizeof(ssm_diagonal_initialize_args). */
    uint32_t struct_size;
    /** enum ssm_diagonal_init: which. */
    int32_t init;
    /** out required (N): complex64 or complex128, on the host; half of the 2N states, N at least 1. */
    const DLTensor* eigenvalues;
    /** out optional (N): the type of eigenvalues, on the host; 1, and V^* b of the measure for legs. */
    const DLTensor* b;
} ssm_diagonal_initialize_args;
SSM_API int32_t ssm_diagonal_initialize(ssm_context* context, const ssm_diagonal_initialize_args* args);

/** The signal that coefficients stand for: f(x) = sum_n coefficients_n g_n(x), at points x from 0, the oldest, to 1, now.
 *  legs: g_n = sqrt(2n+1) P_n(2x-1) over all of the past, legt the same over its window; lmu: P_n(1-2x). fout: 1,
 *  sqrt(2) cos(pi k s), sqrt(2) sin(pi k s) with s = 2 (1-x). lagt: exp(-s/2) L_n(s) with s = window (1-x). */
typedef struct ssm_hippo_reconstruct_args {
    /** sizeof(ssm_hippo_reconstruct_args). */
    uint32_t struct_size;
    /** enum ssm_hippo_measure: which. */
    int32_t measure;
    /** How far back point 0 lies, in the measure's own time: lagt, whose past has no end, needs it; 0 for the others. */
    double window;
    /** in required (N) or (B,N): float32 or float64, on the host; N is at least 1, and even for fout. */
    const DLTensor* coefficients;
    /** in required (L): the type of coefficients, on the host; from 0 to 1. */
    const DLTensor* points;
    /** out required (L) or (B,L): the type of coefficients, on the host. */
    const DLTensor* f;
} ssm_hippo_reconstruct_args;
SSM_API int32_t ssm_hippo_reconstruct(ssm_context* context, const ssm_hippo_reconstruct_args* args);

/** a_bar and b_bar of dense systems. zoh by the matrix exponential, right for singular a. */
typedef struct ssm_discretize_dense_args {
    /** sizeof(ssm_discretize_dense_args). */
    uint32_t struct_size;
    /** enum ssm_discretization: any but dirac and async. */
    int32_t discretization;
    /** Of the generalized bilinear rule, 0 to 1; 0 otherwise. */
    double alpha;
    /** in required (H,N,N): float32 or float64, on the host; finite, N at least 1. */
    const DLTensor* a;
    /** in required (H,N): the type of a, on the host. */
    const DLTensor* b;
    /** in required (H): the type of a, on the host; positive. */
    const DLTensor* dt;
    /** out required (H,N,N): the type of a, on the host. */
    const DLTensor* a_bar;
    /** out optional (H,N): the type of a, on the host. */
    const DLTensor* b_bar;
} ssm_discretize_dense_args;
SSM_API int32_t ssm_discretize_dense(ssm_context* context, const ssm_discretize_dense_args* args);

/** c_tilde = c (I - a_bar^length) of the system A = diag(eigenvalues) - sum_r p_r p_r^*, discretised by the bilinear rule:
 *  what dplr_kernel of that length works with. */
typedef struct ssm_dplr_to_tilde_args {
    /** sizeof(ssm_dplr_to_tilde_args). */
    uint32_t struct_size;
    /** bool: the N states given are half of 2N, the rest are their conjugates. */
    int32_t conjugate_pairs;
    /** Steps of the kernel, at least 1. */
    int64_t length;
    /** in required (H,N): complex64 or complex128, on the host; finite, N at least 1. */
    const DLTensor* eigenvalues;
    /** in required (H,R,N): the type of eigenvalues, on the host; R is 1 to 4. */
    const DLTensor* p;
    /** in required (H): the real type of eigenvalues, on the host; positive. */
    const DLTensor* dt;
    /** in required (H,N): the type of eigenvalues, on the host. */
    const DLTensor* c;
    /** out required (H,N) inplace c: the type of eigenvalues, on the host. */
    const DLTensor* c_tilde;
} ssm_dplr_to_tilde_args;
SSM_API int32_t ssm_dplr_to_tilde(ssm_context* context, const ssm_dplr_to_tilde_args* args);

/** The way back: c = c_tilde (I - a_bar^length)^-1, as the recurrence takes it. */
typedef struct ssm_dplr_from_tilde_args {
    /** sizeof(ssm_dplr_from_tilde_args). */
    uint32_t struct_size;
    /** bool: the N states given are half of 2N, the rest are their conjugates. */
    int32_t conjugate_pairs;
    /** Steps of the kernel that c_tilde belongs to, at least 1. */
    int64_t length;
    /** in required (H,N): complex64 or complex128, on the host; finite, N at least 1. */
    const DLTensor* eigenvalues;
    /** in required (H,R,N): the type of eigenvalues, on the host; R is 1 to 4. */
    const DLTensor* p;
    /** in required (H): the real type of eigenvalues, on the host; positive. */
    const DLTensor* dt;
    /** in required (H,N): the type of eigenvalues, on the host. */
    const DLTensor* c_tilde;
    /** out required (H,N) inplace c_tilde: the type of eigenvalues, on the host. */
    const DLTensor* c;
} ssm_dplr_from_tilde_args;
SSM_API int32_t ssm_dplr_from_tilde(ssm_context* context, const ssm_dplr_from_tilde_args* args);

/** The c_tilde of twice the length: c_tilde (I + a_bar^length). */
typedef struct ssm_dplr_double_length_args {
    /** sizeof(ssm_dplr_double_length_args). */
    uint32_t struct_size;
    /** bool: the N states given are half of 2N, the rest are their conjugates. */
    int32_t conjugate_pairs;
    /** Steps of the kernel that c_tilde belongs to, at least 1. */
    int64_t length;
    /** in required (H,N): complex64 or complex128, on the host; finite, N at least 1. */
    const DLTensor* eigenvalues;
    /** in required (H,R,N): the type of eigenvalues, on the host; R is 1 to 4. */
    const DLTensor* p;
    /** in required (H): the real type of eigenvalues, on the host; positive. */
    const DLTensor* dt;
    /** in required (H,N): the type of eigenvalues, on the host. */
    const DLTensor* c_tilde;
    /** out required (H,N) inplace c_tilde: the type of eigenvalues, on the host; of the length 2 length. */
    const DLTensor* c_doubled;
} ssm_dplr_double_length_args;
SSM_API int32_t ssm_dplr_double_length(ssm_context* context, const ssm_dplr_double_length_args* args);

/* Operations on the context's device. */

/** The coefficients of a signal after each of its steps, c_t = a_bar c_{t-1} + b_bar f_t. legs varies with time, as its
 *  measure is all of the past: step k = 1, 2, .. takes A/k and B/k (after SSM_HIPPO_START_FIRST the second one is k = 1), at
 *  timestamps A (t_k - t_{k-1}) / t_k and the same of B, and N operations. The sliding measures take one dt, and
 *  N^2 operations for a step. Splitting a signal, with steps_before and the states, gives what one call gives. */
typedef struct ssm_hippo_project_args {
    /** sizeof(ssm_hippo_project_args). */
    uint32_t struct_size;
    /** enum ssm_hippo_measure: which. */
    int32_t measure;
    /** enum ssm_discretization: any but dirac and async; legs not zoh either, which takes N^2 operations. */
    int32_t discretization;
    /** enum ssm_hippo_start: what holds where there is no initial_state. */
    int32_t start;
    /** Of the generalized bilinear rule, 0 to 1; 0 otherwise. */
    double alpha;
    /** The step of a sliding measure in its own time, positive; 0 for legs. */
    double dt;
    /** When the last step before this call was, with timestamps; 0 where there was none. */
    double time_before;
    /** Steps of the signal before this call, of legs without timestamps. */
    int64_t steps_before;
    /** in required (L) or (B,L): float32 or float64; the signals. */
    const DLTensor* f;
    /** in optional (L): the type of f, legs alone: when each sample was taken. They ascend from time_before on, and are
     * positive but for the first one of SSM_HIPPO_START_FIRST. */
    const DLTensor* timestamps;
    /** in optional (N) or (B,N): the type of f; the coefficients before the first step. */
    const DLTensor* initial_state;
    /** out required (L,N) or (B,L,N): the type of f; N is at least 1, and even for fout. */
    const DLTensor* coefficients;
    /** out optional (N) or (B,N): the type of f; the coefficients after the last step. */
    const DLTensor* last_state;
} ssm_hippo_project_args;
SSM_API int32_t ssm_hippo_project(ssm_context* context, const ssm_hippo_project_args* args);
SSM_API int32_t ssm_hippo_project_workspace(ssm_context* context, const ssm_hippo_project_args* args, uint64_t* bytes);

/** k_l = c a_bar^l b_bar of dense systems, by repeated squaring, in double inside. */
typedef struct ssm_dense_kernel_args {
    /** sizeof(ssm_dense_kernel_args). */
    uint32_t struct_size;
    /** enum ssm_discretization: any but dirac and async. */
    int32_t discretization;
    /** Of the generalized bilinear rule, 0 to 1; 0 otherwise. */
    double alpha;
    /** in required (H,N,N): float32 or float64; finite, N at least 1. */
    const DLTensor* a;
    /** in required (H,N): the type of a. */
    const DLTensor* b;
    /** in required (H,N): the type of a. */
    const DLTensor* c;
    /** in required (H): the type of a; positive. */
    const DLTensor* dt;
    /** out required (H,L): the type of a. */
    const DLTensor* k;
} ssm_dense_kernel_args;
SSM_API int32_t ssm_dense_kernel(ssm_context* context, const ssm_dense_kernel_args* args);
SSM_API int32_t ssm_dense_kernel_workspace(ssm_context* context, const ssm_dense_kernel_args* args, uint64_t* bytes);

/** x_t = a_bar x_{t-1} + b_bar u_t; y_t = c x_t + d u_t. */
typedef struct ssm_dense_ssm_args {
    /** sizeof(ssm_dense_ssm_args). */
    uint32_t struct_size;
    /** enum ssm_discretization: any but dirac and async. */
    int32_t discretization;
    /** Of the generalized bilinear rule, 0 to 1; 0 otherwise. */
    double alpha;
    /** in required (H,N,N): float32 or float64; finite, N at least 1. */
    const DLTensor* a;
    /** in required (H,N): the type of a. */
    const DLTensor* b;
    /** in required (H,N): the type of a. */
    const DLTensor* c;
    /** in required (H): the type of a; positive. */
    const DLTensor* dt;
    /** in required (B,H,L): the type of a. */
    const DLTensor* u;
    /** in optional (H): the type of a; the skip connection, zero if absent. */
    const DLTensor* d;
    /** in optional (R,H,N): the type of a; zero if absent. */
    const DLTensor* initial_state;
    /** in optional (S+1): int64, where packed sequences start and end. */
    const DLTensor* cu_seqlens;
    /** out required (B,H,L) inplace u: the type of a. */
    const DLTensor* y;
    /** out optional (R,H,N): the type of a. */
    const DLTensor* last_state;
} ssm_dense_ssm_args;
SSM_API int32_t ssm_dense_ssm(ssm_context* context, const ssm_dense_ssm_args* args);
SSM_API int32_t ssm_dense_ssm_workspace(ssm_context* context, const ssm_dense_ssm_args* args, uint64_t* bytes);

/** x_t = a_bar x_{t-1} + b_bar u_t; y_t = Re(c x_t) + d u_t, with A = diag(eigenvalues) - sum_r p_r p_r^* and the bilinear
 *  rule, in N operations for a step. With pairs x is half of the 2N states. */
typedef struct ssm_dplr_ssm_args {
    /** sizeof(ssm_dplr_ssm_args). */
    uint32_t struct_size;
    /** bool: the N states given are half of 2N, the rest are their conjugates. */
    int32_t conjugate_pairs;
    /** in required (H,N): complex64 or complex128; finite, N at least 1. */
    const DLTensor* eigenvalues;
    /** in required (H,D,N): the type of eigenvalues; the rank D is 1 to 4. */
    const DLTensor* p;
    /** in required (H,N): the type of eigenvalues. */
    const DLTensor* b;
    /** in required (H,N): the type of eigenvalues. */
    const DLTensor* c;
    /** in required (H): the real type of eigenvalues; positive. */
    const DLTensor* dt;
    /** in required (B,H,L): the real type of eigenvalues. */
    const DLTensor* u;
    /** in optional (H): the real type of eigenvalues; the skip connection, zero if absent. */
    const DLTensor* d;
    /** in optional (R,H,N): the type of eigenvalues; zero if absent. */
    const DLTensor* initial_state;
    /** in optional (S+1): int64, where packed sequences start and end. */
    const DLTensor* cu_seqlens;
    /** out required (B,H,L) inplace u: the real type of eigenvalues. */
    const DLTensor* y;
    /** out optional (R,H,N): the type of eigenvalues. */
    const DLTensor* last_state;
} ssm_dplr_ssm_args;
SSM_API int32_t ssm_dplr_ssm(ssm_context* context, const ssm_dplr_ssm_args* args);
SSM_API int32_t ssm_dplr_ssm_workspace(ssm_context* context, const ssm_dplr_ssm_args* args, uint64_t* bytes);

/** S4's kernel k_l = Re(c a_bar^l b_bar), l < L, of that system by its generating function at the roots of unity (Gu et al.
 *  2021, arXiv 2111.00396, appendix C.3). An eigenvalue of exactly 0 has no value at frequency 0 and is an error. */
typedef struct ssm_dplr_kernel_args {
    /** sizeof(ssm_dplr_kernel_args). */
    uint32_t struct_size;
    /** bool: the N states given are half of 2N, the rest are their conjugates. */
    int32_t conjugate_pairs;
    /** bool: c is c_tilde, c (I - a_bar^L). Otherwise that is computed, by powers of a matrix of 2N rows. */
    int32_t c_is_tilde;
    /** in required (H,N): complex64 or complex128; finite and not 0, N at least 1; the real parts are at most 0. */
    const DLTensor* eigenvalues;
    /** in required (H,D,N): the type of eigenvalues; the rank D is 1 to 4. */
    const DLTensor* p;
    /** in required (H,N): the type of eigenvalues. */
    const DLTensor* b;
    /** in required (H,N): the type of eigenvalues. */
    const DLTensor* c;
    /** in required (H): the real type of eigenvalues; positive. */
    const DLTensor* dt;
    /** out required (H,L): the real type of eigenvalues. */
    const DLTensor* k;
} ssm_dplr_kernel_args;
SSM_API int32_t ssm_dplr_kernel(ssm_context* context, const ssm_dplr_kernel_args* args);
SSM_API int32_t ssm_dplr_kernel_workspace(ssm_context* context, const ssm_dplr_kernel_args* args, uint64_t* bytes);

/** Gradients of dplr_kernel. For complex x, grad_x is dL/dRe(x) + i dL/dIm(x). Where c_is_tilde, it is c_tilde that is held
 *  and has the gradient, as it is what models train. */
typedef struct ssm_dplr_kernel_backward_args {
    /** sizeof(ssm_dplr_kernel_backward_args). */
    uint32_t struct_size;
    /** bool: as in the forward call. */
    int32_t conjugate_pairs;
    /** bool: as in the forward call. */
    int32_t c_is_tilde;
    /** in required (H,N): complex64 or complex128; as in the forward call. */
    const DLTensor* eigenvalues;
    /** in required (H,D,N): the type of eigenvalues; the rank D is 1 to 4. */
    const DLTensor* p;
    /** in required (H,N): the type of eigenvalues. */
    const DLTensor* b;
    /** in required (H,N): the type of eigenvalues. */
    const DLTensor* c;
    /** in required (H): the real type of eigenvalues; positive. */
    const DLTensor* dt;
    /** in required (H,L): the real type of eigenvalues. */
    const DLTensor* grad_k;
    /** out optional (H,N): the type of eigenvalues. */
    const DLTensor* grad_eigenvalues;
    /** out optional (H,D,N): the type of eigenvalues. */
    const DLTensor* grad_p;
    /** out optional (H,N): the type of eigenvalues. */
    const DLTensor* grad_b;
    /** out optional (H,N): the type of eigenvalues. */
    const DLTensor* grad_c;
    /** out optional (H): the real type of eigenvalues. */
    const DLTensor* grad_dt;
} ssm_dplr_kernel_backward_args;
SSM_API int32_t ssm_dplr_kernel_backward(ssm_context* context, const ssm_dplr_kernel_backward_args* args);
SSM_API int32_t ssm_dplr_kernel_backward_workspace(ssm_context* context, const ssm_dplr_kernel_backward_args* args,
                                                   uint64_t* bytes);

/** y_l = sum_n v_n / (z_l - w_n) for each row; with conjugate_pairs + conj(v_n) / (z_l - conj(w_n)). The sums of S4's
 *  generating function (Gu, Goel and Re 2022, arXiv 2111.00396, algorithm 1). Each term is right to a few roundings however
 *  near z lies to w; |z - w| must lie between 2^-31 and 2^31 in complex64 and between 2^-255 and 2^255 in complex128 (with
 *  pairs |z - conj(w)| too), beyond which terms overflow or vanish. */
typedef struct ssm_cauchy_multiply_args {
    /** sizeof(ssm_cauchy_multiply_args). */
    uint32_t struct_size;
    /** bool: v and w are half of the states, the rest their conjugates. */
    int32_t conjugate_pairs;
    /** in required (H,N): complex64 or complex128. */
    const DLTensor* v;
    /** in required (H,N): the type of v; the poles. */
    const DLTensor* w;
    /** in required (L): the type of v; the nodes, shared by the rows. */
    const DLTensor* z;
    /** out required (H,L): the type of v. */
    const DLTensor* y;
} ssm_cauchy_multiply_args;
SSM_API int32_t ssm_cauchy_multiply(ssm_context* context, const ssm_cauchy_multiply_args* args);
SSM_API int32_t ssm_cauchy_multiply_workspace(ssm_context* context, const ssm_cauchy_multiply_args* args, uint64_t* bytes);

/** Gradients of cauchy_multiply: with q = 1 / (z_l - w_n), grad_v_n = sum_l grad_y_l conj(q) and
 *  grad_w_n = conj(v_n) sum_l grad_y_l conj(q)^2; with pairs also the terms conj(grad_y_l) / (z_l - conj(w_n)) and
 *  conj(grad_y_l) / (z_l - conj(w_n))^2. Without a node they are zero.
 *  For complex x, grad_x is dL/dRe(x) + i dL/dIm(x). */
typedef struct ssm_cauchy_multiply_backward_args {
    /** sizeof(ssm_cauchy_multiply_backward_args). */
    uint32_t struct_size;
    /** bool: as in the forward call. */
    int32_t conjugate_pairs;
    /** in required (H,N): complex64 or complex128. */
    const DLTensor* v;
    /** in required (H,N): the type of v. */
    const DLTensor* w;
    /** in required (L): the type of v. */
    const DLTensor* z;
    /** in required (H,L): the type of v. */
    const DLTensor* grad_y;
    /** out optional (H,N): the type of v. */
    const DLTensor* grad_v;
    /** out optional (H,N): the type of v. */
    const DLTensor* grad_w;
} ssm_cauchy_multiply_backward_args;
SSM_API int32_t ssm_cauchy_multiply_backward(ssm_context* context, const ssm_cauchy_multiply_backward_args* args);
SSM_API int32_t ssm_cauchy_multiply_backward_workspace(ssm_context* context, const ssm_cauchy_multiply_backward_args* args,
                                                       uint64_t* bytes);

/** y_l = sum_n v_n exp(x_n l), l = 0 .. L-1, for each row; with conjugate_pairs the real 2 Re(...). Phases Im(x) l are
 *  reduced in double precision, so that float32 keeps its accuracy at any length. */
typedef struct ssm_vandermonde_multiply_args {
    /** sizeof(ssm_vandermonde_multiply_args). */
    uint32_t struct_size;
    /** bool: v and x are half of the states, the rest their conjugates; y is real. */
    int32_t conjugate_pairs;
    /** in required (H,N): complex64 or complex128. */
    const DLTensor* v;
    /** in required (H,N): the type of v. */
    const DLTensor* x;
    /** out required (H,L): the type of v, with conjugate_pairs the real type of that precision. */
    const DLTensor* y;
} ssm_vandermonde_multiply_args;
SSM_API int32_t ssm_vandermonde_multiply(ssm_context* context, const ssm_vandermonde_multiply_args* args);
SSM_API int32_t ssm_vandermonde_multiply_workspace(ssm_context* context, const ssm_vandermonde_multiply_args* args,
                                                   uint64_t* bytes);

/** Gradients of vandermonde_multiply: grad_v_n = sum_l grad_y_l conj(exp(x_n l)) and
 *  grad_x_n = conj(v_n) sum_l l grad_y_l conj(exp(x_n l)), twice that with pairs. Without a step they are zero. */
typedef struct ssm_vandermonde_multiply_backward_args {
    /** sizeof(ssm_vandermonde_multiply_backward_args). */
    uint32_t struct_size;
    /** bool: as in the forward call. */
    int32_t conjugate_pairs;
    /** in required (H,N): complex64 or complex128. */
    const DLTensor* v;
    /** in required (H,N): the type of v. */
    const DLTensor* x;
    /** in required (H,L): the type of v, with conjugate_pairs the real type of that precision. */
    const DLTensor* grad_y;
    /** out optional (H,N): the type of v. */
    const DLTensor* grad_v;
    /** out optional (H,N): the type of v. */
    const DLTensor* grad_x;
} ssm_vandermonde_multiply_backward_args;
SSM_API int32_t ssm_vandermonde_multiply_backward(ssm_context* context, const ssm_vandermonde_multiply_backward_args* args);
SSM_API int32_t ssm_vandermonde_multiply_backward_workspace(ssm_context* context,
                                                            const ssm_vandermonde_multiply_backward_args* args,
                                                            uint64_t* bytes);

/** a_bar and b_bar of a diagonal system, one dt for each row. Computed in double precision. */
typedef struct ssm_discretize_diagonal_args {
    /** sizeof(ssm_discretize_diagonal_args). */
    uint32_t struct_size;
    /** enum ssm_discretization: how the system becomes one of steps. */
    int32_t discretization;
    /** Of the generalized bilinear discretization, 0 to 1; 0 for the others. */
    double alpha;
    /** in required (H,N): complex64 or complex128; the eigenvalues. */
    const DLTensor* a;
    /** in optional (H,N): the type of a; needed for b_bar. */
    const DLTensor* b;
    /** in required (H): the real type of a, above 0. */
    const DLTensor* dt;
    /** in optional (H): the real type of a; s is dt interval a, but for b_bar of SSM_DISCRETIZATION_ASYNC. One if absent. */
    const DLTensor* interval;
    /** out optional (H,N): the type of a. */
    const DLTensor* a_bar;
    /** out optional (H,N): the type of a. */
    const DLTensor* b_bar;
} ssm_discretize_diagonal_args;
SSM_API int32_t ssm_discretize_diagonal(ssm_context* context, const ssm_discretize_diagonal_args* args);
SSM_API int32_t ssm_discretize_diagonal_workspace(ssm_context* context, const ssm_discretize_diagonal_args* args,
                                                  uint64_t* bytes);

/** The convolution kernel of a diagonal system, S4D's (Gu et al. 2022, arXiv 2206.11893): half of the states are given,
 *  k_l = 2 Re sum_n c_n a_bar_n^l b_bar_n. With softmax the powers of each state are divided by their sum over l < L, which
 *  with SSM_DISCRETIZATION_DIRAC, b = 1/a and c = w/2 is DSS's kernel (Gupta 2022, arXiv 2203.14343). The powers are
 *  exponentials whose phases are reduced in double precision. */
typedef struct ssm_diagonal_kernel_args {
    /** sizeof(ssm_diagonal_kernel_args). */
    uint32_t struct_size;
    /** enum ssm_discretization: how the system becomes one of steps. */
    int32_t discretization;
    /** bool: powers are divided by their sum, which must not be 0. */
    int32_t softmax;
    /** Of the generalized bilinear discretization, 0 to 1; 0 for the others. */
    double alpha;
    /** in required (H,N): complex64 or complex128; the eigenvalues. */
    const DLTensor* a;
    /** in required (H,N): the type of a. */
    const DLTensor* b;
    /** in required (H,N): the type of a. */
    const DLTensor* c;
    /** in required (H): the real type of a, above 0. */
    const DLTensor* dt;
    /** out required (H,L): the real type of a. */
    const DLTensor* k;
} ssm_diagonal_kernel_args;
SSM_API int32_t ssm_diagonal_kernel(ssm_context* context, const ssm_diagonal_kernel_args* args);
SSM_API int32_t ssm_diagonal_kernel_workspace(ssm_context* context, const ssm_diagonal_kernel_args* args, uint64_t* bytes);

/** Gradients of diagonal_kernel. Without a step they are zero. Where a_bar is exactly 0 they are not defined.
 *  For complex x, grad_x is dL/dRe(x) + i dL/dIm(x). */
typedef struct ssm_diagonal_kernel_backward_args {
    /** sizeof(ssm_diagonal_kernel_backward_args). */
    uint32_t struct_size;
    /** enum ssm_discretization: as in the forward call. */
    int32_t discretization;
    /** bool: as in the forward call. */
    int32_t softmax;
    /** As in the forward call. */
    double alpha;
    /** in required (H,N): complex64 or complex128. */
    const DLTensor* a;
    /** in required (H,N): the type of a. */
    const DLTensor* b;
    /** in required (H,N): the type of a. */
    const DLTensor* c;
    /** in required (H): the real type of a. */
    const DLTensor* dt;
    /** in required (H,L): the real type of a. */
    const DLTensor* grad_k;
    /** out optional (H,N): the type of a. */
    const DLTensor* grad_a;
    /** out optional (H,N): the type of a. */
    const DLTensor* grad_b;
    /** out optional (H,N): the type of a. */
    const DLTensor* grad_c;
    /** out optional (H): the real type of a. */
    const DLTensor* grad_dt;
} ssm_diagonal_kernel_backward_args;
SSM_API int32_t ssm_diagonal_kernel_backward(ssm_context* context, const ssm_diagonal_kernel_backward_args* args);
SSM_API int32_t ssm_diagonal_kernel_backward_workspace(ssm_context* context, const ssm_diagonal_kernel_backward_args* args,
                                                       uint64_t* bytes);

/** A diagonal system as a recurrence (S4D's, DSS's): x_t = a_bar x_{t-1} + b_bar u_t and y_t = 2 Re(sum_n c_n x_tn) + d u_t,
 *  half of the states being given. One step or many; what diagonal_kernel's convolution gives, with a state to go on from.
 */
typedef struct ssm_diagonal_ssm_args {
    /** sizeof(ssm_diagonal_ssm_args). */
    uint32_t struct_size;
    /** enum ssm_discretization: how the system becomes one of steps. */
    int32_t discretization;
    /** Of the generalized bilinear discretization, 0 to 1; 0 for the others. */
    double alpha;
    /** in required (H,N): complex64 or complex128, N at least 1; the eigenvalues. */
    const DLTensor* a;
    /** in required (H,N): the type of a. */
    const DLTensor* b;
    /** in required (H,N): the type of a. */
    const DLTensor* c;
    /** in required (H): the real type of a, above 0. */
    const DLTensor* dt;
    /** in required (B,H,L): the real type of a. */
    const DLTensor* u;
    /** in optional (H): the real type of a; zero if absent. */
    const DLTensor* d;
    /** in optional (R,H,N): the type of a; zero if absent. */
    const DLTensor* initial_state;
    /** in optional (S+1): int64, where packed sequences start and end. */
    const DLTensor* cu_seqlens;
    /** out required (B,H,L) inplace u: the real type of a. */
    const DLTensor* y;
    /** out optional (R,H,N): the type of a; x after the last step. */
    const DLTensor* last_state;
} ssm_diagonal_ssm_args;
SSM_API int32_t ssm_diagonal_ssm(ssm_context* context, const ssm_diagonal_ssm_args* args);
SSM_API int32_t ssm_diagonal_ssm_workspace(ssm_context* context, const ssm_diagonal_ssm_args* args, uint64_t* bytes);

/** Gradients of diagonal_ssm. With g_t = 2 conj(c) grad_y_t + conj(a_bar) g_{t+1}, grad_last_state being added at the last
 *  step: grad_u_t = Re(conj(b_bar) g_t) + d grad_y_t, grad_c = 2 sum grad_y_t conj(x_t), of a_bar sum g_t conj(x_{t-1}) and
 * of b_bar sum g_t u_t, from which a, b and dt get theirs. The states are computed again. Without a step gradients of
 *  parameters are zero. For complex x, grad_x is dL/dRe(x) + i dL/dIm(x). */
typedef struct ssm_diagonal_ssm_backward_args {
    /** sizeof(ssm_diagonal_ssm_backward_args). */
    uint32_t struct_size;
    /** enum ssm_discretization: as in the forward call. */
    int32_t discretization;
    /** As in the forward call. */
    double alpha;
    /** in required (H,N): complex64 or complex128, N at least 1. */
    const DLTensor* a;
    /** in required (H,N): the type of a. */
    const DLTensor* b;
    /** in required (H,N): the type of a. */
    const DLTensor* c;
    /** in required (H): the real type of a. */
    const DLTensor* dt;
    /** in required (B,H,L): the real type of a. */
    const DLTensor* u;
    /** in optional (H): the real type of a; as in the forward call. */
    const DLTensor* d;
    /** in optional (R,H,N): the type of a; as in the forward call. */
    const DLTensor* initial_state;
    /** in optional (S+1): int64, as in the forward call. */
    const DLTensor* cu_seqlens;
    /** in required (B,H,L): the real type of a. */
    const DLTensor* grad_y;
    /** in optional (R,H,N): the type of a; zero if absent. */
    const DLTensor* grad_last_state;
    /** out optional (B,H,L): the real type of a. */
    const DLTensor* grad_u;
    /** out optional (H,N): the type of a. */
    const DLTensor* grad_a;
    /** out optional (H,N): the type of a. */
    const DLTensor* grad_b;
    /** out optional (H,N): the type of a. */
    const DLTensor* grad_c;
    /** out optional (H): the real type of a. */
    const DLTensor* grad_dt;
    /** out optional (H): the real type of a. */
    const DLTensor* grad_d;
    /** out optional (R,H,N): the type of a. */
    const DLTensor* grad_initial_state;
} ssm_diagonal_ssm_backward_args;
SSM_API int32_t ssm_diagonal_ssm_backward(ssm_context* context, const ssm_diagonal_ssm_backward_args* args);
SSM_API int32_t ssm_diagonal_ssm_backward_workspace(ssm_context* context, const ssm_diagonal_ssm_backward_args* args,
                                                    uint64_t* bytes);

/** S5's state scan (Smith, Warrington and Linderman 2023, arXiv 2208.04933): x_t = a_bar x_{t-1} + f (B u)_t of a diagonal
 *  system with many inputs, whose product B u the caller makes. a_bar and f are the discretization's, f being b_bar / b.
 * With interval each step has a time of its own, dt interval_t: irregular samples, events. reverse runs from the end of
 * time; x_reverse gives the states of the other direction too, from no state. Results are linear_recurrence's. */
typedef struct ssm_diagonal_scan_args {
    /** sizeof(ssm_diagonal_scan_args). */
    uint32_t struct_size;
    /** enum ssm_discretization: how the system becomes one of steps. */
    int32_t discretization;
    /** bool: run from the end of time to its start. */
    int32_t reverse;
    /** Of the generalized bilinear discretization, 0 to 1; 0 for the others. */
    double alpha;
    /** in required (N): the type of bu; the eigenvalues. */
    const DLTensor* a;
    /** in required (N): the real type of bu, above 0. */
    const DLTensor* dt;
    /** in required (B,N,L): float32, float64, complex64 or complex128; B u. */
    const DLTensor* bu;
    /** in optional (B,L): the real type of bu, the time of each step in units of dt; one if absent. */
    const DLTensor* interval;
    /** in optional (R,N): the type of bu; zero if absent. */
    const DLTensor* initial_state;
    /** in optional (S+1): int64, where packed sequences start and end. */
    const DLTensor* cu_seqlens;
    /** out required (B,N,L) inplace bu: the type of bu. */
    const DLTensor* x;
    /** out optional (R,N): the type of bu; the final x in the direction of the scan. */
    const DLTensor* last_state;
    /** out optional (B,N,L): the type of bu; the states of the scan in the other direction, which starts from zero. */
    const DLTensor* x_reverse;
} ssm_diagonal_scan_args;
SSM_API int32_t ssm_diagonal_scan(ssm_context* context, const ssm_diagonal_scan_args* args);
SSM_API int32_t ssm_diagonal_scan_workspace(ssm_context* context, const ssm_diagonal_scan_args* args, uint64_t* bytes);

#ifdef __cplusplus
}
#endif
#endif
