// Plain loops in long double. Limits are roundings of the type times the sum of the magnitudes of what is added up; where
// an algorithm carries a state, what it rounds decays as the state does.
#include "support/s4.h"

#include <cmath>

namespace ssm::test {
namespace {

using Real = long double;
using Exact = std::complex<long double>;

Exact exact(Number value) {
    return {value.real(), value.imag()};
}
Number number(Exact value) {
    return {static_cast<double>(value.real()), static_cast<double>(value.imag())};
}
double size_of(Exact value) {
    return static_cast<double>(std::abs(value));
}

const Tensor* find(const Problem& problem, const char* name) {
    const auto found = problem.inputs.find(name);
    return found == problem.inputs.end() ? nullptr : &found->second;
}

class Answers {
  public:
    explicit Answers(const Problem& problem) {
        for (const auto& [name, tensor] : problem.outputs) {
            result[name].value = tensor;
            result[name].limit.assign(tensor.values.size(), 0.0);
        }
    }
    void give(const char* name, int64_t index, Exact value, double limit) {
        const auto found = result.find(name);
        if (found == result.end())
            return;
        const Type type = found->second.value.type;
        found->second.value.values[static_cast<size_t>(index)] =
            is_complex(type) ? number(value) : Number(static_cast<double>(value.real()), 0);
        found->second.limit[static_cast<size_t>(index)] = limit + 64 * underflow(type);
    }
    Reference result;
};

// ---- Discretizations, by their definitions

struct Rule {
    int32_t kind;
    Real alpha;

    explicit Rule(const Problem& problem) : kind(problem.discretization), alpha(problem.alpha) {
        if (kind == SSM_DISCRETIZATION_BILINEAR)
            alpha = 0.5L;
        if (kind == SSM_DISCRETIZATION_BACKWARD_EULER)
            alpha = 1;
    }
    bool is_exponential() const {
        return kind == SSM_DISCRETIZATION_ZOH || kind == SSM_DISCRETIZATION_DIRAC || kind == SSM_DISCRETIZATION_ASYNC;
    }
    Exact state(Exact a, Real dt, Real interval = 1) const {
        const Exact s = dt * interval * a;
        return is_exponential() ? std::exp(s) : (Exact(1) + (1 - alpha) * s) / (Exact(1) - alpha * s);
    }
    Exact input(Exact a, Real dt, Real interval = 1) const {
        if (kind == SSM_DISCRETIZATION_DIRAC)
            return 1;
        const Real time = kind == SSM_DISCRETIZATION_ASYNC ? dt : dt * interval;
        if (!is_exponential())
            return time / (Exact(1) - alpha * time * a);
        const Exact s = time * a;
        if (std::abs(s) > 1e-3L)
            return (std::exp(s) - Exact(1)) / a;
        Exact sum = 0, term = time;
        for (int k = 2; k < 12; ++k) {
            sum += term;
            term *= s / Real(k);
        }
        return sum;
    }
    // What the input factor is made of without cancellation: (exp(s) - 1) / a is small where s is near a multiple of 2 pi i.
    double input_size(Exact a, Real dt, Real interval = 1) const {
        const double size = size_of(input(a, dt, interval));
        const Exact s = dt * (kind == SSM_DISCRETIZATION_ASYNC ? Real(1) : interval) * a;
        if (!is_exponential() || kind == SSM_DISCRETIZATION_DIRAC || std::abs(s) < 0.1L)
            return size;
        return std::max(size, static_cast<double>((1 + std::abs(std::exp(s))) / std::abs(a)));
    }
    // By central differences: a definition to hold derivatives to, right to 1e-11.
    template <class F>
    static Exact slope(const F& f, Real size) {
        const Real h = 1e-5L * size;
        return (Real(8) * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h);
    }
};
constexpr double slope_error = 1e-10;

// Roundings of a kernel's tables and sums, in units of the type.
double roundings(Type type, int64_t terms) {
    const bool is_double = type == Type::complex128 || type == Type::float64;
    return (is_double ? 200 : 60) + 4 * std::sqrt(static_cast<double>(terms));
}

// ---- Sums over poles

Reference cauchy(const Problem& problem) {
    Answers answers(problem);
    const Tensor &v = problem.inputs.at("v"), &w = problem.inputs.at("w"), &z = problem.inputs.at("z");
    const int64_t rows = v.shape[0], states = v.shape[1], length = z.shape[0];
    const double unit = roundoff(problem.type);
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t l = 0; l < length; ++l) {
            Exact sum = 0;
            double size = 0;
            for (int64_t n = 0; n < states; ++n)
                for (const bool other : {false, true}) {
                    if (other && !problem.conjugate_pairs)
                        continue;
                    const Exact own_v = exact(v.at(row, n)), own_w = exact(w.at(row, n));
                    const Exact term =
                        (other ? std::conj(own_v) : own_v) / (exact(z.at(l)) - (other ? std::conj(own_w) : own_w));
                    sum += term;
                    size += size_of(term);
                }
            answers.give("y", row * length + l, sum, (20 + 2 * std::sqrt(static_cast<double>(states))) * unit * size);
        }
    return answers.result;
}

Reference cauchy_backward(const Problem& problem) {
    Answers answers(problem);
    const Tensor &v = problem.inputs.at("v"), &w = problem.inputs.at("w"), &z = problem.inputs.at("z");
    const Tensor& grad_y = problem.inputs.at("grad_y");
    const int64_t rows = v.shape[0], states = v.shape[1], length = z.shape[0];
    const double unit = roundoff(problem.type) * (24 + 2 * std::sqrt(static_cast<double>(length)));
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t n = 0; n < states; ++n) {
            Exact plain = 0, square = 0;
            double plain_size = 0, square_size = 0;
            for (int64_t l = 0; l < length; ++l) {
                const Exact g = exact(grad_y.at(row, l));
                const Exact q = Real(1) / (exact(z.at(l)) - exact(w.at(row, n)));
                plain += g * std::conj(q);
                square += g * std::conj(q * q);
                plain_size += size_of(g * q);
                square_size += size_of(g * q * q);
                if (problem.conjugate_pairs) {
                    const Exact other = Real(1) / (exact(z.at(l)) - std::conj(exact(w.at(row, n))));
                    plain += std::conj(g) * other;
                    square += std::conj(g) * other * other;
                    plain_size += size_of(g * other);
                    square_size += size_of(g * other * other);
                }
            }
            const Exact own_v = exact(v.at(row, n));
            answers.give("grad_v", row * states + n, plain, unit * plain_size);
            answers.give("grad_w", row * states + n, std::conj(own_v) * square, unit * size_of(own_v) * square_size);
        }
    return answers.result;
}

