// Problems of rms_norm and gated_rms_norm, and of their gradients: every variant that optional tensors make.
#pragma once

#include "support/problems.h"

namespace ssm::test {

// x of this shape. A group of the gated norm is a row, or a row divided by its smallest divisor.
std::vector<Problem> norms(Type type, const std::vector<int64_t>& shape, uint64_t seed = 1);
// Of the same calls.
std::vector<Problem> norm_gradients(Type type, const std::vector<int64_t>& shape, uint64_t seed = 1);

} // namespace ssm::test
