#include "support/reference.h"

#include "support/s4.h"
#include "support/sequence_ids.h"
#include "support/state_space.h"
#include "support/state_update.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <sstream>
#include <stdexcept>

namespace ssm::test {

namespace {

constexpr double safety = 8;

// One sequence of a problem: a batch row, or a packed sequence.
struct Segment {
    int64_t batch;     // row of the sequence tensors
    int64_t state_row; // row of the states
    int64_t begin, end;
};

std::vector<Segment> segments_of(const Problem& problem, int64_t batch, int64_t length) {
    std::vector<Segment> segments;
    const std::vector<int64_t> bounds = problem.cu_seqlens();
    if (bounds.empty())
        for (int64_t row = 0; row < batch; ++row)
            segments.push_back({row, row, 0, length});
    for (size_t s = 0; s + 1 < bounds.size(); ++s)
        segments.push_back({0, static_cast<int64_t>(s), bounds[s], bounds[s + 1]});
    return segments;
}

const Tensor* find(const std::map<std::string, Tensor>& tensors, const char* name) {
    const auto found = tensors.find(name);
    return found == tensors.end() ? nullptr : &found->second;
}

Expected* prepare(Reference& result, const Problem& problem, const char* name) {
    const Tensor* wanted = find(problem.outputs, name);
    if (!wanted)
        return nullptr;
    Expected& expected = result[name];
    expected.value = *wanted;
    expected.limit.assign(wanted->values.size(), 0.0);
    return &expected;
}

// Stores a value with the limit of its calculation, to which storing it adds a rounding.
void store(Expected* expected, Number value, double limit, int64_t index) {
    if (!expected)
        return;
    const Type type = expected->value.type;
    const double storing = is_half(type) ? roundoff(type) * std::abs(value) : 0;
    expected->value.values[index] = value;
    expected->limit[index] = limit + storing + 4 * underflow(type) + 4 * underflow(state_type(type));
}

// The roundings of a sum or recurrence, as the header of this file tells.
class Roundings {
  public:
    Roundings(Type type, Number start)
        : unit(roundoff(state_type(type)) * (is_complex(type) ? 2 : 1)), peak(std::abs(start)) {}
    // One more step with this decay and new state; further is what the step's coefficients are off by.
    void step(double decay, Number state, double further = 0) {
        peak = std::max(decay * peak, std::abs(state));
        const double rounding = 2 * unit * peak + further;
        variance = decay * decay * variance + rounding * rounding;
    }
    double limit() const { return safety * std::sqrt(variance); }

  private:
    double unit, peak, variance = 0;
};

// ---- Operations --------------------------------------------------------------------------------------------------------

Reference associative_scan(const Problem& problem) {
    Reference result;
    const Tensor& x = problem.inputs.at("x");
    const Tensor* initial = find(problem.inputs, "initial_state");
    Expected* y = prepare(result, problem, "y");
    Expected* last = prepare(result, problem, "last_state");
    const int64_t channels = x.shape[1], length = x.shape[2];
    const Type type = x.type;
    const double infinity = std::numeric_limits<double>::infinity();
    const double identities[] = {0, 1, -infinity, infinity};
    const double unit = roundoff(state_type(type)) * (is_complex(type) ? 2 : 1);

    for (const Segment& segment : segments_of(problem, x.shape[0], length))
        for (int64_t channel = 0; channel < channels; ++channel) {
            const int64_t state = segment.state_row * channels + channel;
            Number sum = initial ? initial->values[state] : identities[problem.combine];
            Roundings roundings(type, sum);
            int64_t count = 0;
            const auto limit = [&] {
                switch (problem.combine) {
                case SSM_COMBINE_ADD:
                    return roundings.limit();
                case SSM_COMBINE_MULTIPLY:
                    return safety * unit * std::abs(sum) * std::sqrt(static_cast<double>(count));
                default:
                    return 0.0;
                }
            };
            for (int64_t step = segment.begin; step < segment.end; ++step) {
                const int64_t t = problem.reverse ? segment.end - 1 - (step - segment.begin) : step;
                const int64_t index = (segment.batch * channels + channel) * length + t;
                const Number value = x.values[index];
                if (problem.exclusive)
                    store(y, sum, limit(), index);
                switch (problem.combine) {
                case SSM_COMBINE_ADD:
                    sum += value;
                    break;
                case SSM_COMBINE_MULTIPLY:
                    sum *= value;
                    break;
                case SSM_COMBINE_MAXIMUM:
                    sum = std::isnan(sum.real()) || sum.real() >= value.real() ? sum : value;
                    break;
                case SSM_COMBINE_MINIMUM:
                    sum = std::isnan(sum.real()) || sum.real() <= value.real() ? sum : value;
                    break;
                }
                ++count;
                roundings.step(1, sum);
                if (!problem.exclusive)
                    store(y, sum, limit(), index);
            }
            store(last, sum, limit(), state);
        }
    return result;
}

// h of linear_recurrence in double, for forward and backward alike.
void linear_recurrence(const Problem& problem, Expected* h, Expected* last) {
    const Tensor& a = problem.inputs.at("a");
    const Tensor& b = problem.inputs.at("b");
    const Tensor* initial = find(problem.inputs, "initial_state");
    const int64_t channels = a.shape[1], length = a.shape[2];
    for (const Segment& segment : segments_of(problem, a.shape[0], length))
        for (int64_t channel = 0; channel < channels; ++channel) {
            const int64_t state = segment.state_row * channels + channel;
            Number value = initial ? initial->values[state] : 0;
            Roundings roundings(a.type, value);
            for (int64_t step = segment.begin; step < segment.end; ++step) {
                const int64_t t = problem.reverse ? segment.end - 1 - (step - segment.begin) : step;
                const int64_t index = (segment.batch * channels + channel) * length + t;
                value = a.values[index] * value + b.values[index];
                roundings.step(std::abs(a.values[index]), value);
                store(h, value, roundings.limit(), index);
            }
            store(last, value, roundings.limit(), state);
        }
}

Reference linear_recurrence(const Problem& problem) {
    Reference result;
    Expected* h = prepare(result, problem, "h");
    Expected* last = prepare(result, problem, "last_state");
    linear_recurrence(problem, h, last);
    return result;
}

Reference linear_recurrence_backward(const Problem& problem) {
    Reference result;
    const Tensor& a = problem.inputs.at("a");
    const Tensor& grad_h = problem.inputs.at("grad_h");
    const Tensor* initial = find(problem.inputs, "initial_state");
    const Tensor* grad_last = find(problem.inputs, "grad_last_state");
    Expected* grad_a = prepare(result, problem, "grad_a");
    Expected* grad_b = prepare(result, problem, "grad_b");
    Expected* grad_initial = prepare(result, problem, "grad_initial_state");
    const int64_t channels = a.shape[1], length = a.shape[2];
    const double unit = roundoff(state_type(a.type)) * (is_complex(a.type) ? 2 : 1);

    // The states: given, or calculated from b and then stored in the type of a.
    Expected h;
    h.value = Tensor(a.type, a.shape);
    h.limit.assign(a.values.size(), 0.0);
    if (const Tensor* given = find(problem.inputs, "h"))
        h.value.values = given->values;
    else if (problem.inputs.count("b"))
        linear_recurrence(problem, &h, nullptr);

    for (const Segment& segment : segments_of(problem, a.shape[0], length))
        for (int64_t channel = 0; channel < channels; ++channel) {
            const int64_t state = segment.state_row * channels + channel;
            Number gradient = grad_last ? grad_last->values[state] : 0; // of the state after the step at hand
            double decay = 1;
            Roundings roundings(a.type, gradient);
            for (int64_t step = segment.begin; step < segment.end; ++step) {
                // Against the direction of the forward call.
                const int64_t t = problem.reverse ? step : segment.end - 1 - (step - segment.begin);
                const int64_t index = (segment.batch * channels + channel) * length + t;
                const int64_t before = problem.reverse ? t + 1 : t - 1;
                const bool is_first = before < segment.begin || before >= segment.end;
                gradient += grad_h.values[index];
                roundings.step(decay, gradient);
                store(grad_b, gradient, roundings.limit(), index);
                const int64_t index_before = index + before - t;
                const Number state_before = !is_first ? h.value.values[index_before] : initial ? initial->values[state] : 0;
                const double limit_before = is_first ? 0 : h.limit[index_before];
                const Number product = gradient * std::conj(state_before);
                store(grad_a, product,
                      roundings.limit() * std::abs(state_before) + limit_before * std::abs(gradient) +
                          4 * unit * std::abs(product),
                      index);
                gradient *= std::conj(a.values[index]);
                decay = std::abs(a.values[index]);
            }
            // The last factor decays the roundings once more.
            roundings.step(decay, gradient);
            store(grad_initial, gradient, roundings.limit(), state);
        }
    return result;
}

Reference selective_scan(const Problem& problem) {
    Reference result;
    const Tensor& u = problem.inputs.at("u");
    const Tensor& dt = problem.inputs.at("dt");
    const Tensor& a = problem.inputs.at("a");
    const Tensor& b = problem.inputs.at("b");
    const Tensor& c = problem.inputs.at("c");
    const Tensor* d = find(problem.inputs, "d");
    const Tensor* z = find(problem.inputs, "z");
    const Tensor* bias = find(problem.inputs, "dt_bias");
    const Tensor* initial = find(problem.inputs, "initial_state");
    Expected* y = prepare(result, problem, "y");
    Expected* last = prepare(result, problem, "last_state");
    const int64_t channels = u.shape[1], length = u.shape[2], states = a.shape[1];
    const double unit = roundoff(state_type(u.type)) * (is_complex(a.type) ? 2 : 1);

    // b or c at a step: per group and step, or constant per channel.
    const auto at = [&](const Tensor& tensor, int64_t batch, int64_t channel, int64_t n, int64_t t) {
        if (tensor.shape.size() == 2)
            return tensor.values[channel * states + n];
        const int64_t groups = tensor.shape[1];
        const int64_t group = channel / (channels / groups);
        return tensor.values[((batch * groups + group) * states + n) * length + t];
    };
    for (const Segment& segment : segments_of(problem, u.shape[0], length))
        for (int64_t channel = 0; channel < channels; ++channel) {
            const int64_t first_state = (segment.state_row * channels + channel) * states;
            std::vector<Number> h(states);
            std::vector<Roundings> roundings;
            for (int64_t n = 0; n < states; ++n) {
                h[n] = initial ? initial->values[first_state + n] : 0;
                roundings.emplace_back(a.type, h[n]);
            }
            for (int64_t t = segment.begin; t < segment.end; ++t) {
                const int64_t index = (segment.batch * channels + channel) * length + t;
                double s = dt.values[index].real() + (bias ? bias->values[channel].real() : 0);
                // What s itself may be off by, relative to its size: dt + dt_bias can cancel.
                double s_error = bias ? unit * (std::abs(dt.values[index]) + std::abs(bias->values[channel])) : 0;
                if (problem.dt_softplus) {
                    s_error *= 1 / (1 + std::exp(-s));
                    s = std::max(s, 0.0) + std::log1p(std::exp(-std::abs(s)));
                    s_error += 4 * unit * s;
                }
                const double input = u.values[index].real();
                Number sum = 0;
                double sum_magnitude = 0, sum_variance = 0;
                for (int64_t n = 0; n < states; ++n) {
                    const Number rate = a.values[channel * states + n];
                    const Number decay = is_complex(a.type) ? std::exp(s * rate) : Number(std::exp(s * rate.real()));
                    const Number added = s * at(b, segment.batch, channel, n, t) * input;
                    const double before = std::abs(decay * h[n]);
                    h[n] = decay * h[n] + added;
                    // The exponential, its argument and the product each round; an error of s counts directly.
                    const double of_decay = before * (std::abs(rate) * s_error + unit * (4 + 2 * std::abs(s * rate)));
                    const double of_added = s != 0 ? std::abs(added) * (s_error / std::abs(s) + 3 * unit) : 0;
                    roundings[n].step(std::abs(decay), h[n], of_decay + of_added);
                    const Number readout = at(c, segment.batch, channel, n, t);
                    sum += h[n] * readout;
                    sum_magnitude += std::abs(h[n] * readout);
                    const double limit = roundings[n].limit() * std::abs(readout);
                    sum_variance += limit * limit;
                }
                double value = is_complex(a.type) ? 2 * sum.real() : sum.real();
                double limit = std::sqrt(sum_variance) + safety * unit * sum_magnitude;
                if (is_complex(a.type))
                    limit *= 2;
                if (d) {
                    value += d->values[channel].real() * input;
                    limit += 2 * unit * std::abs(d->values[channel].real() * input);
                }
                if (z) {
                    const double gate = z->values[index].real();
                    const double silu = gate / (1 + std::exp(-gate));
                    // The sigmoid may underflow before it meets the other factors.
                    const double lost = 2 * underflow(state_type(u.type)) * std::abs(gate * value);
                    value *= silu;
                    limit = limit * std::abs(silu) + 6 * unit * std::abs(value) + lost;
                }
                store(y, value, limit, index);
            }
            for (int64_t n = 0; n < states; ++n)
                store(last, h[n], roundings[n].limit(), first_state + n);
        }
    return result;
}

// A sum of terms, each with what it may be off by.
struct Total {
    Number sum = 0;
    Roundings roundings;

