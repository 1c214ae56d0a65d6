// Gradients of cauchy_multiply: for each pole the sums over the nodes of g conj(q) and g conj(q)^2 with q = 1 / (z - w), to
// which the other one of a pair adds the conjugates of its own.
//
// A lane has a pole, the warps of a block share the nodes of a part of time between them; nodes lie in shared memory and
// are read by all lanes at once. A second kernel adds up the parts in their order. 19 operations and a reciprocal for a pole
// and node (twice that for a pair); 2 e bytes for a node, row and 32 poles.
#include "cuda/poles.h"

#include "core/mutate.h"
#include "core/params/cauchy_multiply_backward.h"
#include "cuda/operations.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

constexpr int cauchy_warps = 4;
constexpr int cauchy_threads = cauchy_warps * warp_size;
constexpr int cauchy_nodes = 128;     // in shared memory at once
constexpr int64_t cauchy_part = 1024; // nodes of a block
constexpr int cauchy_sums = 4;        // both sums, real and imaginary

template <typename R>
struct CauchyBackwardStorage {
    Complex<R> z[cauchy_nodes], g[cauchy_nodes];
    R sums[cauchy_warps][cauchy_sums][warp_size];
};

template <typename R>
struct CauchyBackwardArguments {
    CauchyMultiplyBackwardParams params;
    int64_t parts;
    R* sums; // (H,parts,4,N)
};

// ---- Kernels -------------------------------------------------------------------------------------------------------------

// The terms of one pole, whose difference from the node is (x, y); those of the other one of a pair are conjugated.
template <bool other, typename R>
SSM_DEVICE void add_terms(R x, R y, Complex<R> g, Complex<R>& sum, Complex<R>& square_sum) {
    const R r = fast_reciprocal(multiply_add(x, x, y * y));
    const Complex<R> q{x * r, y * r}; // conjugated
    const Complex<R> square{multiply_add(q.re, q.re, -q.im * q.im), 2 * (q.re * q.im)};
    const Complex<R> first = multiply_add(g, q, other ? conjugate(sum) : sum);
    const Complex<R> second = multiply_add(g, square, other ? conjugate(square_sum) : square_sum);
    sum = other ? conjugate(first) : first;
    square_sum = other ? conjugate(second) : second;
}

template <typename R>
__global__ void __launch_bounds__(cauchy_threads) cauchy_multiply_backward_kernel(CauchyBackwardArguments<R> arguments) {
    auto& shared = SSM_SHARED(CauchyBackwardStorage<R>);
    const CauchyMultiplyBackwardParams& p = arguments.params;
    const int64_t pole_blocks = (p.states + warp_size - 1) / warp_size;
    const int64_t items = p.rows * arguments.parts * pole_blocks;
    const int lane = lane_id(), warp = warp_id();
    for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
        const int64_t pole_block = item % pole_blocks;
        const int64_t row = item / pole_blocks / arguments.parts;
        const int64_t part = item / pole_blocks % arguments.parts;
        const int64_t n = pole_block * warp_size + lane;
        const Complex<R> w = static_cast<const Complex<R>*>(p.w)[row * p.states + (n < p.states ? n : 0)];
        const int64_t part_begin = part * cauchy_part;
        const int64_t part_end = part_begin + cauchy_part < p.length ? part_begin + cauchy_part : p.length;
        Complex<R> sum{0, 0}, square_sum{0, 0};
        for (int64_t begin = part_begin; begin < part_end; begin += cauchy_nodes) {
            const int count = static_cast<int>(part_end - begin < cauchy_nodes ? part_end - begin : cauchy_nodes);
            __syncthreads(); // the nodes before are done with
            for (int i = static_cast<int>(threadIdx.x); i < count; i += cauchy_threads) {
                shared.z[i] = static_cast<const Complex<R>*>(p.z)[begin + i];
                shared.g[i] = static_cast<const Complex<R>*>(p.grad_y)[row * p.length + begin + i];
            }
            __syncthreads();
            for (int i = warp; i < count; i += cauchy_warps) {
                const Complex<R> z = shared.z[i], g = shared.g[i];
                add_terms<false>(z.re - w.re, z.im - w.im, g, sum, square_sum);
                if (p.conjugate_pairs) {
                    const R im = SSM_MUTATE("cauchy_multiply_backward.cuda.wrong_conjugate", w.im, -w.im);
                    add_terms<true>(z.re - w.re, z.im + im, g, sum, square_sum);
                }
            }
        }
        shared.sums[warp][0][lane] = sum.re;
        shared.sums[warp][1][lane] = sum.im;
        shared.sums[warp][2][lane] = square_sum.re;
        shared.sums[warp][3][lane] = square_sum.im;
        __syncthreads();
        // The warps' sums, warp k adding up the k-th.
        R total = shared.sums[0][warp][lane];
        const int warps = SSM_MUTATE("cauchy_multiply_backward.cuda.lost_warps", cauchy_warps, 1);
        for (int i = 1; i < warps; ++i) {
            total += shared.sums[i][warp][lane];
        }
        if (n < p.states) {
            arguments.sums[((row * arguments.parts + part) * cauchy_sums + warp) * p.states + n] = total;
        }
        __syncthreads(); // the sums are done with
    }
}

