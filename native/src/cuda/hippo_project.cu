// hippo_project: the coefficients of a signal after each of its steps.
//
// legs: a warp has a signal, a lane every 32nd state, x lies in shared memory. A step of size s is a forward step of
// (1 - alpha) s and a backward step of alpha s. With r_n = sqrt(2n+1), row n of -A is r_n (r_0, .., r_{n-1}, 0, ..) plus n+1
// on the diagonal: forward that is a prefix sum of r_n x_n over the lanes; backward the sum S_n = sum_{m<n} r_m y_m obeys
// S_{n+1} = S_n (1 - n s) / (1 + (n+1) s) + r_n (x_n + s f r_n) / (1 + (n+1) s), which is scanned as such.
// The sliding measures are discretised once and run as dense systems (dense_ssm.cu).
//
// Bytes for a step: 4 N out, and 4 in. Operations: some 30 N and two scans by shuffles. The chain of steps is the limit.
#include "core/hippo.h"
#include "core/mutate.h"
#include "core/params/hippo_project.h"
#include "cuda/dense.h"
#include "cuda/operations.h"
#include "cuda/primitives/launch.h"
#include "cuda/primitives/shared.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

constexpr int legs_most_warps = 4;
constexpr int64_t legs_most_bytes = 40 * 1024; // of r and the states of all warps in shared memory

struct LegsArguments {
    HippoProjectParams params;
    double alpha;
};

struct alignas(16) LegsStorage {
    int64_t unused[2];
    // Behind it: r (N), and x (N) of each warp.
};

// ---- Kernel --------------------------------------------------------------------------------------------------------------

template <typename R>
struct LegsSignal {
    int64_t states;
    const R* roots;
    R* x;

    SSM_DEVICE void forward(R size, R input) const {
        R before = 0; // the sum below this warp's states
        for (int64_t first = 0; first < states; first += warp_size) {
            const int64_t n = first + lane_id();
            const R root = n < states ? roots[n] : R(0);
            const R own = n < states ? x[n] : R(0);
            R sum = own * root;
#pragma unroll
            for (int delta = 1; delta < warp_size; delta *= 2) {
                const R below = shuffle_up(sum, delta);
                sum += lane_id() >= delta ? below : R(0);
            }
            R below = shuffle_up(sum, 1);
            below = before + (lane_id() > 0 ? below : R(0));
            if (n < states) {
                const R drift = multiply_add(own, static_cast<R>(n + 1), root * (below - input));
                x[n] = multiply_add(-size, drift, own);
            }
            before += SSM_MUTATE("hippo_project.cuda.lost_sum", shuffle(sum, warp_size - 1), R(0));
        }
    }

    SSM_DEVICE void backward(R size, R input) const {
        R before = 0;
        for (int64_t first = 0; first < states; first += warp_size) {
            const int64_t n = first + lane_id();
            const R number = static_cast<R>(n);
            const R root = n < states ? roots[n] : R(0);
            const R scale = R(1) / multiply_add(number + 1, size, R(1));
            const R given = multiply_add(size * input, root, n < states ? x[n] : R(0));
            R factor = multiply_add(-number, size, R(1)) * scale;
            R sum = root * given * scale;
#pragma unroll
            for (int delta = 1; delta < warp_size; delta *= 2) {
                const R below_sum = shuffle_up(sum, delta);
                const R below_factor = shuffle_up(factor, delta);
                if (lane_id() >= delta) {
                    sum = multiply_add(factor, below_sum, sum);
                    factor *= below_factor;
                }
            }
            sum = multiply_add(factor, before, sum);
            const R above = shuffle_up(sum, 1);
            const R below = lane_id() > 0 ? above : before;
            if (n < states) {
                x[n] = multiply_add(-size * root, below, given) * scale;
            }
            before = SSM_MUTATE("hippo_project.cuda.lost_carry", shuffle(sum, warp_size - 1), R(0));
        }
    }
};

