// Wrong arguments of the Mamba operations, on every device: a sentence that names the argument, what was expected and what
// came, and nothing written. Values that lie on a device are looked at because the context checks; without it such calls
// stay within their memory.
#include <cmath>
#include <functional>
#include <limits>

#include "support/mamba.h"
#include "support/norms.h"
#include "support/problems.h"
#include "support/reference.h"

#include <gtest/gtest.h>

namespace ssm::test {

using enum Type;

namespace {

std::string text_of(const std::vector<int64_t>& numbers) {
    std::string text;
    for (const int64_t number : numbers) {
        text += text.empty() ? "" : ",";
        text += std::to_string(number);
    }
    return text;
}

class BadInput : public testing::TestWithParam<Target> {
  protected:
    Type type = GetParam().type, real = state_type(type);
    Context context{GetParam().device};

    void SetUp() override { SSM_CHECK(ssm_context_set_checking(context, 1)); }

    void expect(const Problem& right, const std::string& sentence, const std::function<void(Problem&)>& change) {
        Problem problem = right;
        change(problem);
        Call call(context, problem);
        EXPECT_EQ(call.run(), SSM_ERROR_INVALID_ARGUMENT) << problem.describe();
        EXPECT_EQ(std::string(ssm_last_error()), sentence);
        call.check_nothing_written();
    }
    // The problem as it is, so that the change is what is wrong with the others.
    void expect_right(const Problem& problem) { expect_near(run(context, problem), reference(problem), problem.describe()); }

    // What sequence operations check of packed sequences, 9 steps in three of them.
    void expect_bounds(const Problem& packed) {
        expect_right(packed);
        const auto bounds = [&](const std::vector<int64_t>& values) {
            return [=](Problem& problem) { problem.inputs["cu_seqlens"] = indices(values, int64); };
        };
        expect(packed, "cu_seqlens[2]: at least 7 expected, 3 given", bounds({0, 7, 3, 9}));
        expect(packed, "cu_seqlens[0]: 0 expected, 1 given", bounds({1, 4, 4, 9}));
        expect(packed, "cu_seqlens[0]: 0 expected, -1 given", bounds({-1, 4, 4, 9}));
        expect(packed, "cu_seqlens[3]: the length 9 expected, 10 given", bounds({0, 4, 4, 10}));
        expect(packed, "cu_seqlens[3]: the length 9 expected, 8 given", bounds({0, 4, 4, 8}));
        expect(packed, "cu_seqlens: int64 expected, int32 given",
               [](Problem& problem) { problem.inputs["cu_seqlens"].type = int32; });
    }

    // A number that is none in the rates; the last one, so that all of them are looked at.
    void expect_finite(const Problem& right, const std::string& index) {
        const std::pair<double, const char*> bad[] = {{std::nan(""), "nan"},
                                                      {std::numeric_limits<double>::infinity(), "inf"},
                                                      {-std::numeric_limits<double>::infinity(), "-inf"}};
        for (const auto& [value, text] : bad)
            for (const View view : {View::compact, View::padded, View::reversed_axes})
                expect(right, "a[" + index + "]: a finite number expected, " + text + " given",
                       [value = value, view](Problem& problem) {
                           problem.inputs["a"].values.back() = value;
                           problem.views["a"] = view;
                       });
    }

