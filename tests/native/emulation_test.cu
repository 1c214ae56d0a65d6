// The engine of the emulated backend: that kernels run as CUDA says, under every order of threads and number of resident
// blocks, and that each fault a kernel can commit is found, named with file and line, and survived.
#include "cuda/primitives/complex.h"
#include "cuda/primitives/cuda.h"
#include "cuda/primitives/flags.h"
#include "cuda/primitives/half.h"
#include "cuda/primitives/launch.h"
#include "cuda/primitives/math.h"
#include "cuda/primitives/shared.h"
#include "cuda/primitives/vector.h"
#include "cuda/primitives/warp.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace ssm;

// The line of the kernel that a fault must name: a kernel notes the line of its faulty statement here.
int faulty_line = 0;

// ---- Fixture -------------------------------------------------------------------------------------------------------------

class Emulation : public ::testing::Test {
  protected:
    cudaStream_t stream = nullptr;
    std::vector<void*> allocations;

    void SetUp() override {
        for (const char* name : {"order", "resident_blocks", "poison", "architecture", "page_protection"}) {
            ASSERT_TRUE(emulation::set_option(("emulated." + std::string(name)).c_str(), 0));
        }
        ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
        faulty_line = 0;
    }
    void TearDown() override {
        for (void* pointer : allocations) {
            cudaFree(pointer);
        }
        EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
    }

    template <typename T>
    T* allocate(size_t count) {
        T* pointer = nullptr;
        EXPECT_EQ(cudaMalloc(&pointer, count * sizeof(T)), cudaSuccess);
        allocations.push_back(pointer);
        return pointer;
    }
    template <typename T>
    T* upload(const std::vector<T>& values) {
        T* pointer = allocate<T>(values.size());
        EXPECT_EQ(cudaMemcpyAsync(pointer, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice, stream),
                  cudaSuccess);
        return pointer;
    }
    template <typename T>
    std::vector<T> download(const T* pointer, size_t count) {
        std::vector<T> values(count);
        EXPECT_EQ(cudaMemcpyAsync(values.data(), pointer, count * sizeof(T), cudaMemcpyDeviceToHost, stream), cudaSuccess);
        return values;
    }

    // The error is the fault expected, its sentence has all the words, names the line and that of the launch; the stream
    // keeps it, and another stream works.
    void expect_fault(cudaError_t error, cudaError_t expected, std::vector<std::string> words) {
        std::string sentence = cudaGetErrorString(error);
        EXPECT_EQ(error, expected) << sentence;
        words.push_back("emulation_test.cu:" + (faulty_line ? std::to_string(faulty_line) : ""));
        words.push_back("launched at emulation_test.cu:");
        for (const std::string& word : words) {
            EXPECT_NE(sentence.find(word), std::string::npos) << "no \"" << word << "\" in: " << sentence;
        }
        EXPECT_EQ(cudaStreamSynchronize(stream), expected);
        EXPECT_EQ(std::string(cudaGetErrorString(expected)), sentence);
        ASSERT_EQ(cudaStreamDestroy(stream), cudaSuccess);
        ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
        expect_works();
    }
    void expect_works();
};

// ---- Kernels that are right ----------------------------------------------------------------------------------------------

__global__ void write_indices(int64_t* out) {
    int64_t block = blockIdx.x + int64_t(gridDim.x) * (blockIdx.y + int64_t(gridDim.y) * blockIdx.z);
    int64_t thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    int64_t at = block * blockDim.x * blockDim.y * blockDim.z + thread;
    out[at] = at;
}

struct SumStorage {
    float partial[32];
};

// The sum of each block's inputs, by shuffles and shared memory.
template <typename T>
__global__ void __launch_bounds__(256) sum_blocks(const T* in, T* out) {
    auto& shared = SSM_SHARED(SumStorage);
    T value = in[blockIdx.x * blockDim.x + threadIdx.x];
    for (int delta = 16; delta > 0; delta /= 2) {
        value += shuffle_down(value, delta);
    }
    if (lane_id() == 0) {
        shared.partial[warp_id()] = value;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        T sum = 0;
        for (int i = 0; i < int(blockDim.x) / 32; ++i) {
            sum += shared.partial[i];
        }
        out[blockIdx.x] = sum;
    }
}

struct Wide {
    float a[3];
    uint32_t b[2];
};

