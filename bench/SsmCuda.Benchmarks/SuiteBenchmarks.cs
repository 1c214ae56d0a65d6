using BenchmarkDotNet.Attributes;
using SsmCuda.Tool.Bench;

namespace SsmCuda.Benchmarks;

/// <summary>Time and allocated bytes of each call of the suite through the managed API, on its quick sizes.</summary>
public class SuiteBenchmarks
{
    private BenchmarkDevice device = null!;
    private BenchmarkCase benchmark = null!;

    [ParamsSource(nameof(Names))]
    public string Name { get; set; } = "";

    public static IEnumerable<string> Names => Suite.Definitions(quick: true)
        .Where(definition => !definition.OnlyOnGpu)
        .Select(definition => definition.ToString());

    [GlobalSetup]
    public void Setup()
    {
        device = BenchmarkDevice.Open(null, quick: true);
        benchmark = Suite.Definitions(quick: true).First(definition => definition.ToString() == Name).Create(device);
        benchmark.Run();
        device.Synchronize();
        var error = benchmark.MaxError();
        if (!(error <= benchmark.Tolerance))
        {
            throw new InvalidOperationException($"{Name}: error {error}, at most {benchmark.Tolerance} expected");
        }
    }

    [Benchmark]
    public void Call()
    {
        benchmark.Run();
        device.Synchronize();
    }

    [GlobalCleanup]
    public void Cleanup()
    {
        benchmark.Dispose();
        device.Dispose();
    }
}
