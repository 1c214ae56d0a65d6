#include "core/plan.h"

#include "core/strided.h"

#include <cstring>

namespace ssm {
namespace {

constexpr uint64_t alignment = 256;

uint64_t round_up(uint64_t bytes) {
    return (bytes + alignment - 1) / alignment * alignment;
}

// The dimension whose stride is 1 in a layout.
int contiguous_axis(int32_t rank, Layout layout) {
    if (layout == Layout::time_contiguous)
        return rank - 1;
    return rank == state_sequence_rank ? 2 : 1;
}

bool fits(const Tensor& tensor, Layout layout) {
    const int axis = contiguous_axis(tensor.rank, layout);
    return tensor.is_aligned() && (tensor.shape[axis] == 1 || tensor.strides[axis] == 1);
}

// The dimensions of a packed tensor from the outermost to the contiguous one.
void packed_order(int32_t rank, Layout layout, int* order) {
    static constexpr int time_last[] = {0, 1, 2, 3};
    static constexpr int channel_last[] = {0, 2, 1};
    static constexpr int state_last[] = {0, 3, 1, 2};
    const int* from = layout == Layout::time_contiguous ? time_last : rank == sequence_rank ? channel_last : state_last;
    std::memcpy(order, from, sizeof(int) * static_cast<size_t>(rank));
}

void set_packed_strides(int32_t rank, const int64_t* shape, const int* order, int64_t* strides) {
    int64_t stride = 1;
    for (int i = rank - 1; i >= 0; --i) {
        strides[order[i]] = stride;
        stride *= shape[order[i]];
    }
}

// The strides a backend sees of a tensor that fits. Where a dimension has one index its stride is free: it becomes what
// lets the dimensions beside it run on, so that backends that merge dimensions by their strides can.
void set_strides_in_place(const Tensor& tensor, Layout layout, int64_t* strides) {
    int order[state_sequence_rank];
    packed_order(tensor.rank, layout, order);
    std::memcpy(strides, tensor.strides, sizeof(int64_t) * static_cast<size_t>(tensor.rank));
    const int last = tensor.rank - 1;
    strides[order[last]] = 1;
    // From the inside out; a free one between two others takes the outer one's stride, an outermost one the run below it.
    for (int i = last - 1; i >= 0; --i) {
        if (tensor.shape[order[i]] != 1)
            continue;
        int outer = i - 1;
        while (outer >= 0 && tensor.shape[order[outer]] == 1)
            --outer;
        strides[order[i]] = outer >= 0 ? tensor.strides[order[outer]] : strides[order[i + 1]] * tensor.shape[order[i + 1]];
    }
}

void set_address(void* target, const void* address) {
    std::memcpy(target, &address, sizeof(address));
}

} // namespace

Layout choose_layout(std::initializer_list<const Tensor*> sequences) {
    int64_t time_bytes = 0, channel_bytes = 0; // packed with either layout
    bool is_one_step = true;
    for (const Tensor* tensor : sequences) {
        if (!*tensor)
            continue;
        if (!fits(*tensor, Layout::time_contiguous))
            time_bytes += tensor->bytes();
        if (!fits(*tensor, Layout::channel_contiguous))
            channel_bytes += tensor->bytes();
        is_one_step &= tensor->shape[tensor->rank - 1] == 1;
    }
    if (time_bytes != channel_bytes) {
        return time_bytes < channel_bytes ? Layout::time_contiguous : Layout::channel_contiguous;
    }
    // One step has nothing to run along in time.
    return is_one_step ? Layout::channel_contiguous : Layout::time_contiguous;
}

Plan::Buffer& Plan::reserve(void* target, const Tensor* tensor, int64_t size) {
    if (count == max_buffers)
        fail(SSM_ERROR_INTERNAL, "too many packed tensors in one call");
    Buffer& buffer = buffers[count++];
    buffer.target = target;
    buffer.tensor = tensor;
    buffer.offset = packed_bytes;
    buffer.data = nullptr;
    packed_bytes += round_up(static_cast<uint64_t>(size));
    set_address(target, unknown_address);
    return buffer;
}

void Plan::add(Sequence& target, const Tensor& tensor, Layout layout) {
    target = Sequence{};
    if (!tensor)
        return;
    int64_t strides[sequence_rank];
    if (fits(tensor, layout)) {
        set_strides_in_place(tensor, layout, strides);
        target.data = tensor.data ? tensor.data : unknown_address;
    } else {
        Buffer& buffer = reserve(&target.data, &tensor, tensor.bytes());
        int order[sequence_rank];
        packed_order(sequence_rank, layout, order);
        set_packed_strides(sequence_rank, tensor.shape, order, buffer.strides);
        std::memcpy(strides, buffer.strides, sizeof(strides));
    }
    target.batch_stride = strides[0];
    target.channel_stride = strides[1];
    target.time_stride = strides[2];
}

void Plan::add(StateSequence& target, const Tensor& tensor, Layout layout) {
    target = StateSequence{};
    if (!tensor)
        return;
    if (tensor.rank != state_sequence_rank) {
        target.is_constant = true;
        return add_compact_at(&target.data, tensor);
    }
    int64_t strides[state_sequence_rank];
    if (fits(tensor, layout)) {
        set_strides_in_place(tensor, layout, strides);
        target.data = tensor.data ? tensor.data : unknown_address;
    } else {
        Buffer& buffer = reserve(&target.data, &tensor, tensor.bytes());
        int order[state_sequence_rank];
        packed_order(state_sequence_rank, layout, order);
        set_packed_strides(state_sequence_rank, tensor.shape, order, buffer.strides);
        std::memcpy(strides, buffer.strides, sizeof(strides));
    }
    target.batch_stride = strides[0];
    target.group_stride = strides[1];
    target.state_stride = strides[2];
    target.time_stride = strides[3];
}

void Plan::add_compact_at(void* target, const Tensor& tensor) {
    if (!tensor)
        return set_address(target, nullptr);
    if (tensor.is_compact() && tensor.is_aligned()) {
        return set_address(target, tensor.data ? tensor.data : unknown_address);
    }
    Buffer& buffer = reserve(target, &tensor, tensor.bytes());
    int order[max_rank];
    for (int i = 0; i < tensor.rank; ++i)
        order[i] = i;
    set_packed_strides(tensor.rank, tensor.shape, order, buffer.strides);
}

void Plan::add_compact(const void*& target, const Tensor& tensor) {
    add_compact_at(&target, tensor);
}
void Plan::add_compact(void*& target, const Tensor& tensor) {
    add_compact_at(&target, tensor);
}
void Plan::add_compact(const int32_t*& target, const Tensor& tensor) {
    add_compact_at(&target, tensor);
}
const int64_t* Plan::add_strided(void*& target, const Tensor& tensor, bool is_last_unit) {
    target = nullptr;
    if (!tensor)
        return nullptr;
    const int last = tensor.rank - 1;
    if (tensor.is_aligned() && (!is_last_unit || tensor.shape[last] == 1 || tensor.strides[last] == 1)) {
        target = tensor.data ? tensor.data : unknown_address;
        return tensor.strides;
    }
    Buffer& buffer = reserve(&target, &tensor, tensor.bytes());
    int order[max_rank];
    for (int i = 0; i < tensor.rank; ++i)
        order[i] = i;
    set_packed_strides(tensor.rank, tensor.shape, order, buffer.strides);
    return buffer.strides;
}
void Plan::add_cu_seqlens(const int64_t*& target, const Tensor& tensor) {
    add_compact_at(&target, tensor);
}

void Plan::add_scratch(Sequence& target, const SequenceShape& shape, DataType type) {
    const int64_t extents[sequence_rank] = {shape.batch, shape.channels, shape.length};
    reserve(&target.data, nullptr, shape.batch * shape.channels * shape.length * size_of(type));
    int order[sequence_rank];
    int64_t strides[sequence_rank];
    packed_order(sequence_rank, shape.layout, order);
    set_packed_strides(sequence_rank, extents, order, strides);
    target.batch_stride = strides[0];
    target.channel_stride = strides[1];
    target.time_stride = strides[2];
}

Workspace Plan::place(char* base, uint64_t own) {
    for (int i = 0; i < count; ++i) {
        buffers[i].data = base + buffers[i].offset;
        set_address(buffers[i].target, buffers[i].data);
    }
    return {own ? base + packed_bytes : nullptr, own};
}

void Plan::pack(ssm_context& context) const {
    for (int i = 0; i < count; ++i) {
        const Buffer& buffer = buffers[i];
        if (!buffer.tensor || (buffer.tensor->is_output && !buffer.tensor->is_inout))
            continue;
        const Tensor& tensor = *buffer.tensor;
        context.enqueue(context.backend.strided_copy,
                        plan_copy(tensor.rank, tensor.shape, tensor.element_size, {tensor.data, tensor.strides},
                                  {buffer.data, buffer.strides}));
    }
}

void Plan::unpack(ssm_context& context) const {
    for (int i = 0; i < count; ++i) {
        const Buffer& buffer = buffers[i];
        if (!buffer.tensor || !buffer.tensor->is_output)
            continue;
        const Tensor& tensor = *buffer.tensor;
        context.enqueue(context.backend.strided_copy,
                        plan_copy(tensor.rank, tensor.shape, tensor.element_size, {buffer.data, buffer.strides},
                                  {tensor.data, tensor.strides}));
    }
}

namespace {

// Room for the value that a fill spreads.
constexpr uint64_t fill_bytes = alignment;

bool is_fill(const Tensor& initial_state, const Tensor& last_state) {
    return last_state.count > 0 && !initial_state;
}

// The value is made on the device out of bytes, because a copy from host memory would not be legal in a capture.
char* make_value(ssm_context& context, const void* value, int64_t size) {
    char* place = context.workspace(fill_bytes);
    const auto set = [&](char* to, int32_t byte, uint64_t bytes) {
        context.enqueue([=, set = context.backend.set](BackendContext* own) { return set(own, to, byte, bytes); });
    };
    set(place, 0, static_cast<uint64_t>(size));
    if (!value)
        return place;
    const unsigned char* bytes = static_cast<const unsigned char*>(value);
    for (int64_t i = 0; i < size; ++i) {
        if (bytes[i] != 0)
            set(place + i, bytes[i], 1);
    }
    return place;
}

} // namespace

void pass_state_on(ssm_context& context, const Tensor& initial_state, const Tensor& last_state, const void* identity) {
    if (last_state.count == 0)
        return;
    static constexpr int64_t no_strides[max_rank] = {};
    StridedSide source{initial_state.data, initial_state.strides};
    if (is_fill(initial_state, last_state)) {
        source = {make_value(context, identity, last_state.element_size), no_strides};
    }
    context.enqueue(context.backend.strided_copy, plan_copy(last_state.rank, last_state.shape, last_state.element_size,
                                                            source, {last_state.data, last_state.strides}));
}

uint64_t pass_state_on_workspace(const Tensor& initial_state, const Tensor& last_state) {
    return is_fill(initial_state, last_state) ? fill_bytes : 0;
}

} // namespace ssm
