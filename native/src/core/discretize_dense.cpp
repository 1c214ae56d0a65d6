// Discretisation of dense systems on the host; solutions and the matrix exponential are Eigen's.
#include "core/host_values.h"
#include "core/mutate.h"
#include "core/state_space.h"

#include <Eigen/Dense>
#include <unsupported/Eigen/MatrixFunctions>

using namespace ssm;

namespace {

// [a_bar, b_bar], n x (n + 1). zoh is the exponential of [[a, b], [0, 0]] dt by scaling and squaring with Pade approximants.
Eigen::MatrixXd discretized(const Eigen::MatrixXd& a, const Eigen::VectorXd& b, double dt, Discretization method,
                            double alpha) {
    const Eigen::Index n = a.rows();
    if (method == Discretization::zoh) {
        Eigen::MatrixXd whole = Eigen::MatrixXd::Zero(n + 1, n + 1);
        whole.topLeftCorner(n, n) = dt * a;
        whole.topRightCorner(n, 1) = dt * b;
        return Eigen::MatrixXd(whole.exp()).topRows(n);
    }
    const double after = implicit_share(method, alpha) * dt, before = dt - after;
    const Eigen::MatrixXd one = Eigen::MatrixXd::Identity(n, n);
    Eigen::MatrixXd right(n, n + 1);
    right.leftCols(n) = one + before * a;
    right.rightCols(1) = SSM_MUTATE("hippo_setup.cpu.no_dt", dt, 1.0) * b;
    return after == 0 ? right : Eigen::MatrixXd((one - after * a).partialPivLu().solve(right));
}

} // namespace

extern "C" int32_t ssm_discretize_dense(ssm_context* context, const ssm_discretize_dense_args* given) {
    return run_on_host(context, [&](Contract& contract) {
        const auto args = read_arguments(given);
        const Tensor& a = contract.input("a", args.a);
        const Tensor& b = contract.input("b", args.b);
        const Tensor& dt = contract.input("dt", args.dt);
        const Tensor& a_bar = contract.output("a_bar", args.a_bar);
        const Tensor& b_bar = contract.optional_output("b_bar", args.b_bar);
        read_discretization(args.discretization, args.alpha);
        expect_type(a, {DataType::float32, DataType::float64});
        for (const Tensor* tensor : {&b, &dt, &a_bar, &b_bar})
            expect_type(*tensor, a.type());
        expect_rank(a, 3);
        const int64_t heads = a.shape[0], states = a.shape[2];
        expect_shape(a, {heads, states, states});
        expect_shape(b, {heads, states});
        expect_shape(dt, {heads});
        expect_shape(a_bar, {heads, states, states});
        expect_shape(b_bar, {heads, states});
        expect_states(a, states);
        contract.expect_outputs_apart();
        expect_positive(dt);

        Eigen::MatrixXd own_a(states, states);
        Eigen::VectorXd own_b(states);
        for (int64_t h = 0; h < heads; ++h) {
            for (int64_t i = 0; i < states; ++i) {
                own_b(i) = real_at(b, {h, i});
                for (int64_t j = 0; j < states; ++j)
                    own_a(i, j) = real_at(a, {h, i, j});
            }
            const Eigen::MatrixXd result =
                discretized(own_a, own_b, real_at(dt, {h}), static_cast<Discretization>(args.discretization), args.alpha);
            for (int64_t i = 0; i < states; ++i) {
                for (int64_t j = 0; j < states; ++j)
                    put(a_bar, {h, i, j}, result(i, j));
                if (b_bar)
                    put(b_bar, {h, i}, result(i, states));
            }
        }
    });
}
