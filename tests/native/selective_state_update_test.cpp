// selective_state_update: against the loop of selective_scan, which it is with an initial state, and against selective_scan
// itself; both forms, every number of states, slots, steps, types of the state, views.
#include <cmath>
#include <limits>

#include "support/allocations.h"
#include "support/problems.h"
#include "support/reference.h"

#include <gtest/gtest.h>

namespace ssm::test {

using enum Type;

namespace {

struct Sizes {
    Type type = float32;
    Type state = float32;
    int64_t batch = 2;
    int64_t heads = 0; // 0: Mamba-1's form
    int64_t channels = 5;
    int64_t groups = 1;
    int64_t states = 16;
    int64_t steps = 0; // 0: tensors without a time axis
    bool full = true;  // with d, z, dt_bias and softplus
    std::vector<int64_t> slots = {};
    int64_t rows = 0; // of the state, where there are slots
    uint64_t seed = 1;

    int64_t all_channels() const { return heads ? heads * channels : channels; }
};

// A call as host data.
struct Update {
    Sizes sizes;
    std::map<std::string, Tensor> inputs; // with state and slots
    std::map<std::string, View> views;
    std::string inplace; // "x" or "z": what y overwrites

    Update() = default;
    explicit Update(const Sizes& sizes);
    std::string describe() const;
};

std::vector<int64_t> shape_of_x(const Sizes& s) {
    if (s.heads)
        return s.steps ? std::vector{s.batch, s.steps, s.heads, s.channels} : std::vector{s.batch, s.heads, s.channels};
    return s.steps ? std::vector{s.batch, s.channels, s.steps} : std::vector{s.batch, s.channels};
}

std::vector<int64_t> shape_of_state(const Sizes& s) {
    const int64_t rows = s.slots.empty() ? s.batch : s.rows;
    return s.heads ? std::vector{rows, s.heads, s.channels, s.states} : std::vector{rows, s.channels, s.states};
}

Update::Update(const Sizes& s) : sizes(s) {
    Random random(s.seed);
    const Type real = state_type(s.type);
    const std::vector<int64_t> x = shape_of_x(s);
    std::vector<int64_t> dt = x, states{s.batch, s.groups, s.states};
    const std::vector<int64_t> parameters{s.heads ? s.heads : s.channels};
    if (s.heads)
        dt.pop_back();
    if (s.steps)
        states.insert(s.heads ? states.begin() + 1 : states.end(), s.steps);
    inputs["state"] = uniform(s.state, shape_of_state(s), -1, 1, random);
    inputs["x"] = uniform(s.type, x, -1, 1, random);
    inputs["dt"] = s.full ? uniform(s.type, dt, -4, 1, random) : uniform(s.type, dt, 0.001, 0.4, random);
    inputs["b"] = uniform(s.type, states, -1, 1, random);
    inputs["c"] = uniform(s.type, states, -1, 1, random);
    Tensor a(real, s.heads ? parameters : std::vector{s.channels, s.states});
    for (int64_t i = 0; i < a.size(); ++i) // from fast to almost nothing
        a.values[i] = rounded(real, -std::pow(10.0, 0.5 - 0.4 * static_cast<double>(i % 7)) * random.uniform(0.5, 1.5));
    inputs["a"] = a;
    if (s.full) {
        inputs["z"] = uniform(s.type, x, -2, 2, random);
        inputs["d"] = uniform(real, parameters, -1, 1, random);
        inputs["dt_bias"] = uniform(real, parameters, -1, 0.5, random);
    }
    if (!s.slots.empty()) {
        Tensor slots(int32, {s.batch});
        for (int64_t i = 0; i < s.batch; ++i)
            slots.values[i] = static_cast<double>(s.slots[i]);
        inputs["slots"] = slots;
    }
}

std::string Update::describe() const {
    Problem problem;
    problem.operation = Operation::selective_scan;
    problem.type = sizes.type;
    problem.dt_softplus = sizes.full;
    problem.inputs = inputs;
    problem.views = views;
    problem.inplace = inplace;
    return "state update of " + problem.describe() + " state " + name_of(sizes.state);
}

// An update placed on a device.
class UpdateCall {
  public:
    UpdateCall(Context& context, const Update& update) : context(context), update(update) {
        const auto view_of = [&](const std::string& name) {
            const auto found = update.views.find(name);
            return found == update.views.end() ? View::compact : found->second;
        };
        for (const auto& [name, tensor] : update.inputs) {
            const bool is_output = name == "state" || name == update.inplace;
            tensors[name] = std::make_unique<Placed>(context, tensor, view_of(name), is_output);
            if (is_output)
                tensors[name]->write(tensor);
        }
        if (update.inplace.empty())
            tensors["y"] =
                std::make_unique<Placed>(context, Tensor(update.sizes.type, shape_of_x(update.sizes)), view_of("y"), true);
        const auto at = [&](const char* name) {
            const auto found = tensors.find(name);
            return found == tensors.end() ? nullptr : found->second->get();
        };
        args.struct_size = sizeof args;
        args.dt_softplus = update.sizes.full;
        args.state = at("state");
        args.x = at("x");
        args.dt = at("dt");
        args.a = at("a");
        args.b = at("b");
        args.c = at("c");
        args.d = at("d");
        args.z = at("z");
        args.dt_bias = at("dt_bias");
        args.slots = at("slots");
        args.y = at(name_of_y().c_str());
    }

