// Contexts, workspaces, memory, events and graphs, on the CPU.
#include "core_support.h"

#include <atomic>
#include <cmath>
#include <thread>

namespace ssm::core_test {
namespace {

TEST(CoreContext, Device) {
    Context context(SSM_DEVICE_CPU);
    int32_t type = -1, id = -1;
    EXPECT_SUCCESS(ssm_context_get_device(context, &type, &id));
    EXPECT_EQ(type, SSM_DEVICE_CPU);
    EXPECT_EQ(id, 0);
    ssm_context* none = reinterpret_cast<ssm_context*>(1);
    EXPECT_FAILURE(SSM_ERROR_NO_DEVICE, "device_id: 0 to 0 expected, 1 given", ssm_context_create(SSM_DEVICE_CPU, 1, &none));
    EXPECT_EQ(none, nullptr);
    EXPECT_FAILURE(SSM_ERROR_NO_DEVICE, "device_id: 0 to 0 expected, -1 given",
                   ssm_context_create(SSM_DEVICE_CPU, -1, &none));
    EXPECT_INVALID("device_type: a value of ssm_device_type expected, 7 given", ssm_context_create(7, 0, &none));
    EXPECT_INVALID("context: a pointer expected, NULL given", ssm_context_create(SSM_DEVICE_CPU, 0, nullptr));
    EXPECT_SUCCESS(ssm_context_destroy(nullptr));
}

TEST(CoreContext, DefaultIsNeverEmulated) {
    Context context(SSM_DEVICE_DEFAULT);
    int32_t type = -1, id = -1, cuda = -1;
    EXPECT_SUCCESS(ssm_context_get_device(context, &type, &id));
    EXPECT_SUCCESS(ssm_device_count(SSM_DEVICE_CUDA, &cuda));
    EXPECT_EQ(type, cuda > 0 ? SSM_DEVICE_CUDA : SSM_DEVICE_CPU);
}

TEST(CoreContext, Properties) {
    int32_t count = 0;
    EXPECT_SUCCESS(ssm_device_count(SSM_DEVICE_CPU, &count));
    EXPECT_EQ(count, 1);
    ssm_device_properties properties;
    std::memset(&properties, 0xAB, sizeof(properties));
    properties.struct_size = sizeof(properties);
    EXPECT_SUCCESS(ssm_device_get_properties(SSM_DEVICE_CPU, 0, &properties));
    EXPECT_EQ(properties.device_type, SSM_DEVICE_CPU);
    EXPECT_GT(properties.multiprocessors, 0);
    EXPECT_GT(properties.total_memory, 0);
    // A smaller struct is written as far as it goes, a larger one gets zeros.
    std::memset(&properties, 0xAB, sizeof(properties));
    properties.struct_size = offsetof(ssm_device_properties, total_memory);
    EXPECT_SUCCESS(ssm_device_get_properties(SSM_DEVICE_CPU, 0, &properties));
    EXPECT_EQ(properties.device_id, 0);
    EXPECT_EQ(properties.total_memory, static_cast<int64_t>(0xABABABABABABABAB));
    struct {
        ssm_device_properties properties;
        int64_t tail = -1;
    } longer;
    longer.properties.struct_size = sizeof(longer);
    EXPECT_SUCCESS(ssm_device_get_properties(SSM_DEVICE_CPU, 0, &longer.properties));
    EXPECT_EQ(longer.tail, 0);
    properties.struct_size = 3;
    EXPECT_INVALID("properties: struct_size 568 expected, 3 given",
                   ssm_device_get_properties(SSM_DEVICE_CPU, 0, &properties));
}

// y = the running sum of every other number: packed, so it needs a workspace.
struct Strided {
    std::vector<float> x = std::vector<float>(64, 1), y = std::vector<float>(32);
    View in{x.data(), float32, {1, 2, 16}, {0, 32, 2}}, out{y.data(), float32, {1, 2, 16}};
    ssm_associative_scan_args args = make_args<ssm_associative_scan_args>();

