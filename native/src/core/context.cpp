#include "core/context.h"

#include "core/arguments.h"

using namespace ssm;

namespace ssm {

DeviceBuffer::DeviceBuffer(ssm_context& context, uint64_t bytes) : context(context), bytes(bytes) {
    context.call(context.backend.allocate, bytes, &pointer);
}

DeviceBuffer::~DeviceBuffer() {
    try {
        context.release(context.backend.free, pointer);
    } catch (...) { // a device that faulted cannot free either
    }
}

} // namespace ssm

ssm_context::ssm_context(const Device& device) : device(device), backend(*device.backend) {
    check_backend(backend.context_create, device.id, &own);
}

ssm_context::~ssm_context() {
    if (is_recording())
        capturing = false;
    if (capturing) {
        void* abandoned = nullptr;
        if (call_backend(backend.capture_end, own, &abandoned) == SSM_SUCCESS && abandoned)
            backend.graph_destroy(abandoned);
        capturing = false;
    }
    recorded.clear();
    call_backend(backend.synchronize, own);
    try {
        free_deferred();
    } catch (...) {
    }
    buffer.reset();
    call_backend(backend.context_destroy, own);
}

ssm_context& ssm_context::enter(ssm_context* context) {
    ssm_context& answer = required_pointer("context", "a context", context);
    if (answer.faulted.load(std::memory_order_acquire))
        fail(SSM_ERROR_DEVICE_FAULT, answer.fault);
    return answer;
}

void ssm_context::check(int32_t status) const {
    if (status == SSM_SUCCESS)
        return;
    try {
        fail_backend(status);
    } catch (const Failure& failure) {
        if (failure.status == SSM_ERROR_DEVICE_FAULT) {
            const std::lock_guard<std::mutex> lock(mutex);
            if (!faulted) {
                fault = failure.sentence;
                faulted.store(true, std::memory_order_release);
            }
        }
        throw;
    }
}

char* ssm_context::workspace(uint64_t bytes) {
    if (bytes == 0)
        return nullptr;
    const auto too_small = [&](uint64_t held, const char* text) {
        fail(SSM_ERROR_WORKSPACE_TOO_SMALL,
             "workspace: " + std::to_string(bytes) + " bytes expected, " + std::to_string(held) + text);
    };
    if (is_workspace_given) {
        if (given_bytes < bytes)
            too_small(given_bytes, " given");
        return static_cast<char*>(given_workspace);
    }
    const uint64_t held = buffer ? buffer->bytes : 0;
    if (held < bytes) {
        if (capturing)
            too_small(held, " held, and it cannot grow during a capture");
        // The old one goes first, so that both need not fit. Without memory for the new one the context has none, until a
        // later call gets it.
        buffer.reset();
        buffer = std::make_shared<DeviceBuffer>(*this, bytes);
    }
    return static_cast<char*>(buffer->pointer);
}

bool ssm_context::is_on_device(const DLTensor& tensor) const {
    const int32_t type = device_type_of(tensor);
    switch (device.type) {
    case SSM_DEVICE_CPU:
        return type == kDLCPU || type == kDLCUDAHost;
    case SSM_DEVICE_CUDA:
        return (type == kDLCUDA || type == kDLCUDAManaged) && tensor.device.device_id == device.id;
    default:
        return type == device.type && tensor.device.device_id == device.id;
    }
}

void ssm_context::expect_device(const char* name, const DLTensor& tensor) const {
    if (is_on_device(tensor))
        return;
    fail_argument(name, "a tensor on " + name_of_device(device.type, device.id),
                  "one on " + name_of_device(device_type_of(tensor), tensor.device.device_id));
}

void ssm_context::expect_no_capture(const char* function) const {
    if (capturing)
        fail(SSM_ERROR_INVALID_STATE, std::string(function) + ": not legal during a capture");
}

void ssm_context::release(int32_t (*free)(BackendContext*, void*), void* pointer) {
    if (!pointer)
        return;
    int32_t status;
    {
        const std::lock_guard<std::mutex> lock(mutex);
        if (capturing) {
            deferred.emplace_back(free, pointer);
            return;
        }
        status = call_backend(free, own, pointer);
    }
    check(status);
}

