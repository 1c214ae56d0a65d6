// Gradients of mamba3. Its steps are made into ssd's again (mamba3.cu), ssd_backward gives the gradients of those, and what
// is left goes from them back to the caller's tensors. With e_t = (1 - lambda_t) s_t, w_t = lambda_t s_t + e_{t+1}, B_t the
// gradient of w_t k_t, C_t of q_t, A_t of log decays and E_t = <g, x> of the skip, of
// which B'_t = B_t - E_t q_t and C'_t = C_t - E_t w_t k_t are those of other steps,
//   grad e_{t+1} = <B'_t, k_t>,   grad g_t = <B'_t, k_t> + E_t <k_t, q_t>,   grad k_t = w_t B'_t,
//   grad (b_t + b_bias) = R(-theta_t) grad k_t + E_t g_t (c_t + c_bias), and c's likewise,
//   grad theta_t = sum over steps from t on of grad k x k + C x q, the products of pairs (u, v) x (u', v') = v u' - u v'.
//
// One kernel in three launches, a warp for a chunk and a head as in mamba3.cu: rows, where theta's gradients of each chunk
// are added up too; their fold from the end of each sequence, with the gradients of the first states; and the sizes of steps
// and the angles. A second kernel adds up the heads of groups and the chunks' parts of the parameters' gradients, in a fixed
// order. Bytes beside ssd_backward's, for a step and head: 8 N of rows read and written in the compute type, and 8 N read
// once more by the sums; 16 A of angles.
#include "cuda/mamba3.h"

#include "core/params/mamba3_backward.h"
#include "core/params/ssd_backward.h"
#include "cuda/operations.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

enum class Mamba3BackwardPhase : int32_t { rows, fold, sizes };

template <typename R>
struct Mamba3Gradients {
    R* b;         // (B,L,H,N): of ssd's b, then of a head's
    R* c;         // the same
    R* log_decay; // (B,L,H)
    R* of_w;      // (B,L,H)
    R* of_e;      // (B,L,H): of what enters at the step behind
    R* first_e;   // (R,H): of what enters at the first step
    R* sums;      // (B,slots,H,A): of turns, then theta's gradients of a chunk, then theta's gradient behind it
    R* b_bias;    // (B,slots,H,N)
    R* c_bias;    // (B,slots,H,N)
    R* dt_bias;   // (B,slots,H)
    R* a;         // (B,slots,H)
    R* initial;   // (R,H,P,N): of ssd's initial state, null where nobody asks

    Mamba3Gradients(const Mamba3BackwardParams& p, int64_t slots, WorkspaceParts& workspace) {
        const int64_t heads = p.shape.channels;
        const int64_t steps = p.shape.batch * p.shape.length * heads;
        const int64_t parts = p.shape.batch * slots * heads;
        b = workspace.take<R>(steps * p.states);
        c = workspace.take<R>(steps * p.states);
        log_decay = workspace.take<R>(steps);
        of_w = workspace.take<R>(steps);
        of_e = workspace.take<R>(steps);
        first_e = workspace.take<R>(p.shape.state_rows() * heads);
        sums = workspace.take<R>(parts * p.angles);
        b_bias = workspace.take<R>(parts * p.states);
        c_bias = workspace.take<R>(parts * p.states);
        dt_bias = workspace.take<R>(parts);
        a = workspace.take<R>(parts);
        initial = static_cast<R*>(p.grad_initial_state);
        if (!initial && p.initial_b) {
            initial = workspace.take<R>(p.shape.state_rows() * heads * p.channels * p.states);
        }
    }
};

template <typename T>
struct Mamba3BackwardArguments {
    using R = Compute<T>;
    Mamba3BackwardParams params;
    Mamba3Scaled<R> scaled;
    Mamba3Gradients<R> gradients;
    Mamba3BackwardPhase phase;
    int64_t chunk;
    int64_t slots;
    int64_t items; // warps' worth of work, in `fold` blocks'
};

constexpr int mamba3_sum_threads = 256;
constexpr int mamba3_sum_slices = mamba3_sum_threads / warp_size;

template <typename R>
struct Mamba3FoldStorage {
    R warps[mamba3_threads / warp_size];
};
template <typename R>
struct Mamba3SumStorage {
    R parts[mamba3_sum_threads];
};

// ---- Kernels -------------------------------------------------------------------------------------------------------------