    explicit Total(Type type) : roundings(type, 0) {}
    void add(Number term, double limit) {
        sum += term;
        roundings.step(1, sum, limit / safety);
    }
};
void store(Expected* expected, const std::vector<Total>& totals) {
    for (size_t i = 0; i < totals.size(); ++i)
        store(expected, totals[i].sum, totals[i].roundings.limit(), static_cast<int64_t>(i));
}

Reference selective_scan_backward(const Problem& problem) {
    Reference result;
    const Tensor &u = problem.inputs.at("u"), &dt = problem.inputs.at("dt"), &a = problem.inputs.at("a");
    const Tensor &b = problem.inputs.at("b"), &c = problem.inputs.at("c"), &grad_y = problem.inputs.at("grad_y");
    const Tensor* d = find(problem.inputs, "d");
    const Tensor* z = find(problem.inputs, "z");
    const Tensor* bias = find(problem.inputs, "dt_bias");
    const Tensor* initial = find(problem.inputs, "initial_state");
    const Tensor* grad_last = find(problem.inputs, "grad_last_state");
    Expected* grad_u = prepare(result, problem, "grad_u");
    Expected* grad_dt = prepare(result, problem, "grad_dt");
    Expected* grad_z = prepare(result, problem, "grad_z");
    Expected* grad_initial = prepare(result, problem, "grad_initial_state");
    const int64_t channels = u.shape[1], length = u.shape[2], states = a.shape[1];
    const double unit = roundoff(state_type(u.type)) * (is_complex(a.type) ? 2 : 1);
    const double twice = is_complex(a.type) ? 2 : 1;
    const double least = underflow(state_type(u.type));

    // Where b or c, and so its gradient, of a channel and state at a step lies.
    const auto place = [&](const Tensor& tensor, int64_t batch, int64_t channel, int64_t n, int64_t t) {
        if (tensor.shape.size() == 2)
            return channel * states + n;
        const int64_t groups = tensor.shape[1], group = channel / (channels / groups);
        return ((batch * groups + group) * states + n) * length + t;
    };
    std::vector<Total> sums_a(static_cast<size_t>(a.size()), Total(a.type)), sums_b(b.values.size(), Total(a.type)),
        sums_c(c.values.size(), Total(a.type)), sums_d(static_cast<size_t>(channels), Total(state_type(u.type))),
        sums_bias(sums_d);

    for (const Segment& segment : segments_of(problem, u.shape[0], length))
        for (int64_t channel = 0; channel < channels; ++channel) {
            const int64_t first_state = (segment.state_row * channels + channel) * states,
                          steps = segment.end - segment.begin;
            const int64_t row = (segment.batch * channels + channel) * length + segment.begin;
            const double skip = d ? d->values[channel].real() : 0;

            // The forward call, whose decays and states are kept: [step][state], the state before the first step first.
            std::vector<double> s(steps), s_error(steps), slope(steps), slope_error(steps), y(steps), y_error(steps);
            std::vector<Number> decay(steps * states), h((steps + 1) * states);
            std::vector<double> decay_error(steps * states), h_error((steps + 1) * states);
            std::vector<Roundings> roundings;
            for (int64_t n = 0; n < states; ++n) {
                h[n] = initial ? initial->values[first_state + n] : 0;
                roundings.emplace_back(a.type, h[n]);
            }
            for (int64_t i = 0; i < steps; ++i) {
                s[i] = dt.values[row + i].real() + (bias ? bias->values[channel].real() : 0);
                s_error[i] = bias ? unit * (std::abs(dt.values[row + i]) + std::abs(bias->values[channel])) : 0;
                slope[i] = 1;
                if (problem.dt_softplus) {
                    slope[i] = 1 / (1 + std::exp(-s[i]));
                    slope_error[i] = slope[i] * (8 * unit + (1 - slope[i]) * s_error[i]);
                    s_error[i] *= slope[i];
                    s[i] = std::max(s[i], 0.0) + std::log1p(std::exp(-std::abs(s[i])));
                    s_error[i] += 4 * unit * s[i];
                }
                const double input = u.values[row + i].real();
                double magnitude = 0, variance = 0;
                for (int64_t n = 0; n < states; ++n) {
                    const int64_t at = i * states + n, t = segment.begin + i;
                    const Number rate = a.values[channel * states + n];
                    decay[at] = is_complex(a.type) ? std::exp(s[i] * rate) : Number(std::exp(s[i] * rate.real()));
                    decay_error[at] =
                        std::abs(decay[at]) * (std::abs(rate) * s_error[i] + unit * (4 + 2 * std::abs(s[i] * rate)));
                    const Number added = s[i] * b.values[place(b, segment.batch, channel, n, t)] * input;
                    h[at + states] = decay[at] * h[at] + added;
                    const double of_added = s[i] != 0 ? std::abs(added) * (s_error[i] / std::abs(s[i]) + 3 * unit) : 0;
                    roundings[n].step(std::abs(decay[at]), h[at + states], decay_error[at] * std::abs(h[at]) + of_added);
                    h_error[at + states] = roundings[n].limit();
                    const Number readout = c.values[place(c, segment.batch, channel, n, t)];
                    y[i] += twice * (h[at + states] * readout).real();
                    magnitude += twice * std::abs(h[at + states] * readout);
                    variance += std::pow(twice * h_error[at + states] * std::abs(readout), 2);
                }
                y[i] += skip * input;
                y_error[i] = std::sqrt(variance) + safety * unit * (magnitude + std::abs(skip * input));
            }

            // Backwards: g is what the loss depends on the state after the step by.
            std::vector<Number> g(states);
            std::vector<double> g_decay(states, 1.0), g_further(states);
            roundings.clear();
            for (int64_t n = 0; n < states; ++n) {
                g[n] = grad_last ? grad_last->values[first_state + n] : 0;
                roundings.emplace_back(a.type, g[n]);
            }
            for (int64_t i = steps - 1; i >= 0; --i) {
                const double input = u.values[row + i].real(), upper = grad_y.values[row + i].real();
                double gy = upper, gy_error = 0;
                if (z) {
                    const double gate = z->values[row + i].real(), sigmoid = 1 / (1 + std::exp(-gate));
                    gy *= gate * sigmoid;
                    gy_error = 6 * unit * std::abs(gy) + 2 * least * std::abs(gate * upper);
                    const double rise = sigmoid * (1 + gate * (1 - sigmoid));
                    const double rise_error = 8 * unit * sigmoid * (1 + std::abs(gate)) + 4 * least * (1 + std::abs(gate));
                    store(grad_z, upper * y[i] * rise,
                          std::abs(upper) * (y_error[i] * std::abs(rise) + std::abs(y[i]) * rise_error), row + i);
                }
                double of_input = 0, of_input_magnitude = 0, of_input_variance = 0;
                double of_rate = 0, of_rate_magnitude = 0, of_rate_variance = 0;
                for (int64_t n = 0; n < states; ++n) {
                    const int64_t at = i * states + n, t = segment.begin + i;
                    const int64_t at_b = place(b, segment.batch, channel, n, t),
                                  at_c = place(c, segment.batch, channel, n, t);
                    const Number input_weight = b.values[at_b], readout = c.values[at_c],
                                 rate = a.values[channel * states + n];
                    g[n] += twice * gy * std::conj(readout);
                    roundings[n].step(g_decay[n], g[n],
                                      g_further[n] + twice * std::abs(readout) * (gy_error + 3 * unit * std::abs(gy)));
                    const double g_error = roundings[n].limit();
                    sums_c[at_c].add(twice * gy * std::conj(h[at + states]),
                                     twice * (gy_error * std::abs(h[at + states]) + std::abs(gy) * h_error[at + states] +
                                              4 * unit * std::abs(gy * h[at + states])));
                    sums_b[at_b].add(s[i] * input * g[n],
                                     std::abs(input) * (std::abs(s[i]) * g_error + std::abs(g[n]) * s_error[i] +
                                                        4 * unit * std::abs(s[i] * g[n])));
                    of_input += (g[n] * std::conj(input_weight)).real();
                    of_input_magnitude += std::abs(g[n] * input_weight);
                    of_input_variance += std::pow(g_error * std::abs(input_weight), 2);
                    const Number decayed = decay[at] * h[at], product = g[n] * std::conj(decayed);
                    const double product_error =
                        g_error * std::abs(decayed) +
                        std::abs(g[n]) * (std::abs(decay[at]) * h_error[at] + decay_error[at] * std::abs(h[at])) +
                        4 * unit * std::abs(product);
                    sums_a[channel * states + n].add(s[i] * product, std::abs(s[i]) * product_error +
                                                                         s_error[i] * std::abs(product) +
                                                                         2 * unit * std::abs(s[i] * product));
                    of_rate += (product * std::conj(rate)).real();
                    of_rate_magnitude += std::abs(product * rate);
                    of_rate_variance += std::pow(product_error * std::abs(rate), 2);
                    g_further[n] = decay_error[at] * std::abs(g[n]);
                    g[n] *= std::conj(decay[at]);
                    g_decay[n] = std::abs(decay[at]);
                }
                const double of_input_error = std::sqrt(of_input_variance) + safety * unit * of_input_magnitude;
                const double of_rate_error = std::sqrt(of_rate_variance) + safety * unit * of_rate_magnitude;
                store(grad_u, s[i] * of_input + skip * gy,
                      std::abs(s[i]) * of_input_error + s_error[i] * std::abs(of_input) + std::abs(skip) * gy_error +
                          4 * unit * (std::abs(s[i] * of_input) + std::abs(skip * gy)),
                      row + i);
                const double grad_s = input * of_input + of_rate;
                const double grad_s_error = std::abs(input) * of_input_error + of_rate_error +
                                            4 * unit * (std::abs(input * of_input) + std::abs(of_rate));
                const double limit = grad_s_error * slope[i] + std::abs(grad_s) * slope_error[i];
                store(grad_dt, grad_s * slope[i], limit, row + i);
                sums_bias[channel].add(grad_s * slope[i], limit);
                sums_d[channel].add(gy * input, (gy_error + 2 * unit * std::abs(gy)) * std::abs(input));
            }
            for (int64_t n = 0; n < states; ++n) {
                // The last factor decays the roundings once more.
                roundings[n].step(g_decay[n], g[n], g_further[n]);
                store(grad_initial, g[n], roundings[n].limit(), first_state + n);
            }
        }
    store(prepare(result, problem, "grad_a"), sums_a);
    store(prepare(result, problem, "grad_b"), sums_b);
    store(prepare(result, problem, "grad_c"), sums_c);
    store(prepare(result, problem, "grad_d"), sums_d);
    store(prepare(result, problem, "grad_dt_bias"), sums_bias);
    return result;
}

// The size of a step: dt with bias, softplus and limits, and what it may be off by.
struct StepSize {
    double value, error;
    double slope; // its derivative by dt
};
StepSize step_size(const Problem& problem, double dt, const double* bias, double unit) {
    StepSize s{dt + (bias ? *bias : 0), bias ? unit * (std::abs(dt) + std::abs(*bias)) : 0, 1};
    if (problem.dt_softplus) {
        s.slope = 1 / (1 + std::exp(-s.value));
        s.error *= s.slope;
        s.value = std::max(s.value, 0.0) + std::log1p(std::exp(-std::abs(s.value)));
        s.error += 4 * unit * s.value;
    }
    if (problem.dt_min > 0 && s.value < problem.dt_min)
        s = {problem.dt_min, unit * problem.dt_min, 0};
    if (problem.dt_max > 0 && s.value > problem.dt_max)
        s = {problem.dt_max, unit * problem.dt_max, 0};
    return s;
}

// One head of one sequence of ssd: where things lie.
struct SsdHead {
    const Problem& problem;
    const Tensor &x, &dt, &b, &c;
    const Tensor *grad_y, *bias, *ids, *d;
    int64_t length, heads, channels, states, groups;
    int64_t batch, head, state_row, begin, end;
    double rate, unit;

