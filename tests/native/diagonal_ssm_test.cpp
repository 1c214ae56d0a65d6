// A diagonal system as a recurrence.
#include <cmath>
#include <complex>

#include "support/s4.h"

namespace ssm::test {

using enum Type;

SSM_POLE_TESTS(DiagonalSsm, diagonal_ssm_problems, complex64, complex128);

// What the recurrence gives is the convolution with the kernel, for every discretization.
TEST_P(DiagonalSsm, IsTheConvolution) {
    Context context(GetParam().device);
    for (const Problem& recurrence : diagonal_ssm_problems({complex128, 2, 5, 120, 3})) {
        Problem problem = recurrence;
        problem.type = complex128;
        for (const char* name : {"initial_state", "cu_seqlens", "d"})
            problem.inputs.erase(name);
        problem.outputs.erase("last_state");
        Problem kernel = problem;
        kernel.operation = Operation::diagonal_kernel;
        kernel.outputs = {{"k", Tensor(float64, {2, 120})}};
        const Tensor y = run(context, problem).at("y"), k = run(context, kernel).at("k");
        const Tensor& u = problem.inputs.at("u");
        for (int64_t batch = 0; batch < u.shape[0]; ++batch)
            for (int64_t head = 0; head < 2; ++head)
                for (int64_t t = 0; t < 120; ++t) {
                    double sum = 0;
                    for (int64_t j = 0; j <= t; ++j)
                        sum += k.at(head, j).real() * u.at(batch, head, t - j).real();
                    EXPECT_NEAR(y.at(batch, head, t).real(), sum, 1e-11) << problem.describe();
                }
    }
}

// Two calls with the state carried are one call.
TEST_P(DiagonalSsm, SplitWithTheStateCarried) {
    Context context(GetParam().device);
    for (const Problem& whole : diagonal_ssm_problems({GetParam().type, 2, 9, 150, 3})) {
        if (!whole.inputs.count("initial_state") || whole.inputs.count("cu_seqlens"))
            continue;
        const Outputs expected = run(context, whole);
        for (const int64_t cut : {1, 63, 64, 149}) {
            const auto part = [&](int64_t from, int64_t to) {
                Problem problem = whole;
                problem.inputs["u"] = slice_time(whole.inputs.at("u"), from, to);
                problem.outputs["y"] = problem.inputs["u"];
                return problem;
            };
            const Outputs first = run(context, part(0, cut));
            Problem rest = part(cut, 150);
            rest.inputs["initial_state"] = first.at("last_state");
            Outputs second = run(context, rest);
            second["y"] = concatenate({first.at("y"), second.at("y")}, 2);
            expect_agree(second, expected, reference(whole), whole.describe());
        }
    }
}

TEST_P(DiagonalSsm, MatchesInPlace) {
    Context context(GetParam().device);
    for (const int64_t states : {5, 300})
        for (const Problem& plain : diagonal_ssm_problems({GetParam().type, 2, states, 150, 3})) {
            Problem problem = plain;
            problem.inplace = "u";
            expect_identical(run(context, problem), run(context, plain), problem.describe());
        }
}

// Packed sequences are what they are by themselves.
TEST_P(DiagonalSsm, PackedIsSeparate) {
    Context context(GetParam().device);
    for (const Problem& packed : diagonal_ssm_problems({GetParam().type, 2, 5, 150, 3})) {
        if (!packed.inputs.count("cu_seqlens"))
            continue;
        const Outputs expected = run(context, packed);
        const std::vector<int64_t> bounds = packed.cu_seqlens();
        for (size_t s = 0; s + 1 < bounds.size(); ++s) {
            Problem alone = packed;
            alone.inputs.erase("cu_seqlens");
            alone.inputs["u"] = slice_time(packed.inputs.at("u"), bounds[s], bounds[s + 1]);
            alone.inputs["initial_state"] = row_of(packed.inputs.at("initial_state"), static_cast<int64_t>(s));
            alone.outputs["y"] = alone.inputs["u"];
            alone.outputs["last_state"] = alone.inputs["initial_state"];
            const Outputs outputs = run(context, alone);
            expect_agree({{"y", slice_time(expected.at("y"), bounds[s], bounds[s + 1])},
                          {"last_state", row_of(expected.at("last_state"), static_cast<int64_t>(s))}},
                         outputs, reference(alone), alone.describe());
        }
    }
}

} // namespace ssm::test
