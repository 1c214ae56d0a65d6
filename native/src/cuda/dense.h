// What the operations with dense systems share on the device: discretised systems of heads, and their recurrence.
#pragma once

#include "core/dense_algebra.h"
#include "core/params/dense_ssm.h"
#include "cuda/block_team.h"
#include "cuda/context.h"

namespace ssm {

// Where the discretised systems of heads lie: a_bar column by column, then b_bar, (H,N+1,N) of the real type.
struct DenseSteps {
    void* steps;
    void* memory; // of the blocks that discretise

    static int64_t memory_bytes(int64_t states) {
        TeamMemory count(nullptr);
        DiscretizeMemory(count, states);
        count.take<double>(states * states);
        count.take<double>(states);
        return count.bytes();
    }
    DenseSteps(WorkspaceParts& parts, const DenseSystem& system)
        : steps(parts.take<char>(system.heads * (system.states + 1) * system.states * size_of(system.type))),
          memory(parts.take<char>(slots_of(system.heads) * memory_bytes(system.states))) {}
};

// The matrices are those of the system, or with measure >= 0 of that measure, with dt.
int32_t discretize_dense_heads(BackendContext* context, const DenseSystem& system, int32_t measure, double dt,
                               const DenseSteps& out);

// x' = a_bar x + b_bar u for every step of a head of a sequence. y = c x' + d u, or with `states` x' itself.
struct DenseRecurrence {
    DenseSystem system; // c alone of its tensors, null with states
    SequenceShape shape;
    Sequence u, y;
    const void *d, *initial_state, *steps;
    void* last_state;
    void* states;     // (B,L,N) for one head, may be null
    int32_t constant; // of a measure: the state before is that of the first sample forever; negative: initial_state
};
int32_t run_dense_recurrence(BackendContext* context, const DenseRecurrence& recurrence, const char* name);

} // namespace ssm
