// mamba3_update: some steps of mamba3 on states that stay where they are (Lahoti et al. 2026, Mamba-3).
//
// A block has a head of a batch element. It makes k and q of up to eight steps ready in shared memory, then each warp takes
// rows of the state, (p, all n), one after the other: a lane has every 32nd state of a row in registers over those steps,
// and shuffles sum h q over the lanes. Where rows are too long for shared memory, k and q go through the workspace.
//
// Bytes: the state, 4 P N for a head, in and out once for every eight steps; the rest is small. Operations for a state and
// step: a product and three multiply-adds. Memory is the limit.
#include "cuda/mamba3.h"

#include "core/params/mamba3_update.h"
#include "cuda/operations.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

constexpr int update_threads = 256;
constexpr int update_steps = 8;  // at hand at once, at most
constexpr int update_states = 4; // of a lane

template <typename R>
struct Mamba3UpdateArguments {
    Mamba3UpdateParams params;
    int32_t held; // steps at hand
    R* rows;      // (blocks,2 held + 1,N), null where they lie in shared memory
};

template <typename R>
struct alignas(16) Mamba3UpdateStorage {
    R s[update_steps];
    R decay[update_steps];
    R old[update_steps]; // the factor of what the step before left
    R now[update_steps];
    // Behind it: k of the step before and of the steps at hand, then q.
};

// ---- Kernel --------------------------------------------------------------------------------------------------------------

template <typename T>
struct Mamba3UpdateBlock {
    using R = Compute<T>;
    using Storage = Mamba3UpdateStorage<R>;

    const Mamba3UpdateArguments<R>& arguments;
    const Mamba3UpdateParams& p;
    Storage& shared;
    int64_t batch;
    int64_t head;
    int64_t row;
    R* const k; // of the step before the first, then of the steps
    R* const q;

    SSM_DEVICE Mamba3UpdateBlock(const Mamba3UpdateArguments<R>& arguments, Storage& shared)
        : arguments(arguments), p(arguments.params), shared(shared), batch(blockIdx.x / p.heads),
          head(blockIdx.x - batch * p.heads), row(p.slots ? p.slots[batch] : batch),
          k(arguments.rows ? arguments.rows + static_cast<int64_t>(blockIdx.x) * (2 * arguments.held + 1) * p.states
                           : reinterpret_cast<R*>(&shared + 1)),
          q(k + (arguments.held + 1) * p.states) {}

    template <typename V>
    SSM_DEVICE static V* at(const HeadTensor& tensor, int64_t batch, int64_t head, int64_t step) {
        return static_cast<V*>(tensor.data) + batch * tensor.batch_stride + head * tensor.head_stride +
               step * tensor.time_stride;
    }

    SSM_DEVICE void run() {
        if (row < 0 || row >= p.rows) {
            for (int64_t i = threadIdx.x; i < p.steps * p.channels; i += update_threads) {
                const int64_t step = i / p.channels;
                at<T>(p.y, batch, head, step)[i - step * p.channels] = narrow<T>(0);
            }
            return;
        }
        R* const b_state = at<R>(p.b_state, row, head, 0);
        for (int64_t n = threadIdx.x; n < p.states; n += update_threads) {
            k[n] = b_state[n];
        }
        int count = 0;
        for (int64_t first = 0; first < p.steps; first += count) {
            if (first > 0) {
                for (int64_t n = threadIdx.x; n < p.states; n += update_threads) {
                    k[n] = k[count * p.states + n];
                }
            }
            count = static_cast<int>(p.steps - first < arguments.held ? p.steps - first : arguments.held);
            read_sizes(first, count);
            __syncthreads();
            make_rows(first, count);
            __syncthreads();
            for (int64_t channel = warp_id(); channel < p.channels; channel += update_threads / warp_size) {
                run_row(first, count, channel);
            }
            __syncthreads();
        }
        for (int64_t n = threadIdx.x; n < p.states; n += update_threads) {
            b_state[n] = k[SSM_MUTATE("mamba3_update.cuda.stale_k", count, count - 1) * p.states + n];
        }
    }

