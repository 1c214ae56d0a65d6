// What seq_idx says, as runs: neighbouring steps of one sequence, none of them padding. A sequence has more than one run
// where padding lies between its steps. They are found once per call, a list for every row of the batch in the workspace.
#pragma once

#include "core/params.h"
#include "cpu/thread_pool.h"

#include <algorithm>
#include <cstdint>

namespace ssm::cpu {

struct SequenceRun {
    int64_t begin, end; // steps
    int64_t first;      // run of its sequence
    int64_t offset;     // steps of the sequence before this run
    int64_t length;     // of the sequence

    int64_t count() const { return end - begin; }
};

// Steps [time, time + count) of run `run`; restarts: they are the first of a sequence that is not the row's first.
struct RunPart {
    int64_t run, time, count;
    bool restarts;
};

// The runs of a row.
struct SequenceRuns {
    const SequenceRun* runs = nullptr;
    int64_t count = 0;

    const SequenceRun& operator[](int64_t i) const { return runs[i]; }
    // The first run that ends behind step t; count where there is none.
    int64_t find(int64_t t) const {
        return std::partition_point(runs, runs + count, [t](const SequenceRun& run) { return run.end <= t; }) - runs;
    }
    // Calls f(part) for the runs' parts of the steps [from, to), in order.
    template <class F>
    void for_each(int64_t from, int64_t to, const F& f) const {
        for (int64_t i = find(from); i < count && runs[i].begin < to; ++i) {
            const int64_t begin = std::max(from, runs[i].begin), end = std::min(to, runs[i].end);
            f(RunPart{i, begin, end - begin, i > 0 && runs[i].first == i && begin == runs[i].begin});
        }
    }
    // Calls f(from, to) for the padding among the steps [from, to).
    template <class F>
    void for_each_gap(int64_t from, int64_t to, const F& f) const {
        for_each(from, to, [&](const RunPart& part) {
            if (part.time > from)
                f(from, part.time);
            from = part.time + part.count;
        });
        if (from < to)
            f(from, to);
    }
};

// The lists, in `bytes()` of the workspace; of no size without seq_idx.
class SequenceRunTable {
  public:
    SequenceRunTable() = default;
    SequenceRunTable(const SequenceShape& shape, const int32_t* seq_idx)
        : ids(seq_idx), batch(shape.batch), length(shape.length) {}

    int64_t bytes() const { return ids ? batch * row_bytes() : 0; }
    // In memory of that size.
    void find_runs(void* memory, int threads) const {
        if (ids)
            parallel_for(batch, threads, [&](int64_t row) { find_row(memory, row); });
    }
    SequenceRuns row(const void* memory, int64_t index) const {
        if (!ids)
            return {};
        const char* const at = static_cast<const char*>(memory) + index * row_bytes();
        return {reinterpret_cast<const SequenceRun*>(at + header), *reinterpret_cast<const int64_t*>(at)};
    }

  private:
    static constexpr int64_t header = 64;
    const int32_t* ids = nullptr;
    int64_t batch = 0, length = 0;

    int64_t row_bytes() const { return header + (length * static_cast<int64_t>(sizeof(SequenceRun)) + 63) / 64 * 64; }

    void find_row(void* memory, int64_t index) const {
        char* const at = static_cast<char*>(memory) + index * row_bytes();
        SequenceRun* const runs = reinterpret_cast<SequenceRun*>(at + header);
        const int32_t* const own = ids + index * length;
        int64_t count = 0, first = 0, offset = 0;
        for (int64_t t = 0; t < length;) {
            if (own[t] < 0) {
                ++t;
                continue;
            }
            int64_t end = t + 1;
            while (end < length && own[end] == own[t])
                ++end;
            if (count > 0 && own[t] != own[runs[count - 1].begin]) {
                first = count;
                offset = 0;
            }
            runs[count++] = {t, end, first, offset, 0};
            offset += end - t;
            t = end;
        }
        for (int64_t i = count - 1; i >= 0; --i) {
            const bool goes_on = i + 1 < count && runs[i + 1].first == runs[i].first;
            runs[i].length = goes_on ? runs[i + 1].length : runs[i].offset + runs[i].count();
        }
        *reinterpret_cast<int64_t*>(at) = count;
    }
};

} // namespace ssm::cpu
