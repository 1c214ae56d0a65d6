// dense_ssm: what the mutations run; the rest is in state_space_test.cpp.
#include "support/state_space.h"

namespace ssm::test {

namespace {

std::vector<Problem> problems(Type type) {
    return {dense_ssm_of({type, 2, 3, 5, 21, 1, true, {}}, SSM_DISCRETIZATION_BILINEAR),
            dense_ssm_of({type, 1, 2, 3, 12, 1, true, {0, 5, 5, 12}}, SSM_DISCRETIZATION_ZOH)};
}

} // namespace

SSM_STATE_SPACE_QUICK(DenseSsm, problems);

} // namespace ssm::test
