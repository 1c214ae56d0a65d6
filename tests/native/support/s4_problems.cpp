#include "support/s4.h"

#include <cmath>

namespace ssm::test {
namespace {

constexpr double pi = 3.14159265358979323846;

Tensor spread(Type type, std::vector<int64_t> shape, double least, double most, Random& random) {
    return uniform(type, std::move(shape), least, most, random);
}

// Eigenvalues (H,N): real parts from -0.5 to near 0, imaginary ones as S4D-Lin's; the first one of a row is exactly 0.
Tensor eigenvalues(Type type, int64_t rows, int64_t states, Random& random, bool with_zero = true) {
    Tensor a(type, {rows, states});
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t n = 0; n < states; ++n) {
            const double re = -0.5 * std::pow(10.0, -static_cast<double>(n % 3)) * random.uniform(0.5, 1);
            const double im = pi * static_cast<double>(n % 20) * random.uniform(0.8, 1.2);
            a.at(row, n) = rounded(type, with_zero && n == 0 ? Number(0) : Number(re, is_complex(type) ? im : 0));
        }
    return a;
}
Tensor steps_of(Type type, int64_t rows, Random& random) {
    Tensor dt(type, {rows});
    for (Number& value : dt.values)
        value = rounded(type, std::pow(10.0, random.uniform(-2.5, -0.8)));
    return dt;
}

Problem of(Operation operation, const PoleSize& size) {
    Problem problem;
    problem.operation = operation;
    problem.type = size.type;
    return problem;
}

Tensor like_poles(const PoleSize& size, Random& random) {
    return spread(size.type, {size.rows, size.states}, -1, 1, random);
}

// All discretizations, one of them with every alpha of its own.
constexpr std::pair<ssm_discretization, double> rules[] = {
    {SSM_DISCRETIZATION_ZOH, 0},   {SSM_DISCRETIZATION_BILINEAR, 0},       {SSM_DISCRETIZATION_EULER, 0},
    {SSM_DISCRETIZATION_DIRAC, 0}, {SSM_DISCRETIZATION_BACKWARD_EULER, 0}, {SSM_DISCRETIZATION_GENERALIZED_BILINEAR, 0.7},
    {SSM_DISCRETIZATION_ASYNC, 0}};

// Euler's method is unstable for weakly damped oscillations; slow ones stay in range.
void slow_down(Problem& problem) {
    if (problem.discretization != SSM_DISCRETIZATION_EULER)
        return;
    for (Number& value : problem.inputs["a"].values)
        value = rounded(problem.inputs["a"].type, Number(value.real() - 0.5, value.imag() / 100));
}

} // namespace

Type real_of(Type type) {
    return type == Type::complex64 ? Type::float32 : type == Type::complex128 ? Type::float64 : type;
}

std::vector<Problem> cauchy_multiply_problems(const PoleSize& size) {
    Random random(size.seed);
    std::vector<Problem> result;
    for (const bool pairs : {false, true}) {
        Problem problem = of(Operation::cauchy_multiply, size);
        problem.conjugate_pairs = pairs;
        problem.inputs["v"] = like_poles(size, random);
        problem.inputs["w"] = eigenvalues(size.type, size.rows, size.states, random, false);
        // Nodes beside the imaginary axis, as the bilinear transform gives them, some of them hard by a pole.
        Tensor z(size.type, {size.length});
        for (int64_t l = 0; l < size.length; ++l) {
            const double angle = pi * (static_cast<double>(l) + 0.25) / (static_cast<double>(size.length) + 1);
            z.at(l) = rounded(size.type, Number(random.uniform(0, 0.01), 8 * std::tan(angle / 2)));
            if (l % 7 == 3 && size.rows * size.states > 0)
                z.at(l) = rounded(size.type, problem.inputs["w"].at(l % size.rows, l % size.states) +
                                                 Number(1e-3, random.uniform(-1e-3, 1e-3)));
        }
        problem.inputs["z"] = z;
        problem.outputs["y"] = Tensor(size.type, {size.rows, size.length});
        result.push_back(problem);
    }
    return result;
}

std::vector<Problem> cauchy_multiply_backward_problems(const PoleSize& size) {
    std::vector<Problem> result = cauchy_multiply_problems(size);
    Random random(size.seed + 1);
    for (Problem& problem : result) {
        problem.operation = Operation::cauchy_multiply_backward;
        problem.inputs["grad_y"] = spread(size.type, {size.rows, size.length}, -1, 1, random);
        problem.outputs = {{"grad_v", problem.inputs["v"]}, {"grad_w", problem.inputs["v"]}};
    }
    return result;
}

