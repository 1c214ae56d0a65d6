// causal_conv1d: the tests of all sequence operations, and its own.
#include <cmath>

#include "support/sequence_tests.h"

namespace ssm::test {

using enum Type;

SSM_SEQUENCE_TESTS(CausalConv1d, Operation::causal_conv1d, float32, float64, float16, bfloat16);
SSM_SEQUENCE_TEST(CausalConv1d, Operation::causal_conv1d, SplitEqualsOneCall, split_equals_one_call)

namespace {

Problem of_width(Type type, int64_t width, int64_t channels, int64_t length) {
    Random random(static_cast<uint64_t>(width));
    Problem problem;
    problem.operation = Operation::causal_conv1d;
    problem.type = type;
    problem.silu = width % 2 == 0;
    problem.inputs["x"] = uniform(type, {2, channels, length}, -1, 1, random);
    problem.inputs["weight"] = uniform(state_type(type), {channels, width}, -1, 1, random);
    problem.inputs["bias"] = uniform(state_type(type), {channels}, -1, 1, random);
    problem.inputs["initial_state"] = uniform(state_type(type), {2, channels, width - 1}, -1, 1, random);
    problem.outputs["y"] = Tensor(type, {2, channels, length});
    problem.outputs["last_state"] = problem.inputs["initial_state"];
    return problem;
}

} // namespace

TEST_P(CausalConv1d, MatchesAtEveryFilterWidth) {
    Context context(GetParam().device);
    const std::vector<int64_t> fewer{1, 2, 3, 4, 5, 16, 17, 65, 256};
    const std::vector<int64_t> all{1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 128, 255, 256};
    for (const int64_t width : GetParam().device.is_slow() ? fewer : all)
        for (const int64_t length : {5, 70}) {
            Problem problem = of_width(GetParam().type, width, 9, length);
            const Reference expected = reference(problem);
            for (const View view : {View::compact, View::channel_contiguous}) {
                problem.views["x"] = problem.views["y"] = view;
                expect_near(run(context, problem), expected, problem.describe());
            }
        }
}

// A sequence shorter than the state: the end of the initial state moves up.
TEST_P(CausalConv1d, ShortSequencesKeepTheEndOfTheState) {
    Context context(GetParam().device);
    Problem problem = of_width(GetParam().type, 6, 3, 2);
    const Outputs outputs = run(context, problem);
    for (int64_t row = 0; row < 2; ++row)
        for (int64_t channel = 0; channel < 3; ++channel)
            for (int64_t k = 0; k < 5; ++k)
                EXPECT_EQ(outputs.at("last_state").at(row, channel, k),
                          k < 3 ? problem.inputs["initial_state"].at(row, channel, k + 2)
                                : problem.inputs["x"].at(row, channel, k - 3));
}

// silu far out: it tends to its argument and to zero, never to NaN.
TEST_P(CausalConv1d, ActivationHoldsAtTheEnds) {
    Context context(GetParam().device);
    Problem problem = of_width(GetParam().type, 4, 3, 40);
    const double far[] = {-1000, -90, -20, 0, 20, 90, 1000};
    for (int64_t i = 0; i < problem.inputs["x"].size(); ++i)
        problem.inputs["x"].values[i] = rounded(GetParam().type, far[i / 4 % 7]);
    expect_near(run(context, problem), reference(problem), problem.describe());
}

// Every layout, tile and kernel is the same chain of sums.
TEST_P(CausalConv1d, LayoutsTilesAndPathsAreBitEqual) {
    for (const int64_t width : {2, 3, 4, 7}) {
        Problem problem = of_width(GetParam().type, width, 33, 150);
        Outputs first;
        for (const View view : {View::compact, View::channel_contiguous, View::offset, View::channel_padded})
            for (const int64_t tile : {0, 1, 24})
                for (const int64_t path : {0, 1}) {
                    Context context(GetParam().device);
                    if (!context.try_option("causal_conv1d.path", path) && path != 0)
                        continue;
                    ASSERT_TRUE(context.try_option("causal_conv1d.tile", tile));
                    problem.views["x"] = problem.views["y"] = view;
                    const Outputs outputs = run(context, problem);
                    if (first.empty())
                        first = outputs;
                    expect_identical(outputs, first, problem.describe());
                }
    }
}

TEST_P(CausalConv1d, RefusesOtherWidths) {
    Context context(GetParam().device);
    for (const int64_t width : {0, 257}) {
        Problem problem = of_width(GetParam().type, 2, 3, 5);
        problem.inputs.erase("initial_state");
        problem.outputs.erase("last_state");
        problem.inputs["weight"] = Tensor(state_type(GetParam().type), {3, width});
        Call call(context, problem);
        EXPECT_EQ(call.run(), SSM_ERROR_INVALID_ARGUMENT);
        EXPECT_NE(std::string(ssm_last_error()).find("weight: a width of 1 to 256"), std::string::npos) << ssm_last_error();
    }
}

} // namespace ssm::test
