// linear_recurrence_backward: the tests of all sequence operations, and gradients against differences of the forward call.
#include <cmath>

#include "support/sequence_tests.h"

namespace ssm::test {

using enum Type;

SSM_SEQUENCE_TESTS(LinearRecurrenceBackward, Operation::linear_recurrence_backward, float32, float64, complex64, complex128,
                   float16, bfloat16);
SSM_SEQUENCE_TEST(LinearRecurrenceBackward, Operation::linear_recurrence_backward, ReverseEqualsFlipped,
                  reverse_equals_flipped)

namespace {

// The loss whose gradients backward gives: the real part of <grad_h, h> + <grad_last_state, last_state>.
double loss(Context& context, const Problem& forward, const Problem& backward) {
    const Outputs outputs = run(context, forward);
    double sum = 0;
    const auto add = [&](const char* weights, const char* values) {
        if (backward.inputs.count(weights))
            for (int64_t i = 0; i < outputs.at(values).size(); ++i)
                sum += (std::conj(backward.inputs.at(weights).values[i]) * outputs.at(values).values[i]).real();
    };
    add("grad_h", "h");
    add("grad_last_state", "last_state");
    return sum;
}

Problem forward_of(const Problem& backward) {
    Problem forward = backward;
    forward.operation = Operation::linear_recurrence;
    forward.inputs.erase("grad_h");
    forward.inputs.erase("grad_last_state");
    const Tensor& a = backward.inputs.at("a");
    forward.outputs = {{"h", Tensor(a.type, a.shape)}};
    if (backward.inputs.count("initial_state"))
        forward.outputs["last_state"] = backward.inputs.at("initial_state");
    return forward;
}

const char* gradient_of(const std::string& input) {
    return input == "a" ? "grad_a" : input == "b" ? "grad_b" : "grad_initial_state";
}

// Backward problems that calculate h again, so that the forward call has all it needs.
std::vector<Problem> complete_problems(const Size& size) {
    std::vector<Problem> result;
    for (const Problem& problem : problems(Operation::linear_recurrence_backward, size))
        if (problem.inputs.count("b") && problem.outputs.size() >= 2)
            result.push_back(problem);
    return result;
}

} // namespace

// Differences need double precision.
class LinearRecurrenceGradients : public testing::TestWithParam<Target> {};
INSTANTIATE_TEST_SUITE_P(Devices, LinearRecurrenceGradients, testing::ValuesIn(targets({float64, complex128})),
                         [](const auto& info) { return name_of(info.param); });

TEST_P(LinearRecurrenceGradients, MatchesDifferencesAlongDirections) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    Random random(11);
    for (const Size& size : {Size{type, 2, 3, 150}, Size{type, 1, 2, 90, {0, 0, 1, 50, 90}}})
        for (const Problem& problem : complete_problems(size)) {
            const Outputs gradients = run(context, problem);
            const Problem forward = forward_of(problem);
            for (const char* input : {"a", "b", "initial_state"}) {
                if (!forward.inputs.count(input))
                    continue;
                const Tensor& at = forward.inputs.at(input);
                const Tensor direction = uniform(type, at.shape, -1, 1, random);
                const double step = 1e-6;
                Problem above = forward, below = forward;
                double slope = 0, magnitude = 0;
                for (int64_t i = 0; i < at.size(); ++i) {
                    above.inputs[input].values[i] += step * direction.values[i];
                    below.inputs[input].values[i] -= step * direction.values[i];
                    const Number part = std::conj(gradients.at(gradient_of(input)).values[i]) * direction.values[i];
                    slope += part.real();
                    magnitude += std::abs(part);
                }
                const double difference = (loss(context, above, problem) - loss(context, below, problem)) / (2 * step);
                EXPECT_NEAR(difference, slope, 1e-6 * magnitude) << input << " of " << problem.describe();
            }
        }
}

TEST_P(LinearRecurrenceGradients, MatchesDifferencesOfEveryElement) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    for (const Problem& problem : complete_problems({type, 1, 2, 7})) {
        const Outputs gradients = run(context, problem);
        const Problem forward = forward_of(problem);
        for (const char* input : {"a", "b", "initial_state"}) {
            if (!forward.inputs.count(input))
                continue;
            const double step = 1e-5;
            for (int64_t i = 0; i < forward.inputs.at(input).size(); ++i) {
                // dL/dRe, and for complex types dL/dIm beside it.
                for (const Number unit : {Number(1, 0), Number(0, 1)}) {
                    if (unit.imag() != 0 && !is_complex(type))
                        continue;
                    Problem above = forward, below = forward;
                    above.inputs[input].values[i] += step * unit;
                    below.inputs[input].values[i] -= step * unit;
                    const double difference = (loss(context, above, problem) - loss(context, below, problem)) / (2 * step);
                    const Number gradient = gradients.at(gradient_of(input)).values[i];
                    EXPECT_NEAR(difference, unit.imag() != 0 ? gradient.imag() : gradient.real(), 1e-7)
                        << input << " element " << i << " of " << problem.describe();
                }
            }
        }
    }
}

// A sequence cut in two: the gradient of the later part's initial state is the earlier part's grad_last_state.
TEST_P(LinearRecurrenceBackward, SplitEqualsOneCall) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    const int64_t length = 517;
    for (const Problem& whole : complete_problems({type, 2, 3, length})) {
        if (!whole.inputs.count("grad_last_state") || whole.outputs.size() != 3)
            continue;
        const Reference limits = reference(whole);
        const Outputs expected = run(context, whole);
        for (const int64_t cut : {int64_t{0}, int64_t{1}, int64_t{129}, int64_t{256}, length - 1, length}) {
            Problem early = slice_time(whole, 0, cut), late = slice_time(whole, cut, length);
            Problem& first = whole.reverse ? late : early;
            Problem& second = whole.reverse ? early : late;
            Problem forward = forward_of(first);
            second.inputs["initial_state"] = run(context, forward).at("last_state");
            const Outputs after = run(context, second);
            first.inputs["grad_last_state"] = after.at("grad_initial_state");
            const Outputs before = run(context, first);
            Outputs joined{{"grad_initial_state", before.at("grad_initial_state")}};
            for (const char* name : {"grad_a", "grad_b"})
                joined[name] =
                    concatenate({(whole.reverse ? after : before).at(name), (whole.reverse ? before : after).at(name)}, 2);
            expect_agree(joined, expected, limits, whole.describe() + " cut at " + std::to_string(cut));
        }
    }
}

// h given and h calculated again are the same calculation; in 16-bit types h is rounded when it is stored.
TEST_P(LinearRecurrenceBackward, GivenStatesEqualCalculatedOnes) {
    Context context(GetParam().device);
    for (const Problem& problem : complete_problems({GetParam().type, 2, 3, 700})) {
        Problem given = problem;
        given.inputs["h"] = run(context, forward_of(problem)).at("h");
        const Outputs with_both = run(context, given);
        given.inputs.erase("b");
        expect_identical(run(context, given), with_both, problem.describe());
        expect_agree(run(context, problem), with_both, reference(problem), problem.describe());
    }
}

} // namespace ssm::test
