// mamba3_backward: what all sequence operations must show, and its own: gradients against differences of the forward call,
// those of ssd_backward where lambda is one, sequences cut and packed, large heads.
#include <cmath>

#include "support/mamba3.h"
#include "support/sequence_tests.h"

namespace ssm::test {

using enum Type;

namespace {

constexpr Operation operation = Operation::mamba3_backward;

void compare(Context& context, const Problem& problem, const std::string& note = "") {
    expect_near(run(context, problem), reference(problem), problem.describe() + " " + note);
}

Problem forward_of(const Problem& backward) {
    Problem forward = backward;
    forward.operation = Operation::mamba3;
    forward.outputs = {{"y", backward.inputs.at("x")}};
    for (const auto& [name, tensor] : backward.inputs)
        if (name.rfind("grad_", 0) == 0) {
            forward.outputs[name.substr(5)] = tensor;
            forward.inputs.erase(name);
        }
    return forward;
}

Problem backward_of(const Problem& forward) {
    Random random(77);
    Problem problem = forward;
    problem.operation = operation;
    problem.outputs.clear();
    for (const auto& [name, tensor] : forward.inputs)
        problem.outputs["grad_" + name] = tensor;
    for (const auto& [name, tensor] : forward.outputs)
        problem.inputs["grad_" + name] = uniform(tensor.type, tensor.shape, -1, 1, random);
    return problem;
}

// The loss whose gradients backward gives: the sum of <grad_y, y> and the last states' likewise. theta is known up to whole
// turns, which `from` says.
double loss(Context& context, const Problem& forward, const Problem& backward, const Outputs& from) {
    double sum = 0;
    for (const auto& [name, tensor] : run(context, forward))
        for (int64_t i = 0; i < tensor.size(); ++i) {
            double value = tensor.values[i].real();
            if (name == "last_angle")
                value -= 2 * M_PI * std::round((value - from.at(name).values[i].real()) / (2 * M_PI));
            sum += backward.inputs.at("grad_" + name).values[i].real() * value;
        }
    return sum;
}

class Mamba3Backward : public testing::TestWithParam<Target> {};

} // namespace

SSM_SEQUENCE_TEST(Mamba3Backward, operation, MatchesAcrossTiles, matches_across_tiles)
SSM_SEQUENCE_TEST(Mamba3Backward, operation, MatchesAtEveryWidth, matches_at_every_width)
SSM_SEQUENCE_TEST(Mamba3Backward, operation, MatchesInOneLongRow, matches_in_one_long_row)
SSM_SEQUENCE_TEST(Mamba3Backward, operation, MatchesInEveryView, matches_in_every_view)
SSM_SEQUENCE_TEST(Mamba3Backward, operation, MatchesWithBroadcastInputs, matches_with_broadcast_inputs)
SSM_SEQUENCE_TEST(Mamba3Backward, operation, MatchesWhenPacked, matches_when_packed)
SSM_SEQUENCE_TEST(Mamba3Backward, operation, AcceptsEmptyTensors, accepts_empty_tensors)
SSM_SEQUENCE_TEST(Mamba3Backward, operation, TenRunsAreBitEqual, ten_runs_are_bit_equal)
SSM_SEQUENCE_TEST(Mamba3Backward, operation, VariationsAreBitEqual, variations_are_bit_equal)
SSM_SEQUENCE_TEST(Mamba3Backward, operation, AlignmentIsBitEqual, alignment_is_bit_equal)
SSM_SEQUENCE_TEST(Mamba3Backward, operation, ContextsAreIndependent, contexts_are_independent)
SSM_SEQUENCE_TEST(Mamba3Backward, operation, GraphReplaysTheCall, graph_replays_the_call)
SSM_SEQUENCE_TEST(Mamba3Backward, operation, WorkspaceIsWhatTheQuerySays, workspace_is_what_the_query_says)
SSM_SEQUENCE_TEST(Mamba3Backward, operation, SteadyStateAllocatesNothing, steady_state_allocates_nothing)

// What the mutations run: a few seconds.
TEST_P(Mamba3Backward, Quick) {
    const Type type = GetParam().type;
    const bool slow = GetParam().device.is_slow();
    size_t turn = 0;
    for (const Variation& variation : variations(GetParam().device))
        for (const int64_t tile : {0, 16}) {
            Context context(GetParam().device);
            context.try_option("mamba3_backward.tile", tile);
            ASSERT_TRUE(variation.apply(context)) << variation.name;
            const std::string note = "tile " + std::to_string(tile) + " " + variation.name;
            for (const Size& size : {Size{type, 2, 2, 1}, Size{type, 1, 4, 150},
                                     Size{type, 1, 2, 202, mamba3_bounds({0, 1, 40, 0, 130, 31, 0})}}) {
                const std::vector<Problem> all = problems(operation, size);
                for (size_t i = 0; i < (slow ? 1 : all.size()); ++i)
                    compare(context, all[(turn + i) % all.size()], note);
                ++turn;
            }
            if (HasFailure())
                return;
        }
    Context context(GetParam().device);
    compare(context, backward_of(large_mamba3(type, 2, 1, 70, 70, 70)));
    compare(context, problems(operation, {type, 2, slow ? 4 : 12, 40})[0]);
}

TEST_P(Mamba3Backward, MatchesAtEveryLength) {
    const bool slow = GetParam().device.is_slow();
    Context context(GetParam().device);
    for (const int64_t length : {0, 1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 151, 300}) {
        const std::vector<Problem> all = problems(operation, {GetParam().type, 2, 2, length});
        if (slow)
            compare(context, all[static_cast<size_t>(length) % all.size()]);
        else
            for (const Problem& problem : all)
                compare(context, problem);
    }
}

TEST_P(Mamba3Backward, MatchesWhereHeadsAreLarge) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    compare(context, backward_of(large_mamba3(type, 2, 2, 129, 64, 128)));
    compare(context, backward_of(large_mamba3(type, 2, 1, 65, 130, 67)));
}

