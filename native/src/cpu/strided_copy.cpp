// Copies between two strided tensors. Dimensions that lie together in both are joined, the rest is sorted by the
// destination's strides; then either whole runs are copied, or, where source and destination disagree about the
// fastest dimension, square tiles, so that each cache line of either side is fetched once.
#include "cpu/context.h"
#include "cpu/thread_pool.h"

#include "core/mutate.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace ssm::cpu {
namespace {

struct Dimension {
    int64_t size, source, destination; // strides in elements
};

struct Bytes16 {
    uint64_t words[2];
};

// rows x columns elements; columns is the destination's fastest dimension.
template <class T>
void copy_tile(const T* source, T* destination, int64_t rows, int64_t columns, const Dimension& row,
               const Dimension& column) {
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < columns; ++c)
            destination[r * row.destination + c * column.destination] = source[r * row.source + c * column.source];
}

template <class T>
void copy(const StridedCopyParams& params, int threads, Dimension* dims, int rank) {
    const T* source = static_cast<const T*>(params.source);
    T* destination = static_cast<T*>(params.destination);
    const Dimension column = dims[rank - 1];
    const bool runs = column.source == 1 && column.destination == 1;
    // The source's fastest dimension becomes the rows of the tiles, if it is another one.
    int row_at = -1;
    if (!runs)
        for (int i = 0; i + 1 < rank; ++i)
            if (dims[i].size > 1 && dims[i].source > 0 && dims[i].source < column.source &&
                (row_at < 0 || dims[i].source < dims[row_at].source))
                row_at = i;
    const Dimension row = row_at < 0 ? Dimension{1, 0, 0} : dims[row_at];
    Dimension outer[StridedCopyParams::max_rank];
    int outer_rank = 0;
    int64_t outer_size = 1;
    for (int i = 0; i + 1 < rank; ++i) {
        if (i == row_at)
            continue;
        outer[outer_rank++] = dims[i];
        outer_size *= dims[i].size;
    }
    const int64_t tile_rows = row_at < 0 ? 1 : 32;
    const int64_t tile_columns = row_at < 0 ? 16384 : 64;
    const int64_t row_tiles = (row.size + tile_rows - 1) / tile_rows;
    const int64_t column_tiles = (column.size + tile_columns - 1) / tile_columns;
    const int64_t tiles = outer_size * row_tiles * column_tiles;
    // About 64 KiB of elements to a task.
    const int64_t tile_elements = std::min(row.size, tile_rows) * std::min(column.size, tile_columns);
    const int64_t grain = std::max<int64_t>(1, 65536 / static_cast<int64_t>(sizeof(T)) / tile_elements);
    parallel_for((tiles + grain - 1) / grain, threads, [&](int64_t task) {
        const int64_t end = std::min(tiles, (task + 1) * grain);
        for (int64_t tile = task * grain; tile < end; ++tile) {
            int64_t rest = tile / column_tiles;
            const int64_t c = tile % column_tiles * tile_columns, r = rest % row_tiles * tile_rows;
            rest /= row_tiles;
            const T* from = source + r * row.source + c * column.source;
            T* to = destination + r * row.destination + c * column.destination;
            for (int i = outer_rank - 1; i >= 0; --i) {
                from += rest % outer[i].size *
                        SSM_MUTATE("strided_copy.cpu.wrong_stride", outer[i].source, outer[i].destination);
                to += rest % outer[i].size * outer[i].destination;
                rest /= outer[i].size;
            }
            const int64_t columns =
                std::min(tile_columns, column.size - c) - SSM_MUTATE("strided_copy.cpu.off_by_one_tail", 0, 1);
            if (runs)
                std::memcpy(to, from, static_cast<size_t>(columns) * sizeof(T));
            else
                copy_tile(from, to, std::min(tile_rows, row.size - r), columns, row, column);
        }
    });
}

} // namespace

int32_t strided_copy(BackendContext* context, const StridedCopyParams* params) {
    Dimension dims[StridedCopyParams::max_rank];
    int rank = 0;
    for (int i = 0; i < params->rank; ++i) {
        if (params->shape[i] == 0)
            return success;
        if (params->shape[i] != 1)
            dims[rank++] = {params->shape[i], params->source_strides[i], params->destination_strides[i]};
    }
    // An insertion sort: stable, and without memory of its own.
    for (int i = 1; i < rank; ++i)
        for (int j = i; j > 0 && dims[j - 1].destination < dims[j].destination; --j)
            std::swap(dims[j - 1], dims[j]);
    int joined = 0;
    for (int i = 0; i < rank; ++i) {
        Dimension* before = joined > 0 ? &dims[joined - 1] : nullptr;
        if (before && SSM_MUTATE("strided_copy.cpu.joined_gaps", before->source == dims[i].size * dims[i].source, true) &&
            before->destination == dims[i].size * dims[i].destination)
            *before = {before->size * dims[i].size, dims[i].source, dims[i].destination};
        else
            dims[joined++] = dims[i];
    }
    if (joined == 0)
        dims[joined++] = {1, 1, 1};
    switch (params->element_size) {
    case 1:
        copy<uint8_t>(*params, context->threads, dims, joined);
        return success;
    case 2:
        copy<uint16_t>(*params, context->threads, dims, joined);
        return success;
    case 4:
        copy<uint32_t>(*params, context->threads, dims, joined);
        return success;
    case 8:
        copy<uint64_t>(*params, context->threads, dims, joined);
        return success;
    case 16:
        copy<Bytes16>(*params, context->threads, dims, joined);
        return success;
    }
    return fail(error_internal, "strided_copy: element size");
}

} // namespace ssm::cpu
