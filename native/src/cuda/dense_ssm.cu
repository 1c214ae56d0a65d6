// dense_ssm: x_t = a_bar x_{t-1} + b_bar u_t, y_t = c x_t + d u_t; and the discretisation and recurrence that hippo_project
// takes too.
//
// A block discretises a head in double (core/dense_algebra.h). Then a block has a head of a sequence, a thread a row of the
// matrix (or several): x lies in shared memory, two of them in turn, so that one barrier makes a step.
//
// Bytes for a step: the matrix, from the caches, 4 N^2; u and y. Operations: 2 N^2. The chain of steps is the limit.
#include "core/hippo.h"
#include "core/mutate.h"
#include "cuda/dense.h"
#include "cuda/operations.h"
#include "cuda/primitives/launch.h"
#include "cuda/primitives/sequence.h"
#include "cuda/primitives/shared.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

constexpr int64_t dense_most_bytes = 40 * 1024; // of the states in shared memory

template <typename R>
struct alignas(16) DenseStorage {
    R sums[2][team_threads / warp_size]; // of y, of the warps
    // Behind it: x and the next x.
};

// ---- Kernels -------------------------------------------------------------------------------------------------------------

__global__ void __launch_bounds__(team_threads, 1)
    dense_discretize_kernel(DenseSystem system, int32_t measure, double dt, char* memory, int64_t bytes, void* steps) {
    const BlockTeam team;
    const bool is_double = system.type == DataType::float64;
    const int64_t n = system.states;
    TeamMemory own(memory + blockIdx.x * bytes);
    const DiscretizeMemory discretize(own, n);
    double* const a_bar = own.take<double>(n * n);
    double* const b_bar = own.take<double>(n);
    for (int64_t head = blockIdx.x; head < system.heads; head += gridDim.x) {
        if (measure >= 0) {
            const Measure own_measure = static_cast<Measure>(measure);
            discretize_dense(
                team, n, [&](int64_t i, int64_t j) { return hippo_a(own_measure, i, j); },
                [&](int64_t i) { return hippo_b(own_measure, i); }, dt, static_cast<Discretization>(system.discretization),
                system.alpha, discretize, a_bar, b_bar);
        } else {
            discretize_head(team, system, head, discretize, a_bar, b_bar);
        }
        share(team, n * (n + 1), [&](int64_t item) {
            const int64_t j = item / n, i = item % n;
            store_real(steps, is_double, head * n * (n + 1) + item, j < n ? a_bar[i * n + j] : b_bar[i]);
        });
        team.sync();
    }
}

template <typename R>
__global__ void __launch_bounds__(team_threads, 1) dense_ssm_kernel(DenseRecurrence p) {
    DenseStorage<R>& shared = SSM_SHARED(DenseStorage<R>);
    const int64_t n = p.system.states;
    const int64_t row = blockIdx.x / p.system.heads;
    const int64_t head = blockIdx.x - row * p.system.heads;
    const int64_t at = (row * p.system.heads + head) * n;
    const Span span = span_of_row(p.shape, row);
    const R* const step = static_cast<const R*>(p.steps) + head * n * (n + 1);
    const R* const u = static_cast<const R*>(p.u.data) + span.batch * p.u.batch_stride + head * p.u.channel_stride +
                       span.begin * p.u.time_stride;
    R* x = reinterpret_cast<R*>(&shared + 1);
    R* next = x + n;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
        R start = p.initial_state ? static_cast<const R*>(p.initial_state)[at + i] : R(0);
        if (p.constant >= 0) {
            start = static_cast<R>(hippo_constant(static_cast<Measure>(p.constant), i)) * u[0];
        }
        x[i] = start;
    }
    __syncthreads();
    const R skip = p.d ? static_cast<const R*>(p.d)[head] : R(0);
    for (int64_t t = 0; t < span.length; ++t) {
        const R input = u[t * p.u.time_stride];
        R sum = 0;
        for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
            R value = step[n * n + i] * input;
            for (int64_t j = 0; j < n; ++j) {
                value = multiply_add(step[j * n + i], x[j], value);
            }
            next[i] = value;
            if (p.states) {
                static_cast<R*>(p.states)[(row * p.shape.length + t) * n + i] =
                    SSM_MUTATE("hippo_project.cuda.old_state", value, x[i]);
            } else {
                const R seen = SSM_MUTATE("dense_ssm.cuda.old_state", value, x[i]);
                sum = multiply_add(static_cast<const R*>(p.system.c)[head * n + i], seen, sum);
            }
        }
        if (!p.states) {
            sum = sum_over_lanes(sum);
            if (lane_id() == 0) {
                shared.sums[t % 2][warp_id()] = sum;
            }
        }
        __syncthreads();
        if (!p.states && threadIdx.x == 0) {
            R y = shared.sums[t % 2][0];
            for (int warp = 1; warp < static_cast<int>(blockDim.x) / warp_size; ++warp) {
                y += shared.sums[t % 2][warp];
            }
            static_cast<R*>(
                p.y.data)[span.batch * p.y.batch_stride + head * p.y.channel_stride + (span.begin + t) * p.y.time_stride] =
                multiply_add(SSM_MUTATE("dense_ssm.cuda.no_skip", skip, R(0)), input, y);
        }
        R* const swap = x;
        x = next;
        next = swap;
    }
    for (int64_t i = threadIdx.x; p.last_state && i < n; i += blockDim.x) {
        static_cast<R*>(p.last_state)[at + i] = SSM_MUTATE("dense_ssm.cuda.stale_state", x[i], next[i]);
    }
}

} // namespace