Reference vandermonde(const Problem& problem) {
    Answers answers(problem);
    const Tensor &v = problem.inputs.at("v"), &x = problem.inputs.at("x"), &y = problem.outputs.at("y");
    const int64_t rows = v.shape[0], states = v.shape[1], length = y.shape[1];
    const double unit = roundoff(problem.type) * roundings(problem.type, states);
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t l = 0; l < length; ++l) {
            Exact sum = 0;
            double size = 0;
            for (int64_t n = 0; n < states; ++n) {
                const Exact term = exact(v.at(row, n)) * std::exp(static_cast<Real>(l) * exact(x.at(row, n)));
                sum += problem.conjugate_pairs ? Exact(2 * term.real()) : term;
                size += 2 * size_of(term);
            }
            answers.give("y", row * length + l, sum, unit * size);
        }
    return answers.result;
}

Reference vandermonde_backward(const Problem& problem) {
    Answers answers(problem);
    const Tensor &v = problem.inputs.at("v"), &x = problem.inputs.at("x"), &grad_y = problem.inputs.at("grad_y");
    const int64_t rows = v.shape[0], states = v.shape[1], length = grad_y.shape[1];
    const double unit = roundoff(problem.type) * roundings(problem.type, length);
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t n = 0; n < states; ++n) {
            Exact plain = 0, weighted = 0;
            double plain_size = 0, weighted_size = 0;
            for (int64_t l = 0; l < length; ++l) {
                const Exact term =
                    exact(grad_y.at(row, l)) * std::conj(std::exp(static_cast<Real>(l) * exact(x.at(row, n))));
                plain += term;
                weighted += static_cast<Real>(l) * term;
                plain_size += size_of(term);
                weighted_size += static_cast<double>(l) * size_of(term);
            }
            const Real scale = problem.conjugate_pairs ? 2 : 1;
            const Exact own_v = exact(v.at(row, n));
            answers.give("grad_v", row * states + n, scale * plain, 2 * unit * plain_size);
            answers.give("grad_x", row * states + n, scale * std::conj(own_v) * weighted,
                         2 * unit * size_of(own_v) * weighted_size);
        }
    return answers.result;
}

