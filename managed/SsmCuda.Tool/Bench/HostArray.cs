using System.Runtime.InteropServices;

namespace SsmCuda.Tool.Bench;

/// <summary>
/// Host memory of any length, 256-byte aligned and touched once, so that a benchmark does not time page faults. The probes and
/// the benchmarks use the same memory, so that a share of the ceiling compares like with like.
/// </summary>
internal sealed unsafe class HostArray<T> : IDisposable
    where T : unmanaged
{
    public HostArray(long length)
    {
        Length = length;
        var bytes = checked((nuint)length * (nuint)sizeof(T));
        Pointer = (T*)NativeMemory.AlignedAlloc(Math.Max(bytes, 256), 256);
        Parallel.For(0, Environment.ProcessorCount, part =>
        {
            var (begin, end) = HostArray.Part(length, part, Environment.ProcessorCount);
            NativeMemory.Clear(Pointer + begin, (nuint)(end - begin) * (nuint)sizeof(T));
        });
    }

    public T* Pointer { get; private set; }

    public long Length { get; }

    public nuint Bytes => (nuint)Length * (nuint)sizeof(T);

    public Span<T> Span(long start, int length) => new(Pointer + start, length);

    public void Dispose()
    {
        NativeMemory.AlignedFree(Pointer);
        Pointer = null;
    }
}

internal static class HostArray
{
    /// <summary>The bounds of part number <paramref name="part"/> of equal parts, on multiples of 64 elements.</summary>
    public static (long Begin, long End) Part(long length, int part, int parts)
    {
        var size = (length / parts + 63) / 64 * 64;
        var begin = Math.Min(length, part * size);
        return (begin, part == parts - 1 ? length : Math.Min(length, begin + size));
    }
}
