// Sums over poles, as core hands them to a backend.
#pragma once

#include "core/params.h"

namespace ssm {

// Every tensor is compact.
struct CauchyMultiplyParams {
    DataType type; // complex
    int64_t rows, states, length;
    bool conjugate_pairs;
    const void *v, *w; // (H,N)
    const void* z;     // (L)
    void* y;           // (H,L)
    Workspace workspace;
};

} // namespace ssm
