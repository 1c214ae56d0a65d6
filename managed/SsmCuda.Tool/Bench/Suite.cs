using SsmCuda.Tool.Bench.Operations;

namespace SsmCuda.Tool.Bench;

/// <summary>Every benchmark there is; an operation adds its line here.</summary>
internal static class Suite
{
    /// <summary>One or two shapes of each operation, five minutes together.</summary>
    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick) =>
    [
        .. AssociativeScanBenchmarks.Definitions(quick),
        .. LinearRecurrenceBenchmarks.Definitions(quick),
        .. LinearRecurrenceBackwardBenchmarks.Definitions(quick),
        .. SelectiveScanBenchmarks.Definitions(quick),
        .. SelectiveScanBackwardBenchmarks.Definitions(quick),
        .. SelectiveStateUpdateBenchmarks.Definitions(quick),
        .. CausalConvBenchmarks.Definitions(quick),
        .. CausalConvBackwardBenchmarks.Definitions(quick),
        .. CausalConvPlanBenchmarks.Definitions(quick),
        .. CausalConv1dBenchmarks.Definitions(quick),
        .. CausalConv1dBackwardBenchmarks.Definitions(quick),
        .. SsdBenchmarks.Definitions(quick),
        .. SsdBackwardBenchmarks.Definitions(quick),
        .. CausalConv1dUpdateBenchmarks.Definitions(quick),
        .. RmsNormBenchmarks.Definitions(quick),
        .. Mamba3Benchmarks.Definitions(quick),
        .. Mamba3BackwardBenchmarks.Definitions(quick),
        .. Mamba3UpdateBenchmarks.Definitions(quick),
        .. DenseBenchmarks.Definitions(quick),
        .. DplrBenchmarks.Definitions(quick),
        .. HippoProjectBenchmarks.Definitions(quick),
        .. DiagonalBenchmarks.Definitions(quick),
        .. SetupBenchmarks.Definitions(quick),
    ];

    /// <summary>Every published shape, short and long: hours.</summary>
    public static IEnumerable<BenchmarkDefinition> Sweep(bool quick) =>
    [
        .. SelectiveScanBenchmarks.Sweep(quick),
        .. SelectiveScanBackwardBenchmarks.Sweep(quick),
        .. SelectiveStateUpdateBenchmarks.Sweep(quick),
        .. CausalConv1dBenchmarks.Sweep(quick),
        .. CausalConv1dBackwardBenchmarks.Sweep(quick),
        .. SsdBenchmarks.Sweep(quick),
        .. SsdBackwardBenchmarks.Sweep(quick),
        .. CausalConvBenchmarks.Sweep(quick),
        .. CausalConvBackwardBenchmarks.Sweep(quick),
        .. DenseBenchmarks.Sweep(quick),
        .. DplrBenchmarks.Sweep(quick),
        .. DiagonalBenchmarks.Sweep(quick),
    ];
}
