// What the kernel of diagonal plus low-rank systems and its gradients share on the device: where things lie in the
// workspace, sums at frequencies, transforms of rows.
#pragma once

#include "core/dplr_system.h"
#include "core/params/dplr_system.h"
#include "core/transform.h"
#include "cuda/block_team.h"
#include "cuda/context.h"

namespace ssm {

// Everything in the workspace that is not the gradients' own.
struct DplrKernelMemory {
    TransformPlan plan;
    int64_t frequencies;    // L/2 + 1
    char* tables;           // of the transforms
    char* transforms;       // of the blocks that transform
    ComplexDouble* spectra; // (H,frequencies)
    char* conversions;      // of the blocks that convert c
    char* tilde;            // (H,N) complex; null where c is c_tilde

    DplrKernelMemory(WorkspaceParts& parts, const DplrSystem& system, int64_t length, bool c_is_tilde)
        : plan(length), frequencies(plan.frequencies()), tables(parts.take<char>(tables_bytes(plan))),
          transforms(parts.take<char>(slots_of((system.heads + 1) / 2) * transform_bytes(plan))),
          spectra(parts.take<ComplexDouble>(system.heads * frequencies)),
          conversions(c_is_tilde ? nullptr : parts.take<char>(slots_of(system.heads) * conversion_bytes(system))),
          tilde(c_is_tilde ? nullptr : parts.take<char>(2 * system.heads * system.states * size_of(system.type))) {}

    static int64_t tables_bytes(const TransformPlan& plan) {
        TeamMemory count(nullptr);
        TransformTables(count, plan);
        return count.bytes();
    }
    static int64_t transform_bytes(const TransformPlan& plan) {
        TeamMemory count(nullptr);
        TransformMemory(count, plan);
        return count.bytes();
    }
    static int64_t conversion_bytes(const DplrSystem& system) {
        TeamMemory count(nullptr);
        DplrTildeMemory(count, system.states, static_cast<int>(system.rank));
        return count.bytes();
    }
    // c_tilde of all heads.
    const void* c(const DplrSystem& system) const { return tilde ? tilde : system.c; }
};

// The tables of the transforms, and c_tilde where c is not that.
int32_t prepare_dplr_kernel(BackendContext* context, const DplrSystem& system, int64_t length,
                            const DplrKernelMemory& memory, const char* name);
// The spectra to rows (H,L), or rows to the halves of their spectra.
int32_t transform_rows(BackendContext* context, const DplrSystem& system, const DplrKernelMemory& memory, void* rows,
                       bool to_spectra, const char* name);
// The spectra of the kernel; or with `adjoint`, where they hold those of its gradient, what each frequency leaves for the
// states: for each sign 2 + 2 R complex numbers, t, zeta_r, eta_r, (sine, cosine).
int32_t run_dplr_spectrum(BackendContext* context, const DplrSystem& system, const DplrKernelMemory& memory, void* adjoint,
                          const char* name);

} // namespace ssm
