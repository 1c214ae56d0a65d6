// The CPU backend's context, and what its files share.
#pragma once

#include "core/options.h"
#include "core/params.h"
#include "core/status.h"

namespace ssm {

struct BackendContext {
    void* stream = nullptr;
    int threads = 0; // at most, for one operation; 0: all the process may use
    Options options;
};

namespace cpu {

// Leaves a sentence for ssm_last_error and answers the status.
int32_t fail(int32_t status, const char* sentence);

// Bytes of the largest cache, 0 if unknown.
int64_t last_level_cache();

int32_t strided_copy(BackendContext* context, const StridedCopyParams* params);
} // namespace cpu
} // namespace ssm
