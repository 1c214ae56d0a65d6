// The kernel of diagonal plus low-rank systems. Where c is not c_tilde, that is made first, a head at a time in double. A
// task is then a part of the frequencies of a head: vectors of frequencies (cpu/dplr_kernel-inl.h), sums over the states in
// registers. At last two heads go through one complex transform. Operations for a state and frequency: a quotient and
// 8 (1 + R)^2 for both signs of the frequency.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/dplr_kernel.cpp"
#include "hwy/foreach_target.h"

#include "cpu/dplr_kernel-inl.h"

#include "core/params/dplr_kernel.h"

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

// F without its factor exp(i theta/2).
template <class Lane, int Rank>
HWY_INLINE ComplexVector<Lane> generating(const DplrSums<Lane, Rank>& sums, Vec<Lane> cosine) {
    const auto solved = solve_low_rank(sums, cosine);
    auto low = constant<ComplexVector<Lane>>(0);
    for (int r = 0; r < Rank; ++r)
        low = multiply_add(sums.at[0][1 + r], solved.y[r], low);
    return subtract(sums.at[0][0],
                    scaled(SSM_MUTATE("dplr_kernel.cpu.no_cosine", cosine, hn::Set(Tag<Lane>(), Lane{1})), low));
}

template <class Lane, int Rank>
HWY_NOINLINE void run_part(const DplrSystem& system, const DplrKernelMemory& memory, const DplrNumbers<Lane>& numbers,
                           int64_t head, int64_t part) {
    using X = ComplexVector<Lane>;
    const Tag<Lane> d;
    constexpr int64_t n = lanes_of<Lane>();
    const DplrHead own = dplr_head(system, head);
    fill_numbers(own, memory.c_of(system, head), numbers);
    const auto q = hn::Set(d, static_cast<Lane>(own.q));
    const int64_t last = std::min(memory.frequencies, (part + 1) * dplr_part);
    ComplexDouble* const spectrum = memory.spectra + head * memory.frequencies;
    for (int64_t j = part * dplr_part; j < last; j += n) {
        const auto sine = hn::Load(d, reinterpret_cast<const Lane*>(memory.sines) + j);
        const auto cosine = hn::Load(d, reinterpret_cast<const Lane*>(memory.cosines) + j);
        const auto turn = hn::Mul(q, sine);
        DplrSums<Lane, Rank> sums, opposite;
        sum_states<Lane, Rank>(numbers, own.states, turn, cosine, sums);
        sum_states<Lane, Rank>(numbers, own.states, hn::Neg(turn), cosine, opposite);
        X value;
        if (own.conjugate_pairs) {
            add_conjugates(sums, opposite);
            value = generating(sums, cosine);
        } else { // the real part of the kernel has the Hermitian part of the spectrum
            value = scaled(hn::Set(d, Lane(0.5)), add(generating(sums, cosine), conjugate(generating(opposite, cosine))));
        }
        value = multiply(X{cosine, SSM_MUTATE("dplr_kernel.cpu.no_phase", sine, hn::Zero(d))}, value);
        alignas(64) Lane re[lanes_of<Lane>()], im[lanes_of<Lane>()];
        hn::Store(value.re, d, re);
        hn::Store(value.im, d, im);
        for (int64_t k = 0; k < std::min(n, last - j); ++k)
            spectrum[j + k] = {re[k], im[k]};
    }
}

template <class Lane>
void run_part(const DplrSystem& system, const DplrKernelMemory& memory, void* area, int64_t head, int64_t part) {
    TeamMemory parts(area);
    const DplrNumbers<Lane> numbers(parts, system.states, system.rank);
    const auto run = system.rank == 1   ? run_part<Lane, 1>
                     : system.rank == 2 ? run_part<Lane, 2>
                     : system.rank == 3 ? run_part<Lane, 3>
                                        : run_part<Lane, 4>;
    run(system, memory, numbers, head, part);
}