void ssm_context::free_deferred() {
    std::vector<std::pair<int32_t (*)(BackendContext*, void*), void*>> list;
    {
        const std::lock_guard<std::mutex> lock(mutex);
        list.swap(deferred);
    }
    int32_t first = SSM_SUCCESS;
    for (const auto& [free, pointer] : list) {
        const int32_t status = first == SSM_SUCCESS ? call_backend(free, own, pointer) : free(own, pointer);
        if (first == SSM_SUCCESS)
            first = status;
    }
    check(first);
}

void ssm_context::set_workspace(void* pointer, uint64_t bytes) {
    expect_no_capture("ssm_context_set_workspace");
    if (reinterpret_cast<uintptr_t>(pointer) % 256 != 0) {
        fail_argument("pointer", "an address that 256 divides", std::to_string(reinterpret_cast<uintptr_t>(pointer)));
    }
    if (!pointer && bytes != 0)
        fail_argument("pointer", std::to_string(bytes) + " bytes", "NULL");
    if (pointer && bytes == 0)
        fail_argument("bytes", "a size", "0");
    if (pointer)
        buffer.reset();
    is_workspace_given = pointer != nullptr;
    given_workspace = pointer;
    given_bytes = bytes;
}

extern "C" int32_t ssm_context_create(int32_t device_type, int32_t device_id, ssm_context** context) {
    return guarded([&] {
        ssm_context*& answer = required_pointer("context", "a pointer", context);
        answer = nullptr;
        answer = new ssm_context(find_device(device_type, device_id));
    });
}

extern "C" int32_t ssm_context_destroy(ssm_context* context) {
    return guarded([&] { delete context; });
}

extern "C" int32_t ssm_context_get_device(ssm_context* context, int32_t* device_type, int32_t* device_id) {
    return guarded([&] {
        const ssm_context& self = ssm_context::enter(context);
        int32_t& type = required_pointer("device_type", "a pointer", device_type);
        int32_t& id = required_pointer("device_id", "a pointer", device_id);
        type = self.device.type;
        id = self.device.id;
    });
}

extern "C" int32_t ssm_context_set_stream(ssm_context* context, void* stream) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        self.expect_no_capture("ssm_context_set_stream");
        self.call(self.backend.set_stream, stream);
    });
}

extern "C" int32_t ssm_context_get_stream(ssm_context* context, void** stream) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        void*& answer = required_pointer("stream", "a pointer", stream);
        self.call(self.backend.get_stream, &answer);
    });
}

extern "C" int32_t ssm_context_set_workspace(ssm_context* context, void* pointer, uint64_t bytes) {
    return guarded([&] { ssm_context::enter(context).set_workspace(pointer, bytes); });
}

extern "C" int32_t ssm_context_set_threads(ssm_context* context, int32_t threads) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        if (threads < 0)
            fail_argument("threads", "0 or more", std::to_string(threads));
        self.call(self.backend.set_threads, threads);
    });
}

extern "C" int32_t ssm_context_set_checking(ssm_context* context, int32_t enabled) {
    return guarded([&] { ssm_context::enter(context).is_checking = read_bool("enabled", enabled); });
}

extern "C" int32_t ssm_context_set_option(ssm_context* context, const char* name, int64_t value) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        self.call(self.backend.set_option, &required_pointer("name", "the name of an option", name), value);
    });
}

extern "C" int32_t ssm_context_synchronize(ssm_context* context) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        self.expect_no_capture("ssm_context_synchronize");
        self.call(self.backend.synchronize);
    });
}

extern "C" int32_t ssm_context_notify(ssm_context* context, void (*callback)(void* user, int32_t status), void* user) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        self.expect_no_capture("ssm_context_notify");
        if (!callback)
            fail_argument("callback", "a function", "NULL");
        self.call(self.backend.notify, callback, user);
    });
}

extern "C" int32_t ssm_stream_create(ssm_context* context, void** stream) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        self.expect_no_capture("ssm_stream_create");
        void*& answer = required_pointer("stream", "a pointer", stream);
        answer = nullptr;
        self.call(self.backend.stream_create, &answer);
    });
}

extern "C" int32_t ssm_stream_destroy(ssm_context* context, void* stream) {
    return guarded([&] {
        ssm_context& self = required_pointer("context", "a context", context);
        self.expect_no_capture("ssm_stream_destroy");
        if (stream)
            self.call(self.backend.stream_destroy, stream);
    });
}
