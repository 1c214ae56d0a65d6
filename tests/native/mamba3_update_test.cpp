// mamba3_update: against its loop, against mamba3, whose steps it does one by one; slots, steps, views, in place.
#include <cmath>

#include "support/allocations.h"
#include "support/problems.h"
#include "support/reference.h"

#include <gtest/gtest.h>

namespace ssm::test {

using enum Type;

namespace {

constexpr Operation operation = Operation::mamba3_update;

struct Sizes {
    Type type = float32;
    int64_t batch = 2;
    int64_t heads = 4;
    int64_t channels = 5;
    int64_t states = 7;
    int64_t groups = 2;
    int64_t angles = 3; // 0: none
    int64_t angle_groups = 1;
    int64_t steps = 0; // 0: tensors without a time axis
    bool full = true;  // with everything optional
    std::vector<int64_t> slots = {};
    int64_t rows = 0; // of the states, where there are slots
};

Problem update(const Sizes& s) {
    Random random(static_cast<uint64_t>(s.states * 100 + s.steps));
    const Type state = state_type(s.type);
    const auto steps = [&](std::initializer_list<int64_t> rest) {
        std::vector<int64_t> shape{s.batch};
        if (s.steps)
            shape.push_back(s.steps);
        shape.insert(shape.end(), rest);
        return shape;
    };
    Problem problem;
    problem.operation = operation;
    problem.type = s.type;
    problem.dt_softplus = s.full;
    const int64_t rows = s.slots.empty() ? s.batch : s.rows;
    problem.inputs["state"] = uniform(state, {rows, s.heads, s.channels, s.states}, -1, 1, random);
    problem.inputs["b_state"] = uniform(state, {rows, s.heads, s.states}, -1, 1, random);
    problem.inputs["x_state"] = uniform(state, {rows, s.heads, s.channels}, -1, 1, random);
    problem.inputs["x"] = uniform(s.type, steps({s.heads, s.channels}), -1, 1, random);
    problem.inputs["dt"] = uniform(s.type, steps({s.heads}), s.full ? -4 : 0.01, s.full ? 1 : 0.4, random);
    problem.inputs["a"] = uniform(state, s.full ? steps({s.heads}) : std::vector{s.heads}, -2, -0.1, random);
    problem.inputs["trap"] = uniform(s.type, steps({s.heads}), -3, 3, random);
    for (const char* name : {"b", "c"})
        problem.inputs[name] = uniform(s.type, steps({s.groups, s.states}), -1, 1, random);
    if (s.angles) {
        problem.inputs["angle_state"] = uniform(state, {rows, s.heads, s.angles}, -3, 3, random);
        problem.inputs["angles"] = uniform(s.type, steps({s.angle_groups, s.angles}), -2, 2, random);
    }
    if (s.full) {
        for (const char* name : {"b_bias", "c_bias"})
            problem.inputs[name] = uniform(state, {s.heads, s.states}, -1, 1, random);
        problem.inputs["d"] =
            uniform(state, s.steps ? std::vector{s.heads, s.channels} : std::vector{s.heads}, -1, 1, random);
        problem.inputs["z"] = uniform(s.type, steps({s.heads, s.channels}), -3, 3, random);
        problem.inputs["dt_bias"] = uniform(state, {s.heads}, -1, 1, random);
    }
    if (!s.slots.empty()) {
        Tensor slots(int32, {s.batch});
        std::copy(s.slots.begin(), s.slots.end(), slots.values.begin());
        problem.inputs["slots"] = slots;
    }
    problem.outputs["y"] = problem.inputs.at("x");
    for (const char* name : {"state", "angle_state", "b_state", "x_state"})
        if (problem.inputs.count(name))
            problem.outputs[name] = problem.inputs.at(name);
    return problem;
}

std::vector<Problem> some_of_everything(Type type) {
    return {
        update({type, 2, 4, 64, 128, 1, 64, 1, 0, true}),        update({type, 3, 4, 5, 7, 2, 3, 4, 0, true, {3, -1, 0}, 5}),
        update({type, 2, 2, 33, 20, 2, 0, 1, 0, false}),         update({type, 2, 4, 9, 35, 4, 17, 2, 5, true}),
        update({type, 1, 2, 3, 131, 1, 8, 1, 19, true, {1}, 2}), update({type, 2, 1, 1, 1, 1, 0, 1, 3, false}),
        update({type, 1, 3, 2, 6, 3, 3, 3, 9, false}),
    };
}

void compare(Context& context, const Problem& problem, const std::string& note = "") {
    expect_near(run(context, problem), reference(problem), problem.describe() + " " + note);
}

class Mamba3Update : public testing::TestWithParam<Target> {};

// The steps [from, to) of a problem with time.
Problem steps_of(const Problem& whole, int64_t from, int64_t to) {
    Problem part = whole;
    for (auto* tensors : {&part.inputs, &part.outputs})
        for (auto& [name, tensor] : *tensors) {
            if (name.find("state") != std::string::npos || tensor.shape.size() < 3)
                continue;
            std::vector<int64_t> shape = tensor.shape;
            const int64_t batch = shape[0], length = shape[1], inner = tensor.size() / (batch * length);
            shape[1] = to - from;
            Tensor cut(tensor.type, shape);
            for (int64_t row = 0; row < batch; ++row)
                std::copy_n(tensor.values.begin() + (row * length + from) * inner, (to - from) * inner,
                            cut.values.begin() + row * (to - from) * inner);
            tensor = cut;
        }
    return part;
}

} // namespace

TEST_P(Mamba3Update, Quick) {
    for (const Variation& variation : variations(GetParam().device)) {
        Context context(GetParam().device);
        ASSERT_TRUE(variation.apply(context)) << variation.name;
        for (const Problem& problem : some_of_everything(GetParam().type)) {
            compare(context, problem, variation.name);
            if (HasFailure())
                return;
        }
    }
}

TEST_P(Mamba3Update, MatchesAtEverySize) {
    Context context(GetParam().device);
    const Type type = GetParam().type;
    for (const int64_t states : {1, 2, 3, 31, 32, 33, 64, 127, 128, 129, 256})
        compare(context, update({type, 1, 2, 17, states, 1, states / 2, 1, 0, true}));
    for (const int64_t channels : {1, 7, 8, 9, 31, 64, 100})
        compare(context, update({type, 1, 2, channels, 16, 1, 4, 2, 2, true}));
    for (const int64_t steps : {1, 2, 7, 8, 9, 16, 33})
        compare(context, update({type, 2, 2, 4, 40, 1, 20, 1, steps, true}));
    compare(context, update({type, 1, 1, 3, 6001, 1, 3000, 1, 9, true})); // beyond a block's shared memory
}

// T steps in one call, T calls of a step, and mamba3: all off from the truth by what rounding does.
TEST_P(Mamba3Update, StepsEqualOneCallAndTheSequence) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    const int64_t steps = 21;
    for (const Sizes& sizes :
         {Sizes{type, 2, 4, 9, 35, 4, 17, 2, steps, true}, Sizes{type, 1, 2, 5, 6, 1, 0, 1, steps, false}}) {
        const Problem whole = update(sizes);
        const Reference limits = reference(whole);
        const Outputs together = run(context, whole);
        Outputs one_by_one;
        std::vector<Tensor> y;
        Problem next = whole;
        for (int64_t t = 0; t < steps; ++t) {
            Problem step = steps_of(whole, t, t + 1);
            for (const auto& [name, tensor] : one_by_one)
                if (name != "y")
                    step.inputs[name] = tensor;
            one_by_one = run(context, step);
            y.push_back(one_by_one.at("y"));
        }
        one_by_one["y"] = concatenate(y, 1);
        expect_agree(one_by_one, together, limits, whole.describe() + " step by step");

        Problem sequence = whole;
        sequence.operation = Operation::mamba3;
        sequence.outputs = {{"y", whole.outputs.at("y")}};
        for (const char* which : {"state", "angle", "b", "x"}) {
            const std::string name = std::string(which) == "state" ? "state" : std::string(which) + "_state";
            if (!whole.inputs.count(name))
                continue;
            sequence.inputs[std::string("initial_") + which] = whole.inputs.at(name);
            sequence.outputs[std::string("last_") + which] = whole.outputs.at(name);
            sequence.inputs.erase(name);
        }
        Outputs scanned;
        for (const auto& [name, tensor] : run(context, sequence))
            scanned[name == "y" ? name : name == "last_state" ? std::string("state") : name.substr(5) + "_state"] = tensor;
        expect_agree(scanned, together, limits, whole.describe() + " as a sequence");
    }
}

