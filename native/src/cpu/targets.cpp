// Which instruction sets this processor has. Highway's own two run-time functions live in libhwy; they are defined
// here instead, so that the library needs no other.
#include "hwy/targets.h"

#include <cstdlib>

namespace hwy {
namespace {

int64_t detect() {
#if HWY_ARCH_X86
    int64_t targets = HWY_EMU128 | HWY_SCALAR;
    // gcc and clang check the operating system's support of the wide registers too.
    // Every processor with AVX2 and BMI2 has F16C.
    const bool avx2 = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("aes") && __builtin_cpu_supports("avx2") &&
                      __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    if (avx2)
        targets |= HWY_AVX2;
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"))
        targets |= HWY_AVX3;
    return targets;
#elif HWY_ARCH_ARM
    return HWY_NEON | HWY_EMU128 | HWY_SCALAR;
#else
    return HWY_EMU128 | HWY_SCALAR;
#endif
}

// SSM_SIMD=avx2 or baseline keeps to an older instruction set, for tests and measurements.
int64_t limit(int64_t targets) {
    const char* wanted = std::getenv("SSM_SIMD");
    if (!wanted)
        return targets;
    const auto is = [wanted](const char* name) {
        const char* w = wanted;
        while (*w && *w == *name)
            ++w, ++name;
        return *w == *name;
    };
    if (is("avx2"))
        return targets & ~int64_t{HWY_AVX3};
    if (is("baseline"))
        return targets & ~int64_t{HWY_AVX3 | HWY_AVX2};
    return targets;
}

} // namespace

int64_t SupportedTargets() {
    static const int64_t targets = limit(detect());
    return targets;
}

ChosenTarget& GetChosenTarget() {
    static ChosenTarget chosen;
    return chosen;
}

} // namespace hwy
