// What the kernels of selective_scan and of its gradients share: the exponentials, and how a tile of a block of channels
// comes and goes.
#pragma once

#include "cuda/primitives/cuda.h"

#include "core/mutate.h"
#include "core/params.h"
#include "cuda/context.h"
#include "cuda/primitives/math.h"
#include "cuda/primitives/numbers.h"
#include "cuda/primitives/sequence.h"
#include "cuda/primitives/storage.h"
#include "cuda/primitives/vector.h"
#include "cuda/primitives/warp.h"
#include "cuda/sequence_ids.h"

namespace ssm {
namespace {

// What a block works on.
struct SelectiveScanItem {
    Span span;
    int64_t group;
    int64_t first_channel; // of the block
    int64_t end_channel;   // of the group
    int64_t chunk;
    int64_t begin; // of the chunk
    int64_t end;
    const int64_t* segments; // of the row, where seq_idx is given
    int64_t tile_begin;      // of the tile that the block is at, in the gradients
    int64_t slot;            // of its state
    unsigned restarts;       // of the tile: a bit for each lane of a channel that a sequence begins with
};

// `a` as decay takes it. A float is multiplied by log2(e).
SSM_DEVICE float prepared(float a) {
    return a * 1.44269504088896340736f;
}
SSM_DEVICE double prepared(double a) {
    return a;
}
// A phase is counted in half turns, whose reduction is exact, and the imaginary part over pi kept in two parts: phases of
// many steps add up, and the rounding errors of one part alone with them.
template <typename R>
struct PreparedComplex {
    R re;
    R im;
    R im_rest;
};
template <typename R>
SSM_DEVICE PreparedComplex<R> prepared(Complex<R> a) {
    constexpr R inverse_pi = R(0.318309886183790671538);
    constexpr R rest = sizeof(R) == 4 ? R(1.2841276633451622e-8) : R(-1.967867667518248588e-17);
    const R im = a.im * inverse_pi;
    return {prepared(a.re), im, multiply_add(a.im, inverse_pi, -im) + a.im * rest};
}

// exp(s a)
SSM_DEVICE float decay(float a, float s) {
    return fast_exp2(a * s);
}
SSM_DEVICE double decay(double a, double s) {
    return exp(a * s);
}
// The same without the special-function unit, where the type has such a way.
SSM_DEVICE float polynomial_decay(float a, float s) {
    return polynomial_exp2(a * s);
}
template <typename A, typename R>
SSM_DEVICE auto polynomial_decay(A a, R s) {
    return decay(a, s);
}
template <typename R>
SSM_DEVICE Complex<R> decay(PreparedComplex<R> a, R s) {
    const R modulus = decay(a.re, s);
    const R phase = a.im * s;
    const R rest = R(3.14159265358979323846) * multiply_add(a.im_rest, s, multiply_add(a.im, s, -phase));
    R sine;
    R cosine;
    sincos_pi(phase, sine, cosine);
    return {modulus * multiply_add(-rest, sine, cosine), modulus * multiply_add(rest, cosine, sine)};
}

// h . c, or 2 Re(h . c) for complex states.
template <typename R>
SSM_DEVICE R add_output(R h, R c, R y) {
    return multiply_add(h, c, y);
}
template <typename R>
SSM_DEVICE R add_output(Complex<R> h, Complex<R> c, R y) {
    return multiply_add(-2 * h.im, c.im, multiply_add(2 * h.re, c.re, y));
}

// h = e h + x b
template <typename R>
SSM_DEVICE R input_of(R x, R b) {
    return x * b;
}
template <typename R>
SSM_DEVICE Complex<R> input_of(R x, Complex<R> b) {
    return {x * b.re, x * b.im};
}

// What follows a piece whose map is (decay, left), after `before`. A decay of zero passes nothing on, not even NaN.
SSM_DEVICE bool is_nothing(float decay) {
    return decay == 0;
}
SSM_DEVICE bool is_nothing(double decay) {
    return decay == 0;
}
template <typename R>
SSM_DEVICE bool is_nothing(Complex<R> decay) {
    return decay.re == 0 && decay.im == 0;
}

// Where step `step` of the tile lies in a row of staged b or c: lanes read `width` elements at once, side by side.
template <int steps, int width>
SSM_DEVICE int staged_position(int step, int lanes) {
    const int lane = step / steps;
    const int own = step % steps;
    return (own / width * lanes + lane) * width + own % width;
}

// A block of threads takes some channels of a group, `lanes` neighbouring threads for each, of which each has `steps_` steps
// of a tile. T: storage of u, dt, z, y, where states are complex any of their precision. S: states, a compute type, real or
// complex.
//
// With seq_idx time is that of the segments in the table: a lane has a segment, whose steps stand for `steps` of time
// whatever their number, and those that are none are taken for steps with s = 0. A sequence begins with a lane, so that what
// a lane does with its steps is the same; only what goes from lane to lane and from tile to tile stops there.
template <typename T, typename S, int steps_>
struct SelectiveScanTile {
    using R = Compute<T>;
    using StateInput = std::conditional_t<std::is_floating_point<S>::value, T, S>; // b and c of each step
    static constexpr int steps = steps_;
    static constexpr int width = vector_elements<S> < steps ? vector_elements<S> : steps; // that a lane reads at once

