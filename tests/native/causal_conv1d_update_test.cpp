// causal_conv1d_update: against its loop, against causal_conv1d, whose steps it does one by one, and its two states, moved
// on and ring, against each other; slots, steps, types of the state, views.
#include <cmath>
#include <limits>

#include "support/allocations.h"
#include "support/mamba.h"
#include "support/reference.h"

#include <gtest/gtest.h>

namespace ssm::test {

using enum Type;

namespace {

using Sizes = ConvolutionUpdateSizes;
constexpr auto update = causal_conv1d_update_of;

void compare(Context& context, const Problem& problem, const std::string& note = "") {
    expect_near(run(context, problem), reference(problem), problem.describe() + " " + note);
}

std::vector<Type> state_types(Type type) {
    return type == float64 ? std::vector{float64} : std::vector{float32, bfloat16, float16};
}

// A handful that shows a wrong kernel: every kind of width, slots, steps, both states, a state of 16 bits.
std::vector<Problem> some_of_everything(Type type) {
    const Type state = state_type(type), narrow = state_types(type).back();
    return {
        update({type, state, 2, 37, 4}),
        update({type, state, 3, 40, 4, 3, 0, false, true, {3, -1, 0}, 5}),
        update({type, narrow, 3, 21, 4, 1, 0, true}),
        update({type, narrow, 2, 35, 3, 2, 0, false, false}),
        update({type, state, 5, 18, 3, 5, 4, true}),
        update({type, state, 2, 9, 2, 0, 3, false, true, {1, 0}, 2}),
        update({type, narrow, 2, 20, 2, 7, 0, false, false}),
        update({type, narrow, 4, 7, 7, 3, 2, true, true, {2, 6, -1, 0}, 8}),
        update({type, state, 2, 3, 6, 9, 0, false, false}),
        update({type, state, 2, 19, 1, 2}),
    };
}

class CausalConv1dUpdate : public testing::TestWithParam<Target> {};

// One step of a tensor (B,D,T) or a whole one without time.
Tensor step_of(const Tensor& tensor, int64_t t) {
    Tensor part = slice_time(tensor, t, t + 1);
    part.shape.pop_back();
    return part;
}

} // namespace

TEST_P(CausalConv1dUpdate, Quick) {
    const Type type = GetParam().type;
    for (const int64_t tile : {0, 2})
        for (const int64_t path : {0, 1})
            for (const Variation& variation : variations(GetParam().device)) {
                Context context(GetParam().device);
                context.try_option("causal_conv1d_update.tile", tile);
                context.try_option("causal_conv1d_update.path", path);
                ASSERT_TRUE(variation.apply(context)) << variation.name;
                for (const Problem& problem : some_of_everything(type)) {
                    compare(context, problem,
                            "tile " + std::to_string(tile) + " path " + std::to_string(path) + " " + variation.name);
                    if (HasFailure())
                        return;
                }
            }
}

TEST_P(CausalConv1dUpdate, MatchesAtEveryWidth) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    uint64_t seed = 1;
    for (const int64_t width : {1, 2, 3, 4, 5, 7, 8, 16, 33, 129, 256})
        for (const int64_t steps : {0, 1, 2, 5, 70})
            for (const int64_t more : {0, 1, 9})
                for (const bool is_ring : {false, true}) {
                    const std::vector<Type> states = state_types(type);
                    Sizes sizes{type, states[++seed % states.size()], 3, 6, width, steps, more, is_ring, seed % 2 == 0};
                    sizes.seed = seed;
                    compare(context, update(sizes));
                    if (HasFailure())
                        return;
                }
}

TEST_P(CausalConv1dUpdate, MatchesAtEveryNumberOfChannels) {
    const Type type = GetParam().type;
    const bool slow = GetParam().device.is_slow();
    Context context(GetParam().device);
    for (const int64_t channels : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 300, 1025})
        for (const Type state : state_types(type))
            for (const int64_t width : {2, 3, 4, 67}) {
                compare(context, update({type, state, 2, channels, width, 0, 0}));
                if (!slow || channels < 100)
                    compare(context, update({type, state, 2, channels, width, 3, 2, true, false}));
                if (HasFailure())
                    return;
            }
    // Enough for every thread, and batches of many rows.
    compare(context, update({type, state_types(type).back(), slow ? 3 : 70, slow ? 300 : 1536, 4}));
    compare(context, update({type, state_types(type).front(), slow ? 200 : 3000, 5, 4, 2}));
}