    SsdHead(const Problem& problem, const Segment& segment, int64_t head)
        : problem(problem), x(problem.inputs.at("x")), dt(problem.inputs.at("dt")), b(problem.inputs.at("b")),
          c(problem.inputs.at("c")), grad_y(find(problem.inputs, "grad_y")), bias(find(problem.inputs, "dt_bias")),
          ids(find(problem.inputs, "seq_idx")), d(find(problem.inputs, "d")), length(x.shape[1]), heads(x.shape[2]),
          channels(x.shape[3]), states(b.shape[3]), groups(b.shape[2]), batch(segment.batch), head(head),
          state_row(segment.state_row), begin(segment.begin), end(segment.end),
          rate(problem.inputs.at("a").values[head].real()), unit(roundoff(state_type(x.type))) {}

    int64_t step_index(int64_t t) const { return (batch * length + t) * heads + head; }
    int64_t x_index(int64_t t, int64_t p) const { return step_index(t) * channels + p; }
    int64_t b_index(int64_t t, int64_t n) const {
        return ((batch * length + t) * groups + head / (heads / groups)) * states + n;
    }
    int64_t state_index(int64_t p, int64_t n) const { return ((state_row * heads + head) * channels + p) * states + n; }
    static double value(const Tensor& tensor, int64_t index) { return tensor.values[index].real(); }
    double skip(int64_t p) const { return !d ? 0 : d->values[d->shape.size() == 2 ? head * channels + p : head].real(); }
    int64_t skip_index(int64_t p) const { return d->shape.size() == 2 ? head * channels + p : head; }
    bool restarts(int64_t t) const {
        return ids && t > begin && ids->values[batch * length + t] != ids->values[batch * length + t - 1];
    }
    StepSize step(int64_t t) const {
        const double own_bias = bias ? bias->values[head].real() : 0;
        return step_size(problem, dt.values[step_index(t)].real(), bias ? &own_bias : nullptr, unit);
    }
    // Products of tiles add up in any order, and with 16-bit storage take factors that are rounded to it.
    double product_error() const { return 2 * unit + (is_half(x.type) ? 2 * roundoff(x.type) : 0); }
    // And of a factor that holds the decays within a chunk, of at most this many steps, float16 may lose as much as this:
    // a little of something that is less than the type's normal numbers.
    static constexpr int64_t longest_chunk = 64;
    double lost() const { return is_half(x.type) ? underflow(x.type) : 0; }
};

Reference ssd(const Problem& problem) {
    Reference result;
    const Tensor* z = find(problem.inputs, "z");
    const Tensor* initial = find(problem.inputs, "initial_state");
    const Tensor& x = problem.inputs.at("x");
    Expected* y = prepare(result, problem, "y");
    Expected* last = prepare(result, problem, "last_state");
    for (const Segment& segment : segments_of(problem, x.shape[0], x.shape[1]))
        for (int64_t head = 0; head < x.shape[2]; ++head) {
            const SsdHead at(problem, segment, head);
            const int64_t size = at.channels * at.states;
            std::vector<double> h(size), magnitude(size); // and what the state would be of magnitudes
            std::vector<Roundings> roundings;
            // |x| of the steps of a chunk, whose factors are rounded before they decay, and of those before.
            std::vector<double> recent(at.channels), older(at.channels);
            int64_t run_begin = segment.begin;
            for (int64_t i = 0; i < size; ++i) {
                h[i] = initial ? initial->values[at.state_index(0, 0) + i].real() : 0;
                magnitude[i] = std::abs(h[i]);
                roundings.emplace_back(x.type, h[i]);
            }
            for (int64_t t = segment.begin; t < segment.end; ++t) {
                if (at.restarts(t)) {
                    std::fill(h.begin(), h.end(), 0.0);
                    std::fill(magnitude.begin(), magnitude.end(), 0.0);
                    roundings.assign(size, Roundings(x.type, 0));
                    recent.assign(at.channels, 0);
                    older.assign(at.channels, 0);
                    run_begin = t;
                }
                const StepSize s = at.step(t);
                const double decay = std::exp(s.value * at.rate);
                const double decay_error = std::abs(at.rate) * s.error + at.unit * (4 + 2 * std::abs(s.value * at.rate));
                for (int64_t p = 0; p < at.channels; ++p) {
                    const double input = at.value(at.x, at.x_index(t, p));
                    const int64_t left = t - SsdHead::longest_chunk;
                    const double leaving = left >= run_begin ? std::abs(at.value(at.x, at.x_index(left, p))) : 0;
                    older[p] = decay * older[p] + leaving;
                    recent[p] += std::abs(input) - leaving;
                    double sum = 0, all = 0, variance = 0;
                    for (int64_t n = 0; n < at.states; ++n) {
                        const int64_t i = p * at.states + n;
                        const double added = s.value * input * at.value(at.b, at.b_index(t, n));
                        const double before = decay * h[i];
                        h[i] = before + added;
                        magnitude[i] = decay * magnitude[i] + std::abs(added);
                        const double of_added =
                            s.value != 0 ? std::abs(added) * (s.error / std::abs(s.value) + 3 * at.unit) : 0;
                        roundings[i].step(decay, h[i], std::abs(before) * decay_error + of_added);
                        const double readout = at.value(at.c, at.b_index(t, n));
                        sum += h[i] * readout;
                        all += magnitude[i] * std::abs(readout);
                        variance += std::pow(roundings[i].limit() * readout, 2);
                    }
                    double limit = std::sqrt(variance) + at.product_error() * all;
                    const double skipped = at.skip(p) * input;
                    double value = sum + skipped;
                    limit += 2 * at.unit * std::abs(skipped);
                    if (z) {
                        const double gate = z->values[at.x_index(t, p)].real(), silu = gate / (1 + std::exp(-gate));
                        const double lost = 2 * underflow(state_type(x.type)) * std::abs(gate * value);
                        value *= silu;
                        limit = limit * std::abs(silu) + 6 * at.unit * std::abs(value) + lost;
                    }
                    store(y, value, limit, at.x_index(t, p));
                }
            }
            for (int64_t i = 0; i < size; ++i)
                store(last, h[i],
                      roundings[i].limit() + at.product_error() * magnitude[i] +
                          at.lost() * (recent[i / at.states] + older[i / at.states]),
                      at.state_index(0, 0) + i);
        }
    return result;
}

// Gradients of ssd, or with `magnitudes` what they would be if every term had its magnitude: what rounding can change, in
// any order of the sums, is a few units in the last place of that.
std::map<std::string, std::vector<double>> ssd_gradients(const Problem& problem, bool magnitudes) {
    const auto part = [magnitudes](double value) { return magnitudes ? std::abs(value) : value; };
    const Tensor* z = find(problem.inputs, "z");
    const Tensor* initial = find(problem.inputs, "initial_state");
    const Tensor* grad_last = find(problem.inputs, "grad_last_state");
    const Tensor& x = problem.inputs.at("x");
    std::map<std::string, std::vector<double>> result;
    for (const char* name : {"x", "dt", "a", "b", "c"})
        result[std::string("grad_") + name].resize(problem.inputs.at(name).values.size());
    const Tensor* d = find(problem.inputs, "d");
    const Tensor* grad_d = find(problem.outputs, "grad_d");
    result["grad_d"].resize(d ? d->values.size() : grad_d ? grad_d->values.size() : x.shape[2]);
    result["grad_z"].resize(x.values.size());
    result["grad_dt_bias"].resize(x.shape[2]);
    if (const Tensor* wanted = find(problem.outputs, "grad_initial_state")) {
        result["grad_initial_state"].resize(wanted->values.size());
        result["lost"].resize(wanted->values.size());
    }
    // Not looked up for every step and state.
    const auto grad_x = result["grad_x"].data(), grad_dt = result["grad_dt"].data(), grad_a = result["grad_a"].data(),
               grad_b = result["grad_b"].data(), grad_c = result["grad_c"].data(), grad_z = result["grad_z"].data(),
               grad_dt_bias = result["grad_dt_bias"].data(), skips = result["grad_d"].data(),
               grad_initial = result["grad_initial_state"].data(), lost = result["lost"].data();
    const bool has_tied_d = result["grad_d"].size() == static_cast<size_t>(x.shape[2]);
    for (const Segment& segment : segments_of(problem, x.shape[0], x.shape[1]))
        for (int64_t head = 0; head < x.shape[2]; ++head) {
            const SsdHead at(problem, segment, head);
            const int64_t size = at.channels * at.states, length = segment.end - segment.begin;
            std::vector<double> h((length + 1) * size), behind(size);
            for (int64_t i = 0; i < size; ++i) {
                h[i] = initial ? part(initial->values[at.state_index(0, 0) + i].real()) : 0;
                behind[i] = grad_last ? part(grad_last->values[at.state_index(0, 0) + i].real()) : 0;
            }
            std::vector<double> decays(length);
            for (int64_t k = 0; k < length; ++k) {
                const int64_t t = segment.begin + k;
                const StepSize s = at.step(t);
                decays[k] = at.restarts(t) ? 0 : std::exp(s.value * at.rate);
                for (int64_t p = 0; p < at.channels; ++p)
                    for (int64_t n = 0; n < at.states; ++n) {
                        const int64_t i = p * at.states + n;
                        h[(k + 1) * size + i] =
                            decays[k] * h[k * size + i] +
                            part(s.value * at.value(at.x, at.x_index(t, p)) * at.value(at.b, at.b_index(t, n)));
                    }
            }
            for (int64_t k = length - 1; k >= 0; --k) {
                const int64_t t = segment.begin + k;
                const StepSize s = at.step(t);
                double direct = 0, through = 0;
                for (int64_t p = 0; p < at.channels; ++p) {
                    const int64_t index = at.x_index(t, p);
                    const double input = part(at.value(at.x, index)), given = at.value(*at.grad_y, index);
                    double gate = 1, slope = 0;
                    if (z) {
                        const double value = z->values[index].real(), sigmoid = 1 / (1 + std::exp(-value));
                        gate = value * sigmoid;
                        slope = magnitudes ? sigmoid * (1 + std::abs(value) * (1 - sigmoid))
                                           : sigmoid * (1 + value * (1 - sigmoid));
                    }
                    const double g = part(given * gate), skip = part(at.skip(p));
                    double y = skip * input, of_x = 0;
                    for (int64_t n = 0; n < at.states; ++n) {
                        const int64_t i = p * at.states + n;
                        const double b = part(at.value(at.b, at.b_index(t, n))), c = part(at.value(at.c, at.b_index(t, n)));
                        behind[i] += g * c;
                        y += h[(k + 1) * size + i] * c;
                        of_x += behind[i] * b;
                        grad_c[at.b_index(t, n)] += g * h[(k + 1) * size + i];
                        grad_b[at.b_index(t, n)] += part(s.value) * behind[i] * input;
                        through += behind[i] * decays[k] * h[k * size + i];
                        behind[i] *= decays[k];
                    }
                    direct += input * of_x;
                    grad_x[index] = part(s.value) * of_x + skip * g;
                    grad_z[index] = part(given) * y * slope;
                    skips[has_tied_d ? head : head * at.channels + p] += g * input;
                }
                const double grad_s = direct + part(at.rate) * through, slope = s.slope;
                grad_a[head] += part(s.value) * through;
                grad_dt[at.step_index(t)] = grad_s * slope;
                grad_dt_bias[head] += grad_s * slope;
            }
            if (grad_initial) {
                for (int64_t i = 0; i < size; ++i)
                    grad_initial[at.state_index(0, 0) + i] = behind[i];
                // c is rounded with the decay from its chunk's start, which the chunks before decay further; g multiplies
                // it.
                double before = 1, exponent = 0; // an exponential is as far off as its argument
                for (int64_t k = 0; k < length; ++k)
                    exponent += std::abs(at.step(segment.begin + k).value * at.rate);
                for (int64_t i = 0; i < size; ++i)
                    lost[at.state_index(0, 0) + i] += 4 * at.unit * exponent * std::abs(behind[i]);
                for (int64_t k = 0; k < length && decays[k] != 0; ++k) {
                    before *= k >= SsdHead::longest_chunk ? decays[k - SsdHead::longest_chunk] : 1;
                    for (int64_t i = 0; i < size; ++i) {
                        const int64_t index = at.x_index(segment.begin + k, i / at.states);
                        const double gate = z ? std::abs(z->values[index].real()) : 1;
                        lost[at.state_index(0, 0) + i] += at.lost() * before * gate * std::abs(at.value(*at.grad_y, index));
                    }
                }
            }
        }
    return result;
}

Reference ssd_backward(const Problem& problem) {
    Reference result;
    const Type type = problem.inputs.at("x").type;
    const auto values = ssd_gradients(problem, false), magnitudes = ssd_gradients(problem, true);
    const double unit = 32 * roundoff(state_type(type)) + (is_half(type) ? 6 * roundoff(type) : 0);
    for (const auto& [name, tensor] : problem.outputs) {
        Expected* expected = prepare(result, problem, name.c_str());
        for (int64_t i = 0; i < tensor.size(); ++i)
            store(expected, values.at(name)[i],
                  unit * magnitudes.at(name)[i] + (name == "grad_initial_state" ? magnitudes.at("lost")[i] : 0), i);
    }
    return result;
}

// One head of one sequence of mamba3, or of the steps of mamba3_update: where things lie, and what is made of the inputs.
// With `magnitudes` every number is what it would be if all terms had their magnitudes: what rounding can change is some
// units in the last place of that.
struct Mamba3Head {
    const Problem& problem;
    const bool magnitudes;
    const Tensor &x, &dt, &a, &b;
    const Tensor *angles, *bias, *d;
    const Tensor *c, *b_bias, *c_bias, *trap, *z, *grad_y; // looked up once: these loops are long
    const int64_t time_axis;                               // 1, or where one step goes without an axis of time -1
    int64_t length, heads, channels, states, groups, turning;
    int64_t batch, head, row;
    double unit;

