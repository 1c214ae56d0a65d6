// Gradients of causal_conv1d. With z the sum before the activation and g = grad_y act'(z):
// grad_x_t = sum_j w_j g_{t+W-1-j}, grad_weight_j = sum_{b,t} g_t x_{t-W+1+j}, grad_bias = sum_{b,t} g_t.
//
// General kernel, any width: a block takes a few channels and goes through a chunk of tiles, of whatever sequences. Of each
// tile it stages the steps of x from W - 1 before it to W - 1 behind it, those of grad_y from its own to W - 1 behind it,
// and the weights in shared memory, turns grad_y into g, and writes grad_x from it. Sums for the weights and the bias stay
// in shared memory through the chunk; what a chunk sums up goes into the workspace, and a second kernel adds the chunks in
// order. The number of chunks depends on the shape and the device alone, so the bits do too.
//
// Two to four weights: the same in registers, with vectors of steps or of channels; sums through a chunk stay in registers
// too. With seq_idx the general kernel takes these too, as in causal_conv1d.
//
// Bytes for an element: 3 e (x, grad_y in, grad_x out), and (W - 1) / tile of 2 e again. Operations: 3 W fused products,
// with silu an exponential and a quotient.
#include "core/params/causal_conv1d_backward.h"
#include "cuda/causal_conv1d.h"
#include "cuda/primitives/silu.h"
#include "cuda/primitives/warp.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

template <typename R>
struct ConvolutionBackwardArguments {
    CausalConv1dBackwardParams params;
    ConvolutionCut cut;
    int64_t chunks; // of every block of channels
    R* sums;        // (chunks, D, W + 1): of the weights, then of the bias; null where neither is wanted
    SequenceTable table;
};

// Few weights. Threads take vectors of 16 bytes of steps, or of few_weights_lanes channels.
constexpr int few_weights_lanes = 4;

template <typename R>
struct FewWeightsBackwardArguments {
    CausalConv1dBackwardParams params;
    int64_t tile;        // steps
    int64_t slots;       // tiles of a channel
    int64_t vectors;     // of channels; time contiguous: channels
    int64_t chunks;      // of every vector of channels
    int64_t chunk_tiles; // tiles of a chunk
    int64_t items;       // of blocks; channels contiguous: of threads
    R* sums;
};

template <typename R>
struct FewWeightsStorage {
    R sums[convolution_threads / warp_size][5]; // of each warp
};

// Of the second kernel.
template <typename R>
struct ChunkSums {
    int64_t channels;
    int64_t width;
    int64_t chunks;
    const R* sums; // (chunks, channels, width + 1)
    R* grad_weight;
    R* grad_bias;
};

// ---- Kernels -------------------------------------------------------------------------------------------------------------

template <typename T>
struct ConvolutionBackwardBlock {
    using R = Compute<T>;

    const CausalConv1dBackwardParams& params;
    const ConvolutionCut& cut;
    ConvolutionBlock<R> block;
    int history;
    int x_columns, g_columns;
    R *x, *g, *weights, *sums; // in shared memory
    int* reaches; // of the steps that g has, where seq_idx is given: how many taps stay in the sequence, but one

    SSM_DEVICE ConvolutionBackwardBlock(const ConvolutionBackwardArguments<R>& arguments, int64_t channel_block, R* memory)
        : params(arguments.params), cut(arguments.cut), block(params.shape, cut, params.width, channel_block) {
        history = block.width - 1;
        x_columns = cut.tile_capacity() + 2 * history;
        g_columns = cut.tile_capacity() + history;
        x = memory;
        g = x + block.channels * x_columns;
        weights = g + block.channels * g_columns;
        sums = weights + block.channels * block.width;
        reaches = reinterpret_cast<int*>(sums + block.channels * (block.width + 1));
    }

    // With entries: how many steps back the taps of step k of g go.
    SSM_DEVICE int reach_of(int k) const { return reaches[k] < history ? reaches[k] : history; }

    SSM_DEVICE R last_state_gradient(const ConvolutionItem& item, int64_t channel, int64_t step) const {
        const Span& span = item.span;
        const R* gradient = static_cast<const R*>(params.grad_last_state);
        const int64_t from_first = step - (span.length - history);
        const int64_t most = item.entries && span.length > 0 ? reach_of_entry(item.entries[span.length - 1]) : history;
        const bool is_own =
            span.length - 1 - step <= SSM_MUTATE("causal_conv1d_backward.cuda.state_of_another", most, history);
        return gradient && from_first >= 0 && is_own
                   ? gradient[(span.row * block.all_channels + channel) * history + from_first]
                   : R(0);
    }