    SSM_DEVICE void read_sizes(int64_t first, int count) const {
        const int i = static_cast<int>(threadIdx.x);
        if (i < count) {
            const R bias = p.dt_bias ? static_cast<const R*>(p.dt_bias)[head] : R(0);
            const Mamba3Size<R> size = mamba3_size(p.dt_softplus, widen(*at<const T>(p.dt, batch, head, first + i)), bias,
                                                   widen(*at<const T>(p.trap, batch, head, first + i)));
            const R decay = exp(size.s * *at<const R>(p.a, batch, head, first + i));
            shared.s[i] = size.s;
            shared.decay[i] = decay;
            shared.old[i] = SSM_MUTATE("mamba3_update.cuda.no_step_before", decay * size.entering(), R(0));
            shared.now[i] = size.now();
        }
    }

    SSM_DEVICE void make_rows(int64_t first, int count) const {
        const int64_t group = head / (p.heads / p.groups);
        const int64_t angle_group = p.angles > 0 ? head / (p.heads / p.angle_groups) : 0;
        for (int64_t pair = threadIdx.x; 2 * pair < p.states; pair += update_threads) {
            const Pair<R> b_bias = load_bias<R>(p.b_bias, head, pair, p.states);
            const Pair<R> c_bias = load_bias<R>(p.c_bias, head, pair, p.states);
            R* const theta = pair < p.angles ? at<R>(p.angle_state, row, head, 0) + pair : nullptr;
            R turn = theta ? wrap_turn(*theta / (2 * mamba3_pi<R>)) : R(0);
            for (int i = 0; i < count; ++i) {
                R sine = 0;
                R cosine = 1;
                if (theta) {
                    turn = next_turn(turn, widen(at<const T>(p.angle, batch, angle_group, first + i)[pair]), shared.s[i]);
                    sincos_pi(2 * turn, sine, cosine);
                }
                const Pair<R> b = load_pair(at<const T>(p.b, batch, group, first + i), pair, p.states).plus(R(1), b_bias);
                const Pair<R> c = load_pair(at<const T>(p.c, batch, group, first + i), pair, p.states).plus(R(1), c_bias);
                store_pair<R>(k + (i + 1) * p.states, pair, p.states, b.turned(sine, cosine));
                store_pair<R>(q + i * p.states, pair, p.states, c.turned(sine, cosine));
            }
            if (theta) {
                *theta = SSM_MUTATE("mamba3_update.cuda.lost_angle", turn * (2 * mamba3_pi<R>), *theta);
            }
        }
    }

    // A row of the state by a warp.
    SSM_DEVICE void run_row(int64_t first, int count, int64_t channel) const {
        const int lane = lane_id();
        R* const state = at<R>(p.state, row, head, 0) + channel * p.state.channel_stride;
        R* const x_state = at<R>(p.x_state, row, head, 0) + channel;
        // Of the steps: x of the one before, of the step; a lane has one.
        R x = lane < count ? widen(at<const T>(p.x, batch, head, first + lane)[channel]) : R(0);
        R before = shuffle_up(x, 1);
        if (lane == 0) {
            before = *x_state;
        }
        const R old = lane < count ? shared.old[lane] * before : R(0);
        const R now = lane < count ? shared.now[lane] * x : R(0);
        R sums[update_steps];
#pragma unroll
        for (int i = 0; i < update_steps; ++i) {
            sums[i] = 0;
        }
        for (int64_t begin = 0; begin < p.states; begin += warp_size * update_states) {
            R h[update_states];
#pragma unroll
            for (int j = 0; j < update_states; ++j) {
                const int64_t n = begin + j * warp_size + lane;
                h[j] = n < p.states ? state[n] : R(0);
            }
#pragma unroll
            for (int i = 0; i < update_steps; ++i) {
                if (i < count) {
                    const R decay = shared.decay[i];
                    const R own_old = shuffle(old, i);
                    const R own_now = shuffle(now, i);
                    const R* const k_before = k + i * p.states;
                    const R* const k_own = k_before + p.states;
                    const R* const q_own = q + i * p.states;
#pragma unroll
                    for (int j = 0; j < update_states; ++j) {
                        const int64_t n = begin + j * warp_size + lane;
                        if (n < p.states) {
                            h[j] = multiply_add(own_now, k_own[n], multiply_add(own_old, k_before[n], decay * h[j]));
                            sums[i] = multiply_add(h[j], q_own[n], sums[i]);
                        }
                    }
                }
            }
#pragma unroll
            for (int j = 0; j < update_states; ++j) {
                const int64_t n = begin + j * warp_size + lane;
                if (n < p.states) {
                    state[n] = h[j];
                }
            }
        }
        R y = 0; // of the lane's step
#pragma unroll
        for (int i = 0; i < update_steps; ++i) {
            const R sum = warp_sum(sums[i]);
            y = i == lane ? sum : y;
        }
        if (lane < count) {
            if (p.d) {
                y = multiply_add(static_cast<const R*>(p.d)[p.d_per_channel ? head * p.channels + channel : head], x, y);
            }
            if (p.z.data) {
                y *= silu(widen(at<const T>(p.z, batch, head, first + lane)[channel]));
            }
            at<T>(p.y, batch, head, first + lane)[channel] = narrow<T>(y);
        }
        if (lane == count - 1) {
            *x_state = x;
        }
    }
};