    Mamba3Head(const Problem& problem, bool magnitudes, int64_t batch, int64_t row, int64_t head)
        : problem(problem), magnitudes(magnitudes), x(problem.inputs.at("x")), dt(problem.inputs.at("dt")),
          a(problem.inputs.at("a")), b(problem.inputs.at("b")), angles(find(problem.inputs, "angles")),
          bias(find(problem.inputs, "dt_bias")), d(find(problem.inputs, "d")), c(find(problem.inputs, "c")),
          b_bias(find(problem.inputs, "b_bias")), c_bias(find(problem.inputs, "c_bias")), trap(find(problem.inputs, "trap")),
          z(find(problem.inputs, "z")), grad_y(find(problem.inputs, "grad_y")), time_axis(x.shape.size() == 4 ? 1 : -1),
          length(time_axis == 1 ? x.shape[1] : 1), heads(x.shape[x.shape.size() - 2]), channels(x.shape.back()),
          states(b.shape.back()), groups(b.shape[b.shape.size() - 2]), turning(angles ? angles->shape.back() : 0),
          batch(batch), head(head), row(row), unit(roundoff(state_type(x.type))) {}

    double part(double value) const { return magnitudes ? std::abs(value) : value; }
    double sum(double u, double v) const { return magnitudes ? std::abs(u) + std::abs(v) : u + v; }
    int64_t step_index(int64_t t) const { return (batch * length + t) * heads + head; }
    int64_t x_index(int64_t t, int64_t p) const { return step_index(t) * channels + p; }
    int64_t b_index(int64_t t, int64_t n) const {
        return ((batch * length + t) * groups + head / (heads / groups)) * states + n;
    }
    int64_t angle_index(int64_t t, int64_t i) const {
        const int64_t all = angles->shape[angles->shape.size() - 2];
        return ((batch * length + t) * all + head / (heads / all)) * turning + i;
    }
    int64_t rate_index(int64_t t) const { return a.shape.size() == 1 ? head : step_index(t); }
    int64_t skip_index(int64_t p) const { return d && d->shape.size() == 2 ? head * channels + p : head; }
    // Of a state with `width` numbers for a head.
    int64_t state_index(int64_t width, int64_t i) const { return (row * heads + head) * width + i; }
    double given(const char* name, int64_t index) const {
        const Tensor* tensor = find(problem.inputs, name);
        return tensor ? tensor->values[index].real() : 0;
    }
    double value(const char* name, int64_t index) const { return part(given(name, index)); }
    static double at(const Tensor* tensor, int64_t index) { return tensor ? tensor->values[index].real() : 0; }

