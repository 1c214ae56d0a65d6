// What a backend's functions answer: the header's ssm_status under other names, so that a kernel's file does not depend on
// the header, which every new operation changes.
#pragma once

#include <cstdint>

namespace ssm {

enum Status : int32_t {
    success = 0,
    error_invalid_argument = 1,
    error_unsupported = 2,
    error_out_of_memory = 3,
    error_workspace_too_small = 4,
    error_driver_missing = 5,
    error_no_device = 6,
    error_library_not_found = 7,
    error_no_kernel_image = 8,
    error_device_fault = 9,
    error_invalid_state = 10,
    error_internal = 11,
};

} // namespace ssm
