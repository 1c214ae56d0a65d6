// The tables of sequence_ids.h, and zeros at padding.
//
// A block takes a row of seq_idx and cuts it into as many neighbouring parts as it has threads. What a thread must know of
// the steps before its part (the last that is no padding, where the sequence began, how many entries there are) comes from
// scans over the threads. Bytes: 4 per step, read a few times from the caches, and 8 per entry; next to the operations,
// whose every step has D channels, it is little.
#include "cuda/sequence_ids.h"

#include "core/mutate.h"
#include "cuda/primitives/launch.h"
#include "cuda/primitives/shared.h"

namespace ssm {
namespace {

constexpr int table_threads = 256;

struct SequenceTableArguments {
    const int32_t* ids;
    int64_t batch;
    SequenceTable table;
    int segment; // 0: the table of the convolution
};

struct SequenceTableStorage {
    int64_t values[table_threads];
};

// What the threads before this one have, combined in order; `all` becomes what all have.
template <typename Combine>
SSM_DEVICE int64_t combine_before(int64_t value, int64_t start, const Combine& combine, int64_t (&values)[table_threads],
                                  int64_t& all) {
    const int thread = static_cast<int>(threadIdx.x);
    __syncthreads(); // what was there is read
    values[thread] = value;
    __syncthreads();
    for (int delta = 1; delta < table_threads; delta *= 2) {
        const int64_t own = values[thread];
        const int64_t before = thread >= delta ? values[thread - delta] : start;
        __syncthreads();
        values[thread] = combine(before, own);
        __syncthreads();
    }
    all = values[table_threads - 1];
    return thread > 0 ? values[thread - 1] : start;
}

// One row, its ids from `ids` on.
struct SequenceTableRow {
    const int32_t* ids;
    int64_t length;
    int segment;

