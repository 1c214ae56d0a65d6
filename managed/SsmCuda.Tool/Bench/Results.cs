using System.Text.Json;
using System.Text.Json.Serialization;

namespace SsmCuda.Tool.Bench;

/// <summary>One line of the benchmark table, and one object of its JSON. Null where nothing was or can be measured.</summary>
internal sealed record BenchmarkResult
{
    public required string Operation { get; init; }

    /// <summary>Named after the published model or task it comes from.</summary>
    public required string Shape { get; init; }

    public required string Dtype { get; init; }

    public required string Device { get; init; }

    /// <summary>Threads of the CPU used; 0 on a GPU.</summary>
    public required int Threads { get; init; }

    public required double MedianSeconds { get; init; }

    /// <summary>What has to cross the memory bus at least: every input read once, every output written once.</summary>
    public required long Bytes { get; init; }

    public required double Flops { get; init; }

    public double? GigabytesPerSecond { get; init; }

    public double? GigaflopsPerSecond { get; init; }

    /// <summary>Of the bandwidth or of the arithmetic probed in the same run, whichever bounds the operation.</summary>
    public double? ShareOfCeiling { get; init; }

    /// <summary>Against the plain sequential loop: scalar, one thread, same data.</summary>
    public double? SpeedupOverLoop { get; init; }

    /// <summary>max|y - r| / max|r| against the same definition in double precision.</summary>
    public double? MaxError { get; init; }

    public string Key => $"{Operation} | {Shape} | {Dtype} | {Device} | {Threads}";
}

internal static class BenchmarkResults
{
    public static void Write(string path, IReadOnlyList<BenchmarkResult> results) =>
        JsonReport.Write(path, results.ToArray(), BenchmarkJson.Default.BenchmarkResultArray);

    /// <exception cref="InvalidDataException">The file is not what `ssm bench --json` writes.</exception>
    public static IReadOnlyList<BenchmarkResult> Read(string path)
    {
        try
        {
            using var stream = File.OpenRead(path);
            return JsonSerializer.Deserialize(stream, BenchmarkJson.Default.BenchmarkResultArray)
                ?? throw new InvalidDataException($"{path} holds no results");
        }
        catch (JsonException exception)
        {
            throw new InvalidDataException($"{path} is not a file of `ssm bench --json`: {exception.Message}", exception);
        }
    }
}

[JsonSourceGenerationOptions(WriteIndented = true, PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    IgnoreReadOnlyProperties = true)]
[JsonSerializable(typeof(BenchmarkResult[]))]
internal sealed partial class BenchmarkJson : JsonSerializerContext;
