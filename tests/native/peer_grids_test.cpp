// The grids of sizes and the tolerances with which other libraries test their kernels (state-spaces/mamba, causal-conv1d,
// vLLM, FlashInfer, TileOPs), against the loops in double: within their tolerances, and by norm within our own, which are a
// hundred times narrower. In 16 bits the results are besides no further from the truth than 1.5 times what rounding
// explains. The largest sizes run with the long tests.
#include <array>
#include <cmath>
#include <limits>

#include "support/closeness.h"
#include "support/mamba.h"
#include "support/norms.h"

#include <gtest/gtest.h>

namespace ssm::test {

using enum Type;

namespace {

// Peers' tolerances for float32, float16 and bfloat16.
struct Tolerances {
    Tolerance of_float32, of_float16, of_bfloat16;
    Tolerance of(Type type) const { return type == float16 ? of_float16 : type == bfloat16 ? of_bfloat16 : of_float32; }
};

Tolerance wider(Tolerance tolerance, double relative, double absolute) {
    return {tolerance.relative * relative, tolerance.absolute * absolute};
}

// Ours, by norm.
double norm_tolerance(Type type, double of_float32 = 1e-5) {
    return type == float64 ? 1e-11 : of_float32;
}

class PeerGrids : public testing::TestWithParam<Target> {
  protected:
    const Type type = GetParam().type;
    const bool slow = GetParam().device.is_slow();
    Context context{GetParam().device};

    // Makes the problem in this type with its inputs in this and, for 16 bits, in double. tolerance(output) is the peers'.
    template <class Make, class PeerTolerance>
    void compare(const Make& make, const PeerTolerance& tolerance, double of_float32 = 1e-5) {
        const Problem problem = make(type);
        const Reference exact = reference(problem);
        const Outputs outputs = run(context, problem);
        for (const auto& [name, value] : outputs)
            expect_close(value, exact.at(name).value, tolerance(name), name + " of " + problem.describe());
        if (is_half(type)) {
            RoundingDistances distances;
            distances.add(context, make(float64), problem);
            worst = std::max(worst, distances.expect(problem.describe()));
        } else
            expect_norms(outputs, exact, norm_tolerance(type, of_float32), problem.describe());
    }
    // Where peers have no test: ours alone.
    template <class Make>
    void compare_by_norm(const Make& make, double of_float32) {
        const auto any = [](const std::string&) { return Tolerance{0, std::numeric_limits<double>::max()}; };
        compare(make, any, of_float32);
    }
    void TearDown() override {
        if (is_half(type))
            RecordProperty("worst_of_rounding", std::to_string(worst));
    }
    // Grids whose full size is for the long tests.
    void compare_scans(const std::vector<int64_t>& lengths);
    void compare_convolutions(int64_t channels, const std::vector<int64_t>& lengths, const std::vector<int64_t>& widths);
    void compare_convolutions_many_times(int rounds);
    void compare_convolution_updates(int64_t batch, int64_t channels);
    void compare_state_updates(bool all);

