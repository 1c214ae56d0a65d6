// Gradients of a diagonal system as a recurrence.
#include "support/s4.h"

namespace ssm::test {

using enum Type;

SSM_POLE_TESTS(DiagonalSsmBackward, diagonal_ssm_backward_problems, complex64, complex128);

} // namespace ssm::test
