#include "cases.h"

#include <algorithm>
#include <cmath>

namespace bench {

namespace {

// How far a result may be from the double-precision one, relative to the magnitudes that went in.
double tolerance(Type type) {
    switch (type) {
    case Type::float64:
        return 1e-12;
    case Type::float16:
        return 2e-3;
    case Type::bfloat16:
        return 2e-2;
    default:
        return 1e-5;
    }
}

void expect_near(double given, double expected, double magnitude, Type type, const char* what) {
    if (!(std::abs(given - expected) <= tolerance(type) * std::max(magnitude, 1e-3)))
        throw std::runtime_error(std::string(what) + ": " + std::to_string(given) + " where " + std::to_string(expected) +
                                 " was expected");
}

// Places where a result is looked at: the start, the middle and the end of the first and of the last row.
template <typename Look>
void at_samples(const Shape& shape, const Look& look) {
    const int64_t length = shape[2];
    const int64_t count = std::min<int64_t>(length, 2000);
    for (int64_t start : {int64_t{0}, (length - count) / 2, length - count}) {
        look(0, 0, start, count);
        look(shape[0] - 1, shape[1] - 1, start, count);
    }
}

class AssociativeScan : public Case {
  public:
    AssociativeScan(ssm_context* context, Type type, const Shape& shape, Layout layout, ssm_combine combine)
        : context(context), x(context, type, shape, layout), y(context, type, shape, layout) {
        x.fill(-1, 1, 1);
        y.poison();
        args.struct_size = sizeof args;
        args.combine = combine;
        args.x = x.view();
        args.y = y.view();
        bytes = double(x.bytes() + y.bytes());
        flops = double(count_of(shape));
    }
    void run() override { check(ssm_associative_scan(context, &args), "ssm_associative_scan"); }
    void verify() override {
        if (x.type == Type::complex64)
            return;
        at_samples(x.shape, [this](int64_t batch, int64_t channel, int64_t start, int64_t count) {
            const std::vector<double> given = x.read({batch, channel, start}, count),
                                      sum = y.read({batch, channel, start}, count);
            for (int64_t t = start ? 1 : 0; t < count; ++t) { // each step from the one before
                const double before = t ? sum[t - 1] : args.combine == SSM_COMBINE_ADD ? 0 : given[t];
                const double expected = args.combine == SSM_COMBINE_ADD       ? before + given[t]
                                        : args.combine == SSM_COMBINE_MAXIMUM ? std::max(before, given[t])
                                                                              : std::min(before, given[t]);
                // Long sums drift against each other, within what the tree of partial sums rounds.
                expect_near(sum[t], expected, 20 * (1 + std::abs(before)), x.type, "associative_scan");
            }
        });
    }

  private:
    ssm_context* const context;
    Tensor x, y;
    ssm_associative_scan_args args{};
};

class LinearRecurrence : public Case {
  public:
    LinearRecurrence(ssm_context* context, Type type, const Shape& shape, Layout layout)
        : context(context), a(context, type, shape, layout), b(context, type, shape, layout),
          h(context, type, shape, layout) {
        a.fill(0.5, 0.999, 1);
        b.fill(-1, 1, 2);
        h.poison();
        args.struct_size = sizeof args;
        args.a = a.view();
        args.b = b.view();
        args.h = h.view();
        bytes = double(a.bytes() + b.bytes() + h.bytes());
        flops = double(count_of(shape)) * (type == Type::complex64 ? 8 : 2);
    }
    void run() override { check(ssm_linear_recurrence(context, &args), "ssm_linear_recurrence"); }
    void verify() override {
        if (a.type == Type::complex64)
            return;
        at_samples(a.shape, [this](int64_t batch, int64_t channel, int64_t start, int64_t count) {
            const std::vector<double> factor = a.read({batch, channel, start}, count),
                                      given = b.read({batch, channel, start}, count),
                                      state = h.read({batch, channel, start}, count);
            for (int64_t t = start ? 1 : 0; t < count; ++t) {
                const double before = t ? state[t - 1] : 0;
                expect_near(state[t], factor[t] * before + given[t], 4 * (1 + std::abs(before)), a.type,
                            "linear_recurrence");
            }
        });
    }

  private:
    ssm_context* const context;
    Tensor a, b, h;
    ssm_linear_recurrence_args args{};
};

class LinearRecurrenceBackward : public Case {
  public:
    LinearRecurrenceBackward(ssm_context* context, Type type, const Shape& shape, Layout layout)
        : context(context), a(context, type, shape, layout), h(context, type, shape, layout),
          grad_h(context, type, shape, layout), grad_a(context, type, shape, layout), grad_b(context, type, shape, layout) {
        a.fill(0.5, 0.999, 1);
        h.fill(-1, 1, 2); // any h will do: the gradients are functions of what is given
        grad_h.fill(-1, 1, 3);
        grad_a.poison();
        grad_b.poison();
        args.struct_size = sizeof args;
        args.a = a.view();
        args.h = h.view();
        args.grad_h = grad_h.view();
        args.grad_a = grad_a.view();
        args.grad_b = grad_b.view();
        bytes = 5.0 * double(a.bytes());
        flops = double(count_of(shape)) * (type == Type::complex64 ? 14 : 3);
    }
    void run() override { check(ssm_linear_recurrence_backward(context, &args), "ssm_linear_recurrence_backward"); }
    void verify() override {
        if (a.type == Type::complex64)
            return;
        const int64_t length = a.shape[2];
        at_samples(a.shape, [&](int64_t batch, int64_t channel, int64_t start, int64_t count) {
            const auto read = [&](const Tensor& tensor) { return tensor.read({batch, channel, start}, count); };
            const std::vector<double> factor = read(a), state = read(h), above = read(grad_h), of_a = read(grad_a),
                                      of_b = read(grad_b);
            for (int64_t t = 0; t < count; ++t) {
                const bool last = start + t + 1 == length;
                if (!last && t + 1 == count)
                    continue; // the next step is beyond the window
                const double after = last ? 0 : factor[t + 1] * of_b[t + 1];
                expect_near(of_b[t], above[t] + after, 4 * (1 + std::abs(after)), a.type,
                            "linear_recurrence_backward, grad_b");
                if (start + t > 0 && t == 0)
                    continue;
                const double expected = t ? of_b[t] * state[t - 1] : 0;
                expect_near(of_a[t], expected, 4 * (1 + std::abs(expected)), a.type, "linear_recurrence_backward, grad_a");
            }
        });
    }

  private:
    ssm_context* const context;
    Tensor a, h, grad_h, grad_a, grad_b;
    ssm_linear_recurrence_backward_args args{};
};

// With everything that Mamba uses: d, z, dt_bias and softplus; one group.
class SelectiveScan : public Case {
  public:
    SelectiveScan(ssm_context* context, Type type, int64_t batch, int64_t channels, int64_t length, int64_t states)
        : context(context), u(context, type, {batch, channels, length}), dt(context, type, u.shape),
          z(context, type, u.shape), y(context, type, u.shape), b(context, type, {batch, 1, states, length}),
          c(context, type, b.shape), a(context, state_of(type), {channels, states}), d(context, state_of(type), {channels}),
          dt_bias(context, state_of(type), {channels}), states(states) {
        u.fill(-1, 1, 1);
        dt.fill(-1, 1, 2);
        z.fill(-1, 1, 3);
        b.fill(-1, 1, 4);
        c.fill(-1, 1, 5);
        a.fill(-8, -0.5, 6);
        d.fill(0.5, 1, 7);
        dt_bias.fill(-4, -2, 8);
        y.poison();
        args.struct_size = sizeof args;
        args.dt_softplus = 1;
        args.u = u.view();
        args.dt = dt.view();
        args.a = a.view();
        args.b = b.view();
        args.c = c.view();
        args.d = d.view();
        args.z = z.view();
        args.dt_bias = dt_bias.view();
        args.y = y.view();
        bytes = 4.0 * double(u.bytes()) + 2.0 * double(b.bytes());
        // Per state and step: s a, exp (counted as one), s u b, the multiply-adds of h and y. Per step: softplus, silu, d u.
        flops = double(count_of(u.shape)) * (7.0 * double(states) + 8);
    }
    void run() override { check(ssm_selective_scan(context, &args), "ssm_selective_scan"); }
    void verify() override {
        const int64_t batches = u.shape[0], channels = u.shape[1], length = std::min<int64_t>(u.shape[2], 512);
        for (const auto& [batch, channel] : {std::pair<int64_t, int64_t>{0, 0}, {batches - 1, channels - 1}}) {
            const std::vector<double> u0 = u.read({batch, channel, 0}, length), dt0 = dt.read({batch, channel, 0}, length),
                                      z0 = z.read({batch, channel, 0}, length), y0 = y.read({batch, channel, 0}, length);
            const double d0 = row(d, channel), bias = row(dt_bias, channel);
            std::vector<double> expected(size_t(length), 0.0), magnitude(size_t(length), 0.0);
            for (int64_t n = 0; n < states; ++n) {
                const double pole = a.read({channel, n}, 1)[0];
                const std::vector<double> b0 = per_step(b, batch, n, length), c0 = per_step(c, batch, n, length);
                double state = 0;
                for (int64_t t = 0; t < length; ++t) {
                    const double s = std::log1p(std::exp(dt0[t] + bias));
                    state = std::exp(s * pole) * state + s * b0[t] * u0[t];
                    expected[t] += state * c0[t];
                    magnitude[t] += std::abs(state * c0[t]);
                }
            }
            for (int64_t t = 0; t < length; ++t) {
                const double gate = z0[t] / (1 + std::exp(-z0[t]));
                expect_near(y0[t], (expected[t] + d0 * u0[t]) * gate,
                            2 * (magnitude[t] + std::abs(d0 * u0[t])) * std::abs(gate), u.type, "selective_scan");
            }
        }
    }

