// What the kernel of diagonal plus low-rank systems and its gradients share on the CPU: the sizes, and where things lie in
// the workspace.
#pragma once

#include "core/dplr_system.h"
#include "core/transform.h"
#include "cpu/dense.h" // state_width, Areas

namespace ssm::cpu {

// A part of the frequencies of a head is a task: whole vectors of every instruction set.
constexpr int64_t dplr_part = 512;

// The numbers of a head that its sums over states are made of, and room for the reciprocals.
template <class Lane>
struct DplrNumbers {
    Lane *w, *products, *reciprocals; // (N), ((1+R)^2,N), both real and imaginary parts in turn; (N) pairs of vectors
    DplrNumbers(TeamMemory& memory, int64_t states, int64_t rank)
        : w(memory.take<Lane>(2 * states)), products(memory.take<Lane>(2 * (1 + rank) * (1 + rank) * states)),
          reciprocals(memory.take<Lane>(states * (128 / static_cast<int64_t>(sizeof(Lane))))) {}
};

// Factor x of a state: c for 0, then conj(p_r); factor y: b, then p_r. Their sums over the states are S_xy.
inline ComplexDouble left_factor(const DplrHead& head, const void* c, int x, int64_t n) {
    return x == 0 ? load_complex(c, head.is_double, n) : conj(head.p_of(x - 1, n));
}
inline ComplexDouble right_factor(const DplrHead& head, int y, int64_t n) {
    return y == 0 ? head.b_of(n) : head.p_of(y - 1, n);
}

template <class Lane>
void fill_numbers(const DplrHead& head, const void* c, const DplrNumbers<Lane>& numbers) {
    const auto put = [](Lane* row, int64_t n, ComplexDouble value) {
        row[2 * n] = static_cast<Lane>(value.re);
        row[2 * n + 1] = static_cast<Lane>(value.im);
    };
    Lane* row = numbers.products;
    for (int64_t n = 0; n < head.states; ++n)
        put(numbers.w, n, head.eigenvalue(n));
    for (int x = 0; x <= head.rank; ++x)
        for (int y = 0; y <= head.rank; ++y, row += 2 * head.states)
            for (int64_t n = 0; n < head.states; ++n)
                put(row, n, left_factor(head, c, x, n) * right_factor(head, y, n));
}

// Everything in the workspace that is not a task's own.
struct DplrKernelMemory {
    TransformPlan transform;
    int64_t frequencies, width; // L/2 + 1; whole vectors
    TransformTables tables;
    ComplexDouble* spectra; // (H,frequencies)
    char *sines, *cosines;  // of pi j / L, (width), of the real type; behind the last frequency 1 and 0
    char* tilde;            // (H,N) complex; null where c is c_tilde

    DplrKernelMemory(TeamMemory& memory, const DplrSystem& system, int64_t length, bool c_is_tilde)
        : transform(length), frequencies(transform.frequencies()), width(state_width<float>(frequencies)),
          tables(memory, transform), spectra(memory.take<ComplexDouble>(system.heads * frequencies)),
          sines(memory.take<char>(width * size_of(system.type))), cosines(memory.take<char>(width * size_of(system.type))),
          tilde(c_is_tilde ? nullptr : memory.take<char>(2 * system.heads * system.states * size_of(system.type))) {}

    int64_t parts() const { return (frequencies + dplr_part - 1) / dplr_part; }
    const void* c_of(const DplrSystem& system, int64_t head) const {
        return tilde ? tilde + 2 * head * system.states * size_of(system.type) : dplr_c(system, head);
    }
};

template <class Lane>
void fill_angles(const DplrKernelMemory& memory) {
    Lane *const sines = reinterpret_cast<Lane*>(memory.sines), *const cosines = reinterpret_cast<Lane*>(memory.cosines);
    for (int64_t j = 0; j < memory.width; ++j) {
        const ComplexDouble root = j < memory.frequencies ? unit_root(j, 2 * memory.transform.length) : ComplexDouble{0, 1};
        sines[j] = static_cast<Lane>(root.im);
        cosines[j] = static_cast<Lane>(2 * j == memory.transform.length ? 0 : root.re);
    }
}

inline void fill_angles(const DplrKernelMemory& memory, DataType type) {
    type == DataType::float64 ? fill_angles<double>(memory) : fill_angles<float>(memory);
}

} // namespace ssm::cpu
