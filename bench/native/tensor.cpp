#include "tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace bench {

namespace {

struct Random { // splitmix64
    uint64_t state;
    uint64_t next() {
        uint64_t x = state += 0x9e3779b97f4a7c15u;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        return x ^ (x >> 31);
    }
    double uniform(double low, double high) { return low + (high - low) * double(next() >> 11) * 0x1p-53; }
};

uint16_t to_bfloat16(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float from_bfloat16(uint16_t half) {
    const uint32_t bits = uint32_t(half) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

// Benchmark data lies far inside the range of float16: values below its smallest normal number become zero.
uint16_t to_float16(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    const uint32_t sign = (bits >> 16) & 0x8000;
    const int32_t exponent = int32_t((bits >> 23) & 0xff) - 127 + 15;
    if (exponent <= 0)
        return uint16_t(sign);
    const uint32_t rounded = (uint32_t(exponent) << 23 | (bits & 0x7fffff)) + 0xfff + ((bits >> 13) & 1);
    return uint16_t(sign | (rounded >> 13));
}

float from_float16(uint16_t half) {
    const int exponent = (half >> 10) & 31;
    const int fraction = half & 1023;
    const float sign = half & 0x8000 ? -1.0f : 1.0f;
    if (exponent == 31)
        return fraction ? NAN : sign * INFINITY;
    return sign * (exponent ? std::ldexp(float(1024 + fraction), exponent - 25) : std::ldexp(float(fraction), -24));
}

DLDataType dl_type(Type type) {
    switch (type) {
    case Type::float32:
        return {kDLFloat, 32, 1};
    case Type::float64:
        return {kDLFloat, 64, 1};
    case Type::complex64:
        return {kDLComplex, 64, 1};
    case Type::float16:
        return {kDLFloat, 16, 1};
    case Type::bfloat16:
        return {kDLBfloat, 16, 1};
    }
    return {};
}

// A view of host memory, or of any memory, with one axis.
DLTensor flat(void* data, DLDevice device, DLDataType type, int64_t* count, int64_t* stride = nullptr) {
    DLTensor view{};
    view.data = data;
    view.device = device;
    view.ndim = 1;
    view.dtype = type;
    view.shape = count;
    view.strides = stride;
    return view;
}

} // namespace

void check(int32_t status, const char* call) {
    if (status != SSM_SUCCESS)
        throw std::runtime_error(std::string(call) + ": " + ssm_status_name(status) + ": " + ssm_last_error());
}

const char* name_of(Type type) {
    constexpr const char* names[] = {"float32", "float64", "complex64", "float16", "bfloat16"};
    return names[int(type)];
}

int64_t size_of(Type type) {
    constexpr int64_t sizes[] = {4, 8, 8, 2, 2};
    return sizes[int(type)];
}

int64_t count_of(const Shape& shape) {
    int64_t count = 1;
    for (int64_t extent : shape)
        count *= extent;
    return count;
}

Tensor::Tensor(ssm_context* context, Type type, Shape shape, Layout layout)
    : type(type), shape(std::move(shape)), context(context) {
    int32_t device_type = 0, device_id = 0;
    check(ssm_context_get_device(context, &device_type, &device_id), "ssm_context_get_device");
    tensor.device = {DLDeviceType(device_type), device_id};
    tensor.dtype = dl_type(type);
    tensor.ndim = int32_t(this->shape.size());
    tensor.shape = const_cast<int64_t*>(this->shape.data());
    strides.assign(this->shape.size(), 1);
    for (int64_t i = int64_t(strides.size()) - 2; i >= 0; --i)
        strides[i] = strides[i + 1] * this->shape[i + 1];
    if (layout == Layout::channels) { // (B,C,L) stored as (B,L,C), (B,G,N,L) as (B,G,L,N)
        const size_t last = strides.size() - 1;
        strides[last] = this->shape[last - 1];
        strides[last - 1] = 1;
    }
    tensor.strides = strides.data();
    check(ssm_allocate(context, uint64_t(bytes()), &tensor.data), "ssm_allocate");
}

Tensor::~Tensor() {
    ssm_free(context, tensor.data);
}

void Tensor::fill(double low, double high, uint64_t seed) {
    // A block of random numbers, repeated: drawing 2^28 of them would take longer than the benchmark.
    const int64_t total = count_of(shape);
    const int64_t block = std::min<int64_t>(total, (1 << 20) + 7);
    std::vector<char> host(size_t(block * size_of(type)));
    Random random{seed};
    for (int64_t i = 0; i < block; ++i) {
        const double value = random.uniform(low, high);
        char* const at = host.data() + i * size_of(type);
        const auto store = [at](auto stored) { std::memcpy(at, &stored, sizeof stored); };
        switch (type) {
        case Type::float32:
            store(float(value));
            break;
        case Type::float64:
            store(value);
            break;
        case Type::complex64: {
            const double phase = random.uniform(0, 6.283185307179586);
            const float pair[2] = {float(value * std::cos(phase)), float(value * std::sin(phase))};
            std::memcpy(at, pair, sizeof pair);
            break;
        }
        case Type::float16:
            store(to_float16(float(value)));
            break;
        case Type::bfloat16:
            store(to_bfloat16(float(value)));
            break;
        }
    }
    for (int64_t start = 0; start < total; start += block) {
        int64_t count = std::min(block, total - start);
        const DLTensor source = flat(host.data(), {kDLCPU, 0}, tensor.dtype, &count);
        const DLTensor destination =
            flat(static_cast<char*>(tensor.data) + start * size_of(type), tensor.device, tensor.dtype, &count);
        check(ssm_copy(context, &source, &destination), "ssm_copy");
    }
    check(ssm_context_synchronize(context), "ssm_context_synchronize");
}

void Tensor::poison() {
    int64_t count = bytes();
    const DLTensor all = flat(tensor.data, tensor.device, {kDLUInt, 8, 1}, &count);
    check(ssm_set(context, &all, 0xff), "ssm_set");
}

std::vector<double> Tensor::read(const Shape& index, int64_t count) const {
    int64_t offset = 0;
    for (size_t i = 0; i < strides.size(); ++i)
        offset += index[i] * strides[i];
    int64_t stride = strides.back();
    int64_t one = 1;
    std::vector<char> host(size_t(count * size_of(type)));
    const DLTensor source =
        flat(static_cast<char*>(tensor.data) + offset * size_of(type), tensor.device, tensor.dtype, &count, &stride);
    const DLTensor destination = flat(host.data(), {kDLCPU, 0}, tensor.dtype, &count, &one);
    check(ssm_copy(context, &source, &destination), "ssm_copy");
    check(ssm_context_synchronize(context), "ssm_context_synchronize");
    std::vector<double> values;
    for (int64_t i = 0; i < count; ++i) {
        const char* const at = host.data() + i * size_of(type);
        const auto load = [at](auto stored) {
            std::memcpy(&stored, at, sizeof stored);
            return stored;
        };
        switch (type) {
        case Type::float32:
            values.push_back(load(float{}));
            break;
        case Type::float64:
            values.push_back(load(double{}));
            break;
        case Type::float16:
            values.push_back(from_float16(load(uint16_t{})));
            break;
        case Type::bfloat16:
            values.push_back(from_bfloat16(load(uint16_t{})));
            break;
        case Type::complex64:
            throw std::logic_error("Tensor::read takes real tensors");
        }
    }
    return values;
}

} // namespace bench
