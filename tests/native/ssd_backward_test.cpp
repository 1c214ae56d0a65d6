// ssd_backward: what all sequence operations must show, and its own: gradients against differences of the forward call,
// chunk sizes, restarts, large heads.
#include <cmath>

#include "support/sequence_tests.h"

namespace ssm::test {

using enum Type;

namespace {

constexpr Operation operation = Operation::ssd_backward;

void compare(Context& context, const Problem& problem, const std::string& note = "") {
    expect_near(run(context, problem), reference(problem), problem.describe() + " " + note);
}

std::vector<int64_t> bounds_of(const std::vector<int64_t>& lengths) {
    std::vector<int64_t> bounds{0};
    for (const int64_t length : lengths)
        bounds.push_back(bounds.back() + length);
    return bounds;
}

Problem forward_of(const Problem& backward) {
    Problem forward = backward;
    forward.operation = Operation::ssd;
    forward.inputs.erase("grad_y");
    forward.inputs.erase("grad_last_state");
    forward.outputs = {{"y", backward.inputs.at("x")}};
    if (backward.inputs.count("initial_state"))
        forward.outputs["last_state"] = backward.inputs.at("initial_state");
    return forward;
}

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

// A head larger than a tile in every direction.
Problem large(Type type, int64_t heads, int64_t groups, int64_t length, int64_t channels, int64_t states) {
    Random random(static_cast<uint64_t>(channels * 7 + states));
    Problem problem;
    problem.operation = operation;
    problem.type = type;
    problem.dt_softplus = true;
    problem.inputs["x"] = uniform(type, {1, length, heads, channels}, -1, 1, random);
    problem.inputs["z"] = uniform(type, {1, length, heads, channels}, -2, 2, random);
    problem.inputs["dt"] = uniform(type, {1, length, heads}, -5, 0, random);
    problem.inputs["a"] = uniform(state_type(type), {heads}, -2, -0.1, random);
    for (const char* name : {"b", "c"})
        problem.inputs[name] = uniform(type, {1, length, groups, states}, -1, 1, random);
    problem.inputs["d"] = uniform(state_type(type), {heads, channels}, -1, 1, random);
    problem.inputs["initial_state"] = uniform(state_type(type), {1, heads, channels, states}, -1, 1, random);
    for (const auto& [name, tensor] : problem.inputs)
        problem.outputs["grad_" + name] = tensor;
    problem.inputs["grad_y"] = uniform(type, {1, length, heads, channels}, -1, 1, random);
    problem.inputs["grad_last_state"] = problem.inputs.at("initial_state");
    return problem;
}

class SsdBackward : public testing::TestWithParam<Target> {};

} // namespace

SSM_SEQUENCE_TEST(SsdBackward, operation, MatchesAcrossTiles, matches_across_tiles)
SSM_SEQUENCE_TEST(SsdBackward, operation, MatchesAtEveryWidth, matches_at_every_width)
SSM_SEQUENCE_TEST(SsdBackward, operation, MatchesInOneLongRow, matches_in_one_long_row)
SSM_SEQUENCE_TEST(SsdBackward, operation, MatchesInEveryView, matches_in_every_view)
SSM_SEQUENCE_TEST(SsdBackward, operation, MatchesWithBroadcastInputs, matches_with_broadcast_inputs)
SSM_SEQUENCE_TEST(SsdBackward, operation, MatchesWhenPacked, matches_when_packed)
SSM_SEQUENCE_TEST(SsdBackward, operation, AcceptsEmptyTensors, accepts_empty_tensors)
SSM_SEQUENCE_TEST(SsdBackward, operation, TenRunsAreBitEqual, ten_runs_are_bit_equal)
SSM_SEQUENCE_TEST(SsdBackward, operation, VariationsAreBitEqual, variations_are_bit_equal)
SSM_SEQUENCE_TEST(SsdBackward, operation, AlignmentIsBitEqual, alignment_is_bit_equal)
SSM_SEQUENCE_TEST(SsdBackward, operation, ContextsAreIndependent, contexts_are_independent)
SSM_SEQUENCE_TEST(SsdBackward, operation, GraphReplaysTheCall, graph_replays_the_call)
SSM_SEQUENCE_TEST(SsdBackward, operation, WorkspaceIsWhatTheQuerySays, workspace_is_what_the_query_says)
SSM_SEQUENCE_TEST(SsdBackward, operation, SteadyStateAllocatesNothing, steady_state_allocates_nothing)

// What the mutations run: a few seconds.
TEST_P(SsdBackward, Quick) {
    const Type type = GetParam().type;
    const bool slow = GetParam().device.is_slow();
    size_t turn = 0;
    for (const Variation& variation : variations(GetParam().device))
        for (const int64_t tile : {0, 16}) {
            Context context(GetParam().device);
            context.try_option("ssd_backward.tile", tile);
            ASSERT_TRUE(variation.apply(context)) << variation.name;
            const std::string note = "tile " + std::to_string(tile) + " " + variation.name;
            for (const Size& size :
                 {Size{type, 2, 2, 1}, Size{type, 1, 4, 200}, Size{type, 1, 2, 202, bounds_of({0, 1, 40, 0, 130, 31, 0})}}) {
                const std::vector<Problem> all = problems(operation, size);
                for (size_t i = 0; i < (slow ? 1 : all.size()); ++i)
                    compare(context, all[(turn + i) % all.size()], note);
                ++turn;
            }
            if (HasFailure())
                return;
        }
    Context context(GetParam().device);
    compare(context, large(type, 2, 1, 70, 70, 70));
    // Heads of a task one after the other, and several tasks of a group.
    compare(context, problems(operation, {type, 2, slow ? 12 : 48, 40})[0]);
}

TEST_P(SsdBackward, MatchesAtEveryLength) {
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

TEST_P(SsdBackward, MatchesWhereHeadsAreLarge) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    compare(context, large(type, 2, 2, 129, 64, 64));
    compare(context, large(type, 2, 1, 65, 130, 100));
    compare(context, large(type, 1, 1, 33, 65, 300));
}

// Results depend on the chunk size by rounding alone.
TEST_P(SsdBackward, MatchesAtEveryChunkSize) {
    const Type type = GetParam().type;
    const bool slow = GetParam().device.is_slow();
    Context context(GetParam().device);
    size_t turn = 0;
    for (Problem problem : problems(operation, {type, 1, 2, 150})) {
        if (slow && turn++ % 3 != 0)
            continue;
        const Reference expected = reference(problem);
        for (const int64_t chunk : {1, 3, 16, 64, 256, 100000}) {
            problem.chunk_size = chunk;
            expect_near(run(context, problem), expected, problem.describe());
        }
    }
}

// A sequence cut in two: the gradient of the later part's initial state is the earlier part's grad_last_state, and the
// gradients of parameters add up.
TEST_P(SsdBackward, SplitEqualsOneCall) {
    const Type type = GetParam().type;
    const bool slow = GetParam().device.is_slow();
    Context context(GetParam().device);
    const int64_t length = 200;
    for (const Problem& whole : problems(operation, {type, 2, 2, length})) {
        if (!whole.outputs.count("grad_initial_state") || whole.outputs.size() < 4 || whole.inputs.count("seq_idx"))
            continue;
        const Reference limits = reference(whole);
        const Outputs expected = run(context, whole);
        for (const int64_t cut : slow ? std::vector<int64_t>{65} : std::vector<int64_t>{0, 1, 64, 130, 199, length}) {
            Problem first = slice_time(whole, 0, cut), second = slice_time(whole, cut, length);
            second.inputs["initial_state"] = run(context, forward_of(first)).at("last_state");
            const Outputs after = run(context, second);
            first.inputs["grad_last_state"] = after.at("grad_initial_state");
            const Outputs before = run(context, first);
            Outputs joined;
            for (const auto& [name, tensor] : expected) {
                if (name == "grad_initial_state")
                    joined[name] = before.at(name);
                else if (is_sequence(name, tensor))
                    joined[name] = concatenate({before.at(name), after.at(name)}, 1);
                else
                    joined[name] = sum_of({before.at(name), after.at(name)});
            }
            expect_agree(joined, expected, limits, whole.describe() + " cut at " + std::to_string(cut));
        }
    }
}

TEST_P(SsdBackward, PackedEqualsSeparate) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    const std::vector<int64_t> bounds = bounds_of({0, 3, 64, 0, 131, 1});
    for (const Problem& packed : problems(operation, {type, 1, 2, bounds.back(), bounds})) {
        const Outputs together = run(context, packed);
        std::map<std::string, std::vector<Tensor>> parts;
        for (size_t s = 0; s + 1 < bounds.size(); ++s) {
            Problem part = slice_time(packed, bounds[s], bounds[s + 1]);
            part.inputs.erase("cu_seqlens");
            for (auto* tensors : {&part.inputs, &part.outputs})
                for (auto& [name, tensor] : *tensors)
                    if (name.find("state") != std::string::npos)
                        tensor = row_of(tensor, static_cast<int64_t>(s));
            for (const auto& [name, tensor] : run(context, part))
                parts[name].push_back(tensor);
        }
        Outputs joined;
        for (const auto& [name, tensor] : packed.outputs)
            joined[name] = name.find("state") != std::string::npos ? concatenate(parts.at(name), 0)
                           : is_sequence(name, tensor)             ? concatenate(parts.at(name), 1)
                                                                   : sum_of(parts.at(name));
        expect_agree(together, joined, reference(packed), packed.describe());
    }
}

