// Runs the tests. A run that finds no test is a failure, and so is a missing device that SSM_TEST_DEVICES names.
#include <gtest/gtest.h>

#include <cstdio>

#include "support/device.h"

int main(int count, char** arguments) {
    testing::InitGoogleTest(&count, arguments);
    for (const std::string& missing : ssm::test::missing_devices()) {
        std::fprintf(stderr, "SSM_TEST_DEVICES asks for a device that is not here: %s\n", missing.c_str());
        return 2;
    }
    const int status = RUN_ALL_TESTS();
    if (testing::UnitTest::GetInstance()->test_to_run_count() == 0 && !testing::FLAGS_gtest_list_tests) {
        std::fprintf(stderr, "no test was found\n");
        return 2;
    }
    return status;
}
