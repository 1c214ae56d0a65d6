// dplr_kernel_backward: gradients of the kernel of diagonal plus low-rank systems.
//
// The gradient of k, transformed, is that of the spectrum. As the spectrum is a left row times a right column, the gradient
// of the sums S_xy is one too: t conj(zeta_x) conj(eta_y), zeta = (1, -cos z), eta = (1, -cos y) with the solutions y and z
// of the low-rank system (dplr_kernel.cu leaves t, zeta and eta for each sign of a frequency). A state sums up, with c' = c
// + sum zeta_r conj(p_r), b' = b + sum eta_r p_r and T = t conj(1/d):
//     left factor x: T conj(zeta_x b'), right factor y: T conj(eta_y c'), divisor d = i q sin - cos w: -T conj(c' b' / d).
// A lane has a state, a warp every fourth frequency of a part, and leaves its sums in double. A last kernel, a block for a
// head, adds them up in order, turns them into gradients of c, b and p, and where c is not c_tilde adds those of the
// conversion (core/dplr_system.h).
//
// Operations for a state, frequency and sign: a quotient and 4 (4 + 4 R) multiply-adds. Bytes: what frequencies leave, from
// the caches, and the sums, 16 (3 + 2 R) for a state and warp.
#include "core/params/dplr_kernel_backward.h"

#include "core/mutate.h"
#include "cuda/dplr_kernel.h"
#include "cuda/operations.h"
#include "cuda/primitives/launch.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

constexpr int states_threads = 128;
constexpr int states_warps = states_threads / warp_size;
constexpr int64_t part_frequencies = 1024; // of a block

struct StatesArguments {
    DplrSystem system;                  // c is c_tilde
    int64_t frequencies, parts, chunks; // of frequencies, of 32 states
    const void* adjoint;
    ComplexDouble* sums; // (H, 4 parts, 4 + 2 R, N): left factors, right factors, w, (q, unused)
};

SSM_INLINE int64_t sum_rows(int64_t rank) {
    return 4 + 2 * rank;
}

// ---- Kernels -------------------------------------------------------------------------------------------------------------

template <typename R>
__global__ void __launch_bounds__(states_threads, 1) dplr_states_kernel(StatesArguments arguments) {
    using C = Complex<R>;
    const DplrSystem& system = arguments.system;
    const int rank = static_cast<int>(system.rank);
    const int64_t part = blockIdx.x % arguments.parts;
    const int64_t chunk = blockIdx.x / arguments.parts % arguments.chunks;
    const int64_t head = blockIdx.x / arguments.parts / arguments.chunks;
    const int64_t n = chunk * warp_size + lane_id();
    if (n >= system.states) {
        return; // no exchange and no barrier follow
    }
    const auto number = [&](const void* data, int64_t row) { return static_cast<const C*>(data)[row * system.states + n]; };
    const C w = number(system.eigenvalues, head);
    const C b = number(system.b, head);
    const C c = number(system.c, head);
    C p[dplr_most_rank];
    C left[1 + dplr_most_rank];
    C right[1 + dplr_most_rank];
    C grad_w{0, 0};
    R grad_q = 0;
#pragma unroll
    for (int r = 0; r < dplr_most_rank; ++r) {
        p[r] = r < rank ? number(system.p, head * rank + r) : C{0, 0};
    }
#pragma unroll
    for (int x = 0; x <= dplr_most_rank; ++x) {
        left[x] = {0, 0};
        right[x] = {0, 0};
    }
    const R q = R(2) / static_cast<const R*>(system.dt)[head];
    const int64_t begin = part * part_frequencies;
    const int64_t end = begin + part_frequencies < arguments.frequencies ? begin + part_frequencies : arguments.frequencies;
    for (int64_t j = 2 * (begin + warp_id()); j < 2 * end; j += j % 2 == 0 ? 1 : 2 * states_warps - 1) { // both signs
        const C* const row =
            static_cast<const C*>(arguments.adjoint) + (head * arguments.frequencies * 2 + j) * (2 + 2 * rank);
        const R sine = row[1 + 2 * rank].re;
        const R cosine = row[1 + 2 * rank].im;
        const C divisor{-cosine * w.re, multiply_add(-cosine, w.im, q * sine)};
        const R scale = R(1) / multiply_add(divisor.re, divisor.re, divisor.im * divisor.im);
        const C one_over{divisor.re * scale, -divisor.im * scale};
        C own_b = b;
        C own_c = c;
#pragma unroll
        for (int r = 0; r < dplr_most_rank; ++r) {
            if (r < rank) {
                own_c = multiply_add(row[1 + r], SSM_MUTATE("dplr_kernel_backward.cuda.no_conjugate", conjugate(p[r]), p[r]),
                                     own_c);
                own_b = multiply_add(row[1 + rank + r], p[r], own_b);
            }
        }
        const C t = row[0] * conjugate(one_over);
        const C of_left = t * conjugate(own_b);
        const C of_right = t * conjugate(own_c);
        left[0] = left[0] + of_left;
        right[0] = right[0] + of_right;
#pragma unroll
        for (int r = 0; r < dplr_most_rank; ++r) {
            if (r < rank) {
                left[1 + r] = multiply_add(of_left, conjugate(row[1 + r]), left[1 + r]);
                right[1 + r] = multiply_add(of_right, conjugate(row[1 + rank + r]), right[1 + r]);
            }
        }
        // Minus the gradient of the divisor.
        const C of_divisor = of_left * conjugate(one_over * own_c);
        grad_w = grad_w + cosine * of_divisor;
        grad_q = multiply_add(-sine, of_divisor.im, grad_q);
    }
    ComplexDouble* const out =
        arguments.sums + ((head * arguments.parts + part) * states_warps + warp_id()) * sum_rows(rank) * system.states + n;
    const auto put = [&](int64_t row, R re, R im) {
        out[row * system.states] = {static_cast<double>(re), static_cast<double>(im)};
    };
#pragma unroll
    for (int x = 0; x <= dplr_most_rank; ++x) {
        if (x <= rank) {
            put(x, left[x].re, left[x].im);
            put(1 + rank + x, right[x].re, right[x].im);
        }
    }
    put(2 + 2 * rank, grad_w.re, grad_w.im);
    put(3 + 2 * rank, grad_q, R(0));
}

