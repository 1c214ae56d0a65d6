#include "support/state_space.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ssm::test {

using enum Type;

// ---- Matrices ----------------------------------------------------------------------------------------------------------

Matrix Matrix::identity(int64_t n) {
    Matrix result(n, n);
    for (int64_t i = 0; i < n; ++i)
        result(i, i) = 1;
    return result;
}

Matrix operator*(const Matrix& x, const Matrix& y) {
    Matrix result(x.rows, y.columns);
    for (int64_t i = 0; i < x.rows; ++i)
        for (int64_t k = 0; k < x.columns; ++k)
            for (int64_t j = 0; j < y.columns; ++j)
                result(i, j) += x(i, k) * y(k, j);
    return result;
}

Matrix operator+(const Matrix& x, const Matrix& y) {
    Matrix result = x;
    for (size_t i = 0; i < x.values.size(); ++i)
        result.values[i] += y.values[i];
    return result;
}

Matrix operator*(Number factor, const Matrix& x) {
    Matrix result = x;
    for (Number& value : result.values)
        value *= factor;
    return result;
}

Matrix solve(Matrix a, Matrix b) {
    const int64_t n = a.rows;
    for (int64_t k = 0; k < n; ++k) {
        int64_t pivot = k;
        for (int64_t i = k; i < n; ++i)
            if (std::abs(a(i, k)) > std::abs(a(pivot, k)))
                pivot = i;
        for (int64_t j = 0; j < n; ++j)
            std::swap(a(k, j), a(pivot, j));
        for (int64_t j = 0; j < b.columns; ++j)
            std::swap(b(k, j), b(pivot, j));
        for (int64_t i = 0; i < n; ++i) {
            if (i == k)
                continue;
            const Number factor = a(i, k) / a(k, k);
            for (int64_t j = k; j < n; ++j)
                a(i, j) -= factor * a(k, j);
            for (int64_t j = 0; j < b.columns; ++j)
                b(i, j) -= factor * b(k, j);
        }
    }
    for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < b.columns; ++j)
            b(i, j) /= a(i, i);
    return b;
}

// Taylor's series of a small part, squared back.
Matrix exponential(const Matrix& a) {
    double norm = 0;
    for (const Number value : a.values)
        norm += std::abs(value);
    const int squarings = norm > 0.5 ? static_cast<int>(std::ceil(std::log2(norm / 0.5))) : 0;
    const Matrix part = std::pow(0.5, squarings) * a;
    Matrix result = Matrix::identity(a.rows), term = result;
    for (int k = 1; k < 25; ++k) {
        term = (1.0 / k) * (term * part);
        result = result + term;
    }
    for (int i = 0; i < squarings; ++i)
        result = result * result;
    return result;
}

Matrix power(Matrix base, int64_t exponent) {
    Matrix result = Matrix::identity(base.rows);
    for (; exponent > 0; exponent /= 2) {
        if (exponent % 2)
            result = result * base;
        base = base * base;
    }
    return result;
}

Matrix hippo_a(ssm_hippo_measure measure, int64_t n) {
    Matrix a(n, n);
    for (int64_t i = 0; i < n; ++i)
        for (int64_t k = 0; k < n; ++k) {
            const double root = std::sqrt((2.0 * i + 1) * (2.0 * k + 1)), sign = (i - k) % 2 == 0 ? 1 : -1;
            switch (measure) {
            case SSM_HIPPO_LEGS:
                a(i, k) = i > k ? -root : i == k ? -(i + 1.0) : 0;
                break;
            case SSM_HIPPO_LEGT:
                a(i, k) = -root * (i < k ? sign : 1);
                break;
            case SSM_HIPPO_LAGT:
                a(i, k) = (i == k ? 0.5 : 0) - (i >= k ? 1 : 0);
                break;
            case SSM_HIPPO_LMU:
                a(i, k) = (2.0 * i + 1) * (i < k ? -1 : -sign);
                break;
            case SSM_HIPPO_FOUT: {
                const Matrix b = hippo_b(measure, n);
                a(i, k) = -b(i, 0) * b(k, 0);
                if (i / 2 == k / 2 && i != k)
                    a(i, k) += std::numbers::pi * static_cast<double>(i / 2) * (i > k ? 1 : -1);
                break;
            }
            }
        }
    return a;
}

