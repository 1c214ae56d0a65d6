// The gradients of the selective scan, as core hands them to a backend.
#pragma once

#include "core/params.h"

namespace ssm {

// Types as in SelectiveScanParams; a gradient has the type and the form of what it is the gradient of. Every gradient may be
// null.
struct SelectiveScanBackwardParams {
    DataType type;       // of u, dt, z, grad_y
    DataType state;      // of a, initial_state, grad_last_state and constant b, c
    SequenceShape shape; // channels = D
    int64_t groups;
    int64_t states; // N, may be 0
    bool dt_softplus;
    Sequence u, dt, z, grad_y, grad_u, grad_dt, grad_z;
    StateSequence b, c, grad_b, grad_c;
    const void* a;
    const void* d;
    const void* dt_bias;
    const void* initial_state;
    const void* grad_last_state; // (R,D,N)
    void* grad_a;
    void* grad_d;
    void* grad_dt_bias;
    void* grad_initial_state; // (R,D,N)
    const int32_t* seq_idx;   // (B,L), negative where a step is padding; may be null
    Workspace workspace;
};

} // namespace ssm