    SSM_DEVICE void run(const ConvolutionItem& item) {
        __syncthreads(); // the tile before is done with
        const int64_t left = item.span.length - item.begin;
        const int ahead = SSM_MUTATE("causal_conv1d_backward.cuda.no_look_ahead", history, 0);
        const int known = static_cast<int>(left < item.count + ahead ? left : item.count + ahead);
        block.template stage_steps<T>(params.x, item.span, item.entries, params.initial_state, history, item.begin - history,
                                      history + known, x_columns, x);
        block.template stage_steps<T>(params.grad_y, item.span, item.entries, nullptr, 0, item.begin, known, g_columns, g);
        block.each(item.count + history - known,
                   [&](int channel, int k) { g[block.place(channel, known + k, g_columns)] = R(0); });
        if (item.entries) {
            for (int k = static_cast<int>(threadIdx.x); k < item.count + history; k += convolution_threads) {
                reaches[k] = k < known ? SSM_MUTATE("causal_conv1d_backward.cuda.missed_restart",
                                                    reach_of_entry(item.entries[item.begin + k]), 255)
                                       : 0;
            }
        }
        __syncthreads();
        const int64_t channel = block.first_channel + block.channel;
        const bool exists = block.exists(block.channel);
        if (params.silu) {
            const R* bias = static_cast<const R*>(params.bias);
            const R start = bias && exists ? bias[channel] : R(0);
            for (int first = block.first; first < known; first += convolution_steps * block.row_threads) {
                R z[convolution_steps];
#pragma unroll
                for (int k = 0; k < convolution_steps; ++k) {
                    z[k] = start;
                }
                if (item.entries) { // the taps that stay in the sequence
#pragma unroll
                    for (int k = 0; k < convolution_steps; ++k) {
                        const int step = first + k * block.row_threads;
                        for (int j = step < known ? history - reach_of(step) : block.width; j < block.width; ++j) {
                            z[k] = multiply_add(weights[block.place(block.channel, j, block.width)],
                                                x[block.place(block.channel, step + j, x_columns)], z[k]);
                        }
                    }
                }
                for (int j = 0; j < (item.entries ? 0 : block.width); ++j) {
                    const R weight = weights[block.place(block.channel, j, block.width)];
#pragma unroll
                    for (int k = 0; k < convolution_steps; ++k) {
                        const int step = first + k * block.row_threads;
                        if (step < known) {
                            z[k] = multiply_add(weight, x[block.place(block.channel, step + j, x_columns)], z[k]);
                        }
                    }
                }
#pragma unroll
                for (int k = 0; k < convolution_steps; ++k) {
                    const int step = first + k * block.row_threads;
                    if (step < known) {
                        g[block.place(block.channel, step, g_columns)] *= silu_slope(z[k]);
                    }
                }
            }
            __syncthreads();
        }
        if (params.grad_x.data && exists) {
            write_steps(item, channel);
        }
        if (params.grad_initial_state && item.begin == 0) {
            write_initial_state(item);
        }
        add_sums(item);
    }

    SSM_DEVICE void write_steps(const ConvolutionItem& item, int64_t channel) const {
        R gradients[convolution_steps];
#pragma unroll
        for (int k = 0; k < convolution_steps; ++k) {
            gradients[k] = 0;
        }
        if (item.entries) { // the steps behind that are reached
#pragma unroll
            for (int k = 0; k < convolution_steps; ++k) {
                const int step = block.first + k * block.row_threads;
                for (int j = 0; step < item.count && j < block.width; ++j) {
                    if (j <= reach_of(step + j)) {
                        gradients[k] = multiply_add(weights[block.place(block.channel, history - j, block.width)],
                                                    g[block.place(block.channel, step + j, g_columns)], gradients[k]);
                    }
                }
            }
        }
        for (int j = 0; j < (item.entries ? 0 : block.width); ++j) {
            const R weight = weights[block.place(block.channel, history - j, block.width)];
#pragma unroll
            for (int k = 0; k < convolution_steps; ++k) {
                const int step = block.first + k * block.row_threads;
                gradients[k] = multiply_add(weight, g[block.place(block.channel, step + j, g_columns)], gradients[k]);
            }
        }
        T* to = static_cast<T*>(params.grad_x.data) + item.span.batch * params.grad_x.batch_stride +
                channel * params.grad_x.channel_stride + item.span.begin * params.grad_x.time_stride;
#pragma unroll
        for (int k = 0; k < convolution_steps; ++k) {
            const int step = block.first + k * block.row_threads;
            if (step < item.count) {
                const int64_t own = item.begin + step;
                const int64_t time = item.entries ? step_of_entry(item.entries[own]) : own;
                to[time * params.grad_x.time_stride] = narrow<T>(gradients[k] + last_state_gradient(item, channel, own));
            }
        }
    }

