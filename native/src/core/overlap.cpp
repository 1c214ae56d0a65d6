// Whether strided tensors share memory. Ranges of bytes alone would refuse what is common and right: two halves of one
// projection, (B,D,L) each inside (B,2D,L), interleave over the batch and yet share nothing. So the question is asked
// exactly: are there multiples m_k in [low_k, high_k] with -size_x < sum m_k stride_k - distance < size_y?
// A search from the largest stride down, pruned by what the smaller ones can still reach, takes a step or two per
// dimension for strides that nest; if odd ones take it past its budget, the answer is the safe one.
#include "core/tensor.h"

#include <algorithm>

namespace ssm {
namespace {

struct Term {
    int64_t stride; // bytes, > 0
    int64_t low, high;
};

struct Search {
    Term terms[2 * max_rank];
    int count = 0;
    int budget = 20000;

    // Terms stay in order of their strides, the largest first.
    void add(int64_t stride, int64_t low, int64_t high) {
        int at = 0;
        while (at < count && terms[at].stride > stride)
            ++at;
        if (at < count && terms[at].stride == stride) {
            terms[at].low += low;
            terms[at].high += high;
            return;
        }
        for (int i = count; i > at; --i)
            terms[i] = terms[i - 1];
        terms[at] = {stride, low, high};
        ++count;
    }

    // Can terms[first..] sum to a value strictly between target - below and target + above?
    bool reaches(int first, int64_t target, int64_t below, int64_t above) {
        if (first == count)
            return -above < target && target < below;
        if (--budget < 0)
            return true;
        int64_t low = 0, high = 0; // what the terms after this one reach
        for (int i = first + 1; i < count; ++i) {
            low += terms[i].low * terms[i].stride;
            high += terms[i].high * terms[i].stride;
        }
        const Term& term = terms[first];
        // m * stride + [low, high] must touch (target - below, target + above).
        const int64_t least = std::max(term.low, ceiling(target - below + 1 - high, term.stride));
        const int64_t most = std::min(term.high, floor(target + above - 1 - low, term.stride));
        for (int64_t m = least; m <= most; ++m) {
            if (reaches(first + 1, target - m * term.stride, below, above))
                return true;
        }
        return false;
    }

    static int64_t floor(int64_t x, int64_t y) { return x / y - (x % y != 0 && x < 0); }
    static int64_t ceiling(int64_t x, int64_t y) { return x / y + (x % y != 0 && x > 0); }
};

} // namespace

bool overlap(const Tensor& x, const Tensor& y) {
    if (!x.data || !y.data || x.count == 0 || y.count == 0)
        return false;
    const uintptr_t x_start = reinterpret_cast<uintptr_t>(x.data), y_start = reinterpret_cast<uintptr_t>(y.data);
    if (x_start + static_cast<uintptr_t>(x.extent) <= y_start || y_start + static_cast<uintptr_t>(y.extent) <= x_start) {
        return false;
    }
    if (x.is_compact() && y.is_compact())
        return true;
    Search search;
    for (int i = 0; i < x.rank; ++i) {
        if (x.strides[i] != 0)
            search.add(x.strides[i] * x.element_size, 0, x.shape[i] - 1);
    }
    for (int i = 0; i < y.rank; ++i) {
        if (y.strides[i] != 0)
            search.add(y.strides[i] * y.element_size, -(y.shape[i] - 1), 0);
    }
    // Elements [p, p + size_x) and [q, q + size_y) meet iff -size_x < p - q < size_y.
    return search.reaches(0, static_cast<int64_t>(y_start - x_start), x.element_size, y.element_size);
}

bool overlaps_itself(const Tensor& tensor) {
    if (tensor.count <= 1 || tensor.is_compact())
        return false;
    // The difference of two indices: its first non-zero entry, from the largest stride down, is positive without loss.
    Search search;
    for (int i = 0; i < tensor.rank; ++i) {
        if (tensor.shape[i] < 2)
            continue;
        if (tensor.strides[i] == 0)
            return true;
        const int64_t reach = tensor.shape[i] - 1;
        for (int k = 0; k < search.count; ++k) {
            if (search.terms[k].stride == tensor.strides[i])
                return true;
        }
        search.add(tensor.strides[i], -reach, reach);
    }
    for (int first = 0; first < search.count; ++first) {
        const Term term = search.terms[first];
        search.terms[first].low = 1;
        if (search.reaches(first, 0, 1, 1))
            return true;
        search.terms[first] = term;
    }
    return false;
}

} // namespace ssm