// ---- Diagonal systems

Reference discretize(const Problem& problem) {
    Answers answers(problem);
    const Rule rule(problem);
    const Tensor &a = problem.inputs.at("a"), &dt = problem.inputs.at("dt");
    const Tensor *b = find(problem, "b"), *interval = find(problem, "interval");
    for (int64_t row = 0; row < a.shape[0]; ++row)
        for (int64_t n = 0; n < a.shape[1]; ++n) {
            const Real step = dt.at(row).real(), time = interval ? interval->at(row).real() : 1;
            const Exact own = exact(a.at(row, n)), a_bar = rule.state(own, step, time), input = rule.input(own, step, time);
            const double unit = roundoff(problem.type) + 4e-16 * (2 + 4 * size_of(step * time * own));
            answers.give("a_bar", row * a.shape[1] + n, a_bar, 4 * unit * size_of(a_bar));
            if (b) {
                const Exact own_b = exact(b->at(row, n));
                answers.give("b_bar", row * a.shape[1] + n, own_b * input,
                             4 * unit * size_of(own_b) * rule.input_size(own, step, time));
            }
        }
    return answers.result;
}

// One state of a kernel, e_l = input a_bar^l, divided by the sum of the powers where asked; and its derivatives.
class Powers {
  public:
    Powers(const Rule& rule, bool softmax, int64_t length, Exact a, Real dt) : length(length) {
        state = rule.state(a, dt);
        input = rule.input(a, dt);
        if (softmax)
            sum = sum_of_powers(state);
        state_by_a = Rule::slope([&](Real h) { return rule.state(a + h, dt); }, 1);
        input_by_a = Rule::slope([&](Real h) { return rule.input(a + h, dt); }, 1);
        state_by_dt = Rule::slope([&](Real h) { return rule.state(a, dt + h); }, dt);
        input_by_dt = Rule::slope([&](Real h) { return rule.input(a, dt + h); }, dt);
        if (softmax) {
            sum_by_a = Rule::slope([&](Real h) { return sum_of_powers(rule.state(a + h, dt)); }, 1);
            sum_by_dt = Rule::slope([&](Real h) { return sum_of_powers(rule.state(a, dt + h)); }, dt);
        }
    }
    Exact value() const { return input * power / sum; }
    Exact by_a() const { return slope(state_by_a, input_by_a, sum_by_a); }
    Exact by_dt() const { return slope(state_by_dt, input_by_dt, sum_by_dt); }
    void advance() {
        ++l;
        before = power;
        power *= state;
    }

  private:
    int64_t length, l = 0;
    Exact state, input, sum = 1, state_by_a, input_by_a, state_by_dt, input_by_dt, sum_by_a = 0, sum_by_dt = 0;
    Exact power = 1, before = 0;

    Exact slope(Exact by_state, Exact by_input, Exact by_sum) const {
        return (by_input * power + input * (static_cast<Real>(l) * before * by_state - power * by_sum / sum)) / sum;
    }
    Exact sum_of_powers(Exact a_bar) const {
        if (std::abs(a_bar - Exact(1)) > 1e-3L)
            return (std::pow(a_bar, static_cast<int>(length)) - Exact(1)) / (a_bar - Exact(1));
        Exact total = 0, each = 1;
        for (int64_t k = 0; k < length; ++k, each *= a_bar)
            total += each;
        return total;
    }
};

double kernel_unit(const Problem& problem, int64_t terms, Real phase) {
    return roundoff(problem.type) * roundings(problem.type, terms) + 8 * 1.2e-16 * static_cast<double>(phase);
}

