// Gradients of diagonal_ssm. With g the gradient of the state,
//     g_t = 2 conj(c) gy_t + conj(a_bar) g_{t+1},   grad_u_t = Re(conj(b_bar) g_t) + d gy_t,
//     grad a_bar = sum g_t conj(x_{t-1}),   grad b_bar = sum g_t u_t,   grad c = sum 2 gy_t conj(x_t).
//
// Time is cut into parts of 512 steps, of each of which a team of lanes has a head (see diagonal_ssm.h), a lane 4 states (2
// in double). One kernel in up to five launches: the states at the ends of parts, their fold, the same for g from the other
// end of time, and the run. There a lane goes through its part forward and keeps states every 64 steps in shared memory,
// through each 64 steps and keeps states every 8 steps, and through each 8 steps with all states in registers and then back.
// A second kernel adds up parts in their order and goes on to a, b and dt in double precision. 40 operations for a state and
// step; 3 e bytes for a step, and 96 e / 512 for a state and step of what parts leave behind.
#include "cuda/diagonal_ssm.h"

#include "core/mutate.h"
#include "core/params/diagonal_ssm_backward.h"
#include "cuda/operations.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

constexpr int ssm_threads = 64;
constexpr int sum_threads = 128;
constexpr int64_t most_part = 512;
constexpr int kept_states = 8; // of each level; 8 x 8 x 8 steps are a part
template <typename R>
constexpr int own_states = sizeof(R) == 4 ? 4 : 2;

enum class SystemPhase : int32_t { ends, fold, starts, fold_back, run };

template <typename R>
struct DiagonalBackwardStorage {
    Complex<R> of_part[kept_states][own_states<R>][ssm_threads];
    Complex<R> of_run[kept_states][own_states<R>][ssm_threads];
};
struct GradientStorage {
    double dt[sum_threads];
};

template <typename R>
struct DiagonalBackwardArguments {
    DiagonalSsmBackwardParams params;
    SystemPhase phase;
    Team team;
    int64_t part, slots;
    SystemCoefficients<R>* coefficients; // (H,N)
    Complex<R>* states;                  // (B,slots,H,N): the ends of parts, then what they start from
    Complex<R>* gradients;               // the same of g, from the other end of time
    Complex<R>* sums;                    // (B,slots,H,3,N): of a_bar, b_bar and c
    R* of_d;                             // (B,slots,H)
};

// ---- Kernels -------------------------------------------------------------------------------------------------------------

template <typename R>
SSM_DEVICE void fold_parts(const DiagonalBackwardArguments<R>& arguments) {
    const DiagonalSsmBackwardParams& p = arguments.params;
    const int64_t heads = p.shape.channels, part = arguments.part;
    const int64_t count = state_rows(p.shape) * heads * p.states;
    const int64_t stride = static_cast<int64_t>(gridDim.x) * ssm_threads;
    const bool is_forward = arguments.phase == SystemPhase::fold;
    const Complex<R>* const given = static_cast<const Complex<R>*>(is_forward ? p.initial_state : p.grad_last_state);
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * ssm_threads + threadIdx.x; i < count; i += stride) {
        const int64_t n = i % p.states, head = i / p.states % heads, index = head * p.states + n;
        const Span span = span_of_row(p.shape, i / p.states / heads);
        const Complex<R> leap = arguments.coefficients[index].leap;
        const int64_t first = first_place(p.shape, arguments.slots, part, span, head);
        const int64_t parts = (span.length + part - 1) / part;
        Complex<R> x = given ? given[i] : Complex<R>{0, 0};
        for (int64_t k = 0; k < parts; ++k) {
            const int64_t own = is_forward ? k : parts - 1 - k;
            Complex<R>& state = (is_forward ? arguments.states : arguments.gradients)[(first + own * heads) * p.states + n];
            const Complex<R> end = state;
            state = x;
            if (k + 1 == parts) {
                break;
            }
            Complex<R> factor = is_forward ? leap : conjugate(leap);
            if (!is_forward && k == 0) { // the last part may be shorter
                const double dt = static_cast<double>(static_cast<const R*>(p.dt)[head]);
                const ComplexDouble logarithm = discretized_logarithm(p.rule, complex_at<R>(p.a, index), dt);
                const ComplexDouble power = exponential(scaled(static_cast<double>(span.length - own * part), logarithm));
                factor = {static_cast<R>(power.re), static_cast<R>(-power.im)};
            }
            x = multiply_add(factor, SSM_MUTATE("diagonal_ssm_backward.cuda.dropped_carry", x, (Complex<R>{0, 0})), end);
        }
    }
}

