using System.CommandLine;
using System.Globalization;
using System.Text;
using System.Xml;
using System.Xml.Linq;

namespace SsmCuda.Tool.Pictures;

/// <summary>`--output`: where pictures go. A picture is there whole or not at all.</summary>
internal sealed class PictureFolder
{
    private readonly string path;
    private readonly List<(string File, long Bytes, string Subject)> written = [];

    private PictureFolder(string path) => this.path = path;

    public static Option<string> CreateOption() => new("--output")
    {
        Description = "The folder that the pictures go to, made if missing",
        HelpName = "DIR",
        DefaultValueFactory = _ => ".",
    };

    /// <summary>Looks at the folder before anything is computed.</summary>
    public static PictureFolder Open(string path)
    {
        if (path.Length == 0)
        {
            throw new InvalidDataException("--output: a folder expected, an empty name given");
        }
        if (File.Exists(path))
        {
            throw new InvalidDataException($"--output: a folder expected, {path} is a file");
        }
        try
        {
            Directory.CreateDirectory(path);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new IOException($"--output: the folder {path} cannot be made: {exception.Message}", exception);
        }
        return new PictureFolder(path);
    }

    /// <summary>The same picture gives the same bytes, wherever and whenever.</summary>
    public void Write(string name, string subject, XElement picture)
    {
        var file = Path.Combine(path, name);
        var temporary = Path.Combine(path, string.Create(CultureInfo.InvariantCulture, $".{name}.{Environment.ProcessId}"));
        var bytes = ToBytes(picture);
        try
        {
            File.WriteAllBytes(temporary, bytes);
            File.Move(temporary, file, overwrite: true);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            File.Delete(temporary);
            throw new IOException($"--output: {file} cannot be written: {exception.Message}", exception);
        }
        written.Add((file, bytes.Length, subject));
    }

    /// <summary>Says what was written.</summary>
    public void Summarise()
    {
        var table = Screen.Table(("picture", false), ("kB", true), ("shows", false));
        foreach (var (file, bytes, subject) in written)
        {
            table.Row(file, Screen.Number(bytes / 1000.0, "0.0"), subject);
        }
        Screen.Console.Write(table);
    }

    private static byte[] ToBytes(XElement picture)
    {
        using var stream = new MemoryStream();
        var settings = new XmlWriterSettings
        {
            Encoding = new UTF8Encoding(encoderShouldEmitUTF8Identifier: false),
            OmitXmlDeclaration = true,
            Indent = true,
            NewLineChars = "\n",
        };
        using (var writer = XmlWriter.Create(stream, settings))
        {
            picture.Save(writer);
        }
        stream.WriteByte((byte)'\n');
        return stream.ToArray();
    }
}
