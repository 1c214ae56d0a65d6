// Problems of mamba3 and its gradients cut and enlarged: time is the second axis of everything but states and parameters.
#pragma once

#include "support/problems.h"

namespace ssm::test {

std::vector<int64_t> mamba3_bounds(const std::vector<int64_t>& lengths);
// Whether it goes from call to call: a state or its gradient.
bool is_mamba3_state(const std::string& name);
bool mamba3_has_time(const std::string& name, const Tensor& tensor);
// The same calculation on a part of time; states stay as they are.
Problem slice_mamba3(const Problem& whole, int64_t from, int64_t to);
// One sequence of a packed problem by itself.
Problem sequence_of_mamba3(const Problem& packed, size_t sequence);
// A head larger than a tile in every direction, with everything optional.
Problem large_mamba3(Type type, int64_t heads, int64_t groups, int64_t length, int64_t channels, int64_t states);

} // namespace ssm::test