// One head of one part.
template <typename R>
struct DiagonalBackwardPart {
    static constexpr int own = own_states<R>;
    const DiagonalBackwardArguments<R>& arguments;
    const DiagonalSsmBackwardParams& p;
    DiagonalBackwardStorage<R>& shared;
    PartSpan part;
    int lanes, lane;
    unsigned mask;
    int64_t head, first; // the lane's first state
    const R *u, *grad_y;
    R* grad_u;
    Complex<R> a[own], b[own], c[own], x[own], g[own], of_a[own], of_b[own], of_c[own];

    SSM_DEVICE DiagonalBackwardPart(const DiagonalBackwardArguments<R>& arguments, DiagonalBackwardStorage<R>& shared,
                                    int64_t item)
        : arguments(arguments), p(arguments.params), shared(shared) {
        lanes = arguments.team.lanes;
        lane = lane_id() % lanes;
        mask = lanes == warp_size ? full_mask : ((1u << lanes) - 1) << (lane_id() - lane);
        part = part_of_item(p.shape, arguments.slots, arguments.part, item);
        head = item % p.shape.channels;
        const int64_t begin = part.span.begin + part.index * arguments.part;
        const auto place = [&](const Sequence& s) {
            return s.data ? static_cast<R*>(s.data) + part.span.batch * s.batch_stride + head * s.channel_stride + begin
                          : nullptr;
        };
        u = place(p.u);
        grad_y = place(p.grad_y);
        grad_u = place(p.grad_u);
    }

    // Calls f(j, n) for the lane's states.
    template <typename F>
    SSM_DEVICE void for_states(const F& f) {
#pragma unroll
        for (int j = 0; j < own; ++j) {
            const int64_t n = first + j * lanes;
            if (n < p.states) {
                f(j, n);
            }
        }
    }
    SSM_DEVICE const SystemCoefficients<R>& coefficients(int64_t n) const {
        return arguments.coefficients[head * p.states + n];
    }
    // What the part starts from, in the direction of time or against it: kept by the fold, or the caller's at the border.
    SSM_DEVICE Complex<R> border(const void* given, const Complex<R>* folded, bool is_border, int64_t n) const {
        if (!is_border) {
            return folded[part.place * p.states + n];
        }
        const int64_t row = part.span.row * p.shape.channels + head;
        return given ? static_cast<const Complex<R>*>(given)[row * p.states + n] : Complex<R>{0, 0};
    }

    SSM_DEVICE void begin_pass(int64_t pass) {
        first = pass * own * lanes + lane;
#pragma unroll
        for (int j = 0; j < own; ++j) {
            a[j] = b[j] = c[j] = x[j] = g[j] = of_a[j] = of_b[j] = of_c[j] = {0, 0};
        }
        for_states([&](int j, int64_t n) {
            a[j] = coefficients(n).a;
            b[j] = coefficients(n).b;
            c[j] = coefficients(n).c;
        });
    }

    // x goes on by `count` steps from t, at most drift_steps.
    SSM_DEVICE void advance_states(int64_t t, int count, bool corrects) {
        for (int k = 0; k < count; ++k) {
            const R input = u[t + k];
#pragma unroll
            for (int j = 0; j < own; ++j) {
                x[j] = advance(a[j], x[j], b[j], input);
            }
        }
        if (corrects) {
            for_states([&](int j, int64_t n) { x[j] = corrected(x[j], coefficients(n).drift, count); });
        }
    }
    SSM_DEVICE static int at_most(int64_t steps, int most) {
        return static_cast<int>(steps < most ? steps : most);
    }

    SSM_DEVICE void find_end() {
        for (int64_t t = 0; t < part.steps; t += drift_steps) {
            advance_states(t, at_most(part.steps - t, drift_steps), true);
        }
        for_states([&](int j, int64_t n) { arguments.states[part.place * p.states + n] = x[j]; });
    }
    SSM_DEVICE void find_start() {
        for (int64_t t = (part.steps - 1) / drift_steps * drift_steps; t >= 0; t -= drift_steps) {
            const int count = at_most(part.steps - t, drift_steps);
            for (int k = count - 1; k >= 0; --k) {
                const R output = grad_y[t + k];
#pragma unroll
                for (int j = 0; j < own; ++j) {
                    g[j] = conjugate(a[j]) * multiply_add(conjugate(c[j]), Complex<R>{output, 0}, g[j]);
                }
            }
            for_states([&](int j, int64_t n) { g[j] = corrected(g[j], conjugate(coefficients(n).drift), count); });
        }
        for_states([&](int j, int64_t n) { arguments.gradients[part.place * p.states + n] = g[j]; });
    }

