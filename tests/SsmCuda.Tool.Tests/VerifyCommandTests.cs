using System.Text.Json;
using NUnit.Framework;

namespace SsmCuda.Tool.Tests;

/// <summary>`ssm verify` on small cases made here: what passes, what fails, and what it answers.</summary>
public sealed class VerifyCommandTests
{
    private TemporaryFolder folder = null!;

    [SetUp]
    public void MakeFolder() => folder = new TemporaryFolder();

    [TearDown]
    public void DeleteFolder() => folder.Dispose();

    [TestCase("float32")]
    [TestCase("float64")]
    public void ARightCasePasses(string dtype)
    {
        Write("good", Recurrence());
        var (code, output) = Verify("--dtype", dtype);
        Assert.Multiple(() =>
        {
            Assert.That(code, Is.Zero, output);
            Assert.That(output, Does.EndWith("1 passed, 0 failed" + Environment.NewLine));
        });
    }

    [Test]
    public void AComplexCasePasses()
    {
        Write("complex", new SafetensorsBuilder().Metadata("op", "linear_recurrence")
            .Metadata("params", """{"reverse": false, "is_complex": true}""").Metadata("tolerance", "5e-06")
            .Add("in.a", [1, 1, 2, 2], 0f, 0f, 0f, 0.5f)
            .Add("in.b", [1, 1, 2, 2], 2f, 4f, 1f, 0f)
            .Add("out.h", [1, 1, 2, 2], 2.0, 4.0, -1.0, 1.0)
            .Add("out.last_state", [1, 1, 2], -1.0, 1.0));
        var (code, output) = Verify();
        Assert.That(code, Is.Zero, output);
    }

    [Test]
    public void AWrongReferenceFails()
    {
        Write("good", Recurrence());
        Write("bad", Recurrence(last: 1.51));
        var (code, output) = Verify();
        Assert.Multiple(() =>
        {
            Assert.That(code, Is.EqualTo(1), output);
            Assert.That(output, Does.Contain("FAILED linear_recurrence/bad (cpu): last_state: error"));
            Assert.That(output, Does.Contain("1 passed, 1 failed"));
        });
    }

    [Test]
    public void Float64IsHeldToItsOwnTolerance()
    {
        // Off by 1e-7: rounding in float32, a mistake in float64.
        Write("close", Recurrence(last: 1.5 + 1e-7));
        Assert.Multiple(() =>
        {
            Assert.That(Verify().ExitCode, Is.Zero);
            Assert.That(Verify("--dtype", "float64").ExitCode, Is.EqualTo(1));
        });
    }

    [Test]
    public void AnElementThatIsNotFiniteFails()
    {
        Write("infinite", Recurrence(firstInput: float.PositiveInfinity));
        var (code, output) = Verify();
        Assert.That(code, Is.EqualTo(1), output);
    }

    [Test]
    public void AnUnknownOperationFails()
    {
        Write("good", Recurrence());
        Write("unknown", Recurrence(operation: "time_travel"));
        var (code, output) = Verify("--json", folder.File("results.json"));
        Assert.Multiple(() =>
        {
            Assert.That(code, Is.EqualTo(1), output);
            Assert.That(output, Does.Contain("FAILED time_travel/unknown (cpu): unknown operation"));
            Assert.That(Json()[1].GetProperty("error").ValueKind, Is.EqualTo(JsonValueKind.Null));
        });
    }

    [Test]
    public void AnOperationCanBeChosen()
    {
        Write("good", Recurrence());
        Write("unknown", Recurrence(operation: "time_travel"));
        Assert.Multiple(() =>
        {
            Assert.That(Verify("--operation", "linear_recurrence").ExitCode, Is.Zero);
            Assert.That(Verify("--operation", "time_travel").ExitCode, Is.EqualTo(1));
            Assert.That(Verify("--operation", "selective_scan").ExitCode, Is.EqualTo(2));
        });
    }

    [Test]
    public void TheJsonHasExactlyTheseFields()
    {
        Write("bad", Recurrence(last: 3));
        Write("good", Recurrence());
        Verify("--json", folder.File("results.json"));
        var results = Json();
        Assert.Multiple(() =>
        {
            Assert.That(results, Has.Count.EqualTo(2));
            foreach (var result in results)
            {
                Assert.That(result.EnumerateObject().Select(property => property.Name),
                    Is.EqualTo(new[] { "operation", "case", "device", "passed", "error", "tolerance" }));
            }
            Assert.That(results[0].GetProperty("case").GetString(), Is.EqualTo("bad"));
            Assert.That(results[0].GetProperty("passed").GetBoolean(), Is.False);
            Assert.That(results[0].GetProperty("error").GetDouble(), Is.GreaterThan(0.1));
            Assert.That(results[1].GetProperty("operation").GetString(), Is.EqualTo("linear_recurrence"));
            Assert.That(results[1].GetProperty("device").GetString(), Is.EqualTo("cpu"));
            Assert.That(results[1].GetProperty("passed").GetBoolean(), Is.True);
            Assert.That(results[1].GetProperty("tolerance").GetDouble(), Is.EqualTo(5e-6));
        });
    }

