// The gradients of the long causal convolution, head by head: with X, G and K the transforms of x, of post_gate grad_y and
// of the kernels, grad_x comes from G conj(K), the sum before post_gate from X K, and the kernels' gradients from the sum of
// conj(X) G over all rows and segments, which is transformed back once.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/causal_conv_backward.cpp"
#include "hwy/foreach_target.h"

#include "core/mutate.h"

#include "cpu/causal_conv-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ssm::cpu::HWY_NAMESPACE {
namespace {

// One head.
template <class S>
class CausalConvBackward {
  public:
    using Lane = typename Traits<S>::Lane;
    using V = RealVector<Lane>;

    // re: scratch for all buffers; tiles and inner: as run_fft wants them.
    CausalConvBackward(const CausalConvBackwardParams& p, const CausalConvWork& work, int64_t head, Lane* scratch,
                       Lane* tiles, int inner)
        : p(p), work(work), cut(work.cut), head(head), heads(p.shape.channels), history(p.taps - 1),
          taps(p.k, p.k_reverse, p.taps, head, cut), wants_x(p.grad_u.data || p.grad_pre_gate.data || p.grad_initial_state),
          wants_taps(p.grad_k || p.grad_k_reverse), wants_sum(p.post_gate.data && p.grad_post_gate.data), scratch(scratch),
          tiles(tiles), inner(inner) {}

    void run() {
        if (p.grad_d)
            sum_products();
        if (!wants_x && !wants_taps && !wants_sum)
            return;
        if (work.direct)
            run_direct();
        else
            run_transforms();
    }

  private:
    // ---- What is read

    const Lane* state_row(const void* states, int64_t row) const {
        return states ? static_cast<const Lane*>(states) + (row * heads + head) * history : nullptr;
    }
    Signal<S> x_of(const TransformSegment& at) const {
        Signal<S> x;
        x.data = steps_of<S>(p.u, at.batch, head, at.begin);
        x.gate = steps_of<S>(p.pre_gate, at.batch, head, at.begin);
        x.state = state_row(p.initial_state, at.row);
        x.history = history;
        x.high = at.steps;
        return x;
    }
    Signal<S> g_of(const TransformSegment& at) const {
        Signal<S> g;
        g.data = steps_of<S>(p.grad_y, at.batch, head, at.begin);
        g.gate = steps_of<S>(p.post_gate, at.batch, head, at.begin);
        g.high = at.steps;
        return g;
    }
    V d() const { return constant<V>(p.d ? static_cast<const Lane*>(p.d)[head] : Lane{0}); }

    template <class F>
    void for_each_sequence(const F& f) const {
        for (int64_t row = 0; row < p.shape.state_rows(); ++row)
            f(sequence_of(p.shape, row));
    }
    // The first step that has a gradient: those of the state come before the sequence.
    int64_t first_step() const { return p.grad_initial_state ? -history : 0; }

    // ---- What is written

    // grad_d: sums of blocks in the compute type, of all blocks in double.
    void sum_products() const {
        double total = 0;
        for_each_sequence([&](const TransformSegment& at) {
            const Signal<S> x = x_of(at), g = g_of(at);
            for (int64_t t = 0; t < at.steps; t += CausalConvWork::direct_steps) {
                V sum = constant<V>(0);
                for_each_vector<Lane>(std::min(CausalConvWork::direct_steps, at.steps - t),
                                      [&](int64_t i, int64_t left) HWY_ATTR {
                                          sum = multiply_add(x.load_steps(t + i, left), g.load_steps(t + i, left), sum);
                                      });
                total += static_cast<double>(lane<Lane>(sum_of_lanes(sum), 0));
            }
        });
        static_cast<Lane*>(p.grad_d)[head] = static_cast<Lane>(total);
    }

    // grad_post_gate of steps [t, t + count) out of the sums.
    void finish_sum(const TransformSegment& at, const Signal<S>& x, int64_t t, int64_t count, const Lane* sums) const {
        const S* const grad_y = steps_of<S>(p.grad_y, at.batch, head, at.begin);
        S* const to = steps_of<S>(p.grad_post_gate, at.batch, head, at.begin);
        const V own_d = d();
        for_each_vector<Lane>(count, [&](int64_t i, int64_t left) HWY_ATTR {
            V sum = load_up_to(sums + i, left);
            if (p.d)
                sum = multiply_add(own_d, x.load_steps(t + i, left), sum);
            store_up_to(to + t + i, multiply(sum, load_up_to(grad_y + t + i, left)), left);
        });
    }

