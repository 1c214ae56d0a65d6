// Problems with reproducible random data: for every operation the variants that its optional arguments make.
#pragma once

#include <vector>

#include "support/problem.h"

namespace ssm::test {

struct Size {
    Type type = Type::float32;
    int64_t batch = 1;
    int64_t channels = 1;
    int64_t length = 1;
    std::vector<int64_t> cu_seqlens = {}; // packed where not empty; then batch is 1
    uint64_t seed = 1;
};

// All variants of an operation at a size. Channels differ in memory: channel 0 forgets within a few steps, every next
// one remembers ten times longer, up to |a| = 1 - 1e-6.
std::vector<Problem> problems(Operation operation, const Size& size);

Tensor uniform(Type type, std::vector<int64_t> shape, double low, double high, Random& random);
// Decays for linear_recurrence (B,C,L).
Tensor decays(Type type, std::vector<int64_t> shape, Random& random);
// Makes every index of an axis hold what index 0 holds.
Tensor constant_along(const Tensor& tensor, int axis);

} // namespace ssm::test
