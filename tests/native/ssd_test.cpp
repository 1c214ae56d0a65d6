// ssd: what all sequence operations must show, and its own: chunk sizes, restarts, large heads, and its equality with the
// selective scan and the state update.
#include <cmath>

#include "support/sequence_tests.h"

namespace ssm::test {

using enum Type;

namespace {

constexpr Operation operation = Operation::ssd;

void compare(Context& context, const Problem& problem, const std::string& note = "") {
    expect_near(run(context, problem), reference(problem), problem.describe() + " " + note);
}

std::vector<int64_t> bounds_of(const std::vector<int64_t>& lengths) {
    std::vector<int64_t> bounds{0};
    for (const int64_t length : lengths)
        bounds.push_back(bounds.back() + length);
    return bounds;
}

// A head larger than a tile in every direction.
Problem large(Type type, int64_t heads, int64_t groups, int64_t length, int64_t channels, int64_t states) {
    Random random(static_cast<uint64_t>(channels * 7 + states));
    Problem problem;
    problem.operation = operation;
    problem.type = type;
    problem.dt_softplus = true;
    problem.inputs["x"] = uniform(type, {1, length, heads, channels}, -1, 1, random);
    problem.inputs["dt"] = uniform(type, {1, length, heads}, -5, 0, random);
    problem.inputs["a"] = uniform(state_type(type), {heads}, -2, -0.1, random);
    for (const char* name : {"b", "c"})
        problem.inputs[name] = uniform(type, {1, length, groups, states}, -1, 1, random);
    problem.inputs["d"] = uniform(state_type(type), {heads, channels}, -1, 1, random);
    problem.inputs["initial_state"] = uniform(state_type(type), {1, heads, channels, states}, -1, 1, random);
    problem.outputs["y"] = problem.inputs.at("x");
    problem.outputs["last_state"] = problem.inputs.at("initial_state");
    return problem;
}

class Ssd : public testing::TestWithParam<Target> {};

} // namespace

SSM_SEQUENCE_TEST(Ssd, operation, MatchesAtEveryLength, matches_at_every_length)
SSM_SEQUENCE_TEST(Ssd, operation, MatchesAcrossTiles, matches_across_tiles)
SSM_SEQUENCE_TEST(Ssd, operation, MatchesAtEveryWidth, matches_at_every_width)
SSM_SEQUENCE_TEST(Ssd, operation, MatchesInOneLongRow, matches_in_one_long_row)
SSM_SEQUENCE_TEST(Ssd, operation, MatchesInEveryView, matches_in_every_view)
SSM_SEQUENCE_TEST(Ssd, operation, MatchesWithBroadcastInputs, matches_with_broadcast_inputs)
SSM_SEQUENCE_TEST(Ssd, operation, MatchesWhenPacked, matches_when_packed)
SSM_SEQUENCE_TEST(Ssd, operation, AcceptsEmptyTensors, accepts_empty_tensors)
SSM_SEQUENCE_TEST(Ssd, operation, TenRunsAreBitEqual, ten_runs_are_bit_equal)
SSM_SEQUENCE_TEST(Ssd, operation, VariationsAreBitEqual, variations_are_bit_equal)
SSM_SEQUENCE_TEST(Ssd, operation, AlignmentIsBitEqual, alignment_is_bit_equal)
SSM_SEQUENCE_TEST(Ssd, operation, ContextsAreIndependent, contexts_are_independent)
SSM_SEQUENCE_TEST(Ssd, operation, GraphReplaysTheCall, graph_replays_the_call)
SSM_SEQUENCE_TEST(Ssd, operation, WorkspaceIsWhatTheQuerySays, workspace_is_what_the_query_says)
SSM_SEQUENCE_TEST(Ssd, operation, SteadyStateAllocatesNothing, steady_state_allocates_nothing)

// What the mutations run: a few seconds.
TEST_P(Ssd, Quick) {
    const Type type = GetParam().type;
    const bool slow = GetParam().device.is_slow();
    size_t turn = 0;
    for (const Variation& variation : variations(GetParam().device))
        for (const int64_t tile : {0, 16, 70}) {
            Context context(GetParam().device);
            context.try_option("ssd.tile", tile);
            context.try_option("ssd.path", static_cast<int64_t>(turn % 3));
            ASSERT_TRUE(variation.apply(context)) << variation.name;
            const std::string note = "tile " + std::to_string(tile) + " " + variation.name;
            for (const Size& size :
                 {Size{type, 2, 2, 1}, Size{type, 1, 4, 300}, Size{type, 1, 2, 202, bounds_of({0, 1, 40, 0, 130, 31, 0})}}) {
                const std::vector<Problem> all = problems(operation, size);
                for (size_t i = 0; i < (slow ? 1 : all.size()); ++i)
                    compare(context, all[(turn + i) % all.size()], note);
                ++turn;
            }
            if (HasFailure())
                return;
        }
    Context context(GetParam().device);
    compare(context, large(type, 2, 1, 70, 70, 130));
}

TEST_P(Ssd, MatchesWhereHeadsAreLarge) {
    const Type type = GetParam().type;
    const bool slow = GetParam().device.is_slow();
    Context context(GetParam().device);
    compare(context, large(type, 2, 2, 129, 64, 64));
    compare(context, large(type, 2, 1, 65, 130, 200));
    compare(context, large(type, 1, 1, slow ? 33 : 200, 65, 513)); // states beyond the shared memory of a block
    for (const int64_t path : {2, 3})
        if (context.try_option("ssd.path", path))
            compare(context, large(type, 2, 1, 300, 66, 65), "parts " + std::to_string(path));
}

// Results depend on the chunk size by rounding alone.
TEST_P(Ssd, MatchesAtEveryChunkSize) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    for (Problem problem : problems(operation, {type, 1, 2, 300})) {
        const Reference expected = reference(problem);
        for (const int64_t chunk : {1, 3, 16, 64, 256, 100000}) {
            problem.chunk_size = chunk;
            expect_near(run(context, problem), expected, problem.describe());
        }
    }
}