__global__ void shuffle_all(int* out, Wide* wide) {
    int lane = lane_id();
    int* row = out + threadIdx.x * 16;
    row[0] = __shfl_sync(full_mask, lane * 10, 5);
    row[1] = __shfl_sync(full_mask, lane * 10, lane + 1, 8);
    row[2] = __shfl_up_sync(full_mask, lane * 10, 3);
    row[3] = __shfl_up_sync(full_mask, lane * 10, 3, 8);
    row[4] = __shfl_down_sync(full_mask, lane * 10, 3);
    row[5] = __shfl_down_sync(full_mask, lane * 10, 3, 8);
    row[6] = __shfl_xor_sync(full_mask, lane * 10, 5);
    row[7] = int(__shfl_xor_sync(full_mask, lane * 10.0, 21));
    row[8] = int(__ballot_sync(full_mask, lane % 3 == 0));
    row[9] = __any_sync(full_mask, lane == 31);
    row[10] = __all_sync(full_mask, lane != 31);
    if (lane < 16) {
        row[11] = __shfl_xor_sync(0x0000ffffu, lane, 1);
        __syncwarp(0x0000ffffu);
    } else {
        row[11] = int(__ballot_sync(0xffff0000u, lane % 2));
    }
    row[12] = __popc(0xf0u) + __ffs(8) + __clz(1);
    Wide value = {{lane + 0.25f, 1, 2}, {uint32_t(lane), 7}};
    wide[threadIdx.x] = shuffle(value, 31 - lane);
}

struct ChainStorage {
    unsigned ticket;
    uint64_t before;
};

// Inclusive sums over the blocks by a chain of flags. The order of the blocks comes from a ticket.
__global__ void chain(const uint64_t* in, uint64_t* out, Complex<double>* payload, uint32_t* flags, unsigned* tickets) {
    auto& shared = SSM_SHARED(ChainStorage);
    if (threadIdx.x == 0) {
        shared.ticket = atomicAdd(tickets, 1u);
    }
    __syncthreads();
    unsigned tile = shared.ticket;
    if (threadIdx.x == 0) {
        double before = 0;
        if (tile > 0) {
            while (load_acquire(&flags[tile - 1]) == 0) {
            }
            before = load_payload(&payload[tile - 1]).re;
        }
        store_payload(&payload[tile], {before + double(in[tile]), 0});
        store_release(&flags[tile], 1u);
        shared.before = uint64_t(before);
    }
    __syncthreads();
    out[tile * blockDim.x + threadIdx.x] = shared.before + in[tile];
}

void Emulation::expect_works() {
    int64_t* out = allocate<int64_t>(60);
    ASSERT_EQ(launch(write_indices, dim3(2), dim3(30), 0, stream, out), cudaSuccess)
        << cudaGetErrorString(cudaGetLastError());
    EXPECT_EQ(download(out, 60)[59], 59);
}

TEST_F(Emulation, indices_of_every_shape) {
    struct Shape {
        dim3 grid, block;
    } shapes[] = {{1, 1}, {dim3(3, 4, 5), dim3(2, 3, 4)}, {1000, 1}, {7, 1024}, {dim3(1, 70), dim3(16, 1, 64)}};
    for (Shape shape : shapes) {
        for (int order = 0; order < 4; ++order) {
            for (int resident : {1, 2, 5}) {
                emulation::set_option("emulated.order", order);
                emulation::set_option("emulated.resident_blocks", resident);
                size_t count =
                    size_t{1} * shape.grid.x * shape.grid.y * shape.grid.z * shape.block.x * shape.block.y * shape.block.z;
                int64_t* out = allocate<int64_t>(count);
                ASSERT_EQ(launch(write_indices, shape.grid, shape.block, 0, stream, out), cudaSuccess);
                std::vector<int64_t> values = download(out, count);
                for (size_t i = 0; i < count; ++i) {
                    ASSERT_EQ(values[i], int64_t(i));
                }
            }
        }
    }
}

TEST_F(Emulation, shuffles_and_votes) {
    for (int order = 0; order < 6; ++order) {
        emulation::set_option("emulated.order", order);
        int* out = allocate<int>(64 * 16);
        Wide* wide = allocate<Wide>(64);
        ASSERT_EQ(launch(shuffle_all, dim3(1), dim3(64), 0, stream, out, wide), cudaSuccess)
            << cudaGetErrorString(cudaGetLastError());
        std::vector<int> rows = download(out, 64 * 16);
        std::vector<Wide> structs = download(wide, 64);
        for (int thread = 0; thread < 64; ++thread) {
            int lane = thread % 32;
            int segment = lane / 8 * 8;
            const int* row = &rows[thread * 16];
            EXPECT_EQ(row[0], 50);
            EXPECT_EQ(row[1], (segment + (lane + 1) % 8) * 10);
            EXPECT_EQ(row[2], (lane < 3 ? lane : lane - 3) * 10);
            EXPECT_EQ(row[3], (lane - 3 < segment ? lane : lane - 3) * 10);
            EXPECT_EQ(row[4], (lane > 28 ? lane : lane + 3) * 10);
            EXPECT_EQ(row[5], (lane + 3 >= segment + 8 ? lane : lane + 3) * 10);
            EXPECT_EQ(row[6], (lane ^ 5) * 10);
            EXPECT_EQ(row[7], (lane ^ 21) * 10);
            EXPECT_EQ(unsigned(row[8]), 0x49249249u);
            EXPECT_EQ(row[9], 1);
            EXPECT_EQ(row[10], 0);
            EXPECT_EQ(unsigned(row[11]), lane < 16 ? unsigned(lane ^ 1) : 0xaaaa0000u);
            EXPECT_EQ(row[12], 4 + 4 + 31);
            EXPECT_EQ(structs[thread].a[0], 31 - lane + 0.25f);
            EXPECT_EQ(structs[thread].b[0], uint32_t(31 - lane));
        }
    }
}

