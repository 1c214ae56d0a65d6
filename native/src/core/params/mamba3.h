// Mamba-3's recurrence, as core hands it to a backend.
#pragma once

#include "core/params/head_tensor.h"

namespace ssm {

// What the operation and its gradients read. x and z (B,L,H,P), b and c (B,L,G,N), angles (B,L,J,A) may have any strides but
// that of their last dimension, which is 1; dt, trap (B,L,H) and a any at all.
struct Mamba3Inputs {
    DataType type;        // of x, dt, b, c, trap, angles, z; state_type(type) of the rest
    SequenceShape shape;  // channels = H; of the layout nothing
    int64_t channels;     // of a head, P
    int64_t groups;       // G; H / G neighbouring heads read the same b and c
    int64_t states;       // N
    int64_t angles;       // A, of a head; 0 where there are none
    int64_t angle_groups; // J
    bool dt_softplus;
    bool d_per_channel; // d is (H,P)
    bool a_per_step;    // a is (B,L,H)
    HeadTensor x, dt, b, c, trap, angle, z;
    HeadTensor a;              // its batch and time strides are 0 where it is (H)
    const void* b_bias;        // (H,N), may be null
    const void* c_bias;        // (H,N), may be null
    const void* d;             // (H) or (H,P), may be null
    const void* dt_bias;       // (H), may be null
    const void* initial_state; // (R,H,P,N), may be null
    const void* initial_angle; // (R,H,A), may be null
    const void* initial_b;     // (R,H,N), may be null, as initial_x then is
    const void* initial_x;     // (R,H,P)
};

struct Mamba3Params : Mamba3Inputs {
    HeadTensor y;     // as x
    void* last_state; // (R,H,P,N), may be null, and so may the others
    void* last_angle; // (R,H,A)
    void* last_b;     // (R,H,N)
    void* last_x;     // (R,H,P)
    Workspace workspace;
};

} // namespace ssm
