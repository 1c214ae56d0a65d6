// Gradients of Mamba-3's recurrence. The steps are made into ssd's again (core/params/mamba3_scaled.h), ssd_backward gives
// the gradients of those, and a head then goes back through time once: with w_t = g_t + e_{t+1} and the gradients B_t of
// w_t k_t, C_t of q_t, A_t of log decays and E_t = <g, x> of the skip, of
// which B'_t = B_t - E_t q_t and C'_t = C_t - E_t w_t k_t are those of other steps,
//   grad e_{t+1} = <B'_t, k_t>,   grad g_t = <B'_t, k_t> + E_t <k_t, q_t>,   grad k_t = w_t B'_t,
//   grad (b_t + b_bias) = R(-theta_t) grad k_t + E_t g_t (c_t + c_bias), and c's likewise,
//   grad theta_t = sum over steps from t on of grad k x k + C x q, the products of pairs (u, v) x (u', v') = v u' - u v'.
// Then sums over the heads of groups, and over batch elements for the parameters. Traffic beside ssd_backward's: both
// gradients of rows, in the compute type, are read and written twice.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/mamba3_backward.cpp"
#include "hwy/foreach_target.h"

#include "cpu/mamba3-inl.h"
#include "cpu/silu-inl.h"

#include "core/params/mamba3_backward.h"
#include "core/params/ssd_backward.h"

#ifndef SSM_CPU_MAMBA3_BACKWARD_PLAN_
#define SSM_CPU_MAMBA3_BACKWARD_PLAN_
namespace ssm::cpu {
// What ssd_backward gives, and what heads leave behind.
template <class Lane>
struct Mamba3Gradients {
    Lane *b, *c;             // (B,L,H,N): of ssd's b and c, then of a head's
    Lane* log_decay;         // (B,L,H)
    Lane* initial = nullptr; // (R,H,P,N): of the first S
    double *b_bias, *c_bias; // (B,H,N)
    double *dt_bias, *a;     // (B,H)

    Mamba3Gradients(const Mamba3BackwardParams& p, Scratch& scratch) {
        const int64_t heads = p.shape.batch * p.shape.channels, steps = heads * p.shape.length;
        b = scratch.take<Lane>(steps * p.states);
        c = scratch.take<Lane>(steps * p.states);
        log_decay = scratch.take<Lane>(steps);
        b_bias = scratch.take<double>(heads * p.states);
        c_bias = scratch.take<double>(heads * p.states);
        dt_bias = scratch.take<double>(heads);
        a = scratch.take<double>(heads);
        if (p.grad_initial_state)
            initial = static_cast<Lane*>(p.grad_initial_state);
        else if (p.initial_b)
            initial = scratch.take<Lane>(p.shape.state_rows() * p.shape.channels * p.channels * p.states);
    }
};

// A task's scratch.
template <class Lane>
struct Mamba3BackwardBuffers {
    Mamba3Buffers<Lane> rows;
    Lane *grad_b, *grad_c; // of a step's rows
    Lane* theta;           // the gradient, of all steps from one on
    // Of steps: of w, e and s, dt, trap, a.
    Lane *w, *e, *s, *dt, *trap, *a;

    Mamba3BackwardBuffers(const Mamba3Inputs& p, int64_t lanes, Scratch& scratch)
        : rows(p.states, p.shape.length, lanes, scratch) {
        for (Lane** row : {&grad_b, &grad_c, &theta})
            *row = scratch.take<Lane>(rows.width);
        for (Lane** steps : {&w, &e, &s, &dt, &trap, &a})
            *steps = scratch.take<Lane>(p.shape.length + 1 + lanes);
    }
};

template <class Lane>
struct Mamba3BackwardTask {
    const Mamba3BackwardParams& p;
    const Mamba3Gradients<Lane>& gradients;
    const Mamba3Scaled<Lane>& scaled;
    int64_t lanes;
};
} // namespace ssm::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

