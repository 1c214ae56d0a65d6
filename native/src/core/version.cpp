#include "ssmcuda/ssmcuda.h"

extern "C" uint32_t ssm_abi_version(void) {
    return SSM_ABI_VERSION;
}

extern "C" const char* ssm_version(void) {
    return SSM_VERSION;
}

extern "C" const char* ssm_status_name(int32_t status) {
    switch (status) {
    case SSM_SUCCESS:
        return "SSM_SUCCESS";
    case SSM_ERROR_INVALID_ARGUMENT:
        return "SSM_ERROR_INVALID_ARGUMENT";
    case SSM_ERROR_UNSUPPORTED:
        return "SSM_ERROR_UNSUPPORTED";
    case SSM_ERROR_OUT_OF_MEMORY:
        return "SSM_ERROR_OUT_OF_MEMORY";
    case SSM_ERROR_WORKSPACE_TOO_SMALL:
        return "SSM_ERROR_WORKSPACE_TOO_SMALL";
    case SSM_ERROR_DRIVER_MISSING:
        return "SSM_ERROR_DRIVER_MISSING";
    case SSM_ERROR_NO_DEVICE:
        return "SSM_ERROR_NO_DEVICE";
    case SSM_ERROR_LIBRARY_NOT_FOUND:
        return "SSM_ERROR_LIBRARY_NOT_FOUND";
    case SSM_ERROR_NO_KERNEL_IMAGE:
        return "SSM_ERROR_NO_KERNEL_IMAGE";
    case SSM_ERROR_DEVICE_FAULT:
        return "SSM_ERROR_DEVICE_FAULT";
    case SSM_ERROR_INVALID_STATE:
        return "SSM_ERROR_INVALID_STATE";
    case SSM_ERROR_INTERNAL:
        return "SSM_ERROR_INTERNAL";
    default:
        return "unknown status";
    }
}
