// How a scan over (batch, channel, time) is cut into work. A group is one row where time is contiguous, or a block of
// neighbouring channels where channels are. Where there are many groups each is done whole; where there are few, time is
// cut into tiles that fit the second-level cache, and a tile
//   1. reduces itself to one aggregate map, which reads it from memory, and publishes that map,
//   2. takes the state before it: whoever comes first folds every map published so far into the state, in order,
//   3. scans its elements, now from the cache.
// So memory is read and written once. The state is one left fold over the tiles, and the cut depends on the shape alone:
// the bits do not depend on the number of threads. A tile waits only for tiles of smaller index, which were begun earlier,
// so any number of threads makes progress; and as a published map is folded by any thread, one whose core is taken away
// while it waits or scans holds nobody up.
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
    int64_t ring;        // tiles of a group that may be under way at once
    int64_t state_bytes; // of one group, whole cache lines
    bool stream;         // outputs pass the caches by

    // A link of the ring: its flags, then the factor and the aggregate of the tile's map and the state before the tile.
    int64_t link_bytes() const { return 64 + 3 * state_bytes; }
    // Of a group: its flags, the state, the ring.
    int64_t chain_bytes() const { return 64 + state_bytes + ring * link_bytes(); }
    int64_t tasks() const { return tiles > 1 ? groups * tiles : (groups + groups_per_task - 1) / groups_per_task; }
    uint64_t workspace_bytes() const { return tiles > 1 ? static_cast<uint64_t>(groups * chain_bytes()) : 0; }
};

// tensors: how many sequence tensors the operation touches; together beyond the last cache, outputs are written past it.
// tile_option: steps of a tile as a test wants them, 0 for the plan's own choice.
inline TilePlan plan_tiles(const SequenceShape& shape, int64_t element_bytes, int64_t state_bytes, int64_t tile_option,
                           int64_t tensors, int64_t cache_bytes) {
    constexpr int64_t tile_bytes = 65536; // of one tensor
    constexpr int64_t enough_groups = 128, task_elements = 32768, ring_bytes = 65536;
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
    plan.state_bytes = (plan.channel_block * state_bytes + 63) / 64 * 64;
    const int64_t enough = 2 * usable_threads(); // for nobody to wait until a link is free
    plan.ring = std::min(plan.tiles, std::max(enough, std::min<int64_t>(ring_bytes / plan.link_bytes(), 64)));
    plan.stream =
        shape.batch * shape.channels * shape.length * element_bytes > std::max<int64_t>(cache_bytes, 1 << 20) / tensors;
    return plan;
}

// Where the tiles of a group meet.
class TileChain {
  public:
    // What a link holds, as the tile (counted from 1) that put it there.
    struct Flags {
        std::atomic<int64_t> published, given, taken; // the map; the state before the tile; that state has been read
        bool restarts, ends;                          // the state after the tile is its aggregate; nobody needs it
    };
    struct Lock {
        std::atomic<int64_t> held;
        int64_t next; // tile to be folded
    };

    TileChain(const TilePlan& plan, void* workspace, int64_t group)
        : plan(plan), base(static_cast<char*>(workspace) + group * plan.chain_bytes()) {}

    void clear() const {
        lock().held.store(0, std::memory_order_relaxed);
        lock().next = 0;
        for (int64_t tile = 0; tile < plan.ring; ++tile) {
            flags(tile).published.store(0, std::memory_order_relaxed);
            flags(tile).given.store(0, std::memory_order_relaxed);
            flags(tile).taken.store(0, std::memory_order_relaxed);
        }
    }

    Lock& lock() const { return *reinterpret_cast<Lock*>(base); }
    void* state() const { return base + 64; }
    Flags& flags(int64_t tile) const { return *reinterpret_cast<Flags*>(link(tile)); }
    void* factor(int64_t tile) const { return link(tile) + 64; }
    void* aggregate(int64_t tile) const { return link(tile) + 64 + plan.state_bytes; }
    void* before(int64_t tile) const { return link(tile) + 64 + 2 * plan.state_bytes; }

    // The tile's link may be written once the tile a ring earlier has taken its state.
    bool is_free(int64_t tile) const {
        return tile < plan.ring || flags(tile).taken.load(std::memory_order_acquire) == tile - plan.ring + 1;
    }
    void publish(int64_t tile, bool restarts, bool ends) const {
        flags(tile).restarts = restarts;
        flags(tile).ends = ends;
        flags(tile).published.store(tile + 1, std::memory_order_release);
    }
    bool is_given(int64_t tile) const { return flags(tile).given.load(std::memory_order_acquire) == tile + 1; }
    void take(int64_t tile) const { flags(tile).taken.store(tile + 1, std::memory_order_release); }

    // Calls advance(tile) for every published tile whose turn it is, unless another thread is about it.
    template <class F>
    void fold(const F& advance) const {
        if (lock().held.load(std::memory_order_relaxed) != 0 || lock().held.exchange(1, std::memory_order_acquire) != 0)
            return;
        int64_t tile = lock().next;
        for (; tile < plan.tiles && flags(tile).published.load(std::memory_order_acquire) == tile + 1; ++tile) {
            advance(tile);
            flags(tile).given.store(tile + 1, std::memory_order_release);
        }
        lock().next = tile;
        lock().held.store(0, std::memory_order_release);
    }

  private:
    char* link(int64_t tile) const { return base + 64 + plan.state_bytes + tile % plan.ring * plan.link_bytes(); }

    const TilePlan& plan;
    char* const base;
};

inline void clear_chains(const TilePlan& plan, void* workspace) {
    if (plan.tiles > 1)
        for (int64_t group = 0; group < plan.groups; ++group)
            TileChain(plan, workspace, group).clear();
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
