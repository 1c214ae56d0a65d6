// dplr_kernel: what the mutations run; the rest is in state_space_test.cpp.
#include "support/state_space.h"

namespace ssm::test {

namespace {

std::vector<Problem> problems(Type type) {
    return {dplr_kernel_of({type, 1, 3, 5, 21, 2, true, {}}, false),
            dplr_kernel_of({type, 1, 2, 3, 16, 1, false, {}}, true)};
}

} // namespace

SSM_STATE_SPACE_QUICK(DplrKernel, problems);

} // namespace ssm::test
