// Contexts, memory, events and graphs made and dropped many times and in any order, without growth.
#include <gtest/gtest.h>

#include <thread>

#include "support/allocations.h"
#include "support/problems.h"
#include "support/reference.h"

namespace ssm::test {

class Lifetime : public testing::TestWithParam<Device> {};
INSTANTIATE_TEST_SUITE_P(Devices, Lifetime, testing::ValuesIn(devices()), [](const auto& info) { return info.param.name; });

namespace {

// Everything a program makes in one life of a context.
void live_once(const Device& device, const Problem& problem) {
    Context context(device);
    ssm_event* event = nullptr;
    SSM_CHECK(ssm_event_create(context, &event));
    void* stream = nullptr;
    SSM_CHECK(ssm_stream_create(context, &stream));
    void* pinned = nullptr;
    SSM_CHECK(ssm_host_allocate(context, 1000, &pinned));
    Call call(context, problem);
    SSM_CHECK(call.run());
    SSM_CHECK(ssm_capture_begin(context));
    SSM_CHECK(call.run());
    ssm_graph* graph = nullptr;
    SSM_CHECK(ssm_capture_end(context, &graph));
    SSM_CHECK(ssm_graph_launch(context, graph));
    SSM_CHECK(ssm_event_record(context, event));
    SSM_CHECK(ssm_event_synchronize(event));
    SSM_CHECK(ssm_graph_destroy(graph));
    SSM_CHECK(ssm_event_destroy(event));
    SSM_CHECK(ssm_stream_destroy(context, stream));
    SSM_CHECK(ssm_host_free(context, pinned));
}

} // namespace

TEST_P(Lifetime, TenThousandRoundsDoNotGrow) {
    const int rounds = GetParam().is_slow() || has_sanitizer() ? 300 : 10000;
    const Problem problem = problems(Operation::linear_recurrence, {Type::float32, 1, 2, 300})[1];
    for (int round = 0; round < 100; ++round)
        live_once(GetParam(), problem);
    const int64_t bytes_before = resident_bytes();
    const int64_t blocks_before = allocations().live_blocks;
    for (int round = 0; round < rounds; ++round)
        live_once(GetParam(), problem);
    if (has_sanitizer())
        return; // it keeps freed memory on purpose
    EXPECT_LE(allocations().live_blocks, blocks_before + 20);
    EXPECT_LE(resident_bytes(), bytes_before + (4 << 20));
}

// The workspace grows with the largest call and goes with its context.
TEST_P(Lifetime, WorkspaceGoesWithItsContext) {
    if (has_sanitizer())
        GTEST_SKIP() << "the sanitizer has the heap to itself";
    Problem problem = problems(Operation::linear_recurrence, {Type::float32, 2, 8, GetParam().is_slow() ? 5000 : 100000})[1];
    problem.views["a"] = problem.views["b"] = problem.views["h"] = View::reversed_axes;
    int64_t bytes_before = 0;
    for (int round = 0; round < 12; ++round) {
        Context context(GetParam());
        run(context, problem);
        if (round == 3)
            bytes_before = resident_bytes();
    }
    EXPECT_LE(resident_bytes(), bytes_before + (16 << 20));
}

TEST_P(Lifetime, MemoryMayBeFreedOnAnotherThread) {
    Context context(GetParam());
    void* device = nullptr;
    void* host = nullptr;
    SSM_CHECK(ssm_allocate(context, 4096, &device));
    SSM_CHECK(ssm_host_allocate(context, 4096, &host));
    int32_t device_status = -1, host_status = -1;
    std::thread([&] {
        device_status = ssm_free(context, device);
        host_status = ssm_host_free(context, host);
    }).join();
    EXPECT_EQ(device_status, SSM_SUCCESS);
    EXPECT_EQ(host_status, SSM_SUCCESS);
    EXPECT_EQ(ssm_free(context, nullptr), SSM_SUCCESS);
}

TEST_P(Lifetime, AllocationsAreAligned) {
    Context context(GetParam());
    for (const uint64_t bytes : {1, 2, 255, 256, 1000003}) {
        void* pointer = nullptr;
        SSM_CHECK(ssm_allocate(context, bytes, &pointer));
        EXPECT_EQ(reinterpret_cast<uintptr_t>(pointer) % 256, 0u) << bytes;
        std::vector<unsigned char> there(bytes, 0x5a), back(bytes);
        upload(context, there.data(), pointer, bytes);
        download(context, pointer, back.data(), bytes);
        EXPECT_EQ(there, back);
        SSM_CHECK(ssm_free(context, pointer));
    }
    void* nothing = &context;
    SSM_CHECK(ssm_allocate(context, 0, &nothing));
    EXPECT_EQ(nothing, nullptr);
}

// More memory than any machine has: a status, and the context goes on.
TEST_P(Lifetime, OutOfMemoryLeavesTheContextUsable) {
    if (has_sanitizer())
        GTEST_SKIP() << "the sanitizer ends the process at such a size";
    Context context(GetParam());
    void* pointer = nullptr;
    EXPECT_EQ(ssm_allocate(context, uint64_t{1} << 50, &pointer), SSM_ERROR_OUT_OF_MEMORY);
    EXPECT_NE(std::string(ssm_last_error()), "");
    EXPECT_EQ(ssm_allocate(context, ~uint64_t{0} - 5, &pointer), SSM_ERROR_OUT_OF_MEMORY);
    const Problem problem = problems(Operation::linear_recurrence, {Type::float32, 2, 3, 300})[1];
    expect_near(run(context, problem), reference(problem), problem.describe());
}

// Threads that come and go do not leave pools behind.
TEST_P(Lifetime, ThreadsLeaveNothingBehind) {
    const Problem problem = problems(Operation::linear_recurrence, {Type::float32, 1, 3, 2000})[1];
    Outputs expected;
    {
        Context context(GetParam());
        expected = run(context, problem);
    }
    const int rounds = GetParam().is_slow() ? 10 : 200;
    int64_t bytes_before = 0;
    for (int round = 0; round < rounds; ++round) {
        std::thread([&] {
            try {
                Context context(GetParam());
                expect_identical(run(context, problem), expected, problem.describe());
            } catch (const std::exception& error) {
                ADD_FAILURE() << error.what();
            }
        }).join();
        if (round == rounds / 4)
            bytes_before = resident_bytes();
    }
    if (!has_sanitizer()) {
        EXPECT_LE(resident_bytes(), bytes_before + (4 << 20));
    }
}

} // namespace ssm::test