TEST_P(Ssd, SplitEqualsOneCall) {
    const Type type = GetParam().type;
    const bool slow = GetParam().device.is_slow();
    Context context(GetParam().device);
    const int64_t length = 300;
    for (const Problem& whole : problems(operation, {type, 2, 2, length})) {
        if (!whole.outputs.count("last_state"))
            continue;
        const Reference limits = reference(whole);
        const Outputs expected = run(context, whole);
        for (const int64_t cut : slow ? std::vector<int64_t>{65} : std::vector<int64_t>{0, 1, 63, 64, 130, 299, length}) {
            Problem first = slice_time(whole, 0, cut), second = slice_time(whole, cut, length);
            const Outputs before = run(context, first);
            second.inputs["initial_state"] = before.at("last_state");
            // A restart at the cut is the caller's to make.
            if (whole.inputs.count("seq_idx") && cut > 0 && cut < length) {
                const Tensor& ids = whole.inputs.at("seq_idx");
                Tensor& carried = second.inputs["initial_state"];
                const int64_t row_size = carried.size() / 2;
                for (int64_t row = 0; row < 2; ++row)
                    if (ids.at(row, cut) != ids.at(row, cut - 1))
                        std::fill_n(carried.values.begin() + row * row_size, row_size, Number(0));
            }
            const Outputs after = run(context, second);
            const Outputs joined{{"y", concatenate({before.at("y"), after.at("y")}, 1)},
                                 {"last_state", after.at("last_state")}};
            expect_agree(joined, expected, limits, whole.describe() + " cut at " + std::to_string(cut));
        }
    }
}

