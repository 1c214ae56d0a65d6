// The gradients of the short causal convolution, as core hands it to a backend.
#pragma once

#include "core/params.h"

namespace ssm {

struct CausalConv1dBackwardParams {
    DataType type; // of x, grad_y, grad_x
    SequenceShape shape;
    int64_t width;
    bool silu;
    Sequence x, grad_y, grad_x;
    const void* weight;
    const void* bias;
    const void* initial_state;
    const void* grad_last_state;
    void* grad_weight;        // (D,W)
    void* grad_bias;          // (D)
    void* grad_initial_state; // (R,D,W-1)
    const int32_t* seq_idx;   // (B,L), negative where a step is padding; may be null
    Workspace workspace;
};

} // namespace ssm
