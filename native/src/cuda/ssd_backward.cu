// Gradients of ssd. With g = grad_y silu(z), L[i][j] the decay from step j to step i, H[p][n] the state before a chunk and
// D[p][n] the gradient of the state behind it:
//   M = C B^T o L,  W = g x^T o L s,
//   grad_c = decay g H + W b,   grad_b = decay s x D + W^T c,   grad_x = s (decay B D^T + M^T g) + d g,
//   D before = decay D + (decay g)^T C.
// The gradient of s has two parts: <x, grad_x / s>, and a q, with q_i the sum over all that goes through the decay of step
// i: what enters before it and leaves with it or later. q is made of suffix and prefix sums of products and nowhere of
// differences, which would lose it where decays are strong.
//
// Three launches. The first walks every sequence, head and tile of channels forward for the states before the chunks and, in
// blocks of their own, backward for the gradients behind them; both go to the workspace. In the second all chunks are
// independent: a block takes one chunk and some heads of a group one after the other, which share C B^T, and adds up its
// part of grad_b and grad_c. The third adds those parts, and what chunks give for the parameters, in a fixed order.
//
// Products as in ssd: tensor cores for 16-bit storage, whose factors are rounded to it. Bytes: states and their gradients,
// 8 P N for a head and chunk, are written once and read twice. Operations: 12 N + 8 chunk multiply-adds for an element.
#include "cuda/ssd.h"

#include "core/params/ssd_backward.h"
#include "cuda/primitives/silu.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

// Of the second launch, which has six tiles at hand.
template <typename T>
constexpr int backward_tile = sizeof(T) == 2 ? 64 : 32;

template <typename T>
struct SsdBackwardArguments {
    using R = Compute<T>;
    SsdBackwardParams params;
    int32_t chunk;          // steps
    int64_t slots;          // of a batch element: chunks, where packed of all its sequences
    int64_t channel_tiles;  // of a head
    int64_t walks;          // sequences, heads, tiles of channels
    int64_t heads_per_item; // of the second launch
    int64_t splits;         // of a group
    int64_t items;
    R* before; // (B,slots,H,P,N): states before the chunks
    R* behind; // the same: gradients behind them
    R* b;      // (splits,B,L,G,N): parts of grad_b
    R* c;
    R* a;    // (B,slots,H): parts of grad_a
    R* bias; // the same
    R* d;    // (B,slots,H,P)
};

template <typename T>
struct alignas(16) SsdWalkStorage {
    static constexpr int tile = backward_tile<T>;
    T rows[tile * tile_pitch<T, tile>];
    T states[tile * tile_pitch<T, tile>];
    SsdSteps<T, tile> steps;
};

template <typename T>
struct alignas(16) SsdBackwardStorage {
    static constexpr int tile = backward_tile<T>;
    using R = Compute<T>;
    T b[tile * tile_pitch<T, tile>]; // b and c also hold the sums of columns for q
    T c[tile * tile_pitch<T, tile>];
    T x[tile * tile_pitch<T, tile>];
    T g[tile * tile_pitch<T, tile>];
    T m[tile * tile_pitch<T, tile>]; // W, M, or M s
    T h[tile * tile_pitch<T, tile>]; // states or gradients of states, [p][n]
    SsdSteps<T, tile> steps;
    R across[tile];        // the part of q inside of the chunk
    R through_start[tile]; // what goes from the state before into a step
    R through_end[tile];   // what goes from a step into the state behind
    R direct[tile];        // <x, grad_x / s>
    R warps[tile_threads / warp_size];
};

// ---- Kernels -------------------------------------------------------------------------------------------------------------

// g of some steps and channels into a tile, zero in its padding.
template <int tile, typename T>
SSM_DEVICE void load_gradient(const SsdBackwardParams& p, const Span& span, int64_t head, int64_t t,
                              const TileRange& channels, int count, T* to) {
    const T* const gradient = place_of<const T>(p.grad_y, span, head, t) + channels.first;
    const T* const z = p.z.data ? place_of<const T>(p.z, span, head, t) + channels.first : nullptr;
    const int width = channels.padded();
    for (int i = static_cast<int>(threadIdx.x); i < round_up_to_step(count) * width; i += tile_threads) {
        const int row = i / width;
        const int column = i - row * width;
        T value = narrow<T>(0);
        if (row < count && column < channels.count) {
            value = gradient[row * p.grad_y.time_stride + column];
            if (z) {
                value = narrow<T>(widen(value) * silu(widen(z[row * p.z.time_stride + column])));
            }
        }
        to[row * tile_pitch<T, tile> + column] = value;
    }
}