TEST_P(Ssd, PackedEqualsSeparate) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    const std::vector<int64_t> bounds = bounds_of({0, 3, 64, 0, 131, 65, 1});
    for (const Problem& packed : problems(operation, {type, 1, 2, bounds.back(), bounds})) {
        const Outputs together = run(context, packed);
        std::vector<Tensor> y, states;
        for (size_t s = 0; s + 1 < bounds.size(); ++s) {
            Problem part = slice_time(packed, bounds[s], bounds[s + 1]);
            part.inputs.erase("cu_seqlens");
            for (auto* tensors : {&part.inputs, &part.outputs})
                for (auto& [name, tensor] : *tensors)
                    if (name.find("state") != std::string::npos)
                        tensor = row_of(tensor, static_cast<int64_t>(s));
            const Outputs alone = run(context, part);
            y.push_back(alone.at("y"));
            if (alone.count("last_state"))
                states.push_back(alone.at("last_state"));
        }
        Outputs joined{{"y", concatenate(y, 1)}};
        if (!states.empty())
            joined["last_state"] = concatenate(states, 0);
        expect_agree(together, joined, reference(packed), packed.describe());
    }
}

// Restarts are separate sequences, the first of which alone has the initial state.
TEST_P(Ssd, RestartsEqualPacked) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    const std::vector<int64_t> bounds = bounds_of({1, 64, 63, 1, 1, 70, 129});
    Problem packed = problems(operation, {type, 1, 2, bounds.back(), bounds})[0];
    Problem restarted = packed;
    restarted.inputs.erase("cu_seqlens");
    Tensor ids(int32, {1, bounds.back()});
    for (size_t s = 0; s + 1 < bounds.size(); ++s) // numbers come back
        std::fill(ids.values.begin() + bounds[s], ids.values.begin() + bounds[s + 1],
                  Number(static_cast<double>(s % 2 + 7)));
    restarted.inputs["seq_idx"] = ids;
    Tensor& states = packed.inputs["initial_state"];
    std::fill(states.values.begin() + states.size() / states.shape[0], states.values.end(), Number(0));
    restarted.inputs["initial_state"] = row_of(states, 0);
    restarted.outputs["last_state"] = row_of(states, 0);
    const Outputs expected = run(context, packed);
    const Reference limits = reference(packed);
    Reference of_last = reference(restarted);
    Outputs outputs = run(context, restarted);
    expect_agree({{"y", outputs.at("y")}}, {{"y", expected.at("y")}}, limits, restarted.describe());
    expect_agree({{"last_state", outputs.at("last_state")}},
                 {{"last_state", row_of(expected.at("last_state"), states.shape[0] - 1)}}, of_last, restarted.describe());
}

// With one channel a head is a channel of the selective scan whose states share their rate.
TEST_P(Ssd, EqualsSelectiveScanOfTiedRates) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    const int64_t batch = 2, length = 150, heads = 4, groups = 2, states = 9;
    Random random(3);
    Problem scan;
    scan.operation = Operation::selective_scan;
    scan.type = type;
    scan.dt_softplus = true;
    scan.inputs["u"] = uniform(type, {batch, heads, length}, -1, 1, random);
    scan.inputs["z"] = uniform(type, {batch, heads, length}, -2, 2, random);
    scan.inputs["dt"] = uniform(type, {batch, heads, length}, -4, 0, random);
    for (const char* name : {"b", "c"})
        scan.inputs[name] = uniform(type, {batch, groups, states, length}, -1, 1, random);
    const Tensor rates = uniform(state_type(type), {heads}, -2, -0.01, random);
    Tensor tied(state_type(type), {heads, states});
    for (int64_t i = 0; i < tied.size(); ++i)
        tied.values[i] = rates.values[i / states];
    scan.inputs["a"] = tied;
    scan.inputs["initial_state"] = uniform(state_type(type), {batch, heads, states}, -1, 1, random);
    scan.outputs = {{"y", scan.inputs.at("u")}, {"last_state", scan.inputs.at("initial_state")}};

    // Time goes from last to second.
    const auto turned = [&](const Tensor& tensor, std::vector<int64_t> shape) {
        Tensor result(tensor.type, shape);
        const int64_t inner = tensor.size() / batch / length;
        for (int64_t row = 0; row < batch; ++row)
            for (int64_t t = 0; t < length; ++t)
                for (int64_t i = 0; i < inner; ++i)
                    result.values[(row * length + t) * inner + i] = tensor.values[(row * inner + i) * length + t];
        return result;
    };
    Problem problem;
    problem.operation = operation;
    problem.type = type;
    problem.dt_softplus = true;
    problem.inputs["x"] = turned(scan.inputs.at("u"), {batch, length, heads, 1});
    problem.inputs["z"] = turned(scan.inputs.at("z"), {batch, length, heads, 1});
    problem.inputs["dt"] = turned(scan.inputs.at("dt"), {batch, length, heads});
    for (const char* name : {"b", "c"})
        problem.inputs[name] = turned(scan.inputs.at(name), {batch, length, groups, states});
    problem.inputs["a"] = rates;
    Tensor state = scan.inputs.at("initial_state");
    state.shape = {batch, heads, 1, states};
    problem.inputs["initial_state"] = state;
    problem.outputs = {{"y", problem.inputs.at("x")}, {"last_state", state}};

    Outputs expected = run(context, scan);
    expected["y"] = turned(expected.at("y"), {batch, length, heads, 1});
    expected["last_state"].shape = state.shape;
    expect_agree(run(context, problem), expected, reference(problem), problem.describe());
}

