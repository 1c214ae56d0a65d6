// What ssd and its gradients share on the device: chunks of steps as tiles in shared memory, and their decays.
#pragma once

#include "cuda/primitives/cuda.h"

#include "core/mutate.h"
#include "core/params/ssd.h"
#include "cuda/context.h"
#include "cuda/primitives/launch.h"
#include "cuda/primitives/math.h"
#include "cuda/primitives/numbers.h"
#include "cuda/primitives/sequence.h"
#include "cuda/primitives/shared.h"
#include "cuda/primitives/tile_product.h"
#include "cuda/primitives/vector.h"
#include "cuda/primitives/warp.h"

namespace ssm {

SSM_INLINE constexpr int round_up_to_step(int count) {
    return (count + tile_step - 1) / tile_step * tile_step;
}

// A block's share of a head's channels or of the states: up to a tile of them.
struct TileRange {
    int64_t first;
    int count;
    SSM_DEVICE TileRange(int64_t index, int tile, int64_t all) : first(index * tile) {
        count = static_cast<int>(all - first < tile ? all - first : tile);
    }
    SSM_DEVICE int padded() const { return round_up_to_step(count); }
};

// exp of a sum of s a in two parts, which of floats are multiplied by log2(e).
SSM_DEVICE float decay_of(float high, float low) {
    return fast_exp2(high + low);
}
SSM_DEVICE double decay_of(double high, double low) {
    return exp(high + low);
}

// A sum and what rounding has lost of it.
struct PreciseSum {
    double value;
    double rest;
};
SSM_DEVICE PreciseSum operator+(PreciseSum x, PreciseSum y) {
    const double sum = x.value + y.value;
    const double back = sum - x.value;
    return {sum, x.rest + y.rest + ((x.value - (sum - back)) + (y.value - back))};
}

// The steps of a chunk. The logarithms of the decays are summed in double, with what rounding loses, and kept in two parts,
// so that their differences are good to the last place however far from the chunk's start; quotients of the exponentials
// would overflow.
template <typename T, int tile = tile_size<T>>
struct SsdSteps {
    using R = Compute<T>;
    R s[tile];
    R high[tile];
    R low[tile];
    int restarts[tile]; // of the state, up to and with the step

