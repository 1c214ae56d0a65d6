// seq_idx of the operations over sequences: padding is as though absent, every change of the id starts a sequence anew.
#include <cmath>

#include "support/sequence_ids.h"
#include "support/sequence_tests.h"

namespace ssm::test {

using enum Type;

namespace {

constexpr Operation with_ids_all[] = {Operation::selective_scan, Operation::selective_scan_backward,
                                      Operation::causal_conv1d, Operation::causal_conv1d_backward};

std::string option_of(Operation operation, const char* name) {
    return std::string(name_of(operation)) + "." + name;
}

void lay_by_channel(Problem& problem) {
    for (const auto* tensors : {&problem.inputs, &problem.outputs})
        for (const auto& [name, tensor] : *tensors)
            if (is_sequence(name, tensor))
                problem.views[name] = View::channel_contiguous;
}

void compare(Context& context, const Problem& problem, const std::string& note) {
    expect_near(run(context, problem), reference(problem), problem.describe() + " " + note);
}

std::string note_of(IdPattern pattern, int64_t length) {
    return "pattern " + std::to_string(static_cast<int>(pattern)) + " length " + std::to_string(length);
}

// Ids without padding, in runs of these lengths.
Tensor ids_of_runs(const std::vector<int64_t>& lengths) {
    int64_t length = 0;
    for (const int64_t run : lengths)
        length += run;
    Tensor ids(int32, {1, length});
    int64_t t = 0;
    for (size_t i = 0; i < lengths.size(); ++i)
        for (int64_t k = 0; k < lengths[i]; ++k)
            ids.at(0, t++) = static_cast<double>(i % 2);
    return ids;
}

Tensor slice_ids(const Tensor& ids, int64_t from, int64_t to) {
    Tensor result(int32, {ids.shape[0], to - from});
    for (int64_t row = 0; row < ids.shape[0]; ++row)
        for (int64_t t = from; t < to; ++t)
            result.at(row, t - from) = ids.at(row, t);
    return result;
}

} // namespace

class SequenceIds : public testing::TestWithParam<Target> {};
INSTANTIATE_TEST_SUITE_P(Devices, SequenceIds, testing::ValuesIn(targets({float32, float64, float16, bfloat16})),
                         [](const auto& info) { return name_of(info.param); });

// Padding holds NaN in all of these. Each pattern, at lengths about those of vectors, tiles and blocks of time.
TEST_P(SequenceIds, MatchTheReferenceAtEveryLength) {
    const bool slow = GetParam().device.is_slow();
    const std::vector<int64_t> lengths =
        slow ? std::vector<int64_t>{1, 2, 33, 151}
             : std::vector<int64_t>{1, 2, 3, 31, 32, 33, 63, 64, 65, 127, 128, 129, 151, 1025};
    Random random(3);
    Context context(GetParam().device);
    size_t turn = 0;
    for (const Operation operation : with_ids_all)
        for (const int64_t length : lengths)
            for (const IdPattern pattern : all_id_patterns) {
                const std::vector<Problem> all = problems(operation, {GetParam().type, 3, length > 1000 ? 3 : 7, length});
                Problem problem = with_ids(all[turn++ % all.size()], make_ids(pattern, 3, length, random));
                if (turn % 3 == 0)
                    lay_by_channel(problem);
                compare(context, problem, note_of(pattern, length));
                if (HasFailure())
                    return;
            }
}

// Channels that do and do not fill a vector or a block, both layouts, every cut of time.
TEST_P(SequenceIds, MatchTheReferenceInEveryTile) {
    const bool slow = GetParam().device.is_slow();
    Random random(4);
    for (const Operation operation : with_ids_all)
        for (const int64_t channels : slow ? std::vector<int64_t>{18} : std::vector<int64_t>{1, 18, 66})
            for (const int64_t tile : {0, 1, 7, 16, 64})
                for (const int64_t path : {0, 2, 5}) {
                    if ((tile < 7 && path > 0) || (channels != 18 && tile != 16))
                        continue;
                    Context context(GetParam().device);
                    if (!context.try_option(option_of(operation, "path"), path) && path != 0)
                        continue;
                    ASSERT_TRUE(context.try_option(option_of(operation, "tile"), tile));
                    for (const IdPattern pattern : {IdPattern::middle, IdPattern::returning, IdPattern::random}) {
                        if (slow && pattern != IdPattern::returning && path != 2)
                            continue;
                        const int64_t length = slow ? 90 : 200;
                        const std::vector<Problem> all = problems(operation, {GetParam().type, 2, channels, length});
                        Problem problem = with_ids(all[static_cast<size_t>(path + tile) % all.size()],
                                                   make_ids(pattern, 2, length, random));
                        for (const bool by_channel : {false, true}) {
                            if (by_channel)
                                lay_by_channel(problem);
                            compare(context, problem,
                                    note_of(pattern, length) + " tile " + std::to_string(tile) + " path " +
                                        std::to_string(path) + (by_channel ? " by channel" : ""));
                        }
                        if (HasFailure())
                            return;
                    }
                }
}

// Few channels over a long time are cut into parts by themselves.
TEST_P(SequenceIds, MatchTheReferenceInOneLongRow) {
    const int64_t length = GetParam().device.is_slow() ? 1500 : 5000;
    Random random(5);
    Context context(GetParam().device);
    for (const Operation operation : with_ids_all)
        for (const IdPattern pattern : {IdPattern::right, IdPattern::middle, IdPattern::returning, IdPattern::short_runs}) {
            const Problem problem = problems(operation, {GetParam().type, 1, 2, length})[0];
            compare(context, with_ids(problem, make_ids(pattern, 1, length, random)), note_of(pattern, length));
        }
}

// Every width of the filter, the ones that no tap of it may leave a short sequence by among them.
TEST_P(SequenceIds, MatchTheReferenceAtEveryFilterWidth) {
    const bool slow = GetParam().device.is_slow();
    const Type type = GetParam().type;
    Context context(GetParam().device);
    Random random(6);
    for (const int64_t width :
         slow ? std::vector<int64_t>{1, 2, 3, 5, 70} : std::vector<int64_t>{1, 2, 3, 4, 5, 8, 17, 65, 256})
        for (const IdPattern pattern : all_id_patterns)
            for (const Operation operation : {Operation::causal_conv1d, Operation::causal_conv1d_backward}) {
                const int64_t batch = 2, channels = 9, length = width > 60 ? 300 : 90;
                Problem problem;
                problem.operation = operation;
                problem.type = type;
                problem.silu = width % 2 == 0;
                problem.inputs["x"] = uniform(type, {batch, channels, length}, -1, 1, random);
                problem.inputs["weight"] = uniform(state_type(type), {channels, width}, -1, 1, random);
                problem.inputs["bias"] = uniform(state_type(type), {channels}, -1, 1, random);
                problem.inputs["initial_state"] = uniform(state_type(type), {batch, channels, width - 1}, -1, 1, random);
                if (operation == Operation::causal_conv1d) {
                    problem.outputs["y"] = problem.inputs["x"];
                    problem.outputs["last_state"] = problem.inputs["initial_state"];
                } else {
                    problem.inputs["grad_y"] = uniform(type, {batch, channels, length}, -1, 1, random);
                    problem.inputs["grad_last_state"] =
                        uniform(state_type(type), {batch, channels, width - 1}, -1, 1, random);
                    for (const char* name : {"x", "weight", "bias", "initial_state"})
                        problem.outputs[std::string("grad_") + name] = problem.inputs[name];
                }
                problem = with_ids(problem, make_ids(pattern, batch, length, random));
                compare(context, problem, note_of(pattern, length));
                lay_by_channel(problem);
                compare(context, problem, note_of(pattern, length) + " by channel");
                if (HasFailure())
                    return;
            }
}

// Any strides: the ids too are packed where they are not compact.
TEST_P(SequenceIds, MatchTheReferenceInEveryView) {
    Random random(8);
    Context context(GetParam().device);
    for (const Operation operation : with_ids_all)
        for (const View view : {View::null_strides, View::padded, View::offset, View::strided, View::reversed_axes}) {
            Problem problem =
                with_ids(problems(operation, {GetParam().type, 2, 5, 67})[0], make_ids(IdPattern::middle, 2, 67, random));
            for (const auto* tensors : {&problem.inputs, &problem.outputs})
                for (const auto& [name, tensor] : *tensors)
                    if (is_sequence(name, tensor) || name == "seq_idx")
                        problem.views[name] = view;
            compare(context, problem, name_of(view));
        }
}

// The batch with the padding taken out, row by row, in calls without ids.
TEST_P(SequenceIds, PaddedEqualsUnpadded) {
    Context context(GetParam().device);
    Random random(9);
    for (const Operation operation : {Operation::selective_scan, Operation::causal_conv1d})
        for (const IdPattern pattern : {IdPattern::right, IdPattern::left, IdPattern::middle}) {
            const int64_t length = 140;
            Problem problem = problems(operation, {GetParam().type, 3, 5, length})[0];
            const Tensor ids = make_ids(pattern, 3, length, random);
            problem = with_ids(problem, ids);
            const Reference limits = reference(problem);
            const Outputs padded = run(context, problem);
            for (int64_t row = 0; row < 3; ++row) {
                Problem alone = packed_row(problem, row); // one sequence
                ASSERT_EQ(alone.inputs.at("cu_seqlens").size(), 2);
                alone.inputs.erase("cu_seqlens");
                const Outputs outputs = run(context, alone);
                Problem of_row = problem;
                Outputs own;
                Reference own_limits;
                for (const auto& [name, tensor] : padded) {
                    const int64_t size = tensor.size() / 3;
                    Tensor part = row_of(tensor, row);
                    std::vector<double> limit(limits.at(name).limit.begin() + row * size,
                                              limits.at(name).limit.begin() + (row + 1) * size);
                    if (name == "y") {
                        Tensor steps(tensor.type, outputs.at("y").shape);
                        std::vector<double> step_limits(steps.values.size());
                        const int64_t count = steps.shape.back();
                        for (int64_t channel = 0; channel < steps.shape[1]; ++channel)
                            for (int64_t t = 0, k = 0; t < length; ++t) {
                                const int64_t from = channel * length + t;
                                if (ids.at(row, t).real() < 0) {
                                    EXPECT_EQ(part.values[from], Number(0)) << "padding at " << t;
                                    continue;
                                }
                                steps.values[channel * count + k] = part.values[from];
                                step_limits[channel * count + k++] = limit[from];
                            }
                        part = steps;
                        limit = step_limits;
                    }
                    own[name] = part;
                    own_limits[name] = {part, limit};
                }
                expect_agree(own, outputs, own_limits, problem.describe() + " " + note_of(pattern, length));
            }
        }
}

// Restarts are what cu_seqlens says, but that a row has states of its own for its first and its last sequence alone.
TEST_P(SequenceIds, RestartsEqualPacked) {
    Context context(GetParam().device);
    for (const Operation operation : with_ids_all)
        for (const auto& lengths : {std::vector<int64_t>{1, 64, 63, 1, 1, 70, 129}, std::vector<int64_t>{5, 3, 2, 1, 90}})
            for (const Problem& variant : problems(operation, {GetParam().type, 1, 3, ids_of_runs(lengths).shape[1]})) {
                Problem problem = variant;
                problem.inputs["seq_idx"] = ids_of_runs(lengths);
                const Problem packed = packed_row(problem, 0);
                ASSERT_EQ(packed.inputs.at("cu_seqlens").size(), static_cast<int64_t>(lengths.size()) + 1);
                const Reference limits = reference(problem);
                const Outputs outputs = run(context, problem);
                Outputs expected = run(context, packed);
                for (auto& [name, tensor] : expected)
                    if (name == "last_state")
                        tensor = row_of(tensor, static_cast<int64_t>(lengths.size()) - 1);
                    else if (name == "grad_initial_state")
                        tensor = row_of(tensor, 0);
                expect_agree(outputs, expected, limits, problem.describe());
            }
}

// A call cut in two within a sequence, in padding or before a step: the later part's first id keeps the state it is given.
TEST_P(SequenceIds, SplitEqualsOneCall) {
    Context context(GetParam().device);
    const int64_t length = 150;
    Random random(10);
    for (const Operation operation : {Operation::selective_scan, Operation::causal_conv1d})
        for (const IdPattern pattern : {IdPattern::middle, IdPattern::right, IdPattern::left, IdPattern::returning})
            for (const Problem& variant : problems(operation, {GetParam().type, 2, 3, length})) {
                if (!variant.outputs.count("last_state"))
                    continue;
                const Tensor ids = make_ids(pattern, 2, length, random);
                const Problem whole = with_ids(variant, ids);
                const Reference limits = reference(whole);
                const Outputs expected = run(context, whole);
                for (const int64_t cut : {0, 1, 40, 64, 101, 149}) {
                    Problem first = slice_time(whole, 0, cut), second = slice_time(whole, cut, length);
                    first.inputs["seq_idx"] = slice_ids(ids, 0, cut);
                    second.inputs["seq_idx"] = slice_ids(ids, cut, length);
                    const Outputs before = run(context, first);
                    second.inputs["initial_state"] = before.at("last_state");
                    // A restart just behind the cut is the caller's to make.
                    Tensor& carried = second.inputs["initial_state"];
                    for (int64_t row = 0; row < 2; ++row) {
                        const auto id_from = [&](int64_t t, int64_t step) {
                            while (t >= 0 && t < length && ids.at(row, t).real() < 0)
                                t += step;
                            return t < 0 || t >= length ? -1.0 : ids.at(row, t).real();
                        };
                        const double last = id_from(cut - 1, -1), next = id_from(cut, 1);
                        if (last >= 0 && next >= 0 && last != next)
                            std::fill_n(carried.values.begin() + row * (carried.size() / 2), carried.size() / 2, Number(0));
                    }
                    const Outputs after = run(context, second);
                    const Outputs joined{{"y", concatenate({before.at("y"), after.at("y")}, 2)},
                                         {"last_state", after.at("last_state")}};
                    expect_agree(joined, expected, limits, whole.describe() + " cut at " + std::to_string(cut));
                }
                if (HasFailure() || GetParam().device.is_slow())
                    break;
            }
}

// What padding holds has no effect on any bit.
TEST_P(SequenceIds, ContentsOfPaddingHaveNoEffect) {
    Context context(GetParam().device);
    Random random(11);
    for (const Operation operation : with_ids_all) {
        const Problem plain = problems(operation, {GetParam().type, 2, 5, 130})[0];
        const Tensor ids = make_ids(IdPattern::short_runs, 2, 130, random);
        Problem finite = plain;
        finite.inputs["seq_idx"] = ids;
        expect_identical(run(context, finite), run(context, with_ids(plain, ids)), plain.describe());
    }
}

// A sequence with NaN in it leaves the others of its row as they are.
TEST_P(SequenceIds, NanStaysInItsSequence) {
    Context context(GetParam().device);
    for (const int64_t tile : {0, 16})
        for (const int64_t path : {0, 4})
            for (const Operation operation : {Operation::selective_scan, Operation::causal_conv1d}) {
                if (path && (operation != Operation::selective_scan || !context.try_option("selective_scan.path", path)))
                    continue;
                context.try_option(option_of(operation, "tile"), tile);
                Problem problem = problems(operation, {GetParam().type, 1, 3, 180})[0];
                problem.inputs["seq_idx"] = ids_of_runs({60, 3, 50, 67});
                const Outputs expected = run(context, problem);
                const char* const name = operation == Operation::selective_scan ? "u" : "x";
                for (int64_t channel = 0; channel < 3; ++channel)
                    problem.inputs[name].at(0, channel, 61) = std::numeric_limits<double>::quiet_NaN();
                const Outputs outputs = run(context, problem);
                for (int64_t channel = 0; channel < 3; ++channel)
                    for (int64_t t = 0; t < 180; ++t) {
                        const Number own = outputs.at("y").at(0, channel, t);
                        if (t < 60 || t >= 63) {
                            EXPECT_EQ(own, expected.at("y").at(0, channel, t)) << problem.describe() << " step " << t;
                        }
                    }
                for (int64_t i = 0; outputs.count("last_state") && i < outputs.at("last_state").size(); ++i)
                    EXPECT_EQ(outputs.at("last_state").values[i], expected.at("last_state").values[i]) << i;
                context.try_option("selective_scan.path", 0);
            }
}

TEST_P(SequenceIds, VariationsAreBitEqual) {
    Random random(12);
    for (const Operation operation : with_ids_all) {
        const int64_t length = GetParam().device.is_slow() ? 90 : 2500;
        const Problem problem = with_ids(problems(operation, {GetParam().type, 2, 5, length})[0],
                                         make_ids(IdPattern::short_runs, 2, length, random));
        Context plain(GetParam().device);
        const Outputs expected = run(plain, problem);
        for (const Variation& variation : variations(GetParam().device)) {
            Context context(GetParam().device);
            ASSERT_TRUE(variation.apply(context)) << variation.name;
            expect_identical(run(context, problem), expected, problem.describe() + " " + variation.name);
        }
        for (int i = 0; i < (GetParam().device.is_slow() ? 1 : 10); ++i)
            expect_identical(run(plain, problem), expected, problem.describe() + " again");
    }
}

TEST_P(SequenceIds, WorkspaceIsWhatTheQuerySays) {
    Random random(13);
    for (const Operation operation : with_ids_all)
        for (const IdPattern pattern : {IdPattern::every_step, IdPattern::random}) {
            const Problem problem =
                with_ids(problems(operation, {GetParam().type, 2, 5, 333})[0], make_ids(pattern, 2, 333, random));
            Context context(GetParam().device);
            const Outputs expected = run(context, problem);
            Call call(context, problem);
            uint64_t bytes = 0;
            SSM_CHECK(call.query_workspace(&bytes));
            ASSERT_GT(bytes, 0u);
            constexpr uint64_t tail = 4096;
            void* memory = nullptr;
            SSM_CHECK(ssm_allocate(context, bytes + tail, &memory));
            std::vector<unsigned char> image(bytes + tail, 0xc3);
            upload(context, image.data(), memory, image.size());
            SSM_CHECK(ssm_context_set_workspace(context, memory, bytes));
            SSM_CHECK(call.run());
            expect_identical(call.take(), expected, problem.describe() + " in the caller's workspace");
            download(context, memory, image.data(), image.size());
            for (uint64_t i = bytes; i < bytes + tail; ++i)
                ASSERT_EQ(image[i], 0xc3) << "written behind the workspace: " << problem.describe();
            SSM_CHECK(ssm_context_set_workspace(context, memory, bytes - 1));
            EXPECT_EQ(call.run(), SSM_ERROR_WORKSPACE_TOO_SMALL);
            SSM_CHECK(ssm_context_set_workspace(context, nullptr, 0));
            SSM_CHECK(ssm_free(context, memory));
        }
}

TEST_P(SequenceIds, RefusesWhatTheyCannotBe) {
    Context context(GetParam().device);
    for (const Operation operation : with_ids_all) {
        const Problem good = problems(operation, {GetParam().type, 1, 3, 9})[0];
        const auto expect = [&](const char* sentence, Tensor ids, bool packed) {
            Problem problem = good;
            problem.inputs["seq_idx"] = std::move(ids);
            if (packed) {
                Tensor bounds(int64, {2});
                bounds.values[1] = 9;
                problem.inputs["cu_seqlens"] = bounds;
            }
            Call call(context, problem);
            EXPECT_EQ(call.run(), SSM_ERROR_INVALID_ARGUMENT) << problem.describe();
            EXPECT_NE(std::string(ssm_last_error()).find(sentence), std::string::npos) << ssm_last_error();
        };
        expect("seq_idx: int32 expected, int64 given", Tensor(int64, {1, 9}), false);
        expect("seq_idx: shape (1,9) expected, (1,8) given", Tensor(int32, {1, 8}), false);
        expect("seq_idx: shape (1,9) expected, (9) given", Tensor(int32, {9}), false);
        expect("seq_idx: NULL beside cu_seqlens", Tensor(int32, {1, 9}), true);
    }
}

// Differences need double precision.
class SequenceIdGradients : public testing::TestWithParam<Target> {};
INSTANTIATE_TEST_SUITE_P(Devices, SequenceIdGradients, testing::ValuesIn(targets({float64})),
                         [](const auto& info) { return name_of(info.param); });

TEST_P(SequenceIdGradients, MatchDifferencesAlongDirections) {
    Context context(GetParam().device);
    Random random(14);
    const int64_t length = 60;
    const auto inner = [](const Tensor& x, const Tensor& y) {
        double sum = 0;
        for (int64_t i = 0; i < x.size(); ++i)
            sum += (x.values[i] * std::conj(y.values[i])).real();
        return sum;
    };
    for (const Operation operation : {Operation::selective_scan_backward, Operation::causal_conv1d_backward})
        for (const IdPattern pattern : {IdPattern::right, IdPattern::middle, IdPattern::short_runs, IdPattern::random})
            for (const Problem& variant : problems(operation, {float64, 2, 4, length})) {
                Problem backward = variant;
                backward.inputs["seq_idx"] = make_ids(pattern, 2, length, random);
                Problem forward = backward;
                forward.operation =
                    operation == Operation::selective_scan_backward ? Operation::selective_scan : Operation::causal_conv1d;
                forward.inputs.erase("grad_y");
                forward.inputs.erase("grad_last_state");
                forward.outputs = {{"y", backward.inputs.at("grad_y")}};
                if (backward.inputs.count("grad_last_state"))
                    forward.outputs["last_state"] = backward.inputs.at("grad_last_state");
                const auto loss = [&](const Problem& problem) {
                    const Outputs outputs = run(context, problem);
                    double sum = inner(outputs.at("y"), backward.inputs.at("grad_y"));
                    if (outputs.count("last_state"))
                        sum += inner(outputs.at("last_state"), backward.inputs.at("grad_last_state"));
                    return sum;
                };
                for (const auto& [gradient, values] : run(context, backward)) {
                    const std::string input = gradient.substr(5);
                    if (!forward.inputs.count(input))
                        continue;
                    const Tensor& at = forward.inputs.at(input);
                    const Tensor direction = uniform(at.type, at.shape, -1, 1, random);
                    const double step = 1e-6;
                    Problem above = forward, below = forward;
                    double magnitude = 1e-3;
                    for (int64_t i = 0; i < at.size(); ++i) {
                        above.inputs[input].values[i] += step * direction.values[i];
                        below.inputs[input].values[i] -= step * direction.values[i];
                        magnitude += std::abs(values.values[i] * direction.values[i]);
                    }
                    EXPECT_NEAR((loss(above) - loss(below)) / (2 * step), inner(values, direction), 1e-6 * magnitude)
                        << gradient << " of " << backward.describe();
                }
                if (GetParam().device.is_slow())
                    break;
            }
}

} // namespace ssm::test
