// A diagonal system as a recurrence, as core hands it to a backend.
#pragma once

#include "core/params/diagonal_system.h"

namespace ssm {

// All but u and y are compact. Channels of the shape are heads; time is contiguous.
struct DiagonalSsmParams {
    DataType type; // complex: of a, b, c and the states
    SequenceShape shape;
    int64_t states;
    DiscretizationRule rule;
    const void *a, *b, *c; // (H,N)
    const void *dt, *d;    // (H)
    Sequence u, y;
    const void* initial_state; // (R,H,N)
    void* last_state;
    Workspace workspace;
};

} // namespace ssm
