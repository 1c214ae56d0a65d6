// dplr_kernel: k_l = Re(c a_bar^l b_bar) of diagonal plus low-rank systems by its generating function.
//
// At omega = exp(-i theta) the transform of the kernel is 2 c~ [q (1 - omega) - (1 + omega) A]^-1 b with q = 2 / dt. As
// 1 - omega = 2 i sin(theta/2) exp(-i theta/2) and 1 + omega = 2 cos(theta/2) exp(-i theta/2), it is
//     F = exp(i theta/2) (S_00 - cos S_0r [(I + cos S_rs)^-1]_rs S_s0),   S_xy = sum_n x_n y_n / (i q sin - cos w_n),
// with the left factors x = (c~, conj(p_r)) and the right ones y = (b, p_r), and divides by nothing that vanishes at -1.
//
// Two threads have a frequency, one for each of its signs: with pairs the other half of the states is the conjugate of the
// opposite sign's sums, without them the Hermitian part of the spectrum belongs to the real part of the kernel. All (1 +
// R)^2 sums stay in registers and share one quotient; products x y of 16 states at a time lie in shared memory.
//
// c~ = c (I - a_bar^L) is made by a block for a head in double, where c is not that already. The spectra, in double, go
// through core/transform.h, a block for two heads.
//
// Operations for a state, frequency and sign: a quotient and 4 (1 + R)^2 multiply-adds. Bytes: none but for the spectra.
#include "cuda/dplr_kernel.h"

#include "core/mutate.h"
#include "core/params/dplr_kernel.h"
#include "cuda/operations.h"
#include "cuda/primitives/launch.h"
#include "cuda/primitives/math.h"
#include "cuda/primitives/shared.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

constexpr int spectrum_threads = 128;
constexpr int spectrum_frequencies = spectrum_threads / 2; // of a block
constexpr int spectrum_states = 16;                        // at hand at once

template <typename R, int Rank>
struct alignas(16) SpectrumStorage {
    Complex<R> w[spectrum_states];
    Complex<R> products[spectrum_states][(1 + Rank) * (1 + Rank)];
};

struct SpectrumArguments {
    DplrSystem system; // c is c_tilde
    int64_t length, frequencies, parts;
    ComplexDouble* spectra;
    void* adjoint; // may be null
};

// ---- Kernels -------------------------------------------------------------------------------------------------------------

template <typename R>
SSM_DEVICE Complex<R> reciprocal(Complex<R> x) {
    const R scale = R(1) / multiply_add(x.re, x.re, x.im * x.im);
    return {x.re * scale, -x.im * scale};
}

// Ranks up to Rank.
template <typename R, int Rank>
struct Spectrum {
    using C = Complex<R>;
    static constexpr int factors = 1 + Rank;

    const SpectrumArguments& arguments;
    const DplrSystem& system;
    const int rank;
    const int64_t head;
    C sums[factors][factors];

    SSM_DEVICE Spectrum(const SpectrumArguments& arguments, int64_t head)
        : arguments(arguments), system(arguments.system), rank(static_cast<int>(system.rank)), head(head) {}

    SSM_DEVICE C number(const void* data, int64_t row, int64_t n) const {
        return static_cast<const C*>(data)[row * system.states + n];
    }
    SSM_DEVICE C p(int r, int64_t n) const { return r < rank ? number(system.p, head * system.rank + r, n) : C{0, 0}; }

    SSM_DEVICE void load_states(SpectrumStorage<R, Rank>& shared, int64_t first, int count) const {
        for (int item = static_cast<int>(threadIdx.x); item < count * factors * factors; item += spectrum_threads) {
            const int i = item / (factors * factors);
            const int pair = item - i * factors * factors;
            const int x = pair / factors;
            const int y = pair - x * factors;
            const int64_t n = first + i;
            const C left = x == 0 ? number(system.c, head, n) : conjugate(p(x - 1, n));
            const C right = y == 0 ? number(system.b, head, n) : p(y - 1, n);
            shared.products[i][pair] = left * right;
            if (pair == 0) {
                shared.w[i] = number(system.eigenvalues, head, n);
            }
        }
    }

