using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using Spectre.Console;

namespace SsmCuda.Tool.Bench;

/// <summary>`ssm bench`: the ceilings of this machine, then the kernels against them.</summary>
internal static class BenchCommand
{
    public static Command Create()
    {
        var filter = new Option<string?>("--filter")
        {
            Description = "Only benchmarks whose operation, shape and dtype contain this text",
            HelpName = "NAME",
        };
        var device = DeviceOption.Create("cpu", "cuda");
        var json = new Option<string?>("--json") { Description = "Writes the results as an array of objects", HelpName = "FILE" };
        var compare = new Option<string?>("--compare")
        {
            Description = "Compares with the results of an older --json",
            HelpName = "OLD.json",
        };
        var peers = new Option<bool>("--peers")
        {
            Description = "Times whatever peers are installed (FFTW, NumPy, SciPy, PyTorch) in the same run",
        };
        var full = new Option<bool>("--full")
        {
            Description = "Runs BenchmarkDotNet on the managed API instead: time and bytes per call, overhead over the bare C call",
        };
        var quick = new Option<bool>("--quick")
        {
            Description = "Sequences sixteen times shorter and few rounds: that it works, not how fast",
        };
        var sweep = new Option<bool>("--sweep")
        {
            Description = "Every published shape, batch and length instead of one or two of each operation: takes hours",
        };
        const string purpose = "Measures this machine's ceilings, then every kernel against them, and checks the results";
        var command = new Command("bench", purpose)
        {
            filter, device, json, compare, peers, full, quick, sweep,
        };
        command.SetAction(result => Run(new Options(result.GetValue(filter), result.GetValue(device), result.GetValue(json),
            result.GetValue(compare), result.GetValue(peers), result.GetValue(full), result.GetValue(quick),
            result.GetValue(sweep))));
        return command;
    }

    // All of the suite together takes five minutes on two cores, the probes, the data and the checks included.
    private const double SuiteSeconds = 120;
    private const double LongestSeconds = 3;

    private sealed record Options(string? Filter, string? Device, string? Json, string? Compare, bool Peers, bool Full, bool Quick,
        bool Sweep);

    private static int Run(Options options)
    {
        try
        {
            return options.Full ? RunBenchmarkDotNet(options.Filter) : RunSuite(options);
        }
        catch (Exception exception) when (ExitCode.IsExpected(exception))
        {
            Screen.Error(exception.Message);
            return ExitCode.CannotRun;
        }
    }

    private static int RunSuite(Options options)
    {
        // Read before minutes of measuring, not after.
        var old = options.Compare is null ? null : BenchmarkResults.Read(options.Compare);
        using var device = BenchmarkDevice.Open(options.Device, options.Quick);
        var definitions = (options.Sweep ? Suite.Sweep(options.Quick) : Suite.Definitions(options.Quick))
            .Where(definition => device.IsGpu || !definition.OnlyOnGpu)
            .Where(definition => definition.ToString().Contains(options.Filter ?? "", StringComparison.OrdinalIgnoreCase))
            .ToList();
        if (definitions.Count == 0)
        {
            throw new InvalidDataException($"no benchmark's name contains {options.Filter}");
        }

        Screen.Line($"{device.Description}");
        Screen.Line(device.MeasureCeilings());
        var peers = options.Peers ? Peers.StartAll(Math.Max(1, device.Threads), Screen.Line) : [];
        var measurements = new List<Measurement>();
        var clock = Stopwatch.StartNew();
        try
        {
            var measurer = new Measurer(device, peers, options.Quick,
                options.Quick ? 0.3 : Math.Min(LongestSeconds, SuiteSeconds / definitions.Count));
            for (var i = 0; i < definitions.Count; i++)
            {
                foreach (var measurement in measurer.Measure(definitions[i]))
                {
                    measurements.Add(measurement);
                    var result = measurement.Result;
                    Screen.Line($"[{i + 1}/{definitions.Count}, {clock.Elapsed.TotalSeconds:0} s] {result.Operation}, "
                        + $"{result.Shape}, {result.Dtype}: {Units.Seconds(result.MedianSeconds)}, "
                        + $"{Units.Percent(result.ShareOfCeiling)} of the ceiling");
                }
            }
        }
        finally
        {
            peers.ForEach(peer => peer.Dispose());
        }

        Print(measurements);
        Screen.Line(string.Create(CultureInfo.InvariantCulture,
            $"{definitions.Count} benchmarks in {clock.Elapsed.TotalSeconds:0} s."));
        if (options.Json is not null)
        {
            BenchmarkResults.Write(options.Json, measurements.ConvertAll(measurement => measurement.Result));
        }
        if (old is not null)
        {
            Comparison.Print(old, measurements);
        }
        return ReportWrong(measurements);
    }