    struct Step {
        StepSize s;
        double rate, decay, lambda, now;
        double entering, old;     // the factor of what the step before leaves, without and with the decay
        std::vector<double> b, c; // with their biases
        std::vector<double> sine, cosine;
        std::vector<double> travelled; // the way of each angle since the beginning, whose roundings it carries
    };
    // theta becomes that of the step.
    Step step(int64_t t, std::vector<double>& theta) const {
        Step step;
        const double own_bias = bias ? bias->values[head].real() : 0;
        step.s = step_size(problem, dt.values[step_index(t)].real(), bias ? &own_bias : nullptr, unit);
        step.rate = a.values[rate_index(t)].real();
        step.decay = std::exp(step.s.value * step.rate);
        step.lambda = 1 / (1 + std::exp(-at(trap, step_index(t))));
        step.now = step.lambda * step.s.value;
        step.entering = step.s.value / (1 + std::exp(at(trap, step_index(t))));
        step.old = step.decay * step.entering;
        for (int64_t n = 0; n < states; ++n) {
            step.b.push_back(sum(at(&b, b_index(t, n)), at(b_bias, head * states + n)));
            step.c.push_back(sum(at(c, b_index(t, n)), at(c_bias, head * states + n)));
        }
        for (int64_t i = 0; i < turning; ++i) {
            const double part_of_turn = std::tanh(angles->values[angle_index(t, i)].real()) * step.s.value / 2;
            if (magnitudes) {
                theta[i] = std::abs(theta[i]) + 2 * M_PI * std::abs(part_of_turn);
                step.travelled.push_back(theta[i]);
                continue;
            }
            // Without whole turns, which would take digits.
            const double turn = theta[i] / (2 * M_PI) + part_of_turn;
            theta[i] = 2 * M_PI * (turn - std::round(turn));
            step.sine.push_back(std::sin(theta[i]));
            step.cosine.push_back(std::cos(theta[i]));
        }
        return step;
    }
    // Turned by the step's angles; back by sign -1.
    std::vector<double> turned(std::vector<double> row, const Step& step, double sign = 1) const {
        for (int64_t i = 0; i < turning; ++i) {
            const double u = row[2 * i], v = row[2 * i + 1];
            if (magnitudes) { // of which a limit is 64 units at least, and in 16 bits much more
                row[2 * i] = row[2 * i + 1] = (u + v) * (is_half(x.type) ? 1 : 1 + step.travelled[i] / 64);
                continue;
            }
            row[2 * i] = u * step.cosine[i] - sign * v * step.sine[i];
            row[2 * i + 1] = sign * u * step.sine[i] + v * step.cosine[i];
        }
        return row;
    }
    static double dot(const std::vector<double>& u, const std::vector<double>& v) {
        return std::inner_product(u.begin(), u.end(), v.begin(), 0.0);
    }
    double skip(int64_t p) const { return part(at(d, skip_index(p))); }
};

using Values = std::map<std::string, std::vector<double>>;

// y and the last states; of mamba3_update the states it leaves. `prefix` and `suffix` make names of states: initial_ and
// last_, or the same _state for both.
void run_mamba3(const Mamba3Head& at, int64_t begin, int64_t end, Values& result) {
    const bool updates = at.problem.operation == Operation::mamba3_update;
    const auto name_of_state = [&](const char* which, bool is_last) {
        if (!updates)
            return std::string(is_last ? "last_" : "initial_") + which;
        return std::string(which) == "state" ? std::string("state") : std::string(which) + "_state";
    };
    const auto initial = [&](const char* which, int64_t width) {
        std::vector<double> values(width);
        for (int64_t i = 0; i < width; ++i)
            values[i] = at.given(name_of_state(which, false).c_str(), at.state_index(width, i));
        return values;
    };
    const int64_t size = at.channels * at.states;
    std::vector<double> theta = initial("angle", at.turning), h = initial("state", size);
    std::vector<double> k = initial("b", at.states), x = initial("x", at.channels);
    for (auto* values : {&h, &k, &x})
        for (double& value : *values)
            value = at.part(value);
    std::vector<double>& to_y = result["y"];
    for (int64_t t = begin; t < end; ++t) {
        const Mamba3Head::Step step = at.step(t, theta);
        const std::vector<double> own_k = at.turned(step.b, step), q = at.turned(step.c, step);
        // What ssd's form adds and takes away again.
        std::vector<double> behind = theta;
        const double next =
            !at.magnitudes || t + 1 == end ? 0 : at.step(t + 1, behind).entering * Mamba3Head::dot(step.b, step.c);
        for (int64_t p = 0; p < at.channels; ++p) {
            const double own_x = at.part(at.at(&at.x, at.x_index(t, p)));
            double y = (at.skip(p) + 2 * next) * own_x;
            for (int64_t n = 0; n < at.states; ++n) {
                double& state = h[p * at.states + n];
                state = step.decay * state + step.old * x[p] * k[n] + step.now * own_x * own_k[n];
                y += state * q[n];
            }
            if (at.z) {
                const double gate = at.at(at.z, at.x_index(t, p));
                y *= at.part(gate / (1 + std::exp(-gate)));
            }
            x[p] = own_x;
            to_y[at.x_index(t, p)] = y;
        }
        k = own_k;
    }
    for (double& angle : theta)
        angle = at.magnitudes ? std::max(2 * M_PI, angle) : angle;
    const std::pair<const char*, const std::vector<double>&> states[] = {{"state", h}, {"angle", theta}, {"b", k}, {"x", x}};
    for (const auto& [which, values] : states)
        if (auto& to = result[name_of_state(which, true)]; !to.empty())
            std::copy(values.begin(), values.end(), to.begin() + at.state_index(static_cast<int64_t>(values.size()), 0));
}

// Values with limits, from two runs of `fill`.
template <class Fill>
Reference with_magnitudes(const Problem& problem, double unit, const Fill& fill) {
    Values values, magnitudes;
    // Of sums where a decay below the normal numbers is not quite zero.
    const double tiny = 1e4 * underflow(state_type(problem.type));
    for (const auto& [name, tensor] : problem.outputs)
        values[name].resize(tensor.values.size());
    magnitudes = values;
    fill(false, values);
    fill(true, magnitudes);
    Reference result;
    for (const auto& [name, tensor] : problem.outputs) {
        Expected* expected = prepare(result, problem, name.c_str());
        for (int64_t i = 0; i < tensor.size(); ++i)
            store(expected, values.at(name)[i], unit * magnitudes.at(name)[i] + tiny, i);
    }
    return result;
}
// Angles add up along time, and their roundings with them.
double mamba3_unit(Type type, int64_t length) {
    return (64 + 8 * std::sqrt(static_cast<double>(length))) * roundoff(state_type(type)) +
           (is_half(type) ? 6 * roundoff(type) : 0);
}

Reference mamba3(const Problem& problem) {
    const Tensor& x = problem.inputs.at("x");
    return with_magnitudes(problem, mamba3_unit(x.type, x.shape[1]), [&](bool magnitudes, Values& values) {
        for (const Segment& segment : segments_of(problem, x.shape[0], x.shape[1]))
            for (int64_t head = 0; head < x.shape[2]; ++head)
                run_mamba3(Mamba3Head(problem, magnitudes, segment.batch, segment.state_row, head), segment.begin,
                           segment.end, values);
    });
}

Reference mamba3_update(const Problem& problem) {
    const Tensor& x = problem.inputs.at("x");
    const Tensor* slots = find(problem.inputs, "slots");
    const int64_t heads = x.shape[x.shape.size() - 2], steps = x.shape.size() == 4 ? x.shape[1] : 1;
    return with_magnitudes(problem, mamba3_unit(x.type, steps), [&](bool magnitudes, Values& values) {
        for (auto& [name, numbers] : values) // rows that no slot names stay
            if (problem.is_inout(name) && !magnitudes)
                for (size_t i = 0; i < numbers.size(); ++i)
                    numbers[i] = problem.inputs.at(name).values[i].real();
        for (int64_t batch = 0; batch < x.shape[0]; ++batch) {
            const int64_t row = slots ? static_cast<int64_t>(slots->values[batch].real()) : batch;
            for (int64_t head = 0; row >= 0 && head < heads; ++head)
                run_mamba3(Mamba3Head(problem, magnitudes, batch, row, head), 0, steps, values);
        }
    });
}

// Gradients of the loops of run_mamba3, backwards through the very same steps.
void run_mamba3_backward(const Mamba3Head& at, int64_t begin, int64_t end, Values& result) {
    const int64_t size = at.channels * at.states, length = end - begin;
    const auto minus = [&](double u, double v) { return at.magnitudes ? u + v : u - v; };
    const auto state = [&](const char* name, int64_t width) {
        std::vector<double> values(width);
        for (int64_t i = 0; i < width; ++i)
            values[i] = at.value(name, at.state_index(width, i));
        return values;
    };
    const auto add = [](std::vector<double>& to, int64_t index, double value) {
        if (!to.empty())
            to[index] += value;
    };
    const auto sums_of = [&](const char* name) -> std::vector<double>& { return result[name]; };
    std::vector<double>& grad_x = sums_of("grad_x");
    std::vector<double>& grad_d = sums_of("grad_d");
    std::vector<double>& grad_z = sums_of("grad_z");
    std::vector<double>& grad_angles = sums_of("grad_angles");
    std::vector<double>& grad_b = sums_of("grad_b");
    std::vector<double>& grad_c = sums_of("grad_c");
    std::vector<double>& grad_b_bias = sums_of("grad_b_bias");
    std::vector<double>& grad_c_bias = sums_of("grad_c_bias");
    std::vector<double>& grad_a = sums_of("grad_a");
    std::vector<double>& grad_trap = sums_of("grad_trap");
    std::vector<double>& grad_dt = sums_of("grad_dt");
    std::vector<double>& grad_dt_bias = sums_of("grad_dt_bias");
    std::vector<double> theta(at.turning);
    for (int64_t i = 0; i < at.turning; ++i)
        theta[i] = at.given("initial_angle", at.state_index(at.turning, i));
    std::vector<std::vector<double>> h{state("initial_state", size)}, k{state("initial_b", at.states)},
        x{state("initial_x", at.channels)};
    std::vector<Mamba3Head::Step> steps;
    for (int64_t t = begin; t < end; ++t) {
        steps.push_back(at.step(t, theta));
        const Mamba3Head::Step& step = steps.back();
        k.push_back(at.turned(step.b, step));
        x.emplace_back();
        for (int64_t p = 0; p < at.channels; ++p)
            x.back().push_back(at.part(at.at(&at.x, at.x_index(t, p))));
        h.push_back(h.back());
        for (int64_t i = 0; i < size; ++i) {
            const int64_t p = i / at.states, n = i % at.states;
            h.back()[i] = step.decay * h.back()[i] + step.old * x[x.size() - 2][p] * k[k.size() - 2][n] +
                          step.now * x.back()[p] * k.back()[n];
        }
    }
    std::vector<double> of_h = state("grad_last_state", size), of_k = state("grad_last_b", at.states);
    std::vector<double> of_x = state("grad_last_x", at.channels), of_theta = state("grad_last_angle", at.turning);
    const auto gradient_of_y = [&](int64_t t, int64_t p) {
        const double gate = at.at(at.z, at.x_index(t, p));
        return at.part(at.at(at.grad_y, at.x_index(t, p)) * (at.z ? gate / (1 + std::exp(-gate)) : 1));
    };
    // |g . x| |k . q| of a step, which ssd's form adds and takes away again.
    const auto extra = [&](int64_t i) {
        double sum = 0;
        for (int64_t p = 0; i >= 0 && i < length && at.magnitudes && p < at.channels; ++p)
            sum += gradient_of_y(begin + i, p) * x[i + 1][p] * Mamba3Head::dot(steps[i].b, steps[i].c);
        return sum;
    };
    for (int64_t i = length - 1; i >= 0; --i) {
        const int64_t t = begin + i;
        const Mamba3Head::Step& step = steps[i];
        const std::vector<double> q = at.turned(step.c, step), own_k = k[i + 1], own_x = x[i + 1];
        const double next = at.magnitudes && i + 1 < length ? steps[i + 1].entering : 0;
        const double product = Mamba3Head::dot(step.b, step.c);
        std::vector<double> of_q(at.states), before_k(at.states), before_x(at.channels);
        double of_now = 0, of_old = 0, of_decay = 0, of_skip = 0;
        for (int64_t p = 0; p < at.channels; ++p) {
            const int64_t index = at.x_index(t, p);
            const double g = gradient_of_y(t, p);
            double y = at.skip(p) * own_x[p];
            of_skip += g * own_x[p];
            of_x[p] += (at.skip(p) + 2 * next * product) * g;
            for (int64_t n = 0; n < at.states; ++n) {
                const int64_t j = p * at.states + n;
                of_h[j] += g * q[n];
                y += h[i + 1][j] * q[n];
                of_q[n] += g * h[i + 1][j];
                of_k[n] += step.now * of_h[j] * own_x[p];
                of_x[p] += step.now * of_h[j] * own_k[n];
                of_now += of_h[j] * own_x[p] * own_k[n];
                of_old += of_h[j] * x[i][p] * k[i][n];
                of_decay += of_h[j] * h[i][j];
                before_k[n] += step.old * of_h[j] * x[i][p];
                before_x[p] += step.old * of_h[j] * k[i][n];
                of_h[j] *= step.decay;
            }
            add(grad_x, index, of_x[p]);
            add(grad_d, (at.d ? at.d->shape.size() == 2 : false) ? at.skip_index(p) : at.head, g * own_x[p]);
            if (at.z) {
                const double gate = at.at(at.z, index), sigmoid = 1 / (1 + std::exp(-gate));
                const double slope =
                    at.magnitudes ? sigmoid * (1 + std::abs(gate) * (1 - sigmoid)) : sigmoid * (1 + gate * (1 - sigmoid));
                add(grad_z, index, at.part(at.at(at.grad_y, index)) * (y + 2 * next * product * own_x[p]) * slope);
            }
        }
        const double s = step.s.value, rest = 1 - step.lambda;
        const double through = of_old * step.decay + extra(i - 1), of_alpha = of_decay + of_old * rest * s;
        const double of_lambda = at.magnitudes ? s * (of_now + through) : s * (of_now - through);
        double of_s = of_now * step.lambda + through * rest + of_alpha * step.decay * at.part(step.rate);
        for (int64_t j = 0; j < at.turning; ++j) {
            const double ku = own_k[2 * j], kv = own_k[2 * j + 1], qu = q[2 * j], qv = q[2 * j + 1];
            of_theta[j] += minus(of_k[2 * j + 1] * ku, of_k[2 * j] * kv) + minus(of_q[2 * j + 1] * qu, of_q[2 * j] * qv);
            const double tanh = std::tanh(at.at(at.angles, at.angle_index(t, j))), slope = 1 - tanh * tanh;
            add(grad_angles, at.angle_index(t, j), of_theta[j] * M_PI * s * slope);
            of_s += of_theta[j] * M_PI * at.part(tanh);
        }
        std::vector<double> of_b = at.turned(of_k, step, -1), of_c = at.turned(of_q, step, -1);
        for (int64_t n = 0; n < at.states; ++n) {
            of_b[n] += 2 * next * of_skip * step.c[n];
            of_c[n] += 2 * next * of_skip * step.b[n];
            add(grad_b, at.b_index(t, n), of_b[n]);
            add(grad_c, at.b_index(t, n), of_c[n]);
            add(grad_b_bias, at.head * at.states + n, of_b[n]);
            add(grad_c_bias, at.head * at.states + n, of_c[n]);
        }
        add(grad_a, at.rate_index(t), of_alpha * step.decay * s);
        add(grad_trap, at.step_index(t), of_lambda * step.lambda * rest);
        add(grad_dt, at.step_index(t), of_s * step.s.slope);
        add(grad_dt_bias, at.head, of_s * step.s.slope);
        of_k = before_k;
        of_x = before_x;
    }
    const std::pair<const char*, const std::vector<double>&> initial[] = {
        {"grad_initial_state", of_h}, {"grad_initial_angle", of_theta}, {"grad_initial_b", of_k}, {"grad_initial_x", of_x}};
    for (const auto& [name, values] : initial)
        for (size_t i = 0; i < values.size(); ++i)
            add(sums_of(name), at.state_index(static_cast<int64_t>(values.size()), static_cast<int64_t>(i)), values[i]);
}

Reference mamba3_backward(const Problem& problem) {
    const Tensor& x = problem.inputs.at("x");
    return with_magnitudes(problem, mamba3_unit(x.type, x.shape[1]), [&](bool magnitudes, Values& values) {
        for (const Segment& segment : segments_of(problem, x.shape[0], x.shape[1]))
            for (int64_t head = 0; head < x.shape[2]; ++head)
                run_mamba3_backward(Mamba3Head(problem, magnitudes, segment.batch, segment.state_row, head), segment.begin,
                                    segment.end, values);
    });
}

// Of causal_conv1d, forward and backward alike: one channel of one sequence.
struct ConvolutionRow {
    const Problem& problem;
    const Tensor& x;
    const Tensor& weight;
    const Tensor* bias;
    const Tensor* initial;
    int64_t width, row, channel, begin, length, state;
    double unit;