  private:
    static Type state_of(Type type) { return type == Type::float64 ? Type::float64 : Type::float32; }
    static double row(const Tensor& tensor, int64_t index) { return tensor.read({index}, 1)[0]; }
    static std::vector<double> per_step(const Tensor& tensor, int64_t batch, int64_t n, int64_t length) {
        return tensor.read({batch, 0, n, 0}, length);
    }
    ssm_context* const context;
    Tensor u, dt, z, y, b, c, a, d, dt_bias;
    const int64_t states;
    ssm_selective_scan_args args{};
};

// The same, backward: every gradient but that of the initial state.
class SelectiveScanBackward : public Case {
  public:
    SelectiveScanBackward(ssm_context* context, Type type, int64_t batch, int64_t channels, int64_t length, int64_t states)
        : context(context), u(context, type, {batch, channels, length}), dt(context, type, u.shape),
          z(context, type, u.shape), grad_y(context, type, u.shape), grad_u(context, type, u.shape),
          grad_dt(context, type, u.shape), grad_z(context, type, u.shape), b(context, type, {batch, 1, states, length}),
          c(context, type, b.shape), grad_b(context, type, b.shape), grad_c(context, type, b.shape),
          a(context, state_of(type), {channels, states}), grad_a(context, state_of(type), a.shape),
          d(context, state_of(type), {channels}), dt_bias(context, state_of(type), {channels}),
          grad_d(context, state_of(type), {channels}), grad_dt_bias(context, state_of(type), {channels}), states(states) {
        u.fill(-1, 1, 1);
        dt.fill(-1, 1, 2);
        z.fill(-1, 1, 3);
        b.fill(-1, 1, 4);
        c.fill(-1, 1, 5);
        a.fill(-8, -0.5, 6);
        d.fill(0.5, 1, 7);
        dt_bias.fill(-4, -2, 8);
        grad_y.fill(-1, 1, 9);
        for (Tensor* gradient : {&grad_u, &grad_dt, &grad_z, &grad_b, &grad_c, &grad_a, &grad_d, &grad_dt_bias})
            gradient->poison();
        args.struct_size = sizeof args;
        args.dt_softplus = 1;
        args.u = u.view();
        args.dt = dt.view();
        args.a = a.view();
        args.b = b.view();
        args.c = c.view();
        args.d = d.view();
        args.z = z.view();
        args.dt_bias = dt_bias.view();
        args.grad_y = grad_y.view();
        args.grad_u = grad_u.view();
        args.grad_dt = grad_dt.view();
        args.grad_a = grad_a.view();
        args.grad_b = grad_b.view();
        args.grad_c = grad_c.view();
        args.grad_d = grad_d.view();
        args.grad_z = grad_z.view();
        args.grad_dt_bias = grad_dt_bias.view();
        bytes = 7.0 * double(u.bytes()) + 4.0 * double(b.bytes());
        // Per state and step: s a, exp (counted as one), s u b and h; back the multiply-adds of g, grad_b, grad_c, two sums
        // and grad_a, three products. Per step: softplus, silu and their slopes.
        flops = double(count_of(u.shape)) * (20.0 * double(states) + 20);
    }
    void run() override { check(ssm_selective_scan_backward(context, &args), "ssm_selective_scan_backward"); }
    // grad_u and grad_dt of the last steps, where g starts from zero.
    void verify() override {
        const int64_t batches = u.shape[0], channels = u.shape[1], all = u.shape[2], length = std::min<int64_t>(all, 512);
        for (const auto& [batch, channel] : {std::pair<int64_t, int64_t>{0, 0}, {batches - 1, channels - 1}}) {
            const auto read = [&, batch = batch, channel = channel](const Tensor& tensor) {
                return tensor.read({batch, channel, all - length}, length);
            };
            const std::vector<double> u0 = read(u), dt0 = read(dt), z0 = read(z), grad_y0 = read(grad_y),
                                      result = read(grad_u);
            const double d0 = d.read({channel}, 1)[0], bias = dt_bias.read({channel}, 1)[0];
            std::vector<double> expected(size_t(length), 0.0), magnitude(size_t(length), 0.0);
            const auto gy = [&](int64_t t) { return grad_y0[size_t(t)] * z0[size_t(t)] / (1 + std::exp(-z0[size_t(t)])); };
            const auto s = [&](int64_t t) { return std::log1p(std::exp(dt0[size_t(t)] + bias)); };
            for (int64_t n = 0; n < states; ++n) {
                const double pole = a.read({channel, n}, 1)[0];
                const std::vector<double> b0 = b.read({batch, 0, n, all - length}, length),
                                          c0 = c.read({batch, 0, n, all - length}, length);
                double g = 0;
                for (int64_t t = length - 1; t >= 0; --t) {
                    g += gy(t) * c0[size_t(t)];
                    expected[size_t(t)] += s(t) * g * b0[size_t(t)];
                    magnitude[size_t(t)] += std::abs(s(t) * g * b0[size_t(t)]);
                    g *= std::exp(s(t) * pole);
                }
            }
            for (int64_t t = 0; t < length; ++t)
                expect_near(result[size_t(t)], expected[size_t(t)] + gy(t) * d0,
                            2 * (magnitude[size_t(t)] + std::abs(gy(t) * d0)), u.type, "selective_scan_backward");
        }
    }

  private:
    static Type state_of(Type type) { return type == Type::float64 ? Type::float64 : Type::float32; }
    ssm_context* const context;
    Tensor u, dt, z, grad_y, grad_u, grad_dt, grad_z, b, c, grad_b, grad_c, a, grad_a, d, dt_bias, grad_d, grad_dt_bias;
    const int64_t states;
    ssm_selective_scan_backward_args args{};
};

// One token of a batch through a layer. Mamba-2: heads of 64 channels, with one a each; Mamba-1: heads of one, untied.
class SelectiveStateUpdate : public Case {
  public:
    SelectiveStateUpdate(ssm_context* context, Type type, Type state_type, int64_t batch, int64_t heads,
                         int64_t head_channels, int64_t states)
        : context(context), is_tied(head_channels > 1), states(states), head_channels(head_channels),
          state(context, state_type, with(heads_of(batch, heads, head_channels), states)),
          x(context, type, heads_of(batch, heads, head_channels)), z(context, type, x.shape), y(context, type, x.shape),
          dt(context, type, {batch, heads}), b(context, type, {batch, 1, states}), c(context, type, b.shape),
          a(context, real_of(type), is_tied ? Shape{heads} : Shape{heads, states}), d(context, real_of(type), {heads}),
          dt_bias(context, real_of(type), {heads}) {
        state.fill(-1, 1, 9);
        x.fill(-1, 1, 1);
        dt.fill(-1, 1, 2);
        z.fill(-1, 1, 3);
        b.fill(-1, 1, 4);
        c.fill(-1, 1, 5);
        a.fill(-8, -0.5, 6);
        d.fill(0.5, 1, 7);
        dt_bias.fill(-4, -2, 8);
        y.poison();
        args.struct_size = sizeof args;
        args.dt_softplus = 1;
        args.state = state.view();
        args.x = x.view();
        args.dt = dt.view();
        args.a = a.view();
        args.b = b.view();
        args.c = c.view();
        args.d = d.view();
        args.z = z.view();
        args.dt_bias = dt_bias.view();
        args.y = y.view();
        bytes = 2.0 * double(state.bytes()) + 3.0 * double(x.bytes()) + double(dt.bytes()) + 2.0 * double(b.bytes()) +
                double(a.bytes());
        // Per state s b x and the multiply-adds of h and y; s a and exp (counted as one) where a is its own.
        flops = double(count_of(state.shape)) * (is_tied ? 5.0 : 7.0);
    }
    void run() override { check(ssm_selective_state_update(context, &args), "ssm_selective_state_update"); }
    // Many runs have taken the state on; what one more gives follows from the state before it.
    void verify() override {
        const int64_t batch = x.shape[0] - 1, head = x.shape[1] - 1, channel = head_channels - 1;
        const Shape at = is_tied ? Shape{batch, head, channel} : Shape{batch, head};
        const std::vector<double> before = state.read(with(at, 0), states), b0 = b.read({batch, 0, 0}, states),
                                  c0 = c.read({batch, 0, 0}, states),
                                  rates = is_tied ? std::vector<double>(size_t(states), a.read({head}, 1)[0])
                                                  : a.read({head, 0}, states);
        const double x0 = x.read(at, 1)[0], z0 = z.read(at, 1)[0];
        const double s = std::log1p(std::exp(dt.read({batch, head}, 1)[0] + dt_bias.read({head}, 1)[0]));
        run();
        check(ssm_context_synchronize(context), "ssm_context_synchronize");
        double sum = d.read({head}, 1)[0] * x0, magnitude = std::abs(sum);
        for (size_t n = 0; n < size_t(states); ++n) {
            const double term = (std::exp(s * rates[n]) * before[n] + s * b0[n] * x0) * c0[n];
            sum += term;
            magnitude += std::abs(term);
        }
        const double gate = z0 / (1 + std::exp(-z0));
        expect_near(y.read(at, 1)[0], sum * gate, 2 * magnitude * std::abs(gate), x.type, "selective_state_update");
    }

  private:
    static Type real_of(Type type) { return type == Type::float64 ? Type::float64 : Type::float32; }
    static Shape heads_of(int64_t batch, int64_t heads, int64_t channels) {
        return channels > 1 ? Shape{batch, heads, channels} : Shape{batch, heads};
    }
    static Shape with(Shape shape, int64_t last) {
        shape.push_back(last);
        return shape;
    }
    ssm_context* const context;
    const bool is_tied;
    const int64_t states, head_channels;
    Tensor state, x, z, y, dt, b, c, a, d, dt_bias;
    ssm_selective_state_update_args args{};
};

// Mamba-2's heads with everything that the model uses: d, z, dt_bias and softplus; one group. Backward: all gradients.
class Ssd : public Case {
  public:
    Ssd(ssm_context* context, Type type, int64_t batch, int64_t length, int64_t heads, int64_t channels, int64_t states,
        bool backward)
        : context(context), x(context, type, {batch, length, heads, channels}), dt(context, type, {batch, length, heads}),
          z(context, type, x.shape), y(context, type, x.shape), b(context, type, {batch, length, 1, states}),
          c(context, type, b.shape), a(context, state_of(type), {heads}), d(context, state_of(type), {heads}),
          dt_bias(context, state_of(type), {heads}), grad_y(context, type, backward ? x.shape : Shape{1}),
          grad_x(context, type, grad_y.shape), grad_z(context, type, grad_y.shape),
          grad_dt(context, type, backward ? dt.shape : Shape{1}), grad_b(context, type, backward ? b.shape : Shape{1}),
          grad_c(context, type, grad_b.shape), grad_a(context, state_of(type), {heads}),
          grad_d(context, state_of(type), {heads}), grad_dt_bias(context, state_of(type), {heads}), backward(backward) {
        x.fill(-1, 1, 1);
        dt.fill(-1, 1, 2);
        z.fill(-1, 1, 3);
        b.fill(-1, 1, 4);
        c.fill(-1, 1, 5);
        a.fill(-16, -1, 6);
        grad_y.fill(-1, 1, 9);
        grad_x.poison();
        grad_c.poison();
        d.fill(0.5, 1, 7);
        dt_bias.fill(-7, -2, 8);
        y.poison();
        args.struct_size = sizeof args;
        args.dt_softplus = 1;
        args.x = x.view();
        args.dt = dt.view();
        args.a = a.view();
        args.b = b.view();
        args.c = c.view();
        args.d = d.view();
        args.z = z.view();
        args.dt_bias = dt_bias.view();
        args.y = y.view();
        bytes = 3.0 * double(x.bytes()) + 2.0 * double(b.bytes()) + double(dt.bytes());
        // Per channel, state and step: two multiply-adds, which no way of computing it can do without.
        flops = double(count_of(x.shape)) * 4.0 * double(states);
        if (!backward)
            return;
        gradients.struct_size = sizeof gradients;
        gradients.dt_softplus = 1;
        gradients.x = x.view();
        gradients.dt = dt.view();
        gradients.a = a.view();
        gradients.b = b.view();
        gradients.c = c.view();
        gradients.d = d.view();
        gradients.z = z.view();
        gradients.dt_bias = dt_bias.view();
        gradients.grad_y = grad_y.view();
        gradients.grad_x = grad_x.view();
        gradients.grad_z = grad_z.view();
        gradients.grad_dt = grad_dt.view();
        gradients.grad_a = grad_a.view();
        gradients.grad_b = grad_b.view();
        gradients.grad_c = grad_c.view();
        gradients.grad_d = grad_d.view();
        gradients.grad_dt_bias = grad_dt_bias.view();
        bytes = 5.0 * double(x.bytes()) + 4.0 * double(b.bytes()) + 2.0 * double(dt.bytes());
        flops *= 2.5; // the states again, their gradients, and what these give for x, b and c
    }
    void run() override {
        if (backward)
            check(ssm_ssd_backward(context, &gradients), "ssm_ssd_backward");
        else
            check(ssm_ssd(context, &args), "ssm_ssd");
    }
    void verify() override {
        if (backward)
            return verify_backward();
        const int64_t batch = x.shape[0] - 1, heads = x.shape[2], channels = x.shape[3], states = b.shape[3];
        const int64_t length = std::min<int64_t>(x.shape[1], 300);
        for (const auto& [head, channel] : {std::pair<int64_t, int64_t>{0, 0}, {heads - 1, channels - 1}}) {
            std::vector<double> state(static_cast<size_t>(states), 0.0);
            for (int64_t t = 0; t < length; ++t) {
                const auto at = [&](const Tensor& tensor) { return tensor.read({batch, t, head, channel}, 1)[0]; };
                const std::vector<double> b0 = b.read({batch, t, 0, 0}, states), c0 = c.read({batch, t, 0, 0}, states);
                const double s = std::log1p(std::exp(dt.read({batch, t, head}, 1)[0] + dt_bias.read({head}, 1)[0]));
                const double decay = std::exp(s * a.read({head}, 1)[0]), gate = at(z) / (1 + std::exp(-at(z)));
                double sum = d.read({head}, 1)[0] * at(x), magnitude = std::abs(sum);
                for (size_t n = 0; n < size_t(states); ++n) {
                    state[n] = decay * state[n] + s * at(x) * b0[n];
                    sum += state[n] * c0[n];
                    magnitude += std::abs(state[n] * c0[n]);
                }
                expect_near(at(y), sum * gate, 2 * magnitude * std::abs(gate), x.type, "ssd");
            }
        }
    }

