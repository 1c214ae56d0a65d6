// The gradients of Mamba-3's recurrence, as core hands them to a backend.
#pragma once

#include "core/params/mamba3.h"

namespace ssm {

// What is null is not wanted.
struct Mamba3BackwardParams : Mamba3Inputs {
    HeadTensor grad_y;           // as x
    const void* grad_last_state; // (R,H,P,N), may be null, and so may the others
    const void* grad_last_angle; // (R,H,A)
    const void* grad_last_b;     // (R,H,N)
    const void* grad_last_x;     // (R,H,P)
    HeadTensor grad_x, grad_z;   // as x
    HeadTensor grad_dt;          // as dt
    HeadTensor grad_trap;        // as dt
    HeadTensor grad_b, grad_c;   // as b
    HeadTensor grad_angles;      // as angles
    HeadTensor grad_a;           // as a
    void* grad_b_bias;           // (H,N)
    void* grad_c_bias;           // (H,N)
    void* grad_d;                // as d, (H) where that is null
    void* grad_dt_bias;          // (H)
    void* grad_initial_state;    // (R,H,P,N)
    void* grad_initial_angle;    // (R,H,A)
    void* grad_initial_b;        // (R,H,N)
    void* grad_initial_x;        // (R,H,P)
    bool grad_d_per_channel;     // grad_d is (H,P)
    Workspace workspace;
};

} // namespace ssm
