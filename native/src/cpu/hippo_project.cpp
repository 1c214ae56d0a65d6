// The projection of signals onto HiPPO's measures. A task is a signal.
//
// legs: a step of size s is a forward step of (1 - alpha) s and a backward step of alpha s, each in N operations, because
// with r_n = sqrt(2n+1) row n of -A is r_n (r_0, .., r_{n-1}, 0, ..) plus n+1 on the diagonal. Forward that is a prefix sum
// of r_n x_n. Backward the sum S_n = sum_{m<n} r_m y_m obeys S_{n+1} = S_n (1 - n s) / (1 + (n+1) s) + r_n (x_n + s f r_n) /
// (1 + (n+1) s), a linear recurrence over n, which is scanned along the lanes. Operations: some 30 for a state and step.
//
// The sliding measures are dense systems that are discretised once; N^2 multiply-adds for a step.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/hippo_project.cpp"
#include "hwy/foreach_target.h"

#include "cpu/dense-inl.h"

#include "core/hippo.h"
#include "core/mutate.h"
#include "core/params/hippo_project.h"

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

template <class Lane>
class LegsSignal {
  public:
    static constexpr int64_t n = lanes_of<Lane>();
    using V = RealVector<Lane>;

    // Rows of the width: the state, r_n, n.
    LegsSignal(const HippoProjectParams& p, Lane* scratch)
        : p(p), width(state_width<Lane>(p.states)), x(scratch), roots(scratch + width), numbers(scratch + 2 * width) {
        for (int64_t i = 0; i < width; ++i) {
            roots[i] = i < p.states ? static_cast<Lane>(hippo_b(Measure::legs, i)) : Lane{0};
            numbers[i] = static_cast<Lane>(i);
        }
    }

    void run(int64_t row) const {
        const Lane* const f = static_cast<const Lane*>(p.f) + row * p.length;
        const Lane* const times = static_cast<const Lane*>(p.timestamps);
        const double alpha = implicit_share(static_cast<Discretization>(p.discretization), p.alpha);
        Lane* coefficients = static_cast<Lane*>(p.coefficients) + row * p.length * p.states;
        std::fill_n(x, width, Lane{0});
        if (p.initial_state)
            std::copy_n(static_cast<const Lane*>(p.initial_state) + row * p.states, p.states, x);
        for (int64_t t = 0; t < p.length; ++t) {
            if (t == 0 && p.starts_from_first) {
                x[0] = f[0];
            } else {
                double size = 1 / static_cast<double>(p.first_divisor + t);
                if (times) {
                    const double now = times[t], before = t > 0 ? static_cast<double>(times[t - 1]) : p.time_before;
                    size = (now - before) / now;
                }
                if (alpha < 1)
                    forward(static_cast<Lane>((1 - alpha) * size), f[t]);
                if (alpha > 0)
                    backward(static_cast<Lane>(alpha * size), f[t]);
            }
            std::copy_n(x, p.states, coefficients);
            coefficients += p.states;
        }
        if (p.last_state)
            std::copy_n(x, p.states, static_cast<Lane*>(p.last_state) + row * p.states);
    }

  private:
    HWY_NOINLINE void forward(Lane size, Lane input) const {
        const Tag<Lane> d;
        const V zero = constant<V>(0);
        V before = zero;
        for (int64_t i = 0; i < width; i += n) {
            const auto own = hn::Load(d, x + i), root = hn::Load(d, roots + i), number = hn::Load(d, numbers + i);
            V sum{hn::Mul(own, root)};
            scan_steps<Lane>([&](auto move) HWY_ATTR { sum = add(sum, move(sum, zero)); });
            const V below = add(before, shift_up_one(sum, zero));
            const auto drift =
                hn::MulAdd(own, hn::Add(number, hn::Set(d, Lane{1})), hn::Mul(root, hn::Sub(below.re, hn::Set(d, input))));
            hn::Store(hn::NegMulAdd(hn::Set(d, size), drift, own), d, x + i);
            before = SSM_MUTATE("hippo_project.cpu.lost_sum", add(before, broadcast_last(sum)), zero);
        }
    }

    HWY_NOINLINE void backward(Lane size, Lane input) const {
        const Tag<Lane> d;
        const auto s = hn::Set(d, size), one = hn::Set(d, Lane{1});
        V before = constant<V>(0);
        for (int64_t i = 0; i < width; i += n) {
            const auto root = hn::Load(d, roots + i), number = hn::Load(d, numbers + i);
            const auto scale = hn::Div(one, hn::MulAdd(hn::Add(number, one), s, one));
            const auto given = hn::MulAdd(hn::Mul(s, hn::Set(d, input)), root, hn::Load(d, x + i));
            V factor{hn::Mul(hn::NegMulAdd(number, s, one), scale)}, sum{hn::Mul(hn::Mul(root, given), scale)};
            scan_affine(factor, sum);
            sum = multiply_add(factor, before, sum);
            const V below = shift_up_one(sum, before);
            hn::Store(hn::Mul(hn::NegMulAdd(hn::Mul(s, root), below.re, given), scale), d, x + i);
            before = SSM_MUTATE("hippo_project.cpu.lost_carry", broadcast_last(sum), constant<V>(0));
        }
    }

