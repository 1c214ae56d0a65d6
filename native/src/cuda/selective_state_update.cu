// selective_state_update: s = dt + dt_bias, through softplus where asked; state = exp(s a) state + s b x;
// y = (state . c + d x) silu(z), for one step or a few, the state updated where it lies (Mamba's step, Gu and Dao 2023;
// with one a per head Mamba-2's, Dao and Gu 2024).
//
// A power of two of neighbouring lanes holds a channel: each reads up to four 16-byte vectors of its state, which stay in
// registers over the steps, and shuffles sum h c over the lanes. Fewer lanes with more vectors share what is computed once a
// channel; more lanes fill the device where channels are few. A state longer than the lanes hold goes through them in
// parts, and between steps through memory, in the compute type. b, c and a are read by many channels and come from the
// caches. Which lane has which state depends on the shape and the device alone, so that bits do not depend on alignment.
//
// Bytes for a channel and call: 2 N of the state's, and what little x, dt, z, y take; a adds 4 N where it is not shared in
// a head, from the caches beyond the first row of the batch. Operations for a state and step: an exponential (one a channel
// where a is shared), a product and two multiply-adds. Memory is the limit.
#include "cuda/primitives/cuda.h"

#include "core/mutate.h"
#include "core/params/selective_state_update.h"
#include "cuda/context.h"
#include "cuda/primitives/launch.h"
#include "cuda/primitives/math.h"
#include "cuda/primitives/numbers.h"
#include "cuda/primitives/storage.h"
#include "cuda/primitives/vector.h"
#include "cuda/primitives/warp.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

// S: storage of the state.
template <typename S>
struct StateUpdateTraits {
    static constexpr int threads = 128; // at most
    static constexpr int width = vector_elements<S>;
    static constexpr int vectors = 4; // of a lane
    static constexpr int held = width * vectors;
    // Of a multiprocessor, that registers must suffice for. At 4.8 TB/s and a microsecond 36 KiB have to be under way; a
    // thread has 64 bytes.
    static constexpr int blocks = sizeof(S) == 4 ? 5 : sizeof(S) == 2 ? 4 : 3;
};

template <typename R>
struct StateUpdateArguments {
    SelectiveStateUpdateParams params;
    int32_t lanes;    // of a channel, a power of two up to 32
    int64_t channels; // of all heads
    int64_t parts;    // that the lanes take the states in
    R* running;       // (B, channels, N): the state between steps where there are parts and it is rounded
    bool whole_state; // vectors are whole and aligned
    bool whole_a;
    bool whole_b;
    bool whole_c;
};

// Quotients of numbers that mostly fit 32 bits, where a division is several times as quick.
SSM_DEVICE int64_t divide(int64_t x, int64_t y) {
    if (((x | y) >> 32) == 0) {
        return static_cast<int64_t>(static_cast<uint32_t>(x) / static_cast<uint32_t>(y));
    }
    return x / y;
}

// exp(s a)
SSM_DEVICE float step_decay(float s, float a) {
    return fast_exp2(s * 1.44269504088896340736f * a);
}
SSM_DEVICE double step_decay(double s, double a) {
    return exp(s * a);
}

// `count` of `width` neighbouring states, zero beyond them.
template <int width, typename T>
SSM_DEVICE void load_states(const T* data, int64_t stride, int count, bool whole, Compute<T> (&values)[width]) {
    if (whole) {
        const Vector<T, width> vector = load_vector<width>(data);
#pragma unroll
        for (int i = 0; i < width; ++i) {
            values[i] = widen(vector[i]);
        }
        return;
    }
    const int64_t apart = opaque(stride);
#pragma unroll
    for (int i = 0; i < width; ++i) {
        values[i] = i < count ? widen(data[i * apart]) : Compute<T>(0);
    }
}

template <int width, typename T>
SSM_DEVICE void store_states(T* data, int64_t stride, int count, bool whole, const Compute<T> (&values)[width]) {
    if (whole) {
        Vector<T, width> vector;
#pragma unroll
        for (int i = 0; i < width; ++i) {
            vector[i] = narrow<T>(values[i]);
        }
        store_vector_streaming<width>(data, vector);
        return;
    }
    const int64_t apart = opaque(stride);
#pragma unroll
    for (int i = 0; i < width; ++i) {
        if (i < count) {
            data[i * apart] = narrow<T>(values[i]);
        }
    }
}

// ---- Kernel --------------------------------------------------------------------------------------------------------------

