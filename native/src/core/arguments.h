// Argument structs: struct_size and enums.
#pragma once

#include "core/error.h"

#include <cstring>

namespace ssm {

// No struct of ours comes near this; a larger struct_size is uninitialised memory.
constexpr uint32_t largest_struct = 4096;

template <class Struct>
void check_struct_size(const char* name, uint32_t size) {
    if (size < alignof(Struct) || size > largest_struct || size % alignof(Struct) != 0) {
        fail_argument(name, "struct_size " + std::to_string(sizeof(Struct)), std::to_string(size));
    }
}

// A copy of the caller's struct at the size this library knows: what the caller's lacks is zero, and what only the
// caller's has must be zero.
template <class Args>
Args read_arguments(const Args* given) {
    if (!given)
        fail_argument("args", "an argument struct", "NULL");
    const uint32_t size = given->struct_size;
    check_struct_size<Args>("args", size);
    Args args{};
    std::memcpy(&args, given, size < sizeof(Args) ? size : sizeof(Args));
    const char* bytes = reinterpret_cast<const char*>(given);
    for (size_t i = sizeof(Args); i < size; ++i) {
        if (bytes[i] != 0) {
            fail_argument("args", "zero beyond the " + std::to_string(sizeof(Args)) + " bytes that this library knows",
                          "a value at byte " + std::to_string(i));
        }
    }
    return args;
}

// bool fields are 0 or 1: anything else is an uninitialised struct.
inline bool read_bool(const char* name, int32_t value) {
    if (value != 0 && value != 1)
        fail_argument(name, "0 or 1", std::to_string(value));
    return value != 0;
}

template <class T>
T& required_pointer(const char* name, const char* expected, T* pointer) {
    if (!pointer)
        fail_argument(name, expected, "NULL");
    return *pointer;
}

} // namespace ssm
