// dense_kernel: k_l = c a_bar^l b_bar. A block has a head and does everything in double by core/dense_algebra.h: the
// discretisation, rows a_bar^l0 b_bar and c a_bar^(T l1) with T near sqrt(L) by squaring, and their products.
//
// Bytes: the matrices, which the caches keep, and k. Operations for a head: 2 N^3 log2(L) and 2 N L. It is a set-up: one
// head occupies one multiprocessor.
#include "core/mutate.h"
#include "core/params/dense_kernel.h"
#include "cuda/dense.h"
#include "cuda/operations.h"
#include "cuda/primitives/launch.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

struct DenseKernelParts {
    DiscretizeMemory discretize;
    DenseKernelMemory kernel;
    double *a_bar, *b_bar;
    SSM_INLINE DenseKernelParts(TeamMemory& memory, int64_t states, int64_t length)
        : discretize(memory, states), kernel(memory, states, length), a_bar(memory.take<double>(states * states)),
          b_bar(memory.take<double>(states)) {}
};

// ---- Kernel --------------------------------------------------------------------------------------------------------------

__global__ void __launch_bounds__(team_threads, 1)
    dense_kernel_kernel(DenseKernelParams params, char* memory, int64_t bytes) {
    const BlockTeam team;
    const bool is_double = params.system.type == DataType::float64;
    const int64_t n = params.system.states;
    TeamMemory own(memory + blockIdx.x * bytes);
    const DenseKernelParts parts(own, n, params.length);
    for (int64_t head = blockIdx.x; head < params.system.heads; head += gridDim.x) {
        discretize_head(team, params.system, SSM_MUTATE("dense_kernel.cuda.first_head", head, 0), parts.discretize,
                        parts.a_bar, parts.b_bar);
        dense_kernel(
            team, n, parts.a_bar, parts.b_bar,
            [&](int64_t i) {
                return load_real(params.system.c, is_double, SSM_MUTATE("dense_kernel.cuda.shared_c", head * n, 0) + i);
            },
            params.length, parts.kernel,
            [&](int64_t l, double value) {
                store_real(params.k, is_double,
                           head * params.length + SSM_MUTATE("dense_kernel.cuda.reversed", l, params.length - 1 - l), value);
            });
    }
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

int64_t slot_bytes(const DenseKernelParams& params) {
    TeamMemory count(nullptr);
    DenseKernelParts(count, params.system.states, params.length);
    return count.bytes();
}

} // namespace

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t dense_kernel(BackendContext* context, const DenseKernelParams* params) {
    const int64_t bytes = slot_bytes(*params), slots = slots_of(params->system.heads);
    if (static_cast<uint64_t>(slots * bytes) > params->workspace.bytes) {
        return fail(error_workspace_too_small, "dense_kernel: the workspace is smaller than the workspace function says");
    }
    return status_of(launch(dense_kernel_kernel, dim3(static_cast<unsigned>(slots)), dim3(team_threads), 0, context->stream,
                            *params, static_cast<char*>(params->workspace.data), bytes),
                     "dense_kernel");
}

int32_t dense_kernel_workspace(BackendContext*, const DenseKernelParams* params, uint64_t* bytes) {
    *bytes = static_cast<uint64_t>(slots_of(params->system.heads) * slot_bytes(*params));
    return success;
}

} // namespace ssm
