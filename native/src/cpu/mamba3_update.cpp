// Some steps of Mamba-3 on states that stay where they are. A task is a head of a batch element: its rows of b and c are
// made ready step by step (cpu/mamba3-inl.h), and each step goes over the P x N states once, which the cache keeps. Bytes:
// the state in and out. Operations for a state and step: three multiply-adds and a product.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/mamba3_update.cpp"
#include "hwy/foreach_target.h"

#include "cpu/mamba3-inl.h"
#include "cpu/silu-inl.h"

#include "core/params/mamba3_update.h"

#ifndef SSM_CPU_MAMBA3_UPDATE_PLAN_
#define SSM_CPU_MAMBA3_UPDATE_PLAN_
namespace ssm::cpu {
template <class Lane>
struct Mamba3UpdateBuffers {
    Mamba3Buffers<Lane> rows;
    Lane* before; // k of the step before
    Mamba3UpdateBuffers(const Mamba3UpdateParams& p, int64_t lanes, Scratch& scratch)
        : rows(p.states, p.steps, lanes, scratch), before(scratch.take<Lane>(rows.width)) {}
};
} // namespace ssm::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

// U: storage of x, dt, b, c, trap, angles, z, y.
template <class U>
class Mamba3Update {
  public:
    using Lane = typename Traits<U>::Lane;
    using Head = Mamba3Head<U, Mamba3UpdateParams>;
    static constexpr int64_t n = lanes_of<Lane>();

    Mamba3Update(const Mamba3UpdateParams& p, const Mamba3UpdateBuffers<Lane>& buffers, int64_t batch, int64_t of_head)
        : p(p), buffers(buffers), head(p, p.heads, buffers.rows, batch, of_head) {}

    void run() const {
        const Mamba3Buffers<Lane>& rows = buffers.rows;
        const int64_t row = p.slots ? p.slots[head.batch] : head.batch;
        if (row < 0 || row >= p.rows)
            return skip();
        Lane* const state = place_of<Lane>(p.state, row, head.head, 0);
        Lane* const b_state = place_of<Lane>(p.b_state, row, head.head, 0);
        Lane* const x_state = place_of<Lane>(p.x_state, row, head.head, 0);
        Lane* const angle = p.angles > 0 ? place_of<Lane>(p.angle_state, row, head.head, 0) : nullptr;
        head.begin_turn(angle);
        head.read_steps(0, p.steps);
        std::fill_n(buffers.before, rows.width, Lane{0});
        std::copy_n(b_state, p.states, buffers.before);
        for (int64_t t = 0; t < p.steps; ++t) {
            const Lane s = rows.s[t];
            head.load_rows(t);
            head.turn(t, s);
            head.rotate();
            const Lane decay = lane<Lane>(RealVector<Lane>{exp<Lane>(hn::Set(Tag<Lane>(), s * head.rate(t)))}, 0);
            const Lane old = SSM_MUTATE("mamba3_update.cpu.no_step_before", decay * rows.rest[t] * s, Lane{0});
            run_step(t, decay, old, rows.lambda[t] * s, state, x_state);
            std::copy_n(rows.k, p.states, buffers.before);
        }
        if (angle)
            head.end_turn(SSM_MUTATE("mamba3_update.cpu.lost_angle", angle, rows.b));
        std::copy_n(rows.k, p.states, b_state);
    }

  private:
    void skip() const {
        for (int64_t t = 0; t < p.steps; ++t) {
            U* const y = place_of<U>(p.y, head.batch, head.head, t);
            std::fill_n(y, p.channels, element<U>(0));
        }
    }

