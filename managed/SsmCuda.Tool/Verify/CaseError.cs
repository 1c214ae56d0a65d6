namespace SsmCuda.Tool.Verify;

/// <summary>
/// How far a result is from its reference. A case passes when every element is finite and, for each output,
/// ||y - r||_2 &lt;= tolerance ||r||_2 and max|y - r| &lt;= 10 tolerance max|r|; real and imaginary parts count alike.
/// </summary>
internal static class CaseError
{
    /// <summary>
    /// The larger of ||y - r|| / ||r|| and max|y - r| / (10 max|r|), to be compared with the tolerance. Infinite where y has an
    /// element that is not finite, or differs from a reference that is zero.
    /// </summary>
    public static double Of(ReadOnlySpan<double> result, ReadOnlySpan<double> reference)
    {
        if (result.Length != reference.Length)
        {
            throw new ArgumentException($"{reference.Length} elements expected, {result.Length} given", nameof(result));
        }
        double squares = 0, referenceSquares = 0, largest = 0, referenceLargest = 0;
        for (var i = 0; i < result.Length; i++)
        {
            if (!double.IsFinite(result[i]))
            {
                return double.PositiveInfinity;
            }
            var difference = Math.Abs(result[i] - reference[i]);
            squares += difference * difference;
            referenceSquares += reference[i] * reference[i];
            largest = Math.Max(largest, difference);
            referenceLargest = Math.Max(referenceLargest, Math.Abs(reference[i]));
        }
        return Math.Max(Ratio(Math.Sqrt(squares), Math.Sqrt(referenceSquares)), Ratio(largest, 10 * referenceLargest));
    }

    // 0 / 0 is a zero met exactly. NaN (a reference that is not finite) must not pass, so it becomes infinite too.
    private static double Ratio(double error, double magnitude)
    {
        if (error == 0)
        {
            return 0;
        }
        var ratio = error / magnitude;
        return double.IsNaN(ratio) ? double.PositiveInfinity : ratio;
    }
}