// U: storage of the sequences.
template <class U>
class Mamba3Backward {
  public:
    using Lane = typename Traits<U>::Lane;
    using Head = Mamba3Head<U, Mamba3BackwardParams>;
    static constexpr int64_t n = lanes_of<Lane>();

    Mamba3Backward(const Mamba3BackwardParams& p, const Mamba3BackwardBuffers<Lane>& buffers,
                   const Mamba3Gradients<Lane>& gradients, const Mamba3Scaled<Lane>& scaled, int64_t task)
        : p(p), buffers(buffers), gradients(gradients), scaled(scaled),
          head(p, p.shape.channels, buffers.rows, task / p.shape.channels, task % p.shape.channels), task(task) {}

    void run() {
        std::fill_n(b_bias(), p.states, 0.0);
        std::fill_n(c_bias(), p.states, 0.0);
        gradients.dt_bias[task] = gradients.a[task] = 0;
        for_each_piece(p.shape, head.batch, 0, p.shape.length, [&](const Piece& piece) { run_sequence(piece); });
    }

  private:
    double* b_bias() const { return gradients.b_bias + task * p.states; }
    double* c_bias() const { return gradients.c_bias + task * p.states; }
    template <class V>
    V* of_row(V* states, int64_t row, int64_t width) const {
        return states ? states + (row * p.shape.channels + head.head) * width : nullptr;
    }
    Lane* at(Lane* rows, int64_t t, int64_t width) const {
        return rows + ((head.batch * p.shape.length + t) * p.shape.channels + head.head) * width;
    }

    void run_sequence(const Piece& piece) {
        const int64_t count = piece.count;
        const Mamba3Buffers<Lane>& rows = buffers.rows;
        const Lane* const last_angle = of_row(static_cast<const Lane*>(p.grad_last_angle), piece.row, p.angles);
        Lane* const initial_angle = of_row(static_cast<Lane*>(p.grad_initial_angle), piece.row, p.angles);
        std::fill_n(buffers.theta, rows.width, Lane{0});
        if (last_angle)
            std::copy_n(last_angle, p.angles, buffers.theta);
        head.read_steps(piece.time, count);
        buffers.e[0] = 0;
        for (int64_t i = count - 1; i >= 0; --i)
            run_step(piece, i);
        if (initial_angle)
            std::copy_n(buffers.theta, p.angles, initial_angle);
        run_initial(piece, count > 0 ? rows.rest[0] * rows.s[0] : Lane{0});
        run_sizes(piece);
        if (p.grad_x.data && p.grad_last_x && count > 0) {
            U* const to = place_of<U>(p.grad_x, head.batch, head.head, piece.time + count - 1);
            const Lane* const from = of_row(static_cast<const Lane*>(p.grad_last_x), piece.row, p.channels);
            for (int64_t k = 0; k < p.channels; k += n) {
                const int64_t some = std::min(n, p.channels - k);
                store_some(to + k, VectorOf<U>{hn::Add(load_some(to + k, some).re, load_some(from + k, some).re)}, some);
            }
        }
    }

    // <g, x>
    Lane skip_gradient(int64_t t) const {
        const U* const x = place_of<const U>(p.x, head.batch, head.head, t);
        const U* const grad_y = place_of<const U>(p.grad_y, head.batch, head.head, t);
        const U* const z = p.z.data ? place_of<const U>(p.z, head.batch, head.head, t) : nullptr;
        auto sum = hn::Zero(Tag<Lane>());
        for (int64_t k = 0; k < p.channels; k += n) {
            const int64_t some = std::min(n, p.channels - k);
            auto g = load_some(grad_y + k, some).re;
            if (z)
                g = hn::Mul(g, silu<Lane>(load_some(z + k, some).re));
            sum = hn::MulAdd(g, load_some(x + k, some).re, sum);
        }
        return total_of<Lane>(sum);
    }

