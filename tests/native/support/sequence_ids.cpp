#include "support/sequence_ids.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace ssm::test {

namespace {

int64_t id_at(const Tensor& ids, int64_t row, int64_t t) {
    return static_cast<int64_t>(ids.at(row, t).real());
}

bool is_state(const std::string& name) {
    return name.find("state") != std::string::npos;
}

// The steps of each sequence of a row; without any step, one empty sequence.
std::vector<std::vector<int64_t>> sequences_of(const Tensor& ids, int64_t row) {
    std::vector<std::vector<int64_t>> result(1);
    for (int64_t t = 0; t < ids.shape[1]; ++t) {
        if (id_at(ids, row, t) < 0)
            continue;
        if (!result.back().empty() && id_at(ids, row, t) != id_at(ids, row, result.back().back()))
            result.emplace_back();
        result.back().push_back(t);
    }
    return result;
}

Tensor take_steps(const Tensor& tensor, const std::vector<int64_t>& steps) {
    std::vector<int64_t> shape = tensor.shape;
    const int64_t length = shape.back();
    shape.back() = static_cast<int64_t>(steps.size());
    Tensor result(tensor.type, shape);
    auto to = result.values.begin();
    for (int64_t first = 0; first < tensor.size(); first += length)
        for (const int64_t step : steps)
            *to++ = tensor.values[first + step];
    return result;
}

// A state of each sequence, all zero but one.
Tensor states_of(const Tensor& row, int64_t sequences, int64_t holder) {
    std::vector<int64_t> shape = row.shape;
    shape[0] = sequences;
    Tensor result(row.type, shape);
    std::copy(row.values.begin(), row.values.end(), result.values.begin() + holder * row.size());
    return result;
}

std::vector<int64_t> steps_of(const std::vector<std::vector<int64_t>>& sequences) {
    std::vector<int64_t> steps;
    for (const std::vector<int64_t>& sequence : sequences)
        steps.insert(steps.end(), sequence.begin(), sequence.end());
    return steps;
}

} // namespace

Tensor make_ids(IdPattern pattern, int64_t batch, int64_t length, Random& random) {
    Tensor ids(Type::int32, {batch, length});
    const auto set = [&](int64_t row, int64_t t, int64_t id) { ids.at(row, t) = static_cast<double>(id); };
    for (int64_t row = 0; row < batch; ++row) {
        // Where padding begins or ends.
        const int64_t border = row + 1 == batch && batch > 1 ? 0 : length - length * (row + 1) / (batch + 2) - (length > 1);
        int64_t t = 0, turn = 0;
        while (t < length) {
            int64_t run = length, id = 5;
            switch (pattern) {
            case IdPattern::none:
                break;
            case IdPattern::right:
                run = t == 0 && border > 0 ? border : length - t;
                id = t < border ? 3 : -1;
                break;
            case IdPattern::left:
                run = t == 0 && border < length ? length - border : length;
                id = t < length - border ? -7 : 0;
                break;
            case IdPattern::middle:
                run = turn % 2 ? random.integer(1, 20) : random.integer(1, 40);
                id = turn % 2 ? -1 : 2;
                break;
            case IdPattern::returning:
                run = random.integer(20, 150);
                id = turn % 3 == 2 ? -1 : turn % 2;
                break;
            case IdPattern::short_runs:
                run = random.integer(1, 9);
                id = turn % 4 == 3 ? -2147483648LL : (turn / 4) % 2 + (turn % 4 == 2) * 2147483000LL;
                break;
            case IdPattern::every_step:
                run = 1;
                id = turn % 3;
                break;
            case IdPattern::random:
                run = 1;
                id = random.integer(-1, 1);
                break;
            }
            for (++turn; run > 0 && t < length; --run)
                set(row, t++, id);
        }
    }
    return ids;
}

Problem with_ids(const Problem& problem, const Tensor& ids) {
    Problem result = problem;
    result.inputs["seq_idx"] = ids;
    for (auto& [name, tensor] : result.inputs) {
        if (!is_sequence(name, tensor))
            continue;
        const int64_t length = tensor.shape.back(), inner = tensor.size() / tensor.shape[0];
        for (int64_t i = 0; i < tensor.size(); ++i)
            if (id_at(ids, i / inner, i % length) < 0)
                tensor.values[i] = std::numeric_limits<double>::quiet_NaN();
    }
    return result;
}