    const SequenceShape& shape;
    const DataType storage;
    const int64_t groups;
    const int64_t states;
    SelectiveScanItem& work;
    R* const transit; // shared, a number for each step of each thread: what goes from thread to thread
    const SequenceTable& table;

    // The thread's place: channel, and which steps of a tile.
    int lanes;
    int lane;        // among those of its channel
    int own_channel; // in the block
    bool exists;

    SSM_DEVICE SelectiveScanTile(const SequenceShape& shape, DataType storage, int64_t groups, int64_t states, int lanes,
                                 SelectiveScanItem& work, R* transit, const SequenceTable& table)
        : shape(shape), storage(storage), groups(groups), states(states), work(work), transit(transit), table(table),
          lanes(lanes) {
        lane = static_cast<int>(threadIdx.x) & (lanes - 1);
        own_channel = static_cast<int>(threadIdx.x) / lanes;
    }

    // For the whole block: a sequence, a chunk of it, a group and a part of its channels, as many as there are in the block
    // `sets` times. The item lies in shared memory, because few of its numbers are needed at a time.
    SSM_DEVICE void take(int64_t item, int64_t parts, int64_t sets, int64_t chunks, int64_t tile) {
        __syncthreads(); // the item before is done with
        if (threadIdx.x == 0) {
            const int64_t per_group = shape.channels / groups;
            int64_t rest = item / parts;
            const int64_t part = item - rest * parts;
            const int64_t group_row = rest;
            rest = group_row / groups;
            work.group = group_row - rest * groups;
            const int64_t state_row = rest / chunks;
            work.chunk = rest - state_row * chunks;
            work.span = span_of_row(shape, state_row);
            work.segments = table.row(work.span.batch);
            work.restarts = 0;
            if (work.segments) {
                work.span.length = table.counts[work.span.batch] * steps;
            }
            const int64_t length = work.span.length;
            const int64_t tiles = (length + tile - 1) / tile;
            const int64_t chunk_steps = (tiles + chunks - 1) / chunks * tile;
            work.begin = work.chunk * chunk_steps < length ? work.chunk * chunk_steps : length;
            work.end = work.begin + chunk_steps < length ? work.begin + chunk_steps : length;
            work.end_channel = (work.group + 1) * per_group;
            work.first_channel = work.group * per_group + part * sets * (static_cast<int>(blockDim.x) / lanes);
        }
        __syncthreads();
        exists = channel() < work.end_channel;
    }

    // For the whole block: the channels behind those it has.
    SSM_DEVICE void take_next_channels() {
        __syncthreads();
        if (threadIdx.x == 0) {
            work.first_channel += static_cast<int>(blockDim.x) / lanes;
        }
        __syncthreads();
        exists = channel() < work.end_channel;
    }

    // Read where it is wanted: registers are short.
    SSM_DEVICE int64_t channel() const { return *const_cast<const volatile int64_t*>(&work.first_channel) + own_channel; }