Matrix hippo_b(ssm_hippo_measure measure, int64_t n) {
    Matrix b(n, 1);
    for (int64_t i = 0; i < n; ++i)
        switch (measure) {
        case SSM_HIPPO_LEGS:
        case SSM_HIPPO_LEGT:
            b(i, 0) = std::sqrt(2.0 * i + 1);
            break;
        case SSM_HIPPO_LAGT:
            b(i, 0) = 1;
            break;
        case SSM_HIPPO_LMU:
            b(i, 0) = (2.0 * i + 1) * (i % 2 ? -1 : 1);
            break;
        case SSM_HIPPO_FOUT:
            b(i, 0) = i == 0 ? 1 : i % 2 ? 0 : std::sqrt(2.0);
            break;
        }
    return b;
}

Matrix discretized(const Matrix& a, const Matrix& b, double dt, ssm_discretization discretization, double alpha) {
    const int64_t n = a.rows;
    Matrix both(n, n + 1);
    if (discretization == SSM_DISCRETIZATION_ZOH) {
        Matrix whole(n + 1, n + 1);
        for (int64_t i = 0; i < n; ++i)
            for (int64_t j = 0; j <= n; ++j)
                whole(i, j) = dt * (j < n ? a(i, j) : b(i, 0));
        const Matrix result = exponential(whole);
        std::copy_n(result.values.begin(), both.values.size(), both.values.begin());
        return both;
    }
    const double after = discretization == SSM_DISCRETIZATION_BILINEAR         ? 0.5
                         : discretization == SSM_DISCRETIZATION_EULER          ? 0
                         : discretization == SSM_DISCRETIZATION_BACKWARD_EULER ? 1
                                                                               : alpha;
    for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j <= n; ++j)
            both(i, j) = j < n ? (i == j ? 1.0 : 0.0) + (1 - after) * dt * a(i, j) : dt * b(i, 0);
    return solve(Matrix::identity(n) + (-after * dt) * a, both);
}

// ---- Problems ----------------------------------------------------------------------------------------------------------

