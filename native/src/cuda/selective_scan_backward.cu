// selective_scan_backward: the gradients of selective_scan. With e_t = exp(s_t a), gy = grad_y silu(z) (twice that for
// complex states) and g_t, what the loss depends on h_t by: g_t = gy_t conj(c_t) + conj(e_{t+1}) g_{t+1}; then grad_b = s u
// g and grad_c = gy conj(h) for each channel, grad_a = sum of s w with w = g conj(e h_{t-1}), and s gets u Re(g conj(b)) +
// Re(w conj(a)).
//
// Work is laid out as in selective_scan: a block takes some channels of a group and one tile of time, its channels share one
// read of b and c, neighbouring lanes hold one channel, each with `steps` steps in registers. A first run goes forward and
// keeps the state at the start of every tile. The second goes back from tile to tile: for each state it computes decays and
// states again, folds g over the lanes from the right, and goes back through the registers with it. grad_b and grad_c are
// sums over channels: those of a warp by shuffles that halve what a lane holds, those of the warps in shared memory, those
// of the blocks from parts in the workspace by a small kernel of its own, as are the sums over batch elements and chunks.
// Each sum has one order; nothing is added atomically.
//
// Where batch and channels do not fill the device, time is cut into chunks, and a run before the others gives for each chunk
// and state the decay, the state from zero and what the chunk makes of g from zero.
//
// Bytes for an element of (B,D,L): 8 e (u in three times, dt twice, grad_y in, grad_u, grad_dt out), 3 e more with z (its
// gradient, and z read again for that); 8 N / tile for the kept states; for the parts of grad_b and grad_c 16 N / channels
// of a block. Operations: 2 N exponentials, about 20 N multiply-adds and 5 N shuffles, which are the limit.
//
// The workspace has N / tile numbers of the state type per element of u for kept states, at most one where N is up to 256,
// and at most 4 (or 16 blocks of channels') for grad_b and grad_c; the rest is of the size of the states.
#include "cuda/primitives/cuda.h"

#include "core/mutate.h"
#include "core/params/selective_scan_backward.h"
#include "cuda/context.h"
#include "cuda/primitives/launch.h"
#include "cuda/primitives/shared.h"
#include "cuda/primitives/warp.h"
#include "cuda/selective_scan.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

template <typename T, typename S>
struct SelectiveScanBackwardTraits {
    static constexpr bool complex = !std::is_floating_point<S>::value;
    static constexpr int threads = 128;
    // Of a multiprocessor, that registers must suffice for.
    static constexpr int blocks = std::is_same<Real<S>, float>::value ? 3 : 2;
    // Steps of a lane.
    static constexpr int steps = sizeof(S) == 4 ? 8 : sizeof(S) == 8 ? 4 : 2;
    static constexpr int staged = 2048 / static_cast<int>(sizeof(S)); // elements of S for b, and for c
};

template <typename S>
struct alignas(16) SelectiveScanBackwardStorage {
    static constexpr int staged = 2048 / static_cast<int>(sizeof(S));
    static constexpr int most_warps = 4;
    S b[staged]; // b and c also take u, dt, z, grad_y and gradients from thread to thread
    S c[staged];
    S sums[2][most_warps][staged]; // each warp's for b, and for c
    SelectiveScanItem work;
};

// What a run of the kernel does.
enum class SelectiveScanBackwardPhase : int32_t {
    summarize, // chunks from zero: decay, state and g of each
    keep,      // the state at the start of each tile
    gradients
};

// Arrays over (chunks,R) and channels have the channels last, which are neighbours in a warp.
template <typename S>
struct SelectiveScanBackwardArguments {
    SelectiveScanBackwardParams params;
    SelectiveScanBackwardPhase phase;
    int32_t lanes;  // of a channel, a power of two up to 32
    int32_t tile;   // steps, at most lanes * steps
    int64_t chunks; // of every sequence
    int64_t parts;  // of every group
    int64_t sets;   // blocks of channels of a part, which one block of threads does one after the other
    int64_t items;
    int64_t slots;    // tiles of a batch element
    S* kept;          // (B,slots,N,D)
    S* carried;       // (chunks,R,N,D): g between two tiles
    S* states;        // (chunks,R,N,D): what a chunk makes of zero; null for one chunk, as the next two
    S* adjoints;      // of g
    S* decays;        // what a chunk multiplies the state before it by
    S* sums_a;        // (chunks,R,N,D)
    S* sums_b;        // of constant b, else null
    S* sums_c;        // of constant c, else null
    Real<S>* sums_d;  // (chunks,R,D)
    Real<S>* sums_dt; // for grad_dt_bias
    S* parts_b;       // (parts,B,G,N,L) or (parts,B,G,L,N), null where it is not wanted
    S* parts_c;
    SequenceTable table;
};

// Re(x conj(y)) + sum
template <typename R>
SSM_DEVICE R add_inner(R x, R y, R sum) {
    return multiply_add(x, y, sum);
}
template <typename R>
SSM_DEVICE R add_inner(Complex<R> x, Complex<R> y, R sum) {
    return multiply_add(x.im, y.im, multiply_add(x.re, y.re, sum));
}
// factor x + y
template <typename R>
SSM_DEVICE R scaled_add(R factor, R x, R y) {
    return multiply_add(factor, x, y);
}
template <typename R>
SSM_DEVICE Complex<R> scaled_add(R factor, Complex<R> x, Complex<R> y) {
    return {multiply_add(factor, x.re, y.re), multiply_add(factor, x.im, y.im)};
}
SSM_DEVICE float expm1_of(float x) {
    return expm1f(x);
}
SSM_DEVICE double expm1_of(double x) {
    return expm1(x);
}
SSM_DEVICE float logistic(float x) {
    return 1.0f / (1.0f + expf(-x));
}
SSM_DEVICE double logistic(double x) {
    return 1.0 / (1.0 + exp(-x));
}

// ---- Kernel --------------------------------------------------------------------------------------------------------------

