// What mamba3 hands to ssd. With g_t = lambda_t s_t and e_t = (1 - lambda_t) s_t, the step before t enters h at step t. Let
// it enter as soon as it is there, S_t = h_t + e_{t+1} x_t k_t^T, and S is ssd's state:
//   S_t = exp(s_t a_t) S_{t-1} + x_t (g_t + e_{t+1}) k_t^T,   h_t q_t = S_t q_t - e_{t+1} <k_t, q_t> x_t,
// the second term being a skip connection. Behind the last step e is 0, so that the last state is h; the first S is
// h_0 + e_1 x_0 k_0^T. A rotation turns both factors of <k_t, q_t> alike, so that it needs none. What is taken out again is
// the product of the factors as they are stored, g_t <k_t, q_t> being added as it is.
#pragma once

#include "core/params/mamba3.h"
#include "core/params/ssd.h"

namespace ssm {

// A tensor (B,L,H,width) in rows.
inline HeadTensor rows_of_heads(void* data, const SequenceShape& shape, int64_t width) {
    HeadTensor rows;
    rows.data = data;
    rows.head_stride = width;
    rows.time_stride = shape.channels * width;
    rows.batch_stride = shape.length * rows.time_stride;
    return rows;
}

// R: the state type. A Scratch hands out memory by take<T>(count).
template <class R>
struct Mamba3Scaled {
    void *b, *c;          // (B,L,H,N) of the storage type: (g_t + e_{t+1}) k_t, and q_t
    R *log_decay, *skip;  // (B,L,H)
    R* initial = nullptr; // (R,H,P,N): the first S; null: initial_state is it
    R* turns = nullptr;   // (B,L,H,A): theta / 2 pi; of the gradients alone

    template <class Scratch>
    Mamba3Scaled(const Mamba3Inputs& p, bool with_turns, Scratch& scratch) {
        const int64_t heads = p.shape.batch * p.shape.length * p.shape.channels;
        b = scratch.template take<char>(heads * p.states * size_of(p.type));
        c = scratch.template take<char>(heads * p.states * size_of(p.type));
        log_decay = scratch.template take<R>(heads);
        skip = scratch.template take<R>(heads);
        if (p.initial_b)
            initial = scratch.template take<R>(p.shape.state_rows() * p.shape.channels * p.channels * p.states);
        if (with_turns)
            turns = scratch.template take<R>(heads * p.angles);
    }

    // chunk: steps that ssd takes together, at most; 0: its own choice.
    void set_inputs(const Mamba3Inputs& p, int64_t chunk, SsdInputs& to) const {
        to.type = p.type;
        to.shape = p.shape;
        to.channels = p.channels;
        to.groups = p.shape.channels;
        to.states = p.states;
        to.chunk = chunk;
        to.d_per_channel = p.d_per_channel;
        to.x = p.x;
        to.z = p.z;
        to.b = rows_of_heads(b, p.shape, p.states);
        to.c = rows_of_heads(c, p.shape, p.states);
        to.d = p.d;
        to.initial_state = p.initial_b ? initial : p.initial_state;
        to.log_decay = rows_of_heads(log_decay, p.shape, 1);
        to.skip = rows_of_heads(skip, p.shape, 1);
    }
};

} // namespace ssm
