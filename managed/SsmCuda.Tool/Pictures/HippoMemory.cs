using System.Xml.Linq;

namespace SsmCuda.Tool.Pictures;

/// <summary>What the coefficients of a measure hold of a signal at one moment.</summary>
internal sealed record Recollection(double Now, double[] Times, double[] Values)
{
    public double From => Times[0];

    /// <summary>The root mean square of what the memory has and the signal has not.</summary>
    public double Error =>
        Math.Sqrt(Times.Zip(Values, (time, value) => Math.Pow(value - HippoMemory.Signal(time), 2)).Average());
}

/// <summary>One signal as hippo_project compresses it into 64 coefficients and hippo_reconstruct gives it back.</summary>
internal static class HippoMemory
{
    public const int States = 64;
    public const double Duration = 10;

    public static readonly IReadOnlyList<double> Moments = [4, 7, 10];

    private const int StepsPerSecond = 100;
    private const double RowHeight = 112;
    private const double Top = 92;
    private const int PointsPerSecond = 25;

    /// <summary>Three waves that share no period.</summary>
    public static double Signal(double time) => 0.6 * Math.Sin(2 * Math.PI * 0.23 * time)
        + 0.35 * Math.Sin(2 * Math.PI * 0.71 * time + 1) + 0.25 * Math.Sin(2 * Math.PI * 1.13 * time + 2);

    public static IReadOnlyList<Recollection> Compute(SsmContext context, Measure measure)
    {
        var f = Axis.Samples(0, Duration, (int)Duration * StepsPerSecond + 1).Select(Signal).ToArray();
        using var signal = context.ToDevice<double>(f, f.Length);
        using var coefficients = context.Allocate<double>(f.Length, States);
        var isLaguerre = measure.Kind == SsmHippoMeasure.Lagt;
        context.HippoProject(measure.Kind, signal, coefficients, new()
        {
            Discretization = SsmDiscretization.Bilinear,
            // Before its first sample the signal was that sample, but for Laguerre functions: a constant is no sum of them.
            Start = isLaguerre ? SsmHippoStart.Zero : SsmHippoStart.First,
            Dt = measure.Rate / StepsPerSecond,
        });
        var history = coefficients.ToArray();
        return [.. Moments.Select(Recall)];

        Recollection Recall(double now)
        {
            var span = measure.Window > 0 ? measure.Window / measure.Rate : now;
            var points = Axis.Samples(0, 1, (int)Math.Round(span * PointsPerSecond) + 1);
            var values = new double[points.Length];
            var state = history.AsSpan((int)(now * StepsPerSecond) * States, States);
            context.HippoReconstruct(measure.Kind, ReadOnlyTensorView.Create<double>(state, States),
                ReadOnlyTensorView.Create<double>(points, points.Length), TensorView.Create<double>(values, points.Length),
                isLaguerre ? measure.Rate * span : 0);
            return new Recollection(now, [.. points.Select(point => now + span * (point - 1))], values);
        }
    }

    public static XElement Draw(IReadOnlyList<(Measure Measure, IReadOnlyList<Recollection> Recollections)> rows)
    {
        const string now = "#333333";
        const string memory = "#e8f1f8";
        var content = new List<XElement>
        {
            Svg.Legend(20, 52, (Svg.LineSample("#999999"), "signal"),
                (Svg.LineSample(Svg.Colours[1]), $"reconstruction from {States} coefficients"),
                (Svg.AreaSample(memory), "what the measure covers"),
                (Svg.Element("path", [("stroke", now), ("stroke-dasharray", "3 2"), ("d", "M11 -7V7")]), "now")),
        };
        var times = Axis.Samples(0, Duration, (int)Duration * PointsPerSecond + 1);
        var y = Axis.Around(times.Select(Signal), mostMarks: 3);
        var width = (Svg.Width - 40) / Moments.Count;
        for (var row = 0; row < rows.Count; row++)
        {
            for (var column = 0; column < Moments.Count; column++)
            {
                var recollection = rows[row].Recollections[column];
                var frame = new Frame(46 + column * width, Top + row * RowHeight, width - 20, RowHeight - 30);
                var isLast = row == rows.Count - 1;
                var x = new Axis(0, Duration + 0.3, isLast ? "time in seconds" : "", 6, isLast);
                var panel = new Panel(frame, x, y with { IsNumbered = column == 0 });
                panel.Band(recollection.From, recollection.Now, memory);
                panel.Curve(times, times.Select(Signal), "#999999");
                panel.Curve(recollection.Times, recollection.Values, Svg.Colours[1]);
                panel.Add(Svg.Element("path", [("stroke", now), ("stroke-dasharray", "3 2"),
                    ("d", $"M{Svg.Number(panel.X(recollection.Now))} 0V{Svg.Number(frame.Height)}")]));
                panel.Head(column == 0 ? $"{rows[row].Measure.Name}: {rows[row].Measure.Memory}" : "",
                    "rms error " + Screen.Number(recollection.Error, "0.000"));
                content.Add(panel.Element);
            }
        }
        return Svg.Picture(Top + rows.Count * RowHeight + 18, "What 64 coefficients remember of a signal",
            "A signal of ten seconds in grey, and over it what each measure's coefficients give back after 4, 7 and 10 "
            + "seconds.", content);
    }
}
