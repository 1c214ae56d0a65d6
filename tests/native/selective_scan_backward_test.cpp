// selective_scan_backward: the tests of all sequence operations, and gradients against differences of the forward call.
#include <cmath>

#include "support/sequence_tests.h"

namespace ssm::test {

using enum Type;

SSM_SEQUENCE_TESTS(SelectiveScanBackward, Operation::selective_scan_backward, float32, float64, float16, bfloat16);

namespace {

// Re <x, y>, the inner product of complex numbers as pairs of real ones.
double inner(const Tensor& x, const Tensor& y) {
    double sum = 0;
    for (int64_t i = 0; i < x.size(); ++i)
        sum += (x.values[i] * std::conj(y.values[i])).real();
    return sum;
}

Problem forward_of(const Problem& backward) {
    Problem forward = backward;
    forward.operation = Operation::selective_scan;
    forward.inputs.erase("grad_y");
    forward.inputs.erase("grad_last_state");
    forward.outputs = {{"y", backward.inputs.at("u")}};
    if (backward.inputs.count("initial_state"))
        forward.outputs["last_state"] = backward.inputs.at("initial_state");
    return forward;
}

// The loss whose gradients backward gives: <grad_y, y> + <grad_last_state, last_state>.
double loss(Context& context, const Problem& forward, const Problem& backward) {
    const Outputs outputs = run(context, forward);
    double sum = inner(outputs.at("y"), backward.inputs.at("grad_y"));
    if (backward.inputs.count("grad_last_state"))
        sum += inner(outputs.at("last_state"), backward.inputs.at("grad_last_state"));
    return sum;
}

} // namespace

// Differences need double precision.
class SelectiveScanGradients : public testing::TestWithParam<Target> {};
INSTANTIATE_TEST_SUITE_P(Devices, SelectiveScanGradients, testing::ValuesIn(targets({float64})),
                         [](const auto& info) { return name_of(info.param); });

TEST_P(SelectiveScanGradients, MatchDifferencesAlongDirections) {
    Context context(GetParam().device);
    Random random(11);
    for (const Size& size : {Size{float64, 2, 4, 90}, Size{float64, 1, 2, 90, {0, 0, 1, 50, 90, 90}}})
        for (const Problem& problem : problems(Operation::selective_scan_backward, size)) {
            const Outputs gradients = run(context, problem);
            const Problem forward = forward_of(problem);
            for (const auto& [gradient, values] : gradients) {
                const std::string input = gradient.substr(5);
                if (!forward.inputs.count(input))
                    continue;
                const Tensor& at = forward.inputs.at(input);
                const Tensor direction = uniform(at.type, at.shape, -1, 1, random);
                const double step = 1e-6;
                Problem above = forward, below = forward;
                double magnitude = 0;
                for (int64_t i = 0; i < at.size(); ++i) {
                    above.inputs[input].values[i] += step * direction.values[i];
                    below.inputs[input].values[i] -= step * direction.values[i];
                    magnitude += std::abs(values.values[i] * direction.values[i]);
                }
                const double difference = (loss(context, above, problem) - loss(context, below, problem)) / (2 * step);
                EXPECT_NEAR(difference, inner(values, direction), 1e-6 * magnitude)
                    << gradient << " of " << problem.describe();
            }
        }
}

// A sequence cut in two: the gradient of the later part's initial state is the earlier part's grad_last_state, and the
// gradients of parameters add up.
TEST_P(SelectiveScanBackward, SplitEqualsOneCall) {
    Context context(GetParam().device);
    const int64_t length = 261;
    const bool slow = GetParam().device.is_slow();
    for (const Problem& whole : problems(Operation::selective_scan_backward, {GetParam().type, 2, 3, length})) {
        if (!whole.outputs.count("grad_initial_state"))
            continue;
        const Reference limits = reference(whole);
        const Outputs expected = run(context, whole);
        for (const int64_t cut : slow ? std::vector<int64_t>{100} : std::vector<int64_t>{0, 1, 64, 129, length}) {
            Problem first = slice_time(whole, 0, cut), second = slice_time(whole, cut, length);
            second.inputs["initial_state"] = run(context, forward_of(first)).at("last_state");
            const Outputs after = run(context, second);
            first.inputs["grad_last_state"] = after.at("grad_initial_state");
            const Outputs before = run(context, first);
            Outputs joined;
            for (const auto& [name, tensor] : whole.outputs)
                joined[name] = name == "grad_initial_state" ? before.at(name)
                               : is_parameter(name, tensor) ? sum_of({before.at(name), after.at(name)})
                                                            : concatenate({before.at(name), after.at(name)},
                                                                          static_cast<int>(tensor.shape.size()) - 1);
            expect_agree(joined, expected, limits, whole.describe() + " cut at " + std::to_string(cut));
        }
    }
}

// Any number of states and groups, with channels that do and do not fill a vector; without a state what is left is the skip.
TEST_P(SelectiveScanBackward, MatchesAtEveryNumberOfStatesAndGroups) {
    Context context(GetParam().device);
    const bool slow = GetParam().device.is_slow();
    const Type type = GetParam().type;
    Random random(21);
    for (const int64_t states :
         slow ? std::vector<int64_t>{0, 8, 17} : std::vector<int64_t>{0, 1, 2, 3, 7, 9, 33, 64, 256, 300})
        for (const int64_t groups : {1, 3, 6}) {
            const int64_t channels = 6, length = 45;
            Problem problem;
            problem.operation = Operation::selective_scan_backward;
            problem.type = type;
            problem.dt_softplus = states % 2 == 0;
            problem.inputs["u"] = uniform(type, {2, channels, length}, -1, 1, random);
            problem.inputs["dt"] = uniform(type, {2, channels, length}, 0.001, 0.3, random);
            problem.inputs["a"] = uniform(state_type(type), {channels, states}, -3, -0.01, random);
            problem.inputs["b"] = uniform(type, {2, groups, states, length}, -1, 1, random);
            problem.inputs["c"] = uniform(type, {2, groups, states, length}, -1, 1, random);
            problem.inputs["d"] = uniform(state_type(type), {channels}, -1, 1, random);
            problem.inputs["z"] = uniform(type, {2, channels, length}, -4, 4, random);
            problem.inputs["initial_state"] = uniform(state_type(type), {2, channels, states}, -1, 1, random);
            problem.inputs["grad_last_state"] = problem.inputs["initial_state"];
            problem.inputs["grad_y"] = uniform(type, {2, channels, length}, -1, 1, random);
            for (const char* name : {"u", "dt", "a", "b", "c", "d", "z", "initial_state"})
                problem.outputs[std::string("grad_") + name] = problem.inputs[name];
            problem.outputs["grad_dt_bias"] = problem.inputs["d"];
            const Reference expected = reference(problem);
            for (const View view : {View::compact, View::channel_contiguous}) {
                for (const char* name :
                     {"u", "dt", "b", "c", "z", "grad_y", "grad_u", "grad_dt", "grad_b", "grad_c", "grad_z"})
                    problem.views[name] = view;
                expect_near(run(context, problem), expected, problem.describe());
            }
        }
}

// Many channels of a group, on few steps: their sums, in every block of channels.
TEST_P(SelectiveScanBackward, SumsOverManyChannels) {
    Context context(GetParam().device);
    const bool slow = GetParam().device.is_slow();
    for (const int64_t channels : slow ? std::vector<int64_t>{260} : std::vector<int64_t>{530, 4096})
        for (const Problem& problem : problems(Operation::selective_scan_backward, {GetParam().type, 1, channels, 5})) {
            if (problem.inputs.at("b").shape.size() == 4)
                expect_near(run(context, problem), reference(problem), problem.describe());
            if (slow)
                break;
        }
}

// The gate and softplus far out: never NaN.
TEST_P(SelectiveScanBackward, HoldsAtTheEnds) {
    Context context(GetParam().device);
    const Type type = GetParam().type;
    Problem problem = problems(Operation::selective_scan_backward, {type, 1, 2, 40})[0];
    const double gates[] = {-1000, -90, -20, 0, 20, 90, 1000}, steps[] = {-80, -40, -20, -10, -1, 0, 1, 10, 19, 21, 40};
    for (int64_t i = 0; i < problem.inputs["z"].size(); ++i) {
        problem.inputs["z"].values[i] = rounded(type, gates[i % 7]);
        problem.inputs["dt"].values[i] = rounded(type, steps[i % 11]);
    }
    expect_near(run(context, problem), reference(problem), problem.describe());
}

// Every combination of what may be absent; each gradient alone, and none.
TEST_P(SelectiveScanBackward, EveryCombinationOfOptionalTensors) {
    Context context(GetParam().device);
    const Problem all = problems(Operation::selective_scan_backward, {GetParam().type, 2, 5, 70})[0];
    const char* const names[] = {"d", "z", "dt_bias", "initial_state", "grad_last_state"};
    const bool slow = GetParam().device.is_slow();
    for (int absent = 0; absent < 32; absent += slow ? 5 : 1) {
        Problem problem = all;
        for (int i = 0; i < 5; ++i)
            if (absent >> i & 1)
                problem.inputs.erase(names[i]);
        if (!problem.inputs.count("z"))
            problem.outputs.erase("grad_z");
        expect_near(run(context, problem), reference(problem), problem.describe());
    }
    const Reference expected = reference(all);
    for (const auto& [name, tensor] : all.outputs) {
        Problem problem = all;
        problem.outputs = {{name, tensor}};
        const Outputs outputs = run(context, problem);
        expect_near(outputs, {{name, expected.at(name)}}, problem.describe());
    }
    Problem nothing = all;
    nothing.outputs.clear();
    EXPECT_TRUE(run(context, nothing).empty());
}

} // namespace ssm::test
