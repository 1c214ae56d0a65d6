namespace SsmCuda.Tests;

internal static class Repository
{
    /// <summary>The folder with SsmCuda.sln above the tests.</summary>
    public static string Root
    {
        get
        {
            var folder = AppContext.BaseDirectory;
            while (!File.Exists(Path.Combine(folder, "SsmCuda.sln")))
                folder = Path.GetDirectoryName(folder) ?? throw new InvalidOperationException("The tests run outside the repository.");
            return folder;
        }
    }
}
