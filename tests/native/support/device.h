// The devices the tests run on, and a context that frees itself.
#pragma once

#include <cstdint>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "support/values.h"

namespace ssm::test {

struct Device {
    int32_t type;
    int32_t id;
    std::string name; // cpu, emulated, cuda
    bool is_slow() const { return type == SSM_DEVICE_EMULATED; }
};

// SSM_TEST_DEVICES=cpu,emulated names the devices that must be there; without it, all that are.
const std::vector<Device>& devices();
// What SSM_TEST_DEVICES asks for and this machine or build lacks.
const std::vector<std::string>& missing_devices();

// What a parameterised test runs on.
struct Target {
    Device device;
    Type type;
};
std::string name_of(const Target& target);
void PrintTo(const Target& target, std::ostream* stream);
std::vector<Target> targets(std::initializer_list<Type> types);
// The same, with float32 alone where the device is slow: for tests whose point is not the device's types.
std::vector<Target> light_targets(std::initializer_list<Type> types);

// Throws with the library's sentence if a call failed; GoogleTest reports the exception.
void check(int32_t status, const char* what);
#define SSM_CHECK(call) ::ssm::test::check((call), #call)

class Context {
  public:
    explicit Context(const Device& device);
    ~Context();
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;
    operator ssm_context*() const { return context; }
    const Device& device() const { return on; }
    // False if the device does not know the option or the value.
    bool try_option(const std::string& name, int64_t value);

  private:
    Device on;
    ssm_context* context = nullptr;
};

// Ways to run that must leave every bit of a result as it is: numbers of threads on a CPU; orders of threads, resident
// blocks and poison patterns on the emulated device.
struct Variation {
    std::string name;
    std::function<bool(Context&)> apply; // false: not known here
};
std::vector<Variation> variations(const Device& device);

// Copies between host bytes and device bytes.
void upload(Context& context, const void* host, void* device, uint64_t bytes);
void download(Context& context, const void* device, void* host, uint64_t bytes);

// SSM_LONG_TESTS=1: what takes gigabytes and minutes runs too.
bool long_tests_are_wanted();

// Whether the tests were built with a sanitizer (SSM_SANITIZE), under which memory is not counted.
bool has_sanitizer();

} // namespace ssm::test
