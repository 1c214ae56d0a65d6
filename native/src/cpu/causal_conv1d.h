// How the short convolution and its gradients are cut into tasks: channels of a batch element over a tile of time. Outputs
// of different tiles have nothing in common but inputs, so tasks wait for nothing.
#pragma once

#include "core/params/causal_conv1d.h"
#include "cpu/sequence_runs.h"
#include "cpu/tiles.h"

#include <algorithm>
#include <cstdint>

namespace ssm::cpu {

struct CausalConv1dPlan {
    int64_t channel_block; // channels of a task
    int64_t blocks;        // of a batch element
    int64_t tile;          // steps
    int64_t tiles;         // of a batch element
    bool stream;           // outputs pass the caches by
    SequenceRunTable runs; // in the workspace, behind what the operation has there itself

    // Where channels are contiguous, a task's weights are at hand together.
    static constexpr int64_t most_weights = 8192, most_neighbours = 256;

    int64_t tasks(int64_t batch) const { return batch * tiles * blocks; }
};

// tile_option: steps of a tile as a test wants them, 0 for the plan's own choice. task_elements: about how many a task has.
inline CausalConv1dPlan plan_causal_conv1d(const SequenceShape& shape, int64_t width, int64_t element_bytes,
                                           int64_t tile_option, int64_t task_elements, int64_t cache_bytes) {
    constexpr int64_t most_lanes = 16;
    const int64_t neighbours =
        std::min(CausalConv1dPlan::most_neighbours, CausalConv1dPlan::most_weights / width / most_lanes * most_lanes);
    CausalConv1dPlan plan = {};
    const bool by_time = shape.layout == Layout::time_contiguous;
    const int64_t together = by_time ? 1 : std::min(neighbours, shape.channels);
    plan.tile = tile_option > 0 ? tile_option : std::max<int64_t>(64, task_elements / together);
    plan.tiles = (shape.length + plan.tile - 1) / plan.tile;
    plan.channel_block = by_time ? std::max<int64_t>(1, task_elements / std::min(plan.tile, shape.length)) : neighbours;
    plan.blocks = (shape.channels + plan.channel_block - 1) / plan.channel_block;
    plan.stream = shape.batch * shape.channels * shape.length * element_bytes > std::max<int64_t>(cache_bytes, 1 << 20) / 2;
    return plan;
}

// The part of one sequence that a piece is, in steps from the sequence's first.
struct SequencePart {
    int64_t start; // of the sequence, in time
    int64_t length;
    int64_t from, to;
};
inline SequencePart part_of(const SequenceShape& shape, const Piece& piece) {
    const int64_t start = shape.cu_seqlens ? shape.cu_seqlens[piece.row] : 0;
    const int64_t end = shape.cu_seqlens ? shape.cu_seqlens[piece.row + 1] : shape.length;
    return {start, end - start, piece.time - start, piece.time - start + piece.count};
}

} // namespace ssm::cpu