template <typename T, typename S>
struct SelectiveScanBackwardBlock : SelectiveScanTile<T, S, SelectiveScanBackwardTraits<T, S>::steps> {
    using Traits = SelectiveScanBackwardTraits<T, S>;
    using Tile = SelectiveScanTile<T, S, Traits::steps>;
    using R = typename Tile::R;
    using Storage = SelectiveScanBackwardStorage<S>;
    using Tile::channel;
    using Tile::exists;
    using Tile::lane;
    using Tile::lanes;
    using Tile::shape;
    using Tile::states;
    using Tile::steps;
    using Tile::width;
    using Tile::work;

    const SelectiveScanBackwardArguments<S>& arguments;
    const SelectiveScanBackwardParams& params;
    Storage& shared;

    SSM_DEVICE SelectiveScanBackwardBlock(const SelectiveScanBackwardArguments<S>& arguments, Storage& shared)
        : Tile(arguments.params.shape, arguments.params.type, arguments.params.groups, arguments.params.states,
               arguments.lanes, shared.work, reinterpret_cast<R*>(shared.b), arguments.table),
          arguments(arguments), params(arguments.params), shared(shared) {}

    SSM_DEVICE int64_t chunk_row(int64_t chunk) const { return chunk * state_rows(shape) + work.span.row; }
    // Of state n of this channel in (chunks,R,N,D).
    SSM_DEVICE int64_t chunk_index(int64_t chunk, int64_t n) const {
        return (chunk_row(chunk) * states + n) * shape.channels + channel();
    }
    // The first tile of the chunk among those of (B,slots,N,D).
    SSM_DEVICE int64_t first_slot() const {
        const int64_t before = shape.cu_seqlens ? work.span.begin / arguments.tile + work.span.row : 0;
        return work.span.batch * arguments.slots + before + work.begin / arguments.tile;
    }
    // The tile, whose slot would be `slot`. Of segments only a tile that begins within a sequence has one: the segment
    // before it is whole, so that since the tile before as many steps have passed as that has and one for each other, at
    // least.
    SSM_DEVICE int64_t slot_of(int64_t tile_begin, int64_t slot) const {
        if (!work.segments) {
            return slot;
        }
        return work.span.batch * arguments.slots +
               first_of_segment(work.segments[tile_begin / steps]) / kept_steps(arguments.tile);
    }
    static SSM_INLINE int64_t kept_steps(int64_t tile) { return steps + tile / steps - 1; }
    // For the whole block: the tile it is at, whose state has this slot. These numbers lie in shared memory, because
    // registers are what this kernel is short of.
    SSM_DEVICE void take_tile(int64_t tile_begin, int64_t slot) {
        __syncthreads(); // the tile before is done with
        if (threadIdx.x == 0) {
            work.tile_begin = tile_begin;
            work.slot = slot_of(tile_begin, slot);
        }
        __syncthreads();
    }
    SSM_DEVICE int64_t tile_begin() const { return *const_cast<const volatile int64_t*>(&work.tile_begin); }
    SSM_DEVICE int64_t slot() const { return *const_cast<const volatile int64_t*>(&work.slot); }

    // Whether a sequence begins with the tile.
    SSM_DEVICE bool tile_restarts(int64_t tile_begin) const {
        return work.segments && segment_restarts(work.segments[tile_begin / steps]);
    }
    SSM_DEVICE int64_t kept_index(int64_t slot, int64_t n) const { return (slot * states + n) * shape.channels + channel(); }
    // In (R,D,N).
    SSM_DEVICE int64_t state_index(int64_t n) const { return (work.span.row * shape.channels + channel()) * states + n; }

    SSM_DEVICE S rate(int64_t n) const {
        return exists ? static_cast<const S*>(params.a)[channel() * states + n] : number<S>(0);
    }
    // The state before the chunk.
    SSM_DEVICE S before_chunk(int64_t n) const {
        const S* initial = static_cast<const S*>(params.initial_state);
        S state = initial ? initial[state_index(n)] : number<S>(0);
        for (int64_t i = 0; i < SSM_MUTATE("selective_scan_backward.cuda.dropped_chunk", work.chunk, work.chunk - 1); ++i) {
            const int64_t index = chunk_index(i, n);
            state = this->passed_on(arguments.decays[index], state, arguments.states[index]);
        }
        return state;
    }
    // g behind the chunk: of the state that the chunk leaves.
    SSM_DEVICE S behind_chunk(int64_t n) const {
        const S* last = static_cast<const S*>(params.grad_last_state);
        S g = last ? last[state_index(n)] : number<S>(0);
        for (int64_t i = arguments.chunks - 1; i > work.chunk; --i) {
            const int64_t index = chunk_index(i, n);
            g = this->passed_on(conjugate(arguments.decays[index]), g, arguments.adjoints[index]);
        }
        return g;
    }

    // s and the sum of it.
    SSM_DEVICE R load_s(int64_t tile_begin, int tile_steps, R (&s)[steps]) {
        const R* bias = static_cast<const R*>(params.dt_bias);
        const R own_bias = bias && exists ? bias[channel()] : R(0);
        this->load(params.dt, tile_begin, tile_steps, s);
        const unsigned there = this->own_steps(tile_begin, tile_steps);
        R sum = 0;
#pragma unroll
        for (int i = 0; i < steps; ++i) {
            const R biased = s[i] + own_bias;
            s[i] = there >> i & 1 ? (params.dt_softplus ? softplus(biased) : biased) : R(0);
            sum += s[i];
        }
        return sum;
    }
    // grad_y silu(z), twice that where states are complex.
    SSM_DEVICE void load_gy(int64_t tile_begin, int tile_steps, R (&gy)[steps]) {
        this->load(params.grad_y, tile_begin, tile_steps, gy);
        if (params.z.data) {
            R z[steps];
            this->load(params.z, tile_begin, tile_steps, z);
#pragma unroll
            for (int i = 0; i < steps; ++i) {
                gy[i] *= silu(z[i]);
            }
        }
        if (Traits::complex) {
#pragma unroll
            for (int i = 0; i < steps; ++i) {
                gy[i] *= 2;
            }
        }
    }

