// What the library shows to the outside: ssm_* alone, and nothing needed but the C library.
#include <gtest/gtest.h>

#include <dlfcn.h>

#include <cstdio>
#include <set>
#include <sstream>
#include <string>

#include "support/device.h"

namespace ssm::test {

namespace {

std::string library_file() {
    Dl_info info;
    return dladdr(reinterpret_cast<void*>(&ssm_version), &info) ? info.dli_fname : "";
}

// The output of a command, or an empty text where it failed.
std::string output_of(const std::string& command) {
    std::string text;
    std::FILE* pipe = popen(command.c_str(), "r");
    if (!pipe)
        return text;
    char buffer[4096];
    for (size_t count; (count = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;)
        text.append(buffer, count);
    return pclose(pipe) == 0 ? text : "";
}

} // namespace

TEST(Exports, OnlyNamesOfTheAbi) {
    if (has_sanitizer())
        GTEST_SKIP() << "the sanitizer adds names of its own";
    std::istringstream lines(output_of("nm -D --defined-only '" + library_file() + "'"));
    int count = 0;
    for (std::string address, kind, name; lines >> address >> kind >> name; ++count)
        EXPECT_EQ(name.rfind("ssm_", 0), 0u) << name;
    EXPECT_GT(count, 40) << "nm gave nothing for " << library_file();
}

TEST(Exports, NeedsTheCLibraryAlone) {
    if (has_sanitizer())
        GTEST_SKIP() << "the sanitizer is a library of its own";
    std::istringstream lines(output_of("readelf -d '" + library_file() + "'"));
    const std::set<std::string> allowed{"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"};
    int count = 0;
    for (std::string line; std::getline(lines, line);)
        if (line.find("(NEEDED)") != std::string::npos) {
            const size_t begin = line.find('[') + 1;
            const std::string name = line.substr(begin, line.find(']') - begin);
            EXPECT_EQ(allowed.count(name), 1u) << name;
            ++count;
        }
    EXPECT_GT(count, 0) << "readelf gave nothing for " << library_file();
}

// The functions that the header declares are there, and the version fits.
TEST(Exports, HeaderAndLibraryAreOfOneVersion) {
    EXPECT_EQ(ssm_abi_version(), static_cast<uint32_t>(SSM_ABI_VERSION));
    EXPECT_STREQ(ssm_status_name(SSM_ERROR_WORKSPACE_TOO_SMALL), "SSM_ERROR_WORKSPACE_TOO_SMALL");
}

} // namespace ssm::test
