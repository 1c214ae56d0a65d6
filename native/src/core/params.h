// What core hands to a backend: every argument is checked, every tensor lies in one of two layouts.
// Plain structs of pointers and int64 numbers, C++17, no other header of ours, so that .cu files can include it.
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

enum class Combine : int32_t { add, multiply, maximum, minimum };

struct AssociativeScanParams {
    DataType type; // of x and y
    SequenceShape shape;
    Combine combine;
    bool exclusive;
    Sequence x, y;
    const void* initial_state; // (R,C), state_type
    void* last_state;          // (R,C), state_type
    Workspace workspace;
};

struct LinearRecurrenceParams {
    DataType type;
    SequenceShape shape;
    Sequence a, b, h;
    const void* initial_state; // (R,C), state_type
    void* last_state;          // (R,C), state_type
    Workspace workspace;
};

// Core has seen to h: where grad_a is wanted and the caller gave no h, core ran the forward operation first.
// So a backend needs a, h (if grad_a), initial_state (if grad_a), grad_h, grad_last_state and writes what is not null.
struct LinearRecurrenceBackwardParams {
    DataType type;
    SequenceShape shape; // reverse as in the forward call
    Sequence a, h, grad_h;
    const void* initial_state;
    const void* grad_last_state;
    Sequence grad_a, grad_b;
    void* grad_initial_state;
    Workspace workspace;
};

struct SelectiveScanParams {
    DataType type;       // of u, dt, z, y
    DataType state;      // of a, initial_state, last_state and constant b, c: state_type(type) or its complex type
    SequenceShape shape; // channels = D
    int64_t groups;
    int64_t states; // N
    bool dt_softplus;
    Sequence u, dt, z, y;
    StateSequence b, c;        // per step: of type, or of state where that is complex
    const void* a;             // (D,N), state
    const void* d;             // (D), state_type(type), may be null
    const void* dt_bias;       // (D), state_type(type), may be null
    const void* initial_state; // (R,D,N), state
    void* last_state;          // (R,D,N), state
    Workspace workspace;
};

// A tensor of the state update. Strides count elements; those of dimensions that it lacks are 0, and those of inputs may be.
struct HeadTensor {
    void* data = nullptr;
    int64_t batch_stride = 0;
    int64_t head_stride = 0; // of b and c: from group to group
    int64_t channel_stride = 0;
    int64_t state_stride = 0;
    int64_t time_stride = 0;
};

// Both forms are heads of channels that share b and c: a head is one of Mamba-2's, or one of Mamba-1's groups of channels.
struct SelectiveStateUpdateParams {
    DataType type;  // of x, dt, b, c, z, y; state_type(type) of a, d, dt_bias
    DataType state; // storage of the state; float64 if and only if type is
    int64_t batch;
    int64_t rows; // of the state, at least batch where slots is null
    int64_t heads;
    int64_t channels; // of a head
    int64_t groups;   // heads / groups neighbouring heads read the same b and c
    int64_t states;   // N
    int64_t steps;    // T
    bool dt_softplus;
    bool is_tied;      // Mamba-2: dt, a, d, dt_bias have one value per head
    HeadTensor update; // the state; its batch stride is from row to row
    HeadTensor x, dt, z, y;
    HeadTensor a; // state_stride 1, or 0 where tied
    HeadTensor b, c;
    HeadTensor d, dt_bias; // may be null
    const int32_t* slots;  // (B), may be null; a row outside of [0, rows) skips
    Workspace workspace;
};

// The short convolution along time of each channel. What is not a sequence has state_type(type) and may be null, except
// weight.
struct CausalConv1dParams {
    DataType type; // of x, y
    SequenceShape shape;
    int64_t width; // W, 1 to most_width
    bool silu;
    Sequence x, y;
    const void* weight;        // (D,W)
    const void* bias;          // (D)
    const void* initial_state; // (R,D,W-1)
    void* last_state;          // (R,D,W-1)
    Workspace workspace;

    static constexpr int64_t most_width = 256;
};

struct CausalConv1dBackwardParams {
    DataType type; // of x, grad_y, grad_x
    SequenceShape shape;
    int64_t width;
    bool silu;
    Sequence x, grad_y, grad_x;
    const void* weight;
    const void* bias;
    const void* initial_state;
    const void* grad_last_state;
    void* grad_weight;        // (D,W)
    void* grad_bias;          // (D)
    void* grad_initial_state; // (R,D,W-1)
    Workspace workspace;
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
