// Dense and diagonal plus low-rank systems and projections, against dense matrices in double, and the properties they have.
#include "support/allocations.h"
#include "support/state_space.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ssm::test {

using enum Type;

namespace {

constexpr ssm_discretization rules[] = {SSM_DISCRETIZATION_ZOH, SSM_DISCRETIZATION_BILINEAR, SSM_DISCRETIZATION_EULER,
                                        SSM_DISCRETIZATION_BACKWARD_EULER, SSM_DISCRETIZATION_GENERALIZED_BILINEAR};

void matches(Context& context, const Problem& problem) {
    expect_near(run(context, problem), reference(problem), problem.describe());
}

std::vector<int64_t> lengths(const Device& device) {
    if (device.is_slow())
        return {0, 1, 2, 3, 31, 64, 129};
    return {0, 1, 2, 3, 4, 31, 32, 33, 127, 128, 129, 151, 256, 1023, 1134};
}

} // namespace

class StateSpace : public testing::TestWithParam<Target> {
  protected:
    Type type = GetParam().type;
    bool slow = GetParam().device.is_slow();
    Context context{GetParam().device};

    // One problem of each operation.
    std::vector<Problem> all(int64_t length = 21) const {
        const StateSpaceSizes sizes{type, 2, 3, 5, length, 2, true, {}};
        StateSpaceSizes plain = sizes;
        plain.conjugate_pairs = false;
        plain.rank = 1;
        return {dense_kernel_of(sizes, SSM_DISCRETIZATION_ZOH),
                dense_ssm_of(sizes, SSM_DISCRETIZATION_BILINEAR),
                dplr_ssm_of(sizes),
                dplr_ssm_of(plain),
                dplr_kernel_of(sizes, false),
                dplr_kernel_of(plain, true),
                dplr_kernel_backward_of(sizes, false),
                dplr_kernel_backward_of(plain, true),
                hippo_project_of(sizes, SSM_HIPPO_LEGS, SSM_DISCRETIZATION_BILINEAR),
                hippo_project_of(sizes, SSM_HIPPO_LEGT, SSM_DISCRETIZATION_ZOH, SSM_HIPPO_START_FIRST)};
    }
};

TEST_P(StateSpace, DenseMatchesAtEveryLengthAndRule) {
    for (const ssm_discretization rule : rules)
        for (const int64_t length : lengths(GetParam().device)) {
            const StateSpaceSizes sizes{type, 2, 2, length % 2 ? 7 : 1, length, 1, true, {}};
            matches(context, dense_kernel_of(sizes, rule));
            matches(context, dense_ssm_of(sizes, rule));
        }
}

TEST_P(StateSpace, DenseMatchesAtEveryNumberOfStates) {
    for (const int64_t states : slow ? std::vector<int64_t>{2, 33} : std::vector<int64_t>{2, 3, 8, 16, 17, 33, 64, 65}) {
        matches(context, dense_kernel_of({type, 1, 2, states, 50, 1, true, {}}, SSM_DISCRETIZATION_ZOH));
        matches(context, dense_ssm_of({type, 1, 2, states, 50, 1, true, {}}, SSM_DISCRETIZATION_BACKWARD_EULER));
    }
}

TEST_P(StateSpace, SingularMatricesAreDiscretised) {
    Problem problem = dense_kernel_of({type, 1, 2, 3, 12, 1, true, {}}, SSM_DISCRETIZATION_ZOH);
    for (Number& value : problem.inputs["a"].values)
        value = 0;
    problem.inputs["a"].at(0, 0, 1) = 1;
    matches(context, problem);
}

TEST_P(StateSpace, DplrMatchesAtEveryLengthAndRank) {
    for (const bool pairs : {true, false})
        for (const int64_t length : lengths(GetParam().device)) {
            const int64_t rank = 1 + length % 4;
            const StateSpaceSizes sizes{type, 2, 3, length % 2 ? 5 : 2, length, rank, pairs, {}};
            matches(context, dplr_ssm_of(sizes));
            matches(context, dplr_kernel_of(sizes, true));
            matches(context, dplr_kernel_of(sizes, false));
        }
}

