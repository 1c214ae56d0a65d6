// Discrete Fourier transforms of any length in double by a team: powers of two by Stockham's radix-4 passes, other lengths
// as a convolution with a chirp (Bluestein), in O(L log L) for all. Its two users are dplr_kernel and its gradients, through
// rows_of_spectra and spectra_of_rows; a faster transform of real rows fits in their place.
#pragma once

#include "core/team.h"

namespace ssm {

// exp(2 pi i numerator / denominator)
SSM_TEAM ComplexDouble unit_root(int64_t numerator, int64_t denominator) {
    const double turns = static_cast<double>(numerator % denominator) / static_cast<double>(denominator);
#if defined(__CUDA_ARCH__)
    ComplexDouble root;
    sincospi(2 * turns, &root.im, &root.re);
    return root;
#else
    const double angle = 6.28318530717958647693 * turns;
    return {cos(angle), sin(angle)};
#endif
}

struct TransformPlan {
    int64_t length;
    int64_t points; // a power of two: length itself, or at least 2 length - 1
    SSM_TEAM explicit TransformPlan(int64_t length) : length(length), points(1) {
        while (points < length)
            points *= 2;
        if (points != length)
            points *= points < 2 * length - 1 ? 2 : 1;
    }
    SSM_TEAM bool is_direct() const { return points == length; }
    SSM_TEAM int64_t frequencies() const { return length / 2 + 1; }
};

// The same for all rows.
struct TransformTables {
    ComplexDouble* roots;  // exp(2 pi i j / points), (points)
    ComplexDouble* chirp;  // exp(pi i j^2 / length), (length)
    ComplexDouble* filter; // the transformed chirp, (points)
    SSM_TEAM TransformTables(TeamMemory& memory, const TransformPlan& plan)
        : roots(memory.take<ComplexDouble>(plan.points)),
          chirp(memory.take<ComplexDouble>(plan.is_direct() ? 0 : plan.length)),
          filter(memory.take<ComplexDouble>(plan.is_direct() ? 0 : plan.points)) {}
};

// Of one transform at a time, (points) each.
struct TransformMemory {
    ComplexDouble *x, *y;
    SSM_TEAM TransformMemory(TeamMemory& memory, const TransformPlan& plan)
        : x(memory.take<ComplexDouble>(plan.points)), y(memory.take<ComplexDouble>(plan.points)) {}
};

// x becomes sum_l x_l exp(2 pi i l m / points); the result is in x.
template <class Team>
SSM_TEAM void transform_power_of_two(const Team& team, int64_t points, const ComplexDouble* roots, ComplexDouble*& x,
                                     ComplexDouble*& y) {
    for (int64_t left = points, stride = 1; left > 1;) {
        const ComplexDouble* const from = x;
        ComplexDouble* const to = y;
        if (left >= 4) {
            const int64_t quarter = left / 4;
            share(team, points / 4, [&](int64_t item) {
                const int64_t p = item / stride, s = item % stride;
                const ComplexDouble a = from[s + stride * p], b = from[s + stride * (p + quarter)];
                const ComplexDouble c = from[s + stride * (p + 2 * quarter)], d = from[s + stride * (p + 3 * quarter)];
                const ComplexDouble even = a + c, odd = b + d, first = a - c, second = {-(b - d).im, (b - d).re};
                ComplexDouble* const out = to + s + stride * 4 * p;
                out[0] = even + odd;
                out[stride] = roots[p * stride] * (first + second);
                out[2 * stride] = roots[2 * p * stride] * (even - odd);
                out[3 * stride] = roots[3 * p * stride] * (first - second);
            });
            left /= 4;
            stride *= 4;
        } else {
            share(team, points / 2, [&](int64_t s) {
                const ComplexDouble a = from[s], b = from[s + stride];
                to[s] = a + b;
                to[s + stride] = a - b;
            });
            left = 1;
        }
        team.sync();
        x = to;
        y = const_cast<ComplexDouble*>(from);
    }
}

template <class Team>
SSM_TEAM void fill_tables(const Team& team, const TransformPlan& plan, const TransformTables& tables,
                          const TransformMemory& memory) {
    share(team, plan.points, [&](int64_t j) { tables.roots[j] = unit_root(j, plan.points); });
    if (plan.is_direct())
        return team.sync();
    ComplexDouble *x = memory.x, *y = memory.y;
    share(team, plan.length, [&](int64_t j) { tables.chirp[j] = unit_root(j * j % (2 * plan.length), 2 * plan.length); });
    team.sync();
    share(team, plan.points, [&](int64_t j) {
        const int64_t distance = j < plan.length ? j : plan.points - j;
        x[j] = distance < plan.length ? conj(tables.chirp[distance]) : ComplexDouble{0, 0};
    });
    team.sync();
    transform_power_of_two(team, plan.points, tables.roots, x, y);
    share(team, plan.points, [&](int64_t j) { tables.filter[j] = x[j]; });
    team.sync();
}

// y_m = sum_l x_l exp(2 pi i l m / length), where x_l = load(l); answers y (length), which lies in the memory.
template <class Team, class Load>
SSM_TEAM ComplexDouble* transform(const Team& team, const TransformPlan& plan, const TransformTables& tables,
                                  const TransformMemory& memory, const Load& load) {
    ComplexDouble *x = memory.x, *y = memory.y;
    if (plan.is_direct()) {
        share(team, plan.length, [&](int64_t l) { x[l] = load(l); });
        team.sync();
        transform_power_of_two(team, plan.points, tables.roots, x, y);
        return x;
    }
    // l m = (l^2 + m^2 - (m - l)^2) / 2
    share(team, plan.points, [&](int64_t l) { x[l] = l < plan.length ? load(l) * tables.chirp[l] : ComplexDouble{0, 0}; });
    team.sync();
    transform_power_of_two(team, plan.points, tables.roots, x, y);
    // Back by the same transform of the conjugates.
    share(team, plan.points, [&](int64_t j) { x[j] = conj(x[j] * tables.filter[j]); });
    team.sync();
    transform_power_of_two(team, plan.points, tables.roots, x, y);
    const double scale = 1 / static_cast<double>(plan.points);
    share(team, plan.length, [&](int64_t m) { x[m] = scale * (conj(x[m]) * tables.chirp[m]); });
    team.sync();
    return x;
}

// Two real rows k_l = sum_j F_j exp(2 pi i j l / L) / L from the halves of their spectra, F_j for j <= L/2. `second` may be
// null. The rows go to store(which, l, value).
template <class Team, class Store>
SSM_TEAM void rows_of_spectra(const Team& team, const TransformPlan& plan, const TransformTables& tables,
                              const TransformMemory& memory, const ComplexDouble* first, const ComplexDouble* second,
                              const Store& store) {
    const int64_t length = plan.length;
    const auto at = [&](const ComplexDouble* spectrum, int64_t j) {
        if (!spectrum)
            return ComplexDouble{0, 0};
        if (2 * j > length)
            return conj(spectrum[length - j]);
        return j == 0 || 2 * j == length ? ComplexDouble{spectrum[j].re, 0} : spectrum[j];
    };
    const ComplexDouble* const rows = transform(team, plan, tables, memory, [&](int64_t j) {
        const ComplexDouble x = at(first, j), y = at(second, j);
        return ComplexDouble{x.re - y.im, x.im + y.re};
    });
    const double scale = 1 / static_cast<double>(length);
    share(team, length, [&](int64_t l) {
        store(0, l, scale * rows[l].re);
        if (second)
            store(1, l, scale * rows[l].im);
    });
    team.sync();
}

// The halves of the spectra G_j = sum_l g_l exp(-2 pi i j l / L) of two real rows, g_l = load(which, l).
template <class Team, class Load>
SSM_TEAM void spectra_of_rows(const Team& team, const TransformPlan& plan, const TransformTables& tables,
                              const TransformMemory& memory, const Load& load, ComplexDouble* first, ComplexDouble* second) {
    const int64_t length = plan.length;
    const ComplexDouble* const both = transform(team, plan, tables, memory, [&](int64_t l) {
        return ComplexDouble{load(0, l), second ? load(1, l) : 0.0};
    });
    share(team, plan.frequencies(), [&](int64_t j) {
        const ComplexDouble x = both[j], y = conj(both[j == 0 ? 0 : length - j]);
        first[j] = conj(0.5 * (x + y));
        if (second) {
            const ComplexDouble twice = x - y; // 2 i times the second's
            second[j] = {0.5 * twice.im, 0.5 * twice.re};
        }
    });
    team.sync();
}

} // namespace ssm