    int32_t run() { return ssm_selective_state_update(context, &args); }
    int32_t query_workspace(uint64_t* bytes) { return ssm_selective_state_update_workspace(context, &args, bytes); }
    // The state as it was before the first run.
    void reset() {
        tensors.at("state")->write(update.inputs.at("state"));
        if (!update.inplace.empty())
            tensors.at(update.inplace)->write(update.inputs.at(update.inplace));
    }
    Outputs take() {
        SSM_CHECK(ssm_context_synchronize(context));
        Outputs outputs{{"y", tensors.at(name_of_y())->take()}, {"state", tensors.at("state")->take()}};
        for (const auto& [name, tensor] : update.inputs)
            if (name != "state" && name != update.inplace)
                tensors.at(name)->check_unchanged();
        return outputs;
    }

    ssm_selective_state_update_args args{};

  private:
    std::string name_of_y() const { return update.inplace.empty() ? "y" : update.inplace; }
    Context& context;
    Update update;
    std::map<std::string, std::unique_ptr<Placed>> tensors;
};

Outputs run(Context& context, const Update& update) {
    UpdateCall call(context, update);
    check(call.run(), update.describe().c_str());
    return call.take();
}

// ---- The same as a selective scan --------------------------------------------------------------------------------------

// Index of (batch, channel of all heads, step) in a tensor of x's form, and of one value per head in dt's.
int64_t index_of_x(const Sizes& s, int64_t batch, int64_t channel, int64_t step) {
    const int64_t steps = std::max<int64_t>(s.steps, 1);
    return s.heads ? (batch * steps + step) * s.all_channels() + channel : (batch * s.channels + channel) * steps + step;
}
int64_t index_of_dt(const Sizes& s, int64_t batch, int64_t channel, int64_t step) {
    const int64_t steps = std::max<int64_t>(s.steps, 1);
    return s.heads ? (batch * steps + step) * s.heads + channel / s.channels : index_of_x(s, batch, channel, step);
}

int64_t slot_of(const Sizes& s, int64_t batch) {
    return s.slots.empty() ? batch : s.slots[batch];
}

// Heads become channels, each with its head's parameters; rows that are skipped start from zero.
Problem as_scan(const Update& update) {
    const Sizes& s = update.sizes;
    const int64_t steps = std::max<int64_t>(s.steps, 1), channels = s.all_channels();
    const Type real = state_type(s.type);
    const std::map<std::string, Tensor>& in = update.inputs;
    Problem scan;
    scan.operation = Operation::selective_scan;
    scan.type = s.type;
    scan.dt_softplus = s.full;
    Tensor u(s.type, {s.batch, channels, steps}), dt = u, z = u, b(s.type, {s.batch, s.groups, s.states, steps}), c = b;
    Tensor initial(real, {s.batch, channels, s.states}), a(real, {channels, s.states}), d(real, {channels}), bias = d;
    for (int64_t batch = 0; batch < s.batch; ++batch) {
        for (int64_t channel = 0; channel < channels; ++channel) {
            for (int64_t t = 0; t < steps; ++t) {
                u.at(batch, channel, t) = in.at("x").values[index_of_x(s, batch, channel, t)];
                dt.at(batch, channel, t) = in.at("dt").values[index_of_dt(s, batch, channel, t)];
                if (s.full)
                    z.at(batch, channel, t) = in.at("z").values[index_of_x(s, batch, channel, t)];
            }
            for (int64_t n = 0; n < s.states && slot_of(s, batch) >= 0; ++n)
                initial.at(batch, channel, n) =
                    in.at("state").values[(slot_of(s, batch) * channels + channel) * s.states + n];
        }
        for (int64_t group = 0; group < s.groups; ++group)
            for (int64_t n = 0; n < s.states; ++n)
                for (int64_t t = 0; t < steps; ++t) {
                    const int64_t index = s.heads ? ((batch * steps + t) * s.groups + group) * s.states + n
                                                  : ((batch * s.groups + group) * s.states + n) * steps + t;
                    b.at(batch, group, n, t) = in.at("b").values[index];
                    c.at(batch, group, n, t) = in.at("c").values[index];
                }
    }
    for (int64_t channel = 0; channel < channels; ++channel) {
        const int64_t parameter = s.heads ? channel / s.channels : channel;
        for (int64_t n = 0; n < s.states; ++n)
            a.at(channel, n) = in.at("a").values[s.heads ? parameter : channel * s.states + n];
        if (s.full) {
            d.at(channel) = in.at("d").values[parameter];
            bias.at(channel) = in.at("dt_bias").values[parameter];
        }
    }
    scan.inputs = {{"u", u}, {"dt", dt}, {"a", a}, {"b", b}, {"c", c}, {"initial_state", initial}};
    if (s.full)
        scan.inputs.insert({{"z", z}, {"d", d}, {"dt_bias", bias}});
    scan.outputs = {{"y", u}, {"last_state", initial}};
    return scan;
}

// What a scan answers, as the update's outputs; skipped rows are zero, untouched slots as they were.
template <class Fill>
void for_each_output(const Update& update, const Fill& fill) {
    const Sizes& s = update.sizes;
    const int64_t steps = std::max<int64_t>(s.steps, 1), channels = s.all_channels();
    for (int64_t batch = 0; batch < s.batch; ++batch) {
        const int64_t slot = slot_of(s, batch);
        for (int64_t channel = 0; slot >= 0 && channel < channels; ++channel) {
            for (int64_t t = 0; t < steps; ++t)
                fill("y", index_of_x(s, batch, channel, t), "y", (batch * channels + channel) * steps + t);
            for (int64_t n = 0; n < s.states; ++n)
                fill("state", (slot * channels + channel) * s.states + n, "last_state",
                     (batch * channels + channel) * s.states + n);
        }
    }
}

Reference expected_of(const Update& update) {
    const Sizes& s = update.sizes;
    const Reference scan = reference(as_scan(update));
    Reference result;
    result["y"].value = Tensor(s.type, shape_of_x(s));
    result["state"].value = update.inputs.at("state");
    for (auto& [name, expected] : result)
        expected.limit.assign(expected.value.values.size(), 0.0);
    for_each_output(update, [&](const char* name, int64_t index, const char* of_scan, int64_t scan_index) {
        Expected& expected = result.at(name);
        const Expected& from = scan.at(of_scan);
        expected.value.values[index] = from.value.values[scan_index];
        expected.limit[index] = from.limit[scan_index];
        const Type stored = expected.value.type;
        if (stored != from.value.type)
            expected.limit[index] += roundoff(stored) * std::abs(expected.value.values[index]) + underflow(stored);
    });
    return result;
}

// The library's own selective scan.
Outputs run_as_scan(Context& context, const Update& update) {
    const Outputs scan = run(context, as_scan(update));
    Outputs result{{"y", Tensor(update.sizes.type, shape_of_x(update.sizes))}, {"state", update.inputs.at("state")}};
    for_each_output(update, [&](const char* name, int64_t index, const char* of_scan, int64_t scan_index) {
        Tensor& tensor = result.at(name);
        tensor.values[index] = rounded(tensor.type, scan.at(of_scan).values[scan_index]);
    });
    return result;
}

void compare(Context& context, const Update& update, const std::string& note = "") {
    expect_near(run(context, update), expected_of(update), update.describe() + " " + note);
}

std::vector<Type> state_types(Type type) {
    return type == float64 ? std::vector{float64} : std::vector{float32, bfloat16, float16};
}

// A handful that shows a wrong kernel: both forms, rest of a vector, groups, slots, steps, a state of 16 bits.
std::vector<Update> some_of_everything(Type type) {
    const Type state = state_type(type), narrow = state_types(type).back();
    return {
        Update({type, state, 2, 0, 37, 1, 16}),
        Update({type, state, 3, 0, 6, 2, 21, 3, true, {3, -1, 0}, 5}),
        Update({type, narrow, 2, 0, 9, 3, 5, 2, false}),
        Update({type, state, 2, 0, 20, 1, 3, 0, true, {1, 0}, 2}),
        Update({type, state, 2, 3, 18, 1, 64}),
        Update({type, narrow, 4, 4, 7, 2, 40, 3, true, {2, 6, -1, 0}, 8}),
        Update({type, narrow, 2, 2, 3, 2, 130, 2, false}),
        Update({type, narrow, 1, 2, 19, 1, 2, 2}),
    };
}

class SelectiveStateUpdate : public testing::TestWithParam<Target> {};

} // namespace

TEST_P(SelectiveStateUpdate, Quick) {
    const Type type = GetParam().type;
    for (const int64_t tile : {0, 1, 40}) {
        for (const Variation& variation : variations(GetParam().device)) {
            Context context(GetParam().device);
            context.try_option("selective_state_update.tile", tile);
            ASSERT_TRUE(variation.apply(context)) << variation.name;
            for (const Update& update : some_of_everything(type)) {
                compare(context, update, "tile " + std::to_string(tile) + " " + variation.name);
                if (HasFailure())
                    return;
            }
        }
    }
}

TEST_P(SelectiveStateUpdate, MatchesAtEveryNumberOfStates) {
    const Type type = GetParam().type;
    const bool slow = GetParam().device.is_slow();
    Context context(GetParam().device);
    uint64_t seed = 1;
    for (const int64_t states : {1,  2,  3,  4,   5,   7,   8,   9,   15,  16,  17,  31,   32,   33,  48,
                                 64, 65, 96, 128, 129, 200, 256, 257, 300, 512, 520, 1024, 1100, 2100})
        for (const int64_t heads : {0, 2})
            for (const Type state : state_types(type))
                for (const int64_t steps : {0, 3}) {
                    if (slow && states > 300 && (steps == 0) == (heads == 0))
                        continue;
                    Sizes sizes{type, state, 2, heads, heads ? 3 : 6, 2, states, steps, states % 3 != 0};
                    sizes.seed = ++seed;
                    compare(context, Update(sizes));
                    if (HasFailure())
                        return;
                }
}

TEST_P(SelectiveStateUpdate, MatchesAtEveryWidth) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    for (const int64_t channels : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100})
        for (const int64_t heads : {0, 1, 3})
            for (const int64_t states : {2, 16, 20}) {
                compare(context, Update({type, state_types(type).front(), 2, heads, channels, 1, states}));
                compare(context, Update({type, state_types(type).back(), 1, heads, channels, 1, states, 2, false}));
                if (HasFailure())
                    return;
            }
}

