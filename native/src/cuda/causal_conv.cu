// The long causal convolution of each head through transforms (primitives/fft.h), in overlapping segments (TransformCut).
//
// A transform of up to 64 KiB is one block's: it reads the steps of a segment and those before it, goes to the spectrum and
// back in shared memory, eight points of a thread in registers, and writes the steps; the values are multiplied by the
// spectrum between the last level of the way there and the first of the way back. That is one read and one write of the
// signal where a sequence is one segment, and the kernel's spectrum, which the rows of a head share in the cache; 2.5 n log2
// n operations each way for n = F / 2 points. A longer transform is cut into rows: columns (a block takes a few, and all
// their rows), rows, columns, with its points in memory between them: 24 bytes read and as many written for a point in
// float32.
#include "cuda/primitives/cuda.h"

#include "core/mutate.h"
#include "cuda/causal_conv.h"
#include "cuda/primitives/launch.h"
#include "cuda/primitives/shared.h"

namespace ssm {
namespace {

// ---- Traits --------------------------------------------------------------------------------------------------------------

constexpr int64_t most_blocks = int64_t{1} << 20;

// The memory of a block as points; the launch gives the bytes.
struct alignas(16) PointStorage {
    unsigned char first[16];
};
template <typename R>
SSM_DEVICE Complex<R>* shared_points() {
    return reinterpret_cast<Complex<R>*>(&SSM_SHARED(PointStorage));
}

template <typename T>
SSM_DEVICE Compute<T> load_step(const Sequence& sequence, const TransformSegment& segment, int64_t head, int64_t t) {
    return widen(static_cast<const T*>(
        sequence.data)[segment.batch * sequence.batch_stride + head * sequence.channel_stride + segment.begin + t]);
}
template <typename T>
SSM_DEVICE void store_step(const Sequence& sequence, const TransformSegment& segment, int64_t head, int64_t t,
                           Compute<T> value) {
    static_cast<T*>(
        sequence.data)[segment.batch * sequence.batch_stride + head * sequence.channel_stride + segment.begin + t] =
        narrow<T>(value);
}

// One segment of one head.
template <typename T>
struct SegmentView {
    using R = Compute<T>;

    const Convolution& convolution;
    const TransformCut& cut;
    int64_t head;
    int64_t history; // steps of a state
    TransformSegment segment;
    int64_t count; // steps that come out
    bool exists;

    SSM_DEVICE SegmentView(const Convolution& convolution, int64_t head, int64_t number)
        : convolution(convolution), cut(convolution.cut), head(head), history(convolution.taps - 1) {
        if (convolution.before) {
            const int64_t each = (history + cut.step - 1) / cut.step;
            const int64_t row = number / each;
            const bool packed = convolution.shape.cu_seqlens != nullptr;
            segment.row = row;
            segment.batch = packed ? 0 : row;
            segment.begin = packed ? start(row) : 0;
            segment.steps = packed ? start(row + 1) - segment.begin : convolution.shape.length;
            segment.from = number % each * cut.step - history;
            exists = true;
            count = -segment.from;
        } else {
            exists = find_segment(convolution.shape, cut, number, segment);
            count = segment.steps - segment.from;
        }
        count = count < cut.step ? count : cut.step;
    }
    SSM_DEVICE int64_t start(int64_t row) const {
        const int64_t at = convolution.shape.cu_seqlens[row];
        return at < 0 ? 0 : at > convolution.shape.length ? convolution.shape.length : at;
    }
    SSM_DEVICE int64_t state_at(int64_t t) const {
        return (segment.row * convolution.shape.channels + head) * history + history + t;
    }

