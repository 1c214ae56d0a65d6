// Copies between strided tensors.
#pragma once

#include "core/params.h"

namespace ssm {

// One side of a copy; strides count elements.
struct StridedSide {
    const void* data;
    const int64_t* strides;
};

// The copy in as few dimensions as it can be said in: those of one index dropped, the others ordered by the destination's
// strides and merged where both sides run on. Where a pointer is not aligned to the element, elements are cut into smaller
// ones. The rank is at least 1.
StridedCopyParams plan_copy(int32_t rank, const int64_t* shape, int64_t element_size, StridedSide source,
                            StridedSide destination);

// Whether the copy is one run of bytes on both sides.
bool is_plain(const StridedCopyParams& copy);

// Runs it in host memory, on the calling thread.
void copy_on_host(const StridedCopyParams& copy);

} // namespace ssm
