// cauchy_multiply: y_l = sum_n v_n / (z_l - w_n).
//
// A thread has some nodes of a row and goes through the poles, which lie in shared memory and are read by all threads at
// once. A conjugate pair is one quotient, (2 Re(v) (z - Re w) - 2 Im(v) Im(w) + 2i Re(v) Im(z)) / (d1 d2), whose denominator
// is the product of the differences d1 = z - w and d2 = z - conj(w): near a pole z^2 - 2 Re(w) z + |w|^2 would cancel.
// 17 operations and a reciprocal for a pair and node, 11 and one for a pole alone; 2 e bytes for a node and row (z comes
// from the cache). Arithmetic is the limit from 8 poles on.
#include "cuda/poles.h"

#include "core/mutate.h"
#include "core/params/cauchy_multiply.h"
#include "cuda/operations.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

constexpr int cauchy_threads = 128;
constexpr int cauchy_block = 128; // poles in shared memory at once

template <typename R>
struct alignas(4 * sizeof(R) < 16 ? 4 * sizeof(R) : 16) CauchyPole {
    R re, im;
    R first, second; // of a pair 2 Re(v) and -2 Im(v) Im(w), else v
};
template <typename R>
struct CauchyStorage {
    CauchyPole<R> poles[cauchy_block];
};

// Nodes of a thread: enough for each load of a pole to be used more than once.
template <typename R>
constexpr int cauchy_nodes = sizeof(R) == 4 ? 4 : 2;

// ---- Kernels -------------------------------------------------------------------------------------------------------------

template <bool pairs, typename R>
SSM_DEVICE void add_pole(const CauchyPole<R>& pole, Complex<R> z, Complex<R>& y) {
    const R x = z.re - pole.re;
    const R below = z.im - pole.im;
    Complex<R> top{pole.first, pole.second};
    Complex<R> bottom{x, below};
    if constexpr (pairs) {
        const R above = z.im + pole.im;
        bottom = {multiply_add(x, x, -below * above), x * (z.im + z.im)};
        top = {multiply_add(pole.first, x, pole.second), pole.first * z.im};
    }
    const R r = fast_reciprocal(multiply_add(bottom.re, bottom.re, bottom.im * bottom.im));
    y.re = multiply_add(multiply_add(top.re, bottom.re, top.im * bottom.im), r, y.re);
    y.im = multiply_add(multiply_add(top.im, bottom.re, -top.re * bottom.im), r, y.im);
}

template <typename R>
__global__ void __launch_bounds__(cauchy_threads) cauchy_multiply_kernel(CauchyMultiplyParams p) {
    auto& shared = SSM_SHARED(CauchyStorage<R>);
    constexpr int nodes = cauchy_nodes<R>;
    constexpr int tile = nodes * cauchy_threads;
    const int64_t parts = (p.length + tile - 1) / tile;
    const Complex<R>* const z = static_cast<const Complex<R>*>(p.z);
    for (int64_t item = blockIdx.x; item < p.rows * parts; item += gridDim.x) {
        const int64_t row = item / parts;
        const int64_t begin = (item - row * parts) * tile + threadIdx.x;
        const Complex<R>* const v = static_cast<const Complex<R>*>(p.v) + row * p.states;
        const Complex<R>* const w = static_cast<const Complex<R>*>(p.w) + row * p.states;
        Complex<R>* const y = static_cast<Complex<R>*>(p.y) + row * p.length;
        Complex<R> own_z[nodes], sum[nodes];
#pragma unroll
        for (int k = 0; k < nodes; ++k) {
            const int64_t l = begin + k * cauchy_threads;
            own_z[k] = z[l < p.length ? l : p.length - 1];
            sum[k] = {0, 0};
        }
        for (int64_t first = 0; first < p.states; first += cauchy_block) {
            const int count = static_cast<int>(p.states - first < cauchy_block ? p.states - first : cauchy_block);
            __syncthreads(); // the poles before are done with
            for (int i = static_cast<int>(threadIdx.x); i < count; i += cauchy_threads) {
                const Complex<R> own_v = v[first + i], own_w = w[first + i];
                shared.poles[i] = {own_w.re, own_w.im, own_v.re, own_v.im};
                if (p.conjugate_pairs) {
                    shared.poles[i].first = 2 * own_v.re;
                    shared.poles[i].second =
                        R(SSM_MUTATE("cauchy_multiply.cuda.wrong_conjugate", -2, 2)) * own_v.im * own_w.im;
                }
            }
            __syncthreads();
            if (SSM_MUTATE("cauchy_multiply.cuda.lost_block", false, first > 0)) {
                continue;
            }
            if (p.conjugate_pairs) {
                for (int i = 0; i < count; ++i) {
                    const CauchyPole<R> pole = shared.poles[i];
#pragma unroll
                    for (int k = 0; k < nodes; ++k) {
                        add_pole<true>(pole, own_z[k], sum[k]);
                    }
                }
            } else {
                for (int i = 0; i < count; ++i) {
                    const CauchyPole<R> pole = shared.poles[i];
#pragma unroll
                    for (int k = 0; k < nodes; ++k) {
                        add_pole<false>(pole, own_z[k], sum[k]);
                    }
                }
            }
        }
#pragma unroll
        for (int k = 0; k < nodes; ++k) {
            const int64_t l = begin + k * cauchy_threads;
            if (l < p.length - SSM_MUTATE("cauchy_multiply.cuda.off_by_one_tail", 0, 1)) {
                y[l] = sum[k];
            }
        }
    }
}

} // namespace

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t cauchy_multiply(BackendContext* context, const CauchyMultiplyParams* params) {
    return dispatch_complex(params->type, [&](auto real) {
        using R = decltype(real);
        constexpr int tile = cauchy_nodes<R> * cauchy_threads;
        const int64_t items = params->rows * ((params->length + tile - 1) / tile);
        return status_of(launch(cauchy_multiply_kernel<R>, blocks_for(items), dim3(cauchy_threads), sizeof(CauchyStorage<R>),
                                context->stream, *params),
                         "cauchy_multiply");
    });
}

int32_t cauchy_multiply_workspace(BackendContext*, const CauchyMultiplyParams*, uint64_t* bytes) {
    *bytes = 0;
    return success;
}

} // namespace ssm