// Enough for every thread, and for a device to choose fewer lanes for a channel.
TEST_P(SelectiveStateUpdate, MatchesWithManyChannels) {
    const Type type = GetParam().type;
    const bool slow = GetParam().device.is_slow();
    Context context(GetParam().device);
    for (const Type state : state_types(type)) {
        compare(context, Update({type, state, slow ? 2 : 8, 0, slow ? 300 : 1536, 1, 16}));
        compare(context, Update({type, state, slow ? 1 : 4, slow ? 3 : 24, 64, 1, 128, 2}));
    }
}

TEST_P(SelectiveStateUpdate, EqualsSelectiveScan) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    std::vector<Update> all = some_of_everything(type);
    all.push_back(Update({type, state_type(type), 2, 0, 6, 2, 16, 1}));
    all.push_back(Update({type, state_type(type), 2, 0, 6, 2, 16, 50}));
    all.push_back(Update({type, state_type(type), 2, 2, 5, 1, 32, 50, false}));
    for (const Update& update : all)
        expect_agree(run(context, update), run_as_scan(context, update), expected_of(update), update.describe());
}

// Steps in one call are steps in several calls, to the bit where the state is not rounded between.
TEST_P(SelectiveStateUpdate, StepsInOneCallEqualCallsOfOneStep) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    for (const int64_t heads : {0, 2})
        for (const int64_t states : {2, 19, 128, 600}) {
            const Update whole({type, state_type(type), 2, heads, 6, 2, states, 4});
            Outputs expected = run(context, whole);
            Tensor state = whole.inputs.at("state");
            Tensor y = expected.at("y");
            for (int64_t t = 0; t < 4; ++t) {
                Update step = whole;
                step.sizes.steps = 1;
                step.inputs["state"] = state;
                const auto at_step = [&](const Tensor& tensor) {
                    if (!heads)
                        return slice_time(tensor, t, t + 1);
                    std::vector<int64_t> shape = tensor.shape;
                    const int64_t inner = tensor.size() / (shape[0] * shape[1]);
                    shape[1] = 1;
                    Tensor part(tensor.type, shape);
                    for (int64_t i = 0; i < part.size(); ++i)
                        part.values[i] = tensor.values[(i / inner * 4 + t) * inner + i % inner];
                    return part;
                };
                for (const char* name : {"x", "dt", "b", "c", "z"})
                    step.inputs[name] = at_step(whole.inputs.at(name));
                const Outputs outputs = run(context, step);
                state = outputs.at("state");
                expect_identical({{"y", outputs.at("y")}}, {{"y", at_step(y)}}, step.describe());
            }
            expect_identical({{"state", state}}, {{"state", expected.at("state")}}, whole.describe());
        }
}

