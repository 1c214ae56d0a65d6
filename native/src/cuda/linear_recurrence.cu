// linear_recurrence: h_t = a_t h_{t-1} + b_t.
//
// The engine is primitives/scan.h. A step is the map h -> a h + b; two steps one after the other are again such a map:
// (a1, b1) then (a2, b2) is (a2 a1, a2 b1 + b2). One pass: 3 e bytes for an element of e bytes (a and b in, h out; 12 for
// float32), about 2 useful operations and 10 with the work of the warp scan; memory is the limit by far.
#include "cuda/primitives/cuda.h"

#include "core/mutate.h"
#include "core/params/linear_recurrence.h"
#include "cuda/linear_recurrence.h"
#include "cuda/scan_launch.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

template <typename T>
struct LinearRecurrenceOperator {
    using Storage = T;
    using State = Compute<T>;
    using Summary = LinearMap<State>;
    struct Row {};
    static constexpr int inputs = 2; // a, b
    static constexpr int outputs = 1;
    static constexpr int next_input = -1;

    SSM_DEVICE static Summary identity() {
        return {number<State>(SSM_MUTATE("linear_recurrence.cuda.wrong_identity", 1, 0)), number<State>(0)};
    }
    SSM_DEVICE static Summary summary(const T (&in)[2]) { return {widen(in[0]), widen(in[1])}; }
    SSM_DEVICE static Summary then(Summary first, Summary second) { return compose(first, second); }
    SSM_DEVICE static State apply(Summary summary, State state) { return multiply_add(summary.a, state, summary.b); }
    SSM_DEVICE static State start(const State* initial, int64_t index) {
        return initial ? initial[index] : number<State>(0);
    }
    SSM_DEVICE static Row row(int64_t) { return {}; }
    SSM_DEVICE static void step(State& state, const T (&in)[2], T (&out)[1], bool, Row) {
        state = multiply_add(widen(in[0]), state, widen(in[1]));
        out[0] = narrow<T>(state);
    }

    // Deliberate faults.
    SSM_DEVICE static State dropped(State state) {
        return SSM_MUTATE("linear_recurrence.cuda.dropped_carry", state, number<State>(0));
    }
    SSM_DEVICE static bool skips_barrier() { return SSM_MUTATE("linear_recurrence.cuda.missing_barrier", false, true); }
    SSM_DEVICE static bool ignores_flags() { return SSM_MUTATE("linear_recurrence.cuda.ignored_flag", false, true); }
    SSM_DEVICE static int forgotten_tail([[maybe_unused]] bool is_last) {
        return SSM_MUTATE("linear_recurrence.cuda.off_by_one_tail", 0, is_last ? 1 : 0);
    }
    template <typename Store, typename Flag, typename Wait>
    SSM_DEVICE static void publish_in_order(Store store, Flag flag, [[maybe_unused]] Wait wait) {
        SSM_MUTATE("linear_recurrence.cuda.wrong_flag_order", (store(), flag()), (flag(), wait(), store()));
    }
};

// ---- Kernels -------------------------------------------------------------------------------------------------------------

template <typename T>
__global__ void __launch_bounds__(scan_threads, scan_blocks)
    linear_recurrence_time_kernel(ScanArguments<LinearRecurrenceOperator<T>> arguments) {
    scan_time(arguments, SSM_SHARED(TimeScanStorage<LinearRecurrenceOperator<T>>));
}

template <typename T>
__global__ void __launch_bounds__(scan_threads, scan_blocks)
    linear_recurrence_channel_kernel(ScanArguments<LinearRecurrenceOperator<T>> arguments) {
    scan_channel(arguments, SSM_SHARED(ChannelScanStorage<LinearRecurrenceOperator<T>>));
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

struct Forward {
    BackendContext* context;
    const LinearRecurrenceParams& params;

    template <typename T>
    int32_t operator()(T) const {
        using Operator = LinearRecurrenceOperator<T>;
        using State = typename Operator::State;
        ScanArguments<Operator> arguments{};
        arguments.shape = params.shape;
        arguments.in[0] = params.a;
        arguments.in[1] = params.b;
        arguments.out[0] = params.h;
        arguments.initial = static_cast<const State*>(params.initial_state);
        arguments.last = static_cast<State*>(params.last_state);
        return launch_scan(context, linear_recurrence_time_kernel<T>, linear_recurrence_channel_kernel<T>, arguments,
                           params.workspace, context->options.get("linear_recurrence.tile"),
                           context->options.get("linear_recurrence.path"), "linear_recurrence");
    }
};

struct ForwardWorkspace {
    BackendContext* context;
    const LinearRecurrenceParams& params;
    uint64_t* bytes;

    template <typename T>
    int32_t operator()(T) const {
        *bytes = scan_workspace<LinearRecurrenceOperator<T>>(params.shape, context->multiprocessors,
                                                             context->options.get("linear_recurrence.tile"),
                                                             context->options.get("linear_recurrence.path"));
        return success;
    }
};

} // namespace

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t linear_recurrence(BackendContext* context, const LinearRecurrenceParams* params) {
    return dispatch_number(params->type, Forward{context, *params});
}

int32_t linear_recurrence_workspace(BackendContext* context, const LinearRecurrenceParams* params, uint64_t* bytes) {
    return dispatch_number(params->type, ForwardWorkspace{context, *params, bytes});
}

} // namespace ssm
