// x_t = a_bar x_{t-1} + b_bar u_t, y_t = 2 Re(c x_t) + d u_t. Lanes are states, which stay in registers for a tile of time;
// what each step adds to y is summed lane by lane and turned at the end of the tile, so that no step adds up its lanes. 8
// operations for a state and step, 8 bytes for a step.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/diagonal_ssm.cpp"
#include "hwy/foreach_target.h"

#include "cpu/diagonal_ssm-inl.h"
#include "cpu/thread_pool.h"

#include "core/mutate.h"
#include "core/params/diagonal_ssm.h"

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

// One head of one row of states; x is room for its states.
template <class Lane>
HWY_NOINLINE void run_head(const DiagonalSsmParams& p, int64_t tile, int64_t row, int64_t head, Lane* x) {
    constexpr int64_t n = lanes_of<Lane>();
    const Tag<Lane> d;
    const int64_t padded = padded_poles(p.states), heads = p.shape.channels;
    const SystemPlanes<Lane> planes(p.workspace.data, head, padded);
    const RowSpan span = span_of_row(p.shape, row);
    const Lane* const u = static_cast<const Lane*>(p.u.data) + span.batch * p.u.batch_stride + head * p.u.channel_stride;
    Lane* const y = static_cast<Lane*>(p.y.data) + span.batch * p.y.batch_stride + head * p.y.channel_stride;
    const Lane skip = p.d ? static_cast<const Lane*>(p.d)[head] : Lane{0};
    Lane *const x_re = x, *const x_im = x + padded;
    alignas(64) Lane sums[most_tile * n];
    take_state(p.initial_state, row * heads + head, p.states, x_re, x_im);
    for (int64_t begin = 0; begin < span.length; begin += tile) {
        const int64_t count = std::min(tile, span.length - begin);
        const Lane* const own_u = u + span.begin + begin;
        for_each_block<Lane>(padded, [&](int64_t first, auto vectors) SSM_INLINE_LAMBDA {
            constexpr int Vectors = decltype(vectors)::value;
            ComplexVector<Lane> a[Vectors], b[Vectors], c[Vectors], state[Vectors];
            unrolled<Vectors>([&](auto k) SSM_INLINE_LAMBDA {
                const int64_t i = first + k * n;
                a[k] = load_parts(planes.a_re + i, planes.a_im + i);
                b[k] = load_parts(planes.b_re + i, planes.b_im + i);
                c[k] = load_parts(planes.c_re + i, planes.c_im + i);
                state[k] = load_parts(x_re + i, x_im + i);
            });
            for (int64_t t = 0; t < count; ++t) {
                const auto input = hn::Set(d, own_u[t]);
                auto sum = first > 0 ? hn::Load(d, sums + t * n) : hn::Zero(d);
                unrolled<Vectors>([&](auto k) SSM_INLINE_LAMBDA {
                    state[k] = advance(a[k], state[k], b[k], input);
                    sum = hn::MulAdd(c[k].re, state[k].re, sum);
                    sum = SSM_MUTATE("diagonal_ssm.cpu.wrong_conjugate", hn::NegMulAdd(c[k].im, state[k].im, sum),
                                     hn::MulAdd(c[k].im, state[k].im, sum));
                });
                hn::Store(sum, d, sums + t * n);
            }
            unrolled<Vectors>([&](auto k) SSM_INLINE_LAMBDA {
                const int64_t i = first + k * n;
                const auto drift = load_parts(planes.drift_re + i, planes.drift_im + i);
                store_parts(corrected(state[k], drift, count), x_re + i, x_im + i);
            });
        });
        if (SSM_MUTATE("diagonal_ssm.cpu.dropped_carry", false, true))
            std::fill_n(x, 2 * padded, Lane{0});
        store_sums(sums, count, SSM_MUTATE("diagonal_ssm.cpu.no_skip", skip, Lane{0}), own_u, y + span.begin + begin);
    }
    give_state(p.last_state, row * heads + head, p.states, x_re, x_im);
}

void diagonal_ssm_task(const DiagonalSsmParams& p, int64_t tile, int64_t row, int64_t head, void* x) {
    if (p.type == DataType::complex128)
        run_head(p, tile, row, head, static_cast<double*>(x));
    else
        run_head(p, tile, row, head, static_cast<float*>(x));
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "cpu/context.h"

namespace ssm::cpu {
namespace {
HWY_EXPORT(diagonal_ssm_task);

// Coefficients of each head, then the states of each row and head.
template <class Lane>
int64_t count_of(const DiagonalSsmParams& p) {
    const int64_t padded = padded_poles(p.states), heads = p.shape.channels;
    return SystemPlanes<Lane>::count(heads, padded) + p.shape.state_rows() * heads * 2 * padded;
}
uint64_t bytes_of(const DiagonalSsmParams& p) {
    return p.type == DataType::complex128 ? static_cast<uint64_t>(count_of<double>(p)) * sizeof(double)
                                          : static_cast<uint64_t>(count_of<float>(p)) * sizeof(float);
}

template <class Lane>
void run_all(const DiagonalSsmParams& p, int threads, int64_t tile) {
    const int64_t padded = padded_poles(p.states), heads = p.shape.channels, pairs = p.shape.state_rows() * heads;
    parallel_for(heads, threads, [&](int64_t head) { fill_system<Lane>(p, head); });
    Lane* const states = static_cast<Lane*>(p.workspace.data) + SystemPlanes<Lane>::count(heads, padded);
    // Short ones some at a time.
    const int64_t some = std::max<int64_t>(1, 65536 / std::max<int64_t>(1, padded * p.shape.length));
    const auto run = HWY_DYNAMIC_DISPATCH(diagonal_ssm_task);
    parallel_for((pairs + some - 1) / some, threads, [&](int64_t task) {
        for (int64_t pair = task * some; pair < std::min(pairs, (task + 1) * some); ++pair)
            run(p, tile, pair / heads, pair % heads, states + pair * 2 * padded);
    });
}
} // namespace

int32_t diagonal_ssm(BackendContext* context, const DiagonalSsmParams* params) {
    if (bytes_of(*params) > params->workspace.bytes)
        return fail(error_workspace_too_small, "diagonal_ssm: workspace too small");
    const int64_t tile = tile_of(context->options.get("diagonal_ssm.tile"));
    params->type == DataType::complex128 ? run_all<double>(*params, context->threads, tile)
                                         : run_all<float>(*params, context->threads, tile);
    return success;
}

int32_t diagonal_ssm_workspace(BackendContext*, const DiagonalSsmParams* params, uint64_t* bytes) {
    *bytes = bytes_of(*params);
    return success;
}

} // namespace ssm::cpu
#endif
