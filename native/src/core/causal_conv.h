// Checks that causal_conv, its plan and its gradients share.
#pragma once

#include "core/operation.h"

namespace ssm {

// K of k (H,K).
inline int64_t expect_taps(const Tensor& k, int64_t heads) {
    expect_rank(k, 2);
    const int64_t taps = k.shape[1];
    expect_shape(k, {heads, taps});
    if (taps < 1)
        fail_argument(k.name, "at least one tap", std::to_string(taps));
    return taps;
}

// States are of what comes before, and a block of a stream does not know what comes after it.
inline void expect_no_state(const Tensor& k_reverse, std::initializer_list<const Tensor*> states) {
    for (const Tensor* state : states) {
        if (k_reverse && *state)
            fail_argument(state->name, "NULL beside k_reverse, which needs the steps after a block", "a tensor");
    }
}

// The longest transform holds what an output sees.
inline void expect_reach(const TransformCut& cut, int64_t taps) {
    if (cut.length == 0 || cut.length > TransformCut::most_length || cut.step < 1) {
        fail_argument("k", "taps that a transform of " + std::to_string(TransformCut::most_length) + " numbers holds",
                      std::to_string(taps));
    }
}

// F of spectrum (H,F): a power of two that holds all taps; 0 where it is absent.
inline int64_t expect_spectrum(const Tensor& spectrum, int64_t heads, int64_t taps, bool has_reverse) {
    if (!spectrum)
        return 0;
    expect_rank(spectrum, 2);
    const int64_t length = spectrum.shape[1], least = has_reverse ? 2 * taps : taps;
    expect_shape(spectrum, {heads, length});
    if (length < std::max(least, TransformCut::least_length) || length > TransformCut::most_length ||
        (length & (length - 1)) != 0) {
        fail_argument(spectrum.name,
                      "a power of two from " +
                          std::to_string(power_of_two_from(std::max(least, TransformCut::least_length))) + " to " +
                          std::to_string(TransformCut::most_length) + " numbers of each head",
                      std::to_string(length));
    }
    return length;
}

} // namespace ssm
