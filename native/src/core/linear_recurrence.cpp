// Argument checks of the linear recurrence.
#include "core/operation.h"

using namespace ssm;

namespace {

// The checked call.
struct Recurrence : Call<LinearRecurrenceParams> {
    const Tensor *a, *b, *initial_state, *cu_seqlens, *h, *last_state;

    Recurrence(const ssm_context& context, const ssm_linear_recurrence_args* given, Purpose purpose)
        : Call(context, purpose) {
        const auto args = read_arguments(given);
        a = &contract.input("a", args.a);
        b = &contract.input("b", args.b);
        initial_state = &contract.optional_input("initial_state", args.initial_state);
        cu_seqlens = &contract.optional_input("cu_seqlens", args.cu_seqlens);
        h = &contract.output("h", args.h);
        last_state = &contract.optional_output("last_state", args.last_state);
        params.shape.reverse = read_bool("reverse", args.reverse);

        expect_storage_type(*a);
        params.type = a->type();
        expect_type(*b, params.type);
        expect_type(*h, params.type);
        expect_type(*initial_state, state_type(params.type));
        expect_type(*last_state, state_type(params.type));

        SequenceShape& shape = read_shape(params.shape, *a, *cu_seqlens);
        const int64_t batch = shape.batch, channels = shape.channels, length = shape.length, rows = shape.state_rows();
        expect_shape(*b, {batch, channels, length});
        expect_shape(*h, {batch, channels, length});
        expect_shape(*initial_state, {rows, channels});
        expect_shape(*last_state, {rows, channels});

        contract.allow_inplace(*h, *a);
        contract.allow_inplace(*h, *b);
        contract.expect_outputs_apart();

        if (a->count == 0) {
            pass_on({{initial_state, last_state}});
            return;
        }
        const Layout layout = choose_layout({a, b, h});
        shape.layout = layout;
        plan.add(params.a, *a, layout);
        plan.add(params.b, *b, layout);
        plan.add(params.h, *h, layout);
        plan.add_compact(params.initial_state, *initial_state);
        plan.add_compact(params.last_state, *last_state);
    }
};

} // namespace

extern "C" int32_t ssm_linear_recurrence(ssm_context* context, const ssm_linear_recurrence_args* args) {
    return run_operation<Recurrence>(context, args, &Backend::linear_recurrence, &Backend::linear_recurrence_workspace);
}

extern "C" int32_t ssm_linear_recurrence_workspace(ssm_context* context, const ssm_linear_recurrence_args* args,
                                                   uint64_t* bytes) {
    return query_workspace<Recurrence>(context, args, bytes, &Backend::linear_recurrence_workspace);
}
