// Other measures of closeness than reference.h's limit for every element: those of published test suites, distances by norm,
// and what rounding alone explains of a 16-bit result.
#pragma once

#include "support/reference.h"

namespace ssm::test {

// |value - exact| <= absolute + relative |exact| for every element, as other libraries' tests compare. Of one output, or
// all.
struct Tolerance {
    double relative, absolute;
};
void expect_close(const Tensor& value, const Tensor& exact, Tolerance tolerance, const std::string& context);
void expect_close(const Outputs& outputs, const Reference& exact, Tolerance tolerance, const std::string& context);

// ||value - exact|| <= tolerance ||exact|| for every output, in the 2-norm of the whole tensor.
void expect_norms(const Outputs& outputs, const Reference& exact, double tolerance, const std::string& context);

// How far results of a 16-bit type are from the truth, the loop in double on inputs that were not rounded, against what no
// kernel can avoid: the distance that rounding the inputs to their types, computing in double, and rounding the outputs to
// theirs makes. Each output may be 1.5 times as far off.
//
// Distances are 2-norms over the whole tensor, as shares of the truth's. Which element deviates most is chance, in the
// kernel's result as in the explained one, and a single element may be explained to the last bit; a lost carry or a sum in
// 16 bits shows in the norm all the same. For the same reason the squares of several draws of the inputs are added up, and
// an output counts once it has had `fewest` elements: of two numbers even the norm is chance. Tensors of the state type
// (parameters, states and their gradients) are rounded to float32, so that the 16-bit inputs explain their distance.
class RoundingDistances {
  public:
    // One draw. exact: the problem in float64. low: the same in float16 or bfloat16, its inputs those of exact, rounded.
    void add(Context& context, const Problem& exact, const Problem& low);
    // Answers the largest ratio.
    double expect(const std::string& context) const;

  private:
    static constexpr double most = 1.5;
    static constexpr int64_t fewest = 32;
    struct Distance {
        double off = 0, explained = 0; // squares
        int64_t elements = 0;
    };
    std::map<std::string, Distance> distances;
};

} // namespace ssm::test
