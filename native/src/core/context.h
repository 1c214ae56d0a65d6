// What a context is: a backend's own context, a workspace, and work being captured.
#pragma once

#include "core/backends.h"
#include "core/tensor.h"

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace ssm {

// Device memory that the context and the graphs captured with it share.
struct DeviceBuffer {
    ssm_context& context;
    void* pointer = nullptr;
    uint64_t bytes = 0;

    DeviceBuffer(ssm_context& context, uint64_t bytes);
    DeviceBuffer(const DeviceBuffer&) = delete;
    ~DeviceBuffer();
};

// Calls recorded for a backend that has no graphs of its own.
using RecordedCall = std::function<int32_t(BackendContext*)>;

} // namespace ssm

struct ssm_context {
    const ssm::Device device;
    const ssm::Backend& backend;
    ssm::BackendContext* own = nullptr; // the backend's part
    bool is_checking = false;           // the values that only a wait shows are looked at too

    explicit ssm_context(const ssm::Device& device);
    ssm_context(const ssm_context&) = delete;
    ~ssm_context();

    // The context of a call, usable: not null and without a fault.
    static ssm_context& enter(ssm_context* context);

    // Throws if a call of the backend failed, and remembers a device fault. const: queries come here too.
    void check(int32_t status) const;
    template <class Function, class... Arguments>
    void call(Function function, Arguments... arguments) const {
        check(ssm::call_backend(function, own, arguments...));
    }

    // Makes a call now, or records it: call(own), or function(own, &params) with a copy of the parameters.
    template <class Call>
    void enqueue(Call call) {
        if (is_recording())
            recorded.push_back(std::move(call));
        else
            check(ssm::call_backend(call, own));
    }
    template <class Params>
    void enqueue(int32_t (*function)(ssm::BackendContext*, const Params*), const Params& params) {
        if (is_recording())
            recorded.push_back([function, params](ssm::BackendContext* own) { return function(own, &params); });
        else
            call(function, &params);
    }

    // Scratch memory, 256-byte aligned, until the next call on the context.
    char* workspace(uint64_t bytes);

    // Throws unless the tensor lies where the context's operations can reach it.
    void expect_device(const char* name, const DLTensor& tensor) const;
    bool is_on_device(const DLTensor& tensor) const;

    void expect_no_capture(const char* function) const;
    bool is_capturing() const { return capturing; }
    bool is_recording() const { return capturing && !backend.capture_begin; }

    // Frees now, or when the capture ends: freeing would disturb it. From any thread.
    void release(int32_t (*free)(ssm::BackendContext*, void*), void* pointer);

    void set_workspace(void* pointer, uint64_t bytes);
    void begin_capture();
    std::unique_ptr<ssm_graph> end_capture();

  private:
    // Written under the mutex, which threads that free need; read without it by the context's own thread.
    mutable std::mutex mutex;
    bool capturing = false;
    std::vector<std::pair<int32_t (*)(ssm::BackendContext*, void*), void*>> deferred; // to be freed after the capture

    std::vector<ssm::RecordedCall> recorded;
    std::shared_ptr<ssm::DeviceBuffer> buffer; // the workspace that grows
    bool is_workspace_given = false;
    void* given_workspace = nullptr;
    uint64_t given_bytes = 0;

    mutable std::atomic<bool> faulted = false;
    mutable std::string fault; // its sentence; written once, under the mutex, before faulted

    void free_deferred();
};

struct ssm_graph {
    ssm_context& context;
    void* own = nullptr; // the backend's
    std::vector<ssm::RecordedCall> calls;
    std::shared_ptr<ssm::DeviceBuffer> workspace; // kept while the graph may use it

    explicit ssm_graph(ssm_context& context) : context(context) {}
    ssm_graph(const ssm_graph&) = delete;
    ~ssm_graph();
};

struct ssm_event {
    ssm_context& context; // the one it was made from; others of the same device may record it and wait for it
    void* own = nullptr;
};
