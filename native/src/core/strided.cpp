#include "core/strided.h"

#include "core/error.h"

#include <cstring>
#include <utility>

namespace ssm {
namespace {

struct Dimension {
    int64_t extent, source_stride, destination_stride;
};

bool is_outer(const Dimension& x, const Dimension& y) {
    if (x.destination_stride != y.destination_stride)
        return x.destination_stride > y.destination_stride;
    return x.source_stride > y.source_stride;
}

} // namespace

StridedCopyParams plan_copy(int32_t rank, const int64_t* shape, int64_t element_size, StridedSide source,
                            StridedSide destination) {
    Dimension dimensions[StridedCopyParams::max_rank + 1];
    int count = 0;
    for (int32_t i = 0; i < rank; ++i) {
        if (shape[i] != 1)
            dimensions[count++] = {shape[i], source.strides[i], destination.strides[i]};
    }

    const uintptr_t addresses =
        reinterpret_cast<uintptr_t>(source.data) | reinterpret_cast<uintptr_t>(destination.data) | uintptr_t(element_size);
    const int64_t unit = static_cast<int64_t>(addresses & (~addresses + 1)); // the largest power of two that divides all
    const int64_t pieces = element_size / unit;
    if (pieces > 1) {
        for (int i = 0; i < count; ++i) {
            dimensions[i].source_stride *= pieces;
            dimensions[i].destination_stride *= pieces;
        }
        dimensions[count++] = {pieces, 1, 1};
    }

    // By insertion: they are few, and mostly in order.
    for (int i = 1; i < count; ++i) {
        for (int k = i; k > 0 && is_outer(dimensions[k], dimensions[k - 1]); --k)
            std::swap(dimensions[k], dimensions[k - 1]);
    }
    int merged = 0;
    for (int i = 0; i < count; ++i) {
        const Dimension& inner = dimensions[i];
        Dimension* outer = merged > 0 ? &dimensions[merged - 1] : nullptr;
        if (outer && outer->source_stride == inner.source_stride * inner.extent &&
            outer->destination_stride == inner.destination_stride * inner.extent) {
            *outer = {outer->extent * inner.extent, inner.source_stride, inner.destination_stride};
        } else {
            dimensions[merged++] = inner;
        }
    }
    if (merged == 0)
        dimensions[merged++] = {1, 1, 1};
    if (merged > StridedCopyParams::max_rank) {
        fail(SSM_ERROR_UNSUPPORTED, "a copy between misaligned tensors of more than 7 dimensions that do not merge");
    }

    StridedCopyParams copy{};
    copy.element_size = unit;
    copy.rank = merged;
    copy.source = source.data;
    copy.destination = const_cast<void*>(destination.data);
    for (int i = 0; i < merged; ++i) {
        copy.shape[i] = dimensions[i].extent;
        copy.source_strides[i] = dimensions[i].source_stride;
        copy.destination_strides[i] = dimensions[i].destination_stride;
    }
    return copy;
}

bool is_plain(const StridedCopyParams& copy) {
    return copy.rank == 1 && copy.source_strides[0] == 1 && copy.destination_strides[0] == 1;
}

void copy_on_host(const StridedCopyParams& copy) {
    const size_t size = static_cast<size_t>(copy.element_size);
    const int inner = copy.rank - 1;
    const int64_t run = copy.shape[inner];
    const int64_t source_step = copy.source_strides[inner] * copy.element_size;
    const int64_t destination_step = copy.destination_strides[inner] * copy.element_size;
    const bool is_run = copy.source_strides[inner] == 1 && copy.destination_strides[inner] == 1;
    const char* source = static_cast<const char*>(copy.source);
    char* destination = static_cast<char*>(copy.destination);
    int64_t index[StridedCopyParams::max_rank] = {};
    for (;;) {
        if (is_run) {
            std::memcpy(destination, source, size * static_cast<size_t>(run));
        } else {
            for (int64_t i = 0; i < run; ++i) {
                std::memcpy(destination + i * destination_step, source + i * source_step, size);
            }
        }
        int axis = inner - 1;
        for (; axis >= 0; --axis) { // count up, like an odometer
            source += copy.source_strides[axis] * copy.element_size;
            destination += copy.destination_strides[axis] * copy.element_size;
            if (++index[axis] < copy.shape[axis])
                break;
            source -= index[axis] * copy.source_strides[axis] * copy.element_size;
            destination -= index[axis] * copy.destination_strides[axis] * copy.element_size;
            index[axis] = 0;
        }
        if (axis < 0)
            return;
    }
}

} // namespace ssm
