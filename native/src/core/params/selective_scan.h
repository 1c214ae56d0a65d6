// The selective scan, as core hands it to a backend.
#pragma once

#include "core/params.h"

namespace ssm {

struct SelectiveScanParams {
    DataType type;       // of u, dt, z, y
    DataType state;      // of a, initial_state, last_state and constant b, c: state_type(type) or its complex type
    SequenceShape shape; // channels = D
    int64_t groups;
    int64_t states; // N
    bool dt_softplus;
    Sequence u, dt, z, y;
    StateSequence b, c;        // per step: of type, or of state where that is complex
    const void* a;             // (D,N), state
    const void* d;             // (D), state_type(type), may be null
    const void* dt_bias;       // (D), state_type(type), may be null
    const void* initial_state; // (R,D,N), state
    void* last_state;          // (R,D,N), state
    const int32_t* seq_idx;    // (B,L), negative where a step is padding; may be null
    Workspace workspace;
};

} // namespace ssm