    private static void Print(List<Measurement> measurements)
    {
        var table = Screen.Table(("operation", false), ("shape", false), ("dtype", false), ("device", false), ("median", true),
            ("bytes", true), ("operations", true), ("rate", true), ("of ceiling", true), ("speed-up over loop", true),
            ("ours / peer", true), ("largest error", true));
        foreach (var measurement in measurements)
        {
            var (result, _, bound, isWrong) = measurement;
            var rate = bound == Bound.Memory
                ? Screen.Number(result.GigabytesPerSecond, "0.0") + " GB/s"
                : Screen.Number(result.GigaflopsPerSecond, "0.0") + " GFLOP/s";
            var speedup = result.SpeedupOverLoop is null ? "n/a" : Screen.Number(result.SpeedupOverLoop, "0.0") + "x";
            table.Row(result.Operation, result.Shape, result.Dtype, result.Device, Units.Seconds(result.MedianSeconds),
                Units.Count(result.Bytes), Units.Count(result.Flops), rate, Units.Percent(result.ShareOfCeiling), speedup,
                measurement.OursOverPeer is { } ratio ? Screen.Number(ratio, ratio < 0.1 ? "0.0000" : "0.00") : "",
                isWrong ? "WRONG" : Screen.Number(result.MaxError, "0.0e+0"));
        }
        Screen.Console.Write(table);
        Screen.Line("Median of rounds in which probe, kernel, loop and peers take turns. Bytes and operations: those of the formulas.");
        Screen.Line("Ceiling: the probe of the same rounds, bandwidth where the rate is in GB/s, multiply-adds where it is in GFLOP/s.");
        Screen.Line("Loop: the formula in plain scalar C#, one thread, same data; n/a where it takes too long. Ours / peer: medians.");
        Screen.Line("Error: the largest, relative to the largest value of the same computation in float64 (of more than 2^25 elements,");
        Screen.Line("on rows spread over all).");
    }

    private static int ReportWrong(List<Measurement> measurements)
    {
        var wrong = measurements.Where(measurement => measurement.IsWrong).ToList();
        foreach (var measurement in wrong)
        {
            Screen.Error($"wrong result: {measurement.Result.Key}, error {Screen.Number(measurement.Result.MaxError, "0.0e+0")}");
        }
        return wrong.Count == 0 ? ExitCode.Success : ExitCode.Wrong;
    }

    // BenchmarkDotNet generates and builds a project of its own, so it needs the sources.
    private static int RunBenchmarkDotNet(string? filter)
    {
        var root = Repository.Root
            ?? throw new InvalidDataException("--full needs the repository: run ./build.sh bench --full in it");
        var start = new ProcessStartInfo("dotnet") { WorkingDirectory = root, UseShellExecute = false };
        foreach (var argument in new[]
        {
            "run", "-c", "Release", "--project", Path.Combine("bench", "SsmCuda.Benchmarks"), "--",
            "--filter", filter is null ? "*" : $"*{filter}*",
        })
        {
            start.ArgumentList.Add(argument);
        }
        using var process = Process.Start(start)!;
        process.WaitForExit();
        return process.ExitCode == 0 ? ExitCode.Success : ExitCode.Wrong;
    }
}
