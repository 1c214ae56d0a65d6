// causal_conv1d: y_t = act(bias + sum_j w_j x_{t-W+1+j}), a short convolution along time of each channel by itself.
//
// General kernel, any width: a block takes a few channels and a tile of one sequence, stages the tile's steps, the W - 1
// before it and the weights in shared memory; a thread computes four outputs of one channel, so that a weight is read once
// for four fused products.
//
// Two to four weights: everything in registers, a vector of 16 bytes of x at a time, of steps or of channels. With seq_idx
// the general kernel takes these too: its steps are those that are no padding, as a table in the workspace lists them with
// how many of the taps stay in the sequence.
//
// Every output is the same chain of fused products, from the bias and the oldest step to the newest, whichever kernel and
// tile computes it: results do not depend on alignment or on the cut.
//
// Bytes for an element: 2 e (x in, y out), and (W - 1) / tile of e again. Operations: W fused products, with silu an
// exponential and a quotient. Memory is the limit up to about W = 32.
#include "core/params/causal_conv1d.h"
#include "cuda/causal_conv1d.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

struct CausalConv1dArguments {
    CausalConv1dParams params;
    ConvolutionCut cut;
    SequenceTable table;
};

// Blocks of a multiprocessor that registers must suffice for: 16-bit types have twice the channels in a vector.
template <typename T>
constexpr int few_weights_blocks = sizeof(T) == 4 ? 5 : 4;
// Vectors of a thread where time is contiguous, so that enough bytes are on their way.
constexpr int few_weights_vectors = 2;

struct FewWeightsArguments {
    CausalConv1dParams params;
    int64_t tile;    // steps
    int64_t slots;   // tiles of a channel
    int64_t vectors; // of channels; time contiguous: 1
    int64_t items;   // of blocks; channels contiguous: of threads
};

// ---- Kernels -------------------------------------------------------------------------------------------------------------

template <typename T>
SSM_DEVICE void convolve_item(const CausalConv1dArguments& arguments, int64_t index, Compute<T>* memory) {
    using R = Compute<T>;
    const CausalConv1dParams& params = arguments.params;
    const ConvolutionCut& cut = arguments.cut;
    const int64_t block_row = index / cut.channel_blocks;
    const int64_t batch = block_row / cut.slots;
    const ConvolutionItem item =
        convolution_item(params.shape, cut.tile, batch, block_row - batch * cut.slots, arguments.table);
    if (!item.exists) {
        return;
    }
    const ConvolutionBlock<R> block(params.shape, cut, params.width, index - block_row * cut.channel_blocks);
    const int history = block.width - 1;
    const int columns = cut.tile_capacity() + history;
    R* const steps = memory;
    R* const weights = memory + block.channels * columns;
    block.stage_weights(params.weight, weights);
    block.template stage_steps<T>(params.x, item.span, item.entries,
                                  SSM_MUTATE("causal_conv1d.cuda.lost_state", params.initial_state, nullptr), history,
                                  item.begin - history, item.count + history, columns, steps);
    __syncthreads();

    const int64_t channel = block.first_channel + block.channel;
    if (block.exists(block.channel)) {
        const R* bias = static_cast<const R*>(params.bias);
        const R start = bias ? bias[channel] : R(0);
        R sums[convolution_steps];
#pragma unroll
        for (int k = 0; k < convolution_steps; ++k) {
            sums[k] = start;
        }
        if (item.entries) { // the taps that stay in the sequence
#pragma unroll
            for (int k = 0; k < convolution_steps; ++k) {
                const int step = block.first + k * block.row_threads;
                const int reach = step < item.count ? reach_of_entry(item.entries[item.begin + step]) : 0;
                const int most = SSM_MUTATE("causal_conv1d.cuda.missed_restart", reach, history);
                for (int j = most < history ? history - most : 0; j < block.width; ++j) {
                    sums[k] = multiply_add(weights[block.place(block.channel, j, block.width)],
                                           steps[block.place(block.channel, step + j, columns)], sums[k]);
                }
            }
        }
        for (int j = 0; j < (item.entries ? 0 : block.width); ++j) {
            const R weight = weights[block.place(block.channel, j, block.width)];
#pragma unroll
            for (int k = 0; k < convolution_steps; ++k) {
                const int step = block.first + k * block.row_threads;
                // Steps beyond the tile hold something or other, and are not stored.
                sums[k] = multiply_add(weight, steps[block.place(block.channel, step + j, columns)], sums[k]);
            }
        }
        T* y = static_cast<T*>(params.y.data) + item.span.batch * params.y.batch_stride + channel * params.y.channel_stride +
               item.span.begin * params.y.time_stride;
        const int count = SSM_MUTATE("causal_conv1d.cuda.off_by_one_tail", item.count, item.count - 1);
#pragma unroll
        for (int k = 0; k < convolution_steps; ++k) {
            const int step = block.first + k * block.row_threads;
            if (step < count) {
                const int64_t own = item.begin + step;
                const int64_t time = item.entries ? step_of_entry(item.entries[own]) : own;
                y[time * params.y.time_stride] = narrow<T>(params.silu ? silu(sums[k]) : sums[k]);
            }
        }
    }

    // The steps that the next call begins with: the last ones at hand.
    if (params.last_state && item.begin + item.count == item.span.length) {
        R* last = static_cast<R*>(params.last_state) + (item.span.row * block.all_channels + block.first_channel) * history;
        const int from = SSM_MUTATE("causal_conv1d.cuda.late_state", item.count, item.count + 1);
        // Of the last sequence alone.
        const int reach =
            item.entries && item.span.length > 0 ? reach_of_entry(item.entries[item.span.length - 1]) + 1 : history;
        const int kept = SSM_MUTATE("causal_conv1d.cuda.state_of_another", reach, history);
        for (int i = static_cast<int>(threadIdx.x); i < block.channels * history; i += convolution_threads) {
            const int at_channel = i / history;
            const int k = i - at_channel * history;
            if (block.exists(at_channel)) {
                last[i] = history - k <= kept ? steps[block.place(at_channel, from + k, columns)] : R(0);
            }
        }
    }
}

