// Storage types known at run time alone: one kernel for all of a compute type, where loading is little of the work.
#pragma once

#include "core/params.h"
#include "cuda/primitives/numbers.h"

namespace ssm {

// f(U{}) with the real storage type U that `type` names, among those computed in R.
template <typename R, typename F>
SSM_DEVICE auto with_storage_of(DataType type, const F& f) {
    if constexpr (std::is_same<R, float>::value) {
        if (type == DataType::float16) {
            return f(Half{});
        }
        if (type == DataType::bfloat16) {
            return f(BFloat16{});
        }
    }
    return f(R{});
}

} // namespace ssm
