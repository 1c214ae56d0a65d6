// The gradients of the linear recurrence, as core hands it to a backend.
#pragma once

#include "core/params.h"

namespace ssm {

// Core has seen to h: where grad_a is wanted and the caller gave no h, core ran the forward operation first.
// So a backend needs a, h (if grad_a), initial_state (if grad_a), grad_h, grad_last_state and writes what is not null.
struct LinearRecurrenceBackwardParams {
    DataType type;
    SequenceShape shape; // reverse as in the forward call
    Sequence a, h, grad_h;
    const void* initial_state;
    const void* grad_last_state;
    Sequence grad_a, grad_b;
    void* grad_initial_state;
    Workspace workspace;
};

} // namespace ssm
