// What linear_recurrence needs of a discretized diagonal system, as core hands it to a backend.
#pragma once

#include "core/params/diagonal_system.h"

namespace ssm {

// a_bar has one batch element unless there is an interval, and then or where time is contiguous all steps, else one.
struct DiagonalScanParams {
    DataType type;
    SequenceShape shape;
    DiscretizationRule rule;
    const void *a, *dt;   // (N)
    const void* interval; // (B,L)
    Sequence bu;
    Sequence a_bar;
    Sequence scaled; // f bu; null where f is one. May be bu.
    Workspace workspace;
};

} // namespace ssm