// <g, x> of step k, in every lane.
template <typename T>
SSM_DEVICE Compute<T> skip_gradient(const Mamba3BackwardParams& p, const Mamba3Chunk<T>& chunk, int k) {
    using R = Compute<T>;
    const T* const x = place_of<const T>(p.x, chunk.span, chunk.head, chunk.t + k);
    const T* const grad_y = place_of<const T>(p.grad_y, chunk.span, chunk.head, chunk.t + k);
    const T* const z = p.z.data ? place_of<const T>(p.z, chunk.span, chunk.head, chunk.t + k) : nullptr;
    R sum = 0;
    for (int64_t i = lane_id(); i < p.channels; i += warp_size) {
        R g = widen(grad_y[i]);
        if (z) {
            g *= silu(widen(z[i]));
        }
        sum = multiply_add(g, widen(x[i]), sum);
    }
    return warp_sum(sum);
}

template <typename T>
SSM_DEVICE void turn_rows_back(const Mamba3BackwardArguments<T>& arguments, const Mamba3Chunk<T>& chunk) {
    using R = Compute<T>;
    const Mamba3BackwardParams& p = arguments.params;
    const Mamba3Gradients<R>& gradients = arguments.gradients;
    const int lane = lane_id();
    R of_skip = 0; // of the lane's step
    for (int k = 0; k < chunk.count; ++k) {
        const R sum = skip_gradient(p, chunk, k);
        of_skip = k == lane ? sum : of_skip;
    }
    const R weight = chunk.own.now() + chunk.entering_next;
    const R of_other = SSM_MUTATE("mamba3_backward.cuda.no_skip", of_skip * chunk.own.now(), R(0));
    R of_w = 0;
    R product = 0;
    for (int64_t first = 0; 2 * first < p.states; first += warp_size) {
        const int64_t pair = first + lane;
        const bool turns = pair < p.angles;
        const Pair<R> b_bias = load_bias<R>(p.b_bias, chunk.head, pair, p.states);
        const Pair<R> c_bias = load_bias<R>(p.c_bias, chunk.head, pair, p.states);
        Pair<R> b_sum{0, 0};
        Pair<R> c_sum{0, 0};
        R theta_sum = 0;
        for (int k = 0; k < chunk.count; ++k) {
            const int64_t t = chunk.t + k;
            const Pair<R> b =
                load_pair(place_of<const T>(p.b, chunk.span, chunk.group, t), pair, p.states).plus(R(1), b_bias);
            const Pair<R> c =
                load_pair(place_of<const T>(p.c, chunk.span, chunk.group, t), pair, p.states).plus(R(1), c_bias);
            R* const own_b = chunk.row(gradients.b, k, p.states);
            R* const own_c = chunk.row(gradients.c, k, p.states);
            // Without what the step gives to the gradients of its own b and c, which ssd had rounded.
            const R own_skip = shuffle(of_skip, k);
            const Pair<R> stored_b =
                load_pair(chunk.row(static_cast<const T*>(arguments.scaled.b), k, p.states), pair, p.states);
            const Pair<R> stored_c =
                load_pair(chunk.row(static_cast<const T*>(arguments.scaled.c), k, p.states), pair, p.states);
            Pair<R> grad_b = load_pair<R>(own_b, pair, p.states).plus(-own_skip, stored_c);
            Pair<R> grad_c = load_pair<R>(own_c, pair, p.states).plus(-own_skip, stored_b);
            R sine = 0;
            R cosine = 1;
            R* const turn = turns ? chunk.row(arguments.scaled.turns, k, p.angles) + pair : nullptr;
            if (turns) {
                sincos_pi(2 * *turn, sine, cosine);
            }
            const Pair<R> turned_b = b.turned(sine, cosine);
            const R w_sum = warp_sum(grad_b.dot(turned_b));
            const R product_sum = warp_sum(b.dot(c));
            of_w += k == lane ? w_sum : R(0);
            product += k == lane ? product_sum : R(0);
            grad_b = grad_b.times(shuffle(weight, k));
            if (p.grad_last_b && chunk.is_last && k == chunk.count - 1) {
                grad_b = grad_b.plus(
                    R(1), load_pair(static_cast<const R*>(p.grad_last_b) + chunk.state_index() * p.states, pair, p.states));
            }
            if (turns) {
                const R theta = grad_b.cross(turned_b) + grad_c.cross(c.turned(sine, cosine));
                *turn = theta;
                theta_sum += theta;
            }
            const R other = shuffle(of_other, k);
            grad_b = grad_b.turned(-sine, cosine).plus(other, c);
            grad_c = grad_c.turned(-sine, cosine).plus(other, b);
            store_pair<R>(own_b, pair, p.states, grad_b);
            store_pair<R>(own_c, pair, p.states, grad_c);
            b_sum = b_sum.plus(R(1), grad_b);
            c_sum = c_sum.plus(R(1), grad_c);
        }
        store_pair<R>(chunk.part(gradients.b_bias, arguments.slots, p.states), pair, p.states, b_sum);
        store_pair<R>(chunk.part(gradients.c_bias, arguments.slots, p.states), pair, p.states, c_sum);
        if (turns) {
            chunk.part(gradients.sums, arguments.slots, p.angles)[pair] = theta_sum;
        }
    }
    if (lane < chunk.count) {
        *chunk.row(gradients.of_w, lane, 1) = of_w + of_skip * product;
        *chunk.row(gradients.of_e, lane, 1) = of_w;
    }
}