    // grad_u and grad_pre_gate, or grad_initial_state, of steps [t, t + count) out of sign times the sums.
    void finish_x(const TransformSegment& at, const Signal<S>& g, int64_t t, int64_t count, Lane sign,
                  const Lane* sums) const {
        const Lane* const last = state_row(p.grad_last_state, at.row);
        const int64_t moved = history - at.steps; // the place of step t in the last state is t + moved
        if (t < 0 && count > 0) {
            const int64_t some = std::min(count, -t);
            Lane* const to = static_cast<Lane*>(p.grad_initial_state) + (at.row * heads + head) * history + history + t;
            for (int64_t i = 0; i < some; ++i)
                to[i] = sign * sums[i] + (last && t + i + moved >= 0 ? last[t + i + moved] : Lane{0});
            t += some;
            sums += some;
            count -= some;
        }
        if (count <= 0 || !(p.grad_u.data || p.grad_pre_gate.data))
            return;
        const S* const u = steps_of<S>(p.u, at.batch, head, at.begin);
        const S* const gate = steps_of<S>(p.pre_gate, at.batch, head, at.begin);
        S* const grad_u = steps_of<S>(p.grad_u, at.batch, head, at.begin);
        S* const grad_gate = steps_of<S>(p.grad_pre_gate, at.batch, head, at.begin);
        const V own_d = d(), signs = constant<V>(sign);
        const auto some_steps = [&](int64_t from, int64_t end, bool has_last) HWY_ATTR {
            for_each_vector<Lane>(end - from, [&](int64_t i, int64_t left) HWY_ATTR {
                const int64_t step = from + i;
                V sum = multiply(signs, load_up_to(sums + (step - t), left));
                if (p.d)
                    sum = multiply_add(own_d, g.load_steps(step, left), sum);
                if (has_last)
                    sum = add(sum, load_up_to(last + step + moved, left));
                if (grad_gate)
                    store_up_to(grad_gate + step, multiply(sum, load_up_to(u + step, left)), left);
                if (grad_u)
                    store_up_to(grad_u + step, gate ? multiply(sum, load_up_to(gate + step, left)) : sum, left);
            });
        };
        const int64_t border = last ? std::clamp<int64_t>(-moved, t, t + count) : t + count;
        some_steps(t, border, false);
        some_steps(border, t + count, true);
    }

    // Gradients of the taps out of what meets them: from(i) is that of the tap i steps back, or -1 - i steps ahead.
    template <class From>
    void finish_taps(const From& from) const {
        if (Lane* const to = static_cast<Lane*>(p.grad_k))
            for (int64_t i = 0; i < p.taps; ++i)
                to[head * p.taps + i] = i <= cut.past ? from(i) : Lane{0};
        if (Lane* const to = static_cast<Lane*>(p.grad_k_reverse))
            for (int64_t i = 0; i < p.taps; ++i)
                to[head * p.taps + i] = i < cut.future ? from(-1 - i) : Lane{0};
    }

    // ---- Transforms

    void run_transforms() {
        const int64_t points = cut.points(), length = cut.length;
        Lane *const re = scratch, *const im = re + points, *const kept = re + length, *const sums = kept + length,
                    *const spectrum = sums + length;
        if (wants_x || wants_sum)
            make_spectrum(work, taps, re, im, tiles, inner, spectrum);
        if (wants_taps)
            std::fill_n(sums, length, Lane{0});
        for_each_sequence([&](const TransformSegment& at) {
            const Signal<S> x = x_of(at), g = g_of(at);
            for (int64_t s = 0; s < at.steps; s += cut.step) {
                const int64_t count = std::min(cut.step, at.steps - s);
                if (wants_taps || wants_sum)
                    run_x(at, x, s, count, re, im, kept, spectrum);
                if (wants_taps || (wants_x && cut.is_whole))
                    run_g(at, g, s, count, re, im, kept, sums, spectrum);
            }
            if (wants_x && !cut.is_whole) {
                for (int64_t s = first_step(); s < at.steps; s += cut.step)
                    run_overlapping_g(at, g, s, std::min(cut.step, at.steps - s), re, im, spectrum);
            } else if (wants_x && at.steps == 0 && history > 0 && p.grad_initial_state) {
                // No step is between the states.
                std::fill_n(re, std::min(history, length), Lane{0});
                for (int64_t t = -history; t < 0; t += length)
                    finish_x(at, g, t, std::min(length, -t), Lane{1}, re);
            }
        });
        if (!wants_taps)
            return;
        run_fft<false, true>(
            work.fft, re, im, tiles, inner, [](int64_t, int64_t, Lane*) {},
            [&](int64_t base, Lane* chunk_re, Lane* chunk_im) HWY_ATTR {
                const auto scale = constant<V>(Lane{1} / static_cast<Lane>(points));
                for (int64_t i = 0; i < Chunk<Lane>::points; i += lanes_of<Lane>()) {
                    store(chunk_re + i, multiply(scale, load(sums + base + i)));
                    store(chunk_im + i, multiply(scale, load(sums + points + base + i)));
                }
            },
            [&](int64_t place, int64_t count, const Lane* from) { std::copy_n(from, count, kept + place); });
        finish_taps([&](int64_t lag) { return lag >= 0 ? kept[lag] : -kept[length + lag]; });
    }