// One step is a step of the state update.
TEST_P(Ssd, EqualsStateUpdateOfOneStep) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    for (const Problem& problem : {problems(operation, {type, 3, 2, 1})[0], problems(operation, {type, 2, 4, 1})[4]}) {
        const bool softplus = problem.dt_softplus;
        std::map<std::string, std::unique_ptr<Placed>> placed;
        for (const auto& [name, tensor] : problem.inputs)
            placed[name] = std::make_unique<Placed>(context, tensor, View::compact, name == "initial_state");
        placed["initial_state"]->write(problem.inputs.at("initial_state"));
        placed["y"] = std::make_unique<Placed>(context, problem.outputs.at("y"), View::compact, true);
        const auto at = [&](const char* name) { return placed.count(name) ? placed.at(name)->get() : nullptr; };
        ssm_selective_state_update_args args{};
        args.struct_size = sizeof args;
        args.dt_softplus = softplus;
        args.state = at("initial_state");
        args.x = at("x");
        args.dt = at("dt");
        args.a = at("a");
        args.b = at("b");
        args.c = at("c");
        args.d = at("d");
        args.z = at("z");
        args.dt_bias = at("dt_bias");
        args.y = at("y");
        SSM_CHECK(ssm_selective_state_update(context, &args));
        SSM_CHECK(ssm_context_synchronize(context));
        const Outputs expected{{"y", placed.at("y")->take()}, {"last_state", placed.at("initial_state")->take()}};
        expect_agree(run(context, problem), expected, reference(problem), problem.describe());
    }
}

// softplus far out, and decays that leave nothing: no overflow, no difference of infinities.
TEST_P(Ssd, HoldsAtTheEnds) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    const double steps[] = {-80, -40, -20, -10, -1, 0, 1, 10, 19, 21, 40, 60};
    for (const double rate : {-1e30, -1e6, -30.0, -1e-3, 0.0}) {
        Problem problem = problems(operation, {type, 1, 2, 150})[0];
        problem.inputs.erase("dt_bias");
        for (int64_t i = 0; i < problem.inputs["dt"].size(); ++i)
            problem.inputs["dt"].values[i] = rounded(type, steps[i % 12]);
        for (Number& value : problem.inputs["a"].values)
            value = rounded(state_type(type), rate);
        if (type == float16) // the state grows beyond the type's largest number
            for (Number& value : problem.inputs["x"].values)
                value = rounded(type, value / 64.0);
        compare(context, problem);
    }
}