// A sequence of a head by a block.
template <typename T>
SSM_DEVICE void fold_thetas(const Mamba3BackwardArguments<T>& arguments, Mamba3FoldStorage<Compute<T>>& shared,
                            int64_t item) {
    using R = Compute<T>;
    const Mamba3BackwardParams& p = arguments.params;
    const int64_t heads = p.shape.channels;
    const int64_t head = item % heads;
    const Span span = span_of_row(p.shape, item / heads);
    const int thread = static_cast<int>(threadIdx.x);
    const Mamba3Parts<R> parts(p, arguments.gradients.sums, span, head, arguments.chunk, arguments.slots, p.angles);
    for (int64_t i = thread; i < p.angles; i += mamba3_threads) {
        R theta = p.grad_last_angle ? static_cast<const R*>(p.grad_last_angle)[item * p.angles + i] : R(0);
        for (int64_t k = parts.chunks - 1; k >= 0; --k) {
            R* const at = parts.first + k * parts.stride + i;
            const R own = *at;
            *at = SSM_MUTATE("mamba3_backward.cuda.lost_theta", theta, own);
            theta += own;
        }
        if (p.grad_initial_angle) {
            static_cast<R*>(p.grad_initial_angle)[item * p.angles + i] = theta;
        }
    }
    if (span.length > 0 && p.grad_x.data && p.grad_last_x) {
        T* const to = place_of<T>(p.grad_x, span, head, span.length - 1);
        const R* const from = static_cast<const R*>(p.grad_last_x) + item * p.channels;
        for (int64_t i = thread; i < p.channels; i += mamba3_threads) {
            to[i] = narrow<T>(widen(to[i]) + from[i]);
        }
    }
    // The first S is h_0 + e_1 x_0 k_0^T.
    const bool has_product = p.initial_b && span.length > 0;
    R entering = 0;
    if (has_product) {
        const R bias = p.dt_bias ? static_cast<const R*>(p.dt_bias)[head] : R(0);
        entering = mamba3_size(p.dt_softplus, widen(*place_of<const T>(p.dt, span, head, 0)), bias,
                               widen(*place_of<const T>(p.trap, span, head, 0)))
                       .entering();
    }
    const R* const b = static_cast<const R*>(p.initial_b) + (p.initial_b ? item * p.states : 0);
    const R* const x = static_cast<const R*>(p.initial_x) + (p.initial_b ? item * p.channels : 0);
    const R* const state = arguments.gradients.initial + (has_product ? item * p.channels * p.states : 0);
    const R* const last_b = span.length == 0 ? static_cast<const R*>(p.grad_last_b) : nullptr;
    const R* const last_x = span.length == 0 ? static_cast<const R*>(p.grad_last_x) : nullptr;
    for (int64_t n = thread; p.grad_initial_b && n < p.states; n += mamba3_threads) {
        R sum = last_b ? last_b[item * p.states + n] : R(0);
        for (int64_t c = 0; has_product && c < p.channels; ++c) {
            sum = multiply_add(entering * state[c * p.states + n], x[c], sum);
        }
        static_cast<R*>(p.grad_initial_b)[item * p.states + n] = sum;
    }
    R of_e = 0;
    for (int64_t c = warp_id(); c < p.channels; c += mamba3_threads / warp_size) {
        R sum = 0;
        for (int64_t n = lane_id(); has_product && n < p.states; n += warp_size) {
            sum = multiply_add(state[c * p.states + n], b[n], sum);
        }
        sum = warp_sum(sum);
        if (has_product) {
            of_e = multiply_add(sum, x[c], of_e);
        }
        if (p.grad_initial_x && lane_id() == 0) {
            static_cast<R*>(p.grad_initial_x)[item * p.channels + c] =
                entering * sum + (last_x ? last_x[item * p.channels + c] : R(0));
        }
    }
    __syncthreads(); // the item before is done with
    if (lane_id() == 0) {
        shared.warps[warp_id()] = of_e;
    }
    __syncthreads();
    if (thread == 0) {
        R sum = 0;
        for (const R part : shared.warps) {
            sum += part;
        }
        arguments.gradients.first_e[item] = sum;
    }
}