    ConvolutionRow(const Problem& problem, const Segment& segment, int64_t channel)
        : problem(problem), x(problem.inputs.at("x")), weight(problem.inputs.at("weight")),
          bias(find(problem.inputs, "bias")), initial(find(problem.inputs, "initial_state")), width(weight.shape[1]),
          channel(channel), begin(segment.begin), length(segment.end - segment.begin), unit(roundoff(state_type(x.type))) {
        row = (segment.batch * x.shape[1] + channel) * x.shape[2] + begin;
        state = (segment.state_row * x.shape[1] + channel) * (width - 1);
    }
    double w(int64_t j) const { return weight.values[channel * width + j].real(); }
    // Steps before the first are the state's.
    double at(int64_t t) const {
        return t >= 0 ? x.values[row + t].real() : initial ? initial->values[state + width - 1 + t].real() : 0;
    }
    // The sum before the activation, and what it may be off by.
    double sum(int64_t t, double& limit) const {
        double value = bias ? bias->values[channel].real() : 0, magnitude = std::abs(value);
        for (int64_t j = 0; j < width; ++j) {
            value += w(j) * at(t - width + 1 + j);
            magnitude += std::abs(w(j) * at(t - width + 1 + j));
        }
        limit = 2 * unit * std::sqrt(static_cast<double>(width + 1)) * magnitude;
        return value;
    }
};

// silu of a value that is off by limit, which becomes what the result is off by.
double silu_of(double value, double& limit, Type type) {
    limit = 1.1 * limit + 2 * underflow(state_type(type)) * std::abs(value);
    value /= 1 + std::exp(-value);
    limit += 6 * roundoff(state_type(type)) * std::abs(value);
    return value;
}

Reference causal_conv1d(const Problem& problem) {
    Reference result;
    const Tensor& x = problem.inputs.at("x");
    Expected* y = prepare(result, problem, "y");
    Expected* last = prepare(result, problem, "last_state");
    for (const Segment& segment : segments_of(problem, x.shape[0], x.shape[2]))
        for (int64_t channel = 0; channel < x.shape[1]; ++channel) {
            const ConvolutionRow row(problem, segment, channel);
            for (int64_t t = 0; t < row.length; ++t) {
                double limit;
                double value = row.sum(t, limit);
                if (problem.silu)
                    value = silu_of(value, limit, x.type);
                store(y, value, limit, row.row + t);
            }
            for (int64_t k = 0; k < row.width - 1; ++k)
                store(last, row.at(row.length - row.width + 1 + k), 0, row.state + k);
        }
    return result;
}

Reference causal_conv1d_update(const Problem& problem) {
    Reference result;
    const Tensor &state = problem.inputs.at("state"), &x = problem.inputs.at("x"), &weight = problem.inputs.at("weight");
    const Tensor *bias = find(problem.inputs, "bias"), *slots = find(problem.inputs, "slots"),
                 *seqlens = find(problem.inputs, "cache_seqlens");
    Expected* y = prepare(result, problem, "y");
    Expected* after = prepare(result, problem, "state");
    after->value.values = state.values;
    const int64_t batch = x.shape[0], channels = x.shape[1], steps = x.shape.size() == 3 ? x.shape[2] : 1;
    const int64_t width = weight.shape[1], length = state.shape[2];
    const double unit = roundoff(state_type(x.type));
    for (int64_t row = 0; row < batch; ++row) {
        const int64_t slot = slots ? static_cast<int64_t>(slots->values[row].real()) : row;
        const int64_t before = seqlens ? static_cast<int64_t>(seqlens->values[row].real()) : 0;
        for (int64_t channel = 0; slot >= 0 && channel < channels; ++channel) {
            const int64_t first = (slot * channels + channel) * length, row_x = (row * channels + channel) * steps;
            // Where step t lies: of a ring for all steps, else before the call.
            const auto place = [&](int64_t t) { return seqlens ? ((before + t) % length + length) % length : length + t; };
            const auto at = [&](int64_t t) { return (t < 0 ? state.values[first + place(t)] : x.values[row_x + t]).real(); };
            for (int64_t t = 0; t < steps; ++t) {
                double value = bias ? bias->values[channel].real() : 0, magnitude = std::abs(value);
                for (int64_t j = 0; j < width; ++j) {
                    const double term = weight.values[channel * width + j].real() * at(t - width + 1 + j);
                    value += term;
                    magnitude += std::abs(term);
                }
                double limit = 2 * unit * std::sqrt(static_cast<double>(width + 1)) * magnitude;
                if (problem.silu)
                    value = silu_of(value, limit, x.type);
                store(y, value, limit, row_x + t);
            }
            for (int64_t k = 0; k < length && !seqlens; ++k)
                store(after, at(steps - length + k), 0, first + k);
            for (int64_t t = std::max<int64_t>(0, steps - length); t < steps && seqlens; ++t)
                store(after, at(t), 0, first + place(t));
        }
    }
    return result;
}

Reference causal_conv1d_backward(const Problem& problem) {
    Reference result;
    const Tensor &x = problem.inputs.at("x"), &grad_y = problem.inputs.at("grad_y");
    const Tensor* grad_last = find(problem.inputs, "grad_last_state");
    Expected* grad_x = prepare(result, problem, "grad_x");
    Expected* grad_weight = prepare(result, problem, "grad_weight");
    Expected* grad_bias = prepare(result, problem, "grad_bias");
    Expected* grad_initial = prepare(result, problem, "grad_initial_state");
    const int64_t width = problem.inputs.at("weight").shape[1];
    for (int64_t channel = 0; channel < x.shape[1]; ++channel) {
        std::vector<double> sums(width + 1); // of the weights and the bias
        std::vector<Roundings> roundings(width + 1, Roundings(x.type, 0));
        for (const Segment& segment : segments_of(problem, x.shape[0], x.shape[2])) {
            const ConvolutionRow row(problem, segment, channel);
            std::vector<double> g(row.length), g_limit(row.length);
            for (int64_t t = 0; t < row.length; ++t) {
                g[t] = grad_y.values[row.row + t].real();
                if (problem.silu) {
                    double limit;
                    const double z = row.sum(t, limit), sigmoid = 1 / (1 + std::exp(-z));
                    g_limit[t] = std::abs(g[t]) * (0.5 * limit + 12 * row.unit);
                    g[t] *= sigmoid * (1 + z * (1 - sigmoid));
                }
                for (int64_t j = 0; j <= width; ++j) {
                    const double factor = j < width ? row.at(t - width + 1 + j) : 1;
                    sums[j] += g[t] * factor;
                    roundings[j].step(1, sums[j], g_limit[t] * std::abs(factor) + row.unit * std::abs(g[t] * factor));
                }
            }
            for (int64_t t = 1 - width; t < row.length; ++t) {
                double value = 0, magnitude = 0, limit = 0;
                if (grad_last && t >= row.length - width + 1)
                    value = grad_last->values[row.state + t - (row.length - width + 1)].real();
                magnitude = std::abs(value);
                for (int64_t s = std::max<int64_t>(t, 0); s < std::min(row.length, t + width); ++s) {
                    const double weight = row.w(t + width - 1 - s);
                    value += weight * g[s];
                    magnitude += std::abs(weight * g[s]);
                    limit += std::abs(weight) * g_limit[s];
                }
                limit += 2 * row.unit * std::sqrt(static_cast<double>(width + 1)) * magnitude;
                if (t >= 0)
                    store(grad_x, value, limit, row.row + t);
                else
                    store(grad_initial, value, limit, row.state + width - 1 + t);
            }
        }
        for (int64_t j = 0; j < width; ++j)
            store(grad_weight, sums[j], roundings[j].limit(), channel * width + j);
        store(grad_bias, sums[width], roundings[width].limit(), channel);
    }
    return result;
}

// Of causal_conv, forward and backward alike: one head of one sequence. What a transform is off by is, for each of its
// numbers, a few roundings of the product of the norms of what it multiplies, times the root of its levels.
struct LongConvolutionRow {
    std::vector<double> x, g; // x with the state's steps before it; post_gate grad_y where there is a grad_y
    int64_t taps, head, history, length, row, state;
    int64_t before; // steps before the sequence that there are
    const Tensor &k, *k_reverse, *d, *pre_gate, *post_gate;
    double d_of_head, unit, rounding, k_norm = 0, x_norm = 0, g_norm = 0;

