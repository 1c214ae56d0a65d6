// Set-up operations on the host: HiPPO's matrices and their normal forms, initialisations, reconstruction, discretisation,
// and the conversions of c. They take host tensors on every context.
#include "support/state_space.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>

namespace ssm::test {

using enum Type;

namespace {

constexpr ssm_hippo_measure measures[] = {SSM_HIPPO_LEGS, SSM_HIPPO_LEGT, SSM_HIPPO_LAGT, SSM_HIPPO_FOUT};

// A tensor in host memory, compact, as DLPack sees it. Real or complex numbers in double or float.
struct HostTensor {
    Type type;
    std::vector<int64_t> shape;
    std::vector<unsigned char> bytes;
    DLTensor view{};

    HostTensor(Type type, std::vector<int64_t> shape) : HostTensor(Tensor(type, std::move(shape))) {}
    explicit HostTensor(const Tensor& tensor)
        : type(tensor.type), shape(tensor.shape), bytes(static_cast<size_t>(tensor.size() * size_of(type)) + 1) {
        for (int64_t i = 0; i < tensor.size(); ++i)
            encode(type, tensor.values[i], bytes.data() + i * size_of(type));
        view = DLTensor{
            bytes.data(), {kDLCPU, 0}, static_cast<int32_t>(shape.size()), dlpack_of(type), shape.data(), nullptr, 0};
    }
    HostTensor(const HostTensor&) = delete;
    const DLTensor* get() const { return &view; }
    Tensor values() const {
        Tensor tensor(type, shape);
        for (int64_t i = 0; i < tensor.size(); ++i)
            tensor.values[i] = decode(type, bytes.data() + i * size_of(type));
        return tensor;
    }
};

template <class Args>
Args args_of() {
    Args args{};
    args.struct_size = sizeof args;
    return args;
}

Tensor random_tensor(Random& random, Type type, std::vector<int64_t> shape, double low, double high) {
    Tensor tensor(type, std::move(shape));
    for (Number& value : tensor.values) {
        const double re = random.uniform(low, high), im = random.uniform(low, high);
        value = is_complex(type) ? Number(re, im) : Number(re);
    }
    return tensor;
}

} // namespace

class HippoSetup : public testing::TestWithParam<Target> {
  protected:
    Context context{GetParam().device}; // host tensors, whatever the device
    Type type = GetParam().type, complex = complex_of(GetParam().type);
    double unit = roundoff(GetParam().type);

    void expect_failure(int32_t status, const std::string& sentence) {
        EXPECT_EQ(status, SSM_ERROR_INVALID_ARGUMENT);
        EXPECT_EQ(std::string(ssm_last_error()), sentence);
    }

    void matrices_are_their_definitions();
    void initialisations_are_their_definitions();
    void normal_form_is_the_matrix();
    void reconstruction_is_the_signal();
    void discretisation_is_its_definition();
    void tilde_conversions();

