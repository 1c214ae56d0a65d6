// Gradients of vandermonde_multiply and diagonal_kernel: for each pole sum_l g_l conj(e_l) and sum_l l g_l conj(e_l) with
// e_l = exp(x l). Lanes are poles. Some steps at a time are a polynomial of q = conj(exp(x)) whose value and derivative
// Horner's rule gives with 8 operations for a pole and step; the power that it starts at is in double precision, and so are
// the sums from there on. A part of time is a task, parts are added up in their order.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/vandermonde_multiply_backward.cpp"
#include "hwy/foreach_target.h"

#include "cpu/poles-inl.h"
#include "cpu/thread_pool.h"

#include "core/mutate.h"
#include "core/params/vandermonde_multiply_backward.h"

#include <algorithm>

#ifndef SSM_CPU_VANDERMONDE_MULTIPLY_BACKWARD_PLAN_
#define SSM_CPU_VANDERMONDE_MULTIPLY_BACKWARD_PLAN_
namespace ssm::cpu {
constexpr int64_t vandermonde_part = 4096; // steps of a task
constexpr int64_t vandermonde_sums = 4;    // plain and weighted, real and imaginary

// The sums of a part of a row, each of all poles; they lie behind the poles.
template <class Params>
double* part_sums(const Params& p, int64_t parts, int64_t row, int64_t part) {
    return static_cast<double*>(p.workspace.data) + p.rows * PolePlanes::planes * padded_poles(p.states) +
           (row * parts + part) * vandermonde_sums * padded_poles(p.states);
}
} // namespace ssm::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

constexpr int64_t horner_steps = 32; // of one polynomial
constexpr int64_t horner_poles = 64; // that are at hand at once

// Value and derivative of the polynomial, for `horner_poles` poles.
template <class Lane>
struct Polynomials {
    alignas(64) Lane q_re[horner_poles], q_im[horner_poles];
    alignas(64) Lane value_re[horner_poles], value_im[horner_poles], slope_re[horner_poles], slope_im[horner_poles];
    alignas(64) double power_re[horner_poles], power_im[horner_poles], step_re[horner_poles], step_im[horner_poles];
};

template <class S, bool is_real, int Vectors>
HWY_INLINE void evaluate(const S* complex_g, const typename Traits<S>::Lane* real_g, int64_t steps, int64_t first,
                         Polynomials<typename Traits<S>::Lane>& of) {
    using Lane = typename Traits<S>::Lane;
    const Tag<Lane> d;
    constexpr int64_t n = lanes_of<Lane>();
    Vec<Lane> q_re[Vectors], q_im[Vectors], re[Vectors], im[Vectors], slope_re[Vectors], slope_im[Vectors];
    unrolled<Vectors>([&](auto k) SSM_INLINE_LAMBDA {
        q_re[k] = hn::LoadU(d, of.q_re + first + k * n);
        q_im[k] = hn::LoadU(d, of.q_im + first + k * n);
        re[k] = im[k] = slope_re[k] = slope_im[k] = hn::Zero(d);
    });
    for (int64_t i = steps - 1; i >= 0; --i) {
        const auto g_re = hn::Set(d, is_real ? real_g[i] : complex_g[i].re);
        const auto g_im = is_real ? hn::Zero(d) : hn::Set(d, complex_g[i].im);
        unrolled<Vectors>([&](auto k) SSM_INLINE_LAMBDA {
            const auto turned_re = hn::NegMulAdd(q_im[k], slope_im[k], hn::MulAdd(q_re[k], slope_re[k], re[k]));
            slope_im[k] = hn::MulAdd(q_im[k], slope_re[k], hn::MulAdd(q_re[k], slope_im[k], im[k]));
            slope_re[k] = turned_re;
            const auto next_re = hn::NegMulAdd(q_im[k], im[k], hn::MulAdd(q_re[k], re[k], g_re));
            im[k] = hn::MulAdd(q_im[k], re[k], hn::MulAdd(q_re[k], im[k], g_im));
            re[k] = next_re;
        });
    }
    unrolled<Vectors>([&](auto k) SSM_INLINE_LAMBDA {
        hn::StoreU(re[k], d, of.value_re + first + k * n);
        hn::StoreU(im[k], d, of.value_im + first + k * n);
        hn::StoreU(slope_re[k], d, of.slope_re + first + k * n);
        hn::StoreU(slope_im[k], d, of.slope_im + first + k * n);
    });
}

