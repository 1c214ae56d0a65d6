// What the forward and the backward recurrence share.
#pragma once

#include "cuda/primitives/numbers.h"

namespace ssm {

// The map h -> a h + b.
template <typename State>
struct alignas(2 * sizeof(State) < 16 ? 2 * sizeof(State) : 16) LinearMap {
    State a;
    State b;
};

// First one map, then the other.
template <typename State>
SSM_DEVICE LinearMap<State> compose(LinearMap<State> first, LinearMap<State> second) {
    return {second.a * first.a, multiply_add(second.a, first.b, second.b)};
}

} // namespace ssm
