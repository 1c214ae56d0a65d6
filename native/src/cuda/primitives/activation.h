// Derivatives of activation functions.
#pragma once

#include "cuda/primitives/cuda.h"
#include "cuda/primitives/numbers.h"

#include <math.h>

namespace ssm {

// The derivative of z / (1 + exp(-z)), with an exponential that cannot overflow and no difference of near numbers.
template <typename R>
SSM_DEVICE R silu_slope(R z) {
    const R e = exp(-fabs(z));
    const R large = R(1) / (R(1) + e);
    const R small = e * large;
    const R sigmoid = z < 0 ? small : large;
    const R rest = z < 0 ? large : small;
    return sigmoid * multiply_add(z, rest, R(1));
}

} // namespace ssm
