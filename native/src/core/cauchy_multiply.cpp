// Argument checks of the sums over poles.
#include "core/poles.h"

using namespace ssm;

namespace {

// The checked call.
struct CauchyMultiply : Call<CauchyMultiplyParams> {
    CauchyMultiply(const ssm_context& context, const ssm_cauchy_multiply_args* given, Purpose purpose)
        : Call(context, purpose) {
        const auto args = read_arguments(given);
        const Tensor& v = contract.input("v", args.v);
        const Tensor& w = contract.input("w", args.w);
        const Tensor& z = contract.input("z", args.z);
        const Tensor& y = contract.output("y", args.y);
        params.conjugate_pairs = read_bool("conjugate_pairs", args.conjugate_pairs);

        read_poles(params, v);
        for (const Tensor* tensor : {&w, &z, &y})
            expect_type(*tensor, params.type);
        expect_shape(w, {params.rows, params.states});
        expect_rank(z, 1);
        params.length = z.shape[0];
        expect_shape(y, {params.rows, params.length});
        contract.expect_outputs_apart();

        if (y.count == 0 || params.states == 0) {
            pass_on({{&absent, &y}});
            return;
        }
        plan.add_compact(params.v, v);
        plan.add_compact(params.w, w);
        plan.add_compact(params.z, z);
        plan.add_compact(params.y, y);
    }
};

} // namespace

extern "C" int32_t ssm_cauchy_multiply(ssm_context* context, const ssm_cauchy_multiply_args* args) {
    return run_operation<CauchyMultiply>(context, args, &Backend::cauchy_multiply, &Backend::cauchy_multiply_workspace);
}

extern "C" int32_t ssm_cauchy_multiply_workspace(ssm_context* context, const ssm_cauchy_multiply_args* args,
                                                 uint64_t* bytes) {
    return query_workspace<CauchyMultiply>(context, args, bytes, &Backend::cauchy_multiply_workspace);
}
