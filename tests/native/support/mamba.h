// Problems of the Mamba operations at any sizes, with every optional tensor or none. The same seed gives the same numbers in
// every type, but for their rounding.
#pragma once

#include "support/problems.h"

namespace ssm::test {

struct ScanSizes {
    Type type = Type::float32;
    int64_t batch = 2, channels = 4, length = 1, states = 8, groups = 1;
    std::vector<int64_t> cu_seqlens = {}; // packed where not empty; then batch is 1
    bool full = true;                     // with d, z, dt_bias, softplus and states
    uint64_t seed = 1;
};
// a and dt as the test of state-spaces/mamba draws them.
Problem selective_scan_of(const ScanSizes& sizes);

struct SsdSizes {
    Type type = Type::float32;
    int64_t batch = 2, length = 1, heads = 4, channels = 8, groups = 1, states = 16, chunk = 0;
    std::vector<int64_t> cu_seqlens = {};
    bool full = true;
    uint64_t seed = 1;
};
Problem ssd_of(const SsdSizes& sizes);

struct ConvolutionSizes {
    Type type = Type::float32;
    int64_t batch = 2, channels = 4, length = 1, width = 4;
    bool silu = true, with_bias = true, with_states = true;
    uint64_t seed = 1;
};
Problem causal_conv1d_of(const ConvolutionSizes& sizes);

// The gradients of all inputs of one of the three above.
Problem gradients_of(const Problem& forward, uint64_t seed = 1000);

struct StateUpdateSizes {
    Type type = Type::float32;
    Type state = Type::float32;
    int64_t batch = 2;
    int64_t heads = 0; // 0: Mamba-1's form
    int64_t channels = 5;
    int64_t groups = 1;
    int64_t states = 16;
    int64_t steps = 0; // 0: tensors without a time axis
    bool full = true;  // with d, z, dt_bias and softplus
    std::vector<int64_t> slots = {};
    int64_t rows = 0; // of the state, where there are slots
    uint64_t seed = 1;
};
Problem selective_state_update_of(const StateUpdateSizes& sizes);

struct ConvolutionUpdateSizes {
    Type type = Type::float32;
    Type state = Type::float32;
    int64_t batch = 2;
    int64_t channels = 5;
    int64_t width = 4;
    int64_t steps = 0; // 0: tensors without a time axis
    int64_t more = 0;  // steps that the state has beyond W - 1
    bool is_ring = false;
    bool full = true; // with bias and silu
    std::vector<int64_t> slots = {};
    int64_t rows = 0; // of the state, where there are slots
    uint64_t seed = 1;
};
Problem causal_conv1d_update_of(const ConvolutionUpdateSizes& sizes);

Tensor indices(const std::vector<int64_t>& values, Type type = Type::int32);

} // namespace ssm::test
