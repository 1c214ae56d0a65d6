// Values that a call depends on: integer tensors that are indices, and rates that must be finite. On the CPU they are always
// looked at, elsewhere where the context checks, because it takes a wait; in a recorded call once more at each launch, as
// they may change before it.
#pragma once

#include "core/context.h"
#include "core/tensor.h"

namespace ssm {

// cu_seqlens: dtype, rank, batch 1 with it. Answers S, the rows of the states being S or the batch.
int64_t expect_cu_seqlens(const Tensor& cu_seqlens, const char* sequence, int64_t batch);
// Its values: first 0, last the length, non-decreasing.
void check_cu_seqlens(ssm_context& context, const Tensor& cu_seqlens, int64_t length);

// slots: each value is -1 or a row of the state, which no other element has.
void check_slots(ssm_context& context, const Tensor& slots, int64_t rows);

// A tensor without infinities and NaN.
void check_finite(ssm_context& context, const Tensor& tensor);

// Step sizes (H): positive and finite. The first looks at once at a tensor on the host.
void expect_positive(const Tensor& tensor);
void check_positive(ssm_context& context, const Tensor& tensor);

// Times (L): each after the one before, the first after `before`, or with `from_start` at 0 or later.
void check_ascending(ssm_context& context, const Tensor& tensor, double before, bool from_start);

// Complex eigenvalues (H,N): finite and none of them 0.
void check_nonzero(ssm_context& context, const Tensor& tensor);

} // namespace ssm
