// Gradients of rms_norm and gated_rms_norm. With n = h rstd and g the gradient of n weight + bias, that of h is
// rstd (g weight - n mean(g weight n)); grad_weight = sum of g n and grad_bias = sum of g over the rows.
//
// A team of threads, as in the forward call, goes through a chunk of rows: a thread has the same columns of each, reads a
// few vectors of x, grad_y and z, keeps them as they are until the means are known, and keeps the sums for grad_weight and
// grad_bias in registers through the chunk. What a chunk sums up goes into the workspace, and a second kernel adds the
// chunks in order. Their number depends on the shape and the device alone, so the bits do too. A group that is longer than
// the team holds goes through the chunk part by part, the means of all rows being computed before.
//
// Bytes for an element: 3 e (x, grad_y in, grad_x out), e more each for the residuals' gradients, 2 e more for z and grad_z.
// Operations: about 10, a gate is an exponential and a quotient more. Memory is the limit.
#include "core/mutate.h"
#include "cuda/context.h"
#include "cuda/primitives/launch.h"
#include "cuda/primitives/shared.h"
#include "cuda/primitives/silu.h"
#include "cuda/rms_norm.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

// Of a team at most: up to 255 registers each, and a group of 5,120 elements, the widest of the published models, is one
// part in float32 and 16 bits.
constexpr int norm_backward_threads = 256;

template <typename T>
struct RmsNormBackwardTraits {
    static constexpr int width = vector_elements<T>;
    static constexpr int vectors = sizeof(T) == 2 ? 3 : 5; // of a thread
    static constexpr int held = width * vectors;
};

template <typename R>
struct RmsNormBackwardArguments {
    RmsNormBackwardParams params;
    NormTeam team;
    int64_t chunks;
    int64_t chunk_rows;
    R* weight_sums; // (chunks, D), null where not wanted
    R* bias_sums;
    R* means; // (rows, groups, 2): rstd and mean(g weight n); null where a group is one part
    bool whole_x, whole_z, whole_grad_y, whole_grad_residual_out, whole_grad_x, whole_grad_residual, whole_grad_z,
        whole_weight, whole_bias;
};

// Of the second kernel: a block adds up sum_columns columns, whose chunks it takes in sum_slices interleaved runs.
constexpr int sum_columns = 32;
constexpr int sum_slices = 8;

template <typename R>
struct NormSums {
    int64_t chunks;
    int64_t width;
    const R* sums[2]; // (chunks, D) of the weights and of the bias
    R* gradients[2];  // null where not wanted
};
template <typename R>
struct NormSumsStorage {
    R of_slice[sum_slices][sum_columns];
};

// ---- Kernels -------------------------------------------------------------------------------------------------------------

// T: storage of grad_y, z and their kin. X: of x and the residuals' gradients.
template <typename T, typename X>
struct RmsNormChunk {
    using R = Compute<T>;
    using Traits = RmsNormBackwardTraits<T>;
    static constexpr int width = Traits::width;
    static constexpr int vectors = Traits::vectors;

    const RmsNormBackwardArguments<R>& arguments;
    const RmsNormBackwardParams& params;
    const int64_t group;
    const int64_t begin; // of the group in a row
    const int thread;    // of the team
    Vector<X, width> x[vectors];
    Vector<T, width> grad_y[vectors];
    Vector<T, width> z[vectors];
    R weight_sums[vectors][width];
    R bias_sums[vectors][width];

    SSM_DEVICE RmsNormChunk(const RmsNormBackwardArguments<R>& arguments, int64_t group)
        : arguments(arguments), params(arguments.params), group(group), begin(group * params.shape.group),
          thread(arguments.team.thread()) {}

