using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using NUnit.Framework;
using SsmCuda.Tool.Bench;

namespace SsmCuda.Tool.Tests;

/// <summary>`ssm bench`: that it runs, what it writes, how it compares, and that a wrong result is not a fast one.</summary>
public sealed class BenchCommandTests
{
    private static readonly string[] Fields =
    [
        "operation", "shape", "dtype", "device", "threads", "median_seconds", "bytes", "flops", "gigabytes_per_second",
        "gigaflops_per_second", "share_of_ceiling", "speedup_over_loop", "max_error",
    ];

    private TemporaryFolder folder = null!;

    [SetUp]
    public void MakeFolder() => folder = new TemporaryFolder();

    [TearDown]
    public void DeleteFolder() => folder.Dispose();

    [Test]
    public void EveryOperationIsInTheSuite()
    {
        var measured = Suite.Definitions(quick: true).Select(definition => definition.Operation).ToHashSet();
        var header = File.ReadAllText(Path.Combine(Repository.Root!, "native", "include", "ssmcuda", "ssmcuda.h"));
        var operations = Regex.Matches(header, @"const ssm_(\w+)_args\* args,\s+uint64_t\* bytes")
            .Select(match => match.Groups[1].Value);
        Assert.That(operations, Is.SubsetOf(measured));
        // Set-up operations have no workspace, and not all of them a benchmark.
        var setups = Regex.Matches(header, @"int32_t ssm_(\w+)\(ssm_context\* context, const ssm_\1_args\* args\);")
            .Select(match => match.Groups[1].Value).Except(operations);
        Assert.That(measured, Is.SubsetOf(operations.Concat(setups)));
        Assert.That(Verify.OperationTable.Names, Is.SubsetOf(measured.Concat(setups)));
    }

    [Test]
    public void EveryLineOfTheSuiteHasANameOfItsOwn() =>
        Assert.Multiple(() =>
        {
            Assert.That(Suite.Definitions(quick: false).Select(definition => definition.ToString()), Is.Unique);
            Assert.That(Suite.Sweep(quick: false).Select(definition => definition.ToString()), Is.Unique);
        });

    [Test]
    public void TheJsonHasExactlyTheseFieldsAndComparesWithItself()
    {
        var json = folder.File("new.json");
        var (code, output) = Bench("--filter", "S5 Path-X", "--json", json);
        Assert.That(code, Is.Zero, output);
        var results = JsonNode.Parse(File.ReadAllText(json))!.AsArray();
        Assert.That(results, Has.Count.EqualTo(2));
        Assert.Multiple(() =>
        {
            foreach (var result in results)
            {
                Assert.That(result!.AsObject().Select(property => property.Key), Is.EqualTo(Fields));
                Assert.That((string?)result["dtype"], Is.EqualTo("complex64"));
                Assert.That((string?)result["device"], Is.EqualTo("cpu"));
                Assert.That((double)result["median_seconds"]!, Is.GreaterThan(0));
                Assert.That((double)result["gigabytes_per_second"]!,
                    Is.EqualTo((long)result["bytes"]! / (double)result["median_seconds"]! / 1e9).Within(1e-9).Percent);
                Assert.That((double)result["max_error"]!, Is.LessThan(2e-5));
            }
        });

        // The same results, made ten times slower and ten times faster.
        var old = JsonNode.Parse(File.ReadAllText(json))!.AsArray();
        old[0]!["median_seconds"] = 1000.0;
        old[1]!["median_seconds"] = 1e-9;
        File.WriteAllText(folder.File("old.json"), old.ToJsonString());
        (code, output) = Bench("--filter", "S5 Path-X", "--compare", folder.File("old.json"));
        Assert.Multiple(() =>
        {
            Assert.That(code, Is.Zero, output);
            Assert.That(output, Does.Match(@"linear_recurrence .*faster"));
            Assert.That(output, Does.Match(@"linear_recurrence_backward .*SLOWER"));
        });
    }

