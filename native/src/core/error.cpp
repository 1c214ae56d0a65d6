#include "core/error.h"

#include "core/status.h"

#include <cstring>

namespace ssm {

static_assert(int32_t{success} == SSM_SUCCESS && int32_t{error_invalid_argument} == SSM_ERROR_INVALID_ARGUMENT &&
              int32_t{error_unsupported} == SSM_ERROR_UNSUPPORTED &&
              int32_t{error_out_of_memory} == SSM_ERROR_OUT_OF_MEMORY &&
              int32_t{error_workspace_too_small} == SSM_ERROR_WORKSPACE_TOO_SMALL &&
              int32_t{error_driver_missing} == SSM_ERROR_DRIVER_MISSING && int32_t{error_no_device} == SSM_ERROR_NO_DEVICE &&
              int32_t{error_library_not_found} == SSM_ERROR_LIBRARY_NOT_FOUND &&
              int32_t{error_no_kernel_image} == SSM_ERROR_NO_KERNEL_IMAGE &&
              int32_t{error_device_fault} == SSM_ERROR_DEVICE_FAULT &&
              int32_t{error_invalid_state} == SSM_ERROR_INVALID_STATE && int32_t{error_internal} == SSM_ERROR_INTERNAL);

namespace {

struct Sentence {
    char text[4096] = "";

    void set(const char* from) noexcept {
        size_t length = std::strlen(from);
        if (length >= sizeof(text)) {
            length = sizeof(text) - 1;
            // Do not cut a UTF-8 character in two: go back over continuation bytes to its first byte.
            while (length > 0 && (static_cast<unsigned char>(from[length]) & 0xC0) == 0x80)
                --length;
        }
        std::memmove(text, from, length);
        text[length] = 0;
    }
};

thread_local Sentence last;
thread_local Sentence from_backend;

void set_backend_sentence(const char* sentence) {
    from_backend.set(sentence ? sentence : "");
}

} // namespace

void fail(int32_t status, std::string sentence) {
    throw Failure{status, std::move(sentence)};
}

void fail_argument(const char* name, const std::string& expected, const std::string& given) {
    fail(SSM_ERROR_INVALID_ARGUMENT, std::string(name) + ": " + expected + " expected, " + given + " given");
}

const char* last_error() noexcept {
    return last.text;
}
void set_last_error(const char* sentence) noexcept {
    last.set(sentence);
}

const BackendHost& backend_host() {
    static constexpr BackendHost host{sizeof(BackendHost), set_backend_sentence};
    return host;
}

void forget_backend_sentence() noexcept {
    from_backend.text[0] = 0;
}

void fail_backend(int32_t status) {
    if (status < SSM_SUCCESS || status > SSM_ERROR_INTERNAL) {
        fail(SSM_ERROR_INTERNAL, "the backend answered the unknown status " + std::to_string(status));
    }
    if (from_backend.text[0])
        fail(status, from_backend.text);
    fail(status, std::string("the backend answered ") + ssm_status_name(status));
}

} // namespace ssm

extern "C" const char* ssm_last_error(void) {
    return ssm::last_error();
}
