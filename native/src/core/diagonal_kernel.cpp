// Argument checks of the convolution kernel of a diagonal system, which the backends compute as a sum of exponentials.
#include "core/poles.h"

using namespace ssm;

namespace {

// The checked call.
struct DiagonalKernel : Call<VandermondeMultiplyParams> {
    const Tensor *a, *dt;

    DiagonalKernel(const ssm_context& context, const ssm_diagonal_kernel_args* given, Purpose purpose)
        : Call(context, purpose) {
        const auto args = read_arguments(given);
        a = &contract.input("a", args.a);
        const Tensor& b = contract.input("b", args.b);
        const Tensor& c = contract.input("c", args.c);
        dt = &contract.input("dt", args.dt);
        const Tensor& k = contract.output("k", args.k);
        PoleSource& source = params.source;
        source.is_system = params.conjugate_pairs = true;
        source.rule = read_rule(args.discretization, args.alpha);
        source.softmax = read_bool("softmax", args.softmax);

        read_poles(params, *a);
        for (const Tensor* tensor : {&b, &c})
            expect_type(*tensor, params.type);
        for (const Tensor* tensor : {dt, &k})
            expect_type(*tensor, real_type(params.type));
        for (const Tensor* tensor : {&b, &c})
            expect_shape(*tensor, {params.rows, params.states});
        expect_shape(*dt, {params.rows});
        expect_rank(k, 2);
        params.length = k.shape[1];
        expect_shape(k, {params.rows, params.length});
        contract.expect_outputs_apart();

        if (k.count == 0 || params.states == 0) {
            pass_on({{&absent, &k}});
            return;
        }
        plan.add_compact(source.a, *a);
        plan.add_compact(source.b, b);
        plan.add_compact(source.c, c);
        plan.add_compact(source.dt, *dt);
        plan.add_compact(params.y, k);
    }

    void check_values(ssm_context& context) const {
        check_finite(context, *a);
        check_positive(context, *dt);
    }
};

} // namespace

extern "C" int32_t ssm_diagonal_kernel(ssm_context* context, const ssm_diagonal_kernel_args* args) {
    return run_operation<DiagonalKernel>(context, args, &Backend::vandermonde_multiply,
                                         &Backend::vandermonde_multiply_workspace);
}

extern "C" int32_t ssm_diagonal_kernel_workspace(ssm_context* context, const ssm_diagonal_kernel_args* args,
                                                 uint64_t* bytes) {
    return query_workspace<DiagonalKernel>(context, args, bytes, &Backend::vandermonde_multiply_workspace);
}
