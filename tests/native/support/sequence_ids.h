// seq_idx in problems: patterns of ids, and the reference, which leaves padding out and takes every sequence by itself.
#pragma once

#include "support/problems.h"
#include "support/reference.h"

namespace ssm::test {

enum class IdPattern {
    none,       // one sequence without padding
    right,      // rows of different length, the last of nothing but padding
    left,       // padding before the first step
    middle,     // padding between steps of one sequence
    returning,  // long sequences, whose ids come back later
    short_runs, // sequences and padding of a few steps
    every_step, // a new sequence at every step
    random      // everything, at every step
};
constexpr IdPattern all_id_patterns[] = {IdPattern::none,       IdPattern::right,     IdPattern::left,
                                         IdPattern::middle,     IdPattern::returning, IdPattern::short_runs,
                                         IdPattern::every_step, IdPattern::random};

// (B,L)
Tensor make_ids(IdPattern pattern, int64_t batch, int64_t length, Random& random);

// The problem with these ids, and NaN wherever an input is padding.
Problem with_ids(const Problem& problem, const Tensor& ids);

// One row as packed sequences without padding. Of its states the first is the row's initial, the last its last.
Problem packed_row(const Problem& problem, int64_t row);

// The answer of a problem with seq_idx, put together from those of its packed rows.
Reference reference_of_rows(const Problem& problem);

constexpr bool takes_ids(Operation operation) {
    return operation == Operation::selective_scan || operation == Operation::selective_scan_backward ||
           operation == Operation::causal_conv1d || operation == Operation::causal_conv1d_backward;
}
// What `quick` shows of an operation that takes seq_idx.
void quick_with_ids(Operation operation, const Target& target);

} // namespace ssm::test