// A number that is none stays in its head and its sequence, and reaches no step before its own. (Tensor cores sum in an
// order of theirs, which the chunk with such a number does without.)
TEST_P(Ssd, NanStaysInItsHead) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    const bool is_exact = GetParam().device.type == SSM_DEVICE_CPU || type == float32 || type == float64;
    const int64_t length = 150, bad_step = 70;
    for (const Problem& clean : problems(operation, {type, 2, 3, length})) {
        const Outputs before = run(context, clean);
        for (const char* name : {"x", "dt"}) {
            Problem dirty = clean;
            dirty.inputs[name].values[bad_step * (dirty.inputs[name].size() / (2 * length)) +
                                      dirty.inputs[name].size() / (2 * length * 3)] = std::nan("");
            const Outputs after = run(context, dirty);
            const Tensor &y = after.at("y"), &expected = before.at("y");
            const int64_t inner = y.shape[3];
            bool found = false;
            for (int64_t i = 0; i < y.size(); ++i) {
                const int64_t head = i / inner % 3, t = i / inner / 3 % length, row = i / inner / 3 / length;
                const bool is_own = row == 0 && head == 1;
                const bool is_rounded = is_own && !is_exact && t >= bad_step - bad_step % 64;
                found |= std::isnan(y.values[i].real());
                if (!is_own || t < bad_step) {
                    const double error = std::abs(y.values[i] - expected.values[i]);
                    ASSERT_LE(error, is_rounded ? 0.02 * (1 + std::abs(expected.values[i])) : 0.0)
                        << name << " element " << i << " of " << dirty.describe();
                }
            }
            EXPECT_TRUE(found) << dirty.describe();
        }
    }
}

TEST_P(Ssd, RefusesWrongArguments) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    const auto expect = [&](const char* sentence, const auto& change) {
        Problem problem = problems(operation, {type, 2, 4, 9})[2];
        change(problem);
        Call call(context, problem);
        EXPECT_EQ(call.run(), SSM_ERROR_INVALID_ARGUMENT);
        EXPECT_EQ(std::string(ssm_last_error()), sentence);
    };
    const Type state = state_type(type);
    expect("b: a number of groups that divides the 4 heads expected, 3 given", [&](Problem& problem) {
        problem.inputs["b"] = problem.inputs["c"] = Tensor(type, {2, 9, 3, 7});
    });
    expect("c: shape (2,9,2,7) expected, (2,9,2,6) given", [&](Problem& problem) {
        problem.inputs["c"] = Tensor(type, {2, 9, 2, 6});
    });
    expect("dt: shape (2,9,4) expected, (2,4,9) given", [&](Problem& problem) {
        problem.inputs["dt"] = Tensor(type, {2, 4, 9});
    });
    expect("d: shape (4,5) expected, (4,1) given", [&](Problem& problem) { problem.inputs["d"] = Tensor(state, {4, 1}); });
    expect("d: shape (4) expected, (5) given", [&](Problem& problem) { problem.inputs["d"] = Tensor(state, {5}); });
    expect("seq_idx: int32 expected, int64 given", [&](Problem& problem) { problem.inputs["seq_idx"].type = int64; });
    expect("seq_idx: shape (2,9) expected, (2,8) given", [&](Problem& problem) {
        problem.inputs["seq_idx"] = Tensor(int32, {2, 8});
    });
    expect("initial_state: shape (2,4,5,7) expected, (2,4,7,5) given", [&](Problem& problem) {
        problem.inputs["initial_state"] = Tensor(state, {2, 4, 7, 5});
    });
    expect("chunk_size: 0 or more expected, -1 given", [](Problem& problem) { problem.chunk_size = -1; });
    expect("dt_min: a finite number, 0 or more expected, -0.500000 given", [](Problem& problem) { problem.dt_min = -0.5; });
    expect("dt_max: 0, or a number of at least dt_min expected, 0.250000 given", [](Problem& problem) {
        problem.dt_min = 0.5;
        problem.dt_max = 0.25;
    });
}

INSTANTIATE_TEST_SUITE_P(Devices, Ssd, testing::ValuesIn(targets({float32, float64, float16, bfloat16})),
                         [](const auto& info) { return name_of(info.param); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Ssd);

} // namespace ssm::test
