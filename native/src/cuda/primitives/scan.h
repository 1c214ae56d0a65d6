// The engine of associative_scan, linear_recurrence and linear_recurrence_backward: two kernels, one for each layout, that
// carry a state along time. An Operator says what a step does:
//
//   Storage, State, Summary      type in memory, type of the carried state, type of "what these steps do to any state"
//   inputs, outputs              how many tensors
//   next_input                   the input that is read one step further on in the scan's direction, -1 for none
//   Row                          the type of that
//   identity()                   the summary of no steps
//   summary(in)                  of one step
//   then(first, second)          of two runs of steps, one after the other
//   apply(summary, state)        the state after those steps
//   start(initial, index)        the state before the first step
//   row(index)                   what else a row brings along
//   step(state, in, out, is_last, row)   one step: changes the state, gives the outputs
// and the deliberate faults (core/mutate.h): dropped(state), skips_barrier(), ignores_flags(), forgotten_tail(is_last),
// publish_in_order(store, flag, wait).
//
// A tile is a run of steps that one team of threads does at once: each thread folds its own steps, warps combine by
// shuffles, warps of a team through shared memory. The state passes from tile to tile in one of two ways, chosen by shape:
// "rows", where a team walks along a whole row and keeps the state, and "look-back", where all tiles of all rows are spread
// over the device (lookback.h). From tile to tile, warp to warp and vector to vector the state is a left fold, in the same
// order in every run.
#pragma once

#include "core/params.h"
#include "cuda/primitives/lookback.h"
#include "cuda/primitives/numbers.h"
#include "cuda/primitives/sequence.h"
#include "cuda/primitives/shared.h"
#include "cuda/primitives/vector.h"
#include "cuda/primitives/warp.h"

namespace ssm {

constexpr int scan_threads = 256; // of a block, at most
constexpr int scan_blocks = 2;    // of a multiprocessor, that registers must suffice for

template <typename Operator>
struct ScanArguments {
    Operator op;
    SequenceShape shape; // reverse: of this scan
    Sequence in[Operator::inputs];
    Sequence out[Operator::outputs];
    const typename Operator::State* initial; // (R,C), may be null
    typename Operator::State* last;          // (R,C), may be null
    int64_t tile;                            // steps
    int64_t rows;                            // time_contiguous: B C (C where packed); channel_contiguous: groups of lanes
    int64_t items;                           // rows mode: rows of states; look-back: tiles
    int32_t lanes;                           // channel_contiguous: channels side by side, a power of two up to 32
    bool look_back;
    LookBackRecords<Operator> records;
};

// ---- time_contiguous -----------------------------------------------------------------------------------------------------

// Vectors of 16 bytes that a thread takes of every input in a tile.
template <typename Operator>
constexpr int scan_vectors = Operator::inputs == 3 || sizeof(typename Operator::Storage) == 16 ? 2 : 4;
template <typename Operator>
constexpr int scan_steps_per_thread = scan_vectors<Operator>* vector_elements<typename Operator::Storage>;

template <typename Operator>
struct TimeScanStorage {
    typename Operator::Summary warps[2][scan_threads / warp_size];
    typename Operator::Summary window[look_back_window];
    typename Operator::State state;
    int64_t ticket;
};

// Elements of a storage type in 16 bytes, in words, so that 16-bit types stay two to a register.
template <typename T>
struct Packed {
    static constexpr int count = vector_elements<T>;
    Vector<uint32_t, 4> words;