TEST_P(SelectiveStateUpdate, SkipsAndKeepsSlots) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    // Every row skipped: the state may even be empty.
    for (const int64_t rows : {3, 0}) {
        Sizes sizes{type, state_types(type).back(), 2, 2, 5, 1, 24, 2};
        sizes.slots = {-1, -1};
        sizes.rows = rows;
        const Update update(sizes);
        const Outputs outputs = run(context, update);
        for (const Number value : outputs.at("y").values)
            EXPECT_EQ(value, Number(0));
        expect_identical({{"state", outputs.at("state")}}, {{"state", update.inputs.at("state")}}, update.describe());
    }
    // A row gives the same bits in whatever slot.
    Sizes sizes{type, state_type(type), 3, 0, 7, 1, 16};
    Update plain(sizes);
    const Outputs expected = run(context, plain);
    sizes.slots = {4, 0, 5};
    sizes.rows = 6;
    Update slotted(sizes);
    for (const auto& [name, tensor] : plain.inputs)
        if (name != "state")
            slotted.inputs[name] = tensor;
    const int64_t row = 7 * 16;
    for (int64_t i = 0; i < 3; ++i)
        std::copy_n(plain.inputs["state"].values.begin() + i * row, row,
                    slotted.inputs["state"].values.begin() + sizes.slots[i] * row);
    Outputs outputs = run(context, slotted);
    Tensor gathered = plain.inputs["state"];
    for (int64_t i = 0; i < 3; ++i)
        std::copy_n(outputs["state"].values.begin() + sizes.slots[i] * row, row, gathered.values.begin() + i * row);
    outputs["state"] = gathered;
    expect_identical(outputs, expected, slotted.describe());
}

