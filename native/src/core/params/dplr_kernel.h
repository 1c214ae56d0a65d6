// The kernel of diagonal plus low-rank systems, as core hands it to a backend.
#pragma once

#include "core/params/dplr_system.h"

namespace ssm {

struct DplrKernelParams {
    DplrSystem system;
    bool c_is_tilde;
    int64_t length;
    void* k; // (H,L)
    Workspace workspace;
};

} // namespace ssm
