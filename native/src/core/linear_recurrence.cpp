// Argument checks of the linear recurrence.
#include "core/arguments.h"
#include "core/plan.h"

using namespace ssm;

namespace {

// The checked call.
struct Recurrence {
    Contract contract;
    const Tensor *a, *b, *initial_state, *cu_seqlens, *h, *last_state;
    LinearRecurrenceParams params{};
    Plan plan;
    bool is_empty = false;

    Recurrence(const ssm_context& context, const ssm_linear_recurrence_args* given, Purpose purpose)
        : contract(context, purpose) {
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

        expect_rank(*a, sequence_rank);
        const int64_t batch = a->shape[0], channels = a->shape[1], length = a->shape[2];
        const int64_t sequences = expect_cu_seqlens(*cu_seqlens, "a", batch);
        const int64_t rows = *cu_seqlens ? sequences : batch;
        expect_shape(*b, {batch, channels, length});
        expect_shape(*h, {batch, channels, length});
        expect_shape(*initial_state, {rows, channels});
        expect_shape(*last_state, {rows, channels});

        contract.allow_inplace(*h, *a);
        contract.allow_inplace(*h, *b);
        contract.expect_outputs_apart();

        is_empty = a->count == 0;
        if (is_empty)
            return;
        const Layout layout = choose_layout({a, b, h});
        params.shape.layout = layout;
        params.shape.batch = batch;
        params.shape.channels = channels;
        params.shape.length = length;
        params.shape.sequences = sequences;
        plan.add_cu_seqlens(params.shape.cu_seqlens, *cu_seqlens);
        plan.add(params.a, *a, layout);
        plan.add(params.b, *b, layout);
        plan.add(params.h, *h, layout);
        plan.add_compact(params.initial_state, *initial_state);
        plan.add_compact(params.last_state, *last_state);
    }
};

} // namespace

extern "C" int32_t ssm_linear_recurrence(ssm_context* context, const ssm_linear_recurrence_args* args) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        Recurrence call(self, args, Purpose::run);
        check_cu_seqlens(self, *call.cu_seqlens, call.a->shape[2]);
        if (call.is_empty)
            return pass_state_on(self, *call.initial_state, *call.last_state);
        run(self, call.plan, call.params, self.backend.linear_recurrence, self.backend.linear_recurrence_workspace);
    });
}

extern "C" int32_t ssm_linear_recurrence_workspace(ssm_context* context, const ssm_linear_recurrence_args* args,
                                                   uint64_t* bytes) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        uint64_t& answer = required_pointer("bytes", "a pointer", bytes);
        answer = 0;
        const Recurrence call(self, args, Purpose::query);
        answer = call.is_empty ? pass_state_on_workspace(*call.initial_state, *call.last_state)
                               : workspace_bytes(self, call.plan, call.params, self.backend.linear_recurrence_workspace);
    });
}