// softplus far out and decays that leave nothing: gradients stay numbers, and those of strong decays exact.
TEST_P(SsdBackward, HoldsAtTheEnds) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    const double steps[] = {-80, -40, -20, -10, -1, 0, 1, 10, 19, 21, 40, 60};
    for (const double rate : {-1e6, -30.0, -1e-3, 0.0}) {
        Problem problem = problems(operation, {type, 1, 2, 100})[0];
        problem.inputs.erase("dt_bias");
        for (int64_t i = 0; i < problem.inputs["dt"].size(); ++i)
            problem.inputs["dt"].values[i] = rounded(type, steps[i % 12]);
        for (Number& value : problem.inputs["a"].values)
            value = rounded(state_type(type), rate);
        if (type == float16) // sums grow beyond the type's largest number
            for (const char* name : {"x", "grad_y", "grad_last_state", "initial_state"})
                for (Number& value : problem.inputs[name].values)
                    value = rounded(problem.inputs[name].type, value / 64.0);
        compare(context, problem);
    }
}

// Differences need double precision.
class SsdGradients : public testing::TestWithParam<Target> {};
INSTANTIATE_TEST_SUITE_P(Devices, SsdGradients, testing::ValuesIn(targets({float64})),
                         [](const auto& info) { return name_of(info.param); });