    [Test]
    public void PeersThatAreAbsentAreSaidAndNoFailure()
    {
        var (code, output) = Bench("--filter", "cumulative product", "--peers");
        Assert.Multiple(() =>
        {
            Assert.That(code, Is.Zero, output);
            Assert.That(output, Does.Contain("peer fftw: "));
            Assert.That(output, Does.Contain("peer numpy: "));
            Assert.That(output, Does.Contain("peer torch: "));
        });
    }

    [Test]
    public void WhatCannotRunIsAnError()
    {
        File.WriteAllText(folder.File("garbage.json"), "{]");
        Assert.Multiple(() =>
        {
            Assert.That(Bench("--filter", "no such thing").ExitCode, Is.EqualTo(2));
            Assert.That(Bench("--compare", folder.File("garbage.json")).ExitCode, Is.EqualTo(2));
            Assert.That(Bench("--compare", folder.File("missing.json")).ExitCode, Is.EqualTo(2));
            Assert.That(Ssm.Run("bench", "--device", "abacus").ExitCode, Is.Not.Zero);
        });
    }

    [TestCase(1.0, 0.0, "")]
    [TestCase(1.09, 0.0, "")]
    [TestCase(1.2, 0.01, "SLOWER")]
    [TestCase(0.5, 0.01, "faster")]
    [TestCase(1.2, 0.1, "", Description = "its own samples stray as much")]
    public void AChangeCountsBeyondTheNoise(double ratio, double spread, string verdict) =>
        Assert.That(Comparison.Verdict(ratio, spread), Is.EqualTo(verdict));

    [TestCase(1e-9, false)]
    [TestCase(0.5, true)]
    [TestCase(double.NaN, true)]
    [TestCase(double.PositiveInfinity, true)]
    public void AWrongResultIsWrong(double error, bool isWrong)
    {
        using var device = BenchmarkDevice.Open("cpu", quick: true);
        var definition = new BenchmarkDefinition("nothing", "nothing", "float32", _ => new FixedErrorCase(error));
        var measurement = new Measurer(device, [], quick: true, budgetSeconds: 0.3).Measure(definition).Single();
        Assert.That(measurement.IsWrong, Is.EqualTo(isWrong));
    }

    [Test]
    public void TheErrorMeterSeesWhatIsNotFinite()
    {
        var meter = new ErrorMeter();
        meter.Add(1.0, 1.0);
        meter.Add(double.NaN, 1.0);
        Assert.That(meter.Error, Is.EqualTo(double.PositiveInfinity));
    }

    [Test]
    public void TheErrorMeterIsRelativeToTheLargestValue()
    {
        var meter = new ErrorMeter();
        meter.Add(4.0, 4.0);
        meter.Add(1.0, 2.0);
        Assert.That(meter.Error, Is.EqualTo(0.25));
    }

    [TestCase(1, 1L << 26, ExpectedResult = new long[] { 0 })]
    [TestCase(3, 10, ExpectedResult = new long[] { 0, 1, 2 })]
    [TestCase(5, 1L << 24, ExpectedResult = new long[] { 0, 4 })]
    public long[] RowsToCheckAreSpread(long rows, long length) => [.. ErrorMeter.Rows(rows, length)];

    [Test]
    public void MediansAreOrdinary() => Assert.Multiple(() =>
    {
        Assert.That(Statistics.Median([3, 1, 2]), Is.EqualTo(2));
        Assert.That(Statistics.Median([4, 1, 2, 3]), Is.EqualTo(2.5));
        Assert.That(Statistics.RelativeSpread([1, 2, 3]), Is.EqualTo(0.25));
    });

    private static (int ExitCode, string Output) Bench(params string[] arguments) =>
        Ssm.Run(["bench", "--quick", "--device", "cpu", .. arguments]);

    private sealed class FixedErrorCase(double error) : BenchmarkCase
    {
        public override long Bytes => 1;

        public override double Flops => 1;

        public override double Tolerance => 1e-6;

        public override void Run()
        {
        }

        public override void RunLoop()
        {
        }

        public override double MaxError() => error;

        public override void Dispose()
        {
        }
    }
}
