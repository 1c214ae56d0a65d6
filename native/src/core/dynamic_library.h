// Shared libraries, for the platforms we build on. A library once opened stays: its tables and threads may be in use.
#pragma once

#include <string>

namespace ssm {

struct DynamicLibrary {
    void* handle = nullptr;
    std::string error; // why it could not be opened

    explicit operator bool() const { return handle != nullptr; }
    void* find(const char* symbol) const;
};

DynamicLibrary open_library(const std::string& absolute_path);

bool is_absolute_path(const std::string& path);
bool file_exists(const std::string& path);

// The folder that this very library was loaded from, with a separator at its end; empty if the system cannot tell.
std::string own_folder();

// "libNAME.so", "NAME.dll"
std::string library_file_name(const char* name);

} // namespace ssm
