using System.Globalization;
using Spectre.Console;

namespace SsmCuda.Tool;

/// <summary>What is printed: plain lines, and tables that stay whole when the output goes to a file.</summary>
internal static class Screen
{
    private const int WidthOfAFile = 260;

    public static IAnsiConsole Console { get; } = Create();

    public static void Line(string text = "") => System.Console.Out.WriteLine(text);

    public static void Error(string text) => System.Console.Error.WriteLine("ssm: " + text);

    public static Table Table(params (string Title, bool IsNumber)[] columns)
    {
        var table = new Table().Border(TableBorder.Simple);
        foreach (var (title, isNumber) in columns)
        {
            var column = new TableColumn(Markup.Escape(title)).NoWrap();
            table.AddColumn(isNumber ? column.RightAligned() : column);
        }
        return table;
    }

    public static void Row(this Table table, params string[] cells) => table.AddRow(cells.Select(cell => new Text(cell)));

    public static string Number(double? value, string format) =>
        value is { } number ? number.ToString(format, CultureInfo.InvariantCulture) : "n/a";

    private static IAnsiConsole Create()
    {
        var console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(System.Console.Out) });
        if (System.Console.IsOutputRedirected)
        {
            console.Profile.Width = WidthOfAFile;
        }
        return console;
    }
}
