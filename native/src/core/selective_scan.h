// What the checks of the selective scan and of its gradients share.
#pragma once

#include "core/tensor.h"

#include <algorithm>
#include <initializer_list>
#include <string>

namespace ssm {

inline DataType complex_type(DataType real) {
    return real == DataType::float64 ? DataType::complex128 : DataType::complex64;
}

// b and c: per step (B,G,N,L) or constant (D,N). Answers G, 1 where both are constant.
inline int64_t expect_state_sequences(std::initializer_list<const Tensor*> tensors, DataType type, DataType state,
                                      int64_t batch, int64_t channels, int64_t states, int64_t length) {
    int64_t result = 1;
    const Tensor* first = nullptr; // per step
    for (const Tensor* tensor : tensors) {
        if (tensor->rank != 4) {
            expect_shape(*tensor, {channels, states});
            expect_type(*tensor, state);
            continue;
        }
        expect_type(*tensor, is_complex(state) ? state : type);
        const int64_t groups = tensor->shape[1];
        expect_shape(*tensor, {batch, first ? result : groups, states, length});
        if (groups < 1 || channels % groups != 0) {
            fail_argument(tensor->name, "a number of groups that divides the " + std::to_string(channels) + " channels",
                          std::to_string(groups));
        }
        result = groups;
        first = tensor;
    }
    return result;
}

} // namespace ssm