  private:
    // grad_x of two channels, in the last steps.
    void verify_backward() {
        const int64_t batch = x.shape[0] - 1, heads = x.shape[2], channels = x.shape[3], states = b.shape[3];
        const int64_t length = x.shape[1], first = std::max<int64_t>(0, length - 300);
        for (const auto& [head, channel] : {std::pair<int64_t, int64_t>{0, 0}, {heads - 1, channels - 1}}) {
            std::vector<double> behind(static_cast<size_t>(states), 0.0);
            for (int64_t t = length - 1; t >= first; --t) {
                const auto at = [&](const Tensor& tensor) { return tensor.read({batch, t, head, channel}, 1)[0]; };
                const std::vector<double> b0 = b.read({batch, t, 0, 0}, states), c0 = c.read({batch, t, 0, 0}, states);
                const double s = std::log1p(std::exp(dt.read({batch, t, head}, 1)[0] + dt_bias.read({head}, 1)[0]));
                const double decay = std::exp(s * a.read({head}, 1)[0]);
                const double g = at(grad_y) * at(z) / (1 + std::exp(-at(z)));
                double sum = d.read({head}, 1)[0] * g, magnitude = std::abs(sum);
                for (size_t n = 0; n < size_t(states); ++n) {
                    behind[n] += g * c0[n];
                    sum += s * behind[n] * b0[n];
                    magnitude += std::abs(s * behind[n] * b0[n]);
                    behind[n] *= decay;
                }
                expect_near(at(grad_x), sum, 4 * magnitude, x.type, "ssd_backward");
            }
        }
    }
    static Type state_of(Type type) { return type == Type::float64 ? Type::float64 : Type::float32; }
    ssm_context* const context;
    Tensor x, dt, z, y, b, c, a, d, dt_bias;
    Tensor grad_y, grad_x, grad_z, grad_dt, grad_b, grad_c, grad_a, grad_d, grad_dt_bias;
    const bool backward;
    ssm_ssd_args args{};
    ssm_ssd_backward_args gradients{};
};

// Mamba-3's heads with everything that the model uses: rates of each step, angles for half of the pairs, biases, d, z and
// softplus; one group. Backward: all gradients. Update: the states in place.
class Mamba3 : public Case {
  public:
    enum class Kind { forward, backward, update };

    Mamba3(ssm_context* context, Type type, int64_t batch, int64_t length, int64_t heads, int64_t channels, int64_t states,
           Kind kind)
        : context(context), kind(kind), x(context, type, {batch, length, heads, channels}),
          dt(context, type, {batch, length, heads}), trap(context, type, dt.shape), z(context, type, x.shape),
          y(context, type, x.shape), b(context, type, {batch, length, 1, states}), c(context, type, b.shape),
          angles(context, type, {batch, length, 1, states / 4}), a(context, state_of(type), dt.shape),
          b_bias(context, state_of(type), {heads, states}), c_bias(context, state_of(type), b_bias.shape),
          d(context, state_of(type), {heads}), dt_bias(context, state_of(type), {heads}),
          state(context, state_of(type), kind == Kind::update ? Shape{batch, heads, channels, states} : Shape{1}),
          angle_state(context, state_of(type), {batch, heads, states / 4}),
          b_state(context, state_of(type), {batch, heads, states}),
          x_state(context, state_of(type), {batch, heads, channels}),
          grad_y(context, type, kind == Kind::backward ? x.shape : Shape{1}), grad_x(context, type, grad_y.shape),
          grad_z(context, type, grad_y.shape), grad_dt(context, type, dt.shape), grad_trap(context, type, dt.shape),
          grad_b(context, type, kind == Kind::backward ? b.shape : Shape{1}), grad_c(context, type, grad_b.shape),
          grad_angles(context, type, angles.shape), grad_a(context, state_of(type), a.shape),
          grad_b_bias(context, state_of(type), b_bias.shape), grad_c_bias(context, state_of(type), b_bias.shape),
          grad_d(context, state_of(type), {heads}), grad_dt_bias(context, state_of(type), {heads}) {
        x.fill(-1, 1, 1);
        dt.fill(-1, 1, 2);
        z.fill(-1, 1, 3);
        b.fill(-1, 1, 4);
        c.fill(-1, 1, 5);
        a.fill(-16, -1, 6);
        d.fill(0.5, 1, 7);
        dt_bias.fill(-7, -2, 8);
        grad_y.fill(-1, 1, 9);
        trap.fill(-2, 2, 10);
        angles.fill(-2, 2, 11);
        b_bias.fill(-1, 1, 12);
        c_bias.fill(-1, 1, 13);
        fill_states();
        y.poison();
        grad_x.poison();
        for (auto set : {&Mamba3::set_forward, &Mamba3::set_backward, &Mamba3::set_update})
            (this->*set)();
        const double elements = double(count_of(x.shape));
        bytes = 3.0 * double(x.bytes()) + 2.0 * double(b.bytes()) + 2.0 * double(dt.bytes()) + double(a.bytes()) +
                double(angles.bytes());
        if (kind == Kind::backward)
            bytes = 2 * bytes - double(x.bytes());
        if (kind == Kind::update)
            bytes += 2.0 * double(state.bytes());
        // Per channel, state and step: two multiply-adds as in ssd; a single step cannot fold the third into them.
        flops = elements * double(states) * (kind == Kind::forward ? 4.0 : kind == Kind::backward ? 10.0 : 7.0);
    }
    void run() override {
        if (kind == Kind::forward)
            check(ssm_mamba3(context, &args), "ssm_mamba3");
        else if (kind == Kind::backward)
            check(ssm_mamba3_backward(context, &gradients), "ssm_mamba3_backward");
        else
            check(ssm_mamba3_update(context, &step), "ssm_mamba3_update");
    }
    void verify() override {
        const int64_t heads = x.shape[2], channels = x.shape[3];
        if (kind == Kind::update) { // many runs have taken the states on: one more, from the start
            fill_states();
            run();
        }
        for (const auto& [head, channel] : {std::pair<int64_t, int64_t>{0, 0}, {heads - 1, channels - 1}})
            kind == Kind::backward ? verify_backward(head, channel) : verify_forward(head, channel);
    }

  private:
    static Type state_of(Type type) { return type == Type::float64 ? Type::float64 : Type::float32; }
    void fill_states() {
        state.fill(-1, 1, 14);
        angle_state.fill(-3, 3, 15);
        b_state.fill(-1, 1, 16);
        x_state.fill(-1, 1, 17);
    }
    template <class Args>
    void set_inputs(Args& to) {
        to.struct_size = sizeof to;
        to.dt_softplus = 1;
        to.x = x.view();
        to.dt = dt.view();
        to.a = a.view();
        to.b = b.view();
        to.c = c.view();
        to.trap = trap.view();
        to.angles = angles.view();
        to.b_bias = b_bias.view();
        to.c_bias = c_bias.view();
        to.d = d.view();
        to.z = z.view();
        to.dt_bias = dt_bias.view();
    }
    void set_forward() {
        set_inputs(args);
        args.y = y.view();
    }
    void set_update() {
        set_inputs(step);
        step.state = state.view();
        step.angle_state = angle_state.view();
        step.b_state = b_state.view();
        step.x_state = x_state.view();
        step.y = y.view();
    }
    void set_backward() {
        set_inputs(gradients);
        gradients.grad_y = grad_y.view();
        gradients.grad_x = grad_x.view();
        gradients.grad_dt = grad_dt.view();
        gradients.grad_a = grad_a.view();
        gradients.grad_b = grad_b.view();
        gradients.grad_c = grad_c.view();
        gradients.grad_trap = grad_trap.view();
        gradients.grad_angles = grad_angles.view();
        gradients.grad_b_bias = grad_b_bias.view();
        gradients.grad_c_bias = grad_c_bias.view();
        gradients.grad_d = grad_d.view();
        gradients.grad_z = grad_z.view();
        gradients.grad_dt_bias = grad_dt_bias.view();
    }