// A sum that a decay multiplies: none of it, not even NaN, where that is zero.
template <typename R>
SSM_DEVICE void scale(R& sum, R factor) {
    sum = factor == 0 ? R(0) : factor * sum;
}

// Walks the chunks of a sequence: forward with states, backward with gradients.
template <typename T>
struct SsdWalk {
    using R = Compute<T>;
    static constexpr int tile = backward_tile<T>;
    static constexpr int pitch = tile_pitch<T, tile>;

    const SsdBackwardArguments<T>& arguments;
    const SsdBackwardParams& params;
    SsdWalkStorage<T>& shared;
    bool backward;
    Span span;
    int64_t head;
    int64_t group;
    TileRange channels;

    SSM_DEVICE SsdWalk(const SsdBackwardArguments<T>& arguments, SsdWalkStorage<T>& shared, int64_t item)
        : arguments(arguments), params(arguments.params), shared(shared), backward(item >= arguments.walks),
          channels(item % arguments.walks % arguments.channel_tiles, tile, arguments.params.channels) {
        const int64_t rest = item % arguments.walks / arguments.channel_tiles;
        const int64_t heads = params.shape.channels;
        head = rest % heads;
        group = head / (heads / params.groups);
        span = span_of_row(params.shape, rest / heads);
    }

    // The first place of the head's tile of channels, before or behind a chunk of the sequence.
    SSM_DEVICE R* at_chunk(R* all, int64_t chunk) const {
        const int64_t slot = params.shape.cu_seqlens ? span.begin / arguments.chunk + span.row : 0;
        return all + (((span.batch * arguments.slots + slot + chunk) * params.shape.channels + head) * params.channels +
                      channels.first) *
                         params.states;
    }
    SSM_DEVICE int64_t state_offset() const {
        return ((span.row * params.shape.channels + head) * params.channels + channels.first) * params.states;
    }

    SSM_DEVICE void run() {
        const int64_t chunks = (span.length + arguments.chunk - 1) / arguments.chunk;
        const R* const given = static_cast<const R*>(backward ? params.grad_last_state : params.initial_state);
        R* const last =
            backward && params.grad_initial_state ? static_cast<R*>(params.grad_initial_state) + state_offset() : nullptr;
        R* const all = backward ? arguments.behind : arguments.before;
        R* now = chunks == 0 ? last : at_chunk(all, backward ? chunks - 1 : 0);
        if (!now) {
            return;
        }
        const int64_t numbers = channels.count * params.states;
        for (int64_t i = threadIdx.x; i < numbers; i += tile_threads) {
            now[i] = given ? given[state_offset() + i] : R(0);
        }
        for (int64_t k = 0; k < chunks; ++k) {
            const int64_t chunk = backward ? chunks - 1 - k : k;
            R* const next = k + 1 < chunks ? at_chunk(all, backward ? chunk - 1 : chunk + 1) : last;
            if (!next) {
                return;
            }
            step(chunk, now, next);
            now = next;
        }
    }

    // The state behind the chunk from the one before it, or the other way round.
    SSM_DEVICE void step(int64_t chunk, const R* now, R* next) {
        const int64_t t = chunk * arguments.chunk;
        const int64_t left = span.length - t;
        const int count = static_cast<int>(left < arguments.chunk ? left : arguments.chunk);
        const int padded_count = round_up_to_step(count);
        __syncthreads(); // the chunk before is done with
        read_steps(params, span, head, t, count, shared.steps);
        const SsdSteps<T, tile>& steps = shared.steps;
        const R total = steps.from_start(count - 1);
        const R entry = steps.from_start(0); // not among the factors, whose 16 bits it might leave
        if (backward) {
            load_gradient<tile>(params, span, head, t, channels, count, shared.rows);
        } else {
            load_tile<tile>(place_of<const T>(params.x, span, head, t) + channels.first, params.x.time_stride, count,
                            channels.count, padded_count, channels.padded(), shared.rows);
        }
        const HeadTensor& factor = backward ? params.c : params.b;
        for (int64_t first = 0; first < params.states; first += tile) {
            const TileRange states(first / tile, tile, params.states);
            __syncthreads();
            load_tile<tile>(place_of<const T>(factor, span, group, t) + first, factor.time_stride, count, states.count,
                            padded_count, states.padded(), shared.states);
            __syncthreads();
            scale_tile<tile>(shared.states, padded_count, states.padded(), [&](int i) {
                return i >= count ? R(0) : backward ? steps.between(0, i) : steps.s[i] * steps.between(i, count - 1);
            });
            __syncthreads();
            TileSums<T, tile> added;
            added.clear();
            added.template add<Contiguous::outer, Contiguous::outer>(shared.rows, pitch, shared.states, pitch,
                                                                     channels.padded(), states.padded(), padded_count);
            added.each([&](R sum, int p, int n) {
                if (p < channels.count && n < states.count) {
                    if (backward) {
                        scale(sum, entry);
                    }
                    const int64_t own = p * params.states + first + n;
                    next[own] = total == 0
                                    ? sum
                                    : multiply_add(SSM_MUTATE("ssd_backward.cuda.lost_state", total, R(0)), now[own], sum);
                }
            });
        }
    }
};

