// How the long convolution and its gradients are cut into work and lie in the workspace.
#pragma once

#include "cpu/context.h"
#include "cpu/fft.h"

namespace ssm::cpu {

// causal_conv.path and causal_conv_backward.path: sums step by step; by transforms; by transforms that have columns although
// they would fit the cache.
enum CausalConvPath : int64_t {
    causal_conv_path_default = 0,
    causal_conv_path_direct = 1,
    causal_conv_path_fft = 2,
    causal_conv_path_columns = 3
};

struct CausalConvWork {
    TransformCut cut;
    FftShape fft;
    bool direct;
    int64_t workers;
    int64_t kept_heads;     // spectra that are kept at once; 0: none
    int64_t shared_numbers; // with columns: what all workers work on
    int64_t own_numbers;    // of each worker

    static constexpr int64_t direct_steps = 4096; // at a time
    static constexpr int64_t padding = 64;        // numbers behind a buffer that vectors may take with them

    // Taps of the direct sum, from the earliest step to the latest.
    int64_t window() const { return cut.past + 1 + cut.future; }
    int64_t window_numbers() const { return (window() + 2 * padding - 1) / padding * padding; }
    int64_t seen_numbers() const { return window_numbers() + direct_steps; }
    static constexpr int64_t block_numbers = direct_steps + padding;
    bool has_columns() const { return fft.rows > 1; }
    int64_t total_numbers() const { return kept_heads * cut.length + shared_numbers + workers * own_numbers; }
};

// Whether sums step by step take less time than transforms. The factor is what an operation of a transform takes over that
// of a sum.
inline bool is_direct_faster(const TransformCut& cut, int64_t steps, int64_t sequences) {
    constexpr double factor = 2.4;
    const double segments = static_cast<double>(count_segments(steps, sequences, cut.step));
    const double direct =
        static_cast<double>(cut.past + 1 + cut.future) * static_cast<double>((steps + 15) / 16 * 16 + 8 * sequences);
    return direct < factor * segments * static_cast<double>(cut.length) * (log2_of(cut.length) + 6);
}

// heads: whose spectra are kept, as many as a quarter of a gigabyte holds. buffers: transforms that a worker holds at once.
inline CausalConvWork plan_causal_conv(const TransformCut& cut, int64_t path, int64_t steps, int64_t sequences,
                                       int64_t heads, int64_t buffers, int threads, int64_t element_bytes) {
    constexpr int64_t kept_bytes = int64_t{1} << 28;
    CausalConvWork work = {};
    work.cut = cut;
    work.fft = FftShape::of(cut.points(), path == causal_conv_path_columns);
    work.direct =
        path == causal_conv_path_direct || (path == causal_conv_path_default && is_direct_faster(cut, steps, sequences));
    work.workers = FftShape::workers(threads);
    if (work.direct) {
        work.own_numbers = 2 * work.window_numbers() + work.seen_numbers() + 2 * CausalConvWork::block_numbers;
        return work;
    }
    work.kept_heads = std::min(heads, std::max<int64_t>(1, kept_bytes / (cut.length * element_bytes)));
    work.shared_numbers = work.has_columns() ? buffers * cut.length : 0;
    work.own_numbers = work.has_columns() ? work.fft.tile_numbers() : buffers * cut.length;
    return work;
}

// The whole of a sequence.
inline TransformSegment sequence_of(const SequenceShape& shape, int64_t row) {
    const int64_t begin = shape.cu_seqlens ? shape.cu_seqlens[row] : 0;
    const int64_t end = shape.cu_seqlens ? shape.cu_seqlens[row + 1] : shape.length;
    return {shape.cu_seqlens ? 0 : row, row, begin, end - begin, 0};
}

} // namespace ssm::cpu