    SSM_DEVICE int64_t offset(const Sequence& sequence, int64_t at_channel, int64_t step) const {
        return work.span.batch * sequence.batch_stride + at_channel * sequence.channel_stride +
               (work.span.begin + step) * sequence.time_stride;
    }

    // A bit for each step of the thread that is one.
    SSM_DEVICE unsigned own_steps(int64_t tile_begin, int tile_steps) const {
        const int left = tile_steps - lane * steps;
        if (left <= 0) {
            return 0;
        }
        if (work.segments) {
            return steps_of_segment(work.segments[tile_begin / steps + lane]);
        }
        return left < steps ? (1u << left) - 1 : (1u << steps) - 1;
    }
    // The thread's first step, where it has one.
    SSM_DEVICE int64_t own_first(int64_t tile_begin, int tile_steps) const {
        if (!work.segments) {
            return tile_begin + lane * steps;
        }
        return lane * steps < tile_steps ? first_of_segment(work.segments[tile_begin / steps + lane]) : 0;
    }
    // Where step `step` of the tile is in time; negative where it is none.
    SSM_DEVICE int64_t time_of(int64_t tile_begin, int step) const {
        if (!work.segments) {
            return tile_begin + step;
        }
        const int64_t segment = work.segments[tile_begin / steps + step / steps];
        return steps_of_segment(segment) >> (step % steps) & 1 ? first_of_segment(segment) + step % steps : -1;
    }
    // What restarts() is to give for the tile: for the whole block, between barriers. It lies in shared memory, because
    // registers are short, and stays zero without segments.
    SSM_DEVICE void stage_restarts(int64_t tile_begin, int tile_steps) {
        if (work.segments && warp_id() == 0) {
            const bool is_own = lane_id() < lanes && lane_id() * steps < tile_steps;
            const unsigned restarts = warp_ballot(is_own && segment_restarts(work.segments[tile_begin / steps + lane_id()]));
            if (lane_id() == 0) {
                work.restarts = restarts;
            }
        }
    }
    SSM_DEVICE unsigned restarts() const { return *const_cast<const volatile unsigned*>(&work.restarts); }
    // Lanes before this one from which something reaches it: back to where its sequence begins.
    SSM_DEVICE int lanes_before(unsigned restarts) const {
        const unsigned until = restarts & (full_mask >> (warp_size - 1 - lane));
        return until != 0 ? lane - (warp_size - 1 - __clz(static_cast<int>(until))) : lane;
    }
    // Lanes behind this one which something of it reaches.
    SSM_DEVICE int lanes_behind(unsigned restarts) const {
        const unsigned behind = lane < warp_size - 1 ? restarts >> (lane + 1) : 0;
        return behind != 0 ? __ffs(static_cast<int>(behind)) - 1 : lanes - 1 - lane;
    }
    // Each lane's map (decayed, folded) becomes that of all lanes from its sequence's first to itself. Two loops and not
    // one, and the restarts read where they are wanted: without any, nothing more is kept in registers.
    SSM_DEVICE void fold_lanes(S& decayed, S& folded) const {
        const auto fold = [&](int reach) {
            for (int delta = 1; delta < lanes; delta *= 2) {
                const S decayed_before = shuffle_up(decayed, delta, full_mask, lanes);
                const S folded_before = shuffle_up(folded, delta, full_mask, lanes);
                if (reach >= delta) {
                    folded = multiply_add(decayed, folded_before, folded);
                    decayed = decayed * decayed_before;
                }
            }
        };
        if (!table.entries) {
            fold(lane);
        } else {
            fold(SSM_MUTATE("selective_scan.cuda.lanes_of_another", lanes_before(restarts()), lane));
        }
    }
    // Whether the lane goes on from the state before the tile.
    SSM_DEVICE bool takes_state() const {
        const unsigned all = table.entries ? restarts() : 0;
        return lanes_before(all) == lane && (all & 1) == 0;
    }
    // The state before the lane's steps, from the map of the lanes before it and the state that it takes.
    SSM_DEVICE S state_before(S decayed, S folded, S taken) const {
        const S decayed_before = shuffle_up(decayed, 1, full_mask, lanes);
        const S folded_before = shuffle_up(folded, 1, full_mask, lanes);
        const S state = lane == 0 ? taken : multiply_add(decayed_before, taken, folded_before);
        return table.entries && lanes_before(restarts()) == 0 ? taken : state;
    }

