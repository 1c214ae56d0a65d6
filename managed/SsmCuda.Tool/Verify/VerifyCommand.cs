using System.CommandLine;

namespace SsmCuda.Tool.Verify;

/// <summary>`ssm verify PATH`: every conformance case below PATH through the managed API.</summary>
internal static class VerifyCommand
{
    // The reference was computed from float32 inputs, widened here; what remains is rounding in double precision.
    private const double Float64Tolerance = 1e-9;

    public static Command Create()
    {
        var path = new Argument<string>("PATH") { Description = "A case (*.safetensors) or a folder with cases below it" };
        var device = DeviceOption.Create("cpu", "cuda", "emulated");
        var operation = new Option<string?>("--operation") { Description = "Only the cases of this operation", HelpName = "NAME" };
        var dtype = new Option<string>("--dtype")
        {
            Description = "float32, or float64: inputs widened, tolerance 1e-9",
            DefaultValueFactory = _ => "float32",
        };
        dtype.AcceptOnlyFromAmong("float32", "float64");
        var json = new Option<string?>("--json")
        {
            Description = "Writes an array of objects: operation, case, device, passed, error, tolerance",
            HelpName = "FILE",
        };
        var disputed = new Option<string?>("--disputed")
        {
            Description = "Cases to skip, a line operation/case each (tests/disputed.txt of the repository this tool runs from)",
            HelpName = "FILE",
        };
        var command = new Command("verify", "Runs every conformance case below PATH and exits with 0 when all pass")
        {
            path, device, operation, dtype, json, disputed,
        };
        command.SetAction(result => Run(result.GetRequiredValue(path), result.GetValue(device), result.GetValue(operation),
            result.GetValue(dtype) == "float64", result.GetValue(json), result.GetValue(disputed)));
        return command;
    }

    private static int Run(string path, string? deviceName, string? operation, bool isFloat64, string? jsonPath,
        string? disputedPath)
    {
        try
        {
            var files = FindCases(path);
            using var context = DeviceOption.CreateContext(deviceName);
            var device = DeviceOption.NameOf(context);
            var disputed = (disputedPath ?? DisputedCases.FindDefault()) is { } list
                ? DisputedCases.Read(list)
                : new HashSet<string>();
            var results = new List<CaseResult>();
            foreach (var file in files)
            {
                if (RunFile(context, device, file, operation, isFloat64, disputed) is { } result)
                {
                    results.Add(result);
                    if (!result.Passed)
                    {
                        Screen.Line($"FAILED {result.Operation}/{result.Case} ({device}): {result.Reason}");
                    }
                }
            }
            if (results.Count == 0)
            {
                throw new FileNotFoundException(operation is null
                    ? $"every case below {path} is disputed"
                    : $"no case of {operation} below {path}");
            }
            if (jsonPath is not null)
            {
                JsonReport.Write(jsonPath, results.ToArray(), CaseResultJson.Default.CaseResultArray);
            }
            Summarise(results);
            return results.TrueForAll(result => result.Passed) ? ExitCode.Success : ExitCode.Wrong;
        }
        catch (Exception exception) when (ExitCode.IsExpected(exception))
        {
            Screen.Error(exception.Message);
            return ExitCode.CannotRun;
        }
    }

    private static List<string> FindCases(string path)
    {
        if (File.Exists(path))
        {
            return [path];
        }
        if (!Directory.Exists(path))
        {
            throw new FileNotFoundException($"there is no {path}");
        }
        var files = Directory.EnumerateFiles(path, "*.safetensors", SearchOption.AllDirectories)
            .Order(StringComparer.Ordinal).ToList();
        return files.Count > 0 ? files : throw new FileNotFoundException($"no case (*.safetensors) below {path}");
    }

    // Null where the case is filtered out or disputed. A file that cannot be read as a case is a case that failed.
    private static CaseResult? RunFile(SsmContext context, string device, string file, string? operation, bool isFloat64,
        IReadOnlySet<string> disputed)
    {
        ConformanceCase conformance;
        try
        {
            conformance = ConformanceCase.Read(file);
        }
        catch (InvalidDataException exception)
        {
            var folder = Path.GetFileName(Path.GetDirectoryName(Path.GetFullPath(file))) ?? "";
            return operation is not null && folder != operation ? null : new CaseResult
            {
                Operation = folder,
                Case = Path.GetFileNameWithoutExtension(file),
                Device = device,
                Passed = false,
                Error = null,
                Tolerance = 0,
                Reason = exception.Message,
            };
        }
        if (operation is not null && conformance.Operation != operation)
        {
            return null;
        }
        if (disputed.Contains($"{conformance.Operation}/{conformance.Name}"))
        {
            Screen.Line($"skipped {conformance.Operation}/{conformance.Name}: disputed");
            return null;
        }
        var tolerance = isFloat64 ? Float64Tolerance : conformance.Tolerance;
        var (error, reason) = RunCase(context, conformance, isFloat64, tolerance);
        return new CaseResult
        {
            Operation = conformance.Operation,
            Case = conformance.Name,
            Device = device,
            Passed = reason is null,
            Error = error is { } value && double.IsFinite(value) ? value : null,
            Tolerance = tolerance,
            Reason = reason,
        };
    }

    /// <summary>The worst error of the outputs, and why the case fails; no reason where it passes.</summary>
    private static (double? Error, string? Reason) RunCase(SsmContext context, ConformanceCase conformance, bool isFloat64,
        double tolerance)
    {
        if (!OperationTable.TryGet(conformance.Operation, out var operation))
        {
            return (null, "unknown operation");
        }
        try
        {
            using var run = new CaseRun(context, conformance, isFloat64);
            operation(run);
            var outputs = run.Finish();
            var worst = (Output: "", Error: 0.0);
            foreach (var (name, reference) in conformance.Outputs)
            {
                if (!outputs.TryGetValue(name, out var result))
                {
                    return (null, $"{name} is not computed");
                }
                var error = CaseError.Of(result, reference.ToDoubles());
                worst = error > worst.Error ? (name, error) : worst;
            }
            var (output, largest) = worst;
            return (largest, largest <= tolerance ? null : $"{output}: error {largest:g3}, tolerance {tolerance:g3}");
        }
        catch (Exception exception) when (exception is SsmException or InvalidDataException or ArgumentException
            or NotSupportedException or InvalidOperationException or KeyNotFoundException)
        {
            return (null, $"{exception.GetType().Name}: {exception.Message}");
        }
    }

    private static void Summarise(List<CaseResult> results)
    {
        var table = Screen.Table(("operation", false), ("cases", true), ("passed", true), ("worst error / tolerance", true));
        foreach (var group in results.GroupBy(result => result.Operation))
        {
            var worst = group.Max(result => result.Error is { } error ? error / result.Tolerance : (double?)null);
            var isComputed = group.All(result => result.Error is not null);
            table.Row(group.Key, Screen.Number(group.Count(), "0"), Screen.Number(group.Count(result => result.Passed), "0"),
                isComputed ? Screen.Number(worst, "g2") : worst is null ? "n/a" : Screen.Number(worst, "g2") + " and n/a");
        }
        Screen.Console.Write(table);
        var passed = results.Count(result => result.Passed);
        Screen.Line($"{passed} passed, {results.Count - passed} failed");
    }
}