template <typename T>
SSM_DEVICE void write_sizes(const Mamba3BackwardArguments<T>& arguments, const Mamba3Chunk<T>& chunk) {
    using R = Compute<T>;
    const Mamba3BackwardParams& p = arguments.params;
    const Mamba3Gradients<R>& gradients = arguments.gradients;
    const int lane = lane_id();
    const Mamba3Size<R>& own = chunk.own;
    R of_s = 0;
    for (int64_t first = 0; first < p.angles; first += warp_size) {
        const int64_t i = first + lane;
        R theta = i < p.angles ? chunk.part(gradients.sums, arguments.slots, p.angles)[i] : R(0);
        for (int k = chunk.count - 1; k >= 0; --k) {
            R through = 0;
            const R s = shuffle(own.s, k);
            if (i < p.angles) {
                R* const at = chunk.row(arguments.scaled.turns, k, p.angles) + i;
                const R angle = widen(place_of<const T>(p.angle, chunk.span, chunk.angle_group, chunk.t + k)[i]);
                const R e = exp(-2 * fabs(angle));
                theta += *at;
                const R of_turn = theta * mamba3_pi<R>;
                through = of_turn * static_cast<R>(tanh(angle));
                *at = of_turn * s * (4 * e / ((1 + e) * (1 + e)));
            }
            through = warp_sum(through);
            of_s += k == lane ? through : R(0);
        }
    }
    R of_dt = 0;
    R of_a = 0;
    if (lane < chunk.count) {
        const R of_w = *chunk.row(gradients.of_w, lane, 1);
        const R of_e = chunk.t + lane > 0
                           ? *chunk.row(gradients.of_e, lane - 1, 1)
                           : SSM_MUTATE("mamba3_backward.cuda.no_initial", gradients.first_e[chunk.state_index()], R(0));
        const R of_decay = *chunk.row(gradients.log_decay, lane, 1);
        of_s += multiply_add(of_decay, chunk.rate(lane), multiply_add(own.lambda, of_w, own.rest * of_e));
        of_dt = p.dt_softplus ? of_s / (R(1) + exp(-own.biased)) : of_s;
        of_a = of_decay * own.s;
        if (p.grad_dt.data) {
            *place_of<T>(p.grad_dt, chunk.span, chunk.head, chunk.t + lane) = narrow<T>(of_dt);
        }
        if (p.grad_trap.data) {
            *place_of<T>(p.grad_trap, chunk.span, chunk.head, chunk.t + lane) =
                narrow<T>(own.lambda * own.rest * own.s * (of_w - of_e));
        }
        if (p.grad_a.data && p.a_per_step) {
            *place_of<R>(p.grad_a, chunk.span, chunk.head, chunk.t + lane) = of_a;
        }
    }
    of_dt = warp_sum(of_dt);
    of_a = warp_sum(of_a);
    if (lane == 0) {
        *chunk.part(gradients.dt_bias, arguments.slots, 1) = of_dt;
        *chunk.part(gradients.a, arguments.slots, 1) = of_a;
    }
}

