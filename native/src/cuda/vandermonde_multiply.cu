// vandermonde_multiply and diagonal_kernel: y_l = sum_n v_n exp(x_n l).
//
// With l = T l1 + l0 the terms are p(l1, n) t(n, l0), p = v exp(x T l1) and t = exp(x l0): a product of matrices, of which a
// block makes 64 columns l0 of some rows l1, each thread 4 columns of 8 rows (4 in double) in registers, a few poles at a
// time. The block builds both tables in shared memory: every fourth entry from a phase that is reduced in double
// precision, the others by products with exp(x) or exp(x T). A first kernel makes the poles out of the caller's tensors,
// discretized where they are a system's. 2 products and sums for a pole and step (4 where y is complex) and half an
// operation for the tables; e bytes for a step and row. Arithmetic is the limit from 8 poles on.
#include "cuda/poles.h"

#include "core/mutate.h"
#include "core/params/vandermonde_multiply.h"
#include "cuda/operations.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

constexpr int prepare_threads = 128;
constexpr int vandermonde_threads = 128;
constexpr int vandermonde_poles = 16; // in shared memory at once
constexpr int own_columns = 4;        // of a thread
constexpr int run = 4;                // entries of a table from one phase
constexpr int column_groups = vandermonde_columns / own_columns;
constexpr int row_groups = vandermonde_threads / column_groups;

template <typename R>
struct VandermondeTraits {
    static constexpr int own_rows = sizeof(R) == 4 ? 8 : 4;
    static constexpr int rows = row_groups * own_rows;
    static constexpr int64_t steps = int64_t{rows} * vandermonde_columns; // of a block
    struct alignas(16) Storage {
        Complex<R> columns[vandermonde_poles][vandermonde_columns];
        Complex<R> rows[vandermonde_poles][VandermondeTraits::rows];
    };
};

template <typename R>
struct VandermondeArguments {
    VandermondeMultiplyParams params;
    const SumPole<R>* poles;
    bool whole; // runs of y may be stored as vectors
};

// ---- Kernels -------------------------------------------------------------------------------------------------------------

template <typename R>
__global__ void __launch_bounds__(prepare_threads)
    vandermonde_prepare_kernel(PoleSource source, int64_t rows, int64_t states, int64_t length, double scale,
                               SumPole<R>* poles) {
    constexpr double inverse_pi_2 = 0.15915494309189533577, inverse_pi_2_low = -9.8393383683191385e-18;
    const int64_t stride = static_cast<int64_t>(gridDim.x) * prepare_threads;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * prepare_threads + threadIdx.x; i < rows * states; i += stride) {
        const Pole pole = pole_at<R>(source, i / states, i, length);
        poles[i].v = {static_cast<R>(scale * pole.v.re), static_cast<R>(scale * pole.v.im)};
        SumPole<R> own;
        own.x_re = pole.x.re;
        own.shift = pole.shift;
        own.turns = pole.x.im * inverse_pi_2;
        own.turns_low = fma(pole.x.im, inverse_pi_2, -own.turns) + pole.x.im * inverse_pi_2_low;
        poles[i].x_re = own.x_re;
        poles[i].shift = own.shift;
        poles[i].turns = own.turns;
        poles[i].turns_low = own.turns_low;
        poles[i].step = power_of(own, 1);
        poles[i].leap = power_of(own, vandermonde_columns);
    }
}

// The entries k .. k + 3 of a table: start, and powers of `step` from there.
template <typename R>
SSM_DEVICE void fill_run(Complex<R>* table, Complex<R> start, Complex<R> step) {
#pragma unroll
    for (int k = 0; k < run; ++k) {
        table[k] = start;
        start = start * step;
    }
}

