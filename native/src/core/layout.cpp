// Sizes and offsets as this library was compiled, so that a binding can check its own structs against them.
#include "core/arguments.h"

#include <cstddef>
#include <cstring>

namespace {

struct LayoutRow {
    const char* name;
    int64_t value;
};

constexpr LayoutRow layout_rows[] = {
#include "core/layout_table.inc"
};

} // namespace

extern "C" int32_t ssm_layout(const char* name, int64_t* value) {
    return ssm::guarded([&] {
        const char* wanted = &ssm::required_pointer("name", "a name", name);
        int64_t& answer = ssm::required_pointer("value", "a pointer", value);
        answer = -1;
        for (const LayoutRow& row : layout_rows) {
            if (std::strcmp(row.name, wanted) == 0) {
                answer = row.value;
                return;
            }
        }
        ssm::fail_argument("name", "a struct, or struct.field", wanted);
    });
}
