// Where the sequences of a call lie: rows of a batch, or packed sequences whose ends are read on the device.
//
// Tiles of packed sequences are numbered without a prefix sum: sequence s begins at slot cu_seqlens[s] / tile + s, which
// leaves at least ceil(length / tile) and at least one slot to each sequence, and length / tile + S slots in all. Tiles
// start at the start of a sequence, so that packed and separate calls do the same arithmetic.
#pragma once

#include "core/params.h"
#include "cuda/primitives/cuda.h"

namespace ssm {

// One sequence: `length` steps from `begin` in time of `batch`; `row` is the row of its states.
struct Span {
    int64_t batch = 0;
    int64_t row = 0;
    int64_t begin = 0;
    int64_t length = 0;
};

// Rows that states have; params.h says the same for the host.
SSM_DEVICE int64_t state_rows(const SequenceShape& shape) {
    return shape.cu_seqlens ? shape.sequences : shape.batch;
}

// Ends out of range are clamped, so that a bad cu_seqlens gives wrong numbers but no access outside the tensors.
SSM_DEVICE int64_t sequence_end(const SequenceShape& shape, int64_t index) {
    int64_t end = shape.cu_seqlens[index];
    return end < 0 ? 0 : end > shape.length ? shape.length : end;
}

SSM_DEVICE Span span_of_row(const SequenceShape& shape, int64_t row) {
    Span span;
    span.row = row;
    if (shape.cu_seqlens) {
        span.begin = sequence_end(shape, row);
        const int64_t end = sequence_end(shape, row + 1);
        span.length = end > span.begin ? end - span.begin : 0;
    } else {
        span.batch = row;
        span.length = shape.length;
    }
    return span;
}

// Slots that one channel of one batch has. Not packed: its tiles.
SSM_INLINE int64_t slot_count(const SequenceShape& shape, int64_t tile) {
    return shape.cu_seqlens ? shape.length / tile + shape.sequences : (shape.length + tile - 1) / tile;
}

// The sequence that a slot belongs to, and which tile of it the slot is: none if that is negative or starts beyond the
// end of the sequence.
SSM_DEVICE Span span_of_slot(const SequenceShape& shape, int64_t batch, int64_t slot, int64_t tile, int64_t& tile_index) {
    if (!shape.cu_seqlens) {
        tile_index = slot;
        return span_of_row(shape, batch);
    }
    int64_t low = 0; // the last sequence that begins at this slot or before
    int64_t high = shape.sequences;
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (sequence_end(shape, middle) / tile + middle <= slot) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Span span = span_of_row(shape, low);
    tile_index = slot - (span.begin / tile + low);
    return span;
}

} // namespace ssm