    // The steps before the sequence's first.
    SSM_DEVICE void write_initial_state(const ConvolutionItem& item) const {
        R* to = static_cast<R*>(params.grad_initial_state) +
                (item.span.row * block.all_channels + block.first_channel) * history;
        block.each(history, [&](int channel, int i) {
            if (block.exists(channel)) {
                R gradient = 0;
                for (int j = history - i; j < block.width; ++j) {
                    if (item.entries && j > reach_of(i - history + j)) {
                        break; // another sequence
                    }
                    gradient = multiply_add(weights[block.place(channel, history - j, block.width)],
                                            g[block.place(channel, i - history + j, g_columns)], gradient);
                }
                to[channel * history + i] = gradient + last_state_gradient(item, block.first_channel + channel, i - history);
            }
        });
    }

    // Each sum belongs to one thread through the whole chunk.
    SSM_DEVICE void add_sums(const ConvolutionItem& item) const {
        const int count = item.count;
        block.each(block.width + 1, [&](int channel, int j) {
            R sum = 0;
            if (j < block.width && item.entries) {
                for (int step = 0; step < count; ++step) {
                    if (history - j <= reach_of(step)) {
                        sum = multiply_add(g[block.place(channel, step, g_columns)],
                                           x[block.place(channel, step + j, x_columns)], sum);
                    }
                }
            } else if (j < block.width) {
                for (int step = 0; step < count; ++step) {
                    sum = multiply_add(g[block.place(channel, step, g_columns)],
                                       x[block.place(channel, step + j, x_columns)], sum);
                }
            } else {
                for (int step = 0; step < count; ++step) {
                    sum += g[block.place(channel, step, g_columns)];
                }
            }
            sums[block.place(channel, j, block.width + 1)] += sum;
        });
    }
};

template <typename R>
SSM_DEVICE int64_t chunk_end(const FewWeightsBackwardArguments<R>& arguments, int64_t chunk) {
    const int64_t tiles = arguments.params.shape.batch * arguments.slots;
    return (chunk + 1) * arguments.chunk_tiles < tiles ? (chunk + 1) * arguments.chunk_tiles : tiles;
}