TEST_F(Emulation, sums_do_not_depend_on_the_order) {
    std::vector<float> in(20 * 256);
    for (size_t i = 0; i < in.size(); ++i) {
        in[i] = 1.0f / float(i + 1);
    }
    std::vector<float> first;
    for (int order = 0; order < 5; ++order) {
        for (int resident : {1, 2, 5}) {
            emulation::set_option("emulated.order", order);
            emulation::set_option("emulated.resident_blocks", resident);
            float* out = allocate<float>(20);
            ASSERT_EQ(launch(sum_blocks<float>, dim3(20), dim3(256), sizeof(SumStorage), stream, upload(in), out),
                      cudaSuccess);
            std::vector<float> sums = download(out, 20);
            first = first.empty() ? sums : first;
            EXPECT_EQ(sums, first);
            EXPECT_NEAR(sums[0], 6.124345f, 1e-5);
        }
    }
}

TEST_F(Emulation, blocks_wait_for_each_other) {
    std::vector<uint64_t> in(300);
    for (size_t i = 0; i < in.size(); ++i) {
        in[i] = i * i;
    }
    for (int order = 0; order < 5; ++order) {
        for (int resident : {1, 2, 5, 16}) {
            emulation::set_option("emulated.order", order);
            emulation::set_option("emulated.resident_blocks", resident);
            uint64_t* out = allocate<uint64_t>(300 * 33);
            uint32_t* flags = upload(std::vector<uint32_t>(300));
            unsigned* tickets = upload(std::vector<unsigned>(1));
            ASSERT_EQ(launch(chain, dim3(300), dim3(33), sizeof(ChainStorage), stream, upload(in), out,
                             allocate<Complex<double>>(300), flags, tickets),
                      cudaSuccess)
                << cudaGetErrorString(cudaGetLastError());
            std::vector<uint64_t> sums = download(out, 300 * 33);
            uint64_t sum = 0;
            for (int i = 0; i < 300; ++i) {
                sum += in[i];
                ASSERT_EQ(sums[i * 33], sum);
                ASSERT_EQ(sums[i * 33 + 32], sum);
            }
        }
    }
}

// ---- Kernels that commit a fault -----------------------------------------------------------------------------------------

__global__ void leave_before_barrier() {
    if (threadIdx.x == 5) {
        return;
    }
    faulty_line = __LINE__ + 1;
    __syncthreads();
}

__global__ void wait_at_two_barriers(int* out) {
    if (threadIdx.x < 32) {
        out[0] = 1;
        __syncthreads();
    } else {
        faulty_line = __LINE__ + 1;
        __syncthreads();
    }
}

__global__ void wait_for_a_lane_at_a_barrier(int* out) {
    if (threadIdx.x == 7) {
        __syncthreads();
    } else {
        faulty_line = __LINE__ + 1;
        out[threadIdx.x] = shuffle(1, 0);
        __syncthreads();
    }
}

__global__ void shuffle_with_two_masks() {
    unsigned mask = threadIdx.x < 16 ? full_mask : 0xffff0000u;
    faulty_line = __LINE__ + 1;
    __syncwarp(mask);
}

__global__ void shuffle_with_the_wrong_mask() {
    faulty_line = __LINE__ + 1;
    __syncwarp(0x0000ffffu);
}

__global__ void shuffle_from_outside_the_mask(int* out) {
    if (threadIdx.x < 16) {
        faulty_line = __LINE__ + 1;
        out[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, 1, 16);
    }
}

__global__ void shuffle_two_ways(int* out) {
    int lane = lane_id();
    if (lane % 2) {
        out[lane] = shuffle_up(lane, 1);
    } else {
        out[lane] = shuffle_down(lane, 1);
    }
}

__global__ void shuffle_in_half_a_warp(int* out) {
    faulty_line = __LINE__ + 1;
    out[threadIdx.x] = shuffle(1, 0);
}

