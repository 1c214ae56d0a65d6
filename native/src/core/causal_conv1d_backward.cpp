// Argument checks of the gradients of the short causal convolution.
#include "core/causal_conv1d.h"

#include "core/operation.h"

using namespace ssm;

namespace {

// The checked call.
struct CausalConv1dBackward : Call<CausalConv1dBackwardParams> {
    const Tensor *x, *weight, *bias, *initial_state, *cu_seqlens, *grad_y, *grad_last_state;
    const Tensor *grad_x, *grad_weight, *grad_bias, *grad_initial_state;
    const Tensor* seq_idx;

    CausalConv1dBackward(const ssm_context& context, const ssm_causal_conv1d_backward_args* given, Purpose purpose)
        : Call(context, purpose) {
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
        seq_idx = &contract.optional_input("seq_idx", args.seq_idx);
        params.silu = read_activation(args.activation);

        expect_type(*x, {DataType::float32, DataType::float64, DataType::float16, DataType::bfloat16});
        params.type = x->type();
        for (const Tensor* tensor : {grad_y, grad_x})
            expect_type(*tensor, params.type);
        for (const Tensor* tensor :
             {weight, bias, initial_state, grad_last_state, grad_weight, grad_bias, grad_initial_state})
            expect_type(*tensor, state_type(params.type));

        SequenceShape& shape = read_shape(params.shape, *x, *cu_seqlens);
        const int64_t batch = shape.batch, channels = shape.channels, length = shape.length, rows = shape.state_rows();
        params.width = expect_weight(*weight, channels);
        for (const Tensor* tensor : {bias, grad_bias})
            expect_shape(*tensor, {channels});
        for (const Tensor* tensor : {initial_state, grad_last_state, grad_initial_state})
            expect_shape(*tensor, {rows, channels, params.width - 1});
        for (const Tensor* tensor : {grad_y, grad_x})
            expect_shape(*tensor, {batch, channels, length});
        expect_shape(*grad_weight, {channels, params.width});
        expect_seq_idx(*seq_idx, shape);

        contract.expect_outputs_apart();

        // Without a step the last state is the initial one, and so are their gradients; sums over no steps are zero.
        if (x->count == 0) {
            pass_on({{grad_last_state, grad_initial_state}, {&absent, grad_weight}, {&absent, grad_bias}});
            return;
        }
        const Layout layout = choose_layout({x, grad_y, grad_x});
        shape.layout = layout;
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
        plan.add_compact(params.seq_idx, *seq_idx);
    }
};

} // namespace

extern "C" int32_t ssm_causal_conv1d_backward(ssm_context* context, const ssm_causal_conv1d_backward_args* args) {
    return run_operation<CausalConv1dBackward>(context, args, &Backend::causal_conv1d_backward,
                                               &Backend::causal_conv1d_backward_workspace);
}

extern "C" int32_t ssm_causal_conv1d_backward_workspace(ssm_context* context, const ssm_causal_conv1d_backward_args* args,
                                                        uint64_t* bytes) {
    return query_workspace<CausalConv1dBackward>(context, args, bytes, &Backend::causal_conv1d_backward_workspace);
}
