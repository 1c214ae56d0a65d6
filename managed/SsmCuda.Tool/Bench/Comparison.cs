namespace SsmCuda.Tool.Bench;

/// <summary>`--compare`: each result against that of the same operation, shape, dtype, device and threads in an older
/// file.</summary>
internal static class Comparison
{
    // A quiet machine moves by a few per cent from run to run even in medians.
    private const double SmallestChange = 0.10;

    public static void Print(IReadOnlyList<BenchmarkResult> old, IReadOnlyList<Measurement> now)
    {
        var before = old.ToLookup(result => result.Key);
        var table = Screen.Table(("operation", false), ("shape", false), ("dtype", false), ("old", true), ("new", true),
            ("new / old", true), ("share old", true), ("share new", true), ("", false));
        foreach (var measurement in now)
        {
            var result = measurement.Result;
            if (before[result.Key].FirstOrDefault() is not { } previous)
            {
                table.Row(result.Operation, result.Shape, result.Dtype, "n/a", Units.Seconds(result.MedianSeconds), "n/a", "n/a",
                    Units.Percent(result.ShareOfCeiling), "new");
                continue;
            }
            var ratio = result.MedianSeconds / previous.MedianSeconds;
            table.Row(result.Operation, result.Shape, result.Dtype, Units.Seconds(previous.MedianSeconds),
                Units.Seconds(result.MedianSeconds), Screen.Number(ratio, "0.00"), Units.Percent(previous.ShareOfCeiling),
                Units.Percent(result.ShareOfCeiling), Verdict(ratio, measurement.Spread));
        }
        Screen.Console.Write(table);
        var gone = old.Select(result => result.Key).Except(now.Select(measurement => measurement.Result.Key)).Count();
        if (gone > 0)
        {
            Screen.Line($"{gone} results of the old file have no partner in this run");
        }
    }

    /// <summary>
    /// A change counts when it exceeds a tenth and three times the spread of this run's own samples; on a machine that other work
    /// slows, the share of the ceiling says more than the time.
    /// </summary>
    public static string Verdict(double ratio, double spread)
    {
        var noise = Math.Max(SmallestChange, 3 * spread);
        return ratio > 1 + noise ? "SLOWER" : ratio < 1 / (1 + noise) ? "faster" : "";
    }
}
