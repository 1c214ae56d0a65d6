using System.Runtime.CompilerServices;

namespace SsmCuda.Tool.Bench;

/// <summary>Fills arrays with uniform numbers, the same in every run, on all cores.</summary>
internal static unsafe class RandomFill
{
    // Each chunk has its own generator, so that the numbers do not depend on how many threads fill.
    private const long ChunkLength = 1 << 20;

    /// <summary>float32 numbers, uniform between two bounds.</summary>
    public static void Fill(this HostArray<float> array, int seed, float low, float high) =>
        Chunks(array.Length, (chunk, begin, end) => FillChunk(array.Pointer, begin, end, Seed(seed, chunk), low, high));

    /// <summary>Any type, made from float32 numbers by a conversion.</summary>
    public static void Fill<T>(this HostArray<T> array, int seed, float low, float high, Func<float, T> convert)
        where T : unmanaged =>
        Chunks(array.Length, (chunk, begin, end) =>
        {
            var state = Seed(seed, chunk);
            for (var i = begin; i < end; i++)
            {
                array.Pointer[i] = convert(low + (high - low) * Next(ref state));
            }
        });

    /// <summary>Complex and other types, made from two numbers between 0 and 1.</summary>
    public static void Fill<T>(this HostArray<T> array, int seed, Func<float, float, T> convert)
        where T : unmanaged =>
        Chunks(array.Length, (chunk, begin, end) =>
        {
            var state = Seed(seed, chunk);
            for (var i = begin; i < end; i++)
            {
                array.Pointer[i] = convert(Next(ref state), Next(ref state));
            }
        });

    private static void Chunks(long length, Action<long, long, long> fill) =>
        Parallel.For(0, (length + ChunkLength - 1) / ChunkLength, chunk =>
            fill(chunk, chunk * ChunkLength, Math.Min(length, (chunk + 1) * ChunkLength)));

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void FillChunk(float* data, long begin, long end, ulong state, float low, float high)
    {
        for (var i = begin; i < end; i++)
        {
            data[i] = low + (high - low) * Next(ref state);
        }
    }

    private static ulong Seed(int seed, long chunk) => ((ulong)seed << 40) + (ulong)chunk * 0x9E3779B97F4A7C15 + 1;

    // splitmix64 (Steele, Lea and Flood 2014), of which the upper 24 bits become a float in [0, 1).
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Next(ref ulong state)
    {
        state += 0x9E3779B97F4A7C15;
        var z = state;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        z ^= z >> 31;
        return (z >> 40) * (1f / (1 << 24));
    }
}
