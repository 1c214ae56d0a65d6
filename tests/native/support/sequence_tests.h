// The tests that every operation over sequences has to pass, on every device and in every type. A test file names its
// operation once, SSM_SEQUENCE_TESTS(LinearRecurrence, Operation::linear_recurrence, types...), and adds what is its own.
#pragma once

#include <gtest/gtest.h>

#include "support/problems.h"
#include "support/reference.h"

namespace ssm::test {

// Against the reference.
void matches_at_every_length(Operation operation, const Target& target);
void matches_across_tiles(Operation operation, const Target& target);
void matches_at_every_width(Operation operation, const Target& target);
void matches_in_one_long_row(Operation operation, const Target& target);
void matches_in_every_view(Operation operation, const Target& target);
void matches_with_broadcast_inputs(Operation operation, const Target& target);
void matches_in_place(Operation operation, const Target& target); // operations with an inplace output
void matches_when_packed(Operation operation, const Target& target);
void accepts_empty_tensors(Operation operation, const Target& target);
// Properties.
void split_equals_one_call(Operation operation, const Target& target);  // forward operations: carries last_state on
void reverse_equals_flipped(Operation operation, const Target& target); // operations with reverse
void packed_equals_separate(Operation operation, const Target& target);
void nan_stays_in_its_row(Operation operation, const Target& target);
void ten_runs_are_bit_equal(Operation operation, const Target& target);
void variations_are_bit_equal(Operation operation, const Target& target);
void alignment_is_bit_equal(Operation operation, const Target& target);
// Contexts, workspace, graphs.
void contexts_are_independent(Operation operation, const Target& target);
void graph_replays_the_call(Operation operation, const Target& target);
void workspace_is_what_the_query_says(Operation operation, const Target& target);
void steady_state_allocates_nothing(Operation operation, const Target& target);
// A few seconds of everything above that can show a wrong kernel: what the mutations run.
void quick(Operation operation, const Target& target);

#define SSM_SEQUENCE_TEST(Suite, operation, Name, function)                                                                 \
    TEST_P(Suite, Name) {                                                                                                   \
        ::ssm::test::function(operation, GetParam());                                                                       \
    }

#define SSM_SEQUENCE_TESTS(Suite, operation, ...)                                                                           \
    class Suite : public testing::TestWithParam<::ssm::test::Target> {};                                                    \
    SSM_SEQUENCE_TEST(Suite, operation, Quick, quick)                                                                       \
    SSM_SEQUENCE_TEST(Suite, operation, MatchesAtEveryLength, matches_at_every_length)                                      \
    SSM_SEQUENCE_TEST(Suite, operation, MatchesAcrossTiles, matches_across_tiles)                                           \
    SSM_SEQUENCE_TEST(Suite, operation, MatchesAtEveryWidth, matches_at_every_width)                                        \
    SSM_SEQUENCE_TEST(Suite, operation, MatchesInOneLongRow, matches_in_one_long_row)                                       \
    SSM_SEQUENCE_TEST(Suite, operation, MatchesInEveryView, matches_in_every_view)                                          \
    SSM_SEQUENCE_TEST(Suite, operation, MatchesWithBroadcastInputs, matches_with_broadcast_inputs)                          \
    SSM_SEQUENCE_TEST(Suite, operation, MatchesWhenPacked, matches_when_packed)                                             \
    SSM_SEQUENCE_TEST(Suite, operation, AcceptsEmptyTensors, accepts_empty_tensors)                                         \
    SSM_SEQUENCE_TEST(Suite, operation, PackedEqualsSeparate, packed_equals_separate)                                       \
    SSM_SEQUENCE_TEST(Suite, operation, NanStaysInItsRow, nan_stays_in_its_row)                                             \
    SSM_SEQUENCE_TEST(Suite, operation, TenRunsAreBitEqual, ten_runs_are_bit_equal)                                         \
    SSM_SEQUENCE_TEST(Suite, operation, VariationsAreBitEqual, variations_are_bit_equal)                                    \
    SSM_SEQUENCE_TEST(Suite, operation, AlignmentIsBitEqual, alignment_is_bit_equal)                                        \
    SSM_SEQUENCE_TEST(Suite, operation, ContextsAreIndependent, contexts_are_independent)                                   \
    SSM_SEQUENCE_TEST(Suite, operation, GraphReplaysTheCall, graph_replays_the_call)                                        \
    SSM_SEQUENCE_TEST(Suite, operation, WorkspaceIsWhatTheQuerySays, workspace_is_what_the_query_says)                      \
    SSM_SEQUENCE_TEST(Suite, operation, SteadyStateAllocatesNothing, steady_state_allocates_nothing)                        \
    INSTANTIATE_TEST_SUITE_P(Devices, Suite, testing::ValuesIn(::ssm::test::targets({__VA_ARGS__})),                        \
                             [](const auto& info) { return ::ssm::test::name_of(info.param); });                            \
    GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Suite)

} // namespace ssm::test
