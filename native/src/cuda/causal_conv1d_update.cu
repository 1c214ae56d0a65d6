// causal_conv1d_update: y_t = act(bias + sum_j w_j x_{t-W+1+j}) for one step or a few, the steps before them in a state that
// is updated where it lies; in order, or as a ring.
//
// A thread has a channel of a batch element and goes through the steps, the last W - 1 in registers for up to four weights,
// else in shared memory. x is read before y is written, so that y may lie in its place. The state's type is looked at as it
// is loaded, the same way by all threads: a kernel for each type of x serves all.
//
// Bytes for a channel and call: 2 (W - 1) of the state, x and y for each step, and the weights, which the rows of a batch
// share in the caches. Operations: W multiply-adds for a step, with silu an exponential. Memory is the limit, and for one
// token the launch.
#include "cuda/primitives/cuda.h"

#include "core/mutate.h"
#include "core/params/causal_conv1d.h"
#include "core/params/causal_conv1d_update.h"
#include "cuda/context.h"
#include "cuda/primitives/launch.h"
#include "cuda/primitives/math.h"
#include "cuda/primitives/numbers.h"
#include "cuda/primitives/shared.h"
#include "cuda/primitives/vector.h"
#include "cuda/primitives/warp.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

constexpr int update_threads = 128; // at most
constexpr int few_weights = 4;      // at most, in registers
constexpr int64_t window_bytes = 48 * 1024;

struct ConvolutionUpdateArguments {
    CausalConv1dUpdateParams params;
    bool in_registers;
    bool whole_weight; // four weights are an aligned vector
};

// The memory of a block as numbers; the launch gives W - 1 for each thread.
struct alignas(16) WindowStorage {
    unsigned char first[16];
};

// A number of any type that R computes.
template <typename R>
SSM_DEVICE R load_as(DataType type, const void* data, int64_t index) {
    if constexpr (sizeof(R) == 8) {
        return static_cast<const R*>(data)[index];
    } else {
        switch (type) {
        case DataType::float16:
            return widen(static_cast<const Half*>(data)[index]);
        case DataType::bfloat16:
            return widen(static_cast<const BFloat16*>(data)[index]);
        default:
            return static_cast<const R*>(data)[index];
        }
    }
}
template <typename R>
SSM_DEVICE void store_as(DataType type, void* data, int64_t index, R value) {
    if constexpr (sizeof(R) == 8) {
        static_cast<R*>(data)[index] = value;
    } else {
        switch (type) {
        case DataType::float16:
            static_cast<Half*>(data)[index] = narrow<Half>(value);
            break;
        case DataType::bfloat16:
            static_cast<BFloat16*>(data)[index] = narrow<BFloat16>(value);
            break;
        default:
            static_cast<R*>(data)[index] = value;
        }
    }
}

// ---- Kernel --------------------------------------------------------------------------------------------------------------

// A channel of a batch element that has a state.
template <typename T>
struct ConvolutionUpdateChannel {
    using R = Compute<T>;

    const ConvolutionUpdateArguments& arguments;
    const CausalConv1dUpdateParams& params;
    const int64_t row, channel;
    const int64_t state; // its first element
    const bool is_ring;
    const bool is_window; // the state is the last W - 1 steps and no more
    int64_t origin;       // where step 0 lies in the ring

    SSM_DEVICE ConvolutionUpdateChannel(const ConvolutionUpdateArguments& arguments, int64_t row, int64_t slot,
                                        int64_t channel)
        : arguments(arguments), params(arguments.params), row(row), channel(channel),
          state(slot * params.update.batch_stride + channel * params.update.channel_stride),
          is_ring(params.cache_seqlens != nullptr), is_window(!is_ring && params.length == params.width - 1), origin(0) {
        if (is_ring && params.length > 0) {
            origin = params.cache_seqlens[row] % params.length;
            origin += origin < 0 ? params.length : 0;
        }
    }

