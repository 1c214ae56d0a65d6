// hippo_project: what the mutations run; the rest is in state_space_test.cpp.
#include "support/state_space.h"

namespace ssm::test {

namespace {

std::vector<Problem> problems(Type type) {
    return {
        hippo_project_of({type, 2, 1, 5, 21, 1, true, {}}, SSM_HIPPO_LEGS, SSM_DISCRETIZATION_BILINEAR),
        hippo_project_of({type, 1, 1, 70, 33, 1, true, {}}, SSM_HIPPO_LEGS, SSM_DISCRETIZATION_GENERALIZED_BILINEAR),
        hippo_project_of({type, 2, 1, 6, 21, 1, true, {}}, SSM_HIPPO_FOUT, SSM_DISCRETIZATION_ZOH, SSM_HIPPO_START_FIRST)};
}

} // namespace

SSM_STATE_SPACE_QUICK(HippoProject, problems);

} // namespace ssm::test
