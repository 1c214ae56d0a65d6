// Signals from HiPPO's coefficients.
#include "core/hippo_measure.h"
#include "core/host_values.h"
#include "core/mutate.h"

#include <vector>

using namespace ssm;

namespace {

// The functions of a measure at one point, by their recurrences.
void fill_basis(Measure measure, double window, double x, std::vector<double>& basis) {
    const size_t count = basis.size();
    if (measure == Measure::fout) {
        const double s = 2 * (1 - x);
        for (size_t k = 0; 2 * k < count; ++k) {
            const double angle = hippo_pi * static_cast<double>(k) * s, root = k == 0 ? 1 : std::sqrt(2.0);
            basis[2 * k] = root * std::cos(angle);
            basis[2 * k + 1] = k == 0 ? 0 : root * std::sin(angle);
        }
        return;
    }
    const bool is_laguerre = measure == Measure::lagt;
    // The memory unit's polynomials begin at the newest sample.
    const double y = is_laguerre ? window * (1 - x) : measure == Measure::lmu ? 1 - 2 * x : 2 * x - 1;
    double before = 0, value = is_laguerre ? std::exp(-y / 2) : 1;
    for (size_t n = 0; n < count; ++n) {
        const double i = static_cast<double>(n);
        basis[n] = value * (measure == Measure::legs || measure == Measure::legt ? std::sqrt(2 * i + 1) : 1);
        const double next = is_laguerre ? ((2 * i + 1 - y) * value - i * before) / (i + 1)
                                        : ((2 * i + 1) * y * value - i * before) / (i + 1);
        before = value;
        value = next;
    }
}

} // namespace

extern "C" int32_t ssm_hippo_reconstruct(ssm_context* context, const ssm_hippo_reconstruct_args* given) {
    return run_on_host(context, [&](Contract& contract) {
        const auto args = read_arguments(given);
        const Tensor& coefficients = contract.input("coefficients", args.coefficients);
        const Tensor& points = contract.input("points", args.points);
        const Tensor& f = contract.output("f", args.f);
        const Measure measure = read_measure(args.measure);
        if (measure == Measure::lagt ? !(args.window > 0 && std::isfinite(args.window)) : args.window != 0) {
            fail_argument("window", measure == Measure::lagt ? "a positive number for lagt" : "0 but for lagt",
                          std::to_string(args.window));
        }
        expect_type(coefficients, {DataType::float32, DataType::float64});
        expect_type(points, coefficients.type());
        expect_type(f, coefficients.type());
        if (coefficients.rank != 1 && coefficients.rank != 2) {
            fail_argument("coefficients", "rank 1, or 2 with a batch",
                          "shape " + text_of_shape(coefficients.shape, coefficients.rank));
        }
        const bool has_batch = coefficients.rank == 2;
        const int64_t batch = has_batch ? coefficients.shape[0] : 1, states = coefficients.shape[coefficients.rank - 1];
        expect_rank(points, 1);
        const int64_t count = points.shape[0];
        has_batch ? expect_shape(f, {batch, count}) : expect_shape(f, {count});
        expect_hippo_size(coefficients, args.measure, states);
        contract.expect_outputs_apart();

        std::vector<double> basis(static_cast<size_t>(states));
        for (int64_t i = 0; i < count; ++i) {
            const double x = real_at(points, {i});
            if (!(x >= 0 && x <= 1))
                fail_argument(("points[" + std::to_string(i) + "]").c_str(), "a number from 0 to 1", std::to_string(x));
            fill_basis(measure, args.window, SSM_MUTATE("hippo_setup.cpu.reversed", x, 1 - x), basis);
            for (int64_t row = 0; row < batch; ++row) {
                double sum = 0;
                for (int64_t n = 0; n < states; ++n) {
                    const double own = has_batch ? real_at(coefficients, {row, n}) : real_at(coefficients, {n});
                    sum += own * basis[static_cast<size_t>(n)];
                }
                has_batch ? put(f, {row, i}, sum) : put(f, {i}, sum);
            }
        }
    });
}
