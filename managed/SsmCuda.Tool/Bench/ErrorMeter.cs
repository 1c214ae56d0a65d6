using System.Numerics;

namespace SsmCuda.Tool.Bench;

/// <summary>Collects max|y - r| and max|r| element by element.</summary>
internal struct ErrorMeter
{
    // Of more elements than this a selection of rows is checked, so that the check does not take longer than the benchmark.
    public const long MaxElements = 1L << 25;

    private double largestError;
    private double largestReference;
    private bool notFinite;

    public readonly double Error => notFinite ? double.PositiveInfinity
        : largestError == 0 ? 0
        : largestError / largestReference;

    public void Add(double result, double reference)
    {
        notFinite |= !double.IsFinite(result);
        largestError = Math.Max(largestError, Math.Abs(result - reference));
        largestReference = Math.Max(largestReference, Math.Abs(reference));
    }

    public void Add(Complex result, Complex reference)
    {
        Add(result.Real, reference.Real);
        Add(result.Imaginary, reference.Imaginary);
    }

    /// <summary>Rows to compare: all, or as many as <see cref="MaxElements"/> allows, spread from the first to the last.</summary>
    public static IEnumerable<long> Rows(long rows, long length)
    {
        var count = Math.Clamp(MaxElements / Math.Max(1, length), 1, rows);
        for (long i = 0; i < count; i++)
        {
            yield return count == 1 ? 0 : i * (rows - 1) / (count - 1);
        }
    }
}
