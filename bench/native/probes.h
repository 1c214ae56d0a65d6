// What this machine can do at most, measured in the same run as the operations.
#pragma once

#include <memory>
#include <string>

#include "ssmcuda/ssmcuda.h"

namespace bench {

// One ceiling: `seconds` runs it once and answers how long it took.
class Probe {
  public:
    virtual ~Probe() = default;
    virtual double seconds() = 0;
    std::string name;
    double bytes = 0; // of one run
    double flops = 0;
};

// Memory: a device-to-device copy, through ssm_copy.
std::unique_ptr<Probe> copy_probe(ssm_context* context, int64_t bytes);
// Memory: x = y + 3 z with non-temporal stores, on `threads` CPU threads.
std::unique_ptr<Probe> triad_probe(int threads, int64_t bytes);
// Arithmetic: independent float32 multiply-adds, on `threads` CPU threads.
std::unique_ptr<Probe> fma_probe(int threads);

// Seconds that `repeats` calls of work take on the context's device, per call: events on a GPU, the clock on a CPU.
class Stopwatch {
  public:
    explicit Stopwatch(ssm_context* context);
    Stopwatch(const Stopwatch&) = delete;
    Stopwatch& operator=(const Stopwatch&) = delete;
    ~Stopwatch();
    template <typename Work>
    double operator()(int repeats, Work&& work) {
        begin();
        for (int i = 0; i < repeats; ++i)
            work();
        return end() / repeats;
    }

  private:
    void begin();
    double end();
    ssm_context* const context;
    ssm_event* events[2] = {};
    double started = 0;
};

} // namespace bench
