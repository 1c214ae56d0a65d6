// The state update, as core hands it to a backend.
#pragma once

#include "core/params/head_tensor.h"

namespace ssm {

// Both forms are heads of channels that share b and c: a head is one of Mamba-2's, or one of Mamba-1's groups of channels.
struct SelectiveStateUpdateParams {
    DataType type;  // of x, dt, b, c, z, y; state_type(type) of a, d, dt_bias
    DataType state; // storage of the state; float64 if and only if type is
    int64_t batch;
    int64_t rows; // of the state, at least batch where slots is null
    int64_t heads;
    int64_t channels; // of a head
    int64_t groups;   // heads / groups neighbouring heads read the same b and c
    int64_t states;   // N
    int64_t steps;    // T
    bool dt_softplus;
    bool is_tied;      // Mamba-2: dt, a, d, dt_bias have one value per head
    HeadTensor update; // the state; its batch stride is from row to row
    HeadTensor x, dt, z, y;
    HeadTensor a; // state_stride 1, or 0 where tied
    HeadTensor b, c;
    HeadTensor d, dt_bias; // may be null
    const int32_t* slots;  // (B), may be null; a row outside of [0, rows) skips
    Workspace workspace;
};

} // namespace ssm
