// Limits of the S4 family beyond those in the files of its operations: a system without states, ranks, steps, values that
// are not numbers, nodes and poles anywhere. Set-up operations have theirs in hippo_setup_test.cpp.
#include <cmath>
#include <functional>
#include <limits>

#include "support/s4.h"
#include "support/state_space.h"

namespace ssm::test {

using enum Type;

class S4BadInput : public testing::TestWithParam<Target> {
  protected:
    Type type = GetParam().type;
    Context context{GetParam().device};
    const StateSpaceSizes sizes{GetParam().type, 2, 3, 4, 9, 1, true, {}};

    void SetUp() override { SSM_CHECK(ssm_context_set_checking(context, 1)); }

    void expect(
        const Problem& right, const std::string& sentence, const std::function<void(Problem&)>& change = [](Problem&) {}) {
        Problem problem = right;
        change(problem);
        Call call(context, problem);
        EXPECT_EQ(call.run(), SSM_ERROR_INVALID_ARGUMENT) << problem.describe();
        EXPECT_EQ(std::string(ssm_last_error()), sentence);
        call.check_nothing_written();
    }
};
INSTANTIATE_TEST_SUITE_P(Devices, S4BadInput, testing::ValuesIn(targets({float32})),
                         [](const auto& info) { return name_of(info.param); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(S4BadInput);

TEST_P(S4BadInput, NoStates) {
    StateSpaceSizes none = sizes;
    none.states = 0;
    for (const Problem& problem :
         {dense_kernel_of(none, SSM_DISCRETIZATION_ZOH), dense_ssm_of(none, SSM_DISCRETIZATION_BILINEAR)})
        expect(problem, "a: at least one state expected, shape (3,0,0) given");
    for (const Problem& problem :
         {dplr_kernel_of(none, false), dplr_kernel_of(none, true), dplr_ssm_of(none), dplr_kernel_backward_of(none, false)})
        expect(problem, "eigenvalues: at least one state expected, shape (3,0) given");
    for (const ssm_hippo_measure measure : {SSM_HIPPO_LEGS, SSM_HIPPO_LEGT, SSM_HIPPO_FOUT})
        expect(hippo_project_of(none, measure, SSM_DISCRETIZATION_BILINEAR),
               "coefficients: at least one state expected, shape (2,9,0) given");
}

TEST_P(S4BadInput, RanksFromOneToFour) {
    for (const int64_t rank : {0, 5}) {
        StateSpaceSizes wrong = sizes;
        wrong.rank = rank;
        const std::string sentence = "p: a rank of 1 to 4 expected, shape (3," + std::to_string(rank) + ",4) given";
        for (const Problem& problem :
             {dplr_kernel_of(wrong, false), dplr_ssm_of(wrong), dplr_kernel_backward_of(wrong, true)})
            expect(problem, sentence);
    }
}

TEST_P(S4BadInput, StepsAreFiniteAndPositive) {
    const double infinity = std::numeric_limits<double>::infinity();
    for (const Problem& right : {dense_kernel_of(sizes, SSM_DISCRETIZATION_ZOH),
                                 dense_ssm_of(sizes, SSM_DISCRETIZATION_BILINEAR), dplr_kernel_of(sizes, false),
                                 dplr_kernel_of(sizes, true), dplr_ssm_of(sizes), dplr_kernel_backward_of(sizes, false)})
        expect(right, "dt[1]: a positive number expected, inf given",
               [&](Problem& problem) { problem.inputs["dt"].values[1] = infinity; });
    for (const auto& [value, text] : {std::pair{-0.1, "-0.100000"}, {std::nan(""), "nan"}, {infinity, "inf"}})
        expect(hippo_project_of(sizes, SSM_HIPPO_LEGT, SSM_DISCRETIZATION_ZOH),
               std::string("dt: a positive number for a sliding measure expected, ") + text + " given",
               [value = value](Problem& problem) { problem.step = value; });
}

TEST_P(S4BadInput, SystemsAreFinite) {
    for (const Problem& right :
         {dense_kernel_of(sizes, SSM_DISCRETIZATION_ZOH), dense_ssm_of(sizes, SSM_DISCRETIZATION_BILINEAR)})
        expect(right, "a[1,2,3]: a finite number expected, nan given",
               [](Problem& problem) { problem.inputs["a"].at(1, 2, 3) = std::nan(""); });
    expect(dplr_ssm_of(sizes), "eigenvalues[2,1]: a finite number expected, -inf given", [](Problem& problem) {
        problem.inputs["eigenvalues"].at(2, 1) = {-std::numeric_limits<double>::infinity(), 1};
    });
    for (const Problem& right : {dplr_kernel_of(sizes, false), dplr_kernel_backward_of(sizes, true)})
        expect(right, "eigenvalues[2,1]: a finite number that is not 0 expected, -1+nani given", [](Problem& problem) {
            problem.inputs["eigenvalues"].at(2, 1) = {-1, std::nan("")};
        });
    // In memory of any order.
    expect(dense_ssm_of(sizes, SSM_DISCRETIZATION_ZOH), "a[2,0,1]: a finite number expected, nan given",
           [](Problem& problem) {
               problem.inputs["a"].at(2, 0, 1) = std::nan("");
               problem.views["a"] = View::reversed_axes;
           });
}

// Without being asked to, only a CPU looks at values. A device goes on: the head's numbers are none, the others' are right,
// but for the one that shares a transform with it in dplr_kernel.
TEST_P(S4BadInput, DevicesLookWhereTheyAreAskedTo) {
    SSM_CHECK(ssm_context_set_checking(context, 0));
    const PoleSize poles{complex_of(type), 3, 4, 9, 1};
    for (const Problem& right :
         {diagonal_kernel_problems(poles)[0], diagonal_ssm_problems(poles)[0],
          dense_kernel_of(sizes, SSM_DISCRETIZATION_ZOH), dense_ssm_of(sizes, SSM_DISCRETIZATION_BILINEAR),
          dplr_kernel_of(sizes, true), dplr_ssm_of(sizes)}) {
        Problem problem = right;
        problem.inputs["dt"].values[0] = std::nan("");
        Call call(context, problem);
        if (GetParam().device.type == SSM_DEVICE_CPU) {
            EXPECT_EQ(call.run(), SSM_ERROR_INVALID_ARGUMENT) << problem.describe();
            call.check_nothing_written();
            continue;
        }
        ASSERT_EQ(call.run(), SSM_SUCCESS) << ssm_last_error() << " " << problem.describe();
        const char* const name = right.outputs.count("k") ? "k" : "y";
        const Tensor found = call.take().at(name), expected = run(context, right).at(name);
        const int64_t heads = right.inputs.at("dt").size();
        for (int64_t i = 0; i < found.size(); ++i) {
            const int64_t head = i / 9 % heads;
            if (head == 0) {
                EXPECT_TRUE(std::isnan(found.values[static_cast<size_t>(i)].real())) << i << " of " << problem.describe();
            } else if (head > 1 || problem.operation != Operation::dplr_kernel) {
                EXPECT_EQ(found.values[static_cast<size_t>(i)], expected.values[static_cast<size_t>(i)])
                    << i << " of " << problem.describe();
            }
        }
    }
}

// An eigenvalue of 0 is an error of the kernel alone (StateSpace.BadInput): the recurrence takes it as it is.
TEST_P(S4BadInput, RecurrencesTakeTheEigenvalueZero) {
    for (const bool pairs : {true, false}) {
        Problem problem = dplr_ssm_of({type, 2, 3, 4, 30, 2, pairs, {}});
        for (int64_t head = 0; head < 3; ++head)
            problem.inputs["eigenvalues"].at(head, head) = 0;
        expect_near(run(context, problem), reference(problem), problem.describe());
    }
}

// cauchy_multiply takes nodes anywhere, on no circle and no axis, as near to a pole and as far from it as its documentation
// says. A node that is a pole has no sum, and spoils no other.
TEST_P(S4BadInput, NodesAnywhere) {
    for (Problem problem : cauchy_multiply_problems({complex_of(type), 2, 2, 12, 1})) {
        const double far = std::ldexp(1.0, 30), near = std::ldexp(1.0, -30);
        problem.inputs["w"].values = {0, {-1, 2}, {-0.5, 3}, 0};
        problem.inputs["z"].values = {near,       {0, -near},  far,          {0, far},   {-far / 2, far / 2}, 3,
                                      {-7, 0.25}, {1e-3, 1e3}, {-1e3, -1e3}, {0.5, -40}, {-0.25, 2},          {2, 2}};
        const Reference expected = reference(problem);
        expect_near(run(context, problem), expected, problem.describe());
        problem.inputs["z"].values[6] = 0;
        const Tensor y = run(context, problem).at("y");
        for (int64_t row = 0; row < 2; ++row)
            for (int64_t l = 0; l < 12; ++l) {
                const double off = std::abs(y.at(row, l) - expected.at("y").value.at(row, l));
                EXPECT_EQ(std::isfinite(off), l != 6) << l << " of " << problem.describe();
                if (l != 6) {
                    EXPECT_LE(off, expected.at("y").limit[static_cast<size_t>(row * 12 + l)]) << l;
                }
            }
    }
}

} // namespace ssm::test
