// causal_conv_backward: the tests of all sequence operations, and gradients against differences of the forward call.
#include <cmath>

#include "support/sequence_tests.h"

namespace ssm::test {

using enum Type;

SSM_SEQUENCE_TESTS(CausalConvBackward, Operation::causal_conv_backward, float32, float64, float16, bfloat16);

namespace {

// The loss whose gradients backward gives: <grad_y, y> + <grad_last_state, last_state>.
double loss(Context& context, const Problem& forward, const Problem& backward) {
    const Outputs outputs = run(context, forward);
    double sum = 0;
    const auto add = [&](const char* weights, const char* values) {
        if (backward.inputs.count(weights))
            for (int64_t i = 0; i < outputs.at(values).size(); ++i)
                sum += backward.inputs.at(weights).values[i].real() * outputs.at(values).values[i].real();
    };
    add("grad_y", "y");
    add("grad_last_state", "last_state");
    return sum;
}

Problem forward_of(const Problem& backward) {
    Problem forward = backward;
    forward.operation = Operation::causal_conv;
    forward.inputs.erase("grad_y");
    forward.inputs.erase("grad_last_state");
    forward.outputs = {{"y", backward.inputs.at("u")}};
    if (backward.inputs.count("initial_state"))
        forward.outputs["last_state"] = backward.inputs.at("initial_state");
    return forward;
}

} // namespace

// Differences need double precision.
class CausalConvGradients : public testing::TestWithParam<Target> {};
INSTANTIATE_TEST_SUITE_P(Devices, CausalConvGradients, testing::ValuesIn(targets({float64})),
                         [](const auto& info) { return name_of(info.param); });

TEST_P(CausalConvGradients, MatchDifferencesAlongDirections) {
    Context context(GetParam().device);
    Random random(11);
    for (const int64_t path : {0, 2})
        for (const Size& size : {Size{float64, 2, 3, 300}, Size{float64, 1, 2, 700, {0, 0, 1, 50, 700}}})
            for (const Problem& problem : problems(Operation::causal_conv_backward, size)) {
                if (!context.try_option("causal_conv_backward.path", path) || problem.outputs.size() == 1)
                    continue;
                const Outputs gradients = run(context, problem);
                const Problem forward = forward_of(problem);
                for (const auto& [gradient, values] : gradients) {
                    const std::string input = gradient.substr(5);
                    if (!forward.inputs.count(input))
                        continue;
                    const Tensor& at = forward.inputs.at(input);
                    const Tensor direction = uniform(float64, at.shape, -1, 1, random);
                    const double step = 1e-4; // the loss is quadratic in each input
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
                    EXPECT_NEAR(difference, slope, 1e-8 * magnitude) << gradient << " of " << problem.describe();
                }
            }
}

// A sequence cut in two: the gradient of the later part's initial state is the earlier part's grad_last_state, and the
// gradients of taps and skip add up.
TEST_P(CausalConvBackward, SplitEqualsOneCall) {
    Context context(GetParam().device);
    const int64_t length = 517;
    const bool slow = GetParam().device.is_slow();
    for (const Problem& whole : problems(Operation::causal_conv_backward, {GetParam().type, 2, 3, length})) {
        if (!whole.outputs.count("grad_initial_state") || whole.outputs.size() == 1)
            continue;
        const Reference limits = reference(whole);
        const Outputs expected = run(context, whole);
        for (const int64_t cut : slow ? std::vector<int64_t>{2, 200} : std::vector<int64_t>{0, 1, 3, 129, 515, length}) {
            Problem first = slice_time(whole, 0, cut), second = slice_time(whole, cut, length);
            second.inputs["initial_state"] = run(context, forward_of(first)).at("last_state");
            const Outputs after = run(context, second);
            first.inputs["grad_last_state"] = after.at("grad_initial_state");
            const Outputs before = run(context, first);
            Outputs joined{{"grad_initial_state", before.at("grad_initial_state")}};
            for (const auto& [name, tensor] : whole.outputs) {
                if (is_sequence(name, tensor))
                    joined[name] = concatenate({before.at(name), after.at(name)}, 2);
                else if (is_parameter(name, tensor))
                    joined[name] = sum_of({before.at(name), after.at(name)});
            }
            expect_agree(joined, expected, limits, whole.describe() + " cut at " + std::to_string(cut));
        }
    }
}

// The future of a step has no part in it: a gradient that comes from one step reaches no later one.
TEST_P(CausalConvBackward, ReachesNoLaterStep) {
    Context context(GetParam().device);
    Problem problem = problems(Operation::causal_conv_backward, {GetParam().type, 1, 2, 600})[1];
    Tensor& grad_y = problem.inputs["grad_y"];
    for (int64_t i = 0; i < grad_y.size(); ++i)
        if (i % 600 > 250)
            grad_y.values[i] = 0;
    const Outputs outputs = run(context, problem);
    expect_near(outputs, reference(problem), problem.describe());
    const double close = 1e4 * roundoff(state_type(GetParam().type));
    for (int64_t head = 0; head < 2; ++head)
        for (int64_t t = 251; t < 600; ++t)
            ASSERT_NEAR(outputs.at("grad_u").at(0, head, t).real(), 0, close) << t;
}

// Every combination of what may be absent.
TEST_P(CausalConvBackward, EveryCombinationOfOptionalTensors) {
    Context context(GetParam().device);
    const Problem all = problems(Operation::causal_conv_backward, {GetParam().type, 2, 3, 150})[0];
    const char* const names[] = {"d", "pre_gate", "post_gate", "initial_state", "grad_last_state"};
    for (int absent = 0; absent < 32; ++absent) {
        Problem problem = all;
        for (int i = 0; i < 5; ++i)
            if (absent >> i & 1) {
                problem.inputs.erase(names[i]);
                if (i == 1 || i == 2)
                    problem.outputs.erase(std::string("grad_") + names[i]);
            }
        expect_near(run(context, problem), reference(problem), problem.describe());
    }
    Problem nothing = all;
    nothing.outputs.clear();
    EXPECT_TRUE(run(context, nothing).empty());
    // A gradient of what is not there.
    Problem wrong = all;
    wrong.inputs.erase("pre_gate");
    Call call(context, wrong);
    EXPECT_EQ(call.run(), SSM_ERROR_INVALID_ARGUMENT);
    EXPECT_NE(std::string(ssm_last_error()).find("grad_pre_gate: NULL without pre_gate"), std::string::npos);
}

} // namespace ssm::test
