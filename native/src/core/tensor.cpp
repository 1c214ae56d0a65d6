#include "core/tensor.h"

#include "core/context.h"

#include <algorithm>
#include <cstring>

namespace ssm {
namespace {

struct TypeRow {
    DataType type;
    DLDataType dtype;
    const char* name;
};

constexpr TypeRow type_rows[] = {
    {DataType::float32, {kDLFloat, 32, 1}, "float32"},
    {DataType::float64, {kDLFloat, 64, 1}, "float64"},
    {DataType::complex64, {kDLComplex, 64, 1}, "complex64"},
    {DataType::complex128, {kDLComplex, 128, 1}, "complex128"},
    {DataType::float16, {kDLFloat, 16, 1}, "float16"},
    {DataType::bfloat16, {kDLBfloat, 16, 1}, "bfloat16"},
    {DataType::int32, {kDLInt, 32, 1}, "int32"},
    {DataType::int64, {kDLInt, 64, 1}, "int64"},
    {DataType::uint8, {kDLUInt, 8, 1}, "uint8"},
};

bool is(DLDataType x, DLDataType y) {
    return x.code == y.code && x.bits == y.bits && x.lanes == y.lanes;
}

const TypeRow* find(DLDataType dtype) {
    for (const TypeRow& row : type_rows) {
        if (is(row.dtype, dtype))
            return &row;
    }
    return nullptr;
}

// x * y for numbers >= 0, at most max_bytes. Small factors, the usual ones, need no division to know.
int64_t capped_product(int64_t x, int64_t y) {
    constexpr int64_t small = int64_t{1} << 28;
    if ((x | y) < small || y == 0)
        return x * y;
    return x > max_bytes / y ? max_bytes : x * y;
}

void set_strides(Tensor& view, const int64_t* strides) {
    if (!strides) {
        int64_t stride = 1;
        for (int32_t i = view.rank - 1; i >= 0; --i) {
            view.strides[i] = view.shape[i] > 1 ? stride : 0;
            stride *= view.shape[i];
        }
        return;
    }
    for (int32_t i = 0; i < view.rank; ++i) {
        if (view.shape[i] > 1 && strides[i] < 0) {
            fail_argument(view.name, "non-negative strides", text_of_shape(strides, view.rank));
        }
        view.strides[i] = view.shape[i] > 1 ? strides[i] : 0;
    }
}

} // namespace

DataType Tensor::type() const {
    const TypeRow* row = find(dtype);
    if (!row)
        fail(SSM_ERROR_INTERNAL, std::string(name) + ": its dtype was not checked");
    return row->type;
}

bool Tensor::has_same_shape(const Tensor& other) const {
    return rank == other.rank && std::memcmp(shape, other.shape, sizeof(int64_t) * static_cast<size_t>(rank)) == 0;
}

bool Tensor::has_same_strides(const Tensor& other) const {
    return rank == other.rank && std::memcmp(strides, other.strides, sizeof(int64_t) * static_cast<size_t>(rank)) == 0;
}

bool Tensor::is_compact() const {
    if (count == 0)
        return true;
    int64_t stride = 1;
    for (int32_t i = rank - 1; i >= 0; --i) {
        if (shape[i] > 1 && strides[i] != stride)
            return false;
        stride *= shape[i];
    }
    return true;
}

void make_view(Tensor& view, const char* name, const DLTensor* pointer, bool is_output, Purpose purpose) {
    view.name = name;
    view.present = pointer != nullptr;
    view.is_output = is_output;
    view.is_inout = false;
    view.data = nullptr;
    view.rank = 0;
    view.count = 0;
    view.extent = 0;
    view.inplace[0] = view.inplace[1] = nullptr;
    if (!pointer)
        return;
    const DLTensor& given = *pointer;
    view.dtype = given.dtype;
    if (given.dtype.lanes != 1)
        fail_argument(name, "1 lane", std::to_string(given.dtype.lanes));
    const int bits = given.dtype.bits;
    if (bits != 8 && bits != 16 && bits != 32 && bits != 64 && bits != 128) {
        fail_argument(name, "elements of 8, 16, 32, 64 or 128 bits", name_of(given.dtype));
    }
    view.element_size = bits / 8;

    if (given.ndim < 0 || given.ndim > max_rank) {
        fail_argument(name, "rank 0 to " + std::to_string(max_rank), std::to_string(given.ndim));
    }
    view.rank = given.ndim;
    if (view.rank > 0 && !given.shape)
        fail_argument(name, "a shape", "NULL");
    bool is_empty = false;
    for (int32_t i = 0; i < view.rank; ++i) {
        if (given.shape[i] < 0) {
            fail_argument(name, "a shape without negative numbers", text_of_shape(given.shape, view.rank));
        }
        view.shape[i] = given.shape[i];
        is_empty |= given.shape[i] == 0;
    }
    view.count = is_empty ? 0 : 1;
    for (int32_t i = 0; i < view.rank; ++i)
        view.count = capped_product(view.count, view.shape[i]);
    if (capped_product(view.count, view.element_size) >= max_bytes)
        fail_argument(name, "less than 2^56 bytes", "shape " + text_of_shape(view.shape, view.rank));

    if (is_empty) { // strides and data of nothing say nothing
        std::memset(view.strides, 0, sizeof(view.strides));
        return;
    }
    set_strides(view, given.strides);
    int64_t last = 0;
    for (int32_t i = 0; i < view.rank; ++i)
        last = std::min(max_bytes, last + capped_product(view.shape[i] - 1, view.strides[i]));
    view.extent = capped_product(last + 1, view.element_size);
    if (view.extent >= max_bytes)
        fail_argument(name, "strides that span less than 2^56 bytes", text_of_shape(given.strides, view.rank));

    if (given.data) {
        const uintptr_t start = reinterpret_cast<uintptr_t>(given.data);
        if (given.byte_offset > UINTPTR_MAX - start ||
            static_cast<uint64_t>(view.extent) > UINTPTR_MAX - start - given.byte_offset) {
            fail_argument(name, "a byte_offset inside the address space", std::to_string(given.byte_offset));
        }
        view.data = static_cast<char*>(given.data) + given.byte_offset;
    } else if (purpose == Purpose::run) {
        fail_argument(name, "data", "NULL");
    }
}

const Tensor& Contract::add(const char* name, const DLTensor* given, bool required, bool is_output) {
    if (count == max_tensors)
        fail(SSM_ERROR_INTERNAL, "too many tensors in one call");
    if (required && !given)
        fail_argument(name, "a tensor", "NULL");
    Tensor& view = tensors[count++];
    make_view(view, name, given, is_output, purpose);
    if (given && is_on_host)
        expect_host(name, *given);
    else if (given)
        context.expect_device(name, *given);
    return view;
}

const Tensor& Contract::inout(const char* name, const DLTensor* given) {
    const Tensor& view = add(name, given, true, true);
    tensors[&view - tensors].is_inout = true;
    return view;
}

void Contract::allow_inplace(const Tensor& output, const Tensor& input) {
    Tensor& view = tensors[&output - tensors];
    view.inplace[view.inplace[0] ? 1 : 0] = &input;
}

void Contract::expect_outputs_apart() const {
    for (int i = 0; i < count; ++i) {
        const Tensor& output = tensors[i];
        if (!output.is_output || output.count == 0)
            continue;
        expect_apart(output);
        for (int j = 0; j < count; ++j) {
            if (j != i && !(tensors[j].is_output && j > i))
                expect_apart(output, tensors[j]);
        }
    }
}

void expect_apart(const Tensor& output) {
    if (!overlaps_itself(output))
        return;
    fail_argument(output.name, "strides that keep its elements apart",
                  "shape " + text_of_shape(output.shape, output.rank) + " with strides " +
                      text_of_shape(output.strides, output.rank));
}

void expect_apart(const Tensor& output, const Tensor& other) {
    if (!overlap(output, other))
        return;
    const bool may_be_same = output.inplace[0] == &other || output.inplace[1] == &other;
    if (may_be_same && output.data == other.data && output.has_same_strides(other))
        return;
    fail_argument(output.name,
                  std::string("memory apart from ") + other.name + (may_be_same ? " or its very pointer and strides" : ""),
                  "overlapping memory");
}

void expect_rank(const Tensor& tensor, int32_t rank) {
    if (tensor && tensor.rank != rank) {
        fail_argument(tensor.name, "rank " + std::to_string(rank), "shape " + text_of_shape(tensor.shape, tensor.rank));
    }
}

void expect_shape(const Tensor& tensor, std::initializer_list<int64_t> shape) {
    expect_shape(tensor, shape.begin(), static_cast<int32_t>(shape.size()));
}

void expect_shape(const Tensor& tensor, const int64_t* shape, int32_t rank) {
    if (!tensor || (tensor.rank == rank && std::equal(shape, shape + rank, tensor.shape)))
        return;
    fail_argument(tensor.name, "shape " + text_of_shape(shape, rank), text_of_shape(tensor.shape, tensor.rank));
}

void expect_type(const Tensor& tensor, DataType type) {
    expect_type(tensor, {type});
}

void expect_type(const Tensor& tensor, std::initializer_list<DataType> types) {
    if (!tensor)
        return;
    const TypeRow* row = find(tensor.dtype);
    for (DataType type : types) {
        if (row && row->type == type)
            return;
    }
    std::string expected;
    size_t left = types.size();
    for (DataType type : types) {
        expected += name_of(type);
        --left;
        if (left > 0)
            expected += left == 1 ? " or " : ", ";
    }
    fail_argument(tensor.name, expected, name_of(tensor.dtype));
}

void expect_storage_type(const Tensor& tensor) {
    expect_type(tensor, {DataType::float32, DataType::float64, DataType::complex64, DataType::complex128, DataType::float16,
                         DataType::bfloat16});
}

void expect_host(const char* name, const DLTensor& tensor) {
    const int32_t type = device_type_of(tensor);
    if (type != kDLCPU && type != kDLCUDAHost)
        fail_argument(name, "a tensor in host memory", "one on " + name_of_device(type, tensor.device.device_id));
}

int32_t device_type_of(const DLTensor& tensor) {
    int32_t type;
    static_assert(sizeof(type) == sizeof(tensor.device.device_type));
    std::memcpy(&type, &tensor.device.device_type, sizeof(type));
    return type;
}

const char* name_of(DataType type) {
    for (const TypeRow& row : type_rows) {
        if (row.type == type)
            return row.name;
    }
    return "unknown";
}

std::string name_of(DLDataType type) {
    static constexpr const char* codes[] = {"int", "uint", "float", "handle", "bfloat", "complex", "bool"};
    const std::string code =
        type.code < std::size(codes) ? codes[type.code] : "code " + std::to_string(type.code) + ", bits ";
    return code + std::to_string(type.bits);
}

std::string name_of_device(int32_t device_type, int32_t device_id) {
    switch (device_type) {
    case kDLCPU:
        return "cpu";
    case kDLCUDAHost:
        return "cuda host";
    case kDLCUDA:
        return "cuda:" + std::to_string(device_id);
    case kDLCUDAManaged:
        return "managed cuda:" + std::to_string(device_id);
    case kDLExtDev:
        return "emulated:" + std::to_string(device_id);
    default:
        return "device type " + std::to_string(device_type);
    }
}

std::string text_of_shape(const int64_t* shape, int32_t rank) {
    std::string text = "(";
    for (int32_t i = 0; i < rank; ++i) {
        if (i > 0)
            text += ",";
        text += std::to_string(shape[i]);
    }
    return text + ")";
}

} // namespace ssm
