#include "support/norm_tests.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "support/allocations.h"
#include "support/reference.h"

namespace ssm::test {

namespace {

using testing::Test;

void compare(Context& context, const Problem& problem, const std::string& note = "") {
    expect_near(run(context, problem), reference(problem), problem.describe() + " " + note);
}

bool is_row_tensor(const Problem& problem, const Tensor& tensor) {
    return tensor.shape == problem.inputs.at("x").shape;
}

} // namespace

void norms_quick(NormProblems problems, const Target& target) {
    // A row in a warp, in a block, in parts; rows that do not start where vectors do.
    for (const std::vector<int64_t>& shape :
         std::vector<std::vector<int64_t>>{{5, 37}, {2, 3, 64}, {3, 1030}, {2, target.type == Type::float64 ? 8200 : 16500}})
        for (const int64_t tile : {0, 2})
            for (const Variation& variation : variations(target.device)) {
                Context context(target.device);
                context.try_option("rms_norm_backward.tile", tile);
                ASSERT_TRUE(variation.apply(context)) << variation.name;
                for (const Problem& problem : problems(target.type, shape, 1)) {
                    compare(context, problem, "tile " + std::to_string(tile) + " " + variation.name);
                    if (Test::HasFailure())
                        return;
                }
                if (shape.back() > 1000)
                    break; // one of them will do for these
            }
}

void norms_match_at_every_width(NormProblems problems, const Target& target) {
    Context context(target.device);
    for (const int64_t width :
         {1,   2,   3,   4,   5,   7,   8,   15,  16,   17,   31,   32,   33,   64,   65,   100,  127,
          128, 129, 255, 256, 500, 512, 513, 768, 1000, 1024, 1025, 2047, 2048, 2049, 5120, 8192, 8193})
        for (const Problem& problem : problems(target.type, {width > 1000 ? 2 : 3, width}, static_cast<uint64_t>(width))) {
            compare(context, problem);
            if (Test::HasFailure())
                return;
        }
    const std::vector<Problem> all = problems(target.type, {1, 65537}, 3);
    for (const size_t index : {size_t{1}, size_t{8}})
        compare(context, all[index]);
}

void norms_match_at_every_number_of_rows(NormProblems problems, const Target& target) {
    const bool slow = target.device.is_slow();
    Context context(target.device);
    for (const int64_t rows : {1, 2, 3, 4, 5, 8, 31, 33, 64, 65, 127, 129, 300, slow ? 400 : 3000})
        for (const Problem& problem : problems(target.type, {rows, slow ? 12 : 40}, static_cast<uint64_t>(rows))) {
            compare(context, problem);
            if (Test::HasFailure())
                return;
        }
    for (const std::vector<int64_t>& shape :
         std::vector<std::vector<int64_t>>{{48}, {3, 2, 48}, {2, 3, 4, 24}, {1, 5, 1, 24}, {1, 1, 1, 7}, {4, 1, 3, 16}})
        for (const Problem& problem : problems(target.type, shape, 5))
            compare(context, problem);
}

void norms_match_in_every_view(NormProblems problems, const Target& target) {
    Context context(target.device);
    for (const std::vector<int64_t>& shape : std::vector<std::vector<int64_t>>{{5, 48}, {3, 2, 30}, {2, 3, 4, 12}})
        for (const Problem& plain : problems(target.type, shape, 1)) {
            const Outputs expected = run(context, plain);
            for (const View view : {View::null_strides, View::channel_contiguous, View::padded, View::channel_padded,
                                    View::offset, View::strided, View::reversed_axes}) {
                Problem problem = plain;
                for (const auto* tensors : {&plain.inputs, &plain.outputs})
                    for (const auto& [name, tensor] : *tensors)
                        problem.views[name] = view;
                expect_identical(run(context, problem), expected, problem.describe());
                Problem alone = plain;
                alone.views["x"] = view;
                expect_identical(run(context, alone), expected, alone.describe());
                if (Test::HasFailure())
                    return;
            }
        }
}

void norms_match_with_broadcast_inputs(NormProblems problems, const Target& target) {
    Context context(target.device);
    const std::tuple<View, int> broadcasts[] = {
        {View::broadcast_batch, 0}, {View::broadcast_channel, 1}, {View::broadcast_time, 2}};
    for (const Problem& plain : problems(target.type, {3, 4, 20}, 1))
        for (const auto& [view, axis] : broadcasts) {
            Problem problem = plain;
            for (auto& [name, tensor] : problem.inputs)
                if (is_row_tensor(plain, tensor) && name != "x") {
                    tensor = constant_along(tensor, axis);
                    problem.views[name] = view;
                }
            compare(context, problem);
        }
}

// Threads, orders of threads, runs, and what other rows there are change no bit of a row.
void norms_are_bit_equal_in_variations(NormProblems problems, const Target& target) {
    const bool slow = target.device.is_slow();
    std::vector<Problem> all = problems(target.type, {slow ? 9 : 700, slow ? 40 : 130}, 1);
    const std::vector<Problem> wide = problems(target.type, {3, slow ? 700 : 6000}, 2);
    all.insert(all.end(), wide.begin(), wide.end());
    std::vector<Outputs> expected;
    {
        Context context(target.device);
        for (const Problem& problem : all)
            expected.push_back(run(context, problem));
    }
    for (const Variation& variation : variations(target.device)) {
        Context context(target.device);
        ASSERT_TRUE(variation.apply(context)) << variation.name;
        for (size_t i = 0; i < all.size(); ++i)
            for (int round = 0; round < (slow ? 1 : 3); ++round)
                expect_identical(run(context, all[i]), expected[i], all[i].describe() + " " + variation.name);
    }
    Context context(target.device);
    for (size_t i = 0; i < all.size(); ++i) {
        Problem alone = all[i];
        for (auto* tensors : {&alone.inputs, &alone.outputs})
            for (auto& [name, tensor] : *tensors)
                if (is_row_tensor(all[i], tensor))
                    tensor = row_of(tensor, 2);
                else if (tensor.shape[0] == all[i].inputs.at("x").shape[0] && name == "rstd")
                    tensor = row_of(tensor, 2);
        Outputs outputs = run(context, alone), row;
        for (auto& [name, tensor] : expected[i])
            if (is_row_tensor(all[i], tensor) || name == "rstd")
                row[name] = row_of(tensor, 2);
        outputs.erase("grad_weight");
        outputs.erase("grad_bias");
        expect_identical(outputs, row, alone.describe() + " alone");
    }
}

void norms_accept_empty_tensors(NormProblems problems, const Target& target) {
    Context context(target.device);
    for (const std::vector<int64_t>& shape : std::vector<std::vector<int64_t>>{{0, 5}, {3, 0}, {2, 0, 4}})
        for (const Problem& problem : problems(target.type, shape, 1)) {
            if (shape.back() == 0 && problem.group_size)
                continue;
            Call call(context, problem);
            EXPECT_EQ(call.run(), SSM_SUCCESS) << ssm_last_error();
            uint64_t bytes = 0;
            EXPECT_EQ(call.query_workspace(&bytes), SSM_SUCCESS) << ssm_last_error();
            const Outputs outputs = call.take();
            for (const char* sum : {"grad_weight", "grad_bias"})
                if (outputs.count(sum)) {
                    for (const Number value : outputs.at(sum).values)
                        EXPECT_EQ(value, Number(0)) << sum << " of " << problem.describe();
                }
        }
}

void norms_keep_bad_numbers_in_their_rows(NormProblems problems, const Target& target) {
    Context context(target.device);
    for (const int64_t width : {21, 600})
        for (const Problem& plain : problems(target.type, {4, width}, 1)) {
            const Outputs expected = run(context, plain);
            Problem problem = plain;
            problem.inputs["x"].at(1, 3) = std::numeric_limits<double>::quiet_NaN();
            for (auto& [name, tensor] : run(context, problem)) {
                if (!is_row_tensor(plain, tensor) || name == "residual_out")
                    continue;
                for (int64_t row = 0; row < 4; ++row)
                    for (int64_t i = 0; i < width; ++i)
                        if (row != 1) {
                            EXPECT_EQ(tensor.at(row, i), expected.at(name).at(row, i)) << name;
                        }
                EXPECT_TRUE(std::isnan(tensor.at(1, 3).real())) << name << " of " << problem.describe();
            }
        }
}

void norms_replay_in_graphs(NormProblems problems, const Target& target) {
    Context context(target.device);
    const std::vector<Problem> others = problems(target.type, {5, 48}, 2);
    size_t index = 0;
    for (const Problem& problem : problems(target.type, {5, 48}, 1)) {
        Call call(context, problem);
        SSM_CHECK(call.run()); // the workspace grows before the capture
        SSM_CHECK(ssm_context_synchronize(context));
        SSM_CHECK(ssm_capture_begin(context));
        SSM_CHECK(call.run());
        ssm_graph* graph = nullptr;
        SSM_CHECK(ssm_capture_end(context, &graph));
        const Problem& other = others[index++];
        call.refill(other);
        call.clear_outputs();
        SSM_CHECK(ssm_graph_launch(context, graph));
        expect_near(call.take(), reference(other), other.describe() + " replayed");
        SSM_CHECK(ssm_graph_destroy(graph));
    }
}

void norms_need_the_workspace_they_ask_for(NormProblems problems, const Target& target) {
    constexpr unsigned char canary = 0xc3;
    constexpr uint64_t tail = 4096;
    Context context(target.device);
    for (const std::vector<int64_t>& shape : std::vector<std::vector<int64_t>>{{7, 50}, {2, 17000}})
        for (Problem& problem : problems(target.type, shape, 1)) {
            problem.views["x"] = View::strided; // packed
            const Outputs expected = run(context, problem);
            Call call(context, problem);
            uint64_t bytes = 0;
            SSM_CHECK(call.query_workspace(&bytes));
            ASSERT_GT(bytes, 0u) << problem.describe();
            void* memory = nullptr;
            SSM_CHECK(ssm_allocate(context, bytes + tail, &memory));
            std::vector<unsigned char> image(bytes + tail, canary);
            upload(context, image.data(), memory, image.size());
            SSM_CHECK(ssm_context_set_workspace(context, memory, bytes));
            SSM_CHECK(call.run());
            expect_identical(call.take(), expected, problem.describe() + " in the caller's workspace");
            download(context, memory, image.data(), image.size());
            EXPECT_TRUE(std::all_of(image.begin() + static_cast<int64_t>(bytes), image.end(),
                                    [](unsigned char byte) { return byte == canary; }));
            SSM_CHECK(ssm_context_set_workspace(context, memory, bytes - 1));
            EXPECT_EQ(call.run(), SSM_ERROR_WORKSPACE_TOO_SMALL);
            SSM_CHECK(ssm_context_set_workspace(context, nullptr, 0));
            SSM_CHECK(ssm_free(context, memory));
        }
}

void norms_allocate_nothing_in_the_steady_state(NormProblems problems, const Target& target) {
    if (has_sanitizer())
        GTEST_SKIP() << "the sanitizer has the heap to itself";
    Context context(target.device);
    for (const Problem& problem : problems(target.type, {20, 70}, 1)) {
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
        if (!target.device.is_slow()) {
            EXPECT_EQ(after.calls, before.calls) << problem.describe();
        }
    }
}

} // namespace ssm::test
