// Dense systems, a head each, as core hands them to a backend. All tensors are compact.
#pragma once

#include "core/params.h"

namespace ssm {

struct DenseSystem {
    DataType type;  // float32 or float64, of everything
    int64_t heads;  // H
    int64_t states; // N
    int32_t discretization;
    double alpha;
    const void* a;  // (H,N,N)
    const void* b;  // (H,N)
    const void* c;  // (H,N)
    const void* dt; // (H)
};

} // namespace ssm