    template <typename V>
    SSM_DEVICE V* at(const RowTensor& tensor, int64_t row, int64_t place) const {
        return static_cast<V*>(tensor.data) + row_offset(params.shape, tensor, row) + place;
    }
    SSM_DEVICE NormPart part_of(int64_t part) const {
        return {part, begin, params.shape.group, static_cast<int64_t>(arguments.team.threads) * Traits::held};
    }
    // Where a vector of this thread begins in a part.
    SSM_DEVICE int place_of(int vector) const { return (vector * arguments.team.threads + thread) * width; }
    SSM_DEVICE bool gate_first() const { return params.z.data && !params.norm_before_gate; }
    SSM_DEVICE bool gate_last() const { return params.z.data && params.norm_before_gate; }

    SSM_DEVICE void load(const NormPart& part, int64_t row) {
#pragma unroll
        for (int v = 0; v < vectors; ++v) {
            const int count = part.count(place_of(v), width);
            const int64_t first = part.first + place_of(v);
            if (count <= 0) {
                continue;
            }
            x[v] = load_run<width>(at<const X>(params.x, row, first), count, arguments.whole_x);
            grad_y[v] = load_run<width>(at<const T>(params.grad_y, row, first), count, arguments.whole_grad_y);
            if (params.z.data) {
                z[v] = load_run<width>(at<const T>(params.z, row, first), count, arguments.whole_z);
            }
        }
    }
    SSM_DEVICE Vector<R, width> load_weight(int64_t first, int count) const {
        if (params.weight) {
            return load_run<width>(static_cast<const R*>(params.weight) + first, count, arguments.whole_weight);
        }
        Vector<R, width> ones;
#pragma unroll
        for (int k = 0; k < width; ++k) {
            ones[k] = 1;
        }
        return ones;
    }

    // Adds what the elements at hand have of h^2 and of g weight h.
    SSM_DEVICE void add_products(const NormPart& part, R (&sums)[2]) const {
#pragma unroll
        for (int v = 0; v < vectors; ++v) {
            const int count = part.count(place_of(v), width);
            const int64_t first = part.first + place_of(v);
            if (count <= 0) {
                continue;
            }
            const Vector<R, width> weight = load_weight(first, count);
#pragma unroll
            for (int k = 0; k < width; ++k) {
                const R gate = params.z.data ? silu(widen(z[v][k])) : R(1);
                const R h = widen(x[v][k]) * (gate_first() ? gate : R(1));
                const R g = widen(grad_y[v][k]) * (gate_last() ? gate : R(1));
                sums[0] = multiply_add(h, h, sums[0]);
                sums[1] = multiply_add(g * weight[k], h, sums[1]);
            }
        }
    }
    // rstd and mean(g weight n) of a row.
    SSM_DEVICE void finish_means(int64_t row, R (&sums)[2], NormStorage<R, 2>& shared) const {
        add_team(sums, arguments.team.threads, shared);
        const R count = static_cast<R>(params.shape.group);
        R rstd = R(1) / sqrt(sums[0] / count + static_cast<R>(params.eps));
        if (params.rstd) {
            rstd = static_cast<const R*>(params.rstd)[row * (params.shape.width / params.shape.group) + group];
        }
        sums[1] = SSM_MUTATE("rms_norm_backward.cuda.no_mean", rstd * sums[1] / count, R(0));
        sums[0] = rstd;
    }