    // What a step is made of; theta becomes that of the step.
    struct Step {
        double decay, entering, now;
        std::vector<double> k, q;
    };
    Step step_of(int64_t batch, int64_t t, int64_t head, std::vector<double>& theta) {
        const int64_t states = b.shape[3];
        const auto at = [&](const Tensor& tensor) { return tensor.read({batch, t, head}, 1)[0]; };
        const double s = std::log1p(std::exp(at(dt) + dt_bias.read({head}, 1)[0])), lambda = 1 / (1 + std::exp(-at(trap)));
        Step own{std::exp(s * at(a)), (1 - lambda) * s, lambda * s, b.read({batch, t, 0, 0}, states),
                 c.read({batch, t, 0, 0}, states)};
        const std::vector<double> turns = angles.read({batch, t, 0, 0}, states / 4);
        const std::vector<double> of_b = b_bias.read({head, 0}, states), of_c = c_bias.read({head, 0}, states);
        for (size_t n = 0; n < size_t(states); ++n) {
            own.k[n] += of_b[n];
            own.q[n] += of_c[n];
        }
        for (size_t i = 0; i < theta.size(); ++i) {
            theta[i] += 3.14159265358979323846 * std::tanh(turns[i]) * s;
            const double sine = std::sin(theta[i]), cosine = std::cos(theta[i]);
            for (std::vector<double>* row : {&own.k, &own.q}) {
                const double u = (*row)[2 * i], v = (*row)[2 * i + 1];
                (*row)[2 * i] = u * cosine - v * sine;
                (*row)[2 * i + 1] = u * sine + v * cosine;
            }
        }
        return own;
    }
    void verify_forward(int64_t head, int64_t channel) {
        const int64_t batch = x.shape[0] - 1, states = b.shape[3], length = std::min<int64_t>(x.shape[1], 300);
        std::vector<double> h(static_cast<size_t>(states), 0.0), k = h, theta(static_cast<size_t>(states / 4), 0.0);
        double before = 0;
        if (kind == Kind::update) { // which has run: its states as they were before
            fill_states();
            h = state.read({batch, head, channel, 0}, states);
            k = b_state.read({batch, head, 0}, states);
            theta = angle_state.read({batch, head, 0}, states / 4);
            before = x_state.read({batch, head, channel}, 1)[0];
        }
        for (int64_t t = 0; t < length; ++t) {
            const auto at = [&](const Tensor& tensor) { return tensor.read({batch, t, head, channel}, 1)[0]; };
            const Step own = step_of(batch, t, head, theta);
            double sum = d.read({head}, 1)[0] * at(x), magnitude = std::abs(sum);
            for (size_t n = 0; n < h.size(); ++n) {
                h[n] = own.decay * (h[n] + own.entering * before * k[n]) + own.now * at(x) * own.k[n];
                sum += h[n] * own.q[n];
                magnitude += std::abs(h[n] * own.q[n]) + std::abs(own.now * at(x) * own.k[n] * own.q[n]);
            }
            before = at(x);
            k = own.k;
            const double gate = at(z) / (1 + std::exp(-at(z)));
            expect_near(at(y), sum * gate, 4 * magnitude * std::abs(gate), x.type, "mamba3");
        }
    }
    // grad_x of a channel, in the last steps; whole turns before them cancel.
    void verify_backward(int64_t head, int64_t channel) {
        const int64_t batch = x.shape[0] - 1, states = b.shape[3];
        const int64_t length = x.shape[1], first = std::max<int64_t>(0, length - 200);
        std::vector<double> theta(static_cast<size_t>(states / 4), 0.0), behind(static_cast<size_t>(states), 0.0);
        std::vector<Step> steps;
        for (int64_t t = first; t < length; ++t)
            steps.push_back(step_of(batch, t, head, theta));
        double carried = 0, carried_magnitude = 0;
        for (int64_t t = length - 1; t > first; --t) {
            const auto at = [&](const Tensor& tensor) { return tensor.read({batch, t, head, channel}, 1)[0]; };
            const Step &own = steps[size_t(t - first)], &early = steps[size_t(t - first - 1)];
            const double g = at(grad_y) * at(z) / (1 + std::exp(-at(z))), skip = d.read({head}, 1)[0] * g;
            double sum = skip + carried, magnitude = std::abs(skip) + carried_magnitude;
            carried = carried_magnitude = 0;
            for (size_t n = 0; n < behind.size(); ++n) {
                behind[n] += g * own.q[n];
                sum += own.now * behind[n] * own.k[n];
                magnitude += std::abs(own.now * behind[n] * own.k[n]);
                behind[n] *= own.decay;
                carried += own.entering * behind[n] * early.k[n];
                carried_magnitude += std::abs(own.entering * behind[n] * early.k[n]);
            }
            expect_near(at(grad_x), sum, 8 * magnitude + std::abs(g), x.type, "mamba3_backward");
        }
    }

    ssm_context* const context;
    const Kind kind;
    Tensor x, dt, trap, z, y, b, c, angles, a, b_bias, c_bias, d, dt_bias;
    Tensor state, angle_state, b_state, x_state;
    Tensor grad_y, grad_x, grad_z, grad_dt, grad_trap, grad_b, grad_c, grad_angles, grad_a, grad_b_bias, grad_c_bias, grad_d,
        grad_dt_bias;
    ssm_mamba3_args args{};
    ssm_mamba3_backward_args gradients{};
    ssm_mamba3_update_args step{};
};

// Operations of a transform of n real numbers.
double transform_flops(double n) {
    return 2.5 * n * std::log2(n);
}

// A long convolution with a kernel as long as the sequence and its spectrum prepared, as S4 (with a skip connection) and
// Hyena (gated) have it, or its gradients, which make the spectra themselves. With taps it is a block of a stream, whose
// kernel reaches into the steps before. Operations are those of the transforms, or of the sums where they are fewer.
class CausalConv : public Case {
  public:
    CausalConv(ssm_context* context, Type type, const Shape& shape, bool gated, bool backward, int64_t taps = 0)
        : context(context), backward(backward), is_stream(taps > 0), u(context, type, shape), y(context, type, shape),
          gate(context, type, gated ? shape : Shape{1, 1, 1}), grad(context, type, backward ? shape : Shape{1, 1, 1}),
          k(context, state_of(type), {shape[1], is_stream ? taps : shape[2]}), d(context, state_of(type), {shape[1]}),
          grad_k(context, state_of(type), backward ? k.shape : Shape{1, 1}), grad_d(context, state_of(type), d.shape),
          state(context, state_of(type), before(shape)), last_state(context, state_of(type), before(shape)) {
        u.fill(-1, 1, 1);
        k.fill(-0.1, 0.1, 2);
        d.fill(-1, 1, 3);
        gate.fill(-1, 1, 4);
        state.fill(-1, 1, 6);
        grad.poison();
        args.struct_size = sizeof args;
        if (is_stream) {
            args.initial_state = state.view();
            args.last_state = last_state.view();
        }
        gradients.struct_size = sizeof gradients;
        args.u = gradients.u = u.view();
        args.k = gradients.k = k.view();
        args.d = gradients.d = d.view();
        if (gated)
            args.pre_gate = gradients.pre_gate = gate.view();
        args.y = gradients.grad_y = y.view();
        gradients.grad_u = grad.view();
        gradients.grad_k = grad_k.view();
        gradients.grad_d = grad_d.view();
        if (backward)
            y.fill(-1, 1, 5); // grad_y
        else
            y.poison();
        int64_t numbers = 0;
        check(ssm_causal_conv_spectrum_length(context, &args, &numbers), "ssm_causal_conv_spectrum_length");
        if (!backward) {
            spectrum = std::make_unique<Tensor>(context, state_of(type), Shape{shape[1], numbers});
            ssm_causal_conv_plan_args plan{};
            plan.struct_size = sizeof plan;
            plan.k = k.view();
            plan.spectrum = spectrum->view();
            check(ssm_causal_conv_plan(context, &plan), "ssm_causal_conv_plan");
            args.spectrum = spectrum->view();
        }
        bytes = (backward ? 3.0 : 2.0) * double(u.bytes()) + (gated ? double(gate.bytes()) : 0) +
                (backward ? 2.0 * double(k.bytes()) : double(spectrum->bytes())) +
                (is_stream ? 2.0 * double(state.bytes()) : 0);
        const double transform = transform_flops(double(numbers)), rows = double(shape[0] * shape[1]);
        // A transform gives all of a row that it holds beside the kernel, or else what has met the whole kernel.
        const int64_t whole = k.shape[1], length = shape[2];
        const double parts =
            !is_stream && numbers >= length + whole - 1 ? 1 : std::ceil(double(length) / double(numbers - whole + 1));
        const double sums = 2 * double(length) * double(whole) / (is_stream ? 1 : 2);
        flops = backward ? transform * (3 * rows + 2 * double(shape[1]))
                         : rows * std::min(sums, parts * (2 * transform + 3 * double(numbers)));
        if (!backward && sums < parts * 2 * transform)
            bytes += double(k.bytes()) - double(spectrum->bytes()); // the kernel itself is read
    }
    void run() override {
        if (backward)
            check(ssm_causal_conv_backward(context, &gradients), "ssm_causal_conv_backward");
        else
            check(ssm_causal_conv(context, &args), "ssm_causal_conv");
    }
    void verify() override {
        const int64_t batch = u.shape[0] - 1, head = u.shape[1] - 1, length = u.shape[2];
        const std::vector<double> in = (backward ? y : u).read({batch, head, 0}, length),
                                  taps = k.read({head, 0}, k.shape[1]),
                                  out = (backward ? grad : y).read({batch, head, 0}, length);
        std::vector<double> gates(size_t(length), 1.0), earlier;
        if (is_stream)
            earlier = state.read({batch, head, 0}, state.shape[2]);
        if (args.pre_gate)
            gates = gate.read({batch, head, 0}, length);
        const double skip = d.read({head}, 1)[0], noise = std::sqrt(double(k.shape[1])) * 0.1;
        for (const int64_t t : {int64_t{0}, length / 3, length - 1}) {
            double sum = 0;
            if (backward) {
                for (int64_t j = 0; t + j < length; ++j)
                    sum += taps[size_t(j)] * in[size_t(t + j)];
                sum = (sum + skip * in[size_t(t)]) * gates[size_t(t)];
            } else {
                const int64_t count = int64_t(taps.size());
                for (int64_t j = 0; j <= std::min(t, count - 1); ++j)
                    sum += taps[size_t(j)] * in[size_t(t - j)] * gates[size_t(t - j)];
                for (int64_t j = t + 1; is_stream && j < count; ++j)
                    sum += taps[size_t(j)] * earlier[size_t(count - 1 + t - j)];
                sum += skip * in[size_t(t)] * gates[size_t(t)];
            }
            expect_near(out[size_t(t)], sum, noise, u.type, "causal_conv");
        }
    }

