#include "core/backends.h"

#include "build_id.h"

#include "core/arguments.h"
#include "core/dynamic_library.h"

#include <cstring>
#include <mutex>

namespace ssm {
namespace {

// One kind of device, and what came of looking for its backend.
struct Slot {
    int32_t device_type;
    const char* name;
    const char* library; // null: linked in
    const Backend* backend = nullptr;
    bool probed = false;
    int32_t status = SSM_SUCCESS; // why there is no backend
    std::string reason;

    Slot(int32_t device_type, const char* name, const char* library)
        : device_type(device_type), name(name), library(library) {}
};

class Registry {
  public:
    // Null if the backend is absent; the slot says why.
    const Backend* backend(int32_t device_type, int32_t* status, std::string* reason) {
        const std::lock_guard<std::mutex> lock(mutex);
        Slot& slot = slot_of(device_type);
        if (!slot.backend && !slot.probed)
            probe(slot);
        *status = slot.status;
        *reason = slot.reason;
        return slot.backend;
    }

    void load(const std::string& path) {
        const std::lock_guard<std::mutex> lock(mutex);
        std::string reason;
        const Backend* table = open(path, &reason);
        if (table) {
            Slot* slot = find_slot(table->device_type);
            if (!slot || !slot->library) {
                reason = "it is for " + std::to_string(table->device_type) + ", which no loaded backend can be for";
            } else if (slot->backend && slot->backend != table) {
                write("load " + path + ": refused, another " + slot->name + " backend is loaded");
                fail(SSM_ERROR_INVALID_STATE, path + ": another " + slot->name + " backend is loaded already");
            } else {
                accept(*slot, table);
                write("load " + path + ": the " + slot->name + " backend");
                return;
            }
        }
        write("load " + path + ": " + reason);
        fail(SSM_ERROR_LIBRARY_NOT_FOUND, path + ": " + reason);
    }

    // A line in the log, once: counting devices again and again must not make it grow.
    void note(const std::string& line) {
        const std::lock_guard<std::mutex> lock(mutex);
        write(line);
    }

    std::string text() {
        const std::lock_guard<std::mutex> lock(mutex);
        return log;
    }

    static Registry& instance() {
        // Never destroyed: a finalizer of the caller may still come when the process ends.
        static Registry* const registry = new Registry;
        return *registry;
    }

  private:
    static constexpr size_t longest_log = 1 << 16;

    std::mutex mutex;
    Slot slots[3] = {{SSM_DEVICE_CPU, "cpu", nullptr},
                     {SSM_DEVICE_CUDA, "cuda", "ssmcuda_cuda"},
                     {SSM_DEVICE_EMULATED, "emulated", "ssmcuda_emulated"}};
    std::string log;

    Slot* find_slot(int32_t device_type) {
        for (Slot& slot : slots) {
            if (slot.device_type == device_type)
                return &slot;
        }
        return nullptr;
    }

    Slot& slot_of(int32_t device_type) {
        Slot* slot = find_slot(device_type);
        if (!slot)
            fail_argument("device_type", "a value of ssm_device_type", std::to_string(device_type));
        return *slot;
    }

    void write(const std::string& line) {
        const std::string whole = line + "\n";
        const size_t at = log.find(whole);
        const bool is_known = at != std::string::npos && (at == 0 || log[at - 1] == '\n');
        if (!is_known && log.size() + whole.size() <= longest_log)
            log += whole;
    }

    void accept(Slot& slot, const Backend* table) {
        slot.backend = table;
        slot.probed = true;
        slot.status = SSM_SUCCESS;
        slot.reason.clear();
    }

    void probe(Slot& slot) {
        slot.probed = true;
        if (!slot.library) {
            accept(slot, cpu_backend(&backend_host()));
            write(std::string(slot.name) + ": linked in");
            return;
        }
        const std::string folder = own_folder();
        const std::string path = folder + library_file_name(slot.library);
        std::string reason;
        const Backend* table = folder.empty() ? nullptr : open(path, &reason);
        if (folder.empty())
            reason = "the folder of this library is unknown";
        if (table && table->device_type != slot.device_type) {
            reason = "it is for device type " + std::to_string(table->device_type);
            table = nullptr;
        }
        if (table) {
            accept(slot, table);
            write(std::string(slot.name) + ": " + path + ": loaded");
        } else {
            slot.status = SSM_ERROR_LIBRARY_NOT_FOUND;
            slot.reason = path + ": " + reason;
            write(std::string(slot.name) + ": " + slot.reason);
        }
    }