TEST_P(StateSpace, DplrMatchesAtEveryNumberOfStates) {
    for (const int64_t states : slow ? std::vector<int64_t>{1, 33} : std::vector<int64_t>{1, 3, 16, 17, 31, 33}) {
        const StateSpaceSizes sizes{type, 1, 1, states, 40, 2, states % 2 == 0, {}};
        matches(context, dplr_ssm_of(sizes));
        matches(context, dplr_kernel_of(sizes, false));
    }
}

TEST_P(StateSpace, GradientsMatchFiniteDifferences) {
    for (const bool pairs : {true, false})
        for (const bool tilde : {true, false})
            for (const int64_t length : {1, 2, 5, 8, 13}) {
                Problem problem = dplr_kernel_backward_of({type, 1, 2, 2, length, 1 + length % 4, pairs, {}}, tilde);
                if (length == 1 && tilde) // c~ (I - a_bar)^-1 b_bar does not depend on dt
                    problem.outputs.erase("grad_dt");
                matches(context, problem);
            }
    Problem some = dplr_kernel_backward_of({type, 1, 2, 3, 9, 1, true, {}}, false);
    some.outputs.erase("grad_p");
    some.outputs.erase("grad_dt");
    some.outputs.erase("grad_c");
    matches(context, some);
}

TEST_P(StateSpace, ProjectionMatchesForEveryMeasureAndRule) {
    for (const ssm_hippo_measure measure : {SSM_HIPPO_LEGS, SSM_HIPPO_LEGT, SSM_HIPPO_LAGT, SSM_HIPPO_FOUT, SSM_HIPPO_LMU})
        for (const ssm_discretization rule : rules)
            for (const ssm_hippo_start start : {SSM_HIPPO_START_ZERO, SSM_HIPPO_START_FIRST}) {
                if (measure == SSM_HIPPO_LEGS && rule == SSM_DISCRETIZATION_ZOH)
                    continue;
                for (const int64_t states : {2, 6, 34}) {
                    Problem problem = hippo_project_of({type, 2, 1, states, 20, 1, true, {}}, measure, rule, start);
                    if (measure != SSM_HIPPO_LEGS)
                        problem.step = 0.002; // Euler's rule grows without bound in larger ones
                    Reference exact = reference(problem);
                    for (auto& [name, expected] : exact) // matrices of large numbers, far from normal
                        for (double& limit : expected.limit)
                            limit *= measure == SSM_HIPPO_LEGS ? 1 : 20;
                    expect_near(run(context, problem), exact, problem.describe());
                }
            }
}

TEST_P(StateSpace, ProjectionTakesTimes) {
    Problem problem = hippo_project_of({type, 3, 1, 5, 6, 1, true, {}}, SSM_HIPPO_LEGS, SSM_DISCRETIZATION_BACKWARD_EULER);
    Tensor times(type, {6});
    times.values = {0.5, 1, 1.25, 3, 3.5, 7};
    problem.inputs["timestamps"] = times;
    matches(context, problem);
    problem.start = SSM_HIPPO_START_FIRST;
    problem.inputs["timestamps"].values[0] = 0;
    matches(context, problem);
    // Times of whole numbers are no times at all.
    problem.start = SSM_HIPPO_START_ZERO;
    for (int64_t t = 0; t < 6; ++t)
        problem.inputs["timestamps"].values[t] = static_cast<double>(t + 1);
    Problem without = problem;
    without.inputs.erase("timestamps");
    expect_identical(run(context, problem), run(context, without), problem.describe());
}

// A constant signal is exact from its first sample on, for every measure that holds it: legs by every rule it has. (Euler's
// rule grows in the sliding ones.)
TEST_P(StateSpace, ConstantSignalsStay) {
    for (const ssm_hippo_measure measure : {SSM_HIPPO_LEGS, SSM_HIPPO_LEGT, SSM_HIPPO_FOUT, SSM_HIPPO_LMU})
        for (const ssm_discretization rule : rules) {
            if (rule == (measure == SSM_HIPPO_LEGS ? SSM_DISCRETIZATION_ZOH : SSM_DISCRETIZATION_EULER))
                continue;
            Problem problem = hippo_project_of({type, 1, 1, 8, 60, 1, true, {}}, measure, rule, SSM_HIPPO_START_FIRST);
            for (Number& value : problem.inputs["f"].values)
                value = -0.75;
            const Tensor coefficients = run(context, problem).at("coefficients");
            for (int64_t t = 0; t < 60; ++t)
                for (int64_t n = 0; n < 8; ++n)
                    EXPECT_NEAR(coefficients.at(0, t, n).real(), n == 0 ? -0.75 : 0, type == float64 ? 1e-12 : 2e-5)
                        << problem.describe();
        }
}