// Few weights, time contiguous: a block takes a channel and goes through a chunk of tiles; a thread has a vector of steps,
// and reads the vectors beside it, which its neighbours have just read, for the steps on either side. Which thread has which
// step depends on the sequence alone and not on addresses: the order of the sums depends on it.
template <typename T, int width>
SSM_DEVICE void backward_row(const FewWeightsBackwardArguments<Compute<T>>& arguments, int64_t index,
                             FewWeightsStorage<Compute<T>>& shared) {
    using R = Compute<T>;
    constexpr int steps = vector_elements<T>;
    constexpr int history = width - 1;
    const CausalConv1dBackwardParams& params = arguments.params;
    const int64_t channels = params.shape.channels;
    const int64_t chunk = index / channels;
    const int64_t channel = index - chunk * channels;
    R weights[width];
    R sums[width + 1];
#pragma unroll
    for (int j = 0; j < width; ++j) {
        weights[j] = static_cast<const R*>(params.weight)[channel * width + j];
    }
#pragma unroll
    for (int j = 0; j <= width; ++j) {
        sums[j] = 0;
    }
    const R bias = params.bias ? static_cast<const R*>(params.bias)[channel] : R(0);
    const int64_t end_tile = chunk_end(arguments, chunk);
    for (int64_t tile = chunk * arguments.chunk_tiles; tile < end_tile; ++tile) {
        const int64_t batch = tile / arguments.slots;
        const ConvolutionItem item = convolution_item(params.shape, arguments.tile, batch, tile - batch * arguments.slots);
        if (!item.exists) {
            continue;
        }
        const int64_t length = item.span.length;
        const int64_t first = item.begin + static_cast<int64_t>(threadIdx.x) * steps;
        const int64_t left = item.begin + item.count - first;
        const int own = static_cast<int>(left < steps ? left : steps); // steps of this thread
        const int64_t state_at = (item.span.row * channels + channel) * history;
        const R* last = params.grad_last_state ? static_cast<const R*>(params.grad_last_state) + state_at : nullptr;
        R* initial = params.grad_initial_state ? static_cast<R*>(params.grad_initial_state) + state_at : nullptr;
        const auto last_gradient = [&](int64_t step) {
            return last && step >= length - history && step < length ? last[step - (length - history)] : R(0);
        };
        if (length == 0 && initial && threadIdx.x == 0) {
            for (int i = 0; i < history; ++i) {
                initial[i] = last_gradient(i - history);
            }
        }
        if (own <= 0) {
            continue;
        }
        const auto row = [&](const Sequence& sequence) {
            return item.span.batch * sequence.batch_stride + channel * sequence.channel_stride + item.span.begin;
        };
        const T* x = static_cast<const T*>(params.x.data) + row(params.x);
        const T* grad_y = static_cast<const T*>(params.grad_y.data) + row(params.grad_y);
        const R* state = params.initial_state ? static_cast<const R*>(params.initial_state) + state_at : nullptr;
        R window[steps + 2 * history]; // x from W - 1 steps before the thread's to W - 1 behind them
        R g[steps + history];
        if (first >= steps && first + 2 * steps <= length && is_aligned(x + first, 16) && is_aligned(grad_y + first, 16)) {
            const Vector<T, steps> before = load_vector<steps>(x + first - steps);
            const Vector<T, steps> own_x = load_vector<steps>(x + first);
            const Vector<T, steps> behind = load_vector<steps>(x + first + steps);
            const Vector<T, steps> own_g = load_vector<steps>(grad_y + first);
            const Vector<T, steps> behind_g = load_vector<steps>(grad_y + first + steps);
#pragma unroll
            for (int k = 0; k < history; ++k) {
                window[k] = widen(before[steps - history + k]);
                window[history + steps + k] = widen(behind[k]);
                g[steps + k] = widen(behind_g[k]);
            }
#pragma unroll
            for (int k = 0; k < steps; ++k) {
                window[history + k] = widen(own_x[k]);
                g[k] = widen(own_g[k]);
            }
        } else {
#pragma unroll
            for (int k = 0; k < steps + 2 * history; ++k) {
                const int64_t step = first - history + k;
                window[k] = step >= length ? R(0) : step >= 0 ? widen(x[step]) : state ? state[history + step] : R(0);
            }
#pragma unroll
            for (int k = 0; k < steps + history; ++k) {
                g[k] = first + k < length ? widen(grad_y[first + k]) : R(0);
            }
        }
        if (params.silu) {
#pragma unroll
            for (int k = 0; k < steps + history; ++k) {
                R z = bias;
#pragma unroll
                for (int j = 0; j < width; ++j) {
                    z = multiply_add(weights[j], window[k + j], z);
                }
                g[k] = first + k < length ? g[k] * silu_slope(z) : R(0);
            }
        }
        if (params.grad_x.data) {
            T* to = static_cast<T*>(params.grad_x.data) + row(params.grad_x) + first;
            Vector<T, steps> results;
#pragma unroll
            for (int k = 0; k < steps; ++k) {
                R gradient = 0;
#pragma unroll
                for (int j = 0; j < width; ++j) {
                    gradient = multiply_add(weights[history - j], g[k + j], gradient);
                }
                results[k] = narrow<T>(gradient + last_gradient(first + k));
            }
            if (own == steps && is_aligned(to, sizeof(results))) {
                store_vector<steps>(to, results);
            } else {
#pragma unroll
                for (int k = 0; k < steps; ++k) {
                    if (k < own) {
                        to[k] = results[k];
                    }
                }
            }
        }
        if (initial && first == 0) {
#pragma unroll
            for (int i = 0; i < history; ++i) {
                R gradient = 0;
#pragma unroll
                for (int j = history - i; j < width; ++j) {
                    gradient = multiply_add(weights[history - j], g[i - history + j], gradient);
                }
                initial[i] = gradient + last_gradient(i - history);
            }
        }
#pragma unroll
        for (int k = 0; k < steps; ++k) {
            if (k < own) {
#pragma unroll
                for (int j = 0; j < width; ++j) {
                    sums[j] = multiply_add(g[k], window[k + j], sums[j]);
                }
                sums[width] += g[k];
            }
        }
    }
    if (!arguments.sums) {
        return;
    }
#pragma unroll
    for (int j = 0; j <= width; ++j) {
        for (int delta = warp_size / 2; delta > 0; delta /= 2) {
            sums[j] += shuffle_down(sums[j], delta);
        }
        if (lane_id() == 0) {
            shared.sums[warp_id()][j] = sums[j];
        }
    }
    __syncthreads();
    if (threadIdx.x <= width) {
        R sum = 0;
        for (int warp = 0; warp < convolution_threads / warp_size; ++warp) {
            sum += shared.sums[SSM_MUTATE("causal_conv1d_backward.cuda.one_warp", warp, 0)][threadIdx.x];
        }
        arguments.sums[(chunk * channels + channel) * (width + 1) + threadIdx.x] = sum;
    }
    __syncthreads(); // the memory is done with
}

