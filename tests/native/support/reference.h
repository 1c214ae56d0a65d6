// What each operation must answer: plain loops in double precision, with a limit for every element.
//
// A limit counts roundings. An algorithm may combine the elements in any order; each partial result it rounds is the
// difference of two states of the sequential loop, decayed to the step in question, so it is at most twice the largest
// decayed state seen so far ("peak"). n roundings of unit roundoff u then add up like a random walk:
// safety * u * peak * sqrt(n), where decay makes old roundings count less. One lost carry is thousands of times larger.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "support/problem.h"

namespace ssm::test {

struct Expected {
    Tensor value;              // exact in double, not rounded to the type
    std::vector<double> limit; // how far off each element may be
};
using Reference = std::map<std::string, Expected>;

Reference reference(const Problem& problem);

// Fails the running test where an output is beyond its limit; names the first such element and the worst.
void expect_near(const Outputs& outputs, const Reference& expected, const std::string& context);
// Fails the running test where one bit differs.
void expect_identical(const Outputs& first, const Outputs& second, const std::string& context);

// The outputs with what another, equal calculation may differ by: both are off from the reference by their limits.
void expect_agree(const Outputs& first, const Outputs& second, const Reference& limits, const std::string& context);

} // namespace ssm::test