std::vector<Problem> vandermonde_multiply_problems(const PoleSize& size) {
    Random random(size.seed);
    std::vector<Problem> result;
    for (const bool pairs : {false, true}) {
        Problem problem = of(Operation::vandermonde_multiply, size);
        problem.conjugate_pairs = pairs;
        problem.inputs["v"] = like_poles(size, random);
        Tensor x(size.type, {size.rows, size.states});
        for (Number& value : x.values) // from steps to thousands of them, phases up to a turn in two steps
            value = rounded(size.type, Number(-std::pow(10.0, random.uniform(-4, 0)), random.uniform(-pi, pi)));
        problem.inputs["x"] = x;
        problem.outputs["y"] = Tensor(pairs ? real_of(size.type) : size.type, {size.rows, size.length});
        result.push_back(problem);
    }
    return result;
}

std::vector<Problem> vandermonde_multiply_backward_problems(const PoleSize& size) {
    std::vector<Problem> result = vandermonde_multiply_problems(size);
    Random random(size.seed + 1);
    for (Problem& problem : result) {
        problem.operation = Operation::vandermonde_multiply_backward;
        problem.inputs["grad_y"] = spread(problem.outputs["y"].type, {size.rows, size.length}, -1, 1, random);
        problem.outputs = {{"grad_v", problem.inputs["v"]}, {"grad_x", problem.inputs["v"]}};
    }
    return result;
}

std::vector<Problem> discretize_diagonal_problems(const PoleSize& size) {
    Random random(size.seed);
    std::vector<Problem> result;
    for (const auto& [rule, alpha] : rules)
        for (const bool with_interval : {false, true}) {
            Problem problem = of(Operation::discretize_diagonal, size);
            problem.discretization = rule;
            problem.alpha = alpha;
            problem.inputs["a"] = eigenvalues(size.type, size.rows, size.states, random);
            problem.inputs["b"] = like_poles(size, random);
            problem.inputs["dt"] = steps_of(real_of(size.type), size.rows, random);
            if (with_interval)
                problem.inputs["interval"] = spread(real_of(size.type), {size.rows}, 0.1, 3, random);
            problem.outputs = {{"a_bar", problem.inputs["b"]}, {"b_bar", problem.inputs["b"]}};
            result.push_back(problem);
        }
    return result;
}

std::vector<Problem> diagonal_kernel_problems(const PoleSize& size) {
    Random random(size.seed);
    std::vector<Problem> result;
    for (const bool softmax : {false, true})
        for (const auto& [rule, alpha] : rules) {
            if (softmax && rule != SSM_DISCRETIZATION_DIRAC && rule != SSM_DISCRETIZATION_BILINEAR)
                continue;
            Problem problem = of(Operation::diagonal_kernel, size);
            problem.discretization = rule;
            problem.alpha = alpha;
            problem.softmax = softmax;
            problem.inputs["a"] = eigenvalues(size.type, size.rows, size.states, random);
            problem.inputs["b"] = like_poles(size, random);
            problem.inputs["c"] = like_poles(size, random);
            problem.inputs["dt"] = steps_of(real_of(size.type), size.rows, random);
            slow_down(problem);
            if (softmax) // states that grow, and sums that are not near 0
                for (int64_t row = 0; row < size.rows; ++row)
                    for (int64_t n = 0; n < size.states; ++n) {
                        Number& a = problem.inputs["a"].at(row, n);
                        a = rounded(size.type, Number(n % 2 ? 0.3 : a.real() - 0.1, a.imag() / 3));
                    }
            problem.outputs["k"] = Tensor(real_of(size.type), {size.rows, size.length});
            result.push_back(problem);
        }
    return result;
}

std::vector<Problem> diagonal_kernel_backward_problems(const PoleSize& size) {
    std::vector<Problem> result = diagonal_kernel_problems(size);
    Random random(size.seed + 1);
    for (Problem& problem : result) {
        problem.operation = Operation::diagonal_kernel_backward;
        problem.inputs["grad_k"] = spread(real_of(size.type), {size.rows, size.length}, -1, 1, random);
        problem.outputs = {{"grad_a", problem.inputs["a"]},
                           {"grad_b", problem.inputs["b"]},
                           {"grad_c", problem.inputs["c"]},
                           {"grad_dt", problem.inputs["dt"]}};
    }
    return result;
}