    // The source at step t, whatever t.
    SSM_DEVICE R source(int64_t t) const {
        if (t < 0) {
            return convolution.state && t >= -history ? static_cast<const R*>(convolution.state)[state_at(t)] : R(0);
        }
        if (t >= segment.steps) {
            return R(0);
        }
        const R value = load_step<T>(convolution.source, segment, head, t);
        return convolution.source_gate.data ? value * load_step<T>(convolution.source_gate, segment, head, t) : value;
    }
    // What a place of the transform holds; see TransformCut.
    SSM_DEVICE R window(int64_t place) const {
        if (convolution.alone) {
            return place < count ? source(segment.from + place) : R(0);
        }
        const int64_t past = convolution.adjoint
                                 ? SSM_MUTATE("causal_conv_backward.cuda.swapped_reach", cut.future, cut.past)
                                 : SSM_MUTATE("causal_conv.cuda.short_history", cut.past, cut.past / 2);
        return place < cut.length - past
                   ? source(segment.from + place)
                   : SSM_MUTATE("causal_conv.cuda.sign_of_history", R(-1), R(1)) * source(segment.from + place - cut.length);
    }
    SSM_DEVICE void store(int64_t place, R sum) const {
        if (place >= count) {
            return;
        }
        const int64_t t = segment.from + place;
        const int64_t tail = t - segment.steps; // from the end on, negative
        if (convolution.tail && tail >= -history) {
            sum += static_cast<const R*>(convolution.tail)[state_at(tail)];
        }
        if (convolution.before) {
            static_cast<R*>(convolution.before_target)[state_at(t)] = sum;
            return;
        }
        if (convolution.d) {
            sum = multiply_add(static_cast<const R*>(convolution.d)[head], source(t), sum);
        }
        store_to(convolution.target, convolution.target_gate, t, sum);
        store_to(convolution.other_target, convolution.other_gate, t, sum);
    }
    SSM_DEVICE void store_to(const Sequence& target, const Sequence& gate, int64_t t, R sum) const {
        if (target.data) {
            store_step<T>(target, segment, head, t, gate.data ? sum * load_step<T>(gate, segment, head, t) : sum);
        }
    }
};

// ---- Kernels -------------------------------------------------------------------------------------------------------------

// A transform in shared memory from the steps to the steps.
template <typename T>
__global__ void __launch_bounds__(transform_threads, transform_blocks<Compute<T>>)
    causal_conv_kernel(Convolution convolution, const Complex<Compute<T>>* spectra) {
    using R = Compute<T>;
    Complex<R>* const shared = shared_points<R>();
    const int points = static_cast<int>(convolution.cut.points());
    const int64_t items = convolution.heads * convolution.numbers;
    for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
        const int64_t own_head = item / convolution.numbers;
        const SegmentView<T> view(convolution, convolution.first_head + own_head,
                                  convolution.first_number + item % convolution.numbers);
        if (!view.exists) {
            continue; // all threads alike
        }
        for (int p = static_cast<int>(threadIdx.x); p < points; p += static_cast<int>(blockDim.x)) {
            shared[fft_place<R>(p)] = {view.window(p), view.window(p + points)};
        }
        __syncthreads();
        const Complex<R>* const spectrum = spectra + own_head * points;
        const bool adjoint = convolution.adjoint;
        run_fft<true, true>(shared, points, [&](int place, Complex<R>& x) {
            const Complex<R> w = spectrum[place];
            x = x * Complex<R>{w.re, adjoint ? -w.im : w.im};
        });
        for (int p = static_cast<int>(threadIdx.x); p < points; p += static_cast<int>(blockDim.x)) {
            const Complex<R> value = shared[fft_place<R>(p)];
            view.store(p, value.re);
            view.store(p + points, value.im);
        }
        __syncthreads();
    }
}

template <typename R>
struct ColumnsArguments {
    FftShape fft;
    Convolution convolution;
    Kernels kernels;
    bool has_kernels;
    bool forward;
    Complex<R>* points;
};

// A kernel of a head as a polynomial modulo X^length + 1: what a step takes from later ones has negative powers.
template <typename R>
SSM_DEVICE R tap_at(const Convolution& convolution, const Kernels& kernels, int64_t head, int64_t place) {
    const TransformCut& cut = convolution.cut;
    const int64_t from_end = cut.length - 1 - place;
    if (place <= cut.past) {
        return static_cast<const R*>(kernels.k)[head * convolution.taps + place];
    }
    return from_end < SSM_MUTATE("causal_conv.cuda.lost_reverse_tap", cut.future, cut.future - 1)
               ? -static_cast<const R*>(kernels.k_reverse)[head * convolution.taps + from_end]
               : R(0);
}
// The same for gradients. Taps that meet no step have none.
template <typename R>
SSM_DEVICE void store_tap(const Convolution& convolution, const Kernels& kernels, int64_t head, int64_t place, R value) {
    const TransformCut& cut = convolution.cut;
    const int64_t from_end = cut.length - 1 - place;
    if (kernels.grad_k && place < convolution.taps) {
        static_cast<R*>(kernels.grad_k)[head * convolution.taps + place] = place <= cut.past ? value : R(0);
    }
    if (kernels.grad_k_reverse && from_end < convolution.taps) {
        static_cast<R*>(kernels.grad_k_reverse)[head * convolution.taps + from_end] =
            from_end < cut.future ? SSM_MUTATE("causal_conv_backward.cuda.sign_of_reverse", -value, value) : R(0);
    }
}

// exp(i pi p / 2N)
template <typename R>
SSM_DEVICE Complex<R> turn_of(const FftShape& fft, int64_t p) {
    Complex<R> w;
    sincos_pi(static_cast<R>(SSM_MUTATE("causal_conv.cuda.unturned", p, int64_t{0})) / static_cast<R>(2 * fft.points), w.im,
              w.re);
    return w;
}

// Steps or kernels to points in memory, through the levels that split rows, or from there back. A block takes a few columns.
template <typename T>
__global__ void __launch_bounds__(transform_threads, transform_blocks<Compute<T>>)
    causal_conv_columns_kernel(ColumnsArguments<Compute<T>> arguments) {
    using R = Compute<T>;
    Complex<R>* const shared = shared_points<R>();
    const Convolution& convolution = arguments.convolution;
    const FftShape& fft = arguments.fft;
    const int width = static_cast<int>(fft.columns), elements = width * static_cast<int>(fft.rows);
    const int width_bits = log2_of_power(width);
    const int64_t tiles = fft.row_length / width, items = convolution.heads * convolution.numbers * tiles;
    for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
        const int64_t transform = item / tiles, column = item % tiles * width;
        const int64_t head = convolution.first_head + transform / convolution.numbers;
        const SegmentView<T> view(convolution, head, convolution.first_number + transform % convolution.numbers);
        Complex<R>* const points = arguments.points + transform * fft.points;
        for (int i = static_cast<int>(threadIdx.x); i < elements; i += static_cast<int>(blockDim.x)) {
            const int64_t place = (i >> width_bits) * fft.row_length + column + (i & (width - 1));
            Complex<R> value;
            if (!arguments.forward) {
                value = points[place];
            } else if (arguments.has_kernels) {
                value = {tap_at<R>(convolution, arguments.kernels, head, place),
                         tap_at<R>(convolution, arguments.kernels, head, place + fft.points)};
            } else if (view.exists) {
                value = {view.window(place), view.window(place + fft.points)};
            } else {
                value = {R(0), R(0)};
            }
            if (fft.by_library) {
                const Complex<R> w = turn_of<R>(fft, place);
                value = arguments.forward ? value * w : multiply_conjugate(value, w);
            }
            shared[fft_place<R>(i)] = value;
        }
        __syncthreads();
        if (fft.rows > 1) {
            if (arguments.forward) {
                fft_passes<true>(shared, elements, width);
            } else {
                fft_passes<false>(shared, elements, width);
            }
        }
        for (int i = static_cast<int>(threadIdx.x); i < elements; i += static_cast<int>(blockDim.x)) {
            const int64_t place = (i >> width_bits) * fft.row_length + column + (i & (width - 1));
            const Complex<R> value = shared[fft_place<R>(i)];
            if (arguments.forward) {
                points[place] = value;
            } else if (arguments.has_kernels) {
                store_tap(convolution, arguments.kernels, head, place, value.re);
                store_tap(convolution, arguments.kernels, head, place + fft.points, value.im);
            } else if (view.exists) {
                view.store(place, value.re);
                view.store(place + fft.points, value.im);
            }
        }
        __syncthreads();
    }
}

