using System.Globalization;
using System.Xml.Linq;

namespace SsmCuda.Tool.Pictures;

/// <summary>The mass that moves while the curves of force and position are drawn. Where nothing moves (a renderer without
/// animation), the curves are whole and the mass is where it ended.</summary>
internal static class SpringPicture
{
    private const double Height = 476;
    private const double Slowness = 8;
    private const double SecondsAtTheEnd = 1.2;
    private const double Wall = 60;
    private const double Rest = 430; // the left edge of the mass where nothing pulls
    private const double Middle = 116;
    private const double HalfMass = 26;
    private const double PixelsPerCentimetre = 100;

    public static XElement Draw(SpringMotion motion)
    {
        // The frames are the steps, then some more of the last one.
        var last = motion.Times.Length - 1;
        var hold = (int)Math.Round(SecondsAtTheEnd / (SpringMotion.Dt * Slowness));
        var frames = Enumerable.Range(0, last + 1 + hold).Select(frame => Math.Min(frame, last)).ToArray();
        var time = new Axis(0, SpringMotion.Steps * SpringMotion.Dt, MostMarks: 10);
        var centimetres = motion.Position.Select(position => 100 * position).ToArray();

        var force = new Panel(new Frame(60, 206, 720, 84), time with { IsNumbered = false },
            new Axis(-0.1, 1.15, "force (N)", 3));
        AnimateCurve(force, motion.Times, motion.Force, frames, Svg.Colours[1]);
        var position = new Panel(new Frame(60, 310, 720, 114), time with { Label = "time (s)" },
            Axis.Around(centimetres, "position (cm)", 4));
        AnimateCurve(position, motion.Times, centimetres, frames, Svg.Colours[0]);

        return Svg.Picture(Height, "A mass on a spring as a discrete state space",
            "A mass of 1 kg on a spring is pushed twice; below it the force and the position are drawn as it moves.",
            [
                Svg.Text(20, 50, Equation(motion)),
                .. DrawMass(motion, centimetres, frames), force.Element, position.Element,
                Svg.Text(780, Height - 12, string.Create(CultureInfo.InvariantCulture, $"{Slowness} times slower than real"),
                    "small", "end"),
            ]);
    }

    private static string Equation(SpringMotion motion)
    {
        var a = motion.ABar.Select(Entry).ToArray();
        var b = motion.BBar.Select(Entry).ToArray();
        return $"x \u2190 [{a[0]}, {a[1]}; {a[2]}, {a[3]}] x + [{b[0]}; {b[1]}] u in each step of 0.01 s; "
            + "k = 40 N/m, b = 5 N s/m";
    }

    // Four decimals, or as many as a small one needs.
    private static string Entry(double value) =>
        Svg.Number(value, Math.Abs(value) < 0.001 ? 6 : 4).Replace('-', '\u2212');

