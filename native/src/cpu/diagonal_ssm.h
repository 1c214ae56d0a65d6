// What the recurrence of a diagonal system and its gradients share on the CPU: coefficients in the workspace, and where
// sequences lie.
#pragma once

#include "core/diagonal_system.h"
#include "cpu/poles.h"

#include <algorithm>

namespace ssm::cpu {

constexpr int64_t most_tile = 64; // steps that are at hand at once

// Of one head, each part of all states side by side. drift: by which share a_bar differs from what Lane holds of it. The
// state is corrected by it once in a tile, so that phases of a long memory do not go astray.
template <class Lane>
struct SystemPlanes {
    Lane *a_re, *a_im, *b_re, *b_im;
    Lane *c_re, *c_im; // twice c
    Lane *drift_re, *drift_im;
    static constexpr int64_t planes = 8;

    SystemPlanes(void* workspace, int64_t head, int64_t padded) {
        Lane* at = static_cast<Lane*>(workspace) + head * planes * padded;
        for (Lane** plane : {&a_re, &a_im, &b_re, &b_im, &c_re, &c_im, &drift_re, &drift_im}) {
            *plane = at;
            at += padded;
        }
    }
    static int64_t count(int64_t heads, int64_t padded) { return heads * planes * padded; }
};

template <class Lane, class Params>
void fill_system(const Params& p, int64_t head) {
    const int64_t padded = padded_poles(p.states);
    const SystemPlanes<Lane> planes(p.workspace.data, head, padded);
    const double dt = static_cast<double>(static_cast<const Lane*>(p.dt)[head]);
    std::fill_n(planes.a_re, SystemPlanes<Lane>::planes * padded, Lane{0});
    for (int64_t n = 0; n < p.states; ++n) {
        const int64_t index = head * p.states + n;
        const ComplexDouble a = complex_at<Lane>(p.a, index);
        const ComplexDouble a_bar = discretized_state(p.rule, a, dt, 1.0);
        const ComplexDouble b_bar = complex_at<Lane>(p.b, index) * discretized_input(p.rule, a, dt, 1.0);
        const ComplexDouble c = complex_at<Lane>(p.c, index);
        planes.a_re[n] = static_cast<Lane>(a_bar.re);
        planes.a_im[n] = static_cast<Lane>(a_bar.im);
        planes.b_re[n] = static_cast<Lane>(b_bar.re);
        planes.b_im[n] = static_cast<Lane>(b_bar.im);
        planes.c_re[n] = static_cast<Lane>(2 * c.re);
        planes.c_im[n] = static_cast<Lane>(2 * c.im);
        const ComplexDouble held = {static_cast<double>(planes.a_re[n]), static_cast<double>(planes.a_im[n])};
        if (squared_magnitude(held) > 0) {
            const ComplexDouble drift = (a_bar - held) / held;
            planes.drift_re[n] = static_cast<Lane>(drift.re);
            planes.drift_im[n] = static_cast<Lane>(drift.im);
        }
    }
}

// The steps of one row of states.
struct RowSpan {
    int64_t batch, begin, length;
};
inline RowSpan span_of_row(const SequenceShape& shape, int64_t row) {
    if (!shape.cu_seqlens)
        return {row, 0, shape.length};
    return {0, shape.cu_seqlens[row], shape.cu_seqlens[row + 1] - shape.cu_seqlens[row]};
}

inline int64_t tile_of(int64_t option) {
    return option > 0 ? std::min(option, most_tile) : most_tile;
}

} // namespace ssm::cpu
