// The recurrence of diagonal plus low-rank systems, as core hands it to a backend.
#pragma once

#include "core/params/dplr_system.h"

namespace ssm {

struct DplrSsmParams {
    DplrSystem system;
    SequenceShape shape; // channels are the heads
    Sequence u, y;
    const void* d;             // (H), may be null
    const void* initial_state; // (rows,H,N), may be null
    void* last_state;          // (rows,H,N), may be null
    Workspace workspace;
};

} // namespace ssm
