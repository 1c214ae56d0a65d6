// ssm_copy between every two layouts, against a loop over indices.
#include "core_support.h"

#include <numeric>

namespace ssm::core_test {
namespace {

// Calls visit(index) for every index of a shape.
template <class Visit>
void for_each_index(const std::vector<int64_t>& shape, Visit visit) {
    std::vector<int64_t> index(shape.size(), 0);
    for (int64_t extent : shape) {
        if (extent == 0)
            return;
    }
    for (;;) {
        visit(index);
        int axis = static_cast<int>(shape.size()) - 1;
        for (; axis >= 0; --axis) {
            if (++index[axis] < shape[axis])
                break;
            index[axis] = 0;
        }
        if (axis < 0)
            return;
    }
}

std::vector<int64_t> compact_strides(const std::vector<int64_t>& shape) {
    std::vector<int64_t> strides(shape.size());
    int64_t stride = 1;
    for (int axis = static_cast<int>(shape.size()) - 1; axis >= 0; --axis) {
        strides[axis] = stride;
        stride *= shape[axis];
    }
    return strides;
}

struct Case {
    std::vector<int64_t> shape, source, destination;
};

void check_copy(const Case& test, DLDataType dtype, size_t source_shift, size_t destination_shift) {
    Context context;
    const size_t size = dtype.bits / 8;
    std::vector<unsigned char> from(1 << 16), to(1 << 16, 0xEE), expected;
    for (size_t i = 0; i < from.size(); ++i)
        from[i] = static_cast<unsigned char>(i * 37 + i / 251);
    expected = to;
    const auto strides_of = [&](const std::vector<int64_t>& strides) {
        return strides.empty() ? compact_strides(test.shape) : strides;
    };
    const auto source = strides_of(test.source), destination = strides_of(test.destination);
    for_each_index(test.shape, [&](const std::vector<int64_t>& index) {
        const auto at = [&](const std::vector<int64_t>& strides) {
            return size * static_cast<size_t>(std::inner_product(index.begin(), index.end(), strides.begin(), int64_t{0}));
        };
        std::memcpy(&expected[destination_shift + at(destination)], &from[source_shift + at(source)], size);
    });
    View x{from.data() + source_shift, dtype, test.shape, test.source};
    View y{to.data() + destination_shift, dtype, test.shape, test.destination};
    ASSERT_SUCCESS(ssm_copy(context, x, y));
    ASSERT_EQ(to, expected);
}

TEST(CoreCopy, AnyStrides) {
    const Case cases[] = {
        {{}, {}, {}},
        {{7}, {}, {}},
        {{7}, {3}, {}},
        {{7}, {0}, {2}},
        {{2, 3, 4}, {}, {}},
        {{2, 3, 4}, {12, 1, 3}, {}},
        {{2, 3, 4}, {}, {1, 8, 2}},
        {{2, 3, 4}, {0, 4, 1}, {24, 8, 2}},
        {{2, 1, 4}, {4, 99, 1}, {4, -3, 1}},
        {{2, 3, 4, 5}, {60, 20, 1, 4}, {1, 2, 6, 24}},
        {{1, 2, 1, 2, 1, 2, 1, 2}, {}, {9, 1, 9, 2, 9, 4, 9, 8}},
        {{0, 4}, {}, {}},
    };
    for (DLDataType dtype : {uint8, float16, float32, complex64, complex128}) {
        for (const Case& test : cases)
            check_copy(test, dtype, 0, 0);
    }
}

// Pointers that are not aligned to their elements: slower, and right.
TEST(CoreCopy, Misaligned) {
    for (size_t shift : {1, 2, 4, 6, 8, 12}) {
        check_copy({{3, 4}, {1, 3}, {}}, complex128, shift, 0);
        check_copy({{3, 4}, {}, {1, 3}}, float64, 0, shift);
        check_copy({{3, 4}, {8, 2}, {}}, float32, shift, shift + 1);
    }
    Context context;
    std::vector<char> memory(1 << 16);
    const std::vector<int64_t> shape(8, 2), apart{2000, 900, 400, 180, 80, 35, 15, 6};
    View x{memory.data() + 1, float16, shape, apart}, y{memory.data() + (1 << 15), float16, shape, apart};
    EXPECT_FAILURE(SSM_ERROR_UNSUPPORTED, "a copy between misaligned tensors of more than 7 dimensions that do not merge",
                   ssm_copy(context, x, y));
}

TEST(CoreCopy, Errors) {
    Context context;
    std::vector<float> memory(256);
    View x{memory.data(), float32, {2, 3}}, y{memory.data() + 16, float32, {2, 3}};
    EXPECT_SUCCESS(ssm_copy(context, x, y));
    EXPECT_INVALID("source: a tensor expected, NULL given", ssm_copy(context, nullptr, y));
    EXPECT_INVALID("destination: a tensor expected, NULL given", ssm_copy(context, x, nullptr));
    y.shape[1] = 2;
    EXPECT_INVALID("destination: shape (2,3) expected, (2,2) given", ssm_copy(context, x, y));
    y.shape[1] = 3;
    y.tensor.dtype = int32;
    EXPECT_INVALID("destination: float32 expected, int32 given", ssm_copy(context, x, y));
    y.tensor.dtype = float32;
    y.tensor.data = memory.data() + 2;
    EXPECT_INVALID("destination: memory apart from source expected, overlapping memory given", ssm_copy(context, x, y));
    y.tensor.data = memory.data() + 16;
    y.tensor.device = {kDLCUDA, 0};
    EXPECT_INVALID("destination: a tensor on cpu expected, one on cuda:0 given", ssm_copy(context, x, y));
    View fan{memory.data() + 16, float32, {2, 3}, {0, 1}};
    EXPECT_INVALID("destination: strides that keep its elements apart expected, shape (2,3) with strides (0,1) given",
                   ssm_copy(context, x, fan));
}

} // namespace
} // namespace ssm::core_test