// The library checks slots on a CPU; elsewhere a slot that is none is skipped.
TEST_P(SelectiveStateUpdate, RefusesOrSkipsWrongSlots) {
    Context context(GetParam().device);
    for (const int64_t wrong : {int64_t{5}, int64_t{-2}, int64_t{INT32_MIN}, int64_t{INT32_MAX}}) {
        Sizes sizes{GetParam().type, state_type(GetParam().type), 2, 0, 5, 1, 16};
        sizes.slots = {1, wrong};
        sizes.rows = 5;
        Update update(sizes);
        UpdateCall call(context, update);
        if (GetParam().device.type == SSM_DEVICE_CPU) {
            EXPECT_EQ(call.run(), SSM_ERROR_INVALID_ARGUMENT);
            EXPECT_EQ(std::string(ssm_last_error()),
                      "slots[1]: -1 or a row of the 5 of state expected, " + std::to_string(wrong) + " given");
            continue;
        }
        SSM_CHECK(call.run());
        update.sizes.slots[1] = -1;
        expect_near(call.take(), expected_of(update), update.describe());
    }
}

TEST_P(SelectiveStateUpdate, MatchesInEveryView) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    for (const Update& plain : some_of_everything(type))
        for (const View view : {View::null_strides, View::channel_contiguous, View::padded, View::channel_padded,
                                View::offset, View::strided, View::reversed_axes}) {
            Update update = plain;
            for (const auto& [name, tensor] : plain.inputs)
                update.views[name] = view;
            update.views["y"] = view;
            compare(context, update);
            Update state_alone = plain;
            state_alone.views["state"] = view;
            compare(context, state_alone);
            if (HasFailure())
                return;
        }
}