    SSM_DEVICE T get(int i) const {
        T value;
        if constexpr (sizeof(T) == 2) {
            value.bits = static_cast<uint16_t>(words[i / 2] >> (i % 2 * 16));
        } else {
            memcpy(&value, &words[i * (static_cast<int>(sizeof(T)) / 4)], sizeof(T));
        }
        return value;
    }
    SSM_DEVICE void set(int i, T value) {
        if constexpr (sizeof(T) == 2) {
            const uint32_t kept = words[i / 2] & (i % 2 ? 0xffffu : 0xffff0000u);
            words[i / 2] = kept | static_cast<uint32_t>(value.bits) << (i % 2 * 16);
        } else {
            memcpy(&words[i * (static_cast<int>(sizeof(T)) / 4)], &value, sizeof(T));
        }
    }
    SSM_DEVICE Packed reversed() const {
        Packed result{};
#pragma unroll
        for (int i = 0; i < count; ++i) {
            result.set(i, get(count - 1 - i));
        }
        return result;
    }
    SSM_DEVICE static Packed load(const T* data) {
        return {load_vector_streaming<4>(reinterpret_cast<const uint32_t*>(data))};
    }
    SSM_DEVICE void store(T* data) const {
        store_vector_streaming<4>(reinterpret_cast<uint32_t*>(data), words);
    }
};

// A row: where its sequence lies and where its tensors begin there.
template <typename Operator>
struct TimeRow {
    using Storage = typename Operator::Storage;
    int64_t length;
    int64_t state_index;
    const Storage* in[Operator::inputs];
    Storage* out[Operator::outputs];
    bool vectors; // every vector of a full tile is aligned

    SSM_DEVICE TimeRow(const ScanArguments<Operator>& arguments, const Span& span, int64_t channel) {
        constexpr int count = vector_elements<Storage>;
        length = span.length;
        state_index = span.row * arguments.shape.channels + channel;
        vectors = arguments.tile % count == 0;
        const int64_t first_vector = arguments.shape.reverse ? span.length : 0;
#pragma unroll
        for (int j = 0; j < Operator::inputs; ++j) {
            const Sequence& sequence = arguments.in[j];
            const int64_t offset = span.batch * sequence.batch_stride + channel * sequence.channel_stride + span.begin;
            in[j] = sequence.data ? static_cast<const Storage*>(sequence.data) + offset : nullptr;
            vectors = vectors && (!in[j] || is_aligned(in[j] + first_vector, 16));
        }
#pragma unroll
        for (int j = 0; j < Operator::outputs; ++j) {
            const Sequence& sequence = arguments.out[j];
            const int64_t offset = span.batch * sequence.batch_stride + channel * sequence.channel_stride + span.begin;
            out[j] = sequence.data ? static_cast<Storage*>(sequence.data) + offset : nullptr;
            vectors = vectors && (!out[j] || is_aligned(out[j] + first_vector, 16));
        }
    }
};

// What a thread holds of a tile between reading and writing it: `vectors` vectors of every input. The warp's steps follow
// each other, and in each row of vectors the lanes' do. `full` in the functions: the tile has all steps that its threads
// can take, and every vector is aligned.
template <typename Operator>
struct TimeTile {
    static constexpr int vectors = scan_vectors<Operator>;
    static constexpr int count = vector_elements<typename Operator::Storage>;
    using Storage = typename Operator::Storage;
    using State = typename Operator::State;
    using Summary = typename Operator::Summary;

    int64_t begin; // first step of the tile
    int length;    // its steps
    bool ends_row; // its last step is the last of the row
    bool reverse;
    bool by_vector; // vectors are aligned

    Packed<Storage> in[Operator::inputs][vectors] = {};
    Summary inclusive[vectors]; // of the steps of the warp up to this thread's, for each row of vectors

