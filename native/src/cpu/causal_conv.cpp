// The long causal convolution of each head: through transforms made for it (fft-inl.h) in overlapping segments, or, where
// kernel or block are short, sum by sum. By bytes it is one read and one write of the signal as long as a transform fits the
// second-level cache, and for longer ones a read and a write more for each of three sweeps.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/causal_conv.cpp"
#include "hwy/foreach_target.h"

#include "core/mutate.h"

#include "cpu/causal_conv-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

template <class S>
class CausalConv {
  public:
    using Lane = typename Traits<S>::Lane;

    CausalConv(const CausalConvParams& p, const CausalConvWork& work, int threads)
        : p(p), work(work), cut(work.cut), threads(threads), history(p.taps - 1), heads(p.shape.channels),
          spectra(static_cast<Lane*>(p.workspace.data)), shared(spectra + work.kept_heads * cut.length),
          own(shared + work.shared_numbers) {}

    void run() {
        if (work.direct)
            run_direct();
        else
            run_fft_heads();
        if (p.last_state)
            parallel_for(p.shape.state_rows() * heads, threads, [&](int64_t state) {
                const TransformSegment sequence = sequence_of(p.shape, state / heads);
                signal_of(sequence, state % heads)
                    .read(SSM_MUTATE("causal_conv.cpu.late_state", sequence.steps - history, sequence.steps - history + 1),
                          history, Lane{1}, static_cast<Lane*>(p.last_state) + state * history);
            });
    }

  private:
    Signal<S> signal_of(const TransformSegment& at, int64_t head) const {
        Signal<S> x;
        x.data = steps_of<S>(p.u, at.batch, head, at.begin);
        x.gate = steps_of<S>(p.pre_gate, at.batch, head, at.begin);
        if (p.initial_state)
            x.state = static_cast<const Lane*>(p.initial_state) + (at.row * heads + head) * history;
        x.history = history;
        x.high = at.steps;
        return x;
    }

    // y of steps [t, t + count) out of the sums.
    void finish(const TransformSegment& at, int64_t head, const Signal<S>& x, int64_t t, int64_t count, const Lane* sums) {
        S* const y = steps_of<S>(p.y, at.batch, head, at.begin);
        const S* const gate = steps_of<S>(p.post_gate, at.batch, head, at.begin);
        const auto d = constant<RealVector<Lane>>(p.d ? static_cast<const Lane*>(p.d)[head] : Lane{0});
        for_each_vector<Lane>(count, [&](int64_t i, int64_t left) HWY_ATTR {
            RealVector<Lane> sum = load_up_to(sums + i, left);
            if (p.d)
                sum = multiply_add(d, x.load_steps(t + i, left), sum);
            if (gate)
                sum = multiply(sum, load_up_to(gate + t + i, left));
            store_up_to(y + t + i, sum, left);
        });
    }

    void run_fft_heads() {
        const int64_t kept = work.kept_heads > 0 ? work.kept_heads : heads;
        for (int64_t first = 0; first < heads; first += kept) {
            const int64_t group = std::min(kept, heads - first);
            if (!p.spectrum)
                for_each_transform(group, [&](int64_t head, Lane* re, Lane* tiles, int inner) {
                    make_spectrum(work, Taps<Lane>(p.k, p.k_reverse, p.taps, first + head, cut), re, re + cut.points(),
                                  tiles, inner, spectra + head * cut.length);
                });
            const int64_t segments = transform_segments(p.shape, cut);
            for_each_transform(group * segments, [&](int64_t task, Lane* re, Lane* tiles, int inner) {
                const int64_t head = task / segments;
                TransformSegment segment;
                if (!find_segment(p.shape, cut, task % segments, segment))
                    return;
                const Lane* const spectrum = p.spectrum ? static_cast<const Lane*>(p.spectrum) + (first + head) * cut.length
                                                        : spectra + head * cut.length;
                run_segment(segment, first + head, spectrum, re, tiles, inner);
            });
        }
    }

    // Transforms that fit the cache run side by side, the others one by one, each by all threads.
    template <class F>
    void for_each_transform(int64_t count, const F& f) {
        if (work.has_columns()) {
            for (int64_t i = 0; i < count; ++i)
                f(i, shared, own, threads);
        } else {
            for_each_task(count, work.workers, threads, [&](int64_t worker, int64_t i) {
                f(i, own + worker * work.own_numbers, static_cast<Lane*>(nullptr), 1);
            });
        }
    }

    void run_segment(const TransformSegment& segment, int64_t head, const Lane* spectrum, Lane* re, Lane* tiles, int inner) {
        const Signal<S> x = signal_of(segment, head);
        const int64_t s = segment.from, count = std::min(cut.step, segment.steps - s);
        const int64_t past = SSM_MUTATE("causal_conv.cpu.short_history", cut.past, cut.past / 2);
        run_fft<true, true>(
            work.fft, re, re + cut.points(), tiles, inner,
            [&](int64_t p, int64_t some, Lane* to) { x.read_window(s, past, cut.length, p, some, to); },
            [&](int64_t base, Lane* chunk_re, Lane* chunk_im)
                HWY_ATTR { multiply_chunk<false>(cut.points(), base, spectrum, chunk_re, chunk_im); },
            [&](int64_t p, int64_t some, const Lane* sums) {
                if (p < count)
                    finish(segment, head, x, s + p, std::min(some, count - p), sums);
            });
    }

