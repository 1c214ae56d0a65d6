// Argument checks of the short causal convolution.
#include "core/causal_conv1d.h"

#include "core/plan.h"

using namespace ssm;

namespace {

// The checked call.
struct CausalConv1d {
    Contract contract;
    const Tensor *x, *weight, *bias, *initial_state, *cu_seqlens, *y, *last_state;
    CausalConv1dParams params{};
    Plan plan;
    bool is_empty = false;

    CausalConv1d(const ssm_context& context, const ssm_causal_conv1d_args* given, Purpose purpose)
        : contract(context, purpose) {
        const auto args = read_arguments(given);
        x = &contract.input("x", args.x);
        weight = &contract.input("weight", args.weight);
        bias = &contract.optional_input("bias", args.bias);
        initial_state = &contract.optional_input("initial_state", args.initial_state);
        cu_seqlens = &contract.optional_input("cu_seqlens", args.cu_seqlens);
        y = &contract.output("y", args.y);
        last_state = &contract.optional_output("last_state", args.last_state);
        params.silu = read_activation(args.activation);

        expect_type(*x, {DataType::float32, DataType::float64, DataType::float16, DataType::bfloat16});
        params.type = x->type();
        expect_type(*y, params.type);
        for (const Tensor* tensor : {weight, bias, initial_state, last_state})
            expect_type(*tensor, state_type(params.type));

        expect_rank(*x, sequence_rank);
        const int64_t batch = x->shape[0], channels = x->shape[1], length = x->shape[2];
        const int64_t sequences = expect_cu_seqlens(*cu_seqlens, "x", batch);
        const int64_t rows = *cu_seqlens ? sequences : batch;
        params.width = expect_weight(*weight, channels);
        expect_shape(*bias, {channels});
        for (const Tensor* tensor : {initial_state, last_state})
            expect_shape(*tensor, {rows, channels, params.width - 1});
        expect_shape(*y, {batch, channels, length});

        contract.expect_outputs_apart();

        is_empty = x->count == 0;
        if (is_empty)
            return;
        const Layout layout = choose_layout({x, y});
        params.shape.layout = layout;
        params.shape.batch = batch;
        params.shape.channels = channels;
        params.shape.length = length;
        params.shape.sequences = sequences;
        plan.add_cu_seqlens(params.shape.cu_seqlens, *cu_seqlens);
        plan.add(params.x, *x, layout);
        plan.add(params.y, *y, layout);
        plan.add_compact(params.weight, *weight);
        plan.add_compact(params.bias, *bias);
        plan.add_compact(params.initial_state, *initial_state);
        plan.add_compact(params.last_state, *last_state);
    }
};

} // namespace

extern "C" int32_t ssm_causal_conv1d(ssm_context* context, const ssm_causal_conv1d_args* args) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        CausalConv1d call(self, args, Purpose::run);
        check_cu_seqlens(self, *call.cu_seqlens, call.x->shape[2]);
        if (call.is_empty)
            return pass_state_on(self, *call.initial_state, *call.last_state);
        run(self, call.plan, call.params, self.backend.causal_conv1d, self.backend.causal_conv1d_workspace);
    });
}

extern "C" int32_t ssm_causal_conv1d_workspace(ssm_context* context, const ssm_causal_conv1d_args* args, uint64_t* bytes) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        uint64_t& answer = required_pointer("bytes", "a pointer", bytes);
        answer = 0;
        const CausalConv1d call(self, args, Purpose::query);
        answer = call.is_empty ? pass_state_on_workspace(*call.initial_state, *call.last_state)
                               : workspace_bytes(self, call.plan, call.params, self.backend.causal_conv1d_workspace);
    });
}
