// rms_norm and gated_rms_norm: y = h rstd weight + bias with rstd = 1 / sqrt(mean(h^2) + eps); h is x, x + residual or
// x silu(z), and with the gate last y is multiplied by silu(z).
//
// A team of threads has a group of a row: a warp where it is short, else a block of up to 512 threads. A thread reads four
// vectors of 16 bytes, keeps h in registers, adds up its squares, shuffles and shared memory give the sum, and h is turned
// into y: one read and one write. A group that is longer than the team holds goes through it in parts, and is read once
// more for y, then from the caches.
//
// Bytes for an element: 2 e (x, y), e more each for z, residual and residual_out; weight and bias come from the caches.
// Operations: 4, a gate is an exponential and a quotient more. Memory is the limit.
#include "core/mutate.h"
#include "cuda/context.h"
#include "cuda/primitives/launch.h"
#include "cuda/primitives/shared.h"
#include "cuda/rms_norm.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

template <typename T>
struct RmsNormTraits {
    static constexpr int width = vector_elements<T>;
    static constexpr int vectors = 4; // of a thread
    static constexpr int held = width * vectors;
};

struct RmsNormArguments {
    RmsNormParams params;
    NormTeam team;
    bool whole_x, whole_z, whole_residual, whole_y, whole_residual_out, whole_weight, whole_bias;
};

// ---- Kernel --------------------------------------------------------------------------------------------------------------

// T: storage of x, z and y. X: storage of the residuals.
template <typename T, typename X>
struct RmsNormGroup {
    using R = Compute<T>;
    using Traits = RmsNormTraits<T>;
    static constexpr int width = Traits::width;
    static constexpr int vectors = Traits::vectors;

    const RmsNormArguments& arguments;
    const RmsNormParams& params;
    const int64_t row;
    const int64_t begin; // of the group in the row
    const int thread;    // of the team
    R h[vectors][width];

    SSM_DEVICE RmsNormGroup(const RmsNormArguments& arguments, int64_t row, int64_t group)
        : arguments(arguments), params(arguments.params), row(row), begin(group * params.shape.group),
          thread(arguments.team.thread()) {}

    template <typename V>
    SSM_DEVICE V* at(const RowTensor& tensor, int64_t place) const {
        return static_cast<V*>(tensor.data) + row_offset(params.shape, tensor, row) + place;
    }
    SSM_DEVICE NormPart part_of(int64_t part) const {
        return {part, begin, params.shape.group, static_cast<int64_t>(arguments.team.threads) * Traits::held};
    }
    // Where a vector of this thread begins in a part.
    SSM_DEVICE int place_of(int vector) const { return (vector * arguments.team.threads + thread) * width; }

    SSM_DEVICE void load(const NormPart& part) {
#pragma unroll
        for (int v = 0; v < vectors; ++v) {
            const int count = part.count(place_of(v), width);
            const int64_t first = part.first + place_of(v);
#pragma unroll
            for (int k = 0; k < width; ++k) {
                h[v][k] = 0;
            }
            if (count <= 0) {
                continue;
            }
            const Vector<T, width> x = load_run<width>(at<const T>(params.x, first), count, arguments.whole_x);
#pragma unroll
            for (int k = 0; k < width; ++k) {
                h[v][k] = widen(x[k]);
            }
            if (params.residual_in.data) {
                const Vector<X, width> residual =
                    load_run<width>(at<const X>(params.residual_in, first), count, arguments.whole_residual);
#pragma unroll
                for (int k = 0; k < width; ++k) {
                    h[v][k] += widen(residual[k]);
                }
            }
            if (params.z.data && !params.norm_before_gate) {
                const Vector<T, width> z = load_run<width>(at<const T>(params.z, first), count, arguments.whole_z);
#pragma unroll
                for (int k = 0; k < width; ++k) {
                    h[v][k] *= silu(widen(z[k]));
                }
            }
        }
    }

    SSM_DEVICE void store(const NormPart& part, R rstd) const {
#pragma unroll
        for (int v = 0; v < vectors; ++v) {
            const int count = part.count(place_of(v), width);
            const int64_t first = part.first + place_of(v);
            if (count <= 0) {
                continue;
            }
            R y[width];
#pragma unroll
            for (int k = 0; k < width; ++k) {
                y[k] = h[v][k] * rstd;
            }
            if (params.weight) {
                const Vector<R, width> weight =
                    load_run<width>(static_cast<const R*>(params.weight) + first, count, arguments.whole_weight);
#pragma unroll
                for (int k = 0; k < width; ++k) {
                    y[k] *= weight[k];
                }
            }
            if (params.bias) {
                const Vector<R, width> bias =
                    load_run<width>(static_cast<const R*>(params.bias) + first, count, arguments.whole_bias);
#pragma unroll
                for (int k = 0; k < width; ++k) {
                    y[k] += bias[k];
                }
            }
            if (params.z.data && SSM_MUTATE("rms_norm.cuda.no_gate", params.norm_before_gate, false)) {
                const Vector<T, width> z = load_run<width>(at<const T>(params.z, first), count, arguments.whole_z);
#pragma unroll
                for (int k = 0; k < width; ++k) {
                    y[k] *= silu(widen(z[k]));
                }
            }
            if (params.residual_out.data) {
                store_run<width>(at<X>(params.residual_out, first), count, arguments.whole_residual_out, h[v]);
            }
            store_run<width>(at<T>(params.y, first), SSM_MUTATE("rms_norm.cuda.lost_tail", count, count - 1),
                             arguments.whole_y, y);
        }
    }

