// The long causal convolution and its gradients, as core hands them to a backend, and how they are cut into transforms.
#pragma once

#include "core/params.h"

#if defined(__CUDACC__)
#define SSM_ANYWHERE __host__ __device__
#else
#define SSM_ANYWHERE
#endif

namespace ssm {

// What is not a sequence is compact, has state_type(type) and may be null, except k. Sequences are contiguous in time.
struct CausalConvParams {
    DataType type; // of u, the gates and y
    SequenceShape shape;
    int64_t taps;            // K of k and k_reverse
    int64_t spectrum_length; // F of spectrum; 0 where there is none
    Sequence u, pre_gate, post_gate, y;
    const void* k;             // (H,K)
    const void* k_reverse;     // (H,K)
    const void* d;             // (H)
    const void* initial_state; // (R,H,K-1)
    const void* spectrum;      // (H,F)
    void* last_state;          // (R,H,K-1)
    Workspace workspace;
};

struct CausalConvPlanParams {
    DataType type; // float32 or float64
    int64_t heads;
    int64_t taps;
    int64_t spectrum_length;
    const void* k;
    const void* k_reverse;
    void* spectrum;
    Workspace workspace;
};

struct CausalConvBackwardParams {
    DataType type;
    SequenceShape shape;
    int64_t taps;
    Sequence u, pre_gate, post_gate, grad_y, grad_u, grad_pre_gate, grad_post_gate;
    const void* k;
    const void* k_reverse;
    const void* d;
    const void* initial_state;
    const void* grad_last_state;
    void* grad_k;
    void* grad_k_reverse;
    void* grad_d;
    void* grad_initial_state;
    Workspace workspace;
};

// A transform takes `length` real numbers, a power of two, and multiplies two of them as polynomials modulo X^length + 1:
// what wraps round changes its sign. A segment is `step` outputs of a sequence from its start s on, computed with one
// transform: place p < length - past holds step s + p, the places after that hold the steps before s, minus them. So every
// output sees `past` earlier and `future` later steps (overlap-save). Where `is_whole` a sequence is one segment.
struct TransformCut {
    int64_t past;   // earlier steps that an output sees, at most: of k_0 .. k_past
    int64_t future; // later steps: of k_reverse_0 .. k_reverse_{future - 1}
    int64_t length;
    int64_t step;
    bool is_whole;

    // Complex numbers of a transform.
    SSM_ANYWHERE int64_t points() const { return length / 2; }

    static constexpr int64_t least_length = 512;
    static constexpr int64_t most_length = int64_t{1} << 27;
};

constexpr int64_t power_of_two_from(int64_t least) {
    int64_t power = 1;
    while (power < least)
        power *= 2;
    return power;
}
constexpr int log2_of(int64_t power) {
    int log = 0;
    while (power > 1) {
        power /= 2;
        ++log;
    }
    return log;
}

// Segments of one head that steps need, of one sequence or altogether of packed ones (sequences: how many, else 0).
inline int64_t count_segments(int64_t steps, int64_t sequences, int64_t step) {
    return sequences > 0 ? steps / step + sequences : (steps + step - 1) / step;
}

// steps and sequences as above. forced_length: of a spectrum, or as a test wants it (0: the choice is made here).
// of_spectrum: all taps are in it.
inline TransformCut cut_transforms(int64_t steps, int64_t sequences, int64_t taps, bool has_reverse, bool has_state,
                                   int64_t forced_length, bool of_spectrum) {
    const auto least = [](int64_t x, int64_t y) { return x < y ? x : y; };
    const auto most = [](int64_t x, int64_t y) { return x > y ? x : y; };
    TransformCut cut = {};
    cut.past = (has_state || of_spectrum ? taps : least(taps, steps)) - 1;
    cut.future = !has_reverse ? 0 : of_spectrum ? taps : least(taps, steps - 1);
    const int64_t whole = steps + most(cut.past, cut.future);
    const int64_t shortest = most(TransformCut::least_length, power_of_two_from(least(whole, cut.past + cut.future + 1)));
    const auto step_of = [&](int64_t length) { return length >= whole ? steps : length - cut.past - cut.future; };
    if (forced_length > 0) {
        cut.length = least(most(power_of_two_from(forced_length), shortest), TransformCut::most_length);
    } else {
        // The operations of all segments; transforms beyond the fast memory pay for every pass over them.
        double best = 0;
        for (int64_t length = shortest; length <= TransformCut::most_length; length *= 2) {
            const int64_t step = step_of(length);
            if (step <= 0)
                continue;
            const double segments = static_cast<double>(count_segments(steps, sequences, step));
            const double cost = segments * static_cast<double>(length) * (log2_of(length) + 6) * (length > 32768 ? 1.5 : 1);
            if (cut.length == 0 || cost < best) {
                best = cost;
                cut.length = length;
            }
            if (length >= whole)
                break;
        }
    }
    cut.is_whole = cut.length >= whole;
    cut.step = step_of(cut.length);
    return cut;
}

// A segment of one of a call's sequences. Packed sequences take numbers [cu / step + row, ...) each, which are as many as
// they need or one more, so that neither counts nor a table of them are needed.
struct TransformSegment {
    int64_t batch, row;   // where the sequence lies, and the row of its states
    int64_t begin, steps; // of the sequence
    int64_t from;         // the segment's first step, counted from the sequence's
};
inline int64_t transform_segments(const SequenceShape& shape, const TransformCut& cut) {
    return (shape.cu_seqlens ? 1 : shape.batch) *
           count_segments(shape.length, shape.cu_seqlens ? shape.sequences : 0, cut.step);
}
// False where the number is no segment.
SSM_ANYWHERE inline bool find_segment(const SequenceShape& shape, const TransformCut& cut, int64_t number,
                                      TransformSegment& segment) {
    if (!shape.cu_seqlens) {
        const int64_t each = (shape.length + cut.step - 1) / cut.step;
        segment.batch = segment.row = number / each;
        segment.begin = 0;
        segment.steps = shape.length;
        segment.from = number % each * cut.step;
        return true;
    }
    // Bad numbers are clamped into the sequence, so that none leads outside.
    const auto start = [&](int64_t row) {
        const int64_t at = shape.cu_seqlens[row];
        return at < 0 ? 0 : at > shape.length ? shape.length : at;
    };
    int64_t low = 0, high = shape.sequences; // the last row whose numbers begin at or before this one
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (start(middle) / cut.step + middle <= number)
            low = middle;
        else
            high = middle;
    }
    segment.batch = 0;
    segment.row = low;
    segment.begin = start(low);
    segment.steps = start(low + 1) - segment.begin;
    segment.from = (number - segment.begin / cut.step - low) * cut.step;
    return segment.from >= 0 && segment.from < segment.steps;
}

} // namespace ssm