// A row of one transform.
template <typename R>
struct FftRow {
    Complex<R>* const shared;
    const FftShape& fft;
    const int64_t row;
    const int64_t numerator; // of the twist, in turns over 4 N for each step

    SSM_DEVICE FftRow(Complex<R>* shared, const FftShape& fft, int64_t row)
        : shared(shared), fft(fft), row(row), numerator(4 * reverse_bits(row, levels(fft.rows)) + 1 - fft.rows) {}

    SSM_DEVICE static int levels(int64_t rows) {
        int count = 0;
        while (int64_t{1} << count < rows) {
            ++count;
        }
        return count;
    }
    // exp(2 pi i (angle of the row's block - 1/4) p / row_length); the angle is exact before it is rounded.
    SSM_DEVICE Complex<R> twist(int64_t p) const {
        const int64_t whole = 4 * fft.points;
        int64_t part = numerator * p & (whole - 1);
        part = part > whole / 2 ? part - whole : part;
        Complex<R> w;
        sincos_pi(2 * static_cast<R>(part) / static_cast<R>(whole), w.im, w.re);
        return w;
    }
    SSM_DEVICE void load(const Complex<R>* points) const {
        for (int p = static_cast<int>(threadIdx.x); p < fft.row_length; p += static_cast<int>(blockDim.x)) {
            const Complex<R> value = points[row * fft.row_length + p];
            shared[fft_place<R>(p)] = fft.rows > 1 ? value * twist(p) : value;
        }
        __syncthreads();
    }
    SSM_DEVICE void store(Complex<R>* points) const {
        for (int p = static_cast<int>(threadIdx.x); p < fft.row_length; p += static_cast<int>(blockDim.x)) {
            const Complex<R> value = shared[fft_place<R>(p)];
            points[row * fft.row_length + p] = fft.rows > 1 ? multiply_conjugate(value, twist(p)) : value;
        }
        __syncthreads();
    }
};

