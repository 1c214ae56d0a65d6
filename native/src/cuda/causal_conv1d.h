// What causal_conv1d and its gradients share: the cut into tiles of some channels and some steps of one sequence, and the
// tile's steps and weights in shared memory.
#pragma once

#include "cuda/primitives/cuda.h"

#include "core/mutate.h"
#include "cuda/context.h"
#include "cuda/primitives/launch.h"
#include "cuda/primitives/math.h"
#include "cuda/primitives/numbers.h"
#include "cuda/primitives/sequence.h"
#include "cuda/primitives/shared.h"
#include "cuda/primitives/vector.h"
#include "cuda/sequence_ids.h"

namespace ssm {

// A block's threads; each has `convolution_steps` steps of one channel.
constexpr int convolution_threads = 128;
constexpr int convolution_steps = 4;

struct ConvolutionCut {
    int32_t channels;       // of a block, a power of two
    int32_t tile;           // steps, at most tile_capacity()
    int64_t channel_blocks; // of a batch element
    int64_t slots;          // tiles of a channel
    int64_t items;          // channel_blocks and slots of every batch element

    SSM_INLINE int row_threads() const { return convolution_threads / channels; }
    SSM_INLINE int tile_capacity() const { return row_threads() * convolution_steps; }
};

// Fewer channels where their weights and steps would not fit into shared memory otherwise. Where time is contiguous a warp
// has neighbouring steps, so that few channels are enough.
inline ConvolutionCut cut_convolution(const SequenceShape& shape, int64_t width, int64_t tile) {
    ConvolutionCut cut{};
    const bool by_time = shape.layout == Layout::time_contiguous;
    cut.channels = by_time || width > 64 ? 4 : width > 16 ? 8 : 16;
    while (cut.channels > 1 && cut.channels / 2 >= shape.channels) {
        cut.channels /= 2;
    }
    cut.tile = cut.tile_capacity();
    if (tile > 0 && tile < cut.tile) {
        cut.tile = static_cast<int32_t>(tile);
    }
    cut.channel_blocks = (shape.channels + cut.channels - 1) / cut.channels;
    cut.slots = slot_count(shape, cut.tile);
    cut.items = shape.batch * cut.slots * cut.channel_blocks;
    return cut;
}

// What a block works on: `count` steps of a sequence from `begin` on. Lies in registers; every thread finds it.
struct ConvolutionItem {
    Span span;
    int64_t begin;
    int count;
    bool exists;            // an empty sequence has one item without steps
    const int64_t* entries; // of the row, where seq_idx is given: steps are counted without padding
};
SSM_DEVICE ConvolutionItem convolution_item(const SequenceShape& shape, int64_t tile, int64_t batch, int64_t slot,
                                            const SequenceTable& table = SequenceTable{}) {
    ConvolutionItem item;
    int64_t index;
    item.span = span_of_slot(shape, batch, slot, tile, index);
    item.entries = table.row(batch);
    if (item.entries) {
        item.span.length = table.counts[batch];
    }
    item.begin = index * tile;
    const int64_t left = item.span.length - item.begin;
    item.exists = index >= 0 && (left > 0 || (index == 0 && item.span.length == 0));
    item.count = static_cast<int>(left < tile ? left : tile);
    return item;
}

// The thread's place in a block, and the places in shared memory: neighbouring threads have neighbouring elements of the
// contiguous axis, in memory and in shared memory.
template <typename R>
struct ConvolutionBlock {
    int channels;
    int width;
    bool by_time;
    int channel; // in the block
    int first;   // the thread's steps: first, first + row_threads, ...
    int row_threads;
    int64_t first_channel; // of the block
    int64_t all_channels;

    SSM_DEVICE ConvolutionBlock(const SequenceShape& shape, const ConvolutionCut& cut, int64_t width, int64_t channel_block)
        : channels(cut.channels), width(static_cast<int>(width)), by_time(shape.layout == Layout::time_contiguous),
          row_threads(cut.row_threads()), first_channel(channel_block * cut.channels), all_channels(shape.channels) {
        const int thread = static_cast<int>(threadIdx.x);
        channel = by_time ? thread / row_threads : thread & (channels - 1);
        first = by_time ? thread % row_threads : thread / channels;
    }
    SSM_DEVICE bool exists(int at_channel) const { return first_channel + at_channel < all_channels; }

    // In a matrix of the block's channels and `columns` steps or weights.
    SSM_DEVICE int place(int at_channel, int column, int columns) const {
        return by_time ? at_channel * columns + column : column * channels + at_channel;
    }
    // Calls f(channel, column) for each of them, neighbours by neighbouring threads.
    template <typename Function>
    SSM_DEVICE void each(int columns, const Function& f) const {
        for (int i = static_cast<int>(threadIdx.x); i < channels * columns; i += convolution_threads) {
            const int outer = i / (by_time ? columns : channels);
            const int inner = i - outer * (by_time ? columns : channels);
            f(by_time ? outer : inner, by_time ? inner : outer);
        }
    }

    // Weights (D,W) to place(channel, j, width).
    SSM_DEVICE void stage_weights(const void* weight, R* to) const {
        const R* from = static_cast<const R*>(weight) + first_channel * width;
        for (int i = static_cast<int>(threadIdx.x); i < channels * width; i += convolution_threads) {
            const int at_channel = i / width;
            to[place(at_channel, i - at_channel * width, width)] = exists(at_channel) ? from[i] : R(0);
        }
    }

    // Steps [from, from + count) of the sequence to place(channel, k, columns); those before its first come from the state.
    // Where entries are given they say which steps these are.
    template <typename T>
    SSM_DEVICE void stage_steps(const Sequence& x, const Span& span, const int64_t* entries, const void* state, int history,
                                int64_t from, int count, int columns, R* to) const {
        const T* data = static_cast<const T*>(x.data) + span.batch * x.batch_stride + first_channel * x.channel_stride +
                        span.begin * x.time_stride;
        const R* before = static_cast<const R*>(state) + (span.row * all_channels + first_channel) * history;
        each(count, [&](int at_channel, int k) {
            const int64_t step = from + k;
            R value = 0;
            if (exists(at_channel)) {
                if (step >= 0) {
                    const int64_t time = entries ? step_of_entry(entries[step]) : step;
                    value = widen(data[at_channel * x.channel_stride + time * x.time_stride]);
                } else if (state) {
                    value = before[at_channel * history + history + step];
                }
            }
            to[place(at_channel, k, columns)] = value;
        });
    }
};

// The memory of a block as numbers; the launch gives as much as the plan counted.
struct alignas(16) ConvolutionStorage {
    unsigned char first[16];
};

constexpr int64_t convolution_most_blocks = int64_t{1} << 30;

} // namespace ssm
