#include "cpu/fft_tables.h"

#include <atomic>
#include <cmath>
#include <memory>
#include <mutex>
#include <vector>

namespace ssm::cpu {
namespace {

constexpr double turn = 6.283185307179586476925286766559;

int log2_of(int64_t power) {
    int log = 0;
    while (power > 1) {
        power /= 2;
        ++log;
    }
    return log;
}

// exp(2 pi i angle(block) power / 4)
template <class Lane>
void constant(int64_t block, int power, Lane& re, Lane& im) {
    const double angle = turn / 4 * power * fft_block_angle(block);
    re = static_cast<Lane>(std::cos(angle));
    im = static_cast<Lane>(std::sin(angle));
}

template <class Lane>
std::vector<Lane> make_blocks() {
    std::vector<Lane> table(static_cast<size_t>(6 * fft_blocks));
    for (int64_t block = 1; block < fft_blocks; ++block)
        for (int power = 1; power <= 3; ++power) {
            Lane* const at = table.data() + 6 * block + 2 * (power - 1);
            constant(block, power, at[0], at[1]);
        }
    return table;
}

template <class Lane>
std::vector<Lane> make_tail(int64_t points, int64_t lanes) {
    std::vector<Lane> table;
    table.reserve(static_cast<size_t>(2 * points));
    const auto append = [&](int64_t first, int64_t blocks, int64_t block, int power) {
        const size_t at = table.size();
        table.resize(at + static_cast<size_t>(2 * lanes));
        for (int64_t lane = 0; lane < lanes; ++lane)
            constant((first + lane) * blocks + block, power, table[at + static_cast<size_t>(lane)],
                     table[at + static_cast<size_t>(lanes + lane)]);
    };
    for (int64_t first = points / lanes; first < 2 * points / lanes; first += lanes) {
        int64_t size = lanes, blocks = 1;
        if (log2_of(size) % 2 == 1) {
            append(first, 1, 0, 2);
            size /= 2;
            blocks *= 2;
        }
        for (; size > 1; size /= 4, blocks *= 4)
            for (int64_t block = 0; block < blocks; ++block)
                for (int power = 1; power <= 3; ++power)
                    append(first, blocks, block, power);
    }
    return table;
}

// Tables are made on first use and stay.
struct Tail {
    std::atomic<const void*> data{nullptr};
    std::vector<float> singles;
    std::vector<double> doubles;
};
template <class Lane>
std::vector<Lane>& numbers_of(Tail& tail) {
    if constexpr (sizeof(Lane) == 4)
        return tail.singles;
    else
        return tail.doubles;
}

constexpr int most_log2_points = 32, most_log2_lanes = 8;

} // namespace

double fft_block_angle(int64_t block) {
    double angle = 0.25;
    for (int level = log2_of(block) - 1; level >= 0; --level)
        angle = angle / 2 + ((block >> level & 1) != 0 ? 0.5 : 0.0);
    return angle;
}

template <class Lane>
const Lane* fft_block_table() {
    static const std::vector<Lane> table = make_blocks<Lane>();
    return table.data();
}
template const float* fft_block_table<float>();
template const double* fft_block_table<double>();

template <class Lane>
const Lane* fft_tail_table(int64_t points, int64_t lanes) {
    static Tail tails[most_log2_points][most_log2_lanes];
    static std::mutex mutex;
    Tail& tail = tails[log2_of(points)][log2_of(lanes)];
    if (const void* made = tail.data.load(std::memory_order_acquire))
        return static_cast<const Lane*>(made);
    const std::lock_guard<std::mutex> lock(mutex);
    if (!tail.data.load(std::memory_order_relaxed)) {
        numbers_of<Lane>(tail) = make_tail<Lane>(points, lanes);
        tail.data.store(numbers_of<Lane>(tail).data(), std::memory_order_release);
    }
    return static_cast<const Lane*>(tail.data.load(std::memory_order_relaxed));
}
template const float* fft_tail_table<float>(int64_t, int64_t);
template const double* fft_tail_table<double>(int64_t, int64_t);

} // namespace ssm::cpu
