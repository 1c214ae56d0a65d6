// Dense linear algebra of a team in double: products, solutions, the matrix exponential, discretisation, powers. Matrices
// are row by row; every function ends with all results in place for all.
#pragma once

#include "core/params/dense_system.h"
#include "core/params/discretization.h"
#include "core/team.h"

namespace ssm {

// The share of the new state in the step: (I - alpha dt A) x' = (I + (1 - alpha) dt A) x + dt B u. Not of zoh.
SSM_TEAM double implicit_share(Discretization method, double alpha) {
    return method == Discretization::bilinear         ? 0.5
           : method == Discretization::euler          ? 0.0
           : method == Discretization::backward_euler ? 1.0
                                                      : alpha;
}

// c = a b, or c += a b. Element (k, j) of b lies at b[k * b_row + j * b_column].
template <class Team>
SSM_TEAM void multiply(const Team& team, int64_t rows, int64_t columns, int64_t depth, const double* a, int64_t a_row,
                       const double* b, int64_t b_row, int64_t b_column, double* c, int64_t c_row, bool adds = false) {
    constexpr int together = Team::columns;
    const int64_t groups = (columns + together - 1) / together;
    share(team, rows * groups, [&](int64_t item) {
        const int64_t i = item / groups, first = (item - i * groups) * together;
        const double* const row = a + i * a_row;
        double* const to = c + i * c_row + first;
        const double* const from = b + first * b_column;
        if (together > 1 && first + together <= columns && b_column == 1) {
            double sums[together];
            for (int j = 0; j < together; ++j)
                sums[j] = adds ? to[j] : 0.0;
            for (int64_t k = 0; k < depth; ++k) {
                const double factor = row[k];
                for (int j = 0; j < together; ++j)
                    sums[j] = fused(factor, from[k * b_row + j], sums[j]);
            }
            for (int j = 0; j < together; ++j)
                to[j] = sums[j];
            return;
        }
        for (int64_t j = 0; first + j < columns && j < together; ++j) {
            double sum = adds ? to[j] : 0.0;
            for (int64_t k = 0; k < depth; ++k)
                sum = fused(row[k], from[k * b_row + j * b_column], sum);
            to[j] = sum;
        }
    });
    team.sync();
}

// Of square matrices, n x n.
template <class Team>
SSM_TEAM void multiply(const Team& team, int64_t n, const double* a, const double* b, double* c, bool adds = false) {
    multiply(team, n, n, n, a, n, b, n, 1, c, n, adds);
}

// b (n x columns) becomes a^-1 b, and a is lost. Gauss's elimination with the largest pivot of each column.
template <class Team>
SSM_TEAM void solve(const Team& team, int64_t n, double* a, int64_t columns, double* b) {
    for (int64_t k = 0; k < n; ++k) {
        int64_t pivot = k; // everybody looks: the column is short
        double largest = fabs(a[k * n + k]);
        for (int64_t i = k + 1; i < n; ++i) {
            const double size = fabs(a[i * n + k]);
            if (size > largest) {
                largest = size;
                pivot = i;
            }
        }
        team.sync();
        if (pivot != k) {
            share(team, n + columns, [&](int64_t j) {
                double* const first = j < n ? a + k * n + j : b + k * columns + (j - n);
                double* const second = j < n ? a + pivot * n + j : b + pivot * columns + (j - n);
                const double value = *first;
                *first = *second;
                *second = value;
            });
            team.sync();
        }
        const double scale = 1 / a[k * n + k];
        share(team, n - k - 1, [&](int64_t i) { a[(k + 1 + i) * n + k] *= scale; });
        team.sync();
        const int64_t right = n - k - 1, width = right + columns;
        share(team, right * width, [&](int64_t item) {
            const int64_t i = k + 1 + item / width, j = item % width;
            const double factor = -a[i * n + k];
            if (j < right)
                a[i * n + k + 1 + j] = fused(factor, a[k * n + k + 1 + j], a[i * n + k + 1 + j]);
            else
                b[i * columns + j - right] = fused(factor, b[k * columns + j - right], b[i * columns + j - right]);
        });
        team.sync();
    }
    for (int64_t k = n - 1; k >= 0; --k) {
        const double scale = 1 / a[k * n + k];
        share(team, columns, [&](int64_t j) { b[k * columns + j] *= scale; });
        team.sync();
        share(team, k * columns, [&](int64_t item) {
            const int64_t i = item / columns, j = item % columns;
            b[i * columns + j] = fused(-a[i * n + k], b[k * columns + j], b[i * columns + j]);
        });
        team.sync();
    }
}

// Where the matrix exponential works, seven matrices. The result is in `result`.
struct ExponentialMemory {
    double *z, *z2, *z4, *z6, *u, *v, *result;
    SSM_TEAM ExponentialMemory(TeamMemory& memory, int64_t n)
        : z(memory.take<double>(n * n)), z2(memory.take<double>(n * n)), z4(memory.take<double>(n * n)),
          z6(memory.take<double>(n * n)), u(memory.take<double>(n * n)), v(memory.take<double>(n * n)),
          result(memory.take<double>(n * n)) {}
};

// exp(z) by scaling and squaring with the Pade approximant of degree 13 (Higham 2005, SIAM J. Matrix Anal. Appl. 26); z is
// lost. A matrix with a number that is none gives such a matrix.
template <class Team>
SSM_TEAM void exponential(const Team& team, int64_t n, const ExponentialMemory& m) {
    constexpr double largest_norm = 5.371920351148152; // for which the approximant is good to the last place
    double norm = 0;
    for (int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (int64_t i = 0; i < n; ++i)
            sum += fabs(m.z[i * n + j]);
        norm = sum > norm ? sum : norm;
    }
    int squarings = 0;
    double scale = 1;
    while (squarings < 1024 && norm * scale > largest_norm) {
        scale *= 0.5;
        ++squarings;
    }
    team.sync();
    share(team, n * n, [&](int64_t i) { m.z[i] *= scale; });
    team.sync();
    multiply(team, n, m.z, m.z, m.z2);
    multiply(team, n, m.z2, m.z2, m.z4);
    multiply(team, n, m.z4, m.z2, m.z6);
    // u = z (z6 (b13 z6 + b11 z4 + b9 z2) + b7 z6 + b5 z4 + b3 z2 + b1), v = z6 (b12 z6 + b10 z4 + b8 z2) + b6 z6 + ... +
    // b0.
    share(team, n * n, [&](int64_t i) { m.u[i] = m.z6[i] + 16380.0 * m.z4[i] + 40840800.0 * m.z2[i]; });
    team.sync();
    multiply(team, n, m.z6, m.u, m.v);
    share(team, n * n, [&](int64_t i) {
        m.v[i] += 33522128640.0 * m.z6[i] + 10559470521600.0 * m.z4[i] + 1187353796428800.0 * m.z2[i] +
                  (i / n == i % n ? 32382376266240000.0 : 0.0);
    });
    team.sync();
    multiply(team, n, m.z, m.v, m.u);
    share(team, n * n, [&](int64_t i) { m.result[i] = 182.0 * m.z6[i] + 960960.0 * m.z4[i] + 1323241920.0 * m.z2[i]; });
    team.sync();
    multiply(team, n, m.z6, m.result, m.v);
    share(team, n * n, [&](int64_t i) {
        const double even = m.v[i] + 670442572800.0 * m.z6[i] + 129060195264000.0 * m.z4[i] + 7771770303897600.0 * m.z2[i] +
                            (i / n == i % n ? 64764752532480000.0 : 0.0);
        m.v[i] = even - m.u[i];
        m.result[i] = even + m.u[i];
    });
    team.sync();
    solve(team, n, m.v, n, m.result);
    for (int i = 0; i < squarings; ++i) {
        multiply(team, n, m.result, m.result, m.u);
        share(team, n * n, [&](int64_t k) { m.result[k] = m.u[k]; });
        team.sync();
    }
}

// What discretize_dense needs of memory.
struct DiscretizeMemory {
    ExponentialMemory exponential;
    SSM_TEAM DiscretizeMemory(TeamMemory& memory, int64_t n) : exponential(memory, n + 1) {}
};

// a_bar (n x n) and b_bar (n) of x' = a x + b u, whose elements a(i, j) and b(i) are functions. zoh by the exponential of
// [[a, b], [0, 0]] dt, which is right for singular a too.
template <class Team, class A, class B>
SSM_TEAM void discretize_dense(const Team& team, int64_t n, const A& a, const B& b, double dt, Discretization method,
                               double alpha, const DiscretizeMemory& memory, double* a_bar, double* b_bar) {
    const ExponentialMemory& m = memory.exponential;
    const int64_t size = n + 1;
    if (method == Discretization::zoh) {
        share(team, size * size, [&](int64_t item) {
            const int64_t i = item / size, j = item % size;
            m.z[item] = i == n ? 0.0 : dt * (j == n ? b(i) : a(i, j));
        });
        team.sync();
        exponential(team, size, m);
    } else {
        // (I - alpha dt a) [a_bar, b_bar] = [I + (1 - alpha) dt a, dt b]
        const double after = implicit_share(method, alpha) * dt, before = dt - after;
        share(team, n * size, [&](int64_t item) {
            const int64_t i = item / size, j = item % size;
            const double one = i == j ? 1.0 : 0.0;
            m.result[item] = j == n ? dt * b(i) : one + before * a(i, j);
            if (j < n)
                m.z[i * n + j] = one - after * a(i, j);
        });
        team.sync();
        if (after != 0)
            solve(team, n, m.z, size, m.result);
    }
    share(team, n * size, [&](int64_t item) {
        const int64_t i = item / size, j = item % size;
        (j == n ? b_bar[i] : a_bar[i * n + j]) = m.result[item];
    });
    team.sync();
}

// The same of a head's tensors.
template <class Team>
SSM_TEAM void discretize_head(const Team& team, const DenseSystem& system, int64_t head, const DiscretizeMemory& memory,
                              double* a_bar, double* b_bar) {
    const int64_t n = system.states;
    const bool is_double = system.type == DataType::float64;
    discretize_dense(
        team, n, [&](int64_t i, int64_t j) { return load_real(system.a, is_double, (head * n + i) * n + j); },
        [&](int64_t i) { return load_real(system.b, is_double, head * n + i); }, load_real(system.dt, is_double, head),
        static_cast<Discretization>(system.discretization), system.alpha, memory, a_bar, b_bar);
}

// How k_l = c a_bar^l b_bar is cut: l = l0 + block l1.
struct DenseKernelPlan {
    int64_t block = 1, blocks = 1;
    SSM_TEAM explicit DenseKernelPlan(int64_t length) {
        while (block * block < length)
            block *= 2;
        blocks = (length + block - 1) / block;
    }
};
struct DenseKernelMemory {
    double *power, *squared, *right, *left;
    SSM_TEAM DenseKernelMemory(TeamMemory& memory, int64_t n, int64_t length) {
        const DenseKernelPlan plan(length);
        power = memory.take<double>(n * n);
        squared = memory.take<double>(n * n);
        right = memory.take<double>(plan.block * n);
        left = memory.take<double>(2 * plan.block * n);
    }
};

// Rows 1 to count - 1 from row 0: row i is row 0 times step^i. step becomes a power of itself: step^p with the least power
// of two p >= count.
template <class Team>
SSM_TEAM void grow_rows(const Team& team, int64_t n, int64_t count, double* rows, double*& step, double*& squared) {
    for (int64_t have = 1; have < count; have *= 2) {
        const int64_t more = have < count - have ? have : count - have;
        multiply(team, more, n, n, rows, n, step, n, 1, rows + have * n, n);
        multiply(team, n, step, step, squared);
        double* const swap = step;
        step = squared;
        squared = swap;
    }
}

// k(l) for l in [0, length) goes to store(l, value). Powers by squaring: log2(length) products of matrices, then N length
// operations.
template <class Team, class C, class Store>
SSM_TEAM void dense_kernel(const Team& team, int64_t n, const double* a_bar, const double* b_bar, const C& c, int64_t length,
                           const DenseKernelMemory& m, const Store& store) {
    const DenseKernelPlan plan(length);
    double *power = m.power, *squared = m.squared;
    share(team, n * n, [&](int64_t item) { power[item] = a_bar[item % n * n + item / n]; });
    share(team, n, [&](int64_t i) {
        m.right[i] = b_bar[i];
        m.left[i] = c(i);
    });
    team.sync();
    grow_rows(team, n, plan.block, m.right, power, squared); // rows b_bar^T (a_bar^T)^l0
    share(team, n * n, [&](int64_t item) { squared[item] = power[item % n * n + item / n]; });
    team.sync();
    double *step = squared, *other = power;               // a_bar^block
    grow_rows(team, n, plan.blocks, m.left, step, other); // rows c a_bar^(block l1)
    share(team, length, [&](int64_t l) {
        const double* const left = m.left + l / plan.block * n;
        const double* const right = m.right + l % plan.block * n;
        double sum = 0;
        for (int64_t i = 0; i < n; ++i)
            sum = fused(left[i], right[i], sum);
        store(l, sum);
    });
    team.sync();
}

} // namespace ssm
