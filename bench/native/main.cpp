// ssm_native_bench: the operations against the ceilings of the machine, over the C ABI alone.
//
//   ssm_native_bench [--device cpu|cuda|emulated] [--filter TEXT] [--quick] [--rounds N] [--threads N] [--json FILE]
//   [--list]
//
// In every round each case is timed next to the ceilings, so that both see the same machine; what is shown are medians.
// Before that its result is checked against double precision. The time a case could take at best is the larger of its
// bytes over the memory ceiling and its operations over the arithmetic one; share_of_ceiling is that time over the time
// measured. The memory ceiling is a triad with non-temporal stores on a CPU and a device-to-device copy on a GPU; the
// arithmetic ceiling is probed on CPUs only.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <thread>

#include "cases.h"
#include "probes.h"

namespace {

using namespace bench;

struct Options {
    std::string device = "default", filter, json;
    bool quick = false, list = false;
    int rounds = 0, threads = 0;
};

struct Row {
    std::string operation, shape, dtype;
    double seconds, bytes, flops, share;
};

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const size_t middle = values.size() / 2;
    return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

[[noreturn]] void usage(const std::string& complaint) {
    std::fprintf(
        stderr,
        "%s\nusage: ssm_native_bench [--device cpu|cuda|emulated] [--filter TEXT] [--quick] [--rounds N] [--threads N]"
        " [--json FILE] [--list]\n",
        complaint.c_str());
    std::exit(2);
}

Options parse(int count, char** words) {
    Options options;
    for (int i = 1; i < count; ++i) {
        const std::string word = words[i];
        const auto value = [&]() -> std::string {
            if (i + 1 == count)
                usage(word + " wants a value");
            return words[++i];
        };
        const auto number = [&] {
            const int parsed = std::atoi(value().c_str());
            if (parsed <= 0)
                usage(word + " wants a positive number");
            return parsed;
        };
        if (word == "--device")
            options.device = value();
        else if (word == "--filter")
            options.filter = value();
        else if (word == "--json")
            options.json = value();
        else if (word == "--rounds")
            options.rounds = number();
        else if (word == "--threads")
            options.threads = number();
        else if (word == "--quick")
            options.quick = true;
        else if (word == "--list")
            options.list = true;
        else
            usage("unknown option " + word);
    }
    if (!options.rounds)
        options.rounds = options.quick ? 3 : 11;
    return options;
}

ssm_device_type device_type(const std::string& name) {
    static const std::map<std::string, ssm_device_type> types = {{"default", SSM_DEVICE_DEFAULT},
                                                                 {"cpu", SSM_DEVICE_CPU},
                                                                 {"cuda", SSM_DEVICE_CUDA},
                                                                 {"emulated", SSM_DEVICE_EMULATED}};
    const auto found = types.find(name);
    if (found == types.end())
        usage("no device is called " + name);
    return found->second;
}

const char* device_name(int32_t type) {
    return type == SSM_DEVICE_CPU ? "cpu" : type == SSM_DEVICE_CUDA ? "cuda" : "emulated";
}

// Whether cases are those of a GPU: the default device is one where there is one.
bool is_gpu(const std::string& name) {
    int32_t count = 0;
    return name == "cuda" || (name == "default" && !ssm_device_count(SSM_DEVICE_CUDA, &count) && count > 0);
}

class Bench {
  public:
    explicit Bench(const Options& options) : options(options) {
        check(ssm_context_create(device_type(options.device), 0, &context), "ssm_context_create");
        int32_t id = 0;
        check(ssm_context_get_device(context, &type, &id), "ssm_context_get_device");
        properties.struct_size = sizeof properties;
        check(ssm_device_get_properties(type, id, &properties), "ssm_device_get_properties");
        const int64_t probe_bytes = int64_t{1} << (options.quick ? 25 : type == SSM_DEVICE_CUDA ? 30 : 27);
        memory.push_back(copy_probe(context, probe_bytes));
        if (type == SSM_DEVICE_CPU) {
            threads = options.threads ? options.threads : properties.multiprocessors;
            check(ssm_context_set_threads(context, options.threads), "ssm_context_set_threads");
            memory.push_back(triad_probe(threads, probe_bytes));
            arithmetic = fma_probe(threads);
        }
        std::printf("%s (%s), version %s, %d rounds\n\n%-27s %-36s %-10s %12s %10s %10s %7s\n", properties.name,
                    device_name(type), ssm_version(), options.rounds, "operation", "shape", "dtype", "median", "GB/s",
                    "GFLOP/s", "share");
    }
    Bench(const Bench&) = delete;
    Bench& operator=(const Bench&) = delete;
    ~Bench() {
        memory.clear();
        ssm_context_destroy(context);
    }

    // One case; false where it failed.
    bool run(const CaseEntry& entry) {
        try {
            const std::unique_ptr<Case> test = entry.make(context);
            test->run();
            check(ssm_context_synchronize(context), "ssm_context_synchronize");
            test->verify();
            measure(entry, *test);
            return true;
        } catch (const std::exception& error) {
            std::printf("%-27s %-36s %-10s FAILED: %s\n", entry.operation.c_str(), entry.shape.c_str(), name_of(entry.type),
                        error.what());
            std::fflush(stdout);
            return false;
        }
    }