__global__ void poll_for_ever(const uint32_t* flag) {
    faulty_line = __LINE__ + 1;
    while (load_acquire(flag) == 0) {
    }
}

__global__ void write_at(float* out, int64_t at) {
    faulty_line = __LINE__ + 1;
    __syncthreads();
    if (threadIdx.x == 3) {
        out[at] = 1;
    }
}

__global__ void read_at(const float* in, int64_t at, float* out) {
    faulty_line = __LINE__ + 1;
    __syncthreads();
    if (threadIdx.x == 3) {
        out[0] = in[at];
    }
}

__global__ void use_too_much_shared_memory() {
    faulty_line = __LINE__ + 1;
    auto& shared = SSM_SHARED(SumStorage);
    shared.partial[threadIdx.x] = 1;
}

__global__ void write_outside_shared_memory(int at) {
    auto& shared = SSM_SHARED(SumStorage);
    volatile float* partial = shared.partial;
    partial[at] = 1;
}

__global__ void load_misaligned(const float* in, float* out) {
    faulty_line = __LINE__ + 1;
    store_vector(out, load_vector<4>(in + 1));
}

int overflow_stack(int depth) {
    volatile char page[2048];
    page[depth % 2048] = char(depth);
    return depth > 1 << 20 ? 0 : overflow_stack(depth + 1) + page[depth % 2048];
}
__global__ void recurse(int* out) {
    out[0] = overflow_stack(0);
}

__global__ void trap_thread() {
    faulty_line = __LINE__ + 1;
    __trap();
}

// Reads what the thread's neighbour writes, without a barrier between.
__global__ void forget_barrier(float* out, bool is_forgotten) {
    auto& shared = SSM_SHARED(SumStorage);
    shared.partial[threadIdx.x] = 1;
    __syncthreads();
    shared.partial[threadIdx.x] = 2;
    if (!is_forgotten) {
        __syncthreads();
    }
    out[threadIdx.x] = shared.partial[(threadIdx.x + 1) % 32];
}

__global__ void copy_uninitialised(const float* in, float* out, int what) {
    auto& shared = SSM_SHARED(SumStorage);
    out[threadIdx.x] = what == 0 ? in[threadIdx.x] : what == 1 ? shared.partial[threadIdx.x] : 0;
}

TEST_F(Emulation, divergent_barrier) {
    for (int order = 0; order < 4; ++order) {
        emulation::set_option("emulated.order", order);
        expect_fault(launch(leave_before_barrier, dim3(3), dim3(40), 0, stream), cudaErrorLaunchFailure,
                     {"divergent barrier", "39 of 40 threads", "thread (5,0,0) has ended"});
        faulty_line = 0;
        expect_fault(launch(wait_at_two_barriers, dim3(1), dim3(64), 0, stream, allocate<int>(1)), cudaErrorLaunchFailure,
                     {"divergent barrier"});
    }
}

TEST_F(Emulation, divergent_mask) {
    for (int order = 0; order < 4; ++order) {
        emulation::set_option("emulated.order", order);
        expect_fault(launch(wait_for_a_lane_at_a_barrier, dim3(1), dim3(32), 0, stream, allocate<int>(32)),
                     cudaErrorLaunchFailure, {"divergent mask", " 80 do not come", "thread (7,0,0) waits at"});
        expect_fault(launch(shuffle_with_two_masks, dim3(1), dim3(32), 0, stream), cudaErrorLaunchFailure,
                     {"divergent mask"});
        expect_fault(launch(shuffle_with_the_wrong_mask, dim3(1), dim3(32), 0, stream), cudaErrorLaunchFailure,
                     {"divergent mask", "lacks the calling lane"});
        expect_fault(launch(shuffle_from_outside_the_mask, dim3(1), dim3(32), 0, stream, allocate<int>(32)),
                     cudaErrorLaunchFailure, {"divergent mask", "outside its mask"});
        faulty_line = 0;
        expect_fault(launch(shuffle_two_ways, dim3(1), dim3(32), 0, stream, allocate<int>(32)), cudaErrorLaunchFailure,
                     {"divergent mask", "another warp function"});
        expect_fault(launch(shuffle_in_half_a_warp, dim3(1), dim3(48), 0, stream, allocate<int>(48)), cudaErrorLaunchFailure,
                     {"divergent mask", "the block lacks"});
    }
}

TEST_F(Emulation, no_progress) {
    for (int resident : {1, 2, 5}) {
        emulation::set_option("emulated.resident_blocks", resident);
        expect_fault(launch(poll_for_ever, dim3(9), dim3(64), 0, stream, upload(std::vector<uint32_t>(1))),
                     cudaErrorLaunchTimeout, {"no progress"});
    }
}