template <typename R>
__global__ void __launch_bounds__(legs_most_warps* warp_size, 1) hippo_legs_kernel(LegsArguments arguments) {
    LegsStorage& shared = SSM_SHARED(LegsStorage);
    const HippoProjectParams& p = arguments.params;
    const int64_t states = p.states;
    R* const roots = reinterpret_cast<R*>(&shared + 1);
    const LegsSignal<R> signal{states, roots, roots + (1 + warp_id()) * states};
    for (int64_t i = threadIdx.x; i < states; i += blockDim.x) {
        roots[i] = static_cast<R>(hippo_b(Measure::legs, i));
    }
    __syncthreads();
    const int64_t row = static_cast<int64_t>(blockIdx.x) * (blockDim.x / warp_size) + warp_id();
    if (row >= p.batch) {
        return;
    }
    const R* const f = static_cast<const R*>(p.f) + row * p.length;
    const R* const times = static_cast<const R*>(p.timestamps);
    R* coefficients = static_cast<R*>(p.coefficients) + row * p.length * states;
    // Each lane reads and writes its own states alone.
    for (int64_t i = lane_id(); i < states; i += warp_size) {
        signal.x[i] = p.initial_state ? static_cast<const R*>(p.initial_state)[row * states + i] : R(0);
    }
    for (int64_t t = 0; t < p.length; ++t) {
        const R input = f[t];
        if (t == 0 && p.starts_from_first) {
            if (lane_id() == 0) {
                signal.x[0] = input;
            }
        } else {
            double size = 1 / static_cast<double>(p.first_divisor + t);
            if (times) {
                const double now = times[t];
                size = (now - (t > 0 ? static_cast<double>(times[t - 1]) : p.time_before)) / now;
            }
            if (arguments.alpha < 1) {
                signal.forward(static_cast<R>((1 - arguments.alpha) * size), input);
            }
            if (arguments.alpha > 0) {
                signal.backward(static_cast<R>(arguments.alpha * size), input);
            }
        }
        for (int64_t i = lane_id(); i < states; i += warp_size) {
            coefficients[i] = signal.x[i];
        }
        coefficients += states;
    }
    for (int64_t i = lane_id(); p.last_state && i < states; i += warp_size) {
        static_cast<R*>(p.last_state)[row * states + i] = SSM_MUTATE("hippo_project.cuda.no_state", signal.x[i], R(0));
    }
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

template <typename R>
int32_t run_legs(BackendContext* context, const HippoProjectParams& params) {
    const int64_t row_bytes = params.states * static_cast<int64_t>(sizeof(R));
    int64_t warps = legs_most_bytes / row_bytes - 1;
    if (warps < 1) {
        return fail(error_unsupported, "hippo_project of legs takes at most 2560 states of 8 bytes, 5120 of 4");
    }
    warps = warps < legs_most_warps ? warps : legs_most_warps;
    warps = warps < params.batch ? warps : params.batch;
    const int64_t blocks = (params.batch + warps - 1) / warps;
    if (blocks > INT32_MAX) {
        return fail(error_unsupported, "hippo_project: more signals than a grid has blocks");
    }
    const LegsArguments arguments{params, implicit_share(static_cast<Discretization>(params.discretization), params.alpha)};
    return status_of(launch(hippo_legs_kernel<R>, dim3(static_cast<unsigned>(blocks)),
                            dim3(static_cast<unsigned>(warps * warp_size)),
                            sizeof(LegsStorage) + static_cast<size_t>((1 + warps) * row_bytes), context->stream, arguments),
                     "hippo_project");
}

// The measure as a dense system of one head.
DenseSystem system_of(const HippoProjectParams& params) {
    DenseSystem system{};
    system.type = params.type;
    system.heads = 1;
    system.states = params.states;
    system.discretization = params.discretization;
    system.alpha = params.alpha;
    return system;
}

bool is_legs(const HippoProjectParams& params) {
    return static_cast<Measure>(params.measure) == Measure::legs;
}

} // namespace

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t hippo_project(BackendContext* context, const HippoProjectParams* params) {
    if (is_legs(*params)) {
        return params->type == DataType::float64 ? run_legs<double>(context, *params) : run_legs<float>(context, *params);
    }
    WorkspaceParts parts(params->workspace.data);
    DenseRecurrence recurrence{};
    recurrence.system = system_of(*params);
    const DenseSteps steps(parts, recurrence.system);
    if (parts.size() > params->workspace.bytes) {
        return fail(error_workspace_too_small, "hippo_project: the workspace is smaller than the workspace function says");
    }
    const int32_t status = discretize_dense_heads(context, recurrence.system, params->measure, params->dt, steps);
    if (status != success) {
        return status;
    }
    recurrence.shape.batch = params->batch;
    recurrence.shape.channels = 1;
    recurrence.shape.length = params->length;
    recurrence.u.data = const_cast<void*>(params->f);
    recurrence.u.batch_stride = params->length;
    recurrence.u.time_stride = 1;
    recurrence.initial_state = params->initial_state;
    recurrence.steps = steps.steps;
    recurrence.last_state = params->last_state;
    recurrence.states = params->coefficients;
    recurrence.constant = params->starts_from_first ? params->measure : -1;
    return run_dense_recurrence(context, recurrence, "hippo_project");
}

int32_t hippo_project_workspace(BackendContext*, const HippoProjectParams* params, uint64_t* bytes) {
    WorkspaceParts parts(nullptr);
    if (!is_legs(*params)) {
        DenseSteps(parts, system_of(*params));
    }
    *bytes = parts.size();
    return success;
}

} // namespace ssm