    // h = decay h + old x_{t-1} k_{t-1}^T + now x_t k_t^T, and y.
    void run_step(int64_t t, Lane decay, Lane old, Lane now, Lane* state, Lane* x_state) const {
        const Tag<Lane> d;
        const Mamba3Buffers<Lane>& rows = buffers.rows;
        const U* const x = place_of<const U>(p.x, head.batch, head.head, t);
        const U* const z = p.z.data ? place_of<const U>(p.z, head.batch, head.head, t) : nullptr;
        U* const y = place_of<U>(p.y, head.batch, head.head, t);
        const Lane* const skip = static_cast<const Lane*>(p.d);
        for (int64_t first = 0; first < p.channels; first += n) {
            const int64_t count = std::min(n, p.channels - first);
            alignas(64) Lane xs[lanes_of<Lane>()], sums[lanes_of<Lane>()] = {};
            hn::Store(load_some(x + first, count).re, d, xs);
            for (int64_t c = 0; c < count; ++c) {
                Lane* const h = state + (first + c) * p.state.channel_stride;
                const auto of_old = hn::Set(d, old * x_state[first + c]), of_now = hn::Set(d, now * xs[c]);
                const auto factor = hn::Set(d, decay);
                auto sum = hn::Zero(d);
                for (int64_t k = 0; k < p.states; k += n) {
                    const int64_t some = std::min(n, p.states - k);
                    auto value = hn::Mul(factor, (some == n ? load(h + k) : load_some(h + k, some)).re);
                    value = hn::MulAdd(of_old, hn::LoadU(d, buffers.before + k), value);
                    value = hn::MulAdd(of_now, hn::LoadU(d, rows.k + k), value);
                    sum = hn::MulAdd(value, hn::LoadU(d, rows.q + k), sum);
                    if (some == n)
                        store(h + k, VectorOf<Lane>{value});
                    else
                        store_some(h + k, VectorOf<Lane>{value}, some);
                }
                sums[c] = total_of<Lane>(sum);
                x_state[first + c] = SSM_MUTATE("mamba3_update.cpu.stale_x", xs[c], x_state[first + c]);
            }
            auto value = hn::Load(d, sums);
            if (skip) {
                const auto own = p.d_per_channel ? load_some(skip + head.head * p.channels + first, count).re
                                                 : hn::Set(d, skip[head.head]);
                value = hn::MulAdd(own, hn::Load(d, xs), value);
            }
            if (z)
                value = hn::Mul(value, silu<Lane>(load_some(z + first, count).re));
            store_some(y + first, VectorOf<U>{value}, count);
        }
    }

    const Mamba3UpdateParams& p;
    const Mamba3UpdateBuffers<Lane>& buffers;
    const Head head;
};

void update_head(const Mamba3UpdateParams& p, int64_t lanes, void* area, int64_t task) {
    with_storage(p.type, [&](auto type) {
        using U = typename decltype(type)::type;
        if constexpr (!Traits<U>::complex) {
            Scratch scratch(area);
            const Mamba3UpdateBuffers<typename Traits<U>::Lane> buffers(p, lanes, scratch);
            Mamba3Update<U>(p, buffers, task / p.heads, task % p.heads).run();
        }
    });
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"
#include "cpu/operations.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(update_head);

Mamba3Plan make_plan(const Mamba3UpdateParams& p) {
    Mamba3Plan plan = {};
    plan.lanes = mamba3_lanes(p.type);
    plan.tasks = p.batch * p.heads;
    Scratch scratch(nullptr);
    if (state_type(p.type) == DataType::float64)
        Mamba3UpdateBuffers<double>(p, plan.lanes, scratch);
    else
        Mamba3UpdateBuffers<float>(p, plan.lanes, scratch);
    plan.area_bytes = scratch.size();
    plan.areas = std::min<int64_t>(plan.tasks, usable_threads());
    return plan;
}
} // namespace

int32_t mamba3_update(BackendContext* context, const Mamba3UpdateParams* params) {
    const Mamba3UpdateParams& p = *params;
    const Mamba3Plan plan = make_plan(p);
    const Areas areas = plan.scratch(p.workspace.data);
    if (static_cast<uint64_t>(areas.size()) > p.workspace.bytes)
        return fail(error_workspace_too_small, "mamba3_update: workspace too small");
    areas.clear();
    const auto run = HWY_DYNAMIC_DISPATCH(update_head);
    parallel_for(plan.tasks, context->threads,
                 [&](int64_t task) { areas.use([&](void* area) { run(p, plan.lanes, area, task); }); });
    return success;
}

int32_t mamba3_update_workspace(BackendContext*, const Mamba3UpdateParams* params, uint64_t* bytes) {
    *bytes = static_cast<uint64_t>(make_plan(*params).scratch(nullptr).size());
    return success;
}

} // namespace ssm::cpu
#endif