    SSM_DEVICE void add_states(SpectrumStorage<R, Rank>& shared, R turn, R cosine) {
#pragma unroll
        for (int x = 0; x < factors; ++x) {
#pragma unroll
            for (int y = 0; y < factors; ++y) {
                sums[x][y] = {0, 0};
            }
        }
        for (int64_t first = 0; first < system.states; first += spectrum_states) {
            const int64_t left = system.states - first;
            const int count = static_cast<int>(left < spectrum_states ? left : spectrum_states);
            __syncthreads();
            load_states(shared, first, count);
            __syncthreads();
#pragma unroll 1
            for (int i = 0; i < count; ++i) {
                const C w = shared.w[i];
                const C one_over = reciprocal(C{-cosine * w.re, multiply_add(-cosine, w.im, turn)});
#pragma unroll
                for (int x = 0; x < factors; ++x) {
#pragma unroll
                    for (int y = 0; y < factors; ++y) {
                        sums[x][y] = multiply_add(shared.products[i][x * factors + y], one_over, sums[x][y]);
                    }
                }
            }
        }
    }

    // x (Rank) of (I + cosine S) x = right side, or of the transposed system. Without exchanges: core/dplr_system.h. What is
    // beyond the rank is zero, and its rows those of the identity.
    template <bool transposed>
    SSM_DEVICE void solve_low_rank(R cosine, C (&x)[Rank]) const {
        C m[Rank][Rank];
#pragma unroll
        for (int r = 0; r < Rank; ++r) {
            x[r] = transposed ? sums[0][1 + r] : sums[1 + r][0];
#pragma unroll
            for (int s = 0; s < Rank; ++s) {
                m[r][s] = cosine * (transposed ? sums[1 + s][1 + r] : sums[1 + r][1 + s]);
                if (r == s) {
                    m[r][s].re += 1;
                }
            }
        }
#pragma unroll
        for (int k = 0; k < Rank; ++k) {
            m[k][k] = reciprocal(m[k][k]);
#pragma unroll
            for (int i = k + 1; i < Rank; ++i) {
                const C factor = -(m[i][k] * m[k][k]);
#pragma unroll
                for (int j = k + 1; j < Rank; ++j) {
                    m[i][j] = multiply_add(factor, m[k][j], m[i][j]);
                }
                x[i] = multiply_add(factor, x[k], x[i]);
            }
        }
#pragma unroll
        for (int k = Rank - 1; k >= 0; --k) {
#pragma unroll
            for (int j = k + 1; j < Rank; ++j) {
                x[k] = multiply_add(-m[k][j], x[j], x[k]);
            }
            x[k] = x[k] * m[k][k];
        }
    }

    SSM_DEVICE void run(SpectrumStorage<R, Rank>& shared, int64_t part) {
        const int64_t frequency = part * spectrum_frequencies + threadIdx.x / 2;
        const bool is_opposite = threadIdx.x % 2 != 0;
        const bool is_inside = frequency < arguments.frequencies;
        // The cosine as a sine, which is as exact near the frequency of -1, and there 0.
        const int64_t own = is_inside ? frequency : 0;
        R sine;
        R cosine;
        R unused;
        sincos_pi(static_cast<R>(own) / static_cast<R>(arguments.length), sine, unused);
        sincos_pi(static_cast<R>(arguments.length - 2 * own) / static_cast<R>(2 * arguments.length), cosine, unused);
        if (is_opposite) {
            sine = -sine;
        }
        const R q = R(2) / static_cast<const R*>(system.dt)[head];
        add_states(shared, q * sine, cosine);
        if (system.conjugate_pairs) {
#pragma unroll
            for (int x = 0; x < factors; ++x) {
#pragma unroll
                for (int y = 0; y < factors; ++y) {
                    sums[x][y] = sums[x][y] + conjugate(shuffle_xor(sums[x][y], 1));
                }
            }
        }
        arguments.adjoint ? leave_adjoint(frequency, is_opposite, is_inside, sine, cosine)
                          : leave_value(frequency, is_opposite, is_inside, sine, cosine);
    }

    SSM_DEVICE void leave_value(int64_t frequency, bool is_opposite, bool is_inside, R sine, R cosine) const {
        C y[Rank];
        solve_low_rank<false>(cosine, y);
        C low{0, 0};
#pragma unroll
        for (int r = 0; r < Rank; ++r) {
            low = multiply_add(sums[0][1 + r], y[r], low);
        }
        const C turn{cosine, SSM_MUTATE("dplr_kernel.cuda.no_phase", sine, R(0))};
        C value = turn * (sums[0][0] - SSM_MUTATE("dplr_kernel.cuda.no_cosine", cosine, R(1)) * low);
        value = value + conjugate(shuffle_xor(value, 1));
        if (is_inside && !is_opposite) {
            arguments.spectra[head * arguments.frequencies + frequency] = {0.5 * static_cast<double>(value.re),
                                                                           0.5 * static_cast<double>(value.im)};
        }
    }

