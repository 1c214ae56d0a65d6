// The gradients of Mamba-2's state space duality, as core hands them to a backend.
#pragma once

#include "core/params/ssd.h"

namespace ssm {

// What is null is not wanted.
struct SsdBackwardParams : SsdInputs {
    HeadTensor grad_y;           // as x
    const void* grad_last_state; // (R,H,P,N), may be null
    HeadTensor grad_x, grad_z;   // as x
    HeadTensor grad_dt;          // as dt
    HeadTensor grad_b, grad_c;   // as b
    void* grad_a;                // (H)
    void* grad_d;                // as d, (H) where that is null
    void* grad_dt_bias;          // (H)
    void* grad_initial_state;    // (R,H,P,N)
    bool grad_d_per_channel;     // grad_d is (H,P)
    // Of mamba3, where every head has a group of its own, else null.
    HeadTensor grad_log_decay; // (B,L,H) of the state type
    void* wide_b;              // (B,L,H,N) of the state type, in place of grad_b
    void* wide_c;              // the same, in place of grad_c
    Workspace workspace;
};

} // namespace ssm