template <typename T>
__global__ void __launch_bounds__(tile_threads, 2) ssd_backward_walk_kernel(SsdBackwardArguments<T> arguments) {
    SsdWalkStorage<T>& shared = SSM_SHARED(SsdWalkStorage<T>);
    for (int64_t item = blockIdx.x; item < 2 * arguments.walks; item += gridDim.x) {
        SsdWalk<T> walk(arguments, shared, item);
        walk.run();
        __syncthreads(); // the memory is done with
    }
}

// One chunk and some heads of a group.
template <typename T>
struct SsdBackwardBlock {
    using R = Compute<T>;
    static constexpr int tile = backward_tile<T>;
    static constexpr int pitch = tile_pitch<T, tile>;
    using Sums = TileSums<T, tile>;
    using Steps = SsdSteps<T, tile>;

    const SsdBackwardArguments<T>& arguments;
    const SsdBackwardParams& params;
    SsdBackwardStorage<T>& shared;
    int64_t batch;
    int64_t slot;
    int64_t group;
    int64_t split;
    int64_t head;
    int64_t end_head;
    Span span;
    int64_t t; // of the chunk in the sequence
    int count;
    int padded_count;
    int64_t at_hand; // the tile of channels in shared.x and shared.g

    SSM_DEVICE SsdBackwardBlock(const SsdBackwardArguments<T>& arguments, SsdBackwardStorage<T>& shared, int64_t item)
        : arguments(arguments), params(arguments.params), shared(shared) {
        split = item % arguments.splits;
        int64_t rest = item / arguments.splits;
        group = rest % params.groups;
        rest /= params.groups;
        slot = rest % arguments.slots;
        batch = rest / arguments.slots;
        const int64_t per_group = params.shape.channels / params.groups;
        head = group * per_group + split * arguments.heads_per_item;
        end_head = head + arguments.heads_per_item;
        end_head = end_head < (group + 1) * per_group ? end_head : (group + 1) * per_group;
        int64_t index;
        span = span_of_slot(params.shape, batch, slot, arguments.chunk, index);
        t = index * arguments.chunk;
        const int64_t left = index < 0 ? 0 : span.length - t;
        count = static_cast<int>(left < 0 ? 0 : left < arguments.chunk ? left : arguments.chunk);
        padded_count = round_up_to_step(count);
    }

    SSM_DEVICE TileRange states(int64_t first) const { return TileRange(first / tile, tile, params.states); }
    SSM_DEVICE TileRange channels(int64_t index) const { return TileRange(index, tile, params.channels); }
    // Of the head, in (B,slots,H).
    SSM_DEVICE int64_t head_index() const { return (batch * arguments.slots + slot) * params.shape.channels + head; }

    SSM_DEVICE void run() {
        if (count == 0) { // a slot that no sequence fills
            for (; head < end_head; ++head) {
                for (int64_t p = threadIdx.x; p < params.channels; p += tile_threads) {
                    arguments.d[head_index() * params.channels + p] = R(0);
                }
                if (threadIdx.x == 0) {
                    arguments.a[head_index()] = R(0);
                    arguments.bias[head_index()] = R(0);
                }
            }
            return;
        }
        Sums products; // C B^T
        products.clear();
        for (int64_t first = 0; first < params.states; first += tile) {
            __syncthreads();
            load_states(params.b, first, shared.b);
            load_states(params.c, first, shared.c);
            __syncthreads();
            products.template add<Contiguous::inner, Contiguous::inner>(shared.c, pitch, shared.b, pitch, padded_count,
                                                                        padded_count, states(first).padded());
        }
        for (const int64_t first_head = head; head < end_head; ++head) {
            run_head(products, head == first_head);
        }
    }

