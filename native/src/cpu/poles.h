// Where the CPU keeps the poles of a Vandermonde sum: in the workspace, in double precision, each part of all poles of a row
// side by side.
#pragma once

#include "core/diagonal_system.h"

namespace ssm::cpu {

// Rows of poles end in ones that add nothing, so that whole vectors can be taken.
constexpr int64_t pole_multiple = 16;
constexpr int64_t padded_poles(int64_t states) {
    return (states + pole_multiple - 1) / pole_multiple * pole_multiple;
}

struct PolePlanes {
    double *v_re, *v_im, *x_re, *x_im, *shift;
    static constexpr int64_t planes = 5;

    PolePlanes(void* workspace, int64_t row, int64_t padded) {
        v_re = static_cast<double*>(workspace) + row * planes * padded;
        v_im = v_re + padded;
        x_re = v_im + padded;
        x_im = x_re + padded;
        shift = x_im + padded;
    }
    static int64_t bytes(int64_t rows, int64_t states) {
        return rows * planes * padded_poles(states) * static_cast<int64_t>(sizeof(double));
    }
};

template <class Real>
void fill_poles(const PoleSource& source, int64_t row, int64_t states, int64_t length, const PolePlanes& planes) {
    for (int64_t n = 0; n < padded_poles(states); ++n) {
        const Pole pole = n < states ? pole_at<Real>(source, row, row * states + n, length) : Pole{{0, 0}, {0, 0}, 0};
        planes.v_re[n] = pole.v.re;
        planes.v_im[n] = pole.v.im;
        planes.x_re[n] = pole.x.re;
        planes.x_im[n] = pole.x.im;
        planes.shift[n] = pole.shift;
    }
}
template <class Params>
void fill_poles(const Params& p, int64_t row) {
    const PolePlanes planes(p.workspace.data, row, padded_poles(p.states));
    if (p.type == DataType::complex128)
        fill_poles<double>(p.source, row, p.states, p.length, planes);
    else
        fill_poles<float>(p.source, row, p.states, p.length, planes);
}

} // namespace ssm::cpu