// Splitting a sequence with its state gives what one call gives.
TEST_P(StateSpace, SplitEqualsWhole) {
    const StateSpaceSizes sizes{type, 2, 3, 5, 37, 2, true, {}};
    for (const Problem& whole : {dense_ssm_of(sizes, SSM_DISCRETIZATION_ZOH), dplr_ssm_of(sizes)}) {
        const Outputs expected = run(context, whole);
        std::vector<Tensor> parts;
        Problem part = whole;
        for (const auto& [from, to] : {std::pair<int64_t, int64_t>{0, 1}, {1, 18}, {18, 37}}) {
            part.inputs["u"] = slice_time(whole.inputs.at("u"), from, to);
            part.outputs["y"] = slice_time(whole.outputs.at("y"), from, to);
            const Outputs outputs = run(context, part);
            parts.push_back(outputs.at("y"));
            part.inputs["initial_state"] = outputs.at("last_state");
        }
        Outputs together{{"y", concatenate(parts, 2)}, {"last_state", part.inputs["initial_state"]}};
        expect_identical(together, expected, whole.describe());
    }
    for (const ssm_hippo_measure measure : {SSM_HIPPO_LEGS, SSM_HIPPO_FOUT})
        for (const ssm_hippo_start start : {SSM_HIPPO_START_ZERO, SSM_HIPPO_START_FIRST}) {
            const Problem whole =
                hippo_project_of({type, 2, 1, 6, 30, 1, true, {}}, measure, SSM_DISCRETIZATION_BILINEAR, start);
            const Outputs expected = run(context, whole);
            Problem first = whole, second = whole;
            first.inputs["f"] = slice(whole.inputs.at("f"), 1, 0, 11);
            first.outputs["coefficients"] = slice(whole.outputs.at("coefficients"), 1, 0, 11);
            const Outputs before = run(context, first);
            second.inputs["f"] = slice(whole.inputs.at("f"), 1, 11, 30);
            second.outputs["coefficients"] = slice(whole.outputs.at("coefficients"), 1, 11, 30);
            second.inputs["initial_state"] = before.at("last_state");
            second.steps_before = measure == SSM_HIPPO_LEGS ? 11 : 0;
            Outputs after = run(context, second);
            after["coefficients"] = concatenate({before.at("coefficients"), after.at("coefficients")}, 1);
            expect_identical(after, expected, whole.describe());
        }
}

TEST_P(StateSpace, PackedEqualsSeparate) {
    const StateSpaceSizes sizes{type, 1, 2, 5, 40, 3, false, {0, 7, 7, 8, 40}};
    for (const Problem& packed : {dense_ssm_of(sizes, SSM_DISCRETIZATION_BILINEAR), dplr_ssm_of(sizes)}) {
        matches(context, packed);
        const Outputs expected = run(context, packed);
        std::vector<Tensor> ys, states;
        for (size_t s = 0; s + 1 < sizes.bounds.size(); ++s) {
            Problem own = packed;
            own.inputs.erase("cu_seqlens");
            own.inputs["u"] = slice_time(packed.inputs.at("u"), sizes.bounds[s], sizes.bounds[s + 1]);
            own.outputs["y"] = slice_time(packed.outputs.at("y"), sizes.bounds[s], sizes.bounds[s + 1]);
            own.inputs["initial_state"] = row_of(packed.inputs.at("initial_state"), static_cast<int64_t>(s));
            own.outputs["last_state"] = row_of(packed.outputs.at("last_state"), static_cast<int64_t>(s));
            const Outputs outputs = run(context, own);
            ys.push_back(outputs.at("y"));
            states.push_back(outputs.at("last_state"));
        }
        expect_identical({{"y", concatenate(ys, 2)}, {"last_state", concatenate(states, 0)}}, expected, packed.describe());
    }
}

