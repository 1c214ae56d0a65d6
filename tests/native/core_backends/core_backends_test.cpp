// Loading backends, and what core makes of their answers. The folder of this program holds a copy of the library and, beside
// it, a fake emulated backend and no CUDA backend; a fake CUDA backend lies in a folder of its own.
#include "core_backends/fake_backend.h"
#include "core_support.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

namespace ssm::core_test {
namespace {

const std::string fake_path = SSM_FAKE_CUDA_PATH;

fake::State& state_of(const std::string& path) {
    static std::vector<std::pair<std::string, fake::State*>> known;
    for (auto& [name, state] : known) {
        if (name == path)
            return *state;
    }
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        ADD_FAILURE() << dlerror();
        std::abort();
    }
    known.emplace_back(path, reinterpret_cast<fake::State* (*)()>(dlsym(library, "fake_state"))());
    return *known.back().second;
}

fake::State& fake_cuda() {
    return state_of(fake_path);
}

std::string folder_of_library() {
    Dl_info info;
    dladdr(reinterpret_cast<void*>(&ssm_version), &info);
    return std::filesystem::canonical(info.dli_fname).parent_path().string() + "/";
}

bool log_has(const std::string& line) {
    const std::string log = ssm_backend_log();
    return log.find(line + "\n") != std::string::npos;
}

// The fake CUDA backend, loaded, with everything going well and no calls noted.
class CoreBackends : public testing::Test {
  protected:
    fake::State& fake = fake_cuda();