    void run_step(const Piece& piece, int64_t i) {
        const Tag<Lane> d;
        const Mamba3Buffers<Lane>& rows = buffers.rows;
        const int64_t t = piece.time + i;
        const Lane next = i + 1 < piece.count ? rows.rest[i + 1] * rows.s[i + 1] : Lane{0};
        const Lane product = head.load_rows(t), of_skip = skip_gradient(t);
        const Lane w = rows.lambda[i] * rows.s[i] + next;
        Lane* const turns = p.angles > 0 ? at(scaled.turns, t, p.angles) : nullptr;
        if (turns)
            std::copy_n(turns, p.angles, rows.turn);
        head.rotate();
        Lane* const own_b = at(gradients.b, t, p.states);
        Lane* const own_c = at(gradients.c, t, p.states);
        copy_row(own_b, buffers.grad_b);
        copy_row(own_c, buffers.grad_c);
        take_own_step_out(t, of_skip);

        auto sum = hn::Zero(d);
        for (int64_t k = 0; k < p.states; k += n)
            sum = hn::MulAdd(hn::LoadU(d, buffers.grad_b + k), hn::LoadU(d, rows.k + k), sum);
        const Lane of_w = total_of<Lane>(sum);
        buffers.w[i] = of_w + of_skip * product;
        buffers.e[i + 1] = of_w;

        const Lane* const last_b =
            i + 1 == piece.count ? of_row(static_cast<const Lane*>(p.grad_last_b), piece.row, p.states) : nullptr;
        for (int64_t k = 0; k < p.states; k += n) {
            const auto given = last_b ? load_some(last_b + k, std::min(n, p.states - k)).re : hn::Zero(d);
            hn::StoreU(hn::MulAdd(hn::Set(d, w), hn::LoadU(d, buffers.grad_b + k), given), d, buffers.grad_b + k);
        }
        const auto skip =
            hn::Set(d, SSM_MUTATE("mamba3_backward.cpu.no_skip", of_skip * rows.lambda[i] * rows.s[i], Lane{0}));
        head.each_pair([&](int64_t k, int64_t pair, Vec<Lane> sine, Vec<Lane> cosine) HWY_ATTR {
            Vec<Lane> bu, bv, cu, cv, ku, kv, qu, qv;
            hn::LoadInterleaved2(d, buffers.grad_b + k, bu, bv);
            hn::LoadInterleaved2(d, buffers.grad_c + k, cu, cv);
            if (pair < p.angles) {
                hn::LoadInterleaved2(d, rows.k + k, ku, kv);
                hn::LoadInterleaved2(d, rows.q + k, qu, qv);
                auto theta = hn::LoadU(d, buffers.theta + pair);
                theta = hn::NegMulAdd(bu, kv, hn::MulAdd(bv, ku, theta));
                theta = hn::NegMulAdd(cu, qv, hn::MulAdd(cv, qu, theta));
                const auto real = hn::FirstN(d, static_cast<size_t>(std::min(n, p.angles - pair)));
                hn::StoreU(hn::IfThenElseZero(real, theta), d, buffers.theta + pair);
            }
            Vec<Lane> u, v;
            hn::LoadInterleaved2(d, rows.c + k, u, v);
            const auto back_u = hn::MulAdd(bu, cosine, hn::Mul(bv, sine));
            const auto back_v = hn::NegMulAdd(bu, sine, hn::Mul(bv, cosine));
            hn::StoreInterleaved2(hn::MulAdd(skip, u, back_u), hn::MulAdd(skip, v, back_v), d, buffers.grad_b + k);
            hn::LoadInterleaved2(d, rows.b + k, u, v);
            const auto other_u = hn::MulAdd(cu, cosine, hn::Mul(cv, sine));
            const auto other_v = hn::NegMulAdd(cu, sine, hn::Mul(cv, cosine));
            hn::StoreInterleaved2(hn::MulAdd(skip, u, other_u), hn::MulAdd(skip, v, other_v), d, buffers.grad_c + k);
        });
        std::copy_n(buffers.grad_b, p.states, own_b);
        std::copy_n(buffers.grad_c, p.states, own_c);
        for (int64_t k = 0; k < p.states; ++k) {
            b_bias()[k] += static_cast<double>(buffers.grad_b[k]);
            c_bias()[k] += static_cast<double>(buffers.grad_c[k]);
        }
        buffers.s[i] = turns ? run_angles(t, rows.s[i], turns) : Lane{0};
    }