    SSM_DEVICE TimeTile(const ScanArguments<Operator>& arguments, const TimeRow<Operator>& row, int64_t begin)
        : begin(begin) {
        const int64_t left = row.length - begin;
        ends_row = left <= arguments.tile;
        length = static_cast<int>(ends_row ? left : arguments.tile);
        reverse = arguments.shape.reverse;
        by_vector = row.vectors;
    }
    SSM_DEVICE bool is_full() const {
        return by_vector && length == static_cast<int>(blockDim.x) * scan_steps_per_thread<Operator>;
    }
    // Steps are counted from the start of the tile.
    SSM_DEVICE static int first_step(int v) {
        return ((static_cast<int>(threadIdx.x) / warp_size * vectors + v) * warp_size + lane_id()) * count;
    }
    template <bool full>
    SSM_DEVICE int steps(int step) const {
        return full || length - step >= count ? count : length > step ? length - step : 0;
    }
    // The tile's place in a tensor; step s is then element s, or -1 - s where reverse.
    template <typename T>
    SSM_DEVICE T* base(T* data, int64_t row_length) const {
        return data + (reverse ? row_length - begin : begin);
    }
    SSM_DEVICE int position(int step) const { return reverse ? -1 - step : step; }
    SSM_DEVICE int vector_position(int step) const { return reverse ? -count - step : step; }
    SSM_DEVICE void item(int v, int i, Storage (&values)[Operator::inputs]) const {
#pragma unroll
        for (int j = 0; j < Operator::inputs; ++j) {
            values[j] = in[j][v].get(i);
        }
    }

    template <bool full>
    SSM_DEVICE void load(const TimeRow<Operator>& row) {
#pragma unroll
        for (int j = 0; j < Operator::inputs; ++j) {
            if (!row.in[j]) {
                continue;
            }
            const Storage* data = base(row.in[j], row.length);
#pragma unroll
            for (int v = 0; v < vectors; ++v) {
                const int step = first_step(v);
                const int own = steps<full>(step);
                Packed<Storage> packed{};
                if (full || (by_vector && own == count)) {
                    packed = Packed<Storage>::load(data + vector_position(step));
                    if (reverse) {
                        packed = packed.reversed();
                    }
                } else {
                    // Two loops, so that each has constant offsets from one pointer.
                    const Storage* first = data + position(step);
                    if (reverse) {
#pragma unroll
                        for (int i = 0; i < count; ++i) {
                            if (i < own) {
                                packed.set(i, first[-i]);
                            }
                        }
                    } else {
#pragma unroll
                        for (int i = 0; i < count; ++i) {
                            if (i < own) {
                                packed.set(i, first[i]);
                            }
                        }
                    }
                }
                if (j == Operator::next_input && own > 0) { // one further on
                    const bool there = !(ends_row && step + own == length);
                    const Storage next = data[position(there ? step + own : step)];
#pragma unroll
                    for (int i = 0; i < count; ++i) {
                        packed.set(i, i + 1 < count && (full || i + 1 < own) ? packed.get(i + 1 < count ? i + 1 : i) : next);
                    }
                }
                in[j][v] = packed;
            }
        }
    }

    // The summary of the warp's steps.
    template <bool full>
    SSM_DEVICE Summary summarize(const Operator& op) {
        Summary warp = op.identity();
#pragma unroll
        for (int v = 0; v < vectors; ++v) {
            const int own = steps<full>(first_step(v));
            Summary summary = op.identity();
#pragma unroll
            for (int i = 0; i < count; ++i) {
                if (full || i < own) {
                    Storage values[Operator::inputs];
                    item(v, i, values);
                    const Summary one = op.summary(values);
                    summary = i == 0 ? one : op.then(summary, one);
                }
            }
#pragma unroll
            for (int delta = 1; delta < warp_size; delta *= 2) {
                const Summary before = shuffle_up(summary, delta);
                if (lane_id() >= delta) {
                    summary = op.then(before, summary);
                }
            }
            inclusive[v] = summary;
            const Summary all = shuffle(summary, warp_size - 1);
            warp = v == 0 ? all : op.then(warp, all);
        }
        return warp;
    }

