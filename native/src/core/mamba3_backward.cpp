// Argument checks of the gradients of Mamba-3's recurrence.
#include "core/mamba3.h"

#include "core/params/mamba3_backward.h"

using namespace ssm;

namespace {

// The checked call.
struct Mamba3Backward : Mamba3Call<Mamba3BackwardParams> {
    Mamba3Backward(const ssm_context& context, const ssm_mamba3_backward_args* given, Purpose purpose)
        : Mamba3Call(context, purpose) {
        const auto args = read_arguments(given);
        read_inputs(args);
        const Tensor& grad_y = contract.input("grad_y", args.grad_y);
        const Tensor& grad_last_state = contract.optional_input("grad_last_state", args.grad_last_state);
        const Tensor& grad_last_angle = contract.optional_input("grad_last_angle", args.grad_last_angle);
        const Tensor& grad_last_b = contract.optional_input("grad_last_b", args.grad_last_b);
        const Tensor& grad_last_x = contract.optional_input("grad_last_x", args.grad_last_x);
        const Tensor& grad_x = contract.optional_output("grad_x", args.grad_x);
        const Tensor& grad_dt = contract.optional_output("grad_dt", args.grad_dt);
        const Tensor& grad_a = contract.optional_output("grad_a", args.grad_a);
        const Tensor& grad_b = contract.optional_output("grad_b", args.grad_b);
        const Tensor& grad_c = contract.optional_output("grad_c", args.grad_c);
        const Tensor& grad_trap = contract.optional_output("grad_trap", args.grad_trap);
        const Tensor& grad_angles = contract.optional_output("grad_angles", args.grad_angles);
        const Tensor& grad_b_bias = contract.optional_output("grad_b_bias", args.grad_b_bias);
        const Tensor& grad_c_bias = contract.optional_output("grad_c_bias", args.grad_c_bias);
        const Tensor& grad_d = contract.optional_output("grad_d", args.grad_d);
        const Tensor& grad_z = contract.optional_output("grad_z", args.grad_z);
        const Tensor& grad_dt_bias = contract.optional_output("grad_dt_bias", args.grad_dt_bias);
        const Tensor& grad_initial_state = contract.optional_output("grad_initial_state", args.grad_initial_state);
        const Tensor& grad_initial_angle = contract.optional_output("grad_initial_angle", args.grad_initial_angle);
        const Tensor& grad_initial_b = contract.optional_output("grad_initial_b", args.grad_initial_b);
        const Tensor& grad_initial_x = contract.optional_output("grad_initial_x", args.grad_initial_x);

        expect_inputs();
        for (const Tensor* tensor : {&grad_y, &grad_x, &grad_dt, &grad_b, &grad_c, &grad_trap, &grad_angles, &grad_z})
            expect_type(*tensor, params.type);
        for (const Tensor* tensor :
             {&grad_last_state, &grad_last_angle, &grad_last_b, &grad_last_x, &grad_a, &grad_b_bias, &grad_c_bias, &grad_d,
              &grad_dt_bias, &grad_initial_state, &grad_initial_angle, &grad_initial_b, &grad_initial_x})
            expect_type(*tensor, state_type(params.type));
        for (const Tensor* tensor : {&grad_y, &grad_x, &grad_z})
            expect_shape(*tensor, {batch, length, heads, channels});
        expect_states(grad_last_state, grad_last_angle, grad_last_b, grad_last_x);
        for (const Tensor* tensor : {&grad_dt, &grad_trap})
            expect_shape(*tensor, {batch, length, heads});
        expect_rates(grad_a);
        for (const Tensor* tensor : {&grad_b, &grad_c})
            expect_shape(*tensor, {batch, length, groups, states});
        expect_angles(grad_angles);
        expect_shape(grad_angles, {batch, length, params.angle_groups, params.angles});
        for (const Tensor* tensor : {&grad_b_bias, &grad_c_bias})
            expect_shape(*tensor, {heads, states});
        expect_shape(grad_dt_bias, {heads});
        params.grad_d_per_channel = *d ? params.d_per_channel : grad_d.rank == 2;
        params.grad_d_per_channel ? expect_shape(grad_d, {heads, channels}) : expect_shape(grad_d, {heads});
        expect_states(grad_initial_state, grad_initial_angle, grad_initial_b, grad_initial_x);
        if (grad_z && !*z)
            fail_argument("z", "a tensor, as grad_z is wanted", "NULL");

        contract.expect_outputs_apart();

        // Without a step the last states are the initial ones, and so are their gradients; sums over no steps are zero.
        if (has_nothing_to_do()) {
            pass_on({{&grad_last_state, &grad_initial_state},
                     {&grad_last_angle, &grad_initial_angle},
                     {&grad_last_b, &grad_initial_b},
                     {&grad_last_x, &grad_initial_x},
                     {&absent, &grad_a},
                     {&absent, &grad_b_bias},
                     {&absent, &grad_c_bias},
                     {&absent, &grad_d},
                     {&absent, &grad_dt_bias},
                     {&absent, &grad_dt},
                     {&absent, &grad_trap},
                     {&absent, &grad_angles},
                     {&absent, &grad_b},
                     {&absent, &grad_c}});
            return;
        }
        place_inputs();
        place_channels(params.grad_y, grad_y);
        place_channels(params.grad_x, grad_x);
        place_channels(params.grad_z, grad_z);
        place_heads(params.grad_dt, grad_dt);
        place_heads(params.grad_trap, grad_trap);
        place_rates(params.grad_a, grad_a);
        place_states(params.grad_b, grad_b);
        place_states(params.grad_c, grad_c);
        place_states(params.grad_angles, grad_angles);
        plan.add_compact(params.grad_last_state, grad_last_state);
        plan.add_compact(params.grad_last_angle, grad_last_angle);
        plan.add_compact(params.grad_last_b, grad_last_b);
        plan.add_compact(params.grad_last_x, grad_last_x);
        plan.add_compact(params.grad_b_bias, grad_b_bias);
        plan.add_compact(params.grad_c_bias, grad_c_bias);
        plan.add_compact(params.grad_d, grad_d);
        plan.add_compact(params.grad_dt_bias, grad_dt_bias);
        plan.add_compact(params.grad_initial_state, grad_initial_state);
        plan.add_compact(params.grad_initial_angle, grad_initial_angle);
        plan.add_compact(params.grad_initial_b, grad_initial_b);
        plan.add_compact(params.grad_initial_x, grad_initial_x);
    }
};

} // namespace

extern "C" int32_t ssm_mamba3_backward(ssm_context* context, const ssm_mamba3_backward_args* args) {
    return run_operation<Mamba3Backward>(context, args, &Backend::mamba3_backward, &Backend::mamba3_backward_workspace);
}

extern "C" int32_t ssm_mamba3_backward_workspace(ssm_context* context, const ssm_mamba3_backward_args* args,
                                                 uint64_t* bytes) {
    return query_workspace<Mamba3Backward>(context, args, bytes, &Backend::mamba3_backward_workspace);
}
