// dplr_ssm: the recurrence of diagonal plus low-rank systems in N operations for a step.
//
// The discretised system is diagonal and low rank too (core/dplr_system.h): x' = a x - sum_r u_r (v_r . x) + b u_t. A block
// discretises a head in double. Then a block has a head of a sequence, a thread a state (or several, x in shared memory): a
// step ends with one sum over the block, of y and of what v_r . x is in the next step, through shuffles and one barrier.
//
// Bytes: u and y; rows of N from the caches. Operations for a state and step: 8 + 6 R multiply-adds. The chain of steps is
// the limit.
#include "core/dplr_system.h"
#include "core/mutate.h"
#include "core/params/dplr_ssm.h"
#include "cuda/block_team.h"
#include "cuda/context.h"
#include "cuda/operations.h"
#include "cuda/primitives/launch.h"
#include "cuda/primitives/sequence.h"
#include "cuda/primitives/shared.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

constexpr int dplr_sums = 2 * dplr_most_rank + 1;
constexpr int64_t dplr_most_bytes = 40 * 1024; // of the states in shared memory

template <typename R>
struct alignas(16) DplrStorage {
    R sums[2][team_threads / warp_size][dplr_sums]; // of the warps: v_r . x, real and imaginary parts, and c x
    // Behind it: x.
};

// Rows of a head: a, b, c, u_r, v_r, (3+2R,N) complex.
SSM_INLINE int64_t dplr_row_count(const DplrSystem& system) {
    return 3 + 2 * system.rank;
}

// ---- Kernels -------------------------------------------------------------------------------------------------------------

__global__ void __launch_bounds__(team_threads, 1)
    dplr_discretize_kernel(DplrSystem system, char* memory, int64_t bytes, void* rows) {
    const BlockTeam team;
    TeamMemory own(memory + blockIdx.x * bytes);
    const DplrDiscrete discrete(own, system.states, static_cast<int>(system.rank));
    for (int64_t index = blockIdx.x; index < system.heads; index += gridDim.x) {
        const DplrHead head = dplr_head(system, index);
        discretize_dplr(team, head, discrete);
        const int64_t begin = index * dplr_row_count(system) * head.states;
        share(team, head.states, [&](int64_t n) {
            const auto put = [&](int64_t row, ComplexDouble value) {
                store_complex(rows, head.is_double, begin + row * head.states + n, value);
            };
            put(0, discrete.a[n]);
            put(1, discrete.b[n]);
            put(2, load_complex(dplr_c(system, index), head.is_double, n));
            for (int r = 0; r < head.rank; ++r) {
                put(3 + r, discrete.u[r * head.states + n]);
                put(3 + head.rank + r, discrete.v[r * head.states + n]);
            }
        });
        team.sync();
    }
}

template <typename R>
struct DplrSequence {
    using C = Complex<R>;

    const DplrSsmParams& p;
    DplrStorage<R>& shared;
    C* const x;
    const C* const rows;
    const int rank;
    const int64_t states;
    int turn = 0; // which sums

    SSM_DEVICE DplrSequence(const DplrSsmParams& p, DplrStorage<R>& shared, const C* rows)
        : p(p), shared(shared), x(reinterpret_cast<C*>(&shared + 1)), rows(rows), rank(static_cast<int>(p.system.rank)),
          states(p.system.states) {}

    SSM_DEVICE void add_state(int64_t n, C value, R (&sums)[dplr_sums]) const {
#pragma unroll
        for (int r = 0; r < dplr_most_rank; ++r) {
            if (r < rank) {
                const C v = rows[(3 + rank + r) * states + n];
                sums[2 * r] = multiply_add(-v.im, value.im, multiply_add(v.re, value.re, sums[2 * r]));
                sums[2 * r + 1] = multiply_add(v.im, value.re, multiply_add(v.re, value.im, sums[2 * r + 1]));
            }
        }
        const C c = rows[2 * states + n];
        sums[dplr_sums - 1] = multiply_add(-c.im, value.im, multiply_add(c.re, value.re, sums[dplr_sums - 1]));
    }

    // The sums over the block, for every thread.
    SSM_DEVICE void add_block(R (&sums)[dplr_sums]) {
#pragma unroll
        for (int i = 0; i < dplr_sums; ++i) {
            if (i < 2 * rank || i == dplr_sums - 1) {
                const R sum = sum_over_lanes(sums[i]);
                if (lane_id() == 0) {
                    shared.sums[turn][warp_id()][i] = sum;
                }
            }
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < dplr_sums; ++i) {
            R sum = 0;
            if (i < 2 * rank || i == dplr_sums - 1) {
                sum = shared.sums[turn][0][i];
                for (int warp = 1; warp < static_cast<int>(blockDim.x) / warp_size; ++warp) {
                    sum += shared.sums[turn][warp][i];
                }
            }
            sums[i] = sum;
        }
        turn = 1 - turn;
    }

