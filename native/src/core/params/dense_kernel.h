// The kernel of dense systems, as core hands it to a backend.
#pragma once

#include "core/params/dense_system.h"

namespace ssm {

struct DenseKernelParams {
    DenseSystem system;
    int64_t length;
    void* k; // (H,L)
    Workspace workspace;
};

} // namespace ssm