    void expect_slots(const Problem& right) {
        expect_right(right);
        const auto slots = [&](const std::vector<int64_t>& values) {
            return [=](Problem& problem) { problem.inputs["slots"] = indices(values); };
        };
        expect(right, "slots[1]: -1 or a row of the 5 of state expected, 5 given", slots({0, 5, -1}));
        expect(right, "slots[2]: -1 or a row of the 5 of state expected, -2 given", slots({0, 4, -2}));
        expect(right, "slots[2]: a row that no element before it has expected, 3 given", slots({3, -1, 3}));
        expect(right, "slots[1]: a row that no element before it has expected, 0 given", slots({0, 0, 1}));
        expect(right, "slots: shape (3) expected, (2) given", slots({0, 1}));
        expect(right, "slots: int32 expected, int64 given", [](Problem& problem) { problem.inputs["slots"].type = int64; });
        // The slots themselves must not overlap.
        const Tensor& state = right.inputs.at("state");
        std::vector<int64_t> strides(state.shape.size(), 0);
        for (size_t i = state.shape.size(), stride = 1; --i > 0; stride *= static_cast<size_t>(state.shape[i]))
            strides[i] = static_cast<int64_t>(stride);
        expect(right,
               "state: strides that keep its elements apart expected, shape (" + text_of(state.shape) + ") with strides (" +
                   text_of(strides) + ") given",
               [](Problem& problem) { problem.views["state"] = View::broadcast_batch; });
        expect_right([&] { // skipping is no slot, however often
            Problem problem = right;
            slots({-1, 2, -1})(problem);
            return problem;
        }());
    }
};

} // namespace

TEST_P(BadInput, SelectiveScanAndItsGradients) {
    const Problem forward = selective_scan_of({type, 2, 6, 9, 5, 3});
    const Problem packed = selective_scan_of({type, 1, 6, 9, 5, 3, {0, 4, 4, 9}});
    for (const Problem& right : {forward, gradients_of(forward)}) {
        expect_right(right);
        expect(right, "b: a number of groups that divides the 6 channels expected, 4 given", [&](Problem& problem) {
            problem.inputs["b"] = problem.inputs["c"] = Tensor(type, {2, 4, 5, 9});
        });
        expect(right, "c: shape (2,3,5,9) expected, (2,2,5,9) given", [&](Problem& problem) {
            problem.inputs["c"] = Tensor(type, {2, 2, 5, 9});
        });
        expect_finite(right, "5,4");
    }
    Problem complex = forward; // the imaginary part counts
    for (const char* name : {"a", "b", "c", "initial_state"})
        complex.inputs[name].type = complex_of(type);
    complex.outputs["last_state"].type = complex_of(type);
    expect(complex, "a[0,1]: a finite number expected, nan given", [](Problem& problem) {
        problem.inputs["a"].values[1] = {0, std::nan("")};
    });
    expect_bounds(packed);
    expect_bounds(gradients_of(packed));
}

TEST_P(BadInput, SsdAndItsGradients) {
    const Problem forward = ssd_of({type, 2, 9, 4, 5, 2, 7});
    const Problem packed = ssd_of({type, 1, 9, 4, 5, 2, 7, 0, {0, 4, 4, 9}});
    for (const Problem& right : {forward, gradients_of(forward)}) {
        expect_right(right);
        expect(right, "b: a number of groups that divides the 4 heads expected, 3 given", [&](Problem& problem) {
            problem.inputs["b"] = problem.inputs["c"] = Tensor(type, {2, 9, 3, 7});
        });
        expect(right, "c: shape (2,9,2,7) expected, (2,9,4,7) given", [&](Problem& problem) {
            problem.inputs["c"] = Tensor(type, {2, 9, 4, 7});
        });
        expect_finite(right, "3");
    }
    expect_bounds(packed);
    expect_bounds(gradients_of(packed));
}

TEST_P(BadInput, StateUpdate) {
    for (const int64_t heads : {0, 2}) {
        const Problem right = selective_state_update_of({type, real, 3, heads, 6, 2, 7, 2, true, {4, -1, 0}, 5});
        expect_slots(right);
        const std::string members = heads ? "2 heads" : "6 channels";
        expect(right, "b: a number of groups that divides the " + members + " expected, 4 given", [&](Problem& problem) {
            for (const char* name : {"b", "c"})
                problem.inputs[name] =
                    Tensor(type, heads ? std::vector<int64_t>{3, 2, 4, 7} : std::vector<int64_t>{3, 4, 7, 2});
        });
        expect(right,
               heads ? "c: shape (3,2,2,7) expected, (3,2,1,7) given" : "c: shape (3,2,7,2) expected, (3,1,7,2) given",
               [&](Problem& problem) {
                   problem.inputs["c"] =
                       Tensor(type, heads ? std::vector<int64_t>{3, 2, 1, 7} : std::vector<int64_t>{3, 1, 7, 2});
               });
        expect_finite(right, heads ? "1" : "5,6");
    }
}

TEST_P(BadInput, CausalConv1dAndItsGradients) {
    const Problem forward = causal_conv1d_of({type, 2, 6, 9});
    Problem packed = causal_conv1d_of({type, 1, 6, 9, 4, true, true, false});
    packed.inputs["cu_seqlens"] = indices({0, 4, 4, 9}, int64);
    for (const Problem& right : {forward, gradients_of(forward)}) {
        expect_right(right);
        expect(right, "weight: shape (6,4) expected, (3,4) given", [&](Problem& problem) {
            problem.inputs["weight"] = Tensor(real, {3, 4});
        });
        expect(right, "initial_state: shape (2,6,3) expected, (2,6,4) given", [&](Problem& problem) {
            problem.inputs["initial_state"] = Tensor(real, {2, 6, 4});
        });
    }
    expect_bounds(packed);
    expect_bounds(gradients_of(packed));
}

TEST_P(BadInput, CausalConvAndItsGradients) {
    for (const Operation operation : {Operation::causal_conv, Operation::causal_conv_backward}) {
        const Problem right = problems(operation, {type, 2, 3, 9})[2]; // with taps that look ahead
        expect_right(right);
        expect(right, "k: shape (3,230) expected, (2,230) given", [&](Problem& problem) {
            problem.inputs["k"] = Tensor(real, {2, 230});
        });
        expect(right, "k: at least one tap expected, 0 given", [&](Problem& problem) {
            problem.inputs["k"] = Tensor(real, {3, 0});
        });
        expect(right, "k_reverse: shape (3,230) expected, (3,229) given", [&](Problem& problem) {
            problem.inputs["k_reverse"] = Tensor(real, {3, 229});
        });
        expect(right, "d: shape (3) expected, (4) given",
               [&](Problem& problem) { problem.inputs["d"] = Tensor(real, {4}); });
        expect(right, "pre_gate: shape (2,3,9) expected, (2,3,8) given", [&](Problem& problem) {
            problem.inputs["pre_gate"] = Tensor(type, {2, 3, 8});
        });
        expect(right, "initial_state: NULL beside k_reverse, which needs the steps after a block expected, a tensor given",
               [&](Problem& problem) {
                   problem.inputs["initial_state"] = Tensor(real, {2, 3, 229});
               });
        Problem packed = problems(operation, {type, 1, 3, 9, {0, 4, 4, 9}})[1];
        expect_bounds(packed);
    }
}

TEST_P(BadInput, CausalConv1dUpdate) {
    const Problem right = causal_conv1d_update_of({type, real, 3, 6, 4, 2, 0, false, true, {4, -1, 0}, 5});
    expect_slots(right);
    expect(right, "state: at least W-1 = 4 steps expected, 3 given", [&](Problem& problem) {
        problem.inputs["weight"] = Tensor(real, {6, 5});
    });
    expect_slots(causal_conv1d_update_of({type, real, 3, 6, 4, 2, 3, true, true, {4, -1, 0}, 5}));
}

TEST_P(BadInput, NormsAndTheirGradients) {
    const auto expect_groups = [&](const std::vector<Problem>& all) {
        for (const Problem& right : all)
            if (right.operation == Operation::gated_rms_norm || right.operation == Operation::gated_rms_norm_backward)
                for (const int64_t wrong : {-3, 5, 24})
                    expect(right, "group_size: 0 or a divisor of D = 12 expected, " + text_of({wrong}) + " given",
                           [&](Problem& problem) { problem.group_size = wrong; });
        for (const Problem& right : all)
            if (right.inputs.count("weight"))
                expect(right, "weight: shape (12) expected, (6) given",
                       [&](Problem& problem) { problem.inputs["weight"] = Tensor(real, {6}); });
    };
    expect_groups(norms(type, {3, 12}));
    expect_groups(norm_gradients(type, {3, 12}));
}

// Without checks a device takes wrong values for something, but reaches nothing outside of its tensors.
TEST_P(BadInput, WithoutChecksDevicesGoOn) {
    if (GetParam().device.type == SSM_DEVICE_CPU)
        GTEST_SKIP() << "a CPU always checks";
    SSM_CHECK(ssm_context_set_checking(context, 0));
    Problem update = selective_state_update_of({type, real, 3, 0, 6, 2, 7, 0, true, {4, 9, 4}, 5});
    run(context, update);
    Problem scan = selective_scan_of({type, 1, 6, 9, 5, 3, {0, 4, 4, 9}});
    scan.inputs["cu_seqlens"] = indices({0, 70, -3, 1000}, int64);
    run(context, scan);
    scan = selective_scan_of({type, 2, 6, 9, 5, 3});
    scan.inputs["a"].values[3] = std::nan("");
    EXPECT_TRUE(std::isnan(run(context, scan).at("y").at(0, 0, 8).real()));
}

// Recorded calls are checked when they are recorded and each time they are launched.
TEST_P(BadInput, IsFoundInGraphs) {
    const Problem right = selective_state_update_of({type, real, 3, 0, 6, 2, 7, 0, true, {4, -1, 0}, 5});
    Problem wrong = right;
    wrong.inputs["slots"] = indices({4, 1, 4});
    Call call(context, right);
    SSM_CHECK(call.run());
    call.reset();
    SSM_CHECK(ssm_context_synchronize(context));
    SSM_CHECK(ssm_capture_begin(context));
    SSM_CHECK(call.run());
    ssm_graph* graph = nullptr;
    SSM_CHECK(ssm_capture_end(context, &graph));
    call.refill(wrong);
    call.clear_outputs();
    if (GetParam().device.type != SSM_DEVICE_CUDA) { // its own graphs are not waited for
        EXPECT_EQ(ssm_graph_launch(context, graph), SSM_ERROR_INVALID_ARGUMENT);
        EXPECT_EQ(std::string(ssm_last_error()), "slots[2]: a row that no element before it has expected, 4 given");
        call.check_nothing_written();
    }
    call.refill(right);
    SSM_CHECK(ssm_graph_launch(context, graph));
    expect_near(call.take(), reference(right), right.describe());
    SSM_CHECK(ssm_graph_destroy(graph));
}

TEST_P(BadInput, CheckingIsOnOrOff) {
    EXPECT_EQ(ssm_context_set_checking(context, 2), SSM_ERROR_INVALID_ARGUMENT);
    EXPECT_EQ(std::string(ssm_last_error()), "enabled: 0 or 1 expected, 2 given");
}

INSTANTIATE_TEST_SUITE_P(Devices, BadInput, testing::ValuesIn(targets({float32})),
                         [](const auto& info) { return name_of(info.param); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(BadInput);

} // namespace ssm::test