// What is to be done between the transforms, where cuFFT runs them.
template <typename R>
SSM_DEVICE void multiply_points(const Rows<R>& rows, R scale) {
    const bool gathers = rows.mode == RowsMode::gather;
    const int64_t points = rows.fft.points, count = rows.heads * (gathers ? 1 : rows.numbers) * points;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
         i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
        const int64_t transform = i / points, place = i - transform * points;
        if (gathers) {
            Complex<R> sum = rows.is_first ? Complex<R>{R(0), R(0)} : rows.sums[i];
            for (int64_t number = 0; number < rows.numbers; ++number) {
                const int64_t at = (transform * rows.numbers + number) * points + place;
                sum = sum + multiply_conjugate(rows.others[at], rows.points[at]);
            }
            rows.sums[i] = sum;
        } else if (rows.mode == RowsMode::product) {
            const Complex<R> w = rows.spectrum[transform / rows.numbers * points + place];
            rows.points[i] = rows.points[i] * Complex<R>{w.re, rows.conjugated ? -w.im : w.im};
        } else {
            rows.points[i] = rows.points[i] * scale;
        }
    }
}

template <typename R>
__global__ void __launch_bounds__(transform_threads, transform_blocks<R>) causal_conv_rows_kernel(Rows<R> arguments) {
    if (arguments.fft.by_library) {
        return multiply_points(arguments, R(1) / static_cast<R>(arguments.fft.points));
    }
    Complex<R>* const shared = shared_points<R>();
    const FftShape& fft = arguments.fft;
    const int length = static_cast<int>(fft.row_length);
    const bool gathers = arguments.mode == RowsMode::gather;
    const int64_t transforms = arguments.heads * (gathers ? 1 : arguments.numbers);
    const R scale = R(1) / static_cast<R>(fft.points);
    for (int64_t item = blockIdx.x; item < transforms * fft.rows; item += gridDim.x) {
        const int64_t transform = item / fft.rows;
        const FftRow<R> row(shared, fft, item % fft.rows);
        const int64_t first = row.row * fft.row_length;
        if (gathers) {
            Complex<R>* const sums = arguments.sums + transform * fft.points + first;
            for (int64_t number = 0; number < arguments.numbers; ++number) {
                const int64_t at = (transform * arguments.numbers + number) * fft.points;
                Complex<R>* const kept = arguments.points + at + first;
                row.load(arguments.points + at);
                run_fft<true, false>(shared, length, [&](int place, Complex<R>& x) { kept[place] = x; });
                row.load(arguments.others + at);
                const bool begins = arguments.is_first && number == 0;
                run_fft<true, false>(shared, length, [&](int place, Complex<R>& x) {
                    const Complex<R> product = multiply_conjugate(x, kept[place]);
                    sums[place] = SSM_MUTATE("causal_conv_backward.cuda.last_row_alone", begins, true)
                                      ? product
                                      : sums[place] + product;
                });
            }
            continue;
        }
        Complex<R>* const points = arguments.points + transform * fft.points;
        if (arguments.mode == RowsMode::spectrum) {
            row.load(points);
            run_fft<true, false>(shared, length, [&](int place, Complex<R>& x) { points[first + place] = x * scale; });
        } else if (arguments.mode == RowsMode::product) {
            const Complex<R>* const spectrum = arguments.spectrum + transform / arguments.numbers * fft.points + first;
            const bool conjugated = arguments.conjugated;
            row.load(points);
            run_fft<true, true>(shared, length, [&](int place, Complex<R>& x) {
                const Complex<R> w = spectrum[place];
                x = x * Complex<R>{w.re, conjugated ? -w.im : w.im};
            });
            row.store(points);
        } else {
            run_fft<false, true>(shared, length, [&](int place, Complex<R>& x) { x = points[first + place] * scale; });
            row.store(points);
        }
    }
}

