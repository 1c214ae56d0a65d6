// A problem is one call of an operation as host data: its arguments by the names of the C ABI, and how each tensor
// lies in memory. A Call is a problem placed on a device through the C ABI, ready to run.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "support/device.h"

namespace ssm::test {

// Values in row-major order, each exactly representable in the type.
struct Tensor {
    Type type = Type::float32;
    std::vector<int64_t> shape;
    std::vector<Number> values;

    Tensor() = default;
    Tensor(Type type, std::vector<int64_t> shape);
    int64_t size() const { return static_cast<int64_t>(values.size()); }
    template <class... Index>
    Number& at(Index... index) {
        return values[offset_of({static_cast<int64_t>(index)...})];
    }
    template <class... Index>
    Number at(Index... index) const {
        return values[offset_of({static_cast<int64_t>(index)...})];
    }

  private:
    size_t offset_of(std::initializer_list<int64_t> index) const;
};

// How a tensor lies in memory.
enum class View {
    null_strides,       // row-major, strides left out
    compact,            // row-major: time is contiguous
    channel_contiguous, // the last axis, time, outside the others but the batch
    padded,             // row-major with gaps behind each row
    channel_padded,     // channel_contiguous with gaps
    offset,             // row-major, one element behind an aligned address (byte_offset)
    unaligned,          // row-major, one byte behind an aligned address
    strided,            // every second element along time
    reversed_axes,      // the first axis is the contiguous one
    broadcast_batch,    // stride 0 on the first axis (inputs that do not change along it)
    broadcast_channel,  // stride 0 on the second axis
    broadcast_time,     // stride 0 on the last axis
};
const char* name_of(View view);

enum class Operation {
    associative_scan,
    linear_recurrence,
    linear_recurrence_backward,
    selective_scan,
    causal_conv1d,
    causal_conv1d_backward,
    selective_scan_backward,
    ssd,
    ssd_backward,
    causal_conv1d_update,
    selective_state_update,
    rms_norm,
    rms_norm_backward,
    gated_rms_norm,
    gated_rms_norm_backward,
    mamba3,
    mamba3_backward,
    mamba3_update,
    causal_conv,
    causal_conv_plan,
    causal_conv_backward,
    hippo_project,
    dense_kernel,
    dense_ssm,
    dplr_ssm,
    dplr_kernel,
    dplr_kernel_backward,
    cauchy_multiply,
    cauchy_multiply_backward,
    vandermonde_multiply,
    vandermonde_multiply_backward,
    discretize_diagonal,
    diagonal_kernel,
    diagonal_kernel_backward,
    diagonal_ssm,
    diagonal_ssm_backward,
    diagonal_scan
};
const char* name_of(Operation operation);

// What a call is told beside its tensors.
struct Settings {
    Operation operation = Operation::linear_recurrence;
    Type type = Type::float32;
    bool reverse = false;
    bool exclusive = false;
    bool dt_softplus = false;
    bool silu = false;
    double eps = 0;
    bool norm_before_gate = false;
    int64_t group_size = 0;
    ssm_combine combine = SSM_COMBINE_ADD;
    int64_t chunk_size = 0;
    double dt_min = 0, dt_max = 0;
    int32_t measure = 0, discretization = 0, start = 0;
    double alpha = 0, step = 0, time_before = 0; // step: dt of hippo_project
    int64_t steps_before = 0;
    bool conjugate_pairs = false, c_is_tilde = false;
    bool softmax = false;
};

struct Problem : Settings {
    std::map<std::string, Tensor> inputs;
    std::map<std::string, Tensor> outputs; // what is asked for: type and shape; the values do not matter
    std::map<std::string, View> views;     // compact where not named
    std::string inplace;                   // the input that the main output overwrites

    // An output whose values are read first: in inputs and in outputs.
    bool is_inout(const std::string& name) const { return inputs.count(name) && outputs.count(name); }

    std::vector<int64_t> cu_seqlens() const; // empty where not packed
    std::string describe() const;
};

using Outputs = std::map<std::string, Tensor>;

// A tensor on a device. Outputs start as NaN (every byte 0xff), as do the gaps between elements; an input ends where
// its memory ends, an output has guards on both sides.
class Placed {
  public:
    Placed(Context& context, const Tensor& tensor, View view, bool is_output);
    ~Placed();
    Placed(const Placed&) = delete;
    Placed& operator=(const Placed&) = delete;
    const DLTensor* get() const { return &tensor; }
    void write(const Tensor& values);
    void fill_with_nan();
    // Copies back. Throws if a byte outside the view has changed.
    Tensor take();
    // Throws if any byte has changed since the last write.
    void check_unchanged();
    bool is_unchanged();

  private:
    Context& context;
    Type type;
    std::vector<int64_t> shape, strides;
    std::vector<int64_t> byte_positions; // of each element, row-major
    std::vector<unsigned char> image;    // what was uploaded last
    void* memory = nullptr;
    DLTensor tensor{};
};

class Call {
  public:
    Call(Context& context, const Problem& problem);
    int32_t run();
    int32_t query_workspace(uint64_t* bytes);
    // Waits, then copies the outputs back.
    Outputs take();
    // Waits, then throws if a tensor, an output too, has been written since it was placed.
    void check_nothing_written();
    // Writes the values of another problem of the same shapes into the inputs.
    void refill(const Problem& other);
    // What a run has overwritten as it was: the inouts, and the input that lies in the main output's place.
    void reset();
    void clear_outputs();

  private:
    template <class Run>
    int32_t with_args(Run run);
    Context& context;
    Problem problem;                                                     // with the values of what a run overwrites alone
    std::map<std::string, std::unique_ptr<Placed>, std::less<>> tensors; // found by name without a string on the heap
    std::vector<std::string> output_names;
};

// Places, runs, takes back. Throws if a call fails.
Outputs run(Context& context, const Problem& problem);

// Parts of problems.
bool is_sequence(const std::string& name, const Tensor& tensor);  // has a time axis, the last
bool is_parameter(const std::string& name, const Tensor& tensor); // of channels, for every row and step
int64_t length_of(const Problem& problem);
int time_axis(const Problem& problem, const std::string& name, const Tensor& tensor); // -1: none
Tensor slice(const Tensor& tensor, int axis, int64_t from, int64_t to);
Tensor slice_time(const Tensor& tensor, int64_t from, int64_t to); // of the last axis
Tensor flip_time(const Tensor& tensor);
Tensor row_of(const Tensor& tensor, int64_t row); // keeps the first axis, with length 1
Tensor concatenate(const std::vector<Tensor>& parts, int axis);
Tensor sum_of(const std::vector<Tensor>& parts);
// The same calculation on a part of time; states stay as they are.
Problem slice_time(const Problem& problem, int64_t from, int64_t to);

} // namespace ssm::test
