// Gradients of the convolution kernel of a diagonal system.
#include "support/s4.h"

namespace ssm::test {

using enum Type;

SSM_POLE_TESTS(DiagonalKernelBackward, diagonal_kernel_backward_problems, complex64, complex128);

} // namespace ssm::test
