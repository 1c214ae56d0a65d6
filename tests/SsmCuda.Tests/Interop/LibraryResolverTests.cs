using System.Runtime.InteropServices;
using SsmCuda.Interop;

namespace SsmCuda.Tests.Interop;

internal sealed class LibraryResolverTests
{
    [Test]
    public void The_library_beside_the_application_is_used()
    {
        Assume.That(OperatingSystem.IsLinux(), "mappings are read from /proc");
        _ = SsmLibrary.Version;
        var mapped = File.ReadAllLines("/proc/self/maps").Where(line => line.EndsWith("/libssmcuda.so", StringComparison.Ordinal));
        Assert.That(mapped.Select(line => line[line.IndexOf('/', StringComparison.Ordinal)..]).Distinct(),
            Is.EqualTo((string[])[Path.Combine(AppContext.BaseDirectory, "libssmcuda.so")]));
    }

    [Test]
    public void The_current_directory_is_never_searched()
    {
        Assert.That(LibraryResolver.Candidates(), Is.Not.Empty);
        Assert.That(LibraryResolver.Candidates(), Is.All.Matches<string?>(path => Path.IsPathFullyQualified(path!)));
        Assert.That(LibraryResolver.Candidates().First(), Does.StartWith(AppContext.BaseDirectory));
    }

    [Test]
    public void Another_library_is_refused_with_both_numbers()
    {
        Assume.That(OperatingSystem.IsLinux());
        var error = Assert.Throws<SsmException>(() => LibraryResolver.Check(NativeLibrary.Load("libc.so.6"), "/lib/other.so"));
        Assert.That(error.Status, Is.EqualTo(SsmStatus.LibraryNotFound));
        Assert.That(error.Message, Does.Contain("/lib/other.so").And.Contains("ABI 0").And.Contains($"needs {NativeMethods.ExpectedAbiVersion}"));
    }
}