    // The state behind a piece of time whose map is (decay, left).
    SSM_DEVICE S passed_on(S decay, S before, S left) const {
        return work.segments && is_nothing(decay) ? left : multiply_add(decay, before, left);
    }

    // The thread's steps of a tensor, zero where there is none. Contiguous in channels, they change hands in shared memory,
    // so that neighbouring threads read neighbouring elements.
    SSM_DEVICE void load(const Sequence& sequence, int64_t tile_begin, int tile_steps, R (&values)[steps]) {
        with_storage([&](auto of) { load_stored<decltype(of)>(sequence, tile_begin, tile_steps, values); });
    }

    SSM_DEVICE void store(const Sequence& sequence, int64_t tile_begin, int tile_steps, const R (&values)[steps]) {
        with_storage([&](auto of) { store_stored<decltype(of)>(sequence, tile_begin, tile_steps, values); });
    }

    // One kernel serves all storage types of complex states in float: there the arithmetic is most of the work.
    template <typename F>
    SSM_DEVICE void with_storage(const F& f) const {
        if constexpr (std::is_floating_point<S>::value) {
            f(T{});
        } else {
            with_storage_of<R>(storage, f);
        }
    }

    template <typename U>
    SSM_DEVICE void load_stored(const Sequence& sequence, int64_t tile_begin, int tile_steps, R (&values)[steps]) {
        const U* data = static_cast<const U*>(sequence.data);
        if (shape.layout == Layout::time_contiguous) {
            const U* own = data + (exists ? offset(sequence, channel(), own_first(tile_begin, tile_steps)) : 0);
            const unsigned there = exists ? own_steps(tile_begin, tile_steps) : 0;
            constexpr int per_vector = vector_elements<U> < steps ? vector_elements<U> : steps;
            if (there == (1u << steps) - 1 && is_aligned(own, per_vector * sizeof(U))) {
#pragma unroll
                for (int i = 0; i < steps; i += per_vector) {
                    const Vector<U, per_vector> vector = load_vector<per_vector>(own + i);
#pragma unroll
                    for (int k = 0; k < per_vector; ++k) {
                        values[i + k] = widen(vector[k]);
                    }
                }
            } else {
#pragma unroll
                for (int i = 0; i < steps; ++i) {
                    values[i] = there >> i & 1 ? widen(own[i]) : R(0);
                }
            }
        } else {
            R* staged = transit;
            const int threads = static_cast<int>(blockDim.x);
            const int channels = threads / lanes;
            __syncthreads();
            for (int i = static_cast<int>(threadIdx.x); i < channels * tile_steps; i += threads) {
                const int step = i / channels;
                const int from = i - step * channels;
                const int64_t time = time_of(tile_begin, step);
                if (work.first_channel + from < work.end_channel && time >= 0) {
                    staged[step % steps * threads + from * lanes + step / steps] =
                        widen(data[offset(sequence, work.first_channel + from, time)]);
                }
            }
            __syncthreads();
            const unsigned there = exists ? own_steps(tile_begin, tile_steps) : 0;
#pragma unroll
            for (int i = 0; i < steps; ++i) {
                values[i] = there >> i & 1 ? staged[i * threads + threadIdx.x] : R(0);
            }
        }
    }

