// Argument checks of the sums of exponentials.
#include "core/poles.h"

using namespace ssm;

namespace {

// The checked call.
struct VandermondeMultiply : Call<VandermondeMultiplyParams> {
    VandermondeMultiply(const ssm_context& context, const ssm_vandermonde_multiply_args* given, Purpose purpose)
        : Call(context, purpose) {
        const auto args = read_arguments(given);
        const Tensor& v = contract.input("v", args.v);
        const Tensor& x = contract.input("x", args.x);
        const Tensor& y = contract.output("y", args.y);
        params.conjugate_pairs = read_bool("conjugate_pairs", args.conjugate_pairs);

        read_poles(params, v);
        expect_type(x, params.type);
        expect_type(y, params.conjugate_pairs ? real_type(params.type) : params.type);
        expect_shape(x, {params.rows, params.states});
        expect_rank(y, 2);
        params.length = y.shape[1];
        expect_shape(y, {params.rows, params.length});
        contract.expect_outputs_apart();

        if (y.count == 0 || params.states == 0) {
            pass_on({{&absent, &y}});
            return;
        }
        plan.add_compact(params.source.v, v);
        plan.add_compact(params.source.x, x);
        plan.add_compact(params.y, y);
    }
};

} // namespace

extern "C" int32_t ssm_vandermonde_multiply(ssm_context* context, const ssm_vandermonde_multiply_args* args) {
    return run_operation<VandermondeMultiply>(context, args, &Backend::vandermonde_multiply,
                                              &Backend::vandermonde_multiply_workspace);
}

extern "C" int32_t ssm_vandermonde_multiply_workspace(ssm_context* context, const ssm_vandermonde_multiply_args* args,
                                                      uint64_t* bytes) {
    return query_workspace<VandermondeMultiply>(context, args, bytes, &Backend::vandermonde_multiply_workspace);
}
