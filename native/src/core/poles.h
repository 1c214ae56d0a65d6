// Checks that the operations over rows of poles share: cauchy_multiply, vandermonde_multiply, diagonal systems.
#pragma once

#include "core/operation.h"
#include "core/params/diagonal_system.h"

#include <cmath>

namespace ssm {

constexpr DataType real_type(DataType complex) {
    return complex == DataType::complex128 ? DataType::float64 : DataType::float32;
}

// Reads (H,N) and the type off the first tensor.
template <class Params>
void read_poles(Params& params, const Tensor& poles) {
    expect_type(poles, {DataType::complex64, DataType::complex128});
    expect_rank(poles, 2);
    params.type = poles.type();
    params.rows = poles.shape[0];
    params.states = poles.shape[1];
}

// The same of a system as a recurrence; answers H.
template <class Params>
int64_t read_system(Params& params, const Tensor& a) {
    expect_type(a, {DataType::complex64, DataType::complex128});
    expect_rank(a, 2);
    params.type = a.type();
    params.states = a.shape[1];
    if (params.states < 1)
        fail_argument(a.name, "at least one state", "shape " + text_of_shape(a.shape, a.rank));
    return a.shape[0];
}

inline DiscretizationRule read_rule(int32_t discretization, double alpha) {
    const bool takes_alpha = discretization == SSM_DISCRETIZATION_GENERALIZED_BILINEAR;
    if (discretization < SSM_DISCRETIZATION_ZOH || discretization > SSM_DISCRETIZATION_ASYNC)
        fail_argument("discretization", "an enum ssm_discretization", std::to_string(discretization));
    if (takes_alpha ? !(alpha >= 0 && alpha <= 1) : alpha != 0)
        fail_argument("alpha", takes_alpha ? "a number from 0 to 1" : "0 but for the generalized bilinear discretization",
                      std::to_string(alpha));
    switch (discretization) {
    case SSM_DISCRETIZATION_BILINEAR:
        return {Discretization::generalized_bilinear, 0.5};
    case SSM_DISCRETIZATION_EULER:
        return {Discretization::generalized_bilinear, 0};
    case SSM_DISCRETIZATION_BACKWARD_EULER:
        return {Discretization::generalized_bilinear, 1};
    case SSM_DISCRETIZATION_GENERALIZED_BILINEAR:
        return {Discretization::generalized_bilinear, alpha};
    case SSM_DISCRETIZATION_DIRAC:
        return {Discretization::dirac, 0};
    case SSM_DISCRETIZATION_ASYNC:
        return {Discretization::async, 0};
    default:
        return {Discretization::zoh, 0};
    }
}

} // namespace ssm
