// linear_recurrence_backward: g_t = grad_h_t + conj(a_{t+1}) g_{t+1}, grad_b_t = g_t, grad_a_t = g_t conj(h_{t-1}).
//
// The engine is primitives/scan.h, run against the direction of the forward call. The state it carries is
// s = conj(a_t) g_t, the gradient of h_{t-1}: before the first step it is grad_last_state and after the last one
// grad_initial_state, and no input has to be read one step aside except h. A step is the map s -> conj(a) s + conj(a)
// grad_h. One pass: 5 e bytes for an element of e bytes (a, h, grad_h in, grad_a, grad_b out; 20 for float32), about 4
// useful operations; memory is the limit by far.
#include "cuda/primitives/cuda.h"

#include "core/mutate.h"
#include "core/params/linear_recurrence_backward.h"
#include "cuda/linear_recurrence.h"
#include "cuda/scan_launch.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

template <typename T>
struct LinearRecurrenceBackwardOperator {
    using Storage = T;
    using State = Compute<T>;
    using Summary = LinearMap<State>;
    struct Row {
        State initial; // the forward call's state before its first step
    };
    static constexpr int inputs = 3;     // a, grad_h, h
    static constexpr int outputs = 2;    // grad_a, grad_b
    static constexpr int next_input = 2; // h_{t-1}: one step further on in this direction

    const State* initial_state; // of the forward call

    SSM_DEVICE static Summary identity() {
        return {number<State>(SSM_MUTATE("linear_recurrence_backward.cuda.wrong_identity", 1, 0)), number<State>(0)};
    }
    SSM_DEVICE static Summary summary(const T (&in)[3]) {
        const State a = conjugate(widen(in[0]));
        return {a, a * widen(in[1])};
    }
    SSM_DEVICE static Summary then(Summary first, Summary second) { return compose(first, second); }
    SSM_DEVICE static State apply(Summary summary, State state) { return multiply_add(summary.a, state, summary.b); }
    SSM_DEVICE static State start(const State* initial, int64_t index) {
        return initial ? initial[index] : number<State>(0);
    }
    SSM_DEVICE Row row(int64_t index) const { return {initial_state ? initial_state[index] : number<State>(0)}; }
    SSM_DEVICE static void step(State& state, const T (&in)[3], T (&out)[2], bool is_last, Row row) {
        const State g = widen(in[1]) + state;
        const State before = is_last ? row.initial : widen(in[2]);
        out[0] = narrow<T>(g * SSM_MUTATE("linear_recurrence_backward.cuda.missing_conjugate", conjugate(before), before));
        out[1] = narrow<T>(g);
        state = conjugate(widen(in[0])) * g;
    }

    // Deliberate faults.
    SSM_DEVICE static State dropped(State state) {
        return SSM_MUTATE("linear_recurrence_backward.cuda.dropped_carry", state, number<State>(0));
    }
    SSM_DEVICE static bool skips_barrier() {
        return SSM_MUTATE("linear_recurrence_backward.cuda.missing_barrier", false, true);
    }
    SSM_DEVICE static bool ignores_flags() {
        return SSM_MUTATE("linear_recurrence_backward.cuda.ignored_flag", false, true);
    }
    SSM_DEVICE static int forgotten_tail([[maybe_unused]] bool is_last) {
        return SSM_MUTATE("linear_recurrence_backward.cuda.off_by_one_tail", 0, is_last ? 1 : 0);
    }
    template <typename Store, typename Flag, typename Wait>
    SSM_DEVICE static void publish_in_order(Store store, Flag flag, [[maybe_unused]] Wait wait) {
        SSM_MUTATE("linear_recurrence_backward.cuda.wrong_flag_order", (store(), flag()), (flag(), wait(), store()));
    }
};

// ---- Kernels -------------------------------------------------------------------------------------------------------------

template <typename T>
__global__ void __launch_bounds__(scan_threads, scan_blocks)
    linear_recurrence_backward_time_kernel(ScanArguments<LinearRecurrenceBackwardOperator<T>> arguments) {
    scan_time(arguments, SSM_SHARED(TimeScanStorage<LinearRecurrenceBackwardOperator<T>>));
}

template <typename T>
__global__ void __launch_bounds__(scan_threads, scan_blocks)
    linear_recurrence_backward_channel_kernel(ScanArguments<LinearRecurrenceBackwardOperator<T>> arguments) {
    scan_channel(arguments, SSM_SHARED(ChannelScanStorage<LinearRecurrenceBackwardOperator<T>>));
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

// This scan runs against the forward one.
SequenceShape turned_round(SequenceShape shape) {
    shape.reverse = !shape.reverse;
    return shape;
}

struct Backward {
    BackendContext* context;
    const LinearRecurrenceBackwardParams& params;

    template <typename T>
    int32_t operator()(T) const {
        using Operator = LinearRecurrenceBackwardOperator<T>;
        using State = typename Operator::State;
        ScanArguments<Operator> arguments{};
        arguments.op.initial_state = static_cast<const State*>(params.initial_state);
        arguments.shape = turned_round(params.shape);
        arguments.in[0] = params.a;
        arguments.in[1] = params.grad_h;
        if (params.grad_a.data) { // h is needed for nothing else
            arguments.in[2] = params.h;
        }
        arguments.out[0] = params.grad_a;
        arguments.out[1] = params.grad_b;
        arguments.initial = static_cast<const State*>(params.grad_last_state);
        arguments.last = static_cast<State*>(params.grad_initial_state);
        return launch_scan(context, linear_recurrence_backward_time_kernel<T>, linear_recurrence_backward_channel_kernel<T>,
                           arguments, params.workspace, context->options.get("linear_recurrence_backward.tile"),
                           context->options.get("linear_recurrence_backward.path"), "linear_recurrence_backward");
    }
};

struct BackwardWorkspace {
    BackendContext* context;
    const LinearRecurrenceBackwardParams& params;
    uint64_t* bytes;

    template <typename T>
    int32_t operator()(T) const {
        *bytes = scan_workspace<LinearRecurrenceBackwardOperator<T>>(
            turned_round(params.shape), context->multiprocessors, context->options.get("linear_recurrence_backward.tile"),
            context->options.get("linear_recurrence_backward.path"));
        return success;
    }
};

} // namespace

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t linear_recurrence_backward(BackendContext* context, const LinearRecurrenceBackwardParams* params) {
    return dispatch_number(params->type, Backward{context, *params});
}

int32_t linear_recurrence_backward_workspace(BackendContext* context, const LinearRecurrenceBackwardParams* params,
                                             uint64_t* bytes) {
    return dispatch_number(params->type, BackwardWorkspace{context, *params, bytes});
}

} // namespace ssm
