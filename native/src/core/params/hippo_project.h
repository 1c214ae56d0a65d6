// The projection of signals onto a measure, as core hands it to a backend. All tensors are compact.
#pragma once

#include "core/params.h"

namespace ssm {

struct HippoProjectParams {
    DataType type;   // float32 or float64
    int32_t measure; // of ssm_hippo_measure, as of ssm_discretization
    int32_t discretization;
    bool starts_from_first; // the first step takes its sample as though it had been there forever
    double alpha, dt;
    double time_before;    // of the step before the first one
    int64_t first_divisor; // k of the first step of legs; 0: it starts from the first sample
    int64_t batch, length, states;
    const void* f;             // (B,L)
    const void* timestamps;    // (L), may be null
    const void* initial_state; // (B,N), may be null
    void* coefficients;        // (B,L,N)
    void* last_state;          // (B,N), may be null
    Workspace workspace;
};

} // namespace ssm
