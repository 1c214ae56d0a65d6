// Sums of exponentials, as core hands them to a backend: vandermonde_multiply and diagonal_kernel.
#pragma once

#include "core/params/diagonal_system.h"

namespace ssm {

// Every tensor is compact.
struct VandermondeMultiplyParams {
    DataType type; // complex: of the poles
    int64_t rows, states, length;
    bool conjugate_pairs; // y is real
    PoleSource source;
    void* y; // (H,L)
    Workspace workspace;
};

} // namespace ssm
