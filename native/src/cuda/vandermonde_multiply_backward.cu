// Gradients of vandermonde_multiply and diagonal_kernel: for each pole sum_l g_l conj(e_l) and sum_l l g_l conj(e_l) with
// e_l = exp(x l).
//
// A lane has a pole, the warps of a block share the steps of a part of time between them, 32 at once: a polynomial of
// q = conj(exp(x)) whose value and derivative Horner's rule gives, times the power at its first step, whose phase is reduced
// in double precision. A second kernel adds up the parts in their order and goes from the sums to the gradients. 8
// operations for a pole and step; e bytes for a step, row and 32 poles.
#include "cuda/poles.h"

#include "core/mutate.h"
#include "core/params/vandermonde_multiply_backward.h"
#include "cuda/operations.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

constexpr int sum_warps = 4;
constexpr int sum_threads = sum_warps * warp_size;
constexpr int horner_steps = 32; // of one polynomial
constexpr int tile_steps = sum_warps * horner_steps;
constexpr int64_t part_steps = 2048; // of a block
constexpr int sum_count = 4;         // both sums, real and imaginary

template <typename R>
struct VandermondeSumStorage {
    Complex<R> g[tile_steps];
    R sums[sum_warps][sum_count][warp_size];
};
struct GradientStorage {
    double dt[sum_threads];
};

template <typename R>
struct VandermondeBackwardArguments {
    VandermondeMultiplyBackwardParams params;
    int64_t parts;
    SumPole<R>* poles; // (H,N)
    R* sums;           // (H,parts,4,N)
};

// ---- Kernels -------------------------------------------------------------------------------------------------------------

template <typename R>
__global__ void __launch_bounds__(sum_threads)
    vandermonde_multiply_backward_kernel(VandermondeBackwardArguments<R> arguments) {
    auto& shared = SSM_SHARED(VandermondeSumStorage<R>);
    const VandermondeMultiplyBackwardParams& p = arguments.params;
    const int64_t pole_blocks = (p.states + warp_size - 1) / warp_size;
    const int64_t items = p.rows * arguments.parts * pole_blocks;
    const int lane = lane_id(), warp = warp_id();
    for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
        const int64_t row = item / pole_blocks / arguments.parts;
        const int64_t part = item / pole_blocks % arguments.parts;
        const int64_t n = item % pole_blocks * warp_size + lane;
        const SumPole<R> pole = arguments.poles[row * p.states + (n < p.states ? n : 0)];
        const Complex<R> q = conjugate(pole.step);
        const int64_t part_end = (part + 1) * part_steps < p.length ? (part + 1) * part_steps : p.length;
        Complex<R> plain{0, 0}, weighted{0, 0};
        for (int64_t begin = part * part_steps; begin < part_end; begin += tile_steps) {
            const int count = static_cast<int>(part_end - begin < tile_steps ? part_end - begin : tile_steps);
            __syncthreads(); // the steps before are done with
            for (int i = static_cast<int>(threadIdx.x); i < tile_steps; i += sum_threads) {
                const int64_t at = row * p.length + begin + i;
                shared.g[i] = {0, 0};
                if (i < count) {
                    shared.g[i] = p.conjugate_pairs ? Complex<R>{static_cast<const R*>(p.grad_y)[at], 0}
                                                    : static_cast<const Complex<R>*>(p.grad_y)[at];
                }
            }
            __syncthreads();
            const int first = warp * horner_steps;
            if (first >= count) {
                continue;
            }
            Complex<R> value{0, 0}, slope{0, 0};
            for (int i = horner_steps - 1; i >= 0; --i) {
                slope = multiply_add(q, slope, value);
                value = multiply_add(q, value, shared.g[first + i]);
            }
            const int64_t l = begin + first;
            const Complex<R> power = conjugate(power_of(pole, static_cast<double>(l) - pole.shift));
            const R from = static_cast<R>(SSM_MUTATE("vandermonde_multiply_backward.cuda.lost_start", l, 0));
            const Complex<R> of_tile = q * slope;
            plain = multiply_add(power, value, plain);
            weighted = multiply_add(
                power, Complex<R>{multiply_add(from, value.re, of_tile.re), multiply_add(from, value.im, of_tile.im)},
                weighted);
        }
        shared.sums[warp][0][lane] = plain.re;
        shared.sums[warp][1][lane] = plain.im;
        shared.sums[warp][2][lane] = weighted.re;
        shared.sums[warp][3][lane] = weighted.im;
        __syncthreads();
        // The warps' sums, warp k adding up the k-th.
        R total = shared.sums[0][warp][lane];
        const int warps = SSM_MUTATE("vandermonde_multiply_backward.cuda.lost_warps", sum_warps, 1);
        for (int i = 1; i < warps; ++i) {
            total += shared.sums[i][warp][lane];
        }
        if (n < p.states) {
            arguments.sums[((row * arguments.parts + part) * sum_count + warp) * p.states + n] = total;
        }
        __syncthreads(); // the sums are done with
    }
}

