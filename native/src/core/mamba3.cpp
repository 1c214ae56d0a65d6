// Argument checks of Mamba-3's recurrence.
#include "core/mamba3.h"

using namespace ssm;

namespace {

// The checked call.
struct Mamba3 : Mamba3Call<Mamba3Params> {
    Mamba3(const ssm_context& context, const ssm_mamba3_args* given, Purpose purpose) : Mamba3Call(context, purpose) {
        const auto args = read_arguments(given);
        read_inputs(args);
        const Tensor& y = contract.output("y", args.y);
        const Tensor& last_state = contract.optional_output("last_state", args.last_state);
        const Tensor& last_angle = contract.optional_output("last_angle", args.last_angle);
        const Tensor& last_b = contract.optional_output("last_b", args.last_b);
        const Tensor& last_x = contract.optional_output("last_x", args.last_x);

        expect_inputs();
        expect_type(y, params.type);
        for (const Tensor* tensor : {&last_state, &last_angle, &last_b, &last_x})
            expect_type(*tensor, state_type(params.type));
        expect_shape(y, {batch, length, heads, channels});
        expect_states(last_state, last_angle, last_b, last_x);

        contract.expect_outputs_apart();

        if (has_nothing_to_do()) {
            pass_on(
                {{initial_state, &last_state}, {initial_angle, &last_angle}, {initial_b, &last_b}, {initial_x, &last_x}});
            return;
        }
        place_inputs();
        place_channels(params.y, y);
        plan.add_compact(params.last_state, last_state);
        plan.add_compact(params.last_angle, last_angle);
        plan.add_compact(params.last_b, last_b);
        plan.add_compact(params.last_x, last_x);
    }
};

} // namespace

extern "C" int32_t ssm_mamba3(ssm_context* context, const ssm_mamba3_args* args) {
    return run_operation<Mamba3>(context, args, &Backend::mamba3, &Backend::mamba3_workspace);
}

extern "C" int32_t ssm_mamba3_workspace(ssm_context* context, const ssm_mamba3_args* args, uint64_t* bytes) {
    return query_workspace<Mamba3>(context, args, bytes, &Backend::mamba3_workspace);
}