namespace {

Tensor random_tensor(Random& random, Type type, std::vector<int64_t> shape, double low, double high) {
    Tensor tensor(type, std::move(shape));
    for (Number& value : tensor.values) {
        const double re = random.uniform(low, high), im = random.uniform(low, high);
        value = rounded(type, is_complex(type) ? Number(re, im) : Number(re));
    }
    return tensor;
}

void add_sequence(Problem& problem, Random& random, const StateSpaceSizes& sizes, Type state) {
    const Type type = sizes.type;
    const int64_t rows = sizes.bounds.empty() ? sizes.batch : static_cast<int64_t>(sizes.bounds.size()) - 1;
    problem.inputs["u"] = random_tensor(random, type, {sizes.batch, sizes.heads, sizes.length}, -1, 1);
    problem.inputs["d"] = random_tensor(random, type, {sizes.heads}, -1, 1);
    problem.inputs["initial_state"] = random_tensor(random, state, {rows, sizes.heads, sizes.states}, -1, 1);
    if (!sizes.bounds.empty()) {
        Tensor bounds(int64, {static_cast<int64_t>(sizes.bounds.size())});
        std::copy(sizes.bounds.begin(), sizes.bounds.end(), bounds.values.begin());
        problem.inputs["cu_seqlens"] = bounds;
    }
    problem.outputs["y"] = Tensor(type, {sizes.batch, sizes.heads, sizes.length});
    problem.outputs["last_state"] = Tensor(state, {rows, sizes.heads, sizes.states});
}

Problem dense_of(Operation operation, const StateSpaceSizes& sizes, ssm_discretization discretization, Random& random) {
    Problem problem;
    problem.operation = operation;
    problem.type = sizes.type;
    problem.discretization = discretization;
    if (discretization == SSM_DISCRETIZATION_GENERALIZED_BILINEAR)
        problem.alpha = 0.75;
    const int64_t h = sizes.heads, n = sizes.states;
    Tensor a = random_tensor(random, sizes.type, {h, n, n}, -1, 1);
    for (int64_t head = 0; head < h; ++head)
        for (int64_t i = 0; i < n; ++i)
            for (int64_t j = 0; j < n; ++j)
                a.at(head, i, j) =
                    rounded(sizes.type, a.at(head, i, j) / std::sqrt(static_cast<double>(n)) - (i == j ? 1.5 : 0.0));
    problem.inputs["a"] = a;
    problem.inputs["b"] = random_tensor(random, sizes.type, {h, n}, -1, 1);
    problem.inputs["c"] = random_tensor(random, sizes.type, {h, n}, -1, 1);
    problem.inputs["dt"] = random_tensor(random, sizes.type, {h}, 0.02, 0.2);
    return problem;
}

Problem dplr_of(Operation operation, const StateSpaceSizes& sizes, Random& random) {
    Problem problem;
    problem.operation = operation;
    problem.type = sizes.type;
    problem.conjugate_pairs = sizes.conjugate_pairs;
    const int64_t h = sizes.heads, n = sizes.states;
    const Type complex = complex_of(sizes.type);
    Tensor eigenvalues(complex, {h, n});
    for (int64_t i = 0; i < eigenvalues.size(); ++i)
        eigenvalues.values[i] =
            rounded(complex, {-random.uniform(0.2, 1), 3.0 * static_cast<double>(i % n) + random.uniform(0, 2)});
    problem.inputs["eigenvalues"] = eigenvalues;
    problem.inputs["p"] = random_tensor(random, complex, {h, sizes.rank, n}, -0.7, 0.7);
    problem.inputs["b"] = random_tensor(random, complex, {h, n}, -1, 1);
    problem.inputs["c"] = random_tensor(random, complex, {h, n}, -1, 1);
    problem.inputs["dt"] = random_tensor(random, sizes.type, {h}, 0.02, 0.2);
    return problem;
}

} // namespace

Problem dense_kernel_of(const StateSpaceSizes& sizes, ssm_discretization discretization, uint64_t seed) {
    Random random(seed);
    Problem problem = dense_of(Operation::dense_kernel, sizes, discretization, random);
    problem.outputs["k"] = Tensor(sizes.type, {sizes.heads, sizes.length});
    return problem;
}

Problem dense_ssm_of(const StateSpaceSizes& sizes, ssm_discretization discretization, uint64_t seed) {
    Random random(seed);
    Problem problem = dense_of(Operation::dense_ssm, sizes, discretization, random);
    add_sequence(problem, random, sizes, sizes.type);
    return problem;
}

Problem dplr_ssm_of(const StateSpaceSizes& sizes, uint64_t seed) {
    Random random(seed);
    Problem problem = dplr_of(Operation::dplr_ssm, sizes, random);
    add_sequence(problem, random, sizes, complex_of(sizes.type));
    return problem;
}

Problem dplr_kernel_of(const StateSpaceSizes& sizes, bool c_is_tilde, uint64_t seed) {
    Random random(seed);
    Problem problem = dplr_of(Operation::dplr_kernel, sizes, random);
    problem.c_is_tilde = c_is_tilde;
    problem.outputs["k"] = Tensor(sizes.type, {sizes.heads, sizes.length});
    return problem;
}

Problem dplr_kernel_backward_of(const StateSpaceSizes& sizes, bool c_is_tilde, uint64_t seed) {
    Random random(seed);
    Problem problem = dplr_of(Operation::dplr_kernel_backward, sizes, random);
    problem.c_is_tilde = c_is_tilde;
    problem.inputs["grad_k"] = random_tensor(random, sizes.type, {sizes.heads, sizes.length}, -1, 1);
    for (const char* name : {"eigenvalues", "p", "b", "c", "dt"})
        problem.outputs[std::string("grad_") + name] = problem.inputs.at(name);
    return problem;
}

