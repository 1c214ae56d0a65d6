// diagonal_ssm: x_t = a_bar x_{t-1} + b_bar u_t, y_t = 2 Re(sum_n c_n x_tn) + d u_t.
//
// A lane goes through time with 8 states (4 in double) in registers, a team of lanes has a head's states together and adds
// up y for 8 steps at a time. One kernel in up to three launches (see diagonal_ssm.h): parts from no state, their fold, and
// the run with outputs. 8 operations for a state and step, 6 more where time is cut; 2 e bytes for a step, 4 with cuts.
#include "cuda/diagonal_ssm.h"

#include "core/mutate.h"
#include "core/params/diagonal_ssm.h"
#include "cuda/operations.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

constexpr int ssm_threads = 128;
template <typename R>
constexpr int own_states = sizeof(R) == 4 ? 8 : 4;

enum class SystemPhase : int32_t { ends, fold, run };

template <typename R>
struct DiagonalSsmArguments {
    DiagonalSsmParams params;
    SystemPhase phase;
    Team team;
    int64_t part, slots;
    const SystemCoefficients<R>* coefficients; // (H,N)
    Complex<R>* states;                        // (B,slots,H,N): the ends of parts, then what they start from
};

// ---- Kernels -------------------------------------------------------------------------------------------------------------

template <typename R>
__global__ void __launch_bounds__(ssm_threads)
    diagonal_ssm_prepare_kernel(SystemSource source, SystemCoefficients<R>* coefficients) {
    const int64_t stride = static_cast<int64_t>(gridDim.x) * ssm_threads;
    const int64_t count = source.heads * source.states;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * ssm_threads + threadIdx.x; i < count; i += stride) {
        const ComplexDouble a = complex_at<R>(source.a, i);
        const double dt = static_cast<double>(static_cast<const R*>(source.dt)[i / source.states]);
        const ComplexDouble a_bar = discretized_state(source.rule, a, dt, 1.0);
        const ComplexDouble b_bar = complex_at<R>(source.b, i) * discretized_input(source.rule, a, dt, 1.0);
        const ComplexDouble c = complex_at<R>(source.c, i);
        const double steps = static_cast<double>(source.part);
        const ComplexDouble leap = exponential(scaled(steps, discretized_logarithm(source.rule, a, dt)));
        const auto narrowed = [](ComplexDouble x) { return Complex<R>{static_cast<R>(x.re), static_cast<R>(x.im)}; };
        SystemCoefficients<R> own{};
        own.a = narrowed(a_bar);
        own.b = narrowed(b_bar);
        own.c = narrowed(scaled(2.0, c));
        own.leap = narrowed(leap);
        const ComplexDouble held = {static_cast<double>(own.a.re), static_cast<double>(own.a.im)};
        if (squared_magnitude(held) > 0) {
            own.drift = narrowed((a_bar - held) / held);
        }
        coefficients[i] = own;
    }
}

template <typename R>
SSM_DEVICE void fold_parts(const DiagonalSsmArguments<R>& arguments) {
    const DiagonalSsmParams& p = arguments.params;
    const int64_t heads = p.shape.channels;
    const int64_t count = state_rows(p.shape) * heads * p.states;
    const int64_t stride = static_cast<int64_t>(gridDim.x) * ssm_threads;
    const Complex<R>* const initial = static_cast<const Complex<R>*>(p.initial_state);
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * ssm_threads + threadIdx.x; i < count; i += stride) {
        const int64_t n = i % p.states, head = i / p.states % heads;
        const Span span = span_of_row(p.shape, i / p.states / heads);
        const Complex<R> leap = arguments.coefficients[head * p.states + n].leap;
        const int64_t first = first_place(p.shape, arguments.slots, arguments.part, span, head);
        Complex<R> x = initial ? initial[i] : Complex<R>{0, 0};
        for (int64_t k = 0; k * arguments.part < span.length; ++k) {
            Complex<R>& state = arguments.states[(first + k * heads) * p.states + n];
            const Complex<R> end = state;
            state = x;
            if ((k + 1) * arguments.part < span.length) {
                x = multiply_add(leap, SSM_MUTATE("diagonal_ssm.cuda.dropped_carry", x, (Complex<R>{0, 0})), end);
            }
        }
    }
}

