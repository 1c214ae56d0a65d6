// The CPU backend: device facts, memory, events and the table of operations. Everything runs before it returns.
#include "build_id.h"
#include "cpu/context.h"
#include "cpu/operations.h"
#include "cpu/thread_pool.h"

#include "hwy/targets.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <thread>

#if defined(__unix__)
#include <sys/mman.h>
#include <unistd.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace ssm::cpu {
namespace {

BackendHost the_host;

struct Event {
    bool recorded = false;
    std::chrono::steady_clock::time_point at;
};

void copy_text(char* destination, size_t capacity, const std::string& text) {
    const size_t length = text.size() < capacity ? text.size() : capacity - 1;
    std::memcpy(destination, text.data(), length);
    destination[length] = 0;
}

std::string cpu_name() {
#if defined(__x86_64__)
    unsigned int words[12] = {};
    if (__get_cpuid_max(0x80000000u, nullptr) >= 0x80000004u) {
        for (unsigned int i = 0; i < 3; ++i)
            __get_cpuid(0x80000002u + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2], &words[4 * i + 3]);
        char text[49] = {};
        std::memcpy(text, words, 48);
        std::string name(text);
        const size_t first = name.find_first_not_of(' ');
        if (first != std::string::npos)
            return name.substr(first, name.find_last_not_of(' ') - first + 1);
    }
#endif
    return "CPU";
}

// The instruction sets built and present, the best (smallest bit) first.
std::string instruction_sets() {
    std::string names;
    for (int64_t left = HWY_SUPPORTED_TARGETS & HWY_TARGETS; left != 0; left &= left - 1) {
        const int64_t target = left & -left;
        std::string name = target == HWY_AVX3 ? "AVX-512" : target == HWY_SCALAR ? "baseline" : hwy::TargetName(target);
        names += names.empty() ? name : ", " + name;
    }
    return names;
}

int32_t device_count(int32_t* count) {
    *count = 1;
    return SSM_SUCCESS;
}

int32_t device_properties(int32_t device_id, ssm_device_properties* properties) {
    if (device_id != 0)
        return fail(SSM_ERROR_NO_DEVICE, "device_id: the CPU is device 0 alone");
    const uint32_t size = properties->struct_size;
    *properties = {};
    properties->struct_size = size;
    properties->device_type = SSM_DEVICE_CPU;
    properties->multiprocessors = usable_threads();
#if defined(__unix__)
    properties->total_memory = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGE_SIZE);
#endif
    properties->last_level_cache = last_level_cache();
    copy_text(properties->name, sizeof(properties->name), cpu_name());
    copy_text(properties->instruction_sets, sizeof(properties->instruction_sets), instruction_sets());
    return SSM_SUCCESS;
}

int32_t context_create(int32_t device_id, BackendContext** context) {
    if (device_id != 0)
        return fail(SSM_ERROR_NO_DEVICE, "device_id: the CPU is device 0 alone");
    *context = new (std::nothrow) BackendContext;
    return *context ? SSM_SUCCESS : fail(SSM_ERROR_OUT_OF_MEMORY, "context: out of memory");
}

int32_t context_destroy(BackendContext* context) {
    delete context;
    return SSM_SUCCESS;
}

// The CPU has no queues: a stream is a token that is kept and never looked at.
int32_t set_stream(BackendContext* context, void* stream) {
    context->stream = stream;
    return SSM_SUCCESS;
}

int32_t get_stream(BackendContext* context, void** stream) {
    *stream = context->stream;
    return SSM_SUCCESS;
}

int32_t set_threads(BackendContext* context, int32_t threads) {
    if (threads < 0)
        return fail(SSM_ERROR_INVALID_ARGUMENT, "threads: 0 or more expected");
    context->threads = threads;
    return SSM_SUCCESS;
}

int32_t set_option(BackendContext* context, const char* name, int64_t value) {
    static const char* const names[] = {
        "associative_scan.tile",
        "linear_recurrence.tile",
        "linear_recurrence_backward.tile",
        "selective_scan.tile",
        "selective_scan_backward.tile",
        "selective_state_update.tile",
        "causal_conv.tile",
        "causal_conv.path",
        "causal_conv_backward.tile",
        "causal_conv_backward.path",
        "causal_conv1d.tile",
        "causal_conv1d_backward.tile",
        "causal_conv1d_update.tile",
        "rms_norm_backward.tile",
        "ssd.tile",
        "mamba3.tile",
        "mamba3_backward.tile",
        "diagonal_ssm.tile",
        "diagonal_ssm_backward.tile",
    };
    for (const char* known : names) {
        if (std::strcmp(known, name) == 0) {
            if (value < 0)
                return fail(SSM_ERROR_INVALID_ARGUMENT, "value: 0 or more expected");
            context->options.set(known, value);
            return SSM_SUCCESS;
        }
    }
    return fail(SSM_ERROR_INVALID_ARGUMENT, "name: not an option of the CPU backend");
}

int32_t synchronize(BackendContext*) {
    return SSM_SUCCESS;
}

int32_t notify(BackendContext*, void (*callback)(void*, int32_t), void* user) {
    callback(user, SSM_SUCCESS);
    return SSM_SUCCESS;
}

int32_t stream_create(BackendContext*, void** stream) {
    *stream = new (std::nothrow) char;
    return *stream ? SSM_SUCCESS : fail(SSM_ERROR_OUT_OF_MEMORY, "stream: out of memory");
}

