// The gradients of a diagonal system, as core hands them to a backend.
#pragma once

#include "core/params/diagonal_system.h"

namespace ssm {

// All but the sequences are compact; a gradient that nobody asks for is null. Time is contiguous.
struct DiagonalSsmBackwardParams {
    DataType type; // complex: of a, b, c and the states
    SequenceShape shape;
    int64_t states;
    DiscretizationRule rule;
    const void *a, *b, *c; // (H,N)
    const void *dt, *d;    // (H)
    Sequence u, grad_y, grad_u;
    const void *initial_state, *grad_last_state; // (R,H,N)
    void *grad_a, *grad_b, *grad_c;
    void *grad_dt, *grad_d;
    void* grad_initial_state;
    Workspace workspace;
};

} // namespace ssm