// last_state: the last K-1 steps of x.
template <typename T>
__global__ void causal_conv_state_kernel(Convolution convolution, void* last_state, int64_t count) {
    using R = Compute<T>;
    const int64_t history = convolution.taps - 1, heads = convolution.shape.channels;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
         i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
        const int64_t state = i / history;
        const int64_t each = (history + convolution.cut.step - 1) / convolution.cut.step;
        const SegmentView<T> view(convolution, state % heads, state / heads * each);
        static_cast<R*>(last_state)[i] = view.source(view.segment.steps - history + i % history);
    }
}

unsigned grid_of(int64_t items) {
    return static_cast<unsigned>(items < most_blocks ? items : most_blocks);
}
// Eight points a thread, and whole warps.
unsigned threads_for(int64_t points) {
    const int64_t wanted = (points / 8 + 31) / 32 * 32;
    return static_cast<unsigned>(wanted < 32 ? 32 : wanted < transform_threads ? wanted : transform_threads);
}

} // namespace

// ---- Launcher ------------------------------------------------------------------------------------------------------------

template <typename T>
cudaError_t launch_convolution(BackendContext* context, const Convolution& convolution,
                               const Complex<Compute<T>>* spectrum) {
    const int64_t points = convolution.cut.points();
    return launch(causal_conv_kernel<T>, dim3(grid_of(convolution.heads * convolution.numbers)), dim3(threads_for(points)),
                  static_cast<size_t>(points) * sizeof(Complex<Compute<T>>), context->stream, convolution, spectrum);
}

template <typename T>
cudaError_t launch_columns(BackendContext* context, const FftShape& fft, const Convolution& convolution,
                           const Kernels* kernels, bool forward, Complex<Compute<T>>* points) {
    ColumnsArguments<Compute<T>> arguments{};
    arguments.fft = fft;
    arguments.convolution = convolution;
    arguments.has_kernels = kernels != nullptr;
    if (kernels) {
        arguments.kernels = *kernels;
        // A launch of kernels has one transform of each head, of which no segment is read.
        arguments.convolution.shape = {};
        arguments.convolution.shape.length = convolution.cut.step;
        arguments.convolution.before = false;
        arguments.convolution.first_number = 0;
        arguments.convolution.numbers = 1;
    }
    arguments.forward = forward;
    arguments.points = points;
    const int64_t elements = fft.columns * fft.rows;
    const int64_t items = arguments.convolution.heads * arguments.convolution.numbers * (fft.row_length / fft.columns);
    return launch(causal_conv_columns_kernel<T>, dim3(grid_of(items)), dim3(threads_for(elements)),
                  static_cast<size_t>(elements) * sizeof(Complex<Compute<T>>), context->stream, arguments);
}

