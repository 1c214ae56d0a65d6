// A backend without a device, for tests of core: it does what its state says and keeps a list of the calls.
#pragma once

#include "build_id.h"
#include "core/backend.h"

#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace ssm::fake {

struct State {
    // What the table says of itself; applied when core asks for it.
    uint32_t abi = backend_abi;
    std::string build_id = SSM_BUILD_ID;
    uint32_t struct_size = sizeof(Backend);
    bool is_null = false;
    bool has_graphs = true;

    // What calls answer.
    int32_t devices = 2;
    int32_t count_status = SSM_SUCCESS;
    std::string count_sentence;
    int32_t failing_allocations = 0; // how many of the next ones
    int32_t operation_status = SSM_SUCCESS;
    std::string operation_sentence;
    uint64_t operation_workspace = 0;
    uint64_t backward_workspace = 0;

    std::vector<std::string> calls;
    std::set<void*> memory; // allocated and not freed
    AssociativeScanParams scan{};
    LinearRecurrenceParams recurrence{};
    LinearRecurrenceBackwardParams backward{};
    std::mutex mutex;
};

} // namespace ssm::fake

extern "C" SSM_API ssm::fake::State* fake_state();
