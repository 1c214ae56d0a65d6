// mamba3: h_t = exp(s_t a_t) (h_{t-1} + (1 - lambda_t) s_t x_{t-1} k_{t-1}^T) + lambda_t s_t x_t k_t^T,
// y_t = (h_t q_t + d x_t) silu(z_t), k and q being b and c with biases, turned by angles that add up along time (Lahoti et
// al. 2026, Mamba-3).
//
// Steps are made into those of ssd (core/params/mamba3_scaled.h), and ssd's kernel does the rest with tensor cores. The
// preparation is one kernel in three launches: the chunks' sums of angles; their fold along each sequence, with the first
// state; and the rows of b and c, biased, turned and scaled, with decays and the skip connection. A warp has a chunk of up
// to 32 steps of one head: a lane computes one step's size, then a lane has a pair of states.
//
// Bytes beside ssd's, for a step and head: 2 e N written and read (b and c), e A for each of two reads of the angles, what
// b and c take once for all heads from memory and then from the second-level cache. Operations: a sine, a cosine and two
// tanh for each angle, about ten for each state.
#include "cuda/mamba3.h"

#include "cuda/operations.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

enum class Mamba3Phase : int32_t { sums, fold, rows };

template <typename T>
struct Mamba3Arguments {
    using R = Compute<T>;
    Mamba3Inputs params;
    Mamba3Scaled<R> scaled;
    Mamba3Last last;
    Mamba3Phase phase;
    int64_t chunk;
    int64_t slots;
    int64_t items; // warps' worth of work, in `fold` blocks'
    R* sums;       // (B,slots,H,A): of a chunk's turns, after `fold` the turn before it
};

// ---- Kernel --------------------------------------------------------------------------------------------------------------

template <typename T>
SSM_DEVICE void sum_turns(const Mamba3Arguments<T>& arguments, const Mamba3Chunk<T>& chunk) {
    using R = Compute<T>;
    const Mamba3Inputs& p = arguments.params;
    for (int64_t first = 0; first < p.angles; first += warp_size) {
        const int64_t i = first + lane_id();
        R turn = 0;
        for (int k = 0; k < chunk.count; ++k) {
            const R s = shuffle(chunk.own.s, k);
            if (i < p.angles) {
                turn = next_turn(turn, widen(place_of<const T>(p.angle, chunk.span, chunk.angle_group, chunk.t + k)[i]), s);
            }
        }
        if (i < p.angles) {
            chunk.part(arguments.sums, arguments.slots, p.angles)[i] = turn;
        }
    }
}

template <typename R>
SSM_DEVICE void pass_on(const R* from, int64_t count, R* to) {
    for (int64_t i = threadIdx.x; to && i < count; i += mamba3_threads) {
        to[i] = from ? from[i] : R(0);
    }
}

// A sequence of a head by a block.
template <typename T>
SSM_DEVICE void fold_turns(const Mamba3Arguments<T>& arguments, int64_t item) {
    using R = Compute<T>;
    const Mamba3Inputs& p = arguments.params;
    const int64_t heads = p.shape.channels;
    const int64_t head = item % heads;
    const Span span = span_of_row(p.shape, item / heads);
    const R* const initial_angle = p.initial_angle ? static_cast<const R*>(p.initial_angle) + item * p.angles : nullptr;
    const R* const initial_b = p.initial_b ? static_cast<const R*>(p.initial_b) + item * p.states : nullptr;
    const R* const initial_x = p.initial_b ? static_cast<const R*>(p.initial_x) + item * p.channels : nullptr;
    R* const last_angle = arguments.last.angle ? static_cast<R*>(arguments.last.angle) + item * p.angles : nullptr;
    const Mamba3Parts<R> parts(p, arguments.sums, span, head, arguments.chunk, arguments.slots, p.angles);
    for (int64_t i = threadIdx.x; i < p.angles; i += mamba3_threads) {
        R turn = wrap_turn(initial_angle ? initial_angle[i] / (2 * mamba3_pi<R>) : R(0));
        R* at = parts.first + i;
        for (int64_t k = 0; k < parts.chunks; ++k, at += parts.stride) {
            const R own = *at;
            *at = SSM_MUTATE("mamba3.cuda.lost_turn", turn, k > 0 ? own : turn);
            turn = wrap_turn(turn + own);
        }
        if (last_angle) {
            last_angle[i] = span.length > 0 ? turn * (2 * mamba3_pi<R>) : initial_angle ? initial_angle[i] : R(0);
        }
    }
    if (initial_b) {
        R entering = 0;
        if (span.length > 0) {
            const R bias = p.dt_bias ? static_cast<const R*>(p.dt_bias)[head] : R(0);
            entering = mamba3_size(p.dt_softplus, widen(*place_of<const T>(p.dt, span, head, 0)), bias,
                                   widen(*place_of<const T>(p.trap, span, head, 0)))
                           .entering();
        }
        const int64_t size = p.channels * p.states;
        const R* const given = p.initial_state ? static_cast<const R*>(p.initial_state) + item * size : nullptr;
        R* const to = arguments.scaled.initial + item * size;
        for (int64_t i = threadIdx.x; i < size; i += mamba3_threads) {
            const int64_t channel = i / p.states;
            to[i] = multiply_add(entering * initial_x[channel], initial_b[i - channel * p.states], given ? given[i] : R(0));
        }
    }
    if (span.length == 0) {
        pass_on(initial_b, p.states, arguments.last.b ? static_cast<R*>(arguments.last.b) + item * p.states : nullptr);
        pass_on(initial_x, p.channels, arguments.last.x ? static_cast<R*>(arguments.last.x) + item * p.channels : nullptr);
    }
}