// cuFFT's transforms of a launch, and the kernel for what is between them.
template <typename R>
cudaError_t run_library_rows(BackendContext* context, const Rows<R>& rows) {
    const FftShape& fft = rows.fft;
    const int64_t count = rows.heads * rows.numbers;
    const auto transform = [&](Complex<R>* points, int sign) {
        return fft_library_run(context, points, fft.points, count, sign, fft.work);
    };
    cudaError_t error = rows.mode == RowsMode::finish ? cudaSuccess : transform(rows.points, 1);
    if (error == cudaSuccess && rows.mode == RowsMode::gather) {
        error = transform(rows.others, 1);
    }
    if (error == cudaSuccess) {
        const int64_t numbers = (rows.mode == RowsMode::gather ? rows.heads : count) * fft.points;
        error = launch(causal_conv_rows_kernel<R>, dim3(grid_of((numbers + transform_threads - 1) / transform_threads)),
                       dim3(transform_threads), 0, context->stream, rows);
    }
    const bool returns = rows.mode == RowsMode::product || rows.mode == RowsMode::finish;
    return error == cudaSuccess && returns ? transform(rows.points, -1) : error;
}

template <typename R>
cudaError_t launch_rows(BackendContext* context, const Rows<R>& rows) {
    if (rows.fft.by_library) {
        return run_library_rows(context, rows);
    }
    const int64_t items = rows.heads * (rows.mode == RowsMode::gather ? 1 : rows.numbers) * rows.fft.rows;
    return launch(causal_conv_rows_kernel<R>, dim3(grid_of(items)), dim3(threads_for(rows.fft.row_length)),
                  static_cast<size_t>(rows.fft.row_length) * sizeof(Complex<R>), context->stream, rows);
}

template cudaError_t launch_columns<float>(BackendContext*, const FftShape&, const Convolution&, const Kernels*, bool,
                                           Complex<float>*);
template cudaError_t launch_columns<double>(BackendContext*, const FftShape&, const Convolution&, const Kernels*, bool,
                                            Complex<double>*);
template cudaError_t launch_columns<Half>(BackendContext*, const FftShape&, const Convolution&, const Kernels*, bool,
                                          Complex<float>*);
template cudaError_t launch_columns<BFloat16>(BackendContext*, const FftShape&, const Convolution&, const Kernels*, bool,
                                              Complex<float>*);
template cudaError_t launch_convolution<float>(BackendContext*, const Convolution&, const Complex<float>*);
template cudaError_t launch_convolution<double>(BackendContext*, const Convolution&, const Complex<double>*);
template cudaError_t launch_convolution<Half>(BackendContext*, const Convolution&, const Complex<float>*);
template cudaError_t launch_convolution<BFloat16>(BackendContext*, const Convolution&, const Complex<float>*);
template cudaError_t launch_rows<float>(BackendContext*, const Rows<float>&);
template cudaError_t launch_rows<double>(BackendContext*, const Rows<double>&);