  private:
    static Type state_of(Type type) { return type == Type::float64 ? Type::float64 : Type::float32; }
    Shape before(const Shape& shape) const { return is_stream ? Shape{shape[0], shape[1], k.shape[1] - 1} : Shape{1, 1, 1}; }
    ssm_context* const context;
    const bool backward, is_stream;
    Tensor u, y, gate, grad, k, d, grad_k, grad_d, state, last_state;
    std::unique_ptr<Tensor> spectrum;
    ssm_causal_conv_args args{};
    ssm_causal_conv_backward_args gradients{};
};

// The spectra of a layer's kernels. Their order is the device's own: what one does to a sequence of ones is looked at.
class CausalConvPlan : public Case {
  public:
    CausalConvPlan(ssm_context* context, int64_t heads, int64_t length)
        : context(context), k(context, Type::float32, {heads, length}), u(context, Type::float32, {1, heads, length}),
          y(context, Type::float32, u.shape) {
        k.fill(-0.1, 0.1, 1);
        u.fill(1, 1, 2);
        conv.struct_size = sizeof conv;
        conv.u = u.view();
        conv.k = k.view();
        conv.y = y.view();
        int64_t numbers = 0;
        check(ssm_causal_conv_spectrum_length(context, &conv, &numbers), "ssm_causal_conv_spectrum_length");
        spectrum = std::make_unique<Tensor>(context, Type::float32, Shape{heads, numbers});
        spectrum->poison();
        conv.spectrum = spectrum->view();
        args.struct_size = sizeof args;
        args.k = k.view();
        args.spectrum = spectrum->view();
        bytes = double(k.bytes() + spectrum->bytes());
        flops = double(heads) * transform_flops(double(numbers));
    }
    void run() override { check(ssm_causal_conv_plan(context, &args), "ssm_causal_conv_plan"); }
    void verify() override {
        check(ssm_causal_conv(context, &conv), "ssm_causal_conv");
        const int64_t head = k.shape[0] - 1, length = k.shape[1];
        const std::vector<double> taps = k.read({head, 0}, length), given = y.read({0, head, 0}, length);
        double sum = 0;
        for (size_t t = 0; t < size_t(length); ++t) {
            sum += taps[t];
            expect_near(given[t], sum, std::sqrt(double(length)), Type::float32, "causal_conv_plan");
        }
    }

  private:
    ssm_context* const context;
    Tensor k, u, y;
    std::unique_ptr<Tensor> spectrum;
    ssm_causal_conv_args conv{};
    ssm_causal_conv_plan_args args{};
};

// As Mamba has it before its scan: four weights, a bias and silu.
class CausalConv1d : public Case {
  public:
    CausalConv1d(ssm_context* context, Type type, const Shape& shape, Layout layout, int64_t width, bool backward)
        : context(context), x(context, type, shape, layout), y(context, type, shape, layout),
          grad_x(context, type, shape, layout), weight(context, state_of(type), {shape[1], width}),
          bias(context, state_of(type), {shape[1]}), grad_weight(context, state_of(type), weight.shape),
          grad_bias(context, state_of(type), bias.shape), width(width), backward(backward) {
        x.fill(-1, 1, 1);
        weight.fill(-0.5, 0.5, 2);
        bias.fill(-0.5, 0.5, 3);
        if (backward)
            y.fill(-1, 1, 4); // grad_y
        else
            y.poison();
        grad_x.poison();
        args.struct_size = sizeof args;
        args.activation = gradients.activation = SSM_ACTIVATION_SILU;
        args.x = gradients.x = x.view();
        args.weight = gradients.weight = weight.view();
        args.bias = gradients.bias = bias.view();
        args.y = gradients.grad_y = y.view();
        gradients.struct_size = sizeof gradients;
        gradients.grad_x = grad_x.view();
        gradients.grad_weight = grad_weight.view();
        gradients.grad_bias = grad_bias.view();
        bytes = (backward ? 3.0 : 2.0) * double(x.bytes());
        flops = double(count_of(shape)) * (2.0 * double(width) * (backward ? 3 : 1) + 4);
    }
    void run() override {
        if (backward)
            check(ssm_causal_conv1d_backward(context, &gradients), "ssm_causal_conv1d_backward");
        else
            check(ssm_causal_conv1d(context, &args), "ssm_causal_conv1d");
    }
    void verify() override {
        for (const auto& [batch, channel] : {std::pair<int64_t, int64_t>{0, 0}, {x.shape[0] - 1, x.shape[1] - 1}}) {
            const int64_t length = std::min<int64_t>(x.shape[2], 1000), start = x.shape[2] - length;
            const std::vector<double> in = per_step(x, batch, channel, start, length),
                                      out = per_step(backward ? grad_x : y, batch, channel, start, length),
                                      w = weight.read({channel, 0}, width);
            std::vector<double> g(size_t(length + width), 0.0); // zero behind the end
            if (backward) {
                const std::vector<double> grad_y = per_step(y, batch, channel, start, length);
                std::copy(grad_y.begin(), grad_y.end(), g.begin());
            }
            const double first = bias.read({channel}, 1)[0];
            std::vector<double> value(size_t(length), 0.0);
            for (int64_t t = width; t < length; ++t) {
                double z = first;
                for (int64_t j = 0; j < width; ++j)
                    z += w[size_t(j)] * in[size_t(t - width + 1 + j)];
                const double sigmoid = 1 / (1 + std::exp(-z));
                value[size_t(t)] = z * sigmoid;
                g[size_t(t)] *= sigmoid * (1 + z * (1 - sigmoid));
            }
            for (int64_t t = width; backward && t < length; ++t) {
                value[size_t(t)] = 0;
                for (int64_t j = 0; j < width; ++j)
                    value[size_t(t)] += w[size_t(j)] * g[size_t(t + width - 1 - j)];
            }
            for (int64_t t = width; t < length; ++t)
                expect_near(out[size_t(t)], value[size_t(t)], 2, x.type, "causal_conv1d");
        }
    }

  private:
    static Type state_of(Type type) { return type == Type::float64 ? Type::float64 : Type::float32; }
    static std::vector<double> per_step(const Tensor& tensor, int64_t batch, int64_t channel, int64_t start, int64_t count) {
        return tensor.read({batch, channel, start}, count);
    }
    ssm_context* const context;
    Tensor x, y, grad_x, weight, bias, grad_weight, grad_bias;
    const int64_t width;
    const bool backward;
    ssm_causal_conv1d_args args{};
    ssm_causal_conv1d_backward_args gradients{};
};

// One token of a batch through the short convolution of a layer; the state has the type of x.
class CausalConv1dUpdate : public Case {
  public:
    CausalConv1dUpdate(ssm_context* context, Type type, int64_t batch, int64_t channels)
        : context(context), state(context, type, {batch, channels, width - 1}), x(context, type, {batch, channels}),
          y(context, type, x.shape), weight(context, Type::float32, {channels, width}),
          bias(context, Type::float32, {channels}) {
        state.fill(-1, 1, 1);
        x.fill(-1, 1, 2);
        weight.fill(-0.5, 0.5, 3);
        bias.fill(-0.5, 0.5, 4);
        y.poison();
        args.struct_size = sizeof args;
        args.activation = SSM_ACTIVATION_SILU;
        args.state = state.view();
        args.x = x.view();
        args.weight = weight.view();
        args.bias = bias.view();
        args.y = y.view();
        bytes = 2.0 * double(state.bytes() + x.bytes()) + double(weight.bytes() + bias.bytes());
        flops = double(count_of(x.shape)) * (2.0 * double(width) + 4);
    }
    void run() override { check(ssm_causal_conv1d_update(context, &args), "ssm_causal_conv1d_update"); }
    // Many runs have taken the state on; what one more gives follows from the state before it.
    void verify() override {
        const int64_t batch = x.shape[0] - 1, channel = x.shape[1] - 1;
        std::vector<double> steps = state.read({batch, channel, 0}, width - 1);
        steps.push_back(x.read({batch, channel}, 1)[0]);
        const std::vector<double> w = weight.read({channel, 0}, width);
        run();
        check(ssm_context_synchronize(context), "ssm_context_synchronize");
        double sum = bias.read({channel}, 1)[0];
        for (size_t j = 0; j < size_t(width); ++j)
            sum += w[j] * steps[j];
        expect_near(y.read({batch, channel}, 1)[0], sum / (1 + std::exp(-sum)), 2, x.type, "causal_conv1d_update");
        const std::vector<double> after = state.read({batch, channel, 0}, width - 1);
        for (size_t j = 0; j + 1 < size_t(width); ++j)
            expect_near(after[j], steps[j + 1], 0, x.type, "causal_conv1d_update, state");
    }

  private:
    static constexpr int64_t width = 4;
    ssm_context* const context;
    Tensor state, x, y, weight, bias;
    ssm_causal_conv1d_update_args args{};
};

// The norm before a block, with its residual in float32, or Mamba-2's gated norm; forward or the gradients.
class RmsNorm : public Case {
  public:
    RmsNorm(ssm_context* context, Type type, int64_t rows, int64_t width, bool gated, bool backward)
        : context(context), gated(gated), backward(backward), x(context, type, {rows, width}), y(context, type, x.shape),
          grad_y(context, type, x.shape), z(context, type, x.shape), grad_z(context, type, x.shape),
          residual(context, Type::float32, x.shape), residual_out(context, Type::float32, x.shape),
          weight(context, Type::float32, {width}), grad_weight(context, Type::float32, {width}) {
        x.fill(-1, 1, 1);
        grad_y.fill(-1, 1, 2);
        z.fill(-1, 1, 3);
        residual.fill(-1, 1, 4);
        weight.fill(0.5, 1.5, 5);
        y.poison();
        const auto fill = [&](auto& args) {
            args.struct_size = sizeof args;
            args.eps = eps;
            args.x = x.view();
            args.weight = weight.view();
        };
        fill(norm);
        fill(gated_norm);
        fill(gradients);
        fill(gated_gradients);
        norm.residual = residual.view();
        norm.residual_out = residual_out.view();
        norm.y = gated_norm.y = y.view();
        gated_norm.z = gated_gradients.z = z.view();
        gradients.x = gradients.grad_residual_out = residual.view();
        gradients.grad_residual = residual_out.view();
        gradients.grad_y = gated_gradients.grad_y = grad_y.view();
        gradients.grad_x = gated_gradients.grad_x = y.view();
        gradients.grad_weight = gated_gradients.grad_weight = grad_weight.view();
        gated_gradients.grad_z = grad_z.view();
        bytes = gated ? (backward ? 5.0 : 3.0) * double(x.bytes())
                      : 2.0 * double(x.bytes()) + (backward ? 3.0 : 2.0) * double(residual.bytes());
        flops = double(count_of(x.shape)) * ((backward ? 12 : 4) + (gated ? 8 : 0));
    }
    void run() override {
        if (gated && backward)
            check(ssm_gated_rms_norm_backward(context, &gated_gradients), "ssm_gated_rms_norm_backward");
        else if (gated)
            check(ssm_gated_rms_norm(context, &gated_norm), "ssm_gated_rms_norm");
        else if (backward)
            check(ssm_rms_norm_backward(context, &gradients), "ssm_rms_norm_backward");
        else
            check(ssm_rms_norm(context, &norm), "ssm_rms_norm");
    }
    void verify() override {
        const int64_t width = x.shape[1];
        for (const int64_t row : {int64_t{0}, x.shape[0] - 1}) {
            const auto read = [&](const Tensor& tensor) { return tensor.read({row, 0}, width); };
            const std::vector<double> in = read(x), more = read(residual), gate = read(z), from = read(grad_y),
                                      given = read(y), w = weight.read({0}, width);
            std::vector<double> h(in), gates(size_t(width), 1.0);
            double squares = 0, products = 0;
            for (size_t i = 0; i < size_t(width); ++i) {
                if (gated)
                    gates[i] = gate[i] / (1 + std::exp(-gate[i]));
                h[i] = gated ? in[i] * gates[i] : more[i] + (backward ? 0 : in[i]);
                squares += h[i] * h[i];
                products += h[i] * from[i] * w[i];
            }
            const double rstd = 1 / std::sqrt(squares / double(width) + eps), mean = rstd * products / double(width);
            for (size_t i = 0; i < size_t(width); ++i) {
                const double gradient = rstd * (from[i] * w[i] - h[i] * rstd * mean) * gates[i] + (gated ? 0 : more[i]);
                expect_near(given[i], backward ? gradient : h[i] * rstd * w[i], 8, x.type, "rms_norm");
            }
        }
    }

