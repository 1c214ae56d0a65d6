// Every argument that is wrong is named, with what was expected and what was given.
#include "core_support.h"
#include "support/device.h"

#include <thread>

namespace ssm::core_test {
namespace {

// A linear recurrence of (2,3,4), right in everything; tests break one thing each.
struct Recurrence {
    Context context;
    std::vector<float> memory = std::vector<float>(1024);
    View a{memory.data(), float32, {2, 3, 4}};
    View b{memory.data() + 32, float32, {2, 3, 4}};
    View h{memory.data() + 64, float32, {2, 3, 4}};
    View initial_state{memory.data() + 96, float32, {2, 3}};
    View last_state{memory.data() + 128, float32, {2, 3}};
    ssm_linear_recurrence_args args = make_args<ssm_linear_recurrence_args>();

    Recurrence() {
        args.a = a;
        args.b = b;
        args.h = h;
        args.initial_state = initial_state;
        args.last_state = last_state;
    }
    int32_t run() { return ssm_linear_recurrence(context, &args); }
    int32_t query(uint64_t* bytes) { return ssm_linear_recurrence_workspace(context, &args, bytes); }
};

TEST(CoreArguments, RightOnesPass) {
    Recurrence call;
    EXPECT_SUCCESS(call.run());
    uint64_t bytes;
    EXPECT_SUCCESS(call.query(&bytes));
}

TEST(CoreArguments, Null) {
    Recurrence call;
    EXPECT_INVALID("context: a context expected, NULL given", ssm_linear_recurrence(nullptr, &call.args));
    EXPECT_INVALID("args: an argument struct expected, NULL given", ssm_linear_recurrence(call.context, nullptr));
    EXPECT_INVALID("bytes: a pointer expected, NULL given", call.query(nullptr));
    call.args.b = nullptr;
    EXPECT_INVALID("b: a tensor expected, NULL given", call.run());
}

TEST(CoreArguments, Data) {
    Recurrence call;
    call.b.tensor.data = nullptr;
    EXPECT_INVALID("b: data expected, NULL given", call.run());
    uint64_t bytes;
    EXPECT_SUCCESS(call.query(&bytes)); // a query touches no data
    call.b.tensor.data = call.memory.data();
    call.b.tensor.byte_offset = ~uint64_t{0};
    EXPECT_INVALID("b: a byte_offset inside the address space expected, 18446744073709551615 given", call.run());
    call.b.tensor.byte_offset = 0;
    call.b.tensor.shape = nullptr;
    EXPECT_INVALID("b: a shape expected, NULL given", call.run());
}

TEST(CoreArguments, Type) {
    Recurrence call;
    call.b.tensor.dtype = float64;
    EXPECT_INVALID("b: float32 expected, float64 given", call.run());
    call.b.tensor.dtype = {kDLBfloat, 32, 1};
    EXPECT_INVALID("b: float32 expected, bfloat32 given", call.run());
    call.b.tensor.dtype = {kDLFloat, 32, 4};
    EXPECT_INVALID("b: 1 lane expected, 4 given", call.run());
    call.b.tensor.dtype = {kDLInt, 4, 1};
    EXPECT_INVALID("b: elements of 8, 16, 32, 64 or 128 bits expected, int4 given", call.run());
    call.b.tensor.dtype = float32;
    call.a.tensor.dtype = int32;
    EXPECT_INVALID("a: float32, float64, complex64, complex128, float16 or bfloat16 expected, int32 given", call.run());
    call.a.tensor.dtype = call.b.tensor.dtype = call.h.tensor.dtype = float16;
    EXPECT_SUCCESS(call.run()); // states stay float32
    call.last_state.tensor.dtype = float16;
    EXPECT_INVALID("last_state: float32 expected, float16 given", call.run());
}

TEST(CoreArguments, Shape) {
    Recurrence call;
    call.b.shape[2] = 5;
    EXPECT_INVALID("b: shape (2,3,4) expected, (2,3,5) given", call.run());
    call.b.tensor.ndim = 2;
    EXPECT_INVALID("b: shape (2,3,4) expected, (2,3) given", call.run());
    call.b.tensor.ndim = 9;
    EXPECT_INVALID("b: rank 0 to 8 expected, 9 given", call.run());
    call.b.tensor.ndim = -1;
    EXPECT_INVALID("b: rank 0 to 8 expected, -1 given", call.run());
    call.b.tensor.ndim = 3;
    call.b.shape[2] = -4;
    EXPECT_INVALID("b: a shape without negative numbers expected, (2,3,-4) given", call.run());
    call.b.shape[2] = 4;
    call.a.tensor.ndim = 2;
    EXPECT_INVALID("a: rank 3 expected, shape (2,3) given", call.run());
    call.a.tensor.ndim = 3;
    call.initial_state.shape[0] = 1;
    EXPECT_INVALID("initial_state: shape (2,3) expected, (1,3) given", call.run());
}

TEST(CoreArguments, Strides) {
    Recurrence call;
    call.b.strides = {12, 4, -1};
    call.b.tensor.strides = call.b.strides.data();
    EXPECT_INVALID("b: non-negative strides expected, (12,4,-1) given", call.run());
    call.b.strides = {int64_t{1} << 55, 4, 1};
    EXPECT_INVALID("b: strides that span less than 2^56 bytes expected, (36028797018963968,4,1) given", call.run());
    call.b.strides = {INT64_MAX, INT64_MAX, INT64_MAX};
    EXPECT_EQ(call.run(), SSM_ERROR_INVALID_ARGUMENT);
    call.h.strides = {12, 4, 0};
    call.h.tensor.strides = call.h.strides.data();
    call.b.tensor.strides = nullptr;
    EXPECT_INVALID("h: strides that keep its elements apart expected, shape (2,3,4) with strides (12,4,0) given",
                   call.run());
    call.h.strides = {12, 3, 1};
    EXPECT_INVALID("h: strides that keep its elements apart expected, shape (2,3,4) with strides (12,3,1) given",
                   call.run());
}

// A dimension of one index may have any stride, a negative one too.
TEST(CoreArguments, StridesOfOneIndexSayNothing) {
    Context context;
    std::vector<float> memory(64, 1);
    View a{memory.data(), float32, {1, 3, 1}, {-7, 1, INT64_MIN}}, b{memory.data() + 8, float32, {1, 3, 1}, {0, 1, 0}},
        h{memory.data() + 16, float32, {1, 3, 1}, {0, 1, 0}};
    auto args = make_args<ssm_linear_recurrence_args>();
    args.a = a;
    args.b = b;
    args.h = h;
    EXPECT_SUCCESS(ssm_linear_recurrence(context, &args));
    EXPECT_EQ(memory[18], 1);
}

TEST(CoreArguments, Device) {
    Recurrence call;
    call.b.tensor.device = {kDLCUDA, 1};
    EXPECT_INVALID("b: a tensor on cpu expected, one on cuda:1 given", call.run());
    const int32_t unknown = 77;
    std::memcpy(&call.b.tensor.device.device_type, &unknown, sizeof(unknown));
    EXPECT_INVALID("b: a tensor on cpu expected, one on device type 77 given", call.run());
    call.b.tensor.device = {kDLCUDAHost, 0};
    EXPECT_SUCCESS(call.run());
}

TEST(CoreArguments, Bool) {
    Recurrence call;
    call.args.reverse = 2;
    EXPECT_INVALID("reverse: 0 or 1 expected, 2 given", call.run());
}

TEST(CoreArguments, StructSize) {
    Recurrence call;
    call.args.struct_size = 0;
    EXPECT_INVALID("args: struct_size 56 expected, 0 given", call.run());
    call.args.struct_size = 63;
    EXPECT_INVALID("args: struct_size 56 expected, 63 given", call.run());
    call.args.struct_size = 0xCCCCCCC8;
    EXPECT_INVALID("args: struct_size 56 expected, 3435973832 given", call.run());
    // Smaller: what is missing is absent.
    call.args.struct_size = offsetof(ssm_linear_recurrence_args, h);
    EXPECT_INVALID("h: a tensor expected, NULL given", call.run());
    call.last_state.shape[0] = 7; // would be an error, were it seen
    call.args.struct_size = offsetof(ssm_linear_recurrence_args, last_state);
    EXPECT_SUCCESS(call.run());
    // Larger: what is not known must be zero.
    struct {
        ssm_linear_recurrence_args args;
        int64_t tail;
    } longer{call.args, 0};
    call.last_state.shape[0] = 2;
    longer.args.struct_size = sizeof(longer);
    EXPECT_SUCCESS(ssm_linear_recurrence(call.context, &longer.args));
    longer.tail = int64_t{1} << 32;
    EXPECT_INVALID("args: zero beyond the 56 bytes that this library knows expected, a value at byte 60 given",
                   ssm_linear_recurrence(call.context, &longer.args));
}

TEST(CoreArguments, Overlap) {
    Recurrence call;
    call.h.tensor.data = call.a.tensor.data;
    EXPECT_SUCCESS(call.run()); // inplace a
    call.h.tensor.data = call.b.tensor.data;
    EXPECT_SUCCESS(call.run()); // inplace b
    call.h.tensor.byte_offset = 4;
    EXPECT_INVALID("h: memory apart from b or its very pointer and strides expected, overlapping memory given", call.run());
    call.h.tensor.byte_offset = 0;
    call.h.strides = {12, 1, 3};
    call.h.tensor.strides = call.h.strides.data();
    EXPECT_INVALID("h: memory apart from b or its very pointer and strides expected, overlapping memory given", call.run());
    call.h.tensor.strides = nullptr;
    call.h.tensor.data = call.initial_state.tensor.data;
    EXPECT_INVALID("h: memory apart from initial_state expected, overlapping memory given", call.run());
    call.h.tensor.data = call.last_state.tensor.data;
    EXPECT_INVALID("last_state: memory apart from h expected, overlapping memory given", call.run());
    call.h.tensor.data = call.memory.data() + 64;
    call.last_state.tensor.data = call.initial_state.tensor.data;
    EXPECT_INVALID("last_state: memory apart from initial_state expected, overlapping memory given", call.run());
}

// Tensors that interleave and share nothing are fine: halves of one projection, even and odd columns.
TEST(CoreArguments, InterleavedIsNotOverlapping) {
    Context context;
    std::vector<float> memory(256, 1);
    auto args = make_args<ssm_linear_recurrence_args>();
    View a{memory.data(), float32, {2, 3, 4}, {24, 4, 1}}, h{memory.data() + 12, float32, {2, 3, 4}, {24, 4, 1}};
    args.a = args.b = a;
    args.h = h;
    EXPECT_SUCCESS(ssm_linear_recurrence(context, &args));
    View even{memory.data(), float32, {2, 3, 4}, {24, 8, 2}}, odd{memory.data() + 1, float32, {2, 3, 4}, {24, 8, 2}};
    args.a = args.b = even;
    args.h = odd;
    EXPECT_SUCCESS(ssm_linear_recurrence(context, &args));
    // One row later they meet.
    View late{memory.data() + 8, float32, {2, 3, 4}, {24, 4, 1}};
    args.a = args.b = a;
    args.h = late;
    EXPECT_INVALID("h: memory apart from a or its very pointer and strides expected, overlapping memory given",
                   ssm_linear_recurrence(context, &args));
    // Half an element apart.
    View half{reinterpret_cast<char*>(memory.data()) + 2, float32, {2, 3, 4}, {24, 8, 2}};
    args.a = args.b = even;
    args.h = half;
    EXPECT_INVALID("h: memory apart from a or its very pointer and strides expected, overlapping memory given",
                   ssm_linear_recurrence(context, &args));
}

// Against every pair of addresses, over many small strided tensors.
TEST(CoreArguments, OverlapIsExact) {
    Context context;
    std::vector<float> memory(512, 0);
    uint32_t random = 1;
    const auto pick = [&](uint32_t below) {
        random = random * 1664525u + 1013904223u;
        return (random >> 8) % below;
    };
    int overlapping = 0;
    for (int round = 0; round < 3000; ++round) {
        const std::vector<int64_t> shape{1 + pick(3), 1 + pick(3), 1 + pick(4)};
        std::vector<int64_t> strides[2];
        for (auto& list : strides)
            list = {pick(24), pick(12), pick(6)};
        const int64_t offset = pick(30);
        std::vector<int> in(256), out(256);
        bool expected = false;
        for (int64_t i = 0; i < shape[0]; ++i) {
            for (int64_t j = 0; j < shape[1]; ++j) {
                for (int64_t k = 0; k < shape[2]; ++k) {
                    ++in[i * strides[0][0] + j * strides[0][1] + k * strides[0][2]];
                    ++out[offset + i * strides[1][0] + j * strides[1][1] + k * strides[1][2]];
                }
            }
        }
        for (int i = 0; i < 256; ++i)
            expected |= out[i] > 1 || (in[i] && out[i]);
        View x{memory.data(), float32, shape, strides[0]}, y{memory.data() + offset, float32, shape, strides[1]};
        bool same = offset == 0;
        for (int i = 0; i < 3; ++i)
            same &= shape[i] == 1 || strides[0][i] == strides[1][i];
        if (same)
            continue;
        auto args = make_args<ssm_associative_scan_args>();
        args.x = x;
        args.y = y;
        const int32_t status = ssm_associative_scan(context, &args);
        ASSERT_EQ(status, expected ? SSM_ERROR_INVALID_ARGUMENT : SSM_SUCCESS)
            << "round " << round << ": " << ssm_last_error();
        overlapping += expected;
    }
    EXPECT_GT(overlapping, 300);
    EXPECT_LT(overlapping, 2700);
}

TEST(CoreArguments, AssociativeScan) {
    Context context;
    std::vector<float> memory(256);
    View x{memory.data(), float32, {1, 2, 4}}, y{memory.data() + 32, float32, {1, 2, 4}};
    auto args = make_args<ssm_associative_scan_args>();
    args.x = x;
    args.y = y;
    args.combine = 4;
    EXPECT_INVALID("combine: a value of ssm_combine expected, 4 given", ssm_associative_scan(context, &args));
    args.combine = -1;
    EXPECT_INVALID("combine: a value of ssm_combine expected, -1 given", ssm_associative_scan(context, &args));
    args.combine = SSM_COMBINE_MAXIMUM;
    args.exclusive = 1;
    EXPECT_INVALID("exclusive: 0 with maximum and minimum expected, 1 given", ssm_associative_scan(context, &args));
    args.exclusive = 0;
    x.tensor.dtype = y.tensor.dtype = complex64;
    EXPECT_INVALID("x: float32, float64, float16 or bfloat16 expected, complex64 given",
                   ssm_associative_scan(context, &args));
    args.combine = SSM_COMBINE_ADD;
    EXPECT_SUCCESS(ssm_associative_scan(context, &args));
}

TEST(CoreArguments, LinearRecurrenceBackward) {
    Context context;
    std::vector<float> memory(256);
    View a{memory.data(), float32, {1, 2, 4}}, grad_h{memory.data() + 16, float32, {1, 2, 4}},
        grad_a{memory.data() + 32, float32, {1, 2, 4}}, grad_b{memory.data() + 48, float32, {1, 2, 4}};
    auto args = make_args<ssm_linear_recurrence_backward_args>();
    args.a = a;
    args.grad_h = grad_h;
    EXPECT_SUCCESS(ssm_linear_recurrence_backward(context, &args)); // no gradient is wanted
    args.grad_b = grad_b;
    EXPECT_SUCCESS(ssm_linear_recurrence_backward(context, &args));
    args.grad_a = grad_a;
    EXPECT_INVALID("b: a tensor, as grad_a is wanted and h is absent expected, NULL given",
                   ssm_linear_recurrence_backward(context, &args));
    args.b = a;
    EXPECT_SUCCESS(ssm_linear_recurrence_backward(context, &args));
    grad_a.tensor.data = grad_h.tensor.data;
    EXPECT_INVALID("grad_a: memory apart from grad_h expected, overlapping memory given",
                   ssm_linear_recurrence_backward(context, &args));
}

// The dozen tensors of the selective scan.
struct Selective {
    Context context;
    std::vector<float> memory = std::vector<float>(4096);
    float* at(int i) { return memory.data() + 256 * i; }
    View u{at(0), float32, {2, 6, 4}}, dt{at(1), float32, {2, 6, 4}}, a{at(2), float32, {6, 5}},
        b{at(3), float32, {2, 3, 5, 4}}, c{at(4), float32, {2, 3, 5, 4}}, d{at(5), float32, {6}},
        z{at(6), float32, {2, 6, 4}}, dt_bias{at(7), float32, {6}}, initial_state{at(8), float32, {2, 6, 5}},
        y{at(9), float32, {2, 6, 4}}, last_state{at(10), float32, {2, 6, 5}};
    ssm_selective_scan_args args = make_args<ssm_selective_scan_args>();

