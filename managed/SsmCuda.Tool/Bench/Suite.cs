using SsmCuda.Tool.Bench.Operations;

namespace SsmCuda.Tool.Bench;

/// <summary>Every benchmark there is; an operation adds its line here.</summary>
internal static class Suite
{
    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick) =>
    [
        .. AssociativeScanBenchmarks.Definitions(quick),
        .. LinearRecurrenceBenchmarks.Definitions(quick),
        .. LinearRecurrenceBackwardBenchmarks.Definitions(quick),
        .. SelectiveScanBenchmarks.Definitions(quick),
        .. SelectiveScanBackwardBenchmarks.Definitions(quick),
        .. SelectiveStateUpdateBenchmarks.Definitions(quick),
        .. CausalConv1dBenchmarks.Definitions(quick),
        .. CausalConv1dBackwardBenchmarks.Definitions(quick),
        .. SsdBenchmarks.Definitions(quick),
        .. SsdBackwardBenchmarks.Definitions(quick),
        .. CausalConv1dUpdateBenchmarks.Definitions(quick),
        .. RmsNormBenchmarks.Definitions(quick),
        .. Mamba3Benchmarks.Definitions(quick),
        .. Mamba3BackwardBenchmarks.Definitions(quick),
        .. Mamba3UpdateBenchmarks.Definitions(quick),
        .. DiagonalBenchmarks.Definitions(quick),
    ];
}
