#include "core_backends/fake_backend.h"

#include <cstdlib>
#include <cstring>

struct ssm::BackendContext {
    int32_t device;
};

namespace ssm::fake {
namespace {

State& state() {
    static State* const the_state = new State;
    return *the_state;
}

const BackendHost* host = nullptr;

void note(const std::string& call) {
    const std::lock_guard<std::mutex> lock(state().mutex);
    state().calls.push_back(call);
}

int32_t answer(int32_t status, const std::string& sentence) {
    if (status != SSM_SUCCESS && !sentence.empty())
        host->set_error(sentence.c_str());
    return status;
}

int32_t answer_operation(const char* name) {
    note(name);
    return answer(state().operation_status, state().operation_sentence);
}

int32_t device_count(int32_t* count) {
    *count = state().devices;
    return answer(state().count_status, state().count_sentence);
}

int32_t allocate(BackendContext*, uint64_t bytes, void** pointer) {
    note("allocate " + std::to_string(bytes));
    if (state().failing_allocations > 0) {
        --state().failing_allocations;
        return answer(SSM_ERROR_OUT_OF_MEMORY, "device memory: " + std::to_string(bytes) + " bytes expected, none given");
    }
    *pointer = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    const std::lock_guard<std::mutex> lock(state().mutex);
    state().memory.insert(*pointer);
    return SSM_SUCCESS;
}

int32_t release(BackendContext*, void* pointer) {
    note("free");
    {
        const std::lock_guard<std::mutex> lock(state().mutex);
        state().memory.erase(pointer);
    }
    std::free(pointer);
    return SSM_SUCCESS;
}

int32_t copy(BackendContext*, void* destination, const void* source, uint64_t bytes, CopyKind kind) {
    static constexpr const char* kinds[] = {"to device ", "to host ", "on device "};
    note(std::string("copy ") + kinds[static_cast<int>(kind)] + std::to_string(bytes));
    std::memcpy(destination, source, bytes);
    return SSM_SUCCESS;
}

int32_t strided_copy(BackendContext*, const StridedCopyParams* params) {
    note("strided_copy");
    int64_t index[StridedCopyParams::max_rank] = {};
    for (;;) {
        int64_t from = 0, to = 0;
        for (int i = 0; i < params->rank; ++i) {
            from += index[i] * params->source_strides[i];
            to += index[i] * params->destination_strides[i];
        }
        std::memcpy(static_cast<char*>(params->destination) + to * params->element_size,
                    static_cast<const char*>(params->source) + from * params->element_size,
                    static_cast<size_t>(params->element_size));
        int axis = params->rank - 1;
        while (axis >= 0 && ++index[axis] == params->shape[axis])
            index[axis--] = 0;
        if (axis < 0)
            return SSM_SUCCESS;
    }
}

int32_t associative_scan(BackendContext*, const AssociativeScanParams* params) {
    state().scan = *params;
    return answer_operation("associative_scan");
}

int32_t associative_scan_workspace(BackendContext*, const AssociativeScanParams*, uint64_t* bytes) {
    *bytes = state().operation_workspace;
    return SSM_SUCCESS;
}

Backend make_table() {
    Backend table{};
    table.struct_size = state().struct_size;
    table.abi = state().abi;
    table.build_id = state().build_id.c_str();
    table.device_type = SSM_FAKE_DEVICE_TYPE;
    table.device_count = device_count;
    table.device_properties = [](int32_t, ssm_device_properties* properties) {
        std::strcpy(properties->name, "a fake");
        return int32_t{SSM_SUCCESS};
    };
    table.context_create = [](int32_t device, BackendContext** context) {
        *context = new BackendContext{device};
        return int32_t{SSM_SUCCESS};
    };
    table.context_destroy = [](BackendContext* context) {
        delete context;
        return int32_t{SSM_SUCCESS};
    };
    table.set_stream = [](BackendContext*, void*) { return answer_operation("set_stream"); };
    table.get_stream = [](BackendContext*, void** stream) {
        *stream = nullptr;
        return int32_t{SSM_SUCCESS};
    };
    table.set_threads = [](BackendContext*, int32_t) { return answer_operation("set_threads"); };
    table.set_option = [](BackendContext*, const char*, int64_t) { return answer_operation("set_option"); };
    table.synchronize = [](BackendContext*) { return answer_operation("synchronize"); };
    table.notify = [](BackendContext*, void (*callback)(void*, int32_t), void* user) {
        callback(user, SSM_SUCCESS);
        return int32_t{SSM_SUCCESS};
    };
    table.stream_create = [](BackendContext*, void**) { return int32_t{SSM_SUCCESS}; };
    table.stream_destroy = [](BackendContext*, void*) { return int32_t{SSM_SUCCESS}; };
    table.allocate = allocate;
    table.free = release;
    table.host_allocate = allocate;
    table.host_free = release;
    table.copy = copy;
    table.set = [](BackendContext*, void* destination, int32_t value, uint64_t bytes) {
        note("set");
        std::memset(destination, value, bytes);
        return int32_t{SSM_SUCCESS};
    };
    table.event_create = [](BackendContext*, void** event) {
        *event = new char;
        return int32_t{SSM_SUCCESS};
    };
    table.event_destroy = [](void* event) {
        delete static_cast<char*>(event);
        return int32_t{SSM_SUCCESS};
    };
    table.event_record = [](BackendContext*, void*) { return answer_operation("event_record"); };
    table.event_wait = [](BackendContext*, void*) { return answer_operation("event_wait"); };
    table.event_query = [](void*, int32_t* completed) {
        *completed = 1;
        return answer_operation("event_query");
    };
    table.event_synchronize = [](void*) { return answer_operation("event_synchronize"); };
    table.event_elapsed = [](void*, void*, double* seconds) {
        *seconds = 0;
        return int32_t{SSM_SUCCESS};
    };
    if (state().has_graphs) {
        table.capture_begin = [](BackendContext*) { return answer_operation("capture_begin"); };
        table.capture_end = [](BackendContext*, void** graph) {
            *graph = new char;
            return answer_operation("capture_end");
        };
        table.graph_launch = [](BackendContext*, void*) { return answer_operation("graph_launch"); };
        table.graph_destroy = [](void* graph) {
            delete static_cast<char*>(graph);
            return answer_operation("graph_destroy");
        };
    }
    table.strided_copy = strided_copy;
    table.associative_scan = associative_scan;
    table.associative_scan_workspace = associative_scan_workspace;
    table.linear_recurrence = [](BackendContext*, const LinearRecurrenceParams* params) {
        state().recurrence = *params;
        return answer_operation("linear_recurrence");
    };
    table.linear_recurrence_workspace = [](BackendContext*, const LinearRecurrenceParams*, uint64_t* bytes) {
        *bytes = state().operation_workspace;
        return int32_t{SSM_SUCCESS};
    };
    table.linear_recurrence_backward = [](BackendContext*, const LinearRecurrenceBackwardParams* params) {
        state().backward = *params;
        return answer_operation("linear_recurrence_backward");
    };
    table.linear_recurrence_backward_workspace = [](BackendContext*, const LinearRecurrenceBackwardParams*,
                                                    uint64_t* bytes) {
        *bytes = state().backward_workspace;
        return int32_t{SSM_SUCCESS};
    };
    return table;
}

} // namespace
} // namespace ssm::fake

extern "C" ssm::fake::State* fake_state() {
    return &ssm::fake::state();
}

extern "C" const ssm::Backend* ssm_backend_table(const ssm::BackendHost* host) {
    ssm::fake::host = host;
    if (ssm::fake::state().is_null)
        return nullptr;
    static ssm::Backend table;
    table = ssm::fake::make_table();
    return &table;
}
