// Argument checks of some steps of Mamba-3. Tensors are used in place wherever the last dimension is contiguous.
#include "core/heads.h"
#include "core/operation.h"

using namespace ssm;

namespace {

// The checked call.
struct Mamba3Update : Call<Mamba3UpdateParams> {
    const Tensor *state, *angle_state, *b_state, *x_state, *x, *dt, *a, *b, *c, *trap, *angles;
    const Tensor *b_bias, *c_bias, *d, *z, *dt_bias, *slots, *y;
    bool has_time = false;

    Mamba3Update(const ssm_context& context, const ssm_mamba3_update_args* given, Purpose purpose) : Call(context, purpose) {
        const auto args = read_arguments(given);
        state = &contract.inout("state", args.state);
        angle_state = &(args.angle_state ? contract.inout("angle_state", args.angle_state) : absent);
        b_state = &contract.inout("b_state", args.b_state);
        x_state = &contract.inout("x_state", args.x_state);
        x = &contract.input("x", args.x);
        dt = &contract.input("dt", args.dt);
        a = &contract.input("a", args.a);
        b = &contract.input("b", args.b);
        c = &contract.input("c", args.c);
        trap = &contract.input("trap", args.trap);
        angles = &contract.optional_input("angles", args.angles);
        b_bias = &contract.optional_input("b_bias", args.b_bias);
        c_bias = &contract.optional_input("c_bias", args.c_bias);
        d = &contract.optional_input("d", args.d);
        z = &contract.optional_input("z", args.z);
        dt_bias = &contract.optional_input("dt_bias", args.dt_bias);
        slots = &contract.optional_input("slots", args.slots);
        y = &contract.output("y", args.y);
        contract.allow_inplace(*y, *x);
        contract.allow_inplace(*y, *z);
        params.dt_softplus = read_bool("dt_softplus", args.dt_softplus);

        expect_types();
        if (x->rank != 3 && x->rank != 4)
            fail_argument("x", "rank 3, or 4 with time", "shape " + text_of_shape(x->shape, x->rank));
        has_time = x->rank == 4;
        expect_shapes();
        contract.expect_outputs_apart();

        if (x->count == 0 || params.states == 0) {
            pass_on({});
            return;
        }
        place_all();
    }

    void check_values(ssm_context& context) const { check_slots(context, *slots, params.rows); }

  private:
    void expect_types() {
        expect_type(*x, {DataType::float32, DataType::float64, DataType::float16, DataType::bfloat16});
        params.type = x->type();
        for (const Tensor* tensor : {dt, b, c, trap, angles, z, y})
            expect_type(*tensor, params.type);
        for (const Tensor* tensor : {state, angle_state, b_state, x_state, a, b_bias, c_bias, d, dt_bias})
            expect_type(*tensor, state_type(params.type));
        expect_type(*slots, DataType::int32);
    }

    // (B,...) or with time (B,T,...).
    void expect_steps(const Tensor& tensor, std::initializer_list<int64_t> rest) const {
        int64_t shape[max_rank] = {params.batch, params.steps};
        int32_t rank = has_time ? 2 : 1;
        for (const int64_t size : rest)
            shape[rank++] = size;
        expect_shape(tensor, shape, rank);
    }

