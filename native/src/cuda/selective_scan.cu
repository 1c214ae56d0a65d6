// selective_scan: s = dt + dt_bias, through softplus where asked; h_t = exp(s a) h_{t-1} + s b_t u_t;
// y = (h_t . c_t + d u) silu(z) (Gu and Dao 2023, arXiv 2312.00752, algorithm 2).
//
// A block takes some channels of one group and one tile of time, stages b and c of the tile in shared memory, so that its
// channels share one read of them, and goes through the states. `lanes` neighbouring lanes of a warp hold one channel: each
// keeps s, s u and y of its `steps` steps in registers; for each state it folds its steps, the lanes combine by shuffles,
// and a second pass over the same registers gives h and adds h c to y. Each exponential is computed once: exp2 of s times a
// log2(e), which is multiplied out in advance. Over a lane's steps the decay of a real state is exp2 of the sum of s and not
// a product of exponentials, each of which would carry a rounding error near one from step to step.
//
// Where batch and channels do not fill the device, time is cut into chunks, and the kernel runs twice: the first run gives
// for each chunk and state the decay and the state from zero, the second starts each chunk from the left fold of those
// before it. Then every exponential is computed twice.
//
// Bytes for an element of (B,D,L): 3 e (u, dt in, y out), e more with z, 2 e G N / D for b and c. Operations: N exponentials
// and about 6 N multiply-adds. With N = 16 the exponentials are the limit, ahead of memory: the special-function units give
// 16 in a cycle of a multiprocessor. One in 16 is therefore a polynomial's on the multiply-add units.
#include "cuda/primitives/cuda.h"

#include "core/mutate.h"
#include "core/params/selective_scan.h"
#include "cuda/context.h"
#include "cuda/primitives/launch.h"
#include "cuda/primitives/shared.h"
#include "cuda/primitives/warp.h"
#include "cuda/selective_scan.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

// T: storage of u, dt, z, y. S: states, a compute type, real or complex.
template <typename T, typename S>
struct SelectiveScanTraits {
    static constexpr bool complex = !std::is_floating_point<S>::value;
    static constexpr int threads = 128;
    // Of a multiprocessor, that registers must suffice for.
    static constexpr int blocks = std::is_same<Real<S>, float>::value ? 3 : 2;
    // Steps of a lane.
    static constexpr int steps = sizeof(S) == 4 ? 16 : sizeof(S) == 8 ? 8 : 4;
    // One in so many exponentials is the multiply-add units' own.
    static constexpr int polynomial_every = 16;
    static constexpr int staged = 8192 / static_cast<int>(sizeof(S)); // elements of S for b, and for c
};

template <typename S>
struct alignas(16) SelectiveScanStorage {
    S b[8192 / sizeof(S)]; // b and c also take u, dt, z and y from thread to thread
    S c[8192 / sizeof(S)];
    SelectiveScanItem work;
};

// What a run of the kernel does.
enum class SelectiveScanPhase : int32_t {
    whole,     // every sequence from its initial state to its end
    summarize, // chunks from zero: decay and state of each
    finish     // chunks from the fold of those before
};

template <typename S>
struct SelectiveScanArguments {
    SelectiveScanParams params;
    SelectiveScanPhase phase;
    int32_t lanes;          // of a channel, a power of two up to 32
    int32_t tile;           // steps, at most lanes * steps
    int64_t chunks;         // of every sequence
    int64_t channel_blocks; // of every group
    int64_t items;          // blocks' worth of work
    S* states;              // (chunks,R,D,N): the running state, and what a chunk leaves behind
    S* decays;              // (chunks,R,D,N): what a chunk multiplies the state before it by; null for one chunk
    SequenceTable table;
};

// ---- Kernel --------------------------------------------------------------------------------------------------------------

