// What the norms and their gradients have to pass alike; `problems` is norms or norm_gradients.
#pragma once

#include <gtest/gtest.h>

#include "support/norms.h"

namespace ssm::test {

using NormProblems = std::vector<Problem> (*)(Type type, const std::vector<int64_t>& shape, uint64_t seed);

void norms_match_at_every_width(NormProblems problems, const Target& target);
void norms_match_at_every_number_of_rows(NormProblems problems, const Target& target);
void norms_match_in_every_view(NormProblems problems, const Target& target);
void norms_match_with_broadcast_inputs(NormProblems problems, const Target& target);
void norms_are_bit_equal_in_variations(NormProblems problems, const Target& target);
void norms_accept_empty_tensors(NormProblems problems, const Target& target);
void norms_keep_bad_numbers_in_their_rows(NormProblems problems, const Target& target);
void norms_replay_in_graphs(NormProblems problems, const Target& target);
void norms_need_the_workspace_they_ask_for(NormProblems problems, const Target& target);
void norms_allocate_nothing_in_the_steady_state(NormProblems problems, const Target& target);
// What the mutations run.
void norms_quick(NormProblems problems, const Target& target);

#define SSM_NORM_TESTS(Suite, problems)                                                                                     \
    class Suite : public testing::TestWithParam<Target> {};                                                                 \
    TEST_P(Suite, Quick) {                                                                                                  \
        norms_quick(problems, GetParam());                                                                                  \
    }                                                                                                                       \
    TEST_P(Suite, MatchesAtEveryWidth) {                                                                                    \
        norms_match_at_every_width(problems, GetParam());                                                                   \
    }                                                                                                                       \
    TEST_P(Suite, MatchesAtEveryNumberOfRows) {                                                                             \
        norms_match_at_every_number_of_rows(problems, GetParam());                                                          \
    }                                                                                                                       \
    TEST_P(Suite, MatchesInEveryView) {                                                                                     \
        norms_match_in_every_view(problems, GetParam());                                                                    \
    }                                                                                                                       \
    TEST_P(Suite, MatchesWithBroadcastInputs) {                                                                             \
        norms_match_with_broadcast_inputs(problems, GetParam());                                                            \
    }                                                                                                                       \
    TEST_P(Suite, VariationsAreBitEqual) {                                                                                  \
        norms_are_bit_equal_in_variations(problems, GetParam());                                                            \
    }                                                                                                                       \
    TEST_P(Suite, AcceptsEmptyTensors) {                                                                                    \
        norms_accept_empty_tensors(problems, GetParam());                                                                   \
    }                                                                                                                       \
    TEST_P(Suite, BadNumbersStayInTheirRows) {                                                                              \
        norms_keep_bad_numbers_in_their_rows(problems, GetParam());                                                         \
    }                                                                                                                       \
    TEST_P(Suite, GraphReplaysTheCall) {                                                                                    \
        norms_replay_in_graphs(problems, GetParam());                                                                       \
    }                                                                                                                       \
    TEST_P(Suite, WorkspaceIsWhatTheQuerySays) {                                                                            \
        norms_need_the_workspace_they_ask_for(problems, GetParam());                                                        \
    }                                                                                                                       \
    TEST_P(Suite, SteadyStateAllocatesNothing) {                                                                            \
        norms_allocate_nothing_in_the_steady_state(problems, GetParam());                                                   \
    }                                                                                                                       \
    INSTANTIATE_TEST_SUITE_P(Devices, Suite, testing::ValuesIn(targets({float32, float64, float16, bfloat16})),             \
                             [](const auto& info) { return name_of(info.param); });                                         \
    GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Suite)

} // namespace ssm::test