void dplr_spectrum(const DplrSystem& system, const DplrKernelMemory& memory, void* area, int64_t head, int64_t part) {
    if (system.type == DataType::float64)
        run_part<double>(system, memory, area, head, part);
    else
        run_part<float>(system, memory, area, head, part);
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(dplr_spectrum);

// A task's memory: for the conversion of c, the sums or a transform.
int64_t area_bytes(const DplrKernelParams& p) {
    TeamMemory sums(nullptr), tilde(nullptr), transform(nullptr);
    if (p.system.type == DataType::float64)
        DplrNumbers<double>(sums, p.system.states, p.system.rank);
    else
        DplrNumbers<float>(sums, p.system.states, p.system.rank);
    if (!p.c_is_tilde)
        DplrTildeMemory(tilde, p.system.states, static_cast<int>(p.system.rank));
    TransformMemory(transform, TransformPlan(p.length));
    return std::max({sums.bytes(), tilde.bytes(), transform.bytes()});
}

Areas areas_of(const DplrKernelParams& p, const DplrKernelMemory& memory, int64_t used, char* base) {
    return Areas(base + used, area_bytes(p), std::min<int64_t>(p.system.heads * memory.parts(), usable_threads()));
}

} // namespace

int32_t dplr_kernel(BackendContext* context, const DplrKernelParams* params) {
    const DplrKernelParams& p = *params;
    const DplrSystem& system = p.system;
    TeamMemory workspace(p.workspace.data);
    const DplrKernelMemory memory(workspace, system, p.length, p.c_is_tilde);
    const Areas areas = areas_of(p, memory, workspace.bytes(), static_cast<char*>(p.workspace.data));
    if (static_cast<uint64_t>(workspace.bytes() + areas.size()) > p.workspace.bytes)
        return fail(error_workspace_too_small, "dplr_kernel: workspace too small");
    areas.clear();
    const bool is_double = system.type == DataType::float64;
    const auto in_area = [&](int64_t count, const auto& task) {
        parallel_for(count, context->threads, [&](int64_t i) { areas.use([&](void* area) { task(i, area); }); });
    };
    fill_angles(memory, system.type);
    in_area(1, [&](int64_t, void* area) {
        TeamMemory parts(area);
        fill_tables(Alone(), memory.transform, memory.tables, TransformMemory(parts, memory.transform));
    });
    if (memory.tilde)
        in_area(system.heads, [&](int64_t head, void* area) {
            TeamMemory parts(area);
            const DplrTildeMemory tilde(parts, system.states, static_cast<int>(system.rank));
            char* const to = memory.tilde + 2 * head * system.states * size_of(system.type);
            dplr_to_tilde(Alone(), dplr_head(system, head), dplr_c(system, head),
                          SSM_MUTATE("dplr_kernel.cpu.wrong_power", p.length, p.length - 1), tilde,
                          [&](int64_t n, ComplexDouble value) { store_complex(to, is_double, n, value); });
        });
    const auto spectrum = HWY_DYNAMIC_DISPATCH(dplr_spectrum);
    in_area(system.heads * memory.parts(),
            [&](int64_t task, void* area) { spectrum(system, memory, area, task / memory.parts(), task % memory.parts()); });
    in_area((system.heads + 1) / 2, [&](int64_t pair, void* area) {
        TeamMemory parts(area);
        const ComplexDouble* const first = memory.spectra + 2 * pair * memory.frequencies;
        rows_of_spectra(Alone(), memory.transform, memory.tables, TransformMemory(parts, memory.transform), first,
                        2 * pair + 1 < system.heads ? first + memory.frequencies : nullptr,
                        [&](int64_t which, int64_t l, double value) {
                            store_real(p.k, is_double, (2 * pair + which) * p.length + l, value);
                        });
    });
    return success;
}

int32_t dplr_kernel_workspace(BackendContext*, const DplrKernelParams* params, uint64_t* bytes) {
    TeamMemory workspace(nullptr);
    const DplrKernelMemory memory(workspace, params->system, params->length, params->c_is_tilde);
    *bytes = static_cast<uint64_t>(workspace.bytes() + areas_of(*params, memory, 0, nullptr).size());
    return success;
}

} // namespace ssm::cpu
#endif
