// What is measured: an operation at a shape.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tensor.h"

namespace bench {

// Tensors in place, ready to run.
class Case {
  public:
    virtual ~Case() = default;
    // Queues the operation once.
    virtual void run() = 0;
    // Fails (throws) where the result is wrong: samples of the last run's output against double precision.
    virtual void verify() = 0;
    double bytes = 0; // the fewest that must move: each input read once, each output written once
    double flops = 0;
};

struct CaseEntry {
    std::string operation;
    std::string shape; // the model or task it comes from, then the dimensions
    Type type;
    // One small call after the other: what counts is the time of a call, as a graph replays it.
    bool latency = false;
    std::function<std::unique_ptr<Case>(ssm_context*)> make;
};

// quick: sizes that a CPU runs through in seconds; otherwise batches are as large as a CPU or a GPU holds.
std::vector<CaseEntry> all_cases(bool quick, bool gpu);

} // namespace bench