template <typename R>
__global__ void __launch_bounds__(cauchy_threads) cauchy_multiply_backward_sum_kernel(CauchyBackwardArguments<R> arguments) {
    const CauchyMultiplyBackwardParams& p = arguments.params;
    const int64_t stride = static_cast<int64_t>(gridDim.x) * cauchy_threads;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * cauchy_threads + threadIdx.x; i < p.rows * p.states; i += stride) {
        const int64_t row = i / p.states;
        double totals[cauchy_sums] = {0, 0, 0, 0};
        const int64_t parts = SSM_MUTATE("cauchy_multiply_backward.cuda.lost_parts", arguments.parts, 1);
        for (int64_t part = 0; part < parts; ++part) {
            const R* const sums =
                arguments.sums + (row * arguments.parts + part) * cauchy_sums * p.states + i - row * p.states;
#pragma unroll
            for (int k = 0; k < cauchy_sums; ++k) {
                totals[k] += static_cast<double>(sums[k * p.states]);
            }
        }
        if (p.grad_v) {
            store_complex<R>(p.grad_v, i, {totals[0], totals[1]});
        }
        if (p.grad_w) {
            store_complex<R>(p.grad_w, i, conjugate(complex_at<R>(p.v, i)) * ComplexDouble{totals[2], totals[3]});
        }
    }
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

template <typename R>
uint64_t plan(const CauchyMultiplyBackwardParams& params, CauchyBackwardArguments<R>& arguments) {
    arguments.params = params;
    arguments.parts = (params.length + cauchy_part - 1) / cauchy_part;
    WorkspaceParts parts(params.workspace.data);
    arguments.sums = parts.take<R>(params.rows * arguments.parts * cauchy_sums * params.states);
    return parts.size();
}

} // namespace

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t cauchy_multiply_backward(BackendContext* context, const CauchyMultiplyBackwardParams* params) {
    return dispatch_complex(params->type, [&](auto real) {
        using R = decltype(real);
        CauchyBackwardArguments<R> arguments{};
        if (plan(*params, arguments) > params->workspace.bytes) {
            return fail(error_workspace_too_small,
                        "cauchy_multiply_backward: the workspace is smaller than the workspace function says");
        }
        const int64_t items = params->rows * arguments.parts * ((params->states + warp_size - 1) / warp_size);
        const cudaError_t error = launch(cauchy_multiply_backward_kernel<R>, blocks_for(items), dim3(cauchy_threads),
                                         sizeof(CauchyBackwardStorage<R>), context->stream, arguments);
        if (error != cudaSuccess) {
            return status_of(error, "cauchy_multiply_backward");
        }
        const int64_t poles = params->rows * params->states;
        return status_of(launch(cauchy_multiply_backward_sum_kernel<R>,
                                blocks_for((poles + cauchy_threads - 1) / cauchy_threads), dim3(cauchy_threads), 0,
                                context->stream, arguments),
                         "cauchy_multiply_backward");
    });
}

int32_t cauchy_multiply_backward_workspace(BackendContext*, const CauchyMultiplyBackwardParams* params, uint64_t* bytes) {
    return dispatch_complex(params->type, [&](auto real) {
        CauchyBackwardArguments<decltype(real)> arguments{};
        CauchyMultiplyBackwardParams without_memory = *params;
        without_memory.workspace = {};
        *bytes = plan(without_memory, arguments);
        return int32_t{success};
    });
}

} // namespace ssm
