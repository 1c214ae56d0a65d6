// Argument checks of the gradients of the long causal convolution.
#include "core/causal_conv.h"

using namespace ssm;

namespace {

// The checked call.
struct CausalConvBackward : Call<CausalConvBackwardParams> {
    const Tensor *u, *k, *k_reverse, *d, *pre_gate, *post_gate, *initial_state, *cu_seqlens, *grad_y, *grad_last_state;
    const Tensor *grad_u, *grad_k, *grad_k_reverse, *grad_d, *grad_pre_gate, *grad_post_gate, *grad_initial_state;

    CausalConvBackward(const ssm_context& context, const ssm_causal_conv_backward_args* given, Purpose purpose)
        : Call(context, purpose) {
        const auto args = read_arguments(given);
        u = &contract.input("u", args.u);
        k = &contract.input("k", args.k);
        k_reverse = &contract.optional_input("k_reverse", args.k_reverse);
        d = &contract.optional_input("d", args.d);
        pre_gate = &contract.optional_input("pre_gate", args.pre_gate);
        post_gate = &contract.optional_input("post_gate", args.post_gate);
        initial_state = &contract.optional_input("initial_state", args.initial_state);
        cu_seqlens = &contract.optional_input("cu_seqlens", args.cu_seqlens);
        grad_y = &contract.input("grad_y", args.grad_y);
        grad_last_state = &contract.optional_input("grad_last_state", args.grad_last_state);
        grad_u = &contract.optional_output("grad_u", args.grad_u);
        grad_k = &contract.optional_output("grad_k", args.grad_k);
        grad_k_reverse = &contract.optional_output("grad_k_reverse", args.grad_k_reverse);
        grad_d = &contract.optional_output("grad_d", args.grad_d);
        grad_pre_gate = &contract.optional_output("grad_pre_gate", args.grad_pre_gate);
        grad_post_gate = &contract.optional_output("grad_post_gate", args.grad_post_gate);
        grad_initial_state = &contract.optional_output("grad_initial_state", args.grad_initial_state);

        expect_type(*u, {DataType::float32, DataType::float64, DataType::float16, DataType::bfloat16});
        params.type = u->type();
        for (const Tensor* tensor : {pre_gate, post_gate, grad_y, grad_u, grad_pre_gate, grad_post_gate})
            expect_type(*tensor, params.type);
        for (const Tensor* tensor :
             {k, k_reverse, d, initial_state, grad_last_state, grad_k, grad_k_reverse, grad_d, grad_initial_state})
            expect_type(*tensor, state_type(params.type));

        SequenceShape& shape = read_shape(params.shape, *u, *cu_seqlens);
        const int64_t batch = shape.batch, heads = shape.channels, length = shape.length, rows = shape.state_rows();
        params.taps = expect_taps(*k, heads);
        for (const Tensor* tensor : {k_reverse, grad_k, grad_k_reverse})
            expect_shape(*tensor, {heads, params.taps});
        for (const Tensor* tensor : {d, grad_d})
            expect_shape(*tensor, {heads});
        for (const Tensor* tensor : {pre_gate, post_gate, grad_y, grad_u, grad_pre_gate, grad_post_gate})
            expect_shape(*tensor, {batch, heads, length});
        for (const Tensor* tensor : {initial_state, grad_last_state, grad_initial_state})
            expect_shape(*tensor, {rows, heads, params.taps - 1});
        expect_no_state(*k_reverse, {initial_state, grad_last_state, grad_initial_state});
        expect_input(*grad_k_reverse, *k_reverse);
        expect_input(*grad_pre_gate, *pre_gate);
        expect_input(*grad_post_gate, *post_gate);

        contract.expect_outputs_apart();

        // Without a step the last state is the initial one, and so are their gradients; sums over no steps are zero.
        if (u->count == 0) {
            pass_on(
                {{grad_last_state, grad_initial_state}, {&absent, grad_k}, {&absent, grad_k_reverse}, {&absent, grad_d}});
            return;
        }
        expect_reach(cut_transforms(length, shape.sequences, params.taps, bool(*k_reverse),
                                    *initial_state || *grad_initial_state, 0, false),
                     params.taps);
        shape.layout = Layout::time_contiguous;
        plan.add(params.u, *u, shape.layout);
        plan.add(params.pre_gate, *pre_gate, shape.layout);
        plan.add(params.post_gate, *post_gate, shape.layout);
        plan.add(params.grad_y, *grad_y, shape.layout);
        plan.add(params.grad_u, *grad_u, shape.layout);
        plan.add(params.grad_pre_gate, *grad_pre_gate, shape.layout);
        plan.add(params.grad_post_gate, *grad_post_gate, shape.layout);
        plan.add_compact(params.k, *k);
        plan.add_compact(params.k_reverse, *k_reverse);
        plan.add_compact(params.d, *d);
        plan.add_compact(params.initial_state, *initial_state);
        plan.add_compact(params.grad_last_state, *grad_last_state);
        plan.add_compact(params.grad_k, *grad_k);
        plan.add_compact(params.grad_k_reverse, *grad_k_reverse);
        plan.add_compact(params.grad_d, *grad_d);
        plan.add_compact(params.grad_initial_state, *grad_initial_state);
    }

  private:
    // What is not there has no gradient.
    static void expect_input(const Tensor& gradient, const Tensor& input) {
        if (gradient && !input)
            fail_argument(gradient.name, std::string("NULL without ") + (gradient.name + 5), "a tensor");
    }
};

} // namespace

extern "C" int32_t ssm_causal_conv_backward(ssm_context* context, const ssm_causal_conv_backward_args* args) {
    return run_operation<CausalConvBackward>(context, args, &Backend::causal_conv_backward,
                                             &Backend::causal_conv_backward_workspace);
}

extern "C" int32_t ssm_causal_conv_backward_workspace(ssm_context* context, const ssm_causal_conv_backward_args* args,
                                                      uint64_t* bytes) {
    return query_workspace<CausalConvBackward>(context, args, bytes, &Backend::causal_conv_backward_workspace);
}
