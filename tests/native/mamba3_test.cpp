// mamba3: what all sequence operations must show, and its own: its equality with ssd where the step before counts for
// nothing and nothing turns, sequences cut and packed with four states, large heads.
#include <cmath>

#include "support/mamba3.h"
#include "support/sequence_tests.h"

namespace ssm::test {

using enum Type;

namespace {

constexpr Operation operation = Operation::mamba3;

void compare(Context& context, const Problem& problem, const std::string& note = "") {
    expect_near(run(context, problem), reference(problem), problem.describe() + " " + note);
}

class Mamba3 : public testing::TestWithParam<Target> {};

} // namespace

SSM_SEQUENCE_TEST(Mamba3, operation, MatchesAtEveryLength, matches_at_every_length)
SSM_SEQUENCE_TEST(Mamba3, operation, MatchesAcrossTiles, matches_across_tiles)
SSM_SEQUENCE_TEST(Mamba3, operation, MatchesAtEveryWidth, matches_at_every_width)
SSM_SEQUENCE_TEST(Mamba3, operation, MatchesInOneLongRow, matches_in_one_long_row)
SSM_SEQUENCE_TEST(Mamba3, operation, MatchesInEveryView, matches_in_every_view)
SSM_SEQUENCE_TEST(Mamba3, operation, MatchesWithBroadcastInputs, matches_with_broadcast_inputs)
SSM_SEQUENCE_TEST(Mamba3, operation, MatchesWhenPacked, matches_when_packed)
SSM_SEQUENCE_TEST(Mamba3, operation, AcceptsEmptyTensors, accepts_empty_tensors)
SSM_SEQUENCE_TEST(Mamba3, operation, TenRunsAreBitEqual, ten_runs_are_bit_equal)
SSM_SEQUENCE_TEST(Mamba3, operation, VariationsAreBitEqual, variations_are_bit_equal)
SSM_SEQUENCE_TEST(Mamba3, operation, AlignmentIsBitEqual, alignment_is_bit_equal)
SSM_SEQUENCE_TEST(Mamba3, operation, ContextsAreIndependent, contexts_are_independent)
SSM_SEQUENCE_TEST(Mamba3, operation, GraphReplaysTheCall, graph_replays_the_call)
SSM_SEQUENCE_TEST(Mamba3, operation, WorkspaceIsWhatTheQuerySays, workspace_is_what_the_query_says)
SSM_SEQUENCE_TEST(Mamba3, operation, SteadyStateAllocatesNothing, steady_state_allocates_nothing)

// What the mutations run: a few seconds.
TEST_P(Mamba3, Quick) {
    const Type type = GetParam().type;
    const bool slow = GetParam().device.is_slow();
    size_t turn = 0;
    for (const Variation& variation : variations(GetParam().device))
        for (const int64_t tile : {0, 16, 70}) {
            Context context(GetParam().device);
            context.try_option("mamba3.tile", tile);
            context.try_option("ssd.path", static_cast<int64_t>(turn % 3));
            ASSERT_TRUE(variation.apply(context)) << variation.name;
            const std::string note = "tile " + std::to_string(tile) + " " + variation.name;
            for (const Size& size : {Size{type, 2, 2, 1}, Size{type, 1, 4, 200},
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
    compare(context, large_mamba3(type, 2, 1, 70, 70, 130));
}

TEST_P(Mamba3, MatchesWhereHeadsAreLarge) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    compare(context, large_mamba3(type, 2, 2, 129, 64, 128));
    compare(context, large_mamba3(type, 2, 1, 65, 130, 67));
}

// With lambda = 1 a step takes nothing of the one before; without angles and biases b and c are the caller's.
TEST_P(Mamba3, EqualsSsdWhereLambdaIsOne) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    const int64_t batch = 2, length = 150, heads = 4, channels = 9, groups = 2, states = 10;
    for (const std::vector<int64_t>& bounds : {std::vector<int64_t>{}, mamba3_bounds({0, 77, 1, 72})}) {
        Random random(3);
        const int64_t rows = bounds.empty() ? batch : static_cast<int64_t>(bounds.size()) - 1;
        const int64_t own_batch = bounds.empty() ? batch : 1;
        Problem ssd;
        ssd.operation = Operation::ssd;
        ssd.type = type;
        ssd.dt_softplus = true;
        ssd.inputs["x"] = uniform(type, {own_batch, length, heads, channels}, -1, 1, random);
        ssd.inputs["z"] = uniform(type, {own_batch, length, heads, channels}, -4, 4, random);
        ssd.inputs["dt"] = uniform(type, {own_batch, length, heads}, -5, 1, random);
        ssd.inputs["a"] = uniform(state_type(type), {heads}, -3, -0.01, random);
        for (const char* name : {"b", "c"})
            ssd.inputs[name] = uniform(type, {own_batch, length, groups, states}, -1, 1, random);
        ssd.inputs["d"] = uniform(state_type(type), {heads, channels}, -1, 1, random);
        ssd.inputs["dt_bias"] = uniform(state_type(type), {heads}, -1, 1, random);
        ssd.inputs["initial_state"] = uniform(state_type(type), {rows, heads, channels, states}, -1, 1, random);
        if (!bounds.empty()) {
            ssd.inputs["cu_seqlens"] = Tensor(int64, {rows + 1});
            std::copy(bounds.begin(), bounds.end(), ssd.inputs["cu_seqlens"].values.begin());
        }
        ssd.outputs["y"] = ssd.inputs.at("x");
        ssd.outputs["last_state"] = ssd.inputs.at("initial_state");
        Problem problem = ssd;
        problem.operation = operation;
        problem.inputs["trap"] = Tensor(type, {own_batch, length, heads});
        for (Number& value : problem.inputs["trap"].values)
            value = std::numeric_limits<double>::infinity();
        Problem turning = problem;
        turning.inputs["angles"] = Tensor(type, {own_batch, length, 1, 5}); // of zero
        const Reference limits = reference(ssd), own_limits = reference(turning);
        for (const Problem& equal : {problem, turning}) {
            const Outputs outputs = run(context, equal), expected = run(context, ssd);
            // Both are off from the truth by their own limits.
            expect_near(outputs, own_limits, equal.describe());
            for (const auto& [name, value] : outputs)
                for (int64_t i = 0; i < value.size(); ++i)
                    ASSERT_LE(std::abs(value.values[i] - expected.at(name).values[i]),
                              limits.at(name).limit[i] + own_limits.at(name).limit[i])
                        << name << " " << i << " of " << equal.describe();
        }
    }
}

TEST_P(Mamba3, SplitEqualsOneCall) {
    const Type type = GetParam().type;
    const bool slow = GetParam().device.is_slow();
    Context context(GetParam().device);
    const int64_t length = 200;
    for (const Problem& whole : problems(operation, {type, 2, 2, length})) {
        if (!whole.outputs.count("last_state"))
            continue;
        const Reference limits = reference(whole);
        const Outputs expected = run(context, whole);
        for (const int64_t cut : slow ? std::vector<int64_t>{65} : std::vector<int64_t>{0, 1, 63, 64, 130, 199, length}) {
            Problem first = slice_mamba3(whole, 0, cut), second = slice_mamba3(whole, cut, length);
            const Outputs before = run(context, first);
            for (const auto& [name, tensor] : before)
                if (name != "y")
                    second.inputs["initial_" + name.substr(5)] = tensor;
            Outputs joined = run(context, second);
            joined["y"] = concatenate({before.at("y"), joined.at("y")}, 1);
            expect_agree(joined, expected, limits, whole.describe() + " cut at " + std::to_string(cut));
        }
    }
}

TEST_P(Mamba3, PackedEqualsSeparate) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    const std::vector<int64_t> bounds = mamba3_bounds({0, 3, 64, 0, 131, 65, 1});
    for (const Problem& packed : problems(operation, {type, 1, 2, bounds.back(), bounds})) {
        std::map<std::string, std::vector<Tensor>> parts;
        for (size_t s = 0; s + 1 < bounds.size(); ++s)
            for (const auto& [name, tensor] : run(context, sequence_of_mamba3(packed, s)))
                parts[name].push_back(tensor);
        Outputs joined;
        for (const auto& [name, tensors] : parts)
            joined[name] = concatenate(tensors, name == "y" ? 1 : 0);
        expect_agree(run(context, packed), joined, reference(packed), packed.describe());
    }
}

// Large steps turn by many whole turns, and decays leave nothing.
TEST_P(Mamba3, HoldsAtTheEnds) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    const double steps[] = {-80, -40, -20, -10, -1, 0, 1, 2, 3, 5};
    for (const double rate : {-1e6, -30.0, 0.0}) {
        Problem problem = problems(operation, {type, 1, 2, 60})[0];
        problem.inputs.erase("dt_bias");
        for (int64_t i = 0; i < problem.inputs["dt"].size(); ++i)
            problem.inputs["dt"].values[i] = rounded(type, steps[i % 10]);
        for (int64_t i = 0; i < problem.inputs["trap"].size(); ++i)
            problem.inputs["trap"].values[i] = rounded(type, i % 3 ? -90 : 90);
        for (Number& value : problem.inputs["a"].values)
            value = rounded(state_type(type), rate);
        for (Number& value : problem.inputs["angles"].values)
            value = rounded(type, value.real() * 10);
        if (type == float16) // sums grow beyond the type's largest number
            for (const char* name : {"x", "initial_state", "initial_x"})
                for (Number& value : problem.inputs[name].values)
                    value = rounded(problem.inputs[name].type, value / 256.0);
        compare(context, problem);
    }
}

