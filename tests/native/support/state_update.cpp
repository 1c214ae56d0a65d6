#include "support/state_update.h"

#include <algorithm>
#include <cmath>

namespace ssm::test {

namespace {

// The sizes of an update, and where things are in its tensors.
struct Form {
    bool has_heads;
    int64_t batch, steps, heads, channels, groups, states; // channels of all heads

    explicit Form(const Problem& update) {
        const std::vector<int64_t>&state = update.inputs.at("state").shape, &x = update.inputs.at("x").shape,
              &b = update.inputs.at("b").shape;
        has_heads = state.size() == 4;
        const bool has_time = x.size() == state.size();
        batch = x[0];
        steps = !has_time ? 1 : has_heads ? x[1] : x[2];
        heads = has_heads ? state[1] : 1;
        channels = has_heads ? state[1] * state[2] : state[1];
        groups = b[has_heads && has_time ? 2 : 1];
        states = state.back();
        if (const auto found = update.inputs.find("slots"); found != update.inputs.end())
            slots = &found->second;
    }
    int64_t slot(int64_t row) const { return slots ? static_cast<int64_t>(slots->values[row].real()) : row; }
    int64_t parameter(int64_t channel) const { return has_heads ? channel / (channels / heads) : channel; }
    int64_t x(int64_t row, int64_t channel, int64_t t) const {
        return has_heads ? (row * steps + t) * channels + channel : (row * channels + channel) * steps + t;
    }
    int64_t dt(int64_t row, int64_t channel, int64_t t) const {
        return has_heads ? (row * steps + t) * heads + parameter(channel) : x(row, channel, t);
    }
    int64_t b(int64_t row, int64_t group, int64_t n, int64_t t) const {
        return has_heads ? ((row * steps + t) * groups + group) * states + n
                         : ((row * groups + group) * states + n) * steps + t;
    }
    int64_t a(int64_t channel, int64_t n) const { return has_heads ? parameter(channel) : channel * states + n; }
    int64_t state(int64_t row, int64_t channel, int64_t n) const { return (slot(row) * channels + channel) * states + n; }

  private:
    const Tensor* slots = nullptr;
};

// copy(output, index, output of the scan, index there) for every element that the scan gives.
template <class Copy>
void for_each_output(const Problem& update, const Copy& copy) {
    const Form form(update);
    for (int64_t row = 0; row < form.batch; ++row)
        for (int64_t channel = 0; form.slot(row) >= 0 && channel < form.channels; ++channel) {
            for (int64_t t = 0; t < form.steps; ++t)
                copy("y", form.x(row, channel, t), "y", (row * form.channels + channel) * form.steps + t);
            for (int64_t n = 0; n < form.states; ++n)
                copy("state", form.state(row, channel, n), "last_state", (row * form.channels + channel) * form.states + n);
        }
}

} // namespace

Problem as_selective_scan(const Problem& update) {
    const Form form(update);
    const std::map<std::string, Tensor>& in = update.inputs;
    const Type type = update.type, real = state_type(type);
    const bool has_z = in.count("z"), has_d = in.count("d"), has_bias = in.count("dt_bias");
    Tensor u(type, {form.batch, form.channels, form.steps}), dt = u, z = u;
    Tensor b(type, {form.batch, form.groups, form.states, form.steps}), c = b;
    Tensor initial(real, {form.batch, form.channels, form.states}), a(real, {form.channels, form.states});
    Tensor d(real, {form.channels}), bias = d;
    for (int64_t row = 0; row < form.batch; ++row) {
        for (int64_t channel = 0; channel < form.channels; ++channel) {
            for (int64_t t = 0; t < form.steps; ++t) {
                u.at(row, channel, t) = in.at("x").values[form.x(row, channel, t)];
                dt.at(row, channel, t) = in.at("dt").values[form.dt(row, channel, t)];
                if (has_z)
                    z.at(row, channel, t) = in.at("z").values[form.x(row, channel, t)];
            }
            for (int64_t n = 0; n < form.states && form.slot(row) >= 0; ++n)
                initial.at(row, channel, n) = in.at("state").values[form.state(row, channel, n)];
        }
        for (int64_t group = 0; group < form.groups; ++group)
            for (int64_t n = 0; n < form.states; ++n)
                for (int64_t t = 0; t < form.steps; ++t) {
                    b.at(row, group, n, t) = in.at("b").values[form.b(row, group, n, t)];
                    c.at(row, group, n, t) = in.at("c").values[form.b(row, group, n, t)];
                }
    }
    for (int64_t channel = 0; channel < form.channels; ++channel) {
        for (int64_t n = 0; n < form.states; ++n)
            a.at(channel, n) = in.at("a").values[form.a(channel, n)];
        if (has_d)
            d.at(channel) = in.at("d").values[form.parameter(channel)];
        if (has_bias)
            bias.at(channel) = in.at("dt_bias").values[form.parameter(channel)];
    }
    Problem scan;
    scan.operation = Operation::selective_scan;
    scan.type = type;
    scan.dt_softplus = update.dt_softplus;
    scan.inputs = {{"u", u}, {"dt", dt}, {"a", a}, {"b", b}, {"c", c}, {"initial_state", initial}};
    if (has_z)
        scan.inputs["z"] = z;
    if (has_d)
        scan.inputs["d"] = d;
    if (has_bias)
        scan.inputs["dt_bias"] = bias;
    scan.outputs = {{"y", u}, {"last_state", initial}};
    return scan;
}

Outputs as_state_update(const Problem& update, const Outputs& scan) {
    Outputs result{{"y", Tensor(update.type, update.inputs.at("x").shape)}, {"state", update.inputs.at("state")}};
    for_each_output(update, [&](const char* name, int64_t index, const char* of_scan, int64_t scan_index) {
        Tensor& tensor = result.at(name);
        tensor.values[index] = rounded(tensor.type, scan.at(of_scan).values[scan_index]);
    });
    return result;
}

Reference state_update_reference(const Problem& update) {
    const Reference scan = reference(as_selective_scan(update));
    Reference result;
    result["y"].value = Tensor(update.type, update.inputs.at("x").shape);
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

} // namespace ssm::test
