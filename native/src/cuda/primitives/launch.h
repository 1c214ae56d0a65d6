// ssm::launch(kernel, grid, block, shared_bytes, stream, arguments...) runs a kernel and answers how the launch went.
// On the device it opts in to more than 48 KiB of shared memory where that is asked for. The emulation checks grid,
// block and shared memory against the chosen architecture, runs the kernel and answers its faults at once.
#pragma once

#include "cuda/primitives/cuda.h"

#include <cstddef>
#if !defined(__CUDACC__)
#include <tuple>
#endif

namespace ssm {

#if defined(__CUDACC__)

template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                   Arguments&&... arguments) {
    if (shared_bytes > 48 * 1024) {
        cudaError_t error =
            cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared_bytes));
        if (error != cudaSuccess) {
            cudaGetLastError(); // not sticky, and answered here
            return error;
        }
    }
    kernel<<<grid, block, shared_bytes, stream>>>(static_cast<Parameters>(arguments)...);
    return cudaGetLastError();
}

#else

// The stream converts to StreamAt at the call of launch, which is how launch learns the line it is called from.
template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, emulation::StreamAt stream,
                   Arguments&&... arguments) {
    struct Call {
        void (*kernel)(Parameters...);
        std::tuple<Parameters...> parameters;
        static void run(const void* call) {
            std::apply(static_cast<const Call*>(call)->kernel, static_cast<const Call*>(call)->parameters);
        }
    };
    Call call{kernel, {static_cast<Parameters>(arguments)...}};
    return emulation::run({&Call::run, &call, grid, block, shared_bytes, stream});
}

#endif

} // namespace ssm
