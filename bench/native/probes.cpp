#include "probes.h"

#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "tensor.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace bench {

namespace {

double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Runs part(0) ... part(threads - 1) at the same time.
void in_parallel(int threads, const std::function<void(int)>& part) {
    std::vector<std::thread> others;
    for (int i = 1; i < threads; ++i)
        others.emplace_back(part, i);
    part(0);
    for (std::thread& other : others)
        other.join();
}

class Copy : public Probe {
  public:
    Copy(ssm_context* context, int64_t size)
        : context(context), source(context, Type::float32, {size / 4}), destination(context, Type::float32, {size / 4}),
          stopwatch(context) {
        name = "copy";
        bytes = 2.0 * double(source.bytes());
        source.fill(-1, 1, 1);
        destination.poison();
    }
    double seconds() override {
        return stopwatch(4, [&] { check(ssm_copy(context, source.view(), destination.view()), "ssm_copy"); });
    }

  private:
    ssm_context* const context;
    Tensor source, destination;
    Stopwatch stopwatch;
};

// 64-byte aligned and made of whole cache lines, as non-temporal stores want.
struct alignas(64) Line {
    float value[16];
};

class Triad : public Probe {
  public:
    Triad(int threads, int64_t size)
        : threads(threads), count(size / int64_t(sizeof(Line))), x(new Line[count]), y(new Line[count]), z(new Line[count]) {
        name = "triad";
        bytes = 3.0 * double(count) * sizeof(Line);
        flops = 2.0 * double(count) * 16;
        in_parallel(threads, [this](int part) { // first touched by the thread that uses it
            for (int64_t i = begin(part); i < begin(part + 1); ++i)
                for (int k = 0; k < 16; ++k) {
                    y[i].value[k] = float(i % 97);
                    z[i].value[k] = float(k);
                }
        });
    }
    double seconds() override {
        const double started = now();
        in_parallel(threads, [this](int part) {
            for (int64_t i = begin(part); i < begin(part + 1); ++i) {
#if defined(__SSE2__)
                for (int k = 0; k < 16; k += 4)
                    _mm_stream_ps(x[i].value + k, _mm_add_ps(_mm_load_ps(y[i].value + k),
                                                             _mm_mul_ps(_mm_set1_ps(3), _mm_load_ps(z[i].value + k))));
#else
                for (int k = 0; k < 16; ++k)
                    x[i].value[k] = y[i].value[k] + 3 * z[i].value[k];
#endif
            }
#if defined(__SSE2__)
            _mm_sfence();
#endif
        });
        return now() - started;
    }

  private:
    int64_t begin(int part) const {
        return count * part / threads;
    }
    const int threads;
    const int64_t count;
    const std::unique_ptr<Line[]> x, y, z;
};

// Twelve independent vectors: enough to hide the latency of a multiply-add on the CPUs of today.
#if defined(__x86_64__) && defined(__GNUC__)
typedef float Vector __attribute__((vector_size(32)));
__attribute__((target("avx2,fma"))) float multiply_add_fma(int64_t steps) {
    Vector sum[12], factor;
    for (int k = 0; k < 8; ++k)
        factor[k] = 1e-3f * float(k);
    for (int j = 0; j < 12; ++j)
        sum[j] = factor + float(j);
    for (int64_t i = 0; i < steps; ++i) {
        for (int j = 0; j < 12; ++j)
            sum[j] = sum[j] * factor + factor;
        asm volatile("" : "+x"(factor)); // one step of ours is one step of the machine's
    }
    float total = 0;
    for (int j = 0; j < 12; ++j)
        for (int k = 0; k < 8; ++k)
            total += sum[j][k];
    return total;
}
#endif

float multiply_add(int64_t steps) {
    float sum[96], factor[8];
    for (int k = 0; k < 8; ++k)
        factor[k] = 1e-3f * float(k);
    for (int j = 0; j < 96; ++j)
        sum[j] = float(j);
    for (int64_t i = 0; i < steps; ++i)
        for (int j = 0; j < 96; ++j)
            sum[j] = sum[j] * factor[j % 8] + factor[j % 8];
    float total = 0;
    for (float value : sum)
        total += value;
    return total;
}

class MultiplyAdd : public Probe {
  public:
    explicit MultiplyAdd(int threads) : threads(threads), results(size_t(threads)) {
        name = "fma";
        flops = double(steps) * 96 * 2 * threads;
    }
    double seconds() override {
        const double started = now();
        in_parallel(threads, [this](int part) {
#if defined(__x86_64__) && defined(__GNUC__)
            results[size_t(part)] = __builtin_cpu_supports("fma") ? multiply_add_fma(steps) : multiply_add(steps);
#else
            results[size_t(part)] = multiply_add(steps);
#endif
        });
        return now() - started;
    }

  private:
    static constexpr int64_t steps = 2'000'000;
    const int threads;
    std::vector<float> results;
};

} // namespace

std::unique_ptr<Probe> copy_probe(ssm_context* context, int64_t bytes) {
    return std::make_unique<Copy>(context, bytes);
}

std::unique_ptr<Probe> triad_probe(int threads, int64_t bytes) {
    return std::make_unique<Triad>(threads, bytes);
}

std::unique_ptr<Probe> fma_probe(int threads) {
    return std::make_unique<MultiplyAdd>(threads);
}

Stopwatch::Stopwatch(ssm_context* context) : context(context) {
    int32_t device_type = 0, device_id = 0;
    check(ssm_context_get_device(context, &device_type, &device_id), "ssm_context_get_device");
    if (device_type == SSM_DEVICE_CUDA)
        for (ssm_event*& event : events)
            check(ssm_event_create(context, &event), "ssm_event_create");
}

Stopwatch::~Stopwatch() {
    for (ssm_event* event : events)
        if (event)
            ssm_event_destroy(event);
}

void Stopwatch::begin() {
    if (events[0])
        check(ssm_event_record(context, events[0]), "ssm_event_record");
    else
        started = now();
}

double Stopwatch::end() {
    if (!events[0])
        return now() - started;
    double seconds = 0;
    check(ssm_event_record(context, events[1]), "ssm_event_record");
    check(ssm_event_synchronize(events[1]), "ssm_event_synchronize");
    check(ssm_event_elapsed(events[0], events[1], &seconds), "ssm_event_elapsed");
    return seconds;
}

} // namespace bench
