// What kernels read of seq_idx: a table for each row of the batch, made once per call on the device, in which padding does
// not occur, and zeros for the outputs where there is padding.
#pragma once

#include "cuda/primitives/cuda.h"

#include "core/params.h"
#include "cuda/context.h"

namespace ssm {

// Entries of row b lie at entries + b * length, counts[b] of them. Null without seq_idx.
//
// Of the convolution: the steps that are no padding, in order: step * 256 + reach, where reach is how many steps of its
// sequence, and for the row's first sequence of the initial state, lie before it, at most 255.
//
// Of the scan: segments of up to `segment` neighbouring steps of one sequence, for a lane each; every sequence begins a
// segment, and steps beyond it, padding, or segments of nothing but padding are left out: first step * 2^17 + (whether the
// state restarts before it) * 2^16 + a bit for each step that is one.
struct SequenceTable {
    int64_t* entries = nullptr;
    int64_t* counts = nullptr;
    int64_t length = 0; // of a row of seq_idx

    SSM_DEVICE const int64_t* row(int64_t batch) const { return entries ? entries + batch * length : nullptr; }
};

constexpr int most_segment_steps = 16;

SSM_DEVICE int64_t step_of_entry(int64_t entry) {
    return entry >> 8;
}
SSM_DEVICE int reach_of_entry(int64_t entry) {
    return static_cast<int>(entry & 255);
}
SSM_DEVICE int64_t first_of_segment(int64_t segment) {
    return segment >> 17;
}
SSM_DEVICE bool segment_restarts(int64_t segment) {
    return (segment >> 16 & 1) != 0;
}
SSM_DEVICE unsigned steps_of_segment(int64_t segment) {
    return static_cast<unsigned>(segment & 0xffff);
}

// The table's place in the workspace; nothing without seq_idx.
inline SequenceTable take_sequence_table(const SequenceShape& shape, const int32_t* seq_idx, WorkspaceParts& parts) {
    SequenceTable table;
    if (seq_idx) {
        table.length = shape.length;
        table.entries = parts.take<int64_t>(shape.batch * shape.length);
        table.counts = parts.take<int64_t>(shape.batch);
    }
    return table;
}

// Fills it. segment: steps of a segment of the scan, a power of two; 0 for the table of the convolution. Nothing without
// seq_idx.
cudaError_t fill_sequence_table(const BackendContext& context, const SequenceShape& shape, const int32_t* seq_idx,
                                const SequenceTable& table, int segment);

// Zeros in an output (B,C,L) or (B,G,N,L) where seq_idx is negative. Nothing without seq_idx or without a tensor.
cudaError_t clear_padding(const BackendContext& context, const SequenceShape& shape, const int32_t* seq_idx,
                          const Sequence& output, int64_t element_size);
cudaError_t clear_padding(const BackendContext& context, const SequenceShape& shape, const int32_t* seq_idx,
                          const StateSequence& output, int64_t groups, int64_t states, int64_t element_size);

} // namespace ssm
