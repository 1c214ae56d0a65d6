// associative_scan: the tests of all sequence operations, and its own.
#include <cmath>

#include "support/sequence_tests.h"

namespace ssm::test {

using enum Type;

SSM_SEQUENCE_TESTS(AssociativeScan, Operation::associative_scan, float32, float64, complex64, complex128, float16, bfloat16);
SSM_SEQUENCE_TEST(AssociativeScan, Operation::associative_scan, SplitEqualsOneCall, split_equals_one_call)
SSM_SEQUENCE_TEST(AssociativeScan, Operation::associative_scan, MatchesInPlace, matches_in_place)
SSM_SEQUENCE_TEST(AssociativeScan, Operation::associative_scan, ReverseEqualsFlipped, reverse_equals_flipped)

namespace {

Problem scan_of(const Tensor& x, ssm_combine combine) {
    Problem problem;
    problem.operation = Operation::associative_scan;
    problem.type = x.type;
    problem.combine = combine;
    problem.inputs["x"] = x;
    problem.outputs["y"] = Tensor(x.type, x.shape);
    problem.outputs["last_state"] = Tensor(state_type(x.type), {x.shape[0], x.shape[1]});
    return problem;
}

} // namespace

// Whole numbers leave no rounding to excuse anything: every prefix is exact.
TEST_P(AssociativeScan, CountsExactly) {
    Context context(GetParam().device);
    const int64_t length = GetParam().type == bfloat16 ? 250 : 2000;
    Tensor ones(GetParam().type, {1, 2, length});
    for (Number& value : ones.values)
        value = 1;
    for (const bool reverse : {false, true})
        for (const bool exclusive : {false, true}) {
            Problem problem = scan_of(ones, SSM_COMBINE_ADD);
            problem.reverse = reverse;
            problem.exclusive = exclusive;
            const Outputs outputs = run(context, problem);
            for (int64_t channel = 0; channel < 2; ++channel) {
                for (int64_t t = 0; t < length; ++t) {
                    const int64_t before = reverse ? length - 1 - t : t;
                    ASSERT_EQ(outputs.at("y").at(0, channel, t), Number(static_cast<double>(before + !exclusive))) << t;
                }
                EXPECT_EQ(outputs.at("last_state").at(0, channel), Number(static_cast<double>(length)));
            }
        }
}

// Identities: where all numbers are on one side of zero, a wrong start would show.
TEST_P(AssociativeScan, MaximumAndMinimumStartFromTheirIdentity) {
    if (is_complex(GetParam().type))
        GTEST_SKIP() << "real types only";
    Context context(GetParam().device);
    Random random(3);
    for (const int64_t length : {1, 40, 1500}) {
        Problem maximum = scan_of(uniform(GetParam().type, {2, 3, length}, -9, -1, random), SSM_COMBINE_MAXIMUM);
        expect_near(run(context, maximum), reference(maximum), maximum.describe());
        Problem minimum = scan_of(uniform(GetParam().type, {2, 3, length}, 1, 9, random), SSM_COMBINE_MINIMUM);
        expect_near(run(context, minimum), reference(minimum), minimum.describe());
        maximum.inputs["x"].at(1, 1, length / 2) = -std::numeric_limits<double>::infinity();
        expect_near(run(context, maximum), reference(maximum), maximum.describe());
    }
}

TEST_P(AssociativeScan, RefusesWhatHasNoMeaning) {
    Context context(GetParam().device);
    Random random(4);
    const Tensor x = uniform(GetParam().type, {1, 2, 5}, -1, 1, random);
    Problem exclusive = scan_of(x, SSM_COMBINE_MAXIMUM);
    exclusive.exclusive = true;
    EXPECT_NE(Call(context, exclusive).run(), SSM_SUCCESS);
    Problem unknown = scan_of(x, static_cast<ssm_combine>(4));
    EXPECT_EQ(Call(context, unknown).run(), SSM_ERROR_INVALID_ARGUMENT);
    if (is_complex(GetParam().type)) {
        EXPECT_NE(Call(context, scan_of(x, SSM_COMBINE_MINIMUM)).run(), SSM_SUCCESS);
    }
}

} // namespace ssm::test