    // The table of a library, if it is one of this build.
    const Backend* open(const std::string& path, std::string* reason) {
        if (!file_exists(path)) {
            *reason = "no such file";
            return nullptr;
        }
        const DynamicLibrary library = open_library(path);
        if (!library) {
            *reason = library.error;
            return nullptr;
        }
        const auto table_of = reinterpret_cast<const Backend* (*)(const BackendHost*)>(library.find("ssm_backend_table"));
        if (!table_of) {
            *reason = "it has no function ssm_backend_table";
            return nullptr;
        }
        forget_backend_sentence();
        const Backend* table = table_of(&backend_host());
        if (!table) {
            *reason = "its ssm_backend_table answers NULL";
        } else if (table->abi != backend_abi) {
            *reason = "backend abi " + std::to_string(backend_abi) + " expected, " + std::to_string(table->abi) + " given";
        } else if (table->struct_size != sizeof(Backend)) {
            *reason = "a table of " + std::to_string(sizeof(Backend)) + " bytes expected, " +
                      std::to_string(table->struct_size) + " given";
        } else if (!table->build_id || std::strcmp(table->build_id, SSM_BUILD_ID) != 0) {
            *reason = std::string("build ") + SSM_BUILD_ID + " expected, " + (table->build_id ? table->build_id : "none") +
                      " given";
        } else {
            return table;
        }
        return nullptr;
    }
};

// How many devices a backend has; a status with a reason if it cannot tell or has none.
struct Count {
    const Backend* backend = nullptr;
    int32_t devices = 0;
    int32_t status = SSM_SUCCESS;
    std::string reason;
};

Count count_devices(int32_t device_type) {
    Registry& registry = Registry::instance();
    Count count;
    count.backend = registry.backend(device_type, &count.status, &count.reason);
    if (!count.backend)
        return count;
    try {
        check_backend(count.backend->device_count, &count.devices);
    } catch (Failure& failure) {
        count.status = failure.status;
        count.reason = std::move(failure.sentence);
        count.devices = 0;
    }
    const char* name = device_type == SSM_DEVICE_CUDA ? "cuda" : device_type == SSM_DEVICE_CPU ? "cpu" : "emulated";
    if (count.status == SSM_SUCCESS && count.devices == 0) {
        count.status = SSM_ERROR_NO_DEVICE;
        count.reason = "no device is present";
    }
    if (count.status == SSM_SUCCESS) {
        registry.note(std::string(name) + ": " + std::to_string(count.devices) +
                      (count.devices == 1 ? " device" : " devices"));
    } else {
        registry.note(std::string(name) + ": " + ssm_status_name(count.status) + ": " + count.reason);
    }
    return count;
}

int32_t resolve_default(int32_t device_type) {
    if (device_type != SSM_DEVICE_DEFAULT)
        return device_type;
    return count_devices(SSM_DEVICE_CUDA).devices > 0 ? SSM_DEVICE_CUDA : SSM_DEVICE_CPU;
}

} // namespace

Device find_device(int32_t device_type, int32_t device_id) {
    const int32_t type = resolve_default(device_type);
    const Count count = count_devices(type);
    if (count.status != SSM_SUCCESS) {
        fail(count.status, "device_type: " + std::string(type == SSM_DEVICE_CUDA ? "cuda" : "emulated") +
                               " is not available, " + count.reason);
    }
    if (device_id < 0 || device_id >= count.devices) {
        fail(SSM_ERROR_NO_DEVICE,
             "device_id: 0 to " + std::to_string(count.devices - 1) + " expected, " + std::to_string(device_id) + " given");
    }
    return {count.backend, type, device_id};
}

} // namespace ssm

using namespace ssm;

extern "C" int32_t ssm_backend_load(const char* path) {
    return guarded([&] {
        const std::string text = &required_pointer("path", "an absolute path", path);
        if (!is_absolute_path(text))
            fail_argument("path", "an absolute path", text);
        Registry::instance().load(text);
    });
}

extern "C" const char* ssm_backend_log(void) {
    thread_local std::string text;
    const int32_t status = guarded([&] { text = Registry::instance().text(); });
    return status == SSM_SUCCESS ? text.c_str() : "";
}

extern "C" int32_t ssm_device_count(int32_t device_type, int32_t* count) {
    return guarded([&] {
        int32_t& answer = required_pointer("count", "a pointer", count);
        answer = 0;
        answer = count_devices(resolve_default(device_type)).devices;
    });
}

extern "C" int32_t ssm_device_get_properties(int32_t device_type, int32_t device_id, ssm_device_properties* properties) {
    return guarded([&] {
        const uint32_t size = required_pointer("properties", "a struct", properties).struct_size;
        check_struct_size<ssm_device_properties>("properties", size);
        const Device device = find_device(device_type, device_id);
        ssm_device_properties known{};
        check_backend(device.backend->device_properties, device.id, &known);
        known.struct_size = size;
        known.device_type = device.type;
        known.device_id = device.id;
        // A smaller struct gets its part, a larger one zeros beyond ours.
        const size_t part = size < sizeof(known) ? size : sizeof(known);
        std::memcpy(static_cast<void*>(properties), &known, part);
        std::memset(reinterpret_cast<char*>(properties) + part, 0, size - part);
    });
}
