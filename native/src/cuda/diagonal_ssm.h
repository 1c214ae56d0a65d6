// What the recurrence of a diagonal system and its gradients share on the device. A team of lanes of a warp has a head of a
// part of time; each lane holds some states in registers. Where there are too few heads and sequences to fill the device,
// time is cut into parts: each is gone through from no state first, their ends are folded, and then each is run.
#pragma once

#include "cuda/poles.h"
#include "cuda/primitives/sequence.h"

namespace ssm {

// Of a state. drift: by which share a_bar differs from what R holds of it; the state is corrected by it every
// drift_steps, so that phases of a long memory do not go astray. leap: a_bar to the power of a part's steps.
template <typename R>
struct SystemCoefficients {
    Complex<R> a, b, c, drift, leap; // c: twice it
};

constexpr int step_run = 8; // steps that are loaded and whose sums are made at once
constexpr int drift_steps = 64;

struct SystemSource {
    DataType type;
    DiscretizationRule rule;
    const void *a, *b, *c, *dt;
    int64_t heads, states, part;
};
// Fills (H,N) coefficients. In diagonal_ssm.cu.
cudaError_t prepare_system(BackendContext* context, const SystemSource& source, void* coefficients);

// Lanes that have the states of a head together; where those are more than 32 lanes can hold, in several passes.
struct Team {
    int lanes;
    int64_t passes;
};
inline Team team_of(int64_t states, int own_states) {
    Team team{1, 1};
    while (team.lanes < warp_size && team.lanes * own_states < states) {
        team.lanes *= 2;
    }
    team.passes = (states + team.lanes * own_states - 1) / (team.lanes * own_states);
    return team;
}

// Where an item of work lies. Its steps are those of part `index` of a sequence.
struct PartSpan {
    Span span;
    int64_t index, steps;
    int64_t place; // of its states, among those of all parts and heads
    bool exists, is_last;
};
SSM_DEVICE PartSpan part_of_item(const SequenceShape& shape, int64_t slots, int64_t part, int64_t item) {
    const int64_t heads = shape.channels;
    const int64_t slot = item / heads % slots;
    PartSpan result;
    result.span = span_of_slot(shape, item / heads / slots, slot, part, result.index);
    const int64_t begin = result.index * part;
    const int64_t left = result.span.length - begin;
    result.exists = result.index >= 0 && (result.index == 0 || left > 0);
    result.steps = left < part ? left : part;
    result.is_last = left <= part;
    result.place = item;
    return result;
}
// The place of a row's first part of a head; those of the others follow `heads` apart.
SSM_DEVICE int64_t first_place(const SequenceShape& shape, int64_t slots, int64_t part, const Span& span, int64_t head) {
    const int64_t slot = shape.cu_seqlens ? span.begin / part + span.row : 0;
    return (span.batch * slots + slot) * shape.channels + head;
}

// a x + b u
template <typename R>
SSM_DEVICE Complex<R> advance(Complex<R> a, Complex<R> x, Complex<R> b, R u) {
    return {multiply_add(-a.im, x.im, multiply_add(a.re, x.re, b.re * u)),
            multiply_add(a.im, x.re, multiply_add(a.re, x.im, b.im * u))};
}
// x after `count` steps whose a was off by drift.
template <typename R>
SSM_DEVICE Complex<R> corrected(Complex<R> x, Complex<R> drift, int count) {
    return multiply_add(static_cast<R>(count) * drift, x, x);
}

// Every lane of the team gets the sum of its lanes.
template <typename R>
SSM_DEVICE R team_sum(R value, int lanes, unsigned mask) {
    for (int apart = lanes / 2; apart > 0; apart /= 2) {
        value += shuffle_xor(value, apart, mask, lanes);
    }
    return value;
}

} // namespace ssm
