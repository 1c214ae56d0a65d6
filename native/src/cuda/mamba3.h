// What mamba3, its gradients and its update share on the device.
#pragma once

#include "core/params/mamba3_scaled.h"
#include "cuda/ssd.h"

namespace ssm {

// A warp has a head and a chunk of steps: a lane for each step's numbers, then a lane for each pair of states.
constexpr int mamba3_chunk = warp_size;
constexpr int mamba3_threads = 128;

// dt with its bias, s, lambda and 1 - lambda of a step.
template <typename R>
struct Mamba3Size {
    R biased;
    R s;
    R lambda;
    R rest;
    SSM_DEVICE R now() const { return lambda * s; }    // what the step puts into its own state
    SSM_DEVICE R entering() const { return rest * s; } // what the step before puts into it
};
template <typename R>
SSM_DEVICE Mamba3Size<R> mamba3_size(bool softplus_wanted, R dt, R bias, R trap) {
    const R biased = dt + bias;
    const R e = exp(-fabs(trap));
    const R large = R(1) / (R(1) + e);
    const R small = e * large;
    return {biased, softplus_wanted ? softplus(biased) : biased, trap < 0 ? small : large, trap < 0 ? large : small};
}

// theta as a part of a whole turn, from -1/2 to 1/2.
template <typename R>
SSM_DEVICE R wrap_turn(R turn) {
    return turn - rint(turn);
}
template <typename R>
SSM_DEVICE R next_turn(R turn, R angle, R s) {
    return wrap_turn(multiply_add(R(0.5) * s, static_cast<R>(tanh(angle)), turn));
}
template <typename R>
constexpr R mamba3_pi = static_cast<R>(3.14159265358979323846);

template <typename R>
struct Pair {
    R u;
    R v;
    // By sine and cosine, or back by -sine.
    SSM_DEVICE Pair turned(R sine, R cosine) const {
        return {multiply_add(-v, sine, u * cosine), multiply_add(u, sine, v * cosine)};
    }
    SSM_DEVICE R dot(const Pair& other) const { return multiply_add(u, other.u, v * other.v); }
    SSM_DEVICE R cross(const Pair& other) const { return multiply_add(v, other.u, -u * other.v); } // v u' - u v'
    SSM_DEVICE Pair plus(R factor, const Pair& other) const {
        return {multiply_add(factor, other.u, u), multiply_add(factor, other.v, v)};
    }
    SSM_DEVICE Pair times(R factor) const { return {factor * u, factor * v}; }
    // As memory of type T holds it.
    template <typename T>
    SSM_DEVICE Pair stored() const {
        return {widen(narrow<T>(u)), widen(narrow<T>(v))};
    }
};

// Numbers 2 pair and 2 pair + 1 of a row of `size`, zero beyond it.
template <typename T>
SSM_DEVICE Pair<Compute<T>> load_pair(const T* row, int64_t pair, int64_t size) {
    const int64_t at = 2 * pair;
    if (at + 1 < size && is_aligned(row, 2 * sizeof(T))) {
        const Vector<T, 2> both = load_vector<2>(row + at);
        return {widen(both[0]), widen(both[1])};
    }
    return {at < size ? widen(row[at]) : Compute<T>(0), at + 1 < size ? widen(row[at + 1]) : Compute<T>(0)};
}
template <typename T>
SSM_DEVICE void store_pair(T* row, int64_t pair, int64_t size, const Pair<Compute<T>>& value) {
    const int64_t at = 2 * pair;
    if (at + 1 < size && is_aligned(row, 2 * sizeof(T))) {
        Vector<T, 2> both;
        both[0] = narrow<T>(value.u);
        both[1] = narrow<T>(value.v);
        store_vector<2>(row + at, both);
        return;
    }
    if (at < size) {
        row[at] = narrow<T>(value.u);
    }
    if (at + 1 < size) {
        row[at + 1] = narrow<T>(value.v);
    }
}
template <typename R>
SSM_DEVICE Pair<R> load_bias(const void* bias, int64_t head, int64_t pair, int64_t size) {
    return bias ? load_pair(static_cast<const R*>(bias) + head * size, pair, size) : Pair<R>{0, 0};
}

template <typename R>
SSM_DEVICE R warp_sum(R value) {
    for (int delta = warp_size / 2; delta > 0; delta /= 2) {
        value += shuffle_xor(value, delta);
    }
    return value;
}

// A chunk of a head, as the warp with this index has it: none where count is 0.
template <typename T>
struct Mamba3Chunk {
    using R = Compute<T>;
    const Mamba3Inputs& p;
    int64_t head;
    int64_t group;
    int64_t angle_group;
    int64_t batch;
    int64_t slot;
    Span span;
    int64_t t; // of the chunk in the sequence
    int count;
    bool is_last;      // of the sequence
    Mamba3Size<R> own; // of the lane's step
    R entering_next;   // what the lane's step puts into the next one, 0 behind the last