    template <typename U>
    SSM_DEVICE void store_stored(const Sequence& sequence, int64_t tile_begin, int tile_steps, const R (&values)[steps]) {
        U* data = static_cast<U*>(sequence.data);
        if (shape.layout == Layout::time_contiguous) {
            U* own = data + (exists ? offset(sequence, channel(), own_first(tile_begin, tile_steps)) : 0);
            const unsigned there = exists ? own_steps(tile_begin, tile_steps) : 0;
            constexpr int per_vector = vector_elements<U> < steps ? vector_elements<U> : steps;
            if (there == (1u << steps) - 1 && is_aligned(own, per_vector * sizeof(U))) {
#pragma unroll
                for (int i = 0; i < steps; i += per_vector) {
                    Vector<U, per_vector> vector;
#pragma unroll
                    for (int k = 0; k < per_vector; ++k) {
                        vector[k] = narrow<U>(values[i + k]);
                    }
                    store_vector<per_vector>(own + i, vector);
                }
            } else {
#pragma unroll
                for (int i = 0; i < steps; ++i) {
                    if (there >> i & 1) {
                        own[i] = narrow<U>(values[i]);
                    }
                }
            }
        } else {
            R* staged = transit;
            const int threads = static_cast<int>(blockDim.x);
            const int channels = threads / lanes;
            __syncthreads();
#pragma unroll
            for (int i = 0; i < steps; ++i) {
                staged[i * threads + threadIdx.x] = values[i];
            }
            __syncthreads();
            for (int i = static_cast<int>(threadIdx.x); i < channels * tile_steps; i += threads) {
                const int step = i / channels;
                const int from = i - step * channels;
                const int64_t time = time_of(tile_begin, step);
                if (work.first_channel + from < work.end_channel && time >= 0) {
                    data[offset(sequence, work.first_channel + from, time)] =
                        narrow<U>(staged[step % steps * threads + from * lanes + step / steps]);
                }
            }
        }
    }

    // States [first, first + count) of b or c of the tile into shared memory.
    SSM_DEVICE void stage(const StateSequence& sequence, int64_t first, int count, int64_t tile_begin, int tile_steps,
                          S* staged) {
        const StateInput* data = static_cast<const StateInput*>(sequence.data) + work.span.batch * sequence.batch_stride +
                                 work.group * sequence.group_stride + first * sequence.state_stride +
                                 work.span.begin * sequence.time_stride;
        const int row = lanes * steps;
        const int threads = static_cast<int>(blockDim.x);
        const bool by_time = sequence.time_stride == 1;
        // Neighbouring threads take neighbouring elements: of time, or of states.
        for (int i = static_cast<int>(threadIdx.x); i < count * row; i += threads) {
            const int n = by_time ? i / row : i % count;
            const int step = by_time ? i % row : i / count;
            S value = number<S>(0);
            const int64_t time = step < tile_steps ? time_of(tile_begin, step) : -1;
            if (time >= 0) {
                value = widen(data[n * sequence.state_stride + time * sequence.time_stride]);
            }
            staged[n * row + staged_position<steps, width>(step, lanes)] = value;
        }
    }

    // `width` of the lane's steps from step i on, of one state of b or c.
    SSM_DEVICE Vector<S, width> read(bool is_constant, S constant, const S* staged, int row_index, int i) const {
        if (!is_constant) {
            return load_vector<width>(staged + row_index * (lanes * steps) + (i / width * lanes + lane) * width);
        }
        Vector<S, width> vector;
#pragma unroll
        for (int k = 0; k < width; ++k) {
            vector[k] = constant;
        }
        return vector;
    }
    SSM_DEVICE S constant_of(const StateSequence& sequence, int64_t n) const {
        return exists && sequence.is_constant ? static_cast<const S*>(sequence.data)[channel() * states + n] : number<S>(0);
    }
};

int64_t ceil_divide(int64_t x, int64_t y) {
    return x / y + (x % y != 0);
}

// Calls f with values of the storage type and of the type of states.
template <typename Params, typename Function>
int32_t dispatch_selective_scan(const Params& params, const Function& f) {
    const bool complex = is_complex(params.state);
    switch (params.type) {
    case DataType::float32:
        return complex ? f(float{}, Complex<float>{}) : f(float{}, float{});
    case DataType::float64:
        return complex ? f(double{}, Complex<double>{}) : f(double{}, double{});
    case DataType::float16:
        return complex ? f(float{}, Complex<float>{}) : f(Half{}, float{});
    case DataType::bfloat16:
        return complex ? f(float{}, Complex<float>{}) : f(BFloat16{}, float{});
    default:
        return fail(error_internal, "a backend was called with a type that core should have refused");
    }
}

} // namespace
} // namespace ssm
