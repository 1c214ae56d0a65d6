// The gradients of the long causal convolution, out of the transforms of causal_conv.cu. With g = post_gate grad_y: grad_x
// is g convolved with the kernels turned round in time, by the conjugate spectrum, and goes to grad_u and grad_pre_gate; the
// sum before post_gate is computed again and goes to grad_post_gate; the kernels' gradients are the sum over segments and
// rows of conj(X) G, row by row of a transform in one order, transformed back once for each head. So there are six
// transforms of a segment where everything is wanted, and a transform of each kernel there and one back.
#include "cuda/primitives/cuda.h"

#include "core/mutate.h"
#include "cuda/causal_conv.h"
#include "cuda/primitives/launch.h"
#include "cuda/primitives/shared.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

constexpr int sum_threads = 256;

template <typename R>
struct ProductStorage {
    R sums[sum_threads];
};

// ---- Kernel --------------------------------------------------------------------------------------------------------------

// grad_d: the sum of g x over rows and time, a block for each head; the threads' sums are added up as a tree.
template <typename T>
__global__ void __launch_bounds__(sum_threads) causal_conv_backward_product_kernel(CausalConvBackwardParams p) {
    using R = Compute<T>;
    ProductStorage<R>& shared = SSM_SHARED(ProductStorage<R>);
    const int thread = static_cast<int>(threadIdx.x);
    const auto load = [&](const Sequence& s, int64_t batch, int64_t head, int64_t t) {
        return widen(static_cast<const T*>(s.data)[batch * s.batch_stride + head * s.channel_stride + t]);
    };
    for (int64_t head = blockIdx.x; head < p.shape.channels; head += gridDim.x) {
        R sum = R(0);
        for (int64_t batch = 0; batch < p.shape.batch; ++batch) {
            for (int64_t t = thread; t < p.shape.length; t += sum_threads) {
                R x = load(p.u, batch, head, t), g = load(p.grad_y, batch, head, t);
                x = p.pre_gate.data ? x * load(p.pre_gate, batch, head, t) : x;
                g = p.post_gate.data ? g * load(p.post_gate, batch, head, t) : g;
                sum = multiply_add(x, g, sum);
            }
        }
        shared.sums[thread] = sum;
        __syncthreads();
        for (int half = sum_threads / 2; half > 0; half /= 2) {
            if (thread < half) {
                shared.sums[thread] += shared.sums[thread + half];
            }
            __syncthreads();
        }
        if (thread == 0) {
            static_cast<R*>(p.grad_d)[head] = shared.sums[0];
        }
        __syncthreads();
    }
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

// One call; its parts are queued one after the other.
template <typename T>
class BackwardCall {
  public:
    using R = Compute<T>;

    BackwardCall(BackendContext* context, const CausalConvBackwardParams& p)
        : context(context), p(p), wants_x(p.grad_u.data || p.grad_pre_gate.data || p.grad_initial_state),
          wants_taps(p.grad_k || p.grad_k_reverse), wants_sum(p.post_gate.data && p.grad_post_gate.data) {
        cut = cut_transforms(p.shape.length, p.shape.sequences, p.taps, p.k_reverse != nullptr,
                             p.initial_state || p.grad_initial_state, context->options.get("causal_conv_backward.tile"),
                             false);
        fft = fft_shape<R>(cut, context->options.get("causal_conv_backward.path"));
        // Of the kernels' gradients a segment has two transforms in memory.
        groups = group_convolution<R>(fft, p.shape.channels, transform_segments(p.shape, cut));
    }

    // The workspace, or with a null pointer its size alone.
    uint64_t place(void* workspace) {
        WorkspaceParts parts(workspace);
        const int64_t head = groups.heads * fft.points, buffer = head * groups.numbers;
        spectra = wants_x || wants_sum ? parts.take<Complex<R>>(head) : nullptr;
        sums = wants_taps ? parts.take<Complex<R>>(head) : nullptr;
        points = wants_taps || !fft.is_fused() ? parts.take<Complex<R>>(buffer) : nullptr;
        others = wants_taps ? parts.take<Complex<R>>(buffer) : nullptr;
        fft.work = parts.take<unsigned char>(static_cast<int64_t>(work));
        return parts.size();
    }

    // What the transforms need; to be asked before the others.
    int32_t prepare() { return convolution_bytes<R>(context, fft, groups, &work); }

    int32_t run() {
        if (p.workspace.bytes < place(p.workspace.data)) {
            return fail(error_workspace_too_small, "causal_conv_backward: workspace too small");
        }
        cudaError_t error = cudaSuccess;
        const int64_t heads = p.shape.channels;
        for (int64_t first = 0; first < heads && error == cudaSuccess; first += groups.heads) {
            error = run_heads(first, heads - first < groups.heads ? heads - first : groups.heads);
        }
        if (error == cudaSuccess && p.grad_d) {
            const unsigned blocks = static_cast<unsigned>(heads < 65535 ? heads : 65535);
            error = launch(causal_conv_backward_product_kernel<T>, dim3(blocks), dim3(sum_threads),
                           sizeof(ProductStorage<R>), context->stream, p);
        }
        return status_of(error, "causal_conv_backward");
    }

  private:
    Convolution of_heads(int64_t first, int64_t count) const {
        Convolution convolution{};
        convolution.shape = p.shape;
        convolution.cut = cut;
        convolution.taps = p.taps;
        convolution.d = p.d;
        convolution.first_head = first;
        convolution.heads = count;
        return convolution;
    }
    // With x for the source, or with g.
    Convolution of_x(int64_t first, int64_t count) const {
        Convolution convolution = of_heads(first, count);
        convolution.source = p.u;
        convolution.source_gate = p.pre_gate;
        convolution.state = p.initial_state;
        return convolution;
    }
    Convolution of_g(int64_t first, int64_t count) const {
        Convolution convolution = of_heads(first, count);
        convolution.source = p.grad_y;
        convolution.source_gate = p.post_gate;
        return convolution;
    }

    cudaError_t run_heads(int64_t first, int64_t count) {
        cudaError_t error = cudaSuccess;
        if (wants_x || wants_sum) {
            error = make_spectra(context, fft, of_heads(first, count), Kernels{p.k, p.k_reverse, nullptr, nullptr}, spectra);
        }
        if (error == cudaSuccess && wants_sum) {
            Convolution sum = of_x(first, count);
            sum.target = p.grad_post_gate;
            sum.target_gate = p.grad_y;
            error = convolve<T>(context, fft, sum, spectra, points, groups.numbers);
        }
        if (error == cudaSuccess && wants_x) {
            error = run_x(first, count);
        }
        if (error == cudaSuccess && wants_taps) {
            error = run_taps(first, count);
        }
        return error;
    }

    cudaError_t run_x(int64_t first, int64_t count) {
        Convolution convolution = of_g(first, count);
        convolution.adjoint = true;
        convolution.tail = p.grad_last_state;
        convolution.target = p.grad_u;
        convolution.target_gate = p.pre_gate;
        convolution.other_target = p.grad_pre_gate;
        convolution.other_gate = p.u;
        if (p.grad_u.data || p.grad_pre_gate.data) {
            const cudaError_t error = convolve<T>(context, fft, convolution, spectra, points, groups.numbers);
            if (error != cudaSuccess) {
                return error;
            }
        }
        if (!p.grad_initial_state || p.taps == 1) {
            return cudaSuccess;
        }
        convolution.before = true;
        convolution.before_target = p.grad_initial_state;
        return convolve<T>(context, fft, convolution, spectra, points, groups.numbers);
    }

    cudaError_t run_taps(int64_t first, int64_t count) {
        Convolution x = of_x(first, count), g = of_g(first, count);
        g.alone = true;
        const int64_t segments = x.segments();
        Rows<R> rows{};
        rows.fft = fft;
        rows.heads = count;
        rows.points = points;
        rows.others = others;
        rows.sums = sums;
        for (int64_t number = 0; number < segments; number += groups.numbers) {
            x.first_number = g.first_number = number;
            x.numbers = g.numbers = rows.numbers = segments - number < groups.numbers ? segments - number : groups.numbers;
            rows.mode = RowsMode::gather;
            rows.is_first = number == 0;
            cudaError_t error = launch_columns<T>(context, fft, x, nullptr, true, points);
            if (error == cudaSuccess) {
                error = launch_columns<T>(context, fft, g, nullptr, true, others);
            }
            if (error == cudaSuccess) {
                error = launch_rows(context, rows);
            }
            if (error != cudaSuccess) {
                return error;
            }
        }
        rows.mode = RowsMode::finish;
        rows.numbers = 1;
        rows.points = sums;
        const cudaError_t error = launch_rows(context, rows);
        if (error != cudaSuccess) {
            return error;
        }
        const Kernels gradients{nullptr, nullptr, p.grad_k, p.grad_k_reverse};
        const cudaError_t stored = launch_columns<R>(context, fft, x, &gradients, false, sums);
        return stored == cudaSuccess ? clear_far_taps(first, count) : stored;
    }

    // Taps beyond the transform meet no step.
    cudaError_t clear_far_taps(int64_t first, int64_t count) {
        for (void* const gradient : {p.grad_k, p.grad_k_reverse}) {
            if (!gradient || p.taps <= cut.length) {
                continue;
            }
            for (int64_t head = first; head < first + count; ++head) {
                const cudaError_t error =
                    cudaMemsetAsync(static_cast<R*>(gradient) + head * p.taps + cut.length, 0,
                                    static_cast<size_t>(p.taps - cut.length) * sizeof(R), context->stream);
                if (error != cudaSuccess) {
                    return error;
                }
            }
        }
        return cudaSuccess;
    }

    BackendContext* const context;
    const CausalConvBackwardParams& p;
    const bool wants_x, wants_taps, wants_sum;
    TransformCut cut{};
    FftShape fft{};
    ConvolutionGroups groups{};
    uint64_t work = 0;
    Complex<R>*spectra = nullptr, *sums = nullptr, *points = nullptr, *others = nullptr;
};

// Runs, or with `bytes` answers the workspace.
template <typename T>
int32_t run_causal_conv_backward(BackendContext* context, const CausalConvBackwardParams& p, uint64_t* bytes) {
    BackwardCall<T> call(context, p);
    if (const int32_t status = call.prepare()) {
        return status;
    }
    if (bytes) {
        *bytes = call.place(nullptr);
        return success;
    }
    return call.run();
}

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t dispatch_causal_conv_backward(BackendContext* context, const CausalConvBackwardParams& params, uint64_t* bytes) {
    switch (params.type) {
    case DataType::float32:
        return run_causal_conv_backward<float>(context, params, bytes);
    case DataType::float64:
        return run_causal_conv_backward<double>(context, params, bytes);
    case DataType::float16:
        return run_causal_conv_backward<Half>(context, params, bytes);
    case DataType::bfloat16:
        return run_causal_conv_backward<BFloat16>(context, params, bytes);
    default:
        return fail(error_internal, "a backend was called with a type that core should have refused");
    }
}

} // namespace

int32_t causal_conv_backward(BackendContext* context, const CausalConvBackwardParams* params) {
    return dispatch_causal_conv_backward(context, *params, nullptr);
}

int32_t causal_conv_backward_workspace(BackendContext* context, const CausalConvBackwardParams* params, uint64_t* bytes) {
    return dispatch_causal_conv_backward(context, *params, bytes);
}

} // namespace ssm