    SSM_DEVICE void load_states(const HeadTensor& tensor, int64_t first, T* to) const {
        load_tile<tile>(place_of<const T>(tensor, span, group, t) + first, tensor.time_stride, count, states(first).count,
                        padded_count, states(first).padded(), to);
    }

    // States or gradients of states, zero in the padding.
    SSM_DEVICE void load_kept(const R* all, int64_t channel_tile, int64_t first) const {
        const TileRange own_channels = channels(channel_tile);
        const TileRange own_states = states(first);
        const R* const from = all + (head_index() * params.channels + own_channels.first) * params.states + first;
        const int width = own_states.padded();
        for (int i = static_cast<int>(threadIdx.x); i < own_channels.padded() * width; i += tile_threads) {
            const int p = i / width;
            const int n = i - p * width;
            const bool exists = p < own_channels.count && n < own_states.count;
            shared.h[p * pitch + n] = narrow<T>(exists ? from[p * params.states + n] : R(0));
        }
    }

    // x and g of a tile of channels, unless they are there. Begins with a barrier then.
    SSM_DEVICE void take_channels(int64_t index) {
        if (index == at_hand) {
            return;
        }
        __syncthreads();
        at_hand = index;
        const TileRange own = channels(index);
        load_tile<tile>(place_of<const T>(params.x, span, head, t) + own.first, params.x.time_stride, count, own.count,
                        padded_count, own.padded(), shared.x);
        load_gradient<tile>(params, span, head, t, own, count, shared.g);
    }

    // shared.m from sums of (i, j): f(sum, i, j, decay) where j <= i, else zero. Barriers on both sides.
    template <typename Function>
    SSM_DEVICE void make_matrix(Sums& sums, const Function& f) {
        const Steps& steps = shared.steps;
        __syncthreads();
        sums.each([&](R sum, int i, int j) {
            if (i < padded_count && j < padded_count) {
                const bool counts = j <= i && i < count;
                shared.m[i * pitch + j] = narrow<T>(counts ? f(sum, i, j, steps.between(j, i)) : R(0));
            }
        });
        __syncthreads();
    }

    SSM_DEVICE R to_end(int j) const { return j < count ? shared.steps.between(j, count - 1) : R(0); }
    SSM_DEVICE R from_start(int i) const { return i < count ? shared.steps.from_start(i) : R(0); }

    SSM_DEVICE R skip(int i, int64_t p) const {
        const R* const d = static_cast<const R*>(params.d);
        const R own = d ? d[params.d_per_channel ? head * params.channels + p : head] : R(0);
        return params.skip.data ? own + *place_of<const R>(params.skip, span, head, t + i) : own;
    }

    SSM_DEVICE void run_head(Sums& products, bool is_first) {
        __syncthreads(); // the head before is done with
        const int thread = static_cast<int>(threadIdx.x);
        read_steps(params, span, head, t, count, shared.steps);
        if (thread < tile) {
            shared.through_start[thread] = 0;
            shared.through_end[thread] = 0;
            shared.direct[thread] = 0;
        }
        at_hand = -1;
        make_sums_across(products);
        for (int64_t first = 0; first < params.states; first += tile) {
            add_states(first, is_first);
        }
        make_matrix(products, [](R sum, int, int, R decay) { return sum * decay; });
        for (int64_t index = 0; index < arguments.channel_tiles; ++index) {
            write_x(index);
        }
        if (params.grad_z.data) {
            make_matrix(products, [&](R sum, int, int j, R decay) { return sum * decay * shared.steps.s[j]; });
            for (int64_t index = 0; index < arguments.channel_tiles; ++index) {
                write_z(index);
            }
        }
        write_steps();
    }