    SSM_DEVICE Mamba3Chunk(const Mamba3Inputs& p, int64_t chunk, int64_t slots, int64_t item) : p(p) {
        const int64_t heads = p.shape.channels;
        head = item % heads;
        group = head / (heads / p.groups);
        angle_group = p.angles > 0 ? head / (heads / p.angle_groups) : 0;
        slot = item / heads % slots;
        batch = item / heads / slots;
        int64_t index;
        span = span_of_slot(p.shape, batch, slot, chunk, index);
        t = index * chunk;
        const int64_t left = index < 0 ? 0 : span.length - t;
        count = static_cast<int>(left < 0 ? 0 : left < chunk ? left : chunk);
        is_last = count > 0 && t + count == span.length;
        own = size_of_step(lane_id());
        entering_next = lane_id() < count ? size_of_step(lane_id() + 1).entering() : R(0);
    }

    SSM_DEVICE Mamba3Size<R> size_of_step(int k) const {
        if (k > count || t + k >= span.length || count == 0) {
            return {0, 0, 0, 0};
        }
        const R bias = p.dt_bias ? static_cast<const R*>(p.dt_bias)[head] : R(0);
        return mamba3_size(p.dt_softplus, widen(*place_of<const T>(p.dt, span, head, t + k)), bias,
                           widen(*place_of<const T>(p.trap, span, head, t + k)));
    }
    SSM_DEVICE R rate(int k) const { return *place_of<const R>(p.a, span, head, t + k); }

    // Of step k in rows (B,L,H,width).
    template <typename V>
    SSM_DEVICE V* row(V* rows, int k, int64_t width) const {
        return rows + ((span.batch * p.shape.length + span.begin + t + k) * p.shape.channels + head) * width;
    }
    // Of the chunk in parts (B,slots,H,width).
    SSM_DEVICE R* part(R* parts, int64_t slots, int64_t width) const {
        return parts + ((batch * slots + slot) * p.shape.channels + head) * width;
    }
    SSM_DEVICE int64_t state_index() const { return span.row * p.shape.channels + head; }
};

// All chunks of a sequence in parts (B,slots,H,width).
template <typename R>
struct Mamba3Parts {
    R* first;
    int64_t stride; // from chunk to chunk
    int64_t chunks;
    SSM_DEVICE Mamba3Parts(const Mamba3Inputs& p, R* parts, const Span& span, int64_t head, int64_t chunk, int64_t slots,
                           int64_t width)
        : first(parts +
                ((span.batch * slots + (p.shape.cu_seqlens ? span.begin / chunk + span.row : 0)) * p.shape.channels + head) *
                    width),
          stride(p.shape.channels * width), chunks((span.length + chunk - 1) / chunk) {}
};

inline int64_t mamba3_chunk_of(int64_t option) {
    return option > 0 && option < mamba3_chunk ? option : mamba3_chunk;
}
inline unsigned mamba3_blocks(int64_t items, int64_t each) {
    const int64_t blocks = (items + each - 1) / each;
    return static_cast<unsigned>(blocks < 1 ? 1 : blocks < (int64_t{1} << 30) ? blocks : int64_t{1} << 30);
}

// The last theta, k and x, where they are wanted.
struct Mamba3Last {
    void* angle = nullptr;
    void* b = nullptr;
    void* x = nullptr;
};

// Makes what ssd gets (mamba3.cu). sums: (B,slots,H,A), a scratch.
template <typename T>
cudaError_t prepare_mamba3(BackendContext* context, const Mamba3Inputs& params, int64_t chunk,
                           const Mamba3Scaled<Compute<T>>& scaled, Compute<T>* sums, const Mamba3Last& last);

} // namespace ssm