Reference kernel(const Problem& problem) {
    Answers answers(problem);
    const Rule rule(problem);
    const Tensor &a = problem.inputs.at("a"), &b = problem.inputs.at("b"), &c = problem.inputs.at("c");
    const Tensor &dt = problem.inputs.at("dt"), &k = problem.outputs.at("k");
    const int64_t states = a.shape[1], length = k.shape[1];
    for (int64_t row = 0; row < a.shape[0]; ++row) {
        std::vector<Real> sums(static_cast<size_t>(length));
        std::vector<double> limits(static_cast<size_t>(length));
        for (int64_t n = 0; n < states; ++n) {
            const Real step = dt.at(row).real();
            const Exact own = exact(a.at(row, n)), factor = exact(c.at(row, n)) * exact(b.at(row, n));
            Powers powers(rule, problem.softmax, length, own, step);
            for (int64_t l = 0; l < length; ++l, powers.advance()) {
                const Exact term = factor * powers.value();
                sums[static_cast<size_t>(l)] += 2 * term.real();
                limits[static_cast<size_t>(l)] +=
                    2 * size_of(term) *
                    kernel_unit(problem, states, static_cast<Real>(problem.softmax ? length : l) * step * std::abs(own));
            }
        }
        for (int64_t l = 0; l < length; ++l)
            answers.give("k", row * length + l, sums[static_cast<size_t>(l)], limits[static_cast<size_t>(l)]);
    }
    return answers.result;
}

Reference kernel_backward(const Problem& problem) {
    Answers answers(problem);
    const Rule rule(problem);
    const Tensor &a = problem.inputs.at("a"), &b = problem.inputs.at("b"), &c = problem.inputs.at("c");
    const Tensor &dt = problem.inputs.at("dt"), &grad_k = problem.inputs.at("grad_k");
    const int64_t states = a.shape[1], length = grad_k.shape[1];
    for (int64_t row = 0; row < a.shape[0]; ++row) {
        Real grad_dt = 0;
        double dt_limit = 0;
        for (int64_t n = 0; n < states; ++n) {
            const Real step = dt.at(row).real();
            const Exact own = exact(a.at(row, n)), own_b = exact(b.at(row, n)), own_c = exact(c.at(row, n));
            const double unit =
                kernel_unit(problem, length, static_cast<Real>(length) * step * std::abs(own)) + 4 * slope_error;
            Powers powers(rule, problem.softmax, length, own, step);
            Exact of_a = 0, of_e = 0;
            Real of_dt = 0;
            double a_size = 0, e_size = 0, d_size = 0;
            for (int64_t l = 0; l < length; ++l, powers.advance()) {
                const Real g = grad_k.at(row, l).real();
                of_e += 2 * g * std::conj(powers.value());
                of_a += 2 * g * std::conj(own_c * own_b * powers.by_a());
                of_dt += 2 * g * (own_c * own_b * powers.by_dt()).real();
                // What the sum over l loses where its terms cancel: each of the factors by itself.
                const double size = 2 * static_cast<double>(std::abs(g)) * size_of(powers.value());
                const double long_ago = static_cast<double>(l) + (problem.softmax ? static_cast<double>(length) : 0);
                e_size += size;
                a_size += size * size_of(own_c * own_b) * static_cast<double>(step) * (2 + long_ago);
                d_size += size * size_of(own_c * own_b) * ((2 + long_ago) * size_of(own) + 1 / static_cast<double>(step));
            }
            const int64_t index = row * states + n;
            const bool is_stiff = !rule.is_exponential(); // slopes of the logarithm of a_bar
            answers.give("grad_a", index, of_a, (is_stiff ? 4 : 2) * unit * a_size);
            answers.give("grad_b", index, std::conj(own_c) * of_e, unit * size_of(own_c) * e_size);
            answers.give("grad_c", index, std::conj(own_b) * of_e, unit * size_of(own_b) * e_size);
            grad_dt += of_dt;
            dt_limit += (is_stiff ? 4 : 2) * unit * d_size;
        }
        answers.give("grad_dt", row, grad_dt, dt_limit);
    }
    return answers.result;
}

// ---- Recurrences

