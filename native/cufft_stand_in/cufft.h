// The part of cuFFT that native/src/cuda/fft_library.cu uses, on the emulated device: transforms by kissfft in double.
#pragma once

#include "emulation/cuda.h"

#include <cstddef>

using cufftHandle = int;

int cufftCreate(cufftHandle* plan);
int cufftDestroy(cufftHandle plan);
int cufftSetAutoAllocation(cufftHandle plan, int is_automatic);
int cufftMakePlanMany64(cufftHandle plan, int rank, long long* length, long long* in, long long in_stride, long long in_row,
                        long long* out, long long out_stride, long long out_row, int kind, long long count,
                        std::size_t* work_bytes);
int cufftSetStream(cufftHandle plan, cudaStream_t stream);
int cufftSetWorkArea(cufftHandle plan, void* work);
int cufftExecC2C(cufftHandle plan, void* from, void* to, int direction);
int cufftExecZ2Z(cufftHandle plan, void* from, void* to, int direction);
