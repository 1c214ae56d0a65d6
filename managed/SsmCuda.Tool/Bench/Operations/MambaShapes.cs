namespace SsmCuda.Tool.Bench.Operations;

/// <summary>The published Mamba models, each at short and long sequences: what `ssm bench --sweep` adds.</summary>
internal static class MambaShapes
{
    /// <summary>What a sequence tensor may have on a GPU, and on a CPU.</summary>
    public const long MostElements = 1L << 31;
    public const long MostElementsOnCpu = 1L << 28;

    /// <summary>Tokens in one batch of a decoding server.</summary>
    public static readonly int[] DecodeBatches = [1, 8, 64, 512];

    /// <summary>Inner channels of Mamba-1's models at 512 to 65,536 steps, and one sequence of a million in the width of
    /// Mamba's models of DNA.</summary>
    public static IEnumerable<SequenceSizes> Sequences { get; } =
    [
        .. from model in new[] { ("mamba-130m", 1536), ("mamba-790m", 3072), ("mamba-2.8b", 5120) }
           from length in new[] { 512, 2048, 8192, 65_536 }
           from batch in new[] { 1, 8 }
           let sizes = new SequenceSizes(model.Item1, batch, model.Item2, length)
           where sizes.Elements <= MostElements
           select sizes,
        new("mamba-DNA-1.4m", 1, 256, 1_000_000),
    ];

    /// <summary>Heads of Mamba-2's models.</summary>
    public static IEnumerable<SsdSizes> Heads { get; } =
    [
        .. from model in new[]
           {
               ("mamba2-130m", 24), ("mamba2-780m", 48), ("mamba2-1.3b", 64), ("mamba2-2.7b", 80), ("mamba2-8b", 128),
           }
           from size in new[] { (1, 2048), (8, 2048), (32, 2048), (4, 32_768) }
           let sizes = new SsdSizes(model.Item1, size.Item1, size.Item2, model.Item2, 64, 128)
           where sizes.Elements <= MostElements
           select sizes,
        new("one sequence, 4 heads", 1, 1_000_000, 4, 64, 128),
    ];

    /// <summary>The definition, on a CPU only where memory and patience last.</summary>
    public static BenchmarkDefinition Within(this BenchmarkDefinition definition, long elements) =>
        elements > MostElementsOnCpu ? definition with { OnlyOnGpu = true } : definition;
}
