// Integer tensors whose values are indices. On the CPU the values are checked too, and in a recorded call once more at each
// launch, as they may change before it.
#pragma once

#include "core/context.h"
#include "core/tensor.h"

namespace ssm {

// cu_seqlens: dtype, rank, batch 1 with it. Answers S, the rows of the states being S or the batch.
int64_t expect_cu_seqlens(const Tensor& cu_seqlens, const char* sequence, int64_t batch);
// Its values: first 0, last the length, non-decreasing.
void check_cu_seqlens(ssm_context& context, const Tensor& cu_seqlens, int64_t length);

// slots: each value is -1 or a row of the state.
void check_slots(ssm_context& context, const Tensor& slots, int64_t rows);

} // namespace ssm
