// Elements of host tensors, whatever their strides and precision, for set-up operations.
#pragma once

#include "core/arguments.h"
#include "core/context.h"
#include "core/tensor.h"

#include <cmath>
#include <complex>
#include <cstring>
#include <initializer_list>

namespace ssm {

inline char* element_at(const Tensor& tensor, std::initializer_list<int64_t> index) {
    int64_t offset = 0, axis = 0;
    for (const int64_t i : index)
        offset += i * tensor.strides[axis++];
    return tensor.data + offset * tensor.element_size;
}

inline double read_number(const char* address, int64_t bytes) {
    double value;
    float narrow;
    if (bytes == 8) {
        std::memcpy(&value, address, sizeof value);
        return value;
    }
    std::memcpy(&narrow, address, sizeof narrow);
    return narrow;
}
inline void write_number(char* address, int64_t bytes, double value) {
    const float narrow = static_cast<float>(value);
    std::memcpy(address, bytes == 8 ? static_cast<const void*>(&value) : &narrow, static_cast<size_t>(bytes));
}

// "a[1,0]", for the errors.
inline std::string name_of_element(const Tensor& tensor, std::initializer_list<int64_t> index) {
    std::string text = tensor.name;
    for (const int64_t* i = index.begin(); i != index.end(); ++i)
        text += (i == index.begin() ? "[" : ",") + std::to_string(*i);
    return text + "]";
}

// Finite, or an error that names the element.
inline double real_at(const Tensor& tensor, std::initializer_list<int64_t> index) {
    const double value = read_number(element_at(tensor, index), tensor.element_size);
    if (!std::isfinite(value))
        fail_argument(name_of_element(tensor, index).c_str(), "a finite number", std::isnan(value) ? "nan" : "inf");
    return value;
}
inline std::complex<double> complex_at(const Tensor& tensor, std::initializer_list<int64_t> index) {
    const int64_t bytes = tensor.element_size / 2;
    const char* const at = element_at(tensor, index);
    const std::complex<double> value(read_number(at, bytes), read_number(at + bytes, bytes));
    if (!std::isfinite(value.real()) || !std::isfinite(value.imag()))
        fail_argument(name_of_element(tensor, index).c_str(), "a finite number", "one that is not");
    return value;
}
inline void put(const Tensor& tensor, std::initializer_list<int64_t> index, double value) {
    write_number(element_at(tensor, index), tensor.element_size, value);
}
inline void put(const Tensor& tensor, std::initializer_list<int64_t> index, std::complex<double> value) {
    const int64_t bytes = tensor.element_size / 2;
    write_number(element_at(tensor, index), bytes, value.real());
    write_number(element_at(tensor, index) + bytes, bytes, value.imag());
}

// A set-up operation: body(context, contract) with a contract of host tensors.
template <class Body>
int32_t run_on_host(ssm_context* context, const Body& body) {
    return guarded([&] {
        const ssm_context& self = ssm_context::enter(context);
        Contract contract = Contract::on_host(self);
        body(contract);
    });
}

} // namespace ssm