    SSM_DEVICE void run(int64_t group, NormStorage<R, 1>& shared) {
        R sums[1] = {0};
        for (int64_t part = 0; part < arguments.team.parts; ++part) {
            load(part_of(part));
#pragma unroll
            for (int v = 0; v < vectors; ++v) {
#pragma unroll
                for (int k = 0; k < width; ++k) {
                    sums[0] = multiply_add(h[v][k], h[v][k], sums[0]);
                }
            }
        }
        add_team(sums, SSM_MUTATE("rms_norm.cuda.lost_warps", arguments.team.threads, warp_size), shared);
        const R rstd = R(1) / sqrt(sums[0] / static_cast<R>(params.shape.group) + static_cast<R>(params.eps));
        for (int64_t part = 0; part < arguments.team.parts; ++part) {
            if (arguments.team.parts > 1) {
                load(part_of(part));
            }
            store(part_of(part), rstd);
        }
        if (params.rstd && thread == 0) {
            static_cast<R*>(params.rstd)[row * (params.shape.width / params.shape.group) + group] = rstd;
        }
    }
};

template <typename T, typename X>
__global__ void __launch_bounds__(norm_threads, 1) rms_norm_kernel(RmsNormArguments arguments) {
    auto& shared = SSM_SHARED(NormStorage<Compute<T>, 1>);
    const RowShape& shape = arguments.params.shape;
    const int64_t groups = shape.width / shape.group;
    const int64_t items = shape.extents[0] * shape.extents[1] * shape.extents[2] * groups;
    // Whole warps leave together, and where a team is more than a warp it is the block.
    for (int64_t item = arguments.team.first_item(); item < items; item += arguments.team.items_at_once()) {
        const int64_t row = item / groups;
        RmsNormGroup<T, X> own(arguments, row, item - row * groups);
        own.run(item - row * groups, shared);
    }
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

template <typename T, typename X>
int32_t run_rms_norm(BackendContext* context, const RmsNormParams& params) {
    using Traits = RmsNormTraits<T>;
    using R = Compute<T>;
    RmsNormArguments arguments{};
    arguments.params = params;
    arguments.team = norm_team(params.shape.group, Traits::held, norm_threads);
    const auto whole = [&](const auto& tensor, int64_t element_bytes) {
        return has_whole_vectors(tensor, params.shape, Traits::width, element_bytes);
    };
    arguments.whole_x = whole(params.x, sizeof(T));
    arguments.whole_z = whole(params.z, sizeof(T));
    arguments.whole_y = whole(params.y, sizeof(T));
    arguments.whole_residual = whole(params.residual_in, sizeof(X));
    arguments.whole_residual_out = whole(params.residual_out, sizeof(X));
    arguments.whole_weight = whole(params.weight, sizeof(R));
    arguments.whole_bias = whole(params.bias, sizeof(R));
    const int64_t teams = arguments.team.block / arguments.team.threads;
    const int64_t blocks = (params.shape.rows() * params.shape.groups() + teams - 1) / teams;
    return status_of(
        launch(rms_norm_kernel<T, X>, dim3(static_cast<unsigned>(blocks < norm_most_blocks ? blocks : norm_most_blocks)),
               dim3(static_cast<unsigned>(arguments.team.block)), sizeof(NormStorage<R, 1>), context->stream, arguments),
        "rms_norm");
}

template <typename T>
int32_t run_rms_norm(BackendContext* context, const RmsNormParams& params) {
    return params.residual == params.type ? run_rms_norm<T, T>(context, params)
                                          : run_rms_norm<T, Compute<T>>(context, params);
}

} // namespace

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t rms_norm(BackendContext* context, const RmsNormParams* params) {
    switch (params->type) {
    case DataType::float32:
        return run_rms_norm<float>(context, *params);
    case DataType::float64:
        return run_rms_norm<double>(context, *params);
    case DataType::float16:
        return run_rms_norm<Half>(context, *params);
    case DataType::bfloat16:
        return run_rms_norm<BFloat16>(context, *params);
    default:
        return fail(error_internal, "a backend was called with a type that core should have refused");
    }
}

int32_t rms_norm_workspace(BackendContext*, const RmsNormParams*, uint64_t* bytes) {
    *bytes = 0;
    return success;
}

} // namespace ssm
