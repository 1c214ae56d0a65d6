// Argument checks of the state update. Every tensor is used in place, whatever its strides: a call is short, and packing
// would be most of it.
#include "core/heads.h"
#include "core/operation.h"

using namespace ssm;

namespace {

// The checked call.
struct SelectiveStateUpdate : Call<SelectiveStateUpdateParams> {
    const Tensor *state, *x, *dt, *a, *b, *c, *d, *z, *dt_bias, *slots, *y;
    bool has_time = false;

    SelectiveStateUpdate(const ssm_context& context, const ssm_selective_state_update_args* given, Purpose purpose)
        : Call(context, purpose) {
        const auto args = read_arguments(given);
        state = &contract.inout("state", args.state);
        x = &contract.input("x", args.x);
        dt = &contract.input("dt", args.dt);
        a = &contract.input("a", args.a);
        b = &contract.input("b", args.b);
        c = &contract.input("c", args.c);
        d = &contract.optional_input("d", args.d);
        z = &contract.optional_input("z", args.z);
        dt_bias = &contract.optional_input("dt_bias", args.dt_bias);
        slots = &contract.optional_input("slots", args.slots);
        y = &contract.output("y", args.y);
        contract.allow_inplace(*y, *x);
        contract.allow_inplace(*y, *z);
        params.dt_softplus = read_bool("dt_softplus", args.dt_softplus);

        expect_type(*x, {DataType::float32, DataType::float64, DataType::float16, DataType::bfloat16});
        params.type = x->type();
        if (params.type == DataType::float64)
            expect_type(*state, DataType::float64);
        else
            expect_type(*state, {DataType::float32, DataType::float16, DataType::bfloat16});
        params.state = state->type();
        for (const Tensor* tensor : {dt, b, c, z, y})
            expect_type(*tensor, params.type);
        for (const Tensor* tensor : {a, d, dt_bias})
            expect_type(*tensor, state_type(params.type));
        expect_type(*slots, DataType::int32);

        if (state->rank != 3 && state->rank != 4)
            fail_argument("state", "rank 3, or 4 with heads", "shape " + text_of_shape(state->shape, state->rank));
        params.is_tied = state->rank == 4;
        if (x->rank != state->rank && x->rank != state->rank - 1) {
            fail_argument("x", params.is_tied ? "rank 3, or 4 with time" : "rank 2, or 3 with time",
                          "shape " + text_of_shape(x->shape, x->rank));
        }
        has_time = x->rank == state->rank;
        params.states = state->shape[state->rank - 1];
        params.is_tied ? expect_heads() : expect_channels();
        contract.expect_outputs_apart();

        if (x->count == 0 || params.states == 0) {
            pass_on({});
            return;
        }
        params.is_tied ? place_heads() : place_channels();
        plan.add_compact(params.slots, *slots);
    }

    void check_values(ssm_context& context) const {
        check_slots(context, *slots, params.rows);
        check_finite(context, *a);
    }

  private:
    // Mamba-1: the heads are the groups.
    void expect_channels() {
        const int64_t batch = x->shape[0], channels = x->shape[1], steps = has_time ? x->shape[2] : 1;
        expect_rows({batch, channels, params.states});
        for (const Tensor* tensor : {dt, z, y})
            has_time ? expect_shape(*tensor, {batch, channels, steps}) : expect_shape(*tensor, {batch, channels});
        expect_shape(*a, {channels, params.states});
        expect_rank(*b, has_time ? 4 : 3);
        const int64_t groups = b->shape[1];
        for (const Tensor* tensor : {b, c})
            has_time ? expect_shape(*tensor, {batch, groups, params.states, steps})
                     : expect_shape(*tensor, {batch, groups, params.states});
        for (const Tensor* tensor : {d, dt_bias})
            expect_shape(*tensor, {channels});
        expect_groups(b->name, groups, channels, "channels");
        set_sizes(batch, groups, channels / groups, groups, steps);
    }