TEST_P(Mamba3, RefusesWrongArguments) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    const auto expect = [&](const char* sentence, const auto& change) {
        Problem problem = problems(operation, {type, 2, 4, 9})[2];
        change(problem);
        Call call(context, problem);
        EXPECT_EQ(call.run(), SSM_ERROR_INVALID_ARGUMENT);
        EXPECT_EQ(std::string(ssm_last_error()), sentence);
    };
    expect("angles: at most 3 angles, half of the states expected, 4 given", [&](Problem& problem) {
        problem.inputs["angles"] = Tensor(type, {2, 9, 4, 4});
    });
    expect("angles: a number of groups that divides the 4 heads expected, 3 given", [&](Problem& problem) {
        problem.inputs["angles"] = Tensor(type, {2, 9, 3, 3});
    });
    expect("angles: a tensor, as initial_angle is given expected, NULL given",
           [](Problem& problem) { problem.inputs.erase("angles"); });
    expect("initial_x: a tensor, as initial_b is given expected, NULL given",
           [](Problem& problem) { problem.inputs.erase("initial_x"); });
    expect("initial_b: a tensor, as initial_x is given expected, NULL given",
           [](Problem& problem) { problem.inputs.erase("initial_b"); });
    expect("trap: shape (2,9,4) expected, (2,9,5) given", [&](Problem& problem) {
        problem.inputs["trap"] = Tensor(type, {2, 9, 5});
    });
    expect("a: shape (2,9,4) expected, (2,9) given", [&](Problem& problem) {
        problem.inputs["a"] = Tensor(state_type(type), {2, 9});
    });
    expect("last_b: shape (2,4,7) expected, (2,4,6) given", [&](Problem& problem) {
        problem.outputs["last_b"] = Tensor(state_type(type), {2, 4, 6});
    });
}

INSTANTIATE_TEST_SUITE_P(Devices, Mamba3, testing::ValuesIn(targets({float32, float64, float16, bfloat16})),
                         [](const auto& info) { return name_of(info.param); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Mamba3);

} // namespace ssm::test
