// rms_norm, gated_rms_norm and their gradients, as core hands them to a backend: one pair of kernels for both.
#pragma once

#include "core/params.h"

namespace ssm {

// Rows along the last axis, which is contiguous. The axes before it are at most three, those that run on in all tensors
// taken together: extents of 1 come first.
struct RowShape {
    static constexpr int axes = 3;
    int64_t extents[axes] = {1, 1, 1};
    int64_t width = 0; // D
    int64_t group = 0; // elements of a mean, a divisor of D

    int64_t rows() const { return extents[0] * extents[1] * extents[2]; }
    int64_t groups() const { return width / group; }
};

// Strides of the axes before the last, in elements; those of inputs may be 0. data may be null.
struct RowTensor {
    void* data = nullptr;
    int64_t strides[RowShape::axes] = {};
};

// h = x + residual_in, or x silu(z), or x; y = h rstd weight + bias, times silu(z) where the gate comes last. There is never
// a residual beside a z.
struct RmsNormParams {
    DataType type;     // of x, y, z; state_type(type) of weight, bias, rstd
    DataType residual; // of residual_in and residual_out: type, or state_type(type)
    RowShape shape;
    double eps;
    bool norm_before_gate;
    RowTensor x, z, y;
    RowTensor residual_in, residual_out;
    const void* weight; // (D), may be null
    const void* bias;   // (D), may be null
    void* rstd;         // (rows, groups), may be null
    Workspace workspace;
};

struct RmsNormBackwardParams {
    DataType type;   // of grad_y, grad_x, z, grad_z; state_type(type) of the parameters and their gradients
    DataType x_type; // of x, grad_residual_out and grad_residual: type, or without a gate state_type(type)
    RowShape shape;
    double eps;
    bool norm_before_gate;
    RowTensor x, z, grad_y, grad_residual_out;
    RowTensor grad_x, grad_residual, grad_z; // may be null
    const void* weight;
    const void* bias;
    const void* rstd;  // may be null
    void* grad_weight; // (D), may be null
    void* grad_bias;   // (D), may be null
    Workspace workspace;
};

} // namespace ssm