// The gradient of a step from its g and those of the W - 1 steps behind it: of a step of the tile, or, with the first tile,
// of one before the sequence's first.
template <typename T, int width>
SSM_DEVICE void write_column(const CausalConv1dBackwardParams& params, const ConvolutionItem& item, int64_t step,
                             int64_t state_row, int count, bool by_vectors,
                             const Compute<T> (&weights)[width][few_weights_lanes],
                             const Compute<T> (*g)[few_weights_lanes]) {
    using R = Compute<T>;
    constexpr int lanes = few_weights_lanes;
    constexpr int history = width - 1;
    const bool is_own = step >= item.begin && step < item.begin + item.count && params.grad_x.data;
    const bool is_before = item.begin == 0 && step < 0 && params.grad_initial_state;
    if (!is_own && !is_before) {
        return;
    }
    const int64_t from_last = step - (item.span.length - history);
    R gradients[lanes];
#pragma unroll
    for (int i = 0; i < lanes; ++i) {
        gradients[i] = 0;
#pragma unroll
        for (int j = 0; j < width; ++j) {
            gradients[i] = multiply_add(weights[history - j][i], g[j][i], gradients[i]);
        }
        if (params.grad_last_state && from_last >= 0 && i < count) {
            gradients[i] += static_cast<const R*>(params.grad_last_state)[(state_row + i) * history + from_last];
        }
    }
    if (is_before) {
#pragma unroll
        for (int i = 0; i < lanes; ++i) {
            if (i < count) {
                static_cast<R*>(params.grad_initial_state)[(state_row + i) * history + history + step] = gradients[i];
            }
        }
        return;
    }
    const int64_t channel = state_row - item.span.row * params.shape.channels;
    T* to = static_cast<T*>(params.grad_x.data) + item.span.batch * params.grad_x.batch_stride + channel +
            (item.span.begin + step) * params.grad_x.time_stride;
    Vector<T, lanes> results;
#pragma unroll
    for (int i = 0; i < lanes; ++i) {
        results[i] = narrow<T>(gradients[i]);
    }
    if (by_vectors) {
        store_vector<lanes>(to, results);
    } else {
#pragma unroll
        for (int i = 0; i < lanes; ++i) {
            if (i < count) {
                to[i] = results[i];
            }
        }
    }
}

// Few weights, channels contiguous: a thread has some channels and goes through a chunk of tiles, step by step, with the
// last W - 1 steps of x and of g in registers; grad_x comes W - 1 steps after its g.
template <typename T, int width>
SSM_DEVICE void backward_columns(const FewWeightsBackwardArguments<Compute<T>>& arguments, int64_t index) {
    using R = Compute<T>;
    constexpr int lanes = few_weights_lanes;
    constexpr int history = width - 1;
    constexpr int at_once = 4; // steps that are read before the first is written
    const CausalConv1dBackwardParams& params = arguments.params;
    const int64_t channels = params.shape.channels;
    const int64_t chunk = index / arguments.vectors;
    const int64_t channel = (index - chunk * arguments.vectors) * lanes;
    const int count = static_cast<int>(channels - channel < lanes ? channels - channel : lanes);
    R weights[width][lanes];
    R bias[lanes];
    R sums[width + 1][lanes];
#pragma unroll
    for (int i = 0; i < lanes; ++i) {
#pragma unroll
        for (int j = 0; j < width; ++j) {
            weights[j][i] = i < count ? static_cast<const R*>(params.weight)[(channel + i) * width + j] : R(0);
        }
#pragma unroll
        for (int j = 0; j <= width; ++j) {
            sums[j][i] = 0;
        }
        bias[i] = i < count && params.bias ? static_cast<const R*>(params.bias)[channel + i] : R(0);
    }
    const int64_t end_tile = chunk_end(arguments, chunk);
    for (int64_t tile = chunk * arguments.chunk_tiles; tile < end_tile; ++tile) {
        const int64_t batch = tile / arguments.slots;
        const ConvolutionItem item = convolution_item(params.shape, arguments.tile, batch, tile - batch * arguments.slots);
        if (!item.exists) {
            continue;
        }
        const int64_t length = item.span.length;
        const int64_t state_row = item.span.row * channels + channel;
        const auto vectors_fit = [&](const Sequence& sequence) {
            return count == lanes && sequence.time_stride % lanes == 0 && sequence.batch_stride % lanes == 0 &&
                   is_aligned(sequence.data, lanes * sizeof(T));
        };
        const bool x_vectors = vectors_fit(params.x);
        const bool g_vectors = vectors_fit(params.grad_y);
        const bool to_vectors = params.grad_x.data && vectors_fit(params.grad_x);
        const auto offset = [&](const Sequence& sequence, int64_t step) {
            return item.span.batch * sequence.batch_stride + channel + (item.span.begin + step) * sequence.time_stride;
        };
        // A step of the sequence; before its first of the state, after its last zero.
        const auto read = [&](const Sequence& sequence, bool by_vectors, const void* before, int64_t step,
                              R(&values)[lanes]) {
            const T* data = static_cast<const T*>(sequence.data);
            if (step >= 0 && step < length && by_vectors) {
                const Vector<T, lanes> vector = load_vector<lanes>(data + offset(sequence, step));
#pragma unroll
                for (int i = 0; i < lanes; ++i) {
                    values[i] = widen(vector[i]);
                }
                return;
            }
#pragma unroll
            for (int i = 0; i < lanes; ++i) {
                values[i] = 0;
                if (i < count && step >= 0 && step < length) {
                    values[i] = widen(data[offset(sequence, step) + i]);
                } else if (i < count && step < 0 && before) {
                    values[i] = static_cast<const R*>(before)[(state_row + i) * history + history + step];
                }
            }
        };
        R x[history + at_once][lanes];
        R g[history + at_once][lanes];
#pragma unroll
        for (int k = 0; k < history; ++k) {
            read(params.x, x_vectors, params.initial_state, item.begin - history + k, x[k]);
#pragma unroll
            for (int i = 0; i < lanes; ++i) {
                g[k][i] = 0;
            }
        }
        for (int from = 0; from < item.count + history; from += at_once) {
#pragma unroll
            for (int k = 0; k < at_once; ++k) {
                read(params.x, x_vectors, nullptr, item.begin + from + k, x[history + k]);
                read(params.grad_y, g_vectors, nullptr, item.begin + from + k, g[history + k]);
            }
#pragma unroll
            for (int k = 0; k < at_once; ++k) {
                const int64_t step = item.begin + from + k;
                const bool is_own = from + k < item.count;
#pragma unroll
                for (int i = 0; i < lanes; ++i) {
                    if (params.silu) {
                        R z = bias[i];
#pragma unroll
                        for (int j = 0; j < width; ++j) {
                            z = multiply_add(weights[j][i], x[k + j][i], z);
                        }
                        g[history + k][i] = step < length ? g[history + k][i] * silu_slope(z) : R(0);
                    }
                    if (is_own) {
#pragma unroll
                        for (int j = 0; j < width; ++j) {
                            sums[j][i] = multiply_add(g[history + k][i], x[k + j][i], sums[j][i]);
                        }
                        sums[width][i] += g[history + k][i];
                    }
                }
                write_column<T, width>(params, item, step - history, state_row, count, to_vectors, weights, &g[k]);
            }
#pragma unroll
            for (int k = 0; k < history; ++k) {
#pragma unroll
                for (int i = 0; i < lanes; ++i) {
                    x[k][i] = x[at_once + k][i];
                    g[k][i] = g[at_once + k][i];
                }
            }
        }
    }
    if (arguments.sums) {
#pragma unroll
        for (int i = 0; i < lanes; ++i) {
#pragma unroll
            for (int j = 0; j <= width; ++j) {
                if (i < count) {
                    arguments.sums[(chunk * channels + channel + i) * (width + 1) + j] = sums[j][i];
                }
            }
        }
    }
}

