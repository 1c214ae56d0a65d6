#include <algorithm>

#include "support/allocations.h"
#include "support/s4.h"

namespace ssm::test {
namespace {

void compare(Context& context, const Problem& problem, const std::string& note = "") {
    expect_near(run(context, problem), reference(problem), problem.describe() + " " + note);
}

void set_tiles(Context& context, int64_t tile) {
    for (const char* name : {"diagonal_ssm.tile", "diagonal_ssm_backward.tile", "linear_recurrence.tile"})
        context.try_option(name, tile);
}

} // namespace

void poles_quick(PoleProblems problems, const Target& target) {
    // More poles than lanes, more than a block has; more steps than a block, a part and a task have.
    const std::tuple<int64_t, int64_t, int64_t, int64_t> sizes[] = {
        {3, 5, 75, 0}, {2, 37, 70, 7}, {1, 150, 33, 0}, {1, 2, 4300, 0}};
    for (const auto& [rows, states, length, tile] : sizes)
        for (const Variation& variation : variations(target.device)) {
            Context context(target.device);
            set_tiles(context, tile);
            ASSERT_TRUE(variation.apply(context)) << variation.name;
            for (const Problem& problem : problems({target.type, rows, states, length, 1})) {
                compare(context, problem, "tile " + std::to_string(tile) + " " + variation.name);
                if (testing::Test::HasFailure())
                    return;
            }
            if (states * length > 1000)
                break; // one of them will do for these
        }
}

void poles_match_at_every_length(PoleProblems problems, const Target& target) {
    Context context(target.device);
    for (const int64_t length : {1,   2,   3,   7,   8,   9,   15,  16,  31,   32,   33,   63,   64,   65,  127,
                                 128, 129, 151, 255, 256, 511, 512, 513, 1023, 1024, 1025, 1134, 2047, 2049})
        for (const Problem& problem : problems({target.type, 2, 3, length, static_cast<uint64_t>(length)})) {
            compare(context, problem);
            if (testing::Test::HasFailure())
                return;
        }
}

void poles_match_at_every_width(PoleProblems problems, const Target& target) {
    Context context(target.device);
    for (const int64_t states : {1, 2, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 64, 65, 127, 128, 129, 257, 300})
        for (const Problem& problem : problems({target.type, 2, states, 40, static_cast<uint64_t>(states)})) {
            compare(context, problem);
            if (testing::Test::HasFailure())
                return;
        }
    for (const int64_t rows : {1, 5, 33})
        for (const Problem& problem : problems({target.type, rows, 6, 50, 9}))
            compare(context, problem);
}

void poles_match_in_every_view(PoleProblems problems, const Target& target) {
    Context context(target.device);
    for (const Problem& plain : problems({target.type, 3, 5, 40, 1})) {
        const Reference expected = reference(plain);
        for (const View view : {View::null_strides, View::channel_contiguous, View::padded, View::channel_padded,
                                View::offset, View::unaligned, View::strided, View::reversed_axes}) {
            Problem problem = plain;
            for (const auto* tensors : {&plain.inputs, &plain.outputs})
                for (const auto& [name, tensor] : *tensors)
                    problem.views[name] = view;
            expect_near(run(context, problem), expected, problem.describe());
            if (testing::Test::HasFailure())
                return;
        }
    }
}

void poles_are_bit_equal_in_variations(PoleProblems problems, const Target& target) {
    const bool slow = target.device.is_slow();
    std::vector<Problem> all = problems({target.type, slow ? 3 : 7, 20, slow ? 90 : 700, 1});
    const std::vector<Problem> further = problems({target.type, 2, 3, slow ? 600 : 5000, 2});
    all.insert(all.end(), further.begin(), further.end());
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
    // Unaligned memory changes no bit either.
    Context context(target.device);
    for (size_t i = 0; i < all.size(); ++i) {
        Problem problem = all[i];
        for (const auto* tensors : {&all[i].inputs, &all[i].outputs})
            for (const auto& [name, tensor] : *tensors)
                problem.views[name] = View::offset;
        expect_identical(run(context, problem), expected[i], problem.describe());
    }
}

void poles_accept_empty_tensors(PoleProblems problems, const Target& target) {
    Context context(target.device);
    const std::pair<const char*, PoleSize> sizes[] = {{"no row", {target.type, 0, 4, 9, 1}},
                                                      {"no step", {target.type, 2, 3, 0, 1}},
                                                      {"no pole", {target.type, 2, 0, 9, 1}}};
    for (const auto& [what, size] : sizes)
        for (const Problem& problem : problems(size)) {
            Call call(context, problem);
            const bool is_recurrence =
                problem.operation == Operation::diagonal_ssm || problem.operation == Operation::diagonal_ssm_backward;
            if (is_recurrence && size.states == 0) {
                EXPECT_EQ(call.run(), SSM_ERROR_INVALID_ARGUMENT);
                EXPECT_EQ(std::string(ssm_last_error()), "a: at least one state expected, shape (2,0) given");
                continue;
            }
            EXPECT_EQ(call.run(), SSM_SUCCESS) << ssm_last_error() << " " << what;
            uint64_t bytes = 0;
            EXPECT_EQ(call.query_workspace(&bytes), SSM_SUCCESS) << ssm_last_error() << " " << what;
            expect_near(call.take(), reference(problem), problem.describe() + " " + what);
        }
}

void poles_give_every_output_alone(PoleProblems problems, const Target& target) {
    Context context(target.device);
    for (const Problem& all : problems({target.type, 2, 5, 45, 1})) {
        const Outputs expected = run(context, all);
        for (const auto& [name, tensor] : all.outputs) {
            Problem alone = all;
            alone.outputs = {{name, tensor}};
            Call call(context, alone);
            if (call.run() == SSM_ERROR_INVALID_ARGUMENT)
                continue; // another output is required
            expect_identical(call.take(), {{name, expected.at(name)}}, alone.describe() + " " + name + " alone");
        }
    }
}

void poles_replay_in_graphs(PoleProblems problems, const Target& target) {
    Context context(target.device);
    const std::vector<Problem> others = problems({target.type, 2, 5, 45, 2});
    size_t index = 0;
    for (const Problem& problem : problems({target.type, 2, 5, 45, 1})) {
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

void poles_need_the_workspace_they_ask_for(PoleProblems problems, const Target& target) {
    constexpr unsigned char canary = 0xc3;
    constexpr uint64_t tail = 4096;
    Context context(target.device);
    set_tiles(context, 16);
    for (Problem& problem : problems({target.type, 2, 5, 45, 1})) {
        for (const auto& [name, tensor] : problem.inputs)
            problem.views[name] = View::strided; // packed
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

void poles_allocate_nothing_in_the_steady_state(PoleProblems problems, const Target& target) {
    if (has_sanitizer())
        GTEST_SKIP() << "the sanitizer has the heap to itself";
    Context context(target.device);
    for (const Problem& problem : problems({target.type, 3, 6, 70, 1})) {
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
