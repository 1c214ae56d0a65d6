// What the operation ssd and its gradients check alike.
#pragma once

#include "core/heads.h"
#include "core/operation.h"
#include "core/params/ssd.h"

#include <cmath>

namespace ssm {

// The checked inputs of a call. Args is the struct of either operation.
template <class P>
struct SsdCall : Call<P> {
    using Call<P>::contract;
    using Call<P>::params;
    using Call<P>::plan;
    const Tensor *x, *dt, *a, *b, *c, *d, *z, *dt_bias, *initial_state, *seq_idx, *cu_seqlens;
    int64_t batch = 0, length = 0, heads = 0, channels = 0, groups = 0, states = 0, rows = 0;

    void check_values(ssm_context& context) const {
        Call<P>::check_values(context);
        check_finite(context, *a);
    }

  protected:
    using Call<P>::Call;

    template <class Args>
    void read_inputs(const Args& args) {
        x = &contract.input("x", args.x);
        dt = &contract.input("dt", args.dt);
        a = &contract.input("a", args.a);
        b = &contract.input("b", args.b);
        c = &contract.input("c", args.c);
        d = &contract.optional_input("d", args.d);
        z = &contract.optional_input("z", args.z);
        dt_bias = &contract.optional_input("dt_bias", args.dt_bias);
        initial_state = &contract.optional_input("initial_state", args.initial_state);
        seq_idx = &contract.optional_input("seq_idx", args.seq_idx);
        cu_seqlens = &contract.optional_input("cu_seqlens", args.cu_seqlens);
        params.dt_softplus = read_bool("dt_softplus", args.dt_softplus);
        params.chunk = args.chunk_size;
        params.dt_min = args.dt_min;
        params.dt_max = args.dt_max;
        if (args.chunk_size < 0)
            fail_argument("chunk_size", "0 or more", std::to_string(args.chunk_size));
        if (!(args.dt_min >= 0) || !std::isfinite(args.dt_min))
            fail_argument("dt_min", "a finite number, 0 or more", std::to_string(args.dt_min));
        if (!(args.dt_max == 0 || args.dt_max >= args.dt_min))
            fail_argument("dt_max", "0, or a number of at least dt_min", std::to_string(args.dt_max));
    }

    void expect_inputs() {
        expect_type(*x, {DataType::float32, DataType::float64, DataType::float16, DataType::bfloat16});
        params.type = x->type();
        for (const Tensor* tensor : {dt, b, c, z})
            expect_type(*tensor, params.type);
        for (const Tensor* tensor : {a, d, dt_bias, initial_state})
            expect_type(*tensor, state_type(params.type));
        expect_type(*seq_idx, DataType::int32);

        expect_rank(*x, 4);
        batch = x->shape[0], length = x->shape[1], heads = x->shape[2], channels = x->shape[3];
        SequenceShape& shape = this->read_shape(params.shape, *x, 2, 1, *cu_seqlens);
        rows = shape.state_rows();
        expect_shape(*z, {batch, length, heads, channels});
        expect_shape(*dt, {batch, length, heads});
        expect_rank(*b, 4);
        groups = b->shape[2];
        states = b->shape[3];
        for (const Tensor* tensor : {b, c})
            expect_shape(*tensor, {batch, length, groups, states});
        expect_groups(b->name, groups, heads, "heads");
        for (const Tensor* tensor : {a, dt_bias})
            expect_shape(*tensor, {heads});
        params.d_per_channel = d->rank == 2;
        params.d_per_channel ? expect_shape(*d, {heads, channels}) : expect_shape(*d, {heads});
        expect_states(*initial_state);
        expect_shape(*seq_idx, {batch, length});
        params.channels = channels;
        params.groups = groups;
        params.states = states;
    }
    void expect_states(const Tensor& tensor) const { expect_shape(tensor, {rows, heads, channels, states}); }

    bool has_nothing_to_do() const { return x->count == 0 || states == 0; }

    void place_inputs() {
        place_channels(params.x, *x);
        place_channels(params.z, *z);
        place_states(params.b, *b);
        place_states(params.c, *c);
        place_heads(params.dt, *dt);
        plan.add_compact(params.a, *a);
        plan.add_compact(params.d, *d);
        plan.add_compact(params.dt_bias, *dt_bias);
        plan.add_compact(params.initial_state, *initial_state);
        plan.add_compact(params.seq_idx, *seq_idx);
    }
    // (B,L,H,P), (B,L,G,N), (B,L,H)
    void place_channels(HeadTensor& target, const Tensor& tensor) {
        place(plan, target, tensor, {of_batch, of_time, of_head, of_channel}, true);
    }
    void place_states(HeadTensor& target, const Tensor& tensor) {
        place(plan, target, tensor, {of_batch, of_time, of_head, of_state}, true);
    }
    void place_heads(HeadTensor& target, const Tensor& tensor) { place(plan, target, tensor, {of_batch, of_time, of_head}); }
};

} // namespace ssm