TEST_P(StateSpace, EveryViewGivesTheSameNumbers) {
    for (const Problem& problem : all(13)) {
        const Outputs expected = run(context, problem);
        for (const View view : {View::null_strides, View::padded, View::offset, View::unaligned, View::strided,
                                View::reversed_axes, View::channel_contiguous}) {
            Problem other = problem;
            for (const auto* tensors : {&problem.inputs, &problem.outputs})
                for (const auto& [name, tensor] : *tensors)
                    if (tensor.shape.size() > 1 || view != View::channel_contiguous)
                        other.views[name] = view;
            expect_identical(run(context, other), expected, other.describe());
        }
        if (problem.inputs.count("u")) {
            Problem other = problem;
            other.inplace = "u";
            expect_identical(run(context, other), expected, other.describe());
        }
    }
}

TEST_P(StateSpace, OptionalTensorsMayBeAbsent) {
    for (const Problem& problem : all()) {
        Problem bare = problem;
        for (const char* name : {"d", "initial_state"})
            bare.inputs.erase(name);
        bare.outputs.erase("last_state");
        matches(context, bare);
    }
}

TEST_P(StateSpace, EmptyTensorsAreSuccess) {
    for (const Problem& problem : all(0))
        matches(context, problem);
    for (Problem problem :
         {dense_ssm_of({type, 0, 3, 4, 9, 1, true, {}}, SSM_DISCRETIZATION_ZOH),
          dplr_ssm_of({type, 0, 3, 4, 9, 1, true, {}}), dplr_kernel_of({type, 1, 0, 4, 9, 1, true, {}}, false),
          dense_kernel_of({type, 1, 0, 4, 9, 1, true, {}}, SSM_DISCRETIZATION_ZOH),
          dplr_kernel_backward_of({type, 1, 0, 4, 9, 1, true, {}}, false),
          hippo_project_of({type, 0, 1, 4, 9, 1, true, {}}, SSM_HIPPO_LAGT, SSM_DISCRETIZATION_ZOH)})
        matches(context, problem);
}

TEST_P(StateSpace, VariationsAreBitEqual) {
    const std::vector<Problem> problems = all(slow ? 33 : 700);
    std::vector<Outputs> expected;
    for (const Problem& problem : problems)
        expected.push_back(run(context, problem));
    for (const Variation& variation : variations(GetParam().device)) {
        Context other(GetParam().device);
        ASSERT_TRUE(variation.apply(other)) << variation.name;
        for (size_t i = 0; i < problems.size(); ++i)
            for (int round = 0; round < (slow ? 1 : 3); ++round)
                expect_identical(run(other, problems[i]), expected[i], problems[i].describe() + " " + variation.name);
    }
}

TEST_P(StateSpace, GraphReplaysTheCall) {
    for (const Problem& problem : all()) {
        const Outputs expected = run(context, problem);
        Call call(context, problem);
        SSM_CHECK(call.run()); // the workspace grows before the capture
        SSM_CHECK(ssm_context_synchronize(context));
        SSM_CHECK(ssm_capture_begin(context));
        SSM_CHECK(call.run());
        ssm_graph* graph = nullptr;
        SSM_CHECK(ssm_capture_end(context, &graph));
        call.clear_outputs();
        SSM_CHECK(ssm_graph_launch(context, graph));
        expect_identical(call.take(), expected, problem.describe() + " replayed");
        SSM_CHECK(ssm_graph_destroy(graph));
    }
}

