// The normal plus low-rank form of HiPPO's matrices, and the initialisations of diagonal systems, one of which is made of
// it.
#include "core/hippo_normal.h"

#include "core/hippo_measure.h"
#include "core/host_values.h"
#include "core/mutate.h"

using namespace ssm;

namespace ssm {
namespace {

// The low-rank part: A + sum_r p_r p_r^T is a multiple of the identity and a skew-symmetric matrix.
double low_rank(Measure measure, int r, int64_t i) {
    const double root = std::sqrt(static_cast<double>(i) + 0.5);
    switch (measure) {
    case Measure::legs:
        return root;
    case Measure::legt:
        return i % 2 == r ? root * std::sqrt(2.0) : 0;
    case Measure::lagt:
        return std::sqrt(0.5);
    case Measure::fout:
        return hippo_b(measure, i);
    case Measure::lmu:
        break;
    }
    return 0;
}

} // namespace

HippoNormal hippo_normal(Measure measure, int64_t states) {
    const int64_t size = 2 * states;
    const int rank = hippo_rank(measure);
    Eigen::MatrixXd p(rank, size), normal(size, size);
    Eigen::VectorXd b(size);
    for (int64_t i = 0; i < size; ++i) {
        b(i) = hippo_b(measure, i);
        for (int r = 0; r < rank; ++r)
            p(r, i) = low_rank(measure, r, i);
        for (int64_t j = 0; j < size; ++j)
            normal(i, j) = hippo_a(measure, i, j);
    }
    normal += p.transpose() * p;
    const double real = normal.diagonal().mean();
    // -i times the skew part is Hermitian; its eigenvalues come in ascending order and in pairs of opposite sign.
    const Eigen::MatrixXd skew = 0.5 * (normal - normal.transpose());
    const Eigen::MatrixXcd hermitian = std::complex<double>(0, -1) * skew.cast<std::complex<double>>();
    const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXcd> solver(hermitian);
    if (solver.info() != Eigen::Success)
        fail(SSM_ERROR_INTERNAL, "hippo_nplr: the eigenvalues did not converge");
    HippoNormal result;
    result.v = solver.eigenvectors().rightCols(states);
    result.eigenvalues.resize(states);
    for (int64_t n = 0; n < states; ++n)
        result.eigenvalues(n) = {real,
                                 SSM_MUTATE("hippo_setup.cpu.negative_half", 1, -1) * solver.eigenvalues()(states + n)};
    if (measure == Measure::fout) {
        // The constant and the sine that is none have the eigenvalue 0 both: a pair of vectors that are conjugates.
        result.v.col(0).setZero();
        result.v(0, 0) = std::sqrt(0.5);
        result.v(1, 0) = {0, -std::sqrt(0.5)};
        result.eigenvalues(0) = real;
    }
    result.p = p.cast<std::complex<double>>() * result.v.conjugate();
    result.b = result.v.adjoint() * b.cast<std::complex<double>>();
    return result;
}

} // namespace ssm

extern "C" int32_t ssm_hippo_nplr(ssm_context* context, const ssm_hippo_nplr_args* given) {
    return run_on_host(context, [&](Contract& contract) {
        const auto args = read_arguments(given);
        const Tensor& eigenvalues = contract.output("eigenvalues", args.eigenvalues);
        const Tensor& p = contract.optional_output("p", args.p);
        const Tensor& b = contract.optional_output("b", args.b);
        const Tensor& v = contract.optional_output("v", args.v);
        const Measure measure = read_measure(args.measure);
        if (measure == Measure::lmu)
            fail_argument("measure", "legs, legt, lagt or fout", "lmu, which is not normal in any such basis");
        expect_type(eigenvalues, {DataType::complex64, DataType::complex128});
        for (const Tensor* tensor : {&p, &b, &v})
            expect_type(*tensor, eigenvalues.type());
        expect_rank(eigenvalues, 1);
        const int64_t states = eigenvalues.shape[0];
        if (states < 1)
            fail_argument("eigenvalues", "at least one state", "shape (0)");
        expect_rank(p, 2);
        const int rank = hippo_rank(measure);
        if (p && p.shape[0] < rank)
            fail_argument("p", "a rank of at least " + std::to_string(rank), "shape " + text_of_shape(p.shape, p.rank));
        expect_shape(p, {p ? p.shape[0] : 0, states});
        expect_shape(b, {states});
        expect_shape(v, {2 * states, states});
        contract.expect_outputs_apart();

        const HippoNormal normal = hippo_normal(measure, states);
        for (int64_t n = 0; n < states; ++n) {
            put(eigenvalues, {n}, normal.eigenvalues(n));
            for (int64_t r = 0; p && r < p.shape[0]; ++r)
                put(p, {r, n}, r < rank ? normal.p(r, n) : std::complex<double>(0));
            if (b)
                put(b, {n}, normal.b(n));
            for (int64_t i = 0; v && i < 2 * states; ++i)
                put(v, {i, n}, normal.v(i, n));
        }
    });
}