template <typename T, typename S>
struct SelectiveScanBlock : SelectiveScanTile<T, S, SelectiveScanTraits<T, S>::steps> {
    using Traits = SelectiveScanTraits<T, S>;
    using Tile = SelectiveScanTile<T, S, Traits::steps>;
    using R = typename Tile::R;
    using Storage = SelectiveScanStorage<S>;
    using Tile::channel;
    using Tile::exists;
    using Tile::lane;
    using Tile::lanes;
    using Tile::steps;
    using Tile::width;
    using Tile::work;

    const SelectiveScanArguments<S>& arguments;
    const SelectiveScanParams& params;
    Storage& shared;

    SSM_DEVICE SelectiveScanBlock(const SelectiveScanArguments<S>& arguments, Storage& shared)
        : Tile(arguments.params.shape, arguments.params.type, arguments.params.groups, arguments.params.states,
               arguments.lanes, shared.work, reinterpret_cast<R*>(shared.b), arguments.table),
          arguments(arguments), params(arguments.params), shared(shared) {}

    // Index of state n of this channel in (R,D,N).
    SSM_DEVICE int64_t state_index(int64_t n) const { return state_index(channel(), n); }
    SSM_DEVICE int64_t state_index(int64_t of_channel, int64_t n) const {
        return (work.span.row * params.shape.channels + of_channel) * params.states + n;
    }
    SSM_DEVICE int64_t chunk_stride() const { return state_rows(params.shape) * params.shape.channels * params.states; }

    // The state before the work.chunk.
    SSM_DEVICE S start(int64_t n) const {
        const S* initial = static_cast<const S*>(params.initial_state);
        const int64_t index = state_index(n);
        S state = number<S>(0);
        if (arguments.phase != SelectiveScanPhase::summarize && initial) {
            state = initial[index];
        }
        if (arguments.phase == SelectiveScanPhase::finish) {
            for (int64_t i = 0; i < SSM_MUTATE("selective_scan.cuda.dropped_chunk", work.chunk, work.chunk - 1); ++i) {
                const int64_t at = i * chunk_stride() + index;
                state = this->passed_on(arguments.decays[at], state, arguments.states[at]);
            }
        }
        return state;
    }

    SSM_DEVICE void run() {
        const int row = lanes * steps;
        const int staged_states = Traits::staged / row;
        const bool summarizes = arguments.phase == SelectiveScanPhase::summarize;
        // In the second run the states of the first are still read by other blocks: the running state is last_state's, and
        // only of the work.chunk that ends the sequence.
        S* const kept = summarizes ? arguments.states + work.chunk * chunk_stride() : running_states();
        for (int64_t n = lane; exists && work.begin >= work.end && n < params.states; n += lanes) { // nothing to do
            if (summarizes) {
                kept[state_index(n)] = number<S>(0);
                arguments.decays[work.chunk * chunk_stride() + state_index(n)] = number<S>(1);
            } else if (work.span.length == 0 && work.chunk == 0 && params.last_state) {
                static_cast<S*>(params.last_state)[state_index(n)] = start(n);
            }
        }
        for (int64_t tile_begin = work.begin; tile_begin < work.end; tile_begin += arguments.tile) {
            const int tile_steps =
                static_cast<int>(work.end - tile_begin < arguments.tile ? work.end - tile_begin : arguments.tile);
            const R* bias = static_cast<const R*>(params.dt_bias);
            const R* skip = static_cast<const R*>(params.d);
            const R own_bias = bias && exists ? bias[channel()] : R(0);
            const R own_skip = skip && exists ? skip[channel()] : R(0);
            R s[steps];
            R x[steps];
            R y[steps];
            this->load(params.dt, tile_begin, tile_steps, s);
            this->load(params.u, tile_begin, tile_steps, x);
            R sum = 0;
            const unsigned there = this->own_steps(tile_begin, tile_steps);
#pragma unroll
            for (int i = 0; i < steps; ++i) {
                const bool inside = (there >> i & 1) != 0;
                const R biased = s[i] + own_bias;
                s[i] = inside ? (params.dt_softplus ? softplus(biased) : biased) : R(0);
                y[i] = own_skip * x[i];
                x[i] *= s[i];
                sum += s[i];
            }
            for (int64_t first = 0; first < params.states; first += staged_states) {
                const int count =
                    static_cast<int>(params.states - first < staged_states ? params.states - first : staged_states);
                if (!SSM_MUTATE("selective_scan.cuda.missing_barrier", false, true)) {
                    __syncthreads(); // the staged states before are done with
                }
                this->stage_restarts(tile_begin, tile_steps);
                if (!params.b.is_constant) {
                    this->stage(params.b, first, count, tile_begin, tile_steps, shared.b);
                }
                if (!params.c.is_constant && !summarizes) {
                    this->stage(params.c, first, count, tile_begin, tile_steps, shared.c);
                }
                __syncthreads();
#pragma unroll 1
                for (int j = 0; j < count; ++j) {
                    advance(first + j, j, tile_begin, sum, s, x, y, kept);
                }
            }
            if (!summarizes) {
                if (params.z.data) {
                    R z[steps];
                    this->load(params.z, tile_begin, tile_steps, z);
#pragma unroll
                    for (int i = 0; i < steps; ++i) {
                        y[i] *= silu(z[i]);
                    }
                }
                this->store(params.y, tile_begin,
                            SSM_MUTATE("selective_scan.cuda.off_by_one_tail", tile_steps, tile_steps - 1), y);
            }
        }
    }

