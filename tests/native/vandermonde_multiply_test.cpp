// Sums of exponentials.
#include <cmath>
#include <complex>
#include <numbers>

#include "support/s4.h"

namespace ssm::test {

using enum Type;

SSM_POLE_TESTS(VandermondeMultiply, vandermonde_multiply_problems, complex64, complex128);

// A million steps with phases up to half a turn each, either way: float32 tables of double phases stay within 1e-4 of the
// largest output, where phases in float32 are off by tenths of a radian.
TEST_P(VandermondeMultiply, KeepsPhasesOverAMillionSteps) {
    Context context(GetParam().device);
    constexpr int64_t length = 1000000, states = 4;
    constexpr double phases[] = {std::numbers::pi, -std::numbers::pi, 2.4, -0.7};
    Problem problem = vandermonde_multiply_problems({GetParam().type, 1, states, 1, 3})[1];
    for (int64_t n = 0; n < states; ++n)
        problem.inputs["x"].at(0, n) = rounded(GetParam().type, Number(-1e-7, phases[n]));
    problem.outputs["y"] = Tensor(real_of(GetParam().type), {1, length});
    const Tensor y = run(context, problem).at("y");
    double most = 0, largest = 0;
    for (int64_t l = 0; l < length; l += 997) {
        std::complex<long double> sum = 0;
        for (int64_t n = 0; n < states; ++n) {
            const Number v = problem.inputs["v"].at(0, n), x = problem.inputs["x"].at(0, n);
            sum += std::complex<long double>(v) * std::exp(static_cast<long double>(l) * std::complex<long double>(x));
        }
        const double expected = static_cast<double>(2 * sum.real());
        largest = std::max(largest, std::abs(expected));
        most = std::max(most, std::abs(expected - y.at(0, l).real()));
    }
    EXPECT_LT(most, (GetParam().type == complex64 ? 1e-5 : 1e-8) * largest);
}

} // namespace ssm::test