struct Segment {
    int64_t batch, row, begin, end;
};
std::vector<Segment> segments_of(const Problem& problem, int64_t batch, int64_t length) {
    std::vector<Segment> segments;
    const std::vector<int64_t> bounds = problem.cu_seqlens();
    for (int64_t row = 0; bounds.empty() && row < batch; ++row)
        segments.push_back({row, row, 0, length});
    for (size_t s = 0; s + 1 < bounds.size(); ++s)
        segments.push_back({0, static_cast<int64_t>(s), bounds[s], bounds[s + 1]});
    return segments;
}

// A number and what it may be off by.
struct Bounded {
    Exact value = 0;
    double limit = 0;
};

Reference recurrence(const Problem& problem) {
    Answers answers(problem);
    const Rule rule(problem);
    const Tensor &a = problem.inputs.at("a"), &b = problem.inputs.at("b"), &c = problem.inputs.at("c");
    const Tensor &dt = problem.inputs.at("dt"), &u = problem.inputs.at("u");
    const Tensor *d = find(problem, "d"), *initial = find(problem, "initial_state");
    const int64_t heads = a.shape[0], states = a.shape[1], length = u.shape[2];
    const double unit = roundoff(problem.type);
    for (const Segment& segment : segments_of(problem, u.shape[0], length))
        for (int64_t head = 0; head < heads; ++head) {
            std::vector<Exact> y(static_cast<size_t>(length));
            std::vector<double> limits(static_cast<size_t>(length));
            for (int64_t n = 0; n < states; ++n) {
                const Exact own = exact(a.at(head, n)), own_c = exact(c.at(head, n));
                const Real step = dt.at(head).real();
                const Exact a_bar = rule.state(own, step), b_bar = exact(b.at(head, n)) * rule.input(own, step);
                Bounded x;
                double magnitude = 0; // of the state without cancellation
                if (initial) {
                    x.value = exact(initial->at(segment.row, head, n));
                    magnitude = size_of(x.value);
                }
                for (int64_t t = segment.begin; t < segment.end; ++t) {
                    const Real input = u.at(segment.batch, head, t).real();
                    x.value = a_bar * x.value + b_bar * input;
                    magnitude = size_of(a_bar) * magnitude + size_of(b_bar * input);
                    x.limit = size_of(a_bar) * x.limit + 6 * unit * magnitude;
                    y[static_cast<size_t>(t)] += 2 * (own_c * x.value).real();
                    limits[static_cast<size_t>(t)] +=
                        2 * size_of(own_c) *
                        (x.limit + (80 + 2 * std::sqrt(static_cast<double>(states))) * unit * magnitude);
                }
                answers.give("last_state", (segment.row * heads + head) * states + n, x.value,
                             x.limit + 80 * unit * magnitude);
            }
            for (int64_t t = segment.begin; t < segment.end; ++t) {
                const Real skip = (d ? d->at(head).real() : 0) * u.at(segment.batch, head, t).real();
                answers.give("y", (segment.batch * heads + head) * length + t, y[static_cast<size_t>(t)] + skip,
                             limits[static_cast<size_t>(t)] + 8 * unit * static_cast<double>(std::abs(skip)));
            }
        }
    return answers.result;
}

