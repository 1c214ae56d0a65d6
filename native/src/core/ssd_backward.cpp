// Argument checks of the gradients of the state space duality.
#include "core/ssd.h"

#include "core/params/ssd_backward.h"

using namespace ssm;

namespace {

// The checked call.
struct SsdBackward : SsdCall<SsdBackwardParams> {
    SsdBackward(const ssm_context& context, const ssm_ssd_backward_args* given, Purpose purpose)
        : SsdCall(context, purpose) {
        const auto args = read_arguments(given);
        read_inputs(args);
        const Tensor& grad_y = contract.input("grad_y", args.grad_y);
        const Tensor& grad_last_state = contract.optional_input("grad_last_state", args.grad_last_state);
        const Tensor& grad_x = contract.optional_output("grad_x", args.grad_x);
        const Tensor& grad_dt = contract.optional_output("grad_dt", args.grad_dt);
        const Tensor& grad_a = contract.optional_output("grad_a", args.grad_a);
        const Tensor& grad_b = contract.optional_output("grad_b", args.grad_b);
        const Tensor& grad_c = contract.optional_output("grad_c", args.grad_c);
        const Tensor& grad_d = contract.optional_output("grad_d", args.grad_d);
        const Tensor& grad_z = contract.optional_output("grad_z", args.grad_z);
        const Tensor& grad_dt_bias = contract.optional_output("grad_dt_bias", args.grad_dt_bias);
        const Tensor& grad_initial_state = contract.optional_output("grad_initial_state", args.grad_initial_state);

        expect_inputs();
        for (const Tensor* tensor : {&grad_y, &grad_x, &grad_z, &grad_dt, &grad_b, &grad_c})
            expect_type(*tensor, params.type);
        for (const Tensor* tensor : {&grad_last_state, &grad_a, &grad_d, &grad_dt_bias, &grad_initial_state})
            expect_type(*tensor, state_type(params.type));
        for (const Tensor* tensor : {&grad_y, &grad_x, &grad_z})
            expect_shape(*tensor, {batch, length, heads, channels});
        expect_shape(grad_dt, {batch, length, heads});
        for (const Tensor* tensor : {&grad_b, &grad_c})
            expect_shape(*tensor, {batch, length, groups, states});
        for (const Tensor* tensor : {&grad_a, &grad_dt_bias})
            expect_shape(*tensor, {heads});
        params.grad_d_per_channel = *d ? params.d_per_channel : grad_d.rank == 2;
        params.grad_d_per_channel ? expect_shape(grad_d, {heads, channels}) : expect_shape(grad_d, {heads});
        for (const Tensor* tensor : {&grad_last_state, &grad_initial_state})
            expect_states(*tensor);
        if (grad_z && !*z)
            fail_argument("z", "a tensor, as grad_z is wanted", "NULL");

        contract.expect_outputs_apart();

        // Without a step the last state is the initial one, and so are their gradients; sums over no steps are zero.
        if (has_nothing_to_do()) {
            pass_on({{&grad_last_state, &grad_initial_state},
                     {&absent, &grad_a},
                     {&absent, &grad_d},
                     {&absent, &grad_dt_bias},
                     {&absent, &grad_dt},
                     {&absent, &grad_b},
                     {&absent, &grad_c}});
            return;
        }
        place_inputs();
        place_channels(params.grad_y, grad_y);
        place_channels(params.grad_x, grad_x);
        place_channels(params.grad_z, grad_z);
        place_heads(params.grad_dt, grad_dt);
        place_states(params.grad_b, grad_b);
        place_states(params.grad_c, grad_c);
        plan.add_compact(params.grad_last_state, grad_last_state);
        plan.add_compact(params.grad_a, grad_a);
        plan.add_compact(params.grad_d, grad_d);
        plan.add_compact(params.grad_dt_bias, grad_dt_bias);
        plan.add_compact(params.grad_initial_state, grad_initial_state);
    }
};

} // namespace

extern "C" int32_t ssm_ssd_backward(ssm_context* context, const ssm_ssd_backward_args* args) {
    return run_operation<SsdBackward>(context, args, &Backend::ssd_backward, &Backend::ssd_backward_workspace);
}

extern "C" int32_t ssm_ssd_backward_workspace(ssm_context* context, const ssm_ssd_backward_args* args, uint64_t* bytes) {
    return query_workspace<SsdBackward>(context, args, bytes, &Backend::ssd_backward_workspace);
}
