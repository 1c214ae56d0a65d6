// The associative scan, as core hands it to a backend.
#pragma once

#include "core/params.h"

namespace ssm {

enum class Combine : int32_t { add, multiply, maximum, minimum };

struct AssociativeScanParams {
    DataType type; // of x and y
    SequenceShape shape;
    Combine combine;
    bool exclusive;
    Sequence x, y;
    const void* initial_state; // (R,C), state_type
    void* last_state;          // (R,C), state_type
    Workspace workspace;
};

} // namespace ssm