    // X of a segment is kept; the sum before post_gate goes on.
    void run_x(const TransformSegment& at, const Signal<S>& x, int64_t s, int64_t count, Lane* re, Lane* im, Lane* kept,
               const Lane* spectrum) {
        const int64_t points = cut.points();
        const auto fill = [&](int64_t place, int64_t some, Lane* to) {
            x.read_window(s, cut.past, cut.length, place, some, to);
        };
        const auto keep = [&](int64_t base, const Lane* chunk_re, const Lane* chunk_im) {
            std::copy_n(chunk_re, Chunk<Lane>::points, kept + base);
            std::copy_n(chunk_im, Chunk<Lane>::points, kept + points + base);
        };
        if (!wants_sum) {
            run_fft<true, false>(work.fft, re, im, tiles, inner, fill, keep, [](int64_t, int64_t, const Lane*) {});
            return;
        }
        run_fft<true, true>(
            work.fft, re, im, tiles, inner, fill,
            [&](int64_t base, Lane* chunk_re, Lane* chunk_im) HWY_ATTR {
                keep(base, chunk_re, chunk_im);
                multiply_chunk<false>(points, base, spectrum, chunk_re, chunk_im);
            },
            [&](int64_t place, int64_t some, const Lane* from) {
                if (place < count)
                    finish_sum(at, x, s + place, std::min(some, count - place), from);
            });
    }

    // G of a segment, with zeros around it, meets the kept X; where the segment is the whole sequence, grad_x goes on.
    void run_g(const TransformSegment& at, const Signal<S>& whole, int64_t s, int64_t count, Lane* re, Lane* im,
               const Lane* kept, Lane* sums, const Lane* spectrum) {
        const int64_t points = cut.points();
        Signal<S> g = whole;
        g.low = s;
        g.high = s + count;
        const auto fill = [&](int64_t place, int64_t some, Lane* to) { g.read(s + place, some, Lane{1}, to); };
        const auto gather = [&](int64_t base, const Lane* chunk_re, const Lane* chunk_im) HWY_ATTR {
            if (!wants_taps)
                return;
            for (int64_t i = 0; i < Chunk<Lane>::points; i += lanes_of<Lane>()) {
                Lane *const sum_re = sums + base + i, *const sum_im = sums + points + base + i;
                const Point<Lane> product = multiply_conjugate(load_point(chunk_re + i, chunk_im + i),
                                                               load_point(kept + base + i, kept + points + base + i));
                store_point(
                    SSM_MUTATE("causal_conv_backward.cpu.last_row_alone", add(load_point(sum_re, sum_im), product), product),
                    sum_re, sum_im);
            }
        };
        if (!(wants_x && cut.is_whole)) {
            run_fft<true, false>(work.fft, re, im, tiles, inner, fill, gather, [](int64_t, int64_t, const Lane*) {});
            return;
        }
        const int64_t before = -first_step();
        run_fft<true, true>(
            work.fft, re, im, tiles, inner, fill,
            [&](int64_t base, Lane* chunk_re, Lane* chunk_im) HWY_ATTR {
                gather(base, chunk_re, chunk_im);
                multiply_chunk<true>(points, base, spectrum, chunk_re, chunk_im);
            },
            [&](int64_t place, int64_t some, const Lane* from) {
                if (place < count)
                    finish_x(at, g, place, std::min(some, count - place), Lane{1}, from);
                const int64_t start = std::max(place, cut.length - before);
                if (start < place + some)
                    finish_x(at, g, start - cut.length, place + some - start,
                             SSM_MUTATE("causal_conv_backward.cpu.state_sign", Lane{-1}, Lane{1}), from + (start - place));
            });
    }

    // grad_x of steps from s on: what an output sees of earlier steps, its gradient sees of later ones.
    void run_overlapping_g(const TransformSegment& at, const Signal<S>& g, int64_t s, int64_t count, Lane* re, Lane* im,
                           const Lane* spectrum) {
        const int64_t before = SSM_MUTATE("causal_conv_backward.cpu.swapped_reach", cut.future, cut.past);
        run_fft<true, true>(
            work.fft, re, im, tiles, inner,
            [&](int64_t place, int64_t some, Lane* to) { g.read_window(s, before, cut.length, place, some, to); },
            [&](int64_t base, Lane* chunk_re, Lane* chunk_im)
                HWY_ATTR { multiply_chunk<true>(cut.points(), base, spectrum, chunk_re, chunk_im); },
            [&](int64_t place, int64_t some, const Lane* from) {
                if (place < count)
                    finish_x(at, g, s + place, std::min(some, count - place), Lane{1}, from);
            });
    }