    // What a step gives to the gradients of its own b and c, which ssd had rounded.
    void take_own_step_out(int64_t t, Lane of_skip) {
        const int64_t row = ((head.batch * p.shape.length + t) * p.shape.channels + head.head) * p.states;
        const U* const b = static_cast<const U*>(scaled.b) + row;
        const U* const c = static_cast<const U*>(scaled.c) + row;
        const Tag<Lane> d;
        const auto factor = hn::Set(d, of_skip);
        for (int64_t k = 0; k < p.states; k += n) {
            const int64_t some = std::min(n, p.states - k);
            const auto of_b = hn::NegMulAdd(factor, load_some(c + k, some).re, hn::LoadU(d, buffers.grad_b + k));
            const auto of_c = hn::NegMulAdd(factor, load_some(b + k, some).re, hn::LoadU(d, buffers.grad_c + k));
            hn::StoreU(of_b, d, buffers.grad_b + k);
            hn::StoreU(of_c, d, buffers.grad_c + k);
        }
    }

    // A row of the gradients as whole vectors.
    void copy_row(const Lane* from, Lane* to) const {
        std::copy_n(from, p.states, to);
        std::fill(to + p.states, to + buffers.rows.width, Lane{0});
    }

    // The gradients of the step's angles in the place of theta; answers their part of that of s.
    Lane run_angles(int64_t t, Lane s, Lane* to) const {
        const Tag<Lane> d;
        const U* const angles = place_of<const U>(p.angle, head.batch, head.angle_group, t);
        const auto pi = hn::Set(d, static_cast<Lane>(two_pi / 2));
        auto sum = hn::Zero(d);
        for (int64_t i = 0; i < p.angles; i += n) {
            const auto tanh = tanh_and_slope<Lane>(head.load_angles(angles, i));
            const auto theta = hn::Mul(hn::LoadU(d, buffers.theta + i), pi);
            sum = hn::MulAdd(theta, tanh.value, sum);
            store_some(to + i, VectorOf<Lane>{hn::Mul(hn::Mul(theta, tanh.slope), hn::Set(d, s))},
                       std::min(n, p.angles - i));
        }
        return total_of<Lane>(sum);
    }

    // The first S is h_0 + e_1 x_0 k_0^T.
    void run_initial(const Piece& piece, Lane entering) {
        const int64_t size = p.channels * p.states;
        Lane* const grad_b = of_row(static_cast<Lane*>(p.grad_initial_b), piece.row, p.states);
        Lane* const grad_x = of_row(static_cast<Lane*>(p.grad_initial_x), piece.row, p.channels);
        const Lane* const b = of_row(static_cast<const Lane*>(p.initial_b), piece.row, p.states);
        const Lane* const x = of_row(static_cast<const Lane*>(p.initial_x), piece.row, p.channels);
        const Lane* const state = of_row(gradients.initial, piece.row, size);
        if (grad_b)
            start(grad_b, p.states, piece, p.grad_last_b);
        if (grad_x)
            start(grad_x, p.channels, piece, p.grad_last_x);
        if (!b || piece.count == 0)
            return;
        double of_e = 0;
        for (int64_t c = 0; c < p.channels; ++c) {
            const Lane* const row = state + c * p.states;
            Lane sum = 0;
            for (int64_t k = 0; k < p.states; ++k) {
                sum += row[k] * b[k];
                if (grad_b)
                    grad_b[k] += entering * row[k] * x[c];
            }
            of_e += static_cast<double>(sum) * static_cast<double>(x[c]);
            if (grad_x)
                grad_x[c] += entering * sum;
        }
        buffers.e[0] = SSM_MUTATE("mamba3_backward.cpu.no_initial", static_cast<Lane>(of_e), Lane{0});
    }
    // Zero, or where there is no step what the last states' gradients say.
    void start(Lane* to, int64_t width, const Piece& piece, const void* given) const {
        const Lane* const from = piece.count == 0 ? of_row(static_cast<const Lane*>(given), piece.row, width) : nullptr;
        for (int64_t k = 0; k < width; ++k)
            to[k] = from ? from[k] : Lane{0};
    }

