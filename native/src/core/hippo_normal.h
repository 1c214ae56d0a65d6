// HiPPO's matrices as a normal part and low rank: A = V (diag(w) - sum_r p_r p_r^*) V^*.
#pragma once

#include "core/hippo.h"

#include <Eigen/Dense>

namespace ssm {

// The half of the states whose eigenvalues have positive imaginary parts, ascending.
struct HippoNormal {
    Eigen::VectorXcd eigenvalues; // (N)
    Eigen::MatrixXcd p;           // (R,N)
    Eigen::VectorXcd b;           // (N)
    Eigen::MatrixXcd v;           // (2N,N)
};

inline int hippo_rank(Measure measure) {
    return measure == Measure::legt ? 2 : 1;
}

// Not of lmu. `states` is N; the matrix has 2N rows.
HippoNormal hippo_normal(Measure measure, int64_t states);

} // namespace ssm
