// Sums over poles.
#include "support/s4.h"

namespace ssm::test {

using enum Type;

SSM_POLE_TESTS(CauchyMultiply, cauchy_multiply_problems, complex64, complex128);

} // namespace ssm::test