// A sequence cut in two: the gradients of the later part's initial states are the earlier part's grad_last_*, and the
// gradients of parameters add up.
TEST_P(Mamba3Backward, SplitEqualsOneCall) {
    const Type type = GetParam().type;
    const bool slow = GetParam().device.is_slow();
    Context context(GetParam().device);
    const int64_t length = 150;
    for (const Problem& whole : problems(operation, {type, 2, 2, length})) {
        if (!whole.inputs.count("initial_state") || whole.outputs.size() < 4)
            continue;
        const Reference limits = reference(whole);
        const Outputs expected = run(context, whole);
        for (const int64_t cut : slow ? std::vector<int64_t>{65} : std::vector<int64_t>{0, 1, 64, 130, 149, length}) {
            Problem first = slice_mamba3(whole, 0, cut), second = slice_mamba3(whole, cut, length);
            for (const auto& [name, tensor] : run(context, forward_of(first)))
                if (name != "y")
                    second.inputs["initial_" + name.substr(5)] = tensor;
            const Outputs after = run(context, second);
            for (const auto& [name, tensor] : after)
                if (name.rfind("grad_initial_", 0) == 0)
                    first.inputs["grad_last_" + name.substr(13)] = tensor;
            const Outputs before = run(context, first);
            Outputs joined;
            for (const auto& [name, tensor] : expected)
                joined[name] = is_mamba3_state(name)           ? before.at(name)
                               : mamba3_has_time(name, tensor) ? concatenate({before.at(name), after.at(name)}, 1)
                                                               : sum_of({before.at(name), after.at(name)});
            expect_agree(joined, expected, limits, whole.describe() + " cut at " + std::to_string(cut));
        }
    }
}

TEST_P(Mamba3Backward, PackedEqualsSeparate) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    const std::vector<int64_t> bounds = mamba3_bounds({0, 3, 64, 0, 131, 1});
    for (const Problem& packed : problems(operation, {type, 1, 2, bounds.back(), bounds})) {
        std::map<std::string, std::vector<Tensor>> parts;
        for (size_t s = 0; s + 1 < bounds.size(); ++s)
            for (const auto& [name, tensor] : run(context, sequence_of_mamba3(packed, s)))
                parts[name].push_back(tensor);
        Outputs joined;
        for (const auto& [name, tensor] : packed.outputs)
            joined[name] = is_mamba3_state(name)           ? concatenate(parts.at(name), 0)
                           : mamba3_has_time(name, tensor) ? concatenate(parts.at(name), 1)
                                                           : sum_of(parts.at(name));
        expect_agree(run(context, packed), joined, reference(packed), packed.describe());
    }
}

// Differences need double precision.
class Mamba3Gradients : public testing::TestWithParam<Target> {};
INSTANTIATE_TEST_SUITE_P(Devices, Mamba3Gradients, testing::ValuesIn(targets({float64})),
                         [](const auto& info) { return name_of(info.param); });

TEST_P(Mamba3Gradients, MatchDifferencesAlongDirections) {
    Context context(GetParam().device);
    Random random(11);
    for (const Size& size : {Size{float64, 2, 2, 70}, Size{float64, 1, 2, 70, {0, 0, 1, 40, 70}}})
        for (const Problem& problem : problems(operation, size)) {
            const Outputs gradients = run(context, problem);
            const Problem forward = forward_of(problem);
            const Outputs from = run(context, forward);
            for (const auto& [gradient, values] : gradients) {
                const std::string input = gradient.substr(5);
                if (!forward.inputs.count(input))
                    continue;
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
                const double difference =
                    (loss(context, above, problem, from) - loss(context, below, problem, from)) / (2 * step);
                EXPECT_NEAR(difference, slope, 2e-6 * std::max(magnitude, 1.0)) << gradient << " of " << problem.describe();
            }
        }
}

TEST_P(Mamba3Backward, RefusesWrongArguments) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    const auto expect = [&](const char* sentence, const auto& change) {
        Problem problem = problems(operation, {type, 2, 4, 9})[2];
        change(problem);
        Call call(context, problem);
        EXPECT_EQ(call.run(), SSM_ERROR_INVALID_ARGUMENT);
        EXPECT_EQ(std::string(ssm_last_error()), sentence);
    };
    expect("z: a tensor, as grad_z is wanted expected, NULL given", [](Problem& problem) { problem.inputs.erase("z"); });
    expect("grad_a: shape (4) expected, (2,9,4) given", [&](Problem& problem) {
        problem.outputs["grad_a"] = Tensor(state_type(type), {2, 9, 4});
    });
    expect("grad_c_bias: shape (4,7) expected, (4,6) given", [&](Problem& problem) {
        problem.outputs["grad_c_bias"] = Tensor(state_type(type), {4, 6});
    });
    expect("grad_last_x: shape (2,4,5) expected, (2,4,4) given", [&](Problem& problem) {
        problem.inputs["grad_last_x"] = Tensor(state_type(type), {2, 4, 4});
    });
    expect("angles: a tensor, as grad_last_angle is given expected, NULL given", [](Problem& problem) {
        for (const char* name : {"angles", "initial_angle"})
            problem.inputs.erase(name);
        for (const char* name : {"grad_angles", "grad_initial_angle"})
            problem.outputs.erase(name);
    });
}

INSTANTIATE_TEST_SUITE_P(Devices, Mamba3Backward, testing::ValuesIn(targets({float32, float64, float16, bfloat16})),
                         [](const auto& info) { return name_of(info.param); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Mamba3Backward);

} // namespace ssm::test
