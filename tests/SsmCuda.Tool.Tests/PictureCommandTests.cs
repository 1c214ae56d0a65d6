using System.Globalization;
using System.Text.RegularExpressions;
using System.Xml.Linq;
using NUnit.Framework;

namespace SsmCuda.Tool.Tests;

/// <summary>`ssm hippo` and `ssm spring` as their user meets them: the files, their bytes, and what is refused.</summary>
public sealed partial class PictureCommandTests
{
    private const long LargestPicture = 150_000;

    private static readonly string[] HippoPictures = ["hippo-bases.svg", "hippo-memory.svg", "initial-kernels.svg"];

    private TemporaryFolder folder = null!;

    [SetUp]
    public void MakeFolder() => folder = new TemporaryFolder();

    [TearDown]
    public void DeleteFolder() => folder.Dispose();

    [Test]
    public void TheCommandsAreListed()
    {
        var (code, output) = Ssm.Run("--help");
        Assert.Multiple(() =>
        {
            Assert.That(code, Is.Zero, output);
            Assert.That(output, Does.Match(@"(?m)^\s+hippo\s+Draws "));
            Assert.That(output, Does.Match(@"(?m)^\s+spring\s+Draws "));
            Assert.That(Ssm.Run("hippo", "--help").Output,
                Does.Contain("--output <DIR>").And.Contain("--measure <legs|legt|"));
        });
    }

    [Test]
    public void EachDeviceDrawsTheSamePictures([Values("hippo", "spring")] string command)
    {
        var names = Pictures(command);
        Draw("cpu", command, "--device", "cpu");
        Draw("again", command, "--device", "cpu");
        // A folder with its parent, both missing.
        Draw("a/b", command, "--device", HasEmulated ? "emulated" : "cpu");
        Assert.Multiple(() =>
        {
            // Nothing but the pictures: no temporary file stays.
            Assert.That(Directory.GetFiles(folder.File("cpu")).Select(Path.GetFileName), Is.EquivalentTo(names));
            foreach (var name in names)
            {
                var bytes = File.ReadAllBytes(folder.File($"cpu/{name}"));
                Assert.That(bytes, Has.Length.LessThan(LargestPicture));
                Assert.That(File.ReadAllBytes(folder.File($"again/{name}")), Is.EqualTo(bytes), name);
                AssertSamePicture(folder.File($"a/b/{name}"), folder.File($"cpu/{name}"));
                AssertStandsAlone(XDocument.Load(folder.File($"cpu/{name}")));
            }
        });
    }

    [Test]
    public void ThePicturesOfTheDocumentsAreThese()
    {
        Draw("here", "hippo", "--device", "cpu");
        Draw("here", "spring", "--device", "cpu");
        var kept = Path.Combine(Repository.Root!, "docs", "pictures");
        foreach (var name in HippoPictures.Append("spring.svg"))
        {
            AssertSamePicture(Path.Combine(kept, name), folder.File($"here/{name}"));
        }
    }

    [TestCase("legs")]
    [TestCase("lagt")]
    public void OneMeasureIsDrawnAlone(string measure)
    {
        Draw("one", "hippo", "--device", "cpu", "--measure", measure);
        foreach (var name in HippoPictures[..2])
        {
            var words = XDocument.Load(folder.File($"one/{name}")).Descendants()
                .Where(element => element.Name.LocalName == "text").Select(text => text.Value).ToArray();
            Assert.That(words, Has.Some.StartsWith(measure));
            Assert.That(words, Has.None.StartsWith("fout"));
        }
    }

    [Test]
    public void AFolderThatIsNoneIsRefused([Values("hippo", "spring")] string command)
    {
        var file = folder.File("file");
        File.WriteAllText(file, "");
        Directory.CreateDirectory(folder.File("taken/hippo-bases.svg"));
        Directory.CreateDirectory(folder.File("taken/spring.svg"));
        Assert.Multiple(() =>
        {
            AssertRefused($"--output: a folder expected, {file} is a file", command, "--output", file);
            AssertRefused("--output: the folder ", command, "--output", Path.Combine(file, "below"));
            AssertRefused("--output: a folder expected, an empty name given", command, "--output", "");
            AssertRefused(" cannot be written: ", command, "--output", folder.File("taken"));
        });
        Assert.That(Directory.GetFiles(folder.File("taken")), Is.Empty);
    }

    [Test]
    public void WhatIsNoMeasureOrDeviceIsRefused() => Assert.Multiple(() =>
    {
        var (code, output) = Ssm.Run("hippo", "--measure", "legendary", "--output", folder.Path);
        Assert.That(code, Is.Not.Zero);
        Assert.That(output, Does.Contain("legendary").And.Contain("legs"));
        Assert.That(Ssm.Run("spring", "--device", "abacus", "--output", folder.Path).ExitCode, Is.Not.Zero);
        Assert.That(Directory.GetFiles(folder.Path), Is.Empty);
    });

    private static string[] Pictures(string command) => command == "hippo" ? HippoPictures : ["spring.svg"];

    private static bool HasEmulated => SsmDevice.Enumerate(SsmDeviceType.Emulated).Count > 0;

    private void Draw(string subfolder, params string[] arguments)
    {
        var (code, output) = Ssm.Run([.. arguments, "--output", folder.File(subfolder)]);
        Assert.That(code, Is.Zero, output);
        // What was written is said.
        Assert.Multiple(() =>
        {
            foreach (var name in Pictures(arguments[0]))
            {
                Assert.That(output, Does.Contain(folder.File($"{subfolder}/{name}")));
            }
        });
    }

    private static void AssertRefused(string message, params string[] arguments)
    {
        var (code, output) = Ssm.Run([.. arguments, "--device", "cpu"]);
        Assert.That(code, Is.EqualTo(2), output);
        Assert.That(output, Does.Contain("ssm: ").And.Contain(message));
    }

    // Another instruction set rounds elsewhere, which may move a point by a tenth of a pixel.
    private static void AssertSamePicture(string path, string expectedPath)
    {
        var (text, expected) = (File.ReadAllText(path), File.ReadAllText(expectedPath));
        Assert.That(Number().Replace(text, "#"), Is.EqualTo(Number().Replace(expected, "#")), path);
        Assert.That(Numbers(text).Zip(Numbers(expected), (first, second) => Math.Abs(first - second)),
            Has.All.LessThan(0.11), path);
    }

    private static double[] Numbers(string text) =>
        [.. Number().Matches(text).Select(match => double.Parse(match.Value, CultureInfo.InvariantCulture))];

    // Nothing that a page which shows the picture would refuse or have to fetch.
    private static void AssertStandsAlone(XDocument picture)
    {
        var root = picture.Root!;
        Assert.That(root.Name.LocalName, Is.EqualTo("svg"));
        Assert.That(root.Elements().Select(element => element.Name.LocalName), Is.SupersetOf(new[] { "title", "desc" }));
        Assert.That(picture.Descendants().Select(element => element.Name.LocalName),
            Has.None.AnyOf("script", "image", "foreignObject"));
        Assert.That(picture.Descendants().Attributes().Select(attribute => attribute.Name.LocalName)
            .Where(name => name == "href" || name.StartsWith("on", StringComparison.Ordinal)), Is.Empty);
    }

    [GeneratedRegex(@"-?\d+(\.\d+)?")]
    private static partial Regex Number();
}
