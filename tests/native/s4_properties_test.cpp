// What the systems of the S4 family have in common: linear, causal, indifferent to when they start, the same in blocks as in
// one call; recurrences are convolutions with their kernels; gradients are those of differences.
#include <algorithm>
#include <cmath>

#include "support/problems.h"
#include "support/s4.h"
#include "support/state_space.h"

namespace ssm::test {

using enum Type;

namespace {

constexpr ssm_discretization rules[] = {SSM_DISCRETIZATION_ZOH, SSM_DISCRETIZATION_BILINEAR, SSM_DISCRETIZATION_EULER,
                                        SSM_DISCRETIZATION_BACKWARD_EULER, SSM_DISCRETIZATION_GENERALIZED_BILINEAR};

// A call that makes one signal of another.
struct Filter {
    Problem problem;
    std::string input, output;
    int input_axis, output_axis; // time
    bool is_invariant = true;    // a later signal gives a later answer
    bool is_transform = false;   // the future leaves roundings in the past
};

Filter recurrence_of(const Problem& problem) {
    return {problem, "u", "y", 2, 2};
}
Filter scan_of(const Problem& problem) {
    Filter filter{problem, "bu", "x", 2, 2};
    filter.problem.outputs.erase("x_reverse");
    filter.is_invariant = !problem.inputs.count("interval");
    return filter;
}
Filter projection_of(const Problem& problem) {
    Filter filter{problem, "f", "coefficients", 1, 1};
    filter.is_invariant = problem.measure != SSM_HIPPO_LEGS;
    return filter;
}

// From no state, one sequence for each batch element.
Problem from_rest(Problem problem) {
    problem.inputs.erase("initial_state");
    problem.inputs.erase("cu_seqlens");
    problem.outputs.erase("last_state");
    return problem;
}

std::vector<Filter> filters(Type type, int64_t length) {
    const StateSpaceSizes sizes{type, 2, 3, 6, length, 2, true, {}};
    const PoleSize poles{complex_of(type), 2, 5, length, 3};
    Filter convolution = recurrence_of(problems(Operation::causal_conv, {type, 2, 3, length})[1]);
    convolution.is_transform = true;
    std::vector<Filter> all{
        convolution,
        recurrence_of(diagonal_ssm_problems(poles)[0]),
        scan_of(diagonal_scan_problems(poles)[0]),
        recurrence_of(dense_ssm_of(sizes, SSM_DISCRETIZATION_BILINEAR)),
        recurrence_of(dplr_ssm_of(sizes)),
        projection_of(hippo_project_of(sizes, SSM_HIPPO_FOUT, SSM_DISCRETIZATION_BILINEAR)),
        projection_of(hippo_project_of(sizes, SSM_HIPPO_LEGS, SSM_DISCRETIZATION_BILINEAR)),
    };
    for (Filter& filter : all)
        filter.problem = from_rest(filter.problem);
    return all;
}

Tensor answer(Context& context, const Filter& filter, const Tensor& input) {
    Problem problem = filter.problem;
    problem.inputs[filter.input] = input;
    return run(context, problem).at(filter.output);
}

double largest_of(const Tensor& tensor) {
    double most = 0;
    for (const Number value : tensor.values)
        most = std::max(most, std::abs(value));
    return most;
}

// Nowhere further apart than a share of the largest element.
void expect_share(const Tensor& first, const Tensor& second, double share, const std::string& context) {
    ASSERT_EQ(first.shape, second.shape) << context;
    double most = 0;
    for (int64_t i = 0; i < first.size(); ++i)
        most = std::max(most, std::abs(first.values[i] - second.values[i]));
    EXPECT_LE(most, share * std::max(largest_of(first), largest_of(second))) << context;
}

} // namespace

class S4Properties : public testing::TestWithParam<Target> {
  protected:
    Type type = GetParam().type;
    bool slow = GetParam().device.is_slow();
    int64_t length = slow ? 100 : 200;
    double share = GetParam().type == float64 ? 1e-12 : 2e-5;
    Context context{GetParam().device};
};
INSTANTIATE_TEST_SUITE_P(Devices, S4Properties, testing::ValuesIn(targets({float32, float64})),
                         [](const auto& info) { return name_of(info.param); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(S4Properties);

TEST_P(S4Properties, Linear) {
    Random random(1);
    for (const Filter& filter : filters(type, length)) {
        const Tensor& first = filter.problem.inputs.at(filter.input);
        const Tensor second = uniform(first.type, first.shape, -1, 1, random);
        Tensor mixed = first;
        for (int64_t i = 0; i < mixed.size(); ++i)
            mixed.values[i] = rounded(first.type, -1.5 * first.values[i] + 0.5 * second.values[i]);
        const Tensor of_first = answer(context, filter, first), of_second = answer(context, filter, second);
        Tensor expected = of_first;
        for (int64_t i = 0; i < expected.size(); ++i)
            expected.values[i] = -1.5 * of_first.values[i] + 0.5 * of_second.values[i];
        expect_share(answer(context, filter, mixed), expected, share, filter.problem.describe());
    }
}

TEST_P(S4Properties, LaterSignalsHaveLaterAnswers) {
    for (const Filter& filter : filters(type, length)) {
        if (!filter.is_invariant)
            continue;
        const auto later = [](const Tensor& tensor, int axis) {
            std::vector<int64_t> shape = tensor.shape;
            shape[static_cast<size_t>(axis)] = 13;
            return concatenate(
                {Tensor(tensor.type, shape), slice(tensor, axis, 0, tensor.shape[static_cast<size_t>(axis)] - 13)}, axis);
        };
        const Tensor& input = filter.problem.inputs.at(filter.input);
        const Tensor output = answer(context, filter, input);
        expect_share(answer(context, filter, later(input, filter.input_axis)), later(output, filter.output_axis), share,
                     filter.problem.describe());
    }
}

// What comes later changes nothing before it: no bit, but for roundings of a transform.
TEST_P(S4Properties, Causal) {
    Random random(2);
    for (const Filter& filter : filters(type, length)) {
        const int64_t now = 2 * length / 3;
        const Tensor& input = filter.problem.inputs.at(filter.input);
        const Tensor other = uniform(input.type, input.shape, -1, 1, random);
        const Tensor changed = concatenate(
            {slice(input, filter.input_axis, 0, now), slice(other, filter.input_axis, now, length)}, filter.input_axis);
        const Tensor first = slice(answer(context, filter, input), filter.output_axis, 0, now);
        const Tensor second = slice(answer(context, filter, changed), filter.output_axis, 0, now);
        if (filter.is_transform)
            expect_share(first, second, share, filter.problem.describe());
        else
            expect_identical({{"y", first}}, {{"y", second}}, filter.problem.describe());
    }
}

// And the gradient of what came before with respect to what comes later is exactly 0. (causal_conv_backward has its own.)
TEST_P(S4Properties, GradientsOfTheFutureAreZero) {
    for (Problem problem : diagonal_ssm_backward_problems({complex_of(type), 2, 5, length, 3})) {
        const int64_t now = length / 2;
        problem.inputs.erase("cu_seqlens");
        problem.inputs.erase("initial_state");
        problem.inputs.erase("grad_last_state");
        problem.outputs = {{"grad_u", problem.inputs.at("u")}};
        Tensor& grad_y = problem.inputs["grad_y"];
        for (int64_t i = 0; i < grad_y.size(); ++i)
            if (i % length > now)
                grad_y.values[static_cast<size_t>(i)] = 0;
        const Tensor grad_u = run(context, problem).at("grad_u");
        for (int64_t i = 0; i < grad_u.size(); ++i)
            if (i % length > now) {
                ASSERT_EQ(grad_u.values[static_cast<size_t>(i)], Number(0)) << i % length << " of " << problem.describe();
            }
        EXPECT_GT(largest_of(grad_u), 0);
    }
}

// The recurrence of every system and discretization is causal_conv with its kernel.
TEST_P(S4Properties, ConvolutionsAreRecurrences) {
    const auto expect = [&](const Problem& given, Operation of_kernel) {
        const Problem recurrence = from_rest(given);
        Problem kernel = recurrence, convolution;
        const Tensor& u = recurrence.inputs.at("u");
        kernel.operation = of_kernel;
        kernel.outputs = {{"k", Tensor(u.type, {u.shape[1], u.shape[2]})}};
        convolution.operation = Operation::causal_conv;
        convolution.type = u.type;
        convolution.inputs = {{"u", u}, {"k", run(context, kernel).at("k")}};
        if (recurrence.inputs.count("d"))
            convolution.inputs["d"] = recurrence.inputs.at("d");
        convolution.outputs = recurrence.outputs;
        expect_share(run(context, convolution).at("y"), run(context, recurrence).at("y"), share, recurrence.describe());
    };
    for (const Problem& problem : diagonal_ssm_problems({complex_of(type), 3, 5, length, 4}))
        expect(problem, Operation::diagonal_kernel);
    const StateSpaceSizes sizes{type, 2, 3, 6, length, 2, true, {}};
    for (const ssm_discretization rule : rules)
        expect(dense_ssm_of(sizes, rule), Operation::dense_kernel);
    for (const bool pairs : {true, false})
        for (const int64_t rank : {1, 2, 4})
            expect(dplr_ssm_of({type, 2, 3, 6, length, rank, pairs, {}}), Operation::dplr_kernel);
}

// S5's scan of b u is S4D's recurrence before c.
TEST_P(S4Properties, ScansAreRecurrences) {
    for (const Problem& given : diagonal_ssm_problems({complex_of(type), 1, 5, length, 5})) {
        const Problem recurrence = from_rest(given);
        const Tensor &u = recurrence.inputs.at("u"), &b = recurrence.inputs.at("b"), &c = recurrence.inputs.at("c");
        const int64_t batch = u.shape[0], states = b.shape[1];
        Problem scan = recurrence;
        scan.operation = Operation::diagonal_scan;
        scan.inputs = {{"a", recurrence.inputs.at("a")}, {"dt", Tensor(type, {states})}};
        scan.inputs["a"].shape = {states};
        Tensor bu(b.type, {batch, states, length});
        for (int64_t n = 0; n < states; ++n) {
            scan.inputs["dt"].at(n) = recurrence.inputs.at("dt").at(0);
            for (int64_t row = 0; row < batch; ++row)
                for (int64_t t = 0; t < length; ++t)
                    bu.at(row, n, t) = rounded(b.type, b.at(0, n) * u.at(row, 0, t));
        }
        scan.inputs["bu"] = bu;
        scan.outputs = {{"x", bu}};
        const Tensor x = run(context, scan).at("x");
        Tensor y = u;
        for (int64_t row = 0; row < batch; ++row)
            for (int64_t t = 0; t < length; ++t) {
                Number sum = recurrence.inputs.count("d") ? recurrence.inputs.at("d").at(0) * u.at(row, 0, t) : Number(0);
                for (int64_t n = 0; n < states; ++n)
                    sum += 2 * (c.at(0, n) * x.at(row, n, t)).real();
                y.at(row, 0, t) = sum;
            }
        expect_share(run(context, recurrence).at("y"), y, share, recurrence.describe());
    }
}

// Blocks of any size, of none too, with the state carried on, are one call. (causal_conv has its own.)
TEST_P(S4Properties, BlocksOfAStreamEqualOneCall) {
    const StateSpaceSizes sizes{type, 2, 3, 6, length, 2, true, {}};
    const PoleSize poles{complex_of(type), 2, 5, length, 3};
    std::vector<Filter> all{recurrence_of(dense_ssm_of(sizes, SSM_DISCRETIZATION_ZOH)), recurrence_of(dplr_ssm_of(sizes))};
    for (const Problem& problem : diagonal_ssm_problems(poles))
        if (problem.outputs.count("last_state") && !problem.inputs.count("cu_seqlens"))
            all.push_back(recurrence_of(problem));
    for (const Problem& problem : diagonal_scan_problems(poles))
        if (problem.outputs.count("last_state"))
            all.push_back(scan_of(problem));
    for (const ssm_hippo_start start : {SSM_HIPPO_START_ZERO, SSM_HIPPO_START_FIRST}) {
        all.push_back(projection_of(hippo_project_of(sizes, SSM_HIPPO_FOUT, SSM_DISCRETIZATION_ZOH, start)));
        all.push_back(projection_of(hippo_project_of(sizes, SSM_HIPPO_LEGS, SSM_DISCRETIZATION_BILINEAR, start)));
        all.push_back(projection_of(hippo_project_of(sizes, SSM_HIPPO_LEGS, SSM_DISCRETIZATION_BACKWARD_EULER, start)));
        Tensor times(type, {length});
        for (int64_t t = 0; t < length; ++t)
            times.at(t) = rounded(type, 0.5 * static_cast<double>(t) + (t % 3 ? 0.25 : 0.375));
        all.back().problem.inputs["timestamps"] = times;
    }
    Random random(4);
    for (const Filter& filter : all) {
        const Problem& whole = filter.problem;
        const Outputs expected = run(context, whole);
        const bool counts = whole.measure == SSM_HIPPO_LEGS && whole.operation == Operation::hippo_project;
        std::vector<Tensor> blocks;
        Tensor state;
        for (int64_t t = 0; t < length;) {
            const int64_t most = random.integer(0, 2) == 0 ? 2 : random.integer(0, 1) ? 20 : 70;
            const int64_t count = std::min(length - t, random.integer(0, most));
            const int64_t from = whole.reverse ? length - t - count : t, to = from + count;
            Problem block = whole;
            block.inputs[filter.input] = slice(whole.inputs.at(filter.input), filter.input_axis, from, to);
            block.outputs[filter.output] = slice(whole.outputs.at(filter.output), filter.output_axis, from, to);
            if (whole.inputs.count("interval"))
                block.inputs["interval"] = slice(whole.inputs.at("interval"), 1, from, to);
            if (t > 0)
                block.inputs["initial_state"] = state;
            if (whole.inputs.count("timestamps")) {
                block.inputs["timestamps"] = slice(whole.inputs.at("timestamps"), 0, from, to);
                block.time_before = t > 0 ? whole.inputs.at("timestamps").at(t - 1).real() : 0;
            } else if (counts) {
                block.steps_before = t;
            }
            const Outputs outputs = run(context, block);
            state = outputs.at("last_state");
            blocks.insert(whole.reverse ? blocks.begin() : blocks.end(), outputs.at(filter.output));
            t += count;
        }
        expect_share(concatenate(blocks, filter.output_axis), expected.at(filter.output), share, whole.describe());
        expect_share(state, expected.at("last_state"), share, whole.describe() + " last_state");
    }
}

// ---- Gradients ---------------------------------------------------------------------------------------------------------

// Differences need double precision. (dplr_kernel_backward's reference is made of differences, causal_conv_backward has
// CausalConvGradients.)
class S4Gradients : public testing::TestWithParam<Target> {};
INSTANTIATE_TEST_SUITE_P(Devices, S4Gradients, testing::ValuesIn(targets({complex128})),
                         [](const auto& info) { return name_of(info.param); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(S4Gradients);

namespace {

// Of what backward's gradients come from.
Problem forward_of(const Problem& backward, Operation operation) {
    Problem forward = backward;
    forward.operation = operation;
    forward.outputs.clear();
    for (const auto& [name, tensor] : backward.inputs)
        if (name.rfind("grad_", 0) == 0) {
            forward.outputs[name.substr(5)] = tensor;
            forward.inputs.erase(name);
        }
    return forward;
}

// A gradient of x is dL/dRe(x) + i dL/dIm(x).
double product(const Tensor& gradient, const Tensor& direction, double* magnitude = nullptr) {
    double sum = 0;
    for (size_t i = 0; i < gradient.values.size(); ++i) {
        sum += (std::conj(gradient.values[i]) * direction.values[i]).real();
        if (magnitude)
            *magnitude += std::abs(gradient.values[i]) * std::abs(direction.values[i]);
    }
    return sum;
}

} // namespace

TEST_P(S4Gradients, MatchDifferencesAlongDirections) {
    Context context(GetParam().device);
    Random random(6);
    const PoleSize size{complex128, 2, 3, 20, 7};
    const std::tuple<PoleProblems, Operation> operations[] = {
        {cauchy_multiply_backward_problems, Operation::cauchy_multiply},
        {vandermonde_multiply_backward_problems, Operation::vandermonde_multiply},
        {diagonal_kernel_backward_problems, Operation::diagonal_kernel},
        {diagonal_ssm_backward_problems, Operation::diagonal_ssm}};
    for (const auto& [problems_of, operation] : operations)
        for (Problem backward : problems_of(size)) {
            if (backward.inputs.count("z"))
                for (Number& node : backward.inputs["z"].values)
                    node += 0.5; // differences cannot be taken hard by a pole
            const Problem forward = forward_of(backward, operation);
            const auto loss = [&](const std::string& input, const Tensor& direction, double step) {
                Problem moved = forward;
                for (size_t i = 0; i < direction.values.size(); ++i)
                    moved.inputs[input].values[i] += step * direction.values[i];
                const Outputs outputs = run(context, moved);
                double sum = 0;
                for (const auto& [name, values] : outputs)
                    sum += product(backward.inputs.at("grad_" + name), values);
                return sum;
            };
            const Outputs gradients = run(context, backward);
            for (const auto& [gradient, values] : gradients) {
                const std::string input = gradient.substr(5);
                if (!forward.inputs.count(input))
                    continue; // d, which may be absent
                Tensor direction = uniform(values.type, values.shape, -1, 1, random);
                for (size_t i = 0; input == "dt" && i < direction.values.size(); ++i)
                    direction.values[i] *= forward.inputs.at(input).values[i];
                constexpr double step = 1e-4;
                double magnitude = 0, difference = 0;
                const double slope = product(values, direction, &magnitude);
                for (const auto& [far, weight] : {std::pair{1.0, 8.0}, {-1.0, -8.0}, {2.0, -1.0}, {-2.0, 1.0}})
                    difference += weight * loss(input, direction, far * step) / (12 * step);
                EXPECT_NEAR(difference, slope, 1e-7 * magnitude) << gradient << " of " << backward.describe();
            }
        }
}

} // namespace ssm::test