// A sequence: causal_conv1d with the state before it and behind it.
TEST_P(CausalConv1dUpdate, EqualsCausalConv1d) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    for (const int64_t width : {1, 2, 3, 4, 9, 40})
        for (const int64_t steps : {1, 2, 3, 50}) {
            const Problem whole = update({type, state_type(type), 2, 21, width, steps, 0, false, width % 2 == 0});
            Problem sequence = whole;
            sequence.operation = Operation::causal_conv1d;
            sequence.inputs["initial_state"] = whole.inputs.at("state");
            sequence.inputs.erase("state");
            sequence.outputs = {{"y", whole.outputs.at("y")}, {"last_state", whole.outputs.at("state")}};
            Outputs expected = run(context, sequence);
            expected["state"] = expected.at("last_state");
            expected.erase("last_state");
            const Outputs outputs = run(context, whole);
            expect_agree(outputs, expected, reference(whole), whole.describe());
            expect_identical({{"state", outputs.at("state")}}, {{"state", expected.at("state")}}, whole.describe());
        }
}

// Steps in one call are steps in several calls, to the bit where the state is not rounded between.
TEST_P(CausalConv1dUpdate, StepsInOneCallEqualCallsOfOneStep) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    constexpr int64_t steps = 7;
    for (const Type state : {state_type(type), type})
        for (const int64_t width : {1, 2, 3, 4, 6, 20})
            for (const int64_t more : {0, 2})
                for (const bool is_ring : {false, true}) {
                    const Problem whole = update({type, state, 3, 18, width, steps, more, is_ring});
                    const Outputs expected = run(context, whole);
                    Problem step = whole;
                    step.outputs["y"] = step_of(whole.outputs.at("y"), 0);
                    for (int64_t t = 0; t < steps; ++t) {
                        step.inputs["x"] = step_of(whole.inputs.at("x"), t);
                        const Outputs outputs = run(context, step);
                        step.inputs["state"] = outputs.at("state");
                        if (is_ring)
                            for (Number& before : step.inputs["cache_seqlens"].values)
                                before += before.real() == INT32_MAX ? 0.0 : 1.0;
                        expect_identical({{"y", outputs.at("y")}}, {{"y", step_of(expected.at("y"), t)}}, step.describe());
                    }
                    expect_identical({{"state", step.inputs.at("state")}}, {{"state", expected.at("state")}},
                                     whole.describe());
                }
}

// A ring, read from where the next step goes, is the state that was moved on.
TEST_P(CausalConv1dUpdate, RingEqualsMovedOn) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    for (const Type state : state_types(type))
        for (const int64_t width : {1, 2, 4, 12})
            for (const int64_t more : {0, 3})
                for (const int64_t steps : {1, 4, 30}) {
                    const Problem ring = update({type, state, 4, 10, width, steps, more, true});
                    Problem moved = ring;
                    moved.inputs.erase("cache_seqlens");
                    const int64_t length = width - 1 + more;
                    const auto unroll = [&](const Tensor& tensor, int64_t further) {
                        Tensor result = tensor;
                        for (int64_t row = 0; row < 4; ++row)
                            for (int64_t channel = 0; channel < 10; ++channel)
                                for (int64_t k = 0; k < length; ++k) {
                                    const int64_t place =
                                        static_cast<int64_t>(ring.inputs.at("cache_seqlens").values[row].real()) + further +
                                        k;
                                    result.at(row, channel, k) = tensor.at(row, channel, (place % length + length) % length);
                                }
                        return result;
                    };
                    moved.inputs["state"] = unroll(ring.inputs.at("state"), 0);
                    Outputs outputs = run(context, ring);
                    outputs["state"] = unroll(outputs.at("state"), steps);
                    expect_identical(outputs, run(context, moved), ring.describe());
                }
}

TEST_P(CausalConv1dUpdate, SkipsAndKeepsSlots) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    // Every row skipped: the state may even be empty.
    for (const int64_t rows : {3, 0}) {
        const Problem problem = update({type, state_types(type).back(), 2, 5, 4, 2, 1, rows == 0, true, {-1, -1}, rows});
        const Outputs outputs = run(context, problem);
        for (const Number value : outputs.at("y").values)
            EXPECT_EQ(value, Number(0));
        expect_identical({{"state", outputs.at("state")}}, {{"state", problem.inputs.at("state")}}, problem.describe());
    }
    // A row gives the same bits in whatever slot.
    for (const bool is_ring : {false, true}) {
        const Problem plain = update({type, state_type(type), 3, 21, 4, 2, 2, is_ring});
        const Outputs expected = run(context, plain);
        const std::vector<int64_t> slots{4, 0, 5};
        Problem slotted = update({type, state_type(type), 3, 21, 4, 2, 2, is_ring, true, slots, 6});
        for (const auto& [name, tensor] : plain.inputs)
            if (name != "state")
                slotted.inputs[name] = tensor;
        const int64_t row = 21 * 5;
        for (int64_t i = 0; i < 3; ++i)
            std::copy_n(plain.inputs.at("state").values.begin() + i * row, row,
                        slotted.inputs["state"].values.begin() + slots[i] * row);
        Outputs outputs = run(context, slotted);
        for (const int64_t kept : {1, 2, 3})
            for (int64_t i = 0; i < row; ++i)
                EXPECT_EQ(outputs["state"].values[kept * row + i], slotted.inputs["state"].values[kept * row + i]);
        Tensor gathered = plain.inputs.at("state");
        for (int64_t i = 0; i < 3; ++i)
            std::copy_n(outputs["state"].values.begin() + slots[i] * row, row, gathered.values.begin() + i * row);
        outputs["state"] = gathered;
        expect_identical(outputs, expected, slotted.describe());
    }
}

