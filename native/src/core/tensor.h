// Checked views of the caller's tensors, and the vocabulary that operations state their contracts in.
#pragma once

#include "core/error.h"

#include <initializer_list>

struct ssm_context;

namespace ssm {

constexpr int max_rank = StridedCopyParams::max_rank;

// Larger sizes are refused, so that sums of a few sizes and offsets cannot overflow.
constexpr int64_t max_bytes = int64_t{1} << 56;

// A DLTensor whose dtype, sizes, strides and data are sane. Strides count elements; where a dimension has at most one
// index the stride says nothing and is 0 here. A tensor that the caller left out has data == nullptr and present == false.
//
// Members have no initial values, so that a call's array of tensors costs nothing: shape and strides hold `rank` numbers.
struct Tensor {
    const char* name;
    bool present;
    bool is_output;
    bool is_inout; // an output whose values are read first
    char* data;
    DLDataType dtype;
    int64_t element_size;
    int32_t rank;
    int64_t shape[max_rank];
    int64_t strides[max_rank];
    int64_t count;  // elements
    int64_t extent; // bytes from the first element's start to the last one's end; 0 if there are none
    const Tensor* inplace[2];

    explicit operator bool() const { return present; }
    DataType type() const; // only for dtypes that operations compute with
    int64_t bytes() const { return count * element_size; }
    bool has_same_shape(const Tensor& other) const;
    bool has_same_strides(const Tensor& other) const;
    bool is_aligned() const { return (reinterpret_cast<uintptr_t>(data) & static_cast<uintptr_t>(element_size - 1)) == 0; }
    bool is_compact() const;
};

// Why the tensors are looked at. A workspace query touches no data: there NULL data is fine.
enum class Purpose { run, query };

// The tensors of one call. Views live in here; references to them stay valid.
class Contract {
  public:
    Contract(const ssm_context& context, Purpose purpose) : context(context), purpose(purpose) {}
    // Of a set-up operation: all tensors lie in host memory, whatever the context's device.
    static Contract on_host(const ssm_context& context) { return Contract(context, Purpose::run, true); }
    Contract(const Contract&) = delete;

    const Tensor& input(const char* name, const DLTensor* given) { return add(name, given, true, false); }
    const Tensor& optional_input(const char* name, const DLTensor* given) { return add(name, given, false, false); }
    const Tensor& output(const char* name, const DLTensor* given) { return add(name, given, true, true); }
    const Tensor& optional_output(const char* name, const DLTensor* given) { return add(name, given, false, true); }

    const Tensor& inout(const char* name, const DLTensor* given);

    // The output may be this very input.
    void allow_inplace(const Tensor& output, const Tensor& input);
    // Throws if an output shares memory with another tensor, or with itself, except as allowed.
    void expect_outputs_apart() const;

  private:
    static constexpr int max_tensors = 48;
    const ssm_context& context;
    const Purpose purpose;
    const bool is_on_host = false;
    int count = 0;
    Tensor tensors[max_tensors];

    Contract(const ssm_context& context, Purpose purpose, bool is_on_host)
        : context(context), purpose(purpose), is_on_host(is_on_host) {}
    const Tensor& add(const char* name, const DLTensor* given, bool required, bool is_output);
};

// A view of any tensor, wherever it lies; of none where given is null.
void make_view(Tensor& view, const char* name, const DLTensor* given, bool is_output, Purpose purpose);

// Each passes over absent tensors and throws with the tensor's name otherwise.
void expect_rank(const Tensor& tensor, int32_t rank);
void expect_shape(const Tensor& tensor, std::initializer_list<int64_t> shape);
void expect_shape(const Tensor& tensor, const int64_t* shape, int32_t rank);
void expect_type(const Tensor& tensor, DataType type);
void expect_type(const Tensor& tensor, std::initializer_list<DataType> types);
void expect_storage_type(const Tensor& tensor); // the six that the header names

void expect_host(const char* name, const DLTensor& tensor);

// Throws if an output shares memory with another tensor, or with itself.
void expect_apart(const Tensor& output);
void expect_apart(const Tensor& output, const Tensor& other);

// Whether two tensors share a byte, exactly for all strides that occur (see overlap.cpp).
bool overlap(const Tensor& x, const Tensor& y);
// Whether two different indices of the tensor reach the same element.
bool overlaps_itself(const Tensor& tensor);

// As a number: what the caller wrote need not be one of the enum.
int32_t device_type_of(const DLTensor& tensor);

const char* name_of(DataType type);
std::string name_of(DLDataType type);
std::string name_of_device(int32_t device_type, int32_t device_id);
std::string text_of_shape(const int64_t* shape, int32_t rank);

} // namespace ssm