    // Where the state between two tiles of this work.chunk lies: last_state for the last work.chunk, else scratch of its
    // own.
    SSM_DEVICE S* running_states() const {
        if (work.end == work.span.length && params.last_state) {
            return static_cast<S*>(params.last_state);
        }
        return arguments.states + (arguments.chunks > 1 ? arguments.chunks + work.chunk : 0) * chunk_stride();
    }

    // One state through the tile.
    SSM_DEVICE void advance(int64_t n, int row_index, int64_t tile_begin, R sum, const R (&s)[steps], const R (&x)[steps],
                            R (&y)[steps], S* kept) const {
        const int64_t of_channel = channel();
        const int64_t index = exists ? state_index(of_channel, n) : 0;
        const auto a = prepared(exists ? static_cast<const S*>(params.a)[of_channel * params.states + n] : number<S>(0));
        S before = number<S>(0);
        if (exists && this->takes_state()) {
            before = tile_begin == work.begin ? start(n) : SSM_MUTATE("selective_scan.cuda.dropped_carry", kept[index], S{});
        }
        S e[steps];
        S input[steps];
        const S constant_b = this->constant_of(params.b, n);
        S decayed = number<S>(SSM_MUTATE("selective_scan.cuda.wrong_identity", 1, 2));
        S folded = number<S>(0);
#pragma unroll
        for (int i = 0; i < steps; i += width) {
            const Vector<S, width> b = this->read(params.b.is_constant, constant_b, shared.b, row_index, i);
#pragma unroll
            for (int k = 0; k < width; ++k) {
                const int own = i + k;
                e[own] = own % Traits::polynomial_every == Traits::polynomial_every / 2 ? polynomial_decay(a, s[own])
                                                                                        : decay(a, s[own]);
                input[own] = input_of(x[own], b[k]);
                folded = own == 0 ? input[own] : multiply_add(e[own], folded, input[own]);
                if (Traits::complex) {
                    decayed = own == 0 ? e[own] : e[own] * decayed;
                }
            }
        }
        if constexpr (!Traits::complex) {
            decayed = decayed * decay(a, sum);
        }
        this->fold_lanes(decayed, folded);
        S h = this->state_before(decayed, folded, before);
        if (arguments.phase != SelectiveScanPhase::summarize) {
            const S constant_c = this->constant_of(params.c, n);
#pragma unroll
            for (int i = 0; i < steps; i += width) {
                const Vector<S, width> c = this->read(params.c.is_constant, constant_c, shared.c, row_index, i);
#pragma unroll
                for (int k = 0; k < width; ++k) {
                    const int own = i + k;
                    h = multiply_add(e[own], h, input[own]);
                    y[own] = add_output(h, c[k], y[own]);
                }
            }
        } else {
            h = multiply_add(decayed, before, folded);
        }
        // Steps beyond the work.end leave h as it is: s is 0 there.
        if (lane == lanes - 1 && exists) {
            kept[index] = h;
            if (arguments.phase == SelectiveScanPhase::summarize) {
                S& total = arguments.decays[work.chunk * chunk_stride() + index];
                const bool restarts = params.seq_idx && this->restarts() != 0;
                const S own = restarts ? number<S>(0) : decayed;
                total = tile_begin == work.begin || restarts ? own : own * total;
            }
        }
    }
};

