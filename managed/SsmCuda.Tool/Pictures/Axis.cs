using System.Globalization;

namespace SsmCuda.Tool.Pictures;

/// <summary>One direction of a panel: what it spans, what it is called, where its marks are.</summary>
internal sealed record Axis(double Low, double High, string Label = "", int MostMarks = 5, bool IsNumbered = true)
{
    /// <summary>Spans the values with a little room on both sides.</summary>
    public static Axis Around(IEnumerable<double> values, string label = "", int mostMarks = 5)
    {
        var (low, high) = (double.PositiveInfinity, double.NegativeInfinity);
        foreach (var value in values)
        {
            low = Math.Min(low, value);
            high = Math.Max(high, value);
        }
        // A value that is not finite ends here, as does a span of nothing.
        if (!double.IsFinite(high - low))
        {
            throw new InvalidDataException("values to be drawn are not finite");
        }
        var room = high > low ? 0.06 * (high - low) : 1;
        return new Axis(low - room, high + room, label, mostMarks);
    }

    /// <summary>Evenly spaced numbers, both ends included.</summary>
    public static double[] Samples(double low, double high, int count) =>
        [.. Enumerable.Range(0, count).Select(i => low + (high - low) * i / (count - 1))];

    /// <summary>Where a value lies along an axis of this length.</summary>
    public double Map(double value, double length) => (value - Low) / (High - Low) * length;

    /// <summary>The multiples in the span of 1, 2 or 5 times a power of ten, and how they are written.</summary>
    public IEnumerable<(double Value, string Text)> Marks()
    {
        var step = Step();
        var decimals = Math.Max(0, (int)Math.Ceiling(-Math.Log10(step) - 1e-9));
        var last = (long)Math.Floor(High / step + 1e-9);
        for (var i = (long)Math.Ceiling(Low / step - 1e-9); i <= last; i++)
        {
            var text = (i * step + 0.0).ToString("F" + decimals, CultureInfo.InvariantCulture);
            yield return (i * step, text.Replace('-', '\u2212'));
        }
    }

    private double Step()
    {
        var atLeast = (High - Low) / MostMarks;
        var power = Math.Pow(10, Math.Floor(Math.Log10(atLeast)));
        foreach (var factor in (ReadOnlySpan<double>)[1, 2, 5])
        {
            if (factor * power >= atLeast * (1 - 1e-9))
            {
                return factor * power;
            }
        }
        return 10 * power;
    }
}
