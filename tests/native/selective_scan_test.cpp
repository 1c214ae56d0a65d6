// selective_scan: the tests of all sequence operations, and its own.
#include <cmath>

#include "support/sequence_tests.h"

namespace ssm::test {

using enum Type;

SSM_SEQUENCE_TESTS(SelectiveScan, Operation::selective_scan, float32, float64, float16, bfloat16);
SSM_SEQUENCE_TEST(SelectiveScan, Operation::selective_scan, SplitEqualsOneCall, split_equals_one_call)

// Any number of states and groups, with channels that do and do not fill a vector.
TEST_P(SelectiveScan, MatchesAtEveryNumberOfStatesAndGroups) {
    Context context(GetParam().device);
    const bool slow = GetParam().device.is_slow();
    const Type type = GetParam().type;
    Random random(21);
    for (const int64_t states :
         slow ? std::vector<int64_t>{0, 1, 8, 17} : std::vector<int64_t>{0, 1, 2, 3, 7, 8, 9, 16, 17, 33, 64, 130, 256})
        for (const int64_t groups : {1, 3, 6}) {
            const int64_t channels = 6, length = 45;
            Problem problem;
            problem.operation = Operation::selective_scan;
            problem.type = type;
            problem.dt_softplus = states % 2 == 0;
            problem.inputs["u"] = uniform(type, {2, channels, length}, -1, 1, random);
            problem.inputs["dt"] = uniform(type, {2, channels, length}, 0.001, 0.3, random);
            problem.inputs["a"] = uniform(state_type(type), {channels, states}, -3, -0.01, random);
            problem.inputs["b"] = uniform(type, {2, groups, states, length}, -1, 1, random);
            problem.inputs["c"] = uniform(type, {2, groups, states, length}, -1, 1, random);
            problem.inputs["initial_state"] = uniform(state_type(type), {2, channels, states}, -1, 1, random);
            problem.outputs["y"] = Tensor(type, {2, channels, length});
            problem.outputs["last_state"] = Tensor(state_type(type), {2, channels, states});
            const Reference expected = reference(problem);
            for (const View view : {View::compact, View::channel_contiguous}) {
                for (const char* name : {"u", "dt", "b", "c", "y"})
                    problem.views[name] = view;
                expect_near(run(context, problem), expected, problem.describe());
            }
        }
}

// softplus far out: nothing overflows, small steps stay exact, large ones are the step itself.
TEST_P(SelectiveScan, SoftplusHoldsAtTheEnds) {
    Context context(GetParam().device);
    const Type type = GetParam().type;
    const double steps[] = {-80, -40, -20, -10, -1, 0, 1, 10, 19, 21, 40, 60};
    const int64_t length = std::size(steps);
    Problem problem;
    problem.operation = Operation::selective_scan;
    problem.type = type;
    problem.dt_softplus = true;
    Tensor ones(type, {1, 1, length}), dt = ones, b(type, {1, 1, 1, length}), a(state_type(type), {1, 1});
    for (int64_t t = 0; t < length; ++t) {
        ones.values[t] = b.values[t] = 1;
        dt.values[t] = steps[t];
    }
    // A decay that forgets everything: y is the step itself.
    a.values[0] = -1e6;
    problem.inputs = {{"u", ones}, {"dt", dt}, {"a", a}, {"b", b}, {"c", b}};
    problem.outputs["y"] = Tensor(type, {1, 1, length});
    const Outputs outputs = run(context, problem);
    for (int64_t t = 0; t < length; ++t) {
        const double exact = std::log1p(std::exp(steps[t]));
        const bool remembers = t > 0 && exact * 1e6 < 40;
        if (!remembers && exact > underflow(type)) {
            EXPECT_NEAR(outputs.at("y").values[t].real(), exact, exact * (8 * roundoff(state_type(type)) + roundoff(type)))
                << "dt " << steps[t];
        }
    }
    expect_near(outputs, reference(problem), problem.describe());
}

// The gate far out: silu tends to z and to zero, never to NaN.
TEST_P(SelectiveScan, GateHoldsAtTheEnds) {
    Context context(GetParam().device);
    const Type type = GetParam().type;
    std::vector<Problem> all = problems(Operation::selective_scan, {type, 1, 2, 40});
    Problem problem = all[0];
    const double gates[] = {-1000, -90, -20, 0, 20, 90, 1000};
    for (int64_t i = 0; i < problem.inputs["z"].size(); ++i)
        problem.inputs["z"].values[i] = rounded(type, gates[i % 7]);
    expect_near(run(context, problem), reference(problem), problem.describe());
}

// Channel i reads group i / (D/G), not i mod G: with b of one group set to zero only its channels fall silent.
TEST_P(SelectiveScan, GroupsAreContiguousChannels) {
    Context context(GetParam().device);
    const Type type = GetParam().type;
    Problem problem = problems(Operation::selective_scan, {type, 1, 6, 33})[2];
    ASSERT_EQ(problem.inputs.at("b").shape[1], 2);
    problem.inputs.erase("d");
    problem.inputs.erase("initial_state");
    Tensor& b = problem.inputs["b"];
    for (int64_t n = 0; n < b.shape[2]; ++n)
        for (int64_t t = 0; t < b.shape[3]; ++t)
            b.at(0, 1, n, t) = 0;
    const Outputs outputs = run(context, problem);
    for (int64_t channel = 0; channel < 6; ++channel) {
        double sum = 0;
        for (int64_t t = 0; t < 33; ++t)
            sum += std::abs(outputs.at("y").at(0, channel, t));
        EXPECT_EQ(channel >= 3, sum == 0) << channel;
    }
}

} // namespace ssm::test
