// ssd: s = dt + dt_bias, through softplus and limits where asked; h_t = exp(s a) h_{t-1} + s x_t b_t^T;
// y_t = (h_t c_t + d x_t) silu(z_t) (Dao and Gu 2024, arXiv 2405.21060, section 6).
//
// A block takes a head, a tile of its channels and one sequence, and walks the sequence's chunks in order, all in one
// launch. The state before the chunk, H[p][n] in float32 or better, stays in shared memory. With L[i][j] the decay from step
// j to step i, a chunk is four products of tiles, for each tile of states:
//   G += C B^T,  Y += C H^T,  H = decay H + X^T (decay to the end s B),   and then   Y = decay Y + (G o L s) X.
// Sums are float32 or better; with 16-bit storage the factors G o L s, decayed B and H are rounded to it, as the tensor
// cores take them. Decays are exponentials of differences of sums within the chunk; a restart of the state is a mask.
//
// Where sequences, heads and tiles of channels do not fill the device, time is cut into parts, and the kernel runs twice:
// the first run gives each part's decay and state from zero, by half of the products; the second starts each part from the
// left fold of those before it.
//
// Bytes for an element of (B,L,H,P): 2 e (x in, y out), e more with z; b and c are read again by every head, from the second
// level cache. Operations: 2 N + chunk multiply-adds and chunk N / P for G.
#include "cuda/ssd.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

// What a run of the kernel does.
enum class SsdPhase : int32_t {
    whole,     // every sequence from its initial state to its end
    summarize, // parts from zero: decay and state of each
    finish     // parts from the fold of those before
};

template <typename T>
struct SsdArguments {
    using R = Compute<T>;
    SsdParams params;
    SsdPhase phase;
    int32_t chunk;         // steps
    int32_t state_pitch;   // of a row of states
    int64_t parts;         // of every sequence
    int64_t channel_tiles; // of a head
    int64_t items;         // blocks' worth of work
    R* states;             // (parts,R,H,P,N): what a part leaves behind
    R* decays;             // (parts,R,H): what a part multiplies the state before it by; 0 also where nothing of it is left
    R* running;            // (blocks,tile,state_pitch) where the state does not fit shared memory, else null
};

template <typename T>
struct alignas(16) SsdStorage {
    T b[tile_size<T> * tile_pitch<T>];
    T c[tile_size<T> * tile_pitch<T>]; // and G o L
    T x[tile_size<T> * tile_pitch<T>];
    T h[sizeof(T) == 2 ? tile_size<T> * tile_pitch<T> : 16 / sizeof(T)]; // a tile of states as the products take it
    SsdSteps<T> steps;
    int32_t has_nan; // or infinity, among x of the chunk
    // Behind it: the states, (tile,state_pitch), where they fit.
};

// ---- Kernel --------------------------------------------------------------------------------------------------------------

template <typename T>
struct SsdBlock {
    using R = Compute<T>;
    static constexpr int tile = tile_size<T>;
    static constexpr int pitch = tile_pitch<T>;

    const SsdArguments<T>& arguments;
    const SsdParams& params;
    SsdStorage<T>& shared;
    R* const state;
    Span span;
    int64_t head;
    int64_t group;
    int64_t part;
    TileRange channels;

    SSM_DEVICE SsdBlock(const SsdArguments<T>& arguments, SsdStorage<T>& shared, int64_t item)
        : arguments(arguments), params(arguments.params), shared(shared),
          state(arguments.running ? arguments.running + static_cast<int64_t>(blockIdx.x) * tile * arguments.state_pitch
                                  : reinterpret_cast<R*>(&shared + 1)),
          channels(item % arguments.channel_tiles, tile, arguments.params.channels) {
        int64_t rest = item / arguments.channel_tiles;
        const int64_t heads = params.shape.channels;
        head = rest % heads;
        group = head / (heads / params.groups);
        rest /= heads;
        part = rest % arguments.parts;
        span = span_of_row(params.shape, rest / arguments.parts);
    }

    // Of (p, n) in (R,H,P,N).
    SSM_DEVICE int64_t state_index(int p, int64_t n) const {
        return ((span.row * params.shape.channels + head) * params.channels + channels.first + p) * params.states + n;
    }
    SSM_DEVICE int64_t head_index(int64_t of_part) const {
        return (of_part * state_rows(params.shape) + span.row) * params.shape.channels + head;
    }
    SSM_DEVICE int64_t part_stride() const {
        return state_rows(params.shape) * params.shape.channels * params.channels * params.states;
    }

