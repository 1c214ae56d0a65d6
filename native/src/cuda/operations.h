// The operations of the CUDA backend, one file each.
#pragma once

#include "core/backend.h"

namespace ssm {

#define SSM_OPERATION(name, Params)                                                                                         \
    int32_t name(BackendContext* context, const Params* params);                                                            \
    int32_t name##_workspace(BackendContext* context, const Params* params, uint64_t* bytes);
#include "core/operations.inc"
#undef SSM_OPERATION

} // namespace ssm
