// How a scan over (batch, channel, time) is cut into work. A group is one row where time is contiguous, or a block of
// neighbouring channels where channels are. Where there are many groups each is done whole; where there are few, time is
// cut into tiles that fit the second-level cache, and a tile
//   1. reduces itself to one aggregate map, which reads it from memory,
//   2. waits for the state its predecessor leaves, applies the aggregate and publishes the state it leaves itself,
//   3. scans its elements, now from the cache.
// So memory is read and written once. The state is one left fold over the tiles, and the cut depends on the shape alone:
// the bits do not depend on the number of threads. A tile waits only for the tile before it, which has a smaller index
// and was begun earlier, so any number of threads makes progress.
#pragma once

#include "core/params.h"
#include "cpu/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace ssm::cpu {

// The state of a block of channels takes at most this much: blocks as wide as can be, because a tile of all channels is one
// run of memory.
constexpr int64_t block_state_bytes = 16384;

struct TilePlan {
    int64_t channel_block; // channels of a group
    int64_t blocks;        // groups of a batch element
    int64_t groups;
    int64_t tile;  // steps
    int64_t tiles; // of a group; 1: not cut
    int64_t groups_per_task;
    int64_t slot_bytes; // a flag and the state of one group, cache lines of their own
    bool stream;        // outputs pass the caches by

    int64_t tasks() const { return tiles > 1 ? groups * tiles : (groups + groups_per_task - 1) / groups_per_task; }
    uint64_t workspace_bytes() const { return tiles > 1 ? static_cast<uint64_t>(groups * slot_bytes) : 0; }
};

// tensors: how many sequence tensors the operation touches; together beyond the last cache, outputs are written past it.
// tile_option: steps of a tile as a test wants them, 0 for the plan's own choice.
inline TilePlan plan_tiles(const SequenceShape& shape, int64_t element_bytes, int64_t state_bytes, int64_t tile_option,
                           int64_t tensors, int64_t cache_bytes) {
    constexpr int64_t tile_bytes = 65536; // of one tensor
    constexpr int64_t enough_groups = 128, task_elements = 32768;
    TilePlan plan = {};
    if (shape.layout == Layout::time_contiguous) {
        plan.channel_block = 1;
        plan.blocks = shape.channels;
    } else {
        const int64_t most = block_state_bytes / state_bytes;
        const int64_t blocks = (shape.channels + most - 1) / most;
        const int64_t even = blocks > 0 ? (shape.channels + blocks - 1) / blocks : 1;
        plan.channel_block = std::min(most, (even + 63) / 64 * 64);
        plan.blocks = (shape.channels + plan.channel_block - 1) / plan.channel_block;
    }
    plan.groups = shape.batch * plan.blocks;
    const int64_t width = std::max<int64_t>(1, std::min(plan.channel_block, shape.channels));
    plan.tile = tile_option > 0 ? tile_option : std::max<int64_t>(1, tile_bytes / (element_bytes * width));
    plan.tiles = 1;
    if (shape.length > plan.tile && (tile_option > 0 || (plan.groups < enough_groups && shape.length > 4 * plan.tile)))
        plan.tiles = (shape.length + plan.tile - 1) / plan.tile;
    else
        plan.tile = shape.length;
    plan.groups_per_task = std::max<int64_t>(1, task_elements / std::max<int64_t>(1, shape.length * width));
    plan.slot_bytes = 64 + (plan.channel_block * state_bytes + 63) / 64 * 64;
    plan.stream =
        shape.batch * shape.channels * shape.length * element_bytes > std::max<int64_t>(cache_bytes, 1 << 20) / tensors;
    return plan;
}

// Before each slot's state lies the number of tiles that have published into it.
inline std::atomic<int64_t>& slot_flag(const TilePlan& plan, void* slots, int64_t group) {
    return *reinterpret_cast<std::atomic<int64_t>*>(static_cast<char*>(slots) + group * plan.slot_bytes);
}
inline void* slot_state(const TilePlan& plan, void* slots, int64_t group) {
    return static_cast<char*>(slots) + group * plan.slot_bytes + 64;
}
inline void clear_slots(const TilePlan& plan, void* slots) {
    if (plan.tiles > 1)
        for (int64_t group = 0; group < plan.groups; ++group)
            slot_flag(plan, slots, group).store(0, std::memory_order_relaxed);
}

// Part of one sequence: steps [time, time + count) in memory, of state row `row`.
struct Piece {
    int64_t row, time, count;
    bool starts, ends; // holds the first, the last step of the sequence in the direction of the scan
};

// Calls f(piece) for each sequence's part of the steps [begin, end), counted in the direction of the scan, in that
// direction. A sequence without steps is a piece of none.
template <class F>
void for_each_piece(const SequenceShape& shape, int64_t batch, int64_t begin, int64_t end, const F& f) {
    if (!shape.cu_seqlens) {
        f(Piece{batch, shape.reverse ? shape.length - end : begin, end - begin, begin == 0, end == shape.length});
        return;
    }
    const int64_t low = shape.reverse ? shape.length - end : begin, high = shape.reverse ? shape.length - begin : end;
    const int64_t *cu = shape.cu_seqlens, *cu_end = cu + shape.sequences;
    int64_t first = std::lower_bound(cu, cu_end, low) - cu;
    if (first > 0 && (first == shape.sequences || cu[first] > low))
        --first;
    const int64_t last = high == shape.length ? shape.sequences : std::lower_bound(cu, cu_end, high) - cu;
    for (int64_t i = first; i < last; ++i) {
        const int64_t row = shape.reverse ? first + last - 1 - i : i;
        const int64_t from = std::max(cu[row], low), to = std::min(cu[row + 1], high);
        if (to < from)
            continue;
        // An empty part is a piece only where the whole sequence is empty.
        if (to == from && cu[row] != cu[row + 1])
            continue;
        const bool holds_first = from == cu[row], holds_last = to == cu[row + 1];
        f(Piece{row, from, to - from, shape.reverse ? holds_last : holds_first, shape.reverse ? holds_first : holds_last});
    }
}

} // namespace ssm::cpu
