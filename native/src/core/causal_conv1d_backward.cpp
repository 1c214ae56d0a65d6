// Argument checks of the gradients of the short causal convolution.
#include "core/causal_conv1d.h"

#include "core/plan.h"

#include <algorithm>

using namespace ssm;

namespace {

// The checked call.
struct CausalConv1dBackward {
    Contract contract;
    const Tensor *x, *weight, *bias, *initial_state, *cu_seqlens, *grad_y, *grad_last_state;
    const Tensor *grad_x, *grad_weight, *grad_bias, *grad_initial_state;
    CausalConv1dBackwardParams params{};
    Plan plan;
    bool is_empty = false;

    CausalConv1dBackward(const ssm_context& context, const ssm_causal_conv1d_backward_args* given, Purpose purpose)
        : contract(context, purpose) {
        const auto args = read_arguments(given);
        x = &contract.input("x", args.x);
        weight = &contract.input("weight", args.weight);
        bias = &contract.optional_input("bias", args.bias);
        initial_state = &contract.optional_input("initial_state", args.initial_state);
        cu_seqlens = &contract.optional_input("cu_seqlens", args.cu_seqlens);
        grad_y = &contract.input("grad_y", args.grad_y);
        grad_last_state = &contract.optional_input("grad_last_state", args.grad_last_state);
        grad_x = &contract.optional_output("grad_x", args.grad_x);
        grad_weight = &contract.optional_output("grad_weight", args.grad_weight);
        grad_bias = &contract.optional_output("grad_bias", args.grad_bias);
        grad_initial_state = &contract.optional_output("grad_initial_state", args.grad_initial_state);
        params.silu = read_activation(args.activation);

        expect_type(*x, {DataType::float32, DataType::float64, DataType::float16, DataType::bfloat16});
        params.type = x->type();
        for (const Tensor* tensor : {grad_y, grad_x})
            expect_type(*tensor, params.type);
        for (const Tensor* tensor :
             {weight, bias, initial_state, grad_last_state, grad_weight, grad_bias, grad_initial_state})
            expect_type(*tensor, state_type(params.type));

        expect_rank(*x, sequence_rank);
        const int64_t batch = x->shape[0], channels = x->shape[1], length = x->shape[2];
        const int64_t sequences = expect_cu_seqlens(*cu_seqlens, "x", batch);
        const int64_t rows = *cu_seqlens ? sequences : batch;
        params.width = expect_weight(*weight, channels);
        for (const Tensor* tensor : {bias, grad_bias})
            expect_shape(*tensor, {channels});
        for (const Tensor* tensor : {initial_state, grad_last_state, grad_initial_state})
            expect_shape(*tensor, {rows, channels, params.width - 1});
        for (const Tensor* tensor : {grad_y, grad_x})
            expect_shape(*tensor, {batch, channels, length});
        expect_shape(*grad_weight, {channels, params.width});

        contract.expect_outputs_apart();

        is_empty = x->count == 0;
        if (is_empty)
            return;
        const Layout layout = choose_layout({x, grad_y, grad_x});
        params.shape.layout = layout;
        params.shape.batch = batch;
        params.shape.channels = channels;
        params.shape.length = length;
        params.shape.sequences = sequences;
        plan.add_cu_seqlens(params.shape.cu_seqlens, *cu_seqlens);
        plan.add(params.x, *x, layout);
        plan.add(params.grad_y, *grad_y, layout);
        plan.add(params.grad_x, *grad_x, layout);
        plan.add_compact(params.weight, *weight);
        plan.add_compact(params.bias, *bias);
        plan.add_compact(params.initial_state, *initial_state);
        plan.add_compact(params.grad_last_state, *grad_last_state);
        plan.add_compact(params.grad_weight, *grad_weight);
        plan.add_compact(params.grad_bias, *grad_bias);
        plan.add_compact(params.grad_initial_state, *grad_initial_state);
    }

    // Without a step the last state is the initial one, and so are their gradients; sums over no steps are zero.
    template <class Function>
    void each_without_steps(const Function& f) const {
        const Tensor absent{};
        f(*grad_last_state, *grad_initial_state);
        f(absent, *grad_weight);
        f(absent, *grad_bias);
    }
};

} // namespace

extern "C" int32_t ssm_causal_conv1d_backward(ssm_context* context, const ssm_causal_conv1d_backward_args* args) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        CausalConv1dBackward call(self, args, Purpose::run);
        check_cu_seqlens(self, *call.cu_seqlens, call.x->shape[2]);
        if (call.is_empty) {
            return call.each_without_steps(
                [&](const Tensor& source, const Tensor& target) { pass_state_on(self, source, target); });
        }
        run(self, call.plan, call.params, self.backend.causal_conv1d_backward,
            self.backend.causal_conv1d_backward_workspace);
    });
}

extern "C" int32_t ssm_causal_conv1d_backward_workspace(ssm_context* context, const ssm_causal_conv1d_backward_args* args,
                                                        uint64_t* bytes) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        uint64_t& answer = required_pointer("bytes", "a pointer", bytes);
        answer = 0;
        const CausalConv1dBackward call(self, args, Purpose::query);
        if (call.is_empty) {
            return call.each_without_steps([&](const Tensor& source, const Tensor& target) {
                answer = std::max(answer, pass_state_on_workspace(source, target));
            });
        }
        answer = workspace_bytes(self, call.plan, call.params, self.backend.causal_conv1d_backward_workspace);
    });
}
