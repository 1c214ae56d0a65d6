#include "support/sequence_tests.h"

#include "support/sequence_ids.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <thread>

#include "support/allocations.h"

namespace ssm::test {

namespace {

const View both_layouts[] = {View::compact, View::channel_contiguous};

void set_views(Problem& problem, View view) {
    for (const auto* tensors : {&problem.inputs, &problem.outputs})
        for (const auto& [name, tensor] : *tensors)
            if (is_sequence(name, tensor))
                problem.views[name] = view;
}

void run_and_compare(Context& context, const Problem& problem, const Reference& expected, const std::string& note = "") {
    const std::string text = problem.describe() + (note.empty() ? "" : ", " + note);
    expect_near(run(context, problem), expected, text);
}

// How much more a step costs than one of a plain scan, the reference's too: rows are shorter by that.
int64_t cost_of(Operation operation) {
    return operation == Operation::selective_scan            ? 7
           : operation == Operation::selective_scan_backward ? 20
           : operation == Operation::causal_conv             ? 5
           : operation == Operation::causal_conv_backward    ? 10
           : operation == Operation::ssd                     ? 40
           : operation == Operation::ssd_backward            ? 80
           : operation == Operation::mamba3                  ? 60
           : operation == Operation::mamba3_backward         ? 120
                                                             : 1;
}

// Where a run takes long, because the device is slow or a step costs much, variants, layouts, views and sizes take turns
// instead of all meeting all. Two where both are so.
int thrift(Operation operation, const Device& device) {
    return (device.is_slow() ? 1 : 0) + (cost_of(operation) >= 20 ? 1 : 0);
}

// Against the reference in both layouts, or in turn where that takes long.
void compare_layouts(Context& context, const std::vector<Problem>& all, const std::string& note = "") {
    for (Problem problem : all) {
        const Reference expected = reference(problem);
        uint64_t turn = note.size();
        for (const auto& [name, tensor] : problem.inputs)
            turn += tensor.values.size();
        turn = Random(turn).next();
        for (const View layout : both_layouts) {
            if (thrift(problem.operation, context.device()) > 0 && turn++ % 2 != 0)
                continue;
            set_views(problem, layout);
            run_and_compare(context, problem, expected, note);
        }
        if (testing::Test::HasFailure())
            return;
    }
}

// One long row: every thread of a CPU gets a part of it; several tiles where the device is slow.
int64_t long_row(Operation operation, const Target& target, int64_t length) {
    return target.device.is_slow() ? std::max<int64_t>(3000 / cost_of(operation), 300) : length / cost_of(operation);
}

// A few tiles and a tail.
int64_t some_steps(Operation operation, const Target& target) {
    return !target.device.is_slow() || cost_of(operation) <= 10 ? 700 : cost_of(operation) < 60 ? 300 : 150;
}

// In what depends on how a kernel runs and not on its numbers, float16 stands for bfloat16 too, and where the device is
// slow float32 and float16 stand for all, or float32 alone.
bool stands_aside(const Target& target, bool for_float32 = false) {
    return target.type == Type::bfloat16 ||
           (target.device.is_slow() && target.type != Type::float32 && (for_float32 || target.type != Type::float16));
}
bool is_costly(Operation operation) {
    return cost_of(operation) >= 5;
}
bool stands_aside_where_costly(Operation operation, const Target& target) {
    return is_costly(operation) && stands_aside(target);
}
#define SSM_SKIP_IF(aside)                                                                                                  \
    if (aside)                                                                                                              \
    GTEST_SKIP() << "another type stands for this one"

std::string option(Operation operation, const char* name) {
    return std::string(name_of(operation)) + "." + name;
}

// Of the variants all, two, or one in turn.
std::vector<Problem> some(std::vector<Problem> all, const Target& target, size_t turn) {
    const int less = thrift(all[0].operation, target.device);
    if (less == 0)
        return all;
    std::vector<Problem> chosen{all[turn % all.size()]};
    if (less == 1)
        chosen.push_back(all[(turn + all.size() / 2) % all.size()]);
    return chosen;
}

// Lengths of packed sequences: empty ones at both ends and inside, single steps, and some across tiles.
std::vector<int64_t> bounds_of(const std::vector<int64_t>& lengths) {
    std::vector<int64_t> bounds{0};
    for (const int64_t length : lengths)
        bounds.push_back(bounds.back() + length);
    return bounds;
}

std::vector<std::vector<int64_t>> packings(int thrift) {
    std::vector<int64_t> many;
    Random random(5);
    for (int i = 0; i < (thrift == 0 ? 200 : 40); ++i)
        many.push_back(random.integer(0, i % 7 == 0 ? 150 : 9));
    return {
        bounds_of({77}),      bounds_of({0, 1, 1, 0, 0, 5, 64, 0, 31, 33, 128, 257, 2, 0}),
        bounds_of({0, 0, 0}), thrift == 2 ? bounds_of({130, 1, 70}) : bounds_of({1300, 1, 700}),
        bounds_of(many),
    };
}

} // namespace

// ---- Against the reference ---------------------------------------------------------------------------------------------

void matches_at_every_length(Operation operation, const Target& target) {
    SSM_SKIP_IF(target.device.is_slow() && stands_aside_where_costly(operation, target));
    Context context(target.device);
    const int64_t longest = cost_of(operation) > 10 ? 7001 : 70001;
    const std::vector<int64_t> all{0, 1, 2, 31, 32, 33, 127, 128, 129, 1023, 1024, 1025, longest};
    const std::vector<int64_t> fewer{0, 1, 2, 31, 33, 127, 128, 129, 1025};
    for (const int64_t length : thrift(operation, target.device) > 0 ? fewer : all) {
        const Size size{target.type, length == longest ? 1 : 2,    length == longest ? 2 : 3, length,
                        {},          static_cast<uint64_t>(length)};
        compare_layouts(context, some(problems(operation, size), target, static_cast<size_t>(length)));
    }
    if (thrift(operation, target.device) == 1 && target.type == Type::float32)
        compare_layouts(context, {problems(operation, {target.type, 1, 2, longest})[0]});
}

void matches_across_tiles(Operation operation, const Target& target) {
    SSM_SKIP_IF(stands_aside_where_costly(operation, target));
    Context context(target.device);
    const bool slow = target.device.is_slow();
    // Every problem in its turn where the reference takes longest.
    const bool few = slow || cost_of(operation) >= 10;
    const auto tiles = slow && cost_of(operation) > 10 ? std::vector<int64_t>{0, 1, 32, 128}
                                                       : std::vector<int64_t>{0, 1, 16, 32, 64, 128, 256};
    bool found = false;
    size_t turn = 0;
    for (const int64_t path : {0, 1, 2, 3, 4}) {
        // Path 0 is what the device chooses by itself.
        if (!context.try_option(option(operation, "path"), path) && path != 0)
            continue;
        for (const int64_t tile : tiles) {
            if (!context.try_option(option(operation, "tile"), tile))
                continue;
            found = true;
            const std::string note = "path " + std::to_string(path) + " tile " + std::to_string(tile);
            std::vector<int64_t> lengths{1, 33, 256, 700, 1500};
            if (slow)
                lengths = {33, some_steps(operation, target)};
            if (thrift(operation, target.device) == 2)
                lengths = {turn % 3 == 0 ? 33 : some_steps(operation, target)};
            for (const int64_t length : lengths) {
                const std::vector<Problem> all = problems(operation, {target.type, 2, 3, length, {}, 7});
                compare_layouts(context, few ? std::vector<Problem>{all[turn++ % all.size()]} : all, note);
            }
            if (thrift(operation, target.device) == 2 && turn % 2 != 0)
                continue;
            const std::vector<Problem> packed = problems(operation, {target.type, 1, 4, 522, packings(1)[1], 8});
            compare_layouts(context, few ? std::vector<Problem>{packed[turn % packed.size()]} : packed, note);
        }
        context.try_option(option(operation, "tile"), 0);
    }
    if (!found && operation == Operation::ssd_backward)
        GTEST_SKIP() << "its chunks are all it cuts time into"; // the CPU's
    EXPECT_TRUE(found) << "this device has no tile to set";
}

void matches_at_every_width(Operation operation, const Target& target) {
    SSM_SKIP_IF(stands_aside_where_costly(operation, target));
    Context context(target.device);
    const std::vector<int64_t> all{1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65, 130};
    const std::vector<int64_t> fewer{1, 4, 7, 33, 65};
    for (const int64_t channels : thrift(operation, target.device) > 0 ? fewer : all)
        for (const int64_t batch : {1, 3}) {
            const Size size{target.type, batch, channels, 37, {}, static_cast<uint64_t>(channels)};
            compare_layouts(context, some(problems(operation, size), target, static_cast<size_t>(channels + batch)));
        }
}

void matches_in_one_long_row(Operation operation, const Target& target) {
    SSM_SKIP_IF(target.device.is_slow() && stands_aside_where_costly(operation, target));
    Context context(target.device);
    if (target.device.is_slow()) {
        // Long for the tile, not for the clock.
        context.try_option(option(operation, "tile"), 32);
        compare_layouts(context, some(problems(operation, {target.type, 1, 1, 5003}), target, 1));
        return;
    }
    const int64_t length = long_row(operation, target, 150001);
    const std::vector<Problem> all = problems(operation, {target.type, 1, 1, length});
    compare_layouts(context, {all[0], all[1]});
    compare_layouts(context, {all[2]});
}

namespace {

void compare_views(Operation operation, const Target& target) {
    Context context(target.device);
    const View views[] = {View::null_strides, View::compact, View::channel_contiguous, View::padded, View::channel_padded,
                          View::offset,       View::strided, View::reversed_axes};
    const size_t count = std::size(views);
    size_t turn = 0;
    for (Problem problem : problems(operation, {target.type, 3, 5, 67})) {
        ++turn;
        const Reference expected = reference(problem);
        for (size_t i = 0; i < count; ++i) {
            if ((i + turn) % (thrift(operation, target.device) == 0 ? 1 : 4 * thrift(operation, target.device)) != 0)
                continue;
            // The same view for all, then a different one for each.
            for (auto* tensors : {&problem.inputs, &problem.outputs})
                for (auto& [name, tensor] : *tensors)
                    problem.views[name] = name == "cu_seqlens" ? View::compact : views[i];
            run_and_compare(context, problem, expected);
            size_t next = i + turn;
            for (auto& [name, view] : problem.views)
                view = views[next++ % count];
            run_and_compare(context, problem, expected);
        }
    }
}

} // namespace

void matches_in_every_view(Operation operation, const Target& target) {
    SSM_SKIP_IF(stands_aside_where_costly(operation, target));
    compare_views(operation, target);
}

void matches_with_broadcast_inputs(Operation operation, const Target& target) {
    SSM_SKIP_IF(target.device.is_slow() && stands_aside_where_costly(operation, target));
    Context context(target.device);
    const View views[] = {View::broadcast_batch, View::broadcast_channel, View::broadcast_time};
    size_t turn = 0;
    for (const Problem& problem : some(problems(operation, {target.type, 3, 5, 67}), target, 0))
        for (const auto& [name, tensor] : problem.inputs)
            for (int i = 0; i < 3; ++i) {
                const int axis = i == 2 ? static_cast<int>(tensor.shape.size()) - 1 : i;
                if (axis >= static_cast<int>(tensor.shape.size()) ||
                    turn++ % (1 + 2 * thrift(operation, target.device)) != 0)
                    continue;
                Problem broadcast = problem;
                broadcast.inputs[name] = constant_along(tensor, axis);
                broadcast.views[name] = views[i];
                run_and_compare(context, broadcast, reference(broadcast));
            }
}

void matches_in_place(Operation operation, const Target& target) {
    Context context(target.device);
    std::vector<std::string> places;
    if (operation == Operation::associative_scan)
        places = {"x"};
    if (operation == Operation::linear_recurrence)
        places = {"a", "b"};
    for (const int64_t length : {1, 129, 1500})
        for (Problem problem : some(problems(operation, {target.type, 2, 3, length}), target, static_cast<size_t>(length)))
            for (const View view : {View::compact, View::channel_contiguous, View::padded, View::reversed_axes}) {
                set_views(problem, view);
                problem.inplace.clear();
                const Outputs separate = run(context, problem);
                for (const std::string& place : places) {
                    problem.inplace = place;
                    expect_identical(run(context, problem), separate, problem.describe());
                }
            }
}

void matches_when_packed(Operation operation, const Target& target) {
    SSM_SKIP_IF(target.device.is_slow() && stands_aside_where_costly(operation, target));
    Context context(target.device);
    size_t turn = 0;
    for (const std::vector<int64_t>& bounds : packings(thrift(operation, target.device)))
        for (const int64_t channels : {1, 4}) {
            const Size size{target.type, 1, channels, bounds.back(), bounds, 3};
            compare_layouts(context, some(problems(operation, size), target, turn++));
        }
}

void accepts_empty_tensors(Operation operation, const Target& target) {
    Context context(target.device);
    for (const Size& size :
         {Size{target.type, 0, 3, 5}, Size{target.type, 2, 0, 5}, Size{target.type, 2, 3, 0}, Size{target.type, 0, 0, 0},
          Size{target.type, 1, 3, 0, {0}}, Size{target.type, 1, 0, 9, {0, 4, 9}}, Size{target.type, 1, 3, 0, {0, 0, 0}}})
        compare_layouts(context, problems(operation, size));
}

// ---- Properties --------------------------------------------------------------------------------------------------------

void split_equals_one_call(Operation operation, const Target& target) {
    SSM_SKIP_IF(target.device.is_slow() && stands_aside_where_costly(operation, target));
    Context context(target.device);
    const int64_t length = 517;
    size_t turn = 0;
    for (Problem whole : problems(operation, {target.type, 2, 3, length})) {
        // The states are what this is about: every variant carries them.
        if (!whole.outputs.count("last_state"))
            continue;
        const Reference limits = reference(whole);
        const Outputs expected = run(context, whole);
        for (const int64_t cut : target.device.is_slow() ? std::vector<int64_t>{0, 200}
                                                         : std::vector<int64_t>{0, 1, 129, 256, length - 1, length}) {
            if (++turn % 2)
                set_views(whole, View::channel_contiguous);
            Problem early = slice_time(whole, 0, cut), late = slice_time(whole, cut, length);
            Problem& first = whole.reverse ? late : early;
            Problem& second = whole.reverse ? early : late;
            const Outputs before = run(context, first);
            second.inputs["initial_state"] = before.at("last_state");
            const Outputs after = run(context, second);
            Outputs joined{{"last_state", after.at("last_state")}};
            for (const auto& [name, tensor] : whole.outputs)
                if (is_sequence(name, tensor))
                    joined[name] = concatenate(
                        {(whole.reverse ? after : before).at(name), (whole.reverse ? before : after).at(name)}, 2);
            expect_agree(joined, expected, limits, whole.describe() + " cut at " + std::to_string(cut));
        }
    }
}

void reverse_equals_flipped(Operation operation, const Target& target) {
    Context context(target.device);
    for (const int64_t length : {1, 130, 1025})
        for (const Problem& problem :
             some(problems(operation, {target.type, 2, 3, length}), target, static_cast<size_t>(length))) {
            Problem flipped = problem;
            flipped.reverse = !problem.reverse;
            for (auto& [name, tensor] : flipped.inputs)
                if (is_sequence(name, tensor))
                    tensor = flip_time(tensor);
            Outputs expected = run(context, flipped);
            for (auto& [name, tensor] : expected)
                if (is_sequence(name, tensor))
                    tensor = flip_time(tensor);
            expect_agree(run(context, problem), expected, reference(problem), problem.describe());
        }
}

void packed_equals_separate(Operation operation, const Target& target) {
    SSM_SKIP_IF(target.device.is_slow() && stands_aside_where_costly(operation, target));
    Context context(target.device);
    size_t turn = 0;
    for (const std::vector<int64_t>& bounds :
         {bounds_of({60}), bounds_of({0, 1, 40, 0, 130, 64, 300, 0}), bounds_of({600, 33})})
        for (const Problem& packed : some(problems(operation, {target.type, 1, 3, bounds.back(), bounds}), target, turn++)) {
            const Outputs together = run(context, packed);
            const Reference limits = reference(packed);
            std::vector<Outputs> parts;
            for (size_t s = 0; s + 1 < bounds.size(); ++s) {
                Problem part = slice_time(packed, bounds[s], bounds[s + 1]);
                part.inputs.erase("cu_seqlens");
                for (auto* tensors : {&part.inputs, &part.outputs})
                    for (auto& [name, tensor] : *tensors)
                        if (name.find("state") != std::string::npos)
                            tensor = row_of(tensor, static_cast<int64_t>(s));
                parts.push_back(run(context, part));
            }
            Outputs joined;
            for (const auto& [name, tensor] : packed.outputs) {
                std::vector<Tensor> pieces;
                for (const Outputs& part : parts)
                    pieces.push_back(part.at(name));
                if (is_parameter(name, tensor)) {
                    joined[name] = sum_of(pieces);
                    continue;
                }
                joined[name] =
                    concatenate(pieces, is_sequence(name, tensor) ? static_cast<int>(tensor.shape.size()) - 1 : 0);
            }
            expect_agree(together, joined, limits, packed.describe());
        }
}

namespace {

// Whether an element of a tensor of rows (B,C,...) belongs to row (0, channel); packed sequences own a range of time.
bool belongs(const std::string& name, const Tensor& tensor, int64_t index, int64_t channels, int64_t channel,
             const std::vector<int64_t>& bounds, size_t sequence) {
    if (is_parameter(name, tensor))
        return index / (tensor.size() / tensor.shape[0]) == channel;
    if ((name == "grad_b" || name == "grad_c") && tensor.shape.size() == 4) { // (B,G,N,L), sums over the channels of a group
        const int64_t t = index % tensor.shape[3], groups = tensor.shape[1];
        if (index / (tensor.shape[2] * tensor.shape[3]) % groups != channel / (channels / groups))
            return false;
        return bounds.empty() ? index / (groups * tensor.shape[2] * tensor.shape[3]) == 0
                              : t >= bounds[sequence] && t < bounds[sequence + 1];
    }
    const int64_t inner = tensor.size() / (tensor.shape[0] * tensor.shape[1]);
    const int64_t row = index / (inner * tensor.shape[1]);
    if (index / inner % tensor.shape[1] != channel)
        return false;
    if (bounds.empty())
        return row == 0;
    if (!is_sequence(name, tensor))
        return row == static_cast<int64_t>(sequence);
    const int64_t t = index % tensor.shape[2];
    return t >= bounds[sequence] && t < bounds[sequence + 1];
}

} // namespace

void nan_stays_in_its_row(Operation operation, const Target& target) {
    Context context(target.device);
    const double infinity = std::numeric_limits<double>::infinity(), nan = std::nan("");
    const std::vector<int64_t> bounds = bounds_of({50, 0, 90, 160, 1});
    const size_t sequence = 2;
    const int64_t channels = 4, channel = 1, t = 93;
    const bool is_transform = operation == Operation::causal_conv || operation == Operation::causal_conv_backward;
    size_t turn = 0;
    for (const std::vector<int64_t>& packing : {std::vector<int64_t>{}, bounds}) {
        const bool packed = !packing.empty();
        for (const Problem& problem :
             some(problems(operation, {target.type, packed ? 1 : 3, channels, bounds.back(), packing}), target, turn++))
            for (const View layout : both_layouts) {
                Problem clean = problem;
                set_views(clean, layout);
                const Outputs before = run(context, clean);
                for (const auto& [name, tensor] : clean.inputs) {
                    // b and c of the selective scan belong to several rows.
                    if (!is_sequence(name, tensor) ||
                        ((operation == Operation::selective_scan || operation == Operation::selective_scan_backward) &&
                         (name == "b" || name == "c")))
                        continue;
                    for (const double bad : {nan, infinity}) {
                        Problem dirty = clean;
                        dirty.inputs[name].at(0, channel, t) = bad;
                        const Outputs after = run(context, dirty);
                        const Reference expected = reference(dirty);
                        const std::string text = dirty.describe() + " with " + std::to_string(bad) + " in " + name;
                        for (const auto& [output, values] : after) {
                            const Tensor& exact = expected.at(output).value;
                            for (int64_t i = 0; i < values.size(); ++i) {
                                const Number value = values.values[i];
                                if (!belongs(output, values, i, channels, channel, packing, sequence)) {
                                    const Number other = before.at(output).values[i];
                                    ASSERT_TRUE(value == other) << output << " of another row, element " << i << ": "
                                                                << value << " was " << other << "; " << text;
                                } else if (std::isnan(bad) && is_transform) {
                                    // A transform spreads it over its sequence.
                                    ASSERT_TRUE(!std::isnan(exact.values[i].real()) || std::isnan(value.real()))
                                        << output << " element " << i << "; " << text;
                                } else if (std::isnan(bad)) {
                                    ASSERT_EQ(std::isnan(std::abs(exact.values[i])), std::isnan(std::abs(value)))
                                        << output << " element " << i << "; " << text;
                                }
                            }
                        }
                    }
                }
            }
    }
}

void ten_runs_are_bit_equal(Operation operation, const Target& target) {
    SSM_SKIP_IF(stands_aside(target, is_costly(operation)));
    const bool slow = target.device.is_slow();
    for (const Size& size : {Size{target.type, 2, 3, some_steps(operation, target)},
                             Size{target.type, 1, 1, long_row(operation, target, 30011)}}) {
        std::vector<Problem> all = problems(operation, size);
        all.resize(std::min<size_t>(all.size(), 3 - thrift(operation, target.device)));
        for (Problem& problem : all)
            for (const View layout : both_layouts) {
                set_views(problem, layout);
                Outputs first;
                // Five times in one context, then once in each of five others: three in all on a slow device.
                Context context(target.device);
                if (slow)
                    context.try_option(option(operation, "tile"), 64);
                Call call(context, problem);
                for (int round = 0; round < (slow ? 2 : 5); ++round) {
                    call.clear_outputs();
                    SSM_CHECK(call.run());
                    const Outputs outputs = call.take();
                    if (round == 0)
                        first = outputs;
                    else
                        expect_identical(outputs, first, problem.describe());
                }
                for (int round = 0; round < (slow ? 1 : 5); ++round) {
                    Context other(target.device);
                    if (slow)
                        other.try_option(option(operation, "tile"), 64);
                    expect_identical(run(other, problem), first, problem.describe());
                }
            }
    }
}

void variations_are_bit_equal(Operation operation, const Target& target) {
    SSM_SKIP_IF(stands_aside(target, is_costly(operation)));
    const bool slow = target.device.is_slow();
    const std::vector<int64_t> bounds = bounds_of({0, 3, 500, 0, 41, 300, 1});
    std::vector<Size> sizes{{target.type, 2, 3, some_steps(operation, target)},
                            {target.type, 1, 2, bounds.back(), bounds},
                            {target.type, 1, 1, long_row(operation, target, 30011)}};
    if (!slow)
        sizes.push_back({target.type, 3, 65, 200});
    for (const Size& size : sizes) {
        std::vector<Problem> all = problems(operation, size);
        all.resize(std::min<size_t>(all.size(), 3 - thrift(operation, target.device)));
        for (Problem& problem : all)
            for (const View layout : both_layouts)
                for (const int64_t tile : {0, 64}) {
                    set_views(problem, layout);
                    Outputs first;
                    for (const Variation& variation : variations(target.device)) {
                        Context context(target.device);
                        if (!context.try_option(option(operation, "tile"), tile) || !variation.apply(context))
                            continue;
                        const Outputs outputs = run(context, problem);
                        if (first.empty())
                            first = outputs;
                        else
                            expect_identical(outputs, first, problem.describe() + " with " + variation.name);
                    }
                    if (testing::Test::HasFailure())
                        return;
                }
    }
}

void alignment_is_bit_equal(Operation operation, const Target& target) {
    SSM_SKIP_IF(target.device.is_slow() && stands_aside_where_costly(operation, target));
    Context context(target.device);
    for (Problem& problem : some(problems(operation, {target.type, 2, 3, some_steps(operation, target)}), target, 0)) {
        const Outputs first = run(context, problem);
        for (const View view : {View::null_strides, View::offset}) {
            size_t number = 0;
            for (const auto* tensors : {&problem.inputs, &problem.outputs})
                for (const auto& [name, tensor] : *tensors)
                    if (is_sequence(name, tensor) && number++ % 3 != 1)
                        problem.views[name] = view;
            expect_identical(run(context, problem), first, problem.describe());
        }
    }
}

// ---- Contexts, workspace, graphs ---------------------------------------------------------------------------------------

void contexts_are_independent(Operation operation, const Target& target) {
    SSM_SKIP_IF(stands_aside(target, is_costly(operation)));
    const bool slow = target.device.is_slow();
    std::vector<Problem> all = problems(operation, {target.type, 2, 5, some_steps(operation, target)});
    all.resize(std::min<size_t>(all.size(), 3 - thrift(operation, target.device)));
    all.push_back(problems(operation, {target.type, 1, 1, long_row(operation, target, 20011)})[0]);
    std::vector<Outputs> expected;
    {
        Context context(target.device);
        for (const Problem& problem : all)
            expected.push_back(run(context, problem));
    }
    for (const int count : {2, slow ? 4 : 16}) {
        std::vector<std::thread> threads;
        for (int i = 0; i < count; ++i)
            threads.emplace_back([&, i] {
                try {
                    Context context(target.device);
                    for (size_t round = 0; round < (slow ? 2 : 8); ++round) {
                        const size_t which = (round + static_cast<size_t>(i)) % all.size();
                        expect_identical(run(context, all[which]), expected[which], all[which].describe());
                    }
                } catch (const std::exception& error) {
                    ADD_FAILURE() << error.what();
                }
            });
        for (std::thread& thread : threads)
            thread.join();
    }
}

void graph_replays_the_call(Operation operation, const Target& target) {
    SSM_SKIP_IF(stands_aside(target, is_costly(operation)));
    const int64_t length = some_steps(operation, target);
    for (const View view : {View::compact, View::reversed_axes}) {
        std::vector<Problem> all = some(problems(operation, {target.type, 2, 3, length}), target, 1);
        std::vector<Problem> others = some(problems(operation, {target.type, 2, 3, length, {}, 99}), target, 1);
        for (size_t i = 0; i < all.size(); ++i) {
            Problem problem = all[i];
            set_views(problem, view);
            Context context(target.device);
            Call call(context, problem);
            SSM_CHECK(call.run()); // grows the workspace, which a capture may not
            const Outputs direct = call.take();

            call.clear_outputs();
            SSM_CHECK(ssm_context_synchronize(context));
            SSM_CHECK(ssm_capture_begin(context));
            SSM_CHECK(call.run());
            ssm_graph* graph = nullptr;
            SSM_CHECK(ssm_capture_end(context, &graph));
            for (const auto& [name, values] : call.take())
                for (const Number value : values.values)
                    ASSERT_TRUE(std::isnan(value.real())) << "the capture ran " << problem.describe();

            for (int round = 0; round < 2; ++round) {
                call.clear_outputs();
                SSM_CHECK(ssm_graph_launch(context, graph));
                expect_identical(call.take(), direct, problem.describe() + " replayed");
            }
            // A replay reads what the tensors hold now.
            call.refill(others[i]);
            SSM_CHECK(ssm_graph_launch(context, graph));
            Problem other = others[i];
            set_views(other, view);
            expect_identical(call.take(), run(context, other), other.describe() + " replayed with other values");
            SSM_CHECK(ssm_graph_destroy(graph));
        }
    }
}

void workspace_is_what_the_query_says(Operation operation, const Target& target) {
    SSM_SKIP_IF(stands_aside(target, is_costly(operation)));
    constexpr unsigned char canary = 0xc3;
    constexpr uint64_t tail = 4096;
    bool needed = false;
    std::vector<Problem> all;
    for (const View view : {View::compact, View::channel_contiguous, View::reversed_axes, View::strided})
        for (const Size& size : {Size{target.type, 2, 3, some_steps(operation, target)},
                                 Size{target.type, 1, 1, long_row(operation, target, 60013)}})
            for (Problem problem : some(problems(operation, size), target, static_cast<size_t>(view))) {
                if (size.length > 1000 && !target.device.is_slow() && all.size() % 2)
                    continue;
                set_views(problem, view);
                all.push_back(problem);
            }
    for (const Problem& problem : all) {
        Context context(target.device);
        if (target.device.is_slow())
            context.try_option(option(operation, "tile"), 64);
        const Outputs expected = run(context, problem);
        Call call(context, problem);
        uint64_t bytes = 0;
        SSM_CHECK(call.query_workspace(&bytes));
        if (bytes == 0)
            continue;
        needed = true;
        void* memory = nullptr;
        SSM_CHECK(ssm_allocate(context, bytes + tail, &memory));
        std::vector<unsigned char> image(bytes + tail, canary);
        upload(context, image.data(), memory, image.size());
        SSM_CHECK(ssm_context_set_workspace(context, memory, bytes));
        SSM_CHECK(call.run());
        expect_identical(call.take(), expected, problem.describe() + " in the caller's workspace");
        download(context, memory, image.data(), image.size());
        EXPECT_TRUE(std::all_of(image.begin() + static_cast<int64_t>(bytes), image.end(),
                                [](unsigned char byte) { return byte == canary; }))
            << "written behind the workspace of " << bytes << " bytes: " << problem.describe();

        SSM_CHECK(ssm_context_set_workspace(context, memory, bytes - 1));
        call.clear_outputs();
        EXPECT_EQ(call.run(), SSM_ERROR_WORKSPACE_TOO_SMALL) << problem.describe();
        EXPECT_NE(std::string(ssm_last_error()).find(std::to_string(bytes)), std::string::npos)
            << "the sentence names the bytes: " << ssm_last_error();
        SSM_CHECK(ssm_context_set_workspace(context, nullptr, 0));
        SSM_CHECK(call.run());
        expect_identical(call.take(), expected, problem.describe() + " after the workspace was given back");
        SSM_CHECK(ssm_free(context, memory));
    }
    EXPECT_TRUE(needed) << "no problem needed a workspace: this test shows nothing";
}

void steady_state_allocates_nothing(Operation operation, const Target& target) {
    if (has_sanitizer())
        GTEST_SKIP() << "the sanitizer has the heap to itself";
    SSM_SKIP_IF(stands_aside(target, is_costly(operation)));
    for (const View view : {View::compact, View::reversed_axes})
        for (const Size& size : {Size{target.type, 2, 3, some_steps(operation, target)},
                                 Size{target.type, 1, 1, long_row(operation, target, 30011)}})
            for (Problem problem : some(problems(operation, size), target, static_cast<size_t>(view))) {
                set_views(problem, view);
                Context context(target.device);
                Call call(context, problem);
                for (int round = 0; round < 3; ++round)
                    SSM_CHECK(call.run());
                SSM_CHECK(ssm_context_synchronize(context));
                const Allocations before = allocations();
                for (int round = 0; round < 5; ++round)
                    call.run();
                ssm_context_synchronize(context);
                const Allocations after = allocations();
                EXPECT_EQ(after.live_blocks, before.live_blocks) << problem.describe();
                // The emulated device may use the heap for its own threads; the others may not at all.
                if (target.device.type != SSM_DEVICE_EMULATED) {
                    EXPECT_EQ(after.calls, before.calls) << problem.describe();
                }
            }
}

void quick(Operation operation, const Target& target) {
    const bool slow = target.device.is_slow();
    const std::vector<int64_t> bounds = bounds_of({0, 1, 40, 0, 130, 31, 0});
    const auto each_size = [&](Context& context, const std::string& note, size_t turn) {
        for (const Size& size : {Size{target.type, 2, 3, 1}, Size{target.type, 2, 5, 300}, Size{target.type, 1, 1, 1025},
                                 Size{target.type, 1, 4, bounds.back(), bounds}, Size{target.type, 3, 33, 37}}) {
            std::vector<Problem> all = problems(operation, size);
            if (note != "" && (slow || cost_of(operation) >= 7))
                all = {all[turn++ % all.size()]};
            compare_layouts(context, all, note);
            if (testing::Test::HasFailure())
                return;
        }
    };
    {
        Context context(target.device);
        each_size(context, "", 0);
    }
    std::vector<int64_t> paths{0}; // 0 is what the device chooses by itself
    {
        Context context(target.device);
        for (const int64_t path : {1, 2, 3, 4})
            if (context.try_option(option(operation, "path"), path))
                paths.push_back(path);
    }
    size_t turn = 0;
    for (const Variation& variation : variations(target.device))
        for (const int64_t tile : {0, 16, 64}) {
            const int64_t path = paths[turn % paths.size()];
            Context context(target.device);
            context.try_option(option(operation, "path"), path);
            context.try_option(option(operation, "tile"), tile);
            ASSERT_TRUE(variation.apply(context)) << variation.name;
            each_size(context, "path " + std::to_string(path) + " tile " + std::to_string(tile) + " " + variation.name,
                      turn++);
            if (testing::Test::HasFailure())
                return;
        }
    nan_stays_in_its_row(operation, target);
    if (takes_ids(operation))
        quick_with_ids(operation, target);
    if (testing::Test::HasFailure() || slow)
        return;
    // Enough for every thread to have its share of a row and of the rows.
    Context context(target.device);
    for (const Size& size : {Size{target.type, 1, 1, long_row(operation, target, 50021)}, Size{target.type, 2, 70, 999}}) {
        std::vector<Problem> all = problems(operation, size);
        compare_layouts(context, {all[0], all[1], all[2]});
    }
    compare_views(operation, target);
}

} // namespace ssm::test
