namespace SsmCuda.Tool;

internal static class Repository
{
    /// <summary>The repository that this tool was built in and runs from; null where it is installed elsewhere.</summary>
    public static string? Root { get; } = Find();

    private static string? Find()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "SsmCuda.sln")))
            {
                return folder.FullName;
            }
        }
        return null;
    }
}