Problem packed_row(const Problem& problem, int64_t row) {
    const auto sequences = sequences_of(problem.inputs.at("seq_idx"), row);
    const std::vector<int64_t> steps = steps_of(sequences);
    const int64_t count = static_cast<int64_t>(sequences.size());
    Problem result = problem;
    result.views.clear();
    result.inputs.erase("seq_idx");
    for (auto* tensors : {&result.inputs, &result.outputs})
        for (auto& [name, tensor] : *tensors) {
            if (is_sequence(name, tensor))
                tensor = take_steps(row_of(tensor, row), steps);
            else if (is_state(name))
                tensor = states_of(row_of(tensor, row), count, name == "initial_state" ? 0 : count - 1);
        }
    Tensor bounds(Type::int64, {count + 1});
    for (int64_t i = 0; i < count; ++i)
        bounds.values[i + 1] = bounds.values[i] + static_cast<double>(sequences[i].size());
    result.inputs["cu_seqlens"] = bounds;
    return result;
}

Reference reference_of_rows(const Problem& problem) {
    const Tensor& ids = problem.inputs.at("seq_idx");
    Reference result;
    for (const auto& [name, tensor] : problem.outputs)
        result[name] = {Tensor(tensor.type, tensor.shape), std::vector<double>(tensor.values.size())};
    for (int64_t row = 0; row < ids.shape[0]; ++row) {
        const auto sequences = sequences_of(ids, row);
        const std::vector<int64_t> steps = steps_of(sequences);
        const int64_t length = static_cast<int64_t>(steps.size());
        Reference own = reference(packed_row(problem, row));
        for (auto& [name, part] : own) {
            Expected& whole = result.at(name);
            // The limits count the roundings of many steps; a sequence of one has those of each product and function
            // besides.
            for (int64_t i = 0; i < part.value.size(); ++i)
                part.limit[i] += 4 * roundoff(state_type(problem.type)) * std::abs(part.value.values[i]);
            const int64_t row_size = whole.value.size() / whole.value.shape[0];
            if (is_sequence(name, whole.value)) {
                for (int64_t i = 0; i < part.value.size(); ++i) {
                    const int64_t to = row * row_size + i / length * ids.shape[1] + steps[i % length];
                    whole.value.values[to] = part.value.values[i];
                    whole.limit[to] = part.limit[i];
                }
            } else if (is_state(name)) {
                const int64_t from = name == "last_state" ? part.value.size() - row_size : 0;
                for (int64_t i = 0; i < row_size; ++i) {
                    whole.value.values[row * row_size + i] = part.value.values[from + i];
                    whole.limit[row * row_size + i] = part.limit[from + i];
                }
            } else {
                for (int64_t i = 0; i < whole.value.size(); ++i) {
                    whole.value.values[i] += part.value.values[i];
                    whole.limit[i] += part.limit[i];
                }
            }
        }
    }
    return result;
}

void quick_with_ids(Operation operation, const Target& target) {
    const bool slow = target.device.is_slow();
    Random random(7);
    size_t turn = 0;
    for (const int64_t tile : {0, 5, 40})
        for (const IdPattern pattern : all_id_patterns) {
            Context context(target.device);
            context.try_option(std::string(name_of(operation)) + ".tile", tile);
            context.try_option(std::string(name_of(operation)) + ".path", tile == 40 ? 3 : 0);
            const Size size{target.type, 2, 5, 170};
            const std::vector<Problem> all = problems(operation, size);
            for (size_t i = 0; i < (slow ? 1 : 2); ++i) {
                Problem problem = with_ids(all[turn++ % all.size()], make_ids(pattern, size.batch, size.length, random));
                if (turn % 2)
                    for (auto* tensors : {&problem.inputs, &problem.outputs})
                        for (const auto& [name, tensor] : *tensors)
                            if (is_sequence(name, tensor))
                                problem.views[name] = View::channel_contiguous;
                expect_near(run(context, problem), reference(problem),
                            problem.describe() + " tile " + std::to_string(tile) + " pattern " +
                                std::to_string(static_cast<int>(pattern)));
            }
            if (testing::Test::HasFailure())
                return;
        }
}

} // namespace ssm::test
