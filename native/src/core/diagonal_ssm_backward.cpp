// Argument checks of the gradients of a diagonal system.
#include "core/poles.h"

using namespace ssm;

namespace {

// The checked call.
struct DiagonalSsmBackward : Call<DiagonalSsmBackwardParams> {
    const Tensor *a, *dt;

    DiagonalSsmBackward(const ssm_context& context, const ssm_diagonal_ssm_backward_args* given, Purpose purpose)
        : Call(context, purpose) {
        const auto args = read_arguments(given);
        a = &contract.input("a", args.a);
        const Tensor& b = contract.input("b", args.b);
        const Tensor& c = contract.input("c", args.c);
        dt = &contract.input("dt", args.dt);
        const Tensor& u = contract.input("u", args.u);
        const Tensor& d = contract.optional_input("d", args.d);
        const Tensor& initial_state = contract.optional_input("initial_state", args.initial_state);
        const Tensor& cu_seqlens = contract.optional_input("cu_seqlens", args.cu_seqlens);
        const Tensor& grad_y = contract.input("grad_y", args.grad_y);
        const Tensor& grad_last_state = contract.optional_input("grad_last_state", args.grad_last_state);
        const Tensor& grad_u = contract.optional_output("grad_u", args.grad_u);
        const Tensor& grad_a = contract.optional_output("grad_a", args.grad_a);
        const Tensor& grad_b = contract.optional_output("grad_b", args.grad_b);
        const Tensor& grad_c = contract.optional_output("grad_c", args.grad_c);
        const Tensor& grad_dt = contract.optional_output("grad_dt", args.grad_dt);
        const Tensor& grad_d = contract.optional_output("grad_d", args.grad_d);
        const Tensor& grad_initial_state = contract.optional_output("grad_initial_state", args.grad_initial_state);
        params.rule = read_rule(args.discretization, args.alpha);

        const int64_t heads = read_system(params, *a);
        for (const Tensor* tensor : {&b, &c, &grad_a, &grad_b, &grad_c}) {
            expect_type(*tensor, params.type);
            expect_shape(*tensor, {heads, params.states});
        }
        for (const Tensor* tensor : {dt, &d, &grad_dt, &grad_d}) {
            expect_type(*tensor, real_type(params.type));
            expect_shape(*tensor, {heads});
        }
        const SequenceShape& shape = read_shape(params.shape, u, cu_seqlens);
        for (const Tensor* tensor : {&u, &grad_y, &grad_u}) {
            expect_type(*tensor, real_type(params.type));
            expect_shape(*tensor, {shape.batch, heads, shape.length});
        }
        for (const Tensor* tensor : {&initial_state, &grad_last_state, &grad_initial_state}) {
            expect_type(*tensor, params.type);
            expect_shape(*tensor, {shape.state_rows(), heads, params.states});
        }
        contract.expect_outputs_apart();

        if (u.count == 0) {
            pass_on({{&grad_last_state, &grad_initial_state},
                     {&absent, &grad_a},
                     {&absent, &grad_b},
                     {&absent, &grad_c},
                     {&absent, &grad_dt},
                     {&absent, &grad_d}});
            return;
        }
        plan.add_compact(params.a, *a);
        plan.add_compact(params.b, b);
        plan.add_compact(params.c, c);
        plan.add_compact(params.dt, *dt);
        plan.add_compact(params.d, d);
        plan.add(params.u, u, Layout::time_contiguous);
        plan.add(params.grad_y, grad_y, Layout::time_contiguous);
        plan.add(params.grad_u, grad_u, Layout::time_contiguous);
        plan.add_compact(params.initial_state, initial_state);
        plan.add_compact(params.grad_last_state, grad_last_state);
        plan.add_compact(params.grad_a, grad_a);
        plan.add_compact(params.grad_b, grad_b);
        plan.add_compact(params.grad_c, grad_c);
        plan.add_compact(params.grad_dt, grad_dt);
        plan.add_compact(params.grad_d, grad_d);
        plan.add_compact(params.grad_initial_state, grad_initial_state);
    }

    void check_values(ssm_context& context) const {
        Call::check_values(context);
        check_finite(context, *a);
        check_positive(context, *dt);
    }
};

} // namespace

extern "C" int32_t ssm_diagonal_ssm_backward(ssm_context* context, const ssm_diagonal_ssm_backward_args* args) {
    return run_operation<DiagonalSsmBackward>(context, args, &Backend::diagonal_ssm_backward,
                                              &Backend::diagonal_ssm_backward_workspace);
}

extern "C" int32_t ssm_diagonal_ssm_backward_workspace(ssm_context* context, const ssm_diagonal_ssm_backward_args* args,
                                                       uint64_t* bytes) {
    return query_workspace<DiagonalSsmBackward>(context, args, bytes, &Backend::diagonal_ssm_backward_workspace);
}