    void SetUp() override {
        ASSERT_SUCCESS(ssm_backend_load(fake_path.c_str()));
        reset();
    }
    void TearDown() override {
        reset();
        EXPECT_TRUE(fake.memory.empty());
    }
    void reset() {
        fake.devices = 2;
        fake.count_status = fake.operation_status = SSM_SUCCESS;
        fake.count_sentence = fake.operation_sentence = "";
        fake.failing_allocations = 0;
        fake.operation_workspace = fake.backward_workspace = 0;
        fake.calls.clear();
    }
    std::vector<std::string> take_calls() {
        std::vector<std::string> calls;
        calls.swap(fake.calls);
        return calls;
    }
};
using Calls = std::vector<std::string>;

// The registry is one per process and this must see it empty: it comes first.
TEST(CoreBackendsLoading, AbsentThenRefusedThenLoaded) {
    if (log_has("load " + fake_path + ": the cuda backend"))
        GTEST_SKIP() << "the backend is loaded already";
    const std::string folder = folder_of_library();
    int32_t count = -1;
    EXPECT_SUCCESS(ssm_device_count(SSM_DEVICE_CUDA, &count));
    EXPECT_EQ(count, 0);
    const std::string missing = folder + "libssmcuda_cuda.so: no such file";
    EXPECT_TRUE(log_has("cuda: " + missing)) << ssm_backend_log();
    ssm_context* context = nullptr;
    EXPECT_FAILURE(SSM_ERROR_LIBRARY_NOT_FOUND, ("device_type: cuda is not available, " + missing).c_str(),
                   ssm_context_create(SSM_DEVICE_CUDA, 0, &context));
    EXPECT_SUCCESS(ssm_context_create(SSM_DEVICE_DEFAULT, 0, &context));
    int32_t type = 0, id = 0;
    EXPECT_SUCCESS(ssm_context_get_device(context, &type, &id));
    EXPECT_EQ(type, SSM_DEVICE_CPU);
    EXPECT_SUCCESS(ssm_context_destroy(context));

    EXPECT_INVALID("path: an absolute path expected, libssmcuda_cuda.so given", ssm_backend_load("libssmcuda_cuda.so"));
    EXPECT_FAILURE(SSM_ERROR_LIBRARY_NOT_FOUND, "/nowhere/lib.so: no such file", ssm_backend_load("/nowhere/lib.so"));
    EXPECT_TRUE(log_has("load /nowhere/lib.so: no such file"));
    const std::string text = folder + "text.so";
    std::ofstream(text) << "not a library";
    EXPECT_EQ(ssm_backend_load(text.c_str()), SSM_ERROR_LIBRARY_NOT_FOUND);
    const std::string itself = std::filesystem::canonical(folder + "libssmcuda.so.0").string();
    EXPECT_FAILURE(SSM_ERROR_LIBRARY_NOT_FOUND, (itself + ": it has no function ssm_backend_table").c_str(),
                   ssm_backend_load(itself.c_str()));

    fake::State& fake = fake_cuda();
    const auto expect_refused = [&](const std::string& reason) {
        EXPECT_FAILURE(SSM_ERROR_LIBRARY_NOT_FOUND, (fake_path + ": " + reason).c_str(),
                       ssm_backend_load(fake_path.c_str()));
        EXPECT_TRUE(log_has("load " + fake_path + ": " + reason));
    };
    fake.is_null = true;
    expect_refused("its ssm_backend_table answers NULL");
    fake.is_null = false;
    fake.abi = 99;
    expect_refused("backend abi " + std::to_string(backend_abi) + " expected, 99 given");
    fake.abi = backend_abi;
    fake.struct_size = 8;
    expect_refused("a table of " + std::to_string(sizeof(Backend)) + " bytes expected, 8 given");
    fake.struct_size = sizeof(Backend);
    fake.build_id = "another";
    expect_refused("build " SSM_BUILD_ID " expected, another given");
    fake.build_id = SSM_BUILD_ID;
    EXPECT_SUCCESS(ssm_backend_load(fake_path.c_str()));
    EXPECT_SUCCESS(ssm_backend_load(fake_path.c_str())); // the same again
    EXPECT_TRUE(log_has("load " + fake_path + ": the cuda backend"));
    EXPECT_SUCCESS(ssm_device_count(SSM_DEVICE_CUDA, &count));
    EXPECT_EQ(count, 2);
}

// From the library's own folder, whatever the current one is; never by default.
TEST_F(CoreBackends, OwnFolder) {
    const std::string folder = folder_of_library();
    state_of(folder + "libssmcuda_emulated.so").devices = 1;
    const std::filesystem::path before = std::filesystem::current_path();
    std::filesystem::current_path("/");
    {
        Context context(SSM_DEVICE_EMULATED);
        View x{nullptr, float32, {0}, {}, kDLExtDev, 1}, y{nullptr, float32, {0}, {}, kDLExtDev, 0};
        EXPECT_INVALID("source: a tensor on emulated:0 expected, one on emulated:1 given", ssm_copy(context, x, y));
    }
    std::filesystem::current_path(before);
    EXPECT_TRUE(log_has("emulated: " + folder + "libssmcuda_emulated.so: loaded"));
    const std::string other = folder + "libssmcuda_emulated.so";
    EXPECT_SUCCESS(ssm_backend_load(other.c_str()));
}

// One registry, whoever comes first.
TEST_F(CoreBackends, Default) {
    {
        Context context(SSM_DEVICE_DEFAULT, 1);
        int32_t type = 0, id = 0;
        EXPECT_SUCCESS(ssm_context_get_device(context, &type, &id));
        EXPECT_EQ(type, SSM_DEVICE_CUDA);
        EXPECT_EQ(id, 1);
    }
    fake.count_status = SSM_ERROR_DRIVER_MISSING;
    fake.count_sentence = "libcuda.so.1 is not installed";
    EXPECT_INVALID("context: a context expected, NULL given", ssm_context_synchronize(nullptr));
    Context context(SSM_DEVICE_DEFAULT);
    EXPECT_STREQ(ssm_last_error(), "context: a context expected, NULL given"); // a probe that fails is no failed call
    int32_t type = 0, id = 0;
    EXPECT_SUCCESS(ssm_context_get_device(context, &type, &id));
    EXPECT_EQ(type, SSM_DEVICE_CPU);
}

TEST_F(CoreBackends, TypedReasons) {
    ssm_context* context = nullptr;
    const struct {
        int32_t status;
        const char* sentence;
    } reasons[] = {{SSM_ERROR_DRIVER_MISSING, "libcuda.so.1 is not installed"},
                   {SSM_ERROR_NO_DEVICE, "the driver sees no device"},
                   {SSM_ERROR_NO_KERNEL_IMAGE, "compute capability 3.5 has no kernels here"}};
    for (const auto& reason : reasons) {
        fake.count_status = reason.status;
        fake.count_sentence = reason.sentence;
        EXPECT_FAILURE(reason.status, (std::string("device_type: cuda is not available, ") + reason.sentence).c_str(),
                       ssm_context_create(SSM_DEVICE_CUDA, 0, &context));
        EXPECT_EQ(context, nullptr);
        int32_t count = -1;
        EXPECT_SUCCESS(ssm_device_count(SSM_DEVICE_CUDA, &count));
        EXPECT_EQ(count, 0);
        EXPECT_TRUE(log_has(std::string("cuda: ") + ssm_status_name(reason.status) + ": " + reason.sentence));
    }
    fake.count_status = SSM_SUCCESS;
    fake.devices = 0;
    EXPECT_FAILURE(SSM_ERROR_NO_DEVICE, "device_type: cuda is not available, no device is present",
                   ssm_context_create(SSM_DEVICE_CUDA, 0, &context));
    fake.devices = 2;
    EXPECT_FAILURE(SSM_ERROR_NO_DEVICE, "device_id: 0 to 1 expected, 2 given",
                   ssm_context_create(SSM_DEVICE_CUDA, 2, &context));
    // The log does not grow with calls.
    const std::string log = ssm_backend_log();
    for (int i = 0; i < 100; ++i)
        EXPECT_EQ(ssm_context_create(SSM_DEVICE_CUDA, 2, &context), SSM_ERROR_NO_DEVICE);
    EXPECT_EQ(log, ssm_backend_log());
}

TEST_F(CoreBackends, StatusWithoutSentence) {
    Context context(SSM_DEVICE_CUDA);
    fake.operation_status = SSM_ERROR_UNSUPPORTED;
    EXPECT_FAILURE(SSM_ERROR_UNSUPPORTED, "the backend answered SSM_ERROR_UNSUPPORTED", ssm_context_set_threads(context, 1));
    fake.operation_status = 4711;
    EXPECT_FAILURE(SSM_ERROR_INTERNAL, "the backend answered the unknown status 4711", ssm_context_set_threads(context, 1));
    reset();
}

TEST_F(CoreBackends, DeviceFaultStays) {
    ssm_event* event = nullptr;
    void* pointer = nullptr;
    ssm_context* context = nullptr;
    ASSERT_SUCCESS(ssm_context_create(SSM_DEVICE_CUDA, 0, &context));
    ASSERT_SUCCESS(ssm_event_create(context, &event));
    ASSERT_SUCCESS(ssm_allocate(context, 64, &pointer));
    fake.operation_status = SSM_ERROR_DEVICE_FAULT;
    fake.operation_sentence = "an illegal address";
    EXPECT_FAILURE(SSM_ERROR_DEVICE_FAULT, "an illegal address", ssm_event_synchronize(event));
    fake.operation_status = SSM_SUCCESS;
    int32_t type, id;
    EXPECT_FAILURE(SSM_ERROR_DEVICE_FAULT, "an illegal address", ssm_context_get_device(context, &type, &id));
    EXPECT_FAILURE(SSM_ERROR_DEVICE_FAULT, "an illegal address", ssm_context_synchronize(context));
    EXPECT_FAILURE(SSM_ERROR_DEVICE_FAULT, "an illegal address", ssm_free(context, pointer)); // freed all the same
    EXPECT_TRUE(fake.memory.empty());
    Context other(SSM_DEVICE_CUDA); // contexts are independent
    EXPECT_SUCCESS(ssm_context_synchronize(other));
    EXPECT_SUCCESS(ssm_event_destroy(event));
    EXPECT_SUCCESS(ssm_context_destroy(context));
}

TEST_F(CoreBackends, NoMemoryLeavesTheContextUsable) {
    Context context(SSM_DEVICE_CUDA);
    std::vector<float> memory(256);
    View x{memory.data(), float32, {2, 3, 4}, {0, 8, 2}, kDLCUDA}, y{memory.data() + 64, float32, {2, 3, 4}, {}, kDLCUDA};
    auto args = make_args<ssm_associative_scan_args>();
    args.x = x;
    args.y = y;
    fake.operation_workspace = 1000;
    fake.failing_allocations = 1;
    EXPECT_FAILURE(SSM_ERROR_OUT_OF_MEMORY, "device memory: 1256 bytes expected, none given",
                   ssm_associative_scan(context, &args));
    take_calls();
    EXPECT_SUCCESS(ssm_associative_scan(context, &args));
    EXPECT_EQ(take_calls(), (Calls{"allocate 1256", "strided_copy", "associative_scan"}));
    EXPECT_SUCCESS(ssm_associative_scan(context, &args)); // nothing is allocated again
    EXPECT_EQ(take_calls(), (Calls{"strided_copy", "associative_scan"}));
    EXPECT_EQ(fake.scan.workspace.bytes, 1000u);
    EXPECT_EQ(static_cast<char*>(fake.scan.workspace.data) - static_cast<char*>(fake.scan.x.data), 256);
    // Growing frees the old one first, and failing to leaves none.
    fake.operation_workspace = 2000;
    fake.failing_allocations = 1;
    EXPECT_EQ(ssm_associative_scan(context, &args), SSM_ERROR_OUT_OF_MEMORY);
    EXPECT_EQ(take_calls(), (Calls{"free", "allocate 2256"}));
    EXPECT_SUCCESS(ssm_associative_scan(context, &args));
    EXPECT_EQ(take_calls(), (Calls{"allocate 2256", "strided_copy", "associative_scan"}));
}

TEST_F(CoreBackends, WhatAnOperationGets) {
    Context context(SSM_DEVICE_CUDA, 1);
    std::vector<float> memory(4096);
    const auto device = [&](int64_t at, std::vector<int64_t> shape, std::vector<int64_t> strides = {}) {
        return std::make_unique<View>(memory.data() + at, float32, std::move(shape), std::move(strides), kDLCUDA, 1);
    };
    auto args = make_args<ssm_associative_scan_args>();
    // Channel-contiguous, in place, with a batch apart.
    auto x = device(0, {2, 3, 4}, {100, 1, 3});
    args.x = args.y = *x;
    args.combine = SSM_COMBINE_MULTIPLY;
    args.reverse = args.exclusive = 1;
    ASSERT_SUCCESS(ssm_associative_scan(context, &args));
    EXPECT_EQ(take_calls(), (Calls{"associative_scan"}));
    const AssociativeScanParams& scan = fake.scan;
    EXPECT_EQ(scan.shape.layout, Layout::channel_contiguous);
    EXPECT_EQ(scan.combine, Combine::multiply);
    EXPECT_TRUE(scan.exclusive && scan.shape.reverse);
    EXPECT_EQ(scan.x.data, memory.data());
    EXPECT_EQ(scan.y.data, memory.data());
    EXPECT_EQ(scan.x.batch_stride, 100);
    EXPECT_EQ(scan.x.channel_stride, 1);
    EXPECT_EQ(scan.x.time_stride, 3);
    EXPECT_EQ(scan.initial_state, nullptr);
    EXPECT_EQ(scan.last_state, nullptr);
    EXPECT_EQ(scan.workspace.data, nullptr);
    // Dimensions of one index get the strides that let their neighbours run on.
    auto rows = device(0, {4, 1, 5}, {5, 0, 1});
    args.x = args.y = *rows;
    ASSERT_SUCCESS(ssm_associative_scan(context, &args));
    EXPECT_EQ(scan.shape.layout, Layout::time_contiguous);
    EXPECT_EQ(scan.x.channel_stride, 5);
    auto single = device(0, {1, 4, 5}, {-1, 5, 1});
    args.x = args.y = *single;
    ASSERT_SUCCESS(ssm_associative_scan(context, &args));
    EXPECT_EQ(scan.x.batch_stride, 20);
    // byte_offset, states made compact, an output unpacked.
    take_calls();
    auto in = device(0, {1, 2, 3}), out = device(100, {1, 2, 3}, {0, 2, 4}), state = device(200, {1, 2}, {2, 2});
    in->tensor.byte_offset = 8;
    args.x = *in;
    args.y = *out;
    args.last_state = *state;
    ASSERT_SUCCESS(ssm_associative_scan(context, &args));
    EXPECT_EQ(scan.x.data, memory.data() + 2);
    EXPECT_EQ(take_calls(), (Calls{"allocate 512", "associative_scan", "strided_copy", "strided_copy"}));
}

// Where grad_a is wanted without h, the forward operation runs first into the workspace, and both share what is left of it.
TEST_F(CoreBackends, BackwardRunsTheForward) {
    Context context(SSM_DEVICE_CUDA);
    std::vector<float> memory(256);
    const auto device = [&](int64_t at) {
        return std::make_unique<View>(memory.data() + at, float32, std::vector<int64_t>{2, 3, 4}, std::vector<int64_t>{},
                                      kDLCUDA);
    };
    const auto a = device(0), b = device(32), grad_h = device(64), grad_a = device(96), grad_b = device(128),
               h = device(160);
    auto args = make_args<ssm_linear_recurrence_backward_args>();
    args.a = *a;
    args.b = *b;
    args.grad_h = *grad_h;
    args.grad_a = *grad_a;
    args.reverse = 1;
    for (uint64_t backward_bytes : {100, 700}) {
        fake.operation_workspace = 500;
        fake.backward_workspace = backward_bytes;
        const uint64_t own = std::max<uint64_t>(500, backward_bytes);
        uint64_t bytes = 0;
        ASSERT_SUCCESS(ssm_linear_recurrence_backward_workspace(context, &args, &bytes));
        EXPECT_EQ(bytes, 256 + own); // h and the operations' own
        take_calls();
        ASSERT_SUCCESS(ssm_linear_recurrence_backward(context, &args));
        Calls calls = take_calls();
        EXPECT_EQ(Calls(calls.end() - 2, calls.end()), (Calls{"linear_recurrence", "linear_recurrence_backward"}));
        EXPECT_EQ(fake.recurrence.workspace.bytes, own);
        EXPECT_EQ(fake.backward.workspace.bytes, own);
        EXPECT_EQ(fake.recurrence.workspace.data, fake.backward.workspace.data);
        EXPECT_EQ(fake.recurrence.h.data, fake.backward.h.data);
        EXPECT_EQ(static_cast<char*>(fake.recurrence.workspace.data) - static_cast<char*>(fake.recurrence.h.data), 256);
        EXPECT_EQ(fake.recurrence.a.data, memory.data());
        EXPECT_EQ(fake.recurrence.b.data, memory.data() + 32);
        EXPECT_EQ(fake.recurrence.last_state, nullptr);
        EXPECT_TRUE(fake.recurrence.shape.reverse && fake.backward.shape.reverse);
    }
    // With h it does not, and where only grad_b is wanted nothing but a and grad_h is handed on.
    args.h = *h;
    take_calls();
    ASSERT_SUCCESS(ssm_linear_recurrence_backward(context, &args));
    EXPECT_EQ(take_calls(), (Calls{"linear_recurrence_backward"}));
    EXPECT_EQ(fake.backward.h.data, memory.data() + 160);
    args.grad_a = nullptr;
    args.grad_b = *grad_b;
    ASSERT_SUCCESS(ssm_linear_recurrence_backward(context, &args));
    EXPECT_EQ(take_calls(), (Calls{"linear_recurrence_backward"}));
    EXPECT_EQ(fake.backward.h.data, nullptr);
    EXPECT_EQ(fake.backward.grad_a.data, nullptr);
}

TEST_F(CoreBackends, HostAndDeviceCopies) {
    Context context(SSM_DEVICE_CUDA);
    std::vector<float> host(24), device(64), back(24);
    for (int i = 0; i < 24; ++i)
        host[i] = static_cast<float>(i);
    const std::vector<int64_t> shape{2, 3, 4}, turned{12, 1, 3}, apart{24, 8, 2};
    const auto at = [&](int64_t i, int64_t j, int64_t k, const std::vector<int64_t>& strides) {
        return i * strides[0] + j * strides[1] + k * strides[2];
    };
    const std::vector<int64_t> compact{12, 4, 1};
    for (const auto& host_strides : {compact, turned}) {
        for (const auto& device_strides : {compact, turned, apart}) {
            const bool is_host_plain = host_strides == compact, is_device_plain = device_strides == compact;
            View x{host.data(), float32, shape, host_strides}, y{device.data(), float32, shape, device_strides, kDLCUDA},
                z{back.data(), float32, shape, host_strides, kDLCUDAHost};
            std::fill(device.begin(), device.end(), -1.0f);
            std::fill(back.begin(), back.end(), -1.0f);
            take_calls();
            ASSERT_SUCCESS(ssm_copy(context, x, y));
            for (int64_t i = 0; i < 2; ++i) {
                for (int64_t j = 0; j < 3; ++j) {
                    for (int64_t k = 0; k < 4; ++k) {
                        ASSERT_EQ(device[at(i, j, k, device_strides)], host[at(i, j, k, host_strides)]);
                    }
                }
            }
            Calls calls = take_calls();
            EXPECT_EQ(std::count(calls.begin(), calls.end(), "copy to device 96"), 1);
            EXPECT_EQ(std::count(calls.begin(), calls.end(), "strided_copy"), is_device_plain ? 0 : 1);
            EXPECT_EQ(std::count(calls.begin(), calls.end(), "synchronize"), is_host_plain ? 0 : 1);
            ASSERT_SUCCESS(ssm_copy(context, y, z));
            EXPECT_EQ(back, host);
            calls = take_calls();
            EXPECT_EQ(std::count(calls.begin(), calls.end(), "copy to host 96"), 1);
            EXPECT_EQ(std::count(calls.begin(), calls.end(), "strided_copy"), is_device_plain ? 0 : 1);
        }
    }
    // Between two host tensors, and on the device.
    View x{host.data(), float32, shape}, z{back.data(), float32, shape, turned};
    EXPECT_SUCCESS(ssm_copy(context, x, z));
    EXPECT_EQ(back[1], host[4]);
    EXPECT_EQ(take_calls(), (Calls{"synchronize"}));
    View here{device.data(), float32, shape, {}, kDLCUDA}, there{device.data() + 32, float32, shape, {}, kDLCUDAManaged};
    EXPECT_SUCCESS(ssm_copy(context, here, there));
    EXPECT_EQ(take_calls(), (Calls{"copy on device 96"}));
    // A copy between transposed tensors that agree is one run of bytes.
    View here_turned{device.data(), float32, shape, turned, kDLCUDA},
        there_turned{device.data() + 32, float32, shape, turned, kDLCUDA};
    EXPECT_SUCCESS(ssm_copy(context, here_turned, there_turned));
    EXPECT_EQ(take_calls(), (Calls{"copy on device 96"}));
    EXPECT_INVALID("destination: a tensor on cuda:0 expected, one on cuda:1 given", [&] {
        there.tensor.device.device_id = 1;
        there.tensor.device.device_type = kDLCUDA;
        return ssm_copy(context, here, there);
    }());
}

TEST_F(CoreBackends, NativeCapture) {
    Context context(SSM_DEVICE_CUDA);
    std::vector<float> memory(256);
    View x{memory.data(), float32, {2, 3, 4}, {0, 8, 2}, kDLCUDA}, y{memory.data() + 64, float32, {2, 3, 4}, {}, kDLCUDA},
        host{memory.data() + 128, float32, {2, 3, 4}};
    auto args = make_args<ssm_associative_scan_args>();
    args.x = x;
    args.y = y;
    void* pointer = nullptr;
    ASSERT_SUCCESS(ssm_allocate(context, 64, &pointer));
    ASSERT_SUCCESS(ssm_associative_scan(context, &args));
    take_calls();
    ASSERT_SUCCESS(ssm_capture_begin(context));
    EXPECT_SUCCESS(ssm_associative_scan(context, &args));
    EXPECT_FAILURE(SSM_ERROR_INVALID_STATE, "ssm_copy: a copy from or to the host is not legal during a capture",
                   ssm_copy(context, host, y));
    EXPECT_EQ(take_calls(), (Calls{"capture_begin", "strided_copy", "associative_scan"})); // the stream captures them
    std::thread([&] { EXPECT_SUCCESS(ssm_free(context, pointer)); }).join();
    EXPECT_EQ(take_calls(), Calls{});
    ssm_graph* graph = nullptr;
    ASSERT_SUCCESS(ssm_capture_end(context, &graph));
    EXPECT_EQ(take_calls(), (Calls{"capture_end", "free"}));
    EXPECT_SUCCESS(ssm_graph_launch(context, graph));
    EXPECT_EQ(take_calls(), (Calls{"graph_launch"}));
    // The workspace grows, and the graph keeps its own until it goes.
    fake.operation_workspace = 4096;
    EXPECT_SUCCESS(ssm_associative_scan(context, &args));
    EXPECT_EQ(take_calls(), (Calls{"allocate 4352", "strided_copy", "associative_scan"}));
    EXPECT_SUCCESS(ssm_graph_destroy(graph));
    EXPECT_EQ(take_calls(), (Calls{"graph_destroy", "free"}));
    // A device that refuses to capture.
    fake.operation_status = SSM_ERROR_UNSUPPORTED;
    EXPECT_EQ(ssm_capture_begin(context), SSM_ERROR_UNSUPPORTED);
    fake.operation_status = SSM_SUCCESS;
    EXPECT_FAILURE(SSM_ERROR_INVALID_STATE, "ssm_capture_end: no capture is under way", ssm_capture_end(context, &graph));
    // A capture that its context does not outlive.
    EXPECT_SUCCESS(ssm_capture_begin(context));
}

TEST_F(CoreBackends, EventsOfAnotherDevice) {
    Context first(SSM_DEVICE_CUDA, 0), second(SSM_DEVICE_CUDA, 1), cpu(SSM_DEVICE_CPU);
    ssm_event* event = nullptr;
    ASSERT_SUCCESS(ssm_event_create(first, &event));
    EXPECT_INVALID("event: one of cuda:1 expected, one of cuda:0 given", ssm_event_record(second, event));
    EXPECT_INVALID("event: one of cpu expected, one of cuda:0 given", ssm_event_wait(cpu, event));
    EXPECT_SUCCESS(ssm_event_destroy(event));
}

TEST_F(CoreBackends, ManyThreads) {
    std::vector<std::thread> threads;
    for (int t = 0; t < 8; ++t) {
        threads.emplace_back([&, t] {
            for (int i = 0; i < 100; ++i) {
                int32_t count = 0;
                EXPECT_SUCCESS(ssm_device_count(t % 2 ? SSM_DEVICE_CUDA : SSM_DEVICE_EMULATED, &count));
                EXPECT_SUCCESS(ssm_backend_load(fake_path.c_str()));
                Context context(SSM_DEVICE_CUDA, t % 2);
                EXPECT_NE(std::string(ssm_backend_log()), "");
            }
        });
    }
    for (std::thread& thread : threads)
        thread.join();
}

} // namespace
} // namespace ssm::core_test
