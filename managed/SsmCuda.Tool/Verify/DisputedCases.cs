namespace SsmCuda.Tool.Verify;

/// <summary>
/// The one list of cases that are skipped because the case itself is in doubt: a line "operation/case" each, # starts a comment.
/// </summary>
internal static class DisputedCases
{
    private static readonly string DefaultPath = Path.Combine("tests", "disputed.txt");

    /// <summary>The list in the repository this tool was built in, if it runs from there.</summary>
    public static string? FindDefault() => Repository.Root is { } root && File.Exists(Path.Combine(root, DefaultPath))
        ? Path.Combine(root, DefaultPath)
        : null;

    public static IReadOnlySet<string> Read(string path) => File.ReadLines(path)
        .Select(line => line.Split('#')[0].Trim())
        .Where(line => line.Length > 0)
        .ToHashSet(StringComparer.Ordinal);
}
