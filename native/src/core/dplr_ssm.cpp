// Argument checks of the recurrence of diagonal plus low-rank systems.
#include "core/state_space.h"

using namespace ssm;

namespace {

// The checked call.
struct DplrSsm : Call<DplrSsmParams> {
    DplrTensors system;
    const Tensor *u, *d, *initial_state, *cu_seqlens, *y, *last_state;

    DplrSsm(const ssm_context& context, const ssm_dplr_ssm_args* given, Purpose purpose)
        : DplrSsm(context, read_arguments(given), purpose) {}

    void check_values(ssm_context& context) const {
        Call::check_values(context);
        check_positive(context, *system.dt);
        check_finite(context, *system.eigenvalues);
    }

  private:
    DplrSsm(const ssm_context& context, const ssm_dplr_ssm_args& args, Purpose purpose)
        : Call(context, purpose), system(contract, args) {
        u = &contract.input("u", args.u);
        d = &contract.optional_input("d", args.d);
        initial_state = &contract.optional_input("initial_state", args.initial_state);
        cu_seqlens = &contract.optional_input("cu_seqlens", args.cu_seqlens);
        y = &contract.output("y", args.y);
        last_state = &contract.optional_output("last_state", args.last_state);
        contract.allow_inplace(*y, *u);

        system.check(args, params.system);
        for (const Tensor* tensor : {u, d, y})
            expect_type(*tensor, params.system.type);
        for (const Tensor* tensor : {initial_state, last_state})
            expect_type(*tensor, complex_of(params.system.type));
        const SequenceShape& shape = read_shape(params.shape, *u, *cu_seqlens);
        const int64_t heads = params.system.heads, rows = *cu_seqlens ? shape.sequences : shape.batch;
        expect_shape(*u, {shape.batch, heads, shape.length});
        expect_shape(*y, {shape.batch, heads, shape.length});
        expect_shape(*d, {heads});
        for (const Tensor* tensor : {initial_state, last_state})
            expect_shape(*tensor, {rows, heads, params.system.states});
        contract.expect_outputs_apart();

        if (u->count == 0) {
            pass_on({{initial_state, last_state}});
            return;
        }
        const Layout layout = choose_layout({u, y});
        params.shape.layout = layout;
        plan.add(params.u, *u, layout);
        plan.add(params.y, *y, layout);
        system.place(plan, params.system);
        plan.add_compact(params.d, *d);
        plan.add_compact(params.initial_state, *initial_state);
        plan.add_compact(params.last_state, *last_state);
    }
};

} // namespace

extern "C" int32_t ssm_dplr_ssm(ssm_context* context, const ssm_dplr_ssm_args* args) {
    return run_operation<DplrSsm>(context, args, &Backend::dplr_ssm, &Backend::dplr_ssm_workspace);
}

extern "C" int32_t ssm_dplr_ssm_workspace(ssm_context* context, const ssm_dplr_ssm_args* args, uint64_t* bytes) {
    return query_workspace<DplrSsm>(context, args, bytes, &Backend::dplr_ssm_workspace);
}
