namespace SsmCuda.Tool.Bench.Operations;

/// <summary>The published tasks with long convolutions, and what the benchmarks of their three operations share.</summary>
internal static class Convolutions
{
    // Products that a plain loop gets through in about a second.
    private const double MostLoopSteps = 1L << 30;

    // Products of a check, in double precision.
    private const long MostCheckSteps = 1L << 26;
    private const int HyenaHeads = 768;
    private const int LargestBatch = 64;

    /// <summary>The tasks of the Long Range Arena, from images to paths, as S4 has them.</summary>
    public static SequenceSizes Lra(long length) => new("S4 on LRA", 50, 256, length);

    public static IEnumerable<SequenceSizes> LraLengths { get; } = [.. new long[] { 1024, 2048, 4096, 8192, 16_384 }.Select(Lra)];

    /// <summary>Other tasks of S4: pixels one by one, and a layer of SaShiMi over eight seconds of sound.</summary>
    public static IEnumerable<SequenceSizes> Tasks { get; } =
    [
        new("S4 on sequential MNIST", 50, 256, 784), new("S4 on sequential CIFAR", 50, 512, 1024),
        new("SaShiMi audio", 1, 64, 128_000),
    ];

    /// <summary>
    /// Hyena at a length, with the batch of 64 of FlashFFTConv's table or as much of it as fits 2^28 elements on a CPU, 2^31 on a
    /// GPU. Where not even one sequence fits, the CPU has fewer heads.
    /// </summary>
    public static IEnumerable<(SequenceSizes Sizes, bool OnlyOnGpu)> Hyena(long length)
    {
        var (most, row) = (MambaShapes.MostElementsOnCpu, HyenaHeads * length);
        var here = (int)Math.Min(LargestBatch, most / row);
        var there = (int)Math.Min(LargestBatch, MambaShapes.MostElements / row);
        yield return here > 0
            ? (new("Hyena, gated", here, HyenaHeads, length), false)
            : (new("Hyena, gated", 1, (int)(most / length), length), false);
        if (there > here)
        {
            yield return (new("Hyena, gated", there, HyenaHeads, length), true);
        }
    }

    /// <summary>Floating-point operations of a transform of n real numbers.</summary>
    public static double Transform(double n) => 2.5 * n * Math.Log2(n);

    public static bool IsLoopShort(double products) => products <= MostLoopSteps;

    /// <summary>Times to check in a row whose sums have a number of terms, all or a selection from the first to the last.</summary>
    public static IEnumerable<long> Times(long length, long terms) =>
        ErrorMeter.Rows(length, ErrorMeter.MaxElements / Math.Clamp(MostCheckSteps / 16 / terms, 48, 4096));

    /// <summary>Rows to check, as many as such a selection allows.</summary>
    public static IEnumerable<long> Rows(long rows, long length, long terms) =>
        ErrorMeter.Rows(rows, ErrorMeter.MaxElements / Math.Clamp(MostCheckSteps / (Times(length, terms).Count() * terms), 2, 16));
}
