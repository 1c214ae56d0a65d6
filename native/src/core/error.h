// Errors: inside core a failure is a C++ exception with a status and a sentence; `guarded` turns it into the status an ABI
// function answers and keeps the sentence for ssm_last_error.
#pragma once

#include "core/backend.h"

#include <exception>
#include <new>
#include <string>
#include <utility>

namespace ssm {

struct Failure {
    int32_t status;
    std::string sentence;
};

[[noreturn]] void fail(int32_t status, std::string sentence);

// "name: expected expected, given given", as SSM_ERROR_INVALID_ARGUMENT.
[[noreturn]] void fail_argument(const char* name, const std::string& expected, const std::string& given);

// The sentence of the last failure on this thread. Long ones are cut, so that setting one cannot fail.
const char* last_error() noexcept;
void set_last_error(const char* sentence) noexcept;

// What a backend gets to leave its sentences through. They are kept apart from last_error, because a backend that fails
// does not always make the call fail (a probe for CUDA that ends on the CPU).
const BackendHost& backend_host();

// Throws if a backend answered a failure, with the sentence it left.
[[noreturn]] void fail_backend(int32_t status);
void forget_backend_sentence() noexcept;

template <class Function, class... Arguments>
int32_t call_backend(Function function, Arguments... arguments) {
    forget_backend_sentence();
    return function(arguments...);
}

template <class Function, class... Arguments>
void check_backend(Function function, Arguments... arguments) {
    const int32_t status = call_backend(function, arguments...);
    if (status != SSM_SUCCESS)
        fail_backend(status);
}

// The body of an ABI function. Nothing escapes.
template <class Body>
int32_t guarded(Body&& body) noexcept {
    try {
        std::forward<Body>(body)();
        return SSM_SUCCESS;
    } catch (const Failure& failure) {
        set_last_error(failure.sentence.c_str());
        return failure.status;
    } catch (const std::bad_alloc&) {
        set_last_error("host memory: exhausted");
        return SSM_ERROR_OUT_OF_MEMORY;
    } catch (const std::exception& exception) {
        set_last_error(exception.what());
        return SSM_ERROR_INTERNAL;
    } catch (...) {
        set_last_error("an unknown exception");
        return SSM_ERROR_INTERNAL;
    }
}

} // namespace ssm