// One head of one part.
template <typename R>
SSM_DEVICE void run_part(const DiagonalSsmArguments<R>& arguments, int64_t item) {
    constexpr int own = own_states<R>;
    const DiagonalSsmParams& p = arguments.params;
    const int lanes = arguments.team.lanes;
    const int lane = lane_id() % lanes;
    const unsigned mask = (lanes == warp_size ? full_mask : ((1u << lanes) - 1) << (lane_id() - lane));
    const PartSpan part = part_of_item(p.shape, arguments.slots, arguments.part, item);
    const bool is_run = arguments.phase == SystemPhase::run;
    if (!part.exists || (!is_run && part.is_last)) {
        return;
    }
    const int64_t heads = p.shape.channels, head = item % heads, row = part.span.row * heads + head;
    const int64_t begin = part.span.begin + part.index * arguments.part;
    const auto place = [&](const Sequence& s) {
        return static_cast<R*>(s.data) + part.span.batch * s.batch_stride + head * s.channel_stride + begin;
    };
    const R* const u = place(p.u);
    R* const y = place(p.y);
    const R skip = p.d ? static_cast<const R*>(p.d)[head] : R(0);
    Complex<R>* const kept = arguments.states ? arguments.states + part.place * p.states : nullptr;
    const Complex<R>* start = nullptr; // zero
    if (is_run && part.index == 0) {
        start = p.initial_state ? static_cast<const Complex<R>*>(p.initial_state) + row * p.states : nullptr;
    } else if (is_run) {
        start = kept;
    }
    Complex<R>* end = kept;
    if (is_run) {
        end = part.is_last && p.last_state ? static_cast<Complex<R>*>(p.last_state) + row * p.states : nullptr;
    }
    const SystemCoefficients<R>* const coefficients = arguments.coefficients + head * p.states;
    const bool in_registers = arguments.team.passes == 1;
    Complex<R> a[own], b[own], c[own], x[own];
    int since = 0; // steps that drift has to be made good for
    int64_t t = 0;
    do {
        const int count = static_cast<int>(part.steps - t < step_run ? part.steps - t : step_run);
        R inputs[step_run], sums[step_run];
#pragma unroll
        for (int k = 0; k < step_run; ++k) {
            inputs[k] = k < count ? u[t + k] : R(0);
            sums[k] = 0;
        }
        const bool is_end = t + step_run >= part.steps;
        since += count;
        const bool corrects = since >= drift_steps || is_end;
        for (int64_t pass = 0; pass < arguments.team.passes; ++pass) {
            const int64_t first = pass * own * lanes + lane;
            if (t == 0 || !in_registers) {
#pragma unroll
                for (int j = 0; j < own; ++j) {
                    const int64_t n = first + j * lanes;
                    a[j] = b[j] = c[j] = x[j] = {0, 0};
                    if (n < p.states) {
                        a[j] = coefficients[n].a;
                        b[j] = coefficients[n].b;
                        c[j] = coefficients[n].c;
                        if (t > 0) {
                            x[j] = kept[n];
                        } else if (start) {
                            x[j] = start[n];
                        }
                    }
                }
            }
#pragma unroll
            for (int k = 0; k < step_run; ++k) {
                if (k < count) {
#pragma unroll
                    for (int j = 0; j < own; ++j) {
                        x[j] = advance(a[j], x[j], b[j], inputs[k]);
                        sums[k] = multiply_add(SSM_MUTATE("diagonal_ssm.cuda.wrong_conjugate", -c[j].im, c[j].im), x[j].im,
                                               multiply_add(c[j].re, x[j].re, sums[k]));
                    }
                }
            }
            if (corrects || !in_registers) {
#pragma unroll
                for (int j = 0; j < own; ++j) {
                    const int64_t n = first + j * lanes;
                    if (n < p.states) {
                        if (corrects) {
                            x[j] = corrected(x[j], coefficients[n].drift, since);
                        }
                        if (is_end && end) {
                            end[n] = x[j];
                        } else if (!in_registers) {
                            kept[n] = x[j];
                        }
                    }
                }
            }
        }
        if (corrects) {
            since = 0;
        }
        if (is_run) {
#pragma unroll
            for (int k = 0; k < step_run; ++k) {
                const R sum = team_sum(sums[k], lanes, mask);
                if (k < count && k % lanes == lane) {
                    y[t + k] = multiply_add(SSM_MUTATE("diagonal_ssm.cuda.no_skip", skip, R(0)), inputs[k], sum);
                }
            }
        }
        t += step_run;
    } while (t < part.steps);
}