    // For each group of states whose b and c are staged: f(first, count).
    template <typename Function>
    SSM_DEVICE void each_staged(bool wants_c, const Function& f) {
        const int staged_states = Traits::staged / (lanes * steps);
        for (int64_t first = 0; first < states; first += staged_states) {
            const int64_t tile_begin = this->tile_begin();
            const int tile_steps = steps_of(tile_begin);
            const int count = static_cast<int>(states - first < staged_states ? states - first : staged_states);
            if (!SSM_MUTATE("selective_scan_backward.cuda.missing_barrier", false, true)) {
                __syncthreads(); // the staged states before are done with
            }
            this->stage_restarts(tile_begin, tile_steps);
            if (!params.b.is_constant) {
                this->stage(params.b, first, count, tile_begin, tile_steps, shared.b);
            }
            if (!params.c.is_constant && wants_c) {
                this->stage(params.c, first, count, tile_begin, tile_steps, shared.c);
            }
            __syncthreads();
            f(first, count);
        }
    }

    // ---- Forward: the states between tiles.

    SSM_DEVICE void run_forward() {
        const bool summarizes = arguments.phase == SelectiveScanBackwardPhase::summarize;
        if (summarizes && exists && work.begin >= work.end) { // nothing to do
            for (int64_t n = lane; n < states; n += lanes) {
                const int64_t index = chunk_index(work.chunk, n);
                arguments.states[index] = number<S>(0);
                arguments.adjoints[index] = number<S>(0);
                arguments.decays[index] = number<S>(1);
            }
        }
        int64_t slot = first_slot();
        for (int64_t tile_begin = work.begin; tile_begin < work.end; tile_begin += arguments.tile, ++slot) {
            take_tile(tile_begin, slot);
            const int tile_steps = steps_of(tile_begin);
            R s[steps];
            R x[steps];
            R gy[steps];
            const R sum = load_s(tile_begin, tile_steps, s);
            this->load(params.u, tile_begin, tile_steps, x);
#pragma unroll
            for (int i = 0; i < steps; ++i) {
                x[i] *= s[i];
                gy[i] = 0;
            }
            if (summarizes) {
                load_gy(tile_begin, tile_steps, gy);
            }
            each_staged(summarizes, [&](int64_t first, int count) {
#pragma unroll 1
                for (int j = 0; j < count; ++j) {
                    carry(first + j, j, sum, s, x, gy);
                }
            });
        }
    }
    SSM_DEVICE int steps_of(int64_t tile_begin) const {
        return static_cast<int>(work.end - tile_begin < arguments.tile ? work.end - tile_begin : arguments.tile);
    }

    // One state through a tile.
    SSM_DEVICE void carry(int64_t n, int row_index, R sum, const R (&s)[steps], const R (&x)[steps],
                          const R (&gy)[steps]) const {
        const bool summarizes = arguments.phase == SelectiveScanBackwardPhase::summarize;
        const bool is_first = tile_begin() == work.begin;
        const int64_t index = exists ? chunk_index(work.chunk, n) : 0;
        const auto a = prepared(rate(n));
        S before = number<S>(0);
        const bool takes = exists && this->takes_state();
        if (takes && summarizes && !is_first) {
            before = arguments.states[index];
        } else if (takes && !summarizes) {
            before = is_first ? before_chunk(n) : arguments.kept[kept_index(slot(), n)];
        }
        S e[steps];
        S decayed = number<S>(1);
        S folded = number<S>(0);
        const S constant_b = this->constant_of(params.b, n);
#pragma unroll
        for (int i = 0; i < steps; i += width) {
            const Vector<S, width> b = this->read(params.b.is_constant, constant_b, shared.b, row_index, i);
#pragma unroll
            for (int k = 0; k < width; ++k) {
                e[i + k] = decay(a, s[i + k]);
                folded = multiply_add(e[i + k], folded, input_of(x[i + k], b[k]));
                if (Traits::complex) {
                    decayed = e[i + k] * decayed;
                }
            }
        }
        if constexpr (!Traits::complex) {
            decayed = decay(a, sum);
        }
        const S own_decayed = decayed;
        this->fold_lanes(decayed, folded);
        const S after = multiply_add(decayed, before, folded);
        if (!summarizes) {
            if (takes && is_first && lane == 0) {
                arguments.kept[kept_index(slot(), n)] = before;
            }
            const int64_t next = tile_begin() + arguments.tile;
            if (exists && lane == lanes - 1 && next < work.end && !tile_restarts(next)) {
                arguments.kept[kept_index(slot_of(next, slot() + 1), n)] = after;
            }
            return;
        }
        const S reaching = fold_back(n, row_index, own_decayed, e, gy, number<S>(0), nullptr);
        const S g = shuffle(reaching, 0, full_mask, lanes);
        if (exists && lane == lanes - 1) {
            arguments.states[index] = after;
            const S decayed_until = is_first ? number<S>(1) : arguments.decays[index];
            const S adjoint = is_first ? number<S>(0) : arguments.adjoints[index];
            const unsigned restarts = this->restarts();
            arguments.adjoints[index] =
                (restarts & 1) != 0 ? adjoint : this->passed_on(conjugate(decayed_until), g, adjoint);
            arguments.decays[index] = restarts != 0 ? number<S>(0) : decayed * decayed_until;
        }
    }

