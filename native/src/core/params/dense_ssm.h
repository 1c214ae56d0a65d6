// The recurrence of dense systems, as core hands it to a backend.
#pragma once

#include "core/params/dense_system.h"

namespace ssm {

struct DenseSsmParams {
    DenseSystem system;
    SequenceShape shape; // channels are the heads
    Sequence u, y;
    const void* d;             // (H), may be null
    const void* initial_state; // (R,H,N), may be null
    void* last_state;          // (R,H,N), may be null
    Workspace workspace;
};

} // namespace ssm