    // Runs the steps from the state before the warp's first one.
    template <bool full>
    SSM_DEVICE void run(const ScanArguments<Operator>& arguments, const TimeRow<Operator>& row, State before) const {
        const Operator& op = arguments.op;
        const typename Operator::Row extra = op.row(row.state_index);
#pragma unroll
        for (int v = 0; v < vectors; ++v) {
            const int step = first_step(v);
            const int own = steps<full>(step);
            const Summary lanes_before = shuffle_up(inclusive[v], 1);
            State state = lane_id() == 0 ? before : op.apply(lanes_before, before);
            const bool is_last = ends_row && own > 0 && step + own == length;
            Packed<Storage> out[Operator::outputs]{};
#pragma unroll
            for (int i = 0; i < count; ++i) {
                if (full || i < own) {
                    Storage values[Operator::inputs];
                    Storage results[Operator::outputs];
                    item(v, i, values);
                    op.step(state, values, results, is_last && i + 1 == own, extra);
#pragma unroll
                    for (int j = 0; j < Operator::outputs; ++j) {
                        out[j].set(i, results[j]);
                    }
                }
            }
#pragma unroll
            for (int j = 0; j < Operator::outputs; ++j) {
                if (row.out[j]) {
                    Storage* data = base(row.out[j], row.length);
                    const int written = own - Operator::forgotten_tail(is_last);
                    if ((full || by_vector) && written == count) {
                        (reverse ? out[j].reversed() : out[j]).store(data + vector_position(step));
                    } else {
                        Storage* first = data + position(step);
                        if (reverse) {
#pragma unroll
                            for (int i = 0; i < count; ++i) {
                                if (i < written) {
                                    first[-i] = out[j].get(i);
                                }
                            }
                        } else {
#pragma unroll
                            for (int i = 0; i < count; ++i) {
                                if (i < written) {
                                    first[i] = out[j].get(i);
                                }
                            }
                        }
                    }
                }
            }
            if (arguments.last && is_last) {
                arguments.last[row.state_index] = state;
            }
            before = op.apply(shuffle(inclusive[v], warp_size - 1), before);
        }
    }

