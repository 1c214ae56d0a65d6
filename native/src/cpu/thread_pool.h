// One pool of threads for the process, whoever calls and however many call at once.
#pragma once

#include <cstdint>
#include <type_traits>

namespace ssm {

// Threads the process may use: its affinity mask, cut by the quota of its control group.
int usable_threads();

namespace detail {
void run_parallel(int64_t count, int threads, void (*task)(const void*, int64_t), const void* closure);
}

// Calls task(i) for every i in [0, count), each once, begun in ascending order. The caller works too; at most `threads`
// threads (0: usable_threads()) take part, and as few as one may, so a task may wait for a task with a smaller index
// and for nothing else. Called from inside a task it runs serially.
template <class Task>
void parallel_for(int64_t count, int threads, const Task& task) {
    if (count == 1)
        task(int64_t{0});
    else if (count > 1)
        detail::run_parallel(
            count, threads, [](const void* closure, int64_t index) { (*static_cast<const Task*>(closure))(index); }, &task);
}

// What a thread does while it waits for another: a few hundred pauses, then it yields its time slice.
class Backoff {
  public:
    void pause();

  private:
    int rounds = 0;
};

} // namespace ssm