    // The gradients of s, which is in w, e, decays and angles; and of what it is made of.
    void run_sizes(const Piece& piece) {
        const Tag<Lane> d;
        const Mamba3Buffers<Lane>& rows = buffers.rows;
        const auto one = hn::Set(d, Lane{1});
        for (int64_t i = 0; i < piece.count; ++i) {
            const int64_t t = piece.time + i;
            const Lane decay = *at(gradients.log_decay, t, 1);
            buffers.s[i] += decay * head.rate(t) + rows.lambda[i] * buffers.w[i] + rows.rest[i] * buffers.e[i];
            buffers.a[i] = decay * rows.s[i];
        }
        for (int64_t i = 0; i < piece.count; i += n) {
            const auto lambda = hn::LoadU(d, rows.lambda + i), rest = hn::LoadU(d, rows.rest + i);
            const auto s = hn::LoadU(d, rows.s + i);
            const auto difference = hn::Sub(hn::LoadU(d, buffers.w + i), hn::LoadU(d, buffers.e + i));
            hn::StoreU(hn::Mul(hn::Mul(hn::Mul(lambda, rest), s), difference), d, buffers.trap + i);
            auto slope = one;
            if (p.dt_softplus)
                slope = hn::Div(one, hn::Add(one, exp<Lane>(hn::Neg(hn::LoadU(d, rows.biased + i)))));
            hn::StoreU(hn::Mul(slope, hn::LoadU(d, buffers.s + i)), d, buffers.dt + i);
        }
        if (p.grad_dt.data)
            write_along_time<U>(p.grad_dt, head.batch, head.head, piece.time, piece.count, buffers.dt);
        if (p.grad_trap.data)
            write_along_time<U>(p.grad_trap, head.batch, head.head, piece.time, piece.count, buffers.trap);
        if (p.grad_a.data && p.a_per_step)
            write_along_time<Lane>(p.grad_a, head.batch, head.head, piece.time, piece.count, buffers.a);
        for (int64_t i = 0; i < piece.count; ++i) {
            gradients.dt_bias[task] += static_cast<double>(buffers.dt[i]);
            gradients.a[task] += static_cast<double>(buffers.a[i]);
        }
    }

    const Mamba3BackwardParams& p;
    const Mamba3BackwardBuffers<Lane>& buffers;
    const Mamba3Gradients<Lane>& gradients;
    const Mamba3Scaled<Lane>& scaled;
    const Head head;
    const int64_t task;
};

// The sum over the heads of each group of a step's rows.
template <class U>
void add_up_heads(const SequenceShape& shape, const typename Traits<U>::Lane* parts, int64_t groups, int64_t width,
                  const HeadTensor& to, int64_t batch, int64_t t) {
    using Lane = typename Traits<U>::Lane;
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    const int64_t per_group = shape.channels / groups;
    for (int64_t group = 0; group < groups; ++group) {
        const Lane* const first = parts + ((batch * shape.length + t) * shape.channels + group * per_group) * width;
        for (int64_t k = 0; k < width; k += n) {
            const int64_t count = std::min(n, width - k);
            auto sum = hn::Zero(d);
            for (int64_t head = 0; head < SSM_MUTATE("mamba3_backward.cpu.one_head", per_group, 1); ++head)
                sum = hn::Add(sum, load_some(first + head * width + k, count).re);
            store_some(place_of<U>(to, batch, group, t) + k, VectorOf<U>{sum}, count);
        }
    }
}