// The caller's broadcasts cost nothing: strides of zero are used in place.
TEST_P(SelectiveStateUpdate, MatchesWithBroadcastInputs) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    const std::pair<View, int> broadcasts[] = {{View::broadcast_batch, 0}, {View::broadcast_channel, 1}};
    for (const Update& plain : some_of_everything(type))
        for (const auto& [view, axis] : broadcasts)
            for (const char* name : {"x", "dt", "b", "c", "z"}) {
                const auto found = plain.inputs.find(name);
                if (found == plain.inputs.end())
                    continue;
                Update update = plain;
                update.inputs[name] = constant_along(found->second, axis);
                update.views[name] = view;
                compare(context, update);
            }
    Update rates({type, state_type(type), 2, 0, 9, 1, 16});
    rates.inputs["a"] = constant_along(rates.inputs["a"], 1);
    rates.views["a"] = View::broadcast_channel; // the axis of states: packed
    compare(context, rates);
    rates.inputs["a"] = constant_along(rates.inputs["a"], 0);
    rates.views["a"] = View::broadcast_batch;
    compare(context, rates);
}

TEST_P(SelectiveStateUpdate, AlignmentIsBitEqual) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    for (const Update& plain : some_of_everything(type)) {
        const Outputs expected = run(context, plain);
        Update update = plain;
        for (const auto& [name, tensor] : plain.inputs)
            update.views[name] = View::offset;
        update.views["y"] = View::offset;
        expect_identical(run(context, update), expected, update.describe());
    }
}

// Data that is not even aligned to its elements goes through the workspace, the state there and back.
TEST_P(SelectiveStateUpdate, MatchesWhereElementsAreNotAligned) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    for (const Update& update : some_of_everything(type)) {
        const Outputs expected = run(context, update);
        UpdateCall call(context, update);
        const Tensor& state = update.inputs.at("state");
        const uint64_t bytes = static_cast<uint64_t>(state.size() * size_of(state.type));
        std::vector<unsigned char> image(bytes + 1);
        for (int64_t i = 0; i < state.size(); ++i)
            encode(state.type, state.values[i], image.data() + 1 + i * size_of(state.type));
        void* memory = nullptr;
        SSM_CHECK(ssm_allocate(context, image.size(), &memory));
        upload(context, image.data(), memory, image.size());
        DLTensor shifted = *call.args.state;
        shifted.data = memory;
        shifted.byte_offset = 1;
        call.args.state = &shifted;
        SSM_CHECK(call.run());
        SSM_CHECK(ssm_context_synchronize(context));
        download(context, memory, image.data(), image.size());
        Tensor result = state;
        for (int64_t i = 0; i < state.size(); ++i)
            result.values[i] = decode(state.type, image.data() + 1 + i * size_of(state.type));
        expect_identical({{"state", result}, {"y", call.take().at("y")}}, expected, update.describe());
        SSM_CHECK(ssm_free(context, memory));
    }
}

