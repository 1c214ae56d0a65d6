// Some steps of Mamba-3, as core hands them to a backend.
#pragma once

#include "core/params/head_tensor.h"

namespace ssm {

// The last dimensions P, N and A are contiguous, where a tensor has them; other strides are any.
struct Mamba3UpdateParams {
    DataType type; // of x, dt, b, c, trap, angles, z, y; state_type(type) of the rest
    int64_t batch;
    int64_t rows; // of the states, at least batch where slots is null
    int64_t heads;
    int64_t channels; // of a head
    int64_t groups;   // heads / groups neighbouring heads read the same b and c
    int64_t states;   // N
    int64_t angles;   // of a head; 0 where there are none
    int64_t angle_groups;
    int64_t steps; // T
    bool dt_softplus;
    bool d_per_channel;     // d is (H,P)
    HeadTensor state;       // (K,H,P,N); batch strides of the states are from row to row
    HeadTensor angle_state; // (K,H,A), null without angles
    HeadTensor b_state;     // (K,H,N)
    HeadTensor x_state;     // (K,H,P)
    HeadTensor x, dt, b, c, trap, angle, z, y;
    HeadTensor a;         // its batch and time strides are 0 where it is (H)
    const void* b_bias;   // (H,N), may be null
    const void* c_bias;   // (H,N), may be null
    const void* d;        // (H) or (H,P), may be null
    const void* dt_bias;  // (H), may be null
    const int32_t* slots; // (B), may be null; a row outside of [0, rows) skips
    Workspace workspace;
};

} // namespace ssm
