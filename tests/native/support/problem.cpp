#include "support/problem.h"

#include <algorithm>
#include <cstring>
#include <sstream>
#include <stdexcept>

namespace ssm::test {

namespace {

int64_t product(const std::vector<int64_t>& shape) {
    int64_t size = 1;
    for (const int64_t extent : shape)
        size *= extent;
    return size;
}

} // namespace

Tensor::Tensor(Type type, std::vector<int64_t> shape)
    : type(type), shape(std::move(shape)), values(static_cast<size_t>(product(this->shape))) {}

size_t Tensor::offset_of(std::initializer_list<int64_t> index) const {
    size_t offset = 0, axis = 0;
    for (const int64_t i : index)
        offset = offset * static_cast<size_t>(shape[axis++]) + static_cast<size_t>(i);
    return offset;
}

const char* name_of(View view) {
    static const char* const names[] = {"null_strides",   "compact",         "channel_contiguous", "padded",
                                        "channel_padded", "offset",          "unaligned",          "strided",
                                        "reversed_axes",  "broadcast_batch", "broadcast_channel",  "broadcast_time"};
    return names[static_cast<int>(view)];
}

const char* name_of(Operation operation) {
    static const char* const names[] = {"associative_scan",
                                        "linear_recurrence",
                                        "linear_recurrence_backward",
                                        "selective_scan",
                                        "causal_conv1d",
                                        "causal_conv1d_backward",
                                        "selective_scan_backward",
                                        "ssd",
                                        "ssd_backward",
                                        "causal_conv1d_update",
                                        "selective_state_update",
                                        "rms_norm",
                                        "rms_norm_backward",
                                        "gated_rms_norm",
                                        "gated_rms_norm_backward",
                                        "mamba3",
                                        "mamba3_backward",
                                        "mamba3_update",
                                        "causal_conv",
                                        "causal_conv_plan",
                                        "causal_conv_backward",
                                        "hippo_project",
                                        "dense_kernel",
                                        "dense_ssm",
                                        "dplr_ssm",
                                        "dplr_kernel",
                                        "dplr_kernel_backward",
                                        "cauchy_multiply",
                                        "cauchy_multiply_backward",
                                        "vandermonde_multiply",
                                        "vandermonde_multiply_backward",
                                        "discretize_diagonal",
                                        "diagonal_kernel",
                                        "diagonal_kernel_backward",
                                        "diagonal_ssm",
                                        "diagonal_ssm_backward",
                                        "diagonal_scan"};
    return names[static_cast<int>(operation)];
}

std::vector<int64_t> Problem::cu_seqlens() const {
    std::vector<int64_t> result;
    if (const auto found = inputs.find("cu_seqlens"); found != inputs.end())
        for (const Number value : found->second.values)
            result.push_back(static_cast<int64_t>(value.real()));
    return result;
}

std::string Problem::describe() const {
    std::ostringstream text;
    text << name_of(operation) << " " << name_of(type);
    if (operation == Operation::associative_scan)
        text << " combine " << combine << (exclusive ? " exclusive" : "");
    text << (reverse ? " reverse" : "") << (dt_softplus ? " softplus" : "") << (silu ? " silu" : "");
    if (chunk_size)
        text << " chunk " << chunk_size;
    if (dt_min != 0 || dt_max != 0)
        text << " limits " << dt_min << ".." << dt_max;
    if (measure || discretization || start || alpha != 0)
        text << " measure " << measure << " discretization " << discretization << " alpha " << alpha << " start " << start;
    text << (conjugate_pairs ? " pairs" : "") << (c_is_tilde ? " tilde" : "");
    if (norm_before_gate)
        text << " norm before gate";
    if (group_size)
        text << " groups of " << group_size;
    if (operation >= Operation::discretize_diagonal)
        text << " discretization " << discretization << (alpha != 0 ? " alpha " + std::to_string(alpha) : "");
    text << (conjugate_pairs ? " pairs" : "") << (softmax ? " softmax" : "");
    for (const auto& [name, tensor] : inputs) {
        text << " " << name << "(";
        for (size_t axis = 0; axis < tensor.shape.size(); ++axis)
            text << (axis ? "," : "") << tensor.shape[axis];
        text << ")";
        if (const auto view = views.find(name); view != views.end())
            text << ":" << name_of(view->second);
    }
    for (const auto& [name, tensor] : outputs) {
        text << " ->" << name;
        if (const auto view = views.find(name); view != views.end())
            text << ":" << name_of(view->second);
    }
    if (!inplace.empty())
        text << " in place of " << inplace;
    return text.str();
}

// ---- Placement ---------------------------------------------------------------------------------------------------------

namespace {

constexpr int64_t guard = 256; // bytes on either side of an output

struct Layout {
    std::vector<int64_t> strides;
    int64_t extent = 0; // elements from the first to behind the last
};

// Strides for axes in the order from the outermost in memory to the innermost; gap elements lie behind each inner block.
Layout lay_out(const std::vector<int64_t>& shape, const std::vector<size_t>& order, int64_t first_stride, int64_t gap,
               size_t broadcast_axis = SIZE_MAX) {
    Layout layout;
    layout.strides.resize(shape.size());
    int64_t stride = first_stride;
    for (auto axis = order.rbegin(); axis != order.rend(); ++axis) {
        if (*axis == broadcast_axis)
            continue;
        layout.strides[*axis] = stride;
        stride = stride * std::max<int64_t>(shape[*axis], 1) + gap;
    }
    layout.extent = product(shape) ? 1 : 0;
    for (size_t axis = 0; axis < shape.size() && layout.extent; ++axis)
        layout.extent += (shape[axis] - 1) * layout.strides[axis];
    return layout;
}

Layout lay_out(View view, const std::vector<int64_t>& shape) {
    const size_t rank = shape.size();
    std::vector<size_t> rows(rank), channels, reversed;
    for (size_t axis = 0; axis < rank; ++axis)
        rows[axis] = axis;
    reversed.assign(rows.rbegin(), rows.rend());
    channels = rows;
    if (rank >= 3)
        std::rotate(channels.begin() + 1, channels.end() - 1, channels.end());
    switch (view) {
    case View::null_strides:
    case View::compact:
    case View::offset:
    case View::unaligned:
        return lay_out(shape, rows, 1, 0);
    case View::channel_contiguous:
        return lay_out(shape, channels, 1, 0);
    case View::padded:
        return lay_out(shape, rows, 1, 5);
    case View::channel_padded:
        return lay_out(shape, channels, 1, 3);
    case View::strided:
        return lay_out(shape, rows, 2, 1);
    case View::reversed_axes:
        return lay_out(shape, reversed, 1, 0);
    case View::broadcast_batch:
        return lay_out(shape, rows, 1, 0, 0);
    case View::broadcast_channel:
        return lay_out(shape, rows, 1, 0, 1);
    case View::broadcast_time:
        return lay_out(shape, rows, 1, 0, rank - 1);
    }
    return {};
}

} // namespace

Placed::Placed(Context& context, const Tensor& values, View view, bool is_output)
    : context(context), type(values.type), shape(values.shape) {
    const Layout layout = lay_out(view, shape);
    strides = layout.strides;
    const int64_t element = size_of(type);
    const int64_t front = is_output ? guard : 0;
    const int64_t offset = view == View::offset ? element : view == View::unaligned ? 1 : 0;
    image.assign(static_cast<size_t>(front + offset + layout.extent * element + (is_output ? guard : 0)), 0xff);
    byte_positions.resize(values.values.size());
    // Row by row: the last axis needs no index.
    const size_t rows = shape.empty() ? 0 : shape.size() - 1;
    const size_t columns = shape.empty() ? 1 : static_cast<size_t>(shape.back());
    const int64_t step = shape.empty() ? 0 : strides.back() * element;
    std::vector<int64_t> index(rows, 0);
    for (size_t at = 0; at < byte_positions.size();) {
        int64_t position = 0;
        for (size_t axis = 0; axis < rows; ++axis)
            position += index[axis] * strides[axis];
        position = front + offset + position * element;
        for (size_t i = 0; i < columns; ++i, position += step)
            byte_positions[at++] = position;
        for (size_t axis = rows; axis-- > 0 && ++index[axis] == shape[axis];)
            index[axis] = 0;
    }
    SSM_CHECK(ssm_allocate(context, image.size(), &memory));
    tensor.data = memory ? static_cast<unsigned char*>(memory) + front : nullptr;
    tensor.device = {static_cast<DLDeviceType>(context.device().type), context.device().id};
    tensor.ndim = static_cast<int32_t>(shape.size());
    tensor.dtype = dlpack_of(type);
    tensor.shape = shape.data();
    tensor.strides = view == View::null_strides ? nullptr : strides.data();
    tensor.byte_offset = static_cast<uint64_t>(offset);
    if (is_output)
        fill_with_nan();
    else
        write(values);
}

Placed::~Placed() {
    ssm_free(context, memory);
}

void Placed::write(const Tensor& values) {
    encode(type, values.values, image.data(), byte_positions);
    upload(context, image.data(), memory, image.size());
}

void Placed::fill_with_nan() {
    std::fill(image.begin(), image.end(), static_cast<unsigned char>(0xff));
    upload(context, image.data(), memory, image.size());
}

bool Placed::is_unchanged() {
    std::vector<unsigned char> now(image.size());
    download(context, memory, now.data(), now.size());
    return now == image;
}

void Placed::check_unchanged() {
    if (!is_unchanged())
        throw std::runtime_error("an input was written");
}

Tensor Placed::take() {
    std::vector<unsigned char> now(image.size());
    download(context, memory, now.data(), now.size());
    Tensor values(type, shape);
    decode(type, now.data(), byte_positions, values.values);
    copy_elements(type, now.data(), byte_positions, image.data());
    if (now != image)
        throw std::runtime_error("a byte outside of the tensor was written");
    return values;
}

// ---- Calls -------------------------------------------------------------------------------------------------------------

namespace {

// The main output, the one that may lie in an input's place.
const char* main_output(Operation operation) {
    switch (operation) {
    case Operation::associative_scan:
    case Operation::selective_scan:
    case Operation::causal_conv:
    case Operation::causal_conv1d:
    case Operation::ssd:
    case Operation::causal_conv1d_update:
    case Operation::selective_state_update:
    case Operation::rms_norm:
    case Operation::gated_rms_norm:
    case Operation::mamba3:
    case Operation::mamba3_update:
    case Operation::dense_ssm:
    case Operation::dplr_ssm:
    case Operation::diagonal_ssm:
        return "y";
    case Operation::diagonal_scan:
        return "x";
    case Operation::rms_norm_backward:
    case Operation::gated_rms_norm_backward:
        return "grad_x";
    case Operation::linear_recurrence:
        return "h";
    default:
        return "";
    }
}

} // namespace

namespace {

// Without the values that no one asks for again.
Problem remembered(const Problem& problem) {
    Problem result;
    static_cast<Settings&>(result) = problem;
    result.views = problem.views;
    result.inplace = problem.inplace;
    const auto shell = [](const Tensor& tensor) {
        Tensor result;
        result.type = tensor.type;
        result.shape = tensor.shape;
        return result;
    };
    for (const auto& [name, tensor] : problem.inputs)
        result.inputs[name] = name == problem.inplace || problem.is_inout(name) ? tensor : shell(tensor);
    for (const auto& [name, tensor] : problem.outputs)
        result.outputs[name] = shell(tensor);
    return result;
}

} // namespace

Call::Call(Context& context, const Problem& problem) : context(context), problem(remembered(problem)) {
    const auto view_of = [&](const std::string& name) {
        const auto found = problem.views.find(name);
        return found == problem.views.end() ? View::compact : found->second;
    };
    for (const auto& [name, tensor] : problem.inputs)
        tensors[name] =
            std::make_unique<Placed>(context, tensor, view_of(name), name == problem.inplace || problem.is_inout(name));
    reset();
    for (const auto& [name, tensor] : problem.outputs) {
        output_names.push_back(name);
        if ((problem.inplace.empty() || name != main_output(problem.operation)) && !problem.is_inout(name))
            tensors[name] = std::make_unique<Placed>(context, tensor, view_of(name), true);
    }
}

namespace {

// What ssd and its gradients take.
template <class Args, class At>
void set_ssd_inputs(Args& args, const Settings& problem, const At& at) {
    args.struct_size = sizeof args;
    args.dt_softplus = problem.dt_softplus;
    args.chunk_size = problem.chunk_size;
    args.dt_min = problem.dt_min;
    args.dt_max = problem.dt_max;
    args.x = at("x");
    args.dt = at("dt");
    args.a = at("a");
    args.b = at("b");
    args.c = at("c");
    args.d = at("d");
    args.z = at("z");
    args.dt_bias = at("dt_bias");
    args.initial_state = at("initial_state");
    args.seq_idx = at("seq_idx");
    args.cu_seqlens = at("cu_seqlens");
}

// What the operations of Mamba-3 take.
template <class Args, class At>
void set_mamba3_inputs(Args& args, const Settings& problem, const At& at) {
    args.struct_size = sizeof args;
    args.dt_softplus = problem.dt_softplus;
    args.x = at("x");
    args.dt = at("dt");
    args.a = at("a");
    args.b = at("b");
    args.c = at("c");
    args.trap = at("trap");
    args.angles = at("angles");
    args.b_bias = at("b_bias");
    args.c_bias = at("c_bias");
    args.d = at("d");
    args.z = at("z");
    args.dt_bias = at("dt_bias");
}
template <class Args, class At>
void set_mamba3_sequence_inputs(Args& args, const Settings& problem, const At& at) {
    set_mamba3_inputs(args, problem, at);
    args.initial_state = at("initial_state");
    args.initial_angle = at("initial_angle");
    args.initial_b = at("initial_b");
    args.initial_x = at("initial_x");
    args.cu_seqlens = at("cu_seqlens");
}

// What the operations of S4 take.
template <class Args, class At>
void set_dense_inputs(Args& args, const Settings& problem, const At& at) {
    args.struct_size = sizeof args;
    args.discretization = problem.discretization;
    args.alpha = problem.alpha;
    args.a = at("a");
    args.b = at("b");
    args.c = at("c");
    args.dt = at("dt");
}
template <class Args, class At>
void set_dplr_inputs(Args& args, const Settings& problem, const At& at) {
    args.struct_size = sizeof args;
    args.conjugate_pairs = problem.conjugate_pairs;
    args.eigenvalues = at("eigenvalues");
    args.p = at("p");
    args.b = at("b");
    args.c = at("c");
    args.dt = at("dt");
}
template <class Args, class At>
void set_recurrence(Args& args, const At& at) {
    args.u = at("u");
    args.d = at("d");
    args.initial_state = at("initial_state");
    args.cu_seqlens = at("cu_seqlens");
    args.y = at("y");
    args.last_state = at("last_state");
}

} // namespace

template <class Run>
int32_t Call::with_args(Run run) {
    const auto at = [&](const char* name) -> const DLTensor* {
        const bool in_place = !problem.inplace.empty() && std::string_view(name) == main_output(problem.operation);
        const auto found = tensors.find(in_place ? std::string_view(problem.inplace) : std::string_view(name));
        return found == tensors.end() ? nullptr : found->second->get();
    };
    switch (problem.operation) {
    case Operation::associative_scan: {
        ssm_associative_scan_args args{};
        args.struct_size = sizeof args;
        args.combine = problem.combine;
        args.reverse = problem.reverse;
        args.exclusive = problem.exclusive;
        args.x = at("x");
        args.initial_state = at("initial_state");
        args.cu_seqlens = at("cu_seqlens");
        args.y = at("y");
        args.last_state = at("last_state");
        return run(ssm_associative_scan, ssm_associative_scan_workspace, args);
    }
    case Operation::linear_recurrence: {
        ssm_linear_recurrence_args args{};
        args.struct_size = sizeof args;
        args.reverse = problem.reverse;
        args.a = at("a");
        args.b = at("b");
        args.initial_state = at("initial_state");
        args.cu_seqlens = at("cu_seqlens");
        args.h = at("h");
        args.last_state = at("last_state");
        return run(ssm_linear_recurrence, ssm_linear_recurrence_workspace, args);
    }
    case Operation::linear_recurrence_backward: {
        ssm_linear_recurrence_backward_args args{};
        args.struct_size = sizeof args;
        args.reverse = problem.reverse;
        args.a = at("a");
        args.b = at("b");
        args.h = at("h");
        args.initial_state = at("initial_state");
        args.cu_seqlens = at("cu_seqlens");
        args.grad_h = at("grad_h");
        args.grad_last_state = at("grad_last_state");
        args.grad_a = at("grad_a");
        args.grad_b = at("grad_b");
        args.grad_initial_state = at("grad_initial_state");
        return run(ssm_linear_recurrence_backward, ssm_linear_recurrence_backward_workspace, args);
    }
    case Operation::selective_scan: {
        ssm_selective_scan_args args{};
        args.struct_size = sizeof args;
        args.dt_softplus = problem.dt_softplus;
        args.u = at("u");
        args.dt = at("dt");
        args.a = at("a");
        args.b = at("b");
        args.c = at("c");
        args.d = at("d");
        args.z = at("z");
        args.dt_bias = at("dt_bias");
        args.initial_state = at("initial_state");
        args.cu_seqlens = at("cu_seqlens");
        args.y = at("y");
        args.last_state = at("last_state");
        args.seq_idx = at("seq_idx");
        return run(ssm_selective_scan, ssm_selective_scan_workspace, args);
    }
    case Operation::causal_conv: {
        ssm_causal_conv_args args{};
        args.struct_size = sizeof args;
        args.u = at("u");
        args.k = at("k");
        args.k_reverse = at("k_reverse");
        args.d = at("d");
        args.pre_gate = at("pre_gate");
        args.post_gate = at("post_gate");
        args.initial_state = at("initial_state");
        args.cu_seqlens = at("cu_seqlens");
        args.spectrum = at("spectrum");
        args.y = at("y");
        args.last_state = at("last_state");
        return run(ssm_causal_conv, ssm_causal_conv_workspace, args);
    }
    case Operation::causal_conv_plan: {
        ssm_causal_conv_plan_args args{};
        args.struct_size = sizeof args;
        args.k = at("k");
        args.k_reverse = at("k_reverse");
        args.spectrum = at("spectrum");
        return run(ssm_causal_conv_plan, ssm_causal_conv_plan_workspace, args);
    }
    case Operation::causal_conv_backward: {
        ssm_causal_conv_backward_args args{};
        args.struct_size = sizeof args;
        args.u = at("u");
        args.k = at("k");
        args.k_reverse = at("k_reverse");
        args.d = at("d");
        args.pre_gate = at("pre_gate");
        args.post_gate = at("post_gate");
        args.initial_state = at("initial_state");
        args.cu_seqlens = at("cu_seqlens");
        args.grad_y = at("grad_y");
        args.grad_last_state = at("grad_last_state");
        args.grad_u = at("grad_u");
        args.grad_k = at("grad_k");
        args.grad_k_reverse = at("grad_k_reverse");
        args.grad_d = at("grad_d");
        args.grad_pre_gate = at("grad_pre_gate");
        args.grad_post_gate = at("grad_post_gate");
        args.grad_initial_state = at("grad_initial_state");
        return run(ssm_causal_conv_backward, ssm_causal_conv_backward_workspace, args);
    }
    case Operation::causal_conv1d: {
        ssm_causal_conv1d_args args{};
        args.struct_size = sizeof args;
        args.activation = problem.silu ? SSM_ACTIVATION_SILU : SSM_ACTIVATION_NONE;
        args.x = at("x");
        args.weight = at("weight");
        args.bias = at("bias");
        args.initial_state = at("initial_state");
        args.cu_seqlens = at("cu_seqlens");
        args.y = at("y");
        args.last_state = at("last_state");
        args.seq_idx = at("seq_idx");
        return run(ssm_causal_conv1d, ssm_causal_conv1d_workspace, args);
    }
    case Operation::causal_conv1d_backward: {
        ssm_causal_conv1d_backward_args args{};
        args.struct_size = sizeof args;
        args.activation = problem.silu ? SSM_ACTIVATION_SILU : SSM_ACTIVATION_NONE;
        args.x = at("x");
        args.weight = at("weight");
        args.bias = at("bias");
        args.initial_state = at("initial_state");
        args.cu_seqlens = at("cu_seqlens");
        args.grad_y = at("grad_y");
        args.grad_last_state = at("grad_last_state");
        args.grad_x = at("grad_x");
        args.grad_weight = at("grad_weight");
        args.grad_bias = at("grad_bias");
        args.grad_initial_state = at("grad_initial_state");
        args.seq_idx = at("seq_idx");
        return run(ssm_causal_conv1d_backward, ssm_causal_conv1d_backward_workspace, args);
    }
    case Operation::selective_scan_backward: {
        ssm_selective_scan_backward_args args{};
        args.struct_size = sizeof args;
        args.dt_softplus = problem.dt_softplus;
        args.u = at("u");
        args.dt = at("dt");
        args.a = at("a");
        args.b = at("b");
        args.c = at("c");
        args.d = at("d");
        args.z = at("z");
        args.dt_bias = at("dt_bias");
        args.initial_state = at("initial_state");
        args.cu_seqlens = at("cu_seqlens");
        args.grad_y = at("grad_y");
        args.grad_last_state = at("grad_last_state");
        args.grad_u = at("grad_u");
        args.grad_dt = at("grad_dt");
        args.grad_a = at("grad_a");
        args.grad_b = at("grad_b");
        args.grad_c = at("grad_c");
        args.grad_d = at("grad_d");
        args.grad_z = at("grad_z");
        args.grad_dt_bias = at("grad_dt_bias");
        args.grad_initial_state = at("grad_initial_state");
        args.seq_idx = at("seq_idx");
        return run(ssm_selective_scan_backward, ssm_selective_scan_backward_workspace, args);
    }
    case Operation::ssd: {
        ssm_ssd_args args{};
        set_ssd_inputs(args, problem, at);
        args.y = at("y");
        args.last_state = at("last_state");
        return run(ssm_ssd, ssm_ssd_workspace, args);
    }
    case Operation::ssd_backward: {
        ssm_ssd_backward_args args{};
        set_ssd_inputs(args, problem, at);
        args.grad_y = at("grad_y");
        args.grad_last_state = at("grad_last_state");
        args.grad_x = at("grad_x");
        args.grad_dt = at("grad_dt");
        args.grad_a = at("grad_a");
        args.grad_b = at("grad_b");
        args.grad_c = at("grad_c");
        args.grad_d = at("grad_d");
        args.grad_z = at("grad_z");
        args.grad_dt_bias = at("grad_dt_bias");
        args.grad_initial_state = at("grad_initial_state");
        return run(ssm_ssd_backward, ssm_ssd_backward_workspace, args);
    }
    case Operation::mamba3: {
        ssm_mamba3_args args{};
        set_mamba3_sequence_inputs(args, problem, at);
        args.y = at("y");
        args.last_state = at("last_state");
        args.last_angle = at("last_angle");
        args.last_b = at("last_b");
        args.last_x = at("last_x");
        return run(ssm_mamba3, ssm_mamba3_workspace, args);
    }
    case Operation::mamba3_backward: {
        ssm_mamba3_backward_args args{};
        set_mamba3_sequence_inputs(args, problem, at);
        args.grad_y = at("grad_y");
        args.grad_last_state = at("grad_last_state");
        args.grad_last_angle = at("grad_last_angle");
        args.grad_last_b = at("grad_last_b");
        args.grad_last_x = at("grad_last_x");
        args.grad_x = at("grad_x");
        args.grad_dt = at("grad_dt");
        args.grad_a = at("grad_a");
        args.grad_b = at("grad_b");
        args.grad_c = at("grad_c");
        args.grad_trap = at("grad_trap");
        args.grad_angles = at("grad_angles");
        args.grad_b_bias = at("grad_b_bias");
        args.grad_c_bias = at("grad_c_bias");
        args.grad_d = at("grad_d");
        args.grad_z = at("grad_z");
        args.grad_dt_bias = at("grad_dt_bias");
        args.grad_initial_state = at("grad_initial_state");
        args.grad_initial_angle = at("grad_initial_angle");
        args.grad_initial_b = at("grad_initial_b");
        args.grad_initial_x = at("grad_initial_x");
        return run(ssm_mamba3_backward, ssm_mamba3_backward_workspace, args);
    }
    case Operation::mamba3_update: {
        ssm_mamba3_update_args args{};
        set_mamba3_inputs(args, problem, at);
        args.state = at("state");
        args.angle_state = at("angle_state");
        args.b_state = at("b_state");
        args.x_state = at("x_state");
        args.slots = at("slots");
        args.y = at("y");
        return run(ssm_mamba3_update, ssm_mamba3_update_workspace, args);
    }
    case Operation::hippo_project: {
        ssm_hippo_project_args args{};
        args.struct_size = sizeof args;
        args.measure = problem.measure;
        args.discretization = problem.discretization;
        args.start = problem.start;
        args.alpha = problem.alpha;
        args.dt = problem.step;
        args.time_before = problem.time_before;
        args.steps_before = problem.steps_before;
        args.f = at("f");
        args.timestamps = at("timestamps");
        args.initial_state = at("initial_state");
        args.coefficients = at("coefficients");
        args.last_state = at("last_state");
        return run(ssm_hippo_project, ssm_hippo_project_workspace, args);
    }
    case Operation::dense_kernel: {
        ssm_dense_kernel_args args{};
        set_dense_inputs(args, problem, at);
        args.k = at("k");
        return run(ssm_dense_kernel, ssm_dense_kernel_workspace, args);
    }
    case Operation::dense_ssm: {
        ssm_dense_ssm_args args{};
        set_dense_inputs(args, problem, at);
        set_recurrence(args, at);
        return run(ssm_dense_ssm, ssm_dense_ssm_workspace, args);
    }
    case Operation::dplr_ssm: {
        ssm_dplr_ssm_args args{};
        set_dplr_inputs(args, problem, at);
        set_recurrence(args, at);
        return run(ssm_dplr_ssm, ssm_dplr_ssm_workspace, args);
    }
    case Operation::dplr_kernel: {
        ssm_dplr_kernel_args args{};
        set_dplr_inputs(args, problem, at);
        args.c_is_tilde = problem.c_is_tilde;
        args.k = at("k");
        return run(ssm_dplr_kernel, ssm_dplr_kernel_workspace, args);
    }
    case Operation::dplr_kernel_backward: {
        ssm_dplr_kernel_backward_args args{};
        set_dplr_inputs(args, problem, at);
        args.c_is_tilde = problem.c_is_tilde;
        args.grad_k = at("grad_k");
        args.grad_eigenvalues = at("grad_eigenvalues");
        args.grad_p = at("grad_p");
        args.grad_b = at("grad_b");
        args.grad_c = at("grad_c");
        args.grad_dt = at("grad_dt");
        return run(ssm_dplr_kernel_backward, ssm_dplr_kernel_backward_workspace, args);
    }
    case Operation::causal_conv1d_update: {
        ssm_causal_conv1d_update_args args{};
        args.struct_size = sizeof args;
        args.activation = problem.silu ? SSM_ACTIVATION_SILU : SSM_ACTIVATION_NONE;
        args.state = at("state");
        args.x = at("x");
        args.weight = at("weight");
        args.bias = at("bias");
        args.slots = at("slots");
        args.cache_seqlens = at("cache_seqlens");
        args.y = at("y");
        return run(ssm_causal_conv1d_update, ssm_causal_conv1d_update_workspace, args);
    }
    case Operation::selective_state_update: {
        ssm_selective_state_update_args args{};
        args.struct_size = sizeof args;
        args.dt_softplus = problem.dt_softplus;
        args.state = at("state");
        args.x = at("x");
        args.dt = at("dt");
        args.a = at("a");
        args.b = at("b");
        args.c = at("c");
        args.d = at("d");
        args.z = at("z");
        args.dt_bias = at("dt_bias");
        args.slots = at("slots");
        args.y = at("y");
        return run(ssm_selective_state_update, ssm_selective_state_update_workspace, args);
    }
    case Operation::rms_norm: {
        ssm_rms_norm_args args{};
        args.struct_size = sizeof args;
        args.eps = problem.eps;
        args.x = at("x");
        args.residual = at("residual");
        args.weight = at("weight");
        args.bias = at("bias");
        args.y = at("y");
        args.residual_out = at("residual_out");
        args.rstd = at("rstd");
        return run(ssm_rms_norm, ssm_rms_norm_workspace, args);
    }
    case Operation::rms_norm_backward: {
        ssm_rms_norm_backward_args args{};
        args.struct_size = sizeof args;
        args.eps = problem.eps;
        args.x = at("x");
        args.weight = at("weight");
        args.rstd = at("rstd");
        args.grad_y = at("grad_y");
        args.grad_residual_out = at("grad_residual_out");
        args.grad_x = at("grad_x");
        args.grad_residual = at("grad_residual");
        args.grad_weight = at("grad_weight");
        args.grad_bias = at("grad_bias");
        return run(ssm_rms_norm_backward, ssm_rms_norm_backward_workspace, args);
    }
    case Operation::gated_rms_norm: {
        ssm_gated_rms_norm_args args{};
        args.struct_size = sizeof args;
        args.norm_before_gate = problem.norm_before_gate;
        args.group_size = problem.group_size;
        args.eps = problem.eps;
        args.x = at("x");
        args.z = at("z");
        args.weight = at("weight");
        args.bias = at("bias");
        args.y = at("y");
        args.rstd = at("rstd");
        return run(ssm_gated_rms_norm, ssm_gated_rms_norm_workspace, args);
    }
    case Operation::gated_rms_norm_backward: {
        ssm_gated_rms_norm_backward_args args{};
        args.struct_size = sizeof args;
        args.norm_before_gate = problem.norm_before_gate;
        args.group_size = problem.group_size;
        args.eps = problem.eps;
        args.x = at("x");
        args.z = at("z");
        args.weight = at("weight");
        args.bias = at("bias");
        args.rstd = at("rstd");
        args.grad_y = at("grad_y");
        args.grad_x = at("grad_x");
        args.grad_z = at("grad_z");
        args.grad_weight = at("grad_weight");
        args.grad_bias = at("grad_bias");
        return run(ssm_gated_rms_norm_backward, ssm_gated_rms_norm_backward_workspace, args);
    }
    case Operation::cauchy_multiply: {
        ssm_cauchy_multiply_args args{};
        args.struct_size = sizeof args;
        args.conjugate_pairs = problem.conjugate_pairs;
        args.v = at("v");
        args.w = at("w");
        args.z = at("z");
        args.y = at("y");
        return run(ssm_cauchy_multiply, ssm_cauchy_multiply_workspace, args);
    }
    case Operation::cauchy_multiply_backward: {
        ssm_cauchy_multiply_backward_args args{};
        args.struct_size = sizeof args;
        args.conjugate_pairs = problem.conjugate_pairs;
        args.v = at("v");
        args.w = at("w");
        args.z = at("z");
        args.grad_y = at("grad_y");
        args.grad_v = at("grad_v");
        args.grad_w = at("grad_w");
        return run(ssm_cauchy_multiply_backward, ssm_cauchy_multiply_backward_workspace, args);
    }
    case Operation::vandermonde_multiply: {
        ssm_vandermonde_multiply_args args{};
        args.struct_size = sizeof args;
        args.conjugate_pairs = problem.conjugate_pairs;
        args.v = at("v");
        args.x = at("x");
        args.y = at("y");
        return run(ssm_vandermonde_multiply, ssm_vandermonde_multiply_workspace, args);
    }
    case Operation::vandermonde_multiply_backward: {
        ssm_vandermonde_multiply_backward_args args{};
        args.struct_size = sizeof args;
        args.conjugate_pairs = problem.conjugate_pairs;
        args.v = at("v");
        args.x = at("x");
        args.grad_y = at("grad_y");
        args.grad_v = at("grad_v");
        args.grad_x = at("grad_x");
        return run(ssm_vandermonde_multiply_backward, ssm_vandermonde_multiply_backward_workspace, args);
    }
    case Operation::discretize_diagonal: {
        ssm_discretize_diagonal_args args{};
        args.struct_size = sizeof args;
        args.discretization = problem.discretization;
        args.alpha = problem.alpha;
        args.a = at("a");
        args.b = at("b");
        args.dt = at("dt");
        args.interval = at("interval");
        args.a_bar = at("a_bar");
        args.b_bar = at("b_bar");
        return run(ssm_discretize_diagonal, ssm_discretize_diagonal_workspace, args);
    }
    case Operation::diagonal_kernel: {
        ssm_diagonal_kernel_args args{};
        args.struct_size = sizeof args;
        args.discretization = problem.discretization;
        args.softmax = problem.softmax;
        args.alpha = problem.alpha;
        args.a = at("a");
        args.b = at("b");
        args.c = at("c");
        args.dt = at("dt");
        args.k = at("k");
        return run(ssm_diagonal_kernel, ssm_diagonal_kernel_workspace, args);
    }
    case Operation::diagonal_kernel_backward: {
        ssm_diagonal_kernel_backward_args args{};
        args.struct_size = sizeof args;
        args.discretization = problem.discretization;
        args.softmax = problem.softmax;
        args.alpha = problem.alpha;
        args.a = at("a");
        args.b = at("b");
        args.c = at("c");
        args.dt = at("dt");
        args.grad_k = at("grad_k");
        args.grad_a = at("grad_a");
        args.grad_b = at("grad_b");
        args.grad_c = at("grad_c");
        args.grad_dt = at("grad_dt");
        return run(ssm_diagonal_kernel_backward, ssm_diagonal_kernel_backward_workspace, args);
    }
    case Operation::diagonal_ssm: {
        ssm_diagonal_ssm_args args{};
        args.struct_size = sizeof args;
        args.discretization = problem.discretization;
        args.alpha = problem.alpha;
        args.a = at("a");
        args.b = at("b");
        args.c = at("c");
        args.dt = at("dt");
        args.u = at("u");
        args.d = at("d");
        args.initial_state = at("initial_state");
        args.cu_seqlens = at("cu_seqlens");
        args.y = at("y");
        args.last_state = at("last_state");
        return run(ssm_diagonal_ssm, ssm_diagonal_ssm_workspace, args);
    }
    case Operation::diagonal_ssm_backward: {
        ssm_diagonal_ssm_backward_args args{};
        args.struct_size = sizeof args;
        args.discretization = problem.discretization;
        args.alpha = problem.alpha;
        args.a = at("a");
        args.b = at("b");
        args.c = at("c");
        args.dt = at("dt");
        args.u = at("u");
        args.d = at("d");
        args.initial_state = at("initial_state");
        args.cu_seqlens = at("cu_seqlens");
        args.grad_y = at("grad_y");
        args.grad_last_state = at("grad_last_state");
        args.grad_u = at("grad_u");
        args.grad_a = at("grad_a");
        args.grad_b = at("grad_b");
        args.grad_c = at("grad_c");
        args.grad_dt = at("grad_dt");
        args.grad_d = at("grad_d");
        args.grad_initial_state = at("grad_initial_state");
        return run(ssm_diagonal_ssm_backward, ssm_diagonal_ssm_backward_workspace, args);
    }
    case Operation::diagonal_scan: {
        ssm_diagonal_scan_args args{};
        args.struct_size = sizeof args;
        args.discretization = problem.discretization;
        args.reverse = problem.reverse;
        args.alpha = problem.alpha;
        args.a = at("a");
        args.dt = at("dt");
        args.bu = at("bu");
        args.interval = at("interval");
        args.initial_state = at("initial_state");
        args.cu_seqlens = at("cu_seqlens");
        args.x = at("x");
        args.last_state = at("last_state");
        args.x_reverse = at("x_reverse");
        return run(ssm_diagonal_scan, ssm_diagonal_scan_workspace, args);
    }
    }
    return SSM_ERROR_INTERNAL;
}

int32_t Call::run() {
    return with_args([&](auto operation, auto, const auto& args) { return operation(context, &args); });
}

int32_t Call::query_workspace(uint64_t* bytes) {
    return with_args([&](auto, auto workspace, const auto& args) { return workspace(context, &args, bytes); });
}

Outputs Call::take() {
    SSM_CHECK(ssm_context_synchronize(context));
    Outputs outputs;
    for (const std::string& name : output_names) {
        const bool in_place = !problem.inplace.empty() && name == main_output(problem.operation);
        outputs[name] = tensors.at(in_place ? problem.inplace : name)->take();
    }
    for (const auto& [name, tensor] : problem.inputs)
        if (name != problem.inplace && !problem.is_inout(name))
            tensors.at(name)->check_unchanged();
    return outputs;
}

void Call::check_nothing_written() {
    SSM_CHECK(ssm_context_synchronize(context));
    for (const auto& [name, tensor] : tensors)
        if (!tensor->is_unchanged())
            throw std::runtime_error(name + " was written by a call that failed: " + problem.describe());
}

void Call::refill(const Problem& other) {
    for (const auto& [name, tensor] : other.inputs)
        tensors.at(name)->write(tensor);
    for (auto& [name, tensor] : problem.inputs)
        if (!tensor.values.empty())
            tensor = other.inputs.at(name);
}

void Call::reset() {
    for (const auto& [name, tensor] : problem.inputs)
        if (name == problem.inplace || problem.is_inout(name))
            tensors.at(name)->write(tensor);
}

void Call::clear_outputs() {
    for (const std::string& name : output_names)
        if ((problem.inplace.empty() || name != main_output(problem.operation)) && !problem.is_inout(name))
            tensors.at(name)->fill_with_nan();
}

Outputs run(Context& context, const Problem& problem) {
    Call call(context, problem);
    check(call.run(), problem.describe().c_str());
    return call.take();
}

// ---- Parts -------------------------------------------------------------------------------------------------------------

bool is_sequence(const std::string& name, const Tensor& tensor) {
    return tensor.shape.size() >= 3 && name.find("state") == std::string::npos;
}

bool is_parameter(const std::string& name, const Tensor& tensor) {
    return tensor.shape.size() < 3 && name.find("state") == std::string::npos && name != "cu_seqlens";
}

int64_t length_of(const Problem& problem) {
    for (const auto& [name, tensor] : problem.inputs)
        if (is_sequence(name, tensor))
            return tensor.shape.back();
    throw std::logic_error("a problem without a sequence");
}

int time_axis(const Problem& problem, const std::string& name, const Tensor& tensor) {
    const bool has_heads = problem.operation == Operation::ssd || problem.operation == Operation::ssd_backward;
    if (!is_sequence(name, tensor) && name != "seq_idx")
        return -1;
    return has_heads ? 1 : static_cast<int>(tensor.shape.size()) - 1;
}

Tensor slice(const Tensor& tensor, int axis, int64_t from, int64_t to) {
    std::vector<int64_t> shape = tensor.shape;
    const int64_t length = shape[axis];
    int64_t outer = 1, inner = 1;
    for (int i = 0; i < static_cast<int>(shape.size()); ++i)
        (i < axis ? outer : inner) *= i == axis ? 1 : shape[i];
    shape[axis] = to - from;
    Tensor result(tensor.type, shape);
    for (int64_t i = 0; i < outer; ++i)
        std::copy_n(tensor.values.begin() + (i * length + from) * inner, (to - from) * inner,
                    result.values.begin() + i * (to - from) * inner);
    return result;
}

Tensor slice_time(const Tensor& tensor, int64_t from, int64_t to) {
    return slice(tensor, static_cast<int>(tensor.shape.size()) - 1, from, to);
}

Tensor flip_time(const Tensor& tensor) {
    Tensor result = tensor;
    const int64_t length = tensor.shape.back();
    for (int64_t row = 0; length && row < tensor.size() / length; ++row)
        std::reverse(result.values.begin() + row * length, result.values.begin() + (row + 1) * length);
    return result;
}

Tensor row_of(const Tensor& tensor, int64_t row) {
    std::vector<int64_t> shape = tensor.shape;
    const int64_t size = tensor.size() / shape[0];
    shape[0] = 1;
    Tensor result(tensor.type, shape);
    std::copy_n(tensor.values.begin() + row * size, size, result.values.begin());
    return result;
}

Tensor concatenate(const std::vector<Tensor>& parts, int axis) {
    std::vector<int64_t> shape = parts.at(0).shape;
    shape[axis] = 0;
    int64_t outer = 1, inner = 1;
    for (int i = 0; i < static_cast<int>(shape.size()); ++i)
        (i < axis ? outer : inner) *= i == axis ? 1 : shape[i];
    for (const Tensor& part : parts)
        shape[axis] += part.shape[axis];
    Tensor result(parts[0].type, shape);
    auto to = result.values.begin();
    for (int64_t i = 0; i < outer; ++i)
        for (const Tensor& part : parts)
            to = std::copy_n(part.values.begin() + i * part.shape[axis] * inner, part.shape[axis] * inner, to);
    return result;
}

Tensor sum_of(const std::vector<Tensor>& parts) {
    Tensor result = parts.at(0);
    for (size_t i = 1; i < parts.size(); ++i)
        for (int64_t k = 0; k < result.size(); ++k)
            result.values[k] += parts[i].values[k];
    return result;
}

Problem slice_time(const Problem& problem, int64_t from, int64_t to) {
    Problem part = problem;
    for (auto* tensors : {&part.inputs, &part.outputs})
        for (auto& [name, tensor] : *tensors)
            if (const int axis = time_axis(problem, name, tensor); axis >= 0)
                tensor = slice(tensor, axis, from, to);
    return part;
}

} // namespace ssm::test