    Selective() {
        args.u = u;
        args.dt = dt;
        args.a = a;
        args.b = b;
        args.c = c;
        args.d = d;
        args.z = z;
        args.dt_bias = dt_bias;
        args.initial_state = initial_state;
        args.y = y;
        args.last_state = last_state;
    }
    int32_t run() { return ssm_selective_scan(context, &args); }
};

TEST(CoreArguments, SelectiveScan) {
    Selective call;
    EXPECT_SUCCESS(call.run());
    call.dt.shape[2] = 3;
    EXPECT_INVALID("dt: shape (2,6,4) expected, (2,6,3) given", call.run());
    call.dt.shape[2] = 4;
    call.a.shape[0] = 5;
    EXPECT_INVALID("a: shape (6,5) expected, (5,5) given", call.run());
    call.a.shape[0] = 6;
    call.b.shape[1] = 4;
    EXPECT_INVALID("b: a number of groups that divides the 6 channels expected, 4 given", call.run());
    call.b.shape[1] = 0;
    EXPECT_INVALID("b: a number of groups that divides the 6 channels expected, 0 given", call.run());
    call.b.shape[1] = 6;
    EXPECT_INVALID("c: shape (2,6,5,4) expected, (2,3,5,4) given", call.run());
    call.b.shape[1] = 3;
    call.c.tensor.ndim = 2;
    EXPECT_INVALID("c: shape (6,5) expected, (2,3) given", call.run());
    call.c.tensor.ndim = 4;
    call.d.shape[0] = 1;
    EXPECT_INVALID("d: shape (6) expected, (1) given", call.run());
    call.d.shape[0] = 6;
    call.d.tensor.dtype = float16;
    EXPECT_INVALID("d: float32 expected, float16 given", call.run());
    call.d.tensor.dtype = float32;
    call.a.tensor.dtype = float64;
    EXPECT_INVALID("a: float32 or complex64 expected, float64 given", call.run());
    call.a.tensor.dtype = complex64;
    EXPECT_INVALID("initial_state: complex64 expected, float32 given", call.run());
    call.initial_state.tensor.dtype = call.last_state.tensor.dtype = complex64;
    EXPECT_INVALID("b: complex64 expected, float32 given", call.run());
    call.b.tensor.dtype = call.c.tensor.dtype = complex64;
    EXPECT_SUCCESS(call.run());
    call.u.tensor.dtype = complex64;
    EXPECT_INVALID("u: float32, float64, float16 or bfloat16 expected, complex64 given", call.run());
}

TEST(CoreArguments, SelectiveScanBackward) {
    Selective call;
    View grad_b(call.at(11), float32, {2, 3, 5, 4}), grad_z(call.at(12), float32, {2, 6, 4}),
        grad_a(call.at(13), float32, {6, 5}), grad_dt_bias(call.at(14), float32, {6});
    ssm_selective_scan_backward_args args = make_args<ssm_selective_scan_backward_args>();
    args.u = call.u;
    args.dt = call.dt;
    args.a = call.a;
    args.b = call.b;
    args.c = call.c;
    args.d = call.d;
    args.z = call.z;
    args.dt_bias = call.dt_bias;
    args.initial_state = call.initial_state;
    args.grad_y = call.y;
    args.grad_last_state = call.last_state;
    args.grad_b = grad_b;
    args.grad_z = grad_z;
    args.grad_a = grad_a;
    args.grad_dt_bias = grad_dt_bias;
    const auto run = [&] { return ssm_selective_scan_backward(call.context, &args); };
    EXPECT_SUCCESS(run());
    call.y.shape[2] = 3;
    EXPECT_INVALID("grad_y: shape (2,6,4) expected, (2,6,3) given", run());
    call.y.shape[2] = 4;
    call.last_state.shape[0] = 1;
    EXPECT_INVALID("grad_last_state: shape (2,6,5) expected, (1,6,5) given", run());
    call.last_state.shape[0] = 2;
    grad_b.shape[1] = 1;
    EXPECT_INVALID("grad_b: shape (2,3,5,4) expected, (2,1,5,4) given", run());
    grad_b.shape[1] = 3;
    grad_b.tensor.dtype = float64;
    EXPECT_INVALID("grad_b: float32 expected, float64 given", run());
    grad_b.tensor.dtype = float32;
    grad_dt_bias.tensor.dtype = float16;
    EXPECT_INVALID("grad_dt_bias: float32 expected, float16 given", run());
    grad_dt_bias.tensor.dtype = float32;
    grad_a.tensor.dtype = complex64;
    EXPECT_INVALID("grad_a: float32 expected, complex64 given", run());
    grad_a.tensor.dtype = float32;
    args.z = nullptr;
    EXPECT_INVALID("z: a tensor, as grad_z is wanted expected, NULL given", run());
    args.z = call.z;
    args.grad_b = call.b;
    EXPECT_INVALID("grad_b: memory apart from b expected, overlapping memory given", run());
    args.grad_b = grad_b;
    args.grad_y = nullptr;
    EXPECT_INVALID("grad_y: a tensor expected, NULL given", run());
    args.grad_y = call.y;
    // Without a step there is nothing to write but the gradient of the state and zero sums.
    for (View* view : {&call.u, &call.dt, &call.z, &call.y, &grad_z})
        view->shape[2] = 0;
    for (View* view : {&call.b, &call.c, &grad_b})
        view->shape[3] = 0;
    std::fill(call.memory.begin(), call.memory.end(), 3.0f);
    View grad_initial_state(call.at(15), float32, {2, 6, 5});
    args.grad_initial_state = grad_initial_state;
    call.at(10)[7] = 5;
    EXPECT_SUCCESS(run());
    EXPECT_EQ(call.at(15)[7], 5.0f);
    EXPECT_EQ(call.at(13)[29], 0.0f);
    EXPECT_EQ(call.at(14)[5], 0.0f);
}

// Both forms of the state update.
struct StateUpdate {
    Context context;
    std::vector<float> memory = std::vector<float>(4096);
    std::vector<int32_t> rows{4, -1};
    float* at(int i) { return memory.data() + 256 * i; }
    View state{at(0), float32, {5, 6, 4}}, x{at(1), float32, {2, 6}}, dt{at(2), float32, {2, 6}}, a{at(3), float32, {6, 4}},
        b{at(4), float32, {2, 3, 4}}, c{at(5), float32, {2, 3, 4}}, d{at(6), float32, {6}}, z{at(7), float32, {2, 6}},
        dt_bias{at(8), float32, {6}}, slots{rows.data(), int32, {2}}, y{at(9), float32, {2, 6}};
    ssm_selective_state_update_args args = make_args<ssm_selective_state_update_args>();