// The sums over steps [begin, end).
template <class S, bool is_real>
HWY_NOINLINE void sum_steps(const VandermondeMultiplyBackwardParams& p, int64_t row, int64_t begin, int64_t end,
                            double* sums) {
    using Lane = typename Traits<S>::Lane;
    const Tag<double> d;
    constexpr int64_t n = lanes_of<Lane>(), wide = lanes_of<double>();
    const int64_t padded = padded_poles(p.states);
    const PolePlanes planes(p.workspace.data, row, padded);
    const S* const complex_g = static_cast<const S*>(p.grad_y) + row * p.length;
    const Lane* const real_g = static_cast<const Lane*>(p.grad_y) + row * p.length;
    Polynomials<Lane> of;
    for (int64_t first = 0; first < padded; first += horner_poles) {
        const int64_t count = std::min(horner_poles, padded - first);
        for (int64_t i = 0; i < count; i += wide) {
            const auto at = [&](const double* plane) SSM_INLINE_LAMBDA { return hn::LoadU(d, plane + first + i); };
            const auto x_re = at(planes.x_re), x_im = hn::Neg(at(planes.x_im));
            const Powers q = power_of(x_re, x_im, hn::Set(d, 1.0));
            const auto start = hn::Sub(hn::Set(d, static_cast<double>(begin)), at(planes.shift));
            const Powers power = power_of(x_re, x_im, start);
            const Powers step = power_of(x_re, x_im, hn::Set(d, static_cast<double>(horner_steps)));
            store_as(of.q_re + i, q.re);
            store_as(of.q_im + i, q.im);
            store(of.power_re + i, RealVector<double>{power.re});
            store(of.power_im + i, RealVector<double>{power.im});
            store(of.step_re + i, RealVector<double>{step.re});
            store(of.step_im + i, RealVector<double>{step.im});
        }
        const auto plane = [&](int64_t k, int64_t i) SSM_INLINE_LAMBDA { return sums + k * padded + first + i; };
        for (int64_t k = 0; k < vandermonde_sums; ++k)
            std::fill_n(plane(k, 0), count, 0.0);
        for (int64_t l = begin; l < end; l += horner_steps) {
            const int64_t steps = std::min(horner_steps, end - l);
            int64_t i = 0;
            for (; i + 2 * n <= count; i += 2 * n)
                evaluate<S, is_real, 2>(complex_g + l, real_g + l, steps, i, of);
            for (; i < count; i += n)
                evaluate<S, is_real, 1>(complex_g + l, real_g + l, steps, i, of);
            const auto at =
                hn::Set(d, SSM_MUTATE("vandermonde_multiply_backward.cpu.lost_start", static_cast<double>(l), 0));
            for (i = 0; i < count; i += wide) {
                const auto load_double = [&](const auto* from) SSM_INLINE_LAMBDA { return load_as_double(from + i); };
                const Powers power = {load_double(of.power_re), load_double(of.power_im)};
                const Powers value = {load_double(of.value_re), load_double(of.value_im)};
                const Powers slope = {load_double(of.slope_re), load_double(of.slope_im)};
                // q in the precision that the polynomial was evaluated with.
                const Powers q = {load_double(of.q_re), load_double(of.q_im)};
                const Powers weighted = multiply(q, slope);
                const Powers all = {hn::MulAdd(at, value.re, weighted.re), hn::MulAdd(at, value.im, weighted.im)};
                const auto add_to = [&](int64_t k, Powers terms) SSM_INLINE_LAMBDA {
                    hn::StoreU(hn::Add(hn::LoadU(d, plane(k, i)), terms.re), d, plane(k, i));
                    hn::StoreU(hn::Add(hn::LoadU(d, plane(k + 1, i)), terms.im), d, plane(k + 1, i));
                };
                add_to(0, multiply(power, value));
                add_to(2, multiply(power, all));
                const Powers next = multiply(power, {load_double(of.step_re), load_double(of.step_im)});
                hn::StoreU(next.re, d, of.power_re + i);
                hn::StoreU(next.im, d, of.power_im + i);
            }
        }
    }
}

