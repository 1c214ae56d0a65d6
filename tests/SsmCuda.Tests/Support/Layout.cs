using SsmCuda.Interop;

namespace SsmCuda.Tests;

internal static unsafe class Layout
{
    /// <summary>Compares a size or an offset with the library's own.</summary>
    public static void Check(string name, long bytes)
    {
        long expected;
        fixed (byte* text = Utf8.FromString(name))
            SsmException.ThrowIfFailed(NativeMethods.Layout(text, &expected));
        Assert.That(bytes, Is.EqualTo(expected), name);
    }
}
