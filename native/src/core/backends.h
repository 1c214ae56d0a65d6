// The process-wide registry of backends. The CPU backend is always there; the others are shared libraries, opened on
// first use from this library's own folder or by ssm_backend_load, and kept until the process ends. Thread-safe.
#pragma once

#include "core/error.h"

namespace ssm {

struct Device {
    const Backend* backend;
    int32_t type;
    int32_t id;
};

// The device asked for, or a failure whose status and sentence say why there is none. SSM_DEVICE_DEFAULT is CUDA where it
// has a device, else the CPU.
Device find_device(int32_t device_type, int32_t device_id);

} // namespace ssm