// Of one step of a batch element; with the first, also the parameters.
template <class U>
void add_up(const Mamba3BackwardParams& p, const Mamba3Gradients<typename Traits<U>::Lane>& gradients,
            const Mamba3Scaled<typename Traits<U>::Lane>& scaled, int64_t index) {
    using Lane = typename Traits<U>::Lane;
    const int64_t batch = index / p.shape.length, t = index % p.shape.length, heads = p.shape.channels;
    if (p.grad_b.data)
        add_up_heads<U>(p.shape, gradients.b, p.groups, p.states, p.grad_b, batch, t);
    if (p.grad_c.data)
        add_up_heads<U>(p.shape, gradients.c, p.groups, p.states, p.grad_c, batch, t);
    if (p.grad_angles.data && p.angles > 0)
        add_up_heads<U>(p.shape, scaled.turns, p.angle_groups, p.angles, p.grad_angles, batch, t);
    if (index > 0)
        return;
    const auto add_batch = [&](const double* parts, int64_t numbers, void* to) {
        for (int64_t i = 0; to && i < numbers; ++i) {
            double sum = 0;
            for (int64_t b = 0; b < p.shape.batch; ++b)
                sum += parts[b * numbers + i];
            static_cast<Lane*>(to)[i] = static_cast<Lane>(sum);
        }
    };
    add_batch(gradients.b_bias, heads * p.states, p.grad_b_bias);
    add_batch(gradients.c_bias, heads * p.states, p.grad_c_bias);
    add_batch(gradients.dt_bias, heads, p.grad_dt_bias);
    for (int64_t head = 0; p.grad_a.data && !p.a_per_step && head < heads; ++head) {
        double sum = 0;
        for (int64_t b = 0; b < p.shape.batch; ++b)
            sum += gradients.a[b * heads + head];
        *place_of<Lane>(p.grad_a, 0, head, 0) = static_cast<Lane>(sum);
    }
}

template <class Lane>
void backward_head(const Mamba3BackwardTask<Lane>& task, void* area, int64_t index) {
    Scratch scratch(area);
    const Mamba3BackwardBuffers<Lane> buffers(task.p, task.lanes, scratch);
    with_storage(task.p.type, [&](auto type) {
        using U = typename decltype(type)::type;
        if constexpr (std::is_same_v<typename Traits<U>::Lane, Lane> && !Traits<U>::complex)
            Mamba3Backward<U>(task.p, buffers, task.gradients, task.scaled, index).run();
    });
}
template <class Lane>
void backward_sums(const Mamba3BackwardTask<Lane>& task, int64_t index) {
    with_storage(task.p.type, [&](auto type) {
        using U = typename decltype(type)::type;
        if constexpr (std::is_same_v<typename Traits<U>::Lane, Lane> && !Traits<U>::complex)
            add_up<U>(task.p, task.gradients, task.scaled, index);
    });
}

