using System.Xml.Linq;

namespace SsmCuda.Tool.Pictures;

/// <summary>Where something lies in a picture, in pixels.</summary>
internal readonly record struct Frame(double Left, double Top, double Width, double Height);

/// <summary>Two axes with curves between them. What is drawn first lies below; the axes lie below everything.</summary>
internal sealed class Panel
{
    private readonly Axis x;
    private readonly Axis y;
    private readonly XElement group;

    // A nested drawing cuts off what leaves it, without a clip path and its id.
    private readonly XElement inside;

    public Panel(Frame frame, Axis x, Axis y)
    {
        Frame = frame;
        this.x = x;
        this.y = y;
        inside = Svg.Element("svg", [("width", frame.Width), ("height", frame.Height)], DrawGrid());
        group = Svg.Element("g", [("transform", $"translate({Svg.Number(frame.Left)} {Svg.Number(frame.Top)})")], inside,
            Svg.Element("rect", [("class", "frame"), ("width", frame.Width), ("height", frame.Height)]));
        DrawNumbers();
        DrawLabels();
    }

    public Frame Frame { get; }

    /// <summary>The panel as an element of the picture.</summary>
    public XElement Element => group;

    /// <summary>A name above the panel, and a note at the right end of that line.</summary>
    public void Head(string name, string note = "")
    {
        group.Add(Svg.Text(0, -8, name, "name"));
        if (note.Length > 0)
        {
            group.Add(Svg.Text(Frame.Width, -8, note, "small", "end"));
        }
    }

    public double X(double value) => x.Map(value, Frame.Width);

    public double Y(double value) => Frame.Height - y.Map(value, Frame.Height);

    /// <summary>Something in the coordinates of the panel, cut off at its edges.</summary>
    public void Add(XElement element) => inside.Add(element);

    /// <summary>The whole height from one value of x to another.</summary>
    public void Band(double from, double to, string colour) => Add(Svg.Element("rect",
        [("x", X(from)), ("width", X(to) - X(from)), ("height", Frame.Height), ("fill", colour)]));

    public XElement Curve(IEnumerable<double> xs, IEnumerable<double> ys, string colour)
    {
        var points = Svg.Points(xs.Zip(ys, (first, second) => (X(first), Y(second))));
        var curve = Svg.Element("polyline", [("class", "curve"), ("stroke", colour), ("points", points)]);
        Add(curve);
        return curve;
    }

    private XElement DrawGrid()
    {
        var across = x.Marks().Select(mark => $"M{Svg.Number(X(mark.Value))} 0V{Svg.Number(Frame.Height)}");
        var along = y.Marks().Select(mark => $"M0 {Svg.Number(Y(mark.Value))}H{Svg.Number(Frame.Width)}");
        return Svg.Element("path", [("class", "grid"), ("d", string.Concat(across.Concat(along)))]);
    }

    private void DrawNumbers()
    {
        foreach (var (value, text) in x.IsNumbered ? x.Marks() : [])
        {
            group.Add(Svg.Text(X(value), Frame.Height + 15, text, "small", "middle"));
        }
        foreach (var (value, text) in y.IsNumbered ? y.Marks() : [])
        {
            group.Add(Svg.Text(-6, Y(value) + 4, text, "small", "end"));
        }
    }

    private void DrawLabels()
    {
        if (x.Label.Length > 0)
        {
            group.Add(Svg.Text(Frame.Width / 2, Frame.Height + 31, x.Label, anchor: "middle"));
        }
        if (y.Label.Length > 0)
        {
            var label = Svg.Text(0, 0, y.Label, anchor: "middle");
            label.SetAttributeValue("transform", $"translate(-36 {Svg.Number(Frame.Height / 2)}) rotate(-90)");
            group.Add(label);
        }
    }
}