template <typename R>
SSM_DEVICE void fill_tables(const SumPole<R>* poles, int count, int64_t first_row,
                            typename VandermondeTraits<R>::Storage& shared) {
    constexpr int column_runs = vandermonde_columns / run;
    constexpr int row_runs = VandermondeTraits<R>::rows / run;
    for (int i = static_cast<int>(threadIdx.x); i < count * (column_runs + row_runs); i += vandermonde_threads) {
        const int n = i / (column_runs + row_runs);
        const int k = i - n * (column_runs + row_runs);
        const SumPole<R> pole = poles[n];
        if (k < column_runs) {
            fill_run(&shared.columns[n][k * run], power_of(pole, static_cast<double>(k * run)), pole.step);
        } else {
            const int row = (k - column_runs) * run;
            const double l = static_cast<double>((first_row + row) * vandermonde_columns);
            const double from = SSM_MUTATE("vandermonde_multiply.cuda.lost_start", l, l * (row > 0)) - pole.shift;
            fill_run(&shared.rows[n][row], pole.v * power_of(pole, from), pole.leap);
        }
    }
}

template <typename R, bool pairs>
__global__ void __launch_bounds__(vandermonde_threads) vandermonde_multiply_kernel(VandermondeArguments<R> arguments) {
    using Traits = VandermondeTraits<R>;
    constexpr int own_rows = Traits::own_rows;
    auto& shared = SSM_SHARED(typename VandermondeTraits<R>::Storage);
    const VandermondeMultiplyParams& p = arguments.params;
    const int64_t parts = (p.length + Traits::steps - 1) / Traits::steps;
    const int column = static_cast<int>(threadIdx.x) % column_groups * own_columns;
    const int own_row = static_cast<int>(threadIdx.x) / column_groups * own_rows;
    for (int64_t item = blockIdx.x; item < p.rows * parts; item += gridDim.x) {
        const int64_t row = item / parts;
        const int64_t first_row = (item - row * parts) * Traits::rows;
        // Rows beyond the end are nobody's.
        const int64_t begin = (first_row + own_row) * vandermonde_columns;
        const SumPole<R>* const poles = arguments.poles + row * p.states;
        R re[own_rows][own_columns], im[pairs ? 1 : own_rows][own_columns];
#pragma unroll
        for (int i = 0; i < own_rows; ++i) {
#pragma unroll
            for (int k = 0; k < own_columns; ++k) {
                re[i][k] = 0;
                im[pairs ? 0 : i][k] = 0;
            }
        }
        for (int64_t first = 0; first < p.states; first += vandermonde_poles) {
            const int count = static_cast<int>(p.states - first < vandermonde_poles ? p.states - first : vandermonde_poles);
            __syncthreads(); // the tables before are done with
            fill_tables(poles + first, count, first_row, shared);
            __syncthreads();
            if (begin >= p.length || SSM_MUTATE("vandermonde_multiply.cuda.lost_block", false, first > 0)) {
                continue;
            }
            for (int n = 0; n < count; ++n) {
                const Vector<R, 2 * own_columns> t = load_vector<2 * own_columns>(&shared.columns[n][column].re);
                const Vector<R, 2 * own_rows> factors = load_vector<2 * own_rows>(&shared.rows[n][own_row].re);
#pragma unroll
                for (int i = 0; i < own_rows; ++i) {
#pragma unroll
                    for (int k = 0; k < own_columns; ++k) {
                        re[i][k] = multiply_add(-factors[2 * i + 1], t[2 * k + 1],
                                                multiply_add(factors[2 * i], t[2 * k], re[i][k]));
                        if (!pairs) {
                            R& own = im[pairs ? 0 : i][k];
                            own =
                                multiply_add(factors[2 * i + 1], t[2 * k], multiply_add(factors[2 * i], t[2 * k + 1], own));
                        }
                    }
                }
            }
        }
        const int64_t length = p.length - SSM_MUTATE("vandermonde_multiply.cuda.off_by_one_tail", 0, 1);
#pragma unroll
        for (int i = 0; i < own_rows; ++i) {
            const int64_t l = begin + i * vandermonde_columns + column;
            if (pairs) {
                R* const y = static_cast<R*>(p.y) + row * p.length + l;
                if (arguments.whole && l + own_columns <= length) {
                    Vector<R, own_columns> run_of_y;
#pragma unroll
                    for (int k = 0; k < own_columns; ++k) {
                        run_of_y[k] = re[i][k];
                    }
                    store_vector(y, run_of_y);
                    continue;
                }
#pragma unroll
                for (int k = 0; k < own_columns; ++k) {
                    if (l + k < length) {
                        y[k] = re[i][k];
                    }
                }
            } else {
                Complex<R>* const y = static_cast<Complex<R>*>(p.y) + row * p.length + l;
#pragma unroll
                for (int k = 0; k < own_columns; ++k) {
                    if (l + k < length) {
                        y[k] = {re[i][k], im[pairs ? 0 : i][k]};
                    }
                }
            }
        }
    }
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

template <typename R>
cudaError_t launch_prepare(BackendContext* context, int64_t rows, int64_t states, int64_t length, bool conjugate_pairs,
                           const PoleSource& source, SumPole<R>* poles) {
    const double scale = conjugate_pairs ? SSM_MUTATE("vandermonde_multiply.cuda.single_pair", 2.0, 1.0) : 1.0;
    return launch(vandermonde_prepare_kernel<R>, blocks_for((rows * states + prepare_threads - 1) / prepare_threads),
                  dim3(prepare_threads), 0, context->stream, source, rows, states, length, scale, poles);
}

template <typename R>
int32_t run_vandermonde(BackendContext* context, const VandermondeMultiplyParams& params) {
    using Traits = VandermondeTraits<R>;
    SumPole<R>* const poles = static_cast<SumPole<R>*>(params.workspace.data);
    cudaError_t error = prepare_poles(context, params.type, params.rows, params.states, params.length,
                                      params.conjugate_pairs, params.source, poles);
    if (error != cudaSuccess) {
        return status_of(error, "vandermonde_multiply");
    }
    VandermondeArguments<R> arguments{params, poles, false};
    arguments.whole = params.length % own_columns == 0 && is_aligned(params.y, 16);
    const dim3 blocks = blocks_for(params.rows * ((params.length + Traits::steps - 1) / Traits::steps));
    error = params.conjugate_pairs ? launch(vandermonde_multiply_kernel<R, true>, blocks, dim3(vandermonde_threads),
                                            sizeof(typename Traits::Storage), context->stream, arguments)
                                   : launch(vandermonde_multiply_kernel<R, false>, blocks, dim3(vandermonde_threads),
                                            sizeof(typename Traits::Storage), context->stream, arguments);
    return status_of(error, "vandermonde_multiply");
}

uint64_t bytes_of(const VandermondeMultiplyParams& params) {
    const uint64_t poles = static_cast<uint64_t>(params.rows * params.states);
    return poles * (params.type == DataType::complex128 ? sizeof(SumPole<double>) : sizeof(SumPole<float>));
}

} // namespace

cudaError_t prepare_poles(BackendContext* context, DataType type, int64_t rows, int64_t states, int64_t length,
                          bool conjugate_pairs, const PoleSource& source, void* poles) {
    return type == DataType::complex128
               ? launch_prepare(context, rows, states, length, conjugate_pairs, source, static_cast<SumPole<double>*>(poles))
               : launch_prepare(context, rows, states, length, conjugate_pairs, source, static_cast<SumPole<float>*>(poles));
}

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t vandermonde_multiply(BackendContext* context, const VandermondeMultiplyParams* params) {
    if (bytes_of(*params) > params->workspace.bytes) {
        return fail(error_workspace_too_small,
                    "vandermonde_multiply: the workspace is smaller than the workspace function says");
    }
    return dispatch_complex(params->type, [&](auto real) { return run_vandermonde<decltype(real)>(context, *params); });
}

int32_t vandermonde_multiply_workspace(BackendContext*, const VandermondeMultiplyParams* params, uint64_t* bytes) {
    *bytes = bytes_of(*params);
    return success;
}

} // namespace ssm
