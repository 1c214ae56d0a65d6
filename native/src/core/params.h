// What core hands to a backend: every argument is checked, every tensor lies in one of two layouts.
// Plain structs of pointers and int64 numbers, C++17, no other header of ours, so that .cu files can include it. What an
// operation has beyond this is in params/, a file each, so that a new operation does not compile the others anew.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ssm {

enum class DataType : int32_t { float32, float64, complex64, complex128, float16, bfloat16, int32, int64, uint8 };

constexpr int64_t size_of(DataType type) {
    switch (type) {
    case DataType::float32:
    case DataType::int32:
        return 4;
    case DataType::float64:
    case DataType::complex64:
    case DataType::int64:
        return 8;
    case DataType::complex128:
        return 16;
    case DataType::float16:
    case DataType::bfloat16:
        return 2;
    case DataType::uint8:
        return 1;
    }
    return 0;
}

// The type states are carried in and sums are made in.
constexpr DataType state_type(DataType storage) {
    return storage == DataType::float16 || storage == DataType::bfloat16 ? DataType::float32 : storage;
}

constexpr bool is_complex(DataType type) {
    return type == DataType::complex64 || type == DataType::complex128;
}

// Which index of (batch, channel, time) is the contiguous one. All sequence tensors of a call share it.
enum class Layout : int32_t { time_contiguous, channel_contiguous };

// A sequence tensor (B,C,L). Strides count elements and fit int64; the one that the layout names is 1, and the others may
// be 0 where an input is broadcast.
// Pointers are aligned to their element, not more. data is null where an optional tensor is absent.
struct Sequence {
    void* data = nullptr;
    int64_t batch_stride = 0;
    int64_t channel_stride = 0;
    int64_t time_stride = 0;
};

// B or C of the selective scan. Per step: (B,G,N,L), where time_contiguous means time_stride 1 and
// channel_contiguous means state_stride 1. Constant (is_constant): compact (D,N), strides unused.
struct StateSequence {
    void* data = nullptr;
    int64_t batch_stride = 0;
    int64_t group_stride = 0;
    int64_t state_stride = 0;
    int64_t time_stride = 0;
    bool is_constant = false;
};

// What every sequence operation has. Packed sequences may be empty: their last state is the initial one, or where that is
// absent zero (of a scan the operator's identity). Everything else (states, per-channel parameters) is compact.
struct SequenceShape {
    Layout layout = Layout::time_contiguous;
    int64_t batch = 0; // 1 where packed
    int64_t channels = 0;
    int64_t length = 0;                  // of the concatenation where packed
    int64_t sequences = 0;               // S, 0 where not packed
    const int64_t* cu_seqlens = nullptr; // S + 1, on the device; null where not packed
    bool reverse = false;
    // Rows that states have: sequences where packed, else batch.
    int64_t state_rows() const { return cu_seqlens ? sequences : batch; }
};

// Scratch memory of the size the backend's own workspace function answered, 256-byte aligned, contents undefined.
struct Workspace {
    void* data = nullptr;
    uint64_t bytes = 0;
};

// The shared pack/unpack: copies `rank` dimensions between two strided tensors on the device. Strides in elements;
// source strides may be 0. Used for everything that is not in one of the two layouts, and by ssm_copy.
struct StridedCopyParams {
    static constexpr int max_rank = 8;
    int64_t element_size; // 1, 2, 4, 8 or 16
    int32_t rank;
    int64_t shape[max_rank];
    const void* source;
    int64_t source_strides[max_rank];
    void* destination;
    int64_t destination_strides[max_rank];
};

} // namespace ssm
