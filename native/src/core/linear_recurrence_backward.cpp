// Argument checks of the gradients of the linear recurrence. Where grad_a is wanted and the caller kept no h, the forward
// operation runs first, into the workspace.
#include "core/operation.h"

#include <algorithm>

using namespace ssm;

namespace {

// The checked call.
struct RecurrenceBackward : Call<LinearRecurrenceBackwardParams> {
    const Tensor *a, *b, *h, *initial_state, *cu_seqlens, *grad_h, *grad_last_state;
    const Tensor *grad_a, *grad_b, *grad_initial_state;
    bool computes_h = false;
    LinearRecurrenceParams forward{}; // where computes_h

    RecurrenceBackward(const ssm_context& context, const ssm_linear_recurrence_backward_args* given, Purpose purpose)
        : Call(context, purpose) {
        const auto args = read_arguments(given);
        a = &contract.input("a", args.a);
        b = &contract.optional_input("b", args.b);
        h = &contract.optional_input("h", args.h);
        initial_state = &contract.optional_input("initial_state", args.initial_state);
        cu_seqlens = &contract.optional_input("cu_seqlens", args.cu_seqlens);
        grad_h = &contract.input("grad_h", args.grad_h);
        grad_last_state = &contract.optional_input("grad_last_state", args.grad_last_state);
        grad_a = &contract.optional_output("grad_a", args.grad_a);
        grad_b = &contract.optional_output("grad_b", args.grad_b);
        grad_initial_state = &contract.optional_output("grad_initial_state", args.grad_initial_state);
        const bool reverse = read_bool("reverse", args.reverse);

        expect_storage_type(*a);
        const DataType type = a->type();
        for (const Tensor* tensor : {b, h, grad_h, grad_a, grad_b})
            expect_type(*tensor, type);
        for (const Tensor* tensor : {initial_state, grad_last_state, grad_initial_state}) {
            expect_type(*tensor, state_type(type));
        }

        SequenceShape& shape = read_shape(params.shape, *a, *cu_seqlens);
        const int64_t batch = shape.batch, channels = shape.channels, length = shape.length, rows = shape.state_rows();
        for (const Tensor* tensor : {b, h, grad_h, grad_a, grad_b})
            expect_shape(*tensor, {batch, channels, length});
        for (const Tensor* tensor : {initial_state, grad_last_state, grad_initial_state}) {
            expect_shape(*tensor, {rows, channels});
        }
        computes_h = *grad_a && !*h;
        if (computes_h && !*b)
            fail_argument("b", "a tensor, as grad_a is wanted and h is absent", "NULL");

        contract.expect_outputs_apart();

        // Without a step the last state is the initial one, and so are their gradients.
        if (a->count == 0) {
            pass_on({{grad_last_state, grad_initial_state}});
            return;
        }

        const Tensor& used_b = computes_h ? *b : absent;
        const Tensor& used_h = *grad_a ? *h : absent;
        const Tensor& used_initial_state = *grad_a ? *initial_state : absent;
        const Layout layout = choose_layout({a, &used_b, &used_h, grad_h, grad_a, grad_b});
        shape.reverse = reverse;
        shape.layout = layout;
        params.type = type;
        plan.add(params.a, *a, layout);
        plan.add(params.grad_h, *grad_h, layout);
        plan.add(params.grad_a, *grad_a, layout);
        plan.add(params.grad_b, *grad_b, layout);
        plan.add_compact(params.initial_state, used_initial_state);
        plan.add_compact(params.grad_last_state, *grad_last_state);
        plan.add_compact(params.grad_initial_state, *grad_initial_state);
        if (computes_h) {
            plan.add_scratch(params.h, shape, type);
            plan.add(forward.b, used_b, layout);
        } else {
            plan.add(params.h, used_h, layout);
        }
        share_with_forward();
    }

    // What both operations have in common, once more after the addresses are known.
    void share_with_forward() {
        forward.type = params.type;
        forward.shape = params.shape;
        forward.a = params.a;
        forward.h = params.h;
        forward.initial_state = params.initial_state;
        forward.last_state = nullptr;
    }

    // The operations run one after the other and use the same memory.
    uint64_t own_bytes(const ssm_context& context, WorkspaceFunction workspace) const {
        uint64_t forward_bytes = 0;
        if (computes_h)
            context.call(context.backend.linear_recurrence_workspace, &forward, &forward_bytes);
        return std::max(Call::own_bytes(context, workspace), forward_bytes);
    }
    uint64_t bytes(const ssm_context& context, WorkspaceFunction workspace) const {
        return plan.bytes(own_bytes(context, workspace));
    }

    void run(ssm_context& context, Function function, WorkspaceFunction workspace) {
        const uint64_t own = own_bytes(context, workspace);
        params.workspace = forward.workspace = plan.place(context.workspace(plan.bytes(own)), own);
        share_with_forward();
        plan.pack(context);
        if (computes_h)
            context.enqueue(context.backend.linear_recurrence, forward);
        context.enqueue(context.backend.*function, params);
        plan.unpack(context);
    }
};

} // namespace

extern "C" int32_t ssm_linear_recurrence_backward(ssm_context* context, const ssm_linear_recurrence_backward_args* args) {
    return run_operation<RecurrenceBackward>(context, args, &Backend::linear_recurrence_backward,
                                             &Backend::linear_recurrence_backward_workspace);
}

extern "C" int32_t ssm_linear_recurrence_backward_workspace(ssm_context* context,
                                                            const ssm_linear_recurrence_backward_args* args,
                                                            uint64_t* bytes) {
    return query_workspace<RecurrenceBackward>(context, args, bytes, &Backend::linear_recurrence_backward_workspace);
}
