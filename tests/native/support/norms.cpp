#include "support/norms.h"

#include "support/reference.h"

namespace ssm::test {

namespace {

int64_t part_of(int64_t width) {
    for (int64_t divisor = 2; divisor * divisor <= width; ++divisor)
        if (width % divisor == 0)
            return width / divisor;
    return width;
}

} // namespace

std::vector<Problem> norms(Type type, const std::vector<int64_t>& shape, uint64_t seed) {
    Random random(seed);
    const Type real = state_type(type);
    const int64_t width = shape.back();
    const Tensor x = uniform(type, shape, -2, 2, random), z = uniform(type, shape, -3, 3, random);
    const Tensor weight = uniform(real, {width}, -2, 2, random), bias = uniform(real, {width}, -1, 1, random);
    const Tensor residual = uniform(type, shape, -2, 2, random), wide_residual = uniform(real, shape, -2, 2, random);
    std::vector<int64_t> rows(shape.begin(), shape.end() - 1);
    std::vector<Problem> result;
    const auto start = [&](Operation operation) -> Problem& {
        Problem problem;
        problem.operation = operation;
        problem.type = type;
        problem.eps = 1e-5;
        problem.inputs = {{"x", x}, {"weight", weight}};
        problem.outputs = {{"y", x}};
        return result.emplace_back(problem);
    };
    const auto norm = [&]() -> Problem& { return start(Operation::rms_norm); };
    norm().outputs["rstd"] = Tensor(real, rows);
    Problem& all = norm();
    all.inputs.insert({{"residual", wide_residual}, {"bias", bias}});
    all.outputs.insert({{"residual_out", wide_residual}, {"rstd", Tensor(real, rows)}});
    Problem& narrow = norm();
    narrow.eps = 0.25;
    narrow.inputs["residual"] = residual;
    narrow.outputs["residual_out"] = residual;
    norm().outputs["residual_out"] = wide_residual;
    norm().inputs["residual"] = wide_residual;
    norm().inputs = {{"x", x}, {"bias", bias}};
    norm().inputs = {{"x", x}};

    for (const bool norm_before_gate : {false, true})
        for (const bool is_cut : {false, true}) {
            Problem& problem = start(Operation::gated_rms_norm);
            problem.norm_before_gate = norm_before_gate;
            problem.group_size = is_cut ? part_of(width) : 0;
            problem.inputs["z"] = z;
            if (is_cut == norm_before_gate)
                problem.inputs["bias"] = bias;
            std::vector<int64_t> groups = shape;
            groups.back() = is_cut && width > 0 ? width / problem.group_size : 1;
            problem.outputs["rstd"] = Tensor(real, groups);
        }
    Problem& no_gate = start(Operation::gated_rms_norm);
    no_gate.group_size = part_of(width);
    no_gate.inputs["bias"] = bias;
    Problem& no_weight = start(Operation::gated_rms_norm);
    no_weight.inputs = {{"x", x}, {"z", z}};
    return result;
}

std::vector<Problem> norm_gradients(Type type, const std::vector<int64_t>& shape, uint64_t seed) {
    Random random(seed + 1000);
    const Type real = state_type(type);
    const int64_t width = shape.back();
    std::vector<Problem> result;
    for (const Problem& forward : norms(type, shape, seed)) {
        const bool gated = forward.operation == Operation::gated_rms_norm;
        Problem problem = forward;
        problem.operation = gated ? Operation::gated_rms_norm_backward : Operation::rms_norm_backward;
        problem.inputs["grad_y"] = uniform(type, shape, -1, 1, random);
        problem.outputs = {
            {"grad_x", Tensor(type, shape)}, {"grad_weight", Tensor(real, {width})}, {"grad_bias", Tensor(real, {width})}};
        if (gated && forward.inputs.count("z"))
            problem.outputs["grad_z"] = Tensor(type, shape);
        if (!gated) {
            problem.inputs.erase("residual");
            problem.inputs.erase("bias");
            if (forward.outputs.count("residual_out")) {
                const Tensor& h = forward.outputs.at("residual_out");
                problem.inputs["x"] = uniform(h.type, shape, -2, 2, random);
                problem.inputs["grad_residual_out"] = uniform(h.type, shape, -1, 1, random);
                problem.outputs["grad_residual"] = Tensor(h.type, shape);
            }
        }
        result.push_back(problem);
        if (forward.outputs.count("rstd")) { // given
            Problem again = problem;
            again.operation = forward.operation;
            again.outputs = {{"rstd", forward.outputs.at("rstd")}};
            Tensor rstd = reference(again).at("rstd").value;
            for (Number& value : rstd.values)
                value = rounded(rstd.type, value);
            problem.inputs["rstd"] = rstd;
            result.push_back(problem);
        }
    }
    // Gradients left out.
    for (const char* only : {"grad_x", "grad_weight", "grad_bias", "grad_z"})
        for (const size_t index : {size_t{2}, result.size() - 5}) {
            Problem problem = result[index];
            if (!problem.outputs.count(only))
                continue;
            problem.outputs = {{only, problem.outputs.at(only)}};
            result.push_back(problem);
        }
    return result;
}

} // namespace ssm::test