    SSM_DEVICE Summary load_and_summarize(const Operator& op, const TimeRow<Operator>& row) {
        if (is_full()) {
            load<true>(row);
            return summarize<true>(op);
        }
        load<false>(row);
        return summarize<false>(op);
    }
    SSM_DEVICE void run(const ScanArguments<Operator>& arguments, const TimeRow<Operator>& row, State before) const {
        if (is_full()) {
            run<true>(arguments, row, before);
        } else {
            run<false>(arguments, row, before);
        }
    }
};

// The state before warp `warp` of the team, and in `after` the state after its last warp.
template <typename Operator>
SSM_DEVICE typename Operator::State fold_warps(const Operator& op, const typename Operator::Summary* warps, int count,
                                               int warp, typename Operator::State state, typename Operator::State& after) {
    typename Operator::State before = state;
    for (int i = 0; i < count; ++i) {
        state = op.apply(warps[i], state);
        if (i + 1 == warp) {
            before = state;
        }
    }
    after = state;
    return before;
}

// The last state of a sequence without steps.
template <typename Operator>
SSM_DEVICE void pass_state(const ScanArguments<Operator>& arguments, int64_t state_index) {
    using State = typename Operator::State;
    if (arguments.last) {
        arguments.last[state_index] = arguments.initial ? arguments.initial[state_index] : number<State>(0);
    }
}

// A team of blockDim.x threads walks along each row; blockDim.y teams, more than one only where a team is a warp.
template <typename Operator>
SSM_DEVICE void scan_rows(const ScanArguments<Operator>& arguments, TimeScanStorage<Operator>& shared) {
    using State = typename Operator::State;
    const int warps = static_cast<int>(blockDim.x) / warp_size;
    const int warp = static_cast<int>(threadIdx.x) / warp_size;
    int buffer = 0;
    for (int64_t item = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; item < arguments.items;
         item += static_cast<int64_t>(gridDim.x) * blockDim.y) {
        const int64_t state_row = item / arguments.shape.channels;
        const int64_t channel = item - state_row * arguments.shape.channels;
        const TimeRow<Operator> row(arguments, span_of_row(arguments.shape, state_row), channel);
        State state = arguments.op.start(arguments.initial, row.state_index);
        if (row.length == 0 && threadIdx.x == 0) {
            pass_state(arguments, row.state_index);
        }
        for (int64_t begin = 0; begin < row.length; begin += arguments.tile) {
            TimeTile<Operator> tile(arguments, row, begin);
            const typename Operator::Summary own = tile.load_and_summarize(arguments.op, row);
            State before = state;
            if (warps == 1) {
                state = arguments.op.apply(own, state);
            } else {
                // Two buffers in turn, so that one barrier for each tile is enough.
                if (lane_id() == 0) {
                    shared.warps[buffer][warp] = own;
                }
                if (!Operator::skips_barrier()) {
                    __syncthreads();
                }
                before = fold_warps(arguments.op, shared.warps[buffer], warps, warp, state, state);
                buffer ^= 1;
            }
            state = arguments.op.dropped(state);
            tile.run(arguments, row, before);
        }
    }
}

// Blocks take tiles by ticket, those of all rows in turn, and get the state before a tile by look-back.
template <typename Operator>
SSM_DEVICE void scan_tiles(const ScanArguments<Operator>& arguments, TimeScanStorage<Operator>& shared) {
    using State = typename Operator::State;
    using Summary = typename Operator::Summary;
    const Operator& op = arguments.op;
    const int warps = static_cast<int>(blockDim.x) / warp_size;
    const int warp = static_cast<int>(threadIdx.x) / warp_size;
    for (;;) {
        if (threadIdx.x == 0) {
            shared.ticket = static_cast<int64_t>(atomicAdd(arguments.records.ticket, 1ull));
        }
        __syncthreads();
        const int64_t ticket = shared.ticket;
        if (ticket >= arguments.items) {
            return;
        }
        const int64_t slot = ticket / arguments.rows;
        const int64_t row_index = ticket - slot * arguments.rows;
        const int64_t batch = row_index / arguments.shape.channels;
        const int64_t channel = row_index - batch * arguments.shape.channels;
        int64_t tile_index;
        const Span span = span_of_slot(arguments.shape, batch, slot, arguments.tile, tile_index);
        const TimeRow<Operator> row(arguments, span, channel);
        const bool is_tile = tile_index >= 0 && tile_index * arguments.tile < span.length;

        TimeTile<Operator> tile(arguments, row, tile_index * arguments.tile);
        if (is_tile) {
            const Summary own = tile.load_and_summarize(op, row);
            if (lane_id() == 0) {
                shared.warps[0][warp] = own;
            }
        }
        if (!Operator::skips_barrier()) {
            __syncthreads();
        }
        if (warp == 0) {
            State state = op.start(arguments.initial, row.state_index);
            State after = state;
            if (is_tile) {
                Summary summary = shared.warps[0][0];
                for (int i = 1; i < warps; ++i) {
                    summary = op.then(summary, shared.warps[0][i]);
                }
                if (tile_index > 0) {
                    if (lane_id() == 0) {
                        store_payload(&arguments.records.summaries[ticket], summary);
                        publish(arguments.records, ticket, flag_summary);
                    }
                    const int distance = wait_for_state(arguments.records, ticket, arguments.rows, tile_index, lane_id());
                    for (int i = lane_id() + 1; i < distance; i += warp_size) {
                        shared.window[i] = load_payload(&arguments.records.summaries[ticket - i * arguments.rows]);
                    }
                    __syncwarp();
                    state = load_payload(&arguments.records.states[ticket - distance * arguments.rows]);
#pragma unroll 8
                    for (int i = distance - 1; i > 0; --i) {
                        state = op.apply(shared.window[i], state);
                    }
                    state = op.dropped(state);
                }
                after = op.apply(summary, state);
            } else if (tile_index == 0 && lane_id() == 0) {
                pass_state(arguments, row.state_index);
            }
            // A slot without steps publishes too: nothing waits for it, unless cu_seqlens is not what it should be.
            if (lane_id() == 0) {
                Operator::publish_in_order([&] { store_payload(&arguments.records.states[ticket], after); },
                                           [&] { publish(arguments.records, ticket, flag_state); },
                                           [&] { load_acquire(&arguments.records.flags[ticket]); });
                shared.state = state;
            }
        }
        __syncthreads();
        if (is_tile) {
            State after;
            tile.run(arguments, row, fold_warps(op, shared.warps[0], warps, warp, shared.state, after));
        }
        __syncthreads(); // before the next tile writes shared memory
    }
}

template <typename Operator>
SSM_DEVICE void scan_time(const ScanArguments<Operator>& arguments, TimeScanStorage<Operator>& shared) {
    if (arguments.look_back) {
        scan_tiles(arguments, shared);
    } else {
        scan_rows(arguments, shared);
    }
}

// ---- channel_contiguous --------------------------------------------------------------------------------------------------

// Steps that a thread takes of its channel in a tile.
template <typename Operator>
constexpr int channel_scan_steps = sizeof(typename Operator::Storage) == 16 ? 4 : 8;

template <typename Operator>
struct ChannelScanStorage {
    typename Operator::Summary segments[2][scan_threads];
    typename Operator::State states[warp_size];
    int64_t ticket;
};

// A thread's part of a tile: `steps` steps of one channel.
template <typename Operator>
struct ChannelSegment {
    static constexpr int most = channel_scan_steps<Operator>;
    using Storage = typename Operator::Storage;
    using State = typename Operator::State;
    using Summary = typename Operator::Summary;

