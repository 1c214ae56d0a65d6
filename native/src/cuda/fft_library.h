// Complex transforms by cuFFT, in place, many at a time. It is opened when first asked for: it is hundreds of megabytes, and
// nothing else needs it.
#pragma once

#include "cuda/context.h"
#include "cuda/primitives/complex.h"

namespace ssm {

// Makes the plans for `count` rows of `length` points, or for fewer, and answers the bytes that they need beside the points.
// Leaves a sentence where there is no cuFFT.
template <typename R>
int32_t fft_library_bytes(BackendContext* context, int64_t length, int64_t count, uint64_t* bytes);

// sum_p x_p exp(sign 2 pi i j p / length) for each row and j, unscaled and in order. work: as many bytes as said above.
template <typename R>
cudaError_t fft_library_run(BackendContext* context, Complex<R>* points, int64_t length, int64_t count, int sign,
                            void* work);

} // namespace ssm
