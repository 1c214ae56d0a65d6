#include "core/indices.h"

#include <cstring>

namespace ssm {
namespace {

template <class T>
T value_at(const Tensor& tensor, int64_t i) {
    T value;
    std::memcpy(&value, tensor.data + i * tensor.strides[0] * tensor.element_size, sizeof(value));
    return value;
}

std::string position(const char* name, int64_t i) {
    return std::string(name) + "[" + std::to_string(i) + "]";
}

// Makes the check now, and where calls are recorded before each launch.
template <class Check>
void check_values(ssm_context& context, const Tensor& tensor, const Check& check) {
    if (!tensor || context.device.type != SSM_DEVICE_CPU)
        return;
    check(tensor);
    if (!context.is_recording())
        return;
    context.enqueue([tensor, check](BackendContext*) {
        check(tensor);
        return int32_t{SSM_SUCCESS};
    });
}

} // namespace

int64_t expect_cu_seqlens(const Tensor& cu_seqlens, const char* sequence, int64_t batch) {
    if (!cu_seqlens)
        return 0;
    expect_type(cu_seqlens, DataType::int64);
    expect_rank(cu_seqlens, 1);
    if (cu_seqlens.shape[0] < 1)
        fail_argument(cu_seqlens.name, "shape (S+1)", "(0)");
    if (batch != 1) {
        fail_argument(sequence, "batch 1 with cu_seqlens", std::to_string(batch));
    }
    return cu_seqlens.shape[0] - 1;
}

void check_cu_seqlens(ssm_context& context, const Tensor& cu_seqlens, int64_t length) {
    check_values(context, cu_seqlens, [length](const Tensor& tensor) {
        const auto expect = [&](int64_t i, const std::string& expected) {
            fail_argument(position(tensor.name, i).c_str(), expected, std::to_string(value_at<int64_t>(tensor, i)));
        };
        int64_t previous = value_at<int64_t>(tensor, 0);
        if (previous != 0)
            expect(0, "0");
        for (int64_t i = 1; i < tensor.count; ++i) {
            const int64_t value = value_at<int64_t>(tensor, i);
            if (value < previous)
                expect(i, "at least " + std::to_string(previous));
            previous = value;
        }
        if (previous != length)
            expect(tensor.count - 1, "the length " + std::to_string(length));
    });
}

void check_slots(ssm_context& context, const Tensor& slots, int64_t rows) {
    check_values(context, slots, [rows](const Tensor& tensor) {
        for (int64_t i = 0; i < tensor.count; ++i) {
            const int32_t slot = value_at<int32_t>(tensor, i);
            if (slot < -1 || slot >= rows) {
                fail_argument(position(tensor.name, i).c_str(), "-1 or a row of the " + std::to_string(rows) + " of state",
                              std::to_string(slot));
            }
        }
    });
}

} // namespace ssm
