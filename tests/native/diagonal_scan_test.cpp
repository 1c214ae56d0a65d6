// The state scan of a diagonal system, S5's.
#include <cmath>
#include <complex>

#include "support/s4.h"

namespace ssm::test {

using enum Type;

SSM_POLE_TESTS(DiagonalScan, diagonal_scan_problems, float32, float64, complex64, complex128);

TEST_P(DiagonalScan, MatchesInPlace) {
    Context context(GetParam().device);
    for (const Problem& plain : diagonal_scan_problems({GetParam().type, 2, 5, 150, 3})) {
        Problem problem = plain;
        problem.inplace = "bu";
        expect_identical(run(context, problem), run(context, plain), problem.describe());
    }
}

// The other direction is a call of its own.
TEST_P(DiagonalScan, BothDirections) {
    Context context(GetParam().device);
    for (const Problem& both : diagonal_scan_problems({GetParam().type, 2, 5, 150, 3})) {
        if (!both.outputs.count("x_reverse"))
            continue;
        Problem other = both;
        other.reverse = !both.reverse;
        other.inputs.erase("initial_state");
        other.outputs = {{"x", both.outputs.at("x")}};
        expect_identical({{"x", run(context, both).at("x_reverse")}}, run(context, other), both.describe());
    }
}

} // namespace ssm::test
