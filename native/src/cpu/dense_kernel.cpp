// The kernel of dense systems. A task is a head; everything is done in double by core/dense_algebra.h: the discretisation,
// powers by squaring, and N operations for an element of the kernel.
#include "core/params/dense_kernel.h"
#include "core/dense_algebra.h"
#include "core/mutate.h"
#include "cpu/context.h"
#include "cpu/ssd.h" // Areas

namespace ssm::cpu {
namespace {

struct Memory {
    DiscretizeMemory discretize;
    DenseKernelMemory kernel;
    double *a_bar, *b_bar;
    Memory(TeamMemory& memory, const DenseKernelParams& p)
        : discretize(memory, p.system.states), kernel(memory, p.system.states, p.length),
          a_bar(memory.take<double>(p.system.states * p.system.states)), b_bar(memory.take<double>(p.system.states)) {}
};

Areas areas_of(const DenseKernelParams& p) {
    TeamMemory count(nullptr);
    Memory(count, p);
    return Areas(p.workspace.data, count.bytes(), std::min<int64_t>(p.system.heads, usable_threads()));
}

void run_head(const DenseKernelParams& p, int64_t head, void* area) {
    TeamMemory parts(area);
    const Memory memory(parts, p);
    const bool is_double = p.system.type == DataType::float64;
    const int64_t n = p.system.states;
    discretize_head(Alone(), p.system, SSM_MUTATE("dense_kernel.cpu.first_head", head, 0), memory.discretize, memory.a_bar,
                    memory.b_bar);
    dense_kernel(
        Alone(), n, memory.a_bar, memory.b_bar,
        [&](int64_t i) {
            return load_real(p.system.c, is_double, SSM_MUTATE("dense_kernel.cpu.shared_c", head * n, 0) + i);
        },
        p.length, memory.kernel,
        [&](int64_t l, double value) {
            store_real(p.k, is_double, head * p.length + SSM_MUTATE("dense_kernel.cpu.reversed", l, p.length - 1 - l),
                       value);
        });
}

} // namespace

int32_t dense_kernel(BackendContext* context, const DenseKernelParams* params) {
    const DenseKernelParams& p = *params;
    const Areas areas = areas_of(p);
    if (static_cast<uint64_t>(areas.size()) > p.workspace.bytes)
        return fail(error_workspace_too_small, "dense_kernel: workspace too small");
    areas.clear();
    parallel_for(p.system.heads, context->threads,
                 [&](int64_t head) { areas.use([&](void* area) { run_head(p, head, area); }); });
    return success;
}

int32_t dense_kernel_workspace(BackendContext*, const DenseKernelParams* params, uint64_t* bytes) {
    DenseKernelParams p = *params;
    p.workspace.data = nullptr;
    *bytes = static_cast<uint64_t>(areas_of(p).size());
    return success;
}

} // namespace ssm::cpu
