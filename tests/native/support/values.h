// Element types on the host: every value is kept as a complex double that the storage type represents exactly.
#pragma once

#include <complex>
#include <cstdint>
#include <string>
#include <vector>

#include "ssmcuda/ssmcuda.h"

namespace ssm::test {

using Number = std::complex<double>;

enum class Type { float32, float64, complex64, complex128, float16, bfloat16, int64, int32 };

const char* name_of(Type type);
DLDataType dlpack_of(Type type);
int64_t size_of(Type type);
bool is_complex(Type type);
bool is_half(Type type);
// The type of states and sums: float32 for the 16-bit types, otherwise the type itself.
Type state_type(Type type);
Type complex_of(Type type);
// Unit roundoff: half the distance from 1 to the next number.
double roundoff(Type type);
// What a result may be off by where it falls below the normal numbers.
double underflow(Type type);
double largest(Type type);

void encode(Type type, Number value, void* bytes);
Number decode(Type type, const void* bytes);
// The same for elements at these bytes of an image.
void encode(Type type, const std::vector<Number>& values, unsigned char* image, const std::vector<int64_t>& positions);
void decode(Type type, const unsigned char* image, const std::vector<int64_t>& positions, std::vector<Number>& values);
void copy_elements(Type type, const unsigned char* from, const std::vector<int64_t>& positions, unsigned char* to);
// The value that the type holds after the value was stored.
Number rounded(Type type, Number value);

// Reproducible numbers, the same on every platform (splitmix64).
class Random {
  public:
    explicit Random(uint64_t seed) : state(seed * 0x9e3779b97f4a7c15ull + 1) {}
    uint64_t next();
    double uniform(double low, double high);
    int64_t integer(int64_t low, int64_t high); // both included

  private:
    uint64_t state;
};

} // namespace ssm::test
