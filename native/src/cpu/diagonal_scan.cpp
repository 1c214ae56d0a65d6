// The decays of a diagonal system's scan and its inputs times f: what linear_recurrence goes on with. Where all steps are
// alike a decay and an f for each channel, computed in double precision; with intervals a discretization for each element,
// in the precision of the states. 16 bytes for an element, with intervals 24 and a few hundred operations.
#include "core/params/diagonal_scan.h"
#include "core/diagonal_system.h"
#include "core/mutate.h"
#include "cpu/context.h"
#include "cpu/thread_pool.h"

#include <algorithm>

namespace ssm::cpu {
namespace {

// Elements of a sequence as complex numbers, whatever the type.
template <class Real, bool is_complex>
ComplexNumber<Real> read(const void* data, int64_t i) {
    const Real* const from = static_cast<const Real*>(data) + (is_complex ? 2 * i : i);
    return {from[0], is_complex ? from[1] : Real{0}};
}
template <class Real, bool is_complex>
void write(void* data, int64_t i, ComplexNumber<Real> value) {
    Real* const to = static_cast<Real*>(data) + (is_complex ? 2 * i : i);
    to[0] = value.re;
    if (is_complex)
        to[1] = value.im;
}
template <class Real>
ComplexNumber<Real> narrowed(ComplexDouble x) {
    return {static_cast<Real>(x.re), static_cast<Real>(x.im)};
}
template <class Real>
ComplexDouble widened(ComplexNumber<Real> x) {
    return {static_cast<double>(x.re), static_cast<double>(x.im)};
}

// Some steps of one channel of one batch element.
template <class Real, bool is_complex>
void prepare_steps(const DiagonalScanParams& p, int64_t batch, int64_t channel, int64_t begin, int64_t end) {
    const auto place = [&](const Sequence& s, int64_t t) {
        return batch * s.batch_stride + channel * s.channel_stride + t * s.time_stride;
    };
    const ComplexNumber<Real> a = read<Real, is_complex>(p.a, channel);
    const Real dt = static_cast<const Real*>(p.dt)[channel];
    if (p.interval) {
        const Real* const interval = static_cast<const Real*>(p.interval) + batch * p.shape.length;
        for (int64_t t = begin; t < end; ++t) {
            const Real own =
                SSM_MUTATE("diagonal_scan.cpu.late_interval", interval[t], interval[std::max(t, begin + 1) - 1]);
            write<Real, is_complex>(p.a_bar.data, place(p.a_bar, t), discretized_state(p.rule, a, dt, own));
            if (p.scaled.data)
                write<Real, is_complex>(p.scaled.data, place(p.scaled, t),
                                        discretized_input(p.rule, a, dt, own) *
                                            read<Real, is_complex>(p.bu.data, place(p.bu, t)));
        }
        return;
    }
    const double step = static_cast<double>(dt);
    if (batch == 0 && (p.a_bar.time_stride || begin == 0)) {
        const auto a_bar = narrowed<Real>(discretized_state(p.rule, widened(a), step, 1.0));
        for (int64_t t = begin; t < (p.a_bar.time_stride ? end : begin + 1); ++t)
            write<Real, is_complex>(p.a_bar.data, place(p.a_bar, t), a_bar);
    }
    if (!p.scaled.data)
        return;
    const auto scale = narrowed<Real>(discretized_input(p.rule, widened(a), step, 1.0));
    const auto factor = SSM_MUTATE("diagonal_scan.cpu.conjugated", scale, conjugate(scale));
    const int64_t last = SSM_MUTATE("diagonal_scan.cpu.off_by_one_tail", end, end - 1);
    for (int64_t t = begin; t < last; ++t)
        write<Real, is_complex>(p.scaled.data, place(p.scaled, t),
                                factor * read<Real, is_complex>(p.bu.data, place(p.bu, t)));
}

// Where channels are contiguous: some steps of all channels, so that memory is gone through once.
template <class Real, bool is_complex>
void prepare(const DiagonalScanParams& p, int64_t batch, int64_t begin, int64_t end) {
    if (p.shape.layout == Layout::time_contiguous) {
        for (int64_t channel = 0; channel < p.shape.channels; ++channel)
            prepare_steps<Real, is_complex>(p, batch, channel, begin, end);
        return;
    }
    constexpr int64_t some = 32;
    for (int64_t t = begin; t < end; t += some)
        for (int64_t channel = 0; channel < p.shape.channels; ++channel)
            prepare_steps<Real, is_complex>(p, batch, channel, t, std::min(end, t + some));
}

} // namespace

int32_t diagonal_scan(BackendContext* context, const DiagonalScanParams* params) {
    constexpr int64_t elements = 32768; // of a task
    const DiagonalScanParams& p = *params;
    const int64_t steps = std::max<int64_t>(1, elements / p.shape.channels);
    const int64_t parts = (p.shape.length + steps - 1) / steps;
    const auto run = [&] {
        switch (p.type) {
        case DataType::float64:
            return prepare<double, false>;
        case DataType::complex64:
            return prepare<float, true>;
        case DataType::complex128:
            return prepare<double, true>;
        default:
            return prepare<float, false>;
        }
    }();
    parallel_for(p.shape.batch * parts, context->threads, [&](int64_t task) {
        const int64_t begin = task % parts * steps;
        run(p, task / parts, begin, std::min(p.shape.length, begin + steps));
    });
    return success;
}

int32_t diagonal_scan_workspace(BackendContext*, const DiagonalScanParams*, uint64_t* bytes) {
    *bytes = 0;
    return success;
}

} // namespace ssm::cpu