Reference recurrence_backward(const Problem& problem) {
    Answers answers(problem);
    const Rule rule(problem);
    const Tensor &a = problem.inputs.at("a"), &b = problem.inputs.at("b"), &c = problem.inputs.at("c");
    const Tensor &dt = problem.inputs.at("dt"), &u = problem.inputs.at("u"), &grad_y = problem.inputs.at("grad_y");
    const Tensor *d = find(problem, "d"), *initial = find(problem, "initial_state"),
                 *grad_last = find(problem, "grad_last_state");
    const int64_t heads = a.shape[0], states = a.shape[1], length = u.shape[2];
    const double unit = roundoff(problem.type);
    const std::vector<Segment> segments = segments_of(problem, u.shape[0], length);
    for (int64_t head = 0; head < heads; ++head) {
        std::vector<Bounded> grad_u(static_cast<size_t>(u.shape[0] * length));
        Bounded of_d, of_dt;
        for (int64_t n = 0; n < states; ++n) {
            const Exact own = exact(a.at(head, n)), own_b = exact(b.at(head, n)), own_c = exact(c.at(head, n));
            const Real step = dt.at(head).real();
            const Exact a_bar = rule.state(own, step), input = rule.input(own, step), b_bar = own_b * input;
            Bounded of_a, of_b, of_c;
            for (const Segment& segment : segments) {
                // States before each step and their magnitudes, then g back through them.
                std::vector<Bounded> x(1);
                std::vector<double> magnitudes(1);
                if (initial) {
                    x[0].value = exact(initial->at(segment.row, head, n));
                    magnitudes[0] = size_of(x[0].value);
                }
                for (int64_t t = segment.begin; t < segment.end; ++t) {
                    const Real in = u.at(segment.batch, head, t).real();
                    const double magnitude = size_of(a_bar) * magnitudes.back() + size_of(b_bar * in);
                    Bounded next;
                    next.value = a_bar * x.back().value + b_bar * in;
                    next.limit = size_of(a_bar) * x.back().limit + 6 * unit * magnitude;
                    x.push_back(next);
                    magnitudes.push_back(magnitude);
                }
                Bounded g;
                double g_magnitude = 0;
                if (grad_last) {
                    g.value = exact(grad_last->at(segment.row, head, n));
                    g_magnitude = size_of(g.value);
                }
                for (int64_t t = segment.end - 1; t >= segment.begin; --t) {
                    const size_t i = static_cast<size_t>(t - segment.begin);
                    const Real in = u.at(segment.batch, head, t).real(), out = grad_y.at(segment.batch, head, t).real();
                    g.value += Real(2) * std::conj(own_c) * out;
                    g_magnitude += size_of(Real(2) * own_c * out);
                    g.limit += 6 * unit * g_magnitude;
                    const double g_limit = g.limit + 80 * unit * g_magnitude;
                    const double x_limit = x[i].limit + 80 * unit * magnitudes[i];
                    const double now_limit = x[i + 1].limit + 80 * unit * magnitudes[i + 1];
                    of_a.value += g.value * std::conj(x[i].value);
                    of_a.limit += g_magnitude * x_limit + g_limit * magnitudes[i];
                    of_b.value += g.value * in;
                    of_b.limit += g_limit * static_cast<double>(std::abs(in));
                    of_c.value += Real(2) * out * std::conj(x[i + 1].value);
                    of_c.limit += 2 * static_cast<double>(std::abs(out)) * now_limit;
                    Bounded& into = grad_u[static_cast<size_t>(segment.batch * length + t)];
                    into.value += (std::conj(b_bar) * g.value).real();
                    into.limit += size_of(b_bar) * g_limit;
                    g.value *= std::conj(a_bar);
                    g_magnitude *= size_of(a_bar);
                    g.limit = size_of(a_bar) * g.limit + 6 * unit * g_magnitude;
                }
                answers.give("grad_initial_state", (segment.row * heads + head) * states + n, g.value,
                             g.limit + 80 * unit * g_magnitude);
            }
            const Exact state_by_a = Rule::slope([&](Real h) { return rule.state(own + h, step); }, 1);
            const Exact state_by_dt = Rule::slope([&](Real h) { return rule.state(own, step + h); }, step);
            const Exact input_by_a = Rule::slope([&](Real h) { return rule.input(own + h, step); }, 1);
            const Exact input_by_dt = Rule::slope([&](Real h) { return rule.input(own, step + h); }, step);
            const auto chain = [&](Exact by_state, Exact by_input) {
                Bounded result;
                const Exact first = std::conj(by_state) * of_a.value, second = std::conj(by_input * own_b) * of_b.value;
                result.value = first + second;
                result.limit = size_of(by_state) * of_a.limit + size_of(by_input * own_b) * of_b.limit +
                               (8 * unit + 4 * slope_error) * (size_of(first) + size_of(second));
                return result;
            };
            const Bounded grad_a = chain(state_by_a, input_by_a), grad_dt = chain(state_by_dt, input_by_dt);
            of_dt.value += grad_dt.value.real();
            of_dt.limit += grad_dt.limit;
            const int64_t index = head * states + n;
            answers.give("grad_a", index, grad_a.value, grad_a.limit);
            answers.give("grad_b", index, std::conj(input) * of_b.value, size_of(input) * of_b.limit);
            answers.give("grad_c", index, of_c.value, of_c.limit);
        }
        double d_size = 0;
        for (const Segment& segment : segments)
            for (int64_t t = segment.begin; t < segment.end; ++t) {
                const Real out = grad_y.at(segment.batch, head, t).real();
                const Real product = out * u.at(segment.batch, head, t).real();
                of_d.value += product;
                d_size += static_cast<double>(std::abs(product));
                Bounded& into = grad_u[static_cast<size_t>(segment.batch * length + t)];
                const Real skip = (d ? d->at(head).real() : 0) * out;
                answers.give("grad_u", (segment.batch * heads + head) * length + t, into.value + skip,
                             into.limit + 8 * unit * static_cast<double>(std::abs(skip)));
            }
        answers.give("grad_d", head, of_d.value, unit * (8 + 2 * std::sqrt(static_cast<double>(length))) * d_size);
        answers.give("grad_dt", head, of_dt.value, of_dt.limit);
    }
    return answers.result;
}