    // The ceilings themselves, over all rounds of all cases.
    void show_ceilings() {
        for (const auto& probe : memory)
            add({probe->name, "", "float32", median(times[probe.get()]), probe->bytes, probe->flops, 1});
        if (arithmetic)
            add({arithmetic->name, "", "float32", median(times[arithmetic.get()]), 0, arithmetic->flops, 1});
    }

    void write_json() const {
        std::ofstream file(options.json);
        file << "[\n";
        for (size_t i = 0; i < rows.size(); ++i) {
            const Row& row = rows[i];
            char line[1024];
            std::snprintf(
                line, sizeof line,
                " {\"operation\": \"%s\", \"shape\": \"%s\", \"dtype\": \"%s\", \"device\": \"%s\", \"threads\": %d, "
                "\"median_seconds\": %.9g, \"bytes\": %.0f, \"flops\": %.0f, \"gigabytes_per_second\": %.6g, "
                "\"gigaflops_per_second\": %.6g, \"share_of_ceiling\": %.4g}%s\n",
                row.operation.c_str(), row.shape.c_str(), row.dtype.c_str(), device_name(type), threads, row.seconds,
                row.bytes, row.flops, row.bytes / row.seconds * 1e-9, row.flops / row.seconds * 1e-9, row.share,
                i + 1 < rows.size() ? "," : "");
            file << line;
        }
        file << "]\n";
        if (!file)
            throw std::runtime_error("cannot write " + options.json);
    }

  private:
    void measure(const CaseEntry& entry, Case& test) {
        Stopwatch stopwatch(context);
        ssm_graph* graph = nullptr;
        int calls = 1; // in one launch
        if (entry.latency) {
            calls = 64;
            check(ssm_capture_begin(context), "ssm_capture_begin");
            for (int i = 0; i < calls; ++i)
                test.run();
            check(ssm_capture_end(context, &graph), "ssm_capture_end");
        }
        const auto launch = [&] { graph ? check(ssm_graph_launch(context, graph), "ssm_graph_launch") : test.run(); };
        // As many launches in a round as fill a few milliseconds.
        const double once = stopwatch(1, launch);
        const int repeats = int(std::clamp(5e-3 / std::max(once, 1e-9), 1.0, 1000.0));
        std::vector<double> seconds;
        std::map<Probe*, std::vector<double>> ceilings;
        for (int round = 0; round < options.rounds; ++round) {
            for (const auto& probe : memory)
                ceilings[probe.get()].push_back(probe->seconds());
            if (arithmetic)
                ceilings[arithmetic.get()].push_back(arithmetic->seconds());
            stopwatch(1, launch); // the caches as the operation leaves them, not as the probes do
            seconds.push_back(stopwatch(repeats, launch) / calls);
        }
        if (graph)
            check(ssm_graph_destroy(graph), "ssm_graph_destroy");
        const Probe& roof = *memory.back();
        double floor = test.bytes / (roof.bytes / median(ceilings[memory.back().get()]));
        if (arithmetic)
            floor = std::max(floor, test.flops / (arithmetic->flops / median(ceilings[arithmetic.get()])));
        for (const auto& [probe, measured] : ceilings)
            times[probe].insert(times[probe].end(), measured.begin(), measured.end());
        add({entry.operation, entry.shape, name_of(entry.type), median(seconds), test.bytes, test.flops,
             floor / median(seconds)});
    }

    void add(const Row& row) {
        rows.push_back(row);
        std::printf("%-27s %-36s %-10s %9.3f us %10.1f %10.1f %6.1f%%\n", row.operation.c_str(), row.shape.c_str(),
                    row.dtype.c_str(), row.seconds * 1e6, row.bytes / row.seconds * 1e-9, row.flops / row.seconds * 1e-9,
                    row.share * 100);
        std::fflush(stdout);
    }

    const Options options;
    ssm_context* context = nullptr;
    int32_t type = 0;
    int threads = 0; // of the CPU; 0 on a GPU
    ssm_device_properties properties{};
    std::vector<std::unique_ptr<Probe>> memory; // the last one is the ceiling
    std::unique_ptr<Probe> arithmetic;
    std::map<Probe*, std::vector<double>> times;
    std::vector<Row> rows;
};

} // namespace

int main(int count, char** words) {
    const Options options = parse(count, words);
    std::vector<CaseEntry> cases;
    for (CaseEntry& entry : all_cases(options.quick, is_gpu(options.device)))
        if ((entry.operation + " " + entry.shape + " " + name_of(entry.type)).find(options.filter) != std::string::npos)
            cases.push_back(std::move(entry));
    if (options.list) {
        for (const CaseEntry& entry : cases)
            std::printf("%s %s %s\n", entry.operation.c_str(), entry.shape.c_str(), name_of(entry.type));
        return 0;
    }
    int passed = 0, failed = 0;
    try {
        Bench bench(options);
        for (const CaseEntry& entry : cases)
            bench.run(entry) ? ++passed : ++failed;
        if (passed)
            bench.show_ceilings();
        if (!options.json.empty())
            bench.write_json();
    } catch (const std::exception& error) {
        std::printf("%s\n", error.what());
        ++failed;
    }
    std::printf("%d passed, %d failed\n", passed, failed);
    return failed || !passed ? 1 : 0;
}
