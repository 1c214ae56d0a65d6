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
    static constexpr int max_buffers = 24;
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

// Calls the operation of a backend as planned. params.workspace and every target of the plan lie in params.
template <class Params>
void run(ssm_context& context, Plan& plan, Params& params, int32_t (*function)(BackendContext*, const Params*),
         int32_t (*workspace)(BackendContext*, const Params*, uint64_t*)) {
    uint64_t own = 0;
    context.call(workspace, static_cast<const Params*>(&params), &own);
    params.workspace = plan.place(context.workspace(plan.bytes(own)), own);
    plan.pack(context);
    context.enqueue(function, params);
    plan.unpack(context);
}

template <class Params>
uint64_t workspace_bytes(const ssm_context& context, const Plan& plan, const Params& params,
                         int32_t (*workspace)(BackendContext*, const Params*, uint64_t*)) {
    uint64_t own = 0;
    context.call(workspace, static_cast<const Params*>(&params), &own);
    return plan.bytes(own);
}

// A call without a step: the last state is the initial one, or where that is absent the identity, zero if not given.
// Nothing happens where last_state is absent or without elements.
void pass_state_on(ssm_context& context, const Tensor& initial_state, const Tensor& last_state,
                   const void* identity = nullptr);
uint64_t pass_state_on_workspace(const Tensor& initial_state, const Tensor& last_state);

// cu_seqlens: dtype, rank, batch 1 with it. Answers S, the rows of the states being S or the batch.
int64_t expect_cu_seqlens(const Tensor& cu_seqlens, const char* sequence, int64_t batch);
// On the CPU also its values: first 0, last the length, non-decreasing. Recorded too, as they may change before a launch.
void check_cu_seqlens(ssm_context& context, const Tensor& cu_seqlens, int64_t length);

} // namespace ssm