    // g before the lane's steps, where `behind` is g behind the tile; *entering becomes g behind the lane's steps. Nothing
    // comes from a lane that a sequence begins with, or from beyond it.
    SSM_DEVICE S fold_back(int64_t n, int row_index, S decayed, const S (&e)[steps], const R (&gy)[steps], S behind,
                           S* entering) const {
        const S constant_c = this->constant_of(params.c, n);
        S folded = number<S>(0);
#pragma unroll
        for (int i = steps - width; i >= 0; i -= width) {
            const Vector<S, width> c = this->read(params.c.is_constant, constant_c, shared.c, row_index, i);
#pragma unroll
            for (int k = width - 1; k >= 0; --k) {
                folded = conjugate(e[i + k]) * scaled_add(gy[i + k], conjugate(c[k]), folded);
            }
        }
        decayed = conjugate(decayed);
        const auto fold = [&](int reach) {
            for (int delta = 1; delta < lanes; delta *= 2) {
                const S decayed_behind = shuffle_down(decayed, delta, full_mask, lanes);
                const S folded_behind = shuffle_down(folded, delta, full_mask, lanes);
                if (reach >= delta) {
                    folded = multiply_add(decayed, folded_behind, folded);
                    decayed = decayed * decayed_behind;
                }
            }
        };
        if (!params.seq_idx) {
            fold(lanes - 1 - lane);
        } else {
            const int reach = this->lanes_behind(this->restarts());
            fold(SSM_MUTATE("selective_scan_backward.cuda.lanes_of_another", reach, lanes - 1 - lane));
            behind = lane + reach == lanes - 1 ? behind : number<S>(0);
        }
        if (entering) {
            const S decayed_behind = shuffle_down(decayed, 1, full_mask, lanes);
            const S folded_behind = shuffle_down(folded, 1, full_mask, lanes);
            *entering = lane == lanes - 1 ? behind : multiply_add(decayed_behind, behind, folded_behind);
            if (params.seq_idx && this->lanes_behind(this->restarts()) == 0) {
                *entering = behind;
            }
        }
        return multiply_add(decayed, behind, folded);
    }

    // ---- Backward.

    SSM_DEVICE void run_backward(bool adds) {
        const R* skip = static_cast<const R*>(params.d);
        const R own_skip = skip && exists ? skip[channel()] : R(0);
        constexpr R to_gy = Traits::complex ? R(0.5) : R(1);
        if (exists && work.begin >= work.end) { // nothing to do
            for (int64_t n = lane; n < states; n += lanes) {
                const int64_t index = chunk_index(work.chunk, n);
                arguments.sums_a[index] = number<S>(0);
                if (params.b.is_constant) {
                    arguments.sums_b[index] = number<S>(0);
                }
                if (params.c.is_constant) {
                    arguments.sums_c[index] = number<S>(0);
                }
                if (work.span.length == 0 && work.chunk == 0 && params.grad_initial_state) {
                    const S* last = static_cast<const S*>(params.grad_last_state);
                    static_cast<S*>(params.grad_initial_state)[state_index(n)] = last ? last[state_index(n)] : number<S>(0);
                }
            }
        }
        R sum_d = 0;
        R sum_dt = 0;
        const int64_t tiles = (work.end - work.begin + arguments.tile - 1) / arguments.tile;
        const int64_t last_tile = work.begin + (tiles - 1) * arguments.tile;
        for (int64_t at = last_tile; at >= work.begin; at = tile_begin() - arguments.tile) {
            take_tile(at, first_slot() + (at - work.begin) / arguments.tile);
            const int tile_steps = steps_of(at);
            R s[steps];
            R x[steps]; // u, then s u
            R gy[steps];
            R of_input[steps]; // sum over states of Re(g conj(b))
            R of_rate[steps];  // of Re(w conj(a))
            R y[steps];
            const R sum = load_s(at, tile_steps, s);
            this->load(params.u, at, tile_steps, x);
            load_gy(at, tile_steps, gy);
#pragma unroll
            for (int i = 0; i < steps; ++i) {
                of_input[i] = of_rate[i] = 0;
                y[i] = own_skip * x[i];
                x[i] *= s[i];
            }
            each_staged(true, [&](int64_t first, int count) {
#pragma unroll 1
                for (int j = 0; j < count; ++j) {
                    differentiate(first + j, j, sum, s, x, gy, of_input, of_rate, y);
                }
                if (arguments.parts_b || arguments.parts_c) {
                    __syncthreads();
                    add_warps(arguments.parts_b, 0, first, count, adds);
                    add_warps(arguments.parts_c, 1, first, count, adds);
                }
            });
            const int64_t own_begin = tile_begin();
            const int own_steps = steps_of(own_begin);
            R grad[steps];
            if (params.grad_z.data) {
                R z[steps];
                this->load(params.z, own_begin, own_steps, z);
                this->load(params.grad_y, own_begin, own_steps, grad);
#pragma unroll
                for (int i = 0; i < steps; ++i) {
                    const R sigmoid = logistic(z[i]);
                    grad[i] *= y[i] * (sigmoid * multiply_add(z[i], 1 - sigmoid, R(1)));
                }
                this->store(params.grad_z, own_begin, own_steps, grad);
            }
            const unsigned there = this->own_steps(own_begin, own_steps);
            // u again, which need not stay in registers for that long.
            this->load(params.u, own_begin, own_steps, x);
#pragma unroll
            for (int i = 0; i < steps; ++i) {
                const R own_gy = gy[i] * to_gy;
                sum_d = multiply_add(own_gy, x[i], sum_d);
                grad[i] = multiply_add(s[i], of_input[i], own_gy * own_skip);
                of_rate[i] = multiply_add(x[i], of_input[i], of_rate[i]);
                // The slope of softplus is 1 - exp(-s).
                of_rate[i] = params.dt_softplus ? of_rate[i] * -expm1_of(-s[i]) : of_rate[i];
                // What lies beyond the end is no step of this sequence.
                sum_dt += there >> i & 1 ? of_rate[i] : R(0);
            }
            if (params.grad_u.data) {
                this->store(params.grad_u, own_begin, own_steps, grad);
            }
            if (params.grad_dt.data) {
                this->store(params.grad_dt, own_begin,
                            SSM_MUTATE("selective_scan_backward.cuda.off_by_one_tail", own_steps, own_steps - 1), of_rate);
            }
        }
        sum_d = sum_of_lanes(sum_d);
        sum_dt = sum_of_lanes(sum_dt);
        if (exists && lane == 0) {
            const int64_t index = chunk_row(work.chunk) * shape.channels + channel();
            arguments.sums_d[index] = sum_d;
            arguments.sums_dt[index] = sum_dt;
        }
    }

    // Over the lanes of a channel.
    template <typename V>
    SSM_DEVICE V sum_of_lanes(V value) const {
        for (int delta = lanes / 2; delta > 0; delta /= 2) {
            value = value + shuffle_xor(value, delta);
        }
        return value;
    }

