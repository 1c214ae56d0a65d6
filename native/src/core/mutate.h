// Deliberate faults. SSM_MUTATE(id, good, bad) is plain `good` in the product. In the mutation build it becomes `bad`
// while the environment variable SSM_MUTATION holds the id, so that one build can show, fault by fault, that a test
// catches it. Ids read operation.backend.fault, for example "linear_recurrence.cpu.dropped_carry".
#pragma once

#if defined(SSM_MUTATIONS) && !defined(__CUDACC__)
#include <cstdlib>
#include <cstring>

namespace ssm {
inline bool mutation_is(const char* id) {
    static const char* const active = std::getenv("SSM_MUTATION");
    return active && std::strcmp(active, id) == 0;
}
} // namespace ssm
// The value is looked up once per place, so that a mutated inner loop is not too slow to test.
#define SSM_MUTATE(id, good, bad)                                                                                           \
    ([] {                                                                                                                   \
        static const bool ssm_mutated = ::ssm::mutation_is(id);                                                             \
        return ssm_mutated;                                                                                                 \
    }()                                                                                                                     \
         ? (bad)                                                                                                            \
         : (good))
#else
#define SSM_MUTATE(id, good, bad) (good)
#endif
