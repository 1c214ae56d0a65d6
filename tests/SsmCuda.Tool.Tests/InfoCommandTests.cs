using System.Text.Json.Nodes;
using NUnit.Framework;

namespace SsmCuda.Tool.Tests;

public sealed class InfoCommandTests
{
    [Test]
    public void ShowsTheCpuAndWhatBecameOfTheBackends()
    {
        using var folder = new TemporaryFolder();
        var (code, output) = Ssm.Run("info", "--json", folder.File("info.json"));
        Assert.That(code, Is.Zero, output);
        var info = JsonNode.Parse(File.ReadAllText(folder.File("info.json")))!;
        var cpu = info["devices"]!.AsArray().Single(device => (string?)device!["device"] == "cpu")!;
        Assert.Multiple(() =>
        {
            Assert.That((string?)info["library_version"], Is.EqualTo(SsmLibrary.Version));
            Assert.That((int)cpu["multiprocessors"]!, Is.GreaterThan(0));
            Assert.That(cpu["instruction_sets"]!.AsArray(), Is.Not.Empty);
            // A line for each backend, found or not.
            foreach (var backend in new[] { "cpu", "cuda", "emulated" })
            {
                Assert.That(info["backend_log"]!.AsArray().Select(line => (string?)line), Has.Some.StartsWith(backend + ":"));
            }
        });
    }
}
