// Tensors with heads, whose dimensions lie in any order: what each axis of the caller's tensor is.
#pragma once

#include "core/params/head_tensor.h"
#include "core/plan.h"

namespace ssm {

using Axis = int64_t HeadTensor::*;
constexpr Axis of_batch = &HeadTensor::batch_stride, of_head = &HeadTensor::head_stride,
               of_channel = &HeadTensor::channel_stride, of_state = &HeadTensor::state_stride,
               of_time = &HeadTensor::time_stride;

// In place with the caller's strides; packed where the elements are not aligned, or with is_last_unit where the last axis is
// not contiguous.
inline void place(Plan& plan, HeadTensor& target, const Tensor& tensor, std::initializer_list<Axis> axes,
                  bool is_last_unit = false) {
    const int64_t* strides = plan.add_strided(target.data, tensor, is_last_unit);
    if (!strides)
        return;
    for (int32_t i = 0; i < tensor.rank; ++i)
        target.*axes.begin()[i] = strides[i];
}

inline void expect_groups(const char* name, int64_t groups, int64_t members, const char* of_what) {
    if (groups < 1 || members % groups != 0) {
        fail_argument(name, "a number of groups that divides the " + std::to_string(members) + " " + of_what,
                      std::to_string(groups));
    }
}

} // namespace ssm
