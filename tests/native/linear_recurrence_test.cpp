// linear_recurrence: the tests of all sequence operations, and its own.
#include <cmath>

#include "support/sequence_tests.h"

namespace ssm::test {

using enum Type;

SSM_SEQUENCE_TESTS(LinearRecurrence, Operation::linear_recurrence, float32, float64, complex64, complex128, float16,
                   bfloat16);
SSM_SEQUENCE_TEST(LinearRecurrence, Operation::linear_recurrence, SplitEqualsOneCall, split_equals_one_call)
SSM_SEQUENCE_TEST(LinearRecurrence, Operation::linear_recurrence, MatchesInPlace, matches_in_place)
SSM_SEQUENCE_TEST(LinearRecurrence, Operation::linear_recurrence, ReverseEqualsFlipped, reverse_equals_flipped)

namespace {

Problem recurrence_of(const Tensor& a, const Tensor& b) {
    Problem problem;
    problem.operation = Operation::linear_recurrence;
    problem.type = a.type;
    problem.inputs["a"] = a;
    problem.inputs["b"] = b;
    problem.outputs["h"] = Tensor(a.type, a.shape);
    problem.outputs["last_state"] = Tensor(state_type(a.type), {a.shape[0], a.shape[1]});
    return problem;
}

} // namespace

// A memory of a million steps: what was lost at the start would be missing at the end.
TEST_P(LinearRecurrence, RemembersAlongARow) {
    const Type type = GetParam().type;
    if (is_half(type))
        GTEST_SKIP() << "16-bit types have nothing between 1 and 1 - 1e-3";
    Context context(GetParam().device);
    const bool slow = GetParam().device.is_slow();
    const int64_t length = slow ? 4001 : 300001;
    if (slow)
        context.try_option("linear_recurrence.tile", 64);
    Random random(6);
    Tensor a(type, {1, 2, length});
    for (Number& value : a.values) {
        const double magnitude = 1 - random.uniform(2e-7, 2e-6);
        value = rounded(type, is_complex(type) ? std::polar(magnitude, random.uniform(-0.1, 0.1)) : magnitude);
    }
    // Only the initial state and one early input put anything in.
    Tensor b(type, {1, 2, length});
    b.at(0, 0, 7) = b.at(0, 1, 7) = 1;
    for (const bool reverse : {false, true}) {
        Problem problem = recurrence_of(a, b);
        problem.reverse = reverse;
        problem.inputs["initial_state"] = uniform(type, {1, 2}, 1, 2, random);
        expect_near(run(context, problem), reference(problem), problem.describe());
    }
}

// Growth: the states double until they leave the range, exactly up to there and in this row alone. Behind it they are
// infinite or NaN: where a product of a has overflowed, a parallel scan multiplies infinity by a state of zero.
TEST_P(LinearRecurrence, OverflowStaysInItsRow) {
    const Type type = GetParam().type;
    if (is_complex(type))
        GTEST_SKIP() << "infinite complex products have more than one legal answer";
    Context context(GetParam().device);
    const int64_t length = 1200;
    Tensor a(type, {1, 3, length}), b(type, {1, 3, length});
    for (int64_t t = 0; t < length; ++t) {
        a.at(0, 0, t) = a.at(0, 2, t) = 0.5;
        a.at(0, 1, t) = 2;
        for (int channel = 0; channel < 3; ++channel)
            b.at(0, channel, t) = 1;
    }
    const Outputs outputs = run(context, recurrence_of(a, b));
    for (int64_t t = 0; t < length; ++t) {
        const double growing = outputs.at("h").at(0, 1, t).real();
        const double exact = std::ldexp(1.0, static_cast<int>(std::min<int64_t>(t + 1, 1023))) - 1;
        if (exact < largest(type) / 2) {
            EXPECT_NEAR(growing, exact, exact * 4 * roundoff(type)) << t;
        } else if (exact > largest(type) * 2) {
            EXPECT_FALSE(std::isfinite(growing)) << t;
        }
        EXPECT_LE(outputs.at("h").at(0, 0, t).real(), 2);
        EXPECT_LE(outputs.at("h").at(0, 2, t).real(), 2);
    }
}

// a = 0 forgets: what came before has no part in the result, whatever the tile.
TEST_P(LinearRecurrence, ForgetsAtZero) {
    Context context(GetParam().device);
    Random random(8);
    const Type type = GetParam().type;
    Tensor a = decays(type, {1, 3, 1500}, random);
    const Tensor b = uniform(type, {1, 3, 1500}, -1, 1, random);
    for (int64_t t = 0; t < 1500; t += 11)
        a.at(0, 1, t) = 0;
    for (const bool reverse : {false, true}) {
        Problem problem = recurrence_of(a, b);
        problem.reverse = reverse;
        const Outputs outputs = run(context, problem);
        expect_near(outputs, reference(problem), problem.describe());
        for (int64_t t = 0; t < 1500; t += 11)
            EXPECT_EQ(outputs.at("h").at(0, 1, t), b.at(0, 1, t)) << t;
    }
}

} // namespace ssm::test
