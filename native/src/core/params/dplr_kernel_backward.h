// Gradients of the kernel of diagonal plus low-rank systems, as core hands them to a backend.
#pragma once

#include "core/params/dplr_system.h"

namespace ssm {

// Gradients are shaped as what they belong to; any may be null.
struct DplrKernelBackwardParams {
    DplrSystem system;
    bool c_is_tilde;
    int64_t length;
    const void* grad_k; // (H,L)
    void *grad_eigenvalues, *grad_p, *grad_b, *grad_c, *grad_dt;
    Workspace workspace;
};

} // namespace ssm