// The width is a template argument of the code and not of the kernel: one kernel for all three.
template <typename T, int width>
SSM_DEVICE void backward_few(const FewWeightsBackwardArguments<Compute<T>>& arguments) {
    if (arguments.params.shape.layout == Layout::time_contiguous) {
        auto& shared = SSM_SHARED(FewWeightsStorage<Compute<T>>);
        for (int64_t index = blockIdx.x; index < arguments.items; index += gridDim.x) {
            backward_row<T, width>(arguments, index, shared);
        }
    } else {
        const int64_t stride = static_cast<int64_t>(gridDim.x) * convolution_threads;
        const int64_t own = static_cast<int64_t>(blockIdx.x) * convolution_threads + threadIdx.x;
        for (int64_t i = own; i < arguments.items; i += stride) {
            backward_columns<T, width>(arguments, i);
        }
    }
}
template <typename T>
__global__ void __launch_bounds__(convolution_threads)
    causal_conv1d_backward_few_kernel(FewWeightsBackwardArguments<Compute<T>> arguments) {
    switch (arguments.params.width) {
    case 2:
        return backward_few<T, 2>(arguments);
    case 3:
        return backward_few<T, 3>(arguments);
    default:
        return backward_few<T, 4>(arguments);
    }
}

template <typename T>
__global__ void __launch_bounds__(convolution_threads)
    causal_conv1d_backward_kernel(ConvolutionBackwardArguments<Compute<T>> arguments) {
    using R = Compute<T>;
    const CausalConv1dBackwardParams& params = arguments.params;
    const ConvolutionCut& cut = arguments.cut;
    R* const memory = reinterpret_cast<R*>(&SSM_SHARED(ConvolutionStorage));
    const int64_t tiles = params.shape.batch * cut.slots;
    const int64_t chunk_tiles = (tiles + arguments.chunks - 1) / arguments.chunks;
    const int64_t items = cut.channel_blocks * arguments.chunks;
    for (int64_t index = blockIdx.x; index < items; index += gridDim.x) {
        const int64_t chunk = index / cut.channel_blocks;
        ConvolutionBackwardBlock<T> run(arguments, index - chunk * cut.channel_blocks, memory);
        const ConvolutionBlock<R>& block = run.block;
        __syncthreads(); // the chunk before is done with
        block.stage_weights(params.weight, run.weights);
        block.each(block.width + 1, [&](int channel, int j) { run.sums[block.place(channel, j, block.width + 1)] = R(0); });
        const int64_t end = (chunk + 1) * chunk_tiles < tiles ? (chunk + 1) * chunk_tiles : tiles;
        for (int64_t tile = chunk * chunk_tiles; tile < end; ++tile) {
            const int64_t batch = tile / cut.slots;
            const ConvolutionItem item =
                convolution_item(params.shape, cut.tile, batch, tile - batch * cut.slots, arguments.table);
            if (item.exists) {
                run.run(item);
            }
        }
        if (arguments.sums) {
            R* to = arguments.sums + (chunk * block.all_channels + block.first_channel) * (block.width + 1);
            block.each(block.width + 1, [&](int channel, int j) {
                if (block.exists(channel)) {
                    to[channel * (block.width + 1) + j] = run.sums[block.place(channel, j, block.width + 1)];
                }
            });
        }
    }
}