    // The decay from step j on, exclusive, to step i; zero where the state restarts in between.
    SSM_DEVICE R between(int j, int i) const {
        return restarts[i] == restarts[j] ? decay_of(high[i] - high[j], low[i] - low[j]) : R(0);
    }
    // Of the state before the chunk.
    SSM_DEVICE R from_start(int i) const { return restarts[i] == 0 ? decay_of(high[i], low[i]) : R(0); }
};

// The size of a step, s, from dt + dt_bias.
template <typename R>
SSM_DEVICE R step_size(const SsdInputs& p, R biased) {
    R s = p.dt_softplus ? softplus(biased) : biased;
    if (p.dt_min > 0 && s < static_cast<R>(p.dt_min)) {
        s = static_cast<R>(p.dt_min);
    }
    if (p.dt_max > 0 && s > static_cast<R>(p.dt_max)) {
        s = static_cast<R>(p.dt_max);
    }
    return s;
}

// Where step t of the span lies, of a head or of a group.
template <typename T>
SSM_DEVICE T* place_of(const HeadTensor& tensor, const Span& span, int64_t head, int64_t t) {
    return static_cast<T*>(tensor.data) + span.batch * tensor.batch_stride + head * tensor.head_stride +
           (span.begin + t) * tensor.time_stride;
}

// Steps [begin, begin + count) of the span for the whole block; those behind are as if they had no size. Ends with a
// barrier.
template <typename T, int tile>
SSM_DEVICE void read_steps(const SsdInputs& p, const Span& span, int64_t head, int64_t begin, int count,
                           SsdSteps<T, tile>& steps) {
    using R = Compute<T>;
    constexpr int each = tile / warp_size;
    constexpr double unit = sizeof(R) == 4 ? 1.4426950408889634074 : 1.0;
    const int thread = static_cast<int>(threadIdx.x);
    if (thread < tile) {
        R s = 0;
        int restart = 0;
        if (thread < count && p.log_decay.data) {
            s = *place_of<const R>(p.log_decay, span, head, begin + thread); // for the sums; it becomes 1 behind them
        } else if (thread < count) {
            const R bias = p.dt_bias ? static_cast<const R*>(p.dt_bias)[head] : R(0);
            s = step_size(p, widen(*place_of<const T>(p.dt, span, head, begin + thread)) + bias);
            if (p.seq_idx && begin + thread > 0) {
                const int32_t* const ids = p.seq_idx + span.batch * p.shape.length + span.begin + begin + thread;
                restart = ids[0] != SSM_MUTATE("ssd.cuda.missed_restart", ids[-1], ids[0]);
            }
        }
        steps.s[thread] = s;
        steps.restarts[thread] = restart;
    }
    __syncthreads();
    if (warp_id() == 0) {
        const double a = p.log_decay.data ? unit : static_cast<double>(static_cast<const R*>(p.a)[head]) * unit;
        PreciseSum sums[each];
        int restarts[each];
#pragma unroll
        for (int i = 0; i < each; ++i) {
            const double s = static_cast<double>(steps.s[lane_id() * each + i]);
            const bool vanishes = s * a < ssd_least_logarithm;
            const PreciseSum term{vanishes ? ssd_least_logarithm : s * a, vanishes ? 0.0 : fma(s, a, -(s * a))};
            sums[i] = i > 0 ? sums[i - 1] + term : term;
            restarts[i] = steps.restarts[lane_id() * each + i] + (i > 0 ? restarts[i - 1] : 0);
        }
        PreciseSum sum = sums[each - 1];
        int restart = restarts[each - 1];
        for (int delta = 1; delta < warp_size; delta *= 2) {
            const PreciseSum sum_before = shuffle_up(sum, delta);
            const int restart_before = shuffle_up(restart, delta);
            if (lane_id() >= delta) {
                sum = sum_before + sum;
                restart += restart_before;
            }
        }
        PreciseSum sum_before = shuffle_up(sum, 1);
        int restart_before = shuffle_up(restart, 1);
        if (lane_id() == 0) {
            sum_before = {0, 0};
            restart_before = 0;
        }
#pragma unroll
        for (int i = 0; i < each; ++i) {
            const PreciseSum total = sum_before + sums[i];
            const R high = static_cast<R>(total.value);
            steps.high[lane_id() * each + i] = high;
            steps.low[lane_id() * each + i] = static_cast<R>(total.value - static_cast<double>(high) + total.rest);
            steps.restarts[lane_id() * each + i] = restart_before + restarts[i];
            if (p.log_decay.data) {
                steps.s[lane_id() * each + i] = 1;
            }
        }
    }
    __syncthreads();
}

// `rows` rows of memory, `row_stride` apart, of which `columns` elements, to a tile's first `padded_rows` rows and
// `padded_columns` columns, zero where there is nothing.
template <int tile, typename T>
SSM_DEVICE void load_tile(const T* from, int64_t row_stride, int rows, int columns, int padded_rows, int padded_columns,
                          T* to) {
    constexpr int width = vector_elements<T>;
    constexpr int pitch = tile_pitch<T, tile>;
    const bool aligned = is_aligned(from, 16) && row_stride % width == 0;
    const int vectors = padded_columns / width;
    for (int i = static_cast<int>(threadIdx.x); i < padded_rows * vectors; i += tile_threads) {
        const int row = i / vectors;
        const int column = (i - row * vectors) * width;
        Vector<T, width> vector;
        if (row < rows && column + width <= columns && aligned) {
            vector = load_vector<width>(from + row * row_stride + column);
        } else {
#pragma unroll
            for (int k = 0; k < width; ++k) {
                vector[k] = row < rows && column + k < columns ? from[row * row_stride + column + k] : narrow<T>(0);
            }
        }
        store_vector<width>(to + row * pitch + column, vector);
    }
}

// Rows of a tile, each times a factor of its own.
template <int tile, typename T, typename Factor>
SSM_DEVICE void scale_tile(T* elements, int rows, int columns, const Factor& factor) {
    constexpr int width = vector_elements<T>;
    const int vectors = columns / width;
    for (int i = static_cast<int>(threadIdx.x); i < rows * vectors; i += tile_threads) {
        const int row = i / vectors;
        T* const at = elements + row * tile_pitch<T, tile> + (i - row * vectors) * width;
        const Compute<T> own = factor(row);
        Vector<T, width> vector = load_vector<width>(at);
#pragma unroll
        for (int k = 0; k < width; ++k) {
            vector[k] = narrow<T>(own * widen(vector[k]));
        }
        store_vector<width>(at, vector);
    }
}

inline int64_t ssd_ceil_divide(int64_t x, int64_t y) {
    return x / y + (x % y != 0);
}

// Steps of a chunk: what a tile holds, or fewer where the caller or a test wants that.
inline int ssd_chunk(const SsdInputs& params, int64_t option, int tile) {
    int64_t chunk = tile;
    for (const int64_t wanted : {params.chunk, option}) {
        if (wanted > 0 && wanted < chunk) {
            chunk = wanted;
        }
    }
    return static_cast<int>(chunk);
}

// Chunks of a row, where packed of a typical one.
inline int64_t ssd_typical_chunks(const SequenceShape& shape, int chunk) {
    const int64_t rows = shape.state_rows();
    return ssd_ceil_divide(shape.cu_seqlens ? ssd_ceil_divide(shape.length, rows > 0 ? rows : 1) : shape.length, chunk);
}

// Calls f with a value of the storage type.
template <typename Function>
int32_t dispatch_ssd(DataType type, const Function& f) {
    switch (type) {
    case DataType::float32:
        return f(float{});
    case DataType::float64:
        return f(double{});
    case DataType::float16:
        return f(Half{});
    case DataType::bfloat16:
        return f(BFloat16{});
    default:
        return fail(error_internal, "a backend was called with a type that core should have refused");
    }
}

} // namespace ssm
