#include "support/values.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace ssm::test {

const char* name_of(Type type) {
    static const char* const names[] = {"float32", "float64",  "complex64", "complex128",
                                        "float16", "bfloat16", "int64",     "int32"};
    return names[static_cast<int>(type)];
}

DLDataType dlpack_of(Type type) {
    static const DLDataType types[] = {{kDLFloat, 32, 1}, {kDLFloat, 64, 1},  {kDLComplex, 64, 1}, {kDLComplex, 128, 1},
                                       {kDLFloat, 16, 1}, {kDLBfloat, 16, 1}, {kDLInt, 64, 1},     {kDLInt, 32, 1}};
    return types[static_cast<int>(type)];
}

int64_t size_of(Type type) {
    return dlpack_of(type).bits / 8;
}

bool is_complex(Type type) {
    return type == Type::complex64 || type == Type::complex128;
}

bool is_half(Type type) {
    return type == Type::float16 || type == Type::bfloat16;
}

Type state_type(Type type) {
    return is_half(type) ? Type::float32 : type;
}

Type complex_of(Type type) {
    return state_type(type) == Type::float32 ? Type::complex64 : Type::complex128;
}

double roundoff(Type type) {
    switch (type) {
    case Type::float16:
        return std::ldexp(1.0, -11);
    case Type::bfloat16:
        return std::ldexp(1.0, -8);
    case Type::float32:
    case Type::complex64:
        return std::ldexp(1.0, -24);
    default:
        return std::ldexp(1.0, -53);
    }
}

double underflow(Type type) {
    switch (type) {
    case Type::float16:
        return std::ldexp(1.0, -24);
    case Type::bfloat16:
    case Type::float32:
    case Type::complex64:
        return std::ldexp(1.0, -126);
    default:
        return std::ldexp(1.0, -1022);
    }
}

double largest(Type type) {
    switch (type) {
    case Type::float16:
        return 65504.0;
    case Type::bfloat16:
    case Type::float32:
    case Type::complex64:
        return std::numeric_limits<float>::max();
    default:
        return std::numeric_limits<double>::max();
    }
}

namespace {

// Rounds to a binary format of 16 bits with this many bits of fraction, to the nearest, ties to even.
uint16_t encode_16_bit(double value, int fraction_bits, int exponent_bits) {
    const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const uint16_t infinity = static_cast<uint16_t>(((1 << exponent_bits) - 1) << fraction_bits);
    if (std::isnan(value))
        return sign | infinity | 1 << (fraction_bits - 1);
    const double magnitude = std::fabs(value);
    uint64_t bits;
    std::memcpy(&bits, &magnitude, sizeof bits);
    const int exponent = static_cast<int>(bits >> 52) - 1023;
    if (exponent > bias)
        return sign | infinity;
    if (exponent < 1 - bias) // whole units of the smallest number
        return sign | static_cast<uint16_t>(std::nearbyint(std::ldexp(magnitude, fraction_bits - 1 + bias)));
    // Carries of the rounding run over into the exponent by themselves.
    const int dropped = 52 - fraction_bits;
    const uint64_t half = uint64_t{1} << (dropped - 1);
    const uint64_t rounded_bits = (bits + half - 1 + (bits >> dropped & 1)) >> dropped;
    return sign | static_cast<uint16_t>(rounded_bits - (static_cast<uint64_t>(1023 - bias) << fraction_bits));
}

double decode_16_bit(uint16_t bits, int fraction_bits, int exponent_bits) {
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const int exponent = (bits & 0x7fff) >> fraction_bits;
    const int fraction = bits & ((1 << fraction_bits) - 1);
    double magnitude;
    if (exponent == (1 << exponent_bits) - 1)
        magnitude = fraction ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
    else if (exponent == 0)
        magnitude = std::ldexp(fraction, 1 - bias - fraction_bits);
    else
        magnitude = std::ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
    return bits & 0x8000 ? -magnitude : magnitude;
}

const double* table_of_16_bit(int fraction_bits, int exponent_bits) {
    double* table = new double[65536]; // lives as long as the program
    for (int bits = 0; bits < 65536; ++bits)
        table[bits] = decode_16_bit(static_cast<uint16_t>(bits), fraction_bits, exponent_bits);
    return table;
}

template <class T>
void put(void* bytes, T value) {
    std::memcpy(bytes, &value, sizeof value);
}

template <class T>
T get(const void* bytes) {
    T value;
    std::memcpy(&value, bytes, sizeof value);
    return value;
}

} // namespace

namespace {

// How each type stores a number.
template <class T>
struct StoredReal {
    using Bits = T;
    static T encode(Number value) { return static_cast<T>(value.real()); }
    static Number decode(T bits) { return static_cast<double>(bits); }
};
template <class T>
struct StoredComplex {
    using Bits = std::complex<T>;
    static Bits encode(Number value) { return Bits(value); }
    static Number decode(Bits bits) { return Number(bits); }
};
template <int fraction_bits, int exponent_bits>
struct Stored16 {
    using Bits = uint16_t;
    static Bits encode(Number value) { return encode_16_bit(value.real(), fraction_bits, exponent_bits); }
    static Number decode(Bits bits) {
        static const double* const table = table_of_16_bit(fraction_bits, exponent_bits);
        return table[bits];
    }
};

// Calls with what stores a type.
template <class Run>
auto with(Type type, Run run) {
    switch (type) {
    case Type::float32:
        return run(StoredReal<float>());
    case Type::float64:
        return run(StoredReal<double>());
    case Type::complex64:
        return run(StoredComplex<float>());
    case Type::complex128:
        return run(StoredComplex<double>());
    case Type::float16:
        return run(Stored16<10, 5>());
    case Type::bfloat16:
        return run(Stored16<7, 8>());
    case Type::int64:
        return run(StoredReal<int64_t>());
    default:
        return run(StoredReal<int32_t>());
    }
}

} // namespace

void encode(Type type, Number value, void* bytes) {
    with(type, [&](auto stored) { put(bytes, stored.encode(value)); });
}

Number decode(Type type, const void* bytes) {
    return with(type, [&](auto stored) { return stored.decode(get<typename decltype(stored)::Bits>(bytes)); });
}

void encode(Type type, const std::vector<Number>& values, unsigned char* image, const std::vector<int64_t>& positions) {
    with(type, [&](auto stored) {
        const Number* value = values.data();
        for (const int64_t position : positions)
            put(image + position, stored.encode(*value++));
    });
}

void decode(Type type, const unsigned char* image, const std::vector<int64_t>& positions, std::vector<Number>& values) {
    with(type, [&](auto stored) {
        Number* value = values.data();
        for (const int64_t position : positions)
            *value++ = stored.decode(get<typename decltype(stored)::Bits>(image + position));
    });
}

void copy_elements(Type type, const unsigned char* from, const std::vector<int64_t>& positions, unsigned char* to) {
    with(type, [&](auto stored) {
        using Bits = typename decltype(stored)::Bits;
        for (const int64_t position : positions)
            std::memcpy(to + position, from + position, sizeof(Bits));
    });
}

Number rounded(Type type, Number value) {
    unsigned char bytes[16];
    encode(type, value, bytes);
    return decode(type, bytes);
}

uint64_t Random::next() {
    uint64_t z = state += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

double Random::uniform(double low, double high) {
    return low + (high - low) * std::ldexp(static_cast<double>(next() >> 11), -53);
}

int64_t Random::integer(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(next() % static_cast<uint64_t>(high - low + 1));
}

} // namespace ssm::test
