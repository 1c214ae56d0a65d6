// selective_state_update: against the loop of selective_scan, which it is with an initial state, and against selective_scan
// itself; both forms, every number of states, slots, steps, types of the state, views.
#include <cmath>
#include <limits>

#include "support/allocations.h"
#include "support/mamba.h"
#include "support/state_update.h"

#include <gtest/gtest.h>

namespace ssm::test {

using enum Type;

namespace {

using Sizes = StateUpdateSizes;
constexpr auto update = selective_state_update_of;

// The library's own selective scan.
Outputs run_as_scan(Context& context, const Problem& problem) {
    return as_state_update(problem, run(context, as_selective_scan(problem)));
}

void compare(Context& context, const Problem& problem, const std::string& note = "") {
    expect_near(run(context, problem), reference(problem), problem.describe() + " " + note);
}

std::vector<Type> state_types(Type type) {
    return type == float64 ? std::vector{float64} : std::vector{float32, bfloat16, float16};
}

// A handful that shows a wrong kernel: both forms, rest of a vector, groups, slots, steps, a state of 16 bits.
std::vector<Problem> some_of_everything(Type type) {
    const Type state = state_type(type), narrow = state_types(type).back();
    return {
        update({type, state, 2, 0, 37, 1, 16}),
        update({type, state, 3, 0, 6, 2, 21, 3, true, {3, -1, 0}, 5}),
        update({type, narrow, 2, 0, 9, 3, 5, 2, false}),
        update({type, state, 2, 0, 20, 1, 3, 0, true, {1, 0}, 2}),
        update({type, state, 2, 3, 18, 1, 64}),
        update({type, narrow, 4, 4, 7, 2, 40, 3, true, {2, 6, -1, 0}, 8}),
        update({type, narrow, 2, 2, 3, 2, 130, 2, false}),
        update({type, narrow, 1, 2, 19, 1, 2, 2}),
    };
}

class SelectiveStateUpdate : public testing::TestWithParam<Target> {};

} // namespace

TEST_P(SelectiveStateUpdate, Quick) {
    const Type type = GetParam().type;
    for (const int64_t tile : {0, 1, 40}) {
        for (const Variation& variation : variations(GetParam().device)) {
            Context context(GetParam().device);
            context.try_option("selective_state_update.tile", tile);
            ASSERT_TRUE(variation.apply(context)) << variation.name;
            for (const Problem& problem : some_of_everything(type)) {
                compare(context, problem, "tile " + std::to_string(tile) + " " + variation.name);
                if (HasFailure())
                    return;
            }
        }
    }
}

TEST_P(SelectiveStateUpdate, MatchesAtEveryNumberOfStates) {
    const Type type = GetParam().type;
    const bool slow = GetParam().device.is_slow();
    Context context(GetParam().device);
    uint64_t seed = 1;
    for (const int64_t states : {1,  2,  3,  4,   5,   7,   8,   9,   15,  16,  17,  31,   32,   33,  48,
                                 64, 65, 96, 128, 129, 200, 256, 257, 300, 512, 520, 1024, 1100, 2100})
        for (const int64_t heads : {0, 2})
            for (const Type state : state_types(type))
                for (const int64_t steps : {0, 3}) {
                    if (slow && states > 300 && (steps == 0) == (heads == 0))
                        continue;
                    Sizes sizes{type, state, 2, heads, heads ? 3 : 6, 2, states, steps, states % 3 != 0};
                    sizes.seed = ++seed;
                    compare(context, update(sizes));
                    if (HasFailure())
                        return;
                }
}

TEST_P(SelectiveStateUpdate, MatchesAtEveryWidth) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    for (const int64_t channels : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100})
        for (const int64_t heads : {0, 1, 3})
            for (const int64_t states : {2, 16, 20}) {
                compare(context, update({type, state_types(type).front(), 2, heads, channels, 1, states}));
                compare(context, update({type, state_types(type).back(), 1, heads, channels, 1, states, 2, false}));
                if (HasFailure())
                    return;
            }
}

// Enough for every thread, and for a device to choose fewer lanes for a channel.
TEST_P(SelectiveStateUpdate, MatchesWithManyChannels) {
    const Type type = GetParam().type;
    const bool slow = GetParam().device.is_slow();
    Context context(GetParam().device);
    for (const Type state : state_types(type)) {
        compare(context, update({type, state, slow ? 2 : 8, 0, slow ? 300 : 1536, 1, 16}));
        compare(context, update({type, state, slow ? 1 : 4, slow ? 3 : 24, 64, 1, 128, 2}));
    }
}