template <typename T>
__global__ void __launch_bounds__(mamba3_threads, 4) mamba3_backward_kernel(Mamba3BackwardArguments<T> arguments) {
    Mamba3FoldStorage<Compute<T>>& shared = SSM_SHARED(Mamba3FoldStorage<Compute<T>>);
    if (arguments.phase == Mamba3BackwardPhase::fold) {
        for (int64_t item = blockIdx.x; item < arguments.items; item += gridDim.x) {
            fold_thetas(arguments, shared, item);
        }
        return;
    }
    constexpr int warps = mamba3_threads / warp_size;
    for (int64_t item = static_cast<int64_t>(blockIdx.x) * warps + warp_id(); item < arguments.items;
         item += static_cast<int64_t>(gridDim.x) * warps) {
        const Mamba3Chunk<T> chunk(arguments.params, arguments.chunk, arguments.slots, item);
        if (arguments.phase == Mamba3BackwardPhase::rows) {
            turn_rows_back(arguments, chunk);
        } else {
            write_sizes(arguments, chunk);
        }
    }
}

// The sums over the heads of groups, and over chunks for the parameters.
template <typename T>
__global__ void __launch_bounds__(mamba3_sum_threads) mamba3_backward_sum_kernel(Mamba3BackwardArguments<T> arguments) {
    using R = Compute<T>;
    Mamba3SumStorage<R>& shared = SSM_SHARED(Mamba3SumStorage<R>);
    const Mamba3BackwardParams& p = arguments.params;
    const Mamba3Gradients<R>& gradients = arguments.gradients;
    const int64_t heads = p.shape.channels;
    const int64_t threads = static_cast<int64_t>(gridDim.x) * mamba3_sum_threads;
    const int64_t first = static_cast<int64_t>(blockIdx.x) * mamba3_sum_threads + threadIdx.x;
    const auto add_heads = [&](const R* parts, int64_t groups, int64_t width, const HeadTensor& to) {
        const int64_t numbers = to.data ? p.shape.batch * p.shape.length * groups * width : 0;
        for (int64_t i = first; i < numbers; i += threads) {
            const int64_t row = i / width;
            const int64_t step = row / groups;
            const int64_t batch = step / p.shape.length;
            const int64_t group = row - step * groups;
            const int64_t number = i - row * width;
            const int64_t per_group = heads / groups;
            R sum = 0;
            for (int64_t k = 0; k < SSM_MUTATE("mamba3_backward.cuda.one_head", per_group, 1); ++k) {
                sum += parts[(step * heads + group * per_group + k) * width + number];
            }
            static_cast<T*>(to.data)[batch * to.batch_stride + group * to.head_stride +
                                     (step - batch * p.shape.length) * to.time_stride + number] = narrow<T>(sum);
        }
    };
    add_heads(gradients.b, p.groups, p.states, p.grad_b);
    add_heads(gradients.c, p.groups, p.states, p.grad_c);
    add_heads(arguments.scaled.turns, p.angles > 0 ? p.angle_groups : 1, p.angles, p.grad_angles);

    // 32 neighbouring numbers to a block, every warp with a slice of the chunks.
    const int64_t chunks = p.shape.batch * arguments.slots;
    const auto add_chunks = [&](const R* parts, int64_t numbers, void* to, int64_t stride) {
        for (int64_t tile = blockIdx.x; to && tile * warp_size < numbers; tile += gridDim.x) {
            const int64_t number = tile * warp_size + lane_id();
            R sum = 0;
            for (int64_t k = warp_id(); number < numbers && k < chunks; k += mamba3_sum_slices) {
                sum += parts[k * numbers + number];
            }
            __syncthreads(); // the tile before is done with
            shared.parts[threadIdx.x] = sum;
            __syncthreads();
            if (warp_id() == 0 && number < numbers) {
                R all = 0;
                for (int slice = 0; slice < mamba3_sum_slices; ++slice) {
                    all += shared.parts[slice * warp_size + lane_id()];
                }
                static_cast<R*>(to)[number * stride] = all;
            }
        }
    };
    add_chunks(gradients.b_bias, heads * p.states, p.grad_b_bias, 1);
    add_chunks(gradients.c_bias, heads * p.states, p.grad_c_bias, 1);
    add_chunks(gradients.dt_bias, heads, p.grad_dt_bias, 1);
    add_chunks(gradients.a, heads, p.a_per_step ? nullptr : p.grad_a.data, p.grad_a.head_stride);
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

// The workspace: what ssd_backward gets and gives, and its own.
template <typename T>
struct Mamba3BackwardCall {
    using R = Compute<T>;
    WorkspaceParts workspace;
    int64_t chunk;
    int64_t slots;
    Mamba3Scaled<R> scaled;
    Mamba3Gradients<R> gradients;
    SsdBackwardParams inner{};

    Mamba3BackwardCall(const BackendContext& context, const Mamba3BackwardParams& params)
        : workspace(params.workspace.data), chunk(mamba3_chunk_of(context.options.get("mamba3_backward.tile"))),
          slots(slot_count(params.shape, chunk)), scaled(params, true, workspace), gradients(params, slots, workspace) {
        scaled.set_inputs(params, context.options.get("mamba3_backward.tile"), inner);
        inner.grad_y = params.grad_y;
        inner.grad_last_state = params.grad_last_state;
        inner.grad_x = params.grad_x;
        inner.grad_z = params.grad_z;
        inner.grad_d = params.grad_d;
        inner.grad_d_per_channel = params.grad_d_per_channel;
        inner.grad_initial_state = gradients.initial;
        inner.grad_log_decay = rows_of_heads(gradients.log_decay, params.shape, 1);
        inner.wide_b = gradients.b;
        inner.wide_c = gradients.c;
    }
};

template <typename T>
int32_t run_mamba3_backward(BackendContext* context, const Mamba3BackwardParams& params) {
    using R = Compute<T>;
    Mamba3BackwardCall<T> call(*context, params);
    const uint64_t own = call.workspace.size();
    if (own > params.workspace.bytes) {
        return fail(error_workspace_too_small, "mamba3_backward: the workspace is smaller than the workspace function says");
    }
    cudaError_t error = prepare_mamba3<T>(context, params, call.chunk, call.scaled, call.gradients.sums, {});
    if (error != cudaSuccess) {
        return status_of(error, "mamba3_backward");
    }
    call.inner.workspace = {static_cast<char*>(params.workspace.data) + own, params.workspace.bytes - own};
    const int32_t status = ssd_backward(context, &call.inner);
    if (status != success) {
        return status;
    }
    const int64_t chunks = params.shape.batch * call.slots * params.shape.channels;
    Mamba3BackwardArguments<T> arguments{params,     call.scaled, call.gradients, Mamba3BackwardPhase::rows,
                                         call.chunk, call.slots,  chunks};
    const auto run = [&](Mamba3BackwardPhase phase, int64_t items, int64_t each) {
        arguments.phase = phase;
        arguments.items = items;
        return launch(mamba3_backward_kernel<T>, dim3(mamba3_blocks(items, each)), dim3(mamba3_threads),
                      sizeof(Mamba3FoldStorage<R>), context->stream, arguments);
    };
    constexpr int warps = mamba3_threads / warp_size;
    error = run(Mamba3BackwardPhase::rows, chunks, warps);
    if (error == cudaSuccess) {
        error = run(Mamba3BackwardPhase::fold, params.shape.state_rows() * params.shape.channels, 1);
    }
    if (error == cudaSuccess) {
        error = run(Mamba3BackwardPhase::sizes, chunks, warps);
    }
    if (error == cudaSuccess) {
        const int64_t most = 16 * static_cast<int64_t>(context->multiprocessors);
        const int64_t numbers = params.shape.batch * params.shape.length * params.groups * params.states;
        const int64_t tiles = (params.shape.channels * params.states + warp_size - 1) / warp_size;
        const int64_t blocks = numbers / mamba3_sum_threads > tiles ? numbers / mamba3_sum_threads : tiles;
        error = launch(mamba3_backward_sum_kernel<T>, dim3(mamba3_blocks(blocks < most ? blocks : most, 1)),
                       dim3(mamba3_sum_threads), sizeof(Mamba3SumStorage<R>), context->stream, arguments);
    }
    return status_of(error, "mamba3_backward");
}

} // namespace

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t mamba3_backward(BackendContext* context, const Mamba3BackwardParams* params) {
    return dispatch_ssd(params->type,
                        [&](auto storage) { return run_mamba3_backward<decltype(storage)>(context, *params); });
}

int32_t mamba3_backward_workspace(BackendContext* context, const Mamba3BackwardParams* params, uint64_t* bytes) {
    return dispatch_ssd(params->type, [&](auto storage) {
        const Mamba3BackwardCall<decltype(storage)> call(*context, *params);
        uint64_t inner = 0;
        const int32_t status = ssd_backward_workspace(context, &call.inner, &inner);
        *bytes = call.workspace.size() + inner;
        return status;
    });
}

} // namespace ssm