    LongConvolutionRow(const Problem& problem, const Segment& segment, int64_t head)
        : taps(problem.inputs.at("k").shape[1]), head(head), history(taps - 1), length(segment.end - segment.begin),
          k(problem.inputs.at("k")), k_reverse(find(problem.inputs, "k_reverse")), d(find(problem.inputs, "d")),
          pre_gate(find(problem.inputs, "pre_gate")), post_gate(find(problem.inputs, "post_gate")) {
        const Tensor& u = problem.inputs.at("u");
        const Tensor *initial = find(problem.inputs, "initial_state"), *grad_y = find(problem.inputs, "grad_y");
        row = (segment.batch * u.shape[1] + head) * u.shape[2] + segment.begin;
        state = (segment.state_row * u.shape[1] + head) * history;
        before = initial ? history : 0;
        d_of_head = d ? d->values[head].real() : 0;
        unit = roundoff(state_type(u.type));
        rounding = unit * 2 * (10 + std::log2(1.0 + static_cast<double>(length + taps)));
        x.resize(length + history);
        for (int64_t i = 0; i < history; ++i)
            x[i] = initial ? initial->values[state + i].real() : 0;
        for (int64_t t = 0; t < length; ++t)
            x[history + t] = u.values[row + t].real() * gate(pre_gate, t);
        for (int64_t t = 0; grad_y && t < length; ++t)
            g.push_back(grad_y->values[row + t].real() * gate(post_gate, t));
        const auto norm = [](const std::vector<double>& values) {
            double sum = 0;
            for (const double value : values)
                sum += value * value;
            return std::sqrt(sum);
        };
        for (int64_t j = 0; j < taps; ++j)
            k_norm += tap(j) * tap(j) + (k_reverse ? tap(-1 - j) * tap(-1 - j) : 0);
        k_norm = std::sqrt(k_norm);
        x_norm = norm(x);
        g_norm = norm(g);
    }
    double gate(const Tensor* tensor, int64_t t) const { return tensor ? tensor->values[row + t].real() : 1; }
    // The tap that meets the step `lag` steps back.
    double tap(int64_t lag) const {
        return lag >= 0 ? k.values[head * taps + lag].real() : k_reverse->values[head * taps - 1 - lag].real();
    }
    double at(int64_t t) const { return t < -history || t >= length ? 0 : x[t + history]; }
    // That of the tap that meets the latest step.
    int64_t first_lag() const { return k_reverse ? -taps : 0; }
    // The sum before post_gate, and what it may be off by.
    double sum(int64_t t, double& limit) const {
        double value = d_of_head * at(t);
        limit = rounding * k_norm * x_norm + 3 * unit * std::abs(value);
        for (int64_t lag = std::max(first_lag(), t - length + 1); lag <= std::min(taps - 1, t + before); ++lag)
            value += tap(lag) * at(t - lag);
        limit += 3 * unit * std::abs(value);
        return value;
    }
};

Reference causal_conv(const Problem& problem) {
    Reference result;
    const Tensor& u = problem.inputs.at("u");
    Expected* y = prepare(result, problem, "y");
    Expected* last = prepare(result, problem, "last_state");
    for (const Segment& segment : segments_of(problem, u.shape[0], u.shape[2]))
        for (int64_t head = 0; head < u.shape[1]; ++head) {
            const LongConvolutionRow row(problem, segment, head);
            for (int64_t t = 0; t < row.length; ++t) {
                double limit;
                const double value = row.sum(t, limit), gate = row.gate(row.post_gate, t);
                store(y, value * gate, limit * std::abs(gate), row.row + t);
            }
            for (int64_t i = 0; i < row.history; ++i) {
                const double value = row.at(row.length - row.history + i);
                store(last, value, row.unit * std::abs(value), row.state + i);
            }
        }
    return result;
}

Reference causal_conv_backward(const Problem& problem) {
    Reference result;
    const Tensor &u = problem.inputs.at("u"), &grad_y = problem.inputs.at("grad_y");
    const Tensor* grad_last = find(problem.inputs, "grad_last_state");
    Expected* grad_u = prepare(result, problem, "grad_u");
    Expected* grad_k = prepare(result, problem, "grad_k");
    Expected* grad_k_reverse = prepare(result, problem, "grad_k_reverse");
    Expected* grad_d = prepare(result, problem, "grad_d");
    Expected* grad_pre_gate = prepare(result, problem, "grad_pre_gate");
    Expected* grad_post_gate = prepare(result, problem, "grad_post_gate");
    Expected* grad_initial = prepare(result, problem, "grad_initial_state");
    const int64_t taps = problem.inputs.at("k").shape[1];
    for (int64_t head = 0; head < u.shape[1]; ++head) {
        std::vector<double> of_taps(2 * taps); // of lag i at i, of lag -1 - i behind them
        double of_d = 0, off_by = 0;
        for (const Segment& segment : segments_of(problem, u.shape[0], u.shape[2])) {
            const LongConvolutionRow row(problem, segment, head);
            off_by += row.rounding * row.x_norm * row.g_norm;
            for (int64_t t = 0; t < row.length; ++t) {
                of_d += row.g[t] * row.at(t);
                for (int64_t lag = std::max(row.first_lag(), t - row.length + 1); lag <= std::min(taps - 1, t + row.before);
                     ++lag)
                    of_taps[lag >= 0 ? lag : taps - 1 - lag] += row.g[t] * row.at(t - lag);
                if (grad_post_gate) {
                    double limit;
                    const double sum = row.sum(t, limit), factor = grad_y.values[row.row + t].real();
                    store(grad_post_gate, sum * factor, limit * std::abs(factor), row.row + t);
                }
            }
            for (int64_t t = -row.history; t < row.length; ++t) {
                double value = t >= 0 ? row.d_of_head * row.g[t] : 0;
                if (grad_last && t >= row.length - row.history)
                    value += grad_last->values[row.state + t - row.length + row.history].real();
                double limit = row.rounding * row.k_norm * row.g_norm + 3 * row.unit * std::abs(value);
                double sum = 0; // apart: it may be far below what comes from behind the sequence
                for (int64_t lag = std::max(row.first_lag(), -t); lag <= std::min(taps - 1, row.length - 1 - t); ++lag)
                    sum += row.tap(lag) * row.g[t + lag];
                value += sum;
                limit += 3 * row.unit * std::abs(value);
                if (t < 0) {
                    store(grad_initial, value, limit, row.state + row.history + t);
                    continue;
                }
                const double gate = row.gate(row.pre_gate, t), step = u.values[row.row + t].real();
                store(grad_u, value * gate, limit * std::abs(gate), row.row + t);
                store(grad_pre_gate, value * step, limit * std::abs(step), row.row + t);
            }
        }
        for (int64_t i = 0; i < taps; ++i) {
            store(grad_k, of_taps[i], off_by, head * taps + i);
            store(grad_k_reverse, of_taps[taps + i], off_by, head * taps + i);
        }
        store(grad_d, of_d, off_by, head);
    }
    return result;
}

// Of rms_norm and gated_rms_norm, forward and backward alike: one group of one row. A relative error of `rounding` bounds
// what sums over a group and the few operations around them round; it is far below what one lost element does.
struct NormGroup {
    const Problem& problem;
    const Tensor& x;
    const Tensor *residual, *z, *weight, *bias;
    int64_t width, group, row, begin, rstd_index;
    double unit, rounding;