template <typename T>
__global__ void __launch_bounds__(convolution_threads) causal_conv1d_kernel(CausalConv1dArguments arguments) {
    auto* const memory = reinterpret_cast<Compute<T>*>(&SSM_SHARED(ConvolutionStorage));
    for (int64_t index = blockIdx.x; index < arguments.cut.items; index += gridDim.x) {
        convolve_item<T>(arguments, index, memory);
        __syncthreads(); // the memory is done with
    }
}

// Few weights. Time contiguous: a thread has vectors of steps of one channel and reads the vector before each, which its
// neighbour has just read, for the W - 1 steps that lie there. A tile begins where it may; the vectors lie where x is
// aligned, and those across its ends are taken step by step.
template <typename T, int width>
SSM_DEVICE void convolve_row(const FewWeightsArguments& arguments, int64_t index) {
    using R = Compute<T>;
    constexpr int steps = vector_elements<T>;
    constexpr int history = width - 1;
    const CausalConv1dParams& params = arguments.params;
    const int64_t row = index / arguments.slots;
    const int64_t batch = row / params.shape.channels;
    const int64_t channel = row - batch * params.shape.channels;
    const ConvolutionItem item = convolution_item(params.shape, arguments.tile, batch, index - row * arguments.slots);
    if (!item.exists) {
        return;
    }
    const T* x = static_cast<const T*>(params.x.data) + item.span.batch * params.x.batch_stride +
                 channel * params.x.channel_stride + item.span.begin;
    T* y = static_cast<T*>(params.y.data) + item.span.batch * params.y.batch_stride + channel * params.y.channel_stride +
           item.span.begin;
    const R* state = static_cast<const R*>(params.initial_state);
    if (state) {
        state += (item.span.row * params.shape.channels + channel) * history;
    }
    const auto at = [&](int64_t step) -> R { return step >= 0 ? widen(x[step]) : state ? state[history + step] : R(0); };
    R weights[width];
#pragma unroll
    for (int j = 0; j < width; ++j) {
        weights[j] = static_cast<const R*>(params.weight)[channel * width + j];
    }
    const R bias = params.bias ? static_cast<const R*>(params.bias)[channel] : R(0);

    const int64_t end = item.begin + item.count;
    const int behind = static_cast<int>(reinterpret_cast<uintptr_t>(x + item.begin) / sizeof(T) % steps);
    const int64_t start = item.begin - behind + static_cast<int64_t>(threadIdx.x) * steps;
    const auto is_whole = [&](int64_t first) { return first >= item.begin && first + steps <= end; };
    R windows[few_weights_vectors][history + steps];
#pragma unroll
    for (int v = 0; v < few_weights_vectors; ++v) {
        R(&window)[history + steps] = windows[v];
        const int64_t first = start + v * (convolution_threads * steps);
        if (is_whole(first) && first >= steps) {
            const Vector<T, steps> before = load_vector<steps>(x + first - steps);
            const Vector<T, steps> own = load_vector<steps>(x + first);
#pragma unroll
            for (int k = 0; k < history; ++k) {
                window[k] = widen(before[SSM_MUTATE("causal_conv1d.cuda.wrong_neighbour", steps - history + k, k)]);
            }
#pragma unroll
            for (int k = 0; k < steps; ++k) {
                window[history + k] = widen(own[k]);
            }
        } else {
#pragma unroll
            for (int k = 0; k < history + steps; ++k) {
                const int64_t step = first - history + k;
                window[k] = step >= item.begin - history && step < end ? at(step) : R(0);
            }
        }
    }
#pragma unroll
    for (int v = 0; v < few_weights_vectors; ++v) {
        const int64_t first = start + v * (convolution_threads * steps);
        Vector<T, steps> results;
#pragma unroll
        for (int k = 0; k < steps; ++k) {
            R sum = bias;
#pragma unroll
            for (int j = 0; j < width; ++j) {
                sum = multiply_add(weights[j], windows[v][k + j], sum);
            }
            results[k] = narrow<T>(params.silu ? silu(sum) : sum);
        }
        if (is_whole(first) && is_aligned(y + first, sizeof(results))) {
            store_vector<steps>(y + first, results);
        } else {
#pragma unroll
            for (int k = 0; k < steps; ++k) {
                if (first + k >= item.begin && first + k < end) {
                    y[first + k] = results[k];
                }
            }
        }
    }
    if (params.last_state && end == item.span.length && threadIdx.x < history) {
        const int k = static_cast<int>(threadIdx.x);
        static_cast<R*>(params.last_state)[(item.span.row * params.shape.channels + channel) * history + k] =
            at(end - history + k);
    }
}