TEST_P(SelectiveStateUpdate, EqualsSelectiveScan) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    std::vector<Problem> all = some_of_everything(type);
    all.push_back(update({type, state_type(type), 2, 0, 6, 2, 16, 1}));
    all.push_back(update({type, state_type(type), 2, 0, 6, 2, 16, 50}));
    all.push_back(update({type, state_type(type), 2, 2, 5, 1, 32, 50, false}));
    for (const Problem& problem : all)
        expect_agree(run(context, problem), run_as_scan(context, problem), reference(problem), problem.describe());
}

// Steps in one call are steps in several calls, to the bit where the state is not rounded between.
TEST_P(SelectiveStateUpdate, StepsInOneCallEqualCallsOfOneStep) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    for (const int64_t heads : {0, 2})
        for (const int64_t states : {2, 19, 128, 600}) {
            const Problem whole = update({type, state_type(type), 2, heads, 6, 2, states, 4});
            Outputs expected = run(context, whole);
            Tensor state = whole.inputs.at("state");
            Tensor y = expected.at("y");
            for (int64_t t = 0; t < 4; ++t) {
                Problem step = whole;
                step.inputs["state"] = state;
                const auto at_step = [&](const Tensor& tensor) {
                    if (!heads)
                        return slice_time(tensor, t, t + 1);
                    std::vector<int64_t> shape = tensor.shape;
                    const int64_t inner = tensor.size() / (shape[0] * shape[1]);
                    shape[1] = 1;
                    Tensor part(tensor.type, shape);
                    for (int64_t i = 0; i < part.size(); ++i)
                        part.values[i] = tensor.values[(i / inner * 4 + t) * inner + i % inner];
                    return part;
                };
                for (const char* name : {"x", "dt", "b", "c", "z"})
                    step.inputs[name] = at_step(whole.inputs.at(name));
                step.outputs["y"] = step.inputs["x"];
                const Outputs outputs = run(context, step);
                state = outputs.at("state");
                expect_identical({{"y", outputs.at("y")}}, {{"y", at_step(y)}}, step.describe());
            }
            expect_identical({{"state", state}}, {{"state", expected.at("state")}}, whole.describe());
        }
}

TEST_P(SelectiveStateUpdate, SkipsAndKeepsSlots) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    // Every row skipped: the state may even be empty.
    for (const int64_t rows : {3, 0}) {
        Sizes sizes{type, state_types(type).back(), 2, 2, 5, 1, 24, 2};
        sizes.slots = {-1, -1};
        sizes.rows = rows;
        const Problem problem = update(sizes);
        const Outputs outputs = run(context, problem);
        for (const Number value : outputs.at("y").values)
            EXPECT_EQ(value, Number(0));
        expect_identical({{"state", outputs.at("state")}}, {{"state", problem.inputs.at("state")}}, problem.describe());
    }
    // A row gives the same bits in whatever slot.
    Sizes sizes{type, state_type(type), 3, 0, 7, 1, 16};
    Problem plain = update(sizes);
    const Outputs expected = run(context, plain);
    sizes.slots = {4, 0, 5};
    sizes.rows = 6;
    Problem slotted = update(sizes);
    for (const auto& [name, tensor] : plain.inputs)
        if (name != "state")
            slotted.inputs[name] = tensor;
    const int64_t row = 7 * 16;
    for (int64_t i = 0; i < 3; ++i)
        std::copy_n(plain.inputs["state"].values.begin() + i * row, row,
                    slotted.inputs["state"].values.begin() + sizes.slots[i] * row);
    Outputs outputs = run(context, slotted);
    Tensor gathered = plain.inputs["state"];
    for (int64_t i = 0; i < 3; ++i)
        std::copy_n(outputs["state"].values.begin() + sizes.slots[i] * row, row, gathered.values.begin() + i * row);
    outputs["state"] = gathered;
    expect_identical(outputs, expected, slotted.describe());
}

// The library checks slots on a CPU; elsewhere a slot that is none is skipped.
TEST_P(SelectiveStateUpdate, RefusesOrSkipsWrongSlots) {
    Context context(GetParam().device);
    for (const int64_t wrong : {int64_t{5}, int64_t{-2}, int64_t{INT32_MIN}, int64_t{INT32_MAX}}) {
        Sizes sizes{GetParam().type, state_type(GetParam().type), 2, 0, 5, 1, 16};
        sizes.slots = {1, wrong};
        sizes.rows = 5;
        Problem problem = update(sizes);
        Call call(context, problem);
        if (GetParam().device.type == SSM_DEVICE_CPU) {
            EXPECT_EQ(call.run(), SSM_ERROR_INVALID_ARGUMENT);
            EXPECT_EQ(std::string(ssm_last_error()),
                      "slots[1]: -1 or a row of the 5 of state expected, " + std::to_string(wrong) + " given");
            continue;
        }
        SSM_CHECK(call.run());
        problem.inputs["slots"].values[1] = -1;
        expect_near(call.take(), reference(problem), problem.describe());
    }
}