TEST_P(StateSpace, WorkspaceIsWhatTheQuerySays) {
    constexpr unsigned char canary = 0xc3;
    constexpr uint64_t tail = 4096;
    for (const Problem& problem : all()) {
        const Outputs expected = run(context, problem);
        Call call(context, problem);
        uint64_t bytes = 0;
        SSM_CHECK(call.query_workspace(&bytes));
        if (bytes == 0)
            continue;
        void* memory = nullptr;
        SSM_CHECK(ssm_allocate(context, bytes + tail, &memory));
        std::vector<unsigned char> image(bytes + tail, canary);
        upload(context, image.data(), memory, image.size());
        SSM_CHECK(ssm_context_set_workspace(context, memory, bytes));
        SSM_CHECK(call.run());
        expect_identical(call.take(), expected, problem.describe() + " in the caller's workspace");
        download(context, memory, image.data(), image.size());
        EXPECT_TRUE(std::all_of(image.begin() + static_cast<int64_t>(bytes), image.end(), [](unsigned char byte) {
            return byte == canary;
        })) << problem.describe();
        SSM_CHECK(ssm_context_set_workspace(context, memory, bytes - 1));
        EXPECT_EQ(call.run(), SSM_ERROR_WORKSPACE_TOO_SMALL);
        SSM_CHECK(ssm_context_set_workspace(context, nullptr, 0));
        SSM_CHECK(ssm_free(context, memory));
    }
}

TEST_P(StateSpace, SteadyStateAllocatesNothing) {
    if (has_sanitizer())
        GTEST_SKIP() << "the sanitizer has the heap to itself";
    for (const Problem& problem : all()) {
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
        if (!slow) {
            EXPECT_EQ(after.calls, before.calls) << problem.describe();
        }
    }
}

// The kernel of a system is what its recurrence answers to an impulse.
TEST_P(StateSpace, KernelIsTheImpulseResponse) {
    for (const bool pairs : {true, false}) {
        const StateSpaceSizes sizes{type, 1, 3, 6, 50, 2, pairs, {}};
        Problem recurrence = dplr_ssm_of(sizes);
        for (const char* name : {"d", "initial_state"})
            recurrence.inputs.erase(name);
        for (int64_t i = 0; i < recurrence.inputs["u"].size(); ++i)
            recurrence.inputs["u"].values[i] = i % 50 == 0 ? 1 : 0;
        Tensor y = run(context, recurrence).at("y");
        y.shape = {3, 50};
        const Problem kernel = dplr_kernel_of(sizes, false);
        expect_agree(run(context, kernel), {{"k", y}}, reference(kernel), kernel.describe());
    }
}

// A large kernel in float32 stays near the double one: a system of HiPPO's size and length.
TEST_P(StateSpace, LegsAtFullSize) {
    const int64_t states = slow ? 8 : 32, length = slow ? 60 : 1024;
    Context host(devices().front());
    Tensor eigenvalues(complex128, {states}), p(complex128, {1, states}), b(complex128, {states});
    {
        Placed w(host, eigenvalues, View::compact, true), own_p(host, p, View::compact, true),
            own_b(host, b, View::compact, true);
        if (devices().front().type != SSM_DEVICE_CPU)
            GTEST_SKIP() << "needs host memory";
        ssm_hippo_nplr_args args{};
        args.struct_size = sizeof args;
        args.measure = SSM_HIPPO_LEGS;
        args.eigenvalues = w.get();
        args.p = own_p.get();
        args.b = own_b.get();
        SSM_CHECK(ssm_hippo_nplr(host, &args));
        eigenvalues = w.take();
        p = own_p.take();
        b = own_b.take();
    }
    Problem dplr = dplr_kernel_of({type, 1, 1, states, length, 1, true, {}}, false);
    const Type complex = complex_of(type);
    const auto put = [&](const char* name, const Tensor& from) {
        for (int64_t n = 0; n < states; ++n)
            dplr.inputs[name].values[n] = rounded(complex, from.values[n]);
    };
    put("eigenvalues", eigenvalues);
    put("p", p);
    put("b", b);
    dplr.inputs["dt"].values[0] = rounded(type, 0.01);
    Reference exact = reference(dplr);
    for (double& limit : exact.at("k").limit)
        limit *= type == float32 ? 5 : 1; // 5e-5 of the largest
    expect_near(run(context, dplr), exact, dplr.describe());
}

