// How a continuous system becomes one of steps: the numbers of ssm_discretization.
#pragma once

#include <cstdint>

namespace ssm {

enum class Discretization : int32_t { zoh, bilinear, euler, backward_euler, generalized_bilinear, dirac, async };

} // namespace ssm
