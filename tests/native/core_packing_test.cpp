// Any strides give what compact tensors give: packing into the workspace and back.
#include "core_support.h"

#include <cmath>
#include <functional>
#include <map>

namespace ssm::core_test {
namespace {

// A tensor of float in memory of its own, laid out by strides that `order` (innermost last) and `gap` make, shifted by
// `shift` bytes from alignment.
struct Laid {
    std::vector<int64_t> shape, strides;
    std::vector<char> memory;
    std::unique_ptr<View> view;

    Laid(std::vector<int64_t> extents, std::vector<int> order, int64_t gap = 1, size_t shift = 0)
        : shape(std::move(extents)), strides(shape.size()) {
        int64_t stride = gap;
        for (size_t i = order.size(); i-- > 0;) {
            strides[order[i]] = stride;
            stride *= shape[order[i]];
        }
        memory.resize(static_cast<size_t>(stride + 1) * sizeof(float) + 64, 0x55);
        char* data = memory.data();
        data += (64 - reinterpret_cast<uintptr_t>(data) % 64) % 64 + shift;
        view = std::make_unique<View>(data, float32, shape, strides);
    }
    char* at(const std::vector<int64_t>& index) {
        int64_t offset = 0;
        for (size_t i = 0; i < index.size(); ++i)
            offset += index[i] * strides[i];
        return static_cast<char*>(view->tensor.data) + offset * int64_t{sizeof(float)};
    }
    float get(const std::vector<int64_t>& index) {
        float value;
        std::memcpy(&value, at(index), sizeof(value));
        return value;
    }
    void set(const std::vector<int64_t>& index, float value) { std::memcpy(at(index), &value, sizeof(value)); }

    // Visits every index in row-major order.
    void visit(const std::function<void(const std::vector<int64_t>&)>& see) {
        std::vector<int64_t> index(shape.size(), 0);
        for (;;) {
            see(index);
            size_t axis = shape.size();
            while (axis > 0 && ++index[axis - 1] == shape[axis - 1])
                index[--axis] = 0;
            if (axis == 0)
                return;
        }
    }
    void fill(float first) {
        float value = first;
        visit([&](const auto& index) {
            value = std::fmod(value * 1.37f + 0.61f, 0.9f);
            set(index, value);
        });
    }
    std::vector<float> values() {
        std::vector<float> all;
        visit([&](const auto& index) { all.push_back(get(index)); });
        return all;
    }
};

// How the tensors of a call lie in memory.
struct Style {
    const char* name;
    std::vector<int> sequence_order; // of (B,C,L)
    int64_t gap;
    size_t shift;
    bool is_mixed; // every second tensor is laid out the other way
};

const Style styles[] = {
    {"time", {0, 1, 2}, 1, 0, false},
    {"channel", {0, 2, 1}, 1, 0, false},
    {"batch inside", {2, 1, 0}, 1, 0, false},
    {"every third", {0, 1, 2}, 3, 0, false},
    {"rows outside in", {1, 0, 2}, 1, 0, false},
    {"misaligned", {0, 1, 2}, 1, 2, false},
    {"mixed", {0, 2, 1}, 1, 0, true},
    {"misaligned channel", {2, 0, 1}, 2, 1, false},
};

class Tensors {
  public:
    explicit Tensors(const Style& style) : style(style) {}

    Laid& sequence(const char* name, int64_t batch, int64_t channels, int64_t length) {
        const bool turn = style.is_mixed && all.size() % 2 == 1;
        return add(name, {batch, channels, length}, turn ? std::vector<int>{0, 1, 2} : style.sequence_order);
    }
    // (B,G,N,L): the order of a (B,C,L) tensor with the groups and states in place of the channels.
    Laid& state_sequence(const char* name, std::vector<int64_t> shape) {
        std::vector<int> order;
        for (int axis : style.sequence_order) {
            if (axis == 0)
                order.push_back(0);
            if (axis == 1)
                order.insert(order.end(), {1, 2});
            if (axis == 2)
                order.push_back(3);
        }
        return add(name, std::move(shape), order);
    }
    Laid& compact(const char* name, std::vector<int64_t> shape) {
        std::vector<int> order;
        for (size_t i = 0; i < shape.size(); ++i)
            order.push_back(static_cast<int>(style.gap == 1 ? i : shape.size() - 1 - i));
        return add(name, std::move(shape), order);
    }