  private:
    static constexpr double eps = 1e-5;
    ssm_context* const context;
    const bool gated, backward;
    Tensor x, y, grad_y, z, grad_z, residual, residual_out, weight, grad_weight;
    ssm_rms_norm_args norm{};
    ssm_gated_rms_norm_args gated_norm{};
    ssm_rms_norm_backward_args gradients{};
    ssm_gated_rms_norm_backward_args gated_gradients{};
};

// Systems of S4 in float32. A kernel is checked against the recurrence: what that answers to ones grows by the kernel.
class StateSpace : public Case {
  public:
    enum class Kind { dense_kernel, dense_ssm, dplr_kernel, dplr_kernel_backward, dplr_ssm };
    StateSpace(ssm_context* context, Kind kind, int64_t batch, int64_t heads, int64_t states, int64_t length)
        : context(context), kind(kind), a(context, Type::float32, {heads, states, states}),
          w(context, Type::float32, {heads, states, 2}), p(context, of_states(kind), {heads, 1, states}),
          b(context, of_states(kind), {heads, states}), c(context, of_states(kind), {heads, states}),
          dt(context, Type::float32, {heads}), u(context, Type::float32, {batch, heads, length}),
          y(context, Type::float32, {batch, heads, length}), k(context, Type::float32, {heads, length}),
          grad_k(context, Type::float32, {heads, length}), grad_w(context, of_states(kind), {heads, states}),
          grad_p(context, of_states(kind), {heads, 1, states}), grad_b(context, of_states(kind), {heads, states}),
          grad_c(context, of_states(kind), {heads, states}), grad_dt(context, Type::float32, {heads}) {
        // Damped: the elements of a dense matrix are negative and small, and eigenvalues have negative real parts: they are
        // made as two real numbers each.
        eigenvalues = *w.view();
        eigenvalues.ndim = 2;
        eigenvalues.dtype = {kDLComplex, 64, 1};
        eigenvalues.strides = nullptr;
        a.fill(-0.5 / double(states), -0.1 / double(states), 1);
        w.fill(-1, -0.1, 2);
        p.fill(0.1, 0.3, 3);
        b.fill(0.1, 1, 4);
        c.fill(0.1, 1, 5);
        dt.fill(0.001, 0.1, 6);
        u.fill(1, 1, 7);
        grad_k.fill(-1, 1, 8);
        for (Tensor* tensor : {&y, &k, &grad_dt})
            tensor->poison();
        fill_dense(dense_kernel);
        fill_dense(dense);
        fill_dplr(dplr_kernel);
        fill_dplr(dplr);
        fill_dplr(gradients);
        dense_kernel.k = dplr_kernel.k = k.view();
        dense.u = dplr.u = u.view();
        dense.y = dplr.y = y.view();
        gradients.c_is_tilde = 1; // what models train
        gradients.grad_k = grad_k.view();
        gradients.grad_eigenvalues = grad_w.view();
        gradients.grad_p = grad_p.view();
        gradients.grad_b = grad_b.view();
        gradients.grad_c = grad_c.view();
        gradients.grad_dt = grad_dt.view();
        const bool is_recurrence = kind == Kind::dense_ssm || kind == Kind::dplr_ssm;
        const double sizes = double(heads) * double(states), steps = double(heads) * double(length);
        bytes = 4 * (is_recurrence ? 2.0 * double(batch) : 1.0) * steps + (is_dense() ? double(a.bytes()) : 32 * sizes);
        flops = kind == Kind::dense_kernel
                    ? 2 * sizes * (double(length) + double(states) * double(states) * std::log2(double(length)))
                : kind == Kind::dense_ssm ? 2 * double(batch) * steps * double(states) * double(states)
                : kind == Kind::dplr_ssm  ? 28 * double(batch) * steps * double(states)
                                          : (kind == Kind::dplr_kernel ? 40 : 120) * steps * double(states);
    }
    void run() override { run(kind); }
    void verify() override {
        if (kind == Kind::dplr_kernel_backward) {
            for (const double value : grad_dt.read({0}, grad_dt.shape[0]))
                if (!std::isfinite(value))
                    throw std::runtime_error("dplr_kernel_backward: a gradient that is none");
            return;
        }
        // The other of the two, which with c instead of c-tilde is the same system.
        run(is_dense() ? Kind::dense_kernel : Kind::dplr_kernel);
        run(is_dense() ? Kind::dense_ssm : Kind::dplr_ssm);
        const int64_t heads = k.shape[0], length = k.shape[1];
        for (const int64_t head : {int64_t{0}, heads - 1}) {
            const std::vector<double> kernel = k.read({head, 0}, length), grown = y.read({0, head, 0}, length);
            double sum = 0, size = 0;
            for (size_t t = 0; t < size_t(length); ++t) {
                sum += kernel[t];
                size += std::abs(kernel[t]);
                expect_near(grown[t], sum, 10 * (size + 1), Type::float32, "kernel and recurrence");
            }
        }
    }

  private:
    static Type of_states(Kind kind) {
        return kind == Kind::dense_kernel || kind == Kind::dense_ssm ? Type::float32 : Type::complex64;
    }
    bool is_dense() const { return of_states(kind) == Type::float32; }
    void run(Kind which) {
        switch (which) {
        case Kind::dense_kernel:
            return check(ssm_dense_kernel(context, &dense_kernel), "ssm_dense_kernel");
        case Kind::dense_ssm:
            return check(ssm_dense_ssm(context, &dense), "ssm_dense_ssm");
        case Kind::dplr_kernel:
            return check(ssm_dplr_kernel(context, &dplr_kernel), "ssm_dplr_kernel");
        case Kind::dplr_kernel_backward:
            return check(ssm_dplr_kernel_backward(context, &gradients), "ssm_dplr_kernel_backward");
        case Kind::dplr_ssm:
            return check(ssm_dplr_ssm(context, &dplr), "ssm_dplr_ssm");
        }
    }
    template <class Args>
    void fill_dense(Args& args) {
        args.struct_size = sizeof args;
        args.discretization = SSM_DISCRETIZATION_BILINEAR;
        args.a = a.view();
        args.b = b.view();
        args.c = c.view();
        args.dt = dt.view();
    }
    template <class Args>
    void fill_dplr(Args& args) {
        args.struct_size = sizeof args;
        args.conjugate_pairs = 1;
        args.eigenvalues = &eigenvalues;
        args.p = p.view();
        args.b = b.view();
        args.c = c.view();
        args.dt = dt.view();
    }

    ssm_context* const context;
    const Kind kind;
    DLTensor eigenvalues{};
    Tensor a, w, p, b, c, dt, u, y, k, grad_k, grad_w, grad_p, grad_b, grad_c, grad_dt;
    ssm_dense_kernel_args dense_kernel{};
    ssm_dense_ssm_args dense{};
    ssm_dplr_kernel_args dplr_kernel{};
    ssm_dplr_ssm_args dplr{};
    ssm_dplr_kernel_backward_args gradients{};
};

// The projection of constant signals onto legs, whose coefficients are known.
class HippoProject : public Case {
  public:
    HippoProject(ssm_context* context, int64_t batch, int64_t length, int64_t states)
        : context(context), f(context, Type::float32, {batch, length}),
          coefficients(context, Type::float32, {batch, length, states}) {
        f.fill(1, 1, 1);
        coefficients.poison();
        args.struct_size = sizeof args;
        args.measure = SSM_HIPPO_LEGS;
        args.discretization = SSM_DISCRETIZATION_BILINEAR;
        args.start = SSM_HIPPO_START_FIRST;
        args.f = f.view();
        args.coefficients = coefficients.view();
        bytes = double(f.bytes() + coefficients.bytes());
        flops = 30 * double(count_of(coefficients.shape));
    }
    void run() override { check(ssm_hippo_project(context, &args), "ssm_hippo_project"); }
    void verify() override {
        const int64_t length = coefficients.shape[1], states = coefficients.shape[2];
        for (const int64_t t : {int64_t{0}, length / 2, length - 1}) {
            const std::vector<double> given = coefficients.read({0, t, 0}, states);
            for (size_t n = 0; n < given.size(); ++n)
                expect_near(given[n], n == 0 ? 1 : 0, 10, Type::float32, "hippo_project");
        }
    }

  private:
    ssm_context* const context;
    Tensor f, coefficients;
    ssm_hippo_project_args args{};
};

std::string text_of(const Shape& shape, Layout layout = Layout::time) {
    std::string text;
    for (int64_t extent : shape)
        text.append(text.empty() ? "" : "x").append(std::to_string(extent));
    return text.append(layout == Layout::channels ? " channels-last" : "");
}

// The operations over rows of poles and diagonal systems. Their inputs are what time needs, not what a model has; the values
// are the tests' matter, and only that there are some is looked at here.
class Diagonal : public Case {
  public:
    enum class Kind {
        cauchy,
        cauchy_backward,
        vandermonde,
        vandermonde_backward,
        kernel,
        kernel_backward,
        recurrence,
        recurrence_backward,
        scan,
        discretize
    };

