using System.Globalization;
using System.Xml.Linq;

namespace SsmCuda.Tool.Pictures;

/// <summary>The elements of SVG that the pictures are made of. Lengths are pixels, written to a tenth of one.</summary>
internal static class Svg
{
    public const double Width = 800;

    /// <summary>Blue, vermilion, green, purple, orange: told apart with any colour vision (Okabe and Ito 2008).</summary>
    public static readonly IReadOnlyList<string> Colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"];

    // A picture has its own background, so that it reads the same on a dark page.
    private const string Style = """

        text { fill: #333; } .title, .name { font-weight: bold; fill: #111; } .title { font-size: 17px; }
        .small { font-size: 11px; fill: #555; } .grid { stroke: #e4e4e4; fill: none; } .frame { stroke: #888; fill: none; }
        .curve { fill: none; stroke-width: 1.6; stroke-linejoin: round; }

        """;

    private static readonly XNamespace Namespace = "http://www.w3.org/2000/svg";

    /// <summary>A picture with a title above it, and words for those who cannot see it.</summary>
    public static XElement Picture(double height, string title, string description, IEnumerable<XElement> content) =>
        Element("svg",
            [
                ("viewBox", $"0 0 {Number(Width)} {Number(height)}"), ("width", Width), ("height", height), ("role", "img"),
                ("font-family", "Helvetica, Arial, sans-serif"), ("font-size", 12.0),
            ],
            [
                Element("title", [], title), Element("desc", [], description), Element("style", [], Style),
                Element("rect", [("width", Width), ("height", height), ("rx", 6.0), ("fill", "#ffffff")]),
                Text(20, 28, title, "title"), .. content,
            ]);

    public static XElement Element(string name, ReadOnlySpan<(string Name, object Value)> attributes,
        params object[] content)
    {
        var element = new XElement(Namespace + name);
        foreach (var (attribute, value) in attributes)
        {
            element.SetAttributeValue(attribute, value is double number ? Number(number) : value);
        }
        element.Add(content);
        return element;
    }

    /// <summary>Text on a line; the anchor is start, middle or end.</summary>
    public static XElement Text(double x, double y, string text, string style = "", string anchor = "start")
    {
        var element = Element("text", [("x", x), ("y", y)], text);
        if (style.Length > 0)
        {
            element.SetAttributeValue("class", style);
        }
        if (anchor != "start")
        {
            element.SetAttributeValue("text-anchor", anchor);
        }
        return element;
    }

    /// <summary>Samples of lines with what they stand for, in a row.</summary>
    public static XElement Legend(double x, double y, params IEnumerable<(XElement Sample, string Label)> entries)
    {
        var row = Element("g", [("transform", $"translate({Number(x)} {Number(y)})")]);
        var left = 0.0;
        foreach (var (sample, label) in entries)
        {
            row.Add(Element("g", [("transform", $"translate({Number(left)} 0)")], sample, Text(28, 4, label)));
            left += 50 + 6.3 * label.Length; // about as wide as letters of 12 pixels are
        }
        return row;
    }

    public static XElement LineSample(string colour) =>
        Element("path", [("class", "curve"), ("stroke", colour), ("d", "M0 0H22")]);

    public static XElement AreaSample(string colour) =>
        Element("rect", [("y", -6.0), ("width", 22.0), ("height", 12.0), ("fill", colour)]);

    /// <summary>Points as a polyline takes them.</summary>
    public static string Points(IEnumerable<(double X, double Y)> points) =>
        string.Join(' ', points.Select(point => $"{Number(point.X)},{Number(point.Y)}"));

    public static string Number(double value) => Number(value, 1);

    public static string Number(double value, int decimals)
    {
        if (!double.IsFinite(value))
        {
            throw new InvalidDataException("a number to be drawn is not finite");
        }
        // The sum turns a negative zero into a plain one.
        return (Math.Round(value, decimals) + 0.0).ToString("0." + new string('#', decimals), CultureInfo.InvariantCulture);
    }
}