    NormGroup(const Problem& problem, int64_t index)
        : problem(problem), x(problem.inputs.at("x")), residual(find(problem.inputs, "residual")),
          z(find(problem.inputs, "z")), weight(find(problem.inputs, "weight")), bias(find(problem.inputs, "bias")) {
        width = x.shape.back();
        group = problem.group_size ? problem.group_size : width;
        row = index / (width / group);
        begin = index % (width / group) * group;
        rstd_index = index;
        unit = roundoff(state_type(x.type));
        rounding = unit * (16 + 2 * std::sqrt(static_cast<double>(group)));
    }
    static int64_t count(const Problem& problem) {
        const Tensor& x = problem.inputs.at("x");
        return x.size() / (problem.group_size ? problem.group_size : std::max<int64_t>(x.shape.back(), 1));
    }
    int64_t at(int64_t i) const { return row * width + begin + i; }
    double in(int64_t i) const { return x.values[at(i)].real() + (residual ? residual->values[at(i)].real() : 0); }
    double gate(int64_t i) const { return z ? z->values[at(i)].real() / (1 + std::exp(-z->values[at(i)].real())) : 1; }
    double slope(int64_t i) const {
        const double value = z->values[at(i)].real(), sigmoid = 1 / (1 + std::exp(-value));
        return sigmoid * (1 + value * (1 - sigmoid));
    }
    // What the norm is taken of, and what its result is multiplied by.
    double h(int64_t i) const { return problem.norm_before_gate ? in(i) : in(i)*gate(i); }
    double gate_last(int64_t i) const { return problem.norm_before_gate ? gate(i) : 1; }
    double w(int64_t i) const { return weight ? weight->values[begin + i].real() : 1; }
    double b(int64_t i) const { return bias ? bias->values[begin + i].real() : 0; }
    double rstd() const {
        double squares = 0;
        for (int64_t i = 0; i < group; ++i)
            squares += h(i) * h(i);
        return 1 / std::sqrt(squares / static_cast<double>(group) + problem.eps);
    }
};

Reference rms_norm(const Problem& problem) {
    Reference result;
    Expected* y = prepare(result, problem, "y");
    Expected* residual_out = prepare(result, problem, "residual_out");
    Expected* rstd_out = prepare(result, problem, "rstd");
    for (int64_t index = 0; index < NormGroup::count(problem); ++index) {
        const NormGroup group(problem, index);
        const double rstd = group.rstd();
        store(rstd_out, rstd, group.rounding * rstd, index);
        for (int64_t i = 0; i < group.group; ++i) {
            const double scaled = group.h(i) * rstd * group.w(i), gate = group.gate_last(i);
            const double value = (scaled + group.b(i)) * gate;
            store(residual_out, group.in(i), group.unit * std::abs(group.in(i)), group.at(i));
            store(y, value, group.rounding * std::abs(scaled * gate) + 16 * group.unit * std::abs(value), group.at(i));
        }
    }
    return result;
}

Reference rms_norm_backward(const Problem& problem) {
    Reference result;
    const Tensor& grad_y = problem.inputs.at("grad_y");
    const Tensor *given = find(problem.inputs, "rstd"), *further = find(problem.inputs, "grad_residual_out");
    Expected* grad_x = prepare(result, problem, "grad_x");
    Expected* grad_residual = prepare(result, problem, "grad_residual");
    Expected* grad_z = prepare(result, problem, "grad_z");
    Expected* grad_weight = prepare(result, problem, "grad_weight");
    Expected* grad_bias = prepare(result, problem, "grad_bias");
    const int64_t width = problem.inputs.at("x").shape.back();
    std::vector<double> weights(width), weight_limits(width), biases(width), bias_limits(width);
    const int64_t count = NormGroup::count(problem);
    for (int64_t index = 0; index < count; ++index) {
        const NormGroup group(problem, index);
        const double rstd = given ? given->values[index].real() : group.rstd();
        double mean = 0, magnitude = 0;
        for (int64_t i = 0; i < group.group; ++i) {
            const double term = grad_y.values[group.at(i)].real() * group.gate_last(i) * group.w(i) * group.h(i) * rstd;
            mean += term / static_cast<double>(group.group);
            magnitude += std::abs(term) / static_cast<double>(group.group);
        }
        const double sum_rounding = group.rounding + 4 * group.unit * std::sqrt(static_cast<double>(count));
        for (int64_t i = 0; i < group.group; ++i) {
            const double from = grad_y.values[group.at(i)].real(), g = from * group.gate_last(i), n = group.h(i) * rstd;
            const double grad_h = rstd * (g * group.w(i) - n * mean);
            const double limit = 2 * group.rounding * rstd * (std::abs(g * group.w(i)) + std::abs(n) * magnitude);
            const bool gate_first = group.z && !problem.norm_before_gate;
            const double gate = gate_first ? group.gate(i) : 1;
            const double more = further ? further->values[group.at(i)].real() : 0;
            const double value = grad_h * gate + more,
                         value_limit = limit * std::abs(gate) + 8 * group.unit * std::abs(value);
            store(grad_x, value, value_limit, group.at(i));
            store(grad_residual, value, value_limit, group.at(i));
            if (group.z) {
                const double before = gate_first ? grad_h * group.in(i) : from * (n * group.w(i) + group.b(i));
                const double before_limit =
                    gate_first ? limit * std::abs(group.in(i))
                               : group.rounding * std::abs(from) * (std::abs(n * group.w(i)) + std::abs(group.b(i)));
                store(grad_z, before * group.slope(i),
                      before_limit * std::abs(group.slope(i)) + 16 * group.unit * std::abs(before), group.at(i));
            }
            const int64_t column = group.begin + i;
            weights[column] += g * n;
            weight_limits[column] += sum_rounding * std::abs(g * n);
            biases[column] += g;
            bias_limits[column] += sum_rounding * std::abs(g);
        }
    }
    for (int64_t column = 0; column < width; ++column) {
        store(grad_weight, weights[column], weight_limits[column], column);
        store(grad_bias, biases[column], bias_limits[column], column);
    }
    return result;
}

} // namespace

Reference reference(const Problem& problem) {
    const bool knows_padding = problem.operation != Operation::ssd && problem.operation != Operation::ssd_backward;
    if (knows_padding && problem.inputs.count("seq_idx"))
        return reference_of_rows(problem);
    switch (problem.operation) {
    case Operation::associative_scan:
        return associative_scan(problem);
    case Operation::linear_recurrence:
        return linear_recurrence(problem);
    case Operation::linear_recurrence_backward:
        return linear_recurrence_backward(problem);
    case Operation::selective_scan:
        return selective_scan(problem);
    case Operation::causal_conv:
        return causal_conv(problem);
    case Operation::causal_conv_backward:
        return causal_conv_backward(problem);
    case Operation::causal_conv1d:
        return causal_conv1d(problem);
    case Operation::causal_conv1d_backward:
        return causal_conv1d_backward(problem);
    case Operation::selective_scan_backward:
        return selective_scan_backward(problem);
    case Operation::ssd:
        return ssd(problem);
    case Operation::ssd_backward:
        return ssd_backward(problem);
    case Operation::mamba3:
        return mamba3(problem);
    case Operation::mamba3_backward:
        return mamba3_backward(problem);
    case Operation::causal_conv_plan:
        throw std::logic_error("a plan's numbers lie in the device's own order: they are known by what they do");
    case Operation::mamba3_update:
        return mamba3_update(problem);
    case Operation::causal_conv1d_update:
        return causal_conv1d_update(problem);
    case Operation::selective_state_update:
        return state_update_reference(problem);
    case Operation::rms_norm:
    case Operation::gated_rms_norm:
        return rms_norm(problem);
    case Operation::rms_norm_backward:
    case Operation::gated_rms_norm_backward:
        return rms_norm_backward(problem);
    case Operation::hippo_project:
    case Operation::dense_kernel:
    case Operation::dense_ssm:
    case Operation::dplr_ssm:
    case Operation::dplr_kernel:
    case Operation::dplr_kernel_backward:
        return state_space_reference(problem);
    default:
        return pole_reference(problem);
    }
}

// ---- Comparisons -------------------------------------------------------------------------------------------------------

namespace {

std::string index_text(const Tensor& tensor, int64_t index) {
    std::vector<int64_t> indices(tensor.shape.size());
    for (size_t axis = tensor.shape.size(); axis-- > 0; index /= tensor.shape[axis])
        indices[axis] = index % tensor.shape[axis];
    std::ostringstream text;
    for (size_t axis = 0; axis < indices.size(); ++axis)
        text << (axis ? "," : "(") << indices[axis];
    text << ")";
    return text.str();
}

bool is_finite(Number value) {
    return std::isfinite(value.real()) && std::isfinite(value.imag());
}

// Zero where the value is right, otherwise by how many limits it is off (infinite where it is not even comparable).
double excess(Type type, Number value, Number expected, double limit) {
    const double infinity = std::numeric_limits<double>::infinity();
    if (!is_finite(expected)) {
        if (is_complex(type)) // complex products spread infinities and NaN in more than one legal way
            return is_finite(value) ? infinity : 0;
        const bool same = std::isnan(expected.real()) ? std::isnan(value.real()) : value.real() == expected.real();
        return same ? 0 : infinity;
    }
    // Beyond the largest number of the type a finite result is stored as infinity.
    if (!is_complex(type) && std::abs(expected) + limit > largest(type) && std::isinf(value.real()) &&
        std::signbit(value.real()) == std::signbit(expected.real()))
        return 0;
    const double error = std::abs(value - expected);
    if (error == 0)
        return 0;
    return std::isfinite(error) && limit > 0 ? error / limit : infinity;
}

void expect_within(const std::string& name, const Tensor& value, const Tensor& expected, const std::vector<double>& limit,
                   double scale, const std::string& context) {
    ASSERT_EQ(value.shape, expected.shape) << name << " of " << context;
    int64_t wrong = 0, first = -1, worst = -1;
    double worst_excess = 0;
    for (int64_t i = 0; i < value.size(); ++i) {
        const double off = excess(value.type, value.values[i], expected.values[i], limit[i] * scale);
        if (off > 1) {
            ++wrong;
            if (first < 0)
                first = i;
            if (off > worst_excess) {
                worst_excess = off;
                worst = i;
            }
        }
    }
    if (wrong)
        ADD_FAILURE() << name << " of " << context << ": " << wrong << " of " << value.size()
                      << " elements are beyond their limits; the first at " << index_text(value, first) << ": "
                      << value.values[first] << ", expected " << expected.values[first] << " within " << limit[first] * scale
                      << "; the worst at " << index_text(value, worst) << ": " << value.values[worst] << ", expected "
                      << expected.values[worst] << " within " << limit[worst] * scale;
}

} // namespace

void expect_near(const Outputs& outputs, const Reference& expected, const std::string& context) {
    ASSERT_EQ(outputs.size(), expected.size()) << context;
    for (const auto& [name, value] : outputs)
        expect_within(name, value, expected.at(name).value, expected.at(name).limit, 1, context);
}

void expect_agree(const Outputs& first, const Outputs& second, const Reference& limits, const std::string& context) {
    ASSERT_EQ(first.size(), second.size()) << context;
    for (const auto& [name, value] : first)
        expect_within(name, value, second.at(name), limits.at(name).limit, 2, context);
}

void expect_identical(const Outputs& first, const Outputs& second, const std::string& context) {
    ASSERT_EQ(first.size(), second.size()) << context;
    for (const auto& [name, value] : first) {
        const Tensor& other = second.at(name);
        ASSERT_EQ(value.shape, other.shape) << name << " of " << context;
        for (int64_t i = 0; i < value.size(); ++i)
            if (std::memcmp(&value.values[i], &other.values[i], sizeof(Number)) != 0) {
                ADD_FAILURE() << name << " of " << context << " differs at " << index_text(value, i) << ": "
                              << value.values[i] << " and " << other.values[i];
                break;
            }
    }
}

} // namespace ssm::test