template <typename T>
SSM_DEVICE void make_rows(const Mamba3Arguments<T>& arguments, const Mamba3Chunk<T>& chunk) {
    using R = Compute<T>;
    const Mamba3Inputs& p = arguments.params;
    const Mamba3Scaled<R>& scaled = arguments.scaled;
    const int lane = lane_id();
    const R now = SSM_MUTATE("mamba3.cuda.no_lambda", chunk.own.now(), chunk.own.s);
    const R weight = now + chunk.entering_next;
    R skip = 0; // of the lane's step
    for (int64_t first = 0; 2 * first < p.states; first += warp_size) {
        const int64_t pair = first + lane;
        const Pair<R> b_bias = load_bias<R>(p.b_bias, chunk.head, pair, p.states);
        const Pair<R> c_bias = load_bias<R>(p.c_bias, chunk.head, pair, p.states);
        const bool turns = pair < p.angles;
        R turn = turns && chunk.count > 0 ? chunk.part(arguments.sums, arguments.slots, p.angles)[pair] : R(0);
        for (int k = 0; k < chunk.count; ++k) {
            const int64_t t = chunk.t + k;
            const R s = shuffle(chunk.own.s, k);
            const R w = shuffle(weight, k);
            const Pair<R> b =
                load_pair(place_of<const T>(p.b, chunk.span, chunk.group, t), pair, p.states).plus(R(1), b_bias);
            const Pair<R> c =
                load_pair(place_of<const T>(p.c, chunk.span, chunk.group, t), pair, p.states).plus(R(1), c_bias);
            R sine = 0;
            R cosine = 1;
            if (turns) {
                turn = next_turn(turn, widen(place_of<const T>(p.angle, chunk.span, chunk.angle_group, t)[pair]), s);
                sincos_pi(2 * turn, sine, cosine);
                if (scaled.turns) {
                    chunk.row(scaled.turns, k, p.angles)[pair] = turn;
                }
            }
            const Pair<R> turned = b.turned(sine, cosine);
            const Pair<R> for_b = turned.times(w).template stored<T>();
            const Pair<R> for_c = c.turned(SSM_MUTATE("mamba3.cuda.turned_back", sine, -sine), cosine).template stored<T>();
            store_pair(chunk.row(static_cast<T*>(scaled.b), k, p.states), pair, p.states, for_b);
            store_pair(chunk.row(static_cast<T*>(scaled.c), k, p.states), pair, p.states, for_c);
            // What ssd adds for the step itself is taken out as it was rounded, and put back as it is: where decays are
            // strong, e is much larger than all that remains of it.
            const R sum = warp_sum(shuffle(now, k) * b.dot(c) - for_b.dot(for_c));
            skip += k == lane ? sum : R(0);
            if (arguments.last.b && chunk.is_last && k == chunk.count - 1) {
                store_pair(static_cast<R*>(arguments.last.b) + chunk.state_index() * p.states, pair, p.states, turned);
            }
        }
    }
    if (lane < chunk.count) {
        *chunk.row(scaled.log_decay, lane, 1) = chunk.rate(lane) * chunk.own.s;
        *chunk.row(scaled.skip, lane, 1) = skip;
    }
    if (arguments.last.x && chunk.is_last) {
        const T* const x = place_of<const T>(p.x, chunk.span, chunk.head, chunk.t + chunk.count - 1);
        R* const to = static_cast<R*>(arguments.last.x) + chunk.state_index() * p.channels;
        for (int64_t i = lane; i < p.channels; i += warp_size) {
            to[i] = widen(x[i]);
        }
    }
}

template <typename T>
__global__ void __launch_bounds__(mamba3_threads) mamba3_prepare_kernel(Mamba3Arguments<T> arguments) {
    if (arguments.phase == Mamba3Phase::fold) {
        for (int64_t item = blockIdx.x; item < arguments.items; item += gridDim.x) {
            fold_turns(arguments, item);
        }
        return;
    }
    constexpr int warps = mamba3_threads / warp_size;
    for (int64_t item = static_cast<int64_t>(blockIdx.x) * warps + warp_id(); item < arguments.items;
         item += static_cast<int64_t>(gridDim.x) * warps) {
        const Mamba3Chunk<T> chunk(arguments.params, arguments.chunk, arguments.slots, item);
        if (arguments.phase == Mamba3Phase::sums) {
            sum_turns(arguments, chunk);
        } else {
            make_rows(arguments, chunk);
        }
    }
}

} // namespace