Problem hippo_project_of(const StateSpaceSizes& sizes, ssm_hippo_measure measure, ssm_discretization discretization,
                         ssm_hippo_start start, uint64_t seed) {
    Random random(seed);
    Problem problem;
    problem.operation = Operation::hippo_project;
    problem.type = sizes.type;
    problem.measure = measure;
    problem.discretization = discretization;
    problem.start = start;
    if (discretization == SSM_DISCRETIZATION_GENERALIZED_BILINEAR)
        problem.alpha = 0.75;
    if (measure != SSM_HIPPO_LEGS)
        problem.step = 0.02;
    problem.inputs["f"] = random_tensor(random, sizes.type, {sizes.batch, sizes.length}, -1, 1);
    problem.outputs["coefficients"] = Tensor(sizes.type, {sizes.batch, sizes.length, sizes.states});
    problem.outputs["last_state"] = Tensor(sizes.type, {sizes.batch, sizes.states});
    return problem;
}

// ---- Reference ---------------------------------------------------------------------------------------------------------

namespace {

Matrix part_of(const Tensor& tensor, int64_t head, int64_t rows, int64_t columns) {
    Matrix result(rows, columns);
    std::copy_n(tensor.values.begin() + head * rows * columns, rows * columns, result.values.begin());
    return result;
}

Matrix transposed(const Matrix& x) {
    Matrix result(x.columns, x.rows);
    for (int64_t i = 0; i < x.rows; ++i)
        for (int64_t j = 0; j < x.columns; ++j)
            result(j, i) = x(i, j);
    return result;
}

// A discretised head: x' = a x + b u, y = Re(c x).
struct System {
    Matrix a, b, c;
};

System dense_system(const Problem& problem, int64_t head) {
    const int64_t n = problem.inputs.at("a").shape[2];
    const Matrix both = discretized(part_of(problem.inputs.at("a"), head, n, n), part_of(problem.inputs.at("b"), head, n, 1),
                                    problem.inputs.at("dt").values[head].real(),
                                    static_cast<ssm_discretization>(problem.discretization), problem.alpha);
    System system{Matrix(n, n), Matrix(n, 1), part_of(problem.inputs.at("c"), head, 1, n)};
    for (int64_t i = 0; i < n; ++i) {
        system.b(i, 0) = both(i, n);
        for (int64_t j = 0; j < n; ++j)
            system.a(i, j) = both(i, j);
    }
    return system;
}

// Of all states: the conjugates of pairs are behind the given ones.
System dplr_system(const Problem& problem, int64_t head) {
    const Tensor &eigenvalues = problem.inputs.at("eigenvalues"), &p = problem.inputs.at("p");
    const int64_t given = eigenvalues.shape[1], rank = p.shape[1], n = problem.conjugate_pairs ? 2 * given : given;
    Matrix a(n, n), b(n, 1), c(1, n);
    const auto whole = [&](int64_t i, const auto& value) {
        return i < given ? Number(value(i)) : std::conj(Number(value(i - given)));
    };
    for (int64_t i = 0; i < n; ++i) {
        a(i, i) = whole(i, [&](int64_t k) { return eigenvalues.at(head, k); });
        b(i, 0) = whole(i, [&](int64_t k) { return problem.inputs.at("b").at(head, k); });
        c(0, i) = whole(i, [&](int64_t k) { return problem.inputs.at("c").at(head, k); });
    }
    for (int64_t r = 0; r < rank; ++r)
        for (int64_t i = 0; i < n; ++i)
            for (int64_t j = 0; j < n; ++j)
                a(i, j) -= whole(i, [&](int64_t k) { return p.at(head, r, k); }) *
                           std::conj(whole(j, [&](int64_t k) { return p.at(head, r, k); }));
    const Matrix both = discretized(a, b, problem.inputs.at("dt").values[head].real(), SSM_DISCRETIZATION_BILINEAR, 0);
    System system{Matrix(n, n), Matrix(n, 1), c};
    for (int64_t i = 0; i < n; ++i) {
        system.b(i, 0) = both(i, n);
        for (int64_t j = 0; j < n; ++j)
            system.a(i, j) = both(i, j);
    }
    return system;
}

std::vector<double> kernel_of(System system, int64_t length, bool c_is_tilde) {
    if (c_is_tilde) {
        const Matrix left = Matrix::identity(system.a.rows) + Number(-1) * power(system.a, length);
        system.c = transposed(solve(transposed(left), transposed(system.c)));
    }
    std::vector<double> k;
    for (Matrix x = system.b; static_cast<int64_t>(k.size()) < length; x = system.a * x)
        k.push_back((system.c * x)(0, 0).real());
    return k;
}

void run_system(const Problem& problem, Reference& result, int64_t head, const System& system, bool pairs) {
    const Tensor& u = problem.inputs.at("u");
    const int64_t heads = u.shape[1], length = u.shape[2];
    const auto d = problem.inputs.find("d"), initial = problem.inputs.find("initial_state");
    const std::vector<int64_t> bounds = problem.cu_seqlens();
    const int64_t rows = bounds.empty() ? u.shape[0] : static_cast<int64_t>(bounds.size()) - 1;
    for (int64_t row = 0; row < rows; ++row) {
        const int64_t n = system.a.rows, given = pairs ? n / 2 : n, batch = bounds.empty() ? row : 0;
        const int64_t begin = bounds.empty() ? 0 : bounds[row], end = bounds.empty() ? length : bounds[row + 1];
        Matrix x(n, 1);
        for (int64_t i = 0; i < given && initial != problem.inputs.end(); ++i) {
            x(i, 0) = initial->second.at(row, head, i);
            if (pairs)
                x(given + i, 0) = std::conj(x(i, 0));
        }
        for (int64_t t = begin; t < end; ++t) {
            const Number input = u.at(batch, head, t);
            x = system.a * x + input * system.b;
            const Number skip = d == problem.inputs.end() ? Number(0) : d->second.values[head] * input;
            result.at("y").value.values[(batch * heads + head) * length + t] = (system.c * x)(0, 0).real() + skip;
        }
        if (result.count("last_state"))
            for (int64_t i = 0; i < given; ++i)
                result.at("last_state").value.at(row, head, i) = x(i, 0);
    }
}

void project(const Problem& problem, Reference& result) {
    const Tensor &f = problem.inputs.at("f"), &coefficients = problem.outputs.at("coefficients");
    const int64_t batch = f.shape[0], length = f.shape[1], n = coefficients.shape[2];
    const auto measure = static_cast<ssm_hippo_measure>(problem.measure);
    const auto rule = static_cast<ssm_discretization>(problem.discretization);
    const Matrix a = hippo_a(measure, n), b = hippo_b(measure, n);
    const bool is_legs = measure == SSM_HIPPO_LEGS, first = problem.start == SSM_HIPPO_START_FIRST;
    const auto times = problem.inputs.find("timestamps"), initial = problem.inputs.find("initial_state");
    const bool has_times = times != problem.inputs.end();
    const bool starts =
        first && (is_legs ? problem.steps_before == 0 && problem.time_before == 0 : initial == problem.inputs.end());
    for (int64_t row = 0; row < batch; ++row) {
        Matrix x(n, 1);
        if (initial != problem.inputs.end())
            for (int64_t i = 0; i < n; ++i)
                x(i, 0) = initial->second.at(row, i);
        // What was 1 forever: a e_0 = -b, but for lagt. (fout has a row of zeros.)
        if (starts && measure == SSM_HIPPO_LAGT && length > 0)
            x = solve(a, (-f.at(row, 0)) * b);
        else if (starts && !is_legs && length > 0)
            x(0, 0) = f.at(row, 0);
        Matrix both;
        for (int64_t t = 0; t < length; ++t) {
            if (is_legs && starts && t == 0) {
                x(0, 0) = f.at(row, 0);
            } else {
                double dt = problem.step;
                if (has_times) {
                    const double now = times->second.values[t].real();
                    dt = (now - (t > 0 ? times->second.values[t - 1].real() : problem.time_before)) / now;
                } else if (is_legs) {
                    dt = 1.0 / static_cast<double>(problem.steps_before + t + (first ? 0 : 1));
                }
                if (is_legs || t == 0)
                    both = discretized(a, b, dt, rule, problem.alpha);
                Matrix next(n, 1);
                for (int64_t i = 0; i < n; ++i) {
                    next(i, 0) = both(i, n) * f.at(row, t);
                    for (int64_t j = 0; j < n; ++j)
                        next(i, 0) += both(i, j) * x(j, 0);
                }
                x = next;
            }
            for (int64_t i = 0; i < n; ++i)
                result.at("coefficients").value.at(row, t, i) = x(i, 0);
        }
        if (result.count("last_state"))
            for (int64_t i = 0; i < n; ++i)
                result.at("last_state").value.at(row, i) = x(i, 0);
    }
}

// Of sum_l grad_k_l k_l with respect to one number, by central differences of the loops in double.
double loss(const Problem& problem, int64_t head) {
    const Tensor& grad = problem.inputs.at("grad_k");
    const std::vector<double> k = kernel_of(dplr_system(problem, head), grad.shape[1], problem.c_is_tilde);
    double sum = 0;
    for (size_t l = 0; l < k.size(); ++l)
        sum += k[l] * grad.at(head, static_cast<int64_t>(l)).real();
    return sum;
}

void differentiate(const Problem& given, Reference& result) {
    constexpr double step = 1e-5;
    for (const char* name : {"eigenvalues", "p", "b", "c", "dt"}) {
        const auto found = result.find(std::string("grad_") + name);
        if (found == result.end())
            continue;
        Problem problem = given;
        Tensor& tensor = problem.inputs.at(name);
        const int64_t of_head = tensor.size() / std::max<int64_t>(1, tensor.shape[0]);
        for (int64_t i = 0; i < tensor.size(); ++i) {
            const Number kept = tensor.values[i];
            const auto slope = [&](Number direction) {
                double sum = 0; // five points
                for (const auto& [far, weight] : {std::pair{1.0, 8.0}, {-1.0, -8.0}, {2.0, -1.0}, {-2.0, 1.0}}) {
                    tensor.values[i] = kept + far * step * direction;
                    sum += weight * loss(problem, i / of_head);
                }
                tensor.values[i] = kept;
                return sum / (12 * step);
            };
            found->second.value.values[i] = is_complex(tensor.type) ? Number(slope(1), slope({0, 1})) : Number(slope(1));
        }
    }
}

} // namespace