    Storage in[Operator::inputs][most] = {};
    int64_t step = 0;
    int steps = 0;

    // Element (batch, channel, step) of a tensor, or null where the tensor is absent.
    SSM_DEVICE static Storage* at(const Sequence& sequence, const Span& span, int64_t channel, int64_t position) {
        return sequence.data ? static_cast<Storage*>(sequence.data) + span.batch * sequence.batch_stride +
                                   channel * sequence.channel_stride + (span.begin + position) * sequence.time_stride
                             : nullptr;
    }

    SSM_DEVICE void load(const ScanArguments<Operator>& arguments, const Span& span, int64_t channel, int64_t begin,
                         int64_t end) {
        const bool reverse = arguments.shape.reverse;
        step = begin + static_cast<int64_t>(threadIdx.x) / arguments.lanes * most;
        steps = channel >= arguments.shape.channels || step >= end ? 0
                : end - step < most                                ? static_cast<int>(end - step)
                                                                   : most;
        if (steps == 0) {
            return;
        }
#pragma unroll
        for (int j = 0; j < Operator::inputs; ++j) {
            const Sequence& sequence = arguments.in[j];
            const int64_t first = step + (j == Operator::next_input ? 1 : 0);
            const Storage* data = at(sequence, span, channel, reverse ? span.length - 1 - first : first);
            const int64_t stride = reverse ? -sequence.time_stride : sequence.time_stride;
            const int there = first + steps <= span.length ? steps : steps - 1;
            if (data) {
#pragma unroll
                for (int i = 0; i < most; ++i) {
                    if (i < there) {
                        in[j][i] = data[i * stride];
                    }
                }
            }
        }
    }

    SSM_DEVICE Summary summarize(const Operator& op) const {
        Summary summary = op.identity();
#pragma unroll
        for (int i = 0; i < most; ++i) {
            if (i < steps) {
                Storage values[Operator::inputs];
                item(i, values);
                const Summary one = op.summary(values);
                summary = i == 0 ? one : op.then(summary, one);
            }
        }
        return summary;
    }

    SSM_DEVICE void item(int i, Storage (&values)[Operator::inputs]) const {
#pragma unroll
        for (int j = 0; j < Operator::inputs; ++j) {
            values[j] = in[j][i];
        }
    }

