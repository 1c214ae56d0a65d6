#include "core/indices.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

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

bool is_on_host(const ssm_context& context) {
    return context.device.type == SSM_DEVICE_CPU;
}

// Calls check(tensor) with the values on the host.
template <class Check>
void look(ssm_context& context, const Tensor& tensor, const Check& check) {
    if (is_on_host(context))
        return check(tensor);
    std::vector<char> values(static_cast<size_t>(tensor.extent));
    context.call(context.backend.copy, static_cast<void*>(values.data()), static_cast<const void*>(tensor.data),
                 static_cast<uint64_t>(values.size()), CopyKind::device_to_host);
    context.call(context.backend.synchronize);
    Tensor copy = tensor;
    copy.data = values.data();
    check(copy);
}

// Makes the check now, and where calls are recorded before each launch.
template <class Check>
void check_values(ssm_context& context, const Tensor& tensor, const Check& check) {
    if (!tensor || tensor.count == 0 || !(is_on_host(context) || context.is_checking))
        return;
    const bool is_recording = context.is_recording();
    if (context.is_capturing() && !is_recording) // the device captures, and may not be waited for
        return;
    look(context, tensor, check);
    if (!is_recording)
        return;
    context.enqueue([&context, tensor, check](BackendContext*) {
        look(context, tensor, check);
        return int32_t{SSM_SUCCESS};
    });
}

// Neither infinite nor NaN. The exponent tells, and without a comparison of numbers the loop takes whole vectors.
template <class Bits>
bool are_finite(const char* data, int64_t count) {
    constexpr Bits exponent = sizeof(Bits) == 4 ? Bits{0x7f800000} : static_cast<Bits>(0x7ff0000000000000);
    Bits bad = 0;
    for (int64_t i = 0; i < count; ++i) {
        Bits bits;
        std::memcpy(&bits, data + i * static_cast<int64_t>(sizeof bits), sizeof bits);
        bad |= static_cast<Bits>((bits & exponent) == exponent);
    }
    return bad == 0;
}

struct Scalars {
    int64_t size;  // bytes of a real number
    int64_t parts; // of an element: 2 where it is complex

    explicit Scalars(const Tensor& tensor) : size(real_size(tensor.type())), parts(tensor.element_size / size) {}
    static int64_t real_size(DataType type) { return type == DataType::float64 || type == DataType::complex128 ? 8 : 4; }
    bool are_finite(const char* data, int64_t elements) const {
        return size == 8 ? ssm::are_finite<uint64_t>(data, elements * parts)
                         : ssm::are_finite<uint32_t>(data, elements * parts);
    }
    // The first part that is not finite, as text.
    std::string bad_part(const char* data) const {
        for (int64_t part = 0; part < parts; ++part) {
            double value;
            float narrow;
            std::memcpy(&narrow, data + part * size, sizeof narrow);
            value = narrow;
            if (size == 8)
                std::memcpy(&value, data + part * size, sizeof value);
            if (!std::isfinite(value))
                return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
        }
        return "";
    }
};

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
        // A bit for each row, kept by the thread: a call in the steady state allocates nothing.
        thread_local std::vector<bool> taken;
        taken.assign(static_cast<size_t>(rows), false);
        for (int64_t i = 0; i < tensor.count; ++i) {
            const int32_t slot = value_at<int32_t>(tensor, i);
            if (slot < -1 || slot >= rows) {
                fail_argument(position(tensor.name, i).c_str(), "-1 or a row of the " + std::to_string(rows) + " of state",
                              std::to_string(slot));
            }
            if (slot < 0)
                continue;
            if (taken[static_cast<size_t>(slot)]) {
                fail_argument(position(tensor.name, i).c_str(), "a row that no element before it has", std::to_string(slot));
            }
            taken[static_cast<size_t>(slot)] = true;
        }
    });
}

void check_finite(ssm_context& context, const Tensor& tensor) {
    check_values(context, tensor, [](const Tensor& values) {
        const Scalars scalars(values);
        if (values.is_compact() && scalars.are_finite(values.data, values.count))
            return;
        for (int64_t i = 0; i < values.count; ++i) {
            int64_t offset = 0, rest = i;
            for (int32_t axis = values.rank; axis-- > 0; rest /= values.shape[axis])
                offset += rest % values.shape[axis] * values.strides[axis];
            const char* const element = values.data + offset * values.element_size;
            if (scalars.are_finite(element, 1))
                continue;
            std::string index;
            rest = i;
            for (int32_t axis = values.rank; axis-- > 0; rest /= values.shape[axis])
                index = std::to_string(rest % values.shape[axis]) + (index.empty() ? "" : ",") + index;
            fail_argument((std::string(values.name) + "[" + index + "]").c_str(), "a finite number",
                          scalars.bad_part(element));
        }
    });
}

namespace {

// The real number, or part of a complex one, at an address, of a type of `size` bytes.
double number_at(const char* address, int64_t size) {
    double value;
    float narrow;
    if (size == 8) {
        std::memcpy(&value, address, sizeof value);
    } else {
        std::memcpy(&narrow, address, sizeof narrow);
        value = narrow;
    }
    return value;
}

std::string text_of(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", value);
    return text;
}

} // namespace

void expect_positive(const Tensor& tensor) {
    for (int64_t i = 0; i < tensor.count; ++i) {
        const double value = number_at(tensor.data + i * tensor.strides[0] * tensor.element_size, tensor.element_size);
        if (!(value > 0) || !std::isfinite(value))
            fail_argument(position(tensor.name, i).c_str(), "a positive number", text_of(value));
    }
}

void check_positive(ssm_context& context, const Tensor& tensor) {
    check_values(context, tensor, [](const Tensor& values) { expect_positive(values); });
}

void check_ascending(ssm_context& context, const Tensor& tensor, double before, bool from_start) {
    check_values(context, tensor, [=](const Tensor& values) {
        double previous = before;
        for (int64_t i = 0; i < values.count; ++i) {
            const double value = number_at(values.data + i * values.strides[0] * values.element_size, values.element_size);
            if (!std::isfinite(value) || !(value > previous || (i == 0 && from_start && value >= 0)))
                fail_argument(position(values.name, i).c_str(), "a time after " + text_of(previous), text_of(value));
            previous = value;
        }
    });
}

void check_nonzero(ssm_context& context, const Tensor& tensor) {
    check_values(context, tensor, [](const Tensor& values) {
        const int64_t size = values.element_size / 2;
        for (int64_t row = 0; row < values.shape[0]; ++row)
            for (int64_t i = 0; i < values.shape[1]; ++i) {
                const char* const at = values.data + (row * values.strides[0] + i * values.strides[1]) * values.element_size;
                const double re = number_at(at, size), im = number_at(at + size, size);
                if (std::isfinite(re) && std::isfinite(im) && (re != 0 || im != 0))
                    continue;
                fail_argument((std::string(values.name) + "[" + std::to_string(row) + "," + std::to_string(i) + "]").c_str(),
                              "a finite number that is not 0", text_of(re) + (im < 0 ? "" : "+") + text_of(im) + "i");
            }
    });
}

} // namespace ssm
