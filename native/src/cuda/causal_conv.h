// The transforms of the long convolution, as its forward call and its gradients queue them.
#pragma once

#include "core/params/causal_conv.h"
#include "cuda/context.h"
#include "cuda/fft_library.h"
#include "cuda/primitives/fft.h"
#include "cuda/primitives/numbers.h"

namespace ssm {

// causal_conv.path and causal_conv_backward.path: 3 has transforms go through columns that shared memory would hold, 4 has
// cuFFT run them. (1, sums step by step, is the CPU's alone; 2 is the default here.) A spectrum is in the order of the path
// that made it.
constexpr int64_t convolution_path_columns = 3;
constexpr int64_t convolution_path_library = 4;

// A block's threads, and how many blocks' registers a multiprocessor holds: three blocks of float32 have the shared memory
// of an sm_90 and wait at their barriers by turns; an sm_75 has the memory of one.
constexpr int transform_threads = 256;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
template <typename R>
constexpr int transform_blocks = 2;
#else
template <typename R>
constexpr int transform_blocks = sizeof(R) == 4 ? 3 : 2;
#endif

// What is transformed, and what becomes of it: the steps of `source` times its gate, convolved with the kernels (adjoint:
// with the kernels turned round in time). To the sums come d times the source and the tail; the targets get them times their
// gates. A gradient is this as well as an output: y has x for its source, grad_x has post_gate grad_y.
struct Convolution {
    SequenceShape shape;
    TransformCut cut;
    int64_t taps;
    bool adjoint;
    bool alone;  // a segment's window holds zeros on both sides of it
    bool before; // segments are of the steps before the sequences, from `before_target` on, which have no source
    Sequence source, source_gate;
    const void* state; // steps before the source, (R,H,K-1)
    Sequence target, target_gate, other_target, other_gate;
    const void* d;       // (H)
    const void* tail;    // added to the last K-1 steps, (R,H,K-1)
    void* before_target; // (R,H,K-1)
    // Transforms of a launch: `numbers` segments from first_number on of each of `heads` heads from first_head on.
    int64_t first_head, heads, first_number, numbers;

    // Segments of a head.
    int64_t segments() const {
        return before ? shape.state_rows() * ((taps - 1 + cut.step - 1) / cut.step) : transform_segments(shape, cut);
    }
};

// How transforms lie: N = rows * row_length points, and tiles of columns where there is more than one row. cuFFT knows one
// row, whose points are turned by exp(i pi p / 2N) on the way in and back on the way out: what wraps round is to change its
// sign.
struct FftShape {
    int64_t points, rows, row_length, columns;
    bool by_library;
    void* work; // cuFFT's

