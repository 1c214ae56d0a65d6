// ssm_copy: between host and device, in every pair of views, for every element size.
#include <gtest/gtest.h>

#include "support/problems.h"
#include "support/reference.h"

namespace ssm::test {

class StridedCopy : public testing::TestWithParam<Target> {};
INSTANTIATE_TEST_SUITE_P(Devices, StridedCopy,
                         testing::ValuesIn(targets({Type::float16, Type::float32, Type::float64, Type::complex64,
                                                    Type::complex128, Type::int64})),
                         [](const auto& info) { return name_of(info.param); });

namespace {

const View views[] = {View::null_strides, View::compact, View::channel_contiguous, View::padded, View::channel_padded,
                      View::offset,       View::strided, View::reversed_axes};

} // namespace

TEST_P(StridedCopy, Quick) {
    Context context(GetParam().device);
    Random random(31);
    const std::vector<std::vector<int64_t>> shapes{
        {1}, {7}, {3, 5}, {2, 3, 37}, {2, 3, 4, 19}, {2, 1, 3, 2, 5, 1, 2, 3}, {2, 40, 70}};
    for (const std::vector<int64_t>& shape : shapes) {
        Tensor values(GetParam().type, shape);
        for (Number& value : values.values)
            value = static_cast<double>(random.integer(-100, 100));
        for (const View from : views)
            for (const View to : views) {
                Placed source(context, values, from, false), destination(context, values, to, true);
                SSM_CHECK(ssm_copy(context, source.get(), destination.get()));
                SSM_CHECK(ssm_context_synchronize(context));
                expect_identical({{"copy", destination.take()}}, {{"copy", values}},
                                 std::string(name_of(from)) + " to " + name_of(to));
                source.check_unchanged();
                if (HasFailure())
                    return;
            }
    }
}

TEST_P(StridedCopy, BroadcastsTheSource) {
    Context context(GetParam().device);
    Tensor values(GetParam().type, {3, 4, 21});
    for (int64_t i = 0; i < values.size(); ++i)
        values.values[i] = static_cast<double>(i);
    const View broadcasts[] = {View::broadcast_batch, View::broadcast_channel, View::broadcast_time};
    for (int axis = 0; axis < 3; ++axis) {
        const Tensor constant = constant_along(values, axis);
        Placed source(context, constant, broadcasts[axis], false), destination(context, constant, View::padded, true);
        SSM_CHECK(ssm_copy(context, source.get(), destination.get()));
        SSM_CHECK(ssm_context_synchronize(context));
        expect_identical({{"copy", destination.take()}}, {{"copy", constant}}, name_of(broadcasts[axis]));
    }
}

// Host tensors with strides of their own, both ways.
TEST_P(StridedCopy, CrossesBetweenHostAndDevice) {
    Context context(GetParam().device);
    const Type type = GetParam().type;
    const int64_t element = size_of(type), rows = 5, columns = 33, pitch = 40;
    std::vector<unsigned char> host(static_cast<size_t>(rows * pitch * element), 0xee);
    Tensor values(type, {rows, columns});
    for (int64_t i = 0; i < values.size(); ++i) {
        values.values[i] = static_cast<double>(i);
        encode(type, values.values[i], host.data() + (i / columns * pitch + i % columns) * element);
    }
    int64_t shape[] = {rows, columns}, strides[] = {pitch, 1};
    DLTensor there{host.data(), {kDLCPU, 0}, 2, dlpack_of(type), shape, strides, 0};
    for (const View view : views) {
        Placed device(context, values, view, true);
        SSM_CHECK(ssm_copy(context, &there, device.get()));
        SSM_CHECK(ssm_context_synchronize(context));
        expect_identical({{"up", device.take()}}, {{"up", values}}, name_of(view));

        std::vector<unsigned char> back(host.size(), 0xee);
        DLTensor here = there;
        here.data = back.data();
        SSM_CHECK(ssm_copy(context, device.get(), &here));
        SSM_CHECK(ssm_context_synchronize(context));
        EXPECT_EQ(back, host) << name_of(view);
    }
}

} // namespace ssm::test