TEST_P(SelectiveStateUpdate, MatchesInPlace) {
    Context context(GetParam().device);
    for (const Update& plain : some_of_everything(GetParam().type)) {
        const Outputs expected = run(context, plain);
        for (const char* name : {"x", "z"}) {
            if (!plain.inputs.count(name))
                continue;
            Update update = plain;
            update.inplace = name;
            expect_identical(run(context, update), expected, update.describe());
        }
    }
}

TEST_P(SelectiveStateUpdate, VariationsAreBitEqual) {
    const Type type = GetParam().type;
    std::vector<Update> all = some_of_everything(type);
    all.push_back(Update({type, state_types(type).back(), 2, 0, GetParam().device.is_slow() ? 90 : 900, 1, 16, 3}));
    std::vector<Outputs> expected;
    {
        Context context(GetParam().device);
        for (const Update& update : all)
            expected.push_back(run(context, update));
    }
    for (const Variation& variation : variations(GetParam().device)) {
        Context context(GetParam().device);
        ASSERT_TRUE(variation.apply(context)) << variation.name;
        for (size_t i = 0; i < all.size(); ++i)
            for (int round = 0; round < (GetParam().device.is_slow() ? 1 : 3); ++round)
                expect_identical(run(context, all[i]), expected[i], all[i].describe() + " " + variation.name);
    }
}

// A bad number stays in its row; an infinite step does not come out of the states that a vector has beyond the last.
TEST_P(SelectiveStateUpdate, BadNumbersStayWhereTheyAre) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    const double nan = std::numeric_limits<double>::quiet_NaN();
    for (const int64_t states : {3, 21}) {
        const Update plain({type, state_type(type), 3, 0, 5, 1, states});
        const Outputs expected = run(context, plain);
        Update update = plain;
        update.inputs["state"].at(1, 2, 0) = nan;
        update.inputs["x"].at(2, 4) = nan;
        const Outputs outputs = run(context, update);
        for (int64_t batch = 0; batch < 3; ++batch)
            for (int64_t channel = 0; channel < 5; ++channel) {
                const bool is_bad = (batch == 1 && channel == 2) || (batch == 2 && channel == 4);
                const double y = outputs.at("y").at(batch, channel).real();
                if (is_bad)
                    EXPECT_TRUE(std::isnan(y));
                else
                    EXPECT_EQ(y, expected.at("y").at(batch, channel).real());
            }
        // s is infinite, every state forgotten, and b positive: y is infinite and not NaN.
        Update far({type, state_type(type), 2, 0, 5, 1, states, 0, false});
        for (Number& value : far.inputs["dt"].values)
            value = std::numeric_limits<double>::infinity();
        for (const char* name : {"x", "b", "c"})
            for (Number& value : far.inputs[name].values)
                value = 1;
        const Outputs infinite = run(context, far);
        for (const Number value : infinite.at("y").values)
            EXPECT_EQ(value.real(), std::numeric_limits<double>::infinity());
    }
}

TEST_P(SelectiveStateUpdate, AcceptsEmptyTensors) {
    const Type type = GetParam().type;
    Context context(GetParam().device);
    for (const Sizes& sizes : {Sizes{type, state_type(type), 0, 0, 4, 1, 16}, Sizes{type, state_type(type), 2, 0, 0, 1, 16},
                               Sizes{type, state_type(type), 2, 0, 4, 1, 0}, Sizes{type, state_type(type), 2, 2, 0, 1, 16},
                               Sizes{type, state_type(type), 0, 2, 3, 2, 16, 2}}) {
        const Update update(sizes);
        UpdateCall call(context, update);
        EXPECT_EQ(call.run(), SSM_SUCCESS) << ssm_last_error();
        uint64_t bytes = 1;
        EXPECT_EQ(call.query_workspace(&bytes), SSM_SUCCESS) << ssm_last_error();
        EXPECT_EQ(bytes, 0u);
        expect_identical({{"state", call.take().at("state")}}, {{"state", update.inputs.at("state")}}, update.describe());
    }
}

