// The short causal convolution, as core hands it to a backend.
#pragma once

#include "core/params.h"

namespace ssm {

// The short convolution along time of each channel. What is not a sequence has state_type(type) and may be null, except
// weight.
struct CausalConv1dParams {
    DataType type; // of x, y
    SequenceShape shape;
    int64_t width; // W, 1 to most_width
    bool silu;
    Sequence x, y;
    const void* weight;        // (D,W)
    const void* bias;          // (D)
    const void* initial_state; // (R,D,W-1)
    void* last_state;          // (R,D,W-1)
    const int32_t* seq_idx;    // (B,L), negative where a step is padding; may be null
    Workspace workspace;

    static constexpr int64_t most_width = 256;
};

} // namespace ssm
