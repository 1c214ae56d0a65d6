// The gradients of sums of exponentials, as core hands them to a backend: of vandermonde_multiply and diagonal_kernel.
#pragma once

#include "core/params/diagonal_system.h"

namespace ssm {

// Every tensor is compact; a gradient that nobody asks for is null.
struct VandermondeMultiplyBackwardParams {
    DataType type; // complex: of the poles
    int64_t rows, states, length;
    bool conjugate_pairs; // grad_y is real
    PoleSource source;
    const void* grad_y; // (H,L)
    void *grad_v, *grad_x;
    void *grad_a, *grad_b, *grad_c, *grad_dt; // of a system
    Workspace workspace;
};

} // namespace ssm
