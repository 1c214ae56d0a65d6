// The CPU backend's context and the entry of each operation.
#pragma once

#include "core/backend.h"
#include "core/params.h"

namespace ssm {

struct BackendContext {
    void* stream = nullptr;
    int threads = 0; // at most, for one operation; 0: all the process may use
    // Steps per tile; 0: chosen by shape. Set by tests, so that short sequences cross many tiles.
    int64_t associative_scan_tile = 0;
    int64_t linear_recurrence_tile = 0;
    int64_t linear_recurrence_backward_tile = 0;
    int64_t selective_scan_tile = 0;
    int64_t selective_state_update_tile = 0; // states at hand at once
    int64_t causal_conv1d_tile = 0;
    int64_t causal_conv1d_backward_tile = 0;
};

namespace cpu {

// Leaves a sentence for ssm_last_error and answers the status.
int32_t fail(int32_t status, const char* sentence);

// Bytes of the largest cache, 0 if unknown.
int64_t last_level_cache();

int32_t strided_copy(BackendContext* context, const StridedCopyParams* params);
int32_t associative_scan(BackendContext* context, const AssociativeScanParams* params);
int32_t associative_scan_workspace(BackendContext* context, const AssociativeScanParams* params, uint64_t* bytes);
int32_t linear_recurrence(BackendContext* context, const LinearRecurrenceParams* params);
int32_t linear_recurrence_workspace(BackendContext* context, const LinearRecurrenceParams* params, uint64_t* bytes);
int32_t linear_recurrence_backward(BackendContext* context, const LinearRecurrenceBackwardParams* params);
int32_t linear_recurrence_backward_workspace(BackendContext* context, const LinearRecurrenceBackwardParams* params,
                                             uint64_t* bytes);
int32_t selective_scan(BackendContext* context, const SelectiveScanParams* params);
int32_t selective_scan_workspace(BackendContext* context, const SelectiveScanParams* params, uint64_t* bytes);
int32_t selective_state_update(BackendContext* context, const SelectiveStateUpdateParams* params);
int32_t selective_state_update_workspace(BackendContext* context, const SelectiveStateUpdateParams* params, uint64_t* bytes);
int32_t causal_conv1d(BackendContext* context, const CausalConv1dParams* params);
int32_t causal_conv1d_workspace(BackendContext* context, const CausalConv1dParams* params, uint64_t* bytes);
int32_t causal_conv1d_backward(BackendContext* context, const CausalConv1dBackwardParams* params);
int32_t causal_conv1d_backward_workspace(BackendContext* context, const CausalConv1dBackwardParams* params, uint64_t* bytes);

} // namespace cpu
} // namespace ssm
