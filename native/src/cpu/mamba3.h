// What mamba3 and its gradients share on the CPU.
#pragma once

#include "core/params/mamba3.h"
#include "core/params/mamba3_scaled.h"
#include "cpu/ssd.h"

namespace ssm {
struct BackendContext;

namespace cpu {

// A task's scratch. Rows of numbers have the width of whole pairs of vectors.
template <class Lane>
struct Mamba3Buffers {
    int64_t width = 0;
    Lane *b_bias, *c_bias;
    Lane *b, *c; // of a step, with their biases
    Lane *k, *q; // turned
    Lane* turn;  // theta / 2 pi
    // Of steps: dt with its bias, s, lambda, 1 - lambda.
    Lane *biased, *s, *lambda, *rest;

    Mamba3Buffers() = default;
    Mamba3Buffers(int64_t states, int64_t steps, int64_t lanes, Scratch& scratch) {
        width = (states + 2 * lanes - 1) / (2 * lanes) * (2 * lanes);
        for (Lane** row : {&b_bias, &c_bias, &b, &c, &k, &q, &turn})
            *row = scratch.take<Lane>(width);
        for (Lane** row : {&biased, &s, &lambda, &rest})
            *row = scratch.take<Lane>(steps + lanes);
    }
};

// A task is a head of a batch element.
struct Mamba3Plan {
    int64_t lanes, tasks;
    int64_t area_bytes, areas;

    Areas scratch(void* base) const { return Areas(base, area_bytes, areas); }
};

int64_t mamba3_lanes(DataType type);

// Makes what ssd gets, and the last theta, k and x where they are wanted. The scratch is the plan's.
struct Mamba3Last {
    void *angle = nullptr, *b = nullptr, *x = nullptr;
};
template <class Lane>
void prepare_mamba3(BackendContext* context, const Mamba3Inputs& p, const Mamba3Plan& plan, void* scratch,
                    const Mamba3Scaled<Lane>& scaled, const Mamba3Last& last);

// With the scratch that preparing takes.
template <class Lane>
Mamba3Plan plan_mamba3(const Mamba3Inputs& p) {
    Mamba3Plan plan = {};
    plan.lanes = mamba3_lanes(p.type);
    plan.tasks = p.shape.batch * p.shape.channels;
    Scratch scratch(nullptr);
    Mamba3Buffers<Lane>(p.states, p.shape.length, plan.lanes, scratch);
    plan.area_bytes = scratch.size();
    plan.areas = std::min<int64_t>(plan.tasks, usable_threads());
    return plan;
}

} // namespace cpu
} // namespace ssm