    SSM_DEVICE void leave_adjoint(int64_t frequency, bool is_opposite, bool is_inside, R sine, R cosine) const {
        if (!is_inside) {
            return; // no exchange follows
        }
        // Each frequency stands for its opposite too, but for the first and that of -1.
        double weight =
            frequency == 0 || 2 * frequency == arguments.length ? 1 : SSM_MUTATE("dplr_kernel_backward.cuda.weight", 2, 1);
        weight *= (system.conjugate_pairs ? 1.0 : 0.5) / static_cast<double>(arguments.length);
        const ComplexDouble given = arguments.spectra[head * arguments.frequencies + frequency];
        const C g{static_cast<R>(weight * given.re), static_cast<R>(weight * (is_opposite ? -given.im : given.im))};
        C* const out = static_cast<C*>(arguments.adjoint) +
                       ((head * arguments.frequencies + frequency) * 2 + is_opposite) * (2 + 2 * rank);
        out[0] = C{cosine, -sine} * g;
        out[1 + 2 * rank] = {sine, cosine};
        C x[Rank];
        solve_low_rank<true>(cosine, x);
#pragma unroll
        for (int r = 0; r < Rank; ++r) {
            if (r < rank) {
                out[1 + r] = -cosine * x[r];
            }
        }
        solve_low_rank<false>(cosine, x);
#pragma unroll
        for (int r = 0; r < Rank; ++r) {
            if (r < rank) {
                out[1 + rank + r] = SSM_MUTATE("dplr_kernel_backward.cuda.no_low_rank", -cosine, R(0)) * x[r];
            }
        }
    }
};

template <typename R, int Rank>
__global__ void __launch_bounds__(spectrum_threads, 1) dplr_spectrum_kernel(SpectrumArguments arguments) {
    SpectrumStorage<R, Rank>& shared = SSM_SHARED(SpectrumStorage<R, Rank>);
    const int64_t head = blockIdx.x / arguments.parts;
    Spectrum<R, Rank> spectrum(arguments, head);
    spectrum.run(shared, blockIdx.x - head * arguments.parts);
}

__global__ void __launch_bounds__(team_threads, 1)
    dplr_tilde_kernel(DplrSystem system, int64_t length, char* memory, int64_t bytes, void* tilde) {
    const BlockTeam team;
    TeamMemory own(memory + blockIdx.x * bytes);
    const DplrTildeMemory parts(own, system.states, static_cast<int>(system.rank));
    for (int64_t index = blockIdx.x; index < system.heads; index += gridDim.x) {
        const DplrHead head = dplr_head(system, index);
        dplr_to_tilde(
            team, head, dplr_c(system, index), SSM_MUTATE("dplr_kernel.cuda.wrong_power", length, length - 1), parts,
            [&](int64_t n, ComplexDouble value) { store_complex(tilde, head.is_double, index * head.states + n, value); });
    }
}

enum class TransformStage : int32_t { tables, to_rows, to_spectra };