TEST_P(Mamba3Update, MatchesInEveryView) {
    Context context(GetParam().device);
    const View views[] = {View::null_strides, View::compact, View::padded, View::offset, View::strided, View::reversed_axes};
    size_t turn = 0;
    for (Problem problem : some_of_everything(GetParam().type)) {
        if (problem.inputs.at("state").shape.back() > 100)
            continue;
        const Reference expected = reference(problem);
        for (size_t i = 0; i < std::size(views); ++i) {
            size_t next = i + turn++;
            for (auto* tensors : {&problem.inputs, &problem.outputs})
                for (auto& [name, tensor] : *tensors)
                    problem.views[name] = views[next++ % std::size(views)];
            expect_near(run(context, problem), expected, problem.describe());
        }
    }
}

TEST_P(Mamba3Update, MatchesInPlace) {
    Context context(GetParam().device);
    for (Problem problem : some_of_everything(GetParam().type)) {
        const Outputs separate = run(context, problem);
        for (const char* place : {"x", "z"}) {
            if (!problem.inputs.count(place))
                continue;
            problem.inplace = place;
            expect_identical(run(context, problem), separate, problem.describe());
        }
    }
}

TEST_P(Mamba3Update, VariationsAreBitEqual) {
    for (const Problem& problem : some_of_everything(GetParam().type)) {
        Outputs first;
        for (const Variation& variation : variations(GetParam().device))
            for (int round = 0; round < 3; ++round) {
                Context context(GetParam().device);
                ASSERT_TRUE(variation.apply(context)) << variation.name;
                const Outputs outputs = run(context, problem);
                if (first.empty())
                    first = outputs;
                expect_identical(outputs, first, problem.describe() + " with " + variation.name);
            }
    }
}

