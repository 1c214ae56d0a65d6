#include "support/problems.h"

#include <algorithm>
#include <cmath>

namespace ssm::test {

Tensor uniform(Type type, std::vector<int64_t> shape, double low, double high, Random& random) {
    Tensor tensor(type, std::move(shape));
    for (Number& value : tensor.values) {
        const double re = random.uniform(low, high);
        value = rounded(type, is_complex(type) ? Number(re, random.uniform(low, high)) : Number(re));
    }
    return tensor;
}

Tensor decays(Type type, std::vector<int64_t> shape, Random& random) {
    Tensor tensor(type, shape);
    const int64_t channels = shape[1], length = shape[2];
    for (int64_t i = 0; i < tensor.size(); ++i) {
        const int64_t memory = std::min<int64_t>(i / length % channels, 6);
        const double magnitude = 1 - random.uniform(0.1, 1) * std::pow(10.0, -static_cast<double>(memory));
        const double angle = random.uniform(-1, 1) * (memory == 0 ? 3.14 : 0.3);
        Number value = magnitude;
        if (is_complex(type))
            value = std::polar(magnitude, angle);
        else if (memory % 2 == 0 && random.integer(0, 1))
            value = -magnitude;
        tensor.values[i] = rounded(type, value);
    }
    return tensor;
}

Tensor constant_along(const Tensor& tensor, int axis) {
    Tensor result = tensor;
    int64_t inner = 1;
    for (size_t i = axis + 1; i < tensor.shape.size(); ++i)
        inner *= tensor.shape[i];
    for (int64_t i = 0; i < tensor.size(); ++i)
        result.values[i] = tensor.values[i / (inner * tensor.shape[axis]) * (inner * tensor.shape[axis]) + i % inner];
    return result;
}

namespace {

int64_t state_rows(const Size& size) {
    return size.cu_seqlens.empty() ? size.batch : static_cast<int64_t>(size.cu_seqlens.size()) - 1;
}

Problem start(Operation operation, const Size& size) {
    Problem problem;
    problem.operation = operation;
    problem.type = size.type;
    if (!size.cu_seqlens.empty()) {
        Tensor bounds(Type::int64, {static_cast<int64_t>(size.cu_seqlens.size())});
        for (size_t i = 0; i < size.cu_seqlens.size(); ++i)
            bounds.values[i] = static_cast<double>(size.cu_seqlens[i]);
        problem.inputs["cu_seqlens"] = bounds;
    }
    return problem;
}

// Factors whose products stay between 1/4 and 4: quotients of neighbours in a row of random numbers.
Tensor factors(Type type, std::vector<int64_t> shape, Random& random) {
    Tensor tensor(type, shape);
    Number before = 1, product = 1;
    for (int64_t i = 0; i < tensor.size(); ++i) {
        if (i % shape[2] == 0)
            before = product = 1;
        Number next = random.uniform(0.5, 2) * (random.integer(0, 1) ? 1 : -1);
        if (is_complex(type))
            next *= std::polar(1.0, random.uniform(-3, 3));
        // Against the product of the rounded factors, so that it does not drift.
        tensor.values[i] = rounded(type, next / product);
        product *= tensor.values[i];
    }
    return tensor;
}

std::vector<Problem> associative_scan(const Size& size) {
    Random random(size.seed);
    const Type type = size.type, state = state_type(type);
    const std::vector<int64_t> shape{size.batch, size.channels, size.length}, state_shape{state_rows(size), size.channels};
    const Tensor terms = uniform(type, shape, -1, 1, random);
    const Tensor quotients = factors(type, shape, random);
    const Tensor initial = uniform(state, state_shape, 0.5, 2, random);
    std::vector<Problem> result;
    const auto add = [&](ssm_combine combine, bool reverse, bool exclusive, bool with_states) {
        Problem problem = start(Operation::associative_scan, size);
        problem.combine = combine;
        problem.reverse = reverse;
        problem.exclusive = exclusive;
        problem.inputs["x"] = combine == SSM_COMBINE_MULTIPLY ? quotients : terms;
        problem.outputs["y"] = Tensor(type, shape);
        if (with_states) {
            problem.inputs["initial_state"] = initial;
            problem.outputs["last_state"] = Tensor(state, state_shape);
        }
        result.push_back(problem);
    };
    add(SSM_COMBINE_ADD, false, false, false);
    add(SSM_COMBINE_ADD, true, true, true);
    add(SSM_COMBINE_ADD, false, true, false);
    add(SSM_COMBINE_MULTIPLY, false, false, true);
    add(SSM_COMBINE_MULTIPLY, true, true, false);
    if (!is_complex(type)) {
        add(SSM_COMBINE_MAXIMUM, false, false, false);
        add(SSM_COMBINE_MAXIMUM, true, false, true);
        // A low start, so that it does not decide everything.
        result.back().inputs["initial_state"] = uniform(state, state_shape, -1, 0.9, random);
        add(SSM_COMBINE_MINIMUM, true, false, false);
        add(SSM_COMBINE_MINIMUM, false, false, true);
        result.back().inputs["initial_state"] = uniform(state, state_shape, -0.9, 1, random);
    }
    return result;
}

std::vector<Problem> linear_recurrence(const Size& size) {
    Random random(size.seed);
    const Type type = size.type, state = state_type(type);
    const std::vector<int64_t> shape{size.batch, size.channels, size.length}, state_shape{state_rows(size), size.channels};
    const Tensor a = decays(type, shape, random), b = uniform(type, shape, -1, 1, random);
    const Tensor initial = uniform(state, state_shape, -2, 2, random);
    std::vector<Problem> result;
    const auto add = [&](bool reverse, bool with_states) {
        Problem problem = start(Operation::linear_recurrence, size);
        problem.reverse = reverse;
        problem.inputs["a"] = a;
        problem.inputs["b"] = b;
        problem.outputs["h"] = Tensor(type, shape);
        if (with_states) {
            problem.inputs["initial_state"] = initial;
            problem.outputs["last_state"] = Tensor(state, state_shape);
        }
        result.push_back(problem);
    };
    add(false, false);
    add(false, true);
    add(true, true);
    add(true, false);
    return result;
}

std::vector<Problem> linear_recurrence_backward(const Size& size) {
    Random random(size.seed + 1000);
    std::vector<Problem> result;
    for (const Problem& forward : linear_recurrence(size)) {
        const Tensor& a = forward.inputs.at("a");
        const Tensor states(state_type(size.type), {state_rows(size), size.channels});
        Problem problem = forward;
        problem.operation = Operation::linear_recurrence_backward;
        problem.inputs["grad_h"] = uniform(size.type, a.shape, -1, 1, random);
        problem.outputs = {{"grad_a", Tensor(size.type, a.shape)}, {"grad_b", Tensor(size.type, a.shape)}};
        if (forward.inputs.count("initial_state")) {
            problem.inputs["grad_last_state"] = uniform(states.type, states.shape, -2, 2, random);
            problem.outputs["grad_initial_state"] = states;
        }
        // Every other variant gives h itself in place of b, the rest lets it be calculated again.
        if (result.size() % 2 == 1) {
            problem.inputs.erase("b");
            problem.inputs["h"] = uniform(size.type, a.shape, -3, 3, random);
        }
        result.push_back(problem);
    }
    // Gradients left out, one at a time.
    Problem only_b = result[1];
    only_b.inputs.erase("h");
    only_b.inputs.erase("initial_state");
    only_b.outputs.erase("grad_a");
    only_b.outputs.erase("grad_initial_state");
    Problem only_a = result[2];
    only_a.outputs.erase("grad_b");
    only_a.outputs.erase("grad_initial_state");
    Problem only_initial = only_b;
    only_initial.outputs.clear();
    only_initial.outputs["grad_initial_state"] = result[1].outputs.at("grad_initial_state");
    result.push_back(only_b);
    result.push_back(only_a);
    result.push_back(only_initial);
    return result;
}

struct SelectiveOptions {
    int64_t states;
    int64_t groups;
    bool is_complex, b_is_constant, c_is_constant;
    bool softplus, with_d, with_z, with_bias, with_states;
};

Problem selective_scan(const Size& size, const SelectiveOptions& options) {
    Random random(size.seed);
    const Type type = size.type, real_state = state_type(type);
    const Type state = options.is_complex ? complex_of(type) : real_state;
    const Type step_type = options.is_complex ? state : type;
    const int64_t channels = size.channels, states = options.states;
    const int64_t groups = options.groups > 1 && channels % options.groups == 0 ? options.groups : 1;
    const std::vector<int64_t> shape{size.batch, channels, size.length}, rates{channels, states};
    const std::vector<int64_t> state_shape{state_rows(size), channels, states};

    Problem problem = start(Operation::selective_scan, size);
    problem.dt_softplus = options.softplus;
    problem.inputs["u"] = uniform(type, shape, -1, 1, random);
    problem.inputs["dt"] = options.softplus ? uniform(type, shape, -5, 1, random) : uniform(type, shape, 0.001, 0.4, random);
    Tensor a(state, rates);
    for (int64_t i = 0; i < a.size(); ++i) {
        // Rates from fast to almost nothing, over the states.
        const double rate = -std::pow(10.0, 0.5 - 0.6 * static_cast<double>(i % states)) * random.uniform(0.5, 1.5);
        a.values[i] = rounded(state, Number(rate, options.is_complex ? random.uniform(-4, 4) : 0));
    }
    problem.inputs["a"] = a;
    const std::vector<int64_t> per_step{size.batch, groups, states, size.length};
    problem.inputs["b"] =
        options.b_is_constant ? uniform(state, rates, -1, 1, random) : uniform(step_type, per_step, -1, 1, random);
    problem.inputs["c"] =
        options.c_is_constant ? uniform(state, rates, -1, 1, random) : uniform(step_type, per_step, -1, 1, random);
    if (options.with_d)
        problem.inputs["d"] = uniform(real_state, {channels}, -1, 1, random);
    if (options.with_z)
        problem.inputs["z"] = uniform(type, shape, -4, 4, random);
    if (options.with_bias)
        problem.inputs["dt_bias"] = uniform(real_state, {channels}, 0.01, 0.5, random);
    problem.outputs["y"] = Tensor(type, shape);
    if (options.with_states) {
        problem.inputs["initial_state"] = uniform(state, state_shape, -2, 2, random);
        problem.outputs["last_state"] = Tensor(state, state_shape);
    }
    return problem;
}

std::vector<Problem> selective_scan(const Size& size) {
    const SelectiveOptions options[] = {
        // states, groups, complex a, b constant, c constant, softplus, d, z, dt_bias, states carried
        {16, 1, false, false, false, true, true, true, true, true},     // as Mamba calls it
        {4, 1, false, false, false, false, false, false, false, false}, // nothing optional
        {5, 2, false, false, false, true, true, false, false, true},    // groups, a number of states that fills no vector
        {3, 1, false, true, false, false, false, true, true, false},
        {8, 2, false, false, true, true, false, true, false, true},
        {2, 1, false, true, true, true, true, false, true, true},
        {4, 2, true, false, false, true, true, true, true, true},
        {3, 1, true, true, true, false, false, false, false, true},
        {1, 1, true, true, false, true, false, true, false, false},
        {1, 1, false, false, false, true, false, false, true, true},
    };
    std::vector<Problem> result;
    for (const SelectiveOptions& option : options)
        result.push_back(selective_scan(size, option));
    return result;
}

std::vector<Problem> selective_scan_backward(const Size& size) {
    Random random(size.seed + 1000);
    std::vector<Problem> result;
    for (const Problem& forward : selective_scan(size)) {
        const Tensor &u = forward.inputs.at("u"), &a = forward.inputs.at("a");
        const Tensor parameter(state_type(size.type), {size.channels});
        Problem problem = forward;
        problem.operation = Operation::selective_scan_backward;
        problem.inputs["grad_y"] = uniform(u.type, u.shape, -1, 1, random);
        problem.outputs = {{"grad_u", u},
                           {"grad_dt", u},
                           {"grad_a", a},
                           {"grad_b", forward.inputs.at("b")},
                           {"grad_c", forward.inputs.at("c")},
                           {"grad_d", parameter},
                           {"grad_dt_bias", parameter}};
        if (forward.inputs.count("z"))
            problem.outputs["grad_z"] = u;
        if (forward.outputs.count("last_state")) {
            const Tensor& states = forward.outputs.at("last_state");
            problem.inputs["grad_last_state"] = uniform(states.type, states.shape, -2, 2, random);
            problem.outputs["grad_initial_state"] = states;
        }
        result.push_back(problem);
    }
    return result;
}

struct SsdOptions {
    int64_t channels, states, groups; // groups 0: one for each head
    bool softplus;
    int d; // 1: of each head, 2: of each channel
    bool with_z, with_bias, with_states, with_ids, with_limits;
    int64_t chunk;
};

// The size's channels are heads.
Problem ssd(const Size& size, const SsdOptions& options) {
    Random random(size.seed);
    const Type type = size.type, state = state_type(type);
    const int64_t heads = size.channels, wanted = options.groups ? options.groups : std::max<int64_t>(heads, 1);
    const int64_t groups = heads % wanted == 0 ? wanted : 1;
    const std::vector<int64_t> shape{size.batch, size.length, heads, options.channels};
    const std::vector<int64_t> per_group{size.batch, size.length, groups, options.states};
    const std::vector<int64_t> state_shape{state_rows(size), heads, options.channels, options.states};
    Problem problem = start(Operation::ssd, size);
    problem.dt_softplus = options.softplus;
    problem.chunk_size = options.chunk;
    if (options.with_limits) {
        problem.dt_min = 0.02;
        problem.dt_max = 0.5;
    }
    problem.inputs["x"] = uniform(type, shape, -1, 1, random);
    const std::vector<int64_t> steps{size.batch, size.length, heads};
    problem.inputs["dt"] = options.softplus ? uniform(type, steps, -5, 1, random) : uniform(type, steps, 0.001, 0.4, random);
    Tensor a(state, {heads});
    for (int64_t head = 0; head < heads; ++head) // rates from fast to almost nothing
        a.values[head] = rounded(state, -std::pow(10.0, 1 - 0.8 * static_cast<double>(head % 6)) * random.uniform(0.5, 1.5));
    problem.inputs["a"] = a;
    problem.inputs["b"] = uniform(type, per_group, -1, 1, random);
    problem.inputs["c"] = uniform(type, per_group, -1, 1, random);
    if (options.d)
        problem.inputs["d"] =
            uniform(state, options.d == 2 ? std::vector{heads, options.channels} : std::vector{heads}, -1, 1, random);
    if (options.with_z)
        problem.inputs["z"] = uniform(type, shape, -4, 4, random);
    if (options.with_bias)
        problem.inputs["dt_bias"] = uniform(state, {heads}, 0.01, 0.5, random);
    if (options.with_ids) {
        Tensor ids(Type::int32, {size.batch, size.length});
        for (int64_t i = 0; i < ids.size(); ++i) // short and long runs, of few numbers
            ids.values[i] = i && random.integer(0, i / 150 % 2 ? 60 : 7)
                                ? ids.values[i - 1]
                                : Number(static_cast<double>(random.integer(-1, 2)));
        problem.inputs["seq_idx"] = ids;
    }
    problem.outputs["y"] = Tensor(type, shape);
    if (options.with_states) {
        problem.inputs["initial_state"] = uniform(state, state_shape, -2, 2, random);
        problem.outputs["last_state"] = Tensor(state, state_shape);
    }
    return problem;
}

std::vector<Problem> ssd(const Size& size) {
    const SsdOptions options[] = {
        // channels, states, groups, softplus, d, z, dt_bias, states carried, seq_idx, limits, chunk
        {8, 16, 1, true, 1, true, true, true, false, false, 0},    // as Mamba-2 calls it
        {4, 6, 1, false, 0, false, false, false, false, false, 0}, // nothing optional
        {5, 7, 2, true, 2, true, false, true, true, false, 16},    // groups, restarts, no whole vectors
        {1, 1, 1, true, 0, false, true, true, false, true, 3},     //
        {19, 3, 0, false, 1, false, true, true, true, false, 1},   //
        {3, 35, 1, true, 0, true, false, true, false, true, 256},  //
        {33, 20, 2, true, 0, false, false, true, true, false, 64}, //
    };
    std::vector<Problem> result;
    for (const SsdOptions& option : options)
        result.push_back(ssd(size, option));
    return result;
}

std::vector<Problem> ssd_backward(const Size& size) {
    Random random(size.seed + 1000);
    std::vector<Problem> result;
    for (const Problem& forward : ssd(size)) {
        Problem problem = forward;
        problem.operation = Operation::ssd_backward;
        problem.outputs.clear();
        const Tensor& x = forward.inputs.at("x");
        problem.inputs["grad_y"] = uniform(x.type, x.shape, -1, 1, random);
        for (const auto& [name, tensor] : forward.inputs)
            if (name != "seq_idx" && name != "cu_seqlens")
                problem.outputs["grad_" + name] = tensor;
        if (forward.outputs.count("last_state")) {
            const Tensor& states = forward.outputs.at("last_state");
            problem.inputs["grad_last_state"] = uniform(states.type, states.shape, -2, 2, random);
        }
        result.push_back(problem);
    }
    // Gradients left out: all but one, and those that need something of the others' calculation.
    for (const char* only : {"grad_x", "grad_dt", "grad_b", "grad_c", "grad_z", "grad_initial_state"}) {
        Problem problem = result[0];
        problem.outputs = {{only, result[0].outputs.at(only)}};
        result.push_back(problem);
    }
    // Gradients of what was absent.
    Problem absent = result[1];
    absent.outputs["grad_d"] = absent.outputs["grad_dt_bias"] = absent.inputs.at("a");
    result.push_back(absent);
    return result;
}

struct Mamba3Options {
    int64_t channels, states, groups; // groups 0: one for each head
    int64_t angles, angle_groups;     // the same
    bool softplus, rates_per_step, with_biases;
    int d; // 1: of each head, 2: of each channel
    bool with_z, with_bias, with_states;
};

// The size's channels are heads.
Problem mamba3(const Size& size, const Mamba3Options& options) {
    Random random(size.seed);
    const Type type = size.type, state = state_type(type);
    const int64_t heads = size.channels, rows = state_rows(size);
    const auto groups_of = [&](int64_t wanted) {
        wanted = wanted ? wanted : std::max<int64_t>(heads, 1);
        return heads % wanted == 0 ? wanted : 1;
    };
    const std::vector<int64_t> shape{size.batch, size.length, heads, options.channels};
    const std::vector<int64_t> steps{size.batch, size.length, heads};
    const std::vector<int64_t> per_group{size.batch, size.length, groups_of(options.groups), options.states};
    Problem problem = start(Operation::mamba3, size);
    problem.dt_softplus = options.softplus;
    problem.inputs["x"] = uniform(type, shape, -1, 1, random);
    problem.inputs["dt"] = options.softplus ? uniform(type, steps, -5, 1, random) : uniform(type, steps, 0.001, 0.4, random);
    Tensor a(state, options.rates_per_step ? steps : std::vector{heads});
    for (int64_t i = 0; i < a.size(); ++i) // rates from fast to almost nothing
        a.values[i] =
            rounded(state, -std::pow(10.0, 1 - 0.8 * static_cast<double>(i % heads % 6)) * random.uniform(0.5, 1.5));
    problem.inputs["a"] = a;
    problem.inputs["b"] = uniform(type, per_group, -1, 1, random);
    problem.inputs["c"] = uniform(type, per_group, -1, 1, random);
    problem.inputs["trap"] = uniform(type, steps, -3, 3, random);
    if (options.angles)
        problem.inputs["angles"] =
            uniform(type, {size.batch, size.length, groups_of(options.angle_groups), options.angles}, -2, 2, random);
    if (options.with_biases) {
        problem.inputs["b_bias"] = uniform(state, {heads, options.states}, -1, 1, random);
        problem.inputs["c_bias"] = uniform(state, {heads, options.states}, -1, 1, random);
    }
    if (options.d)
        problem.inputs["d"] =
            uniform(state, options.d == 2 ? std::vector{heads, options.channels} : std::vector{heads}, -1, 1, random);
    if (options.with_z)
        problem.inputs["z"] = uniform(type, shape, -4, 4, random);
    if (options.with_bias)
        problem.inputs["dt_bias"] = uniform(state, {heads}, 0.01, 0.5, random);
    problem.outputs["y"] = Tensor(type, shape);
    if (options.with_states) {
        const std::pair<const char*, std::vector<int64_t>> states[] = {
            {"state", {rows, heads, options.channels, options.states}},
            {"angle", {rows, heads, options.angles}},
            {"b", {rows, heads, options.states}},
            {"x", {rows, heads, options.channels}}};
        for (const auto& [name, state_shape] : states)
            if (options.angles || std::string(name) != "angle") {
                problem.inputs[std::string("initial_") + name] = uniform(state, state_shape, -2, 2, random);
                problem.outputs[std::string("last_") + name] = Tensor(state, state_shape);
            }
    }
    return problem;
}

std::vector<Problem> mamba3(const Size& size) {
    const Mamba3Options options[] = {
        // channels, states, groups, angles, their groups, softplus, a (B,L,H), biases, d, z, dt_bias, states carried
        {8, 16, 1, 4, 1, true, true, true, 1, true, true, true},      // as Mamba-3 calls it
        {4, 6, 1, 0, 1, false, false, false, 0, false, false, false}, // nothing optional
        {5, 7, 2, 3, 0, true, false, true, 2, true, false, true},     // groups, no whole vectors
        {1, 1, 1, 0, 1, true, true, true, 0, false, true, true},      //
        {19, 3, 0, 1, 2, false, true, false, 1, false, true, true},   //
        {3, 35, 1, 17, 1, true, false, false, 0, true, false, true},  //
        {33, 20, 2, 6, 0, true, true, true, 1, false, true, false},   //
    };
    std::vector<Problem> result;
    for (const Mamba3Options& option : options)
        result.push_back(mamba3(size, option));
    return result;
}

std::vector<Problem> mamba3_backward(const Size& size) {
    Random random(size.seed + 1000);
    std::vector<Problem> result;
    for (const Problem& forward : mamba3(size)) {
        Problem problem = forward;
        problem.operation = Operation::mamba3_backward;
        problem.outputs.clear();
        for (const auto& [name, tensor] : forward.outputs)
            problem.inputs["grad_" + name] = uniform(tensor.type, tensor.shape, -1, 1, random);
        for (const auto& [name, tensor] : forward.inputs)
            if (name != "cu_seqlens")
                problem.outputs["grad_" + name] = tensor;
        result.push_back(problem);
    }
    // Gradients left out: all but one, and those that need something of the others' calculation.
    for (const char* only : {"grad_x", "grad_dt", "grad_trap", "grad_angles", "grad_b", "grad_c_bias", "grad_initial_x"}) {
        Problem problem = result[0];
        problem.outputs = {{only, result[0].outputs.at(only)}};
        result.push_back(problem);
    }
    // Gradients of what was absent.
    Problem absent = result[1];
    const Tensor &x = absent.inputs.at("x"), &b = absent.inputs.at("b");
    const Type state = state_type(size.type);
    const int64_t heads = size.channels, rows = state_rows(size), states = b.shape[3];
    absent.outputs["grad_d"] = absent.outputs["grad_dt_bias"] = absent.inputs.at("a");
    absent.outputs["grad_b_bias"] = absent.outputs["grad_c_bias"] = Tensor(state, {heads, states});
    absent.outputs["grad_initial_state"] = Tensor(state, {rows, heads, x.shape[3], states});
    absent.outputs["grad_initial_b"] = Tensor(state, {rows, heads, states});
    absent.outputs["grad_initial_x"] = Tensor(state, {rows, heads, x.shape[3]});
    result.push_back(absent);
    return result;
}

struct ConvolutionOptions {
    int64_t width;
    bool silu, with_bias, with_states;
};

std::vector<Problem> causal_conv1d(const Size& size) {
    const ConvolutionOptions options[] = {
        // width, silu, bias, states carried
        {4, true, true, true}, // as Mamba calls it
        {3, false, true, true}, {2, true, false, true},   {4, false, false, false}, {7, true, true, true},
        {1, true, true, true},  {256, false, true, true}, {67, true, false, false},
    };
    Random random(size.seed);
    const Type type = size.type, state = state_type(type);
    const std::vector<int64_t> shape{size.batch, size.channels, size.length};
    std::vector<Problem> result;
    for (const ConvolutionOptions& option : options) {
        Problem problem = start(Operation::causal_conv1d, size);
        problem.silu = option.silu;
        const double scale = 2 / std::sqrt(static_cast<double>(option.width));
        const std::vector<int64_t> state_shape{state_rows(size), size.channels, option.width - 1};
        problem.inputs["x"] = uniform(type, shape, -2, 2, random);
        problem.inputs["weight"] = uniform(state, {size.channels, option.width}, -scale, scale, random);
        if (option.with_bias)
            problem.inputs["bias"] = uniform(state, {size.channels}, -1, 1, random);
        problem.outputs["y"] = Tensor(type, shape);
        if (option.with_states) {
            problem.inputs["initial_state"] = uniform(state, state_shape, -2, 2, random);
            problem.outputs["last_state"] = Tensor(state, state_shape);
        }
        result.push_back(problem);
    }
    return result;
}

std::vector<Problem> causal_conv1d_backward(const Size& size) {
    Random random(size.seed + 1000);
    std::vector<Problem> result;
    for (const Problem& forward : causal_conv1d(size)) {
        const Tensor &x = forward.inputs.at("x"), &weight = forward.inputs.at("weight");
        Problem problem = forward;
        problem.operation = Operation::causal_conv1d_backward;
        problem.inputs["grad_y"] = uniform(x.type, x.shape, -1, 1, random);
        problem.outputs = {{"grad_x", x}, {"grad_weight", weight}, {"grad_bias", Tensor(weight.type, {size.channels})}};
        if (forward.outputs.count("last_state")) {
            const Tensor& states = forward.outputs.at("last_state");
            problem.inputs["grad_last_state"] = uniform(states.type, states.shape, -2, 2, random);
            problem.outputs["grad_initial_state"] = states;
        }
        result.push_back(problem);
    }
    // Gradients left out.
    for (const char* only : {"grad_x", "grad_weight", "grad_bias", "grad_initial_state"}) {
        Problem problem = result[result.size() % 2];
        problem.outputs = {{only, problem.outputs.at(only)}};
        result.push_back(problem);
    }
    return result;
}

struct LongConvolutionOptions {
    int64_t taps; // of a short sequence; a long one has fewer
    bool with_reverse, with_d, with_pre_gate, with_post_gate, with_states;
};

std::vector<Problem> causal_conv(const Size& size) {
    const LongConvolutionOptions options[] = {
        {40, false, true, true, true, true}, // everything but the taps that look ahead
        {std::min<int64_t>(size.length + 7, 900), false, true, false, false,
         false},                              // as S4 calls it, and more than the length
        {230, true, true, true, true, false}, // everything but the states
        {260, false, false, false, false, true},
        {1, false, true, false, true, true},
        {3, true, false, true, false, false},
    };
    Random random(size.seed);
    const Type type = size.type, state = state_type(type);
    const std::vector<int64_t> shape{size.batch, size.channels, size.length};
    std::vector<Problem> result;
    for (const LongConvolutionOptions& option : options) {
        Problem problem = start(Operation::causal_conv, size);
        const int64_t taps = size.length > 10000 ? std::min<int64_t>(option.taps, 130) : std::max<int64_t>(option.taps, 1);
        const double scale = 2 / std::sqrt(static_cast<double>(taps));
        const std::vector<int64_t> kernel_shape{size.channels, taps}, state_shape{state_rows(size), size.channels, taps - 1};
        problem.inputs["u"] = uniform(type, shape, -2, 2, random);
        problem.inputs["k"] = uniform(state, kernel_shape, -scale, scale, random);
        if (option.with_reverse)
            problem.inputs["k_reverse"] = uniform(state, kernel_shape, -scale, scale, random);
        if (option.with_d)
            problem.inputs["d"] = uniform(state, {size.channels}, -1, 1, random);
        if (option.with_pre_gate)
            problem.inputs["pre_gate"] = uniform(type, shape, -1, 1, random);
        if (option.with_post_gate)
            problem.inputs["post_gate"] = uniform(type, shape, -1, 1, random);
        problem.outputs["y"] = Tensor(type, shape);
        if (option.with_states) {
            problem.inputs["initial_state"] = uniform(state, state_shape, -2, 2, random);
            problem.outputs["last_state"] = Tensor(state, state_shape);
        }
        result.push_back(problem);
    }
    return result;
}

std::vector<Problem> causal_conv_backward(const Size& size) {
    Random random(size.seed + 1000);
    std::vector<Problem> result;
    for (const Problem& forward : causal_conv(size)) {
        const Tensor& u = forward.inputs.at("u");
        Problem problem = forward;
        problem.operation = Operation::causal_conv_backward;
        problem.inputs["grad_y"] = uniform(u.type, u.shape, -1, 1, random);
        problem.outputs = {{"grad_d", Tensor(state_type(u.type), {size.channels})}};
        for (const char* input : {"u", "k", "k_reverse", "pre_gate", "post_gate"})
            if (forward.inputs.count(input))
                problem.outputs[std::string("grad_") + input] = forward.inputs.at(input);
        if (forward.outputs.count("last_state")) {
            const Tensor& states = forward.outputs.at("last_state");
            problem.inputs["grad_last_state"] = uniform(states.type, states.shape, -2, 2, random);
            problem.outputs["grad_initial_state"] = states;
        }
        result.push_back(problem);
    }
    // Gradients left out.
    for (const char* only : {"grad_u", "grad_k", "grad_d", "grad_pre_gate", "grad_post_gate", "grad_initial_state"}) {
        Problem problem = result[0];
        problem.outputs = {{only, problem.outputs.at(only)}};
        result.push_back(problem);
    }
    return result;
}

} // namespace

std::vector<Problem> problems(Operation operation, const Size& size) {
    switch (operation) {
    case Operation::causal_conv:
        return causal_conv(size);
    case Operation::causal_conv_backward:
        return causal_conv_backward(size);
    case Operation::associative_scan:
        return associative_scan(size);
    case Operation::linear_recurrence:
        return linear_recurrence(size);
    case Operation::linear_recurrence_backward:
        return linear_recurrence_backward(size);
    case Operation::selective_scan:
        return selective_scan(size);
    case Operation::causal_conv1d:
        return causal_conv1d(size);
    case Operation::causal_conv1d_backward:
        return causal_conv1d_backward(size);
    case Operation::selective_scan_backward:
        return selective_scan_backward(size);
    case Operation::ssd:
        return ssd(size);
    case Operation::ssd_backward:
        return ssd_backward(size);
    case Operation::mamba3:
        return mamba3(size);
    case Operation::mamba3_backward:
        return mamba3_backward(size);
    case Operation::mamba3_update:
    case Operation::selective_state_update:
    case Operation::causal_conv1d_update: // not over sequences: their tests make their own
    case Operation::rms_norm:
    case Operation::rms_norm_backward:
    case Operation::gated_rms_norm:
    case Operation::gated_rms_norm_backward:
    case Operation::causal_conv_plan:
    default: // nor these, which are in s4.h
        break;
    }
    return {};
}

} // namespace ssm::test
