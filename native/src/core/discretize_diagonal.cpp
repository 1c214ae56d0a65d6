// Argument checks of the discretization of a diagonal system.
#include "core/poles.h"

using namespace ssm;

namespace {

// The checked call.
struct DiscretizeDiagonal : Call<DiscretizeDiagonalParams> {
    const Tensor *a, *dt, *interval;

    DiscretizeDiagonal(const ssm_context& context, const ssm_discretize_diagonal_args* given, Purpose purpose)
        : Call(context, purpose) {
        const auto args = read_arguments(given);
        a = &contract.input("a", args.a);
        const Tensor& b = contract.optional_input("b", args.b);
        dt = &contract.input("dt", args.dt);
        interval = &contract.optional_input("interval", args.interval);
        const Tensor& a_bar = contract.optional_output("a_bar", args.a_bar);
        const Tensor& b_bar = contract.optional_output("b_bar", args.b_bar);
        params.rule = read_rule(args.discretization, args.alpha);

        read_poles(params, *a);
        for (const Tensor* tensor : {&b, &a_bar, &b_bar}) {
            expect_type(*tensor, params.type);
            expect_shape(*tensor, {params.rows, params.states});
        }
        for (const Tensor* tensor : {dt, interval}) {
            expect_type(*tensor, real_type(params.type));
            expect_shape(*tensor, {params.rows});
        }
        if (b_bar && !b)
            fail_argument("b", "a tensor, as b_bar is wanted", "NULL");
        contract.expect_outputs_apart();

        if (a->count == 0 || !(a_bar || b_bar)) {
            pass_on({});
            return;
        }
        plan.add_compact(params.a, *a);
        plan.add_compact(params.b, b);
        plan.add_compact(params.dt, *dt);
        plan.add_compact(params.interval, *interval);
        plan.add_compact(params.a_bar, a_bar);
        plan.add_compact(params.b_bar, b_bar);
    }

    void check_values(ssm_context& context) const {
        check_finite(context, *a);
        check_positive(context, *dt);
    }
};

} // namespace

extern "C" int32_t ssm_discretize_diagonal(ssm_context* context, const ssm_discretize_diagonal_args* args) {
    return run_operation<DiscretizeDiagonal>(context, args, &Backend::discretize_diagonal,
                                             &Backend::discretize_diagonal_workspace);
}

extern "C" int32_t ssm_discretize_diagonal_workspace(ssm_context* context, const ssm_discretize_diagonal_args* args,
                                                     uint64_t* bytes) {
    return query_workspace<DiscretizeDiagonal>(context, args, bytes, &Backend::discretize_diagonal_workspace);
}
