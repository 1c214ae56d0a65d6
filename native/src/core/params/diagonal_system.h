// Diagonal systems and what sums of their powers are made of, as core hands them to a backend.
#pragma once

#include "core/params.h"
#include "core/params/discretization.h"

namespace ssm {

struct DiscretizationRule {
    Discretization kind; // Euler's, the backward and the bilinear one are generalized bilinear with alpha 0, 1 and 1/2
    double alpha;
};

// The terms v exp(x l) of a Vandermonde sum: either v and x themselves, or the powers of a discretized system: v is c b_bar
// and x the logarithm of a_bar. All are (H,N), complex, but dt (H).
struct PoleSource {
    bool is_system;
    bool softmax; // v is divided by the sum of the powers
    DiscretizationRule rule;
    const void *v, *x;
    const void *a, *b, *c, *dt;
};

} // namespace ssm
