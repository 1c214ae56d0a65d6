// Runs one task of a TilePlan, for operations whose state is a left fold of maps h -> A h + B (see tiles.h).
#if defined(SSM_CPU_TILES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SSM_CPU_TILES_INL_H_
#undef SSM_CPU_TILES_INL_H_
#else
#define SSM_CPU_TILES_INL_H_
#endif

#include "cpu/simd-inl.h"
#include "cpu/tiles.h"

#include "hwy/cache_control.h"

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

// Kernel offers, for a group of `count` channels from `channel` on:
//   State
//   begin(piece, channel, count, state)           the state before a sequence's first step
//   finish(row, channel, count, state)          what becomes of the state after its last step
//   scan(piece, batch, channel, count, state)   every step, taking and leaving the state
//   aggregate(piece, batch, channel, count, factor, state)  (factor, state) becomes the map of the piece after them
//   compose(factor, aggregate, count, state)    state = factor state + aggregate
//   identity(count, factor, state)
template <class Kernel>
void run_task(const Kernel& kernel, const SequenceShape& shape, const TilePlan& plan, void* workspace, int64_t task) {
    using State = typename Kernel::State;
    constexpr int64_t most = block_state_bytes / sizeof(State);
    alignas(64) State state[most];
    const auto scan = [&](int64_t batch, int64_t channel, int64_t count, int64_t begin, int64_t end) {
        for_each_piece(shape, batch, begin, end, [&](const Piece& piece) {
            if (piece.starts)
                kernel.begin(piece, channel, count, state);
            kernel.scan(piece, batch, channel, count, state);
            if (piece.ends)
                kernel.finish(piece.row, channel, count, state);
        });
    };
    struct Flush { // streamed stores are seen by others after this
        bool wanted;
        ~Flush() {
            if (wanted)
                hwy::FlushStream();
        }
    } flush{plan.stream};
    if (plan.tiles == 1) {
        const int64_t last = std::min(plan.groups, (task + 1) * plan.groups_per_task);
        for (int64_t group = task * plan.groups_per_task; group < last; ++group) {
            const int64_t channel = group % plan.blocks * plan.channel_block;
            scan(group / plan.blocks, channel, std::min(plan.channel_block, shape.channels - channel), 0, shape.length);
        }
        return;
    }
    // Tiles of all groups side by side, so that the next tile of a group is begun long after its predecessor.
    const int64_t tile = task / plan.groups, group = task % plan.groups;
    const int64_t batch = group / plan.blocks, channel = group % plan.blocks * plan.channel_block;
    const int64_t count = std::min(plan.channel_block, shape.channels - channel);
    const int64_t begin = tile * plan.tile, end = std::min(shape.length, begin + plan.tile);
    const TileChain chain(plan, workspace, group);
    const auto at = [](void* states) { return static_cast<State*>(states); };
    Backoff backoff;
    while (!chain.is_free(tile))
        backoff.pause();
    State *const factor = at(chain.factor(tile)), *const aggregate = at(chain.aggregate(tile));
    bool restarts = false; // a sequence starts inside: nothing of the predecessor's state gets past it
    const bool is_last = tile + 1 == plan.tiles;
    if (!is_last) {
        kernel.identity(count, factor, aggregate);
        for_each_piece(shape, batch, begin, end, [&](const Piece& piece) {
            if (piece.starts) {
                restarts = true;
                kernel.identity(count, factor, aggregate);
                kernel.begin(piece, channel, count, aggregate);
            }
            kernel.aggregate(piece, batch, channel, count, factor, aggregate);
        });
    }
    chain.publish(tile, restarts, is_last);
    while (!chain.is_given(tile)) {
        chain.fold([&](int64_t t) {
            State* const running = at(chain.state());
            if (t > 0)
                std::copy_n(running, count, at(chain.before(t)));
            if (chain.flags(t).restarts)
                std::copy_n(at(chain.aggregate(t)), count, running);
            else if (!chain.flags(t).ends)
                kernel.compose(at(chain.factor(t)), at(chain.aggregate(t)), count, running);
        });
        if (!chain.is_given(tile))
            backoff.pause();
    }
    if (tile > 0)
        std::copy_n(at(chain.before(tile)), count, state);
    chain.take(tile);
    scan(batch, channel, count, begin, end);
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
