// What rms_norm and its gradients share: teams of threads for rows, runs of a row as vectors, sums over a team.
#pragma once

#include "cuda/primitives/cuda.h"

#include "core/params/rms_norm.h"
#include "cuda/primitives/math.h"
#include "cuda/primitives/numbers.h"
#include "cuda/primitives/vector.h"
#include "cuda/primitives/warp.h"

namespace ssm {

constexpr int norm_threads = 512;     // of any team at most
constexpr int norm_small_block = 128; // of teams of one warp
constexpr int64_t norm_most_blocks = int64_t{1} << 30;

// A team is a warp, or a block of more: as many warps as hold a group of a row, where there are so many. It depends on
// the length of the group alone, so that a row has the same bits in whatever batch.
struct NormTeam {
    int32_t threads;
    int32_t block;
    int64_t parts; // of a group that is longer than the team holds

    SSM_DEVICE int thread() const { return threads == warp_size ? lane_id() : static_cast<int>(threadIdx.x); }
    SSM_DEVICE int64_t first_item() const {
        return threads == warp_size ? static_cast<int64_t>(blockIdx.x) * (block / warp_size) + warp_id() : blockIdx.x;
    }
    SSM_DEVICE int64_t items_at_once() const { return static_cast<int64_t>(gridDim.x) * (block / threads); }
};
// `held`: elements that a thread keeps.
inline NormTeam norm_team(int64_t group, int64_t held, int64_t most_threads) {
    const int64_t warps = (group + warp_size * held - 1) / (warp_size * held);
    NormTeam team{};
    team.threads = static_cast<int32_t>(warps * warp_size < most_threads ? warps * warp_size : most_threads);
    team.block = team.threads > warp_size ? team.threads : norm_small_block;
    team.parts = (group + team.threads * held - 1) / (team.threads * held);
    return team;
}

// What a team has at a time of a group that begins at `begin` of its row: the first element, and how many are left from
// there, cut to what matters.
struct NormPart {
    int64_t first;
    int32_t left;

    SSM_DEVICE NormPart(int64_t part, int64_t begin, int64_t group, int64_t held)
        : first(begin + part * held), left(static_cast<int32_t>(group - part * held < held ? group - part * held : held)) {}
    // From `place` on, at most `width`; none or fewer behind the end.
    SSM_DEVICE int count(int place, int width) const { return left - place < width ? left - place : width; }
};

// Whether every group of every row begins where a vector of `width` elements may.
inline bool has_whole_vectors(const RowTensor& tensor, const RowShape& shape, int64_t width, int64_t element_bytes) {
    int64_t starts = shape.groups() > 1 ? shape.group : 0;
    for (int axis = 0; axis < RowShape::axes; ++axis) {
        starts |= shape.extents[axis] > 1 ? tensor.strides[axis] : 0;
    }
    const int64_t bytes = width * element_bytes < 16 ? width * element_bytes : 16;
    return starts % width == 0 && is_aligned(tensor.data, bytes);
}
inline bool has_whole_vectors(const void* parameter, const RowShape& shape, int64_t width, int64_t element_bytes) {
    RowTensor tensor;
    tensor.data = const_cast<void*>(parameter);
    return has_whole_vectors(tensor, shape, width, element_bytes);
}

// Where a row begins, in elements.
SSM_DEVICE int64_t row_offset(const RowShape& shape, const RowTensor& tensor, int64_t row) {
    if (shape.extents[0] == 1 && shape.extents[1] == 1) {
        return row * tensor.strides[2];
    }
    const int64_t outer = row / shape.extents[2];
    const int64_t outermost = outer / shape.extents[1];
    return outermost * tensor.strides[0] + (outer - outermost * shape.extents[1]) * tensor.strides[1] +
           (row - outer * shape.extents[2]) * tensor.strides[2];
}

// `count` of `width` neighbours as they lie in memory; what is beyond them is zero, in every type.
template <int width, typename T>
SSM_DEVICE Vector<T, width> load_run(const T* data, int count, bool whole) {
    if (whole && count >= width) {
        return load_vector<width>(data);
    }
    Vector<T, width> vector;
#pragma unroll
    for (int i = 0; i < width; ++i) {
        vector[i] = i < count ? data[i] : narrow<T>(Compute<T>(0));
    }
    return vector;
}
template <int width, typename T>
SSM_DEVICE void store_run(T* data, int count, bool whole, const Compute<T> (&values)[width]) {
    if (whole && count >= width) {
        Vector<T, width> vector;
#pragma unroll
        for (int i = 0; i < width; ++i) {
            vector[i] = narrow<T>(values[i]);
        }
        store_vector<width>(data, vector);
        return;
    }
#pragma unroll
    for (int i = 0; i < width; ++i) {
        if (i < count) {
            data[i] = narrow<T>(values[i]);
        }
    }
}

template <typename R, int sums>
struct NormStorage {
    R of_warp[norm_threads / warp_size][sums];
};

// The sums over the threads of a team, the same in all of them; in a fixed order. All threads of a team of more than a warp,
// which is the block, come here.
template <typename R, int sums>
SSM_DEVICE void add_team(R (&values)[sums], int team, NormStorage<R, sums>& shared) {
#pragma unroll
    for (int i = 0; i < sums; ++i) {
#pragma unroll
        for (int delta = 1; delta < warp_size; delta *= 2) {
            values[i] += shuffle_xor(values[i], delta);
        }
    }
    if (team == warp_size) {
        return;
    }
    __syncthreads(); // the sums before are done with
#pragma unroll
    for (int i = 0; i < sums; ++i) {
        if (lane_id() == 0) {
            shared.of_warp[warp_id()][i] = values[i];
        }
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < sums; ++i) {
        values[i] = 0;
        for (int warp = 0; warp < team / warp_size; ++warp) {
            values[i] += shared.of_warp[warp][i];
        }
    }
}

} // namespace ssm
