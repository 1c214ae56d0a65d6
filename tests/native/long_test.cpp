// One row of 2^31 + 7 elements in float16: offsets beyond 32 bits. Takes 13 GB; runs where SSM_LONG_TESTS=1.
#include <gtest/gtest.h>

#include <cmath>

#include "support/device.h"

namespace ssm::test {

class Long : public testing::TestWithParam<Device> {
  protected:
    void SetUp() override {
        if (!long_tests_are_wanted())
            GTEST_SKIP() << "set SSM_LONG_TESTS=1: takes 13 GB and minutes";
        if (GetParam().is_slow())
            GTEST_SKIP() << "the emulated device would take hours";
    }
};
INSTANTIATE_TEST_SUITE_P(Devices, Long, testing::ValuesIn(devices()), [](const auto& info) { return info.param.name; });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Long);

namespace {

constexpr int64_t length = (int64_t{1} << 31) + 7;
constexpr int64_t piece = int64_t{1} << 25;

// A row of float16 that repeats a table whose size shares no factor with any tile.
class LongRow {
  public:
    LongRow(Context& context) : context(context) {
        SSM_CHECK(ssm_allocate(context, length * 2, &memory));
        tensor = {memory, {static_cast<DLDeviceType>(context.device().type), context.device().id},
                  3,      {kDLFloat, 16, 1},
                  shape,  nullptr,
                  0};
    }
    ~LongRow() { ssm_free(context, memory); }
    const DLTensor* get() const { return &tensor; }

    void fill(const std::vector<uint16_t>& table) {
        std::vector<uint16_t> buffer(piece);
        for (int64_t begin = 0; begin < length; begin += piece) {
            const int64_t count = std::min(piece, length - begin);
            for (int64_t i = 0; i < count; ++i)
                buffer[i] = table[(begin + i) % static_cast<int64_t>(table.size())];
            upload(context, buffer.data(), static_cast<uint16_t*>(memory) + begin, static_cast<uint64_t>(count) * 2);
        }
    }
    // Visits every element in order: visit(t, bits).
    template <class Visit>
    void read(Visit visit) {
        std::vector<uint16_t> buffer(piece);
        for (int64_t begin = 0; begin < length; begin += piece) {
            const int64_t count = std::min(piece, length - begin);
            download(context, static_cast<uint16_t*>(memory) + begin, buffer.data(), static_cast<uint64_t>(count) * 2);
            for (int64_t i = 0; i < count; ++i)
                visit(begin + i, buffer[i]);
        }
    }

  private:
    Context& context;
    void* memory = nullptr;
    int64_t shape[3] = {1, 1, length};
    DLTensor tensor{};
};

std::vector<uint16_t> table_of(size_t size, double low, double high, uint64_t seed) {
    Random random(seed);
    std::vector<uint16_t> table(size);
    for (uint16_t& bits : table)
        encode(Type::float16, random.uniform(low, high), &bits);
    return table;
}

std::vector<double> values_of(const std::vector<uint16_t>& table) {
    std::vector<double> values;
    for (const uint16_t& bits : table)
        values.push_back(decode(Type::float16, &bits).real());
    return values;
}

std::vector<double> all_float16() {
    std::vector<double> values;
    for (int bits = 0; bits < 65536; ++bits) {
        const uint16_t pattern = static_cast<uint16_t>(bits);
        values.push_back(decode(Type::float16, &pattern).real());
    }
    return values;
}

} // namespace

// The table sums to zero, so that the running sum repeats and stays small however long the row is.
TEST_P(Long, AssociativeScanBeyond32Bits) {
    Context context(GetParam());
    std::vector<uint16_t> table;
    for (const uint16_t half : table_of(1001, 1, 2, 1)) {
        table.push_back(half);
        table.push_back(half ^ 0x8000);
    }
    table.push_back(0);
    const std::vector<double> values = values_of(table), decoded = all_float16();
    LongRow x(context), y(context);
    x.fill(table);
    ssm_associative_scan_args args{};
    args.struct_size = sizeof args;
    args.x = x.get();
    args.y = y.get();
    SSM_CHECK(ssm_associative_scan(context, &args));
    SSM_CHECK(ssm_context_synchronize(context));
    double sum = 0;
    int64_t wrong = 0, first = -1;
    size_t position = 0;
    y.read([&](int64_t t, uint16_t bits) {
        sum += values[position];
        position = position + 1 == values.size() ? 0 : position + 1;
        // Every partial sum is a multiple of 2^-10 below 2^12, exact in float32.
        if (std::abs(decoded[bits] - sum) > 1e-3 && ++wrong == 1)
            first = t;
    });
    EXPECT_EQ(wrong, 0) << "the first at " << first;
}