    SSM_DEVICE void run(const ScanArguments<Operator>& arguments, const Span& span, int64_t channel, State state) const {
        if (steps == 0) {
            return;
        }
        const bool reverse = arguments.shape.reverse;
        const int64_t state_index = span.row * arguments.shape.channels + channel;
        const typename Operator::Row extra = arguments.op.row(state_index);
        Storage* out[Operator::outputs];
        int64_t strides[Operator::outputs];
#pragma unroll
        for (int j = 0; j < Operator::outputs; ++j) {
            out[j] = at(arguments.out[j], span, channel, reverse ? span.length - 1 - step : step);
            strides[j] = reverse ? -arguments.out[j].time_stride : arguments.out[j].time_stride;
        }
        const int written = steps - Operator::forgotten_tail(step + steps == span.length);
#pragma unroll
        for (int i = 0; i < most; ++i) {
            if (i < steps) {
                Storage values[Operator::inputs];
                Storage results[Operator::outputs];
                item(i, values);
                arguments.op.step(state, values, results, step + i + 1 == span.length, extra);
#pragma unroll
                for (int j = 0; j < Operator::outputs; ++j) {
                    if (out[j] && i < written) {
                        out[j][i * strides[j]] = results[j];
                    }
                }
            }
        }
        if (arguments.last && step + steps == span.length) {
            arguments.last[state_index] = state;
        }
    }
};

// The state before segment `segment` of a lane, and in `after` the state after the last segment.
template <typename Operator>
SSM_DEVICE typename Operator::State fold_segments(const Operator& op, const typename Operator::Summary* segments, int lanes,
                                                  int lane, int segment, int count, typename Operator::State state,
                                                  typename Operator::State& after) {
    typename Operator::State before = state;
    for (int i = 0; i < count; ++i) {
        state = op.apply(segments[i * lanes + lane], state);
        if (i + 1 == segment) {
            before = state;
        }
    }
    after = state;
    return before;
}

template <typename Operator>
SSM_DEVICE void scan_channel_rows(const ScanArguments<Operator>& arguments, ChannelScanStorage<Operator>& shared) {
    using State = typename Operator::State;
    const Operator& op = arguments.op;
    const int lanes = arguments.lanes;
    const int lane = static_cast<int>(threadIdx.x) & (lanes - 1);
    const int segment = static_cast<int>(threadIdx.x) / lanes;
    const int segments = static_cast<int>(blockDim.x) / lanes;
    int buffer = 0;
    for (int64_t item = blockIdx.x; item < arguments.items; item += gridDim.x) {
        const int64_t groups = (arguments.shape.channels + lanes - 1) / lanes;
        const int64_t state_row = item / groups;
        const int64_t channel = (item - state_row * groups) * lanes + lane;
        const Span span = span_of_row(arguments.shape, state_row);
        const int64_t state_index = span.row * arguments.shape.channels + channel;
        const bool exists = channel < arguments.shape.channels;
        State state = exists ? op.start(arguments.initial, state_index) : number<State>(0);
        if (span.length == 0 && exists && segment == 0) {
            pass_state(arguments, state_index);
        }
        for (int64_t begin = 0; begin < span.length; begin += arguments.tile) {
            const int64_t end = begin + arguments.tile < span.length ? begin + arguments.tile : span.length;
            ChannelSegment<Operator> own;
            own.load(arguments, span, channel, begin, end);
            shared.segments[buffer][threadIdx.x] = own.summarize(op);
            if (!Operator::skips_barrier()) {
                __syncthreads();
            }
            const State before = fold_segments(op, shared.segments[buffer], lanes, lane, segment, segments, state, state);
            own.run(arguments, span, channel, before);
            state = arguments.op.dropped(state);
            buffer ^= 1;
        }
    }
}

template <typename Operator>
SSM_DEVICE void scan_channel_tiles(const ScanArguments<Operator>& arguments, ChannelScanStorage<Operator>& shared) {
    using State = typename Operator::State;
    using Summary = typename Operator::Summary;
    const Operator& op = arguments.op;
    const int lanes = arguments.lanes;
    const int lane = static_cast<int>(threadIdx.x) & (lanes - 1);
    const int segment = static_cast<int>(threadIdx.x) / lanes;
    const int segments = static_cast<int>(blockDim.x) / lanes;
    const int64_t groups = (arguments.shape.channels + lanes - 1) / lanes;
    for (;;) {
        if (threadIdx.x == 0) {
            shared.ticket = static_cast<int64_t>(atomicAdd(arguments.records.ticket, 1ull));
        }
        __syncthreads();
        const int64_t ticket = shared.ticket;
        if (ticket >= arguments.items) {
            return;
        }
        const int64_t slot = ticket / arguments.rows;
        const int64_t row_index = ticket - slot * arguments.rows;
        const int64_t batch = row_index / groups;
        const int64_t channel = (row_index - batch * groups) * lanes + lane;
        int64_t tile_index;
        const Span span = span_of_slot(arguments.shape, batch, slot, arguments.tile, tile_index);
        const int64_t state_index = span.row * arguments.shape.channels + channel;
        const int64_t begin = tile_index * arguments.tile;
        const int64_t end = begin + arguments.tile < span.length ? begin + arguments.tile : span.length;
        const bool is_tile = tile_index >= 0 && begin < span.length;
        const bool exists = channel < arguments.shape.channels;

        ChannelSegment<Operator> own;
        if (is_tile) {
            own.load(arguments, span, channel, begin, end);
            shared.segments[0][threadIdx.x] = own.summarize(op);
        }
        if (!Operator::skips_barrier()) {
            __syncthreads();
        }
        if (threadIdx.x < warp_size) { // lanes of a narrow tile repeat each other, and only the first of them writes
            const bool writes = segment == 0;
            State state = exists ? op.start(arguments.initial, state_index) : number<State>(0);
            Summary summary = op.identity();
            if (is_tile) {
                for (int i = 0; i < segments; ++i) {
                    summary = op.then(summary, shared.segments[0][i * lanes + lane]);
                }
                if (tile_index > 0) {
                    if (writes) {
                        store_payload(&arguments.records.summaries[ticket * lanes + lane], summary);
                        __threadfence();
                    }
                    __syncwarp();
                    if (threadIdx.x == 0) {
                        publish(arguments.records, ticket, flag_summary);
                    }
                    const int distance = wait_for_state(arguments.records, ticket, arguments.rows, tile_index, lane_id());
                    state = load_payload(&arguments.records.states[(ticket - distance * arguments.rows) * lanes + lane]);
#pragma unroll 8
                    for (int i = distance - 1; i > 0; --i) {
                        const Summary between =
                            load_payload(&arguments.records.summaries[(ticket - i * arguments.rows) * lanes + lane]);
                        state = op.apply(between, state);
                    }
                    state = arguments.op.dropped(state);
                }
            } else if (tile_index == 0 && exists && writes) {
                pass_state(arguments, state_index);
            }
            Operator::publish_in_order(
                [&] {
                    if (writes) {
                        store_payload(&arguments.records.states[ticket * lanes + lane],
                                      is_tile ? op.apply(summary, state) : state);
                        __threadfence();
                    }
                    __syncwarp();
                },
                [&] {
                    if (threadIdx.x == 0) {
                        publish(arguments.records, ticket, flag_state);
                    }
                },
                [&] { load_acquire(&arguments.records.flags[ticket]); });
            if (writes) {
                shared.states[lane] = state;
            }
        }
        __syncthreads();
        if (is_tile) {
            State after;
            const State before =
                fold_segments(op, shared.segments[0], lanes, lane, segment, segments, shared.states[lane], after);
            own.run(arguments, span, channel, before);
        }
        __syncthreads(); // before the next tile writes shared memory
    }
}

template <typename Operator>
SSM_DEVICE void scan_channel(const ScanArguments<Operator>& arguments, ChannelScanStorage<Operator>& shared) {
    if (arguments.look_back) {
        scan_channel_tiles(arguments, shared);
    } else {
        scan_channel_rows(arguments, shared);
    }
}

} // namespace ssm
