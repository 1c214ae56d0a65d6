// What holds between the Mamba operations, whatever computes them: padding, convolution, steps against sequences, Mamba-2
// against Mamba-1, and the ends of what numbers and sizes may be.
#include <array>
#include <cmath>
#include <limits>

#include "support/mamba.h"
#include "support/norms.h"
#include "support/reference.h"

#include <gtest/gtest.h>

namespace ssm::test {

using enum Type;

namespace {

class MambaProperties : public testing::TestWithParam<Target> {
  protected:
    const Type type = GetParam().type, real = state_type(type);
    const bool slow = GetParam().device.is_slow(), is_cpu = GetParam().device.type == SSM_DEVICE_CPU;
    Context context{GetParam().device};

    void compare(const Problem& problem) { expect_near(run(context, problem), reference(problem), problem.describe()); }
};

// Every step from `from` on becomes what next() gives, in all sequences but indices.
template <class Next>
Problem with_padding(Problem problem, int64_t from, const Next& next) {
    for (auto& [name, tensor] : problem.inputs) {
        const int axis = time_axis(problem, name, tensor);
        if (axis < 0 || tensor.type == int32)
            continue;
        int64_t inner = 1;
        for (size_t i = axis + 1; i < tensor.shape.size(); ++i)
            inner *= tensor.shape[i];
        for (int64_t i = 0; i < tensor.size(); ++i)
            if (i / inner % tensor.shape[axis] >= from)
                tensor.values[i] = rounded(tensor.type, next(name));
    }
    return problem;
}

Outputs before(const Problem& problem, const Outputs& outputs, int64_t length) {
    Outputs result;
    for (const auto& [name, tensor] : outputs) {
        const int axis = time_axis(problem, name, tensor);
        result[name] = axis < 0 ? tensor : slice(tensor, axis, 0, length);
    }
    return result;
}

} // namespace

// What stands behind a step changes no bit of it, not even where it is no number; to rounding the results are those of a
// call that ends there.
TEST_P(MambaProperties, RightPaddingChangesNothingBeforeIt) {
    const int64_t length = 90, padded_length = 130;
    Random random(8);
    size_t turn = 0;
    for (const Operation operation : {Operation::selective_scan, Operation::causal_conv1d, Operation::ssd})
        for (Problem padded : problems(operation, {type, 1, 2, padded_length})) {
            if (slow && turn++ % 3 != 0)
                continue;
            padded.outputs.erase("last_state"); // that of the padding
            const Problem alone = slice_time(padded, 0, length);
            const Outputs outputs = before(padded, run(context, padded), length);
            expect_agree(outputs, run(context, alone), reference(alone), padded.describe());
            // On a GPU the chunk of steps in a matrix product may be spoilt.
            const double worst = operation == Operation::ssd && !is_cpu ? 3 : std::nan("");
            for (const double bound : {1.0, worst}) {
                const Problem other = with_padding(padded, length, [&](const std::string&) {
                    return std::isnan(bound) ? bound : random.uniform(-bound, bound);
                });
                expect_identical(before(other, run(context, other), length), outputs, other.describe());
            }
        }
}

// Gradients where the loss does not look at the padding: those before it and of the parameters as without, none behind it.
TEST_P(MambaProperties, RightPaddingChangesNoGradient) {
    const int64_t length = 70, padded_length = 90;
    size_t turn = 0;
    for (const Operation operation :
         {Operation::selective_scan_backward, Operation::causal_conv1d_backward, Operation::ssd_backward})
        for (const Problem& all : problems(operation, {type, 1, 2, padded_length})) {
            if (turn++ % (slow ? 4 : 2) != 0)
                continue;
            Random random(9);
            Problem padded = with_padding(
                all, length, [&](const std::string& name) { return name == "grad_y" ? 0 : random.uniform(-1, 1); });
            padded.inputs.erase("grad_last_state");
            const Problem alone = slice_time(padded, 0, length);
            const Outputs outputs = run(context, padded);
            expect_agree(before(padded, outputs, length), run(context, alone), reference(alone), padded.describe());
            for (const auto& [name, tensor] : outputs) {
                const int axis = time_axis(padded, name, tensor);
                if (axis < 0)
                    continue;
                for (const Number value : slice(tensor, axis, length, padded_length).values)
                    ASSERT_EQ(value, Number(0)) << name << " behind the end of " << padded.describe();
            }
        }
}

// With constant dt, b and c the selective scan is S4D-Real: the convolution with k_l = sum_n c_n s b_n exp(s a_n l).
TEST_P(MambaProperties, ConstantCoefficientsGiveS4dReal) {
    const int64_t batch = 2, channels = 5, states = 6, length = 130;
    Random random(4);
    Problem scan;
    scan.operation = Operation::selective_scan;
    scan.type = type;
    const Tensor u = uniform(type, {batch, channels, length}, -1, 1, random), d = uniform(real, {channels}, -1, 1, random);
    const Tensor a = uniform(real, {channels, states}, -3, -0.01, random);
    const Tensor b = uniform(type, {channels, states}, -1, 1, random), c = uniform(type, {channels, states}, -1, 1, random);
    scan.inputs = {{"u", u}, {"a", a}, {"d", d}};
    scan.inputs["dt"] = constant_along(constant_along(uniform(type, u.shape, 0.01, 0.5, random), 2), 0);
    scan.outputs["y"] = u;
    // b and c as parameters of a channel, or the same at every step, a group for each channel.
    for (const bool per_step : {false, true}) {
        Problem problem = scan;
        for (const auto& [name, values] : {std::pair{"b", b}, std::pair{"c", c}}) {
            Tensor& tensor = problem.inputs[name] =
                per_step ? Tensor(type, {batch, channels, states, length}) : Tensor(real, {channels, states});
            for (int64_t i = 0; i < tensor.size(); ++i)
                tensor.values[i] = values.values[per_step ? i / length % (channels * states) : i];
        }
        Reference expected = reference(problem); // its limits
        for (int64_t row = 0; row < batch; ++row)
            for (int64_t channel = 0; channel < channels; ++channel) {
                const double s = problem.inputs["dt"].at(row, channel, 0).real();
                std::vector<double> kernel(length, 0);
                for (int64_t l = 0; l < length; ++l)
                    for (int64_t n = 0; n < states; ++n)
                        kernel[l] += c.at(channel, n).real() * s * b.at(channel, n).real() *
                                     std::exp(s * a.at(channel, n).real() * static_cast<double>(l));
                for (int64_t t = 0; t < length; ++t) {
                    double sum = d.at(channel).real() * u.at(row, channel, t).real();
                    for (int64_t l = 0; l <= t; ++l)
                        sum += kernel[l] * u.at(row, channel, t - l).real();
                    expected.at("y").value.at(row, channel, t) = sum;
                }
            }
        expect_near(run(context, problem), expected, problem.describe());
    }
}

// A sequence in one call, as steps in one call, and step by step with the state carried: Mamba-1 and Mamba-2.
TEST_P(MambaProperties, StepsEqualTheSequence) {
    const int64_t length = slow ? 9 : 37;
    const Problem sequences[] = {selective_scan_of({type, 2, 6, length, 7, 2}), ssd_of({type, 2, length, 4, 5, 2, 7, 8})};
    for (const Problem& sequence : sequences) {
        const bool has_heads = sequence.operation == Operation::ssd;
        Problem update = sequence;
        update.operation = Operation::selective_state_update;
        update.inputs["state"] = update.inputs.at("initial_state");
        update.inputs.erase("initial_state");
        if (!has_heads) {
            update.inputs["x"] = update.inputs.at("u");
            update.inputs.erase("u");
        }
        update.outputs = {{"y", sequence.outputs.at("y")}, {"state", update.inputs.at("state")}};
        const Reference limits = reference(sequence);
        const Outputs expected = run(context, sequence);
        const auto as_sequence = [](const Outputs& outputs) {
            return Outputs{{"y", outputs.at("y")}, {"last_state", outputs.at("state")}};
        };
        expect_agree(as_sequence(run(context, update)), expected, limits, update.describe());
        std::vector<Tensor> y;
        Problem step = update;
        for (int64_t t = 0; t < length; ++t) {
            for (auto* tensors : {&step.inputs, &step.outputs})
                for (auto& [name, tensor] : *tensors) {
                    const Tensor& whole = tensors == &step.inputs ? update.inputs.at(name) : update.outputs.at(name);
                    if (name != "state" && whole.shape.size() >= 3)
                        tensor = slice(whole, has_heads ? 1 : static_cast<int>(whole.shape.size()) - 1, t, t + 1);
                }
            const Outputs outputs = run(context, step);
            y.push_back(outputs.at("y"));
            step.inputs["state"] = outputs.at("state");
        }
        expect_agree({{"y", concatenate(y, has_heads ? 1 : 2)}, {"last_state", step.inputs.at("state")}}, expected, limits,
                     step.describe());
    }
}

// Heads of one channel are channels of the selective scan whose states share their rate, and so are their gradients; that of
// the rate is the sum of those of the states.
TEST_P(MambaProperties, GradientsOfHeadsOfOneChannelAreThoseOfTheScan) {
    const int64_t batch = 2, length = slow ? 40 : 150, heads = 4, groups = 2, states = 9;
    const Problem ssd = gradients_of(ssd_of({type, batch, length, heads, 1, groups, states}));
    // Time goes from second to last.
    const auto turned = [&](const Tensor& tensor, std::vector<int64_t> shape) {
        Tensor result(tensor.type, shape);
        const int64_t inner = tensor.size() / batch / length;
        for (int64_t row = 0; row < batch; ++row)
            for (int64_t t = 0; t < length; ++t)
                for (int64_t i = 0; i < inner; ++i)
                    result.values[(row * inner + i) * length + t] = tensor.values[(row * length + t) * inner + i];
        return result;
    };
    Problem scan = ssd;
    scan.operation = Operation::selective_scan_backward;
    scan.inputs.clear();
    const auto as_scan = [&](const std::string& name, const Tensor& tensor) {
        const bool is_gradient = name.rfind("grad_", 0) == 0;
        const std::string of = is_gradient ? name.substr(5) : name;
        if (of == "b" || of == "c")
            return turned(tensor, {batch, groups, states, length});
        if (of == "x" || of == "z" || of == "y" || of == "dt")
            return turned(tensor, {batch, heads, length});
        Tensor result = tensor;
        if (of == "a" && !is_gradient) {
            result = Tensor(tensor.type, {heads, states});
            for (int64_t i = 0; i < result.size(); ++i)
                result.values[i] = tensor.values[i / states];
        } else if (of.find("state") != std::string::npos) {
            result.shape = {batch, heads, states};
        }
        return result;
    };
    const auto name_in_scan = [](const std::string& name) {
        return name == "x" ? std::string("u") : name == "grad_x" ? std::string("grad_u") : name;
    };
    for (const auto& [name, tensor] : ssd.inputs)
        scan.inputs[name_in_scan(name)] = as_scan(name, tensor);
    scan.outputs.clear();
    for (const auto& [name, tensor] : ssd.outputs)
        scan.outputs[name_in_scan(name)] = scan.inputs.at(name_in_scan(name.substr(5)));

    const Outputs expected = run(context, scan);
    const Reference limits = reference(ssd);
    Outputs outputs;
    Reference turned_limits;
    for (const auto& [name, tensor] : run(context, ssd)) {
        outputs[name_in_scan(name)] = as_scan(name, tensor);
        Tensor limit = tensor;
        for (int64_t i = 0; i < limit.size(); ++i)
            limit.values[i] = limits.at(name).limit[i];
        Expected& turned_limit = turned_limits[name_in_scan(name)];
        for (const Number value : as_scan(name, limit).values)
            turned_limit.limit.push_back(value.real());
    }
    Outputs tied = expected;
    tied["grad_a"] = Tensor(real, {heads});
    for (int64_t i = 0; i < heads * states; ++i)
        tied["grad_a"].values[i / states] += expected.at("grad_a").values[i];
    expect_agree(outputs, tied, turned_limits, ssd.describe());
}

// Every operation, ten runs: in one context, in others, with other numbers of threads or orders of threads.
TEST_P(MambaProperties, TenRunsAreBitEqual) {
    const int64_t channels = slow ? 6 : 34, length = slow ? 70 : 150;
    const Problem scan = selective_scan_of({type, 2, channels, length, 16, 2}),
                  ssd = ssd_of({type, 2, length, 4, 16, 2, 16});
    const Problem convolution = causal_conv1d_of({type, 2, channels, length});
    std::vector<Problem> all{scan,
                             gradients_of(scan),
                             ssd,
                             gradients_of(ssd),
                             convolution,
                             gradients_of(convolution),
                             selective_state_update_of({type, real, 3, 0, channels, 2, 16, 2}),
                             selective_state_update_of({type, type, 3, 2, channels, 1, 40, 2}),
                             causal_conv1d_update_of({type, type, 3, channels, 4, 3, 2, true})};
    for (const std::vector<Problem>& of_norms : {norms(type, {65, 96}), norm_gradients(type, {65, 96})})
        for (const size_t i : {size_t{1}, of_norms.size() / 2})
            all.push_back(of_norms[i]);
    for (const Problem& problem : all) {
        const Outputs first = run(context, problem);
        Call call(context, problem);
        for (int round = 1; round < 5; ++round) {
            call.reset();
            call.clear_outputs();
            SSM_CHECK(call.run());
            expect_identical(call.take(), first, problem.describe());
        }
        const std::vector<Variation> ways = variations(GetParam().device);
        for (size_t round = 5; round < 10; ++round) {
            Context other(GetParam().device);
            if (!ways.empty()) {
                ASSERT_TRUE(ways[round % ways.size()].apply(other));
            }
            expect_identical(run(other, problem), first, problem.describe());
        }
    }
}

// Decays that leave nothing and decays that leave all, step sizes through softplus from where they vanish to where they are
// the number itself, with one step, state, channel, and a group for every channel.
TEST_P(MambaProperties, HoldAtTheEnds) {
    const double steps[] = {-40, 40, -41, 41, -80, 80, -1000, 1000, -16.7, 20.5, 0, -20.5};
    const auto extreme = [&](Problem problem, double rate) {
        Tensor& dt = problem.inputs["dt"];
        for (int64_t i = 0; i < dt.size(); ++i)
            dt.values[i] = rounded(type, steps[i % 12]);
        problem.inputs.erase("dt_bias");
        problem.outputs.erase("grad_dt_bias");
        for (Number& value : problem.inputs["a"].values)
            value = rounded(real, rate);
        // Sums of a hundred steps of a thousand stay within the type.
        if (type == float16)
            for (const char* name : {"x", "u", "grad_y", "grad_last_state", "initial_state", "state"})
                if (problem.inputs.count(name))
                    for (Number& value : problem.inputs[name].values)
                        value = rounded(problem.inputs[name].type, value / 4096.0);
        return problem;
    };
    // batch, channels (heads), length, states, groups
    const std::vector<std::array<int64_t, 5>> sizes{{1, 1, 1, 1, 1},  {2, 1, 40, 1, 1}, {1, 3, 1, 5, 3},
                                                    {1, 4, 40, 1, 4}, {2, 1, 1, 16, 1}, {1, 5, 40, 3, 5}};
    for (const double rate : {-1e30, -1e4, -30.0, -1e-6, 0.0})
        for (const auto& [batch, channels, length, states, groups] : sizes) {
            const Problem scan = selective_scan_of({type, batch, channels, length, states, groups});
            const Problem ssd = ssd_of({type, batch, length, channels, 1 + states % 3, groups, states});
            for (const Problem& problem :
                 {scan, gradients_of(scan), ssd, gradients_of(ssd),
                  selective_state_update_of({type, real, batch, 0, channels, groups, states, length}),
                  selective_state_update_of({type, real, batch, channels, 2, groups, states, 1})})
                compare(extreme(problem, rate));
            compare(causal_conv1d_of({type, batch, channels, length, states}));
            compare(gradients_of(causal_conv1d_of({type, batch, channels, length, states})));
            compare(causal_conv1d_update_of({type, real, batch, channels, states, length}));
            for (const std::vector<Problem>& all :
                 {norms(type, {batch * length, channels}), norm_gradients(type, {batch * length, channels})})
                for (size_t i = 0; i < all.size() && rate == 0; ++i)
                    compare(all[i]);
            if (HasFailure())
                return;
        }
}

INSTANTIATE_TEST_SUITE_P(Devices, MambaProperties, testing::ValuesIn(light_targets({float32, float64, float16, bfloat16})),
                         [](const auto& info) { return name_of(info.param); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(MambaProperties);

} // namespace ssm::test
