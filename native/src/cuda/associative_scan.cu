// associative_scan: y_t = x_0 o x_1 o ... o x_t with o one of add, multiply, maximum, minimum.
//
// The engine is primitives/scan.h with the operator as a uniform branch. One pass: 2 e bytes for an element of e bytes (x
// in, y out; 8 for float32), one useful operation and about 3 with the work of the warp scan; memory is the limit by far.
#include "cuda/primitives/cuda.h"

#include "core/mutate.h"
#include "core/params/associative_scan.h"
#include "cuda/scan_launch.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

template <typename T>
struct AssociativeScanOperator {
    using Storage = T;
    using State = Compute<T>;
    using Summary = State;
    struct Row {};
    static constexpr int inputs = 1;
    static constexpr int outputs = 1;
    static constexpr int next_input = -1;

    Combine combine;
    bool exclusive;

    SSM_DEVICE State identity() const {
        switch (combine) {
        case Combine::add:
            return number<State>(0);
        case Combine::multiply:
            return number<State>(SSM_MUTATE("associative_scan.cuda.wrong_identity", 1, 0));
        case Combine::maximum:
            return number<State>(-INFINITY);
        default:
            return number<State>(INFINITY);
        }
    }
    SSM_DEVICE static Summary summary(const T (&in)[1]) { return widen(in[0]); }
    SSM_DEVICE Summary then(Summary first, Summary second) const {
        if (combine == Combine::add) {
            return first + second;
        }
        if (combine == Combine::multiply) {
            return first * second;
        }
        if constexpr (std::is_floating_point<State>::value) {
            // A NaN stays.
            if (combine == Combine::maximum) {
                return first > second || first != first ? first : second;
            }
            return first < second || first != first ? first : second;
        } else {
            return first; // maximum and minimum take real types
        }
    }
    SSM_DEVICE State apply(Summary summary, State state) const { return then(state, summary); }
    SSM_DEVICE State start(const State* initial, int64_t index) const { return initial ? initial[index] : identity(); }
    SSM_DEVICE static Row row(int64_t) { return {}; }
    SSM_DEVICE void step(State& state, const T (&in)[1], T (&out)[1], bool, Row) const {
        const State next = then(state, widen(in[0]));
        out[0] = narrow<T>(exclusive ? state : next);
        state = next;
    }

    // Deliberate faults.
    SSM_DEVICE State dropped(State state) const {
        return SSM_MUTATE("associative_scan.cuda.dropped_carry", state, identity());
    }
    SSM_DEVICE static bool skips_barrier() { return SSM_MUTATE("associative_scan.cuda.missing_barrier", false, true); }
    SSM_DEVICE static bool ignores_flags() { return SSM_MUTATE("associative_scan.cuda.ignored_flag", false, true); }
    SSM_DEVICE static int forgotten_tail([[maybe_unused]] bool is_last) {
        return SSM_MUTATE("associative_scan.cuda.off_by_one_tail", 0, is_last ? 1 : 0);
    }
    template <typename Store, typename Flag, typename Wait>
    SSM_DEVICE static void publish_in_order(Store store, Flag flag, [[maybe_unused]] Wait wait) {
        SSM_MUTATE("associative_scan.cuda.wrong_flag_order", (store(), flag()), (flag(), wait(), store()));
    }
};

// ---- Kernels -------------------------------------------------------------------------------------------------------------

template <typename T>
__global__ void __launch_bounds__(scan_threads, scan_blocks)
    associative_scan_time_kernel(ScanArguments<AssociativeScanOperator<T>> arguments) {
    scan_time(arguments, SSM_SHARED(TimeScanStorage<AssociativeScanOperator<T>>));
}

template <typename T>
__global__ void __launch_bounds__(scan_threads, scan_blocks)
    associative_scan_channel_kernel(ScanArguments<AssociativeScanOperator<T>> arguments) {
    scan_channel(arguments, SSM_SHARED(ChannelScanStorage<AssociativeScanOperator<T>>));
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

struct Scan {
    BackendContext* context;
    const AssociativeScanParams& params;

    template <typename T>
    int32_t operator()(T) const {
        using Operator = AssociativeScanOperator<T>;
        using State = typename Operator::State;
        ScanArguments<Operator> arguments{};
        arguments.op.combine = params.combine;
        arguments.op.exclusive = params.exclusive;
        arguments.shape = params.shape;
        arguments.in[0] = params.x;
        arguments.out[0] = params.y;
        arguments.initial = static_cast<const State*>(params.initial_state);
        arguments.last = static_cast<State*>(params.last_state);
        return launch_scan(context, associative_scan_time_kernel<T>, associative_scan_channel_kernel<T>, arguments,
                           params.workspace, context->options.get("associative_scan.tile"),
                           context->options.get("associative_scan.path"), "associative_scan");
    }
};

struct ScanWorkspace {
    BackendContext* context;
    const AssociativeScanParams& params;
    uint64_t* bytes;

    template <typename T>
    int32_t operator()(T) const {
        *bytes = scan_workspace<AssociativeScanOperator<T>>(params.shape, context->multiprocessors,
                                                            context->options.get("associative_scan.tile"),
                                                            context->options.get("associative_scan.path"));
        return success;
    }
};

} // namespace

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t associative_scan(BackendContext* context, const AssociativeScanParams* params) {
    return dispatch_number(params->type, Scan{context, *params});
}

int32_t associative_scan_workspace(BackendContext* context, const AssociativeScanParams* params, uint64_t* bytes) {
    return dispatch_number(params->type, ScanWorkspace{context, *params, bytes});
}

} // namespace ssm