    SSM_DEVICE void store(const NormPart& part, int64_t row, const R (&means)[2]) {
        const R rstd = means[0];
#pragma unroll
        for (int v = 0; v < vectors; ++v) {
            const int count = part.count(place_of(v), width);
            const int64_t first = part.first + place_of(v);
            if (count <= 0) {
                continue;
            }
            const Vector<R, width> weight = load_weight(first, count);
            R grad_x[width];
            R grad_z[width];
            Vector<R, width> bias;
            if (gate_last() && params.bias) {
                bias = load_run<width>(static_cast<const R*>(params.bias) + first, count, arguments.whole_bias);
            } else {
#pragma unroll
                for (int k = 0; k < width; ++k) {
                    bias[k] = 0;
                }
            }
#pragma unroll
            for (int k = 0; k < width; ++k) {
                Silu<R> gate{R(1), R(0)};
                if (params.z.data) {
                    gate = silu_and_slope(widen(z[v][k]));
                }
                const R own_x = widen(x[v][k]);
                const R own_grad_y = widen(grad_y[v][k]);
                const R n = own_x * (gate_first() ? gate.value : R(1)) * rstd;
                const R g = own_grad_y * (gate_last() ? gate.value : R(1));
                const R grad_h = rstd * multiply_add(-n, means[1], g * weight[k]);
                grad_x[k] = grad_h * (gate_first() ? gate.value : R(1));
                grad_z[k] = (gate_first() ? grad_h * own_x : own_grad_y * multiply_add(n, weight[k], bias[k])) *
                            SSM_MUTATE("rms_norm_backward.cuda.wrong_slope", gate.slope, gate.value);
                weight_sums[v][k] = multiply_add(g, n, weight_sums[v][k]);
                bias_sums[v][k] += g;
            }
            if (params.grad_residual_out.data) {
                const Vector<X, width> further = load_run<width>(at<const X>(params.grad_residual_out, row, first), count,
                                                                 arguments.whole_grad_residual_out);
#pragma unroll
                for (int k = 0; k < width; ++k) {
                    grad_x[k] += widen(further[k]);
                }
            }
            if (params.grad_residual.data) {
                store_run<width>(at<X>(params.grad_residual, row, first), count, arguments.whole_grad_residual, grad_x);
            }
            if (params.grad_x.data) {
                store_run<width>(at<T>(params.grad_x, row, first), count, arguments.whole_grad_x, grad_x);
            }
            if (params.grad_z.data) {
                store_run<width>(at<T>(params.grad_z, row, first), count, arguments.whole_grad_z, grad_z);
            }
        }
    }

    SSM_DEVICE void store_sums(const NormPart& part, int64_t chunk) const {
#pragma unroll
        for (int v = 0; v < vectors; ++v) {
            const int count = part.count(place_of(v), width);
            const int64_t first = part.first + place_of(v);
            const int64_t place = chunk * params.shape.width + first;
            if (count > 0 && arguments.weight_sums) {
                store_run<width>(arguments.weight_sums + place, count, false, weight_sums[v]);
            }
            if (count > 0 && arguments.bias_sums) {
                store_run<width>(arguments.bias_sums + place, count, false, bias_sums[v]);
            }
        }
    }

    SSM_DEVICE R* means_of(int64_t row) const {
        return arguments.means + 2 * (row * (params.shape.width / params.shape.group) + group);
    }

    SSM_DEVICE void run(int64_t chunk, int64_t rows, NormStorage<R, 2>& shared) {
        const int64_t first_row = chunk * arguments.chunk_rows;
        const int64_t last_row = first_row + arguments.chunk_rows < rows ? first_row + arguments.chunk_rows : rows;
        const int64_t parts = arguments.team.parts;
        if (parts > 1) {
            for (int64_t row = first_row; row < last_row; ++row) {
                R sums[2] = {0, 0};
                for (int64_t part = 0; part < parts; ++part) {
                    load(part_of(part), row);
                    add_products(part_of(part), sums);
                }
                finish_means(row, sums, shared);
                if (thread == 0) {
                    means_of(row)[0] = sums[0];
                    means_of(row)[1] = sums[1];
                }
            }
            __syncthreads(); // the team is the block; its means are for all of it
        }
        for (int64_t i = 0; i < parts; ++i) {
            const NormPart part = part_of(i);
#pragma unroll
            for (int v = 0; v < vectors; ++v) {
#pragma unroll
                for (int k = 0; k < width; ++k) {
                    weight_sums[v][k] = 0;
                    bias_sums[v][k] = 0;
                }
            }
            for (int64_t row = first_row; row < last_row; ++row) {
                R means[2] = {0, 0};
                load(part, row);
                if (parts > 1) {
                    means[0] = means_of(row)[0];
                    means[1] = means_of(row)[1];
                } else {
                    add_products(part, means);
                    finish_means(row, means, shared);
                }
                store(part, row, means);
            }
            store_sums(part, chunk);
        }
    }
};