// Gradients of a head, in double.
struct HeadGradients {
    ComplexDouble *c, *w, *p;
    double *q, *dt;
    SSM_INLINE HeadGradients(TeamMemory& memory, const DplrSystem& system)
        : c(memory.take<ComplexDouble>(system.states)), w(memory.take<ComplexDouble>(system.states)),
          p(memory.take<ComplexDouble>(system.states * system.rank)), q(memory.take<double>(system.states)),
          dt(memory.take<double>(1)) {}
};

__global__ void __launch_bounds__(team_threads, 1)
    dplr_finish_kernel(DplrKernelBackwardParams p, int64_t parts, const ComplexDouble* sums, char* memory, int64_t bytes) {
    const BlockTeam team;
    const DplrSystem& system = p.system;
    const int rank = static_cast<int>(system.rank);
    const int64_t states = system.states;
    const int64_t warps = parts * states_warps;
    TeamMemory own(memory + blockIdx.x * bytes);
    const HeadGradients out(own, system);
    for (int64_t index = blockIdx.x; index < system.heads; index += gridDim.x) {
        const DplrHead head = dplr_head(system, index);
        share(team, states, [&](int64_t n) {
            const ComplexDouble* const first = sums + index * warps * sum_rows(rank) * states + n;
            const auto total = [&](int64_t row) {
                ComplexDouble sum{0, 0};
                for (int64_t warp = 0; warp < SSM_MUTATE("dplr_kernel_backward.cuda.lost_warps", warps, warps - 1); ++warp) {
                    sum = sum + first[(warp * sum_rows(rank) + row) * states];
                }
                return sum;
            };
            out.c[n] = total(0);
            out.w[n] = total(2 + 2 * rank);
            out.q[n] = total(3 + 2 * rank).re;
            for (int r = 0; r < rank; ++r) {
                out.p[r * states + n] = total(2 + rank + r) + SSM_MUTATE("dplr_kernel_backward.cuda.no_left",
                                                                         conj(total(1 + r)), (ComplexDouble{0, 0}));
            }
            if (p.grad_b) {
                store_complex(p.grad_b, head.is_double, index * states + n, total(1 + rank));
            }
        });
        team.sync();
        if (team.rank() == 0) {
            double q = 0;
            for (int64_t n = 0; n < states; ++n) {
                q += out.q[n];
            }
            *out.dt = -q * head.q * head.q / 2; // q = 2 / dt
        }
        team.sync();
        if (!p.c_is_tilde) {
            TeamMemory rest = own;
            const DplrTildeGradientMemory tilde(rest, states, rank);
            dplr_tilde_gradient(team, head, dplr_c(system, index), p.length, tilde, out.c, out.w, out.p, out.dt);
        }
        share(team, states, [&](int64_t n) {
            if (p.grad_c) {
                store_complex(p.grad_c, head.is_double, index * states + n, out.c[n]);
            }
            if (p.grad_eigenvalues) {
                store_complex(p.grad_eigenvalues, head.is_double, index * states + n, out.w[n]);
            }
            for (int r = 0; p.grad_p && r < rank; ++r) {
                store_complex(p.grad_p, head.is_double, (index * rank + r) * states + n, out.p[r * states + n]);
            }
            if (p.grad_dt && n == 0) {
                store_real(p.grad_dt, head.is_double, index, *out.dt);
            }
        });
        team.sync();
    }
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

int64_t finish_bytes(const DplrKernelBackwardParams& params) {
    TeamMemory count(nullptr);
    HeadGradients(count, params.system);
    if (!params.c_is_tilde) {
        DplrTildeGradientMemory(count, params.system.states, static_cast<int>(params.system.rank));
    }
    return count.bytes();
}

struct BackwardMemory {
    DplrKernelMemory kernel;
    int64_t parts;
    char* adjoint;
    ComplexDouble* sums;
    char* slots;

    BackwardMemory(WorkspaceParts& workspace, const DplrKernelBackwardParams& params)
        : kernel(workspace, params.system, params.length, params.c_is_tilde),
          parts((kernel.frequencies + part_frequencies - 1) / part_frequencies),
          adjoint(workspace.take<char>(params.system.heads * kernel.frequencies * 4 * (2 + 2 * params.system.rank) *
                                       size_of(params.system.type))),
          sums(workspace.take<ComplexDouble>(params.system.heads * parts * states_warps * sum_rows(params.system.rank) *
                                             params.system.states)),
          slots(workspace.take<char>(slots_of(params.system.heads) * finish_bytes(params))) {}
};

template <typename R>
int32_t launch_states(BackendContext* context, const StatesArguments& arguments) {
    const int64_t blocks = arguments.system.heads * arguments.parts * arguments.chunks;
    if (blocks > INT32_MAX) {
        return fail(error_unsupported, "dplr_kernel_backward: more states than a grid has blocks");
    }
    return status_of(launch(dplr_states_kernel<R>, dim3(static_cast<unsigned>(blocks)), dim3(states_threads), 0,
                            context->stream, arguments),
                     "dplr_kernel_backward");
}

int32_t run_states(BackendContext* context, const DplrKernelBackwardParams& params, const BackwardMemory& memory) {
    StatesArguments arguments{params.system,  memory.kernel.frequencies,
                              memory.parts,   (params.system.states + warp_size - 1) / warp_size,
                              memory.adjoint, memory.sums};
    arguments.system.c = memory.kernel.c(params.system);
    const int32_t status = params.system.type == DataType::float64 ? launch_states<double>(context, arguments)
                                                                   : launch_states<float>(context, arguments);
    if (status != success) {
        return status;
    }
    return status_of(launch(dplr_finish_kernel, dim3(static_cast<unsigned>(slots_of(params.system.heads))),
                            dim3(team_threads), 0, context->stream, params, memory.parts,
                            static_cast<const ComplexDouble*>(memory.sums), memory.slots, finish_bytes(params)),
                     "dplr_kernel_backward");
}

} // namespace

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t dplr_kernel_backward(BackendContext* context, const DplrKernelBackwardParams* params) {
    constexpr const char* name = "dplr_kernel_backward";
    WorkspaceParts parts(params->workspace.data);
    const BackwardMemory memory(parts, *params);
    if (parts.size() > params->workspace.bytes) {
        return fail(error_workspace_too_small,
                    "dplr_kernel_backward: the workspace is smaller than the workspace function says");
    }
    int32_t status = prepare_dplr_kernel(context, params->system, params->length, memory.kernel, name);
    if (status == success) {
        status = transform_rows(context, params->system, memory.kernel, const_cast<void*>(params->grad_k), true, name);
    }
    if (status == success) {
        status = run_dplr_spectrum(context, params->system, memory.kernel, memory.adjoint, name);
    }
    return status == success ? run_states(context, *params, memory) : status;
}

int32_t dplr_kernel_backward_workspace(BackendContext*, const DplrKernelBackwardParams* params, uint64_t* bytes) {
    WorkspaceParts parts(nullptr);
    BackwardMemory(parts, *params);
    *bytes = parts.size();
    return success;
}

} // namespace ssm