// The library checks slots on a CPU; elsewhere a slot that is none is skipped.
TEST_P(CausalConv1dUpdate, RefusesOrSkipsWrongSlots) {
    Context context(GetParam().device);
    for (const int64_t wrong : {int64_t{5}, int64_t{-2}, int64_t{INT32_MIN}, int64_t{INT32_MAX}}) {
        Problem problem = update({GetParam().type, state_type(GetParam().type), 2, 5, 4, 0, 0, false, true, {1, wrong}, 5});
        Call call(context, problem);
        if (GetParam().device.type == SSM_DEVICE_CPU) {
            EXPECT_EQ(call.run(), SSM_ERROR_INVALID_ARGUMENT);
            EXPECT_EQ(std::string(ssm_last_error()),
                      "slots[1]: -1 or a row of the 5 of state expected, " + std::to_string(wrong) + " given");
            continue;
        }
        SSM_CHECK(call.run());
        problem.inputs["slots"] = indices({1, -1});
        expect_near(call.take(), reference(problem), problem.describe());
    }
}

TEST_P(CausalConv1dUpdate, MatchesInEveryView) {
    Context context(GetParam().device);
    for (const Problem& plain : some_of_everything(GetParam().type)) {
        const Outputs expected = run(context, plain);
        for (const View view : {View::null_strides, View::channel_contiguous, View::padded, View::channel_padded,
                                View::offset, View::strided, View::reversed_axes}) {
            Problem problem = plain;
            for (const auto* tensors : {&plain.inputs, &plain.outputs})
                for (const auto& [name, tensor] : *tensors)
                    problem.views[name] = view;
            expect_identical(run(context, problem), expected, problem.describe());
            Problem state_alone = plain;
            state_alone.views["state"] = view;
            expect_identical(run(context, state_alone), expected, state_alone.describe());
        }
        for (const auto& [view, axis] : {std::pair{View::broadcast_batch, 0}, std::pair{View::broadcast_channel, 1}}) {
            Problem problem = plain;
            problem.inputs["x"] = constant_along(plain.inputs.at("x"), axis);
            problem.views["x"] = view;
            compare(context, problem);
        }
    }
}

TEST_P(CausalConv1dUpdate, MatchesInPlace) {
    Context context(GetParam().device);
    for (const Problem& plain : some_of_everything(GetParam().type)) {
        const Outputs expected = run(context, plain);
        Problem problem = plain;
        problem.inplace = "x";
        expect_identical(run(context, problem), expected, problem.describe());
    }
}

TEST_P(CausalConv1dUpdate, VariationsAreBitEqual) {
    const Type type = GetParam().type;
    const bool slow = GetParam().device.is_slow();
    std::vector<Problem> all = some_of_everything(type);
    all.push_back(update({type, state_types(type).back(), slow ? 2 : 40, slow ? 90 : 900, 4, 3}));
    std::vector<Outputs> expected;
    {
        Context context(GetParam().device);
        for (const Problem& problem : all)
            expected.push_back(run(context, problem));
    }
    for (const Variation& variation : variations(GetParam().device)) {
        Context context(GetParam().device);
        ASSERT_TRUE(variation.apply(context)) << variation.name;
        for (size_t i = 0; i < all.size(); ++i)
            for (int round = 0; round < (slow ? 1 : 3); ++round)
                expect_identical(run(context, all[i]), expected[i], all[i].describe() + " " + variation.name);
    }
}

