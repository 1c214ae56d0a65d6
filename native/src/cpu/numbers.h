// Storage types of the kernels, and the way from a DataType to a template argument.
#pragma once

#include "core/params.h"

#include <type_traits>

namespace ssm::cpu {

struct Float16 {
    uint16_t bits;
};
struct BFloat16 {
    uint16_t bits;
};
template <class Lane>
struct Complex {
    Lane re, im;
};

// Lane: what a vector lane holds. State: the type carried from call to call.
template <class S>
struct Traits;
template <>
struct Traits<float> {
    using Lane = float;
    using State = float;
    static constexpr bool complex = false;
};
template <>
struct Traits<double> {
    using Lane = double;
    using State = double;
    static constexpr bool complex = false;
};
template <>
struct Traits<Float16> {
    using Lane = float;
    using State = float;
    static constexpr bool complex = false;
};
template <>
struct Traits<BFloat16> {
    using Lane = float;
    using State = float;
    static constexpr bool complex = false;
};
template <>
struct Traits<Complex<float>> {
    using Lane = float;
    using State = Complex<float>;
    static constexpr bool complex = true;
};
template <>
struct Traits<Complex<double>> {
    using Lane = double;
    using State = Complex<double>;
    static constexpr bool complex = true;
};

template <class T>
struct Type {
    using type = T;
};

// Calls f(Type<S>{}) with the storage type S that `type` names; false where it is none.
template <class F>
bool with_storage(DataType type, const F& f) {
    switch (type) {
    case DataType::float32:
        return f(Type<float>{}), true;
    case DataType::float64:
        return f(Type<double>{}), true;
    case DataType::complex64:
        return f(Type<Complex<float>>{}), true;
    case DataType::complex128:
        return f(Type<Complex<double>>{}), true;
    case DataType::float16:
        return f(Type<Float16>{}), true;
    case DataType::bfloat16:
        return f(Type<BFloat16>{}), true;
    default:
        return false;
    }
}

// The same where the lanes are known: real types alone.
template <class Lane, class F>
void with_storage_of(DataType type, const F& f) {
    if constexpr (std::is_same_v<Lane, double>)
        f(Type<double>{});
    else if (type == DataType::float16)
        f(Type<Float16>{});
    else if (type == DataType::bfloat16)
        f(Type<BFloat16>{});
    else
        f(Type<float>{});
}

} // namespace ssm::cpu
