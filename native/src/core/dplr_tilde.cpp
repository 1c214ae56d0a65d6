// The conversions of c of diagonal plus low-rank systems on the host, as dense matrices of Eigen's: c (I - a_bar^L), the way
// back, and c (I + a_bar^L). One file for the three: what they take of Eigen is most of the compiler's work.
#include "core/host_values.h"
#include "core/mutate.h"
#include "core/state_space.h"

#include <Eigen/Dense>

using namespace ssm;

namespace {

// a_bar of a head by its definition, of all states: with pairs the conjugates come behind the given ones.
Eigen::MatrixXcd dplr_step(const Tensor& eigenvalues, const Tensor& p, double dt, int64_t head, bool pairs) {
    const int64_t given = eigenvalues.shape[1], states = pairs ? 2 * given : given, rank = p.shape[1];
    Eigen::MatrixXcd a = Eigen::MatrixXcd::Zero(states, states), columns(states, rank);
    for (int64_t n = 0; n < given; ++n) {
        const std::complex<double> w = complex_at(eigenvalues, {head, n});
        a(n, n) = w;
        if (pairs)
            a(given + n, given + n) = std::conj(w);
        for (int64_t r = 0; r < rank; ++r) {
            columns(n, r) = complex_at(p, {head, r, n});
            if (pairs)
                columns(given + n, r) = std::conj(columns(n, r));
        }
    }
    a -= columns * columns.adjoint();
    const Eigen::MatrixXcd one = Eigen::MatrixXcd::Identity(states, states);
    return (one - dt / 2 * a).partialPivLu().solve(one + dt / 2 * a);
}

Eigen::MatrixXcd power(Eigen::MatrixXcd base, int64_t exponent) {
    Eigen::MatrixXcd result = Eigen::MatrixXcd::Identity(base.rows(), base.cols());
    for (; exponent > 0; exponent /= 2) {
        if (exponent % 2 != 0)
            result = result * base;
        if (exponent > 1)
            base = base * base;
    }
    return result;
}

// convert(row, a_bar^L) answers the new row, for the row c of each head.
using Convert = Eigen::RowVectorXcd (*)(const Eigen::RowVectorXcd& c, const Eigen::MatrixXcd& steps);
template <class Args>
void convert_dplr_rows(Contract& contract, const Args& args, const char* from_name, const DLTensor* from_given,
                       const char* to_name, const DLTensor* to_given, Convert convert) {
    const Tensor& eigenvalues = contract.input("eigenvalues", args.eigenvalues);
    const Tensor& p = contract.input("p", args.p);
    const Tensor& dt = contract.input("dt", args.dt);
    const Tensor& from = contract.input(from_name, from_given);
    const Tensor& to = contract.output(to_name, to_given);
    contract.allow_inplace(to, from);
    const bool pairs = read_bool("conjugate_pairs", args.conjugate_pairs);
    if (args.length < 1)
        fail_argument("length", "at least 1", std::to_string(args.length));
    expect_type(eigenvalues, {DataType::complex64, DataType::complex128});
    const DataType type = eigenvalues.type();
    for (const Tensor* tensor : {&p, &from, &to})
        expect_type(*tensor, type);
    expect_type(dt, real_of(type));
    expect_rank(eigenvalues, 2);
    const int64_t heads = eigenvalues.shape[0], states = eigenvalues.shape[1];
    expect_rank(p, 3);
    if (p.shape[1] < 1 || p.shape[1] > 4)
        fail_argument("p", "a rank of 1 to 4", "shape " + text_of_shape(p.shape, p.rank));
    expect_shape(p, {heads, p.shape[1], states});
    expect_shape(dt, {heads});
    expect_shape(from, {heads, states});
    expect_shape(to, {heads, states});
    expect_states(eigenvalues, states);
    contract.expect_outputs_apart();
    expect_positive(dt);
    for (int64_t h = 0; h < heads; ++h) {
        const Eigen::MatrixXcd steps = power(dplr_step(eigenvalues, p, real_at(dt, {h}), h, pairs), args.length);
        Eigen::RowVectorXcd row(steps.cols());
        for (int64_t n = 0; n < states; ++n) {
            row(n) = complex_at(from, {h, n});
            if (pairs)
                row(states + n) = std::conj(row(n));
        }
        const Eigen::RowVectorXcd result = convert(row, steps);
        for (int64_t n = 0; n < states; ++n)
            put(to, {h, n}, std::complex<double>(result(n)));
    }
}

} // namespace

// c_tilde = c (I - a_bar^L).
extern "C" int32_t ssm_dplr_to_tilde(ssm_context* context, const ssm_dplr_to_tilde_args* given) {
    return run_on_host(context, [&](Contract& contract) {
        const auto args = read_arguments(given);
        convert_dplr_rows(contract, args, "c", args.c, "c_tilde", args.c_tilde,
                          [](const Eigen::RowVectorXcd& c, const Eigen::MatrixXcd& steps) -> Eigen::RowVectorXcd {
                              return c - SSM_MUTATE("hippo_setup.cpu.no_power", 1.0, 0.0) * (c * steps);
                          });
    });
}

// c = c_tilde (I - a_bar^L)^-1.
extern "C" int32_t ssm_dplr_from_tilde(ssm_context* context, const ssm_dplr_from_tilde_args* given) {
    return run_on_host(context, [&](Contract& contract) {
        const auto args = read_arguments(given);
        convert_dplr_rows(contract, args, "c_tilde", args.c_tilde, "c", args.c,
                          [](const Eigen::RowVectorXcd& c, const Eigen::MatrixXcd& steps) -> Eigen::RowVectorXcd {
                              const Eigen::MatrixXcd one = Eigen::MatrixXcd::Identity(steps.rows(), steps.cols());
                              return (one - SSM_MUTATE("hippo_setup.cpu.plus", 1.0, -1.0) * steps)
                                  .transpose()
                                  .partialPivLu()
                                  .solve(c.transpose())
                                  .transpose();
                          });
    });
}

// The c_tilde of twice the length: c_tilde (I + a_bar^L).
extern "C" int32_t ssm_dplr_double_length(ssm_context* context, const ssm_dplr_double_length_args* given) {
    return run_on_host(context, [&](Contract& contract) {
        const auto args = read_arguments(given);
        convert_dplr_rows(contract, args, "c_tilde", args.c_tilde, "c_doubled", args.c_doubled,
                          [](const Eigen::RowVectorXcd& c, const Eigen::MatrixXcd& steps) -> Eigen::RowVectorXcd {
                              return c + SSM_MUTATE("hippo_setup.cpu.minus", 1.0, -1.0) * (c * steps);
                          });
    });
}