    // f(p, n, state) for every place of the state, those of the padding too; the same thread has the same ones each time.
    template <typename Function>
    SSM_DEVICE void each_state(const Function& f) const {
        const int width = arguments.state_pitch;
        for (int i = static_cast<int>(threadIdx.x); i < tile * width; i += tile_threads) {
            const int p = i / width;
            f(p, i - p * width, state[i]);
        }
    }
    SSM_DEVICE bool is_real(int p, int n) const { return p < channels.count && n < params.states; }

    SSM_DEVICE void start() const {
        const R* const initial =
            arguments.phase == SsdPhase::summarize ? nullptr : static_cast<const R*>(params.initial_state);
        const int64_t before = arguments.phase == SsdPhase::finish ? part : 0;
        each_state([&](int p, int n, R& h) {
            R value = 0;
            if (is_real(p, n)) {
                if (initial) {
                    value = initial[state_index(p, n)];
                }
                for (int64_t i = 0; i < SSM_MUTATE("ssd.cuda.dropped_part", before, before - 1); ++i) {
                    const R decay = arguments.decays[head_index(i)];
                    const R own = arguments.states[i * part_stride() + state_index(p, n)];
                    value = decay == 0 ? own : multiply_add(decay, value, own);
                }
            }
            h = value;
        });
    }

    SSM_DEVICE void run() {
        const int64_t length = span.length;
        const int64_t all = (length + arguments.chunk - 1) / arguments.chunk;
        const int64_t part_steps = (all + arguments.parts - 1) / arguments.parts * arguments.chunk;
        const int64_t begin = part * part_steps < length ? part * part_steps : length;
        const int64_t end = begin + part_steps < length ? begin + part_steps : length;
        const bool outputs = arguments.phase != SsdPhase::summarize;
        __syncthreads(); // the item before is done with
        start();
        R decay = 1;
        for (int64_t t = begin; t < end; t += arguments.chunk) {
            const int64_t left = end - t;
            const int count = static_cast<int>(left < arguments.chunk ? left : arguments.chunk);
            decay *= run_chunk(outputs, t, count);
        }
        __syncthreads();
        if (!outputs) {
            each_state([&](int p, int n, R& h) {
                if (is_real(p, n)) {
                    arguments.states[part * part_stride() + state_index(p, n)] = h;
                }
            });
            if (threadIdx.x == 0 && channels.first == 0) {
                arguments.decays[head_index(part)] = decay;
            }
        } else if (params.last_state && (end > begin ? end == length : length == 0 && part == 0)) {
            each_state([&](int p, int n, R& h) {
                if (is_real(p, n)) {
                    static_cast<R*>(params.last_state)[state_index(p, n)] = h;
                }
            });
        }
    }