    struct Normal {
        Tensor eigenvalues, p, b, v;
    };
    Normal normal_of(ssm_hippo_measure measure, int64_t states, int64_t rank) {
        HostTensor w(complex, {states}), p(complex, {rank, states}), b(complex, {states}), v(complex, {2 * states, states});
        auto args = args_of<ssm_hippo_nplr_args>();
        args.measure = measure;
        args.eigenvalues = w.get();
        args.p = p.get();
        args.b = b.get();
        args.v = v.get();
        SSM_CHECK(ssm_hippo_nplr(context, &args));
        return {w.values(), p.values(), b.values(), v.values()};
    }
};

void HippoSetup::matrices_are_their_definitions() {
    for (const ssm_hippo_measure measure : {SSM_HIPPO_LEGS, SSM_HIPPO_LEGT, SSM_HIPPO_LAGT, SSM_HIPPO_FOUT, SSM_HIPPO_LMU})
        for (const int64_t n : {2, 8, 64}) {
            HostTensor a(type, {n, n}), b(type, {n});
            auto args = args_of<ssm_hippo_matrix_args>();
            args.measure = measure;
            args.a = a.get();
            args.b = b.get();
            SSM_CHECK(ssm_hippo_matrix(context, &args));
            const Matrix exact_a = hippo_a(measure, n), exact_b = hippo_b(measure, n);
            const Tensor own_a = a.values(), own_b = b.values();
            for (int64_t i = 0; i < n; ++i) {
                EXPECT_NEAR(own_b.values[i].real(), exact_b(i, 0).real(), 4 * unit * std::abs(exact_b(i, 0)));
                for (int64_t j = 0; j < n; ++j)
                    EXPECT_NEAR(own_a.at(i, j).real(), exact_a(i, j).real(), 4 * unit * std::abs(exact_a(i, j)))
                        << measure << " " << i << " " << j;
            }
        }
}

// exp(t a) b of legs is sqrt(2n+1) exp(-t) P_n(2 exp(-t) - 1), of lagt exp(-t/2) L_n(t): the discretisation and the matrix.
// That of fout comes near half of its waves as long as the window is, and 0 after it, the more states the nearer.
TEST_P(HippoSetup, ClosedForms) {
    for (const ssm_hippo_measure measure : {SSM_HIPPO_LEGS, SSM_HIPPO_LAGT, SSM_HIPPO_FOUT}) {
        const bool is_fout = measure == SSM_HIPPO_FOUT;
        const int64_t n = is_fout ? 64 : 8;
        HostTensor a(type, {1, n, n}), b(type, {1, n});
        DLTensor flat_a = a.view, flat_b = b.view;
        flat_a.ndim = 2;
        flat_a.shape = a.shape.data() + 1;
        flat_b.ndim = 1;
        flat_b.shape = b.shape.data() + 1;
        auto matrix = args_of<ssm_hippo_matrix_args>();
        matrix.measure = measure;
        matrix.a = &flat_a;
        matrix.b = &flat_b;
        SSM_CHECK(ssm_hippo_matrix(context, &matrix));
        for (const double t : {0.25, 1.0, 2.5}) {
            Tensor step(type, {1});
            step.values[0] = t;
            HostTensor dt(step), a_bar(type, {1, n, n}), b_bar(type, {1, n});
            auto args = args_of<ssm_discretize_dense_args>();
            args.discretization = SSM_DISCRETIZATION_ZOH;
            args.a = a.get();
            args.b = b.get();
            args.dt = dt.get();
            args.a_bar = a_bar.get();
            args.b_bar = b_bar.get();
            SSM_CHECK(ssm_discretize_dense(context, &args));
            const Tensor moved = a_bar.values(), start = b.values();
            const auto exact = [&](int64_t i) {
                const unsigned k = static_cast<unsigned>(i);
                if (measure == SSM_HIPPO_LEGS)
                    return std::sqrt(2.0 * k + 1) * std::exp(-t) * std::legendre(k, 2 * std::exp(-t) - 1);
                if (measure == SSM_HIPPO_LAGT)
                    return std::exp(-t / 2) * std::laguerre(k, t);
                if (t > 2 || i < 2)
                    return t < 2 && i == 0 ? 0.5 : 0.0;
                const double angle = std::numbers::pi * (k / 2) * t;
                return std::sqrt(0.5) * (k % 2 ? std::sin(angle) : std::cos(angle));
            };
            for (int64_t i = 0; i < (is_fout ? 4 : n); ++i) {
                double sum = 0;
                for (int64_t j = 0; j < n; ++j)
                    sum += moved.at(0, i, j).real() * start.values[j].real();
                EXPECT_NEAR(sum, exact(i),
                            is_fout           ? 0.03
                            : type == float64 ? 1e-12
                                              : 2e-4)
                    << measure << " " << t << " " << i;
            }
        }
    }
}

// V (diag(w) - p p^*) V^* of both halves is the matrix, V^* b is b, and the columns of V are orthonormal.
void HippoSetup::normal_form_is_the_matrix() {
    for (const ssm_hippo_measure measure : measures)
        for (const int64_t states : {1, 2, 4, 32}) {
            const int64_t n = 2 * states, rank = measure == SSM_HIPPO_LEGT ? 2 : 1;
            const Normal normal = normal_of(measure, states, rank + 1);
            const Matrix exact = hippo_a(measure, n), exact_b = hippo_b(measure, n);
            double most = 0;
            for (const Number value : exact.values)
                most = std::max(most, std::abs(value));
            const double limit = (type == float64 ? 1e-13 : 2e-6) * most * static_cast<double>(n);
            for (int64_t i = 0; i < n; ++i) {
                double b = 0;
                for (int64_t k = 0; k < states; ++k)
                    b += 2 * (normal.v.at(i, k) * normal.b.values[k]).real();
                EXPECT_NEAR(b, exact_b(i, 0).real(), limit) << measure;
                for (int64_t j = 0; j < n; ++j) {
                    double sum = 0, one = 0;
                    for (int64_t k = 0; k < states; ++k) {
                        const Number pair = normal.v.at(i, k) * std::conj(normal.v.at(j, k));
                        sum += 2 * (pair * normal.eigenvalues.values[k]).real();
                        one += 2 * pair.real();
                    }
                    for (int64_t r = 0; r <= rank; ++r) {
                        double left = 0, right = 0; // V p, which is real
                        for (int64_t k = 0; k < states; ++k) {
                            left += 2 * (normal.v.at(i, k) * normal.p.at(r, k)).real();
                            right += 2 * (normal.v.at(j, k) * normal.p.at(r, k)).real();
                        }
                        sum -= left * right;
                    }
                    EXPECT_NEAR(sum, exact(i, j).real(), limit) << measure << " " << i << " " << j;
                    EXPECT_NEAR(one, i == j ? 1 : 0, limit);
                }
            }
            for (int64_t k = 0; k < states; ++k) {
                EXPECT_EQ(normal.p.at(rank, k), Number(0));
                EXPECT_GE(normal.eigenvalues.values[k].imag(), k > 0 ? normal.eigenvalues.values[k - 1].imag() : 0);
            }
        }
}

void HippoSetup::initialisations_are_their_definitions() {
    constexpr int64_t states = 32;
    const auto of = [&](ssm_diagonal_init init) {
        HostTensor w(complex, {states}), b(complex, {states});
        auto args = args_of<ssm_diagonal_initialize_args>();
        args.init = init;
        args.eigenvalues = w.get();
        args.b = b.get();
        SSM_CHECK(ssm_diagonal_initialize(context, &args));
        return std::pair{w.values(), b.values()};
    };
    const auto near = [&](Number value, Number exact) {
        EXPECT_NEAR(std::abs(value - exact), 0, 8 * unit * std::abs(exact));
    };
    const auto [lin, ones] = of(SSM_DIAGONAL_INIT_LIN);
    const auto inv = of(SSM_DIAGONAL_INIT_INV).first, real = of(SSM_DIAGONAL_INIT_REAL).first;
    const auto quad = of(SSM_DIAGONAL_INIT_QUAD).first;
    for (int64_t n = 0; n < states; ++n) {
        const double i = static_cast<double>(n);
        near(lin.values[n], {-0.5, std::numbers::pi * i});
        near(inv.values[n], {-0.5, 64 / std::numbers::pi * (64 / (2 * i + 1) - 1)});
        near(real.values[n], -(i + 1));
        near(quad.values[n], {-0.5, (2 * i + 1) * (2 * i + 1) / std::numbers::pi});
        EXPECT_EQ(ones.values[n], Number(1));
    }
    const auto [legs, b] = of(SSM_DIAGONAL_INIT_LEGS);
    const Normal normal = normal_of(SSM_HIPPO_LEGS, states, 1);
    EXPECT_EQ(legs.values, normal.eigenvalues.values);
    EXPECT_EQ(b.values, normal.b.values);
    EXPECT_NEAR(legs.values[states - 1].imag(), 1303, 1);
    EXPECT_NEAR(legs.values[0].real(), -0.5, 1e-6);
}

// A signal of low degree comes back from its coefficients: legs and the windows of legt and fout; lagt its own functions.
void HippoSetup::reconstruction_is_the_signal() {
    const auto reconstruct = [&](ssm_hippo_measure measure, const Tensor& coefficients, const Tensor& points,
                                 double window) {
        HostTensor c(coefficients), x(points), f(type, {points.size()});
        auto args = args_of<ssm_hippo_reconstruct_args>();
        args.measure = measure;
        args.window = window;
        args.coefficients = c.get();
        args.points = x.get();
        args.f = f.get();
        SSM_CHECK(ssm_hippo_reconstruct(context, &args));
        return f.values();
    };
    Tensor points(type, {11});
    for (int64_t i = 0; i < 11; ++i)
        points.values[i] = rounded(type, 0.1 * static_cast<double>(i));
    const double limit = type == float64 ? 1e-12 : 1e-5;
    for (int64_t n = 0; n < 6; ++n) {
        Tensor one(type, {6});
        one.values[n] = 1;
        const Tensor legs = reconstruct(SSM_HIPPO_LEGS, one, points, 0), legt = reconstruct(SSM_HIPPO_LEGT, one, points, 0);
        const Tensor lmu = reconstruct(SSM_HIPPO_LMU, one, points, 0), fout = reconstruct(SSM_HIPPO_FOUT, one, points, 0);
        const Tensor lagt = reconstruct(SSM_HIPPO_LAGT, one, points, 3);
        for (int64_t i = 0; i < 11; ++i) {
            const double x = points.values[i].real(), p = std::legendre(static_cast<unsigned>(n), 2 * x - 1);
            const double lag = 2 * (1 - x), k = static_cast<double>(n / 2), back = 3 * (1 - x);
            const double wave = n == 0   ? 1
                                : n == 1 ? 0
                                         : std::numbers::sqrt2 * (n % 2 ? std::sin(std::numbers::pi * k * lag)
                                                                        : std::cos(std::numbers::pi * k * lag));
            EXPECT_NEAR(legs.values[i].real(), std::sqrt(2.0 * n + 1) * p, limit);
            EXPECT_NEAR(legt.values[i].real(), std::sqrt(2.0 * n + 1) * p, limit);
            EXPECT_NEAR(lmu.values[i].real(), n % 2 ? -p : p, limit);
            EXPECT_NEAR(fout.values[i].real(), wave, limit);
            EXPECT_NEAR(lagt.values[i].real(), std::exp(-back / 2) * std::laguerre(static_cast<unsigned>(n), back), limit);
        }
    }
}

// What projecting and reconstructing leave of a smooth signal, for the measures with a window or all of the past.
TEST_P(HippoSetup, ProjectedSignalsComeBack) {
    if (GetParam().device.is_slow())
        GTEST_SKIP() << "the projection has its own tests there";
    constexpr int64_t length = 2000, states = 32;
    for (const ssm_hippo_measure measure : {SSM_HIPPO_LEGS, SSM_HIPPO_LEGT, SSM_HIPPO_LMU}) {
        Problem problem = hippo_project_of({type, 1, 1, states, length, 1, true, {}}, measure, SSM_DISCRETIZATION_BILINEAR,
                                           SSM_HIPPO_START_FIRST);
        if (measure != SSM_HIPPO_LEGS)
            problem.step = 2.0 / length; // the window is the last half
        const auto signal = [&](double t) { return std::sin(5 * t) + 0.5 * std::cos(9 * t); };
        for (int64_t t = 0; t < length; ++t)
            problem.inputs["f"].at(0, t) = rounded(type, signal(static_cast<double>(t) / length));
        problem.outputs.erase("last_state");
        const Tensor all = run(context, problem).at("coefficients");
        Tensor coefficients(type, {states}), points(type, {50});
        for (int64_t n = 0; n < states; ++n)
            coefficients.values[n] = all.at(0, length - 1, n);
        for (int64_t i = 0; i < 50; ++i)
            points.values[i] = rounded(type, 0.02 + 0.96 * static_cast<double>(i) / 49);
        HostTensor c(coefficients), x(points), f(type, {50});
        auto args = args_of<ssm_hippo_reconstruct_args>();
        args.measure = measure;
        args.coefficients = c.get();
        args.points = x.get();
        args.f = f.get();
        SSM_CHECK(ssm_hippo_reconstruct(context, &args));
        double off = 0, whole = 0;
        for (int64_t i = 0; i < 50; ++i) {
            const double point = points.values[i].real();
            const double exact = signal(measure == SSM_HIPPO_LEGS ? point : 0.5 + 0.5 * point);
            off += std::norm(f.values().values[i] - exact);
            whole += exact * exact;
        }
        EXPECT_LT(off / whole, 1e-3) << measure;
    }
}

void HippoSetup::discretisation_is_its_definition() {
    Random random(3);
    for (const ssm_discretization rule : {SSM_DISCRETIZATION_ZOH, SSM_DISCRETIZATION_BILINEAR, SSM_DISCRETIZATION_EULER,
                                          SSM_DISCRETIZATION_BACKWARD_EULER, SSM_DISCRETIZATION_GENERALIZED_BILINEAR})
        for (const int64_t n : {1, 2, 9}) {
            const int64_t heads = 3;
            Tensor a = random_tensor(random, type, {heads, n, n}, -1, 1), b = random_tensor(random, type, {heads, n}, -1, 1);
            Tensor dt = random_tensor(random, type, {heads}, 0.1, 1.5);
            for (Tensor* tensor : {&a, &b, &dt})
                for (Number& value : tensor->values)
                    value = rounded(type, value);
            HostTensor own_a(a), own_b(b), own_dt(dt), a_bar(type, {heads, n, n}), b_bar(type, {heads, n});
            auto args = args_of<ssm_discretize_dense_args>();
            args.discretization = rule;
            args.alpha = rule == SSM_DISCRETIZATION_GENERALIZED_BILINEAR ? 0.25 : 0;
            args.a = own_a.get();
            args.b = own_b.get();
            args.dt = own_dt.get();
            args.a_bar = a_bar.get();
            args.b_bar = b_bar.get();
            SSM_CHECK(ssm_discretize_dense(context, &args));
            for (int64_t h = 0; h < heads; ++h) {
                Matrix exact_a(n, n), exact_b(n, 1);
                std::copy_n(a.values.begin() + h * n * n, n * n, exact_a.values.begin());
                std::copy_n(b.values.begin() + h * n, n, exact_b.values.begin());
                const Matrix both = discretized(exact_a, exact_b, dt.values[h].real(), rule, args.alpha);
                double most = 0;
                for (const Number value : both.values)
                    most = std::max(most, std::abs(value));
                for (int64_t i = 0; i < n; ++i) {
                    EXPECT_NEAR(b_bar.values().at(h, i).real(), both(i, n).real(), (type == float64 ? 1e-12 : 1e-6) * most);
                    for (int64_t j = 0; j < n; ++j)
                        EXPECT_NEAR(a_bar.values().at(h, i, j).real(), both(i, j).real(),
                                    (type == float64 ? 1e-12 : 1e-6) * most);
                }
            }
        }
}

// To c_tilde and back is the same c; doubling is the c_tilde of twice the length; and the kernel is that of c.
void HippoSetup::tilde_conversions() {
    for (const bool pairs : {true, false})
        for (const int64_t length : {1, 7, 32}) {
            const Problem problem = dplr_kernel_of({type, 1, 2, 4, 2 * length, 2, pairs, {}}, false);
            HostTensor w(problem.inputs.at("eigenvalues")), p(problem.inputs.at("p")), dt(problem.inputs.at("dt"));
            HostTensor c(problem.inputs.at("c")), tilde(complex, {2, 4}), back(complex, {2, 4}), doubled(complex, {2, 4});
            HostTensor longer(complex, {2, 4});
            const auto fill = [&](auto& args, int64_t own_length) {
                args.conjugate_pairs = pairs;
                args.length = own_length;
                args.eigenvalues = w.get();
                args.p = p.get();
                args.dt = dt.get();
            };
            auto to = args_of<ssm_dplr_to_tilde_args>();
            fill(to, length);
            to.c = c.get();
            to.c_tilde = tilde.get();
            SSM_CHECK(ssm_dplr_to_tilde(context, &to));
            fill(to, 2 * length);
            to.c_tilde = longer.get();
            SSM_CHECK(ssm_dplr_to_tilde(context, &to));
            auto from = args_of<ssm_dplr_from_tilde_args>();
            fill(from, length);
            from.c_tilde = tilde.get();
            from.c = back.get();
            SSM_CHECK(ssm_dplr_from_tilde(context, &from));
            auto twice = args_of<ssm_dplr_double_length_args>();
            fill(twice, length);
            twice.c_tilde = tilde.get();
            twice.c_doubled = doubled.get();
            SSM_CHECK(ssm_dplr_double_length(context, &twice));
            const double limit = type == float64 ? 1e-11 : 2e-4;
            for (int64_t i = 0; i < 8; ++i) {
                EXPECT_NEAR(std::abs(back.values().values[i] - c.values().values[i]), 0, limit);
                EXPECT_NEAR(std::abs(doubled.values().values[i] - longer.values().values[i]), 0, limit);
            }
            Problem with = problem;
            with.c_is_tilde = true;
            with.inputs["c"] = longer.values();
            Reference exact = reference(problem);
            for (double& own : exact.at("k").limit)
                own *= 20;
            expect_near(run(context, with), exact, with.describe());
        }
}

// The kernel of the normal form is that of the dense matrix, for every measure. fout has the eigenvalue 0 twice, which has
// no value at frequency 0: there both systems are shifted by as much.
TEST_P(HippoSetup, DplrKernelIsTheDenseOne) {
    if (type != float64)
        GTEST_SKIP() << "float32 has LegsAtFullSize";
    for (const ssm_hippo_measure measure : measures)
        for (const int64_t length : {40, 129}) {
            const int64_t states = GetParam().device.is_slow() ? 4 : 32, n = 2 * states;
            const int64_t rank = measure == SSM_HIPPO_LEGT ? 2 : 1;
            const double shift = measure == SSM_HIPPO_FOUT ? 0.01 : 0;
            const Normal normal = normal_of(measure, states, rank);
            Problem dense = dense_kernel_of({type, 1, 1, n, length, 1, true, {}}, SSM_DISCRETIZATION_BILINEAR);
            Problem dplr = dplr_kernel_of({type, 1, 1, states, length, rank, true, {}}, false);
            const Matrix a = hippo_a(measure, n), b = hippo_b(measure, n);
            for (int64_t i = 0; i < n; ++i) {
                dense.inputs["b"].at(0, i) = b(i, 0);
                for (int64_t j = 0; j < n; ++j)
                    dense.inputs["a"].at(0, i, j) = a(i, j) - (i == j ? shift : 0);
            }
            dense.inputs["dt"].values[0] = dplr.inputs["dt"].values[0] = 0.05;
            for (int64_t k = 0; k < states; ++k) {
                Number c = 0; // c V
                for (int64_t i = 0; i < n; ++i)
                    c += dense.inputs["c"].at(0, i) * normal.v.at(i, k);
                dplr.inputs["c"].at(0, k) = c;
                dplr.inputs["b"].at(0, k) = normal.b.values[k];
                dplr.inputs["eigenvalues"].at(0, k) = normal.eigenvalues.values[k] - shift;
                for (int64_t r = 0; r < rank; ++r)
                    dplr.inputs["p"].at(0, r, k) = normal.p.at(r, k);
            }
            const Tensor first = run(context, dense).at("k"), second = run(context, dplr).at("k");
            double most = 0, off = 0;
            for (int64_t l = 0; l < length; ++l) {
                most = std::max(most, std::abs(first.values[l]));
                off = std::max(off, std::abs(first.values[l] - second.values[l]));
            }
            EXPECT_LT(off, 1e-12 * most) << "measure " << measure << " length " << length;
        }
}

TEST_P(HippoSetup, MatricesAreTheirDefinitions) {
    matrices_are_their_definitions();
}
TEST_P(HippoSetup, InitialisationsAreTheirDefinitions) {
    initialisations_are_their_definitions();
}
TEST_P(HippoSetup, NormalFormIsTheMatrix) {
    normal_form_is_the_matrix();
}
TEST_P(HippoSetup, ReconstructionIsTheSignal) {
    reconstruction_is_the_signal();
}
TEST_P(HippoSetup, DiscretisationIsItsDefinition) {
    discretisation_is_its_definition();
}
TEST_P(HippoSetup, TildeConversions) {
    tilde_conversions();
}

// What the mutations run.
TEST_P(HippoSetup, Quick) {
    matrices_are_their_definitions();
    initialisations_are_their_definitions();
    normal_form_is_the_matrix();
    reconstruction_is_the_signal();
    discretisation_is_its_definition();
    tilde_conversions();
}

TEST_P(HippoSetup, BadInput) {
    HostTensor a(type, {3, 3}), b(type, {3}), wide(type, {3, 4}), w(complex, {2}), p(complex, {1, 2}), one(type, {1, 1, 1});
    auto matrix = args_of<ssm_hippo_matrix_args>();
    matrix.a = a.get();
    matrix.measure = 5;
    expect_failure(ssm_hippo_matrix(context, &matrix), "measure: an ssm_hippo_measure expected, 5 given");
    matrix.measure = SSM_HIPPO_FOUT;
    expect_failure(ssm_hippo_matrix(context, &matrix), "a: an even N for fout expected, shape (3,3) given");
    matrix.measure = SSM_HIPPO_LEGS;
    matrix.a = wide.get();
    expect_failure(ssm_hippo_matrix(context, &matrix), "a: shape (4,4) expected, (3,4) given");
    DLTensor elsewhere = a.view;
    elsewhere.device = {kDLCUDA, 0};
    matrix.a = &elsewhere;
    expect_failure(ssm_hippo_matrix(context, &matrix), "a: a tensor in host memory expected, one on cuda:0 given");
    matrix.a = nullptr;
    expect_failure(ssm_hippo_matrix(context, &matrix), "a: a tensor expected, NULL given");
    auto nplr = args_of<ssm_hippo_nplr_args>();
    nplr.eigenvalues = w.get();
    nplr.measure = SSM_HIPPO_LMU;
    expect_failure(ssm_hippo_nplr(context, &nplr),
                   "measure: legs, legt, lagt or fout expected, lmu, which is not normal in any such basis given");
    nplr.measure = SSM_HIPPO_LEGT;
    nplr.p = p.get();
    expect_failure(ssm_hippo_nplr(context, &nplr), "p: a rank of at least 2 expected, shape (1,2) given");
    auto dense = args_of<ssm_discretize_dense_args>();
    HostTensor row(type, {1, 1}), dt(type, {1}), a_bar(type, {1, 1, 1});
    dense.a = one.get();
    dense.b = row.get();
    dense.dt = dt.get();
    dense.a_bar = a_bar.get();
    expect_failure(ssm_discretize_dense(context, &dense), "dt[0]: a positive number expected, 0 given");
    auto reconstruct = args_of<ssm_hippo_reconstruct_args>();
    reconstruct.coefficients = b.get();
    reconstruct.points = b.get();
    HostTensor f(type, {3});
    reconstruct.f = f.get();
    reconstruct.measure = SSM_HIPPO_LAGT;
    expect_failure(ssm_hippo_reconstruct(context, &reconstruct),
                   "window: a positive number for lagt expected, 0.000000 given");
    auto tilde = args_of<ssm_dplr_to_tilde_args>();
    expect_failure(ssm_dplr_to_tilde(context, &tilde), "eigenvalues: a tensor expected, NULL given");
}

TEST_P(HippoSetup, NoStates) {
    HostTensor matrix(type, {0, 0}), row(complex, {0}), coefficients(type, {0}), points(type, {3}), f(type, {3});
    for (const ssm_hippo_measure measure : {SSM_HIPPO_LEGS, SSM_HIPPO_FOUT}) {
        auto args = args_of<ssm_hippo_matrix_args>();
        args.measure = measure;
        args.a = matrix.get();
        expect_failure(ssm_hippo_matrix(context, &args), "a: at least one state expected, shape (0,0) given");
    }
    auto nplr = args_of<ssm_hippo_nplr_args>();
    nplr.eigenvalues = row.get();
    expect_failure(ssm_hippo_nplr(context, &nplr), "eigenvalues: at least one state expected, shape (0) given");
    auto init = args_of<ssm_diagonal_initialize_args>();
    init.eigenvalues = row.get();
    expect_failure(ssm_diagonal_initialize(context, &init), "eigenvalues: at least one state expected, shape (0) given");
    init.init = 5;
    expect_failure(ssm_diagonal_initialize(context, &init), "init: an ssm_diagonal_init expected, 5 given");
    auto reconstruct = args_of<ssm_hippo_reconstruct_args>();
    reconstruct.coefficients = coefficients.get();
    reconstruct.points = points.get();
    reconstruct.f = f.get();
    expect_failure(ssm_hippo_reconstruct(context, &reconstruct),
                   "coefficients: at least one state expected, shape (0) given");
    auto dense = args_of<ssm_discretize_dense_args>();
    HostTensor a(type, {2, 0, 0}), b(type, {2, 0}), dt(type, {2}), a_bar(type, {2, 0, 0});
    dense.a = a.get();
    dense.b = b.get();
    dense.dt = dt.get();
    dense.a_bar = a_bar.get();
    expect_failure(ssm_discretize_dense(context, &dense), "a: at least one state expected, shape (2,0,0) given");
}

// Values are looked at at once, as they are on the host.
TEST_P(HippoSetup, WrongValues) {
    const std::pair<double, const char*> steps[] = {
        {0, "0"}, {-0.5, "-0.5"}, {std::nan(""), "nan"}, {std::numeric_limits<double>::infinity(), "inf"}};
    Tensor system(type, {2, 2, 2}), ones(type, {2});
    ones.values = {1, 1};
    auto dense = args_of<ssm_discretize_dense_args>();
    HostTensor a(system), b(type, {2, 2}), one(ones), a_bar(type, {2, 2, 2});
    dense.a = a.get();
    dense.b = b.get();
    dense.a_bar = a_bar.get();
    for (const auto& [value, text] : steps) {
        ones.values[1] = value;
        HostTensor dt(ones);
        dense.dt = dt.get();
        expect_failure(ssm_discretize_dense(context, &dense),
                       std::string("dt[1]: a positive number expected, ") + text + " given");
    }
    dense.dt = one.get();
    system.at(1, 0, 1) = std::nan("");
    HostTensor wrong_a(system);
    dense.a = wrong_a.get();
    expect_failure(ssm_discretize_dense(context, &dense), "a[1,0,1]: a finite number expected, nan given");

    const auto convert = [&](int64_t length, int64_t rank, double step, Number eigenvalue, const std::string& sentence) {
        Tensor own_dt(type, {1}), own_w(complex, {1, 2});
        own_dt.values[0] = step;
        own_w.values = {{-1, 1}, eigenvalue};
        HostTensor w(own_w), p(complex, {1, rank, 2}), dt(own_dt), c(complex, {1, 2}), out(complex, {1, 2});
        const auto fill = [&](auto args) {
            args.length = length;
            args.eigenvalues = w.get();
            args.p = p.get();
            args.dt = dt.get();
            return args;
        };
        auto to = fill(args_of<ssm_dplr_to_tilde_args>());
        to.c = c.get();
        to.c_tilde = out.get();
        expect_failure(ssm_dplr_to_tilde(context, &to), sentence);
        auto from = fill(args_of<ssm_dplr_from_tilde_args>());
        from.c_tilde = c.get();
        from.c = out.get();
        expect_failure(ssm_dplr_from_tilde(context, &from), sentence);
        auto twice = fill(args_of<ssm_dplr_double_length_args>());
        twice.c_tilde = c.get();
        twice.c_doubled = out.get();
        expect_failure(ssm_dplr_double_length(context, &twice), sentence);
    };
    convert(0, 1, 1, 1, "length: at least 1 expected, 0 given");
    convert(4, 0, 1, 1, "p: a rank of 1 to 4 expected, shape (1,0,2) given");
    convert(4, 5, 1, 1, "p: a rank of 1 to 4 expected, shape (1,5,2) given");
    for (const auto& [value, text] : steps)
        convert(4, 1, value, 1, std::string("dt[0]: a positive number expected, ") + text + " given");
    convert(4, 1, 1, {0, std::nan("")}, "eigenvalues[0,1]: a finite number expected, one that is not given");

    auto reconstruct = args_of<ssm_hippo_reconstruct_args>();
    Tensor points(type, {2});
    points.values = {1, 1.5};
    HostTensor x(points), f(type, {2});
    reconstruct.coefficients = one.get();
    reconstruct.points = x.get();
    reconstruct.f = f.get();
    expect_failure(ssm_hippo_reconstruct(context, &reconstruct), "points[1]: a number from 0 to 1 expected, 1.500000 given");
}

INSTANTIATE_TEST_SUITE_P(Devices, HippoSetup, testing::ValuesIn(targets({float32, float64})),
                         [](const auto& info) { return name_of(info.param); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(HippoSetup);

} // namespace ssm::test
