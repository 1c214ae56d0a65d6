// Checks that causal_conv1d and its gradients share.
#pragma once

#include "core/arguments.h"
#include "core/params.h"
#include "core/tensor.h"

namespace ssm {

// Whether the activation is silu.
inline bool read_activation(int32_t activation) {
    if (activation != SSM_ACTIVATION_NONE && activation != SSM_ACTIVATION_SILU)
        fail_argument("activation", "an ssm_activation", std::to_string(activation));
    return activation == SSM_ACTIVATION_SILU;
}

// W of weight (D,W).
inline int64_t expect_weight(const Tensor& weight, int64_t channels) {
    expect_rank(weight, 2);
    const int64_t width = weight.shape[1];
    expect_shape(weight, {channels, width});
    if (width < 1 || width > CausalConv1dParams::most_width) {
        fail_argument(weight.name, "a width of 1 to " + std::to_string(CausalConv1dParams::most_width),
                      std::to_string(width));
    }
    return width;
}

} // namespace ssm
