// Systems diag(eigenvalues) - sum_r p_r p_r^*, a head each, as core hands them to a backend. All tensors are compact.
#pragma once

#include "core/params.h"

namespace ssm {

struct DplrSystem {
    DataType type; // float32 or float64; complex tensors have the complex type of it
    int64_t heads; // H
    int64_t states;
    int64_t rank;
    bool conjugate_pairs;
    const void* eigenvalues; // (H,N)
    const void* p;           // (H,R,N)
    const void* b;           // (H,N)
    const void* c;           // (H,N)
    const void* dt;          // (H)
};

} // namespace ssm
