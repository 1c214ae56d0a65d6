// The convolution kernel of a diagonal system, S4D's and DSS's.
#include <cmath>
#include <complex>

#include "support/s4.h"

namespace ssm::test {

using enum Type;

SSM_POLE_TESTS(DiagonalKernel, diagonal_kernel_problems, complex64, complex128);

// The kernel is Vandermonde's sum of the discretized system.
TEST_P(DiagonalKernel, IsAVandermondeSum) {
    Context context(GetParam().device);
    for (const Problem& problem : diagonal_kernel_problems({complex128, 2, 6, 200, 5})) {
        if (problem.softmax || problem.discretization == SSM_DISCRETIZATION_EULER)
            continue;
        Problem discretize = problem;
        discretize.operation = Operation::discretize_diagonal;
        discretize.outputs = {{"a_bar", problem.inputs.at("a")}, {"b_bar", problem.inputs.at("b")}};
        const Outputs system = run(context, discretize);
        Problem sum;
        sum.operation = Operation::vandermonde_multiply;
        sum.type = complex128;
        sum.conjugate_pairs = true;
        sum.inputs["v"] = sum.inputs["x"] = problem.inputs.at("a");
        for (int64_t i = 0; i < problem.inputs.at("a").size(); ++i) {
            sum.inputs["v"].values[i] = problem.inputs.at("c").values[i] * system.at("b_bar").values[i];
            sum.inputs["x"].values[i] = std::log(system.at("a_bar").values[i]);
        }
        sum.outputs["y"] = problem.outputs.at("k");
        const Tensor k = run(context, problem).at("k"), y = run(context, sum).at("y");
        for (int64_t i = 0; i < k.size(); ++i)
            EXPECT_NEAR(k.values[i].real(), y.values[i].real(), 1e-11) << problem.describe();
    }
}

// A state of which one step forgets everything: a_bar is exactly 0.
TEST_P(DiagonalKernel, ForgetsAtZero) {
    Context context(GetParam().device);
    Problem problem = diagonal_kernel_problems({GetParam().type, 1, 1, 100, 5})[2];
    ASSERT_EQ(problem.discretization, SSM_DISCRETIZATION_EULER);
    problem.inputs["a"].at(0, 0) = -4;
    problem.inputs["dt"].at(0) = 0.25;
    const Tensor k = run(context, problem).at("k");
    EXPECT_NE(k.at(0, 0), Number(0));
    for (int64_t l = 1; l < 100; ++l)
        EXPECT_EQ(k.at(0, l), Number(0)) << l;
}

} // namespace ssm::test