TEST_P(Long, LinearRecurrenceBeyond32Bits) {
    Context context(GetParam());
    const std::vector<uint16_t> a_table = table_of(2003, 0.9, 1, 2), b_table = table_of(4001, -1, 1, 3);
    const std::vector<double> a_values = values_of(a_table), b_values = values_of(b_table), decoded = all_float16();
    LongRow a(context), b(context), h(context);
    a.fill(a_table);
    b.fill(b_table);
    ssm_linear_recurrence_args args{};
    args.struct_size = sizeof args;
    args.a = a.get();
    args.b = b.get();
    args.h = h.get();
    SSM_CHECK(ssm_linear_recurrence(context, &args));
    SSM_CHECK(ssm_context_synchronize(context));
    double state = 0;
    int64_t wrong = 0, first = -1;
    size_t a_position = 0, b_position = 0;
    h.read([&](int64_t t, uint16_t bits) {
        state = a_values[a_position] * state + b_values[b_position];
        a_position = a_position + 1 == a_values.size() ? 0 : a_position + 1;
        b_position = b_position + 1 == b_values.size() ? 0 : b_position + 1;
        const double limit = std::abs(state) * std::ldexp(1.0, -11) + 1e-4;
        if (!(std::abs(decoded[bits] - state) <= limit) && ++wrong == 1)
            first = t;
    });
    EXPECT_EQ(wrong, 0) << "the first at " << first;
}

// 2^24 steps and as many taps, of which four are not zero: one transform of 2^25 numbers.
TEST_P(Long, CausalConvOfAnAsLongKernel) {
    Context context(GetParam());
    constexpr int64_t steps = int64_t{1} << 24;
    struct Row {
        Context& context;
        std::vector<float> values = std::vector<float>(static_cast<size_t>(steps), 0.0f);
        void* memory = nullptr;
        int64_t shape[3] = {1, 1, steps};
        DLTensor tensor{};
        Row(Context& context, int32_t rank) : context(context) {
            SSM_CHECK(ssm_allocate(context, steps * sizeof(float), &memory));
            tensor = {memory,
                      {static_cast<DLDeviceType>(context.device().type), context.device().id},
                      rank,
                      {kDLFloat, 32, 1},
                      shape + 3 - rank,
                      nullptr,
                      0};
        }
        ~Row() { ssm_free(context, memory); }
        void write() { upload(context, values.data(), memory, steps * sizeof(float)); }
        void read() { download(context, memory, values.data(), steps * sizeof(float)); }
    };
    Row u(context, 3), k(context, 2), y(context, 3);
    Random random(1);
    for (float& value : u.values)
        value = static_cast<float>(random.uniform(-1, 1));
    const std::pair<int64_t, float> taps[] = {{0, 1.0f}, {1, -0.5f}, {steps / 3, 0.25f}, {steps - 1, 2.0f}};
    for (const auto& [at, tap] : taps)
        k.values[static_cast<size_t>(at)] = tap;
    u.write();
    k.write();
    ssm_causal_conv_args args{};
    args.struct_size = sizeof args;
    args.u = &u.tensor;
    args.k = &k.tensor;
    args.y = &y.tensor;
    SSM_CHECK(ssm_causal_conv(context, &args));
    y.read();
    double worst = 0;
    for (int64_t t = 0; t < steps; ++t) {
        double sum = 0;
        for (const auto& [at, tap] : taps)
            sum += t >= at ? tap * static_cast<double>(u.values[static_cast<size_t>(t - at)]) : 0;
        worst = std::max(worst, std::abs(sum - y.values[static_cast<size_t>(t)]));
    }
    EXPECT_LT(worst, 1e-5);
}

} // namespace ssm::test
