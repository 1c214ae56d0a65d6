// Discretizations of a diagonal system.
#include "support/s4.h"

namespace ssm::test {

using enum Type;

SSM_POLE_TESTS(DiscretizeDiagonal, discretize_diagonal_problems, complex64, complex128);

} // namespace ssm::test