template <typename T, typename X>
__global__ void __launch_bounds__(norm_backward_threads, 1)
    rms_norm_backward_kernel(RmsNormBackwardArguments<Compute<T>> arguments) {
    auto& shared = SSM_SHARED(NormStorage<Compute<T>, 2>);
    const RowShape& shape = arguments.params.shape;
    const int64_t groups = shape.width / shape.group;
    const int64_t rows = shape.extents[0] * shape.extents[1] * shape.extents[2];
    const int64_t items = arguments.chunks * groups;
    for (int64_t item = arguments.team.first_item(); item < items; item += arguments.team.items_at_once()) {
        const int64_t chunk = item / groups;
        RmsNormChunk<T, X> own(arguments, item - chunk * groups);
        own.run(chunk, rows, shared);
    }
}

template <typename R>
__global__ void __launch_bounds__(sum_columns* sum_slices) rms_norm_backward_sum_kernel(NormSums<R> arguments) {
    auto& shared = SSM_SHARED(NormSumsStorage<R>);
    const R* sums = blockIdx.y == 0 ? arguments.sums[0] : arguments.sums[1];
    R* gradient = blockIdx.y == 0 ? arguments.gradients[0] : arguments.gradients[1];
    const int column = static_cast<int>(threadIdx.x) % sum_columns;
    const int slice = static_cast<int>(threadIdx.x) / sum_columns;
    if (!gradient) {
        return;
    }
    for (int64_t first = static_cast<int64_t>(blockIdx.x) * sum_columns; first < arguments.width;
         first += static_cast<int64_t>(gridDim.x) * sum_columns) {
        R sum = 0;
        if (first + column < arguments.width) {
            for (int64_t chunk = slice; chunk < arguments.chunks; chunk += sum_slices) {
                sum += sums[chunk * arguments.width + first + column];
            }
        }
        __syncthreads(); // the columns before are done with
        shared.of_slice[slice][column] = sum;
        __syncthreads();
        if (slice == 0 && first + column < arguments.width) {
            for (int i = 1; i < SSM_MUTATE("rms_norm_backward.cuda.lost_slices", sum_slices, 1); ++i) {
                sum += shared.of_slice[i][column];
            }
            gradient[first + column] = sum;
        }
    }
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

// Enough chunks to fill the device, and few enough that their sums are little beside the rows.
template <typename R>
void cut_rows(const BackendContext& context, RmsNormBackwardArguments<R>& arguments) {
    const RmsNormBackwardParams& params = arguments.params;
    const int64_t rows = params.shape.rows();
    int64_t chunks = rows;
    if (params.grad_weight || params.grad_bias) {
        const int64_t device = context.multiprocessors;
        const int64_t full = device * 1024 / (arguments.team.threads * params.shape.groups());
        const int64_t enough = full < rows / 16 ? full : rows / 16;
        chunks = enough > device ? enough : device;
        chunks = chunks < rows ? chunks : rows;
    }
    arguments.chunk_rows = (rows + chunks - 1) / chunks;
    if (const int64_t tile = context.options.get("rms_norm_backward.tile")) {
        arguments.chunk_rows = tile < rows ? tile : rows;
    }
    arguments.chunks = (rows + arguments.chunk_rows - 1) / arguments.chunk_rows;
}

// What there is beside the caller's tensors; without memory it only counts.
template <typename T, typename R>
uint64_t plan_backward(const BackendContext& context, const RmsNormBackwardParams& params, void* workspace,
                       RmsNormBackwardArguments<R>& arguments) {
    arguments.params = params;
    arguments.team = norm_team(params.shape.group, RmsNormBackwardTraits<T>::held, norm_backward_threads);
    cut_rows(context, arguments);
    WorkspaceParts parts(workspace);
    if (params.grad_weight) {
        arguments.weight_sums = parts.take<R>(arguments.chunks * params.shape.width);
    }
    if (params.grad_bias) {
        arguments.bias_sums = parts.take<R>(arguments.chunks * params.shape.width);
    }
    if (arguments.team.parts > 1) {
        arguments.means = parts.take<R>(2 * params.shape.rows() * params.shape.groups());
    }
    return parts.size();
}

unsigned blocks_of(int64_t blocks) {
    return static_cast<unsigned>(blocks < norm_most_blocks ? blocks : norm_most_blocks);
}

template <typename T, typename X>
int32_t run_rms_norm_backward(BackendContext* context, const RmsNormBackwardParams& params) {
    using Traits = RmsNormBackwardTraits<T>;
    using R = Compute<T>;
    RmsNormBackwardArguments<R> arguments{};
    if (plan_backward<T>(*context, params, params.workspace.data, arguments) > params.workspace.bytes) {
        return fail(error_workspace_too_small,
                    "rms_norm_backward: the workspace is smaller than the workspace function says");
    }
    const auto whole = [&](const auto& tensor, int64_t element_bytes) {
        return has_whole_vectors(tensor, params.shape, Traits::width, element_bytes);
    };
    arguments.whole_x = whole(params.x, sizeof(X));
    arguments.whole_z = whole(params.z, sizeof(T));
    arguments.whole_grad_y = whole(params.grad_y, sizeof(T));
    arguments.whole_grad_residual_out = whole(params.grad_residual_out, sizeof(X));
    arguments.whole_grad_x = whole(params.grad_x, sizeof(T));
    arguments.whole_grad_residual = whole(params.grad_residual, sizeof(X));
    arguments.whole_grad_z = whole(params.grad_z, sizeof(T));
    arguments.whole_weight = whole(params.weight, sizeof(R));
    arguments.whole_bias = whole(params.bias, sizeof(R));
    const int64_t teams = arguments.team.block / arguments.team.threads;
    const int64_t blocks = (arguments.chunks * params.shape.groups() + teams - 1) / teams;
    const cudaError_t error =
        launch(rms_norm_backward_kernel<T, X>, dim3(blocks_of(blocks)), dim3(static_cast<unsigned>(arguments.team.block)),
               sizeof(NormStorage<R, 2>), context->stream, arguments);
    if (error != cudaSuccess || !(params.grad_weight || params.grad_bias)) {
        return status_of(error, "rms_norm_backward");
    }
    const NormSums<R> sums{arguments.chunks,
                           params.shape.width,
                           {arguments.weight_sums, arguments.bias_sums},
                           {static_cast<R*>(params.grad_weight), static_cast<R*>(params.grad_bias)}};
    return status_of(launch(rms_norm_backward_sum_kernel<R>,
                            dim3(blocks_of((params.shape.width + sum_columns - 1) / sum_columns), 2),
                            dim3(sum_columns * sum_slices), sizeof(NormSumsStorage<R>), context->stream, sums),
                     "rms_norm_backward");
}

template <typename T>
int32_t run_rms_norm_backward(BackendContext* context, const RmsNormBackwardParams& params) {
    return params.x_type == params.type ? run_rms_norm_backward<T, T>(context, params)
                                        : run_rms_norm_backward<T, Compute<T>>(context, params);
}

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

// Calls f with a value of the storage type.
template <typename Function>
int32_t dispatch(DataType type, const Function& f) {
    switch (type) {
    case DataType::float32:
        return f(float{});
    case DataType::float64:
        return f(double{});
    case DataType::float16:
        return f(Half{});
    case DataType::bfloat16:
        return f(BFloat16{});
    default:
        return fail(error_internal, "a backend was called with a type that core should have refused");
    }
}

} // namespace

int32_t rms_norm_backward(BackendContext* context, const RmsNormBackwardParams* params) {
    return dispatch(params->type, [&](auto storage) { return run_rms_norm_backward<decltype(storage)>(context, *params); });
}

int32_t rms_norm_backward_workspace(BackendContext* context, const RmsNormBackwardParams* params, uint64_t* bytes) {
    return dispatch(params->type, [&](auto storage) {
        using T = decltype(storage);
        RmsNormBackwardArguments<Compute<T>> arguments{};
        *bytes = plan_backward<T>(*context, *params, nullptr, arguments);
        return int32_t{success};
    });
}

} // namespace ssm
