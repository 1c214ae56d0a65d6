#include "core/dynamic_library.h"

#include <filesystem>

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace ssm {
namespace {

std::filesystem::path utf8_path(const std::string& path) {
    return std::filesystem::path(std::u8string(path.begin(), path.end()));
}

std::string utf8_text(const std::filesystem::path& path) {
    const std::u8string text = path.u8string();
    return std::string(text.begin(), text.end());
}

} // namespace

bool is_absolute_path(const std::string& path) {
    return utf8_path(path).is_absolute();
}

bool file_exists(const std::string& path) {
    std::error_code error;
    return std::filesystem::is_regular_file(utf8_path(path), error);
}

#ifdef _WIN32

DynamicLibrary open_library(const std::string& absolute_path) {
    DynamicLibrary library;
    // Dependencies are looked for beside the library and in the system's folders, never in the current directory.
    library.handle = LoadLibraryExW(utf8_path(absolute_path).c_str(), nullptr,
                                    LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR | LOAD_LIBRARY_SEARCH_SYSTEM32);
    if (!library.handle)
        library.error = "LoadLibrary error " + std::to_string(GetLastError());
    return library;
}

void* DynamicLibrary::find(const char* symbol) const {
    return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(handle), symbol));
}

std::string own_folder() {
    HMODULE self = nullptr;
    if (!GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
                            reinterpret_cast<LPCWSTR>(&own_folder), &self)) {
        return "";
    }
    std::wstring path(32768, L'\0');
    path.resize(GetModuleFileNameW(self, path.data(), static_cast<DWORD>(path.size())));
    return utf8_text(std::filesystem::path(path).parent_path()) + "\\";
}

std::string library_file_name(const char* name) {
    return std::string(name) + ".dll";
}

#else

DynamicLibrary open_library(const std::string& absolute_path) {
    DynamicLibrary library;
    library.handle = dlopen(absolute_path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library.handle) {
        const char* error = dlerror();
        library.error = error ? error : "dlopen failed";
    }
    return library;
}

void* DynamicLibrary::find(const char* symbol) const {
    return dlsym(handle, symbol);
}

std::string own_folder() {
    Dl_info info;
    if (!dladdr(reinterpret_cast<void*>(&own_folder), &info) || !info.dli_fname)
        return "";
    // A library found through a relative path or a link is named that way: ask for the real file at once, before anybody
    // changes the current directory.
    std::error_code error;
    const std::filesystem::path path = std::filesystem::canonical(info.dli_fname, error);
    return error ? "" : utf8_text(path.parent_path()) + "/";
}

std::string library_file_name(const char* name) {
    return "lib" + std::string(name) + ".so";
}

#endif

} // namespace ssm
