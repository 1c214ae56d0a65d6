#include "cufft_stand_in/cufft.h"

#include "cuda/primitives/launch.h"

#include <complex>
#include <kissfft.hh>
#include <map>
#include <mutex>
#include <vector>

namespace {

// As cuFFT's results.
constexpr int success = 0, invalid_plan = 1, invalid_value = 4, exec_failed = 6;
constexpr int complex_float = 0x29, complex_double = 0x69;

struct Plan {
    long long length = 0, count = 0;
    int kind = 0;
    bool is_automatic = true;
    cudaStream_t stream = nullptr;
    void* work = nullptr;
};
std::mutex mutex;
std::map<cufftHandle, Plan> plans;

// Reads and writes the plan's work area as the real one may: the test of a workspace sees whether it is there.
constexpr std::size_t work_bytes = 1024;

template <class R>
void transform_kernel(std::complex<R>* points, long long length, int direction, unsigned char* work) {
    if (threadIdx.x != 0)
        return;
    work[blockIdx.x % work_bytes] = 1;
    std::complex<R>* const row = points + static_cast<long long>(blockIdx.x) * length;
    std::vector<std::complex<double>> from(row, row + length), to(from.size());
    kissfft<double>(from.size(), direction > 0).transform(from.data(), to.data());
    for (long long i = 0; i < length; ++i)
        row[i] = {static_cast<R>(to[i].real()), static_cast<R>(to[i].imag())};
}

template <class R>
int run(cufftHandle handle, int kind, void* from, void* to, int direction) {
    Plan plan;
    {
        const std::lock_guard lock(mutex);
        const auto found = plans.find(handle);
        if (found == plans.end() || found->second.kind != kind)
            return invalid_plan;
        plan = found->second;
    }
    if (from != to || (direction != 1 && direction != -1) || (!plan.is_automatic && !plan.work))
        return invalid_value;
    const cudaError_t error =
        ssm::launch(transform_kernel<R>, dim3(static_cast<unsigned>(plan.count)), dim3(32), 0, plan.stream,
                    static_cast<std::complex<R>*>(from), plan.length, direction, static_cast<unsigned char*>(plan.work));
    return error == cudaSuccess ? success : exec_failed;
}

template <class F>
int with_plan(cufftHandle handle, const F& f) {
    const std::lock_guard lock(mutex);
    const auto found = plans.find(handle);
    if (found == plans.end())
        return invalid_plan;
    return f(found->second);
}

} // namespace

int cufftCreate(cufftHandle* plan) {
    const std::lock_guard lock(mutex);
    *plan = plans.empty() ? 1 : plans.rbegin()->first + 1;
    plans[*plan] = {};
    return success;
}

int cufftDestroy(cufftHandle plan) {
    const std::lock_guard lock(mutex);
    return plans.erase(plan) == 1 ? success : invalid_plan;
}

int cufftSetAutoAllocation(cufftHandle plan, int is_automatic) {
    return with_plan(plan, [&](Plan& own) { return own.is_automatic = is_automatic != 0, success; });
}

int cufftMakePlanMany64(cufftHandle plan, int rank, long long* length, long long* in, long long in_stride, long long in_row,
                        long long* out, long long out_stride, long long out_row, int kind, long long count,
                        std::size_t* bytes) {
    return with_plan(plan, [&](Plan& own) {
        if (rank != 1 || in || out || in_stride != 1 || out_stride != 1 || in_row != *length || out_row != *length ||
            (kind != complex_float && kind != complex_double) || count < 1)
            return invalid_value;
        own.length = *length;
        own.count = count;
        own.kind = kind;
        *bytes = work_bytes;
        return success;
    });
}

int cufftSetStream(cufftHandle plan, cudaStream_t stream) {
    return with_plan(plan, [&](Plan& own) { return own.stream = stream, success; });
}

int cufftSetWorkArea(cufftHandle plan, void* work) {
    return with_plan(plan, [&](Plan& own) { return own.work = work, success; });
}

int cufftExecC2C(cufftHandle plan, void* from, void* to, int direction) {
    return run<float>(plan, complex_float, from, to, direction);
}

int cufftExecZ2Z(cufftHandle plan, void* from, void* to, int direction) {
    return run<double>(plan, complex_double, from, to, direction);
}
