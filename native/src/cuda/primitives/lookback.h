// Decoupled look-back (Merrill and Garland, "Single-pass Parallel Prefix Scan with Decoupled Look-back", 2016) whose
// result does not depend on timing. Every tile publishes the summary of its own steps, and later the state after them. A
// tile takes the nearest published state and applies the summaries of the tiles between to it from left to right. The
// state before a tile is thus one left fold over the tiles, wherever in the chain it was picked up.
//
// Tiles are numbered by tickets, drawn in the order in which blocks come to run, so that a tile waits only for tiles that
// are running or done. Flags and the ticket counter must be zero when the kernel starts.
#pragma once

#include "cuda/primitives/cuda.h"
#include "cuda/primitives/flags.h"
#include "cuda/primitives/warp.h"

namespace ssm {

enum LookBackFlag : uint32_t { flag_empty = 0, flag_summary = 1, flag_state = 2 };

// The records of all tiles; `lanes` summaries and states each (one for each channel of the tile).
template <typename Operator>
struct LookBackRecords {
    unsigned long long* ticket;
    uint32_t* flags;
    typename Operator::Summary* summaries;
    typename Operator::State* states;
};

constexpr int look_back_window = 8 * warp_size;

// For a whole warp: waits until the nearest tile with a published state, at most look_back_window tiles back, and all
// tiles between have published, and answers how far back it is. Tile `ticket` - d `stride` is d tiles back; there are
// `available` of them.
template <typename Operator>
SSM_DEVICE int wait_for_state(const LookBackRecords<Operator>& records, int64_t ticket, int64_t stride, int64_t available,
                              int lane) {
    for (;;) {
        for (int group = 0; group < look_back_window / warp_size; ++group) {
            const int distance = group * warp_size + lane + 1;
            const uint32_t flag =
                distance <= available ? load_acquire(&records.flags[ticket - distance * stride]) : uint32_t{flag_empty};
            const unsigned with_state = warp_ballot(flag == flag_state);
            const unsigned published = warp_ballot(flag != flag_empty);
            if (with_state != 0) {
                const int nearest = __ffs(static_cast<int>(with_state)) - 1;
                const unsigned between = (1u << nearest) - 1;
                if ((published & between) == between) {
                    __syncwarp(); // what one lane acquired holds for all
                    return group * warp_size + nearest + 1;
                }
                break;
            }
            if (published != full_mask) {
                break;
            }
        }
        if (Operator::ignores_flags()) {
            return 1;
        }
    }
}

// For one thread: what a tile publishes of one lane. The flag follows, once all lanes have stored theirs.
template <typename Operator>
SSM_DEVICE void publish(const LookBackRecords<Operator>& records, int64_t ticket, LookBackFlag flag) {
    store_release(&records.flags[ticket], flag);
}

} // namespace ssm