    // ---- Sums

    void run_direct() {
        const int64_t window = work.window(), steps = CausalConvWork::direct_steps;
        Lane *const weights = scratch, *const sums = weights + work.window_numbers(),
                    *const in = sums + work.window_numbers(), *const other = in + work.seen_numbers(),
                    *const out = other + CausalConvWork::block_numbers;
        std::fill_n(sums, work.window_numbers(), Lane{0});
        std::fill_n(in, work.seen_numbers(), Lane{0});
        for_each_sequence([&](const TransformSegment& at) {
            const Signal<S> x = x_of(at), g = g_of(at);
            for (int64_t t = 0; t < at.steps && (wants_taps || wants_sum); t += steps) {
                const int64_t count = std::min(steps, at.steps - t);
                x.read(t - cut.past, count + cut.past + cut.future, Lane{1}, in);
                if (wants_sum) {
                    taps.line_up(false, weights);
                    correlate(in, weights, window, out, count, false);
                    finish_sum(at, x, t, count, out);
                }
                if (wants_taps) {
                    g.read(t, count, Lane{1}, other);
                    correlate(in, other, count, sums, window, true);
                }
            }
            if (!wants_x)
                return;
            taps.line_up(true, weights);
            for (int64_t t = first_step(); t < at.steps; t += steps) {
                const int64_t count = std::min(steps, at.steps - t);
                g.read(t - cut.future, count + cut.past + cut.future, Lane{1}, in);
                correlate(in, weights, window, out, count, false);
                finish_x(at, g, t, count, Lane{1}, out);
            }
        });
        if (wants_taps)
            finish_taps([&](int64_t lag) { return sums[cut.past - lag]; });
    }

    const CausalConvBackwardParams& p;
    const CausalConvWork& work;
    const TransformCut& cut;
    const int64_t head, heads;
    const int64_t history; // steps of a state
    const Taps<Lane> taps;
    const bool wants_x, wants_taps, wants_sum;
    Lane *const scratch, *const tiles;
    const int inner;
};

template <class S>
void run_heads(const CausalConvBackwardParams& p, const CausalConvWork& work, int threads) {
    using Lane = typename Traits<S>::Lane;
    Lane* const base = static_cast<Lane*>(p.workspace.data);
    if (!work.direct && work.has_columns()) {
        for (int64_t head = 0; head < p.shape.channels; ++head)
            CausalConvBackward<S>(p, work, head, base, base + work.shared_numbers, threads).run();
        return;
    }
    for_each_task(p.shape.channels, work.workers, threads, [&](int64_t worker, int64_t head) {
        CausalConvBackward<S>(p, work, head, base + worker * work.own_numbers, nullptr, 1).run();
    });
}

void causal_conv_backward_run(const CausalConvBackwardParams& p, const CausalConvWork& work, int threads) {
    with_storage(p.type, [&](auto type) {
        using S = typename decltype(type)::type;
        if constexpr (!Traits<S>::complex)
            run_heads<S>(p, work, threads);
    });
}

} // namespace
} // namespace ssm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ssm::cpu {
namespace {
HWY_EXPORT(causal_conv_backward_run);

CausalConvWork plan(const BackendContext& context, const CausalConvBackwardParams& p) {
    const TransformCut cut =
        cut_transforms(p.shape.length, p.shape.sequences, p.taps, p.k_reverse, p.initial_state || p.grad_initial_state,
                       context.options.get("causal_conv_backward.tile"), false);
    constexpr int64_t buffers = 4; // a transform, the kept one, the sums, the spectrum
    return plan_causal_conv(cut, context.options.get("causal_conv_backward.path"), p.shape.length, p.shape.sequences, 0,
                            buffers, context.threads, size_of(state_type(p.type)));
}

} // namespace

int32_t causal_conv_backward(BackendContext* context, const CausalConvBackwardParams* params) {
    const CausalConvWork work = plan(*context, *params);
    if (static_cast<uint64_t>(work.total_numbers() * size_of(state_type(params->type))) > params->workspace.bytes)
        return fail(error_workspace_too_small, "causal_conv_backward: workspace too small");
    HWY_DYNAMIC_DISPATCH(causal_conv_backward_run)(*params, work, context->threads);
    return success;
}

int32_t causal_conv_backward_workspace(BackendContext* context, const CausalConvBackwardParams* params, uint64_t* bytes) {
    *bytes = static_cast<uint64_t>(plan(*context, *params).total_numbers() * size_of(state_type(params->type)));
    return success;
}

} // namespace ssm::cpu
#endif
