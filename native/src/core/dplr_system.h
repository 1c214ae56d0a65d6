// The system A = diag(w) - sum_r p_r p_r^*, discretised by the bilinear rule, in double by a team.
//
// With q = 2 / dt, D = 1 / (q - w) and G = I + P^* D P the discretised system is diagonal and low rank:
//     a_bar x = (q + w) D x - sum_r u_r (v_r . x),   v_r = conj(p_r) D,   u = 2 q D P G^-1,   b_bar = 2 D b - u P^*(D b) /
//     q.
// With conjugate pairs the N states given are half of 2 N; the other half are their conjugates, and v . x and P^* D P become
// twice their real parts.
//
// Powers of a_bar are made as those of the real matrix of 2 N rows that acts on (Re x, Im x), in both cases.
#pragma once

#include "core/dense_algebra.h"
#include "core/params/dplr_system.h"

namespace ssm {

constexpr int dplr_most_rank = 4;

// A head's parameters, of either precision.
struct DplrHead {
    const void *eigenvalues, *p, *b; // complex (N), (R,N), (N); b may be null
    bool is_double, conjugate_pairs;
    int64_t states; // N
    int rank;       // R
    double q;       // 2 / dt

    SSM_TEAM ComplexDouble eigenvalue(int64_t n) const { return load_complex(eigenvalues, is_double, n); }
    SSM_TEAM ComplexDouble p_of(int r, int64_t n) const { return load_complex(p, is_double, r * states + n); }
    SSM_TEAM ComplexDouble b_of(int64_t n) const { return b ? load_complex(b, is_double, n) : ComplexDouble{0, 0}; }
    // What a sum over the given states is over all of them.
    SSM_TEAM ComplexDouble whole(ComplexDouble sum) const { return conjugate_pairs ? ComplexDouble{2 * sum.re, 0} : sum; }
};

// The address that many real numbers into a tensor.
SSM_TEAM const void* element_at(const void* data, bool is_double, int64_t numbers) {
    return static_cast<const char*>(data) + numbers * (is_double ? 8 : 4);
}

SSM_TEAM DplrHead dplr_head(const DplrSystem& system, int64_t head) {
    const bool is_double = system.type == DataType::float64;
    const int64_t row = 2 * head * system.states;
    return {element_at(system.eigenvalues, is_double, row),
            element_at(system.p, is_double, row * system.rank),
            element_at(system.b, is_double, row),
            is_double,
            system.conjugate_pairs,
            system.states,
            static_cast<int>(system.rank),
            2 / load_real(system.dt, is_double, head)};
}
SSM_TEAM const void* dplr_c(const DplrSystem& system, int64_t head) {
    return element_at(system.c, system.type == DataType::float64, 2 * head * system.states);
}

// a (rank x rank) becomes its inverse. Without exchanges: the Hermitian part of what comes here is positive where the real
// parts of the eigenvalues are not.
SSM_TEAM void invert_small(int rank, ComplexDouble* a) {
    for (int k = 0; k < rank; ++k) {
        const ComplexDouble pivot = inverse(a[k * rank + k]);
        a[k * rank + k] = {1, 0};
        for (int j = 0; j < rank; ++j)
            a[k * rank + j] = a[k * rank + j] * pivot;
        for (int i = 0; i < rank; ++i) {
            if (i == k)
                continue;
            const ComplexDouble factor = a[i * rank + k];
            a[i * rank + k] = {0, 0};
            for (int j = 0; j < rank; ++j)
                a[i * rank + j] = a[i * rank + j] - factor * a[k * rank + j];
        }
    }
}

// The discretised system. Rows of N; v is without the 2 of conjugate pairs.
struct DplrDiscrete {
    ComplexDouble *a, *b, *u, *v; // (N), (N), (R,N), (R,N)
    ComplexDouble* sums;          // what it is made from
    SSM_TEAM DplrDiscrete(TeamMemory& memory, int64_t states, int rank)
        : a(memory.take<ComplexDouble>(states)), b(memory.take<ComplexDouble>(states)),
          u(memory.take<ComplexDouble>(states * rank)), v(memory.take<ComplexDouble>(states * rank)),
          sums(memory.take<ComplexDouble>(rank * rank + rank)) {}
};

template <class Team>
SSM_TEAM void discretize_dplr(const Team& team, const DplrHead& head, const DplrDiscrete& out) {
    const int rank = head.rank;
    const ComplexDouble q{head.q, 0};
    // P^* D P, and P^* D b behind it.
    share(team, rank * rank + rank, [&](int64_t item) {
        const int r = static_cast<int>(item < rank * rank ? item / rank : item - rank * rank);
        const int s = static_cast<int>(item % rank);
        ComplexDouble sum{0, 0};
        for (int64_t n = 0; n < head.states; ++n) {
            const ComplexDouble right = item < rank * rank ? head.p_of(s, n) : head.b_of(n);
            sum = sum + conj(head.p_of(r, n)) * inverse(q - head.eigenvalue(n)) * right;
        }
        out.sums[item] = head.whole(sum);
    });
    team.sync();
    ComplexDouble g[dplr_most_rank * dplr_most_rank];
    for (int i = 0; i < rank * rank; ++i)
        g[i] = out.sums[i] + ComplexDouble{i / rank == i % rank ? 1.0 : 0.0, 0};
    invert_small(rank, g);
    share(team, head.states, [&](int64_t n) {
        const ComplexDouble w = head.eigenvalue(n), d = inverse(q - w);
        out.a[n] = (q + w) * d;
        ComplexDouble input = 2 * (d * head.b_of(n));
        for (int r = 0; r < rank; ++r) {
            ComplexDouble u{0, 0};
            for (int s = 0; s < rank; ++s)
                u = u + head.p_of(s, n) * g[s * rank + r];
            u = 2 * head.q * (d * u);
            out.u[r * head.states + n] = u;
            out.v[r * head.states + n] = conj(head.p_of(r, n)) * d;
            input = input - (1 / head.q) * (u * out.sums[rank * rank + r]);
        }
        out.b[n] = input;
    });
    team.sync();
}

// m (2 N x 2 N) acts on (Re x, Im x) as a_bar does on x.
template <class Team>
SSM_TEAM void dplr_matrix(const Team& team, const DplrHead& head, const DplrDiscrete& discrete, double* m) {
    const int64_t states = head.states, size = 2 * states;
    share(team, size * size, [&](int64_t item) {
        const int64_t i = item / size, j = item % size, row = i % states, column = j % states;
        const bool to_imaginary = i >= states, from_imaginary = j >= states;
        double value = 0;
        if (row == column) {
            const ComplexDouble a = discrete.a[row];
            value = to_imaginary == from_imaginary ? a.re : to_imaginary ? a.im : -a.im;
        }
        for (int r = 0; r < head.rank; ++r) {
            const ComplexDouble u = discrete.u[r * states + row], v = discrete.v[r * states + column];
            if (head.conjugate_pairs) {
                value -= (to_imaginary ? u.im : u.re) * 2 * (from_imaginary ? -v.im : v.re);
            } else {
                const ComplexDouble both = u * v;
                value -= to_imaginary == from_imaginary ? both.re : to_imaginary ? both.im : -both.im;
            }
        }
        m[item] = value;
    });
    team.sync();
}

// Memory of the conversions between c and c~ = c (I - a_bar^L).
struct DplrTildeMemory {
    DplrDiscrete discrete;
    double *matrix, *power, *squared; // (2 N, 2 N)
    double *row, *next;               // (2 N)
    SSM_TEAM DplrTildeMemory(TeamMemory& memory, int64_t states, int rank)
        : discrete(memory, states, rank), matrix(memory.take<double>(4 * states * states)),
          power(memory.take<double>(4 * states * states)), squared(memory.take<double>(4 * states * states)),
          row(memory.take<double>(2 * states)), next(memory.take<double>(2 * states)) {}
};

SSM_TEAM void swap_pointers(double*& x, double*& y) {
    double* const kept = x;
    x = y;
    y = kept;
}

// c~(n) goes to store(n, value). c is complex, of the precision of the head.
template <class Team, class Store>
SSM_TEAM void dplr_to_tilde(const Team& team, const DplrHead& head, const void* c, int64_t length,
                            const DplrTildeMemory& memory, const Store& store) {
    const int64_t states = head.states, size = 2 * states;
    discretize_dplr(team, head, memory.discrete);
    dplr_matrix(team, head, memory.discrete, memory.power);
    double *power = memory.power, *squared = memory.squared, *row = memory.row, *next = memory.next;
    // Re(c x) is this row times (Re x, Im x).
    share(team, states, [&](int64_t n) {
        const ComplexDouble value = load_complex(c, head.is_double, n);
        row[n] = value.re;
        row[states + n] = -value.im;
    });
    team.sync();
    for (int64_t left = length; left > 0; left /= 2) {
        if (left % 2 != 0) {
            multiply(team, 1, size, size, row, size, power, size, 1, next, size);
            swap_pointers(row, next);
        }
        if (left > 1) {
            multiply(team, size, power, power, squared);
            swap_pointers(power, squared);
        }
    }
    share(team, states, [&](int64_t n) {
        store(n, load_complex(c, head.is_double, n) - ComplexDouble{row[n], -row[states + n]});
    });
    team.sync();
}

// What further the gradient of that conversion needs.
struct DplrTildeGradientMemory {
    DplrTildeMemory tilde;
    double *sum, *other, *column, *moved;
    SSM_TEAM DplrTildeGradientMemory(TeamMemory& memory, int64_t states, int rank)
        : tilde(memory, states, rank), sum(memory.take<double>(4 * states * states)),
          other(memory.take<double>(4 * states * states)), column(memory.take<double>(2 * states)),
          moved(memory.take<double>(2 * states)) {}
};

// Backward of dplr_to_tilde. grad (N) holds the gradient of c~ and becomes that of c; those of the eigenvalues, p and dt are
// added to grad_eigenvalues (N), grad_p (R,N) and grad_dt.
//
// With r the row of c, h the column of the gradient and M the matrix, the gradient of M is -S^T, S = sum_i M^i h r
// M^(L-1-i). (M^k, S_k) is doubled and advanced by one along the bits of L: S_2k = M^k S_k + S_k M^k, S_(k+1) = M S_k + h r
// M^k. Then with M = 2 q (q - A)^-1 - I the gradient of A is -((M + I) S (M + I))^T / (2 q).
template <class Team>
SSM_TEAM void dplr_tilde_gradient(const Team& team, const DplrHead& head, const void* c, int64_t length,
                                  const DplrTildeGradientMemory& memory, ComplexDouble* grad,
                                  ComplexDouble* grad_eigenvalues, ComplexDouble* grad_p, double* grad_dt) {
    const int64_t states = head.states, size = 2 * states;
    double* const matrix = memory.tilde.matrix;
    double *power = memory.tilde.power, *squared = memory.tilde.squared, *sum = memory.sum, *other = memory.other;
    double *const row = memory.tilde.row, *const next = memory.tilde.next, *const column = memory.column;
    discretize_dplr(team, head, memory.tilde.discrete);
    dplr_matrix(team, head, memory.tilde.discrete, matrix);
    share(team, states, [&](int64_t n) {
        const ComplexDouble value = load_complex(c, head.is_double, n);
        row[n] = value.re;
        row[states + n] = -value.im;
        column[n] = grad[n].re;
        column[states + n] = -grad[n].im;
    });
    team.sync();
    share(team, size * size, [&](int64_t item) {
        power[item] = matrix[item];
        sum[item] = column[item / size] * row[item % size];
    });
    team.sync();
    int64_t bit = 1;
    while (bit <= length / 2)
        bit *= 2;
    for (bit /= 2; bit > 0; bit /= 2) {
        multiply(team, size, power, sum, other);
        multiply(team, size, sum, power, other, true);
        swap_pointers(sum, other);
        multiply(team, size, power, power, squared);
        swap_pointers(power, squared);
        if ((length & bit) != 0) {
            multiply(team, size, matrix, sum, other);
            multiply(team, 1, size, size, row, size, power, size, 1, next, size);
            share(team, size * size, [&](int64_t item) { other[item] += column[item / size] * next[item % size]; });
            team.sync();
            swap_pointers(sum, other);
            multiply(team, size, matrix, power, squared);
            swap_pointers(power, squared);
        }
    }
    // The gradient of c: h - M^L h.
    multiply(team, size, 1, size, power, size, column, 1, 1, memory.moved, 1);
    share(team, states, [&](int64_t n) {
        grad[n] = {column[n] - memory.moved[n], -(column[states + n] - memory.moved[states + n])};
    });
    // The trace of (gradient of M) M^T + that of the gradient of M is what 2 q changes by; M + I from here on.
    double along = 0;
    for (int64_t i = 0; i < size; ++i)
        for (int64_t j = 0; j < size; ++j)
            along -= sum[j * size + i] * (matrix[i * size + j] + (i == j ? 1.0 : 0.0));
    team.sync();
    share(team, size, [&](int64_t i) { matrix[i * size + i] += 1; });
    team.sync();
    multiply(team, size, matrix, sum, other);
    multiply(team, size, other, matrix, sum);
    // The gradient of A at (i, j).
    const auto of_a = [&](int64_t i, int64_t j) { return -sum[j * size + i] / (2 * head.q); };
    double trace = 0;
    for (int64_t i = 0; i < size; ++i)
        trace += of_a(i, i);
    const double grad_q = along / head.q - trace;
    team.sync();
    share(team, states, [&](int64_t n) {
        if (n == 0)
            *grad_dt -= grad_q * head.q * head.q / 2; // q = 2 / dt
        const int64_t m = states + n;
        grad_eigenvalues[n] = grad_eigenvalues[n] + ComplexDouble{of_a(n, n) + of_a(m, m), of_a(m, n) - of_a(n, m)};
        for (int r = 0; r < head.rank; ++r) {
            // -(a + a^T) (Re p, Im p), and without pairs the same for i p, turned back.
            double re = 0, im = 0, turned_re = 0, turned_im = 0;
            for (int64_t k = 0; k < states; ++k) {
                const ComplexDouble p = head.p_of(r, k);
                const double re_re = of_a(n, k) + of_a(k, n), re_im = of_a(n, states + k) + of_a(states + k, n);
                const double im_re = of_a(m, k) + of_a(k, m), im_im = of_a(m, states + k) + of_a(states + k, m);
                re -= re_re * p.re + re_im * p.im;
                im -= im_re * p.re + im_im * p.im;
                turned_re -= re_im * p.re - re_re * p.im;
                turned_im -= im_im * p.re - im_re * p.im;
            }
            ComplexDouble& target = grad_p[r * states + n];
            target = target +
                     (head.conjugate_pairs ? ComplexDouble{2 * re, 2 * im} : ComplexDouble{re + turned_im, im - turned_re});
        }
    });
    team.sync();
}

} // namespace ssm