TEST_P(SelectiveStateUpdate, MatchesInEveryView) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    for (const Problem& plain : some_of_everything(type))
        for (const View view : {View::null_strides, View::channel_contiguous, View::padded, View::channel_padded,
                                View::offset, View::strided, View::reversed_axes}) {
            Problem problem = plain;
            for (const auto& [name, tensor] : plain.inputs)
                problem.views[name] = view;
            problem.views["y"] = view;
            compare(context, problem);
            Problem state_alone = plain;
            state_alone.views["state"] = view;
            compare(context, state_alone);
            if (HasFailure())
                return;
        }
}

// The caller's broadcasts cost nothing: strides of zero are used in place.
TEST_P(SelectiveStateUpdate, MatchesWithBroadcastInputs) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    const std::pair<View, int> broadcasts[] = {{View::broadcast_batch, 0}, {View::broadcast_channel, 1}};
    for (const Problem& plain : some_of_everything(type))
        for (const auto& [view, axis] : broadcasts)
            for (const char* name : {"x", "dt", "b", "c", "z"}) {
                const auto found = plain.inputs.find(name);
                if (found == plain.inputs.end())
                    continue;
                Problem problem = plain;
                problem.inputs[name] = constant_along(found->second, axis);
                problem.views[name] = view;
                compare(context, problem);
            }
    Problem rates = update({type, state_type(type), 2, 0, 9, 1, 16});
    rates.inputs["a"] = constant_along(rates.inputs["a"], 1);
    rates.views["a"] = View::broadcast_channel; // the axis of states: packed
    compare(context, rates);
    rates.inputs["a"] = constant_along(rates.inputs["a"], 0);
    rates.views["a"] = View::broadcast_batch;
    compare(context, rates);
}

TEST_P(SelectiveStateUpdate, AlignmentIsBitEqual) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    for (const Problem& plain : some_of_everything(type)) {
        const Outputs expected = run(context, plain);
        Problem problem = plain;
        for (const auto& [name, tensor] : plain.inputs)
            problem.views[name] = View::offset;
        problem.views["y"] = View::offset;
        expect_identical(run(context, problem), expected, problem.describe());
    }
}

// Data that is not even aligned to its elements goes through the workspace, the state there and back.
TEST_P(SelectiveStateUpdate, MatchesWhereElementsAreNotAligned) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    for (const Problem& plain : some_of_everything(type)) {
        Problem problem = plain;
        problem.views["state"] = View::unaligned;
        expect_identical(run(context, problem), run(context, plain), problem.describe());
    }
}

TEST_P(SelectiveStateUpdate, MatchesInPlace) {
    Context context(GetParam().device);
    for (const Problem& plain : some_of_everything(GetParam().type)) {
        const Outputs expected = run(context, plain);
        for (const char* name : {"x", "z"}) {
            if (!plain.inputs.count(name))
                continue;
            Problem problem = plain;
            problem.inplace = name;
            expect_identical(run(context, problem), expected, problem.describe());
        }
    }
}

TEST_P(SelectiveStateUpdate, VariationsAreBitEqual) {
    const Type type = GetParam().type;
    std::vector<Problem> all = some_of_everything(type);
    all.push_back(update({type, state_types(type).back(), 2, 0, GetParam().device.is_slow() ? 90 : 900, 1, 16, 3}));
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
            for (int round = 0; round < (GetParam().device.is_slow() ? 1 : 3); ++round)
                expect_identical(run(context, all[i]), expected[i], all[i].describe() + " " + variation.name);
    }
}

// A bad number stays in its row; an infinite step does not come out of the states that a vector has beyond the last.
TEST_P(SelectiveStateUpdate, BadNumbersStayWhereTheyAre) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    const double nan = std::numeric_limits<double>::quiet_NaN();
    for (const int64_t states : {3, 21}) {
        const Problem plain = update({type, state_type(type), 3, 0, 5, 1, states});
        const Outputs expected = run(context, plain);
        Problem problem = plain;
        problem.inputs["state"].at(1, 2, 0) = nan;
        problem.inputs["x"].at(2, 4) = nan;
        const Outputs outputs = run(context, problem);
        for (int64_t batch = 0; batch < 3; ++batch)
            for (int64_t channel = 0; channel < 5; ++channel) {
                const bool is_bad = (batch == 1 && channel == 2) || (batch == 2 && channel == 4);
                const double y = outputs.at("y").at(batch, channel).real();
                if (is_bad)
                    EXPECT_TRUE(std::isnan(y));
                else
                    EXPECT_EQ(y, expected.at("y").at(batch, channel).real());
            }
        // s is infinite, every state forgotten, and b positive: y is infinite and not NaN.
        Problem far = update({type, state_type(type), 2, 0, 5, 1, states, 0, false});
        for (Number& value : far.inputs["dt"].values)
            value = std::numeric_limits<double>::infinity();
        for (const char* name : {"x", "b", "c"})
            for (Number& value : far.inputs[name].values)
                value = 1;
        const Outputs infinite = run(context, far);
        for (const Number value : infinite.at("y").values)
            EXPECT_EQ(value.real(), std::numeric_limits<double>::infinity());
    }
}

