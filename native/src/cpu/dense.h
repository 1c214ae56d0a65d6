// The discretised matrices of dense systems as the recurrences on the CPU take them.
#pragma once

#include "core/dense_algebra.h"
#include "core/params/dense_ssm.h"
#include "cpu/ssd.h" // Areas

namespace ssm::cpu {

// Rows of states have whole vectors of every instruction set; what is behind the last state is 0.
template <class Lane>
constexpr int64_t state_width(int64_t states) {
    constexpr int64_t most_lanes = 64 / static_cast<int64_t>(sizeof(Lane));
    return (states + most_lanes - 1) / most_lanes * most_lanes;
}

// a_bar column by column, then b_bar: (N + 1, width).
template <class Lane>
constexpr int64_t dense_step_size(int64_t states) {
    return (states + 1) * state_width<Lane>(states);
}

struct DenseStepMemory {
    DiscretizeMemory discretize;
    double *a_bar, *b_bar;
    DenseStepMemory(TeamMemory& memory, int64_t states)
        : discretize(memory, states), a_bar(memory.take<double>(states * states)), b_bar(memory.take<double>(states)) {}
    static int64_t bytes(int64_t states) {
        TeamMemory count(nullptr);
        DenseStepMemory(count, states);
        return count.bytes();
    }
};

template <class Lane>
void store_step(const DenseStepMemory& memory, int64_t states, Lane* step) {
    const int64_t width = state_width<Lane>(states);
    for (int64_t j = 0; j <= states; ++j)
        for (int64_t i = 0; i < width; ++i) {
            const double value = i >= states ? 0 : j < states ? memory.a_bar[i * states + j] : memory.b_bar[i];
            step[j * width + i] = static_cast<Lane>(value);
        }
}

} // namespace ssm::cpu
