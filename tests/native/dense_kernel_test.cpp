// dense_kernel: what the mutations run; the rest is in state_space_test.cpp.
#include "support/state_space.h"

namespace ssm::test {

namespace {

std::vector<Problem> problems(Type type) {
    return {dense_kernel_of({type, 1, 3, 5, 21, 1, true, {}}, SSM_DISCRETIZATION_ZOH),
            dense_kernel_of({type, 1, 2, 4, 9, 1, true, {}}, SSM_DISCRETIZATION_BACKWARD_EULER)};
}

} // namespace

SSM_STATE_SPACE_QUICK(DenseKernel, problems);

} // namespace ssm::test