    Diagonal(ssm_context* context, Kind kind, int64_t batch, int64_t rows, int64_t states, int64_t length)
        : context(context), kind(kind), v(context, Type::complex64, poles(kind, rows, states)),
          w(context, Type::complex64, poles(kind, rows, states)),
          gradient(context, Type::complex64, poles(kind, rows, states)),
          gradient_of_b(context, Type::complex64, poles(kind, rows, states)), grad_dt(context, Type::float32, {rows}),
          nodes(context, Type::complex64, {is_cauchy() ? length : 1}), dt(context, Type::float32, {rows}),
          in(context, Type::float32, sequence(kind, batch, rows, length)),
          out(context, Type::float32, sequence(kind, batch, rows, length)),
          complex_in(context, Type::complex64, wide(kind, batch, rows, states, length)),
          complex_out(context, Type::complex64, wide(kind, batch, rows, states, length)) {
        v.fill(0.1, 1, 1);
        // Small enough that no power grows, and no pole lies near a node.
        const double largest = kind == Kind::vandermonde || kind == Kind::vandermonde_backward ? 1e-6 : 1e-3;
        w.fill(0, is_cauchy() ? 1 : std::min(largest, 100.0 / double(length)), 2);
        nodes.fill(2, 20, 3);
        dt.fill(0.001, 0.1, 4);
        in.fill(-1, 1, 5);
        complex_in.fill(0.1, 1, 6);
        out.poison();
        complex_out.poison();
        const double terms = double(batch * rows * states * length);
        static constexpr double of_term[] = {24, 56, 4, 16, 4, 16, 14, 44, 14, 22};
        flops = terms * of_term[int(kind)];
        bytes = double(kind == Kind::discretize   ? 32 * rows * states
                       : kind == Kind::scan       ? 16 * batch * rows * length
                       : is_cauchy()              ? 8 * rows * length
                       : kind < Kind::recurrence  ? 4 * rows * length
                       : kind == Kind::recurrence ? 8 * batch * rows * length
                                                  : 12 * batch * rows * length);
    }
    void run() override {
        switch (kind) {
        case Kind::cauchy: {
            ssm_cauchy_multiply_args args{sizeof args, 1, v.view(), w.view(), nodes.view(), complex_out.view()};
            return check(ssm_cauchy_multiply(context, &args), "ssm_cauchy_multiply");
        }
        case Kind::cauchy_backward: {
            ssm_cauchy_multiply_backward_args args{sizeof args,       1,       v.view(),       w.view(), nodes.view(),
                                                   complex_in.view(), nullptr, gradient.view()};
            return check(ssm_cauchy_multiply_backward(context, &args), "ssm_cauchy_multiply_backward");
        }
        case Kind::vandermonde: {
            ssm_vandermonde_multiply_args args{sizeof args, 1, v.view(), w.view(), out.view()};
            return check(ssm_vandermonde_multiply(context, &args), "ssm_vandermonde_multiply");
        }
        case Kind::vandermonde_backward: {
            ssm_vandermonde_multiply_backward_args args{sizeof args, 1,       v.view(),       w.view(),
                                                        in.view(),   nullptr, gradient.view()};
            return check(ssm_vandermonde_multiply_backward(context, &args), "ssm_vandermonde_multiply_backward");
        }
        case Kind::kernel: {
            ssm_diagonal_kernel_args args{};
            args.struct_size = sizeof args;
            set_system(args);
            args.k = out.view();
            return check(ssm_diagonal_kernel(context, &args), "ssm_diagonal_kernel");
        }
        case Kind::kernel_backward: {
            ssm_diagonal_kernel_backward_args args{};
            args.struct_size = sizeof args;
            set_system(args);
            args.grad_k = in.view();
            args.grad_a = gradient.view();
            args.grad_b = gradient_of_b.view();
            args.grad_dt = grad_dt.view();
            return check(ssm_diagonal_kernel_backward(context, &args), "ssm_diagonal_kernel_backward");
        }
        case Kind::discretize: {
            ssm_discretize_diagonal_args args{};
            args.struct_size = sizeof args;
            args.a = w.view();
            args.b = v.view();
            args.dt = dt.view();
            args.a_bar = gradient.view();
            args.b_bar = gradient_of_b.view();
            return check(ssm_discretize_diagonal(context, &args), "ssm_discretize_diagonal");
        }
        case Kind::recurrence: {
            ssm_diagonal_ssm_args args{};
            args.struct_size = sizeof args;
            set_system(args);
            args.u = in.view();
            args.y = out.view();
            return check(ssm_diagonal_ssm(context, &args), "ssm_diagonal_ssm");
        }
        case Kind::recurrence_backward: {
            ssm_diagonal_ssm_backward_args args{};
            args.struct_size = sizeof args;
            set_system(args);
            args.u = args.grad_y = in.view();
            args.grad_u = out.view();
            args.grad_a = gradient.view();
            return check(ssm_diagonal_ssm_backward(context, &args), "ssm_diagonal_ssm_backward");
        }
        case Kind::scan: {
            ssm_diagonal_scan_args args{};
            args.struct_size = sizeof args;
            args.a = w.view();
            args.dt = dt.view();
            args.bu = complex_in.view();
            args.x = complex_out.view();
            return check(ssm_diagonal_scan(context, &args), "ssm_diagonal_scan");
        }
        }
    }
    void verify() override {
        const bool gives_sequence = kind == Kind::vandermonde || kind == Kind::kernel || kind == Kind::recurrence;
        if (!gives_sequence)
            return;
        const Shape first(out.shape.size(), 0);
        for (const double value : out.read(first, std::min<int64_t>(out.shape.back(), 1000)))
            if (!std::isfinite(value))
                throw std::runtime_error("not finite");
    }

  private:
    bool is_cauchy() const { return kind == Kind::cauchy || kind == Kind::cauchy_backward; }
    static Shape poles(Kind kind, int64_t rows, int64_t states) {
        return kind == Kind::scan ? Shape{rows} : Shape{rows, states};
    }
    static Shape sequence(Kind kind, int64_t batch, int64_t rows, int64_t length) {
        if (kind == Kind::recurrence || kind == Kind::recurrence_backward)
            return {batch, rows, length};
        return kind >= Kind::vandermonde && kind <= Kind::kernel_backward ? Shape{rows, length} : Shape{1};
    }
    static Shape wide(Kind kind, int64_t batch, int64_t rows, int64_t, int64_t length) {
        return kind == Kind::scan              ? Shape{batch, rows, length}
               : kind <= Kind::cauchy_backward ? Shape{rows, length}
                                               : Shape{1};
    }
    template <typename Args>
    void set_system(Args& args) const {
        args.a = w.view();
        args.b = args.c = v.view();
        args.dt = dt.view();
    }

