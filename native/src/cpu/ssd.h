// How ssd and its gradients are cut on the CPU.
#pragma once

#include "core/params/ssd.h"
#include "cpu/tiles.h"

#include <algorithm>
#include <atomic>

namespace ssm::cpu {

constexpr int64_t most_ssd_chunk = 256;
constexpr int64_t most_ssd_heads = 8; // of a task

inline int64_t ssd_chunk(const SsdInputs& p) {
    constexpr int64_t chosen = 64;
    return std::min({p.chunk > 0 ? p.chunk : chosen, most_ssd_chunk, p.shape.length});
}

// Hands out parts of a task's scratch, 64-byte aligned; without memory it only counts.
class Scratch {
  public:
    explicit Scratch(void* data) : data(static_cast<char*>(data)) {}
    template <class T>
    T* take(int64_t count) {
        char* part = data ? data + bytes : nullptr;
        bytes += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
        return reinterpret_cast<T*>(part);
    }
    int64_t size() const { return bytes; }

  private:
    char* data;
    int64_t bytes = 0;
};

// Scratch that tasks take turns in: no more run at once than there are areas.
class Areas {
  public:
    Areas(void* base, int64_t area_bytes, int64_t count) : base(static_cast<char*>(base)), bytes(area_bytes), count(count) {}
    void clear() const {
        for (int64_t i = 0; i < count; ++i)
            flag(i).store(0, std::memory_order_relaxed);
    }
    // f(scratch) with an area of its own.
    template <class F>
    void use(const F& f) const {
        int64_t area = 0;
        while (flag(area).exchange(1, std::memory_order_acquire) != 0)
            area = (area + 1) % count;
        f(base + area * (64 + bytes) + 64);
        flag(area).store(0, std::memory_order_release);
    }
    int64_t size() const { return count * (64 + bytes); }

  private:
    std::atomic<int64_t>& flag(int64_t area) const {
        return *reinterpret_cast<std::atomic<int64_t>*>(base + area * (64 + bytes));
    }
    char* base;
    int64_t bytes, count;
};

} // namespace ssm::cpu
