// What the checks of HiPPO's operations share.
#pragma once

#include "core/error.h"
#include "core/hippo.h"
#include "core/tensor.h"

namespace ssm {

inline Measure read_measure(int32_t measure) {
    if (measure < SSM_HIPPO_LEGS || measure > SSM_HIPPO_LMU)
        fail_argument("measure", "an ssm_hippo_measure", std::to_string(measure));
    return static_cast<Measure>(measure);
}

// N: at least 1, and even for fout, whose cosines and sines come in pairs.
inline void expect_hippo_size(const Tensor& tensor, int32_t measure, int64_t states) {
    if (states < 1 || (measure == SSM_HIPPO_FOUT && states % 2 != 0)) {
        fail_argument(tensor.name, states < 1 ? "at least one state" : "an even N for fout",
                      "shape " + text_of_shape(tensor.shape, tensor.rank));
    }
}

} // namespace ssm