// ---- Launcher ------------------------------------------------------------------------------------------------------------

int32_t discretize_dense_heads(BackendContext* context, const DenseSystem& system, int32_t measure, double dt,
                               const DenseSteps& out) {
    return status_of(launch(dense_discretize_kernel, dim3(static_cast<unsigned>(slots_of(system.heads))), dim3(team_threads),
                            0, context->stream, system, measure, dt, static_cast<char*>(out.memory),
                            DenseSteps::memory_bytes(system.states), out.steps),
                     "the discretisation of dense systems");
}

int32_t run_dense_recurrence(BackendContext* context, const DenseRecurrence& recurrence, const char* name) {
    const int64_t states = recurrence.system.states;
    const int64_t bytes = 2 * states * size_of(recurrence.system.type);
    const int64_t blocks = recurrence.shape.state_rows() * recurrence.system.heads;
    if (bytes > dense_most_bytes) {
        return fail(error_unsupported, "the recurrence of dense systems takes at most 2560 states of 8 bytes, 5120 of 4");
    }
    if (blocks > INT32_MAX) {
        return fail(error_unsupported, "more heads in the batch than a grid has blocks");
    }
    const dim3 grid(static_cast<unsigned>(blocks));
    const dim3 block(static_cast<unsigned>(threads_for_states(states)));
    if (recurrence.system.type == DataType::float64) {
        return status_of(launch(dense_ssm_kernel<double>, grid, block,
                                sizeof(DenseStorage<double>) + static_cast<size_t>(bytes), context->stream, recurrence),
                         name);
    }
    return status_of(launch(dense_ssm_kernel<float>, grid, block, sizeof(DenseStorage<float>) + static_cast<size_t>(bytes),
                            context->stream, recurrence),
                     name);
}

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t dense_ssm(BackendContext* context, const DenseSsmParams* params) {
    WorkspaceParts parts(params->workspace.data);
    const DenseSteps steps(parts, params->system);
    if (parts.size() > params->workspace.bytes) {
        return fail(error_workspace_too_small, "dense_ssm: the workspace is smaller than the workspace function says");
    }
    if (params->shape.state_rows() == 0) {
        return success;
    }
    const int32_t status = discretize_dense_heads(context, params->system, -1, 0, steps);
    if (status != success) {
        return status;
    }
    DenseRecurrence recurrence{};
    recurrence.system = params->system;
    recurrence.shape = params->shape;
    recurrence.u = params->u;
    recurrence.y = params->y;
    recurrence.d = params->d;
    recurrence.initial_state = params->initial_state;
    recurrence.steps = steps.steps;
    recurrence.last_state = params->last_state;
    recurrence.constant = -1;
    return run_dense_recurrence(context, recurrence, "dense_ssm");
}

int32_t dense_ssm_workspace(BackendContext*, const DenseSsmParams* params, uint64_t* bytes) {
    WorkspaceParts parts(nullptr);
    DenseSteps(parts, params->system);
    *bytes = parts.size();
    return success;
}

} // namespace ssm
