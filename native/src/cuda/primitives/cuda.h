// The CUDA language and runtime: NVIDIA's under nvcc, native/emulation elsewhere. Every file of native/src/cuda starts
// here, so that one source compiles for both.
#pragma once

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#else
#include "emulation/cuda.h"
#endif

#include <cstdint>

// A function for kernels and for the host code around them.
#define SSM_INLINE __host__ __device__ __forceinline__
// A function for kernels alone.
#define SSM_DEVICE __device__ __forceinline__
