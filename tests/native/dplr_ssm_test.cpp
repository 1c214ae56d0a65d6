// dplr_ssm: what the mutations run; the rest is in state_space_test.cpp.
#include "support/state_space.h"

namespace ssm::test {

namespace {

std::vector<Problem> problems(Type type) {
    return {dplr_ssm_of({type, 2, 3, 5, 21, 2, true, {}}), dplr_ssm_of({type, 1, 2, 3, 12, 1, false, {0, 5, 5, 12}})};
}

} // namespace

SSM_STATE_SPACE_QUICK(DplrSsm, problems);

} // namespace ssm::test
