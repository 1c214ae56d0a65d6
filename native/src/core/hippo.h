// HiPPO's systems c' = a c + b f (Gu et al. 2020, arXiv 2008.07669; fout: Gu et al. 2022, arXiv 2206.12037), element by
// element, in the forms of ssmcuda.h.
#pragma once

#include "core/team.h"

namespace ssm {

// The numbers of ssm_hippo_measure.
enum class Measure : int32_t { legs, legt, lagt, fout, lmu };

constexpr double hippo_pi = 3.14159265358979323846;

SSM_TEAM double hippo_b(Measure measure, int64_t i) {
    switch (measure) {
    case Measure::legs:
    case Measure::legt:
        return sqrt(2.0 * static_cast<double>(i) + 1);
    case Measure::lagt:
        return 1;
    case Measure::fout:
        return i == 0 ? 1 : i % 2 == 0 ? sqrt(2.0) : 0;
    case Measure::lmu:
        return (2.0 * static_cast<double>(i) + 1) * (i % 2 == 0 ? 1 : -1);
    }
    return 0;
}

SSM_TEAM double hippo_a(Measure measure, int64_t i, int64_t j) {
    const bool is_odd = (i + j) % 2 != 0; // as i - j is
    switch (measure) {
    case Measure::legs:
        return i > j    ? -sqrt((2.0 * static_cast<double>(i) + 1) * (2.0 * static_cast<double>(j) + 1))
               : i == j ? -static_cast<double>(i) - 1
                        : 0;
    case Measure::legt:
        return -sqrt((2.0 * static_cast<double>(i) + 1) * (2.0 * static_cast<double>(j) + 1)) * (i < j && is_odd ? -1 : 1);
    case Measure::lagt:
        return i > j ? -1 : i == j ? -0.5 : 0;
    case Measure::fout: {
        const double frequency = hippo_pi * static_cast<double>(i / 2);
        const double turn = i / 2 != j / 2 || i == j ? 0 : i > j ? frequency : -frequency;
        return turn - hippo_b(measure, i) * hippo_b(measure, j);
    }
    case Measure::lmu:
        return (2.0 * static_cast<double>(i) + 1) * (i < j || is_odd == false ? -1 : 1);
    }
    return 0;
}

// The coefficients of a signal that was 1 forever, -a^-1 b.
SSM_TEAM double hippo_constant(Measure measure, int64_t i) {
    return measure == Measure::lagt ? (i % 2 == 0 ? 2 : -2) : i == 0 ? 1 : 0;
}

} // namespace ssm