// grad_weight and grad_bias from the sums of the chunks, a thread for each number.
template <typename R>
__global__ void __launch_bounds__(convolution_threads) causal_conv1d_backward_sum_kernel(ChunkSums<R> arguments) {
    const int64_t columns = arguments.width + 1;
    const int64_t numbers = arguments.channels * columns;
    const int64_t stride = static_cast<int64_t>(gridDim.x) * convolution_threads;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * convolution_threads + threadIdx.x; i < numbers; i += stride) {
        R sum = 0;
        const int64_t chunks = SSM_MUTATE("causal_conv1d_backward.cuda.dropped_chunk", arguments.chunks, 1);
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
            sum += arguments.sums[chunk * numbers + i];
        }
        const int64_t channel = i / columns;
        const int64_t column = i - channel * columns;
        if (column < arguments.width && arguments.grad_weight) {
            arguments.grad_weight[channel * arguments.width + column] = sum;
        }
        if (column == arguments.width && arguments.grad_bias) {
            arguments.grad_bias[channel] = sum;
        }
    }
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

int64_t ceil_divide(int64_t x, int64_t y) {
    return x / y + (x % y != 0);
}
dim3 grid_of(int64_t blocks) {
    return dim3(static_cast<unsigned>(blocks < convolution_most_blocks ? blocks : convolution_most_blocks));
}

bool wants_sums(const CausalConv1dBackwardParams& params) {
    return params.grad_weight || params.grad_bias;
}

// As many chunks as keep the device busy, and no more: every chunk leaves W + 1 sums for each channel.
int64_t count_chunks(int64_t wanted, int64_t parts, int64_t tiles) {
    const int64_t chunks = ceil_divide(wanted, parts);
    return chunks < tiles ? chunks : tiles;
}

template <typename R>
ConvolutionBackwardArguments<R> plan_backward(const BackendContext& context, const CausalConv1dBackwardParams& params,
                                              WorkspaceParts& parts) {
    ConvolutionBackwardArguments<R> arguments{};
    arguments.params = params;
    arguments.cut = cut_convolution(params.shape, params.width, context.options.get("causal_conv1d_backward.tile"));
    arguments.chunks = count_chunks(static_cast<int64_t>(context.multiprocessors) * 16, arguments.cut.channel_blocks,
                                    params.shape.batch * arguments.cut.slots);
    if (wants_sums(params)) {
        arguments.sums = parts.take<R>(arguments.chunks * params.shape.channels * (params.width + 1));
    }
    arguments.table = take_sequence_table(params.shape, params.seq_idx, parts);
    return arguments;
}

template <typename T>
FewWeightsBackwardArguments<Compute<T>> plan_few_weights(const BackendContext& context,
                                                         const CausalConv1dBackwardParams& params, WorkspaceParts& parts) {
    const SequenceShape& shape = params.shape;
    const bool by_time = shape.layout == Layout::time_contiguous;
    FewWeightsBackwardArguments<Compute<T>> arguments{};
    arguments.params = params;
    // Blocks where time is contiguous, else threads.
    const int64_t wanted = static_cast<int64_t>(context.multiprocessors) * (by_time ? 16 : 512);
    if (by_time) {
        arguments.vectors = shape.channels;
        arguments.tile = convolution_threads * vector_elements<T>;
    } else {
        arguments.vectors = ceil_divide(shape.channels, few_weights_lanes);
        arguments.tile = 64;
        while (arguments.tile > 8 && shape.batch * arguments.vectors * (shape.length / arguments.tile) < wanted) {
            arguments.tile /= 2;
        }
    }
    const int64_t option = context.options.get("causal_conv1d_backward.tile");
    arguments.tile = option > 0 && option < arguments.tile ? option : arguments.tile;
    arguments.slots = slot_count(shape, arguments.tile);
    const int64_t tiles = shape.batch * arguments.slots;
    arguments.chunks = count_chunks(wanted, arguments.vectors, tiles);
    arguments.chunk_tiles = arguments.chunks > 0 ? ceil_divide(tiles, arguments.chunks) : 0;
    arguments.items = arguments.vectors * arguments.chunks;
    if (wants_sums(params)) {
        arguments.sums = parts.take<Compute<T>>(arguments.chunks * shape.channels * (params.width + 1));
    }
    return arguments;
}