// What depends on values is looked at on the CPU, and on a device because the context checks.
TEST_P(StateSpace, BadInput) {
    SSM_CHECK(ssm_context_set_checking(context, 1));
    const auto expect = [&](const Problem& right, const std::string& sentence, const auto& change) {
        Problem problem = right;
        change(problem);
        Call call(context, problem);
        EXPECT_EQ(call.run(), SSM_ERROR_INVALID_ARGUMENT) << problem.describe();
        EXPECT_EQ(std::string(ssm_last_error()), sentence);
        call.check_nothing_written();
    };
    const StateSpaceSizes sizes{type, 2, 3, 4, 9, 1, true, {}};
    const Problem dense = dense_ssm_of(sizes, SSM_DISCRETIZATION_ZOH), kernel = dplr_kernel_of(sizes, false);
    for (const Problem& right : {dense, kernel, dplr_ssm_of(sizes), dplr_kernel_backward_of(sizes, true),
                                 dense_kernel_of(sizes, SSM_DISCRETIZATION_EULER)})
        for (const auto& [value, text] : {std::pair{0.0, "0"}, {-0.5, "-0.5"}, {std::nan(""), "nan"}})
            expect(right, std::string("dt[2]: a positive number expected, ") + text + " given",
                   [value = value](Problem& problem) { problem.inputs["dt"].values[2] = value; });
    for (const Problem& right : {kernel, dplr_kernel_backward_of(sizes, true)}) {
        expect(right, "eigenvalues[1,2]: a finite number that is not 0 expected, 0+0i given",
               [](Problem& problem) { problem.inputs["eigenvalues"].values[6] = 0; });
        expect(right, "p: a rank of 1 to 4 expected, shape (3,5,4) given", [&](Problem& problem) {
            problem.inputs["p"] = Tensor(complex_of(type), {3, 5, 4});
        });
    }
    expect(dense,
           "discretization: zoh, bilinear, euler, backward_euler or generalized_bilinear expected, dirac, of diagonal "
           "systems alone given",
           [](Problem& problem) { problem.discretization = SSM_DISCRETIZATION_DIRAC; });
    expect(dense, "discretization: an ssm_discretization expected, 9 given",
           [](Problem& problem) { problem.discretization = 9; });
    expect(dense, "alpha: 0 without the generalized bilinear rule expected, 0.500000 given",
           [](Problem& problem) { problem.alpha = 0.5; });
    expect(dense, "a: at least one state expected, shape (3,0,0) given", [&](Problem& problem) {
        problem.inputs["a"] = Tensor(type, {3, 0, 0});
        problem.inputs["b"] = problem.inputs["c"] = Tensor(type, {3, 0});
    });
    expect(dense, "b: shape (3,4) expected, (3,5) given", [&](Problem& problem) {
        problem.inputs["b"] = Tensor(type, {3, 5});
    });
    const Problem legs = hippo_project_of(sizes, SSM_HIPPO_LEGS, SSM_DISCRETIZATION_BILINEAR);
    expect(legs, "discretization: bilinear, euler, backward_euler or generalized_bilinear for legs expected, zoh given",
           [](Problem& problem) { problem.discretization = SSM_DISCRETIZATION_ZOH; });
    expect(legs, "dt: 0 for legs, whose steps are 1/k expected, 0.100000 given",
           [](Problem& problem) { problem.step = 0.1; });
    expect(legs, "measure: an ssm_hippo_measure expected, 7 given", [](Problem& problem) { problem.measure = 7; });
    expect(legs, "timestamps[3]: a time after 2 expected, 2 given", [&](Problem& problem) {
        problem.inputs["timestamps"] = Tensor(type, {9});
        for (int64_t t = 0; t < 9; ++t)
            problem.inputs["timestamps"].values[t] = t < 3 ? 0.5 + 0.75 * static_cast<double>(t) : 2.0 + (t == 3 ? 0 : t);
    });
    const Problem fout = hippo_project_of(sizes, SSM_HIPPO_FOUT, SSM_DISCRETIZATION_ZOH);
    expect(fout, "dt: a positive number for a sliding measure expected, 0.000000 given",
           [](Problem& problem) { problem.step = 0; });
    expect(fout, "coefficients: an even N for fout expected, shape (2,9,3) given", [&](Problem& problem) {
        problem.outputs["coefficients"] = Tensor(type, {2, 9, 3});
        problem.outputs["last_state"] = Tensor(type, {2, 3});
    });
}

INSTANTIATE_TEST_SUITE_P(Devices, StateSpace, testing::ValuesIn(targets({float32, float64})),
                         [](const auto& info) { return name_of(info.param); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(StateSpace);

} // namespace ssm::test
