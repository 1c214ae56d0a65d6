// The step of the short causal convolution, as core hands it to a backend.
#pragma once

#include "core/params.h"

namespace ssm {

// A tensor of the update, with any strides, in elements; those of x may be 0.
struct StepTensor {
    void* data = nullptr;
    int64_t batch_stride = 0; // of the state: from row to row
    int64_t channel_stride = 0;
    int64_t step_stride = 0;
};

// weight and bias are compact and have state_type(type).
struct CausalConv1dUpdateParams {
    DataType type;  // of x, y
    DataType state; // storage of the state; float64 if and only if type is
    int64_t batch;
    int64_t rows; // of the state, at least batch where slots is null
    int64_t channels;
    int64_t steps;  // T
    int64_t width;  // W, 1 to CausalConv1dParams::most_width
    int64_t length; // S, at least W - 1
    bool silu;
    StepTensor update; // the state
    StepTensor x, y;
    const void* weight;           // (D,W)
    const void* bias;             // (D), may be null
    const int32_t* slots;         // (B), may be null; a row outside of [0, rows) skips
    const int32_t* cache_seqlens; // (B); null: the oldest step of a state is its first
    Workspace workspace;
};

} // namespace ssm
