using System.Reflection;
using System.Runtime.InteropServices;

namespace SsmCuda.Interop;

/// <summary>Finds libssmcuda once: beside the application, in runtimes/RID/native below it, in the folders that the host
/// names (packages, single-file extraction), else where the system looks. Never in the current directory.</summary>
internal static class LibraryResolver
{
    private static readonly Lock Gate = new();
    private static nint library;

    public static nint Resolve(string name, Assembly assembly, DllImportSearchPath? searchPath)
    {
        if (name != NativeMethods.LibraryName)
            return 0;
        lock (Gate)
        {
            if (library == 0)
                library = Load(assembly);
            return library;
        }
    }

    private static nint Load(Assembly assembly)
    {
        var tried = new List<string>();
        foreach (var path in Candidates())
        {
            if (tried.Contains(path))
                continue;
            tried.Add(path);
            // A file that is there and does not load is the answer, not a reason to look further: its error says why.
            if (File.Exists(path))
                return Check(NativeLibrary.Load(path), path);
        }
        // On Unix a bare name goes to the dynamic linker (LD_LIBRARY_PATH, ld.so.conf), on Windows to System32 alone.
        if (NativeLibrary.TryLoad(FileName, assembly, DllImportSearchPath.System32, out var handle))
            return Check(handle, FileName);
        throw new DllNotFoundException($"{FileName} was not found. Tried: {string.Join(", ", tried)} and the system's folders.");
    }

    private static string FileName =>
        OperatingSystem.IsWindows() ? "ssmcuda.dll" : OperatingSystem.IsMacOS() ? "libssmcuda.dylib" : "libssmcuda.so";

    public static IEnumerable<string> Candidates()
    {
        yield return Path.Combine(AppContext.BaseDirectory, FileName);
        yield return Path.Combine(AppContext.BaseDirectory, "runtimes", RuntimeIdentifier, "native", FileName);
        // Absolute folders of the packages in use and of what a single-file application extracted.
        var folders = AppContext.GetData("NATIVE_DLL_SEARCH_DIRECTORIES") as string ?? "";
        foreach (var folder in folders.Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries))
        {
            if (Path.IsPathFullyQualified(folder))
                yield return Path.Combine(folder, FileName);
        }
    }

    private static string RuntimeIdentifier
    {
        get
        {
            var system = OperatingSystem.IsWindows() ? "win" : OperatingSystem.IsMacOS() ? "osx" : "linux";
            return system + "-" + RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant();
        }
    }

    public static unsafe nint Check(nint handle, string path)
    {
        var abi = NativeLibrary.TryGetExport(handle, "ssm_abi_version", out var function)
            ? ((delegate* unmanaged<uint>)function)()
            : 0;
        if (abi == NativeMethods.ExpectedAbiVersion)
            return handle;
        NativeLibrary.Free(handle);
        throw new SsmException(SsmStatus.LibraryNotFound,
            $"{path} has ABI {abi} and this SsmCuda.dll needs {NativeMethods.ExpectedAbiVersion}: use both from one release.");
    }
}