namespace {

// Runs, or with `bytes` answers the workspace.
template <typename T>
int32_t run_causal_conv(BackendContext* context, const CausalConvParams& p, uint64_t* bytes) {
    using R = Compute<T>;
    const int64_t path = context->options.get("causal_conv.path"), heads = p.shape.channels;
    Convolution convolution{};
    convolution.shape = p.shape;
    convolution.cut =
        cut_transforms(p.shape.length, p.shape.sequences, p.taps, p.k_reverse != nullptr, p.initial_state != nullptr,
                       p.spectrum ? p.spectrum_length : context->options.get("causal_conv.tile"), p.spectrum != nullptr);
    convolution.taps = p.taps;
    convolution.source = p.u;
    convolution.source_gate = p.pre_gate;
    convolution.state = p.initial_state;
    convolution.target = p.y;
    convolution.target_gate = p.post_gate;
    convolution.d = p.d;
    FftShape fft = fft_shape<R>(convolution.cut, path);
    const ConvolutionGroups groups = group_convolution<R>(fft, heads, convolution.segments());
    uint64_t work = 0;
    if (const int32_t status = convolution_bytes<R>(context, fft, groups, &work)) {
        return status;
    }
    WorkspaceParts parts(bytes ? nullptr : p.workspace.data);
    Complex<R>* const kept = p.spectrum ? nullptr : parts.take<Complex<R>>(groups.heads * fft.points);
    Complex<R>* const points = fft.is_fused() ? nullptr : parts.take<Complex<R>>(groups.heads * groups.numbers * fft.points);
    fft.work = parts.take<unsigned char>(static_cast<int64_t>(work));
    if (bytes) {
        *bytes = parts.size();
        return success;
    }
    if (parts.size() > p.workspace.bytes) {
        return fail(error_workspace_too_small, "causal_conv: workspace too small");
    }
    const Kernels kernels{p.k, p.k_reverse, nullptr, nullptr};
    for (int64_t first = 0; first < heads; first += groups.heads) {
        convolution.first_head = first;
        convolution.heads = heads - first < groups.heads ? heads - first : groups.heads;
        const Complex<R>* spectra = kept;
        cudaError_t error = cudaSuccess;
        if (p.spectrum) {
            spectra = static_cast<const Complex<R>*>(p.spectrum) + first * fft.points;
        } else {
            error = make_spectra(context, fft, convolution, kernels, kept);
        }
        if (error == cudaSuccess) {
            error = convolve<T>(context, fft, convolution, spectra, points, groups.numbers);
        }
        if (error != cudaSuccess) {
            return status_of(error, "causal_conv");
        }
    }
    if (!p.last_state || p.taps == 1) {
        return success;
    }
    convolution.before = true;
    const int64_t states = p.shape.state_rows() * heads * (p.taps - 1);
    return status_of(launch(causal_conv_state_kernel<T>, dim3(grid_of((states + 255) / 256)), dim3(256), 0, context->stream,
                            convolution, p.last_state, states),
                     "causal_conv");
}

template <typename R>
int32_t run_causal_conv_plan(BackendContext* context, const CausalConvPlanParams& p, uint64_t* bytes) {
    Convolution convolution{};
    convolution.cut = cut_transforms(p.spectrum_length, 0, p.taps, p.k_reverse != nullptr, false, p.spectrum_length, true);
    convolution.taps = p.taps;
    convolution.heads = p.heads;
    FftShape fft = fft_shape<R>(convolution.cut, context->options.get("causal_conv.path"));
    uint64_t work = 0;
    if (const int32_t status = convolution_bytes<R>(context, fft, {p.heads, 1}, &work)) {
        return status;
    }
    if (bytes) {
        *bytes = work;
        return success;
    }
    if (work > p.workspace.bytes) {
        return fail(error_workspace_too_small, "causal_conv_plan: workspace too small");
    }
    fft.work = p.workspace.data;
    return status_of(make_spectra(context, fft, convolution, Kernels{p.k, p.k_reverse, nullptr, nullptr},
                                  static_cast<Complex<R>*>(p.spectrum)),
                     "causal_conv_plan");
}

// ---- Dispatch ------------------------------------------------------------------------------------------------------------

int32_t dispatch_causal_conv(BackendContext* context, const CausalConvParams& params, uint64_t* bytes) {
    switch (params.type) {
    case DataType::float32:
        return run_causal_conv<float>(context, params, bytes);
    case DataType::float64:
        return run_causal_conv<double>(context, params, bytes);
    case DataType::float16:
        return run_causal_conv<Half>(context, params, bytes);
    case DataType::bfloat16:
        return run_causal_conv<BFloat16>(context, params, bytes);
    default:
        return fail(error_internal, "a backend was called with a type that core should have refused");
    }
}

} // namespace

int32_t causal_conv(BackendContext* context, const CausalConvParams* params) {
    return dispatch_causal_conv(context, *params, nullptr);
}

int32_t causal_conv_workspace(BackendContext* context, const CausalConvParams* params, uint64_t* bytes) {
    return dispatch_causal_conv(context, *params, bytes);
}

namespace {
int32_t dispatch_causal_conv_plan(BackendContext* context, const CausalConvPlanParams& params, uint64_t* bytes) {
    return params.type == DataType::float64 ? run_causal_conv_plan<double>(context, params, bytes)
                                            : run_causal_conv_plan<float>(context, params, bytes);
}
} // namespace

int32_t causal_conv_plan(BackendContext* context, const CausalConvPlanParams* params) {
    return dispatch_causal_conv_plan(context, *params, nullptr);
}

int32_t causal_conv_plan_workspace(BackendContext* context, const CausalConvPlanParams* params, uint64_t* bytes) {
    return dispatch_causal_conv_plan(context, *params, bytes);
}

} // namespace ssm
