#include "support/mamba3.h"

#include <algorithm>

namespace ssm::test {

std::vector<int64_t> mamba3_bounds(const std::vector<int64_t>& lengths) {
    std::vector<int64_t> bounds{0};
    for (const int64_t length : lengths)
        bounds.push_back(bounds.back() + length);
    return bounds;
}

bool is_mamba3_state(const std::string& name) {
    return name.find("initial_") != std::string::npos || name.find("last_") != std::string::npos;
}

bool mamba3_has_time(const std::string& name, const Tensor& tensor) {
    return tensor.shape.size() >= 3 && !is_mamba3_state(name);
}

Problem slice_mamba3(const Problem& whole, int64_t from, int64_t to) {
    Problem part = whole;
    for (auto* tensors : {&part.inputs, &part.outputs})
        for (auto& [name, tensor] : *tensors) {
            if (!mamba3_has_time(name, tensor))
                continue;
            std::vector<int64_t> shape = tensor.shape;
            const int64_t batch = shape[0], length = shape[1], inner = tensor.size() / std::max<int64_t>(batch * length, 1);
            shape[1] = to - from;
            Tensor cut(tensor.type, shape);
            for (int64_t row = 0; row < batch; ++row)
                std::copy_n(tensor.values.begin() + (row * length + from) * inner, (to - from) * inner,
                            cut.values.begin() + row * (to - from) * inner);
            tensor = cut;
        }
    return part;
}

Problem sequence_of_mamba3(const Problem& packed, size_t sequence) {
    const std::vector<int64_t> bounds = packed.cu_seqlens();
    Problem part = slice_mamba3(packed, bounds[sequence], bounds[sequence + 1]);
    part.inputs.erase("cu_seqlens");
    for (auto* tensors : {&part.inputs, &part.outputs})
        for (auto& [name, tensor] : *tensors)
            if (is_mamba3_state(name))
                tensor = row_of(tensor, static_cast<int64_t>(sequence));
    return part;
}

Problem large_mamba3(Type type, int64_t heads, int64_t groups, int64_t length, int64_t channels, int64_t states) {
    Random random(static_cast<uint64_t>(channels * 7 + states));
    const Type state = state_type(type);
    Problem problem;
    problem.operation = Operation::mamba3;
    problem.type = type;
    problem.dt_softplus = true;
    problem.inputs["x"] = uniform(type, {1, length, heads, channels}, -1, 1, random);
    problem.inputs["z"] = uniform(type, {1, length, heads, channels}, -2, 2, random);
    problem.inputs["dt"] = uniform(type, {1, length, heads}, -5, 0, random);
    problem.inputs["a"] = uniform(state, {1, length, heads}, -2, -0.1, random);
    problem.inputs["trap"] = uniform(type, {1, length, heads}, -3, 3, random);
    for (const char* name : {"b", "c"})
        problem.inputs[name] = uniform(type, {1, length, groups, states}, -1, 1, random);
    for (const char* name : {"b_bias", "c_bias"})
        problem.inputs[name] = uniform(state, {heads, states}, -1, 1, random);
    problem.inputs["angles"] = uniform(type, {1, length, 1, states / 2}, -2, 2, random);
    problem.inputs["d"] = uniform(state, {heads, channels}, -1, 1, random);
    const std::pair<const char*, std::vector<int64_t>> carried[] = {{"state", {1, heads, channels, states}},
                                                                    {"angle", {1, heads, states / 2}},
                                                                    {"b", {1, heads, states}},
                                                                    {"x", {1, heads, channels}}};
    problem.outputs["y"] = problem.inputs.at("x");
    for (const auto& [name, shape] : carried) {
        problem.inputs[std::string("initial_") + name] = uniform(state, shape, -1, 1, random);
        problem.outputs[std::string("last_") + name] = Tensor(state, shape);
    }
    return problem;
}

} // namespace ssm::test