    private static IEnumerable<XElement> DrawMass(SpringMotion motion, double[] centimetres, int[] frames)
    {
        var shifts = frames.Select(step => centimetres[step] * PixelsPerCentimetre).ToArray();
        var top = Svg.Number(Middle - HalfMass - 6);
        var bottom = Svg.Number(Middle + HalfMass + 4);
        yield return Svg.Element("path", [("stroke", "#888"), ("stroke-width", 3.0), ("fill", "none"),
            ("d", $"M{Svg.Number(Wall)} {top}V{bottom}H780")]);
        // Where the mass rests.
        yield return Svg.Element("path",
            [("stroke", "#888"), ("stroke-dasharray", "4 3"), ("d", $"M{Svg.Number(Rest)} {top}V{bottom}")]);
        for (var mark = 0; mark <= 2; mark++)
        {
            var x = Rest + mark * PixelsPerCentimetre;
            yield return Svg.Element("path", [("stroke", "#888"), ("d", $"M{Svg.Number(x)} {bottom}v7")]);
            yield return Svg.Text(x, Middle + HalfMass + 24, mark == 0 ? "0 cm" : $"{mark}", "small", "middle");
        }

        // Stretched from the wall; the width of the line stays.
        var spring = Svg.Element("path",
            [("class", "curve"), ("stroke", "#333"), ("d", Coils()), ("vector-effect", "non-scaling-stroke")]);
        var scales = shifts.Select(shift => Svg.Number((Rest - Wall + shift) / (Rest - Wall), 4) + " 1").ToArray();
        spring.SetAttributeValue("transform", $"scale({scales[^1]})");
        spring.Add(AnimateTransform("scale", scales));
        yield return Svg.Element("g", [("transform", $"translate({Svg.Number(Wall)} {Svg.Number(Middle)})")], spring);

        // As long as the force is large; it vanishes with it.
        var arrow = Svg.Element("path", [("fill", Svg.Colours[1]), ("d", "M0 -3H40V-10L58 0L40 10V3H0z")]);
        var forces = frames.Select(step => Svg.Number(motion.Force[step], 3)).ToArray();
        arrow.SetAttributeValue("transform", $"scale({forces[^1]})");
        arrow.Add(AnimateTransform("scale", forces));
        var mass = Svg.Element("g", [("transform", $"translate({Svg.Number(shifts[^1])} 0)")],
            AnimateTransform("translate", [.. shifts.Select(shift => Svg.Number(shift) + " 0")]),
            Svg.Element("rect",
                [
                    ("y", -HalfMass), ("width", 2 * HalfMass), ("height", 2 * HalfMass), ("rx", 4.0),
                    ("fill", Svg.Colours[0]),
                ]),
            Svg.Element("text", [("x", HalfMass), ("y", 5.0), ("text-anchor", "middle"), ("style", "fill: #fff")], "1 kg"),
            Svg.Element("g", [("transform", $"translate({Svg.Number(2 * HalfMass + 2)} 0)")], arrow));
        yield return Svg.Element("g", [("transform", $"translate({Svg.Number(Rest)} {Svg.Number(Middle)})")], mass);
    }

    // A zigzag from 0 to where the spring rests.
    private static string Coils()
    {
        const int turns = 12;
        const double straight = 24;
        var width = (Rest - Wall - 2 * straight) / (2 * turns);
        var corners = Enumerable.Range(0, 2 * turns).Select(i =>
            $"L{Svg.Number(straight + (i + 0.5) * width)} {Svg.Number(i % 2 == 0 ? -13 : 13)}");
        return $"M0 0H{Svg.Number(straight)}{string.Concat(corners)}"
            + $"L{Svg.Number(Rest - Wall - straight)} 0H{Svg.Number(Rest - Wall)}";
    }

    // The curve; over it a cover that draws back, thin enough to show what will come; over that the point that leads.
    private static void AnimateCurve(Panel panel, double[] times, double[] values, int[] frames, string colour)
    {
        panel.Curve(times, values, colour);
        var x = frames.Select(frame => Svg.Number(panel.X(times[frame]))).ToArray();
        var y = frames.Select(frame => Svg.Number(panel.Y(values[frame]))).ToArray();
        panel.Add(Svg.Element("rect",
            [
                ("x", x[^1]), ("width", panel.Frame.Width), ("height", panel.Frame.Height), ("fill", "#ffffff"),
                ("fill-opacity", "0.8"),
            ],
            Animate("x", x)));
        panel.Add(Svg.Element("circle", [("cx", x[^1]), ("cy", y[^1]), ("r", 4.0), ("fill", colour)],
            Animate("cx", x), Animate("cy", y)));
    }

    private static XElement Animate(string attribute, string[] values) => Svg.Element("animate",
        [("attributeName", attribute), .. Timing(values)]);

    private static XElement AnimateTransform(string type, string[] values) => Svg.Element("animateTransform",
        [("attributeName", "transform"), ("type", type), .. Timing(values)]);

    private static (string, object)[] Timing(string[] values) =>
    [
        ("dur", Svg.Number((values.Length - 1) * SpringMotion.Dt * Slowness, 2) + "s"), ("repeatCount", "indefinite"),
        ("values", string.Join(';', values)),
    ];
}