    // A block takes a transform from the steps to the steps.
    bool is_fused() const { return rows == 1 && !by_library; }
};
template <typename R>
FftShape fft_shape(const TransformCut& cut, int64_t path) {
    constexpr int64_t small_row = 256;
    FftShape fft{};
    fft.points = cut.points();
    fft.by_library = path == convolution_path_library;
    const int64_t most = fft.by_library ? fft.points : path == convolution_path_columns ? small_row : fft_points<R>;
    fft.row_length = fft.points < most ? fft.points : most;
    fft.rows = fft.points / fft.row_length;
    fft.columns = fft_points<R> / fft.rows;
    fft.columns = fft.columns < fft.row_length ? fft.columns : fft.row_length;
    return fft;
}

// What goes through all rows of transforms in memory, in place.
enum class RowsMode : int32_t {
    spectrum, // there, divided by the points
    product,  // there, times the spectrum or its conjugate, and back
    gather,   // `points` and `others` there; sums += others conj(points), transform by transform
    finish    // back, divided by the points
};
template <typename R>
struct Rows {
    FftShape fft;
    RowsMode mode;
    bool conjugated;
    bool is_first; // of the sums
    int64_t heads, numbers;
    Complex<R>* points;
    Complex<R>* others;
    Complex<R>* sums;           // of each head
    const Complex<R>* spectrum; // of each head
};

// Kernels of heads in memory: read as polynomials, or their gradients written.
struct Kernels {
    const void* k;
    const void* k_reverse;
    void* grad_k;
    void* grad_k_reverse;
};

// Each queues one launch. T: storage type of the source; kernels and points have its compute type.
template <typename T>
cudaError_t launch_convolution(BackendContext* context, const Convolution& convolution, const Complex<Compute<T>>* spectrum);
template <typename T>
cudaError_t launch_columns(BackendContext* context, const FftShape& fft, const Convolution& convolution,
                           const Kernels* kernels, bool forward, Complex<Compute<T>>* points);
template <typename R>
cudaError_t launch_rows(BackendContext* context, const Rows<R>& rows);

// The spectra of the heads of a launch, into `spectra`.
template <typename R>
cudaError_t make_spectra(BackendContext* context, const FftShape& fft, const Convolution& heads, const Kernels& kernels,
                         Complex<R>* spectra) {
    cudaError_t error = launch_columns<R>(context, fft, heads, &kernels, true, spectra);
    if (error != cudaSuccess) {
        return error;
    }
    Rows<R> rows{};
    rows.fft = fft;
    rows.mode = RowsMode::spectrum;
    rows.heads = heads.heads;
    rows.numbers = 1;
    rows.points = spectra;
    return launch_rows(context, rows);
}

// All segments of the heads of `convolution`, whose spectra these are. Transforms with columns go through `points`, which
// holds `at_once` for each head.
template <typename T>
cudaError_t convolve(BackendContext* context, const FftShape& fft, Convolution convolution,
                     const Complex<Compute<T>>* spectra, Complex<Compute<T>>* points, int64_t at_once) {
    using R = Compute<T>;
    const int64_t segments = convolution.segments();
    if (fft.is_fused()) {
        convolution.first_number = 0;
        convolution.numbers = segments;
        return segments > 0 ? launch_convolution<T>(context, convolution, spectra) : cudaSuccess;
    }
    for (int64_t first = 0; first < segments; first += at_once) {
        convolution.first_number = first;
        convolution.numbers = segments - first < at_once ? segments - first : at_once;
        Rows<R> rows{};
        rows.fft = fft;
        rows.mode = RowsMode::product;
        rows.conjugated = convolution.adjoint;
        rows.heads = convolution.heads;
        rows.numbers = convolution.numbers;
        rows.points = points;
        rows.spectrum = spectra;
        cudaError_t error = launch_columns<T>(context, fft, convolution, nullptr, true, points);
        if (error == cudaSuccess) {
            error = launch_rows(context, rows);
        }
        if (error == cudaSuccess) {
            error = launch_columns<T>(context, fft, convolution, nullptr, false, points);
        }
        if (error != cudaSuccess) {
            return error;
        }
    }
    return cudaSuccess;
}

// How many heads are worked on at once, and how many of their segments, so that a buffer of their points stays below a
// quarter of a gigabyte.
struct ConvolutionGroups {
    int64_t heads, numbers;
};
template <typename R>
ConvolutionGroups group_convolution(const FftShape& fft, int64_t heads, int64_t segments) {
    const int64_t most = (int64_t{1} << 28) / (fft.points * static_cast<int64_t>(sizeof(Complex<R>)));
    ConvolutionGroups groups{};
    groups.heads = heads < most ? heads : most > 0 ? most : 1;
    const int64_t numbers = most / groups.heads;
    groups.numbers = numbers < 1 ? 1 : numbers < segments ? numbers : segments;
    return groups;
}

// Bytes that transforms in such groups take besides their points. Leaves a sentence where the device cannot do them.
template <typename R>
int32_t convolution_bytes(BackendContext* context, const FftShape& fft, const ConvolutionGroups& groups, uint64_t* bytes) {
    *bytes = 0;
    if (fft.by_library) {
        return fft_library_bytes<R>(context, fft.points, groups.heads * groups.numbers, bytes);
    }
    return fft.rows <= fft_points<R>
               ? int32_t{success}
               : fail(error_unsupported, "causal_conv: a transform of 2^25 numbers is the longest of this type");
}

} // namespace ssm