template <typename T, typename S>
__global__ void __launch_bounds__(SelectiveScanTraits<T, S>::threads, SelectiveScanTraits<T, S>::blocks)
    selective_scan_kernel(SelectiveScanArguments<S> arguments) {
    SelectiveScanBlock<T, S> block(arguments, SSM_SHARED(SelectiveScanStorage<S>));
    for (int64_t item = blockIdx.x; item < arguments.items; item += gridDim.x) {
        block.take(item, arguments.channel_blocks, 1, arguments.chunks, arguments.tile);
        block.run();
    }
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

struct SelectiveScanPlan {
    int threads = 0;
    int32_t lanes = 0;
    int32_t tile = 0;
    int64_t chunks = 1;
    int64_t channel_blocks = 0;
    int64_t items = 0;
};

// selective_scan.path: the number of chunks, 0 chosen here. Lanes and chunks depend on the shape and the device alone.
template <typename T, typename S>
SelectiveScanPlan plan_selective_scan(const BackendContext& context, const SelectiveScanParams& params) {
    using Traits = SelectiveScanTraits<T, S>;
    const SequenceShape& shape = params.shape;
    const int64_t rows = shape.state_rows();
    const int64_t typical = shape.cu_seqlens ? ceil_divide(shape.length, rows > 0 ? rows : 1) : shape.length;
    const int64_t channels = rows * shape.channels;
    const int64_t wanted = static_cast<int64_t>(context.multiprocessors) * 512; // threads
    SelectiveScanPlan plan;
    // More lanes for a channel: more threads at work, at the price of longer shuffles. No more than a sequence has use for.
    plan.lanes = 4;
    while (plan.lanes < warp_size && channels * plan.lanes < wanted && plan.lanes * Traits::steps < typical) {
        plan.lanes *= 2;
    }
    plan.tile = plan.lanes * Traits::steps;
    const int64_t tile = context.options.get("selective_scan.tile");
    if (tile > 0 && tile < plan.tile) {
        plan.tile = static_cast<int32_t>(tile);
    }
    // Chunks double the exponentials, so fewer than four are no gain.
    const int64_t tiles = ceil_divide(typical, plan.tile);
    const int64_t idle = channels > 0 ? wanted / (channels * plan.lanes) : 0;
    plan.chunks = idle >= 4 ? (idle < 64 ? idle : 64) : 1;
    if (context.options.get("selective_scan.path") > 0) {
        plan.chunks = context.options.get("selective_scan.path");
    }
    plan.chunks = plan.chunks < tiles ? plan.chunks : tiles;
    plan.chunks = plan.chunks > 1 ? plan.chunks : 1;
    if (params.seq_idx) { // whole segments
        plan.tile = static_cast<int32_t>(ceil_divide(plan.tile, Traits::steps)) * Traits::steps;
    }
    // As many channels of a group in a block as there are, up to the block's threads.
    const int64_t per_group = shape.channels / params.groups;
    plan.threads = warp_size;
    while (plan.threads < Traits::threads && plan.threads / plan.lanes < per_group) {
        plan.threads *= 2;
    }
    plan.channel_blocks = ceil_divide(per_group, plan.threads / plan.lanes);
    plan.items = rows * plan.chunks * params.groups * plan.channel_blocks;
    return plan;
}

// Scratch: one running state where last_state is absent; with chunks what each leaves behind, and running states.
template <typename S>
void selective_scan_scratch(const SelectiveScanPlan& plan, const SelectiveScanParams& params, WorkspaceParts& parts,
                            SelectiveScanArguments<S>& arguments) {
    const int64_t states = params.shape.state_rows() * params.shape.channels * params.states;
    if (plan.chunks > 1) {
        arguments.states = parts.take<S>(2 * plan.chunks * states);
        arguments.decays = parts.take<S>(plan.chunks * states);
    } else if (!params.last_state) {
        arguments.states = parts.take<S>(states);
    }
    arguments.table = take_sequence_table(params.shape, params.seq_idx, parts);
}

template <typename T, typename S>
int32_t run_selective_scan(BackendContext* context, const SelectiveScanParams& params) {
    using Traits = SelectiveScanTraits<T, S>;
    const SelectiveScanPlan plan = plan_selective_scan<T, S>(*context, params);
    if (plan.items == 0) {
        return success;
    }
    SelectiveScanArguments<S> arguments{};
    arguments.params = params;
    arguments.lanes = plan.lanes;
    arguments.tile = plan.tile;
    arguments.chunks = plan.chunks;
    arguments.channel_blocks = plan.channel_blocks;
    arguments.items = plan.items;
    WorkspaceParts parts(params.workspace.data);
    selective_scan_scratch(plan, params, parts, arguments);
    if (parts.size() > params.workspace.bytes) {
        return fail(error_workspace_too_small, "selective_scan: the workspace is smaller than the workspace function says");
    }
    static_assert(Traits::threads * Traits::steps * sizeof(Compute<T>) <= 2 * 8192,
                  "u, dt, z and y pass through the memory of b and c");
    const int64_t most = int64_t{1} << 30;
    const dim3 grid(static_cast<unsigned>(plan.items < most ? plan.items : most));
    const dim3 block(static_cast<unsigned>(plan.threads));
    const auto run = [&](SelectiveScanPhase phase) {
        arguments.phase = phase;
        return launch(selective_scan_kernel<T, S>, grid, block, sizeof(SelectiveScanStorage<S>), context->stream, arguments);
    };
    static_assert(Traits::steps <= most_segment_steps, "a segment has a bit for each of its steps");
    cudaError_t error = fill_sequence_table(*context, params.shape, params.seq_idx, arguments.table, Traits::steps);
    if (error == cudaSuccess && plan.chunks > 1) {
        error = run(SelectiveScanPhase::summarize);
    }
    if (error == cudaSuccess) {
        error = run(plan.chunks > 1 ? SelectiveScanPhase::finish : SelectiveScanPhase::whole);
    }
    if (error == cudaSuccess) {
        error = clear_padding(*context, params.shape, params.seq_idx, params.y, size_of(params.type));
    }
    return status_of(error, "selective_scan");
}

template <typename T, typename S>
int32_t selective_scan_bytes(BackendContext* context, const SelectiveScanParams& params, uint64_t* bytes) {
    SelectiveScanArguments<S> arguments{};
    WorkspaceParts parts(nullptr);
    selective_scan_scratch(plan_selective_scan<T, S>(*context, params), params, parts, arguments);
    *bytes = parts.size();
    return success;
}

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

} // namespace

int32_t selective_scan(BackendContext* context, const SelectiveScanParams* params) {
    return dispatch_selective_scan(*params, [&](auto storage, auto state) {
        return run_selective_scan<decltype(storage), decltype(state)>(context, *params);
    });
}

int32_t selective_scan_workspace(BackendContext* context, const SelectiveScanParams* params, uint64_t* bytes) {
    return dispatch_selective_scan(*params, [&](auto storage, auto state) {
        return selective_scan_bytes<decltype(storage), decltype(state)>(context, *params, bytes);
    });
}

} // namespace ssm
