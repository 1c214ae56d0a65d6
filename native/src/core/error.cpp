#include "core/error.h"

#include <cstring>

namespace ssm {
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