TEST_P(SelectiveStateUpdate, AcceptsEmptyTensors) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    for (const Sizes& sizes : {Sizes{type, state_type(type), 0, 0, 4, 1, 16}, Sizes{type, state_type(type), 2, 0, 0, 1, 16},
                               Sizes{type, state_type(type), 2, 0, 4, 1, 0}, Sizes{type, state_type(type), 2, 2, 0, 1, 16},
                               Sizes{type, state_type(type), 0, 2, 3, 2, 16, 2}}) {
        const Problem problem = update(sizes);
        Call call(context, problem);
        EXPECT_EQ(call.run(), SSM_SUCCESS) << ssm_last_error();
        uint64_t bytes = 1;
        EXPECT_EQ(call.query_workspace(&bytes), SSM_SUCCESS) << ssm_last_error();
        EXPECT_EQ(bytes, 0u);
        expect_identical({{"state", call.take().at("state")}}, {{"state", problem.inputs.at("state")}}, problem.describe());
    }
}

// A graph holds one step: each launch takes the state on.
TEST_P(SelectiveStateUpdate, GraphTakesTheStateOn) {
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

TEST_P(SelectiveStateUpdate, WorkspaceIsWhatTheQuerySays) {
    constexpr unsigned char canary = 0xc3;
    constexpr uint64_t tail = 4096;
    const Type type = GetParam().type;
    Context context(GetParam().device);
    context.try_option("selective_state_update.tile", 1);
    // A rounded state of several steps, and rates that have to be packed.
    Problem rounded_state = update({type, state_types(type).back(), 2, 2, 5, 1, 70, 3});
    Problem packed = update({type, state_type(type), 2, 0, 9, 1, 33});
    packed.views["a"] = View::reversed_axes;
    for (const Problem& problem : {rounded_state, packed}) {
        const Outputs expected = run(context, problem);
        Call call(context, problem);
        uint64_t bytes = 0;
        SSM_CHECK(call.query_workspace(&bytes));
        if (type == float64 && !problem.views.count("a")) {
            EXPECT_EQ(bytes, 0u);
            continue;
        }
        ASSERT_GT(bytes, 0u) << problem.describe();
        void* memory = nullptr;
        SSM_CHECK(ssm_allocate(context, bytes + tail, &memory));
        std::vector<unsigned char> image(bytes + tail, canary);
        upload(context, image.data(), memory, image.size());
        SSM_CHECK(ssm_context_set_workspace(context, memory, bytes));
        SSM_CHECK(call.run());
        expect_identical(call.take(), expected, problem.describe() + " in the caller's workspace");
        download(context, memory, image.data(), image.size());
        EXPECT_TRUE(std::all_of(image.begin() + static_cast<int64_t>(bytes), image.end(),
                                [](unsigned char byte) { return byte == canary; }));
        SSM_CHECK(ssm_context_set_workspace(context, memory, bytes - 1));
        EXPECT_EQ(call.run(), SSM_ERROR_WORKSPACE_TOO_SMALL);
        SSM_CHECK(ssm_context_set_workspace(context, nullptr, 0));
        SSM_CHECK(ssm_free(context, memory));
    }
    // What a token usually is needs none.
    for (const Type state : state_types(type)) {
        Call call(context, update({type, state, 2, 0, 9, 1, 16}));
        uint64_t bytes = 1;
        SSM_CHECK(call.query_workspace(&bytes));
        EXPECT_EQ(bytes, 0u);
    }
}

TEST_P(SelectiveStateUpdate, SteadyStateAllocatesNothing) {
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

INSTANTIATE_TEST_SUITE_P(Devices, SelectiveStateUpdate, testing::ValuesIn(targets({float32, float64, float16, bfloat16})),
                         [](const auto& info) { return name_of(info.param); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(SelectiveStateUpdate);

} // namespace ssm::test
