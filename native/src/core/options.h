// Tuning and test options of a context, by name: OPERATION.tile, OPERATION.path. 0 is the default. A backend's set_option
// says which there are.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

namespace ssm {

class Options {
  public:
    int64_t get(const char* name) const {
        for (const Value& value : values) {
            if (std::strcmp(value.name, name) == 0)
                return value.value;
        }
        return 0;
    }

    // name: of a text that stays.
    void set(const char* name, int64_t value) {
        for (Value& known : values) {
            if (std::strcmp(known.name, name) == 0) {
                known.value = value;
                return;
            }
        }
        values.push_back({name, value});
    }

  private:
    struct Value {
        const char* name;
        int64_t value;
    };
    std::vector<Value> values; // few, and none but in tests
};

} // namespace ssm