    // One state back through a tile.
    SSM_DEVICE void differentiate(int64_t n, int row_index, R sum, const R (&s)[steps], const R (&x)[steps],
                                  const R (&gy)[steps], R (&of_input)[steps], R (&of_rate)[steps], R (&y)[steps]) const {
        const bool is_last = tile_begin() + arguments.tile >= work.end;
        const int64_t index = exists ? chunk_index(work.chunk, n) : 0;
        const auto a = prepared(rate(n));
        S before = number<S>(0);
        S behind = number<S>(0);
        if (exists) {
            if (this->takes_state()) {
                before = arguments.kept[kept_index(slot(), n)];
            }
            behind = is_last ? behind_chunk(n)
                             : SSM_MUTATE("selective_scan_backward.cuda.dropped_carry", arguments.carried[index], S{});
        }
        S e[steps];
        S h[steps]; // what a step adds, then the state after it
        S decayed = number<S>(1);
        S folded = number<S>(0);
        const S constant_b = this->constant_of(params.b, n);
        const S constant_c = this->constant_of(params.c, n);
#pragma unroll
        for (int i = 0; i < steps; i += width) {
            const Vector<S, width> b = this->read(params.b.is_constant, constant_b, shared.b, row_index, i);
#pragma unroll
            for (int k = 0; k < width; ++k) {
                e[i + k] = decay(a, s[i + k]);
                h[i + k] = input_of(x[i + k], b[k]);
                folded = multiply_add(e[i + k], folded, h[i + k]);
                if (Traits::complex) {
                    decayed = e[i + k] * decayed;
                }
            }
        }
        if constexpr (!Traits::complex) {
            decayed = decay(a, sum);
        }
        const S own_decayed = decayed;
        this->fold_lanes(decayed, folded);
        const S start = this->state_before(decayed, folded, before);

        // Forward through the states, and what each gives to its c.
        S given[steps];
        S state = start;
#pragma unroll
        for (int i = 0; i < steps; i += width) {
            const Vector<S, width> c = this->read(params.c.is_constant, constant_c, shared.c, row_index, i);
#pragma unroll
            for (int k = 0; k < width; ++k) {
                state = multiply_add(e[i + k], state, h[i + k]);
                h[i + k] = state;
                y[i + k] = add_output(state, c[k], y[i + k]);
                given[i + k] = gy[i + k] * conjugate(state);
            }
        }
        give(params.c.is_constant, arguments.sums_c, arguments.parts_c, 1, index, row_index, is_last, given);

        // Back, with what reaches the lane's last step.
        S g;
        S before_steps = fold_back(n, row_index, own_decayed, e, gy, behind, &g);
        if (SSM_MUTATE("selective_scan_backward.cuda.gradient_crosses_restart",
                       params.seq_idx && (this->restarts() & 1) != 0, false)) {
            before_steps = number<S>(0);
        }
        S grad_a = number<S>(0);
        const S rate_again = rate(n); // from the cache: registers are what this kernel is short of
#pragma unroll
        for (int i = steps - width; i >= 0; i -= width) {
            const Vector<S, width> b = this->read(params.b.is_constant, constant_b, shared.b, row_index, i);
            const Vector<S, width> c = this->read(params.c.is_constant, constant_c, shared.c, row_index, i);
#pragma unroll
            for (int k = width - 1; k >= 0; --k) {
                const int own = i + k;
                g = scaled_add(gy[own], SSM_MUTATE("selective_scan_backward.cuda.conjugate", conjugate(c[k]), c[k]), g);
                given[own] = x[own] * g;
                of_input[own] = add_inner(g, b[k], of_input[own]);
                const S decayed_state = e[own] * (own == 0 ? start : h[own == 0 ? 0 : own - 1]);
                const S w = g * conjugate(decayed_state);
                grad_a = scaled_add(s[own], w, grad_a);
                of_rate[own] = add_inner(w, rate_again, of_rate[own]);
                g = conjugate(e[own]) * g;
            }
        }
        give(params.b.is_constant, arguments.sums_b, arguments.parts_b, 0, index, row_index, is_last, given);
        grad_a = sum_of_lanes(grad_a);
        if (exists && lane == 0) {
            arguments.sums_a[index] = is_last ? grad_a : arguments.sums_a[index] + grad_a;
            if (tile_begin() > work.begin) {
                arguments.carried[index] = before_steps;
            } else if (work.chunk == 0 && params.grad_initial_state) {
                static_cast<S*>(params.grad_initial_state)[state_index(n)] = before_steps;
            }
        }
    }

    // Two lanes that hold the same `count` steps of different channels give each other half of them, and so on.
    template <int count>
    SSM_DEVICE void halve(S (&values)[steps], int& mask, int& first, int& held) const {
        if constexpr (count > 1) {
            constexpr int half = count / 2;
            if (mask >= lanes) {
                const bool upper = (threadIdx.x & static_cast<unsigned>(mask)) != 0;
#pragma unroll
                for (int i = 0; i < half; ++i) {
                    // Values, because the choice of one of two elements would be an address.
                    const S low = values[i];
                    const S high = values[i + half];
                    const S sent = upper ? low : high;
                    const S own = upper ? high : low;
                    values[i] = own + shuffle_xor(sent, mask);
                }
                first += upper ? half : 0;
                held = half;
                mask /= 2;
                halve<half>(values, mask, first, held);
            }
        }
    }

    // What the steps give to b (which = 0) or c (1): summed over time where that is constant, else over the channels of the
    // warp into shared memory.
    SSM_DEVICE void give(bool is_constant, S* sums, const S* parts, int which, int64_t index, int row_index, bool is_last,
                         S (&values)[steps]) const {
        if (is_constant) {
            S sum = values[0];
#pragma unroll
            for (int i = 1; i < steps; ++i) {
                sum = sum + values[i];
            }
            sum = sum_of_lanes(sum);
            if (exists && lane == 0) {
                sums[index] = is_last ? sum : sums[index] + sum;
            }
            return;
        }
        if (!parts) {
            return;
        }
        // In the end each has the sum of all channels for few steps, or for one that others have too.
        int first = 0;
        int held = steps;
        int mask = warp_size / 2;
        halve<steps>(values, mask, first, held);
        bool writes = true;
        for (; mask >= lanes; mask /= 2) {
            values[0] = values[0] + shuffle_xor(values[0], mask);
            writes = writes && (threadIdx.x & static_cast<unsigned>(mask)) == 0;
        }
        S* const to = shared.sums[which][warp_id()] + row_index * (lanes * steps) + lane * steps + first;
#pragma unroll
        for (int i = 0; i < steps; ++i) {
            if (i < held && writes) {
                to[i] = values[i];
            }
        }
    }

