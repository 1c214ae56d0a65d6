// The linear recurrence, as core hands it to a backend.
#pragma once

#include "core/params.h"

namespace ssm {

struct LinearRecurrenceParams {
    DataType type;
    SequenceShape shape;
    Sequence a, b, h;
    const void* initial_state; // (R,C), state_type
    void* last_state;          // (R,C), state_type
    Workspace workspace;
};

} // namespace ssm
