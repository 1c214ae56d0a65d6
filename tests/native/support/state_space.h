// Dense and diagonal plus low-rank systems, and projections onto HiPPO's measures: problems, and what they must answer, as
// plain loops over dense matrices in double.
#pragma once

#include "support/reference.h"

#include <gtest/gtest.h>

namespace ssm::test {

struct StateSpaceSizes {
    Type type = Type::float64; // real
    int64_t batch = 2, heads = 3, states = 4, length = 20;
    int64_t rank = 1;
    bool conjugate_pairs = true;
    std::vector<int64_t> bounds; // of packed sequences; empty: not packed
};

Problem dense_kernel_of(const StateSpaceSizes& sizes, ssm_discretization discretization, uint64_t seed = 1);
Problem dense_ssm_of(const StateSpaceSizes& sizes, ssm_discretization discretization, uint64_t seed = 1);
Problem dplr_ssm_of(const StateSpaceSizes& sizes, uint64_t seed = 1);
Problem dplr_kernel_of(const StateSpaceSizes& sizes, bool c_is_tilde, uint64_t seed = 1);
Problem dplr_kernel_backward_of(const StateSpaceSizes& sizes, bool c_is_tilde, uint64_t seed = 1);
Problem hippo_project_of(const StateSpaceSizes& sizes, ssm_hippo_measure measure, ssm_discretization discretization,
                         ssm_hippo_start start = SSM_HIPPO_START_ZERO, uint64_t seed = 1);

// Limits are a share of each output's largest element.
Reference state_space_reference(const Problem& problem);

// Matrices, row by row.
struct Matrix {
    int64_t rows = 0, columns = 0;
    std::vector<Number> values;
    Matrix() = default;
    Matrix(int64_t rows, int64_t columns) : rows(rows), columns(columns), values(static_cast<size_t>(rows * columns)) {}
    static Matrix identity(int64_t n);
    Number& operator()(int64_t i, int64_t j) { return values[static_cast<size_t>(i * columns + j)]; }
    Number operator()(int64_t i, int64_t j) const { return values[static_cast<size_t>(i * columns + j)]; }
};
Matrix operator*(const Matrix& x, const Matrix& y);
Matrix operator+(const Matrix& x, const Matrix& y);
Matrix operator*(Number factor, const Matrix& x);
Matrix solve(Matrix a, Matrix b);
Matrix exponential(const Matrix& a);
Matrix power(Matrix base, int64_t exponent);

// a and b of a measure, by their definitions.
Matrix hippo_a(ssm_hippo_measure measure, int64_t n);
Matrix hippo_b(ssm_hippo_measure measure, int64_t n);

// a_bar and b_bar, side by side.
Matrix discretized(const Matrix& a, const Matrix& b, double dt, ssm_discretization discretization, double alpha);

// The test of an operation that the mutations run: problems(type) against the reference.
#define SSM_STATE_SPACE_QUICK(Suite, problems)                                                                              \
    class Suite : public testing::TestWithParam<Target> {};                                                                 \
    TEST_P(Suite, Quick) {                                                                                                  \
        Context context(GetParam().device);                                                                                 \
        for (const Problem& problem : problems(GetParam().type))                                                            \
            expect_near(run(context, problem), reference(problem), problem.describe());                                     \
    }                                                                                                                       \
    INSTANTIATE_TEST_SUITE_P(Devices, Suite, testing::ValuesIn(targets({Type::float32, Type::float64})),                    \
                             [](const auto& info) { return name_of(info.param); });                                         \
    GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Suite)

} // namespace ssm::test