    // The sums of the warps into the block's part.
    SSM_DEVICE void add_warps(S* part, int which, int64_t first, int count, bool adds) const {
        const int64_t tile_begin = this->tile_begin();
        const int tile_steps = steps_of(tile_begin);
        if (!part) {
            return;
        }
        const int row = lanes * steps;
        const int threads = static_cast<int>(blockDim.x);
        const int warps = threads / warp_size;
        const bool by_time = shape.layout == Layout::time_contiguous;
        const int64_t own_part =
            (work.first_channel - work.group * (shape.channels / this->groups)) / (arguments.sets * (threads / lanes));
        S* const to =
            part + ((own_part * shape.batch + work.span.batch) * this->groups + work.group) * states * shape.length;
        for (int i = static_cast<int>(threadIdx.x); i < count * row; i += threads) {
            const int n = by_time ? i / row : i % count;
            const int step = by_time ? i % row : i / count;
            const int64_t own = step < tile_steps ? this->time_of(tile_begin, step) : -1;
            if (own >= 0) {
                const int64_t time = work.span.begin + own;
                S sum = shared.sums[which][0][n * row + step];
                const int all = SSM_MUTATE("selective_scan_backward.cuda.dropped_warp", warps, 1);
                for (int warp = 1; warp < all; ++warp) {
                    sum = sum + shared.sums[which][warp][n * row + step];
                }
                S& place = to[by_time ? (first + n) * shape.length + time : time * states + first + n];
                place = adds ? place + sum : sum;
            }
        }
    }
};

template <typename T, typename S>
__global__ void __launch_bounds__(SelectiveScanBackwardTraits<T, S>::threads, SelectiveScanBackwardTraits<T, S>::blocks)
    selective_scan_backward_kernel(SelectiveScanBackwardArguments<S> arguments) {
    SelectiveScanBackwardBlock<T, S> block(arguments, SSM_SHARED(SelectiveScanBackwardStorage<S>));
    for (int64_t item = blockIdx.x; item < arguments.items; item += gridDim.x) {
        block.take(item, arguments.parts, arguments.sets, arguments.chunks, arguments.tile);
        for (int64_t set = 0; set < arguments.sets; ++set) {
            if (set > 0) {
                block.take_next_channels();
            }
            if (arguments.phase == SelectiveScanBackwardPhase::gradients) {
                block.run_backward(set > 0);
            } else {
                block.run_forward();
            }
        }
    }
}

// A gradient of four dimensions from `rows` summands of it, each compact.
template <typename T>
struct SelectiveScanSum {
    const Compute<T>* from;
    int64_t rows;
    T* to;
    int64_t shape[4];
    int64_t strides[4];
};
template <typename T>
struct SelectiveScanSums {
    static constexpr int most = 5;
    SelectiveScanSum<T> sums[most]; // one for each row of the grid
};
constexpr int selective_scan_sum_threads = 256;

template <typename T>
__global__ void __launch_bounds__(selective_scan_sum_threads)
    selective_scan_backward_sum_kernel(SelectiveScanSums<T> arguments) {
    const SelectiveScanSum<T>& own = arguments.sums[blockIdx.y];
    const int64_t numbers = own.shape[0] * own.shape[1] * own.shape[2] * own.shape[3];
    const int64_t stride = static_cast<int64_t>(gridDim.x) * selective_scan_sum_threads;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * selective_scan_sum_threads + threadIdx.x; i < numbers; i += stride) {
        Compute<T> sum = own.from[i];
        for (int64_t row = 1; row < SSM_MUTATE("selective_scan_backward.cuda.dropped_row", own.rows, 1); ++row) {
            sum = sum + own.from[row * numbers + i];
        }
        int64_t rest = i;
        int64_t place = 0;
#pragma unroll
        for (int axis = 3; axis >= 0; --axis) {
            const int64_t outer = rest / own.shape[axis];
            place += (rest - outer * own.shape[axis]) * own.strides[axis];
            rest = outer;
        }
        own.to[place] = narrow<T>(sum);
    }
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

struct SelectiveScanBackwardPlan {
    int threads = 0;
    int32_t lanes = 0;
    int32_t tile = 0;
    int64_t chunks = 1;
    int64_t parts = 0;
    int64_t sets = 0;
    int64_t items = 0;
    int64_t slots = 0;
};