// S: storage of the state. That of x, dt, b, c, z and y is known at run time alone.
template <typename S>
struct StateUpdateChannel {
    using Traits = StateUpdateTraits<S>;
    using R = Compute<S>;
    static constexpr int width = Traits::width;
    static constexpr int vectors = Traits::vectors;

    const StateUpdateArguments<R>& arguments;
    const SelectiveStateUpdateParams& params;
    int64_t row;
    int64_t head;
    int64_t channel; // of the head
    int lanes;
    int lane;
    R h[vectors][width];

    SSM_DEVICE explicit StateUpdateChannel(const StateUpdateArguments<R>& arguments)
        : arguments(arguments), params(arguments.params), lanes(arguments.lanes),
          lane(static_cast<int>(threadIdx.x) & (lanes - 1)) {}

    template <typename V>
    SSM_DEVICE V* at(const HeadTensor& tensor, int64_t batch, int64_t step) const {
        return static_cast<V*>(tensor.data) + batch * tensor.batch_stride + head * tensor.head_stride +
               channel * tensor.channel_stride + step * tensor.time_stride;
    }
    template <typename V>
    SSM_DEVICE const V* of_group(const HeadTensor& tensor, int64_t group, int64_t step) const {
        return static_cast<const V*>(tensor.data) + row * tensor.batch_stride + group * tensor.head_stride +
               step * tensor.time_stride;
    }
    SSM_DEVICE R read(const HeadTensor& tensor, int64_t step) const {
        return with_storage_of<R>(params.type, [&](auto of) { return widen(*at<const decltype(of)>(tensor, row, step)); });
    }
    SSM_DEVICE R parameter(const HeadTensor& tensor) const { return tensor.data ? *at<const R>(tensor, 0, 0) : R(0); }

    // First state of a vector of this lane in a part.
    SSM_DEVICE int64_t first_state(int64_t part, int vector) const {
        return ((part * vectors + vector) * lanes + lane) * width;
    }
    // How many states there are from `first` on in a vector, none or fewer below one.
    SSM_DEVICE int count_from(int64_t first) const {
        const int64_t left = params.states - first;
        return left < width ? static_cast<int>(left) : width;
    }

    // All lanes of a warp come here; of channels that do not exist nothing is read or written.
    SSM_DEVICE void run(bool exists) {
        const int64_t slot = params.slots && exists ? SSM_MUTATE("selective_state_update.cuda.wrong_slot",
                                                                 static_cast<int64_t>(params.slots[row]), row)
                                                    : row;
        const bool has_state = exists && slot >= 0 && slot < params.rows;
        const int64_t group = divide(head, divide(params.heads, params.groups));
#pragma unroll
        for (int i = 0; i < vectors; ++i) {
#pragma unroll
            for (int k = 0; k < width; ++k) {
                h[i][k] = 0; // what is left of the channel before need not be kept
            }
        }
        for (int64_t step = 0; step < params.steps; ++step) {
            // Addresses are computed anew in every step: kept, those of all vectors would be most of the registers.
            head = opaque(head);
            channel = opaque(channel);
            lane = opaque(lane);
            R sum = 0;
            R x = 0;
            if (has_state) {
                x = read(params.x, step);
                R s = read(params.dt, step) + parameter(params.dt_bias);
                s = params.dt_softplus ? softplus(s) : s;
                const R tied = params.is_tied ? step_decay(s, parameter(params.a)) : R(0);
                for (int64_t part = 0; part < arguments.parts; ++part) {
                    if (step == 0 || arguments.parts > 1) {
                        load(part, slot, step);
                    }
                    sum += advance(part, s, s * x, tied, group, step);
                    const bool is_last = step == params.steps - 1;
                    if (is_last || arguments.parts > 1) {
                        store(part, slot, is_last);
                    }
                }
            }
            for (int delta = SSM_MUTATE("selective_state_update.cuda.lost_lane", 1, 2); delta < lanes; delta *= 2) {
                sum += shuffle_xor(sum, delta, full_mask, lanes);
            }
            if (lane == 0 && exists) {
                R y = 0;
                if (has_state) {
                    y = multiply_add(parameter(params.d), x, sum);
                    if (params.z.data) {
                        y *= silu(read(params.z, step));
                    }
                }
                with_storage_of<R>(params.type, [&](auto of) {
                    using U = decltype(of);
                    *at<U>(params.y, row, step) = narrow<U>(y);
                });
            }
        }
    }

