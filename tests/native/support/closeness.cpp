#include "support/closeness.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace ssm::test {

namespace {

double distance(const Tensor& first, const Tensor& second) {
    double sum = 0;
    for (int64_t i = 0; i < first.size(); ++i)
        sum += std::norm(first.values[i] - second.values[i]);
    return std::sqrt(sum);
}

double norm(const Tensor& tensor) {
    double sum = 0;
    for (const Number value : tensor.values)
        sum += std::norm(value);
    return std::sqrt(sum);
}

} // namespace

void expect_close(const Tensor& value, const Tensor& exact, Tolerance tolerance, const std::string& context) {
    ASSERT_EQ(value.shape, exact.shape) << context;
    int64_t wrong = 0, first = -1;
    for (int64_t i = 0; i < value.size(); ++i) {
        const double limit = tolerance.absolute + tolerance.relative * std::abs(exact.values[i]);
        if (!(std::abs(value.values[i] - exact.values[i]) <= limit) && wrong++ == 0)
            first = i;
    }
    EXPECT_EQ(wrong, 0) << "of " << value.size() << " elements of " << context << "; the first is " << first << ": "
                        << value.values[first] << ", expected " << exact.values[first];
}

void expect_close(const Outputs& outputs, const Reference& exact, Tolerance tolerance, const std::string& context) {
    ASSERT_EQ(outputs.size(), exact.size()) << context;
    for (const auto& [name, value] : outputs)
        expect_close(value, exact.at(name).value, tolerance, name + " of " + context);
}

void expect_norms(const Outputs& outputs, const Reference& exact, double tolerance, const std::string& context) {
    ASSERT_EQ(outputs.size(), exact.size()) << context;
    for (const auto& [name, value] : outputs) {
        const Tensor& expected = exact.at(name).value;
        ASSERT_EQ(value.shape, expected.shape) << name << " of " << context;
        EXPECT_LE(distance(value, expected), tolerance * norm(expected)) << name << " of " << context;
    }
}

void RoundingDistances::add(Context& context, const Problem& exact, const Problem& low) {
    const Reference truth = reference(exact), explained = reference(low);
    for (const auto& [name, value] : run(context, low)) {
        const Tensor& true_value = truth.at(name).value;
        Tensor best = explained.at(name).value;
        for (Number& number : best.values)
            number = rounded(best.type, number);
        const double size = norm(true_value);
        if (size == 0)
            continue;
        Distance& sum = distances[name];
        sum.off += std::pow(distance(value, true_value) / size, 2);
        sum.explained += std::pow(distance(best, true_value) / size, 2);
        sum.elements += value.size();
    }
}

double RoundingDistances::expect(const std::string& context) const {
    double worst = 0;
    for (const auto& [name, sum] : distances) {
        if (sum.elements < fewest)
            continue;
        const double off = std::sqrt(sum.off), explained = std::sqrt(sum.explained);
        EXPECT_LE(off, most * explained) << name << " of " << context << " is further from the truth than rounding explains";
        if (explained > 0)
            worst = std::max(worst, off / explained);
    }
    return worst;
}

} // namespace ssm::test