// ---- Launcher ------------------------------------------------------------------------------------------------------------

template <typename T>
cudaError_t prepare_mamba3(BackendContext* context, const Mamba3Inputs& params, int64_t chunk,
                           const Mamba3Scaled<Compute<T>>& scaled, Compute<T>* sums, const Mamba3Last& last) {
    constexpr int warps = mamba3_threads / warp_size;
    const int64_t slots = slot_count(params.shape, chunk);
    const int64_t warp_items = params.shape.batch * slots * params.shape.channels;
    const int64_t sequences = params.shape.state_rows() * params.shape.channels;
    Mamba3Arguments<T> arguments{params, scaled, last, Mamba3Phase::sums, chunk, slots, warp_items, sums};
    const auto run = [&](Mamba3Phase phase, int64_t items, int64_t each) {
        arguments.phase = phase;
        arguments.items = items;
        return launch(mamba3_prepare_kernel<T>, dim3(mamba3_blocks(items, each)), dim3(mamba3_threads), 0, context->stream,
                      arguments);
    };
    cudaError_t error = cudaSuccess;
    if (params.angles > 0) {
        error = run(Mamba3Phase::sums, warp_items, warps);
    }
    if (error == cudaSuccess) {
        error = run(Mamba3Phase::fold, sequences, 1);
    }
    if (error == cudaSuccess) {
        error = run(Mamba3Phase::rows, warp_items, warps);
    }
    return error;
}
template cudaError_t prepare_mamba3<float>(BackendContext*, const Mamba3Inputs&, int64_t, const Mamba3Scaled<float>&, float*,
                                           const Mamba3Last&);
template cudaError_t prepare_mamba3<double>(BackendContext*, const Mamba3Inputs&, int64_t, const Mamba3Scaled<double>&,
                                            double*, const Mamba3Last&);
template cudaError_t prepare_mamba3<Half>(BackendContext*, const Mamba3Inputs&, int64_t, const Mamba3Scaled<float>&, float*,
                                          const Mamba3Last&);
template cudaError_t prepare_mamba3<BFloat16>(BackendContext*, const Mamba3Inputs&, int64_t, const Mamba3Scaled<float>&,
                                              float*, const Mamba3Last&);

namespace {

// The workspace: what ssd gets, a scratch, and ssd's own.
template <typename T>
struct Mamba3Call {
    using R = Compute<T>;
    WorkspaceParts workspace;
    Mamba3Scaled<R> scaled;
    int64_t chunk;
    R* sums;
    SsdParams inner{};

    Mamba3Call(const BackendContext& context, const Mamba3Params& params)
        : workspace(params.workspace.data), scaled(params, false, workspace),
          chunk(mamba3_chunk_of(context.options.get("mamba3.tile"))),
          sums(workspace.take<R>(params.shape.batch * slot_count(params.shape, chunk) * params.shape.channels *
                                 params.angles)) {
        scaled.set_inputs(params, context.options.get("mamba3.tile"), inner);
        inner.y = params.y;
        inner.last_state = params.last_state;
    }
};

template <typename T>
int32_t run_mamba3(BackendContext* context, const Mamba3Params& params) {
    Mamba3Call<T> call(*context, params);
    const uint64_t own = call.workspace.size();
    if (own > params.workspace.bytes) {
        return fail(error_workspace_too_small, "mamba3: the workspace is smaller than the workspace function says");
    }
    const Mamba3Last last{params.last_angle, params.last_b, params.last_x};
    const cudaError_t error = prepare_mamba3<T>(context, params, call.chunk, call.scaled, call.sums, last);
    if (error != cudaSuccess) {
        return status_of(error, "mamba3");
    }
    call.inner.workspace = {static_cast<char*>(params.workspace.data) + own, params.workspace.bytes - own};
    return ssd(context, &call.inner);
}

} // namespace

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t mamba3(BackendContext* context, const Mamba3Params* params) {
    return dispatch_ssd(params->type, [&](auto storage) { return run_mamba3<decltype(storage)>(context, *params); });
}

int32_t mamba3_workspace(BackendContext* context, const Mamba3Params* params, uint64_t* bytes) {
    return dispatch_ssd(params->type, [&](auto storage) {
        const Mamba3Call<decltype(storage)> call(*context, *params);
        uint64_t inner = 0;
        const int32_t status = ssd_workspace(context, &call.inner, &inner);
        *bytes = call.workspace.size() + inner;
        return status;
    });
}

} // namespace ssm