    // Where the state between steps lies that is not in registers.
    SSM_DEVICE R* running() const {
        return arguments.running + ((row * params.heads + head) * params.channels + channel) * params.states;
    }

    SSM_DEVICE void load(int64_t part, int64_t slot, int64_t step) {
        const S* state = at<const S>(params.update, slot, 0);
#pragma unroll
        for (int i = 0; i < vectors; ++i) {
            const int64_t first = opaque(first_state(part, i));
            const int count = count_from(first);
            if (count <= 0) {
                continue;
            }
            if (step > 0 && arguments.running) {
                load_states(running() + first, 1, count, false, h[i]);
            } else {
                load_states(state + first * params.update.state_stride, params.update.state_stride, count,
                            arguments.whole_state, h[i]);
            }
        }
    }

    SSM_DEVICE void store(int64_t part, int64_t slot, bool is_last) const {
        S* state = at<S>(params.update, slot, 0);
#pragma unroll
        for (int i = 0; i < vectors; ++i) {
            const int64_t first = opaque(first_state(part, i));
            const int count = count_from(first);
            if (count <= 0) {
                continue;
            }
            if (!is_last && arguments.running) {
                store_states(running() + first, 1, count, false, h[i]);
            } else {
                store_states(state + first * params.update.state_stride, params.update.state_stride,
                             SSM_MUTATE("selective_state_update.cuda.lost_tail", count, count - 1), arguments.whole_state,
                             h[i]);
            }
        }
    }

    // The lane's states of a part through a step; answers their h c.
    SSM_DEVICE R advance(int64_t part, R s, R sx, R tied, int64_t group, int64_t step) {
        R sum = 0;
#pragma unroll
        for (int i = 0; i < vectors; ++i) {
            const int64_t first = opaque(first_state(part, i));
            const int count = count_from(first);
            if (count <= 0) {
                continue;
            }
            R input[width];
            R output[width];
            with_storage_of<R>(params.type, [&](auto of) {
                using U = decltype(of);
                load_states(of_group<U>(params.b, group, step) + first * params.b.state_stride, params.b.state_stride, count,
                            arguments.whole_b, input);
                load_states(of_group<U>(params.c, group, step) + first * params.c.state_stride, params.c.state_stride, count,
                            arguments.whole_c, output);
            });
            R e[width];
            if (params.is_tied) {
#pragma unroll
                for (int k = 0; k < width; ++k) {
                    e[k] = tied;
                }
            } else {
                load_states(at<const R>(params.a, 0, 0) + first, 1, count, arguments.whole_a, e);
#pragma unroll
                for (int k = 0; k < width; ++k) {
                    e[k] = step_decay(s, e[k]);
                }
            }
#pragma unroll
            for (int k = 0; k < width; ++k) {
                h[i][k] = multiply_add(e[k], h[i][k], sx * input[k]);
                if (k < count) { // what is beyond the end may be what an infinite s made of it
                    sum = multiply_add(h[i][k], output[k], sum);
                }
            }
        }
        return sum;
    }
};