    // Answers what the chunk multiplies the state before it by.
    SSM_DEVICE R run_chunk(bool outputs, int64_t t, int count) {
        const int padded_count = round_up_to_step(count);
        const int padded_channels = channels.padded();
        const int last_row = warp_id() * TileSums<T>::warp_rows + TileSums<T>::warp_rows; // of the warp, exclusive
        read_steps(params, span, head, t, count, shared.steps); // begins behind a barrier of the chunk before
        const SsdSteps<T>& steps = shared.steps;
        load_tile<tile>(place_of<const T>(params.x, span, head, t) + channels.first, params.x.time_stride, count,
                        channels.count, padded_count, padded_channels, shared.x);
        TileSums<T> g;
        TileSums<T> y;
        g.clear();
        y.clear();
        const R total = steps.from_start(count - 1);
        for (int64_t first = 0; first < params.states; first += tile) {
            const TileRange states(first / tile, tile, params.states);
            if (first > 0) {
                __syncthreads(); // the tiles before are done with
            }
            load_tile<tile>(place_of<const T>(params.b, span, group, t) + first, params.b.time_stride, count, states.count,
                            padded_count, states.padded(), shared.b);
            const T* h = nullptr;
            int h_pitch = pitch;
            if (outputs) {
                load_tile<tile>(place_of<const T>(params.c, span, group, t) + first, params.c.time_stride, count,
                                states.count, padded_count, states.padded(), shared.c);
                h = state_operand(first, states.padded(), padded_channels, h_pitch);
            }
            __syncthreads();
            if (outputs) {
                // Of G the lower triangle counts.
                g.template add<Contiguous::inner, Contiguous::inner>(shared.c, pitch, shared.b, pitch, padded_count,
                                                                     last_row < padded_count ? last_row : padded_count,
                                                                     states.padded());
                y.template add<Contiguous::inner, Contiguous::inner>(shared.c, pitch, h, h_pitch, padded_count,
                                                                     padded_channels, states.padded());
            }
            __syncthreads();
            scale_tile<tile>(shared.b, padded_count, states.padded(), [&](int j) {
                return j < count ? steps.s[j] * steps.between(j, SSM_MUTATE("ssd.cuda.wrong_end", count - 1, count / 2))
                                 : R(0);
            });
            __syncthreads();
            TileSums<T> added;
            added.clear();
            added.template add<Contiguous::outer, Contiguous::outer>(shared.x, pitch, shared.b, pitch, padded_channels,
                                                                     states.padded(), padded_count);
            added.each([&](R sum, int p, int n) {
                if (p < padded_channels && n < states.padded()) {
                    R& own = state[p * arguments.state_pitch + first + n];
                    own = total == 0 ? sum : multiply_add(total, own, sum);
                }
            });
        }
        if (!outputs) {
            __syncthreads();
            return total;
        }
        // Nobody reads c any more: the state's products began behind a barrier.
        if (threadIdx.x == 0) {
            shared.has_nan = 0;
        }
        __syncthreads();
        find_nan(padded_count, padded_channels);
        g.each([&](R sum, int i, int j) {
            if (i < padded_count && j < padded_count) {
                const bool counts = SSM_MUTATE("ssd.cuda.no_diagonal", j <= i, j < i) && i < count;
                shared.c[i * pitch + j] = narrow<T>(counts ? sum * steps.between(j, i) * steps.s[j] : R(0));
            }
        });
        y.each([&](R& sum, int i, int) {
            const R decay = i < count ? steps.from_start(i) : R(0);
            sum = decay == 0 ? R(0) : decay * sum;
        });
        __syncthreads();
        if (!shared.has_nan) {
            y.template add<Contiguous::inner, Contiguous::outer>(shared.c, pitch, shared.x, pitch, padded_count,
                                                                 padded_channels,
                                                                 last_row < padded_count ? last_row : padded_count);
        } else {
            // Zero times what is no number would reach the steps before it.
            y.each([&](R& sum, int i, int p) {
                for (int j = 0; i < count && p < padded_channels && j <= i; ++j) {
                    sum = multiply_add(widen(shared.c[i * pitch + j]), widen(shared.x[j * pitch + p]), sum);
                }
            });
        }
        write(y, t, count);
        __syncthreads();
        return total;
    }

    SSM_DEVICE void find_nan(int rows, int columns) const {
        bool found = false;
        for (int i = static_cast<int>(threadIdx.x); i < rows * columns; i += tile_threads) {
            const R x = widen(shared.x[i / columns * pitch + i % columns]);
            found |= !(x - x == 0);
        }
        if (found) {
            shared.has_nan = 1; // all who write write the same
        }
    }

    // The states from `first` on as an operand of products: where they lie, or rounded to 16 bits.
    SSM_DEVICE const T* state_operand(int64_t first, int count, int padded_channels, int& h_pitch) const {
        if constexpr (sizeof(T) == 2) {
            for (int i = static_cast<int>(threadIdx.x); i < padded_channels * count; i += tile_threads) {
                const int p = i / count;
                const int n = i - p * count;
                shared.h[p * pitch + n] = narrow<T>(state[p * arguments.state_pitch + first + n]);
            }
            return shared.h;
        } else {
            h_pitch = arguments.state_pitch;
            return state + first;
        }
    }

    SSM_DEVICE void write(TileSums<T>& y, int64_t t, int count) const {
        const R* const skip = static_cast<const R*>(params.d);
        const T* const z = params.z.data ? place_of<const T>(params.z, span, head, t) + channels.first : nullptr;
        T* const to = place_of<T>(params.y, span, head, t) + channels.first;
        y.each([&](R sum, int i, int p) {
            if (i < count && p < channels.count) {
                if (skip || params.skip.data) {
                    R factor = skip ? skip[params.d_per_channel ? head * params.channels + channels.first + p : head] : R(0);
                    if (params.skip.data) {
                        factor += *place_of<const R>(params.skip, span, head, t + i);
                    }
                    sum = multiply_add(factor, widen(shared.x[i * pitch + p]), sum);
                }
                if (z) {
                    sum *= silu(widen(z[i * params.z.time_stride + p]));
                }
                to[i * params.y.time_stride + p] = narrow<T>(sum);
            }
        });
    }
};

template <typename T>
__global__ void __launch_bounds__(tile_threads, 2) ssd_kernel(SsdArguments<T> arguments) {
    SsdStorage<T>& shared = SSM_SHARED(SsdStorage<T>);
    for (int64_t item = blockIdx.x; item < arguments.items; item += gridDim.x) {
        SsdBlock<T> block(arguments, shared, item);
        block.run();
    }
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

// Bytes that one block may ask for.
int64_t shared_memory_of_block(const BackendContext& context) {
    int bytes = 0;
    cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, context.device);
    return bytes;
}

