// The discretization of a diagonal system, as core hands it to a backend.
#pragma once

#include "core/params/diagonal_system.h"

namespace ssm {

// Every tensor is compact; an output that nobody asks for is null.
struct DiscretizeDiagonalParams {
    DataType type; // complex
    int64_t rows, states;
    DiscretizationRule rule;
    const void *a, *b;         // (H,N)
    const void *dt, *interval; // (H)
    void *a_bar, *b_bar;       // (H,N)
    Workspace workspace;
};

} // namespace ssm
