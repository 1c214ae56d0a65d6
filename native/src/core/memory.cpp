// Device and host memory.
#include "core/arguments.h"
#include "core/context.h"

using namespace ssm;

extern "C" int32_t ssm_allocate(ssm_context* context, uint64_t bytes, void** pointer) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        void*& answer = required_pointer("pointer", "a pointer", pointer);
        answer = nullptr;
        self.expect_no_capture("ssm_allocate");
        if (bytes != 0)
            self.call(self.backend.allocate, bytes, &answer);
    });
}

// Freeing is tried even after a fault: the memory of a synchronous device is still there to be given back.
extern "C" int32_t ssm_free(ssm_context* context, void* pointer) {
    return guarded([&] {
        ssm_context& self = required_pointer("context", "a context", context);
        self.release(self.backend.free, pointer);
        ssm_context::enter(context);
    });
}

extern "C" int32_t ssm_host_allocate(ssm_context* context, uint64_t bytes, void** pointer) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        void*& answer = required_pointer("pointer", "a pointer", pointer);
        answer = nullptr;
        self.expect_no_capture("ssm_host_allocate");
        if (bytes != 0)
            self.call(self.backend.host_allocate, bytes, &answer);
    });
}

extern "C" int32_t ssm_host_free(ssm_context* context, void* pointer) {
    return guarded([&] {
        ssm_context& self = required_pointer("context", "a context", context);
        self.release(self.backend.host_free, pointer);
        ssm_context::enter(context);
    });
}

extern "C" int32_t ssm_set(ssm_context* context, const DLTensor* destination, int32_t value) {
    return guarded([&] {
        ssm_context& self = ssm_context::enter(context);
        Contract contract(self, Purpose::run);
        const Tensor& tensor = contract.output("destination", destination);
        if (value < -128 || value > 255)
            fail_argument("value", "-128 to 255", std::to_string(value));
        if (!tensor.is_compact()) {
            fail_argument("destination", "compact strides for shape " + text_of_shape(tensor.shape, tensor.rank),
                          text_of_shape(tensor.strides, tensor.rank));
        }
        if (tensor.count == 0)
            return;
        self.enqueue([set = self.backend.set, data = tensor.data, bytes = static_cast<uint64_t>(tensor.bytes()),
                      value](BackendContext* own) { return set(own, data, value, bytes); });
    });
}
