// The pool: workers sleep until a job has room for a helper. A job is a counter of indices on its caller's stack; the
// caller takes indices like any helper, so a job ends even if no worker ever comes. Workers are made when first needed,
// never more than usable_threads() - 1, and never joined: they end with the process.
#include "cpu/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <thread>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace ssm {
namespace {

void cpu_pause() {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

// How long a worker looks for the next job before it sleeps: about 20 microseconds.
constexpr int spin_rounds = 400;

struct Job {
    void (*task)(const void*, int64_t);
    const void* closure;
    int64_t count;
    std::atomic<int64_t> next{0};
    int wanted;                  // helpers that may still join; under the pool's mutex
    std::atomic<int> helpers{0}; // helpers inside; changed under the mutex
    Job* following = nullptr;    // the list of open jobs; under the mutex

    void work() {
        for (;;) {
            const int64_t index = next.fetch_add(1, std::memory_order_relaxed);
            if (index >= count)
                return;
            task(closure, index);
        }
    }
};

thread_local bool inside_task = false;

class Pool {
  public:
    void run(Job& job) {
        {
            std::lock_guard lock(mutex);
            const int idle_wanted = job.wanted;
            job.following = open;
            open = &job;
            waiting.fetch_add(1, std::memory_order_relaxed);
            const int limit = usable_threads() - 1;
            while (workers < limit && workers - busy < idle_wanted) {
                try {
                    std::thread(&Pool::serve, this).detach();
                } catch (...) {
                    break; // no more threads to be had; those there are will do
                }
                ++workers;
            }
            if (sleeping > 0) {
                if (idle_wanted == 1)
                    wake.notify_one();
                else
                    wake.notify_all();
            }
        }
        inside_task = true;
        job.work();
        inside_task = false;
        {
            std::lock_guard lock(mutex);
            close(job);
        }
        for (int i = 0; i < spin_rounds && job.helpers.load(std::memory_order_acquire) != 0; ++i)
            cpu_pause();
        std::unique_lock lock(mutex); // a helper that leaves holds it while it touches the job for the last time
        done.wait(lock, [&] { return job.helpers.load(std::memory_order_relaxed) == 0; });
    }

  private:
    // Takes the job off the list so that nobody joins any more. Under the mutex.
    void close(Job& job) {
        for (Job** at = &open; *at; at = &(*at)->following) {
            if (*at == &job) {
                *at = job.following;
                waiting.fetch_sub(1, std::memory_order_relaxed);
                return;
            }
        }
    }

    // A job that has room for a helper and indices left. Under the mutex.
    Job* find() {
        for (Job* job = open; job; job = job->following)
            if (job->wanted > 0 && job->next.load(std::memory_order_relaxed) < job->count)
                return job;
        return nullptr;
    }

    void serve() {
        inside_task = true;
        std::unique_lock lock(mutex);
        for (;;) {
            Job* job = find();
            if (!job) {
                lock.unlock();
                for (int i = 0; i < spin_rounds && waiting.load(std::memory_order_relaxed) == 0; ++i)
                    cpu_pause();
                lock.lock();
                job = find();
            }
            if (!job) {
                ++sleeping;
                wake.wait(lock, [&] { return (job = find()) != nullptr; });
                --sleeping;
            }
            --job->wanted;
            job->helpers.fetch_add(1, std::memory_order_relaxed);
            ++busy;
            lock.unlock();
            job->work();
            lock.lock();
            --busy;
            if (job->helpers.fetch_sub(1, std::memory_order_acq_rel) == 1)
                done.notify_all();
        }
    }

    std::mutex mutex;
    std::condition_variable wake, done;
    std::atomic<int> waiting{0}; // open jobs
    Job* open = nullptr;
    int workers = 0, busy = 0, sleeping = 0;
};

std::atomic<Pool*> the_pool{nullptr};

Pool& pool() {
    Pool* current = the_pool.load(std::memory_order_acquire);
    if (current)
        return *current;
#if defined(__linux__)
    // A forked child has none of the threads: it makes a pool of its own when it needs one.
    static const bool registered =
        pthread_atfork(nullptr, nullptr, [] { the_pool.store(nullptr, std::memory_order_release); }) == 0;
    (void)registered;
#endif
    Pool* made = new Pool; // lives as long as the process: workers use it to the end
    if (the_pool.compare_exchange_strong(current, made, std::memory_order_acq_rel))
        return *made;
    delete made;
    return *current;
}

int count_threads() {
    int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
#if defined(__linux__)
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0)
        threads = CPU_COUNT(&set);
    double quota = 0, period = 0;
    if (std::FILE* file = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
        if (std::fscanf(file, "%lf %lf", &quota, &period) != 2) // "max 100000" where there is no limit
            quota = 0;
        std::fclose(file);
    } else {
        const auto read = [](const char* path, double& value) {
            if (std::FILE* v1 = std::fopen(path, "r")) {
                if (std::fscanf(v1, "%lf", &value) != 1)
                    value = 0;
                std::fclose(v1);
            }
        };
        read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota);
        read("/sys/fs/cgroup/cpu/cpu.cfs_period_us", period);
    }
    if (quota > 0 && period > 0)
        threads = std::min(threads, std::max(1, static_cast<int>(quota / period + 0.5)));
#endif
    return threads;
}

} // namespace

int usable_threads() {
    static const int threads = count_threads();
    return threads;
}

void Backoff::pause() {
    if (++rounds < 256)
        cpu_pause();
    else
        std::this_thread::yield();
}

void detail::run_parallel(int64_t count, int threads, void (*task)(const void*, int64_t), const void* closure) {
    const int most = usable_threads();
    if (threads <= 0)
        threads = most;
    const int64_t helpers = std::min<int64_t>({threads - 1, most - 1, count - 1});
    if (helpers <= 0 || inside_task) {
        for (int64_t index = 0; index < count; ++index)
            task(closure, index);
        return;
    }
    Job job;
    job.task = task;
    job.closure = closure;
    job.count = count;
    job.wanted = static_cast<int>(helpers);
    pool().run(job);
}

} // namespace ssm