// selective_scan_backward.path: the number of chunks, 0 chosen here. The plan depends on the shape and the device alone.
template <typename T, typename S>
SelectiveScanBackwardPlan plan_backward(const BackendContext& context, const SelectiveScanBackwardParams& params) {
    using Traits = SelectiveScanBackwardTraits<T, S>;
    const SequenceShape& shape = params.shape;
    const int64_t rows = shape.state_rows();
    const int64_t typical = shape.cu_seqlens ? ceil_divide(shape.length, rows > 0 ? rows : 1) : shape.length;
    const int64_t channels = rows * shape.channels;
    const int64_t wanted = static_cast<int64_t>(context.multiprocessors) * 384; // threads
    SelectiveScanBackwardPlan plan;
    // More lanes for a channel: more threads at work, and fewer kept states, at the price of longer shuffles. No more than a
    // sequence has use for.
    plan.lanes = 4;
    while (plan.lanes < warp_size && plan.lanes * Traits::steps < typical &&
           (channels * plan.lanes < wanted || plan.lanes * Traits::steps < params.states)) {
        plan.lanes *= 2;
    }
    plan.tile = plan.lanes * Traits::steps;
    const int64_t tile = context.options.get("selective_scan_backward.tile");
    if (tile > 0 && tile < plan.tile) {
        plan.tile = static_cast<int32_t>(tile);
    }
    if (params.seq_idx) { // whole segments
        plan.tile = static_cast<int32_t>(ceil_divide(plan.tile, Traits::steps)) * Traits::steps;
    }
    plan.slots = params.seq_idx ? ceil_divide(shape.length, Traits::steps + plan.tile / Traits::steps - 1)
                                : slot_count(shape, plan.tile);
    // Chunks cost a third run, so fewer than four are no gain.
    const int64_t tiles = ceil_divide(typical, plan.tile);
    const int64_t idle = channels > 0 ? wanted / (channels * plan.lanes) : 0;
    plan.chunks = idle >= 4 ? (idle < 64 ? idle : 64) : 1;
    if (context.options.get("selective_scan_backward.path") > 0) {
        plan.chunks = context.options.get("selective_scan_backward.path");
    }
    plan.chunks = plan.chunks < tiles ? plan.chunks : tiles;
    plan.chunks = plan.chunks > 1 ? plan.chunks : 1;
    // As many channels of a group in a block as there are, up to the block's threads.
    const int64_t per_group = shape.channels / params.groups;
    plan.threads = warp_size;
    while (plan.threads < Traits::threads && plan.threads / plan.lanes < per_group) {
        plan.threads *= 2;
    }
    // Parts of grad_b and grad_c, 2 N numbers for each step: no more than 4 for each element of u, but 8 blocks' in any
    // case.
    const int64_t blocks = ceil_divide(per_group, plan.threads / plan.lanes);
    const int64_t allowed = params.states > 0 ? 2 * per_group / params.states : blocks;
    const int64_t most = allowed > 8 ? allowed : 8;
    plan.sets = ceil_divide(blocks, blocks < most ? blocks : most);
    plan.parts = ceil_divide(blocks, plan.sets);
    plan.items = rows * plan.chunks * params.groups * plan.parts;
    return plan;
}

bool wants_parts(const StateSequence& input, const StateSequence& gradient) {
    return gradient.data && !input.is_constant;
}

template <typename T, typename S>
SelectiveScanBackwardArguments<S> make_arguments(const SelectiveScanBackwardPlan& plan,
                                                 const SelectiveScanBackwardParams& params, WorkspaceParts& parts) {
    const SequenceShape& shape = params.shape;
    const int64_t chunk_rows = plan.chunks * shape.state_rows();
    const int64_t states = chunk_rows * shape.channels * params.states;
    const int64_t sums = plan.parts * shape.batch * params.groups * params.states * shape.length;
    SelectiveScanBackwardArguments<S> arguments{};
    arguments.params = params;
    arguments.lanes = plan.lanes;
    arguments.tile = plan.tile;
    arguments.chunks = plan.chunks;
    arguments.parts = plan.parts;
    arguments.sets = plan.sets;
    arguments.items = plan.items;
    arguments.slots = plan.slots;
    arguments.kept = parts.take<S>(shape.batch * plan.slots * shape.channels * params.states);
    arguments.carried = parts.take<S>(states);
    if (plan.chunks > 1) {
        arguments.states = parts.take<S>(states);
        arguments.adjoints = parts.take<S>(states);
        arguments.decays = parts.take<S>(states);
    }
    arguments.sums_a = parts.take<S>(states);
    if (params.b.is_constant) {
        arguments.sums_b = parts.take<S>(states);
    }
    if (params.c.is_constant) {
        arguments.sums_c = parts.take<S>(states);
    }
    arguments.sums_d = parts.take<Real<S>>(chunk_rows * shape.channels);
    arguments.sums_dt = parts.take<Real<S>>(chunk_rows * shape.channels);
    if (wants_parts(params.b, params.grad_b)) {
        arguments.parts_b = parts.take<S>(sums);
    }
    if (wants_parts(params.c, params.grad_c)) {
        arguments.parts_c = parts.take<S>(sums);
    }
    arguments.table = take_sequence_table(shape, params.seq_idx, parts);
    return arguments;
}

// The gradients of one type that are sums of what the kernel left.
template <typename T>
class SelectiveScanSumList {
  public:
    using Number = Compute<T>;

    // (rows,1,1,N,D) to (D,N), which may be null.
    void add_states(const Number* from, int64_t rows, void* to, int64_t states, int64_t channels) {
        add({from, rows, static_cast<T*>(to), {1, 1, states, channels}, {0, 0, 1, states}});
    }
    void add_channels(const Number* from, int64_t rows, void* to, int64_t channels) {
        add({from, rows, static_cast<T*>(to), {1, 1, 1, channels}, {0, 0, 0, 1}});
    }
    // (parts,B,G,N,L) or (parts,B,G,L,N) to (B,G,N,L)
    void add_sequence(const Number* from, int64_t parts, const StateSequence& to,
                      const SelectiveScanBackwardParams& params) {
        const SequenceShape& shape = params.shape;
        if (shape.layout == Layout::time_contiguous) {
            add({from,
                 parts,
                 static_cast<T*>(to.data),
                 {shape.batch, params.groups, params.states, shape.length},
                 {to.batch_stride, to.group_stride, to.state_stride, to.time_stride}});
        } else {
            add({from,
                 parts,
                 static_cast<T*>(to.data),
                 {shape.batch, params.groups, shape.length, params.states},
                 {to.batch_stride, to.group_stride, to.time_stride, to.state_stride}});
        }
    }

    cudaError_t run(cudaStream_t stream) const {
        if (count == 0) {
            return cudaSuccess;
        }
        const int64_t blocks = ceil_divide(most_numbers, selective_scan_sum_threads);
        const dim3 grid(static_cast<unsigned>(blocks < 65536 ? blocks : 65536), static_cast<unsigned>(count));
        return launch(selective_scan_backward_sum_kernel<T>, grid, dim3(selective_scan_sum_threads), 0, stream, list);
    }

  private:
    SelectiveScanSums<T> list{};
    int count = 0;
    int64_t most_numbers = 0;