    void run_direct() {
        const int64_t steps = CausalConvWork::direct_steps, rows = p.shape.state_rows();
        for_each_task(rows * heads, work.workers, threads, [&](int64_t worker, int64_t task) {
            Lane *const weights = own + worker * work.own_numbers, *const in = weights + work.window_numbers();
            Lane* const sums = in + work.seen_numbers();
            const int64_t row = task % rows, head = task / rows;
            const TransformSegment sequence = sequence_of(p.shape, row);
            const Signal<S> x = signal_of(sequence, head);
            Taps<Lane>(p.k, p.k_reverse, p.taps, head, cut).line_up(false, weights);
            std::fill_n(in, work.seen_numbers(), Lane{0});
            for (int64_t t = 0; t < sequence.steps; t += steps) {
                const int64_t count = std::min(steps, sequence.steps - t);
                x.read(t - cut.past, count + cut.past + cut.future, Lane{1}, in);
                correlate(in, weights, work.window(), sums, count, false);
                finish(sequence, head, x, t, count, sums);
            }
        });
    }

    const CausalConvParams& p;
    const CausalConvWork& work;
    const TransformCut& cut;
    const int threads;
    const int64_t history; // steps of a state
    const int64_t heads;
    Lane *const spectra, *const shared, *const own;
};

void causal_conv_run(const CausalConvParams& p, const CausalConvWork& work, int threads) {
    with_storage(p.type, [&](auto type) {
        using S = typename decltype(type)::type;
        if constexpr (!Traits<S>::complex)
            CausalConv<S>(p, work, threads).run();
    });
}

template <class Lane>
void run_plan(const CausalConvPlanParams& p, const CausalConvWork& work, int threads) {
    Lane* const scratch = static_cast<Lane*>(p.workspace.data);
    const TransformCut& cut = work.cut;
    const auto run = [&](int64_t head, Lane* re, Lane* tiles, int inner) {
        make_spectrum(work, Taps<Lane>(p.k, p.k_reverse, p.taps, head, cut), re, re + cut.points(), tiles, inner,
                      static_cast<Lane*>(p.spectrum) + head * cut.length);
    };
    if (work.has_columns()) {
        for (int64_t head = 0; head < p.heads; ++head)
            run(head, scratch, scratch + work.shared_numbers, threads);
    } else {
        for_each_task(p.heads, work.workers, threads, [&](int64_t worker, int64_t head) {
            run(head, scratch + worker * work.own_numbers, static_cast<Lane*>(nullptr), 1);
        });
    }
}

void causal_conv_plan_run(const CausalConvPlanParams& p, const CausalConvWork& work, int threads) {
    if (p.type == DataType::float64)
        run_plan<double>(p, work, threads);
    else
        run_plan<float>(p, work, threads);
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ssm::cpu {
namespace {
HWY_EXPORT(causal_conv_run);
HWY_EXPORT(causal_conv_plan_run);

CausalConvWork plan(const BackendContext& context, const CausalConvParams& p) {
    const int64_t path = context.options.get("causal_conv.path");
    const TransformCut cut =
        cut_transforms(p.shape.length, p.shape.sequences, p.taps, p.k_reverse, p.initial_state,
                       p.spectrum ? p.spectrum_length : context.options.get("causal_conv.tile"), p.spectrum);
    return plan_causal_conv(cut, path, p.shape.length, p.shape.sequences, p.spectrum ? 0 : p.shape.channels, 1,
                            context.threads, size_of(state_type(p.type)));
}

// What an output sees of a head, and nothing of a signal: transforms always.
CausalConvWork plan(const BackendContext& context, const CausalConvPlanParams& p) {
    const TransformCut cut = cut_transforms(p.spectrum_length, 0, p.taps, p.k_reverse, false, p.spectrum_length, true);
    const int64_t path = context.options.get("causal_conv.path");
    return plan_causal_conv(cut, path == causal_conv_path_columns ? path : causal_conv_path_fft, p.spectrum_length, 0, 0, 1,
                            context.threads, size_of(p.type));
}

template <class Params, class Run>
int32_t run_in_workspace(BackendContext* context, const Params& p, const Run& run) {
    const CausalConvWork work = plan(*context, p);
    if (static_cast<uint64_t>(work.total_numbers() * size_of(state_type(p.type))) > p.workspace.bytes)
        return fail(error_workspace_too_small, "causal_conv: workspace too small");
    run(p, work, context->threads);
    return success;
}

} // namespace

int32_t causal_conv(BackendContext* context, const CausalConvParams* params) {
    return run_in_workspace(context, *params, HWY_DYNAMIC_DISPATCH(causal_conv_run));
}

int32_t causal_conv_workspace(BackendContext* context, const CausalConvParams* params, uint64_t* bytes) {
    *bytes = static_cast<uint64_t>(plan(*context, *params).total_numbers() * size_of(state_type(params->type)));
    return success;
}

int32_t causal_conv_plan(BackendContext* context, const CausalConvPlanParams* params) {
    return run_in_workspace(context, *params, HWY_DYNAMIC_DISPATCH(causal_conv_plan_run));
}

int32_t causal_conv_plan_workspace(BackendContext* context, const CausalConvPlanParams* params, uint64_t* bytes) {
    *bytes = static_cast<uint64_t>(plan(*context, *params).total_numbers() * size_of(params->type));
    return success;
}

} // namespace ssm::cpu
#endif