template <typename S>
__global__ void __launch_bounds__(StateUpdateTraits<S>::threads, StateUpdateTraits<S>::blocks)
    selective_state_update_kernel(StateUpdateArguments<Compute<S>> arguments) {
    StateUpdateChannel<S> own(arguments);
    const SelectiveStateUpdateParams& params = arguments.params;
    const int64_t teams = static_cast<int64_t>(blockDim.x) / arguments.lanes;
    const int64_t team = static_cast<int64_t>(threadIdx.x) / arguments.lanes;
    for (int64_t row = blockIdx.y; row < params.batch; row += gridDim.y) {
        for (int64_t base = blockIdx.x * teams; base < arguments.channels; base += gridDim.x * teams) {
            const bool exists = base + team < arguments.channels;
            const int64_t channel = exists ? base + team : 0;
            own.row = row;
            own.head = divide(channel, params.channels);
            own.channel = channel - own.head * params.channels;
            own.run(exists);
        }
    }
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

int64_t ceil_divide(int64_t x, int64_t y) {
    return x / y + (x % y != 0);
}

// Whether every vector of `width` elements along the states is whole and aligned.
bool has_whole_vectors(const HeadTensor& tensor, int64_t states, int64_t width, int64_t element_bytes) {
    const int64_t bytes = width * element_bytes < 16 ? width * element_bytes : 16;
    return tensor.state_stride == 1 && states % width == 0 && is_aligned(tensor.data, bytes) &&
           (tensor.batch_stride | tensor.head_stride | tensor.channel_stride | tensor.time_stride) % width == 0;
}

struct StateUpdatePlan {
    int32_t lanes = 1;
    int threads = 0;
    int64_t parts = 1;
    int64_t running = 0; // elements
};

template <typename S>
StateUpdatePlan plan_state_update(const BackendContext& context, const SelectiveStateUpdateParams& params) {
    using Traits = StateUpdateTraits<S>;
    StateUpdatePlan plan;
    const int64_t channels = params.batch * params.heads * params.channels;
    // All lanes that the states can use, then half as long as the device stays full and the state fits.
    while (plan.lanes < warp_size && plan.lanes * Traits::width < params.states) {
        plan.lanes *= 2;
    }
    const int64_t wanted = static_cast<int64_t>(context.multiprocessors) * 1024;
    while (plan.lanes > 1 && channels * plan.lanes > wanted && plan.lanes / 2 * Traits::held >= params.states) {
        plan.lanes /= 2;
    }
    if (const int64_t tile = context.options.get("selective_state_update.tile")) {
        plan.lanes = 1;
        while (plan.lanes < warp_size && plan.lanes * Traits::held < tile) {
            plan.lanes *= 2;
        }
    }
    plan.parts = ceil_divide(params.states, plan.lanes * Traits::held);
    plan.running = plan.parts > 1 && params.steps > 1 && sizeof(S) == 2 ? channels * params.states : 0;
    // Few channels spread over the device in small blocks.
    plan.threads = Traits::threads;
    while (plan.threads > warp_size &&
           channels * plan.lanes < static_cast<int64_t>(context.multiprocessors) * plan.threads) {
        plan.threads /= 2;
    }
    return plan;
}

template <typename S>
int32_t run_state_update(BackendContext* context, const SelectiveStateUpdateParams& params) {
    using Traits = StateUpdateTraits<S>;
    using R = Compute<S>;
    const StateUpdatePlan plan = plan_state_update<S>(*context, params);
    StateUpdateArguments<R> arguments{};
    arguments.params = params;
    arguments.lanes = plan.lanes;
    arguments.channels = params.heads * params.channels;
    arguments.parts = plan.parts;
    WorkspaceParts parts(params.workspace.data);
    if (plan.running > 0) {
        arguments.running = parts.take<R>(plan.running);
    }
    if (parts.size() > params.workspace.bytes) {
        return fail(error_workspace_too_small,
                    "selective_state_update: the workspace is smaller than the workspace function says");
    }
    const auto whole = [&](const HeadTensor& tensor, int64_t element_bytes) {
        return has_whole_vectors(tensor, params.states, Traits::width, element_bytes);
    };
    arguments.whole_state = whole(params.update, sizeof(S));
    arguments.whole_a = whole(params.a, sizeof(R));
    arguments.whole_b = whole(params.b, size_of(params.type));
    arguments.whole_c = whole(params.c, size_of(params.type));
    const int64_t blocks = ceil_divide(arguments.channels, plan.threads / plan.lanes);
    const int64_t most_blocks = int64_t{1} << 30;
    const int64_t most_rows = 65535;
    const dim3 grid(static_cast<unsigned>(blocks < most_blocks ? blocks : most_blocks),
                    static_cast<unsigned>(params.batch < most_rows ? params.batch : most_rows));
    return status_of(launch(selective_state_update_kernel<S>, grid, dim3(static_cast<unsigned>(plan.threads)), 0,
                            context->stream, arguments),
                     "selective_state_update");
}

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

// Calls f with a value of the state's type.
template <typename Function>
int32_t dispatch(const SelectiveStateUpdateParams& params, const Function& f) {
    switch (params.state) {
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

int32_t selective_state_update(BackendContext* context, const SelectiveStateUpdateParams* params) {
    return dispatch(*params, [&](auto state) { return run_state_update<decltype(state)>(context, *params); });
}

int32_t selective_state_update_workspace(BackendContext* context, const SelectiveStateUpdateParams* params,
                                         uint64_t* bytes) {
    return dispatch(*params, [&](auto state) {
        using S = decltype(state);
        const StateUpdatePlan plan = plan_state_update<S>(*context, *params);
        WorkspaceParts parts(nullptr);
        if (plan.running > 0) {
            parts.take<Compute<S>>(plan.running);
        }
        *bytes = parts.size();
        return int32_t{success};
    });
}

} // namespace ssm
