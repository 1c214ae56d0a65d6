using System.Xml.Linq;

namespace SsmCuda.Tool.Pictures;

/// <summary>The first functions of each measure's basis: what hippo_reconstruct makes of one coefficient of 1.</summary>
internal static class HippoBases
{
    public const int Count = 5;

    // What a Laguerre function of low order has left further back is next to nothing.
    private const double LaguerreWindow = 16;
    private const double CellHeight = 226;
    private const double Top = 84;

    // Even, as fout asks for.
    private const int States = Count + 1;

    /// <summary>The functions at the points, 0 the oldest and 1 now.</summary>
    public static double[][] Compute(SsmContext context, Measure measure, double[] points)
    {
        var units = new double[Count * States];
        for (var n = 0; n < Count; n++)
        {
            units[n * States + n] = 1;
        }
        var values = new double[Count * points.Length];
        context.HippoReconstruct(measure.Kind, ReadOnlyTensorView.Create<double>(units, Count, States),
            ReadOnlyTensorView.Create<double>(points, points.Length),
            TensorView.Create<double>(values, Count, points.Length),
            measure.Kind == SsmHippoMeasure.Lagt ? LaguerreWindow : 0);
        return [.. values.Chunk(points.Length)];
    }

    public static XElement Draw(SsmContext context, IReadOnlyList<Measure> measures)
    {
        // The formulas have a cell of their own, the last one.
        var columns = Math.Min(3, measures.Count + 1);
        var rows = measures.Count / columns + 1;
        var width = Svg.Width / columns;
        var content = new List<XElement>
        {
            Svg.Legend(20, 50, Enumerable.Range(0, Count).Select(n => (Svg.LineSample(Svg.Colours[n]), $"n = {n}"))),
        };
        for (var i = 0; i < measures.Count; i++)
        {
            content.Add(DrawMeasure(context, measures[i], Cell(i)));
        }
        content.Add(DrawFormulas(measures, Cell(measures.Count)));
        return Svg.Picture(Top + rows * CellHeight - 14, "HiPPO's bases: the first five functions of each measure",
            $"One panel for each of {string.Join(", ", measures.Select(measure => measure.Name))}. The right edge is now.",
            content);

        Frame Cell(int i) =>
            new(i % columns * width + 46, Top + i / columns * CellHeight, width - 62, CellHeight - 70);
    }

    private static XElement DrawFormulas(IReadOnlyList<Measure> measures, Frame frame)
    {
        var lines = measures.Select(measure => $"{measure.Name}: {measure.Formula}")
            .Append("x from 0, the oldest, to 1, now;").Append("s the time before now");
        return Svg.Element("g", [], lines.Select((line, i) => Svg.Text(frame.Left - 20, frame.Top + 12 + 20 * i, line)));
    }

    private static XElement DrawMeasure(SsmContext context, Measure measure, Frame frame)
    {
        // A point for two pixels: the curves look round.
        var points = Axis.Samples(0, 1, (int)(frame.Width / 2) + 1);
        var functions = Compute(context, measure, points);
        var span = measure.Kind == SsmHippoMeasure.Lagt ? LaguerreWindow : measure.Window;
        var isAllOfThePast = span == 0;
        var x = isAllOfThePast ? new Axis(0, 1, "time / now", 4) : new Axis(-span, 0, "time before now", 4);
        var panel = new Panel(frame, x, Axis.Around(functions.SelectMany(function => function)));
        var times = points.Select(point => isAllOfThePast ? point : span * (point - 1)).ToArray();
        // The lowest order on top, as it is the one to begin with.
        for (var n = Count - 1; n >= 0; n--)
        {
            panel.Curve(times, functions[n], Svg.Colours[n]);
        }
        panel.Head(measure.Name, $"{measure.Basis}, {measure.Memory}");
        return panel.Element;
    }
}
