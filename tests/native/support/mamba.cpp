#include "support/mamba.h"

#include <cmath>

namespace ssm::test {

using enum Type;

Tensor indices(const std::vector<int64_t>& values, Type type) {
    Tensor tensor(type, {static_cast<int64_t>(values.size())});
    for (size_t i = 0; i < values.size(); ++i)
        tensor.values[i] = static_cast<double>(values[i]);
    return tensor;
}

namespace {

// Packed sequences, and how many rows the states have.
int64_t pack(Problem& problem, const std::vector<int64_t>& cu_seqlens, int64_t batch) {
    if (cu_seqlens.empty())
        return batch;
    problem.inputs["cu_seqlens"] = indices(cu_seqlens, int64);
    return static_cast<int64_t>(cu_seqlens.size()) - 1;
}

} // namespace

Problem selective_scan_of(const ScanSizes& s) {
    Random random(s.seed);
    const Type real = state_type(s.type);
    const std::vector<int64_t> x{s.batch, s.channels, s.length}, b{s.batch, s.groups, s.states, s.length};
    Problem problem;
    problem.operation = Operation::selective_scan;
    problem.type = s.type;
    problem.dt_softplus = s.full;
    problem.inputs["u"] = uniform(s.type, x, -1.7, 1.7, random);
    problem.inputs["dt"] = uniform(s.type, x, 0, 0.5, random);
    problem.inputs["a"] = uniform(real, {s.channels, s.states}, -0.5, 0, random);
    problem.inputs["b"] = uniform(s.type, b, -1.7, 1.7, random);
    problem.inputs["c"] = uniform(s.type, b, -1.7, 1.7, random);
    const int64_t rows = pack(problem, s.cu_seqlens, s.batch);
    problem.outputs["y"] = Tensor(s.type, x);
    if (s.full) {
        problem.inputs["d"] = uniform(real, {s.channels}, -1.7, 1.7, random);
        problem.inputs["z"] = uniform(s.type, x, -1.7, 1.7, random);
        problem.inputs["dt_bias"] = uniform(real, {s.channels}, 0, 0.5, random);
        problem.inputs["initial_state"] = uniform(real, {rows, s.channels, s.states}, -1.7, 1.7, random);
        problem.outputs["last_state"] = problem.inputs["initial_state"];
    }
    return problem;
}

Problem ssd_of(const SsdSizes& s) {
    Random random(s.seed);
    const Type real = state_type(s.type);
    const std::vector<int64_t> x{s.batch, s.length, s.heads, s.channels}, b{s.batch, s.length, s.groups, s.states};
    Problem problem;
    problem.operation = Operation::ssd;
    problem.type = s.type;
    problem.dt_softplus = s.full;
    problem.chunk_size = s.chunk;
    problem.inputs["x"] = uniform(s.type, x, -1.7, 1.7, random);
    problem.inputs["dt"] = uniform(s.type, {s.batch, s.length, s.heads}, s.full ? -4 : 0.01, s.full ? 0 : 0.5, random);
    problem.inputs["a"] = uniform(real, {s.heads}, -2, -0.05, random);
    problem.inputs["b"] = uniform(s.type, b, -1, 1, random);
    problem.inputs["c"] = uniform(s.type, b, -1, 1, random);
    const int64_t rows = pack(problem, s.cu_seqlens, s.batch);
    problem.outputs["y"] = Tensor(s.type, x);
    if (s.full) {
        problem.inputs["d"] = uniform(real, {s.heads}, -1, 1, random);
        problem.inputs["z"] = uniform(s.type, x, -1.7, 1.7, random);
        problem.inputs["dt_bias"] = uniform(real, {s.heads}, 0, 0.5, random);
        problem.inputs["initial_state"] = uniform(real, {rows, s.heads, s.channels, s.states}, -1, 1, random);
        problem.outputs["last_state"] = problem.inputs["initial_state"];
    }
    return problem;
}

Problem causal_conv1d_of(const ConvolutionSizes& s) {
    Random random(s.seed);
    const Type real = state_type(s.type);
    Problem problem;
    problem.operation = Operation::causal_conv1d;
    problem.type = s.type;
    problem.silu = s.silu;
    problem.inputs["x"] = uniform(s.type, {s.batch, s.channels, s.length}, -1.7, 1.7, random);
    problem.inputs["weight"] = uniform(real, {s.channels, s.width}, -1, 1, random);
    if (s.with_bias)
        problem.inputs["bias"] = uniform(real, {s.channels}, -1, 1, random);
    problem.outputs["y"] = problem.inputs["x"];
    if (s.with_states) {
        problem.inputs["initial_state"] = uniform(real, {s.batch, s.channels, s.width - 1}, -1.7, 1.7, random);
        problem.outputs["last_state"] = problem.inputs["initial_state"];
    }
    return problem;
}

Problem gradients_of(const Problem& forward, uint64_t seed) {
    Random random(seed);
    Problem problem = forward;
    problem.operation = forward.operation == Operation::ssd             ? Operation::ssd_backward
                        : forward.operation == Operation::causal_conv1d ? Operation::causal_conv1d_backward
                                                                        : Operation::selective_scan_backward;
    problem.outputs.clear();
    for (const auto& [name, tensor] : forward.inputs)
        if (name != "cu_seqlens" && name != "seq_idx")
            problem.outputs["grad_" + name] = tensor;
    const Tensor& y = forward.outputs.at("y");
    problem.inputs["grad_y"] = uniform(y.type, y.shape, -1, 1, random);
    if (forward.outputs.count("last_state")) {
        const Tensor& state = forward.outputs.at("last_state");
        problem.inputs["grad_last_state"] = uniform(state.type, state.shape, -1, 1, random);
    }
    return problem;
}

namespace {

std::vector<int64_t> shape_of_x(const StateUpdateSizes& s) {
    if (s.heads)
        return s.steps ? std::vector{s.batch, s.steps, s.heads, s.channels} : std::vector{s.batch, s.heads, s.channels};
    return s.steps ? std::vector{s.batch, s.channels, s.steps} : std::vector{s.batch, s.channels};
}

std::vector<int64_t> shape_of_state(const StateUpdateSizes& s) {
    const int64_t rows = s.slots.empty() ? s.batch : s.rows;
    return s.heads ? std::vector{rows, s.heads, s.channels, s.states} : std::vector{rows, s.channels, s.states};
}

} // namespace

Problem selective_state_update_of(const StateUpdateSizes& s) {
    Random random(s.seed);
    const Type real = state_type(s.type);
    const std::vector<int64_t> x = shape_of_x(s);
    std::vector<int64_t> dt = x, states{s.batch, s.groups, s.states};
    const std::vector<int64_t> parameters{s.heads ? s.heads : s.channels};
    if (s.heads)
        dt.pop_back();
    if (s.steps)
        states.insert(s.heads ? states.begin() + 1 : states.end(), s.steps);
    Problem problem;
    problem.operation = Operation::selective_state_update;
    problem.type = s.type;
    problem.dt_softplus = s.full;
    problem.inputs["state"] = uniform(s.state, shape_of_state(s), -1, 1, random);
    problem.inputs["x"] = uniform(s.type, x, -1, 1, random);
    problem.inputs["dt"] = s.full ? uniform(s.type, dt, -4, 1, random) : uniform(s.type, dt, 0.001, 0.4, random);
    problem.inputs["b"] = uniform(s.type, states, -1, 1, random);
    problem.inputs["c"] = uniform(s.type, states, -1, 1, random);
    Tensor a(real, s.heads ? parameters : std::vector{s.channels, s.states});
    for (int64_t i = 0; i < a.size(); ++i) // from fast to almost nothing
        a.values[i] = rounded(real, -std::pow(10.0, 0.5 - 0.4 * static_cast<double>(i % 7)) * random.uniform(0.5, 1.5));
    problem.inputs["a"] = a;
    if (s.full) {
        problem.inputs["z"] = uniform(s.type, x, -2, 2, random);
        problem.inputs["d"] = uniform(real, parameters, -1, 1, random);
        problem.inputs["dt_bias"] = uniform(real, parameters, -1, 0.5, random);
    }
    if (!s.slots.empty())
        problem.inputs["slots"] = indices(s.slots);
    problem.outputs = {{"y", Tensor(s.type, x)}, {"state", problem.inputs["state"]}};
    return problem;
}

Problem causal_conv1d_update_of(const ConvolutionUpdateSizes& s) {
    Random random(s.seed);
    const std::vector<int64_t> x = s.steps ? std::vector{s.batch, s.channels, s.steps} : std::vector{s.batch, s.channels};
    const Type real = state_type(s.type);
    Problem problem;
    problem.operation = Operation::causal_conv1d_update;
    problem.type = s.type;
    problem.silu = s.full;
    const double scale = 2 / std::sqrt(static_cast<double>(s.width));
    problem.inputs["state"] =
        uniform(s.state, {s.slots.empty() ? s.batch : s.rows, s.channels, s.width - 1 + s.more}, -2, 2, random);
    problem.inputs["x"] = uniform(s.type, x, -2, 2, random);
    problem.inputs["weight"] = uniform(real, {s.channels, s.width}, -scale, scale, random);
    if (s.full)
        problem.inputs["bias"] = uniform(real, {s.channels}, -1, 1, random);
    if (!s.slots.empty())
        problem.inputs["slots"] = indices(s.slots);
    if (s.is_ring) {
        std::vector<int64_t> seqlens;
        for (int64_t row = 0; row < s.batch; ++row)
            seqlens.push_back(row % 3 == 2 ? random.integer(INT32_MIN, INT32_MAX) : random.integer(0, 3 * s.width));
        problem.inputs["cache_seqlens"] = indices(seqlens);
    }
    problem.outputs = {{"y", Tensor(s.type, x)}, {"state", problem.inputs["state"]}};
    return problem;
}

} // namespace ssm::test