// Channels contiguous: a thread has a vector of channels and goes through a tile of steps, the last W - 1 in registers.
template <typename T, int width>
SSM_DEVICE void convolve_columns(const FewWeightsArguments& arguments, int64_t index) {
    using R = Compute<T>;
    constexpr int lanes = vector_elements<T>;
    constexpr int history = width - 1;
    constexpr int at_once = lanes > 4 ? 2 : 4; // steps that are read before the first is written
    const CausalConv1dParams& params = arguments.params;
    const int64_t row = index / arguments.vectors;
    const int64_t batch = row / arguments.slots;
    const int64_t channel = (index - row * arguments.vectors) * lanes;
    const ConvolutionItem item = convolution_item(params.shape, arguments.tile, batch, row - batch * arguments.slots);
    if (!item.exists) {
        return;
    }
    const T* x = static_cast<const T*>(params.x.data) + item.span.batch * params.x.batch_stride + channel +
                 item.span.begin * params.x.time_stride;
    T* y = static_cast<T*>(params.y.data) + item.span.batch * params.y.batch_stride + channel +
           item.span.begin * params.y.time_stride;
    const int64_t left = params.shape.channels - channel;
    const int count = static_cast<int>(left < lanes ? left : lanes);
    const bool reads_vectors = count == lanes && is_aligned(x, 16) && params.x.time_stride % lanes == 0;
    const bool writes_vectors = count == lanes && is_aligned(y, 16) && params.y.time_stride % lanes == 0;
    const int64_t state_row = item.span.row * params.shape.channels + channel;
    const R* state = static_cast<const R*>(params.initial_state);
    const auto read = [&](int64_t step, R(&values)[lanes]) {
        if (step >= 0 && reads_vectors) {
            const Vector<T, lanes> vector = load_vector<lanes>(x + step * params.x.time_stride);
#pragma unroll
            for (int i = 0; i < lanes; ++i) {
                values[i] = widen(vector[i]);
            }
            return;
        }
#pragma unroll
        for (int i = 0; i < lanes; ++i) {
            values[i] = i >= count  ? R(0)
                        : step >= 0 ? widen(x[step * params.x.time_stride + i])
                        : state     ? state[(state_row + i) * history + history + step]
                                    : R(0);
        }
    };
    R weights[width][lanes];
    R bias[lanes];
#pragma unroll
    for (int i = 0; i < lanes; ++i) {
#pragma unroll
        for (int j = 0; j < width; ++j) {
            weights[j][i] = i < count ? static_cast<const R*>(params.weight)[(channel + i) * width + j] : R(0);
        }
        bias[i] = i < count && params.bias ? static_cast<const R*>(params.bias)[channel + i] : R(0);
    }
    R window[history + at_once][lanes];
#pragma unroll
    for (int k = 0; k < history; ++k) {
        read(item.begin - history + k, window[k]);
    }
    for (int first = 0; first < item.count; first += at_once) {
#pragma unroll
        for (int k = 0; k < at_once; ++k) {
            if (first + k < item.count) {
                read(item.begin + first + k, window[history + k]);
            }
        }
#pragma unroll
        for (int k = 0; k < at_once; ++k) {
            if (first + k < item.count) {
                Vector<T, lanes> results;
#pragma unroll
                for (int i = 0; i < lanes; ++i) {
                    R sum = bias[i];
#pragma unroll
                    for (int j = 0; j < width; ++j) {
                        sum = multiply_add(weights[j][i], window[k + j][i], sum);
                    }
                    results[i] = narrow<T>(params.silu ? silu(sum) : sum);
                }
                T* to = y + (item.begin + first + k) * params.y.time_stride;
                if (writes_vectors) {
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
        }
#pragma unroll
        for (int k = 0; k < history; ++k) {
#pragma unroll
            for (int i = 0; i < lanes; ++i) {
                window[k][i] = window[SSM_MUTATE("causal_conv1d.cuda.dropped_carry", at_once, 0) + k][i];
            }
        }
    }
    if (params.last_state && item.begin + item.count == item.span.length) {
        for (int k = 0; k < history; ++k) {
            R values[lanes];
            read(item.span.length - history + k, values);
#pragma unroll
            for (int i = 0; i < lanes; ++i) {
                if (i < count) {
                    static_cast<R*>(params.last_state)[(state_row + i) * history + k] = values[i];
                }
            }
        }
    }
}

template <typename T, int width>
SSM_DEVICE void convolve_few(const FewWeightsArguments& arguments) {
    if (arguments.params.shape.layout == Layout::time_contiguous) {
        for (int64_t index = blockIdx.x; index < arguments.items; index += gridDim.x) {
            convolve_row<T, width>(arguments, index);
        }
    } else {
        const int64_t stride = static_cast<int64_t>(gridDim.x) * convolution_threads;
        const int64_t own = static_cast<int64_t>(blockIdx.x) * convolution_threads + threadIdx.x;
        for (int64_t i = own; i < arguments.items; i += stride) {
            convolve_columns<T, width>(arguments, i);
        }
    }
}

// The width is a template argument of the code and not of the kernel: one kernel for all three.
template <typename T>
__global__ void __launch_bounds__(convolution_threads, few_weights_blocks<T>)
    causal_conv1d_few_kernel(FewWeightsArguments arguments) {
    switch (arguments.params.width) {
    case 2:
        return convolve_few<T, 2>(arguments);
    case 3:
        return convolve_few<T, 3>(arguments);
    default:
        return convolve_few<T, 4>(arguments);
    }
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

dim3 grid_of(int64_t blocks) {
    return dim3(static_cast<unsigned>(blocks < convolution_most_blocks ? blocks : convolution_most_blocks));
}

template <typename T>
int32_t run_few_weights(BackendContext* context, const CausalConv1dParams& params) {
    const SequenceShape& shape = params.shape;
    const int64_t lanes = vector_elements<T>;
    const bool by_time = shape.layout == Layout::time_contiguous;
    FewWeightsArguments arguments{};
    arguments.params = params;
    arguments.vectors = by_time ? 1 : (shape.channels + lanes - 1) / lanes;
    if (by_time) {
        // Whatever the alignment, the threads' vectors cover it.
        arguments.tile = (few_weights_vectors * convolution_threads - 1) * lanes;
    } else {
        // Long enough that the steps before a tile are few beside its own, if the device has work enough.
        arguments.tile = 64;
        const int64_t wanted = static_cast<int64_t>(context->multiprocessors) * 1024;
        while (arguments.tile > 8 && shape.batch * arguments.vectors * (shape.length / arguments.tile) < wanted) {
            arguments.tile /= 2;
        }
    }
    const int64_t option = context->options.get("causal_conv1d.tile");
    arguments.tile = option > 0 && option < arguments.tile ? option : arguments.tile;
    arguments.slots = slot_count(shape, arguments.tile);
    arguments.items = shape.batch * arguments.slots * (by_time ? shape.channels : arguments.vectors);
    if (arguments.items == 0) {
        return success;
    }
    const int64_t blocks = by_time ? arguments.items : (arguments.items + convolution_threads - 1) / convolution_threads;
    return status_of(
        launch(causal_conv1d_few_kernel<T>, grid_of(blocks), dim3(convolution_threads), 0, context->stream, arguments),
        "causal_conv1d");
}

template <typename T>
int32_t run_causal_conv1d(BackendContext* context, const CausalConv1dParams& params) {
    if constexpr (!std::is_same<T, double>::value) {
        const bool few = params.width >= 2 && params.width <= 4 && !params.seq_idx;
        if (few && context->options.get("causal_conv1d.path") != convolution_path_general_width) {
            return run_few_weights<T>(context, params);
        }
    }
    WorkspaceParts parts(params.workspace.data);
    const CausalConv1dArguments arguments{
        params, cut_convolution(params.shape, params.width, context->options.get("causal_conv1d.tile")),
        take_sequence_table(params.shape, params.seq_idx, parts)};
    if (parts.size() > params.workspace.bytes) {
        return fail(error_workspace_too_small, "causal_conv1d: the workspace is smaller than the workspace function says");
    }
    const ConvolutionCut& cut = arguments.cut;
    if (cut.items == 0) {
        return success;
    }
    const int64_t numbers = cut.channels * (cut.tile_capacity() + 2 * params.width);
    cudaError_t error = fill_sequence_table(*context, params.shape, params.seq_idx, arguments.table, 0);
    if (error == cudaSuccess) {
        error = launch(causal_conv1d_kernel<T>, grid_of(cut.items), dim3(convolution_threads),
                       static_cast<size_t>(numbers) * sizeof(Compute<T>), context->stream, arguments);
    }
    if (error == cudaSuccess) {
        error = clear_padding(*context, params.shape, params.seq_idx, params.y, static_cast<int64_t>(sizeof(T)));
    }
    return status_of(error, "causal_conv1d");
}

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

} // namespace

int32_t causal_conv1d(BackendContext* context, const CausalConv1dParams* params) {
    switch (params->type) {
    case DataType::float32:
        return run_causal_conv1d<float>(context, *params);
    case DataType::float64:
        return run_causal_conv1d<double>(context, *params);
    case DataType::float16:
        return run_causal_conv1d<Half>(context, *params);
    case DataType::bfloat16:
        return run_causal_conv1d<BFloat16>(context, *params);
    default:
        return fail(error_internal, "a backend was called with a type that core should have refused");
    }
}

int32_t causal_conv1d_workspace(BackendContext*, const CausalConv1dParams* params, uint64_t* bytes) {
    WorkspaceParts parts(nullptr);
    take_sequence_table(params->shape, params->seq_idx, parts);
    *bytes = parts.size();
    return success;
}

} // namespace ssm