template <typename R>
__global__ void __launch_bounds__(ssm_threads) diagonal_ssm_kernel(DiagonalSsmArguments<R> arguments) {
    if (arguments.phase == SystemPhase::fold) {
        fold_parts(arguments);
        return;
    }
    const SequenceShape& shape = arguments.params.shape;
    const int64_t items = shape.batch * arguments.slots * shape.channels;
    const int64_t teams = ssm_threads / arguments.team.lanes;
    for (int64_t item = blockIdx.x * teams + threadIdx.x / static_cast<unsigned>(arguments.team.lanes); item < items;
         item += gridDim.x * teams) {
        run_part(arguments, item);
    }
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

// Steps of a part: all of them where rows and heads fill the device.
template <typename R>
int64_t part_steps(const BackendContext& context, const DiagonalSsmParams& p, const Team& team) {
    constexpr int64_t fewest = 256;
    const int64_t length = p.shape.length;
    if (const int64_t option = context.options.get("diagonal_ssm.tile")) {
        return option < length ? option : length;
    }
    const int64_t wanted = int64_t{context.multiprocessors} * 1024 / team.lanes;
    const int64_t there = p.shape.state_rows() * p.shape.channels;
    if (2 * there >= wanted || length < 2 * fewest) {
        return length;
    }
    const int64_t parts = (wanted + there - 1) / there;
    const int64_t steps = (length + parts - 1) / parts;
    return (steps < fewest ? fewest : steps + drift_steps - 1) / drift_steps * drift_steps;
}

template <typename R>
uint64_t plan(const BackendContext& context, const DiagonalSsmParams& p, void* workspace, DiagonalSsmArguments<R>& arguments,
              SystemCoefficients<R>*& coefficients) {
    arguments.params = p;
    arguments.team = team_of(p.states, own_states<R>);
    arguments.part = part_steps<R>(context, p, arguments.team);
    arguments.slots = slot_count(p.shape, arguments.part);
    WorkspaceParts parts(workspace);
    coefficients = parts.take<SystemCoefficients<R>>(p.shape.channels * p.states);
    arguments.coefficients = coefficients;
    arguments.states = nullptr;
    if (arguments.part < p.shape.length || arguments.team.passes > 1) {
        arguments.states = parts.take<Complex<R>>(p.shape.batch * arguments.slots * p.shape.channels * p.states);
    }
    return parts.size();
}

template <typename R>
int32_t run_ssm(BackendContext* context, const DiagonalSsmParams& p) {
    DiagonalSsmArguments<R> arguments{};
    SystemCoefficients<R>* coefficients = nullptr;
    if (plan(*context, p, p.workspace.data, arguments, coefficients) > p.workspace.bytes) {
        return fail(error_workspace_too_small, "diagonal_ssm: the workspace is smaller than the workspace function says");
    }
    const SystemSource source{p.type, p.rule, p.a, p.b, p.c, p.dt, p.shape.channels, p.states, arguments.part};
    cudaError_t error = prepare_system(context, source, coefficients);
    const auto run = [&](SystemPhase phase, int64_t threads) {
        if (error == cudaSuccess) {
            arguments.phase = phase;
            error = launch(diagonal_ssm_kernel<R>, blocks_for((threads + ssm_threads - 1) / ssm_threads), dim3(ssm_threads),
                           0, context->stream, arguments);
        }
    };
    const int64_t teams = p.shape.batch * arguments.slots * p.shape.channels * arguments.team.lanes;
    if (arguments.part < p.shape.length) {
        run(SystemPhase::ends, teams);
        run(SystemPhase::fold, p.shape.state_rows() * p.shape.channels * p.states);
    }
    run(SystemPhase::run, teams);
    return status_of(error, "diagonal_ssm");
}

} // namespace

cudaError_t prepare_system(BackendContext* context, const SystemSource& source, void* coefficients) {
    const dim3 blocks = blocks_for((source.heads * source.states + ssm_threads - 1) / ssm_threads);
    return source.type == DataType::complex128
               ? launch(diagonal_ssm_prepare_kernel<double>, blocks, dim3(ssm_threads), 0, context->stream, source,
                        static_cast<SystemCoefficients<double>*>(coefficients))
               : launch(diagonal_ssm_prepare_kernel<float>, blocks, dim3(ssm_threads), 0, context->stream, source,
                        static_cast<SystemCoefficients<float>*>(coefficients));
}

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t diagonal_ssm(BackendContext* context, const DiagonalSsmParams* params) {
    return dispatch_complex(params->type, [&](auto real) { return run_ssm<decltype(real)>(context, *params); });
}

int32_t diagonal_ssm_workspace(BackendContext* context, const DiagonalSsmParams* params, uint64_t* bytes) {
    return dispatch_complex(params->type, [&](auto real) {
        using R = decltype(real);
        DiagonalSsmArguments<R> arguments{};
        SystemCoefficients<R>* coefficients = nullptr;
        *bytes = plan<R>(*context, *params, nullptr, arguments, coefficients);
        return int32_t{success};
    });
}

} // namespace ssm
