// Mamba-2's state space duality, as core hands it to a backend.
#pragma once

#include "core/params/head_tensor.h"

namespace ssm {

// What the operation and its gradients read. x and z (B,L,H,P), dt (B,L,H), b and c (B,L,G,N) may have any strides but that
// of their last dimension, which is 1; dt any at all.
struct SsdInputs {
    DataType type;       // of x, dt, b, c, z; state_type(type) of the rest
    SequenceShape shape; // channels = H; of the layout nothing
    int64_t channels;    // of a head, P
    int64_t groups;      // G; H / G neighbouring heads read the same b and c
    int64_t states;      // N
    int64_t chunk;       // steps that go through together, at most; 0: chosen by the backend
    bool dt_softplus;
    bool d_per_channel;    // d is (H,P)
    double dt_min, dt_max; // limits of s; 0: none
    HeadTensor x, dt, b, c, z;
    const void* a;             // (H)
    const void* d;             // (H) or (H,P), may be null
    const void* dt_bias;       // (H), may be null
    const void* initial_state; // (R,H,P,N), may be null
    const int32_t* seq_idx;    // (B,L), may be null
    // Of mamba3, else null; (B,L,H) of the state type.
    HeadTensor log_decay; // the logarithms of the decays; then s is 1, and dt, a and dt_bias are not looked at
    HeadTensor skip;      // added to d, step by step
};

// A decay whose logarithm (of base e or 2) is less counts as this one. It is zero in every type either way, and in sums with
// 1e33 the steps behind it would be lost.
constexpr double ssd_least_logarithm = -4096;

struct SsdParams : SsdInputs {
    HeadTensor y;     // as x
    void* last_state; // (R,H,P,N), may be null
    Workspace workspace;
};

} // namespace ssm
