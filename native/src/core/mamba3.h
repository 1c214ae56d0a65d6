// What the operation mamba3 and its gradients check alike.
#pragma once

#include "core/heads.h"
#include "core/operation.h"
#include "core/params/mamba3.h"

namespace ssm {

// The checked inputs of a call. Args is the struct of either operation.
template <class P>
struct Mamba3Call : Call<P> {
    using Call<P>::contract;
    using Call<P>::params;
    using Call<P>::plan;
    const Tensor *x, *dt, *a, *b, *c, *trap, *angles, *b_bias, *c_bias, *d, *z, *dt_bias;
    const Tensor *initial_state, *initial_angle, *initial_b, *initial_x, *cu_seqlens;
    int64_t batch = 0, length = 0, heads = 0, channels = 0, groups = 0, states = 0, rows = 0;

  protected:
    using Call<P>::Call;

    template <class Args>
    void read_inputs(const Args& args) {
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
        initial_state = &contract.optional_input("initial_state", args.initial_state);
        initial_angle = &contract.optional_input("initial_angle", args.initial_angle);
        initial_b = &contract.optional_input("initial_b", args.initial_b);
        initial_x = &contract.optional_input("initial_x", args.initial_x);
        cu_seqlens = &contract.optional_input("cu_seqlens", args.cu_seqlens);
        params.dt_softplus = read_bool("dt_softplus", args.dt_softplus);
    }

    void expect_inputs() {
        expect_type(*x, {DataType::float32, DataType::float64, DataType::float16, DataType::bfloat16});
        params.type = x->type();
        for (const Tensor* tensor : {dt, b, c, trap, angles, z})
            expect_type(*tensor, params.type);
        for (const Tensor* tensor : {a, b_bias, c_bias, d, dt_bias, initial_state, initial_angle, initial_b, initial_x})
            expect_type(*tensor, state_type(params.type));

        expect_rank(*x, 4);
        batch = x->shape[0], length = x->shape[1], heads = x->shape[2], channels = x->shape[3];
        SequenceShape& shape = this->read_shape(params.shape, *x, 2, 1, *cu_seqlens);
        rows = shape.state_rows();
        expect_shape(*z, {batch, length, heads, channels});
        for (const Tensor* tensor : {dt, trap})
            expect_shape(*tensor, {batch, length, heads});
        params.a_per_step = a->rank != 1;
        expect_rates(*a);
        expect_rank(*b, 4);
        groups = b->shape[2];
        states = b->shape[3];
        for (const Tensor* tensor : {b, c})
            expect_shape(*tensor, {batch, length, groups, states});
        expect_groups(b->name, groups, heads, "heads");
        if (*angles) {
            expect_rank(*angles, 4);
            params.angle_groups = angles->shape[2];
            params.angles = angles->shape[3];
            expect_shape(*angles, {batch, length, params.angle_groups, params.angles});
            expect_groups(angles->name, params.angle_groups, heads, "heads");
            if (params.angles > states / 2)
                fail_argument("angles", "at most " + std::to_string(states / 2) + " angles, half of the states",
                              std::to_string(params.angles));
        }
        for (const Tensor* tensor : {b_bias, c_bias})
            expect_shape(*tensor, {heads, states});
        expect_shape(*dt_bias, {heads});
        params.d_per_channel = d->rank == 2;
        params.d_per_channel ? expect_shape(*d, {heads, channels}) : expect_shape(*d, {heads});
        expect_states(*initial_state, *initial_angle, *initial_b, *initial_x);
        if (*initial_b && !*initial_x)
            fail_argument("initial_x", "a tensor, as initial_b is given", "NULL");
        if (*initial_x && !*initial_b)
            fail_argument("initial_b", "a tensor, as initial_x is given", "NULL");
        params.channels = channels;
        params.groups = groups;
        params.states = states;
    }
    void expect_rates(const Tensor& tensor) const {
        params.a_per_step ? expect_shape(tensor, {batch, length, heads}) : expect_shape(tensor, {heads});
    }
    void expect_states(const Tensor& state, const Tensor& angle, const Tensor& of_b, const Tensor& of_x) const {
        expect_shape(state, {rows, heads, channels, states});
        expect_angles(angle);
        expect_shape(angle, {rows, heads, params.angles});
        expect_shape(of_b, {rows, heads, states});
        expect_shape(of_x, {rows, heads, channels});
    }
    // What there is only with angles.
    void expect_angles(const Tensor& tensor) const {
        if (tensor && !*angles)
            fail_argument("angles", std::string("a tensor, as ") + tensor.name + " is given", "NULL");
    }

    bool has_nothing_to_do() const { return x->count == 0 || states == 0; }

    void place_inputs() {
        place_channels(params.x, *x);
        place_channels(params.z, *z);
        place_states(params.b, *b);
        place_states(params.c, *c);
        place_states(params.angle, *angles);
        place_heads(params.dt, *dt);
        place_heads(params.trap, *trap);
        place_rates(params.a, *a);
        plan.add_compact(params.b_bias, *b_bias);
        plan.add_compact(params.c_bias, *c_bias);
        plan.add_compact(params.d, *d);
        plan.add_compact(params.dt_bias, *dt_bias);
        plan.add_compact(params.initial_state, *initial_state);
        plan.add_compact(params.initial_angle, *initial_angle);
        plan.add_compact(params.initial_b, *initial_b);
        plan.add_compact(params.initial_x, *initial_x);
    }
    // (B,L,H,P), (B,L,G,N) or (B,L,J,A), (B,L,H), a
    void place_channels(HeadTensor& target, const Tensor& tensor) {
        place(plan, target, tensor, {of_batch, of_time, of_head, of_channel}, true);
    }
    void place_states(HeadTensor& target, const Tensor& tensor) {
        place(plan, target, tensor, {of_batch, of_time, of_head, of_state}, true);
    }
    void place_heads(HeadTensor& target, const Tensor& tensor) { place(plan, target, tensor, {of_batch, of_time, of_head}); }
    void place_rates(HeadTensor& target, const Tensor& tensor) {
        params.a_per_step ? place_heads(target, tensor) : place(plan, target, tensor, {of_head});
    }
};

} // namespace ssm
