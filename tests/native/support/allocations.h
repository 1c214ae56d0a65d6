// Counts what the process takes from the C heap: the test program's malloc stands before the C library's.
#pragma once

#include <cstdint>

namespace ssm::test {

struct Allocations {
    int64_t calls;       // of malloc and its kin, so far, on every thread
    int64_t live_blocks; // not yet freed
};
Allocations allocations();
// Bytes of memory that the process holds (resident set).
int64_t resident_bytes();

} // namespace ssm::test