Reference scan(const Problem& problem) {
    Answers answers(problem);
    const Rule rule(problem);
    const Tensor &a = problem.inputs.at("a"), &dt = problem.inputs.at("dt"), &bu = problem.inputs.at("bu");
    const Tensor *interval = find(problem, "interval"), *initial = find(problem, "initial_state");
    const int64_t states = a.shape[0], length = bu.shape[2];
    const double unit = roundoff(problem.type);
    for (const bool other : {false, true})
        for (const Segment& segment : segments_of(problem, bu.shape[0], length))
            for (int64_t n = 0; n < states; ++n) {
                const bool reverse = problem.reverse != other;
                const Real step = dt.at(n).real();
                const Exact own = exact(a.at(n));
                Real time = 1;
                Exact a_bar, f;
                Bounded x;
                double magnitude = 0, f_size = 0;
                if (initial && !other) {
                    x.value = exact(initial->at(segment.row, n));
                    magnitude = size_of(x.value);
                }
                for (int64_t i = segment.begin; i < segment.end; ++i) {
                    const int64_t t = reverse ? segment.begin + segment.end - 1 - i : i;
                    if (interval || i == segment.begin) {
                        time = interval ? interval->at(segment.batch, t).real() : 1;
                        a_bar = rule.state(own, step, time);
                        f = rule.input(own, step, time);
                        f_size = rule.input_size(own, step, time);
                    }
                    const Exact own_bu = exact(bu.at(segment.batch, n, t)), input = f * own_bu;
                    x.value = a_bar * x.value + input;
                    magnitude = size_of(a_bar) * magnitude + f_size * size_of(own_bu);
                    x.limit = size_of(a_bar) * x.limit + (24 + 4 * size_of(step * time * own)) * unit * magnitude;
                    answers.give(other ? "x_reverse" : "x", (segment.batch * states + n) * length + t, x.value,
                                 x.limit + 16 * unit * magnitude);
                }
                if (!other)
                    answers.give("last_state", segment.row * states + n, x.value, x.limit + 16 * unit * magnitude);
            }
    return answers.result;
}

} // namespace

Reference pole_reference(const Problem& problem) {
    switch (problem.operation) {
    case Operation::cauchy_multiply:
        return cauchy(problem);
    case Operation::cauchy_multiply_backward:
        return cauchy_backward(problem);
    case Operation::vandermonde_multiply:
        return vandermonde(problem);
    case Operation::vandermonde_multiply_backward:
        return vandermonde_backward(problem);
    case Operation::discretize_diagonal:
        return discretize(problem);
    case Operation::diagonal_kernel:
        return kernel(problem);
    case Operation::diagonal_kernel_backward:
        return kernel_backward(problem);
    case Operation::diagonal_ssm:
        return recurrence(problem);
    case Operation::diagonal_ssm_backward:
        return recurrence_backward(problem);
    default:
        return scan(problem);
    }
}

} // namespace ssm::test
