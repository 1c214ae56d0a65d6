// The recurrence of dense systems. The matrices are discretised in double, a head at a time; then a task is a head of a
// sequence, whose state takes N^2 multiply-adds for a step from matrices that the caches keep.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/dense_ssm.cpp"
#include "hwy/foreach_target.h"

#include "cpu/dense-inl.h"

#include "core/mutate.h"

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

// One head of one sequence: row `row` of the states, steps [begin, end) of batch element `batch`.
template <class Lane>
HWY_NOINLINE void run_sequence(const DenseSsmParams& p, const Lane* step, Lane* scratch, int64_t head, int64_t row,
                               int64_t batch, int64_t begin, int64_t end) {
    const Tag<Lane> d;
    constexpr int64_t n = lanes_of<Lane>();
    const int64_t states = p.system.states, width = state_width<Lane>(states), at = (row * p.system.heads + head) * states;
    Lane *x = scratch, *next = scratch + width, *const c = scratch + 2 * width;
    std::fill_n(scratch, 3 * width, Lane{0});
    std::copy_n(static_cast<const Lane*>(p.system.c) + head * states, states, c);
    if (p.initial_state)
        std::copy_n(static_cast<const Lane*>(p.initial_state) + at, states, x);
    const Lane skip = p.d ? static_cast<const Lane*>(p.d)[head] : Lane{0};
    const Lane* u = static_cast<const Lane*>(p.u.data) + batch * p.u.batch_stride + head * p.u.channel_stride;
    Lane* y = static_cast<Lane*>(p.y.data) + batch * p.y.batch_stride + head * p.y.channel_stride;
    for (int64_t t = begin; t < end; ++t) {
        const Lane input = u[t * p.u.time_stride];
        step_dense(states, width, step, input, x, next);
        std::swap(x, next);
        const Lane* const seen = SSM_MUTATE("dense_ssm.cpu.old_state", x, next);
        auto sum = hn::Zero(d);
        for (int64_t i = 0; i < width; i += n)
            sum = hn::MulAdd(hn::Load(d, c + i), hn::Load(d, seen + i), sum);
        y[t * p.y.time_stride] =
            hn::GetLane(hn::SumOfLanes(d, sum)) + SSM_MUTATE("dense_ssm.cpu.no_skip", skip, Lane{0}) * input;
    }
    if (p.last_state)
        std::copy_n(SSM_MUTATE("dense_ssm.cpu.stale_state", x, next), states, static_cast<Lane*>(p.last_state) + at);
}

void run_dense(const DenseSsmParams& p, const void* steps, void* scratch, int64_t task) {
    const int64_t heads = p.system.heads, head = task % heads, row = task / heads;
    const bool is_packed = p.shape.cu_seqlens != nullptr;
    const int64_t batch = is_packed ? 0 : row, begin = is_packed ? p.shape.cu_seqlens[row] : 0;
    const int64_t end = is_packed ? p.shape.cu_seqlens[row + 1] : p.shape.length;
    if (p.system.type == DataType::float64)
        run_sequence(p, static_cast<const double*>(steps) + head * dense_step_size<double>(p.system.states),
                     static_cast<double*>(scratch), head, row, batch, begin, end);
    else
        run_sequence(p, static_cast<const float*>(steps) + head * dense_step_size<float>(p.system.states),
                     static_cast<float*>(scratch), head, row, batch, begin, end);
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(run_dense);

struct DenseSsmPlan {
    int64_t step_bytes, area_bytes, areas; // of a head; of a task
    explicit DenseSsmPlan(const DenseSsmParams& p) {
        const int64_t states = p.system.states;
        const bool is_double = p.system.type == DataType::float64;
        step_bytes = is_double ? dense_step_size<double>(states) * 8 : dense_step_size<float>(states) * 4;
        const int64_t scratch = 3 * (is_double ? state_width<double>(states) * 8 : state_width<float>(states) * 4);
        area_bytes = std::max(scratch, DenseStepMemory::bytes(states));
        areas = std::min<int64_t>(p.system.heads * std::max<int64_t>(1, p.shape.state_rows()), usable_threads());
    }
    int64_t steps_bytes(const DenseSsmParams& p) const { return p.system.heads * step_bytes; }
    Areas scratch(const DenseSsmParams& p, char* base) const { return Areas(base + steps_bytes(p), area_bytes, areas); }
};
} // namespace

int32_t dense_ssm(BackendContext* context, const DenseSsmParams* params) {
    const DenseSsmParams& p = *params;
    const DenseSsmPlan plan(p);
    char* const base = static_cast<char*>(p.workspace.data);
    const Areas areas = plan.scratch(p, base);
    if (static_cast<uint64_t>(plan.steps_bytes(p) + areas.size()) > p.workspace.bytes)
        return fail(error_workspace_too_small, "dense_ssm: workspace too small");
    areas.clear();
    parallel_for(p.system.heads, context->threads, [&](int64_t head) {
        areas.use([&](void* area) {
            TeamMemory parts(area);
            const DenseStepMemory memory(parts, p.system.states);
            discretize_head(Alone(), p.system, head, memory.discretize, memory.a_bar, memory.b_bar);
            char* const step = base + head * plan.step_bytes;
            if (p.system.type == DataType::float64)
                store_step(memory, p.system.states, reinterpret_cast<double*>(step));
            else
                store_step(memory, p.system.states, reinterpret_cast<float*>(step));
        });
    });
    const auto run = HWY_DYNAMIC_DISPATCH(run_dense);
    parallel_for(p.system.heads * p.shape.state_rows(), context->threads,
                 [&](int64_t task) { areas.use([&](void* area) { run(p, base, area, task); }); });
    return success;
}

int32_t dense_ssm_workspace(BackendContext*, const DenseSsmParams* params, uint64_t* bytes) {
    const DenseSsmPlan plan(*params);
    *bytes = static_cast<uint64_t>(plan.steps_bytes(*params) + plan.scratch(*params, nullptr).size());
    return success;
}

} // namespace ssm::cpu
#endif
