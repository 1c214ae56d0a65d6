// The matrices of HiPPO's measures.
#include "core/hippo_measure.h"
#include "core/host_values.h"
#include "core/mutate.h"

using namespace ssm;

extern "C" int32_t ssm_hippo_matrix(ssm_context* context, const ssm_hippo_matrix_args* given) {
    return run_on_host(context, [&](Contract& contract) {
        const auto args = read_arguments(given);
        const Tensor& a = contract.output("a", args.a);
        const Tensor& b = contract.optional_output("b", args.b);
        const Measure measure = read_measure(args.measure);
        expect_type(a, {DataType::float32, DataType::float64});
        expect_type(b, a.type());
        expect_rank(a, 2);
        const int64_t states = a.shape[1];
        expect_shape(a, {states, states});
        expect_shape(b, {states});
        expect_hippo_size(a, args.measure, states);
        contract.expect_outputs_apart();
        for (int64_t i = 0; i < states; ++i) {
            for (int64_t j = 0; j < states; ++j)
                put(a, {i, j}, SSM_MUTATE("hippo_setup.cpu.transposed", hippo_a(measure, i, j), hippo_a(measure, j, i)));
            if (b)
                put(b, {i}, hippo_b(measure, i));
        }
    });
}
