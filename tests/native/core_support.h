// What the tests of core share: views of memory, and calls that must fail with a given sentence.
#pragma once

#include "ssmcuda/ssmcuda.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

namespace ssm::core_test {

constexpr DLDataType float16{kDLFloat, 16, 1}, bfloat16{kDLBfloat, 16, 1}, float32{kDLFloat, 32, 1},
    float64{kDLFloat, 64, 1}, complex64{kDLComplex, 64, 1}, complex128{kDLComplex, 128, 1}, int64{kDLInt, 64, 1},
    int32{kDLInt, 32, 1}, uint8{kDLUInt, 8, 1};

// A DLTensor that keeps its shape and strides.
class View {
  public:
    View(void* data, DLDataType dtype, std::vector<int64_t> shape, std::vector<int64_t> strides = {},
         int32_t device_type = kDLCPU, int32_t device_id = 0)
        : shape(std::move(shape)), strides(std::move(strides)) {
        tensor.data = data;
        std::memcpy(&tensor.device.device_type, &device_type, sizeof(device_type));
        tensor.device.device_id = device_id;
        tensor.ndim = static_cast<int32_t>(this->shape.size());
        tensor.dtype = dtype;
        tensor.shape = this->shape.data();
        tensor.strides = this->strides.empty() ? nullptr : this->strides.data();
        tensor.byte_offset = 0;
    }
    View(const View&) = delete;
    operator const DLTensor*() const { return &tensor; }

    std::vector<int64_t> shape, strides;
    DLTensor tensor;
};

// A context on the CPU, or where a test says.
class Context {
  public:
    explicit Context(int32_t device_type = SSM_DEVICE_CPU, int32_t device_id = 0) {
        EXPECT_EQ(ssm_context_create(device_type, device_id, &context), SSM_SUCCESS) << ssm_last_error();
    }
    ~Context() { EXPECT_EQ(ssm_context_destroy(context), SSM_SUCCESS) << ssm_last_error(); }
    Context(const Context&) = delete;
    operator ssm_context*() const { return context; }

  private:
    ssm_context* context = nullptr;
};

template <class Args>
Args make_args() {
    Args args{};
    args.struct_size = sizeof(Args);
    return args;
}

#define EXPECT_SUCCESS(call) EXPECT_EQ((call), SSM_SUCCESS) << ssm_last_error()
#define ASSERT_SUCCESS(call) ASSERT_EQ((call), SSM_SUCCESS) << ssm_last_error()
#define EXPECT_FAILURE(status, sentence, call)                                                                              \
    do {                                                                                                                    \
        EXPECT_EQ((call), (status));                                                                                        \
        EXPECT_STREQ(ssm_last_error(), (sentence));                                                                         \
    } while (false)
#define EXPECT_INVALID(sentence, call) EXPECT_FAILURE(SSM_ERROR_INVALID_ARGUMENT, sentence, call)

} // namespace ssm::core_test
