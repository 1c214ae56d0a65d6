// Wrong arguments of the operations over rows of poles and diagonal systems: a sentence that names the argument, what was
// expected and what came, and nothing written. Values are looked at because the context checks.
#include <cmath>
#include <functional>
#include <limits>

#include "support/s4.h"

namespace ssm::test {

using enum Type;

class DiagonalBadInput : public testing::TestWithParam<Target> {
  protected:
    Context context{GetParam().device};

    void SetUp() override { SSM_CHECK(ssm_context_set_checking(context, 1)); }

    void expect(const Problem& right, const std::string& sentence, const std::function<void(Problem&)>& change) {
        Problem problem = right;
        change(problem);
        Call call(context, problem);
        EXPECT_EQ(call.run(), SSM_ERROR_INVALID_ARGUMENT) << problem.describe();
        EXPECT_EQ(std::string(ssm_last_error()), sentence);
        call.check_nothing_written();
    }
    static PoleSize size() { return {complex64, 2, 4, 9, 1}; }

    // What every operation of a system checks.
    void expect_system(const Problem& right, bool has_rows) {
        const std::string index = has_rows ? "1,3" : "3";
        expect(right, "a[" + index + "]: a finite number expected, nan given", [](Problem& problem) {
            problem.inputs["a"].values.back() = {0, std::nan("")};
        });
        const std::pair<double, const char*> bad[] = {
            {0, "0"}, {-0.5, "-0.5"}, {std::nan(""), "nan"}, {std::numeric_limits<double>::infinity(), "inf"}};
        for (const auto& [value, text] : bad)
            expect(right, std::string("dt[1]: a positive number expected, ") + text + " given",
                   [value = value](Problem& problem) { problem.inputs["dt"].values[1] = value; });
        expect(right, "discretization: an enum ssm_discretization expected, 7 given",
               [](Problem& problem) { problem.discretization = static_cast<ssm_discretization>(7); });
        expect(right, "alpha: 0 but for the generalized bilinear discretization expected, 0.500000 given",
               [](Problem& problem) { problem.alpha = 0.5; });
        expect(right, "alpha: a number from 0 to 1 expected, 1.500000 given", [](Problem& problem) {
            problem.discretization = SSM_DISCRETIZATION_GENERALIZED_BILINEAR;
            problem.alpha = 1.5;
        });
    }
};
INSTANTIATE_TEST_SUITE_P(Devices, DiagonalBadInput, testing::ValuesIn(targets({complex64})),
                         [](const auto& info) { return name_of(info.param); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DiagonalBadInput);

TEST_P(DiagonalBadInput, SumsOverPoles) {
    for (const Problem& right : {cauchy_multiply_problems(size())[0], cauchy_multiply_backward_problems(size())[1]}) {
        expect(right, "w: shape (2,4) expected, (2,5) given", [](Problem& problem) {
            problem.inputs["w"] = Tensor(complex64, {2, 5});
        });
        expect(right, "z: complex64 expected, complex128 given",
               [](Problem& problem) { problem.inputs["z"].type = complex128; });
        expect(right, "v: complex64 or complex128 expected, float32 given",
               [](Problem& problem) { problem.inputs["v"].type = float32; });
    }
}

TEST_P(DiagonalBadInput, SumsOfExponentials) {
    const Problem right = vandermonde_multiply_problems(size())[1];
    expect(right, "x: shape (2,4) expected, (4,2) given", [](Problem& problem) {
        problem.inputs["x"] = Tensor(complex64, {4, 2});
    });
    expect(right, "y: float32 expected, complex64 given", [](Problem& problem) { problem.outputs["y"].type = complex64; });
    expect(right, "y: complex64 expected, float32 given", [](Problem& problem) { problem.conjugate_pairs = false; });
    const Problem gradients = vandermonde_multiply_backward_problems(size())[1];
    expect(gradients, "grad_x: shape (2,4) expected, (2,3) given", [](Problem& problem) {
        problem.outputs["grad_x"] = Tensor(complex64, {2, 3});
    });
}

TEST_P(DiagonalBadInput, Systems) {
    const Problem discretize = discretize_diagonal_problems(size())[0];
    expect_system(discretize, true);
    expect(discretize, "b: a tensor, as b_bar is wanted expected, NULL given",
           [](Problem& problem) { problem.inputs.erase("b"); });
    for (const Problem& right : {diagonal_kernel_problems(size())[0], diagonal_kernel_backward_problems(size())[0],
                                 diagonal_ssm_problems(size())[0], diagonal_ssm_backward_problems(size())[0]}) {
        expect_system(right, true);
        expect(right, "c: shape (2,4) expected, (2,3) given", [](Problem& problem) {
            problem.inputs["c"] = Tensor(complex64, {2, 3});
        });
        expect(right, "dt: float32 expected, float64 given", [](Problem& problem) { problem.inputs["dt"].type = float64; });
    }
    const Problem recurrence = diagonal_ssm_problems(size())[0];
    expect(recurrence, "u: shape (2,2,9) expected, (2,3,9) given", [](Problem& problem) {
        problem.inputs["u"] = problem.outputs["y"] = Tensor(float32, {2, 3, 9});
    });
    expect(recurrence, "initial_state: shape (2,2,4) expected, (1,2,4) given", [](Problem& problem) {
        problem.inputs["initial_state"] = Tensor(complex64, {1, 2, 4});
    });
}

TEST_P(DiagonalBadInput, Scan) {
    const Problem right = diagonal_scan_problems(size())[1];
    expect_system(right, false);
    expect(right, "interval: shape (2,9) expected, (9,2) given", [](Problem& problem) {
        problem.inputs["interval"] = Tensor(float32, {9, 2});
    });
    expect(right, "a: shape (4) expected, (5) given",
           [](Problem& problem) { problem.inputs["a"] = Tensor(complex64, {5}); });
}

} // namespace ssm::test