// A graph holds one step: each launch takes the state on.
TEST_P(SelectiveStateUpdate, GraphTakesTheStateOn) {
    Context context(GetParam().device);
    for (const Update& update : some_of_everything(GetParam().type)) {
        UpdateCall call(context, update);
        std::vector<Outputs> expected;
        for (int round = 0; round < 3; ++round) {
            SSM_CHECK(call.run());
            expected.push_back(call.take());
        }
        call.reset();
        SSM_CHECK(ssm_context_synchronize(context));
        SSM_CHECK(ssm_capture_begin(context));
        SSM_CHECK(call.run());
        ssm_graph* graph = nullptr;
        SSM_CHECK(ssm_capture_end(context, &graph));
        for (int round = 0; round < 3; ++round) {
            SSM_CHECK(ssm_graph_launch(context, graph));
            expect_identical(call.take(), expected[round], update.describe() + " replayed");
        }
        SSM_CHECK(ssm_graph_destroy(graph));
    }
}

TEST_P(SelectiveStateUpdate, WorkspaceIsWhatTheQuerySays) {
    constexpr unsigned char canary = 0xc3;
    constexpr uint64_t tail = 4096;
    const Type type = GetParam().type;
    Context context(GetParam().device);
    context.try_option("selective_state_update.tile", 1);
    // A rounded state of several steps, and rates that have to be packed.
    Update rounded_state({type, state_types(type).back(), 2, 2, 5, 1, 70, 3});
    Update packed({type, state_type(type), 2, 0, 9, 1, 33});
    packed.views["a"] = View::reversed_axes;
    for (const Update& update : {rounded_state, packed}) {
        const Outputs expected = run(context, update);
        UpdateCall call(context, update);
        uint64_t bytes = 0;
        SSM_CHECK(call.query_workspace(&bytes));
        if (type == float64 && !update.views.count("a")) {
            EXPECT_EQ(bytes, 0u);
            continue;
        }
        ASSERT_GT(bytes, 0u) << update.describe();
        void* memory = nullptr;
        SSM_CHECK(ssm_allocate(context, bytes + tail, &memory));
        std::vector<unsigned char> image(bytes + tail, canary);
        upload(context, image.data(), memory, image.size());
        SSM_CHECK(ssm_context_set_workspace(context, memory, bytes));
        SSM_CHECK(call.run());
        expect_identical(call.take(), expected, update.describe() + " in the caller's workspace");
        download(context, memory, image.data(), image.size());
        EXPECT_TRUE(std::all_of(image.begin() + static_cast<int64_t>(bytes), image.end(),
                                [](unsigned char byte) { return byte == canary; }));
        SSM_CHECK(ssm_context_set_workspace(context, memory, bytes - 1));
        EXPECT_EQ(call.run(), SSM_ERROR_WORKSPACE_TOO_SMALL);
        SSM_CHECK(ssm_context_set_workspace(context, nullptr, 0));
        SSM_CHECK(ssm_free(context, memory));
    }
    // What a token usually is needs none.
    for (const Type state : state_types(type)) {
        UpdateCall call(context, Update({type, state, 2, 0, 9, 1, 16}));
        uint64_t bytes = 1;
        SSM_CHECK(call.query_workspace(&bytes));
        EXPECT_EQ(bytes, 0u);
    }
}

TEST_P(SelectiveStateUpdate, SteadyStateAllocatesNothing) {
    if (has_sanitizer())
        GTEST_SKIP() << "the sanitizer has the heap to itself";
    Context context(GetParam().device);
    for (const Update& update : some_of_everything(GetParam().type)) {
        UpdateCall call(context, update);
        for (int round = 0; round < 3; ++round)
            SSM_CHECK(call.run());
        SSM_CHECK(ssm_context_synchronize(context));
        const Allocations before = allocations();
        for (int round = 0; round < 5; ++round)
            call.run();
        ssm_context_synchronize(context);
        const Allocations after = allocations();
        EXPECT_EQ(after.live_blocks, before.live_blocks) << update.describe();
        if (GetParam().device.type != SSM_DEVICE_EMULATED) {
            EXPECT_EQ(after.calls, before.calls) << update.describe();
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Devices, SelectiveStateUpdate, testing::ValuesIn(targets({float32, float64, float16, bfloat16})),
                         [](const auto& info) { return name_of(info.param); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(SelectiveStateUpdate);

} // namespace ssm::test