__global__ void __launch_bounds__(team_threads, 1)
    dplr_transform_kernel(TransformStage stage, int64_t length, int64_t heads, bool is_double, char* tables_memory,
                          char* memory, int64_t bytes, ComplexDouble* spectra, void* rows) {
    const BlockTeam team;
    const TransformPlan plan(length);
    TeamMemory tables_part(tables_memory);
    const TransformTables tables(tables_part, plan);
    TeamMemory own(memory + blockIdx.x * bytes);
    const TransformMemory parts(own, plan);
    if (stage == TransformStage::tables) {
        fill_tables(team, plan, tables, parts);
        return;
    }
    for (int64_t pair = blockIdx.x; 2 * pair < heads; pair += gridDim.x) {
        ComplexDouble* const first = spectra + 2 * pair * plan.frequencies();
        ComplexDouble* const second = 2 * pair + 1 < heads ? first + plan.frequencies() : nullptr;
        if (stage == TransformStage::to_rows) {
            rows_of_spectra(team, plan, tables, parts, first, second, [&](int64_t which, int64_t l, double value) {
                store_real(rows, is_double, (2 * pair + which) * length + l, value);
            });
        } else {
            spectra_of_rows(
                team, plan, tables, parts,
                [&](int64_t which, int64_t l) { return load_real(rows, is_double, (2 * pair + which) * length + l); }, first,
                second);
        }
    }
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

template <typename R, int Rank>
int32_t launch_spectrum(BackendContext* context, const SpectrumArguments& arguments, const char* name) {
    const int64_t blocks = arguments.system.heads * arguments.parts;
    if (blocks > INT32_MAX) {
        return fail(error_unsupported, "the kernel of dplr systems: more frequencies of heads than a grid has blocks");
    }
    return status_of(launch(dplr_spectrum_kernel<R, Rank>, dim3(static_cast<unsigned>(blocks)), dim3(spectrum_threads),
                            sizeof(SpectrumStorage<R, Rank>), context->stream, arguments),
                     name);
}

int32_t launch_transform(BackendContext* context, TransformStage stage, const DplrSystem& system,
                         const DplrKernelMemory& memory, void* rows, const char* name) {
    const int64_t blocks = stage == TransformStage::tables ? 1 : slots_of((system.heads + 1) / 2);
    return status_of(launch(dplr_transform_kernel, dim3(static_cast<unsigned>(blocks)), dim3(team_threads), 0,
                            context->stream, stage, memory.plan.length, system.heads, system.type == DataType::float64,
                            memory.tables, memory.transforms, DplrKernelMemory::transform_bytes(memory.plan), memory.spectra,
                            rows),
                     name);
}

} // namespace

int32_t prepare_dplr_kernel(BackendContext* context, const DplrSystem& system, int64_t length,
                            const DplrKernelMemory& memory, const char* name) {
    const int32_t status = launch_transform(context, TransformStage::tables, system, memory, nullptr, name);
    if (status != success || !memory.tilde) {
        return status;
    }
    return status_of(launch(dplr_tilde_kernel, dim3(static_cast<unsigned>(slots_of(system.heads))), dim3(team_threads), 0,
                            context->stream, system, length, memory.conversions, DplrKernelMemory::conversion_bytes(system),
                            static_cast<void*>(memory.tilde)),
                     name);
}

int32_t transform_rows(BackendContext* context, const DplrSystem& system, const DplrKernelMemory& memory, void* rows,
                       bool to_spectra, const char* name) {
    return launch_transform(context, to_spectra ? TransformStage::to_spectra : TransformStage::to_rows, system, memory, rows,
                            name);
}

int32_t run_dplr_spectrum(BackendContext* context, const DplrSystem& system, const DplrKernelMemory& memory, void* adjoint,
                          const char* name) {
    SpectrumArguments arguments{system, memory.plan.length, memory.frequencies, 0, memory.spectra, adjoint};
    arguments.system.c = memory.c(system);
    arguments.parts = (memory.frequencies + spectrum_frequencies - 1) / spectrum_frequencies;
    if (system.type == DataType::float64) {
        return launch_spectrum<double, dplr_most_rank>(context, arguments, name);
    }
    return system.rank == 1 ? launch_spectrum<float, 1>(context, arguments, name)
                            : launch_spectrum<float, dplr_most_rank>(context, arguments, name);
}

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t dplr_kernel(BackendContext* context, const DplrKernelParams* params) {
    WorkspaceParts parts(params->workspace.data);
    const DplrKernelMemory memory(parts, params->system, params->length, params->c_is_tilde);
    if (parts.size() > params->workspace.bytes) {
        return fail(error_workspace_too_small, "dplr_kernel: the workspace is smaller than the workspace function says");
    }
    int32_t status = prepare_dplr_kernel(context, params->system, params->length, memory, "dplr_kernel");
    if (status == success) {
        status = run_dplr_spectrum(context, params->system, memory, nullptr, "dplr_kernel");
    }
    if (status == success) {
        status = transform_rows(context, params->system, memory, params->k, false, "dplr_kernel");
    }
    return status;
}

int32_t dplr_kernel_workspace(BackendContext*, const DplrKernelParams* params, uint64_t* bytes) {
    WorkspaceParts parts(nullptr);
    DplrKernelMemory(parts, params->system, params->length, params->c_is_tilde);
    *bytes = parts.size();
    return success;
}

} // namespace ssm