// Sizes whose end lies on the guard page, and one whose end does not.
TEST_F(Emulation, guard_page) {
    for (int protection : {0, 1}) {
        emulation::set_option("emulated.page_protection", protection);
        for (size_t count : {64, 1024, 4096, 4096 + 64}) {
            float* data = allocate<float>(count);
            expect_fault(launch(write_at, dim3(2), dim3(32), 0, stream, data, int64_t(count)), cudaErrorIllegalAddress,
                         {"0 bytes after the end", "thread (3,0,0)", "access"});
            expect_fault(launch(read_at, dim3(2), dim3(32), 0, stream, data, int64_t(count), data), cudaErrorIllegalAddress,
                         {"0 bytes after the end", "thread (3,0,0)", "access"});
        }
        float* pages = allocate<float>(2048);
        expect_fault(launch(write_at, dim3(2), dim3(32), 0, stream, pages, int64_t(-1)), cudaErrorIllegalAddress,
                     {"4 bytes before the start", "access", "thread (3,0,0)"});
        expect_fault(launch(read_at, dim3(2), dim3(32), 0, stream, pages, int64_t(-1), pages), cudaErrorIllegalAddress,
                     {"4 bytes before the start", "access", "thread (3,0,0)"});
        expect_fault(launch(write_at, dim3(1), dim3(32), 0, stream, nullptr, int64_t(0)), cudaErrorIllegalAddress,
                     {"null pointer"});
    }
}

// The exponential of the multiply-add units: its accuracy, and what lies beyond numbers of full precision.
TEST_F(Emulation, polynomial_exponential) {
    for (float x = -125.9f; x < 127.4f; x += 0.00137f) {
        const double exact = std::exp2(static_cast<double>(x));
        const double last_place = std::ldexp(1.0, std::ilogb(exact) - 23);
        ASSERT_LE(std::fabs(static_cast<double>(polynomial_exp2(x)) - exact), 3 * last_place) << x;
    }
    const float infinity = std::numeric_limits<float>::infinity();
    EXPECT_EQ(polynomial_exp2(0.0f), 1.0f);
    EXPECT_EQ(polynomial_exp2(-0.0f), 1.0f);
    EXPECT_EQ(polynomial_exp2(1e-30f), 1.0f);
    for (float x : {-126.25f, -127.0f, -300.0f, -3e38f, -infinity}) {
        EXPECT_EQ(polynomial_exp2(x), 0.0f) << x;
    }
    for (float x : {128.0f, 129.0f, 3e38f, infinity}) {
        EXPECT_EQ(polynomial_exp2(x), infinity) << x;
    }
    EXPECT_TRUE(std::isnan(polynomial_exp2(std::numeric_limits<float>::quiet_NaN())));
}

// Addresses are used again when the last ones are reached, and not before.
TEST_F(Emulation, memory_comes_round) {
    char* first = nullptr;
    ASSERT_EQ(cudaMalloc(&first, 1000), cudaSuccess);
    cudaFree(first);
    bool came_round = false;
    for (int i = 0; i < 70000; ++i) {
        char* pointer = nullptr;
        ASSERT_EQ(cudaMalloc(&pointer, 1000), cudaSuccess) << i;
        came_round |= pointer <= first;
        EXPECT_TRUE(!came_round || i > 60000) << i;
        ASSERT_EQ(cudaFree(pointer), cudaSuccess);
    }
    EXPECT_TRUE(came_round);
}

// Writes that no page boundary catches are found when the kernel has ended.
TEST_F(Emulation, canary) {
    float* data = allocate<float>(100);
    for (int64_t at : {int64_t(100), int64_t(127), int64_t(-1), int64_t(-800)}) {
        cudaError_t error = launch(write_at, dim3(1), dim3(32), 0, stream, data, at);
        faulty_line = 0;
        expect_fault(
            error, cudaErrorIllegalAddress,
            {at < 0 ? std::to_string(-4 * at) + " bytes before the start" : std::to_string(4 * (at - 100)) + " bytes after",
             "of 400 bytes"});
    }
}

TEST_F(Emulation, uninitialised_read) {
    for (int what = 0; what < 3; ++what) {
        std::vector<uint32_t> seen[2];
        for (int pattern = 0; pattern < 2; ++pattern) {
            emulation::set_option("emulated.poison", pattern);
            float* out = allocate<float>(32);
            ASSERT_EQ(
                launch(copy_uninitialised, dim3(1), dim3(32), sizeof(SumStorage), stream, allocate<float>(32), out, what),
                cudaSuccess);
            seen[pattern] = download(reinterpret_cast<uint32_t*>(out), 32);
        }
        EXPECT_EQ(seen[0] == seen[1], what == 2);
    }
}