    SSM_DEVICE R load(int64_t place) const {
        return load_as<R>(params.state, params.update.data, state + place * params.update.step_stride);
    }
    SSM_DEVICE void store(int64_t place, R value) const {
        store_as<R>(params.state, params.update.data, state + place * params.update.step_stride, value);
    }
    // The state's step `back` steps before the call, before anything is written.
    SSM_DEVICE R load_before(int back) const {
        const int64_t place = (is_ring ? origin : params.length) - back;
        return load(place + (SSM_MUTATE("causal_conv1d_update.cuda.no_wrap", place < 0, false) ? params.length : 0));
    }
    // What a state that is not the window keeps of itself.
    SSM_DEVICE void move_on() const {
        if (!is_ring && !is_window) {
            for (int64_t k = 0; k + params.steps < params.length; ++k) {
                store(k, load(k + params.steps));
            }
        }
    }
    SSM_DEVICE void keep(int64_t step, R x) const {
        if (!is_window && step >= params.steps - params.length) {
            store(is_ring ? (origin + step) % params.length : params.length - params.steps + step, x);
        }
    }

    SSM_DEVICE R load_x(int64_t step) const {
        return widen(static_cast<const T*>(
            params.x.data)[row * params.x.batch_stride + channel * params.x.channel_stride + step * params.x.step_stride]);
    }
    SSM_DEVICE void store_y(int64_t step, R sum) const {
        static_cast<T*>(
            params.y.data)[row * params.y.batch_stride + channel * params.y.channel_stride + step * params.y.step_stride] =
            narrow<T>(params.silu ? silu(sum) : sum);
    }
    SSM_DEVICE R bias() const { return params.bias ? static_cast<const R*>(params.bias)[channel] : R(0); }

    // Fewer than four weights are the last ones: what does not exist takes no part, for zero times infinity is not zero.
    SSM_DEVICE void run_few() const {
        const int missing = few_weights - static_cast<int>(params.width);
        R weights[few_weights];
        R window[few_weights - 1];
        const R* from = static_cast<const R*>(params.weight) + channel * params.width;
        if (arguments.whole_weight) {
            const Vector<R, few_weights> vector = load_vector<few_weights>(from);
#pragma unroll
            for (int j = 0; j < few_weights; ++j) {
                weights[j] = vector[j];
            }
        } else {
#pragma unroll
            for (int j = 0; j < few_weights; ++j) {
                weights[j] = j >= missing ? from[j - missing] : R(0);
            }
        }
#pragma unroll
        for (int k = 0; k < few_weights - 1; ++k) {
            window[k] = k >= missing ? load_before(few_weights - 1 - k) : R(0);
        }
        move_on();
        const R start = bias();
        for (int64_t step = 0; step < params.steps; ++step) {
            const R x = load_x(step);
            R sum = start;
#pragma unroll
            for (int j = 0; j < few_weights - 1; ++j) {
                if (j >= missing) {
                    sum = multiply_add(weights[j], window[j], sum);
                }
            }
            sum = multiply_add(weights[few_weights - 1], x, sum);
            keep(step, x);
#pragma unroll
            for (int k = 0; k + 2 < few_weights; ++k) {
                window[k] = SSM_MUTATE("causal_conv1d_update.cuda.stale_window", window[k + 1], window[k]);
            }
            window[few_weights - 2] = x;
            store_y(step, sum);
        }
        if (is_window) {
#pragma unroll
            for (int k = 0; k < few_weights - 1; ++k) {
                if (k >= missing) {
                    store(k - missing, window[k]);
                }
            }
        }
    }

    // memory: W - 1 numbers, `apart` from each other, the oldest at `head`.
    SSM_DEVICE void run_many(R* memory, int apart) const {
        const int history = static_cast<int>(params.width) - 1;
        const R* weights = static_cast<const R*>(params.weight) + channel * params.width;
        for (int k = 0; k < history; ++k) {
            memory[k * apart] = load_before(history - k);
        }
        move_on();
        const R start = bias();
        int head = 0;
        for (int64_t step = 0; step < params.steps; ++step) {
            const R x = load_x(step);
            R sum = start;
            int at = head;
            for (int j = 0; j < history; ++j) {
                sum = multiply_add(weights[j], memory[at * apart], sum);
                at = at + 1 == history ? 0 : at + 1;
            }
            sum = multiply_add(weights[history], x, sum);
            keep(step, x);
            if (history > 0) {
                memory[head * apart] = x;
                head = head + 1 == history ? 0 : head + 1;
            }
            store_y(step, sum);
        }
        for (int k = 0; is_window && k < history; ++k) {
            store(k, memory[head * apart]);
            head = head + 1 == history ? 0 : head + 1;
        }
    }
};

