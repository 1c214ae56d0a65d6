// Argument checks of the state space duality.
#include "core/ssd.h"

using namespace ssm;

namespace {

// The checked call.
struct Ssd : SsdCall<SsdParams> {
    Ssd(const ssm_context& context, const ssm_ssd_args* given, Purpose purpose) : SsdCall(context, purpose) {
        const auto args = read_arguments(given);
        read_inputs(args);
        const Tensor& y = contract.output("y", args.y);
        const Tensor& last_state = contract.optional_output("last_state", args.last_state);

        expect_inputs();
        expect_type(y, params.type);
        expect_type(last_state, state_type(params.type));
        expect_shape(y, {batch, length, heads, channels});
        expect_states(last_state);

        contract.expect_outputs_apart();

        if (has_nothing_to_do()) {
            pass_on({{initial_state, &last_state}});
            return;
        }
        place_inputs();
        place_channels(params.y, y);
        plan.add_compact(params.last_state, last_state);
    }
};

} // namespace

extern "C" int32_t ssm_ssd(ssm_context* context, const ssm_ssd_args* args) {
    return run_operation<Ssd>(context, args, &Backend::ssd, &Backend::ssd_workspace);
}

extern "C" int32_t ssm_ssd_workspace(ssm_context* context, const ssm_ssd_args* args, uint64_t* bytes) {
    return query_workspace<Ssd>(context, args, bytes, &Backend::ssd_workspace);
}
