// Argument checks of a diagonal system as a recurrence.
#include "core/poles.h"

using namespace ssm;

namespace {

// The checked call.
struct DiagonalSsm : Call<DiagonalSsmParams> {
    const Tensor *a, *dt;

    DiagonalSsm(const ssm_context& context, const ssm_diagonal_ssm_args* given, Purpose purpose) : Call(context, purpose) {
        const auto args = read_arguments(given);
        a = &contract.input("a", args.a);
        const Tensor& b = contract.input("b", args.b);
        const Tensor& c = contract.input("c", args.c);
        dt = &contract.input("dt", args.dt);
        const Tensor& u = contract.input("u", args.u);
        const Tensor& d = contract.optional_input("d", args.d);
        const Tensor& initial_state = contract.optional_input("initial_state", args.initial_state);
        const Tensor& cu_seqlens = contract.optional_input("cu_seqlens", args.cu_seqlens);
        const Tensor& y = contract.output("y", args.y);
        const Tensor& last_state = contract.optional_output("last_state", args.last_state);
        contract.allow_inplace(y, u);
        params.rule = read_rule(args.discretization, args.alpha);

        const int64_t heads = read_system(params, *a);
        for (const Tensor* tensor : {&b, &c, &initial_state, &last_state})
            expect_type(*tensor, params.type);
        for (const Tensor* tensor : {dt, &u, &d, &y})
            expect_type(*tensor, real_type(params.type));
        for (const Tensor* tensor : {&b, &c})
            expect_shape(*tensor, {heads, params.states});
        for (const Tensor* tensor : {dt, &d})
            expect_shape(*tensor, {heads});
        const SequenceShape& shape = read_shape(params.shape, u, cu_seqlens);
        for (const Tensor* tensor : {&u, &y})
            expect_shape(*tensor, {shape.batch, heads, shape.length});
        for (const Tensor* tensor : {&initial_state, &last_state})
            expect_shape(*tensor, {shape.state_rows(), heads, params.states});
        contract.expect_outputs_apart();

        if (u.count == 0) {
            pass_on({{&initial_state, &last_state}});
            return;
        }
        plan.add_compact(params.a, *a);
        plan.add_compact(params.b, b);
        plan.add_compact(params.c, c);
        plan.add_compact(params.dt, *dt);
        plan.add_compact(params.d, d);
        plan.add(params.u, u, Layout::time_contiguous);
        plan.add(params.y, y, Layout::time_contiguous);
        plan.add_compact(params.initial_state, initial_state);
        plan.add_compact(params.last_state, last_state);
    }

    void check_values(ssm_context& context) const {
        Call::check_values(context);
        check_finite(context, *a);
        check_positive(context, *dt);
    }
};

} // namespace

extern "C" int32_t ssm_diagonal_ssm(ssm_context* context, const ssm_diagonal_ssm_args* args) {
    return run_operation<DiagonalSsm>(context, args, &Backend::diagonal_ssm, &Backend::diagonal_ssm_workspace);
}

extern "C" int32_t ssm_diagonal_ssm_workspace(ssm_context* context, const ssm_diagonal_ssm_args* args, uint64_t* bytes) {
    return query_workspace<DiagonalSsm>(context, args, bytes, &Backend::diagonal_ssm_workspace);
}
