// causal_conv: the tests of all sequence operations, streams in blocks of any size, prepared spectra, and what a convolution
// is.
#include <algorithm>
#include <cmath>

#include "support/sequence_tests.h"

namespace ssm::test {

using enum Type;

SSM_SEQUENCE_TESTS(CausalConv, Operation::causal_conv, float32, float64, float16, bfloat16);
SSM_SEQUENCE_TEST(CausalConv, Operation::causal_conv, SplitEqualsOneCall, split_equals_one_call)

namespace {

Problem of_taps(Type type, int64_t taps, int64_t heads, int64_t length, bool with_reverse = false) {
    Random random(static_cast<uint64_t>(7 * taps + length));
    const Type state = state_type(type);
    Problem problem;
    problem.operation = Operation::causal_conv;
    problem.type = type;
    problem.inputs["u"] = uniform(type, {2, heads, length}, -1, 1, random);
    problem.inputs["k"] = uniform(state, {heads, taps}, -0.5, 0.5, random);
    if (with_reverse)
        problem.inputs["k_reverse"] = uniform(state, {heads, taps}, -0.5, 0.5, random);
    problem.inputs["d"] = uniform(state, {heads}, -1, 1, random);
    problem.outputs["y"] = problem.inputs["u"];
    return problem;
}

// The spectrum of a problem's kernels, of F numbers a head.
Tensor spectrum_of(Context& context, const Problem& problem, int64_t length) {
    Problem plan;
    plan.operation = Operation::causal_conv_plan;
    const Tensor& k = problem.inputs.at("k");
    plan.type = k.type;
    plan.inputs["k"] = k;
    if (problem.inputs.count("k_reverse"))
        plan.inputs["k_reverse"] = problem.inputs.at("k_reverse");
    plan.outputs["spectrum"] = Tensor(k.type, {k.shape[0], length});
    return run(context, plan).at("spectrum");
}

int64_t suggested_length(Context& context, const Problem& problem) {
    const Placed u(context, problem.inputs.at("u"), View::compact, false),
        k(context, problem.inputs.at("k"), View::compact, false);
    ssm_causal_conv_args args{};
    args.struct_size = sizeof args;
    args.u = u.get();
    args.k = k.get();
    args.k_reverse = problem.inputs.count("k_reverse") ? k.get() : nullptr;
    int64_t length = 0;
    SSM_CHECK(ssm_causal_conv_spectrum_length(context, &args, &length));
    return length;
}

} // namespace

// The state makes one signal of blocks of any size, those of one step and of none too.
TEST_P(CausalConv, BlocksOfAStreamEqualOneCall) {
    Context context(GetParam().device);
    const bool slow = GetParam().device.is_slow();
    Random random(3);
    for (const int64_t taps : slow ? std::vector<int64_t>{1, 300} : std::vector<int64_t>{1, 2, 65, 300, 1100})
        for (const bool with_spectrum : {false, true}) {
            Problem whole = of_taps(GetParam().type, taps, 2, slow ? 900 : 2500);
            whole.inputs["pre_gate"] = uniform(GetParam().type, whole.inputs["u"].shape, -1, 1, random);
            whole.inputs["initial_state"] = uniform(state_type(GetParam().type), {2, 2, taps - 1}, -1, 1, random);
            whole.outputs["last_state"] = whole.inputs["initial_state"];
            const Reference limits = reference(whole);
            const Outputs expected = run(context, whole);
            if (with_spectrum)
                whole.inputs["spectrum"] = spectrum_of(context, whole, 2048);
            Tensor state = whole.inputs["initial_state"];
            std::vector<Tensor> blocks;
            const int64_t length = length_of(whole);
            for (int64_t t = 0; t < length;) {
                const int64_t most = random.integer(0, 3) == 0 ? 2 : random.integer(0, 1) ? 90 : 1500;
                const int64_t count = std::min(length - t, random.integer(0, static_cast<int>(most)));
                Problem block = slice_time(whole, t, t + count);
                block.inputs["initial_state"] = state;
                const Outputs outputs = run(context, block);
                state = outputs.at("last_state");
                blocks.push_back(outputs.at("y"));
                t += count;
            }
            const Outputs joined{{"y", concatenate(blocks, 2)}, {"last_state", state}};
            expect_agree(joined, expected, limits, whole.describe() + " in blocks");
        }
}

// Spectra that were made before, of every length that holds the taps, give what the kernels give.
TEST_P(CausalConv, SpectraThatWereMadeBefore) {
    Context context(GetParam().device);
    for (const bool with_reverse : {false, true})
        for (const auto& [taps, length] : {std::pair<int64_t, int64_t>{5, 3}, {256, 700}, {700, 600}, {300, 3000}})
            for (const int64_t path : {0, 3}) {
                if (!context.try_option("causal_conv.path", path))
                    continue;
                Problem problem = of_taps(GetParam().type, taps, 3, length, with_reverse);
                const Reference expected = reference(problem);
                const int64_t suggested = suggested_length(context, problem);
                for (const int64_t numbers : {suggested, 2 * suggested, int64_t{2048}}) {
                    problem.inputs["spectrum"] = spectrum_of(context, problem, numbers);
                    expect_near(run(context, problem), expected, problem.describe() + " path " + std::to_string(path));
                }
            }
}

// An impulse gives the kernel back, and later: shifted. What comes later changes nothing before it, but for the taps that
// look ahead.
TEST_P(CausalConv, ImpulsesGiveTheKernel) {
    Context context(GetParam().device);
    for (const bool with_reverse : {false, true})
        for (const int64_t at : {0, 1, 400, 599}) {
            Problem problem = of_taps(GetParam().type, 600, 2, 600, with_reverse);
            problem.inputs.erase("d");
            Tensor& u = problem.inputs["u"];
            std::fill(u.values.begin(), u.values.end(), Number(0));
            u.at(0, 1, at) = 1;
            const Outputs outputs = run(context, problem);
            const double close = is_half(GetParam().type) ? 0.004 : 64 * roundoff(GetParam().type);
            for (int64_t t = 0; t < 600; ++t) {
                const double exact = t >= at        ? problem.inputs["k"].at(1, t - at).real()
                                     : with_reverse ? problem.inputs["k_reverse"].at(1, at - 1 - t).real()
                                                    : 0;
                ASSERT_NEAR(outputs.at("y").at(0, 1, t).real(), exact, close) << "step " << t << " of an impulse at " << at;
                ASSERT_EQ(outputs.at("y").at(0, 0, t), Number(0));
                ASSERT_EQ(outputs.at("y").at(1, 1, t), Number(0));
            }
        }
}

// Kernels of any size for signals of any length: odd and prime ones, one tap, as many taps as steps and more.
TEST_P(CausalConv, AnyKernelForAnyLength) {
    Context context(GetParam().device);
    const bool slow = GetParam().device.is_slow();
    for (const int64_t length : slow ? std::vector<int64_t>{1, 3, 97, 509} : std::vector<int64_t>{1, 2, 3, 97, 509, 1021}) {
        const int64_t sizes[] = {1, 2, length / 2 + 1, length - 1, length, length + 1, 2 * length + 5};
        for (const int64_t taps : sizes) {
            if (taps < 1)
                continue;
            Problem problem = of_taps(GetParam().type, taps, 2, length, taps % 2 == 0);
            Random random(static_cast<uint64_t>(taps));
            problem.inputs["pre_gate"] = uniform(GetParam().type, problem.inputs["u"].shape, -1, 1, random);
            problem.inputs["post_gate"] = uniform(GetParam().type, problem.inputs["u"].shape, -1, 1, random);
            const Reference expected = reference(problem);
            expect_near(run(context, problem), expected, problem.describe());
            if (taps <= length)
                continue;
            // Taps beyond the signal meet nothing.
            for (const char* name : {"k", "k_reverse"})
                if (problem.inputs.count(name))
                    problem.inputs[name] = slice_time(problem.inputs.at(name), 0, length);
            expect_near(run(context, problem), expected, problem.describe() + " with as many taps as steps");
        }
    }
}

// A kernel of powers is a recurrence: y_t = a y_{t-1} + x_t.
TEST_P(CausalConv, PowersAreARecurrence) {
    Context context(GetParam().device);
    const int64_t length = GetParam().device.is_slow() ? 700 : 5000;
    Problem problem = of_taps(GetParam().type, length, 2, length);
    problem.inputs.erase("d");
    Problem recurrence;
    recurrence.operation = Operation::linear_recurrence;
    recurrence.type = GetParam().type;
    recurrence.inputs["a"] = problem.inputs["u"];
    recurrence.inputs["b"] = problem.inputs["u"];
    recurrence.outputs["h"] = problem.inputs["u"];
    const double decays[] = {0.5, 0.9375}; // of every type
    for (int64_t head = 0; head < 2; ++head)
        for (int64_t t = 0; t < length; ++t) {
            problem.inputs["k"].at(head, t) =
                rounded(state_type(GetParam().type), std::pow(decays[head], static_cast<double>(t)));
            for (int64_t batch = 0; batch < 2; ++batch)
                recurrence.inputs["a"].at(batch, head, t) = decays[head];
        }
    const Outputs outputs = run(context, problem), states = run(context, recurrence);
    Reference limits = reference(problem);
    for (double& limit : limits.at("y").limit)
        limit += is_half(GetParam().type) ? 0.02 : 1e3 * roundoff(GetParam().type);
    expect_agree(outputs, {{"y", states.at("h")}}, limits, problem.describe() + " as a recurrence");
}

TEST_P(CausalConv, RefusesWhatDoesNotGoTogether) {
    Context context(GetParam().device);
    const auto refused = [&](const Problem& problem, const std::string& sentence) {
        Call call(context, problem);
        EXPECT_EQ(call.run(), SSM_ERROR_INVALID_ARGUMENT) << problem.describe();
        EXPECT_NE(std::string(ssm_last_error()).find(sentence), std::string::npos) << ssm_last_error();
        call.check_nothing_written();
    };
    const Type state = state_type(GetParam().type);
    Problem problem = of_taps(GetParam().type, 8, 3, 20, true);
    problem.inputs["initial_state"] = Tensor(state, {2, 3, 7});
    refused(problem, "initial_state: NULL beside k_reverse");
    problem.inputs.erase("initial_state");
    problem.inputs["k"] = Tensor(state, {3, 0});
    refused(problem, "k: at least one tap");
    problem = of_taps(GetParam().type, 300, 3, 20, true);
    for (const int64_t numbers : {512, 1000, 256}) {
        problem.inputs["spectrum"] = Tensor(state, {3, numbers});
        refused(problem, "spectrum: a power of two from 1024");
    }
    problem.inputs["spectrum"] = Tensor(state, {2, 1024});
    refused(problem, "spectrum: shape (3,1024)");
}

} // namespace ssm::test