    // W into shared.m, and what goes through the decay of a step from steps before it to steps from it on.
    SSM_DEVICE void make_sums_across(Sums& products) {
        const int thread = static_cast<int>(threadIdx.x);
        Sums outer; // g x^T
        outer.clear();
        for (int64_t index = 0; index < arguments.channel_tiles; ++index) {
            take_channels(index);
            __syncthreads();
            const TileRange own = channels(index);
            outer.template add<Contiguous::inner, Contiguous::inner>(shared.g, pitch, shared.x, pitch, padded_count,
                                                                     padded_count, own.padded());
            for (int p = thread; p < own.count; p += tile_threads) {
                R sum = 0;
                for (int i = 0; i < count; ++i) {
                    sum = multiply_add(widen(shared.g[i * pitch + p]), widen(shared.x[i * pitch + p]), sum);
                }
                arguments.d[head_index() * params.channels + own.first + p] = sum;
            }
        }
        const Steps& steps = shared.steps;
        make_matrix(outer, [&](R sum, int, int j, R decay) { return sum * decay * steps.s[j]; });
        constexpr int column_pitch = tile + 1;
        static_assert(sizeof(R) * tile * column_pitch <= 2 * sizeof(shared.b), "the sums of columns lie in b and c");
        R* const columns = reinterpret_cast<R*>(shared.b);
#pragma unroll
        for (int e = 0; e < Sums::count; ++e) {
            const int i = Sums::row(e);
            const int j = Sums::column(e);
            if (j <= i && i < count) {
                columns[i * column_pitch + j] = products.sums[e] * (outer.sums[e] * steps.between(j, i) * steps.s[j]);
            }
        }
        __syncthreads();
        if (thread < count) {
            R sum = 0;
            for (int k = count - 1; k >= thread; --k) {
                sum += columns[k * column_pitch + thread];
                columns[k * column_pitch + thread] = sum;
            }
        }
        __syncthreads();
        if (thread < count) {
            R sum = 0;
            for (int j = 0; j < thread; ++j) {
                sum += columns[thread * column_pitch + j];
            }
            shared.across[thread] = sum;
        }
        __syncthreads();
    }

    // A tile of states of grad_b and grad_c.
    SSM_DEVICE void add_states(int64_t first, bool is_first) {
        const TileRange own = states(first);
        const Steps& steps = shared.steps;
        __syncthreads();
        load_states(params.b, first, shared.b);
        load_states(params.c, first, shared.c);
        Sums sums;
        sums.clear();
        for (int64_t index = 0; index < arguments.channel_tiles; ++index) {
            take_channels(index);
            load_kept(arguments.before, index, first);
            __syncthreads();
            sums.template add<Contiguous::inner, Contiguous::outer>(shared.g, pitch, shared.h, pitch, padded_count,
                                                                    own.padded(), channels(index).padded());
            __syncthreads();
        }
        sums.each([&](R& sum, int i, int) { scale(sum, from_start(i)); });
        sums.add_rows(shared.through_start, [&](R sum, int i, int n) {
            return i < count && n < own.count ? sum * widen(shared.c[i * pitch + n]) : R(0);
        });
        sums.template add<Contiguous::inner, Contiguous::outer>(shared.m, pitch, shared.b, pitch, padded_count, own.padded(),
                                                                padded_count);
        leave(sums, arguments.c, first, is_first);

        sums.clear();
        for (int64_t index = 0; index < arguments.channel_tiles; ++index) {
            take_channels(index);
            load_kept(arguments.behind, index, first);
            __syncthreads();
            sums.template add<Contiguous::inner, Contiguous::outer>(shared.x, pitch, shared.h, pitch, padded_count,
                                                                    own.padded(), channels(index).padded());
            __syncthreads();
        }
        sums.each([&](R& sum, int j, int) { scale(sum, steps.s[j] * to_end(j)); });
        sums.add_rows(shared.through_end, [&](R sum, int j, int n) {
            return j < count && n < own.count ? sum * widen(shared.b[j * pitch + n]) : R(0);
        });
        sums.template add<Contiguous::outer, Contiguous::outer>(shared.m, pitch, shared.c, pitch, padded_count, own.padded(),
                                                                padded_count);
        leave(sums, arguments.b, first, is_first);
    }

    // Adds to what the heads before left; the same thread has the same elements of every head.
    SSM_DEVICE void leave(Sums& sums, R* parts, int64_t first, bool is_first) const {
        if (!parts) {
            return;
        }
        const SequenceShape& shape = params.shape;
        R* const to =
            parts +
            (((split * shape.batch + batch) * shape.length + span.begin + t) * params.groups + group) * params.states +
            first;
        const int columns = states(first).count;
        sums.each([&](R sum, int i, int n) {
            if (i < count && n < columns) {
                R& own = to[i * params.groups * params.states + n];
                own = is_first ? sum : SSM_MUTATE("ssd_backward.cuda.last_head", own + sum, sum);
            }
        });
    }