    void expect_shapes() {
        const int first = has_time ? 2 : 1;
        params.batch = x->shape[0];
        params.steps = has_time ? x->shape[1] : 1;
        params.heads = x->shape[first];
        params.channels = x->shape[first + 1];
        for (const Tensor* tensor : {z, y})
            expect_steps(*tensor, {params.heads, params.channels});
        for (const Tensor* tensor : {dt, trap})
            expect_steps(*tensor, {params.heads});
        if (a->rank == 1)
            expect_shape(*a, {params.heads});
        else
            expect_steps(*a, {params.heads});
        expect_rank(*b, first + 2);
        params.groups = b->shape[first];
        params.states = b->shape[first + 1];
        for (const Tensor* tensor : {b, c})
            expect_steps(*tensor, {params.groups, params.states});
        expect_groups(b->name, params.groups, params.heads, "heads");
        if (bool{*angles} != bool{*angle_state}) {
            fail_argument(*angles ? "angle_state" : "angles",
                          std::string("a tensor, as ") + (*angles ? "angles" : "angle_state") + " is given", "NULL");
        }
        if (*angles) {
            expect_rank(*angles, first + 2);
            params.angle_groups = angles->shape[first];
            params.angles = angles->shape[first + 1];
            expect_steps(*angles, {params.angle_groups, params.angles});
            expect_groups(angles->name, params.angle_groups, params.heads, "heads");
            if (params.angles > params.states / 2)
                fail_argument("angles", "at most " + std::to_string(params.states / 2) + " angles, half of the states",
                              std::to_string(params.angles));
        }
        for (const Tensor* tensor : {b_bias, c_bias})
            expect_shape(*tensor, {params.heads, params.states});
        expect_shape(*dt_bias, {params.heads});
        params.d_per_channel = d->rank == 2;
        params.d_per_channel ? expect_shape(*d, {params.heads, params.channels}) : expect_shape(*d, {params.heads});
        expect_shape(*slots, {params.batch});
        expect_rank(*state, 4);
        params.rows = *slots ? state->shape[0] : params.batch;
        expect_shape(*state, {params.rows, params.heads, params.channels, params.states});
        expect_shape(*angle_state, {params.rows, params.heads, params.angles});
        expect_shape(*b_state, {params.rows, params.heads, params.states});
        expect_shape(*x_state, {params.rows, params.heads, params.channels});
    }

    // The last axis is contiguous where `last` is one.
    void place_steps(HeadTensor& target, const Tensor& tensor, Axis last) {
        if (has_time)
            place(plan, target, tensor, {of_batch, of_time, of_head, last}, true);
        else
            place(plan, target, tensor, {of_batch, of_head, last}, true);
    }
    void place_heads(HeadTensor& target, const Tensor& tensor) {
        if (has_time)
            place(plan, target, tensor, {of_batch, of_time, of_head});
        else
            place(plan, target, tensor, {of_batch, of_head});
    }

    void place_all() {
        place(plan, params.state, *state, {of_batch, of_head, of_channel, of_state}, true);
        place(plan, params.angle_state, *angle_state, {of_batch, of_head, of_state}, true);
        place(plan, params.b_state, *b_state, {of_batch, of_head, of_state}, true);
        place(plan, params.x_state, *x_state, {of_batch, of_head, of_channel}, true);
        place_steps(params.x, *x, of_channel);
        place_steps(params.z, *z, of_channel);
        place_steps(params.y, *y, of_channel);
        place_steps(params.b, *b, of_state);
        place_steps(params.c, *c, of_state);
        place_steps(params.angle, *angles, of_state);
        place_heads(params.dt, *dt);
        place_heads(params.trap, *trap);
        if (a->rank == 1)
            place(plan, params.a, *a, {of_head});
        else
            place_heads(params.a, *a);
        plan.add_compact(params.b_bias, *b_bias);
        plan.add_compact(params.c_bias, *c_bias);
        plan.add_compact(params.d, *d);
        plan.add_compact(params.dt_bias, *dt_bias);
        plan.add_compact(params.slots, *slots);
    }
};

} // namespace

extern "C" int32_t ssm_mamba3_update(ssm_context* context, const ssm_mamba3_update_args* args) {
    return run_operation<Mamba3Update>(context, args, &Backend::mamba3_update, &Backend::mamba3_update_workspace);
}

extern "C" int32_t ssm_mamba3_update_workspace(ssm_context* context, const ssm_mamba3_update_args* args, uint64_t* bytes) {
    return query_workspace<Mamba3Update>(context, args, bytes, &Backend::mamba3_update_workspace);
}