    // Steps t to t + count, at most step_run, forward from x and back with g.
    SSM_DEVICE void run_back(int64_t t, int count, bool is_first_pass) {
        Complex<R> before[step_run][own];
        R inputs[step_run], outputs[step_run], sums[step_run];
#pragma unroll
        for (int k = 0; k < step_run; ++k) {
            inputs[k] = k < count ? u[t + k] : R(0);
            outputs[k] = k < count ? grad_y[t + k] : R(0);
            sums[k] = 0;
        }
#pragma unroll
        for (int k = 0; k < step_run; ++k) {
#pragma unroll
            for (int j = 0; j < own; ++j) {
                before[k][j] = x[j];
                if (k < count) {
                    x[j] = advance(a[j], x[j], b[j], inputs[k]);
                }
            }
        }
#pragma unroll
        for (int k = step_run - 1; k >= 0; --k) {
            if (k < count) {
#pragma unroll
                for (int j = 0; j < own; ++j) {
                    of_c[j].re = multiply_add(outputs[k], x[j].re, of_c[j].re);
                    of_c[j].im = multiply_add(-outputs[k], x[j].im, of_c[j].im);
                    const Complex<R> now{multiply_add(c[j].re, outputs[k], g[j].re),
                                         multiply_add(-c[j].im, outputs[k], g[j].im)};
                    sums[k] = multiply_add(b[j].im, now.im, multiply_add(b[j].re, now.re, sums[k]));
                    of_b[j].re = multiply_add(now.re, inputs[k], of_b[j].re);
                    of_b[j].im = multiply_add(now.im, inputs[k], of_b[j].im);
                    of_a[j] = multiply_add(now, conjugate(before[k][j]), of_a[j]);
                    g[j] = SSM_MUTATE("diagonal_ssm_backward.cuda.wrong_conjugate", conjugate(a[j]), a[j]) * now;
                    x[j] = before[k][j];
                }
            }
        }
        if (!grad_u) {
            return;
        }
        const R skip = p.d ? static_cast<const R*>(p.d)[head] : R(0);
#pragma unroll
        for (int k = 0; k < step_run; ++k) {
            const R sum = team_sum(sums[k], lanes, mask);
            if (k < count && k % lanes == lane) {
                grad_u[t + k] = is_first_pass ? multiply_add(SSM_MUTATE("diagonal_ssm_backward.cuda.no_skip", skip, R(0)),
                                                             outputs[k], sum)
                                              : grad_u[t + k] + sum;
            }
        }
    }

    SSM_DEVICE void keep(Complex<R> (&kept)[own][ssm_threads]) const {
#pragma unroll
        for (int j = 0; j < own; ++j) {
            kept[j][threadIdx.x] = x[j];
        }
    }
    SSM_DEVICE void take(const Complex<R> (&kept)[own][ssm_threads]) {
#pragma unroll
        for (int j = 0; j < own; ++j) {
            x[j] = kept[j][threadIdx.x];
        }
    }

    SSM_DEVICE void run(bool is_first_pass) {
        for_states([&](int j, int64_t n) {
            x[j] = border(p.initial_state, arguments.states, part.index == 0, n);
            g[j] = border(p.grad_last_state, arguments.gradients, part.is_last, n);
        });
        const int runs = static_cast<int>((part.steps + drift_steps - 1) / drift_steps);
        for (int i = 0; i < runs; ++i) {
            keep(shared.of_part[i]);
            if (i + 1 < runs) {
                advance_states(int64_t{i} * drift_steps, drift_steps, true);
            }
        }
        for (int i = runs - 1; i >= 0; --i) {
            take(shared.of_part[i]);
            const int64_t begin = int64_t{i} * drift_steps;
            const int count = at_most(part.steps - begin, drift_steps);
            const int last = (count - 1) / step_run;
            for (int k = 0; k < last; ++k) {
                keep(shared.of_run[k]);
                advance_states(begin + k * step_run, step_run, false);
            }
            keep(shared.of_run[last]);
            for (int k = last; k >= 0; --k) {
                take(shared.of_run[k]);
                run_back(begin + k * step_run, at_most(count - k * step_run, step_run), is_first_pass);
            }
            for_states([&](int j, int64_t n) { g[j] = corrected(g[j], conjugate(coefficients(n).drift), count); });
        }
        if (part.index == 0 && p.grad_initial_state) {
            const int64_t row = part.span.row * p.shape.channels + head;
            for_states([&](int j, int64_t n) { static_cast<Complex<R>*>(p.grad_initial_state)[row * p.states + n] = g[j]; });
        }
    }

