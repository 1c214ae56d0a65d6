// Argument checks of the short causal convolution.
#include "core/causal_conv1d.h"

#include "core/operation.h"

using namespace ssm;

namespace {

// The checked call.
struct CausalConv1d : Call<CausalConv1dParams> {
    const Tensor *x, *weight, *bias, *initial_state, *cu_seqlens, *y, *last_state, *seq_idx;

    CausalConv1d(const ssm_context& context, const ssm_causal_conv1d_args* given, Purpose purpose) : Call(context, purpose) {
        const auto args = read_arguments(given);
        x = &contract.input("x", args.x);
        weight = &contract.input("weight", args.weight);
        bias = &contract.optional_input("bias", args.bias);
        initial_state = &contract.optional_input("initial_state", args.initial_state);
        cu_seqlens = &contract.optional_input("cu_seqlens", args.cu_seqlens);
        y = &contract.output("y", args.y);
        last_state = &contract.optional_output("last_state", args.last_state);
        seq_idx = &contract.optional_input("seq_idx", args.seq_idx);
        params.silu = read_activation(args.activation);

        expect_type(*x, {DataType::float32, DataType::float64, DataType::float16, DataType::bfloat16});
        params.type = x->type();
        expect_type(*y, params.type);
        for (const Tensor* tensor : {weight, bias, initial_state, last_state})
            expect_type(*tensor, state_type(params.type));

        SequenceShape& shape = read_shape(params.shape, *x, *cu_seqlens);
        const int64_t batch = shape.batch, channels = shape.channels, length = shape.length, rows = shape.state_rows();
        params.width = expect_weight(*weight, channels);
        expect_shape(*bias, {channels});
        for (const Tensor* tensor : {initial_state, last_state})
            expect_shape(*tensor, {rows, channels, params.width - 1});
        expect_shape(*y, {batch, channels, length});
        expect_seq_idx(*seq_idx, shape);

        contract.expect_outputs_apart();

        if (x->count == 0) {
            pass_on({{initial_state, last_state}});
            return;
        }
        const Layout layout = choose_layout({x, y});
        shape.layout = layout;
        plan.add(params.x, *x, layout);
        plan.add(params.y, *y, layout);
        plan.add_compact(params.weight, *weight);
        plan.add_compact(params.bias, *bias);
        plan.add_compact(params.initial_state, *initial_state);
        plan.add_compact(params.last_state, *last_state);
        plan.add_compact(params.seq_idx, *seq_idx);
    }
};

} // namespace

extern "C" int32_t ssm_causal_conv1d(ssm_context* context, const ssm_causal_conv1d_args* args) {
    return run_operation<CausalConv1d>(context, args, &Backend::causal_conv1d, &Backend::causal_conv1d_workspace);
}

extern "C" int32_t ssm_causal_conv1d_workspace(ssm_context* context, const ssm_causal_conv1d_args* args, uint64_t* bytes) {
    return query_workspace<CausalConv1d>(context, args, bytes, &Backend::causal_conv1d_workspace);
}