  private:
    double worst = 0;
};

class PeerGridsLong : public PeerGrids {
  protected:
    void SetUp() override {
        if (!long_tests_are_wanted())
            GTEST_SKIP() << "set SSM_LONG_TESTS=1: takes gigabytes and minutes";
        if (slow)
            GTEST_SKIP() << "the emulated device would take hours";
    }
};

// ---- selective_scan: state-spaces/mamba tests/ops/test_selective_scan.py ------------------------------------------------

constexpr Tolerances of_scan{{6e-4, 2e-3}, {3e-3, 5e-3}, {3e-2, 5e-2}};

Tolerance of_scan_gradient(Type type, const std::string& name) {
    const Tolerance tolerance = of_scan.of(type);
    const Tolerance weights{std::max(1e-3, tolerance.relative), std::max(1e-3, tolerance.absolute)};
    return name == "grad_u"                       ? wider(tolerance, 2, 2)
           : name == "grad_dt"                    ? wider(tolerance, 5, 10)
           : name == "grad_a"                     ? wider(weights, 1, 5)
           : name == "grad_b" || name == "grad_c" ? tolerance
           : name == "grad_initial_state"         ? tolerance
                                                  : weights; // grad_d, grad_z, grad_dt_bias
}

} // namespace

void PeerGrids::compare_scans(const std::vector<int64_t>& lengths) {
    for (const int64_t length : lengths)
        for (const int64_t groups : {1, 2}) {
            const auto make = [&](Type of) {
                return selective_scan_of({of, 2, 4, length, 8, groups, {}, true, static_cast<uint64_t>(length)});
            };
            compare(make, [&](const std::string&) { return of_scan.of(type); });
            compare([&](Type of) { return gradients_of(make(of)); },
                    [&](const std::string& name) { return of_scan_gradient(type, name); });
            if (HasFailure())
                return;
        }
}

TEST_P(PeerGrids, SelectiveScan) {
    compare_scans(slow ? std::vector<int64_t>{64, 130} : std::vector<int64_t>{8, 16, 32, 64, 128, 256, 372});
}

TEST_P(PeerGridsLong, SelectiveScan) {
    compare_scans({512, 784, 1024, 1134, 2048, 4096});
}

// vLLM: one call, and three with the state carried on; generation's three packed prompts.
TEST_P(PeerGrids, SelectiveScanInParts) {
    for (const int64_t length : slow ? std::vector<int64_t>{128} : std::vector<int64_t>{128, 1024}) {
        const Problem whole = selective_scan_of({type, 2, 4, length, 8});
        const Reference exact = reference(whole);
        Problem part = whole;
        std::vector<Tensor> y;
        for (int64_t i = 0; i < 3; ++i) {
            const Tensor state = part.inputs.at("initial_state");
            part = slice_time(whole, length * i / 3, length * (i + 1) / 3);
            part.inputs["initial_state"] = state;
            const Outputs outputs = run(context, part);
            y.push_back(outputs.at("y"));
            part.inputs["initial_state"] = outputs.at("last_state");
        }
        const Outputs joined{{"y", concatenate(y, 2)}, {"last_state", part.inputs.at("initial_state")}};
        expect_close(joined, exact, of_scan.of(type), whole.describe());
        if (!is_half(type))
            expect_norms(joined, exact, norm_tolerance(type), whole.describe());
    }
    const auto packed = [&](Type of) { return selective_scan_of({of, 1, 4, 335, 8, 1, {0, 170, 235, 335}}); };
    compare(packed, [&](const std::string&) { return of_scan.of(type); });
    compare([&](Type of) { return gradients_of(packed(of)); },
            [&](const std::string& name) { return of_scan_gradient(type, name); });
}

// ---- causal_conv1d: Dao-AILab/causal-conv1d tests/test_causal_conv1d.py -------------------------------------------------

namespace {

constexpr Tolerances of_convolution{{3e-4, 1e-3}, {3e-3, 5e-3}, {1e-2, 5e-2}};

Tolerance of_convolution_gradient(Type type, const std::string& name) {
    return name == "grad_weight" || name == "grad_bias" ? Tolerance{1e-3, 1e-3} : of_convolution.of(type);
}

} // namespace

void PeerGrids::compare_convolutions(int64_t channels, const std::vector<int64_t>& lengths,
                                     const std::vector<int64_t>& widths) {
    const View views[] = {View::compact, View::channel_contiguous, View::padded, View::channel_padded};
    size_t turn = 0;
    for (const int64_t length : lengths)
        for (const int64_t width : widths) {
            const size_t i = turn++;
            const auto with_views = [&](Problem problem) {
                for (const char* name : {"x", "y", "grad_x", "grad_y"})
                    problem.views[name] = views[i % 4];
                return problem;
            };
            const auto make = [&](Type of) {
                return causal_conv1d_of({of, 2, channels, length, width, i % 3 != 0, i % 5 != 0, i % 2 == 0, i + 1});
            };
            compare([&](Type of) { return with_views(make(of)); },
                    [&](const std::string&) { return of_convolution.of(type); });
            compare([&](Type of) { return with_views(gradients_of(make(of))); },
                    [&](const std::string& name) { return of_convolution_gradient(type, name); });
            if (HasFailure())
                return;
        }
}

TEST_P(PeerGrids, CausalConv1d) {
    if (slow)
        return compare_convolutions(5, {1, 129, 151}, {2, 3, 4});
    compare_convolutions(64, {1, 2, 8, 16, 32, 64, 128, 129, 130, 151}, {2, 3, 4});
    compare_convolutions(4128, {1, 8}, {4});
}

TEST_P(PeerGridsLong, CausalConv1d) {
    compare_convolutions(64, {256, 372, 512, 784, 1024, 1134, 2048, 4096}, {2, 3, 4});
    compare_convolutions(4128, {64, 129, 1134}, {2, 3, 4});
}

// Their race test: out, dx and here the sums too, bit for bit, each time.
void PeerGrids::compare_convolutions_many_times(int rounds) {
    const Problem forward = causal_conv1d_of({type, 2, 64, 151});
    for (const Problem& problem : {forward, gradients_of(forward)}) {
        Call call(context, problem);
        Outputs first;
        for (int round = 0; round < rounds; ++round) {
            call.clear_outputs();
            SSM_CHECK(call.run());
            const Outputs outputs = call.take();
            if (round == 0)
                first = outputs;
            expect_identical(outputs, first, problem.describe());
            if (HasFailure())
                return;
        }
    }
}

TEST_P(PeerGrids, CausalConv1dManyTimes) {
    if (slow || type != float32)
        GTEST_SKIP() << "one type, and not on a device that runs on one thread";
    compare_convolutions_many_times(100);
}

TEST_P(PeerGridsLong, CausalConv1dManyTimes) {
    compare_convolutions_many_times(10000);
}

namespace {

constexpr Tolerances of_convolution_update{{3e-4, 1e-3}, {3e-3, 5e-3}, {1e-2, 5e-2}};

} // namespace

// Gathered from ten times as many slots, some skipped; the state is the very numbers that came.
void PeerGrids::compare_convolution_updates(int64_t batch, int64_t channels) {
    size_t turn = 0;
    for (const int64_t steps : {1, 4, 5})
        for (const bool is_ring : {false, true})
            for (const int64_t width : {2, 3, 4}) {
                const int64_t more = static_cast<int64_t>(turn++ * 7 % 11);
                std::vector<int64_t> slots;
                for (int64_t row = 0; row < batch; ++row)
                    slots.push_back(row % 9 == 5 ? -1 : row * 7 % (10 * batch));
                const auto make = [&](Type of) {
                    return causal_conv1d_update_of({of, is_half(of) ? of : state_type(of), batch, channels, width, steps,
                                                    more, is_ring, true, slots, 10 * batch});
                };
                compare(make, [&](const std::string& name) {
                    return name == "state" ? Tolerance{0, 0} : of_convolution_update.of(type);
                });
            }
}

TEST_P(PeerGrids, CausalConv1dUpdate) {
    slow ? compare_convolution_updates(6, 20) : compare_convolution_updates(64, 33);
}

TEST_P(PeerGridsLong, CausalConv1dUpdate) {
    for (const int64_t channels : {2048, 2064, 4096})
        compare_convolution_updates(64, channels);
}

// ---- selective_state_update: mamba tests/ops/triton/test_selective_state_update.py, FlashInfer --------------------------

namespace {

constexpr Tolerances of_update{{3e-4, 1e-3}, {5e-3, 1e-2}, {1e-2, 5e-2}}, of_heads{{3e-4, 1e-3}, {5e-3, 3e-2}, {1e-2, 1e-1}},
    of_slots{{3e-4, 1e-3}, {6e-2, 6e-2}, {6e-2, 6e-2}};

} // namespace

void PeerGrids::compare_state_updates(bool all) {
    const std::vector<std::pair<int64_t, int64_t>> few{{2048, 16}, {2064, 32}}, small{{129, 16}};
    std::vector<std::pair<int64_t, int64_t>> grid = slow ? small : few;
    if (all) {
        grid.clear();
        for (const int64_t channels : {2048, 2064, 4096})
            for (const int64_t states : {16, 32, 64})
                grid.push_back({channels, states});
    }
    for (const auto& [channels, states] : grid)
        for (const bool full : {false, true}) {
            const auto make = [&, channels = channels, states = states](Type of) {
                return selective_state_update_of({of, state_type(of), 2, 0, channels, 1, states, 0, full});
            };
            compare(make, [&](const std::string&) { return of_update.of(type); });
        }
    for (const auto& [heads, groups] : {std::pair<int64_t, int64_t>{32, 1}, {32, 2}, {64, 4}}) {
        if (!all && heads == 64)
            continue;
        const auto make = [&, heads = heads, groups = groups](Type of) {
            return selective_state_update_of(
                {of, state_type(of), slow ? 1 : 2, slow ? 4 : heads, 64, groups, slow ? 16 : 32});
        };
        compare(make, [&](const std::string&) { return of_heads.of(type); });
    }
    // 16 of 160 slots.
    std::vector<int64_t> slots;
    for (int64_t row = 0; row < 16; ++row)
        slots.push_back(row == 11 ? -1 : (row * 37 + 5) % 160);
    const auto gathered = [&](Type of) {
        return selective_state_update_of({of, state_type(of), 16, 0,
                                          slow  ? 20
                                          : all ? 2048
                                                : 512,
                                          1, 16, 0, true, slots, 160});
    };
    compare(gathered, [&](const std::string&) { return of_slots.of(type); });
    // FlashInfer's sizes: batch, heads, channels, states.
    const std::vector<std::array<int64_t, 4>> sizes{{1, 8, 64, 128}, {1, 8, 128, 64}, {1, 64, 128, 256}, {64, 8, 64, 96}};
    size_t count = 0;
    for (const auto& [batch, heads, channels, states] : slow ? std::vector<std::array<int64_t, 4>>{{1, 2, 64, 96}} : sizes) {
        if (!all && count++ == 2) // the large ones are for the long tests
            break;
        const auto make = [&, b = batch, h = heads, p = channels, n = states](Type of) {
            return selective_state_update_of({of, state_type(of), b, h, p, 1, n});
        };
        compare(make, [&](const std::string&) { return is_half(type) ? Tolerance{1e-2, 5e-2} : Tolerance{1e-2, 1e-3}; });
    }
}

TEST_P(PeerGrids, SelectiveStateUpdate) {
    compare_state_updates(false);
}

TEST_P(PeerGridsLong, SelectiveStateUpdate) {
    compare_state_updates(true);
}

// ---- ssd: vLLM, mamba tests/ops/triton/test_ssd.py, TileOPs -------------------------------------------------------------

namespace {

constexpr Tolerances of_ssd{{1e-2, 3e-3}, {1e-2, 3e-3}, {7e-2, 7e-2}};

} // namespace

TEST_P(PeerGrids, Ssd) {
    const std::vector<std::pair<int64_t, int64_t>> heads{{3, 5}, {4, 8}, {11, 19}, {3, 128}}, few{{3, 5}};
    for (const auto& [h, p] : slow ? few : heads)
        for (const auto& [length, chunk] : {std::pair<int64_t, int64_t>{119, 17}, {128, 32}}) {
            const auto make = [&, h = h, p = p, length = length, chunk = chunk](Type of) {
                return ssd_of({of, 1, length, h, p, 1, 16, chunk});
            };
            compare(
                make, [&](const std::string&) { return of_ssd.of(type); }, 1e-4);
            compare_by_norm([&](Type of) { return gradients_of(make(of)); }, 1e-4);
            if (HasFailure())
                return;
        }
    if (slow)
        return;
    // TileOPs' chunk of 256 with 64 channels and 128 states.
    const auto make = [&](Type of) { return ssd_of({of, 1, 260, 1, 64, 1, 128, 256}); };
    compare(
        make, [&](const std::string&) { return of_ssd.of(type); }, 1e-4);
    compare_by_norm([&](Type of) { return gradients_of(make(of)); }, 1e-4);
}

namespace {

std::vector<int64_t> random_bounds(int64_t count) {
    Random random(3);
    std::vector<int64_t> bounds{0};
    for (int64_t i = 0; i < count; ++i)
        bounds.push_back(bounds.back() + random.integer(1, 200));
    return bounds;
}

} // namespace

// The states of packed sequences of 1 to 200 steps; generation's prompts.
TEST_P(PeerGrids, SsdPacked) {
    const std::vector<int64_t> prompts{0, 170, 235, 335};
    for (const int64_t groups : {1, 2, 4})
        for (const int64_t chunk : {64, 128}) {
            const auto make = [&](Type of) {
                return ssd_of({of, 1, 335, 4, slow ? 4 : 8, groups, slow ? 8 : 32, chunk, prompts});
            };
            compare(
                make, [&](const std::string&) { return of_ssd.of(type); }, 1e-4);
            if (slow)
                return;
        }
    const std::vector<int64_t> bounds = random_bounds(6);
    const auto make = [&](Type of) { return ssd_of({of, 1, bounds.back(), 4, 16, 4, 32, 64, bounds}); };
    compare(
        make, [&](const std::string&) { return of_ssd.of(type); }, 1e-4);
}

TEST_P(PeerGridsLong, SsdPackedInHundreds) {
    const std::vector<int64_t> bounds = random_bounds(300);
    for (const int64_t chunk : {64, 128}) {
        const auto make = [&](Type of) { return ssd_of({of, 1, bounds.back(), 4, 64, 2, 32, chunk, bounds}); };
        compare(
            make, [&](const std::string&) { return of_ssd.of(type); }, 1e-4);
    }
}

// mamba tests/ops/triton/test_ssd.py and causal-conv1d's, of determinism: whole layers, five times.
TEST_P(PeerGridsLong, LayersAreBitEqual) {
    std::vector<Problem> all;
    for (const int64_t channels : {64, 128})
        all.push_back(ssd_of({type, 2, 2048, 8, channels, 1, 64, 256}));
    all.push_back(causal_conv1d_of({type, 4, 1024, 2048}));
    for (const Problem& forward : all)
        for (const Problem& problem : {forward, gradients_of(forward)}) {
            const Outputs first = run(context, problem);
            for (int round = 1; round < 5; ++round)
                expect_identical(run(context, problem), first, problem.describe());
        }
}

TEST_P(PeerGridsLong, CausalConv1dOfEveryOption) {
    for (const int64_t length : {1, 2, 8, 151, 1134, 4096})
        for (int options = 0; options < 48; ++options) {
            const auto make = [&](Type of) {
                Problem problem = causal_conv1d_of(
                    {of, 2, 64, length, 2 + options / 16, options % 2 > 0, options / 2 % 2 > 0, options / 4 % 2 > 0});
                problem.views["x"] = problem.views["y"] = options / 8 % 2 ? View::channel_padded : View::padded;
                return problem;
            };
            compare(make, [&](const std::string&) { return of_convolution.of(type); });
            compare([&](Type of) { return gradients_of(make(of)); },
                    [&](const std::string& name) { return of_convolution_gradient(type, name); });
            if (HasFailure())
                return;
        }
}

// ---- What rounding explains, for every variant of every operation -------------------------------------------------------

namespace {

class LowPrecision : public testing::TestWithParam<Target> {
  protected:
    const bool slow = GetParam().device.is_slow();
    Context context{GetParam().device};

