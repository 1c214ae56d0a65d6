// A tensor of the operations with heads, as core hands it to a backend.
#pragma once

#include "core/params.h"

namespace ssm {

// Strides count elements; those of dimensions that it lacks are 0, and those of inputs may be.
struct HeadTensor {
    void* data = nullptr;
    int64_t batch_stride = 0;
    int64_t head_stride = 0; // of b and c: from group to group
    int64_t channel_stride = 0;
    int64_t state_stride = 0;
    int64_t time_stride = 0;
};

} // namespace ssm
