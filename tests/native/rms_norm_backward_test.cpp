// Gradients of rms_norm and gated_rms_norm, which share their kernels; against differences of the forward calls too.
#include <cmath>

#include "support/norm_tests.h"
#include "support/reference.h"

namespace ssm::test {

using enum Type;

SSM_NORM_TESTS(RmsNormBackward, norm_gradients);

namespace {

Problem forward_of(const Problem& backward) {
    Problem forward = backward;
    const bool gated = backward.operation == Operation::gated_rms_norm_backward;
    forward.operation = gated ? Operation::gated_rms_norm : Operation::rms_norm;
    for (const char* name : {"grad_y", "grad_residual_out", "rstd"})
        forward.inputs.erase(name);
    const Tensor& x = backward.inputs.at("x");
    forward.outputs = {{"y", x}};
    if (!gated) { // bias and residual have gradients, though the gradients do not depend on them
        forward.inputs["bias"] = Tensor(float64, {x.shape.back()});
        forward.inputs["residual"] = Tensor(float64, x.shape);
        forward.outputs["residual_out"] = x;
    } else if (!forward.inputs.count("bias")) {
        forward.inputs["bias"] = Tensor(float64, {x.shape.back()});
    }
    if (!forward.inputs.count("weight")) {
        forward.inputs["weight"] = Tensor(float64, {x.shape.back()});
        for (Number& value : forward.inputs["weight"].values)
            value = 1;
    }
    return forward;
}

double loss(Context& context, const Problem& forward, const Problem& backward) {
    const Outputs outputs = run(context, forward);
    double sum = 0;
    const auto add = [&](const char* weights, const char* values) {
        if (backward.inputs.count(weights))
            for (int64_t i = 0; i < outputs.at(values).size(); ++i)
                sum += backward.inputs.at(weights).values[i].real() * outputs.at(values).values[i].real();
    };
    add("grad_y", "y");
    add("grad_residual_out", "residual_out");
    return sum;
}

} // namespace

// Differences need double precision.
class RmsNormGradients : public testing::TestWithParam<Target> {};
INSTANTIATE_TEST_SUITE_P(Devices, RmsNormGradients, testing::ValuesIn(targets({float64})),
                         [](const auto& info) { return name_of(info.param); });

TEST_P(RmsNormGradients, MatchDifferencesAlongDirections) {
    Context context(GetParam().device);
    Random random(11);
    for (const std::vector<int64_t>& shape : std::vector<std::vector<int64_t>>{{5, 36}, {2, 3, 150}, {3, 1}})
        for (const Problem& problem : norm_gradients(float64, shape)) {
            const Outputs gradients = run(context, problem);
            const Problem forward = forward_of(problem);
            for (const auto& [gradient, values] : gradients) {
                const std::string input = gradient.substr(5);
                ASSERT_TRUE(forward.inputs.count(input)) << gradient;
                const Tensor& at = forward.inputs.at(input);
                const Tensor direction = uniform(float64, at.shape, -1, 1, random);
                const double step = 1e-6;
                Problem above = forward, below = forward;
                double slope = 0, magnitude = 0;
                for (int64_t i = 0; i < at.size(); ++i) {
                    above.inputs[input].values[i] += step * direction.values[i];
                    below.inputs[input].values[i] -= step * direction.values[i];
                    const double part = values.values[i].real() * direction.values[i].real();
                    slope += part;
                    magnitude += std::abs(part);
                }
                const double difference = (loss(context, above, problem) - loss(context, below, problem)) / (2 * step);
                EXPECT_NEAR(difference, slope, 1e-6 * magnitude + 1e-8) << gradient << " of " << problem.describe();
            }
        }
}

TEST_P(RmsNormBackward, MatchesInPlace) {
    Context context(GetParam().device);
    for (const std::vector<int64_t>& shape : std::vector<std::vector<int64_t>>{{5, 48}, {2, 700}, {1, 17000}})
        for (const Problem& plain : norm_gradients(GetParam().type, shape)) {
            if (!plain.outputs.count("grad_x"))
                continue;
            Problem problem = plain;
            problem.inplace = "grad_y";
            expect_identical(run(context, problem), run(context, plain), problem.describe());
        }
}

// The gradient of the residual stays where it is, and that of the gate takes the gate's place.
TEST_P(RmsNormBackward, ResidualAndGateInPlace) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    for (const int64_t width : {48, 700, 17000})
        for (const Problem& plain : norm_gradients(type, {3, width})) {
            const bool gated = plain.operation == Operation::gated_rms_norm_backward;
            const char *const in = gated ? "z" : "grad_residual_out", *const out = gated ? "grad_z" : "grad_residual";
            if (plain.outputs.size() < 4 || !plain.outputs.count(out))
                continue;
            const Outputs expected = run(context, plain);
            std::map<std::string, std::unique_ptr<Placed>> tensors;
            for (const auto& [name, tensor] : plain.inputs)
                tensors[name] = std::make_unique<Placed>(context, tensor, View::compact, name == in);
            tensors[in]->write(plain.inputs.at(in));
            Placed grad_x(context, plain.outputs.at("grad_x"), View::compact, true);
            const auto at = [&](const char* name) { return tensors.count(name) ? tensors.at(name)->get() : nullptr; };
            const auto fill = [&](auto& args) {
                args.struct_size = sizeof args;
                args.eps = plain.eps;
                args.x = at("x");
                args.weight = at("weight");
                args.rstd = at("rstd");
                args.grad_y = at("grad_y");
                args.grad_x = grad_x.get();
            };
            if (gated) {
                ssm_gated_rms_norm_backward_args args{};
                fill(args);
                args.norm_before_gate = plain.norm_before_gate;
                args.group_size = plain.group_size;
                args.bias = at("bias");
                args.z = args.grad_z = at("z");
                SSM_CHECK(ssm_gated_rms_norm_backward(context, &args));
            } else {
                ssm_rms_norm_backward_args args{};
                fill(args);
                args.grad_residual_out = args.grad_residual = at("grad_residual_out");
                SSM_CHECK(ssm_rms_norm_backward(context, &args));
            }
            SSM_CHECK(ssm_context_synchronize(context));
            expect_identical({{"grad_x", grad_x.take()}, {out, tensors.at(in)->take()}},
                             {{"grad_x", expected.at("grad_x")}, {out, expected.at(out)}}, plain.describe());
        }
}

// Nothing asked for is legal, and what is asked for does not depend on what else is.
TEST_P(RmsNormBackward, EveryGradientAlone) {
    Context context(GetParam().device);
    for (const Problem& all : norm_gradients(GetParam().type, {9, 70})) {
        const Outputs expected = run(context, all);
        Problem nothing = all;
        nothing.outputs.clear();
        EXPECT_TRUE(run(context, nothing).empty());
        for (const auto& [name, tensor] : all.outputs) {
            Problem alone = all;
            alone.outputs = {{name, tensor}};
            expect_near(run(context, alone), reference(alone), alone.describe());
        }
    }
}

} // namespace ssm::test