    SSM_DEVICE bool is_restart(int64_t step, int64_t last) const {
        return ids[step] >= 0 && last >= 0 && ids[last] != ids[step];
    }
    // The steps of the segment that begins at `step`, a bit for each; `last` is the last step before it that is no padding.
    // The id that the sequence has is known once a step of it is, before which there is padding alone.
    SSM_DEVICE unsigned steps_from(int64_t step, int64_t last, bool restarts) const {
        int32_t id = restarts || last < 0 ? -1 : ids[last];
        unsigned steps = 0;
        for (int i = 0; i < segment && step + i < length; ++i) {
            const int32_t own = ids[step + i];
            if (own >= 0 && id >= 0 && own != id) {
                break;
            }
            if (own >= 0) {
                id = own;
                steps |= 1u << i;
            }
        }
        return steps;
    }
};

__global__ void __launch_bounds__(table_threads) sequence_table_kernel(SequenceTableArguments arguments) {
    auto& values = SSM_SHARED(SequenceTableStorage).values;
    const int64_t length = arguments.table.length;
    const int segment = arguments.segment;
    const auto larger = [](int64_t x, int64_t y) { return x > y ? x : y; };
    const auto sum = [](int64_t x, int64_t y) { return x + y; };
    const int64_t span = (length + table_threads - 1) / table_threads;
    const int64_t begin =
        span * static_cast<int64_t>(threadIdx.x) < length ? span * static_cast<int64_t>(threadIdx.x) : length;
    const int64_t end = begin + span < length ? begin + span : length;
    for (int64_t batch = blockIdx.x; batch < arguments.batch; batch += gridDim.x) {
        const SequenceTableRow row{arguments.ids + batch * length, length, segment};
        int64_t* const entries = arguments.table.entries + batch * length;
        // Steps that are no padding, and the last of them.
        int64_t present = 0;
        int64_t newest = -1;
        for (int64_t step = begin; step < end; ++step) {
            if (row.ids[step] >= 0) {
                ++present;
                newest = step;
            }
        }
        int64_t all;
        const int64_t present_before = combine_before(present, 0, sum, values, all);
        const int64_t count_present = all;
        const int64_t last_before = combine_before(newest, -1, larger, values, all);
        // Where the sequence began: the step, or for the convolution how many are present before it. The row's first is as
        // though it had begun long ago.
        int64_t restart = -1;
        int64_t last = last_before;
        int64_t index = present_before;
        for (int64_t step = begin; step < end; ++step) {
            if (row.ids[step] >= 0) {
                if (row.is_restart(step, last)) {
                    restart = segment > 0 ? step : index;
                }
                last = step;
                ++index;
            }
        }
        const int64_t restart_before = combine_before(restart, -1, larger, values, all);
        restart = restart_before;
        last = last_before;
        if (segment == 0) {
            index = present_before;
            for (int64_t step = begin; step < end; ++step) {
                if (row.ids[step] >= 0) {
                    restart = row.is_restart(step, last) ? index : restart;
                    const int64_t reach = restart < 0 || index - restart > 255 ? 255 : index - restart;
                    entries[index] = step * 256 + reach;
                    last = step;
                    ++index;
                }
            }
            if (threadIdx.x == 0) {
                arguments.table.counts[batch] = count_present;
            }
            continue;
        }
        // Once to count, once to write.
        int64_t entry = 0;
        for (int pass = 0; pass < 2; ++pass) {
            const bool writes = pass == 1;
            if (writes) {
                entry = combine_before(entry, 0, sum, values, all);
                if (threadIdx.x == 0) {
                    arguments.table.counts[batch] = all;
                }
            }
            restart = restart_before;
            last = last_before;
            int until = static_cast<int>((begin - (restart < 0 ? 0 : restart)) & (segment - 1)); // a power of two
            until = until == 0 ? 0 : segment - until; // steps until the next segment
            for (int64_t step = begin; step < end; ++step) {
                const bool restarts = row.is_restart(step, last);
                if (restarts || until == 0) {
                    const unsigned steps = row.steps_from(step, last, restarts);
                    if (steps != 0) {
                        if (writes) {
                            entries[entry] =
                                (step * 2 + (SSM_MUTATE("selective_scan.cuda.missed_restart", restarts, false) ? 1 : 0)) *
                                    65536 +
                                steps;
                        }
                        ++entry;
                    }
                    until = segment;
                }
                if (row.ids[step] >= 0) {
                    last = step;
                }
                --until;
            }
        }
    }
}

constexpr int clear_threads = 256;

struct ClearPaddingArguments {
    const int32_t* ids;
    int64_t batch;
    int64_t length;
    int64_t tiles;                                                 // of clear_threads steps, of a row
    int64_t outer;                                                 // groups, or 1
    int64_t inner;                                                 // states, or channels
    int64_t batch_stride, outer_stride, inner_stride, time_stride; // bytes
    int words;                                                     // of an element
    int word;                                                      // bytes: 2 or 4
    bool by_time;
    unsigned char* data;
};

struct ClearPaddingStorage {
    int32_t ids[clear_threads];
};

// A block takes some steps of a row and the channels that its place in the grid's second dimension gives; most have nothing
// to do but look.
__global__ void __launch_bounds__(clear_threads) clear_padding_kernel(ClearPaddingArguments arguments) {
    auto& ids = SSM_SHARED(ClearPaddingStorage).ids;
    const int thread = static_cast<int>(threadIdx.x);
    const int64_t rows = arguments.outer * arguments.inner;
    const int64_t first_row = rows * blockIdx.y / gridDim.y;
    const int64_t end_row = rows * (static_cast<int64_t>(blockIdx.y) + 1) / gridDim.y;
    for (int64_t item = blockIdx.x; item < arguments.batch * arguments.tiles; item += gridDim.x) {
        const int64_t batch = item / arguments.tiles;
        const int64_t begin = (item - batch * arguments.tiles) * clear_threads;
        const int count =
            static_cast<int>(arguments.length - begin < clear_threads ? arguments.length - begin : clear_threads);
        __syncthreads(); // the ids before are read
        ids[thread] = thread < count ? arguments.ids[batch * arguments.length + begin + thread] : 0;
        __syncthreads();
        const auto clear = [&](int64_t row, int step) {
            const int64_t outer = row / arguments.inner;
            unsigned char* const to = arguments.data + batch * arguments.batch_stride + outer * arguments.outer_stride +
                                      (row - outer * arguments.inner) * arguments.inner_stride +
                                      (begin + step) * arguments.time_stride;
            for (int i = 0; i < arguments.words; ++i) {
                if (arguments.word == 4) {
                    reinterpret_cast<uint32_t*>(to)[i] = 0;
                } else {
                    reinterpret_cast<uint16_t*>(to)[i] = 0;
                }
            }
        };
        if (arguments.by_time) { // a thread has a step
            if (ids[thread] < 0) {
                for (int64_t row = first_row; row < end_row; ++row) {
                    clear(row, thread);
                }
            }
        } else { // a thread has rows
            for (int step = 0; step < count; ++step) {
                if (ids[step] < 0) {
                    for (int64_t row = first_row + thread; row < end_row; row += clear_threads) {
                        clear(row, step);
                    }
                }
            }
        }
    }
}

cudaError_t clear(const BackendContext& context, const SequenceShape& shape, const int32_t* seq_idx,
                  const StateSequence& output, int64_t outer, int64_t inner, int64_t element_size) {
    if (!seq_idx || !output.data || output.is_constant || outer * inner == 0) {
        return cudaSuccess;
    }
    ClearPaddingArguments arguments{};
    arguments.ids = seq_idx;
    arguments.batch = shape.batch;
    arguments.length = shape.length;
    arguments.tiles = (shape.length + clear_threads - 1) / clear_threads;
    arguments.outer = outer;
    arguments.inner = inner;
    arguments.batch_stride = output.batch_stride * element_size;
    arguments.outer_stride = output.group_stride * element_size;
    arguments.inner_stride = output.state_stride * element_size;
    arguments.time_stride = output.time_stride * element_size;
    arguments.word = element_size == 2 ? 2 : 4;
    arguments.words = static_cast<int>(element_size) / arguments.word;
    arguments.by_time = shape.layout == Layout::time_contiguous;
    arguments.data = static_cast<unsigned char*>(output.data);
    const int64_t items = shape.batch * arguments.tiles;
    const int64_t most = int64_t{1} << 30;
    // Padding lies together: the blocks that have some would be few.
    const int64_t parts = outer * inner < 64 ? 1 : outer * inner < 1024 ? outer * inner / 64 : 16;
    const dim3 grid(static_cast<unsigned>(items < most ? items : most), static_cast<unsigned>(parts));
    return launch(clear_padding_kernel, grid, dim3(clear_threads), sizeof(ClearPaddingStorage), context.stream, arguments);
}

} // namespace

cudaError_t fill_sequence_table(const BackendContext& context, const SequenceShape& shape, const int32_t* seq_idx,
                                const SequenceTable& table, int segment) {
    if (!seq_idx || shape.batch == 0) {
        return cudaSuccess;
    }
    const SequenceTableArguments arguments{seq_idx, shape.batch, table, segment};
    const int64_t most = int64_t{1} << 30;
    return launch(sequence_table_kernel, dim3(static_cast<unsigned>(shape.batch < most ? shape.batch : most)),
                  dim3(table_threads), sizeof(SequenceTableStorage), context.stream, arguments);
}

cudaError_t clear_padding(const BackendContext& context, const SequenceShape& shape, const int32_t* seq_idx,
                          const Sequence& output, int64_t element_size) {
    const StateSequence channels{output.data, output.batch_stride, 0, output.channel_stride, output.time_stride, false};
    return clear(context, shape, seq_idx, channels, 1, shape.channels, element_size);
}

cudaError_t clear_padding(const BackendContext& context, const SequenceShape& shape, const int32_t* seq_idx,
                          const StateSequence& output, int64_t groups, int64_t states, int64_t element_size) {
    return clear(context, shape, seq_idx, output, groups, states, element_size);
}

} // namespace ssm
