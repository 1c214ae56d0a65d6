// silu with its derivative, as gradients need both.
#pragma once

#include "cuda/primitives/numbers.h"

#include <math.h>

namespace ssm {

template <typename R>
struct Silu {
    R value;
    R slope;
};

// Of z / (1 + exp(-z)), with an exponential that cannot overflow and no difference of near numbers.
template <typename R>
SSM_DEVICE Silu<R> silu_and_slope(R z) {
    const R e = exp(-fabs(z));
    const R large = R(1) / (R(1) + e);
    const R small = e * large;
    const R sigmoid = z < 0 ? small : large;
    const R rest = z < 0 ? large : small;
    return {z * sigmoid, sigmoid * multiply_add(z, rest, R(1))};
}
template <typename R>
SSM_DEVICE R silu_slope(R z) {
    return silu_and_slope(z).slope;
}

} // namespace ssm
