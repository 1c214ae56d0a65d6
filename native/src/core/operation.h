// What the entry points of all operations share. An operation's file gives one struct, its checked call: a subclass of
// Call<Params> that is made of (context, args, purpose), and says in its constructor what the tensors must be.
#pragma once

#include "core/arguments.h"
#include "core/indices.h"
#include "core/plan.h"

#include <algorithm>

namespace ssm {

inline const Tensor absent{};

template <class P>
class Call {
  public:
    using Params = P;
    using Function = int32_t (*Backend::*)(BackendContext*, const Params*);
    using WorkspaceFunction = int32_t (*Backend::*)(BackendContext*, const Params*, uint64_t*);

    Call(const Call&) = delete;

    bool is_empty() const { return is_without_steps; }

    // What is looked at in the tensors' values, before anything is written.
    void check_values(ssm_context& context) const { check_cu_seqlens(context, *packed_by, length); }

    void run(ssm_context& context, Function function, WorkspaceFunction workspace) {
        const uint64_t own = own_bytes(context, workspace);
        params.workspace = plan.place(context.workspace(plan.bytes(own)), own);
        plan.pack(context);
        context.enqueue(context.backend.*function, static_cast<const Params&>(params));
        plan.unpack(context);
    }
    uint64_t bytes(const ssm_context& context, WorkspaceFunction workspace) const {
        return plan.bytes(own_bytes(context, workspace));
    }

    // The same where there is nothing to compute.
    void run_empty(ssm_context& context) const {
        for (int i = 0; i < passed_count; ++i)
            pass_state_on(context, *passed[i].source, *passed[i].target);
    }
    uint64_t bytes_empty() const {
        uint64_t most = 0;
        for (int i = 0; i < passed_count; ++i)
            most = std::max(most, pass_state_on_workspace(*passed[i].source, *passed[i].target));
        return most;
    }

  protected:
    Contract contract;
    Params params{};
    Plan plan;

    Call(const ssm_context& context, Purpose purpose) : contract(context, purpose) {}

    // The sizes of the sequence operations, as the first tensor gives them; what it may be packed by is checked.
    SequenceShape& read_shape(SequenceShape& shape, const Tensor& sequence, const Tensor& cu_seqlens) {
        expect_rank(sequence, sequence_rank);
        return read_shape(shape, sequence, 1, 2, cu_seqlens);
    }
    // The same where channels (or heads) and time are other dimensions of it.
    SequenceShape& read_shape(SequenceShape& shape, const Tensor& sequence, int channels, int time,
                              const Tensor& cu_seqlens) {
        shape.batch = sequence.shape[0];
        shape.channels = sequence.shape[channels];
        shape.length = length = sequence.shape[time];
        shape.sequences = expect_cu_seqlens(cu_seqlens, sequence.name, shape.batch);
        packed_by = &cu_seqlens;
        plan.add_cu_seqlens(shape.cu_seqlens, cu_seqlens);
        return shape;
    }

    // seq_idx (B,L): the sequence of each step, negative where it is padding.
    void expect_seq_idx(const Tensor& seq_idx, const SequenceShape& shape) const {
        expect_type(seq_idx, DataType::int32);
        expect_shape(seq_idx, {shape.batch, shape.length});
        if (seq_idx && *packed_by)
            fail_argument("seq_idx", "NULL beside cu_seqlens, as either says where sequences start", "a tensor");
    }

    uint64_t own_bytes(const ssm_context& context, WorkspaceFunction workspace) const {
        uint64_t own = 0;
        context.call(context.backend.*workspace, &params, &own);
        return own;
    }

    // The call has no step, or no element: each target becomes its source, or zero where that is absent.
    struct Passed {
        const Tensor *source, *target;
    };
    void pass_on(std::initializer_list<Passed> given) {
        is_without_steps = true;
        passed_count = static_cast<int>(given.size());
        std::copy(given.begin(), given.end(), passed);
    }

  private:
    static constexpr int max_passed = 16;
    bool is_without_steps = false;
    int passed_count = 0;
    Passed passed[max_passed];
    const Tensor* packed_by = &absent;
    int64_t length = 0;
};

// ssm_X.
template <class Checked, class Args>
int32_t run_operation(ssm_context* context, const Args* args, typename Checked::Function function,
                      typename Checked::WorkspaceFunction workspace) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        Checked call(self, args, Purpose::run);
        call.check_values(self);
        call.is_empty() ? call.run_empty(self) : call.run(self, function, workspace);
    });
}

// ssm_X_workspace.
template <class Checked, class Args>
int32_t query_workspace(ssm_context* context, const Args* args, uint64_t* bytes,
                        typename Checked::WorkspaceFunction workspace) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        uint64_t& answer = required_pointer("bytes", "a pointer", bytes);
        answer = 0;
        const Checked call(self, args, Purpose::query);
        answer = call.is_empty() ? call.bytes_empty() : call.bytes(self, workspace);
    });
}

} // namespace ssm