std::vector<Problem> diagonal_ssm_problems(const PoleSize& size) {
    Random random(size.seed);
    const Type real = real_of(size.type);
    std::vector<Problem> result;
    int64_t variant = 0;
    for (const auto& [rule, alpha] : rules) {
        Problem problem = of(Operation::diagonal_ssm, size);
        problem.discretization = rule;
        problem.alpha = alpha;
        const bool is_packed = variant % 3 == 2, is_bare = variant % 3 == 1;
        ++variant;
        const int64_t batch = is_packed ? 1 : 2;
        problem.inputs["a"] = eigenvalues(size.type, size.rows, size.states, random);
        problem.inputs["b"] = like_poles(size, random);
        problem.inputs["c"] = like_poles(size, random);
        problem.inputs["dt"] = steps_of(real, size.rows, random);
        slow_down(problem);
        problem.inputs["u"] = spread(real, {batch, size.rows, size.length}, -1, 1, random);
        problem.outputs["y"] = problem.inputs["u"];
        int64_t state_rows = batch;
        if (is_packed) {
            Tensor bounds(Type::int64, {5});
            const double cuts[] = {0, std::floor(0.3 * size.length), std::floor(0.3 * size.length),
                                   std::floor(0.8 * size.length), static_cast<double>(size.length)};
            for (int64_t i = 0; i < 5; ++i)
                bounds.at(i) = cuts[i];
            problem.inputs["cu_seqlens"] = bounds;
            state_rows = 4;
        }
        const std::vector<int64_t> states = {state_rows, size.rows, size.states};
        if (!is_bare) {
            problem.inputs["d"] = spread(real, {size.rows}, -1, 1, random);
            problem.inputs["initial_state"] = spread(size.type, states, -1, 1, random);
            problem.outputs["last_state"] = Tensor(size.type, states);
        }
        result.push_back(problem);
    }
    return result;
}

std::vector<Problem> diagonal_ssm_backward_problems(const PoleSize& size) {
    std::vector<Problem> result = diagonal_ssm_problems(size);
    Random random(size.seed + 1);
    for (Problem& problem : result) {
        problem.operation = Operation::diagonal_ssm_backward;
        const Tensor u = problem.inputs["u"];
        problem.inputs["grad_y"] = spread(u.type, u.shape, -1, 1, random);
        Outputs outputs = {{"grad_u", u}, {"grad_dt", problem.inputs["dt"]}, {"grad_d", problem.inputs["dt"]}};
        for (const char* name : {"a", "b", "c"})
            outputs["grad_" + std::string(name)] = problem.inputs[name];
        if (problem.inputs.count("initial_state")) {
            const Tensor& states = problem.inputs["initial_state"];
            problem.inputs["grad_last_state"] = spread(states.type, states.shape, -1, 1, random);
            outputs["grad_initial_state"] = states;
        }
        problem.outputs = outputs;
    }
    return result;
}

std::vector<Problem> diagonal_scan_problems(const PoleSize& size) {
    Random random(size.seed);
    const Type real = real_of(size.type);
    std::vector<Problem> result;
    int64_t variant = 0;
    for (const auto& [rule, alpha] : rules)
        for (const bool with_interval : {false, true}) {
            Problem problem = of(Operation::diagonal_scan, size);
            problem.discretization = rule;
            problem.alpha = alpha;
            problem.reverse = variant % 2 == 1;
            const int64_t batch = 2;
            Tensor a = eigenvalues(size.type, 1, size.states, random);
            a.shape = {size.states};
            problem.inputs["a"] = a;
            slow_down(problem);
            problem.inputs["dt"] = steps_of(real, size.states, random);
            problem.inputs["bu"] = spread(size.type, {batch, size.states, size.length}, -1, 1, random);
            if (with_interval)
                problem.inputs["interval"] = spread(real, {batch, size.length}, 0, 1.5, random);
            problem.outputs["x"] = problem.inputs["bu"];
            if (variant % 3 != 1) {
                problem.inputs["initial_state"] = spread(size.type, {batch, size.states}, -1, 1, random);
                problem.outputs["last_state"] = problem.inputs["initial_state"];
            }
            if (variant % 4 >= 2)
                problem.outputs["x_reverse"] = problem.inputs["bu"];
            ++variant;
            result.push_back(problem);
        }
    return result;
}

} // namespace ssm::test
