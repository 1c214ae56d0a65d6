// ssm_copy: between any two tensors of one dtype and shape, on the device or the host.
#include "core/arguments.h"
#include "core/context.h"
#include "core/strided.h"

#include <cstring>

using namespace ssm;

namespace {

constexpr const char* not_in_capture = "ssm_copy: a copy from or to the host is not legal during a capture";

// A host tensor is one that is not on the device; which host memory it is (pageable or page-locked) the backend sees.
bool is_on_host(const char* name, const ssm_context& context, const DLTensor& tensor) {
    if (context.is_on_device(tensor))
        return false;
    const int32_t type = device_type_of(tensor);
    if (type == kDLCPU || type == kDLCUDAHost)
        return true;
    context.expect_device(name, tensor); // fails
    return false;
}

StridedCopyParams plan(const Tensor& shape, const void* source, const int64_t* source_strides, void* destination,
                       const int64_t* destination_strides) {
    return plan_copy(shape.rank, shape.shape, shape.element_size, {source, source_strides},
                     {destination, destination_strides});
}

// Row-major strides for the tensor's shape.
struct CompactStrides {
    int64_t strides[max_rank];

    explicit CompactStrides(const Tensor& tensor) {
        int64_t stride = 1;
        for (int32_t i = tensor.rank - 1; i >= 0; --i) {
            strides[i] = stride;
            stride *= tensor.shape[i];
        }
    }
};

void copy_on_device(ssm_context& context, const Tensor& source, const Tensor& destination) {
    const StridedCopyParams copy = plan(source, source.data, source.strides, destination.data, destination.strides);
    if (!is_plain(copy))
        return context.enqueue(context.backend.strided_copy, copy);
    context.enqueue([function = context.backend.copy, to = destination.data, from = source.data,
                     bytes = static_cast<uint64_t>(source.bytes())](BackendContext* own) {
        return function(own, to, from, bytes, CopyKind::device_to_device);
    });
}

// Both sides meet in the row-major order: what is not compact on the host is packed there, what is not compact on the
// device goes through the workspace.
void copy_to_device(ssm_context& context, const Tensor& source, const Tensor& destination) {
    const uint64_t bytes = static_cast<uint64_t>(source.bytes());
    const CompactStrides compact(source);
    std::unique_ptr<char[]> packed;
    const char* from = source.data;
    if (!source.is_compact()) {
        packed.reset(new char[bytes]);
        copy_on_host(plan(source, source.data, source.strides, packed.get(), compact.strides));
        from = packed.get();
    }
    char* to = destination.is_compact() ? destination.data : context.workspace(bytes);
    context.call(context.backend.copy, static_cast<void*>(to), static_cast<const void*>(from), bytes,
                 CopyKind::host_to_device);
    if (to != destination.data) {
        const StridedCopyParams unpack = plan(source, to, compact.strides, destination.data, destination.strides);
        context.call(context.backend.strided_copy, &unpack);
    }
    if (packed)
        context.call(context.backend.synchronize); // before it goes
}

void copy_to_host(ssm_context& context, const Tensor& source, const Tensor& destination) {
    const uint64_t bytes = static_cast<uint64_t>(source.bytes());
    const CompactStrides compact(source);
    const char* from = source.data;
    if (!source.is_compact()) {
        char* staging = context.workspace(bytes);
        const StridedCopyParams pack = plan(source, source.data, source.strides, staging, compact.strides);
        context.call(context.backend.strided_copy, &pack);
        from = staging;
    }
    std::unique_ptr<char[]> packed;
    if (!destination.is_compact())
        packed.reset(new char[bytes]);
    char* to = packed ? packed.get() : destination.data;
    context.call(context.backend.copy, static_cast<void*>(to), static_cast<const void*>(from), bytes,
                 CopyKind::device_to_host);
    if (packed) {
        context.call(context.backend.synchronize);
        copy_on_host(plan(source, packed.get(), compact.strides, destination.data, destination.strides));
    }
}

} // namespace

extern "C" int32_t ssm_copy(ssm_context* context, const DLTensor* source, const DLTensor* destination) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        Tensor from, to;
        make_view(from, "source", &required_pointer("source", "a tensor", source), false, Purpose::run);
        make_view(to, "destination", &required_pointer("destination", "a tensor", destination), true, Purpose::run);
        const bool from_host = is_on_host("source", self, *source), to_host = is_on_host("destination", self, *destination);
        if (std::memcmp(&from.dtype, &to.dtype, sizeof(from.dtype)) != 0) {
            fail_argument("destination", name_of(from.dtype), name_of(to.dtype));
        }
        if (!from.has_same_shape(to)) {
            fail_argument("destination", "shape " + text_of_shape(from.shape, from.rank), text_of_shape(to.shape, to.rank));
        }
        if (from.count == 0)
            return;
        expect_apart(to);
        expect_apart(to, from);
        if (from_host || to_host) {
            if (self.is_capturing())
                fail(SSM_ERROR_INVALID_STATE, not_in_capture);
        }
        if (!from_host && !to_host) {
            copy_on_device(self, from, to);
        } else if (from_host && to_host) {
            self.call(self.backend.synchronize); // what is queued may still use either
            copy_on_host(plan(from, from.data, from.strides, to.data, to.strides));
        } else if (from_host) {
            copy_to_device(self, from, to);
        } else {
            copy_to_host(self, from, to);
        }
    });
}