    void add(const SelectiveScanSum<T>& sum) {
        const int64_t numbers = sum.shape[0] * sum.shape[1] * sum.shape[2] * sum.shape[3];
        if (!sum.to || !sum.from || numbers == 0) {
            return;
        }
        list.sums[count++] = sum;
        most_numbers = numbers > most_numbers ? numbers : most_numbers;
    }
};

template <typename T, typename S>
cudaError_t add_up(const BackendContext& context, const SelectiveScanBackwardArguments<S>& arguments) {
    using R = Real<S>;
    using StateInput = typename SelectiveScanTile<T, S, 1>::StateInput;
    const SelectiveScanBackwardParams& params = arguments.params;
    const int64_t rows = arguments.chunks * params.shape.state_rows();
    const int64_t channels = params.shape.channels;
    SelectiveScanSumList<R> of_channels;
    of_channels.add_channels(arguments.sums_d, rows, params.grad_d, channels);
    of_channels.add_channels(arguments.sums_dt, rows, params.grad_dt_bias, channels);
    const auto add_states = [&](SelectiveScanSumList<S>& list) {
        list.add_states(arguments.sums_a, rows, params.grad_a, params.states, channels);
        list.add_states(arguments.sums_b, rows, params.b.is_constant ? params.grad_b.data : nullptr, params.states,
                        channels);
        list.add_states(arguments.sums_c, rows, params.c.is_constant ? params.grad_c.data : nullptr, params.states,
                        channels);
    };
    const auto add_sequences = [&](SelectiveScanSumList<StateInput>& list) {
        list.add_sequence(arguments.parts_b, arguments.parts, params.grad_b, params);
        list.add_sequence(arguments.parts_c, arguments.parts, params.grad_c, params);
    };
    // One launch for each type there is.
    cudaError_t error = cudaSuccess;
    if constexpr (std::is_same<S, R>::value) {
        add_states(of_channels);
    } else {
        SelectiveScanSumList<S> of_states;
        add_states(of_states);
        add_sequences(of_states);
        error = of_states.run(context.stream);
    }
    if constexpr (std::is_same<StateInput, R>::value) {
        add_sequences(of_channels);
    } else if constexpr (std::is_same<S, R>::value) {
        SelectiveScanSumList<StateInput> of_sequences;
        add_sequences(of_sequences);
        error = of_sequences.run(context.stream);
    }
    return error == cudaSuccess ? of_channels.run(context.stream) : error;
}

template <typename T, typename S>
int32_t run_selective_scan_backward(BackendContext* context, const SelectiveScanBackwardParams& params) {
    using Traits = SelectiveScanBackwardTraits<T, S>;
    using Storage = SelectiveScanBackwardStorage<S>;
    const SelectiveScanBackwardPlan plan = plan_backward<T, S>(*context, params);
    if (plan.items == 0) {
        return success;
    }
    WorkspaceParts parts(params.workspace.data);
    SelectiveScanBackwardArguments<S> arguments = make_arguments<T, S>(plan, params, parts);
    if (parts.size() > params.workspace.bytes) {
        return fail(error_workspace_too_small,
                    "selective_scan_backward: the workspace is smaller than the workspace function says");
    }
    static_assert(Traits::threads * Traits::steps * sizeof(Compute<T>) <= 2 * Storage::staged * sizeof(S),
                  "what goes from thread to thread passes through the memory of b and c");
    static_assert(Traits::threads <= Storage::most_warps * warp_size && warp_size * Traits::steps <= Storage::staged,
                  "every warp has its sums, and a state of the longest tile has room");
    const int64_t most = int64_t{1} << 30;
    const dim3 grid(static_cast<unsigned>(plan.items < most ? plan.items : most));
    const dim3 block(static_cast<unsigned>(plan.threads));
    static_assert(Traits::steps <= most_segment_steps, "a segment has a bit for each of its steps");
    cudaError_t error = fill_sequence_table(*context, params.shape, params.seq_idx, arguments.table, Traits::steps);
    for (const SelectiveScanBackwardPhase phase :
         {SelectiveScanBackwardPhase::summarize, SelectiveScanBackwardPhase::keep, SelectiveScanBackwardPhase::gradients}) {
        if (error != cudaSuccess || (phase == SelectiveScanBackwardPhase::summarize && plan.chunks == 1)) {
            continue;
        }
        arguments.phase = phase;
        error = launch(selective_scan_backward_kernel<T, S>, grid, block, sizeof(Storage), context->stream, arguments);
    }
    if (error == cudaSuccess) {
        error = add_up<T, S>(*context, arguments);
    }
    for (const Sequence* gradient : {&params.grad_u, &params.grad_dt, &params.grad_z}) {
        if (error == cudaSuccess) {
            error = clear_padding(*context, params.shape, params.seq_idx, *gradient, size_of(params.type));
        }
    }
    for (const StateSequence* gradient : {&params.grad_b, &params.grad_c}) {
        using StateInput = typename SelectiveScanTile<T, S, 1>::StateInput;
        if (error == cudaSuccess) {
            error = clear_padding(*context, params.shape, params.seq_idx, *gradient, params.groups, params.states,
                                  static_cast<int64_t>(sizeof(StateInput)));
        }
    }
    return status_of(error, "selective_scan_backward");
}

template <typename T, typename S>
int32_t selective_scan_backward_bytes(BackendContext* context, const SelectiveScanBackwardParams& params, uint64_t* bytes) {
    WorkspaceParts parts(nullptr);
    make_arguments<T, S>(plan_backward<T, S>(*context, params), params, parts);
    *bytes = parts.size();
    return success;
}

} // namespace

int32_t selective_scan_backward(BackendContext* context, const SelectiveScanBackwardParams* params) {
    return dispatch_selective_scan(*params, [&](auto storage, auto state) {
        return run_selective_scan_backward<decltype(storage), decltype(state)>(context, *params);
    });
}

int32_t selective_scan_backward_workspace(BackendContext* context, const SelectiveScanBackwardParams* params,
                                          uint64_t* bytes) {
    return dispatch_selective_scan(*params, [&](auto storage, auto state) {
        return selective_scan_backward_bytes<decltype(storage), decltype(state)>(context, *params, bytes);
    });
}

} // namespace ssm
