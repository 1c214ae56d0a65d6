// Argument checks of the gradients of the linear recurrence. Where grad_a is wanted and the caller kept no h, the forward
// operation runs first, into the workspace.
#include "core/arguments.h"
#include "core/plan.h"

#include <algorithm>

using namespace ssm;

namespace {

// The checked call.
struct RecurrenceBackward {
    Contract contract;
    const Tensor *a, *b, *h, *initial_state, *cu_seqlens, *grad_h, *grad_last_state;
    const Tensor *grad_a, *grad_b, *grad_initial_state;
    bool computes_h = false;
    LinearRecurrenceParams forward{}; // where computes_h
    LinearRecurrenceBackwardParams params{};
    Plan plan;
    bool is_empty = false;

    RecurrenceBackward(const ssm_context& context, const ssm_linear_recurrence_backward_args* given, Purpose purpose)
        : contract(context, purpose) {
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

        expect_rank(*a, sequence_rank);
        const int64_t batch = a->shape[0], channels = a->shape[1], length = a->shape[2];
        const int64_t sequences = expect_cu_seqlens(*cu_seqlens, "a", batch);
        const int64_t rows = *cu_seqlens ? sequences : batch;
        for (const Tensor* tensor : {b, h, grad_h, grad_a, grad_b})
            expect_shape(*tensor, {batch, channels, length});
        for (const Tensor* tensor : {initial_state, grad_last_state, grad_initial_state}) {
            expect_shape(*tensor, {rows, channels});
        }
        computes_h = *grad_a && !*h;
        if (computes_h && !*b)
            fail_argument("b", "a tensor, as grad_a is wanted and h is absent", "NULL");

        contract.expect_outputs_apart();

        is_empty = a->count == 0;
        if (is_empty)
            return;

        const Tensor absent{};
        const Tensor& used_b = computes_h ? *b : absent;
        const Tensor& used_h = *grad_a ? *h : absent;
        const Tensor& used_initial_state = *grad_a ? *initial_state : absent;
        const Layout layout = choose_layout({a, &used_b, &used_h, grad_h, grad_a, grad_b});
        SequenceShape& shape = params.shape;
        shape.reverse = reverse;
        shape.layout = layout;
        shape.batch = batch;
        shape.channels = channels;
        shape.length = length;
        shape.sequences = sequences;
        params.type = type;
        plan.add_cu_seqlens(shape.cu_seqlens, *cu_seqlens);
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
    uint64_t own_bytes(const ssm_context& context) const {
        uint64_t backward_bytes = 0, forward_bytes = 0;
        context.call(context.backend.linear_recurrence_backward_workspace, &params, &backward_bytes);
        if (computes_h)
            context.call(context.backend.linear_recurrence_workspace, &forward, &forward_bytes);
        return std::max(backward_bytes, forward_bytes);
    }

    void run(ssm_context& context) {
        const uint64_t own = own_bytes(context);
        params.workspace = forward.workspace = plan.place(context.workspace(plan.bytes(own)), own);
        share_with_forward();
        plan.pack(context);
        if (computes_h)
            context.enqueue(context.backend.linear_recurrence, forward);
        context.enqueue(context.backend.linear_recurrence_backward, params);
        plan.unpack(context);
    }
};

} // namespace

extern "C" int32_t ssm_linear_recurrence_backward(ssm_context* context, const ssm_linear_recurrence_backward_args* args) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        RecurrenceBackward call(self, args, Purpose::run);
        check_cu_seqlens(self, *call.cu_seqlens, call.a->shape[2]);
        // Without a step the last state is the initial one, and so are their gradients.
        if (call.is_empty)
            return pass_state_on(self, *call.grad_last_state, *call.grad_initial_state);
        call.run(self);
    });
}

extern "C" int32_t ssm_linear_recurrence_backward_workspace(ssm_context* context,
                                                            const ssm_linear_recurrence_backward_args* args,
                                                            uint64_t* bytes) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        uint64_t& answer = required_pointer("bytes", "a pointer", bytes);
        answer = 0;
        const RecurrenceBackward call(self, args, Purpose::query);
        answer = call.is_empty ? pass_state_on_workspace(*call.grad_last_state, *call.grad_initial_state)
                               : call.plan.bytes(call.own_bytes(self));
    });
}