Reference state_space_reference(const Problem& problem) {
    Reference result;
    for (const auto& [name, tensor] : problem.outputs) {
        Expected& expected = result[name];
        expected.value = tensor;
        std::fill(expected.value.values.begin(), expected.value.values.end(), Number(0));
    }
    const auto heads = [&](const char* name) { return problem.inputs.at(name).shape[0]; };
    bool is_differentiated = false;
    switch (problem.operation) {
    case Operation::dense_kernel:
    case Operation::dplr_kernel: {
        const bool is_dense = problem.operation == Operation::dense_kernel;
        Tensor& k = result.at("k").value;
        for (int64_t head = 0; head < heads("dt"); ++head) {
            const System system = is_dense ? dense_system(problem, head) : dplr_system(problem, head);
            const std::vector<double> values = kernel_of(system, k.shape[1], problem.c_is_tilde);
            std::copy(values.begin(), values.end(), k.values.begin() + head * k.shape[1]);
        }
        break;
    }
    case Operation::dense_ssm:
        for (int64_t head = 0; head < heads("dt"); ++head)
            run_system(problem, result, head, dense_system(problem, head), false);
        break;
    case Operation::dplr_ssm:
        for (int64_t head = 0; head < heads("dt"); ++head)
            run_system(problem, result, head, dplr_system(problem, head), problem.conjugate_pairs);
        break;
    case Operation::hippo_project:
        project(problem, result);
        break;
    default:
        differentiate(problem, result);
        is_differentiated = true;
    }
    for (auto& [name, expected] : result) {
        double most = 0;
        for (const Number value : expected.value.values)
            most = std::max(most, std::abs(value));
        const double share = problem.type == float32 ? 1e-5 : is_differentiated ? 1e-9 : 1e-12;
        expected.limit.assign(expected.value.values.size(), share * most + underflow(problem.type));
    }
    return result;
}

} // namespace ssm::test
