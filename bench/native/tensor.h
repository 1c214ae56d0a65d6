// Tensors on a device, made and read through the C ABI.
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "ssmcuda/ssmcuda.h"

namespace bench {

// A failed call ends the case, with the library's own sentence.
void check(int32_t status, const char* call);

enum class Type { float32, float64, complex64, float16, bfloat16 };

const char* name_of(Type type);
int64_t size_of(Type type);

using Shape = std::vector<int64_t>;

int64_t count_of(const Shape& shape);

// Which index of (B,C,L) is contiguous.
enum class Layout { time, channels };

class Tensor {
  public:
    // Uninitialised memory of the context's device.
    Tensor(ssm_context* context, Type type, Shape shape, Layout layout = Layout::time);
    Tensor(const Tensor&) = delete;
    Tensor& operator=(const Tensor&) = delete;
    ~Tensor();

    // Random values, uniform between low and high; complex ones have these as magnitude and any phase.
    void fill(double low, double high, uint64_t seed);
    // Every byte 0xff: NaN in every type, so that what is not written shows.
    void poison();
    // `count` elements along the last axis, from the one at `index` on, as double; real types only.
    std::vector<double> read(const Shape& index, int64_t count) const;

    const DLTensor* view() const { return &tensor; }
    int64_t bytes() const { return count_of(shape) * size_of(type); }
    const Type type;
    const Shape shape;

  private:
    ssm_context* const context;
    std::vector<int64_t> strides;
    DLTensor tensor{};
};

} // namespace bench