template <typename T>
__global__ void __launch_bounds__(update_threads) causal_conv1d_update_kernel(ConvolutionUpdateArguments arguments) {
    using R = Compute<T>;
    const CausalConv1dUpdateParams& params = arguments.params;
    R* const memory = arguments.in_registers ? nullptr : reinterpret_cast<R*>(&SSM_SHARED(WindowStorage)) + threadIdx.x;
    for (int64_t row = blockIdx.y; row < params.batch; row += gridDim.y) {
        const int64_t slot =
            params.slots ? SSM_MUTATE("causal_conv1d_update.cuda.wrong_slot", static_cast<int64_t>(params.slots[row]), row)
                         : row;
        for (int64_t channel = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; channel < params.channels;
             channel += static_cast<int64_t>(gridDim.x) * blockDim.x) {
            const ConvolutionUpdateChannel<T> own(arguments, row, slot, channel);
            if (slot < 0 || slot >= params.rows) {
                for (int64_t step = 0; step < params.steps; ++step) {
                    own.store_y(step, R(0));
                }
            } else if (arguments.in_registers) {
                own.run_few();
            } else {
                own.run_many(memory, static_cast<int>(blockDim.x));
            }
        }
    }
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

template <typename T>
int32_t run_convolution_update(BackendContext* context, const CausalConv1dUpdateParams& params) {
    using R = Compute<T>;
    ConvolutionUpdateArguments arguments{};
    arguments.params = params;
    arguments.in_registers =
        params.width <= few_weights && context->options.get("causal_conv1d_update.path") != convolution_path_general_width;
    arguments.whole_weight = params.width == few_weights && is_aligned(params.weight, 16);
    // Few channels spread over the device in small blocks; a wide window leaves room for few threads.
    int threads = update_threads;
    while (threads > warp_size &&
           params.batch * params.channels < static_cast<int64_t>(context->multiprocessors) * threads) {
        threads /= 2;
    }
    int64_t bytes = 0;
    if (!arguments.in_registers) {
        const int64_t thread_bytes = (params.width - 1) * static_cast<int64_t>(sizeof(R));
        while (threads * thread_bytes > window_bytes) {
            threads /= 2;
        }
        bytes = threads * thread_bytes + static_cast<int64_t>(sizeof(WindowStorage));
    }
    const int64_t blocks = (params.channels + threads - 1) / threads;
    const int64_t most_blocks = int64_t{1} << 30;
    const int64_t most_rows = 65535;
    const dim3 grid(static_cast<unsigned>(blocks < most_blocks ? blocks : most_blocks),
                    static_cast<unsigned>(params.batch < most_rows ? params.batch : most_rows));
    return status_of(launch(causal_conv1d_update_kernel<T>, grid, dim3(static_cast<unsigned>(threads)),
                            static_cast<size_t>(bytes), context->stream, arguments),
                     "causal_conv1d_update");
}

} // namespace

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t causal_conv1d_update(BackendContext* context, const CausalConv1dUpdateParams* params) {
    switch (params->type) {
    case DataType::float32:
        return run_convolution_update<float>(context, *params);
    case DataType::float64:
        return run_convolution_update<double>(context, *params);
    case DataType::float16:
        return run_convolution_update<Half>(context, *params);
    case DataType::bfloat16:
        return run_convolution_update<BFloat16>(context, *params);
    default:
        return fail(error_internal, "a backend was called with a type that core should have refused");
    }
}

int32_t causal_conv1d_update_workspace(BackendContext*, const CausalConv1dUpdateParams*, uint64_t* bytes) {
    *bytes = 0;
    return success;
}

} // namespace ssm