template <typename T>
__global__ void __launch_bounds__(update_threads, 2) mamba3_update_kernel(Mamba3UpdateArguments<Compute<T>> arguments) {
    Mamba3UpdateStorage<Compute<T>>& shared = SSM_SHARED(Mamba3UpdateStorage<Compute<T>>);
    Mamba3UpdateBlock<T> block(arguments, shared);
    block.run();
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

template <typename R>
struct Mamba3UpdatePlan {
    int32_t held = update_steps;
    int64_t row_bytes; // of a block
    bool in_shared = true;

    explicit Mamba3UpdatePlan(const Mamba3UpdateParams& params) {
        constexpr int64_t most = 40 * 1024;
        held = static_cast<int32_t>(params.steps < held ? params.steps : held);
        const auto bytes = [&] { return (2 * held + 1) * params.states * static_cast<int64_t>(sizeof(R)); };
        while (held > 1 && bytes() > most) {
            held /= 2;
        }
        if (bytes() > most) {
            in_shared = false;
            held = static_cast<int32_t>(params.steps < update_steps ? params.steps : update_steps);
        }
        row_bytes = bytes();
    }
    uint64_t workspace_bytes(const Mamba3UpdateParams& params) const {
        return in_shared ? 0 : static_cast<uint64_t>(params.batch * params.heads * row_bytes);
    }
};

template <typename T>
int32_t run_mamba3_update(BackendContext* context, const Mamba3UpdateParams& params) {
    using R = Compute<T>;
    const Mamba3UpdatePlan<R> plan(params);
    if (plan.workspace_bytes(params) > params.workspace.bytes) {
        return fail(error_workspace_too_small, "mamba3_update: the workspace is smaller than the workspace function says");
    }
    const int64_t blocks = params.batch * params.heads;
    if (blocks > INT32_MAX) {
        return fail(error_unsupported, "mamba3_update: more heads in the batch than a grid has blocks");
    }
    const Mamba3UpdateArguments<R> arguments{params, plan.held,
                                             plan.in_shared ? nullptr : static_cast<R*>(params.workspace.data)};
    const size_t shared = sizeof(Mamba3UpdateStorage<R>) + (plan.in_shared ? static_cast<size_t>(plan.row_bytes) : 0);
    return status_of(launch(mamba3_update_kernel<T>, dim3(static_cast<unsigned>(blocks)), dim3(update_threads), shared,
                            context->stream, arguments),
                     "mamba3_update");
}

} // namespace

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t mamba3_update(BackendContext* context, const Mamba3UpdateParams* params) {
    return dispatch_ssd(params->type, [&](auto storage) { return run_mamba3_update<decltype(storage)>(context, *params); });
}

int32_t mamba3_update_workspace(BackendContext*, const Mamba3UpdateParams* params, uint64_t* bytes) {
    return dispatch_ssd(params->type, [&](auto storage) {
        *bytes = Mamba3UpdatePlan<Compute<decltype(storage)>>(*params).workspace_bytes(*params);
        return success;
    });
}

} // namespace ssm