    SSM_DEVICE void store_sums() {
        for_states([&](int j, int64_t n) {
            Complex<R>* const sums = arguments.sums + part.place * 3 * p.states + n;
            sums[0] = of_a[j];
            sums[p.states] = of_b[j];
            sums[2 * p.states] = of_c[j];
        });
    }

    SSM_DEVICE void run_all() {
        const bool is_run = arguments.phase == SystemPhase::run;
        const bool is_border = arguments.phase == SystemPhase::ends ? part.is_last : part.index == 0;
        if (!is_run && (!part.exists || is_border)) {
            return; // nobody asks
        }
        for (int64_t pass = 0; pass < arguments.team.passes; ++pass) {
            begin_pass(pass);
            if (arguments.phase == SystemPhase::ends) {
                find_end();
            } else if (arguments.phase == SystemPhase::starts) {
                find_start();
            } else {
                if (part.exists) {
                    run(pass == 0);
                }
                store_sums(); // zeros of a part that is none
            }
        }
        if (is_run && p.grad_d && lane == 0) {
            R sum = 0;
            for (int64_t t = 0; part.exists && t < part.steps; ++t) {
                sum = multiply_add(u[t], grad_y[t], sum);
            }
            arguments.of_d[part.place] = sum;
        }
    }
};

template <typename R>
__global__ void __launch_bounds__(ssm_threads) diagonal_ssm_backward_kernel(DiagonalBackwardArguments<R> arguments) {
    if (arguments.phase == SystemPhase::fold || arguments.phase == SystemPhase::fold_back) {
        fold_parts(arguments);
        return;
    }
    auto& shared = SSM_SHARED(DiagonalBackwardStorage<R>);
    const SequenceShape& shape = arguments.params.shape;
    const int64_t items = shape.batch * arguments.slots * shape.channels;
    const int64_t teams = ssm_threads / arguments.team.lanes;
    for (int64_t item = blockIdx.x * teams + threadIdx.x / static_cast<unsigned>(arguments.team.lanes); item < items;
         item += gridDim.x * teams) {
        DiagonalBackwardPart<R>(arguments, shared, item).run_all();
    }
}

