using System.Text.Json.Serialization;

namespace SsmCuda.Tool.Verify;

/// <summary>How one case ended; one object of the JSON of `ssm verify`.</summary>
internal sealed record CaseResult
{
    public required string Operation { get; init; }

    public required string Case { get; init; }

    public required string Device { get; init; }

    public required bool Passed { get; init; }

    /// <summary>The larger of the two relative errors (the second over ten); null where nothing finite was computed.</summary>
    public required double? Error { get; init; }

    public required double Tolerance { get; init; }

    /// <summary>Why it failed, for the screen.</summary>
    [JsonIgnore]
    public string? Reason { get; init; }
}

[JsonSourceGenerationOptions(WriteIndented = true, PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(CaseResult[]))]
internal sealed partial class CaseResultJson : JsonSerializerContext;