TEST_F(Emulation, missing_barrier) {
    for (bool is_forgotten : {false, true}) {
        std::set<std::vector<float>> seen;
        for (int order = 0; order < 3; ++order) {
            emulation::set_option("emulated.order", order);
            float* out = allocate<float>(32);
            ASSERT_EQ(launch(forget_barrier, dim3(1), dim3(32), sizeof(SumStorage), stream, out, is_forgotten), cudaSuccess);
            seen.insert(download(out, 32));
        }
        EXPECT_EQ(seen.size(), is_forgotten ? 3u : 1u);
    }
}

TEST_F(Emulation, shared_memory) {
    expect_fault(launch(use_too_much_shared_memory, dim3(1), dim3(32), 64, stream), cudaErrorIllegalAddress,
                 {"128 bytes of shared memory used, 64 given"});
    faulty_line = 0;
    expect_fault(launch(write_outside_shared_memory, dim3(1), dim3(1), sizeof(SumStorage), stream, 32),
                 cudaErrorIllegalAddress, {"access to"});
    expect_fault(launch(write_outside_shared_memory, dim3(1), dim3(1), sizeof(SumStorage) + 4, stream, 34),
                 cudaErrorIllegalAddress, {"write outside the block's 132 bytes of shared memory"});
    expect_fault(launch(write_outside_shared_memory, dim3(1), dim3(1), sizeof(SumStorage), stream, -2),
                 cudaErrorIllegalAddress, {"write outside the block's 128 bytes of shared memory"});
}

TEST_F(Emulation, other_faults) {
    expect_fault(launch(load_misaligned, dim3(1), dim3(1), 0, stream, allocate<float>(8), allocate<float>(8)),
                 cudaErrorMisalignedAddress, {"misaligned address"});
    faulty_line = 0;
    expect_fault(launch(recurse, dim3(1), dim3(1), 0, stream, allocate<int>(1)), cudaErrorIllegalAddress,
                 {"overflow of the thread's stack"});
    expect_fault(launch(trap_thread, dim3(1), dim3(1), 0, stream), cudaErrorIllegalInstruction, {"__trap()"});
}

// What is refused before it runs does not stay on the stream.
TEST_F(Emulation, launch_limits) {
    auto expect_refused = [&](dim3 grid, dim3 block, size_t shared_bytes, cudaError_t expected, const char* words) {
        int64_t* out = nullptr;
        int line = __LINE__ + 1;
        cudaError_t error = launch(write_indices, grid, block, shared_bytes, stream, out);
        EXPECT_EQ(error, expected);
        std::string sentence = cudaGetErrorString(error);
        EXPECT_NE(sentence.find(words), std::string::npos) << sentence;
        EXPECT_NE(sentence.find("launched at emulation_test.cu:"), std::string::npos) << sentence;
        EXPECT_NE(sentence.find("emulation_test.cu:" + std::to_string(line)), std::string::npos) << sentence;
        expect_works();
    };
    expect_refused(1, 1025, 0, cudaErrorInvalidConfiguration, "block of (1025,1,1)");
    expect_refused(1, dim3(32, 33), 0, cudaErrorInvalidConfiguration, "1024 in all");
    expect_refused(1, dim3(1, 1, 65), 0, cudaErrorInvalidConfiguration, "block of");
    expect_refused(1, 0, 0, cudaErrorInvalidConfiguration, "block of");
    expect_refused(0, 1, 0, cudaErrorInvalidConfiguration, "grid of");
    expect_refused(0x80000000u, 1, 0, cudaErrorInvalidConfiguration, "grid of");
    expect_refused(dim3(1, 65536), 1, 0, cudaErrorInvalidConfiguration, "grid of (1,65536,1)");
    expect_refused(dim3(1, 1, 65536), 1, 0, cudaErrorInvalidConfiguration, "grid of");
    struct {
        int architecture;
        size_t limit;
    } architectures[] = {{75, 64}, {80, 163}, {86, 99}, {89, 99}, {90, 227}};
    for (auto one : architectures) {
        ASSERT_TRUE(emulation::set_option("emulated.architecture", one.architecture));
        float* out = allocate<float>(1);
        EXPECT_EQ(launch(sum_blocks<float>, dim3(1), dim3(32), one.limit << 10, stream, allocate<float>(32), out),
                  cudaSuccess);
        expect_refused(1, 1, (one.limit << 10) + 1, cudaErrorInvalidValue, "bytes of shared memory, sm_");
        int opt_in = 0;
        EXPECT_EQ(cudaDeviceGetAttribute(&opt_in, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0), cudaSuccess);
        EXPECT_EQ(size_t(opt_in), one.limit << 10);
    }
    EXPECT_FALSE(emulation::set_option("emulated.architecture", 70));
    EXPECT_FALSE(emulation::set_option("emulated.no_such_option", 0));
}

