using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace SsmCuda.Tool.Bench;

/// <summary>
/// What this machine's CPU can do at most, measured in the same run as the kernels. Bandwidth: the triad c = a s + b on three
/// arrays far larger than the last cache, with non-temporal stores (12 bytes cross the memory bus per element, as in a float32
/// linear recurrence). Arithmetic: fused multiply-adds on independent accumulators. Both on all threads, with the widest vectors
/// and the next narrower ones, of which the better counts.
/// </summary>
internal sealed unsafe class CpuProbes : IDisposable
{
    private const long TriadLength = 1L << 26;
    private const int FmaRounds = 1 << 21;
    private const int Accumulators = 12;

    private readonly HostArray<float> a;
    private readonly HostArray<float> b;
    private readonly HostArray<float> c;
    private readonly ThreadTeam team;
    private readonly bool wideTriad;

    public CpuProbes(int threads, bool quick)
    {
        var length = quick ? TriadLength / 8 : TriadLength;
        team = new ThreadTeam(threads);
        a = new HostArray<float>(length);
        b = new HostArray<float>(length);
        c = new HostArray<float>(length);
        a.Fill(1, 0.5f, 1.5f);
        b.Fill(2, -1f, 1f);
        Triad();
        // Chosen once, so that every later sample measures the same thing.
        var narrow = Median(5, () => TriadOnce(wide: false));
        wideTriad = Avx512F.IsSupported && Median(5, () => TriadOnce(wide: true)) < narrow;
    }

    /// <summary>One pass of the triad, in seconds.</summary>
    public double TriadSeconds() => TriadOnce(wideTriad);

    public long TriadBytes => 12 * a.Length;

    /// <summary>The result of the triad against its definition, as a check that it did the work it was timed for.</summary>
    public bool TriadIsRight()
    {
        for (long i = 0; i < a.Length; i += 9973)
        {
            if (MathF.Abs(c.Pointer[i] - (a.Pointer[i] * 1.25f + b.Pointer[i])) > 1e-6f)
            {
                return false;
            }
        }
        return true;
    }

    /// <summary>Floating-point operations per second, a fused multiply-add counting as two.</summary>
    public double FmaRate(int rounds)
    {
        var narrow = Median(rounds, () => Fma(wide: false));
        var rate = FmaOperations(Vector256<float>.Count) / narrow;
        if (Avx512F.IsSupported)
        {
            rate = Math.Max(rate, FmaOperations(Vector512<float>.Count) / Median(rounds, () => Fma(wide: true)));
        }
        return rate;
    }

    public void Dispose()
    {
        team.Dispose();
        a.Dispose();
        b.Dispose();
        c.Dispose();
    }

    private static double Median(int count, Func<double> measure) =>
        Statistics.Median(Enumerable.Range(0, count).Select(_ => measure()).ToArray());

    private double FmaOperations(int lanes) => 2.0 * lanes * Accumulators * FmaRounds * team.Threads;

    private void Triad() => TriadOnce(wide: false);

    private double TriadOnce(bool wide) => team.Time(thread =>
    {
        var (begin, end) = HostArray.Part(a.Length, thread, team.Threads);
        if (wide)
        {
            Triad512(a.Pointer, b.Pointer, c.Pointer, begin, end);
        }
        else
        {
            Triad256(a.Pointer, b.Pointer, c.Pointer, begin, end);
        }
    });