    Strided() {
        args.x = in;
        args.y = out;
    }
    bool is_right(float one = 1) const {
        for (int i = 0; i < 32; ++i) {
            if (y[i] != one * static_cast<float>(i % 16 + 1))
                return false;
        }
        return true;
    }
};

TEST(CoreContext, Workspace) {
    Context context;
    Strided scan;
    uint64_t bytes = 0;
    EXPECT_SUCCESS(ssm_associative_scan_workspace(context, &scan.args, &bytes));
    EXPECT_GE(bytes, 128u);
    alignas(256) static char memory[1 << 16];
    ASSERT_LT(bytes, sizeof(memory));
    EXPECT_SUCCESS(ssm_context_set_workspace(context, memory, bytes));
    EXPECT_SUCCESS(ssm_associative_scan(context, &scan.args));
    EXPECT_TRUE(scan.is_right());
    EXPECT_SUCCESS(ssm_context_set_workspace(context, memory, bytes - 1));
    const std::string sentence =
        "workspace: " + std::to_string(bytes) + " bytes expected, " + std::to_string(bytes - 1) + " given";
    EXPECT_FAILURE(SSM_ERROR_WORKSPACE_TOO_SMALL, sentence.c_str(), ssm_associative_scan(context, &scan.args));
    EXPECT_SUCCESS(ssm_context_set_workspace(context, nullptr, 0));
    EXPECT_SUCCESS(ssm_associative_scan(context, &scan.args));
    EXPECT_EQ(ssm_context_set_workspace(context, memory + 128, 1024), SSM_ERROR_INVALID_ARGUMENT);
    EXPECT_INVALID("pointer: 8 bytes expected, NULL given", ssm_context_set_workspace(context, nullptr, 8));
    EXPECT_INVALID("bytes: a size expected, 0 given", ssm_context_set_workspace(context, memory, 0));
}

TEST(CoreContext, Memory) {
    Context context;
    void* pointer = &context;
    EXPECT_SUCCESS(ssm_allocate(context, 0, &pointer));
    EXPECT_EQ(pointer, nullptr);
    EXPECT_SUCCESS(ssm_allocate(context, 1000, &pointer));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(pointer) % 256, 0u);
    View tensor{pointer, uint8, {1000}};
    EXPECT_SUCCESS(ssm_set(context, tensor, 7));
    EXPECT_EQ(static_cast<char*>(pointer)[999], 7);
    EXPECT_SUCCESS(ssm_set(context, tensor, -1));
    EXPECT_EQ(static_cast<char*>(pointer)[999], -1);
    EXPECT_INVALID("value: -128 to 255 expected, 256 given", ssm_set(context, tensor, 256));
    View sparse{pointer, uint8, {500}, {2}};
    EXPECT_INVALID("destination: compact strides for shape (500) expected, (2) given", ssm_set(context, sparse, 0));
    std::thread([&] { EXPECT_SUCCESS(ssm_free(context, pointer)); }).join();
    EXPECT_SUCCESS(ssm_free(context, nullptr));
    EXPECT_SUCCESS(ssm_host_allocate(context, 1000, &pointer));
    EXPECT_SUCCESS(ssm_host_free(context, pointer));
    EXPECT_INVALID("context: a context expected, NULL given", ssm_free(nullptr, nullptr));
}

TEST(CoreContext, Settings) {
    Context context;
    EXPECT_SUCCESS(ssm_context_set_threads(context, 2));
    EXPECT_INVALID("threads: 0 or more expected, -1 given", ssm_context_set_threads(context, -1));
    EXPECT_INVALID("name: the name of an option expected, NULL given", ssm_context_set_option(context, nullptr, 0));
    EXPECT_EQ(ssm_context_set_option(context, "no.such.option", 0), SSM_ERROR_INVALID_ARGUMENT);
    EXPECT_INVALID("callback: a function expected, NULL given", ssm_context_notify(context, nullptr, nullptr));
    std::atomic<int32_t> status = -1;
    const auto callback = [](void* user, int32_t answer) { *static_cast<std::atomic<int32_t>*>(user) = answer; };
    EXPECT_SUCCESS(ssm_context_notify(context, callback, &status));
    EXPECT_SUCCESS(ssm_context_synchronize(context));
    while (status < 0)
        std::this_thread::yield();
    EXPECT_EQ(status, SSM_SUCCESS);
}

TEST(CoreContext, Events) {
    Context context, other;
    ssm_event *start = nullptr, *end = nullptr;
    EXPECT_SUCCESS(ssm_event_create(context, &start));
    EXPECT_SUCCESS(ssm_event_create(context, &end));
    int32_t completed = 0;
    EXPECT_SUCCESS(ssm_event_query(start, &completed));
    EXPECT_EQ(completed, 1);
    EXPECT_SUCCESS(ssm_event_record(context, start));
    EXPECT_SUCCESS(ssm_event_record(other, end));
    EXPECT_SUCCESS(ssm_event_wait(other, start));
    EXPECT_SUCCESS(ssm_event_synchronize(end));
    double seconds = -1;
    EXPECT_SUCCESS(ssm_event_elapsed(start, end, &seconds));
    EXPECT_GE(seconds, 0);
    EXPECT_INVALID("event: an event expected, NULL given", ssm_event_record(context, nullptr));
    EXPECT_SUCCESS(ssm_event_destroy(start));
    EXPECT_SUCCESS(ssm_event_destroy(end));
    EXPECT_SUCCESS(ssm_event_destroy(nullptr));
}

TEST(CoreContext, CaptureReplays) {
    Context context;
    Strided scan;
    std::vector<float> copied(32, -1);
    View copy{copied.data(), float32, {1, 2, 16}};
    EXPECT_SUCCESS(ssm_associative_scan(context, &scan.args)); // the workspace grows
    std::fill(scan.y.begin(), scan.y.end(), -1.0f);
    EXPECT_SUCCESS(ssm_capture_begin(context));
    EXPECT_SUCCESS(ssm_associative_scan(context, &scan.args));
    EXPECT_SUCCESS(ssm_copy(context, scan.out, copy));
    View first{scan.y.data(), float32, {1}};
    EXPECT_SUCCESS(ssm_set(context, first, 0));
    ssm_graph* graph = nullptr;
    EXPECT_SUCCESS(ssm_capture_end(context, &graph));
    EXPECT_EQ(scan.y[0], -1); // recorded, not run
    EXPECT_EQ(copied[0], -1);
    for (float one : {1.0f, 3.0f}) {
        std::fill(scan.x.begin(), scan.x.end(), one);
        EXPECT_SUCCESS(ssm_graph_launch(context, graph));
        EXPECT_EQ(scan.y[0], 0);
        scan.y.swap(copied);
        EXPECT_TRUE(scan.is_right(one));
        scan.y.swap(copied);
    }
    // The workspace of the capture stays although the context's grows.
    std::vector<float> large_x(1 << 16, 1), large_y(1 << 15);
    View x{large_x.data(), float32, {1, 2, 1 << 14}, {0, 1 << 15, 2}}, y{large_y.data(), float32, {1, 2, 1 << 14}};
    auto args = make_args<ssm_associative_scan_args>();
    args.x = x;
    args.y = y;
    EXPECT_SUCCESS(ssm_associative_scan(context, &args));
    EXPECT_SUCCESS(ssm_graph_launch(context, graph));
    EXPECT_EQ(copied[31], 48);
    Context other;
    EXPECT_INVALID("graph: one captured with this context expected, another context's given",
                   ssm_graph_launch(other, graph));
    EXPECT_SUCCESS(ssm_graph_destroy(graph));
    EXPECT_SUCCESS(ssm_graph_destroy(nullptr));
}

TEST(CoreContext, CaptureRules) {
    Context context;
    Strided scan;
    ssm_graph* graph = nullptr;
    EXPECT_FAILURE(SSM_ERROR_INVALID_STATE, "ssm_capture_end: no capture is under way", ssm_capture_end(context, &graph));
    void* pointer = nullptr;
    EXPECT_SUCCESS(ssm_allocate(context, 4096, &pointer));
    EXPECT_SUCCESS(ssm_capture_begin(context));
    EXPECT_FAILURE(SSM_ERROR_INVALID_STATE, "ssm_capture_begin: a capture is under way", ssm_capture_begin(context));
    uint64_t bytes = 0;
    EXPECT_SUCCESS(ssm_associative_scan_workspace(context, &scan.args, &bytes));
    const std::string sentence =
        "workspace: " + std::to_string(bytes) + " bytes expected, 0 held, and it cannot grow during a capture";
    EXPECT_FAILURE(SSM_ERROR_WORKSPACE_TOO_SMALL, sentence.c_str(), ssm_associative_scan(context, &scan.args));
    void* more = nullptr;
    EXPECT_FAILURE(SSM_ERROR_INVALID_STATE, "ssm_allocate: not legal during a capture", ssm_allocate(context, 8, &more));
    EXPECT_FAILURE(SSM_ERROR_INVALID_STATE, "ssm_context_synchronize: not legal during a capture",
                   ssm_context_synchronize(context));
    EXPECT_FAILURE(SSM_ERROR_INVALID_STATE, "ssm_context_set_workspace: not legal during a capture",
                   ssm_context_set_workspace(context, nullptr, 0));
    EXPECT_FAILURE(SSM_ERROR_INVALID_STATE, "ssm_context_set_stream: not legal during a capture",
                   ssm_context_set_stream(context, nullptr));
    // Freeing is legal, from any thread, and waits for the end.
    std::thread([&] { EXPECT_SUCCESS(ssm_free(context, pointer)); }).join();
    std::memset(pointer, 1, 4096);
    EXPECT_SUCCESS(ssm_capture_end(context, &graph));
    EXPECT_SUCCESS(ssm_graph_launch(context, graph)); // of nothing
    EXPECT_SUCCESS(ssm_graph_destroy(graph));
    // A capture that is never ended.
    EXPECT_SUCCESS(ssm_capture_begin(context));
}

// cu_seqlens may change between the capture and the launch: they are looked at again.
TEST(CoreContext, LaunchChecksPackedSequences) {
    Context context;
    std::vector<float> memory(64, 1);
    std::vector<int64_t> ends{0, 2, 4};
    View x{memory.data(), float32, {1, 1, 4}}, y{memory.data() + 8, float32, {1, 1, 4}}, cu_seqlens{ends.data(), int64, {3}};
    auto args = make_args<ssm_associative_scan_args>();
    args.x = x;
    args.y = y;
    args.cu_seqlens = cu_seqlens;
    EXPECT_SUCCESS(ssm_associative_scan(context, &args)); // the workspace grows
    EXPECT_SUCCESS(ssm_capture_begin(context));
    EXPECT_SUCCESS(ssm_associative_scan(context, &args));
    ssm_graph* graph = nullptr;
    EXPECT_SUCCESS(ssm_capture_end(context, &graph));
    EXPECT_SUCCESS(ssm_graph_launch(context, graph));
    EXPECT_EQ(memory[11], 2);
    ends[1] = 1 << 30;
    EXPECT_INVALID("cu_seqlens[2]: at least 1073741824 expected, 4 given", ssm_graph_launch(context, graph));
    EXPECT_SUCCESS(ssm_graph_destroy(graph));
}

// Without a step the last state is the initial one, else the identity.
TEST(CoreContext, ZeroLength) {
    Context context;
    std::vector<double> memory(64, -5);
    View x{nullptr, complex128, {2, 3, 0}}, y{nullptr, complex128, {2, 3, 0}},
        initial_state{memory.data(), complex128, {2, 3}, {1, 2}}, last_state{memory.data() + 16, complex128, {2, 3}, {4, 1}};
    for (int i = 0; i < 12; ++i)
        memory[i] = i;
    auto args = make_args<ssm_associative_scan_args>();
    args.combine = SSM_COMBINE_MULTIPLY;
    args.x = x;
    args.y = y;
    args.initial_state = initial_state;
    args.last_state = last_state;
    EXPECT_SUCCESS(ssm_associative_scan(context, &args));
    const double* last = memory.data() + 16;
    for (int row = 0; row < 2; ++row) {
        for (int channel = 0; channel < 3; ++channel) {
            for (int part = 0; part < 2; ++part) {
                EXPECT_EQ(last[2 * (4 * row + channel) + part], 2 * (row + 2 * channel) + part);
            }
        }
    }
    EXPECT_EQ(last[6], -5); // between the rows
    args.initial_state = nullptr;
    uint64_t bytes = 0;
    EXPECT_SUCCESS(ssm_associative_scan_workspace(context, &args, &bytes));
    EXPECT_EQ(bytes, 256u);
    EXPECT_SUCCESS(ssm_associative_scan(context, &args));
    for (int row = 0; row < 2; ++row) {
        for (int channel = 0; channel < 3; ++channel) {
            EXPECT_EQ(last[2 * (4 * row + channel)], 1);
            EXPECT_EQ(last[2 * (4 * row + channel) + 1], 0);
        }
    }
    x.tensor.dtype = y.tensor.dtype = float16;
    std::vector<float> states(6, 7);
    View maximum{states.data(), float32, {2, 3}};
    args.last_state = maximum;
    args.combine = SSM_COMBINE_MAXIMUM;
    EXPECT_SUCCESS(ssm_associative_scan(context, &args));
    EXPECT_EQ(states[5], -INFINITY);
    args.combine = SSM_COMBINE_ADD;
    EXPECT_SUCCESS(ssm_associative_scan(context, &args));
    EXPECT_EQ(states[5], 0);

    // Gradients of nothing pass through.
    auto backward = make_args<ssm_linear_recurrence_backward_args>();
    View empty{nullptr, float32, {2, 3, 0}};
    std::vector<float> gradient{1, 2, 3, 4, 5, 6};
    View grad_last_state{gradient.data(), float32, {2, 3}};
    backward.a = backward.grad_h = empty;
    backward.grad_last_state = grad_last_state;
    backward.grad_initial_state = maximum;
    EXPECT_SUCCESS(ssm_linear_recurrence_backward(context, &backward));
    EXPECT_EQ(states[5], 6);
    backward.grad_last_state = nullptr;
    EXPECT_SUCCESS(ssm_linear_recurrence_backward(context, &backward));
    EXPECT_EQ(states[5], 0);
}

TEST(CoreContext, OtherZeroSizes) {
    Context context;
    std::vector<float> memory(64, -5);
    auto args = make_args<ssm_linear_recurrence_args>();
    View none{nullptr, float32, {0, 3, 4}}, state{nullptr, float32, {0, 3}};
    args.a = args.b = args.h = none;
    args.initial_state = args.last_state = state;
    EXPECT_SUCCESS(ssm_linear_recurrence(context, &args));
    uint64_t bytes = 1;
    EXPECT_SUCCESS(ssm_linear_recurrence_workspace(context, &args, &bytes));
    EXPECT_EQ(bytes, 0u);
    // Packed: sequences without a step.
    int64_t ends[3] = {0, 0, 0};
    View cu_seqlens{ends, int64, {3}}, flat{nullptr, float32, {1, 3, 0}}, rows{memory.data(), float32, {2, 3}};
    args.a = args.b = args.h = flat;
    args.cu_seqlens = cu_seqlens;
    args.initial_state = nullptr;
    args.last_state = rows;
    EXPECT_SUCCESS(ssm_linear_recurrence(context, &args));
    EXPECT_EQ(memory[5], 0);
    EXPECT_EQ(memory[6], -5);
    // No states in the selective scan: y is d u, here zero.
    auto scan = make_args<ssm_selective_scan_args>();
    View u{memory.data(), float32, {1, 2, 2}}, y{memory.data() + 8, float32, {1, 2, 2}}, a{nullptr, float32, {2, 0}},
        b{nullptr, float32, {1, 1, 0, 2}};
    scan.u = scan.dt = u;
    scan.y = y;
    scan.a = a;
    scan.b = scan.c = b;
    EXPECT_SUCCESS(ssm_selective_scan(context, &scan));
    EXPECT_EQ(memory[8], 0);
    EXPECT_EQ(memory[12], -5);
}

TEST(CoreContext, ContextsOnManyThreads) {
    std::vector<std::thread> threads;
    std::atomic<int> right = 0;
    for (int t = 0; t < 8; ++t) {
        threads.emplace_back([&] {
            Context context;
            for (int round = 0; round < 50; ++round) {
                Strided scan;
                EXPECT_SUCCESS(ssm_associative_scan(context, &scan.args));
                right += scan.is_right();
            }
        });
    }
    for (std::thread& thread : threads)
        thread.join();
    EXPECT_EQ(right, 400);
}

} // namespace
} // namespace ssm::core_test
