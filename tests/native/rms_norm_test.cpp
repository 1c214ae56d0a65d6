// rms_norm and gated_rms_norm, which share their kernels.
#include "support/norm_tests.h"
#include "support/reference.h"

namespace ssm::test {

using enum Type;

SSM_NORM_TESTS(RmsNorm, norms);

// Every output in the place of every input of its type.
TEST_P(RmsNorm, MatchesInPlace) {
    Context context(GetParam().device);
    for (const std::vector<int64_t>& shape : std::vector<std::vector<int64_t>>{{5, 48}, {2, 700}, {1, 17000}})
        for (const Problem& plain : norms(GetParam().type, shape)) {
            const Outputs expected = run(context, plain);
            for (const char* input : {"x", "residual", "z"}) {
                if (!plain.inputs.count(input) || plain.inputs.at(input).type != GetParam().type)
                    continue;
                Problem problem = plain;
                problem.inplace = input;
                expect_identical(run(context, problem), expected, problem.describe());
            }
        }
}

// The residual stays where it is, as a model keeps it from block to block.
TEST_P(RmsNorm, ResidualInPlace) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    for (const int64_t width : {48, 700, 17000}) {
        const Problem plain = norms(type, {3, width})[1];
        const Outputs expected = run(context, plain);
        Placed x(context, plain.inputs.at("x"), View::compact, false), y(context, plain.outputs.at("y"), View::padded, true);
        Placed weight(context, plain.inputs.at("weight"), View::compact, false),
            bias(context, plain.inputs.at("bias"), View::compact, false);
        Placed residual(context, plain.inputs.at("residual"), View::padded, true);
        residual.write(plain.inputs.at("residual"));
        ssm_rms_norm_args args{};
        args.struct_size = sizeof args;
        args.eps = plain.eps;
        args.x = x.get();
        args.residual = args.residual_out = residual.get();
        args.weight = weight.get();
        args.bias = bias.get();
        args.y = y.get();
        SSM_CHECK(ssm_rms_norm(context, &args));
        SSM_CHECK(ssm_context_synchronize(context));
        expect_identical({{"y", y.take()}, {"residual_out", residual.take()}},
                         {{"y", expected.at("y")}, {"residual_out", expected.at("residual_out")}}, plain.describe());
    }
}

// Without a gate and in one group, gated_rms_norm is rms_norm to the last bit.
TEST_P(RmsNorm, GatedWithoutGateIsPlain) {
    Context context(GetParam().device);
    for (const int64_t width : {48, 700}) {
        Problem plain = norms(GetParam().type, {4, width})[5];
        Problem gated = plain;
        gated.operation = Operation::gated_rms_norm;
        expect_identical(run(context, gated), run(context, plain), plain.describe());
    }
}

// Zero rows: eps keeps them finite.
TEST_P(RmsNorm, ZerosStayZero) {
    Context context(GetParam().device);
    for (Problem problem : norms(GetParam().type, {3, 40})) {
        for (const char* name : {"x", "residual", "bias"})
            if (problem.inputs.count(name))
                for (Number& value : problem.inputs[name].values)
                    value = 0;
        const Outputs outputs = run(context, problem);
        for (const Number value : outputs.at("y").values)
            EXPECT_EQ(value, Number(0)) << problem.describe();
    }
}

} // namespace ssm::test
