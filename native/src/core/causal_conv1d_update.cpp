// Argument checks of the step of the short causal convolution. As in the state update every tensor with a batch is used in
// place, whatever its strides: a call is short, and packing would be most of it.
#include "core/causal_conv1d.h"

#include "core/operation.h"

using namespace ssm;

namespace {

// The checked call.
struct CausalConv1dUpdate : Call<CausalConv1dUpdateParams> {
    const Tensor *state, *x, *weight, *bias, *slots, *cache_seqlens, *y;

    CausalConv1dUpdate(const ssm_context& context, const ssm_causal_conv1d_update_args* given, Purpose purpose)
        : Call(context, purpose) {
        const auto args = read_arguments(given);
        state = &contract.inout("state", args.state);
        x = &contract.input("x", args.x);
        weight = &contract.input("weight", args.weight);
        bias = &contract.optional_input("bias", args.bias);
        slots = &contract.optional_input("slots", args.slots);
        cache_seqlens = &contract.optional_input("cache_seqlens", args.cache_seqlens);
        y = &contract.output("y", args.y);
        contract.allow_inplace(*y, *x);
        params.silu = read_activation(args.activation);

        expect_type(*x, {DataType::float32, DataType::float64, DataType::float16, DataType::bfloat16});
        params.type = x->type();
        if (params.type == DataType::float64)
            expect_type(*state, DataType::float64);
        else
            expect_type(*state, {DataType::float32, DataType::float16, DataType::bfloat16});
        params.state = state->type();
        expect_type(*y, params.type);
        for (const Tensor* tensor : {weight, bias})
            expect_type(*tensor, state_type(params.type));
        for (const Tensor* tensor : {slots, cache_seqlens})
            expect_type(*tensor, DataType::int32);

        if (x->rank != 2 && x->rank != 3)
            fail_argument("x", "rank 2, or 3 with time", "shape " + text_of_shape(x->shape, x->rank));
        params.batch = x->shape[0];
        params.channels = x->shape[1];
        params.steps = x->rank == 3 ? x->shape[2] : 1;
        params.width = expect_weight(*weight, params.channels);
        expect_shape(*bias, {params.channels});
        expect_rank(*state, 3);
        params.rows = *slots ? state->shape[0] : params.batch;
        params.length = state->shape[2];
        expect_shape(*state, {params.rows, params.channels, params.length});
        if (params.length < params.width - 1) {
            fail_argument("state", "at least W-1 = " + std::to_string(params.width - 1) + " steps",
                          std::to_string(params.length));
        }
        for (const Tensor* tensor : {slots, cache_seqlens})
            expect_shape(*tensor, {params.batch});
        x->rank == 3 ? expect_shape(*y, {params.batch, params.channels, params.steps})
                     : expect_shape(*y, {params.batch, params.channels});
        contract.expect_outputs_apart();

        if (x->count == 0) {
            pass_on({});
            return;
        }
        place(params.update, *state);
        place(params.x, *x);
        place(params.y, *y);
        plan.add_compact(params.weight, *weight);
        plan.add_compact(params.bias, *bias);
        plan.add_compact(params.slots, *slots);
        plan.add_compact(params.cache_seqlens, *cache_seqlens);
    }

    void check_values(ssm_context& context) const { check_slots(context, *slots, params.rows); }

  private:
    void place(StepTensor& target, const Tensor& tensor) {
        const int64_t* strides = plan.add_strided(target.data, tensor);
        target.batch_stride = strides[0];
        target.channel_stride = strides[1];
        target.step_stride = tensor.rank == 3 ? strides[2] : 0;
    }
};

} // namespace

extern "C" int32_t ssm_causal_conv1d_update(ssm_context* context, const ssm_causal_conv1d_update_args* args) {
    return run_operation<CausalConv1dUpdate>(context, args, &Backend::causal_conv1d_update,
                                             &Backend::causal_conv1d_update_workspace);
}

extern "C" int32_t ssm_causal_conv1d_update_workspace(ssm_context* context, const ssm_causal_conv1d_update_args* args,
                                                      uint64_t* bytes) {
    return query_workspace<CausalConv1dUpdate>(context, args, bytes, &Backend::causal_conv1d_update_workspace);
}