    void place_channels() {
        const auto place = [&](HeadTensor& target, const Tensor& tensor, std::initializer_list<Axis> axes) {
            this->place(target, tensor, axes);
            target.head_stride = target.channel_stride * params.channels;
        };
        place(params.update, *state, {of_batch, of_channel, of_state});
        place(params.x, *x, {of_batch, of_channel, of_time});
        place(params.dt, *dt, {of_batch, of_channel, of_time});
        place(params.z, *z, {of_batch, of_channel, of_time});
        place(params.y, *y, {of_batch, of_channel, of_time});
        place(params.a, *a, {of_channel, of_state});
        place(params.d, *d, {of_channel});
        place(params.dt_bias, *dt_bias, {of_channel});
        this->place(params.b, *b, {of_batch, of_head, of_state, of_time});
        this->place(params.c, *c, {of_batch, of_head, of_state, of_time});
    }

    // Mamba-2.
    void expect_heads() {
        const int last = x->rank - 1;
        const int64_t batch = x->shape[0], heads = x->shape[last - 1], channels = x->shape[last];
        const int64_t steps = has_time ? x->shape[1] : 1;
        expect_rows({batch, heads, channels, params.states});
        for (const Tensor* tensor : {z, y})
            has_time ? expect_shape(*tensor, {batch, steps, heads, channels})
                     : expect_shape(*tensor, {batch, heads, channels});
        has_time ? expect_shape(*dt, {batch, steps, heads}) : expect_shape(*dt, {batch, heads});
        for (const Tensor* tensor : {a, d, dt_bias})
            expect_shape(*tensor, {heads});
        expect_rank(*b, has_time ? 4 : 3);
        const int64_t groups = b->shape[has_time ? 2 : 1];
        for (const Tensor* tensor : {b, c})
            has_time ? expect_shape(*tensor, {batch, steps, groups, params.states})
                     : expect_shape(*tensor, {batch, groups, params.states});
        expect_groups(b->name, groups, heads, "heads");
        set_sizes(batch, heads, channels, groups, steps);
    }

    void place_heads() {
        place(params.update, *state, {of_batch, of_head, of_channel, of_state});
        const auto place_step = [&](HeadTensor& target, const Tensor& tensor, std::initializer_list<Axis> with_time,
                                    std::initializer_list<Axis> without) {
            place(target, tensor, has_time ? with_time : without);
        };
        place_step(params.x, *x, {of_batch, of_time, of_head, of_channel}, {of_batch, of_head, of_channel});
        place_step(params.z, *z, {of_batch, of_time, of_head, of_channel}, {of_batch, of_head, of_channel});
        place_step(params.y, *y, {of_batch, of_time, of_head, of_channel}, {of_batch, of_head, of_channel});
        place_step(params.dt, *dt, {of_batch, of_time, of_head}, {of_batch, of_head});
        place_step(params.b, *b, {of_batch, of_time, of_head, of_state}, {of_batch, of_head, of_state});
        place_step(params.c, *c, {of_batch, of_time, of_head, of_state}, {of_batch, of_head, of_state});
        place(params.a, *a, {of_head});
        place(params.d, *d, {of_head});
        place(params.dt_bias, *dt_bias, {of_head});
    }

    // The state's shape, whose first number is its own where there are slots.
    void expect_rows(std::initializer_list<int64_t> shape) {
        const int64_t batch = *shape.begin();
        params.rows = *slots ? state->shape[0] : batch;
        const int64_t* rest = shape.begin() + 1;
        params.is_tied ? expect_shape(*state, {params.rows, rest[0], rest[1], rest[2]})
                       : expect_shape(*state, {params.rows, rest[0], rest[1]});
        expect_shape(*slots, {batch});
    }

    void set_sizes(int64_t batch, int64_t heads, int64_t channels, int64_t groups, int64_t steps) {
        params.batch = batch;
        params.heads = heads;
        params.channels = channels;
        params.groups = groups;
        params.steps = steps;
    }

    void place(HeadTensor& target, const Tensor& tensor, std::initializer_list<Axis> axes) {
        const bool is_last_unit = &tensor == a && !params.is_tied;
        ssm::place(plan, target, tensor, axes, is_last_unit);
    }
};

} // namespace

extern "C" int32_t ssm_selective_state_update(ssm_context* context, const ssm_selective_state_update_args* args) {
    return run_operation<SelectiveStateUpdate>(context, args, &Backend::selective_state_update,
                                               &Backend::selective_state_update_workspace);
}

extern "C" int32_t ssm_selective_state_update_workspace(ssm_context* context, const ssm_selective_state_update_args* args,
                                                        uint64_t* bytes) {
    return query_workspace<SelectiveStateUpdate>(context, args, bytes, &Backend::selective_state_update_workspace);
}
