#include "support/device.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <stdexcept>

namespace ssm::test {

namespace {

std::string folder_of_library() {
    Dl_info info;
    if (!dladdr(reinterpret_cast<void*>(&ssm_version), &info))
        return ".";
    return std::filesystem::absolute(info.dli_fname).parent_path().string();
}

struct Found {
    std::vector<Device> devices;
    std::vector<std::string> missing;
};

Found find_devices() {
    const Device known[] = {{SSM_DEVICE_CPU, 0, "cpu"}, {SSM_DEVICE_EMULATED, 0, "emulated"}, {SSM_DEVICE_CUDA, 0, "cuda"}};
    const char* wanted = std::getenv("SSM_TEST_DEVICES");
    std::string list = wanted ? std::string(",") + wanted + "," : "";
    Found found;
    for (const Device& device : known) {
        const std::string entry = "," + device.name + ",";
        const bool named = list.find(entry) != std::string::npos;
        if (wanted && !named)
            continue;
        if (device.type == SSM_DEVICE_EMULATED) {
            const std::string file = folder_of_library() + "/libssmcuda_emulated.so";
            if (std::filesystem::exists(file))
                ssm_backend_load(file.c_str());
        }
        int32_t count = 0;
        if (ssm_device_count(device.type, &count) == SSM_SUCCESS && count > 0)
            found.devices.push_back(device);
        else if (named)
            found.missing.push_back(device.name + ": " + ssm_backend_log());
    }
    std::stringstream names(wanted ? wanted : "");
    for (std::string name; std::getline(names, name, ',');)
        if (name != "cpu" && name != "emulated" && name != "cuda")
            found.missing.push_back(name + ": no device has this name");
    return found;
}

const Found& found() {
    static const Found result = find_devices();
    return result;
}

} // namespace

const std::vector<Device>& devices() {
    return found().devices;
}

const std::vector<std::string>& missing_devices() {
    return found().missing;
}

std::string name_of(const Target& target) {
    return target.device.name + "_" + name_of(target.type);
}

void PrintTo(const Target& target, std::ostream* stream) {
    *stream << name_of(target);
}

std::vector<Target> targets(std::initializer_list<Type> types) {
    std::vector<Target> result;
    for (const Device& device : devices())
        for (const Type type : types)
            result.push_back({device, type});
    return result;
}

std::vector<Target> light_targets(std::initializer_list<Type> types) {
    std::vector<Target> result;
    for (const Target& target : targets(types))
        if (!target.device.is_slow() || target.type == Type::float32)
            result.push_back(target);
    return result;
}

void check(int32_t status, const char* what) {
    if (status != SSM_SUCCESS)
        throw std::runtime_error(std::string(what) + ": " + ssm_status_name(status) + ": " + ssm_last_error());
}

Context::Context(const Device& device) : on(device) {
    SSM_CHECK(ssm_context_create(device.type, device.id, &context));
    // These hold for the whole process: an earlier test may have left them.
    if (device.type == SSM_DEVICE_EMULATED)
        for (const char* option : {"emulated.order", "emulated.resident_blocks", "emulated.poison"})
            try_option(option, 0);
}

Context::~Context() {
    ssm_context_destroy(context);
}

bool Context::try_option(const std::string& name, int64_t value) {
    const int32_t status = ssm_context_set_option(context, name.c_str(), value);
    if (status == SSM_ERROR_INVALID_ARGUMENT)
        return false;
    check(status, name.c_str());
    return true;
}

std::vector<Variation> variations(const Device& device) {
    std::vector<Variation> result;
    if (device.type == SSM_DEVICE_CPU)
        for (const int threads : {1, 2, 5})
            result.push_back({std::to_string(threads) + " threads", [=](Context& context) {
                                  SSM_CHECK(ssm_context_set_threads(context, threads));
                                  return true;
                              }});
    // Order of threads (ascending, descending, shuffled), resident blocks, poison pattern.
    const int64_t emulated[][3] = {{0, 1, 0}, {1, 2, 1}, {2, 5, 0}, {3, 1, 1}, {0, 5, 1}, {1, 5, 0}};
    if (device.type == SSM_DEVICE_EMULATED)
        for (const auto& [order, blocks, poison] : emulated)
            result.push_back({"order " + std::to_string(order) + ", resident blocks " + std::to_string(blocks) +
                                  ", poison " + std::to_string(poison),
                              [=](Context& context) {
                                  return context.try_option("emulated.order", order) &&
                                         context.try_option("emulated.resident_blocks", blocks) &&
                                         context.try_option("emulated.poison", poison);
                              }});
    return result;
}

namespace {

DLTensor bytes_at(void* pointer, int64_t* bytes, DLDevice device) {
    return DLTensor{pointer, device, 1, {kDLUInt, 8, 1}, bytes, nullptr, 0};
}

void transfer(Context& context, void* host, void* device, uint64_t bytes, bool to_device) {
    if (bytes == 0)
        return;
    int64_t shape = static_cast<int64_t>(bytes);
    const DLTensor here = bytes_at(host, &shape, {kDLCPU, 0});
    const DLTensor there = bytes_at(device, &shape, {static_cast<DLDeviceType>(context.device().type), context.device().id});
    SSM_CHECK(ssm_copy(context, to_device ? &here : &there, to_device ? &there : &here));
    SSM_CHECK(ssm_context_synchronize(context));
}

} // namespace

void upload(Context& context, const void* host, void* device, uint64_t bytes) {
    transfer(context, const_cast<void*>(host), device, bytes, true);
}

void download(Context& context, const void* device, void* host, uint64_t bytes) {
    transfer(context, host, const_cast<void*>(device), bytes, false);
}

bool long_tests_are_wanted() {
    const char* wanted = std::getenv("SSM_LONG_TESTS");
    return wanted && std::string(wanted) == "1";
}

bool has_sanitizer() {
#ifdef SSM_HAS_SANITIZER
    return true;
#else
    return false;
#endif
}

} // namespace ssm::test
