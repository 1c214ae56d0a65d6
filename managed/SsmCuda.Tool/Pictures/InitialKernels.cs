using System.Numerics;
using System.Xml.Linq;

namespace SsmCuda.Tool.Pictures;

/// <summary>The convolution kernels that S4 and S4D start their training from, over time in seconds.</summary>
internal static class InitialKernels
{
    public const int Count = 4;
    public const int States = 32;
    public const int Length = 1000;
    public const double Dt = 0.005;

    private const double CellHeight = 226;
    private const double Top = 84;
    private const int StepsPerPoint = 5;

    public static IReadOnlyList<(string Name, string Title, SsmDiagonalInit? Init)> All { get; } =
    [
        ("S4-LegS", "normal plus low rank", null),
        ("S4D-LegS", "its low rank left out", SsmDiagonalInit.Legs),
        ("S4D-Inv", "1/n frequencies", SsmDiagonalInit.Inv),
        ("S4D-Lin", "even frequencies", SsmDiagonalInit.Lin),
        ("S4D-Quad", "square frequencies", SsmDiagonalInit.Quad),
        ("S4D-Real", "decays alone", SsmDiagonalInit.Real),
    ];

    /// <summary>Four kernels of 2 N states, as impulse responses: divided by dt. For legs one for each of the first
    /// four coefficients, for the others one for each of the four slowest pairs of states. Null is legs as it is, by
    /// dplr_kernel.</summary>
    public static double[][] Compute(SsmContext context, SsmDiagonalInit? init)
    {
        var (a, p, b, v) = (new Complex[States], new Complex[States], new Complex[States], new Complex[2 * States * States]);
        context.HippoNplr(SsmHippoMeasure.Legs, TensorView.Create<Complex>(a, States),
            TensorView.Create<Complex>(p, 1, States), TensorView.Create<Complex>(b, States),
            TensorView.Create<Complex>(v, 2 * States, States));
        // Row n of V is the output that reads coefficient n.
        var c = v.AsSpan(0, Count * States).ToArray();
        if (init is { } diagonal)
        {
            context.DiagonalInitialize(diagonal, TensorView.Create<Complex>(a, States),
                TensorView.Create<Complex>(b, States));
            if (diagonal != SsmDiagonalInit.Legs)
            {
                c = SlowestStates(a);
            }
        }

        using var deviceA = context.ToDevice<Complex>(Repeat(a), Count, States);
        using var deviceB = context.ToDevice<Complex>(Repeat(b), Count, States);
        using var deviceC = context.ToDevice<Complex>(c, Count, States);
        using var deviceDt = context.ToDevice<double>(Repeat([Dt]), Count);
        using var k = context.Allocate<double>(Count, Length);
        if (init is null)
        {
            using var deviceP = context.ToDevice<Complex>(Repeat(p), Count, 1, States);
            context.DplrKernel(deviceA, deviceP, deviceB, deviceC, deviceDt, k, conjugatePairs: true, cIsTilde: false);
        }
        else
        {
            context.DiagonalKernel(deviceA, deviceB, deviceC, deviceDt, k, new() { Discretization = SsmDiscretization.Zoh });
        }
        return [.. k.ToArray().Select(value => value / Dt).Chunk(Length)];
    }

    public static XElement Draw(SsmContext context)
    {
        const int columns = 3;
        const double width = Svg.Width / columns;
        var content = new List<XElement>
        {
            Svg.Legend(20, 50, Enumerable.Range(0, Count).Select(n => (Svg.LineSample(Svg.Colours[n]), $"n = {n}"))),
            Svg.Text(346, 54, "LegS: what reads coefficient n. The others: the nth slowest pair of states."),
        };
        var times = Enumerable.Range(0, Length / StepsPerPoint).Select(i => i * StepsPerPoint * Dt).ToArray();
        for (var i = 0; i < All.Count; i++)
        {
            var (name, title, init) = All[i];
            var kernels = Compute(context, init)
                .Select(kernel => kernel.Where((_, step) => step % StepsPerPoint == 0).ToArray()).ToArray();
            var panel = new Panel(
                new Frame(i % columns * width + 46, Top + i / columns * CellHeight, width - 62, CellHeight - 70),
                new Axis(0, Length * Dt, "time"), Axis.Around(kernels.SelectMany(kernel => kernel)));
            for (var n = Count - 1; n >= 0; n--)
            {
                panel.Curve(times, kernels[n], Svg.Colours[n]);
            }
            panel.Head(name, title);
            content.Add(panel.Element);
        }
        return Svg.Picture(Top + All.Count / columns * CellHeight - 14,
            "The kernels that S4 and S4D start from, of 64 states",
            "A panel for each initialisation. LegS: the kernels of its first four coefficients. The others: those of the "
            + "four slowest pairs of states.", content);
    }

    // Outputs that read one pair of states each, those with the lowest frequencies.
    private static Complex[] SlowestStates(Complex[] a)
    {
        var order = Enumerable.Range(0, States).OrderBy(n => Math.Abs(a[n].Imaginary)).ToArray();
        var c = new Complex[Count * States];
        for (var row = 0; row < Count; row++)
        {
            c[row * States + order[row]] = 1;
        }
        return c;
    }

    private static T[] Repeat<T>(T[] row) => [.. Enumerable.Repeat(row, Count).SelectMany(values => values)];
}