    [Test]
    public void AFileThatIsNoCaseFails()
    {
        Write("good", Recurrence());
        File.WriteAllBytes(folder.File("cut.safetensors"), Recurrence().Build()[..100]);
        var (code, output) = Verify();
        Assert.Multiple(() =>
        {
            Assert.That(code, Is.EqualTo(1), output);
            Assert.That(output, Does.Contain("1 passed, 1 failed"));
        });
    }

    [Test]
    public void AnInputThatTheOperationDoesNotTakeFails()
    {
        Write("more", Recurrence().Add("in.colour", [1], 1f));
        var (code, output) = Verify();
        Assert.Multiple(() =>
        {
            Assert.That(code, Is.EqualTo(1), output);
            Assert.That(output, Does.Contain("colour"));
        });
    }

    [Test]
    public void AnOutputThatTheOperationDoesNotGiveFails()
    {
        Write("more", Recurrence().Add("out.colour", [1], 1.0));
        var (code, output) = Verify();
        Assert.Multiple(() =>
        {
            Assert.That(code, Is.EqualTo(1), output);
            Assert.That(output, Does.Contain("colour is not computed"));
        });
    }

    [Test]
    public void DisputedCasesAreSkippedAndSaid()
    {
        Write("good", Recurrence());
        Write("bad", Recurrence(last: 9));
        File.WriteAllText(folder.File("disputed.txt"), "# in doubt\nlinear_recurrence/bad  # its reference is wrong\n");
        var (code, output) = Verify("--disputed", folder.File("disputed.txt"));
        Assert.Multiple(() =>
        {
            Assert.That(code, Is.Zero, output);
            Assert.That(output, Does.Contain("skipped linear_recurrence/bad"));
            Assert.That(output, Does.Contain("1 passed, 0 failed"));
        });
    }

    [Test]
    public void NothingToRunIsAnError()
    {
        File.WriteAllText(folder.File("disputed.txt"), "linear_recurrence/only");
        Assert.Multiple(() =>
        {
            Assert.That(Verify().ExitCode, Is.EqualTo(2), "an empty folder");
            Assert.That(Ssm.Run("verify", folder.File("missing")).ExitCode, Is.EqualTo(2), "no folder");
            Write("only", Recurrence());
            Assert.That(Verify("--disputed", folder.File("disputed.txt")).ExitCode, Is.EqualTo(2), "nothing but disputed cases");
        });
    }

    [Test]
    public void UnknownOptionsAreErrors()
    {
        Write("good", Recurrence());
        Assert.Multiple(() =>
        {
            Assert.That(Ssm.Run("verify", folder.Path, "--device", "abacus").ExitCode, Is.Not.Zero);
            Assert.That(Verify("--dtype", "float31").ExitCode, Is.Not.Zero);
            Assert.That(Ssm.Run("verify").ExitCode, Is.Not.Zero);
        });
    }

    [Test]
    public void ADeviceThatIsAbsentIsAnErrorThatSaysWhy()
    {
        Assume.That(SsmDevice.Enumerate(SsmDeviceType.Cuda), Is.Empty, "there is a CUDA device here");
        Write("good", Recurrence());
        var (code, output) = Ssm.Run("verify", folder.Path, "--device", "cuda");
        Assert.Multiple(() =>
        {
            Assert.That(code, Is.EqualTo(2), output);
            Assert.That(output, Does.StartWith("ssm: "));
            Assert.That(output, Does.Contain("cuda"));
        });
    }

    // h_0 = 2, h_1 = 0.5 * 2 + 0.5.
    private static SafetensorsBuilder Recurrence(string operation = "linear_recurrence", double last = 1.5, float firstInput = 2) =>
        new SafetensorsBuilder().Metadata("op", operation)
            .Metadata("params", """{"reverse": false, "is_complex": false}""").Metadata("tolerance", "5e-06")
            .Add("in.a", [1, 1, 2], 0f, 0.5f)
            .Add("in.b", [1, 1, 2], firstInput, 0.5f)
            .Add("out.h", [1, 1, 2], 2, last)
            .Add("out.last_state", [1, 1], last);

    private void Write(string name, SafetensorsBuilder content) =>
        File.WriteAllBytes(folder.File(name + ".safetensors"), content.Build());

    private (int ExitCode, string Output) Verify(params string[] arguments) =>
        Ssm.Run(["verify", folder.Path, "--device", "cpu", .. arguments]);

    private List<JsonElement> Json()
    {
        using var document = JsonDocument.Parse(File.ReadAllText(folder.File("results.json")));
        return [.. document.RootElement.EnumerateArray().Select(element => element.Clone())];
    }
}