TEST_P(SsdGradients, MatchDifferencesAlongDirections) {
    Context context(GetParam().device);
    Random random(11);
    for (const Size& size : {Size{float64, 2, 2, 90}, Size{float64, 1, 2, 90, {0, 0, 1, 50, 90}}})
        for (const Problem& problem : problems(operation, size)) {
            if (problem.dt_max != 0) // not differentiable at the limits
                continue;
            const Outputs gradients = run(context, problem);
            const Problem forward = forward_of(problem);
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
                const double difference = (loss(context, above, problem) - loss(context, below, problem)) / (2 * step);
                EXPECT_NEAR(difference, slope, 2e-6 * std::max(magnitude, 1.0)) << gradient << " of " << problem.describe();
            }
        }
}

TEST_P(SsdBackward, RefusesWrongArguments) {
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
    expect("grad_d: shape (4,5) expected, (4) given",
           [&](Problem& problem) { problem.outputs["grad_d"] = Tensor(state_type(type), {4}); });
    expect("grad_c: shape (2,9,2,7) expected, (2,9,2,6) given", [&](Problem& problem) {
        problem.outputs["grad_c"] = Tensor(type, {2, 9, 2, 6});
    });
    expect("grad_y: shape (2,9,4,5) expected, (2,9,4,4) given", [&](Problem& problem) {
        problem.inputs["grad_y"] = Tensor(type, {2, 9, 4, 4});
    });
}

INSTANTIATE_TEST_SUITE_P(Devices, SsdBackward, testing::ValuesIn(targets({float32, float64, float16, bfloat16})),
                         [](const auto& info) { return name_of(info.param); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(SsdBackward);

} // namespace ssm::test