    // The variants that make(type, seed) gives.
    template <class Make>
    void expect_rounding(const Make& make) {
        constexpr uint64_t draws = 8;
        std::vector<RoundingDistances> distances;
        std::vector<Problem> low;
        for (uint64_t seed = 1; seed <= draws; ++seed) {
            const std::vector<Problem> exact = make(float64, seed);
            low = make(GetParam().type, seed);
            ASSERT_EQ(exact.size(), low.size());
            distances.resize(low.size());
            for (size_t i = 0; i < low.size(); i += slow ? 4 : 1)
                distances[i].add(context, exact[i], low[i]);
        }
        for (size_t i = 0; i < low.size(); ++i)
            worst = std::max(worst, distances[i].expect(low[i].describe()));
    }
    void TearDown() override { RecordProperty("worst_of_rounding", std::to_string(worst)); }
    double worst = 0;
};

} // namespace

TEST_P(LowPrecision, SequenceOperations) {
    for (const Operation operation : {Operation::selective_scan, Operation::selective_scan_backward,
                                      Operation::causal_conv1d, Operation::causal_conv1d_backward, Operation::causal_conv,
                                      Operation::causal_conv_backward, Operation::ssd, Operation::ssd_backward})
        for (const int64_t length : slow ? std::vector<int64_t>{40} : std::vector<int64_t>{1, 70})
            expect_rounding([&](Type type, uint64_t seed) {
                return problems(operation, {type, 1, slow ? 2 : 4, length, {}, seed});
            });
}

TEST_P(LowPrecision, StateUpdates) {
    for (const bool is_rounded : {false, true})
        expect_rounding([&](Type type, uint64_t seed) {
            const Type state = is_rounded ? type : state_type(type);
            return std::vector<Problem>{
                selective_state_update_of({type, state, 3, 0, 37, 1, 16, 0, true, {}, 0, seed}),
                selective_state_update_of({type, state, 2, 3, 18, 1, 64, 0, true, {}, 0, seed}),
                selective_state_update_of({type, state, 3, 2, 9, 1, 21, 4, true, {3, -1, 0}, 5, seed}),
                selective_state_update_of({type, state, 2, 0, 20, 2, 3, 5, false, {}, 0, seed}),
                causal_conv1d_update_of({type, state, 3, 40, 4, 0, 0, false, true, {}, 0, seed}),
                causal_conv1d_update_of({type, state, 3, 40, 4, 3, 0, false, true, {3, -1, 0}, 5, seed}),
                causal_conv1d_update_of({type, state, 5, 18, 3, 5, 4, true, true, {}, 0, seed}),
                causal_conv1d_update_of({type, state, 4, 7, 7, 3, 2, true, false, {}, 0, seed}),
            };
        });
}

TEST_P(LowPrecision, Norms) {
    for (const std::vector<int64_t>& shape :
         slow ? std::vector<std::vector<int64_t>>{{5, 48}} : std::vector<std::vector<int64_t>>{{5, 48}, {2, 2048}}) {
        expect_rounding([&](Type type, uint64_t seed) { return norms(type, shape, seed); });
        expect_rounding([&](Type type, uint64_t seed) { return norm_gradients(type, shape, seed); });
    }
}

INSTANTIATE_TEST_SUITE_P(Devices, PeerGrids, testing::ValuesIn(light_targets({float32, float64, float16, bfloat16})),
                         [](const auto& info) { return name_of(info.param); });
INSTANTIATE_TEST_SUITE_P(Devices, PeerGridsLong, testing::ValuesIn(light_targets({float32, float64, float16, bfloat16})),
                         [](const auto& info) { return name_of(info.param); });
INSTANTIATE_TEST_SUITE_P(Devices, LowPrecision, testing::ValuesIn(targets({float16, bfloat16})),
                         [](const auto& info) { return name_of(info.param); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(PeerGrids);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(PeerGridsLong);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(LowPrecision);

} // namespace ssm::test