    StateUpdate() {
        args.state = state;
        args.x = x;
        args.dt = dt;
        args.a = a;
        args.b = b;
        args.c = c;
        args.d = d;
        args.z = z;
        args.dt_bias = dt_bias;
        args.slots = slots;
        args.y = y;
    }
    static void reshape(View& view, std::vector<int64_t> shape) {
        view.shape = std::move(shape);
        view.tensor.shape = view.shape.data();
        view.tensor.ndim = static_cast<int32_t>(view.shape.size());
    }
    int32_t run() { return ssm_selective_state_update(context, &args); }
};

TEST(CoreArguments, SelectiveStateUpdate) {
    StateUpdate call;
    EXPECT_SUCCESS(call.run());
    call.state.shape[2] = 5;
    EXPECT_INVALID("a: shape (6,5) expected, (6,4) given", call.run());
    call.state.shape[2] = 4;
    call.state.tensor.ndim = 2;
    EXPECT_INVALID("state: rank 3, or 4 with heads expected, shape (5,6) given", call.run());
    call.state.tensor.ndim = 3;
    call.x.tensor.ndim = 1;
    EXPECT_INVALID("x: rank 2, or 3 with time expected, shape (2) given", call.run());
    call.x.tensor.ndim = 2;
    call.dt.shape[1] = 1;
    EXPECT_INVALID("dt: shape (2,6) expected, (2,1) given", call.run());
    call.dt.shape[1] = 6;
    call.b.shape[1] = call.c.shape[1] = 4;
    EXPECT_INVALID("b: a number of groups that divides the 6 channels expected, 4 given", call.run());
    call.b.shape[1] = call.c.shape[1] = 3;
    call.args.slots = nullptr;
    EXPECT_INVALID("state: shape (2,6,4) expected, (5,6,4) given", call.run());
    call.args.slots = call.slots;
    call.slots.shape[0] = 1;
    EXPECT_INVALID("slots: shape (2) expected, (1) given", call.run());
    call.slots.shape[0] = 2;
    call.slots.tensor.dtype = int64;
    EXPECT_INVALID("slots: int32 expected, int64 given", call.run());
    call.slots.tensor.dtype = int32;
    call.rows = {5, 0};
    EXPECT_INVALID("slots[0]: -1 or a row of the 5 of state expected, 5 given", call.run());
    call.rows = {0, 1};
    call.state.tensor.dtype = float64;
    EXPECT_INVALID("state: float32, float16 or bfloat16 expected, float64 given", call.run());
    call.state.tensor.dtype = float16;
    EXPECT_SUCCESS(call.run());
    for (View* view : {&call.x, &call.dt, &call.b, &call.c, &call.z, &call.y})
        view->tensor.dtype = float16;
    EXPECT_SUCCESS(call.run());
    call.a.tensor.dtype = float16;
    EXPECT_INVALID("a: float32 expected, float16 given", call.run());
    call.a.tensor.dtype = float32;
    call.y.tensor.data = call.x.tensor.data;
    EXPECT_SUCCESS(call.run());
    call.y.tensor.data = call.dt.tensor.data;
    EXPECT_INVALID("y: memory apart from dt expected, overlapping memory given", call.run());
    call.y.tensor.data = call.at(9);
    call.state.tensor.data = call.b.tensor.data;
    EXPECT_INVALID("state: memory apart from b expected, overlapping memory given", call.run());
    call.state.tensor.data = call.at(0);
    call.x.tensor.dtype = int32;
    EXPECT_INVALID("x: float32, float64, float16 or bfloat16 expected, int32 given", call.run());
}

TEST(CoreArguments, SelectiveStateUpdateOfHeads) {
    StateUpdate call;
    StateUpdate::reshape(call.state, {5, 6, 3, 4}); // H 6, P 3, N 4
    call.state.tensor.data = call.at(10);           // longer than the others
    EXPECT_INVALID("x: rank 3, or 4 with time expected, shape (2,6) given", call.run());
    for (View* view : {&call.x, &call.z, &call.y})
        StateUpdate::reshape(*view, {2, 6, 3});
    EXPECT_INVALID("a: shape (6) expected, (6,4) given", call.run());
    StateUpdate::reshape(call.a, {6});
    EXPECT_SUCCESS(call.run());
    for (View* view : {&call.x, &call.z, &call.y})
        StateUpdate::reshape(*view, {2, 7, 6, 3});
    EXPECT_INVALID("dt: shape (2,7,6) expected, (2,6) given", call.run());
    StateUpdate::reshape(call.dt, {2, 7, 6});
    EXPECT_INVALID("b: rank 4 expected, shape (2,3,4) given", call.run());
    StateUpdate::reshape(call.b, {2, 7, 3, 4});
    StateUpdate::reshape(call.c, {2, 7, 3, 4});
    EXPECT_SUCCESS(call.run());
    StateUpdate::reshape(call.b, {2, 7, 4, 4});
    StateUpdate::reshape(call.c, {2, 7, 4, 4});
    EXPECT_INVALID("b: a number of groups that divides the 6 heads expected, 4 given", call.run());
}

struct Convolution {
    Context context;
    std::vector<float> memory = std::vector<float>(4096);
    float* at(int i) { return memory.data() + 256 * i; }
    View x{at(0), float32, {2, 6, 4}}, weight{at(1), float32, {6, 3}}, bias{at(2), float32, {6}},
        initial_state{at(3), float32, {2, 6, 2}}, y{at(4), float32, {2, 6, 4}}, last_state{at(5), float32, {2, 6, 2}},
        grad_weight{at(6), float32, {6, 3}};
    ssm_causal_conv1d_args args = make_args<ssm_causal_conv1d_args>();
    ssm_causal_conv1d_backward_args gradients = make_args<ssm_causal_conv1d_backward_args>();