// A block for each row.
template <typename R>
__global__ void __launch_bounds__(sum_threads)
    vandermonde_multiply_backward_sum_kernel(VandermondeBackwardArguments<R> arguments) {
    auto& shared = SSM_SHARED(GradientStorage);
    const VandermondeMultiplyBackwardParams& p = arguments.params;
    for (int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
        double grad_dt = 0;
        for (int64_t n = threadIdx.x; n < p.states; n += sum_threads) {
            double totals[sum_count] = {0, 0, 0, 0};
            const int64_t parts = SSM_MUTATE("vandermonde_multiply_backward.cuda.lost_parts", arguments.parts, 1);
            for (int64_t part = 0; part < parts; ++part) {
                const R* const sums = arguments.sums + (row * arguments.parts + part) * sum_count * p.states + n;
#pragma unroll
                for (int k = 0; k < sum_count; ++k) {
                    totals[k] += static_cast<double>(sums[k * p.states]);
                }
            }
            const PoleSums sums = {{totals[0], totals[1]}, {totals[2], totals[3]}};
            const int64_t index = row * p.states + n;
            if (p.source.is_system) {
                const SystemGradients gradients = system_gradients<R>(p.source, row, index, p.length, sums);
                if (p.grad_a) {
                    store_complex<R>(p.grad_a, index, gradients.a);
                }
                if (p.grad_b) {
                    store_complex<R>(p.grad_b, index, gradients.b);
                }
                if (p.grad_c) {
                    store_complex<R>(p.grad_c, index, gradients.c);
                }
                grad_dt += gradients.dt;
            } else {
                const double scale = p.conjugate_pairs ? 2.0 : 1.0;
                if (p.grad_v) {
                    store_complex<R>(p.grad_v, index, scaled(scale, sums.plain));
                }
                if (p.grad_x) {
                    store_complex<R>(p.grad_x, index,
                                     scaled(scale, conjugate(complex_at<R>(p.source.v, index)) * sums.weighted));
                }
            }
        }
        if (!p.grad_dt) {
            continue;
        }
        shared.dt[threadIdx.x] = grad_dt;
        __syncthreads();
        if (threadIdx.x == 0) {
            for (int i = 1; i < sum_threads; ++i) {
                grad_dt += shared.dt[i];
            }
            static_cast<R*>(p.grad_dt)[row] = static_cast<R>(grad_dt);
        }
        __syncthreads(); // the sums are done with
    }
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

template <typename R>
uint64_t plan(const VandermondeMultiplyBackwardParams& params, VandermondeBackwardArguments<R>& arguments) {
    arguments.params = params;
    arguments.parts = (params.length + part_steps - 1) / part_steps;
    WorkspaceParts parts(params.workspace.data);
    arguments.poles = parts.take<SumPole<R>>(params.rows * params.states);
    arguments.sums = parts.take<R>(params.rows * arguments.parts * sum_count * params.states);
    return parts.size();
}

template <typename R>
int32_t run_backward(BackendContext* context, const VandermondeMultiplyBackwardParams& params) {
    VandermondeBackwardArguments<R> arguments{};
    if (plan(params, arguments) > params.workspace.bytes) {
        return fail(error_workspace_too_small,
                    "vandermonde_multiply_backward: the workspace is smaller than the workspace function says");
    }
    cudaError_t error = prepare_poles(context, params.type, params.rows, params.states, params.length, false, params.source,
                                      arguments.poles);
    if (error == cudaSuccess) {
        const int64_t items = params.rows * arguments.parts * ((params.states + warp_size - 1) / warp_size);
        error = launch(vandermonde_multiply_backward_kernel<R>, blocks_for(items), dim3(sum_threads),
                       sizeof(VandermondeSumStorage<R>), context->stream, arguments);
    }
    if (error == cudaSuccess) {
        error = launch(vandermonde_multiply_backward_sum_kernel<R>, blocks_for(params.rows), dim3(sum_threads),
                       sizeof(GradientStorage), context->stream, arguments);
    }
    return status_of(error, "vandermonde_multiply_backward");
}

} // namespace

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t vandermonde_multiply_backward(BackendContext* context, const VandermondeMultiplyBackwardParams* params) {
    return dispatch_complex(params->type, [&](auto real) { return run_backward<decltype(real)>(context, *params); });
}

int32_t vandermonde_multiply_backward_workspace(BackendContext*, const VandermondeMultiplyBackwardParams* params,
                                                uint64_t* bytes) {
    return dispatch_complex(params->type, [&](auto real) {
        VandermondeBackwardArguments<decltype(real)> arguments{};
        VandermondeMultiplyBackwardParams without_memory = *params;
        without_memory.workspace = {};
        *bytes = plan(without_memory, arguments);
        return int32_t{success};
    });
}

} // namespace ssm