int32_t stream_destroy(BackendContext*, void* stream) {
    delete static_cast<char*>(stream);
    return SSM_SUCCESS;
}

int32_t allocate(BackendContext*, uint64_t bytes, void** pointer) {
    // Large blocks lie on huge pages where the system has them: a scan touches a new 4 KiB page every microsecond.
    constexpr uint64_t huge_page = uint64_t{2} << 20;
    const uint64_t alignment = bytes >= 2 * huge_page ? huge_page : 256;
    *pointer = nullptr;
    if (bytes > UINT64_MAX - alignment)
        return fail(SSM_ERROR_OUT_OF_MEMORY, "bytes: more than the address space");
#if defined(_WIN32)
    *pointer = _aligned_malloc(bytes, alignment);
#else
    *pointer = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
#endif
    if (!*pointer) {
        char sentence[96];
        std::snprintf(sentence, sizeof(sentence), "bytes: the host has no %llu bytes left",
                      static_cast<unsigned long long>(bytes));
        return fail(SSM_ERROR_OUT_OF_MEMORY, sentence);
    }
#if defined(__linux__)
    if (alignment == huge_page)
        madvise(*pointer, bytes, MADV_HUGEPAGE);
#endif
    return SSM_SUCCESS;
}

int32_t release(BackendContext*, void* pointer) {
#if defined(_WIN32)
    _aligned_free(pointer);
#else
    std::free(pointer);
#endif
    return SSM_SUCCESS;
}

// Large blocks are cut into pieces for the pool.
template <class Piece>
void in_pieces(BackendContext* context, uint64_t bytes, const Piece& piece) {
    constexpr uint64_t size = uint64_t{1} << 20;
    parallel_for(static_cast<int64_t>((bytes + size - 1) / size), context->threads, [&](int64_t i) {
        const uint64_t begin = static_cast<uint64_t>(i) * size;
        piece(begin, bytes - begin < size ? bytes - begin : size);
    });
}

int32_t copy(BackendContext* context, void* destination, const void* source, uint64_t bytes, CopyKind) {
    if (destination != source)
        in_pieces(context, bytes, [&](uint64_t begin, uint64_t size) {
            std::memcpy(static_cast<char*>(destination) + begin, static_cast<const char*>(source) + begin, size);
        });
    return SSM_SUCCESS;
}

int32_t set(BackendContext* context, void* destination, int32_t value, uint64_t bytes) {
    in_pieces(context, bytes,
              [&](uint64_t begin, uint64_t size) { std::memset(static_cast<char*>(destination) + begin, value, size); });
    return SSM_SUCCESS;
}

int32_t event_create(BackendContext*, void** event) {
    *event = new (std::nothrow) Event;
    return *event ? SSM_SUCCESS : fail(SSM_ERROR_OUT_OF_MEMORY, "event: out of memory");
}

int32_t event_destroy(void* event) {
    delete static_cast<Event*>(event);
    return SSM_SUCCESS;
}

int32_t event_record(BackendContext*, void* event) {
    static_cast<Event*>(event)->at = std::chrono::steady_clock::now();
    static_cast<Event*>(event)->recorded = true;
    return SSM_SUCCESS;
}

int32_t event_wait(BackendContext*, void*) {
    return SSM_SUCCESS;
}

int32_t event_query(void*, int32_t* completed) {
    *completed = 1;
    return SSM_SUCCESS;
}

int32_t event_synchronize(void*) {
    return SSM_SUCCESS;
}

int32_t event_elapsed(void* start, void* end, double* seconds) {
    const Event *from = static_cast<Event*>(start), *to = static_cast<Event*>(end);
    if (!from->recorded || !to->recorded)
        return fail(SSM_ERROR_INVALID_STATE, "event: not recorded yet");
    *seconds = std::chrono::duration<double>(to->at - from->at).count();
    return SSM_SUCCESS;
}

constexpr Backend table() {
    Backend b = {};
    b.struct_size = sizeof(Backend);
    b.abi = backend_abi;
    b.build_id = SSM_BUILD_ID;
    b.device_type = SSM_DEVICE_CPU;
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
    b.free = release;
    b.host_allocate = allocate;
    b.host_free = release;
    b.copy = copy;
    b.set = set;
    b.event_create = event_create;
    b.event_destroy = event_destroy;
    b.event_record = event_record;
    b.event_wait = event_wait;
    b.event_query = event_query;
    b.event_synchronize = event_synchronize;
    b.event_elapsed = event_elapsed;
    b.strided_copy = strided_copy;
#define SSM_OPERATION(operation, Params)                                                                                    \
    b.operation = operation;                                                                                                \
    b.operation##_workspace = operation##_workspace;
#include "core/operations.inc"
#undef SSM_OPERATION
    return b;
}

constexpr Backend the_table = table();

} // namespace

int32_t fail(int32_t status, const char* sentence) {
    if (the_host.set_error)
        the_host.set_error(sentence);
    return status;
}

int64_t last_level_cache() {
    static const int64_t bytes = [] {
#if defined(_SC_LEVEL3_CACHE_SIZE)
        for (int name : {_SC_LEVEL4_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE, _SC_LEVEL2_CACHE_SIZE})
            if (const long size = sysconf(name); size > 0)
                return int64_t{size};
#endif
        return int64_t{0};
    }();
    return bytes;
}

} // namespace ssm::cpu

namespace ssm {
const Backend* cpu_backend(const BackendHost* host) {
    cpu::the_host = *host;
    return &cpu::the_table;
}
} // namespace ssm