void backward_head_float(const Mamba3BackwardTask<float>& task, void* area, int64_t index) {
    backward_head(task, area, index);
}
void backward_head_double(const Mamba3BackwardTask<double>& task, void* area, int64_t index) {
    backward_head(task, area, index);
}
void backward_sums_float(const Mamba3BackwardTask<float>& task, int64_t index) {
    backward_sums(task, index);
}
void backward_sums_double(const Mamba3BackwardTask<double>& task, int64_t index) {
    backward_sums(task, index);
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"
#include "cpu/operations.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(backward_head_float);
HWY_EXPORT(backward_head_double);
HWY_EXPORT(backward_sums_float);
HWY_EXPORT(backward_sums_double);

// The workspace: the scratch of tasks, what ssd_backward gets and gives, and its own.
template <class Lane>
struct Mamba3BackwardCall {
    Mamba3Plan plan;
    Scratch scratch;
    char* area;
    Mamba3Scaled<Lane> scaled;
    Mamba3Gradients<Lane> gradients;
    SsdBackwardParams inner = {};

    Mamba3BackwardCall(const BackendContext* context, const Mamba3BackwardParams& p)
        : plan(make_plan(p)), scratch(p.workspace.data), area(scratch.take<char>(plan.scratch(nullptr).size())),
          scaled(p, true, scratch), gradients(p, scratch) {
        scaled.set_inputs(p, context->options.get("mamba3_backward.tile"), inner);
        inner.grad_y = p.grad_y;
        inner.grad_last_state = p.grad_last_state;
        inner.grad_x = p.grad_x;
        inner.grad_z = p.grad_z;
        inner.grad_d = p.grad_d;
        inner.grad_d_per_channel = p.grad_d_per_channel;
        inner.grad_initial_state = gradients.initial;
        inner.grad_log_decay = rows_of_heads(gradients.log_decay, p.shape, 1);
        inner.wide_b = gradients.b;
        inner.wide_c = gradients.c;
    }
    uint64_t own_bytes() const { return static_cast<uint64_t>(scratch.size()); }

    static Mamba3Plan make_plan(const Mamba3BackwardParams& p) {
        Mamba3Plan plan = plan_mamba3<Lane>(p);
        Scratch area(nullptr);
        Mamba3BackwardBuffers<Lane>(p, plan.lanes, area);
        plan.area_bytes = area.size();
        return plan;
    }
};

template <class Lane>
int32_t run_mamba3_backward(BackendContext* context, const Mamba3BackwardParams& p) {
    Mamba3BackwardCall<Lane> call(context, p);
    if (call.own_bytes() > p.workspace.bytes)
        return fail(error_workspace_too_small, "mamba3_backward: workspace too small");
    prepare_mamba3(context, p, call.plan, call.area, call.scaled, {});
    call.inner.workspace = {static_cast<char*>(p.workspace.data) + call.own_bytes(), p.workspace.bytes - call.own_bytes()};
    const int32_t status = ssd_backward(context, &call.inner);
    if (status != success)
        return status;
    const Areas areas = call.plan.scratch(call.area);
    areas.clear();
    const Mamba3BackwardTask<Lane> task = {p, call.gradients, call.scaled, call.plan.lanes};
    const auto run = [] {
        if constexpr (std::is_same_v<Lane, float>)
            return HWY_DYNAMIC_DISPATCH(backward_head_float);
        else
            return HWY_DYNAMIC_DISPATCH(backward_head_double);
    }();
    const auto add_up = [] {
        if constexpr (std::is_same_v<Lane, float>)
            return HWY_DYNAMIC_DISPATCH(backward_sums_float);
        else
            return HWY_DYNAMIC_DISPATCH(backward_sums_double);
    }();
    parallel_for(call.plan.tasks, context->threads,
                 [&](int64_t index) { areas.use([&](void* area) { run(task, area, index); }); });
    parallel_for(p.shape.batch * p.shape.length, context->threads, [&](int64_t index) { add_up(task, index); });
    return success;
}

template <class Lane>
int32_t query_mamba3_backward(BackendContext* context, const Mamba3BackwardParams& p, uint64_t* bytes) {
    const Mamba3BackwardCall<Lane> call(context, p);
    uint64_t inner = 0;
    const int32_t status = ssd_backward_workspace(context, &call.inner, &inner);
    *bytes = call.own_bytes() + inner;
    return status;
}
} // namespace

int32_t mamba3_backward(BackendContext* context, const Mamba3BackwardParams* params) {
    return state_type(params->type) == DataType::float64 ? run_mamba3_backward<double>(context, *params)
                                                         : run_mamba3_backward<float>(context, *params);
}

int32_t mamba3_backward_workspace(BackendContext* context, const Mamba3BackwardParams* params, uint64_t* bytes) {
    return state_type(params->type) == DataType::float64 ? query_mamba3_backward<double>(context, *params, bytes)
                                                         : query_mamba3_backward<float>(context, *params, bytes);
}

} // namespace ssm::cpu
#endif