    private double Fma(bool wide) => team.Time(_ =>
    {
        var sum = wide ? Fma512(FmaRounds) : Fma256(FmaRounds);
        if (float.IsNaN(sum))
        {
            throw new InvalidOperationException("the FMA probe computed NaN");
        }
    });

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Triad256(float* a, float* b, float* c, long begin, long end)
    {
        var s = Vector256.Create(1.25f);
        for (var i = begin; i < end; i += 16)
        {
            Vector256.StoreAlignedNonTemporal(Vector256.Load(a + i) * s + Vector256.Load(b + i), c + i);
            Vector256.StoreAlignedNonTemporal(Vector256.Load(a + i + 8) * s + Vector256.Load(b + i + 8), c + i + 8);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Triad512(float* a, float* b, float* c, long begin, long end)
    {
        var s = Vector512.Create(1.25f);
        for (var i = begin; i < end; i += 16)
        {
            Vector512.StoreAlignedNonTemporal(Vector512.Load(a + i) * s + Vector512.Load(b + i), c + i);
        }
    }

    // Twelve chains hide a latency of four cycles on two or three pipes; h = h m + k stays near 1, so nothing becomes denormal.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float Fma256(int rounds)
    {
        var m = Vector256.Create(0.5f);
        var k = Vector256.Create(0.5f);
        var h0 = Vector256.Create(0.1f);
        var (h1, h2, h3, h4, h5, h6, h7, h8, h9, h10, h11) = (h0 + k, h0 - k, h0 * k, h0, k, m, h0 + m, h0, k, m, h0);
        for (var i = 0; i < rounds; i++)
        {
            h0 = Vector256.FusedMultiplyAdd(h0, m, k);
            h1 = Vector256.FusedMultiplyAdd(h1, m, k);
            h2 = Vector256.FusedMultiplyAdd(h2, m, k);
            h3 = Vector256.FusedMultiplyAdd(h3, m, k);
            h4 = Vector256.FusedMultiplyAdd(h4, m, k);
            h5 = Vector256.FusedMultiplyAdd(h5, m, k);
            h6 = Vector256.FusedMultiplyAdd(h6, m, k);
            h7 = Vector256.FusedMultiplyAdd(h7, m, k);
            h8 = Vector256.FusedMultiplyAdd(h8, m, k);
            h9 = Vector256.FusedMultiplyAdd(h9, m, k);
            h10 = Vector256.FusedMultiplyAdd(h10, m, k);
            h11 = Vector256.FusedMultiplyAdd(h11, m, k);
        }
        return Vector256.Sum(h0 + h1 + h2 + h3 + h4 + h5 + h6 + h7 + h8 + h9 + h10 + h11);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float Fma512(int rounds)
    {
        var m = Vector512.Create(0.5f);
        var k = Vector512.Create(0.5f);
        var h0 = Vector512.Create(0.1f);
        var (h1, h2, h3, h4, h5, h6, h7, h8, h9, h10, h11) = (h0 + k, h0 - k, h0 * k, h0, k, m, h0 + m, h0, k, m, h0);
        for (var i = 0; i < rounds; i++)
        {
            h0 = Vector512.FusedMultiplyAdd(h0, m, k);
            h1 = Vector512.FusedMultiplyAdd(h1, m, k);
            h2 = Vector512.FusedMultiplyAdd(h2, m, k);
            h3 = Vector512.FusedMultiplyAdd(h3, m, k);
            h4 = Vector512.FusedMultiplyAdd(h4, m, k);
            h5 = Vector512.FusedMultiplyAdd(h5, m, k);
            h6 = Vector512.FusedMultiplyAdd(h6, m, k);
            h7 = Vector512.FusedMultiplyAdd(h7, m, k);
            h8 = Vector512.FusedMultiplyAdd(h8, m, k);
            h9 = Vector512.FusedMultiplyAdd(h9, m, k);
            h10 = Vector512.FusedMultiplyAdd(h10, m, k);
            h11 = Vector512.FusedMultiplyAdd(h11, m, k);
        }
        return Vector512.Sum(h0 + h1 + h2 + h3 + h4 + h5 + h6 + h7 + h8 + h9 + h10 + h11);
    }
}

/// <summary>Threads that start a piece of work together; the time is from the common start to the last one's end.</summary>
internal sealed class ThreadTeam : IDisposable
{
    private readonly Barrier start;
    private readonly Barrier end;
    private readonly Thread[] helpers;
    private Action<int>? work;

    public ThreadTeam(int threads)
    {
        Threads = threads;
        start = new Barrier(threads);
        end = new Barrier(threads);
        helpers = Enumerable.Range(1, threads - 1).Select(index => new Thread(() => Help(index)) { IsBackground = true }).ToArray();
        Array.ForEach(helpers, helper => helper.Start());
    }

    public int Threads { get; }

    public double Time(Action<int> action)
    {
        work = action;
        start.SignalAndWait();
        var begin = Stopwatch.GetTimestamp();
        action(0);
        end.SignalAndWait();
        return Stopwatch.GetElapsedTime(begin).TotalSeconds;
    }

    public void Dispose()
    {
        work = null;
        start.SignalAndWait();
        Array.ForEach(helpers, helper => helper.Join());
        start.Dispose();
        end.Dispose();
    }

    private void Help(int index)
    {
        while (true)
        {
            start.SignalAndWait();
            if (work is not { } action)
            {
                return;
            }
            action(index);
            end.SignalAndWait();
        }
    }
}
