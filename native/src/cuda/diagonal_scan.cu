// The decays of a diagonal system's scan and its inputs times f: what linear_recurrence goes on with.
//
// Where all steps are alike a first launch makes a decay and an f for each channel, in double precision, and a second one
// goes through the elements: 2 e bytes for each, and where time is contiguous e for each step of a channel. With intervals
// there is a discretization for each element, in the precision of the states: 3 e bytes and a few hundred operations.
#include "cuda/poles.h"

#include "core/mutate.h"
#include "core/params/diagonal_scan.h"
#include "cuda/operations.h"

namespace ssm {
namespace {

constexpr int scan_prepare_threads = 256;

template <typename R>
struct DiagonalScanArguments {
    DiagonalScanParams params;
    bool finds_coefficients;        // the first launch
    ComplexNumber<R>* coefficients; // (N,2): a_bar and f; null with intervals
};

// ---- Kernels -------------------------------------------------------------------------------------------------------------

// Numbers of any of the four types as complex ones.
template <typename R>
SSM_DEVICE ComplexNumber<R> read_number(const void* data, int64_t i, bool is_complex) {
    const R* const from = static_cast<const R*>(data) + (is_complex ? 2 * i : i);
    return {from[0], is_complex ? from[1] : R(0)};
}
template <typename R>
SSM_DEVICE void write_number(void* data, int64_t i, ComplexNumber<R> value, bool is_complex) {
    R* const to = static_cast<R*>(data) + (is_complex ? 2 * i : i);
    to[0] = value.re;
    if (is_complex) {
        to[1] = value.im;
    }
}

template <typename R>
SSM_DEVICE void find_coefficients(const DiagonalScanArguments<R>& arguments, int64_t channel, bool is_complex) {
    const DiagonalScanParams& p = arguments.params;
    const ComplexNumber<R> a = read_number<R>(p.a, channel, is_complex);
    const ComplexDouble wide = {static_cast<double>(a.re), static_cast<double>(a.im)};
    const double dt = static_cast<double>(static_cast<const R*>(p.dt)[channel]);
    const ComplexDouble a_bar = discretized_state(p.rule, wide, dt, 1.0), f = discretized_input(p.rule, wide, dt, 1.0);
    arguments.coefficients[2 * channel] = {static_cast<R>(a_bar.re), static_cast<R>(a_bar.im)};
    arguments.coefficients[2 * channel + 1] = {static_cast<R>(f.re), static_cast<R>(f.im)};
    if (p.a_bar.time_stride == 0) {
        write_number(p.a_bar.data, channel * p.a_bar.channel_stride, arguments.coefficients[2 * channel], is_complex);
    }
}

template <typename R>
__global__ void __launch_bounds__(scan_prepare_threads) diagonal_scan_kernel(DiagonalScanArguments<R> arguments) {
    const DiagonalScanParams& p = arguments.params;
    const bool is_complex = p.type == DataType::complex64 || p.type == DataType::complex128;
    const int64_t stride = static_cast<int64_t>(gridDim.x) * scan_prepare_threads;
    const int64_t begin = static_cast<int64_t>(blockIdx.x) * scan_prepare_threads + threadIdx.x;
    if (arguments.finds_coefficients) {
        for (int64_t channel = begin; channel < p.shape.channels; channel += stride) {
            find_coefficients(arguments, channel, is_complex);
        }
        return;
    }
    const int64_t channels = p.shape.channels, length = p.shape.length;
    const int64_t count = p.shape.batch * channels * length - SSM_MUTATE("diagonal_scan.cuda.off_by_one_tail", 0, 1);
    for (int64_t i = begin; i < count; i += stride) {
        // In the order of memory.
        const bool time_is_inner = p.shape.layout == Layout::time_contiguous;
        const int64_t inner = time_is_inner ? i % length : i % channels;
        const int64_t outer = time_is_inner ? i / length % channels : i / channels % length;
        const int64_t batch = i / channels / length;
        const int64_t t = time_is_inner ? inner : outer, channel = time_is_inner ? outer : inner;
        const auto place = [&](const Sequence& s) {
            return batch * s.batch_stride + channel * s.channel_stride + t * s.time_stride;
        };
        ComplexNumber<R> a_bar, f{1, 0};
        if (p.interval) {
            const R interval = static_cast<const R*>(
                p.interval)[batch * length + SSM_MUTATE("diagonal_scan.cuda.late_interval", t, t > 0 ? t - 1 : t)];
            const ComplexNumber<R> a = read_number<R>(p.a, channel, is_complex);
            const R dt = static_cast<const R*>(p.dt)[channel];
            a_bar = discretized_state(p.rule, a, dt, interval);
            if (p.scaled.data) {
                f = discretized_input(p.rule, a, dt, interval);
            }
        } else {
            a_bar = arguments.coefficients[2 * channel];
            f = arguments.coefficients[2 * channel + 1];
        }
        if (p.interval || (batch == 0 && p.a_bar.time_stride != 0)) {
            write_number(p.a_bar.data, place(p.a_bar), a_bar, is_complex);
        }
        if (p.scaled.data) {
            const ComplexNumber<R> factor = SSM_MUTATE("diagonal_scan.cuda.conjugated", f, conjugate(f));
            write_number(p.scaled.data, place(p.scaled), factor * read_number<R>(p.bu.data, place(p.bu), is_complex),
                         is_complex);
        }
    }
}

// ---- Launcher ------------------------------------------------------------------------------------------------------------

template <typename R>
uint64_t plan(const DiagonalScanParams& p, void* workspace, DiagonalScanArguments<R>& arguments) {
    arguments.params = p;
    WorkspaceParts parts(workspace);
    arguments.coefficients = p.interval ? nullptr : parts.take<ComplexNumber<R>>(2 * p.shape.channels);
    return parts.size();
}

template <typename R>
int32_t run_scan(BackendContext* context, const DiagonalScanParams& p) {
    DiagonalScanArguments<R> arguments{};
    if (plan(p, p.workspace.data, arguments) > p.workspace.bytes) {
        return fail(error_workspace_too_small, "diagonal_scan: the workspace is smaller than the workspace function says");
    }
    const auto run = [&](bool finds_coefficients, int64_t count) {
        arguments.finds_coefficients = finds_coefficients;
        return launch(diagonal_scan_kernel<R>, blocks_for((count + scan_prepare_threads - 1) / scan_prepare_threads),
                      dim3(scan_prepare_threads), 0, context->stream, arguments);
    };
    cudaError_t error = cudaSuccess;
    if (!p.interval) {
        error = run(true, p.shape.channels);
    }
    if (error == cudaSuccess) {
        error = run(false, p.shape.batch * p.shape.channels * p.shape.length);
    }
    return status_of(error, "diagonal_scan");
}

template <typename Function>
int32_t dispatch_real(DataType type, const Function& f) {
    return type == DataType::float64 || type == DataType::complex128 ? f(double{}) : f(float{});
}

} // namespace

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t diagonal_scan(BackendContext* context, const DiagonalScanParams* params) {
    return dispatch_real(params->type, [&](auto real) { return run_scan<decltype(real)>(context, *params); });
}

int32_t diagonal_scan_workspace(BackendContext*, const DiagonalScanParams* params, uint64_t* bytes) {
    return dispatch_real(params->type, [&](auto real) {
        DiagonalScanArguments<decltype(real)> arguments{};
        *bytes = plan(*params, nullptr, arguments);
        return int32_t{success};
    });
}

} // namespace ssm