TEST_F(Emulation, host_access_to_device_memory) {
    for (int protection : {0, 1, 0}) {
        emulation::set_option("emulated.page_protection", protection);
        int64_t* data = allocate<int64_t>(10);
        auto touch = [](void* user) { ++*static_cast<volatile int64_t*>(user); };
        int line = __LINE__ + 1;
        cudaError_t error = emulation::guarded(touch, data);
        EXPECT_EQ(error, cudaErrorIllegalAddress);
        std::string sentence = cudaGetErrorString(error);
        EXPECT_NE(sentence.find("host code touched device memory, byte 0 of an allocation of 80 bytes"), std::string::npos)
            << sentence;
        EXPECT_NE(sentence.find("emulation_test.cu:" + std::to_string(line)), std::string::npos) << sentence;
        expect_works();
        EXPECT_EQ(emulation::guarded(touch, data), cudaErrorIllegalAddress);
        int64_t own = 0;
        EXPECT_EQ(emulation::guarded(touch, &own), cudaSuccess);
        EXPECT_EQ(own, 1);
        // The same on a thread that never used the engine.
        std::thread([&] { EXPECT_EQ(emulation::guarded(touch, data), cudaErrorIllegalAddress); }).join();
    }
}

TEST_F(Emulation, copies_stay_inside_allocations) {
    char* data = allocate<char>(1000);
    char host[1001] = {};
    EXPECT_EQ(cudaMemcpyAsync(data, host, 1001, cudaMemcpyHostToDevice, stream), cudaErrorInvalidValue);
    EXPECT_EQ(cudaMemcpyAsync(host, data + 1, 1000, cudaMemcpyDeviceToHost, stream), cudaErrorInvalidValue);
    EXPECT_EQ(cudaMemcpyAsync(data, host, 10, cudaMemcpyDeviceToDevice, stream), cudaErrorInvalidValue);
    EXPECT_EQ(cudaMemcpyAsync(host, data, 10, cudaMemcpyDeviceToDevice, stream), cudaErrorInvalidValue);
    EXPECT_EQ(cudaMemsetAsync(data - 1, 0, 10, stream), cudaErrorInvalidValue);
    EXPECT_EQ(cudaMemsetAsync(data, 7, 1000, stream), cudaSuccess);
    EXPECT_EQ(cudaMemcpyAsync(host, data, 1000, cudaMemcpyDeviceToHost, stream), cudaSuccess);
    EXPECT_EQ(host[999], 7);
    EXPECT_EQ(cudaFree(data + 256), cudaErrorInvalidValue);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
}

TEST_F(Emulation, memory_is_aligned_and_limited) {
    for (size_t bytes = 1; bytes < 20000; bytes = bytes * 5 / 4 + 1) {
        EXPECT_EQ(reinterpret_cast<uintptr_t>(allocate<char>(bytes)) % 256, 0u);
    }
    void* pointer = &pointer;
    EXPECT_EQ(cudaMalloc(&pointer, size_t{1} << 50), cudaErrorMemoryAllocation);
    EXPECT_EQ(cudaMalloc(&pointer, SIZE_MAX), cudaErrorMemoryAllocation);
    EXPECT_EQ(cudaMalloc(&pointer, 0), cudaSuccess);
    EXPECT_EQ(pointer, nullptr);
    expect_works();
}

TEST_F(Emulation, freed_memory_faults) {
    float* data = nullptr;
    ASSERT_EQ(cudaMalloc(&data, 4096), cudaSuccess);
    ASSERT_EQ(cudaFree(data), cudaSuccess);
    expect_fault(launch(write_at, dim3(1), dim3(32), 0, stream, data, int64_t(0)), cudaErrorIllegalAddress,
                 {"access to device"});
}

TEST_F(Emulation, two_threads) {
    auto work = [] {
        cudaStream_t own;
        ASSERT_EQ(cudaStreamCreateWithFlags(&own, cudaStreamNonBlocking), cudaSuccess);
        for (int i = 0; i < 200; ++i) {
            int64_t* out = nullptr;
            ASSERT_EQ(cudaMalloc(&out, 8 * 64), cudaSuccess);
            if (i % 10 == 9) {
                ASSERT_EQ(launch(leave_before_barrier, dim3(1), dim3(32), 0, own), cudaErrorLaunchFailure);
                ASSERT_EQ(cudaStreamDestroy(own), cudaSuccess);
                ASSERT_EQ(cudaStreamCreateWithFlags(&own, cudaStreamNonBlocking), cudaSuccess);
            }
            ASSERT_EQ(launch(write_indices, dim3(2), dim3(32), 0, own, out), cudaSuccess);
            int64_t last;
            ASSERT_EQ(cudaMemcpyAsync(&last, out + 63, 8, cudaMemcpyDeviceToHost, own), cudaSuccess);
            ASSERT_EQ(last, 63);
            ASSERT_EQ(cudaFree(out), cudaSuccess);
        }
        ASSERT_EQ(cudaStreamDestroy(own), cudaSuccess);
    };
    std::thread other(work);
    work();
    other.join();
}