TEST_P(Mamba3Update, AcceptsEmptyTensors) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    compare(context, update({type, 0, 2, 3, 4, 1, 2, 1, 0, true}));
    compare(context, update({type, 2, 2, 3, 4, 1, 2, 1, 2, true, {-1, -1}, 0}));
}

TEST_P(Mamba3Update, GraphReplaysTheCall) {
    Context context(GetParam().device);
    const Problem problem = some_of_everything(GetParam().type)[3];
    Call call(context, problem);
    SSM_CHECK(call.run());
    const Outputs direct = call.take();
    call.reset();
    SSM_CHECK(ssm_capture_begin(context));
    SSM_CHECK(call.run());
    ssm_graph* graph = nullptr;
    SSM_CHECK(ssm_capture_end(context, &graph));
    for (int round = 0; round < 2; ++round) {
        call.reset();
        SSM_CHECK(ssm_graph_launch(context, graph));
        expect_identical(call.take(), direct, problem.describe() + " replayed");
    }
    SSM_CHECK(ssm_graph_destroy(graph));
}

TEST_P(Mamba3Update, SteadyStateAllocatesNothing) {
    if (has_sanitizer())
        GTEST_SKIP() << "the sanitizer has the heap to itself";
    for (const Problem& problem : some_of_everything(GetParam().type)) {
        Context context(GetParam().device);
        Call call(context, problem);
        for (int round = 0; round < 3; ++round)
            SSM_CHECK(call.run());
        const Allocations before = allocations();
        for (int round = 0; round < 5; ++round)
            call.run();
        const Allocations after = allocations();
        EXPECT_EQ(after.live_blocks, before.live_blocks) << problem.describe();
        if (GetParam().device.type != SSM_DEVICE_EMULATED) {
            EXPECT_EQ(after.calls, before.calls) << problem.describe();
        }
    }
}

TEST_P(Mamba3Update, RefusesWrongArguments) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    const auto expect = [&](const char* sentence, const auto& change) {
        Problem problem = update({type, 2, 4, 5, 7, 2, 3, 4, 2, true, {1, 0}, 3});
        change(problem);
        Call call(context, problem);
        EXPECT_EQ(call.run(), SSM_ERROR_INVALID_ARGUMENT);
        EXPECT_EQ(std::string(ssm_last_error()), sentence);
    };
    expect("angle_state: a tensor, as angles is given expected, NULL given", [](Problem& problem) {
        problem.inputs.erase("angle_state");
        problem.outputs.erase("angle_state");
    });
    expect("angles: a tensor, as angle_state is given expected, NULL given",
           [](Problem& problem) { problem.inputs.erase("angles"); });
    expect("angles: at most 3 angles, half of the states expected, 4 given", [&](Problem& problem) {
        problem.inputs["angles"] = Tensor(type, {2, 2, 4, 4});
    });
    expect("a: shape (2,2,4) expected, (2,4) given", [&](Problem& problem) {
        problem.inputs["a"] = Tensor(state_type(type), {2, 4});
    });
    expect("b_state: shape (3,4,7) expected, (2,4,7) given", [&](Problem& problem) {
        problem.inputs["b_state"] = problem.outputs["b_state"] = Tensor(state_type(type), {2, 4, 7});
    });
    if (GetParam().device.type == SSM_DEVICE_CPU)
        expect("slots[0]: -1 or a row of the 3 of state expected, 3 given",
               [](Problem& problem) { problem.inputs["slots"].values[0] = 3; });
}

INSTANTIATE_TEST_SUITE_P(Devices, Mamba3Update, testing::ValuesIn(targets({float32, float64, float16, bfloat16})),
                         [](const auto& info) { return name_of(info.param); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Mamba3Update);

} // namespace ssm::test