void vandermonde_multiply_backward_task(const VandermondeMultiplyBackwardParams& p, int64_t row, int64_t begin, int64_t end,
                                        double* sums) {
    with_storage(p.type, [&](auto type) {
        using S = typename decltype(type)::type;
        if constexpr (Traits<S>::complex)
            p.conjugate_pairs ? sum_steps<S, true>(p, row, begin, end, sums) : sum_steps<S, false>(p, row, begin, end, sums);
    });
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(vandermonde_multiply_backward_task);

int64_t parts_of(const VandermondeMultiplyBackwardParams& p) {
    return (p.length + vandermonde_part - 1) / vandermonde_part;
}
uint64_t bytes_of(const VandermondeMultiplyBackwardParams& p) {
    return static_cast<uint64_t>(PolePlanes::bytes(p.rows, p.states)) +
           static_cast<uint64_t>(p.rows * parts_of(p) * vandermonde_sums * padded_poles(p.states)) * sizeof(double);
}

// The gradients of a row from the sums of its parts.
template <class Real>
void finish_row(const VandermondeMultiplyBackwardParams& p, int64_t row) {
    const int64_t padded = padded_poles(p.states), parts = parts_of(p);
    double grad_dt = 0;
    for (int64_t n = 0; n < p.states; ++n) {
        double total[vandermonde_sums] = {};
        const int64_t last = SSM_MUTATE("vandermonde_multiply_backward.cpu.lost_part", parts, 1);
        for (int64_t part = 0; part < last; ++part)
            for (int64_t k = 0; k < vandermonde_sums; ++k)
                total[k] += part_sums(p, parts, row, part)[k * padded + n];
        const PoleSums sums = {{total[0], total[1]}, {total[2], total[3]}};
        const int64_t index = row * p.states + n;
        const auto give = [&](void* gradient, ComplexDouble value) {
            if (gradient)
                store_complex<Real>(gradient, index, value);
        };
        if (p.source.is_system) {
            const SystemGradients gradients = system_gradients<Real>(p.source, row, index, p.length, sums);
            give(p.grad_a, gradients.a);
            give(p.grad_b, gradients.b);
            give(p.grad_c, gradients.c);
            grad_dt += gradients.dt;
        } else {
            const double scale = p.conjugate_pairs ? 2.0 : 1.0;
            const ComplexDouble v = complex_at<Real>(p.source.v, index);
            give(p.grad_v, scaled(scale, sums.plain));
            give(p.grad_x, scaled(scale, SSM_MUTATE("vandermonde_multiply_backward.cpu.v_not_conjugated", conjugate(v), v) *
                                             sums.weighted));
        }
    }
    if (p.grad_dt)
        static_cast<Real*>(p.grad_dt)[row] = static_cast<Real>(grad_dt);
}
} // namespace

int32_t vandermonde_multiply_backward(BackendContext* context, const VandermondeMultiplyBackwardParams* params) {
    const VandermondeMultiplyBackwardParams& p = *params;
    if (bytes_of(p) > p.workspace.bytes)
        return fail(error_workspace_too_small, "vandermonde_multiply_backward: workspace too small");
    parallel_for(p.rows, context->threads, [&](int64_t row) { fill_poles(p, row); });
    const int64_t parts = parts_of(p);
    const auto run = HWY_DYNAMIC_DISPATCH(vandermonde_multiply_backward_task);
    parallel_for(p.rows * parts, context->threads, [&](int64_t task) {
        const int64_t row = task / parts, part = task % parts, begin = part * vandermonde_part;
        run(p, row, begin, std::min(p.length, begin + vandermonde_part), part_sums(p, parts, row, part));
    });
    parallel_for(p.rows, context->threads, [&](int64_t row) {
        p.type == DataType::complex128 ? finish_row<double>(p, row) : finish_row<float>(p, row);
    });
    return success;
}

int32_t vandermonde_multiply_backward_workspace(BackendContext*, const VandermondeMultiplyBackwardParams* params,
                                                uint64_t* bytes) {
    *bytes = bytes_of(*params);
    return success;
}

} // namespace ssm::cpu
#endif