// ---- 16-bit types --------------------------------------------------------------------------------------------------------

// Between every two neighbours: the midpoint goes to the even one, what lies beside it to the nearer one.
template <typename Convert, typename T>
void check_rounding(Convert convert, T) {
    for (uint32_t bits = 0; bits + 1 < 0x10000; ++bits) {
        float low = to_float(T{uint16_t(bits)});
        float high = to_float(T{uint16_t(bits + 1)});
        if (std::isnan(low)) {
            ASSERT_EQ(convert(low).bits, 0x7fff);
            continue;
        }
        ASSERT_EQ(convert(low).bits, bits);
        if (std::isnan(high) || std::isinf(low) || (bits & 0x7fff) == 0x7fff) {
            continue;
        }
        // Beyond the largest number the next step is where infinity would be.
        double beyond = std::isinf(high) ? 2.0 * low - to_float(T{uint16_t(bits - 1)}) : double(high);
        float middle = float((low + beyond) / 2);
        ASSERT_EQ(convert(middle).bits, bits + bits % 2) << bits;
        ASSERT_EQ(convert(std::nextafterf(middle, low)).bits, bits) << bits;
        ASSERT_EQ(convert(std::nextafterf(middle, high)).bits, bits + 1) << bits;
    }
}

TEST(Half, rounds_to_nearest_even) {
    check_rounding([](float value) { return to_half(value); }, Half{});
    EXPECT_EQ(to_float(Half{0x3c01}), 1.0f + 1.0f / 1024);
    EXPECT_EQ(to_float(Half{0x0001}), 0x1p-24f);
    EXPECT_EQ(to_float(Half{0x7bff}), 65504.0f);
    EXPECT_EQ(to_half(1e30f).bits, 0x7c00);
    EXPECT_EQ(to_half(-1e-30f).bits, 0x8000);
}

TEST(BFloat16, rounds_to_nearest_even) {
    check_rounding([](float value) { return to_bfloat16(value); }, BFloat16{});
    EXPECT_EQ(to_float(BFloat16{0x3f81}), 1.0f + 1.0f / 128);
    EXPECT_EQ(to_bfloat16(3.4e38f).bits, 0x7f80);
}

// ---- Speed ---------------------------------------------------------------------------------------------------------------

__global__ void shuffle_many(int* out) {
    int value = lane_id();
    for (int i = 0; i < 1000; ++i) {
        value = shuffle_xor(value, 1) + 1;
    }
    out[threadIdx.x] = value;
}

__global__ void synchronise_many() {
    for (int i = 0; i < 1000; ++i) {
        __syncthreads();
    }
}

// Generous limits: a slip by an order of magnitude is what this finds.
TEST_F(Emulation, speed) {
    auto seconds_of = [](auto&& function) {
        auto start = std::chrono::steady_clock::now();
        function();
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    int* out = allocate<int>(1024);
    double shuffles = 1e9;
    double barriers = 1e9;
    for (int i = 0; i < 3; ++i) {
        shuffles = std::min(shuffles, seconds_of([&] { launch(shuffle_many, dim3(1), dim3(256), 0, stream, out); }));
        barriers = std::min(barriers, seconds_of([&] { launch(synchronise_many, dim3(1), dim3(256), 0, stream); }));
    }
    int64_t* indices = allocate<int64_t>(1 << 20);
    double threads = seconds_of([&] { launch(write_indices, dim3(4096), dim3(256), 0, stream, indices); });
    double launches = seconds_of([&] {
        for (int i = 0; i < 1000; ++i) {
            launch(write_indices, dim3(1), dim3(32), 0, stream, indices);
        }
    });
    printf("a shuffle of 32 lanes %.0f ns, a thread at a barrier %.1f ns, a thread without %.1f ns, a launch %.0f ns\n",
           shuffles / 8000 * 1e9, barriers / 256000 * 1e9, threads / (1 << 20) * 1e9, launches / 1000 * 1e9);
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    EXPECT_LT(shuffles / 8000, 20e-6);
    EXPECT_LT(barriers / 256000, 1e-6);
    EXPECT_LT(threads / (1 << 20), 500e-9);
    EXPECT_LT(launches / 1000, 200e-6);
#endif
}

} // namespace
