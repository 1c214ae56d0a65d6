// Argument checks of the state scan of a diagonal system. A backend makes decays and inputs of it, the linear recurrence
// runs on them, once in each direction that is asked for.
#include "core/poles.h"

#include <algorithm>

using namespace ssm;

namespace {

// The checked call.
struct DiagonalScan : Call<DiagonalScanParams> {
    const Tensor *a, *dt, *interval;
    LinearRecurrenceParams scan{}, other{};
    bool has_other;

    DiagonalScan(const ssm_context& context, const ssm_diagonal_scan_args* given, Purpose purpose) : Call(context, purpose) {
        const auto args = read_arguments(given);
        a = &contract.input("a", args.a);
        dt = &contract.input("dt", args.dt);
        const Tensor& bu = contract.input("bu", args.bu);
        interval = &contract.optional_input("interval", args.interval);
        const Tensor& initial_state = contract.optional_input("initial_state", args.initial_state);
        const Tensor& cu_seqlens = contract.optional_input("cu_seqlens", args.cu_seqlens);
        const Tensor& x = contract.output("x", args.x);
        const Tensor& last_state = contract.optional_output("last_state", args.last_state);
        const Tensor& x_reverse = contract.optional_output("x_reverse", args.x_reverse);
        contract.allow_inplace(x, bu);
        params.rule = read_rule(args.discretization, args.alpha);
        const bool reverse = read_bool("reverse", args.reverse);

        expect_type(bu, {DataType::float32, DataType::float64, DataType::complex64, DataType::complex128});
        params.type = bu.type();
        for (const Tensor* tensor : {a, &initial_state, &x, &last_state, &x_reverse})
            expect_type(*tensor, params.type);
        for (const Tensor* tensor : {dt, interval})
            expect_type(*tensor, is_complex(params.type) ? real_type(params.type) : params.type);
        SequenceShape& shape = read_shape(params.shape, bu, cu_seqlens);
        for (const Tensor* tensor : {&x, &x_reverse})
            expect_shape(*tensor, {shape.batch, shape.channels, shape.length});
        for (const Tensor* tensor : {a, dt})
            expect_shape(*tensor, {shape.channels});
        expect_shape(*interval, {shape.batch, shape.length});
        for (const Tensor* tensor : {&initial_state, &last_state})
            expect_shape(*tensor, {shape.state_rows(), shape.channels});
        contract.expect_outputs_apart();

        if (bu.count == 0) {
            pass_on({{&initial_state, &last_state}});
            return;
        }
        shape.layout = choose_layout({&bu, &x, &x_reverse});
        shape.reverse = reverse;
        has_other = static_cast<bool>(x_reverse);
        plan.add_compact(params.a, *a);
        plan.add_compact(params.dt, *dt);
        plan.add_compact(params.interval, *interval);
        plan.add(params.bu, bu, shape.layout);
        plan.add(scan.h, x, shape.layout);
        plan.add(other.h, x_reverse, shape.layout);
        plan.add_compact(scan.initial_state, initial_state);
        plan.add_compact(scan.last_state, last_state);
        add_decays();
        share();
    }

    void check_values(ssm_context& context) const {
        Call::check_values(context);
        check_finite(context, *a);
        check_positive(context, *dt);
    }

    // The scans run one after the other and use the same memory.
    uint64_t own_bytes(const ssm_context& context, WorkspaceFunction workspace) const {
        uint64_t scan_bytes = 0, other_bytes = 0;
        context.call(context.backend.linear_recurrence_workspace, &scan, &scan_bytes);
        if (has_other)
            context.call(context.backend.linear_recurrence_workspace, &other, &other_bytes);
        return std::max({Call::own_bytes(context, workspace), scan_bytes, other_bytes});
    }
    uint64_t bytes(const ssm_context& context, WorkspaceFunction workspace) const {
        return plan.bytes(own_bytes(context, workspace));
    }

    void run(ssm_context& context, Function function, WorkspaceFunction workspace) {
        const uint64_t own = own_bytes(context, workspace);
        params.workspace = scan.workspace = other.workspace = plan.place(context.workspace(plan.bytes(own)), own);
        share();
        plan.pack(context);
        context.enqueue(context.backend.*function, params);
        if (has_other)
            context.enqueue(context.backend.linear_recurrence, other);
        context.enqueue(context.backend.linear_recurrence, scan);
        plan.unpack(context);
    }

  private:
    // Decays that steps or batch elements share are there once.
    void add_decays() {
        SequenceShape shape = params.shape;
        if (!params.interval) {
            shape.batch = 1;
            if (shape.layout == Layout::channel_contiguous)
                shape.length = 1;
        }
        plan.add_scratch(params.a_bar, shape, params.type);
        if (!params.interval) {
            params.a_bar.batch_stride = 0;
            if (shape.layout == Layout::channel_contiguous)
                params.a_bar.time_stride = 0;
        }
    }

    // What the scans take of the parameters, once more after the addresses are known. The inputs of both are where the
    // states of the first come, so that the other one is made before.
    void share() {
        const bool is_scaled = params.rule.kind != Discretization::dirac;
        params.scaled = is_scaled ? scan.h : Sequence{};
        scan.type = other.type = params.type;
        scan.shape = other.shape = params.shape;
        other.shape.reverse = !scan.shape.reverse;
        scan.a = other.a = params.a_bar;
        scan.b = other.b = is_scaled ? scan.h : params.bu;
    }
};

} // namespace

extern "C" int32_t ssm_diagonal_scan(ssm_context* context, const ssm_diagonal_scan_args* args) {
    return run_operation<DiagonalScan>(context, args, &Backend::diagonal_scan, &Backend::diagonal_scan_workspace);
}

extern "C" int32_t ssm_diagonal_scan_workspace(ssm_context* context, const ssm_diagonal_scan_args* args, uint64_t* bytes) {
    return query_workspace<DiagonalScan>(context, args, bytes, &Backend::diagonal_scan_workspace);
}