    SSM_DEVICE void write_x(int64_t index) {
        const TileRange own = channels(index);
        const Steps& steps = shared.steps;
        Sums sums;
        sums.clear();
        for (int64_t first = 0; first < params.states; first += tile) {
            __syncthreads();
            load_states(params.b, first, shared.b);
            load_kept(arguments.behind, index, first);
            __syncthreads();
            sums.template add<Contiguous::inner, Contiguous::inner>(shared.b, pitch, shared.h, pitch, padded_count,
                                                                    own.padded(), states(first).padded());
        }
        take_channels(index);
        __syncthreads();
        sums.each([&](R& sum, int j, int) { scale(sum, to_end(j)); });
        sums.template add<Contiguous::outer, Contiguous::outer>(shared.m, pitch, shared.g, pitch, padded_count, own.padded(),
                                                                padded_count);
        sums.add_rows(shared.direct, [&](R sum, int j, int p) {
            return j < count && p < own.count ? sum * widen(shared.x[j * pitch + p]) : R(0);
        });
        if (!params.grad_x.data) {
            return;
        }
        T* const to = place_of<T>(params.grad_x, span, head, t) + own.first;
        sums.each([&](R sum, int j, int p) {
            if (j < count && p < own.count) {
                to[j * params.grad_x.time_stride + p] =
                    narrow<T>(multiply_add(skip(j, own.first + p), widen(shared.g[j * pitch + p]), steps.s[j] * sum));
            }
        });
    }

    // grad_z = grad_y y silu'(z), with y computed again.
    SSM_DEVICE void write_z(int64_t index) {
        const TileRange own = channels(index);
        Sums sums;
        sums.clear();
        for (int64_t first = 0; first < params.states; first += tile) {
            __syncthreads();
            load_states(params.c, first, shared.c);
            load_kept(arguments.before, index, first);
            __syncthreads();
            sums.template add<Contiguous::inner, Contiguous::inner>(shared.c, pitch, shared.h, pitch, padded_count,
                                                                    own.padded(), states(first).padded());
        }
        take_channels(index);
        __syncthreads();
        sums.each([&](R& sum, int i, int) { scale(sum, from_start(i)); });
        sums.template add<Contiguous::inner, Contiguous::outer>(shared.m, pitch, shared.x, pitch, padded_count, own.padded(),
                                                                padded_count);
        const T* const z = place_of<const T>(params.z, span, head, t) + own.first;
        const T* const gradient = place_of<const T>(params.grad_y, span, head, t) + own.first;
        T* const to = place_of<T>(params.grad_z, span, head, t) + own.first;
        sums.each([&](R sum, int i, int p) {
            if (i < count && p < own.count) {
                const R y = multiply_add(skip(i, own.first + p), widen(shared.x[i * pitch + p]), sum);
                to[i * params.grad_z.time_stride + p] = narrow<T>(widen(gradient[i * params.grad_y.time_stride + p]) * y *
                                                                  silu_slope(widen(z[i * params.z.time_stride + p])));
            }
        });
    }

    // The gradients of dt, and the chunk's part of those of a and dt_bias.
    SSM_DEVICE void write_steps() {
        const Steps& steps = shared.steps;
        const int thread = static_cast<int>(threadIdx.x);
        const R* const before = arguments.before + head_index() * params.channels * params.states;
        const R* const behind = arguments.behind + head_index() * params.channels * params.states;
        R both = 0;
        for (int64_t i = thread; i < params.channels * params.states; i += tile_threads) {
            both = multiply_add(before[i], behind[i], both);
        }
        for (int delta = warp_size / 2; delta > 0; delta /= 2) {
            both += shuffle_xor(both, delta);
        }
        if (lane_id() == 0) {
            shared.warps[warp_id()] = both;
        }
        __syncthreads();
        R q = 0;
        R gradient = 0;
        if (thread < count) {
            for (int warp = 0; warp < tile_threads / warp_size; ++warp) {
                q += shared.warps[warp];
            }
            scale(q, from_start(count - 1));
            for (int k = count - 1; k >= thread; --k) { // what leaves with the step or later
                q += shared.through_start[k];
            }
            for (int j = 0; j < SSM_MUTATE("ssd_backward.cuda.no_last_state", thread, 0); ++j) { // what enters before it
                q += shared.through_end[j];
            }
            q += shared.across[thread];
        }
        if (thread < count && params.grad_log_decay.data) {
            *place_of<R>(params.grad_log_decay, span, head, t + thread) = q;
        } else if (thread < count) {
            const R bias = params.dt_bias ? static_cast<const R*>(params.dt_bias)[head] : R(0);
            const R biased = widen(*place_of<const T>(params.dt, span, head, t + thread)) + bias;
            R slope = 1;
            if (params.dt_softplus) {
                slope = R(1) / (R(1) + exp(-biased));
            }
            const R s = params.dt_softplus ? softplus(biased) : biased;
            if ((params.dt_min > 0 && s < static_cast<R>(params.dt_min)) ||
                (params.dt_max > 0 && s > static_cast<R>(params.dt_max))) {
                slope = 0;
            }
            gradient = multiply_add(static_cast<const R*>(params.a)[head], q, shared.direct[thread]) * slope;
            if (params.grad_dt.data) {
                *place_of<T>(params.grad_dt, span, head, t + thread) = narrow<T>(gradient);
            }
        }
        __syncthreads();
        if (thread < tile) {
            shared.across[thread] = thread < count ? steps.s[thread] * q : R(0);
            shared.direct[thread] = gradient;
        }
        __syncthreads();
        if (thread == 0) {
            R a = 0;
            R bias = 0;
            for (int i = 0; i < count; ++i) {
                a += shared.across[i];
                bias += shared.direct[i];
            }
            arguments.a[head_index()] = a;
            arguments.bias[head_index()] = bias;
        }
    }
};