// A bad number stays in its row, and fewer weights than the kernel has room for do not bring one in.
TEST_P(CausalConv1dUpdate, BadNumbersStayWhereTheyAre) {
    Context context(GetParam().device);
    const double nan = std::numeric_limits<double>::quiet_NaN();
    for (const int64_t width : {2, 3, 4, 9}) {
        const Problem plain = update({GetParam().type, state_type(GetParam().type), 3, 5, width, 6, 2});
        const Outputs expected = run(context, plain);
        Problem problem = plain;
        problem.inputs["x"].at(1, 2, 1) = nan;
        const Outputs outputs = run(context, problem);
        for (int64_t row = 0; row < 3; ++row)
            for (int64_t channel = 0; channel < 5; ++channel)
                for (int64_t t = 0; t < 6; ++t) {
                    const double y = outputs.at("y").at(row, channel, t).real();
                    if (row == 1 && channel == 2 && t >= 1 && t < 1 + width)
                        EXPECT_TRUE(std::isnan(y));
                    else
                        EXPECT_EQ(y, expected.at("y").at(row, channel, t).real());
                }
    }
}

TEST_P(CausalConv1dUpdate, AcceptsEmptyTensors) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    for (const Sizes& sizes : {Sizes{type, state_type(type), 0, 4, 4}, Sizes{type, state_type(type), 2, 0, 4},
                               Sizes{type, state_type(type), 0, 3, 2, 2, 0, true}}) {
        const Problem problem = update(sizes);
        Call call(context, problem);
        EXPECT_EQ(call.run(), SSM_SUCCESS) << ssm_last_error();
        uint64_t bytes = 1;
        EXPECT_EQ(call.query_workspace(&bytes), SSM_SUCCESS) << ssm_last_error();
        EXPECT_EQ(bytes, 0u);
    }
    Problem no_steps = update({type, state_type(type), 2, 4, 4, 1});
    no_steps.inputs["x"] = Tensor(type, {2, 4, 0});
    no_steps.outputs["y"] = no_steps.inputs["x"];
    expect_identical({{"state", run(context, no_steps).at("state")}}, {{"state", no_steps.inputs.at("state")}}, "no steps");
}

// A graph holds one step: each launch takes the state on.
TEST_P(CausalConv1dUpdate, GraphTakesTheStateOn) {
    Context context(GetParam().device);
    for (const Problem& problem : some_of_everything(GetParam().type)) {
        Call call(context, problem);
        std::vector<Outputs> expected;
        for (int round = 0; round < 3; ++round) {
            SSM_CHECK(call.run());
            expected.push_back(call.take());
        }
        call.reset();
        SSM_CHECK(ssm_context_synchronize(context));
        SSM_CHECK(ssm_capture_begin(context));
        SSM_CHECK(call.run());
        ssm_graph* graph = nullptr;
        SSM_CHECK(ssm_capture_end(context, &graph));
        for (int round = 0; round < 3; ++round) {
            SSM_CHECK(ssm_graph_launch(context, graph));
            expect_identical(call.take(), expected[round], problem.describe() + " replayed");
        }
        SSM_CHECK(ssm_graph_destroy(graph));
    }
}

// Only parameters with strides are packed; tensors with a batch never.
TEST_P(CausalConv1dUpdate, WorkspaceIsForStridedParameters) {
    Context context(GetParam().device);
    for (const Problem& plain : some_of_everything(GetParam().type)) {
        Problem strided = plain;
        strided.views = {{"state", View::strided}, {"x", View::reversed_axes}, {"y", View::strided}};
        uint64_t bytes = 1;
        SSM_CHECK(Call(context, strided).query_workspace(&bytes));
        EXPECT_EQ(bytes, 0u);
        strided.views["weight"] = View::strided;
        const uint64_t weights = plain.inputs.at("weight").values.size() * size_of(state_type(GetParam().type));
        SSM_CHECK(Call(context, strided).query_workspace(&bytes));
        EXPECT_GE(bytes, weights);
        expect_identical(run(context, strided), run(context, plain), strided.describe());
    }
}

TEST_P(CausalConv1dUpdate, SteadyStateAllocatesNothing) {
    if (has_sanitizer())
        GTEST_SKIP() << "the sanitizer has the heap to itself";
    Context context(GetParam().device);
    for (const Problem& problem : some_of_everything(GetParam().type)) {
        Call call(context, problem);
        for (int round = 0; round < 3; ++round)
            SSM_CHECK(call.run());
        SSM_CHECK(ssm_context_synchronize(context));
        const Allocations before = allocations();
        for (int round = 0; round < 5; ++round)
            call.run();
        ssm_context_synchronize(context);
        const Allocations after = allocations();
        EXPECT_EQ(after.live_blocks, before.live_blocks) << problem.describe();
        if (GetParam().device.type != SSM_DEVICE_EMULATED) {
            EXPECT_EQ(after.calls, before.calls) << problem.describe();
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Devices, CausalConv1dUpdate, testing::ValuesIn(targets({float32, float64, float16, bfloat16})),
                         [](const auto& info) { return name_of(info.param); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(CausalConv1dUpdate);

} // namespace ssm::test