    ssm_context* const context;
    const Kind kind;
    Tensor v, w, gradient, gradient_of_b, grad_dt, nodes, dt, in, out, complex_in, complex_out;
};

} // namespace

std::vector<CaseEntry> all_cases(bool quick, bool gpu) {
    std::vector<CaseEntry> cases;
    const auto scan = [&](const std::string& task, Type type, Shape shape, Layout layout, ssm_combine combine) {
        cases.push_back({"associative_scan", task + " " + text_of(shape, layout), type, false, [=](ssm_context* context) {
                             return std::make_unique<AssociativeScan>(context, type, shape, layout, combine);
                         }});
    };
    const auto forward = [&](const std::string& task, Type type, Shape shape, Layout layout = Layout::time,
                             bool latency = false) {
        cases.push_back({"linear_recurrence", task + " " + text_of(shape, layout), type, latency, [=](ssm_context* context) {
                             return std::make_unique<LinearRecurrence>(context, type, shape, layout);
                         }});
    };
    const auto backward = [&](const std::string& task, Type type, Shape shape, Layout layout = Layout::time) {
        cases.push_back(
            {"linear_recurrence_backward", task + " " + text_of(shape, layout), type, false, [=](ssm_context* context) {
                 return std::make_unique<LinearRecurrenceBackward>(context, type, shape, layout);
             }});
    };
    const auto selective = [&](const std::string& model, Type type, int64_t batch, int64_t channels, int64_t length,
                               bool latency = false) {
        cases.push_back({"selective_scan", model + " " + text_of({batch, channels, length}) + " N16", type, latency,
                         [=](ssm_context* context) {
                             return std::make_unique<SelectiveScan>(context, type, batch, channels, length, 16);
                         }});
    };

    const auto selective_backward = [&](const std::string& model, Type type, int64_t batch, int64_t channels,
                                        int64_t length) {
        cases.push_back({"selective_scan_backward", model + " " + text_of({batch, channels, length}) + " N16", type, false,
                         [=](ssm_context* context) {
                             return std::make_unique<SelectiveScanBackward>(context, type, batch, channels, length, 16);
                         }});
    };

    const auto convolution = [&](const std::string& model, Type type, const Shape& shape, Layout layout, int64_t width) {
        for (const bool backward : {false, true})
            cases.push_back({backward ? "causal_conv1d_backward" : "causal_conv1d",
                             model + " " + text_of(shape, layout) + " W" + std::to_string(width), type, false,
                             [=](ssm_context* context) {
                                 return std::make_unique<CausalConv1d>(context, type, shape, layout, width, backward);
                             }});
    };

    // One long row, and the inner channels of mamba-130m.
    const Shape row = {1, 1, int64_t{1} << (quick ? 22 : 28)};
    const auto channels = [&](int64_t length) { return Shape{quick ? 1 : 8, 1536, length}; };
    const int64_t length = quick ? 1024 : 4096;

    scan("prefix sum", Type::float32, row, Layout::time, SSM_COMBINE_ADD);
    scan("prefix sum", Type::float32, channels(length), Layout::time, SSM_COMBINE_ADD);
    scan("prefix sum", Type::float32, channels(length), Layout::channels, SSM_COMBINE_ADD);
    scan("running maximum", Type::float32, channels(length), Layout::time, SSM_COMBINE_MAXIMUM);

    forward("one row", Type::float32, row);
    for (int64_t steps : quick ? std::vector<int64_t>{256, 1024} : std::vector<int64_t>{512, 2048, 4096, 16384})
        forward("gated rnn", Type::float32, channels(steps));
    forward("gated rnn", Type::float32, channels(length), Layout::channels);
    for (Type type : {Type::float16, Type::bfloat16, Type::float64, Type::complex64})
        forward("gated rnn", type, channels(length));
    forward("one small call", Type::float32, {1, 64, 64}, Layout::time, true);

    backward("one row", Type::float32, row);
    backward("gated rnn", Type::float32, channels(length));
    backward("gated rnn", Type::float32, channels(length), Layout::channels);
    backward("gated rnn", Type::bfloat16, channels(length));

    const int64_t tokens = quick ? 128 : 2048;
    for (const auto& [model, inner] :
         {std::pair<const char*, int64_t>{"mamba-130m", 1536}, {"mamba-790m", 3072}, {"mamba-2.8b", 5120}})
        for (Type type : {Type::float32, Type::bfloat16})
            for (int64_t batch : quick ? std::vector<int64_t>{1} : std::vector<int64_t>{1, 8})
                selective(model, type, batch, inner, tokens);
    if (!quick)
        selective("mamba-2.8b", Type::bfloat16, 1, 5120, 65536);
    selective("mamba-130m, one token", Type::float32, 1, 1536, 1, true);
    for (Type type : {Type::float32, Type::bfloat16})
        for (int64_t batch : quick ? std::vector<int64_t>{1} : std::vector<int64_t>{1, 8})
            selective_backward("mamba-130m", type, batch, 1536, tokens);
    selective_backward("few channels", Type::float32, 1, 64, quick ? 8192 : 65536);

    const auto update = [&](const std::string& model, Type type, Type state, int64_t batch, int64_t heads, int64_t channels,
                            int64_t states, bool latency = false) {
        const Shape shape = channels > 1 ? Shape{batch, heads, channels} : Shape{batch, heads};
        cases.push_back({"selective_state_update",
                         model + " " + text_of(shape) + " N" + std::to_string(states) + " state " + name_of(state), type,
                         latency, [=](ssm_context* context) {
                             return std::make_unique<SelectiveStateUpdate>(context, type, state, batch, heads, channels,
                                                                           states);
                         }});
    };
    const int64_t batch = quick ? 4 : 64;
    update("mamba-130m, one token", Type::float32, Type::float32, 1, 1536, 1, 16, true);
    update("mamba2-2.7b, one token", Type::bfloat16, Type::float32, 1, 80, 64, 128, true);
    for (Type type : {Type::float32, Type::bfloat16})
        update("mamba-2.8b", type, Type::float32, batch, 5120, 1, 16);
    update("mamba2-2.7b", Type::float32, Type::float32, batch, 80, 64, 128);
    for (Type state : {Type::float32, Type::float16, Type::bfloat16})
        update("mamba2-2.7b", Type::bfloat16, state, batch, 80, 64, 128);
    const auto duality = [&](const std::string& model, Type type, int64_t batches, int64_t steps, int64_t heads) {
        const Shape shape{batches, steps, heads, 64};
        for (const bool backward : {false, true})
            cases.push_back({backward ? "ssd_backward" : "ssd", model + " " + text_of(shape) + " N128", type, false,
                             [=](ssm_context* context) {
                                 return std::make_unique<Ssd>(context, type, batches, steps, heads, 64, 128, backward);
                             }});
    };
    for (Type type : {Type::float32, Type::bfloat16}) {
        duality("mamba2-130m", type, 1, quick ? 128 : 2048, 24);
        duality("mamba2-2.7b", type, 1, quick ? 128 : 2048, 80);
        if (!quick)
            duality("mamba2-130m", type, 8, 4096, 24);
    }
    const auto trapezoid = [&](const char* operation, Mamba3::Kind kind, const std::string& model, Type type,
                               int64_t batches, int64_t steps, bool latency = false) {
        const Shape shape{batches, steps, 32, 64};
        cases.push_back({operation, model + " " + text_of(shape) + " N128", type, latency, [=](ssm_context* context) {
                             return std::make_unique<Mamba3>(context, type, batches, steps, 32, 64, 128, kind);
                         }});
    };
    for (Type type : {Type::float32, Type::bfloat16}) {
        trapezoid("mamba3", Mamba3::Kind::forward, "mamba3-440m", type, 1, quick ? 128 : 2048);
        trapezoid("mamba3_backward", Mamba3::Kind::backward, "mamba3-440m", type, 1, quick ? 128 : 2048);
        trapezoid("mamba3_update", Mamba3::Kind::update, "mamba3-440m", type, batch, 1);
    }
    trapezoid("mamba3_update", Mamba3::Kind::update, "mamba3-440m, one token", Type::bfloat16, 1, 1, true);
    for (Type type : {Type::float32, Type::bfloat16})
        for (const Layout layout : {Layout::time, Layout::channels})
            convolution("mamba-130m", type, {quick ? 1 : 8, 1536, quick ? 512 : 2048}, layout, 4);
    const auto step = [&](const std::string& model, Type type, int64_t rows, int64_t inner, bool latency = false) {
        cases.push_back(
            {"causal_conv1d_update", model + " " + text_of({rows, inner}) + " W4", type, latency,
             [=](ssm_context* context) { return std::make_unique<CausalConv1dUpdate>(context, type, rows, inner); }});
    };
    step("mamba-130m, one token", Type::float32, 1, 1536, true);
    for (Type type : {Type::float32, Type::bfloat16})
        step("mamba-2.8b", type, quick ? 16 : 256, 5120);
    const auto norm = [&](const std::string& model, Type type, int64_t rows, int64_t width, bool gated,
                          bool latency = false) {
        for (const bool backward : {false, true})
            cases.push_back({std::string(gated ? "gated_" : "") + "rms_norm" + (backward ? "_backward" : ""),
                             model + " " + text_of({rows, width}), type, latency, [=](ssm_context* context) {
                                 return std::make_unique<RmsNorm>(context, type, rows, width, gated, backward);
                             }});
    };
    const int64_t rows = quick ? 512 : 2 * 2048;
    norm("mamba-130m, one token", Type::float32, 1, 768, false, true);
    for (Type type : {Type::float32, Type::bfloat16}) {
        norm("mamba-2.8b", type, rows, 2560, false);
        norm("mamba2-2.7b", type, rows, 5120, true);
    }
    const auto system = [&](const char* operation, StateSpace::Kind kind, const std::string& model, int64_t batches,
                            int64_t heads, int64_t states, int64_t steps) {
        const Shape shape{batches, heads, steps};
        cases.push_back({operation, model + " " + text_of(shape) + " N" + std::to_string(states), Type::float32, false,
                         [=](ssm_context* context) {
                             return std::make_unique<StateSpace>(context, kind, batches, heads, states, steps);
                         }});
    };
    using SystemKind = StateSpace::Kind;
    for (const int64_t steps : quick ? std::vector<int64_t>{1024} : std::vector<int64_t>{1024, 4096, 16384}) {
        system("dplr_kernel", SystemKind::dplr_kernel, "S4 on LRA", 1, quick ? 16 : 256, 32, steps);
        system("dplr_kernel_backward", SystemKind::dplr_kernel_backward, "S4 on LRA", 1, quick ? 16 : 256, 32, steps);
    }
    system("dplr_ssm", SystemKind::dplr_ssm, "S4 on LRA", quick ? 1 : 50, quick ? 16 : 256, 32, 1024);
    system("dense_kernel", SystemKind::dense_kernel, "LSSL", 1, quick ? 8 : 256, 64, 1024);
    system("dense_ssm", SystemKind::dense_ssm, "LSSL", quick ? 1 : 50, quick ? 8 : 256, 64, 784);
    cases.push_back({"hippo_project", quick ? "permuted MNIST 4x784 N64" : "permuted MNIST 64x784 N256", Type::float32,
                     false, [=](ssm_context* context) {
                         return std::make_unique<HippoProject>(context, quick ? 4 : 64, 784, quick ? 64 : 256);
                     }});
    const auto diagonal = [&](const char* operation, Diagonal::Kind kind, const std::string& task, int64_t batches,
                              int64_t heads, int64_t states, int64_t length) {
        cases.push_back({operation, task + " " + text_of({batches, heads, length}) + " N" + std::to_string(states),
                         kind >= Diagonal::Kind::scan ? Type::complex64 : Type::float32, length == 1,
                         [=](ssm_context* context) {
                             return std::make_unique<Diagonal>(context, kind, batches, heads, states, length);
                         }});
    };
    using Kind = Diagonal::Kind;
    const int64_t heads = quick ? 16 : 256;
    for (const int64_t steps : quick ? std::vector<int64_t>{1024} : std::vector<int64_t>{1024, 4096, 16384}) {
        diagonal("cauchy_multiply", Kind::cauchy, "S4 on LRA", 1, heads, 32, steps / 2 + 1);
        diagonal("cauchy_multiply_backward", Kind::cauchy_backward, "S4 on LRA", 1, heads, 32, steps / 2 + 1);
        diagonal("vandermonde_multiply", Kind::vandermonde, "S4D on LRA", 1, heads, 32, steps);
        diagonal("vandermonde_multiply_backward", Kind::vandermonde_backward, "S4D on LRA", 1, heads, 32, steps);
    }
    for (const int64_t steps : quick ? std::vector<int64_t>{1024, 1 << 16} : std::vector<int64_t>{4096, 1 << 20}) {
        const int64_t rows_of_kernel = quick && steps > 1024 ? 1 : heads;
        diagonal("diagonal_kernel", Kind::kernel, "S4D kernel", 1, rows_of_kernel, 64, steps);
        diagonal("diagonal_kernel_backward", Kind::kernel_backward, "S4D kernel", 1, rows_of_kernel, 64, steps);
    }
    for (const Kind kind : {Kind::recurrence, Kind::recurrence_backward}) {
        const char* const name = kind == Kind::recurrence ? "diagonal_ssm" : "diagonal_ssm_backward";
        diagonal(name, kind, "S4D on sequential CIFAR", quick ? 2 : 50, heads, 32, 1024);
        diagonal(name, kind, "SaShiMi audio", 1, quick ? 4 : 64, 32, quick ? 4096 : 128000);
    }
    diagonal("diagonal_ssm", Kind::recurrence, "S4D, one step", 1, 512, 32, 1);
    diagonal("diagonal_scan", Kind::scan, "S5 on LRA", 1, 256, 1, quick ? 2048 : 16384);
    diagonal("diagonal_scan", Kind::scan, "S5 on LRA", quick ? 2 : 50, 256, 1, quick ? 1024 : 16384);
    diagonal("discretize_diagonal", Kind::discretize, "S4D", 1, heads, 64, 1);
    convolution("a wide filter", Type::float32, {1, 768, quick ? 512 : 2048}, Layout::time, 64);
    const auto transform = [&](const std::string& model, Type type, const Shape& shape, bool gated, bool backward = false,
                               int64_t taps = 0) {
        cases.push_back({backward ? "causal_conv_backward" : "causal_conv",
                         model + " " + text_of(shape) + (taps ? " K" + std::to_string(taps) : ""), type, shape[2] == 1,
                         [=](ssm_context* context) {
                             return std::make_unique<CausalConv>(context, type, shape, gated, backward, taps);
                         }});
    };
    // Hyena's batch is 64 or as large as 2^28 elements (on a GPU 2^31) allow. Where they do not hold one sequence, it has
    // fewer heads.
    const auto hyena = [&](int64_t steps) {
        const int64_t most = int64_t{1} << (quick ? 20 : gpu ? 31 : 28), all = quick ? 64 : 768;
        const int64_t fitting = std::min(all, most / steps);
        return Shape{std::clamp<int64_t>(most / (fitting * steps), 1, 64), fitting, steps};
    };
    const auto layer = [&](int64_t steps, int64_t channels = 256) {
        return Shape{quick ? 2 : 50, quick ? 64 : channels, steps};
    };
    for (int64_t steps : quick ? std::vector<int64_t>{1024, 4096} : std::vector<int64_t>{1024, 2048, 4096, 8192, 16384}) {
        transform("S4 on LRA", Type::float32, layer(steps), false);
        transform("S4 on LRA", Type::float32, layer(steps), false, true);
    }
    transform("S4 on LRA", Type::float64, layer(1024), false);
    transform("S4 on sequential MNIST", Type::float32, layer(784), false);
    transform("S4 on sequential CIFAR", Type::float32, layer(1024, 512), false);
    transform("SaShiMi audio", Type::float32, {1, quick ? 4 : 64, 128000}, false);
    transform("SaShiMi audio", Type::float32, {1, quick ? 4 : 64, 128000}, false, true);
    for (int64_t steps : quick ? std::vector<int64_t>{256, 16384}
                               : std::vector<int64_t>{256, 1024, 4096, 8192, 16384, 32768, 65536, 1 << 18, 1 << 20})
        for (Type type : {Type::float32, Type::bfloat16})
            transform("Hyena, gated", type, hyena(steps), true);
    transform("S4 stream, blocks", Type::float32, {1, quick ? 64 : 256, 1024}, false, false, 4096);
    transform("S4 stream, one step", Type::float32, {1, quick ? 64 : 256, 1}, false, false, 1024);
    for (const Shape& kernels : {Shape{quick ? 64 : 256, 4096}, Shape{1, 1 << 20}})
        cases.push_back(
            {"causal_conv_plan", "S4 on LRA " + text_of(kernels), Type::float32, false,
             [=](ssm_context* context) { return std::make_unique<CausalConvPlan>(context, kernels[0], kernels[1]); }});
    return cases;
}

} // namespace bench