    SSM_DEVICE void run(int64_t row, int64_t head) {
        const Span span = span_of_row(p.shape, row);
        const int64_t at = (row * p.system.heads + head) * states;
        const R* const u = static_cast<const R*>(p.u.data) + span.batch * p.u.batch_stride + head * p.u.channel_stride +
                           span.begin * p.u.time_stride;
        R* const y = static_cast<R*>(p.y.data) + span.batch * p.y.batch_stride + head * p.y.channel_stride +
                     span.begin * p.y.time_stride;
        const bool pairs = p.system.conjugate_pairs;
        const R skip = p.d ? static_cast<const R*>(p.d)[head] : R(0);
        R sums[dplr_sums];
        clear(sums);
        for (int64_t n = threadIdx.x; n < states; n += blockDim.x) {
            const C start = p.initial_state ? static_cast<const C*>(p.initial_state)[at + n] : C{0, 0};
            x[n] = start;
            add_state(n, start, sums);
        }
        add_block(sums);
        for (int64_t t = 0; t < span.length; ++t) {
            const R input = u[t * p.u.time_stride];
            R next[dplr_sums];
            clear(next);
            for (int64_t n = threadIdx.x; n < states; n += blockDim.x) {
                C value = multiply_add(rows[n], x[n], input * rows[states + n]);
#pragma unroll
                for (int r = 0; r < dplr_most_rank; ++r) {
                    if (r < rank) {
                        const C seen = pairs ? C{2 * sums[2 * r], 0} : C{sums[2 * r], sums[2 * r + 1]};
                        value = multiply_add(-rows[(3 + r) * states + n], seen, value);
                    }
                }
                x[n] = value;
                add_state(n, value, next);
            }
            add_block(next);
            if (threadIdx.x == 0) {
                const R output = next[dplr_sums - 1];
                y[t * p.y.time_stride] = multiply_add(SSM_MUTATE("dplr_ssm.cuda.no_skip", skip, R(0)), input,
                                                      SSM_MUTATE("dplr_ssm.cuda.half", pairs, false) ? 2 * output : output);
            }
#pragma unroll
            for (int i = 0; i < dplr_sums; ++i) {
                sums[i] = next[i];
            }
        }
        for (int64_t n = threadIdx.x; p.last_state && n < states; n += blockDim.x) {
            static_cast<C*>(p.last_state)[at + n] = SSM_MUTATE("dplr_ssm.cuda.conjugate", x[n], conjugate(x[n]));
        }
    }

    SSM_DEVICE static void clear(R (&sums)[dplr_sums]) {
#pragma unroll
        for (int i = 0; i < dplr_sums; ++i) {
            sums[i] = 0;
        }
    }
};

template <typename R>
__global__ void __launch_bounds__(team_threads, 1) dplr_ssm_kernel(DplrSsmParams params, const void* rows) {
    DplrStorage<R>& shared = SSM_SHARED(DplrStorage<R>);
    const int64_t row = blockIdx.x / params.system.heads;
    const int64_t head = blockIdx.x - row * params.system.heads;
    DplrSequence<R> sequence(
        params, shared, static_cast<const Complex<R>*>(rows) + head * dplr_row_count(params.system) * params.system.states);
    sequence.run(row, head);
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

struct DplrSsmMemory {
    char *rows, *slots;
    int64_t slot_bytes;
    DplrSsmMemory(WorkspaceParts& parts, const DplrSystem& system) {
        TeamMemory count(nullptr);
        DplrDiscrete(count, system.states, static_cast<int>(system.rank));
        slot_bytes = count.bytes();
        rows = parts.take<char>(2 * system.heads * dplr_row_count(system) * system.states * size_of(system.type));
        slots = parts.take<char>(slots_of(system.heads) * slot_bytes);
    }
};

template <typename R>
int32_t run_dplr_ssm(BackendContext* context, const DplrSsmParams& params, const DplrSsmMemory& memory) {
    const int64_t bytes = params.system.states * static_cast<int64_t>(sizeof(Complex<R>));
    const int64_t blocks = params.shape.state_rows() * params.system.heads;
    if (bytes > dplr_most_bytes) {
        return fail(error_unsupported, "dplr_ssm takes at most 2560 states of 16 bytes, 5120 of 8");
    }
    if (blocks > INT32_MAX) {
        return fail(error_unsupported, "dplr_ssm: more heads in the batch than a grid has blocks");
    }
    return status_of(launch(dplr_ssm_kernel<R>, dim3(static_cast<unsigned>(blocks)),
                            dim3(static_cast<unsigned>(threads_for_states(params.system.states))),
                            sizeof(DplrStorage<R>) + static_cast<size_t>(bytes), context->stream, params,
                            static_cast<const void*>(memory.rows)),
                     "dplr_ssm");
}

} // namespace

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t dplr_ssm(BackendContext* context, const DplrSsmParams* params) {
    WorkspaceParts parts(params->workspace.data);
    const DplrSsmMemory memory(parts, params->system);
    if (parts.size() > params->workspace.bytes) {
        return fail(error_workspace_too_small, "dplr_ssm: the workspace is smaller than the workspace function says");
    }
    if (params->shape.state_rows() == 0) {
        return success;
    }
    const int32_t status = status_of(
        launch(dplr_discretize_kernel, dim3(static_cast<unsigned>(slots_of(params->system.heads))), dim3(team_threads), 0,
               context->stream, params->system, memory.slots, memory.slot_bytes, static_cast<void*>(memory.rows)),
        "dplr_ssm");
    if (status != success) {
        return status;
    }
    return params->system.type == DataType::float64 ? run_dplr_ssm<double>(context, *params, memory)
                                                    : run_dplr_ssm<float>(context, *params, memory);
}

int32_t dplr_ssm_workspace(BackendContext*, const DplrSsmParams* params, uint64_t* bytes) {
    WorkspaceParts parts(nullptr);
    DplrSsmMemory(parts, params->system);
    *bytes = parts.size();
    return success;
}

} // namespace ssm
