// Gradients of sums over poles.
#include "support/s4.h"

namespace ssm::test {

using enum Type;

SSM_POLE_TESTS(CauchyMultiplyBackward, cauchy_multiply_backward_problems, complex64, complex128);

} // namespace ssm::test