template <typename T>
__global__ void __launch_bounds__(tile_threads, 2) ssd_backward_kernel(SsdBackwardArguments<T> arguments) {
    SsdBackwardStorage<T>& shared = SSM_SHARED(SsdBackwardStorage<T>);
    for (int64_t item = blockIdx.x; item < arguments.items; item += gridDim.x) {
        SsdBackwardBlock<T> block(arguments, shared, item);
        block.run();
    }
}

constexpr int sum_threads = 256;

// The parts of grad_b and grad_c over the splits of a group, and those of the parameters over the chunks.
template <typename T>
__global__ void __launch_bounds__(sum_threads) ssd_backward_sum_kernel(SsdBackwardArguments<T> arguments) {
    using R = Compute<T>;
    const SsdBackwardParams& params = arguments.params;
    const int64_t heads = params.shape.channels;
    const int64_t rows = params.shape.batch * params.shape.length * params.groups;
    const int64_t threads = static_cast<int64_t>(gridDim.x) * sum_threads;
    const int64_t first = static_cast<int64_t>(blockIdx.x) * sum_threads + threadIdx.x;
    const auto add_up = [&](const R* parts, const HeadTensor& tensor) {
        for (int64_t i = first; tensor.data && i < rows * params.states; i += threads) {
            R sum = 0;
            for (int64_t split = 0; split < arguments.splits; ++split) {
                sum += parts[split * rows * params.states + i];
            }
            const int64_t row = i / params.states;
            const int64_t step = row / params.groups;
            const int64_t batch = step / params.shape.length;
            static_cast<T*>(
                tensor.data)[batch * tensor.batch_stride + (row - step * params.groups) * tensor.head_stride +
                             (step - batch * params.shape.length) * tensor.time_stride + i - row * params.states] =
                narrow<T>(sum);
        }
    };
    add_up(arguments.b, params.grad_b);
    add_up(arguments.c, params.grad_c);
    // A warp for each number of a head: a, dt_bias, then d.
    const int64_t chunks = params.shape.batch * arguments.slots;
    const int64_t channels = params.channels;
    const int64_t numbers = 2 + (params.grad_d_per_channel ? channels : 1);
    for (int64_t i = first / warp_size; i < heads * numbers; i += threads / warp_size) {
        const int64_t head = i / numbers;
        const int64_t number = i - head * numbers;
        R sum = 0;
        R* to = nullptr;
        if (number < 2) {
            const R* const parts = number == 0 ? arguments.a : arguments.bias;
            for (int64_t k = lane_id(); k < chunks; k += warp_size) {
                sum += parts[k * heads + head];
            }
            to = static_cast<R*>(number == 0 ? params.grad_a : params.grad_dt_bias);
            to = to ? to + head : nullptr;
        } else if (params.grad_d_per_channel) {
            for (int64_t k = lane_id(); k < chunks; k += warp_size) {
                sum += arguments.d[(k * heads + head) * channels + number - 2];
            }
            to = params.grad_d ? static_cast<R*>(params.grad_d) + head * channels + number - 2 : nullptr;
        } else {
            for (int64_t k = lane_id(); k < chunks * channels; k += warp_size) {
                sum += arguments.d[(k / channels * heads + head) * channels + k % channels];
            }
            to = params.grad_d ? static_cast<R*>(params.grad_d) + head : nullptr;
        }
        for (int delta = warp_size / 2; delta > 0; delta /= 2) {
            sum += shuffle_xor(sum, delta);
        }
        if (lane_id() == 0 && to) {
            *to = sum;
        }
    }
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

// The splits of a group depend on the shape and the device alone. With a null workspace the parts of it are only counted.
template <typename T>
SsdBackwardArguments<T> plan_ssd_backward(const BackendContext& context, const SsdBackwardParams& params,
                                          WorkspaceParts& workspace) {
    using R = Compute<T>;
    SsdBackwardArguments<T> arguments{};
    const SequenceShape& shape = params.shape;
    const int64_t heads = shape.channels;
    const int64_t per_group = heads / params.groups;
    arguments.params = params;
    arguments.chunk = ssd_chunk(params, context.options.get("ssd_backward.tile"), backward_tile<T>);
    arguments.slots = slot_count(shape, arguments.chunk);
    arguments.channel_tiles = ssd_ceil_divide(params.channels, backward_tile<T>);
    arguments.walks = shape.state_rows() * heads * arguments.channel_tiles;
    // Heads that go together share C B^T and leave one part of grad_b and grad_c behind.
    const int64_t chunks = shape.batch * arguments.slots;
    const int64_t wanted = ssd_ceil_divide(4 * static_cast<int64_t>(context.multiprocessors), chunks * params.groups);
    const int64_t splits = wanted < per_group ? wanted : per_group;
    arguments.heads_per_item = ssd_ceil_divide(per_group, splits);
    arguments.splits = ssd_ceil_divide(per_group, arguments.heads_per_item);
    arguments.items = chunks * params.groups * arguments.splits;
    const int64_t states = chunks * heads * params.channels * params.states;
    arguments.before = workspace.take<R>(states);
    arguments.behind = workspace.take<R>(states);
    const int64_t parts = arguments.splits * shape.batch * shape.length * params.groups * params.states;
    arguments.b = params.grad_b.data ? workspace.take<R>(parts) : static_cast<R*>(params.wide_b);
    arguments.c = params.grad_c.data ? workspace.take<R>(parts) : static_cast<R*>(params.wide_c);
    arguments.a = workspace.take<R>(chunks * heads);
    arguments.bias = workspace.take<R>(chunks * heads);
    arguments.d = workspace.take<R>(chunks * heads * params.channels);
    return arguments;
}

unsigned blocks_of(int64_t items) {
    return static_cast<unsigned>(items < (int64_t{1} << 30) ? items : int64_t{1} << 30);
}

template <typename T>
int32_t run_ssd_backward(BackendContext* context, const SsdBackwardParams& params) {
    WorkspaceParts workspace(params.workspace.data);
    const SsdBackwardArguments<T> arguments = plan_ssd_backward<T>(*context, params, workspace);
    if (workspace.size() > params.workspace.bytes) {
        return fail(error_workspace_too_small, "ssd_backward: the workspace is smaller than the workspace function says");
    }
    cudaError_t error = cudaSuccess;
    if (arguments.walks > 0) {
        error = launch(ssd_backward_walk_kernel<T>, dim3(blocks_of(2 * arguments.walks)), dim3(tile_threads),
                       sizeof(SsdWalkStorage<T>), context->stream, arguments);
    }
    if (error == cudaSuccess && arguments.items > 0) {
        error = launch(ssd_backward_kernel<T>, dim3(blocks_of(arguments.items)), dim3(tile_threads),
                       sizeof(SsdBackwardStorage<T>), context->stream, arguments);
    }
    if (error == cudaSuccess) {
        const int64_t numbers = params.shape.batch * params.shape.length * params.groups * params.states;
        const int64_t warps = params.shape.channels * (2 + params.channels);
        const int64_t threads = numbers > warps * warp_size ? numbers : warps * warp_size;
        const int64_t most = 16 * static_cast<int64_t>(context->multiprocessors);
        const int64_t blocks = ssd_ceil_divide(threads, sum_threads);
        error = launch(ssd_backward_sum_kernel<T>, dim3(blocks_of(blocks < most ? blocks : most)), dim3(sum_threads), 0,
                       context->stream, arguments);
    }
    return status_of(error, "ssd_backward");
}

} // namespace

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t ssd_backward(BackendContext* context, const SsdBackwardParams* params) {
    return dispatch_ssd(params->type, [&](auto storage) { return run_ssd_backward<decltype(storage)>(context, *params); });
}

int32_t ssd_backward_workspace(BackendContext* context, const SsdBackwardParams* params, uint64_t* bytes) {
    return dispatch_ssd(params->type, [&](auto storage) {
        WorkspaceParts workspace(nullptr);
        plan_ssd_backward<decltype(storage)>(*context, *params, workspace);
        *bytes = workspace.size();
        return success;
    });
}

} // namespace ssm
