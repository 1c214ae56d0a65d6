// The operations of the CPU backend, one file each.
#pragma once

#include "core/backend.h"

namespace ssm::cpu {

int32_t associative_scan(BackendContext* context, const AssociativeScanParams* params);
int32_t associative_scan_workspace(BackendContext* context, const AssociativeScanParams* params, uint64_t* bytes);
int32_t linear_recurrence(BackendContext* context, const LinearRecurrenceParams* params);
int32_t linear_recurrence_workspace(BackendContext* context, const LinearRecurrenceParams* params, uint64_t* bytes);
int32_t linear_recurrence_backward(BackendContext* context, const LinearRecurrenceBackwardParams* params);
int32_t linear_recurrence_backward_workspace(BackendContext* context, const LinearRecurrenceBackwardParams* params,
                                             uint64_t* bytes);
int32_t selective_scan(BackendContext* context, const SelectiveScanParams* params);
int32_t selective_scan_workspace(BackendContext* context, const SelectiveScanParams* params, uint64_t* bytes);
int32_t selective_scan_backward(BackendContext* context, const SelectiveScanBackwardParams* params);
int32_t selective_scan_backward_workspace(BackendContext* context, const SelectiveScanBackwardParams* params,
                                          uint64_t* bytes);
int32_t selective_state_update(BackendContext* context, const SelectiveStateUpdateParams* params);
int32_t selective_state_update_workspace(BackendContext* context, const SelectiveStateUpdateParams* params, uint64_t* bytes);
int32_t causal_conv1d(BackendContext* context, const CausalConv1dParams* params);
int32_t causal_conv1d_workspace(BackendContext* context, const CausalConv1dParams* params, uint64_t* bytes);
int32_t causal_conv1d_backward(BackendContext* context, const CausalConv1dBackwardParams* params);
int32_t causal_conv1d_backward_workspace(BackendContext* context, const CausalConv1dBackwardParams* params, uint64_t* bytes);
int32_t ssd(BackendContext* context, const SsdParams* params);
int32_t ssd_workspace(BackendContext* context, const SsdParams* params, uint64_t* bytes);
int32_t ssd_backward(BackendContext* context, const SsdBackwardParams* params);
int32_t ssd_backward_workspace(BackendContext* context, const SsdBackwardParams* params, uint64_t* bytes);
int32_t causal_conv1d_update(BackendContext* context, const CausalConv1dUpdateParams* params);
int32_t causal_conv1d_update_workspace(BackendContext* context, const CausalConv1dUpdateParams* params, uint64_t* bytes);
int32_t rms_norm(BackendContext* context, const RmsNormParams* params);
int32_t rms_norm_workspace(BackendContext* context, const RmsNormParams* params, uint64_t* bytes);
int32_t rms_norm_backward(BackendContext* context, const RmsNormBackwardParams* params);
int32_t rms_norm_backward_workspace(BackendContext* context, const RmsNormBackwardParams* params, uint64_t* bytes);
int32_t mamba3(BackendContext* context, const Mamba3Params* params);
int32_t mamba3_workspace(BackendContext* context, const Mamba3Params* params, uint64_t* bytes);
int32_t mamba3_backward(BackendContext* context, const Mamba3BackwardParams* params);
int32_t mamba3_backward_workspace(BackendContext* context, const Mamba3BackwardParams* params, uint64_t* bytes);
int32_t mamba3_update(BackendContext* context, const Mamba3UpdateParams* params);
int32_t mamba3_update_workspace(BackendContext* context, const Mamba3UpdateParams* params, uint64_t* bytes);

} // namespace ssm::cpu