  private:
    const Style& style;
    std::map<std::string, std::unique_ptr<Laid>> all;

    Laid& add(const char* name, std::vector<int64_t> shape, std::vector<int> order) {
        auto& laid = all[name];
        laid = std::make_unique<Laid>(std::move(shape), std::move(order), style.gap, style.shift);
        laid->fill(static_cast<float>(all.size()) * 0.1f);
        return *laid;
    }
};

// Runs a call on every style, checks that the workspace query was right to the byte, and compares every output with that of
// the first style.
template <class Args>
void check_styles(int32_t (*run)(ssm_context*, const Args*), int32_t (*query)(ssm_context*, const Args*, uint64_t*),
                  const std::function<std::vector<Laid*>(Tensors&, Args&)>& make, float tolerance = 1e-6f) {
    std::vector<std::vector<float>> expected;
    for (const Style& style : styles) {
        SCOPED_TRACE(style.name);
        Context context;
        Tensors tensors(style);
        Args args = make_args<Args>();
        const std::vector<Laid*> outputs = make(tensors, args);
        for (Laid* output : outputs) {
            output->visit([&](const auto& index) { output->set(index, NAN); });
        }
        uint64_t bytes = 0;
        ASSERT_SUCCESS(query(context, &args, &bytes));
        std::vector<char> memory(bytes + 256 + 64, 0x33);
        char* base = memory.data() + (256 - reinterpret_cast<uintptr_t>(memory.data()) % 256) % 256;
        if (bytes) {
            ASSERT_SUCCESS(ssm_context_set_workspace(context, base, bytes));
        }
        ASSERT_SUCCESS(run(context, &args));
        for (const char* end = base + bytes; end < memory.data() + memory.size(); ++end)
            ASSERT_EQ(*end, 0x33);
        if (expected.empty()) {
            for (Laid* output : outputs)
                expected.push_back(output->values());
            continue;
        }
        for (size_t i = 0; i < outputs.size(); ++i) {
            const std::vector<float> got = outputs[i]->values();
            for (size_t k = 0; k < got.size(); ++k) {
                ASSERT_NEAR(got[k], expected[i][k], tolerance * (1 + std::fabs(expected[i][k])))
                    << "output " << i << " at " << k;
            }
        }
    }
}

TEST(CorePacking, AssociativeScan) {
    check_styles<ssm_associative_scan_args>(ssm_associative_scan, ssm_associative_scan_workspace,
                                            [](Tensors& tensors, ssm_associative_scan_args& args) {
                                                Laid& y = tensors.sequence("y", 2, 3, 5);
                                                Laid& last_state = tensors.compact("last_state", {2, 3});
                                                args.x = *tensors.sequence("x", 2, 3, 5).view;
                                                args.initial_state = *tensors.compact("initial_state", {2, 3}).view;
                                                args.y = *y.view;
                                                args.last_state = *last_state.view;
                                                return std::vector<Laid*>{&y, &last_state};
                                            });
}

TEST(CorePacking, LinearRecurrence) {
    for (int64_t length : {1, 5, 130}) {
        for (int64_t channels : {1, 3, 33}) {
            check_styles<ssm_linear_recurrence_args>(
                ssm_linear_recurrence, ssm_linear_recurrence_workspace, [&](Tensors& tensors, auto& args) {
                    Laid& h = tensors.sequence("h", 2, channels, length);
                    Laid& last_state = tensors.compact("last_state", {2, channels});
                    args.a = *tensors.sequence("a", 2, channels, length).view;
                    args.b = *tensors.sequence("b", 2, channels, length).view;
                    args.initial_state = *tensors.compact("initial_state", {2, channels}).view;
                    args.h = *h.view;
                    args.last_state = *last_state.view;
                    return std::vector<Laid*>{&h, &last_state};
                });
        }
    }
}

// With the forward result given and computed again.
TEST(CorePacking, LinearRecurrenceBackward) {
    for (bool gives_h : {false, true}) {
        check_styles<ssm_linear_recurrence_backward_args>(
            ssm_linear_recurrence_backward, ssm_linear_recurrence_backward_workspace, [&](Tensors& tensors, auto& args) {
                Laid& grad_a = tensors.sequence("grad_a", 2, 3, 5);
                Laid& grad_b = tensors.sequence("grad_b", 2, 3, 5);
                Laid& grad_initial_state = tensors.compact("grad_initial_state", {2, 3});
                Laid& a = tensors.sequence("a", 2, 3, 5);
                Laid& b = tensors.sequence("b", 2, 3, 5);
                Laid& initial_state = tensors.compact("initial_state", {2, 3});
                args.a = *a.view;
                args.initial_state = *initial_state.view;
                args.grad_h = *tensors.sequence("grad_h", 2, 3, 5).view;
                args.grad_last_state = *tensors.compact("grad_last_state", {2, 3}).view;
                args.grad_a = *grad_a.view;
                args.grad_b = *grad_b.view;
                args.grad_initial_state = *grad_initial_state.view;
                if (gives_h) {
                    Laid& h = tensors.sequence("h", 2, 3, 5);
                    for (int64_t row = 0; row < 2; ++row) {
                        for (int64_t channel = 0; channel < 3; ++channel) {
                            float state = initial_state.get({row, channel});
                            for (int64_t t = 0; t < 5; ++t) {
                                state = a.get({row, channel, t}) * state + b.get({row, channel, t});
                                h.set({row, channel, t}, state);
                            }
                        }
                    }
                    args.h = *h.view;
                } else {
                    args.b = *b.view;
                }
                return std::vector<Laid*>{&grad_a, &grad_b, &grad_initial_state};
            });
    }
}

// grad_a is the same whether h is given or not, and right.
TEST(CorePacking, BackwardComputesTheForward) {
    Context context;
    float a[4] = {0.5f, 2, 3, 0.25f}, b[4] = {1, 2, 3, 4}, grad_h[4] = {1, 10, 100, 1000}, grad_a[4], first = 8;
    View va{a, float32, {1, 1, 4}}, vb{b, float32, {1, 1, 4}}, vgh{grad_h, float32, {1, 1, 4}},
        vga{grad_a, float32, {1, 1, 4}}, vfirst{&first, float32, {1, 1}};
    auto args = make_args<ssm_linear_recurrence_backward_args>();
    args.a = va;
    args.b = vb;
    args.initial_state = vfirst;
    args.grad_h = vgh;
    args.grad_a = vga;
    EXPECT_SUCCESS(ssm_linear_recurrence_backward(context, &args));
    // h = 5, 12, 39; g_3 = 1000, g_2 = 350, g_1 = 1060, g_0 = 2121
    EXPECT_EQ(grad_a[0], 2121 * 8);
    EXPECT_EQ(grad_a[1], 1060 * 5);
    EXPECT_EQ(grad_a[2], 350 * 12);
    EXPECT_EQ(grad_a[3], 1000 * 39);
}

TEST(CorePacking, SelectiveScan) {
    for (bool is_constant : {false, true}) {
        check_styles<ssm_selective_scan_args>(
            ssm_selective_scan, ssm_selective_scan_workspace,
            [&](Tensors& tensors, auto& args) {
                Laid& y = tensors.sequence("y", 2, 6, 5);
                Laid& last_state = tensors.compact("last_state", {2, 6, 4});
                args.u = *tensors.sequence("u", 2, 6, 5).view;
                args.dt = *tensors.sequence("dt", 2, 6, 5).view;
                args.z = *tensors.sequence("z", 2, 6, 5).view;
                args.a = *tensors.compact("a", {6, 4}).view;
                args.b = is_constant ? *tensors.compact("b", {6, 4}).view : *tensors.state_sequence("b", {2, 3, 4, 5}).view;
                args.c = *tensors.state_sequence("c", {2, 3, 4, 5}).view;
                args.d = *tensors.compact("d", {6}).view;
                args.dt_bias = *tensors.compact("dt_bias", {6}).view;
                args.initial_state = *tensors.compact("initial_state", {2, 6, 4}).view;
                args.y = *y.view;
                args.last_state = *last_state.view;
                args.dt_softplus = 1;
                return std::vector<Laid*>{&y, &last_state};
            },
            2e-5f);
    }
}

// An output that is its input, where both must be packed.
TEST(CorePacking, InPlaceThroughTheWorkspace) {
    Context context;
    const Style sparse{"", {1, 2, 0}, 3, 0, false};
    Tensors tensors(sparse);
    Laid &a = tensors.sequence("a", 2, 3, 40), &b = tensors.sequence("b", 2, 3, 40), &h = tensors.sequence("h", 2, 3, 40);
    auto args = make_args<ssm_linear_recurrence_args>();
    args.a = *a.view;
    args.b = *b.view;
    args.h = *h.view;
    EXPECT_SUCCESS(ssm_linear_recurrence(context, &args));
    args.h = *b.view;
    EXPECT_SUCCESS(ssm_linear_recurrence(context, &args));
    EXPECT_EQ(b.values(), h.values());
    b.fill(0.2f);
    args.h = *h.view;
    EXPECT_SUCCESS(ssm_linear_recurrence(context, &args));
    args.h = *a.view;
    EXPECT_SUCCESS(ssm_linear_recurrence(context, &args));
    EXPECT_EQ(a.values(), h.values());
}

// Broadcast inputs: strides of 0 in every place.
TEST(CorePacking, Broadcast) {
    Context context;
    for (int mask = 1; mask < 8; ++mask) {
        SCOPED_TRACE(mask);
        const Style plain{"", {0, 1, 2}, 1, 0, false};
        Tensors tensors(plain);
        Laid &a = tensors.sequence("a", 2, 3, 5), &b = tensors.sequence("b", 2, 3, 5), &h = tensors.sequence("h", 2, 3, 5);
        std::vector<int64_t> strides = a.strides;
        for (int axis = 0; axis < 3; ++axis) {
            if (mask >> axis & 1)
                strides[axis] = 0;
        }
        View broadcast{a.view->tensor.data, float32, a.shape, strides};
        auto args = make_args<ssm_linear_recurrence_args>();
        args.a = broadcast;
        args.b = *b.view;
        args.h = *h.view;
        ASSERT_SUCCESS(ssm_linear_recurrence(context, &args));
        a.strides = strides;
        for (int64_t row = 0; row < 2; ++row) {
            for (int64_t channel = 0; channel < 3; ++channel) {
                float state = 0;
                for (int64_t t = 0; t < 5; ++t) {
                    state = a.get({row, channel, t}) * state + b.get({row, channel, t});
                    ASSERT_NEAR(h.get({row, channel, t}), state, 1e-5);
                }
            }
        }
    }
}

// As few bytes as possible are packed, and nothing where everything fits.
TEST(CorePacking, PacksAsLittleAsPossible) {
    Context context;
    auto args = make_args<ssm_linear_recurrence_args>();
    const auto bytes_with = [&](const View& a, const View& b, const View& h) {
        args.a = a;
        args.b = b;
        args.h = h;
        uint64_t bytes = 0;
        EXPECT_SUCCESS(ssm_linear_recurrence_workspace(context, &args, &bytes));
        return bytes;
    };
    const std::vector<int64_t> shape{2, 64, 128};
    constexpr uint64_t tensor = 2 * 64 * 128 * 4;
    const View time{nullptr, float32, shape}, channel{nullptr, float32, shape, {64 * 128, 1, 64}};
    const View batch_apart{nullptr, float32, shape, {1 << 20, 128, 1}}, sparse{nullptr, float32, shape, {1 << 20, 256, 2}};
    const uint64_t least_time = bytes_with(time, time, time), least_channel = bytes_with(channel, channel, channel);
    EXPECT_EQ(bytes_with(batch_apart, time, batch_apart), least_time);
    EXPECT_EQ(bytes_with(time, channel, time), least_time + tensor);
    EXPECT_EQ(bytes_with(channel, time, channel), least_channel + tensor);
    EXPECT_EQ(bytes_with(channel, sparse, channel), least_channel + tensor);
    EXPECT_EQ(bytes_with(sparse, sparse, sparse), least_time + 3 * tensor);
}

} // namespace
} // namespace ssm::core_test
