// Problems of the operations over rows of poles and diagonal systems, what they must answer, and what they have to pass
// alike.
#pragma once

#include <gtest/gtest.h>

#include "support/problems.h"
#include "support/reference.h"

namespace ssm::test {

// H rows of N poles, L nodes or steps; a recurrence has two batch elements.
struct PoleSize {
    Type type = Type::complex64;
    int64_t rows = 2, states = 4, length = 30;
    uint64_t seed = 1;
};

// Every variant that options and optional tensors make.
using PoleProblems = std::vector<Problem> (*)(const PoleSize& size);
std::vector<Problem> cauchy_multiply_problems(const PoleSize& size);
std::vector<Problem> cauchy_multiply_backward_problems(const PoleSize& size);
std::vector<Problem> vandermonde_multiply_problems(const PoleSize& size);
std::vector<Problem> vandermonde_multiply_backward_problems(const PoleSize& size);
std::vector<Problem> discretize_diagonal_problems(const PoleSize& size);
std::vector<Problem> diagonal_kernel_problems(const PoleSize& size);
std::vector<Problem> diagonal_kernel_backward_problems(const PoleSize& size);
std::vector<Problem> diagonal_ssm_problems(const PoleSize& size);
std::vector<Problem> diagonal_ssm_backward_problems(const PoleSize& size);
std::vector<Problem> diagonal_scan_problems(const PoleSize& size);

Type real_of(Type type);
// Plain loops in long double.
Reference pole_reference(const Problem& problem);

void poles_quick(PoleProblems problems, const Target& target);
void poles_match_at_every_length(PoleProblems problems, const Target& target);
void poles_match_at_every_width(PoleProblems problems, const Target& target);
void poles_match_in_every_view(PoleProblems problems, const Target& target);
void poles_are_bit_equal_in_variations(PoleProblems problems, const Target& target);
void poles_accept_empty_tensors(PoleProblems problems, const Target& target);
void poles_give_every_output_alone(PoleProblems problems, const Target& target);
void poles_replay_in_graphs(PoleProblems problems, const Target& target);
void poles_need_the_workspace_they_ask_for(PoleProblems problems, const Target& target);
void poles_allocate_nothing_in_the_steady_state(PoleProblems problems, const Target& target);

#define SSM_POLE_TESTS(Suite, problems, ...)                                                                                \
    class Suite : public testing::TestWithParam<Target> {};                                                                 \
    TEST_P(Suite, Quick) {                                                                                                  \
        poles_quick(problems, GetParam());                                                                                  \
    }                                                                                                                       \
    TEST_P(Suite, MatchesAtEveryLength) {                                                                                   \
        poles_match_at_every_length(problems, GetParam());                                                                  \
    }                                                                                                                       \
    TEST_P(Suite, MatchesAtEveryWidth) {                                                                                    \
        poles_match_at_every_width(problems, GetParam());                                                                   \
    }                                                                                                                       \
    TEST_P(Suite, MatchesInEveryView) {                                                                                     \
        poles_match_in_every_view(problems, GetParam());                                                                    \
    }                                                                                                                       \
    TEST_P(Suite, VariationsAreBitEqual) {                                                                                  \
        poles_are_bit_equal_in_variations(problems, GetParam());                                                            \
    }                                                                                                                       \
    TEST_P(Suite, AcceptsEmptyTensors) {                                                                                    \
        poles_accept_empty_tensors(problems, GetParam());                                                                   \
    }                                                                                                                       \
    TEST_P(Suite, EveryOutputAlone) {                                                                                       \
        poles_give_every_output_alone(problems, GetParam());                                                                \
    }                                                                                                                       \
    TEST_P(Suite, GraphReplaysTheCall) {                                                                                    \
        poles_replay_in_graphs(problems, GetParam());                                                                       \
    }                                                                                                                       \
    TEST_P(Suite, WorkspaceIsWhatTheQuerySays) {                                                                            \
        poles_need_the_workspace_they_ask_for(problems, GetParam());                                                        \
    }                                                                                                                       \
    TEST_P(Suite, SteadyStateAllocatesNothing) {                                                                            \
        poles_allocate_nothing_in_the_steady_state(problems, GetParam());                                                   \
    }                                                                                                                       \
    INSTANTIATE_TEST_SUITE_P(Devices, Suite, testing::ValuesIn(targets({__VA_ARGS__})),                                     \
                             [](const auto& info) { return name_of(info.param); });                                         \
    GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Suite)

} // namespace ssm::test