template <typename T>
struct SsdPlan {
    SsdArguments<T> arguments{};
    size_t shared_bytes = 0;
    unsigned blocks = 0;
};

// ssd.path: the number of parts, 0 chosen here. Chunks and parts depend on the shape and the device alone. With a null
// workspace the parts of it are only counted.
template <typename T>
SsdPlan<T> plan_ssd(const BackendContext& context, const SsdParams& params, WorkspaceParts& workspace) {
    using R = Compute<T>;
    SsdPlan<T> plan;
    SsdArguments<T>& arguments = plan.arguments;
    const SequenceShape& shape = params.shape;
    arguments.params = params;
    arguments.chunk = ssd_chunk(params, context.options.get("ssd.tile"), tile_size<T>);
    arguments.channel_tiles = ssd_ceil_divide(params.channels, tile_size<T>);
    const int64_t rows = shape.state_rows();
    const int64_t walks = rows * shape.channels * arguments.channel_tiles;
    const int64_t chunks = ssd_typical_chunks(shape, arguments.chunk);
    // Parts cost half of the products again, and each adds up those before it.
    const int64_t wanted = 2 * static_cast<int64_t>(context.multiprocessors);
    int64_t parts = walks > 0 ? wanted / walks : 1;
    parts = parts < chunks / 4 ? parts : chunks / 4;
    parts = parts < 32 ? parts : 32;
    if (context.options.get("ssd.path") > 0) {
        parts = context.options.get("ssd.path");
        parts = parts < chunks ? parts : chunks;
    }
    arguments.parts = parts > 1 ? parts : 1;
    arguments.items = walks * arguments.parts;
    const int64_t padded = ssd_ceil_divide(params.states, tile_step) * tile_step + 16 / static_cast<int64_t>(sizeof(R));
    arguments.state_pitch = static_cast<int32_t>(padded);
    const int64_t state_bytes = padded * tile_size<T> * static_cast<int64_t>(sizeof(R));
    const bool fits = static_cast<int64_t>(sizeof(SsdStorage<T>)) + state_bytes <= shared_memory_of_block(context);
    int64_t blocks = arguments.items < (int64_t{1} << 30) ? arguments.items : int64_t{1} << 30;
    plan.shared_bytes = sizeof(SsdStorage<T>) + (fits ? static_cast<size_t>(state_bytes) : 0);
    if (!fits) {
        // As many as run at once have a state of their own.
        const int64_t some = 8 * static_cast<int64_t>(context.multiprocessors);
        blocks = blocks < some ? blocks : some;
        arguments.running = workspace.take<R>(blocks * tile_size<T> * padded);
    }
    plan.blocks = static_cast<unsigned>(blocks);
    if (arguments.parts > 1) {
        arguments.states = workspace.take<R>(arguments.parts * rows * shape.channels * params.channels * params.states);
        arguments.decays = workspace.take<R>(arguments.parts * rows * shape.channels);
    }
    return plan;
}

template <typename T>
int32_t run_ssd(BackendContext* context, const SsdParams& params) {
    WorkspaceParts workspace(params.workspace.data);
    SsdPlan<T> plan = plan_ssd<T>(*context, params, workspace);
    if (plan.arguments.items == 0) {
        return success;
    }
    if (workspace.size() > params.workspace.bytes) {
        return fail(error_workspace_too_small, "ssd: the workspace is smaller than the workspace function says");
    }
    const auto run = [&](SsdPhase phase) {
        plan.arguments.phase = phase;
        return launch(ssd_kernel<T>, dim3(plan.blocks), dim3(tile_threads), plan.shared_bytes, context->stream,
                      plan.arguments);
    };
    cudaError_t error = cudaSuccess;
    if (plan.arguments.parts == 1) {
        error = run(SsdPhase::whole);
    } else {
        error = run(SsdPhase::summarize);
        if (error == cudaSuccess) {
            error = run(SsdPhase::finish);
        }
    }
    return status_of(error, "ssd");
}

} // namespace

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t ssd(BackendContext* context, const SsdParams* params) {
    return dispatch_ssd(params->type, [&](auto storage) { return run_ssd<decltype(storage)>(context, *params); });
}

int32_t ssd_workspace(BackendContext* context, const SsdParams* params, uint64_t* bytes) {
    return dispatch_ssd(params->type, [&](auto storage) {
        WorkspaceParts workspace(nullptr);
        plan_ssd<decltype(storage)>(*context, *params, workspace);
        *bytes = workspace.size();
        return success;
    });
}

} // namespace ssm
