namespace SsmCuda.Tool.Bench;

internal static class Statistics
{
    public static double Median(IReadOnlyCollection<double> values) => Quantile(values, 0.5);

    /// <summary>Half the distance between the quartiles, relative to the median: how far a typical sample strays.</summary>
    public static double RelativeSpread(IReadOnlyCollection<double> values) =>
        (Quantile(values, 0.75) - Quantile(values, 0.25)) / (2 * Median(values));

    private static double Quantile(IReadOnlyCollection<double> values, double fraction)
    {
        if (values.Count == 0)
        {
            throw new ArgumentException("at least one value expected", nameof(values));
        }
        var sorted = values.Order().ToArray();
        var position = fraction * (sorted.Length - 1);
        var below = (int)position;
        var above = Math.Min(below + 1, sorted.Length - 1);
        return sorted[below] + (position - below) * (sorted[above] - sorted[below]);
    }
}
