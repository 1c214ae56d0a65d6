// The gradients of sums over poles, as core hands them to a backend.
#pragma once

#include "core/params.h"

namespace ssm {

// Every tensor is compact; a gradient that nobody asks for is null.
struct CauchyMultiplyBackwardParams {
    DataType type; // complex
    int64_t rows, states, length;
    bool conjugate_pairs;
    const void *v, *w;  // (H,N)
    const void* z;      // (L)
    const void* grad_y; // (H,L)
    void *grad_v, *grad_w;
    Workspace workspace;
};

} // namespace ssm
