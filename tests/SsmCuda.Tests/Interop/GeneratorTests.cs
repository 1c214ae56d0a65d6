using System.Diagnostics;

namespace SsmCuda.Tests.Interop;

internal sealed class GeneratorTests
{
    private const string HeaderPath = "native/include/ssmcuda/ssmcuda.h";

    private static readonly string[] Generated =
    [
        "managed/SsmCuda/Interop/NativeMethods.g.cs",
        "native/src/core/layout_table.inc",
        "tests/SsmCuda.Tests/Generated/LayoutTests.g.cs",
    ];

    private string folder = "";

    [SetUp]
    public void MakeFolder() => folder = Directory.CreateTempSubdirectory("ssmcuda-generator").FullName;

    [TearDown]
    public void DeleteFolder() => Directory.Delete(folder, recursive: true);

    [Test]
    public void The_committed_files_are_fresh()
    {
        var (exitCode, output) = Run("--check", "--root", Repository.Root);
        Assert.That(exitCode, Is.Zero, output);
    }

    [Test]
    public void A_stale_file_is_named()
    {
        foreach (var file in Generated.Prepend(HeaderPath).Prepend("native/include/ssmcuda/dlpack.h"))
        {
            Directory.CreateDirectory(Path.GetDirectoryName(Path.Combine(folder, file))!);
            File.Copy(Path.Combine(Repository.Root, file), Path.Combine(folder, file));
        }
        foreach (var stale in Generated)
        {
            var path = Path.Combine(folder, stale);
            var text = File.ReadAllText(path);
            File.WriteAllText(path, text.Replace("ssm_linear_recurrence", "ssm_other", StringComparison.Ordinal));
            var (exitCode, output) = Run("--check", "--root", folder);
            Assert.That(exitCode, Is.EqualTo(1), output);
            Assert.That(output, Does.Contain(stale));
            foreach (var fresh in Generated.Where(other => other != stale))
                Assert.That(output, Does.Not.Contain(fresh));
            File.WriteAllText(path, text);
        }
        File.Delete(Path.Combine(folder, Generated[0]));
        Assert.That(Run("--check", "--root", folder).ExitCode, Is.EqualTo(1));
        Assert.That(Run("--root", folder).ExitCode, Is.Zero);
        Assert.That(Run("--check", "--root", folder).ExitCode, Is.Zero);
    }

    // What cannot be bound, and a part of the sentence that says so.
    [TestCase("int32_t ssm_x(long value);", "long")]
    [TestCase("int32_t ssm_x(unsigned long value);", "long")]
    [TestCase("int32_t ssm_x(size_t value);", "size_t")]
    [TestCase("int32_t ssm_x(_Bool value);", "bool")]
    [TestCase("int32_t ssm_x(const char* format, ...);", "variable number")]
    [TestCase("typedef struct ssm_s { int32_t a; } ssm_s; int32_t ssm_x(ssm_s value);", "by value")]
    [TestCase("typedef struct ssm_s { int32_t a; } ssm_s; ssm_s ssm_x(void);", "by value")]
    [TestCase("typedef struct ssm_s { int32_t a : 3; } ssm_s;", "bit field")]
    [TestCase("int32_t ssm_x(long double* value);", "long")]
    [TestCase("int32_t ssm_x(__int128 value);", "no C# type")]
    [TestCase("typedef struct ssm_x_args { /** in maybe (B): text. */ const struct DLTensor* a; } ssm_x_args;", "ssm_x_args.a")]
    [TestCase("typedef struct ssm_x_args { /** no form */ int32_t a; } ssm_x_args;", "ssm_x_args.a")]
    [TestCase("typedef struct ssm_s { /** enum ssm_none: text. */ int32_t a; } ssm_s;", "ssm_none")]
    [TestCase("/** \\param x markup */ int32_t ssm_x(int32_t x);", "markup")]
    [TestCase("this is not C", "clang")]
    public void What_cannot_be_bound_is_refused(string declaration, string sentence)
    {
        var header = Path.Combine(folder, "header.h");
        File.WriteAllText(header, $"#include <stdint.h>\n#include <stddef.h>\nstruct DLTensor;\n{declaration}\n");
        var (exitCode, output) = Run("--root", folder, "--header", header);
        Assert.That(exitCode, Is.EqualTo(2), output);
        Assert.That(output, Does.Contain(sentence));
    }

    [Test]
    public void An_unknown_argument_is_an_error() => Assert.That(Run("--chekc").ExitCode, Is.EqualTo(2));

    private static (int ExitCode, string Output) Run(params string[] arguments)
    {
        var start = new ProcessStartInfo("dotnet",
            [Path.Combine(AppContext.BaseDirectory, "SsmCuda.BindingGenerator.dll"), .. arguments])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using var process = Process.Start(start)!;
        var errors = process.StandardError.ReadToEndAsync();
        var output = process.StandardOutput.ReadToEnd() + errors.GetAwaiter().GetResult();
        process.WaitForExit();
        return (process.ExitCode, output);
    }
}