// A block for each head.
template <typename R>
__global__ void __launch_bounds__(sum_threads) diagonal_ssm_backward_sum_kernel(DiagonalBackwardArguments<R> arguments) {
    auto& shared = SSM_SHARED(GradientStorage);
    const DiagonalSsmBackwardParams& p = arguments.params;
    const int64_t heads = p.shape.channels;
    const int64_t parts = SSM_MUTATE("diagonal_ssm_backward.cuda.lost_parts", p.shape.batch * arguments.slots, 1);
    for (int64_t head = blockIdx.x; head < heads; head += gridDim.x) {
        double grad_dt = 0;
        for (int64_t n = threadIdx.x; n < p.states; n += sum_threads) {
            ComplexDouble totals[3] = {{0, 0}, {0, 0}, {0, 0}};
            for (int64_t k = 0; k < parts; ++k) {
                const Complex<R>* const sums = arguments.sums + (k * heads + head) * 3 * p.states + n;
#pragma unroll
                for (int i = 0; i < 3; ++i) {
                    totals[i].re += static_cast<double>(sums[i * p.states].re);
                    totals[i].im += static_cast<double>(sums[i * p.states].im);
                }
            }
            const int64_t index = head * p.states + n;
            const StepGradients gradients = step_gradients<R>(p.rule, p.a, p.b, p.dt, head, index, totals[0], totals[1]);
            if (p.grad_a) {
                store_complex<R>(p.grad_a, index, gradients.a);
            }
            if (p.grad_b) {
                store_complex<R>(p.grad_b, index, gradients.b);
            }
            if (p.grad_c) {
                store_complex<R>(p.grad_c, index, scaled(2.0, totals[2]));
            }
            grad_dt += gradients.dt;
        }
        shared.dt[threadIdx.x] = grad_dt;
        __syncthreads();
        if (threadIdx.x == 0) {
            for (int i = 1; i < sum_threads; ++i) {
                grad_dt += shared.dt[i];
            }
            if (p.grad_dt) {
                static_cast<R*>(p.grad_dt)[head] = static_cast<R>(grad_dt);
            }
            if (p.grad_d) {
                double total = 0;
                for (int64_t k = 0; k < parts; ++k) {
                    total += static_cast<double>(arguments.of_d[k * heads + head]);
                }
                static_cast<R*>(p.grad_d)[head] = static_cast<R>(total);
            }
        }
        __syncthreads(); // the sums are done with
    }
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

template <typename R>
uint64_t plan(const BackendContext& context, const DiagonalSsmBackwardParams& p, void* workspace,
              DiagonalBackwardArguments<R>& arguments) {
    arguments.params = p;
    arguments.team = team_of(p.states, own_states<R>);
    const int64_t option = context.options.get("diagonal_ssm_backward.tile");
    arguments.part = option > 0 && option < most_part ? option : most_part;
    arguments.slots = slot_count(p.shape, arguments.part);
    WorkspaceParts parts(workspace);
    const int64_t places = p.shape.batch * arguments.slots * p.shape.channels;
    arguments.coefficients = parts.take<SystemCoefficients<R>>(p.shape.channels * p.states);
    arguments.sums = parts.take<Complex<R>>(places * 3 * p.states);
    arguments.of_d = parts.take<R>(places);
    if (arguments.part < p.shape.length) {
        arguments.states = parts.take<Complex<R>>(places * p.states);
        arguments.gradients = parts.take<Complex<R>>(places * p.states);
    }
    return parts.size();
}

template <typename R>
int32_t run_backward(BackendContext* context, const DiagonalSsmBackwardParams& p) {
    DiagonalBackwardArguments<R> arguments{};
    if (plan(*context, p, p.workspace.data, arguments) > p.workspace.bytes) {
        return fail(error_workspace_too_small,
                    "diagonal_ssm_backward: the workspace is smaller than the workspace function says");
    }
    const SystemSource source{p.type, p.rule, p.a, p.b, p.c, p.dt, p.shape.channels, p.states, arguments.part};
    cudaError_t error = prepare_system(context, source, arguments.coefficients);
    const auto run = [&](SystemPhase phase, int64_t threads) {
        if (error == cudaSuccess) {
            arguments.phase = phase;
            error = launch(diagonal_ssm_backward_kernel<R>, blocks_for((threads + ssm_threads - 1) / ssm_threads),
                           dim3(ssm_threads), sizeof(DiagonalBackwardStorage<R>), context->stream, arguments);
        }
    };
    const int64_t teams = p.shape.batch * arguments.slots * p.shape.channels * arguments.team.lanes;
    if (arguments.part < p.shape.length) {
        const int64_t states = p.shape.state_rows() * p.shape.channels * p.states;
        run(SystemPhase::ends, teams);
        run(SystemPhase::fold, states);
        run(SystemPhase::starts, teams);
        run(SystemPhase::fold_back, states);
    }
    run(SystemPhase::run, teams);
    if (error == cudaSuccess) {
        error = launch(diagonal_ssm_backward_sum_kernel<R>, blocks_for(p.shape.channels), dim3(sum_threads),
                       sizeof(GradientStorage), context->stream, arguments);
    }
    return status_of(error, "diagonal_ssm_backward");
}

} // namespace

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t diagonal_ssm_backward(BackendContext* context, const DiagonalSsmBackwardParams* params) {
    return dispatch_complex(params->type, [&](auto real) { return run_backward<decltype(real)>(context, *params); });
}

int32_t diagonal_ssm_backward_workspace(BackendContext* context, const DiagonalSsmBackwardParams* params, uint64_t* bytes) {
    return dispatch_complex(params->type, [&](auto real) {
        DiagonalBackwardArguments<decltype(real)> arguments{};
        *bytes = plan(*context, *params, nullptr, arguments);
        return int32_t{success};
    });
}

} // namespace ssm