    const HippoProjectParams& p;
    const int64_t width;
    Lane *const x, *const roots, *const numbers;
};

template <class Lane>
HWY_NOINLINE void project_sliding(const HippoProjectParams& p, const Lane* step, Lane* scratch, int64_t row) {
    const int64_t states = p.states, width = state_width<Lane>(states);
    const Lane* const f = static_cast<const Lane*>(p.f) + row * p.length;
    Lane* coefficients = static_cast<Lane*>(p.coefficients) + row * p.length * states;
    Lane *x = scratch, *next = scratch + width;
    std::fill_n(scratch, 2 * width, Lane{0});
    if (p.initial_state)
        std::copy_n(static_cast<const Lane*>(p.initial_state) + row * states, states, x);
    for (int64_t i = 0; p.starts_from_first && i < states; ++i)
        x[i] = static_cast<Lane>(hippo_constant(static_cast<Measure>(p.measure), i)) * f[0];
    for (int64_t t = 0; t < p.length; ++t) {
        step_dense(states, width, step, f[t], x, next);
        std::swap(x, next);
        std::copy_n(SSM_MUTATE("hippo_project.cpu.old_state", x, next), states, coefficients);
        coefficients += states;
    }
    if (p.last_state)
        std::copy_n(x, states, static_cast<Lane*>(p.last_state) + row * states);
}

template <class Lane>
void project(const HippoProjectParams& p, const void* step, void* scratch, int64_t row) {
    if (static_cast<Measure>(p.measure) == Measure::legs)
        LegsSignal<Lane>(p, static_cast<Lane*>(scratch)).run(row);
    else
        project_sliding(p, static_cast<const Lane*>(step), static_cast<Lane*>(scratch), row);
}

void project_signal(const HippoProjectParams& p, const void* step, void* scratch, int64_t row) {
    if (p.type == DataType::float64)
        project<double>(p, step, scratch, row);
    else
        project<float>(p, step, scratch, row);
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(project_signal);

struct HippoPlan {
    int64_t step_bytes = 0, area_bytes, areas;
    explicit HippoPlan(const HippoProjectParams& p) {
        const bool is_double = p.type == DataType::float64;
        area_bytes = 3 * (is_double ? state_width<double>(p.states) * 8 : state_width<float>(p.states) * 4);
        if (static_cast<Measure>(p.measure) != Measure::legs) {
            step_bytes = is_double ? dense_step_size<double>(p.states) * 8 : dense_step_size<float>(p.states) * 4;
            area_bytes = std::max(area_bytes, DenseStepMemory::bytes(p.states));
        }
        areas = std::min<int64_t>(p.batch, usable_threads());
    }
    Areas scratch(char* base) const { return Areas(base + step_bytes, area_bytes, areas); }
};

void make_step(const HippoProjectParams& p, void* area, void* step) {
    TeamMemory parts(area);
    const DenseStepMemory memory(parts, p.states);
    const Measure measure = static_cast<Measure>(p.measure);
    discretize_dense(
        Alone(), p.states, [&](int64_t i, int64_t j) { return hippo_a(measure, i, j); },
        [&](int64_t i) { return hippo_b(measure, i); }, p.dt, static_cast<Discretization>(p.discretization), p.alpha,
        memory.discretize, memory.a_bar, memory.b_bar);
    if (p.type == DataType::float64)
        store_step(memory, p.states, static_cast<double*>(step));
    else
        store_step(memory, p.states, static_cast<float*>(step));
}
} // namespace

int32_t hippo_project(BackendContext* context, const HippoProjectParams* params) {
    const HippoProjectParams& p = *params;
    const HippoPlan plan(p);
    char* const base = static_cast<char*>(p.workspace.data);
    const Areas areas = plan.scratch(base);
    if (static_cast<uint64_t>(plan.step_bytes + areas.size()) > p.workspace.bytes)
        return fail(error_workspace_too_small, "hippo_project: workspace too small");
    areas.clear();
    if (plan.step_bytes > 0)
        areas.use([&](void* area) { make_step(p, area, base); });
    const auto run = HWY_DYNAMIC_DISPATCH(project_signal);
    parallel_for(p.batch, context->threads, [&](int64_t row) { areas.use([&](void* area) { run(p, base, area, row); }); });
    return success;
}

int32_t hippo_project_workspace(BackendContext*, const HippoProjectParams* params, uint64_t* bytes) {
    const HippoPlan plan(*params);
    *bytes = static_cast<uint64_t>(plan.step_bytes + plan.scratch(nullptr).size());
    return success;
}

} // namespace ssm::cpu
#endif
