// The threads of a block as a team (core/team.h), and sums over a warp's lanes.
#pragma once

#include "cuda/primitives/cuda.h"

#include "core/team.h"
#include "cuda/primitives/numbers.h"
#include "cuda/primitives/warp.h"

namespace ssm {

// Blocks of teams, of one dimension. What a team writes to global memory its threads see after sync().
constexpr int team_threads = 256;
// Memory is for this many blocks at most; each takes one item after another.
constexpr int64_t team_slots = 128;

struct BlockTeam {
    static constexpr int columns = 1;
#if defined(__CUDACC__) && !defined(__CUDA_ARCH__)
    SSM_INLINE int64_t rank() const {
        return 0;
    } // never called: a team is on the device
    SSM_INLINE int64_t size() const {
        return 1;
    }
    SSM_INLINE void sync() const {}
#else
    SSM_INLINE int64_t rank() const {
        return threadIdx.x;
    }
    SSM_INLINE int64_t size() const {
        return blockDim.x;
    }
    SSM_INLINE void sync() const {
        __syncthreads();
    }
#endif
};

constexpr int64_t slots_of(int64_t items) {
    return items < team_slots ? items : team_slots;
}

// The sum over the lanes, in every lane.
template <typename R>
SSM_DEVICE R sum_over_lanes(R value) {
#pragma unroll
    for (int lanes = warp_size / 2; lanes > 0; lanes /= 2) {
        value = value + shuffle_xor(value, lanes);
    }
    return value;
}

// Threads of a block that shares out this many states: whole warps.
constexpr int threads_for_states(int64_t states) {
    return states >= team_threads ? team_threads : static_cast<int>((states + warp_size - 1) / warp_size * warp_size);
}

} // namespace ssm