    Convolution() {
        args.x = gradients.x = x;
        args.weight = gradients.weight = weight;
        args.bias = gradients.bias = bias;
        args.initial_state = gradients.initial_state = initial_state;
        args.y = gradients.grad_y = y;
        args.last_state = gradients.grad_last_state = last_state;
        gradients.grad_weight = grad_weight;
    }
    int32_t run() { return ssm_causal_conv1d(context, &args); }
    int32_t run_backward() { return ssm_causal_conv1d_backward(context, &gradients); }
};

TEST(CoreArguments, CausalConv1d) {
    Convolution call;
    EXPECT_SUCCESS(call.run());
    EXPECT_SUCCESS(call.run_backward());
    call.args.activation = call.gradients.activation = 2;
    EXPECT_INVALID("activation: an ssm_activation expected, 2 given", call.run());
    EXPECT_INVALID("activation: an ssm_activation expected, 2 given", call.run_backward());
    call.args.activation = call.gradients.activation = SSM_ACTIVATION_SILU;
    call.y.shape[2] = 3;
    EXPECT_INVALID("y: shape (2,6,4) expected, (2,6,3) given", call.run());
    EXPECT_INVALID("grad_y: shape (2,6,4) expected, (2,6,3) given", call.run_backward());
    call.y.shape[2] = 4;
    call.weight.shape[0] = 5;
    EXPECT_INVALID("weight: shape (6,3) expected, (5,3) given", call.run());
    call.weight.shape = {6, 0};
    call.weight.tensor.shape = call.weight.shape.data();
    EXPECT_INVALID("weight: a width of 1 to 256 expected, 0 given", call.run());
    call.weight.shape[1] = 2;
    EXPECT_INVALID("initial_state: shape (2,6,1) expected, (2,6,2) given", call.run());
    EXPECT_INVALID("initial_state: shape (2,6,1) expected, (2,6,2) given", call.run_backward());
    call.weight.shape[1] = 3;
    call.grad_weight.shape[1] = 2;
    EXPECT_INVALID("grad_weight: shape (6,3) expected, (6,2) given", call.run_backward());
    call.grad_weight.shape[1] = 3;
    call.bias.shape[0] = 1;
    EXPECT_INVALID("bias: shape (6) expected, (1) given", call.run());
    call.bias.shape[0] = 6;
    call.weight.tensor.dtype = float16;
    EXPECT_INVALID("weight: float32 expected, float16 given", call.run());
    call.weight.tensor.dtype = float32;
    call.x.tensor.dtype = float16;
    EXPECT_INVALID("y: float16 expected, float32 given", call.run());
    call.y.tensor.dtype = float16;
    EXPECT_SUCCESS(call.run());
    EXPECT_SUCCESS(call.run_backward());
    call.args.y = call.x;
    EXPECT_INVALID("y: memory apart from x expected, overlapping memory given", call.run());
    call.x.tensor.dtype = complex64;
    EXPECT_INVALID("x: float32, float64, float16 or bfloat16 expected, complex64 given", call.run());
}

TEST(CoreArguments, CausalConv1dUpdate) {
    Context context;
    std::vector<float> memory(4096);
    std::vector<int32_t> rows{4, -1}, before{7, 8};
    const auto at = [&](int i) { return memory.data() + 256 * i; };
    View state{at(0), float32, {5, 6, 3}}, x{at(1), float32, {2, 6}}, weight{at(2), float32, {6, 4}},
        bias{at(3), float32, {6}}, slots{rows.data(), int32, {2}}, cache_seqlens{before.data(), int32, {2}},
        y{at(4), float32, {2, 6}};
    auto args = make_args<ssm_causal_conv1d_update_args>();
    args.state = state;
    args.x = x;
    args.weight = weight;
    args.bias = bias;
    args.slots = slots;
    args.cache_seqlens = cache_seqlens;
    args.y = y;
    const auto run = [&] { return ssm_causal_conv1d_update(context, &args); };
    EXPECT_SUCCESS(run());
    args.activation = 2;
    EXPECT_INVALID("activation: an ssm_activation expected, 2 given", run());
    args.activation = SSM_ACTIVATION_SILU;
    x.tensor.ndim = 1;
    EXPECT_INVALID("x: rank 2, or 3 with time expected, shape (2) given", run());
    x.tensor.ndim = 2;
    state.shape[2] = 2;
    EXPECT_INVALID("state: at least W-1 = 3 steps expected, 2 given", run());
    state.shape[2] = 8; // longer than the window: still its own memory
    EXPECT_SUCCESS(run());
    state.shape[2] = 3;
    state.tensor.ndim = 2;
    EXPECT_INVALID("state: rank 3 expected, shape (5,6) given", run());
    state.tensor.ndim = 3;
    state.shape[1] = 5;
    EXPECT_INVALID("state: shape (5,6,3) expected, (5,5,3) given", run());
    state.shape[1] = 6;
    weight.shape[0] = 5;
    EXPECT_INVALID("weight: shape (6,4) expected, (5,4) given", run());
    weight.shape[0] = 6;
    y.shape[1] = 5;
    EXPECT_INVALID("y: shape (2,6) expected, (2,5) given", run());
    y.shape[1] = 6;
    cache_seqlens.shape[0] = 1;
    EXPECT_INVALID("cache_seqlens: shape (2) expected, (1) given", run());
    cache_seqlens.shape[0] = 2;
    cache_seqlens.tensor.dtype = int64;
    EXPECT_INVALID("cache_seqlens: int32 expected, int64 given", run());
    cache_seqlens.tensor.dtype = int32;
    args.slots = nullptr;
    EXPECT_INVALID("state: shape (2,6,3) expected, (5,6,3) given", run());
    args.slots = slots;
    rows = {5, 0};
    EXPECT_INVALID("slots[0]: -1 or a row of the 5 of state expected, 5 given", run());
    rows = {0, 1};
    state.tensor.dtype = float64;
    EXPECT_INVALID("state: float32, float16 or bfloat16 expected, float64 given", run());
    state.tensor.dtype = float16;
    EXPECT_SUCCESS(run());
    x.tensor.dtype = float16;
    EXPECT_INVALID("y: float16 expected, float32 given", run());
    y.tensor.dtype = float16;
    EXPECT_SUCCESS(run());
    y.tensor.data = x.tensor.data;
    EXPECT_SUCCESS(run());
    y.tensor.data = at(4);
    x.tensor.data = state.tensor.data;
    EXPECT_INVALID("state: memory apart from x expected, overlapping memory given", run());
}

TEST(CoreArguments, RmsNorm) {
    Context context;
    std::vector<float> memory(4096);
    const auto at = [&](int i) { return memory.data() + 256 * i; };
    View x{at(0), float32, {4, 5, 6}}, residual{at(1), float32, {4, 5, 6}}, weight{at(2), float32, {6}},
        bias{at(3), float32, {6}}, y{at(4), float32, {4, 5, 6}}, residual_out{at(5), float32, {4, 5, 6}},
        rstd{at(6), float32, {4, 5}}, grad_x{at(7), float32, {4, 5, 6}}, grad_weight{at(8), float32, {6}};
    auto args = make_args<ssm_rms_norm_args>();
    auto gradients = make_args<ssm_rms_norm_backward_args>();
    args.x = gradients.x = x;
    args.residual = gradients.grad_residual_out = residual;
    args.weight = gradients.weight = weight;
    args.bias = bias;
    args.y = gradients.grad_y = y;
    args.residual_out = gradients.grad_residual = residual_out;
    args.rstd = gradients.rstd = rstd;
    gradients.grad_x = grad_x;
    gradients.grad_weight = grad_weight;
    const auto run = [&] { return ssm_rms_norm(context, &args); };
    const auto run_backward = [&] { return ssm_rms_norm_backward(context, &gradients); };
    EXPECT_SUCCESS(run());
    EXPECT_SUCCESS(run_backward());
    args.eps = gradients.eps = -1;
    EXPECT_INVALID("eps: a number of 0 or more expected, -1.000000 given", run());
    EXPECT_INVALID("eps: a number of 0 or more expected, -1.000000 given", run_backward());
    args.eps = gradients.eps = 1e-5;
    x.tensor.ndim = 0;
    EXPECT_INVALID("x: rank 1 to 4 expected, shape () given", run());
    x.tensor.ndim = 3;
    residual.shape[1] = 4;
    EXPECT_INVALID("residual: shape (4,5,6) expected, (4,4,6) given", run());
    EXPECT_INVALID("grad_residual_out: shape (4,5,6) expected, (4,4,6) given", run_backward());
    residual.shape[1] = 5;
    weight.shape[0] = 5;
    EXPECT_INVALID("weight: shape (6) expected, (5) given", run());
    weight.shape[0] = 6;
    rstd.shape[1] = 6;
    EXPECT_INVALID("rstd: shape (4,5) expected, (4,6) given", run());
    EXPECT_INVALID("rstd: shape (4,5) expected, (4,6) given", run_backward());
    rstd.shape[1] = 5;
    residual_out.tensor.dtype = float16;
    EXPECT_INVALID("residual_out: float32 expected, float16 given", run());
    residual_out.tensor.dtype = float32;
    weight.tensor.dtype = float64;
    EXPECT_INVALID("weight: float32 expected, float64 given", run());
    weight.tensor.dtype = float32;
    y.tensor.dtype = float16;
    EXPECT_INVALID("y: float32 expected, float16 given", run());
    grad_x.tensor.dtype = x.tensor.dtype = float16;
    EXPECT_SUCCESS(run());
    x.tensor.dtype = float64;
    EXPECT_INVALID("x: float16 or float32 expected, float64 given", run_backward());
    x.tensor.dtype = float32;
    EXPECT_SUCCESS(run_backward());
    x.tensor.dtype = y.tensor.dtype = grad_x.tensor.dtype = float32;
    y.tensor.data = x.tensor.data;
    EXPECT_SUCCESS(run());
    residual_out.tensor.data = residual.tensor.data;
    EXPECT_SUCCESS(run());
    residual_out.tensor.data = x.tensor.data;
    EXPECT_INVALID("residual_out: memory apart from y expected, overlapping memory given", run());
}

TEST(CoreArguments, GatedRmsNorm) {
    Context context;
    std::vector<float> memory(4096);
    const auto at = [&](int i) { return memory.data() + 256 * i; };
    View x{at(0), float32, {4, 6}}, z{at(1), float32, {4, 6}}, y{at(2), float32, {4, 6}}, rstd{at(3), float32, {4, 2}},
        grad_z{at(4), float32, {4, 6}};
    auto args = make_args<ssm_gated_rms_norm_args>();
    auto gradients = make_args<ssm_gated_rms_norm_backward_args>();
    args.x = gradients.x = x;
    args.z = gradients.z = z;
    args.y = gradients.grad_y = y;
    args.rstd = gradients.rstd = rstd;
    args.group_size = gradients.group_size = 3;
    gradients.grad_z = grad_z;
    const auto run = [&] { return ssm_gated_rms_norm(context, &args); };
    const auto run_backward = [&] { return ssm_gated_rms_norm_backward(context, &gradients); };
    EXPECT_SUCCESS(run());
    EXPECT_SUCCESS(run_backward());
    for (const int64_t wrong : {-3, 4, 12}) {
        args.group_size = gradients.group_size = wrong;
        const std::string expected = "group_size: 0 or a divisor of D = 6 expected, " + std::to_string(wrong) + " given";
        EXPECT_INVALID(expected.c_str(), run());
        EXPECT_INVALID(expected.c_str(), run_backward());
    }
    args.group_size = gradients.group_size = 2;
    EXPECT_INVALID("rstd: shape (4,3) expected, (4,2) given", run());
    args.group_size = gradients.group_size = 3;
    args.norm_before_gate = 2;
    EXPECT_INVALID("norm_before_gate: 0 or 1 expected, 2 given", run());
    args.norm_before_gate = 1;
    z.tensor.dtype = float16;
    EXPECT_INVALID("z: float32 expected, float16 given", run());
    z.tensor.dtype = float32;
    gradients.z = nullptr;
    EXPECT_INVALID("z: a tensor, because grad_z is asked for expected, none given", run_backward());
    args.z = nullptr;
    EXPECT_SUCCESS(run());
}

// Without a step there is nothing to write but the states and zero sums.
TEST(CoreArguments, CausalConv1dWithoutSteps) {
    Convolution call;
    for (View* view : {&call.x, &call.y})
        view->shape[2] = 0;
    std::fill(call.memory.begin(), call.memory.end(), 3.0f);
    EXPECT_SUCCESS(call.run());
    EXPECT_EQ(call.at(5)[23], 3.0f);
    EXPECT_SUCCESS(call.run_backward());
    EXPECT_EQ(call.at(6)[0], 0.0f);
    EXPECT_EQ(call.at(6)[17], 0.0f);
    EXPECT_EQ(call.at(6)[18], 3.0f);
}

TEST(CoreArguments, PackedSequences) {
    Context context;
    std::vector<float> memory(256);
    std::vector<int64_t> ends{0, 2, 2, 4};
    View a{memory.data(), float32, {1, 2, 4}}, h{memory.data() + 16, float32, {1, 2, 4}},
        cu_seqlens{ends.data(), int64, {4}}, last_state{memory.data() + 32, float32, {3, 2}};
    auto args = make_args<ssm_linear_recurrence_args>();
    args.a = args.b = a;
    args.h = h;
    args.cu_seqlens = cu_seqlens;
    args.last_state = last_state;
    EXPECT_SUCCESS(ssm_linear_recurrence(context, &args));
    ends = {0, 3, 2, 4};
    EXPECT_INVALID("cu_seqlens[2]: at least 3 expected, 2 given", ssm_linear_recurrence(context, &args));
    ends = {1, 2, 2, 4};
    EXPECT_INVALID("cu_seqlens[0]: 0 expected, 1 given", ssm_linear_recurrence(context, &args));
    ends = {0, 2, 2, 5};
    EXPECT_INVALID("cu_seqlens[3]: the length 4 expected, 5 given", ssm_linear_recurrence(context, &args));
    ends = {0, 2, 2, 4};
    last_state.shape[0] = 1;
    EXPECT_INVALID("last_state: shape (3,2) expected, (1,2) given", ssm_linear_recurrence(context, &args));
    last_state.shape[0] = 3;
    cu_seqlens.tensor.dtype = int32;
    EXPECT_INVALID("cu_seqlens: int64 expected, int32 given", ssm_linear_recurrence(context, &args));
    cu_seqlens.tensor.dtype = int64;
    cu_seqlens.shape[0] = 0;
    EXPECT_INVALID("cu_seqlens: shape (S+1) expected, (0) given", ssm_linear_recurrence(context, &args));
    cu_seqlens.shape[0] = 4;
    a.shape = h.shape = {2, 1, 4};
    a.tensor.shape = a.shape.data();
    h.tensor.shape = h.shape.data();
    EXPECT_INVALID("a: batch 1 with cu_seqlens expected, 2 given", ssm_linear_recurrence(context, &args));
    // Strided cu_seqlens.
    a.shape = h.shape = {1, 2, 4};
    a.tensor.shape = a.shape.data();
    h.tensor.shape = h.shape.data();
    std::vector<int64_t> sparse{0, 99, 2, 99, 2, 99, 4};
    View strided{sparse.data(), int64, {4}, {2}};
    args.cu_seqlens = strided;
    std::fill(memory.begin(), memory.end(), 1.0f);
    EXPECT_SUCCESS(ssm_linear_recurrence(context, &args));
    EXPECT_EQ(memory[16], 1);
    EXPECT_EQ(memory[17], 2);
    EXPECT_EQ(memory[18], 1);
    EXPECT_EQ(memory[19], 2);
    EXPECT_EQ(memory[32], 2);
    EXPECT_EQ(memory[34], 0); // the empty sequence
}

// 64-bit sizes: nothing below touches its data.
TEST(CoreArguments, HugeShapes) {
    Context context;
    constexpr int64_t length = int64_t{1} << 40;
    View a{nullptr, float32, {2, 3, length}}, h{nullptr, float32, {2, 3, length}};
    auto args = make_args<ssm_linear_recurrence_args>();
    args.a = args.b = a;
    args.h = h;
    uint64_t bytes = 0;
    EXPECT_SUCCESS(ssm_linear_recurrence_workspace(context, &args, &bytes));
    const uint64_t unpacked = bytes;
    a.strides = {6 * length, 2 * length, 2};
    a.tensor.strides = a.strides.data();
    EXPECT_SUCCESS(ssm_linear_recurrence_workspace(context, &args, &bytes));
    EXPECT_EQ(bytes - unpacked, 2 * 4u * 6u * static_cast<uint64_t>(length)); // a and b packed
    // 2^40 elements that are one number.
    float one = 1;
    View broadcast{&one, float32, {2, 3, length}, {0, 0, 0}}, small{nullptr, float32, {2, 3, 4}};
    args.a = args.b = broadcast;
    args.h = small;
    EXPECT_INVALID("h: shape (2,3,1099511627776) expected, (2,3,4) given",
                   ssm_linear_recurrence_workspace(context, &args, &bytes));
    View endless{&one, float32, {int64_t{1} << 40, int64_t{1} << 20, 2}, {0, 0, 0}};
    args.a = endless;
    EXPECT_INVALID("a: less than 2^56 bytes expected, shape (1099511627776,1048576,2) given",
                   ssm_linear_recurrence_workspace(context, &args, &bytes));
    endless.shape[1] = INT64_MAX;
    EXPECT_EQ(ssm_linear_recurrence_workspace(context, &args, &bytes), SSM_ERROR_INVALID_ARGUMENT);
}

TEST(CoreArguments, NoMemoryLeavesTheContextUsable) {
    if (test::has_sanitizer()) {
        GTEST_SKIP() << "a sanitizer's allocator ends the program instead";
    }
    Context context;
    constexpr int64_t length = int64_t{1} << 44;
    float one = 1;
    View broadcast{&one, float32, {1, 2, length}, {0, 0, 0}};
    // The output is not touched: the workspace cannot be had.
    View h{&one, float32, {1, 2, length}};
    auto args = make_args<ssm_linear_recurrence_args>();
    args.a = args.b = broadcast;
    h.tensor.data = reinterpret_cast<void*>(uintptr_t{1} << 50);
    args.h = h;
    EXPECT_EQ(ssm_linear_recurrence(context, &args), SSM_ERROR_OUT_OF_MEMORY);
    void* pointer = nullptr;
    EXPECT_EQ(ssm_allocate(context, uint64_t{1} << 60, &pointer), SSM_ERROR_OUT_OF_MEMORY);
    EXPECT_EQ(pointer, nullptr);
    std::vector<float> memory(8, 1);
    View x{memory.data(), float32, {1, 1, 4}, {0, 0, 2}}, y{memory.data() + 1, float32, {1, 1, 4}, {0, 0, 2}};
    args.a = args.b = x;
    args.h = y;
    EXPECT_SUCCESS(ssm_linear_recurrence(context, &args));
    EXPECT_EQ(memory[7], 4);
}

TEST(CoreArguments, TheSentenceBelongsToTheThread) {
    EXPECT_INVALID("context: a context expected, NULL given", ssm_context_synchronize(nullptr));
    std::thread([] {
        EXPECT_STREQ(ssm_last_error(), "");
        EXPECT_INVALID("path: an absolute path expected, NULL given", ssm_backend_load(nullptr));
    }).join();
    EXPECT_STREQ(ssm_last_error(), "context: a context expected, NULL given");
}

TEST(CoreArguments, Names) {
    EXPECT_EQ(ssm_abi_version(), uint32_t{SSM_ABI_VERSION});
    EXPECT_STREQ(ssm_status_name(SSM_ERROR_DEVICE_FAULT), "SSM_ERROR_DEVICE_FAULT");
    EXPECT_STREQ(ssm_status_name(99), "unknown status");
    int64_t value = 0;
    EXPECT_SUCCESS(ssm_layout("ssm_linear_recurrence_args", &value));
    EXPECT_EQ(value, int64_t{sizeof(ssm_linear_recurrence_args)});
    EXPECT_SUCCESS(ssm_layout("ssm_selective_scan_args.dt_bias", &value));
    EXPECT_EQ(value, int64_t{offsetof(ssm_selective_scan_args, dt_bias)});
    EXPECT_INVALID("name: a struct, or struct.field expected, ssm_x given", ssm_layout("ssm_x", &value));
}

} // namespace
} // namespace ssm::core_test
