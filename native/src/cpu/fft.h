// How a transform lies in memory and who works on it, for all instruction sets.
#pragma once

#include "core/params/causal_conv.h"
#include "cpu/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace ssm::cpu {

// A row of more points than this is cut into rows. Points of the least row are the square of a vector's lanes.
constexpr int64_t fft_row_points = 16384, fft_least_row_points = 256;

// Numbers of both parts of a tile of columns: they stay in the second-level cache.
constexpr int64_t fft_most_tile_points = 32768;

struct FftShape {
    int64_t points;
    int64_t rows; // 1: no columns

    // small_rows: as a test wants them, so that short transforms have columns.
    static FftShape of(int64_t points, bool small_rows) {
        small_rows &= points <= int64_t{1} << 19;
        const int64_t most = small_rows ? fft_least_row_points : fft_row_points;
        // Where rows are needed, half the longest: two of them and their tables fit beside a tile.
        const int64_t length = small_rows ? most : most / 2;
        return {points, points <= most ? 1 : points / length};
    }
    // Columns of a tile: runs of at least two cache lines.
    int64_t tile_columns() const {
        const int64_t length = points / rows;
        return std::min(length, std::max<int64_t>(32, fft_most_tile_points / rows));
    }
    int64_t tile_numbers() const { return rows == 1 ? 0 : 2 * rows * tile_columns(); }
    // Threads that have scratch of their own.
    static int64_t workers(int threads) { return threads > 0 ? threads : usable_threads(); }
};

// f(worker, task) for every task, each once; a worker is one thread at a time. What a task computes must not depend on it.
template <class F>
void for_each_task(int64_t tasks, int64_t workers, int threads, const F& f) {
    std::atomic<int64_t> next{0};
    parallel_for(std::min(tasks, workers), threads, [&](int64_t worker) {
        for (int64_t task = next.fetch_add(1); task < tasks; task = next.fetch_add(1))
            f(worker, task);
    });
}

} // namespace ssm::cpu