template <typename T>
bool takes_few_weights(const BackendContext& context, const CausalConv1dBackwardParams& params) {
    return !std::is_same<T, double>::value && params.width >= 2 && params.width <= 4 && !params.seq_idx &&
           context.options.get("causal_conv1d_backward.path") != convolution_path_general_width;
}

template <typename R>
cudaError_t add_chunks(BackendContext* context, const CausalConv1dBackwardParams& params, int64_t chunks, const R* sums) {
    const ChunkSums<R> arguments{params.shape.channels,
                                 params.width,
                                 chunks,
                                 sums,
                                 static_cast<R*>(params.grad_weight),
                                 static_cast<R*>(params.grad_bias)};
    const int64_t numbers = params.shape.channels * (params.width + 1);
    return launch(causal_conv1d_backward_sum_kernel<R>, grid_of(ceil_divide(numbers, convolution_threads)),
                  dim3(convolution_threads), 0, context->stream, arguments);
}

template <typename T>
int32_t run_causal_conv1d_backward(BackendContext* context, const CausalConv1dBackwardParams& params) {
    using R = Compute<T>;
    WorkspaceParts parts(params.workspace.data);
    int64_t chunks = 0;
    R* sums = nullptr;
    cudaError_t error = cudaSuccess;
    const auto is_too_small = [&] { return parts.size() > params.workspace.bytes; };
    const auto refuse = [] {
        return fail(error_workspace_too_small,
                    "causal_conv1d_backward: the workspace is smaller than the workspace function says");
    };
    if (takes_few_weights<T>(*context, params)) {
        if constexpr (!std::is_same<T, double>::value) {
            const FewWeightsBackwardArguments<R> arguments = plan_few_weights<T>(*context, params, parts);
            if (is_too_small()) {
                return refuse();
            }
            if (arguments.items == 0) {
                return success;
            }
            const bool by_time = params.shape.layout == Layout::time_contiguous;
            const int64_t blocks = by_time ? arguments.items : ceil_divide(arguments.items, convolution_threads);
            error = launch(causal_conv1d_backward_few_kernel<T>, grid_of(blocks), dim3(convolution_threads),
                           sizeof(FewWeightsStorage<R>), context->stream, arguments);
            chunks = arguments.chunks;
            sums = arguments.sums;
        }
    } else {
        const ConvolutionBackwardArguments<R> arguments = plan_backward<R>(*context, params, parts);
        if (is_too_small()) {
            return refuse();
        }
        const ConvolutionCut& cut = arguments.cut;
        if (cut.items == 0) {
            return success;
        }
        int64_t numbers = cut.channels * (2 * cut.tile_capacity() + 5 * params.width);
        if (params.seq_idx) {
            numbers += cut.tile_capacity() + params.width; // reaches
            error = fill_sequence_table(*context, params.shape, params.seq_idx, arguments.table, 0);
        }
        if (error != cudaSuccess) {
            return status_of(error, "causal_conv1d_backward");
        }
        error = launch(causal_conv1d_backward_kernel<T>, grid_of(cut.channel_blocks * arguments.chunks),
                       dim3(convolution_threads), static_cast<size_t>(numbers) * sizeof(R), context->stream, arguments);
        chunks = arguments.chunks;
        sums = arguments.sums;
    }
    if (error == cudaSuccess && sums) {
        error = add_chunks<R>(context, params, chunks, sums);
    }
    if (error == cudaSuccess) {
        error = clear_padding(*context, params.shape, params.seq_idx, params.grad_x, static_cast<int64_t>(sizeof(T)));
    }
    return status_of(error, "causal_conv1d_backward");
}

template <typename T>
int32_t causal_conv1d_backward_bytes(BackendContext* context, const CausalConv1dBackwardParams& params, uint64_t* bytes) {
    WorkspaceParts parts(nullptr);
    if (takes_few_weights<T>(*context, params)) {
        plan_few_weights<T>(*context, params, parts);
    } else {
        plan_backward<Compute<T>>(*context, params, parts);
    }
    *bytes = parts.size();
    return success;
}

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

template <typename Function>
int32_t dispatch(const CausalConv1dBackwardParams& params, const Function& f) {
    switch (params.type) {
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

} // namespace

int32_t causal_conv1d_backward(BackendContext* context, const CausalConv1dBackwardParams* params) {
    return dispatch(*params, [&](auto storage) { return run_causal_conv1d_backward<decltype(storage)>(context, *params); });
}

int32_t causal_conv1d_backward_workspace(BackendContext* context, const CausalConv1dBackwardParams* params,
                                         uint64_t* bytes) {
    return dispatch(*params,
                    [&](auto storage) { return causal_conv1d_backward_bytes<decltype(storage)>(context, *params, bytes); });
}

} // namespace ssm
