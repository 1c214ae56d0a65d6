// The plan of one call of an operation: which layout the backend works in, which tensors it uses in place, which are packed
// into the workspace first and unpacked from it afterwards. The workspace query makes the very same plan as the call.
#pragma once

#include "core/context.h"
#include "core/tensor.h"

#include <initializer_list>

namespace ssm {

// Dimensions of the two kinds of sequence tensor: (B,C,L) and the selective scan's (B,G,N,L).
constexpr int32_t sequence_rank = 3;
constexpr int32_t state_sequence_rank = 4;

// The layout in which the fewest bytes must be packed. Absent tensors do not count.
Layout choose_layout(std::initializer_list<const Tensor*> sequences);

class Plan {
  public:
    Plan() = default;
    Plan(const Plan&) = delete;

    // Each gives the backend's view of a tensor: in place where it fits, else of a packed copy. An absent tensor gives
    // null. The targets must stay where they are until `run` or `bytes`, which fill in the final addresses.
    void add(Sequence& target, const Tensor& tensor, Layout layout);
    void add(StateSequence& target, const Tensor& tensor, Layout layout);
    void add_compact(const void*& target, const Tensor& tensor);
    void add_compact(void*& target, const Tensor& tensor);
    void add_compact(const int32_t*& target, const Tensor& tensor);
    void add_cu_seqlens(const int64_t*& target, const Tensor& tensor);
    // Any strides in place, which are answered, element by element of the shape; with `is_last_unit` the last one is 1.
    const int64_t* add_strided(void*& target, const Tensor& tensor, bool is_last_unit = false);
    // A sequence tensor that lives in the workspace only.
    void add_scratch(Sequence& target, const SequenceShape& shape, DataType type);

    // Bytes of the whole workspace, of which the last `own` are for the backend.
    uint64_t bytes(uint64_t own) const { return packed_bytes + own; }

    // Gives everything its place in the workspace, which begins at base, and answers the backend's part of it.
    Workspace place(char* base, uint64_t own);
    void pack(ssm_context& context) const;
    void unpack(ssm_context& context) const;

  private:
    static constexpr int max_buffers = 48;
    struct Buffer {
        void* target;         // of the pointer to fill in
        const Tensor* tensor; // null: scratch
        uint64_t offset;
        int64_t strides[max_rank];
        char* data;
    };
    Buffer buffers[max_buffers];
    int count = 0;
    uint64_t packed_bytes = 0;

    Buffer& reserve(void* target, const Tensor* tensor, int64_t size);
    void add_compact_at(void* target, const Tensor& tensor);
};

// What the address of a present tensor is in a workspace query, where it may have none.
inline char* const unknown_address = reinterpret_cast<char*>(uintptr_t{256});

// A call without a step: the last state is the initial one, or where that is absent the identity, zero if not given.
// Nothing happens where last_state is absent or without elements.
void pass_state_on(ssm_context& context, const Tensor& initial_state, const Tensor& last_state,
                   const void* identity = nullptr);
uint64_t pass_state_on_workspace(const Tensor& initial_state, const Tensor& last_state);

} // namespace ssm
