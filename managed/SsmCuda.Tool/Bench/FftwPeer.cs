using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace SsmCuda.Tool.Bench;

/// <summary>The data of a long convolution in float32, and what came out of ours: y = k * x + d x with x = gate u.</summary>
internal sealed record ConvolutionData(SequenceSizes Sizes, HostArray<float> U, HostArray<float> K, HostArray<float> D,
    HostArray<float>? Gate, HostArray<float> Y, double Tolerance);

/// <summary>
/// FFTW on a long convolution: each row padded with zeros to twice its length, transformed, multiplied by its kernel's spectrum,
/// which is ready, transformed back, and the skip connection added. Plans are FFTW_MEASURE's; rows are split over as many
/// threads as ours has, each of which takes a row through all steps, so that it stays in the cache. What is not FFTW's own is
/// vectorised as far as it goes. The result is compared with ours before anything is timed.
/// </summary>
internal sealed unsafe class FftwPeer : IPeer
{
    private const string Candidate = "padded transforms, FFTW_MEASURE";
    private const long LongestRow = 65_536;

    private readonly Fftw fftw;
    private readonly ThreadTeam team;
    private Convolution? convolution;

    private FftwPeer(Fftw fftw, int threads)
    {
        this.fftw = fftw;
        team = new ThreadTeam(threads);
    }

    public string Name => "fftw";

    public int Threads => team.Threads;

    public string Version => fftw.Version;

    /// <exception cref="PeerException">FFTW is not installed.</exception>
    public static FftwPeer Open(int threads) => new(Fftw.Open(), threads);

    public IReadOnlyList<string> Prepare(BenchmarkCase benchmark)
    {
        convolution?.Dispose();
        convolution = null;
        if (benchmark.Convolution is not { } data || data.Sizes.Length > LongestRow)
        {
            return [];
        }
        convolution = new Convolution(fftw, team, data);
        convolution.Run();
        var error = convolution.Difference();
        return error <= 2 * data.Tolerance
            ? [Candidate]
            : throw new PeerException($"its result differs from ours by {Screen.Number(error, "0.0e+0")}");
    }

    public double? Run(string candidate) => convolution?.Run();

    public void Dispose()
    {
        convolution?.Dispose();
        team.Dispose();
    }

    private sealed class Convolution : IDisposable
    {
        private readonly Fftw fftw;
        private readonly ThreadTeam team;
        private readonly ConvolutionData data;
        private readonly int n;
        private readonly nint forward;
        private readonly nint backward;
        private readonly float*[] real;
        private readonly float*[] complex;
        private readonly float* spectra; // of each head n / 2 + 1 complex numbers, divided by n
        private readonly HostArray<float> y;

        public Convolution(Fftw fftw, ThreadTeam team, ConvolutionData data)
        {
            this.fftw = fftw;
            this.team = team;
            this.data = data;
            n = checked((int)(2 * data.Sizes.Length));
            real = new float*[team.Threads];
            complex = new float*[team.Threads];
            for (var i = 0; i < team.Threads; i++)
            {
                real[i] = fftw.Allocate(n);
                complex[i] = fftw.Allocate(Numbers);
            }
            spectra = fftw.Allocate(data.Sizes.Channels * Numbers);
            y = new HostArray<float>(data.Sizes.Elements);
            forward = fftw.PlanForward(n, real[0], complex[0]);
            backward = fftw.PlanBackward(n, complex[0], real[0]);
            if (forward == 0 || backward == 0)
            {
                Dispose();
                throw new PeerException($"it has no plan for {n} numbers");
            }
            for (var head = 0; head < data.Sizes.Channels; head++)
            {
                Pad(data.K.Pointer + head * data.Sizes.Length, null, real[0]);
                for (var t = 0; t < data.Sizes.Length; t++)
                {
                    real[0][t] /= n;
                }
                fftw.Forward(forward, real[0], complex[0]);
                Copy(complex[0], Spectrum(head), Numbers);
            }
        }

        // Of a spectrum, a complex number being two; even more of them, so that each spectrum starts as the first one does.
        private long Numbers => (n + 2 + 15) / 16 * 16;

        public double Run() => team.Time(thread =>
        {
            var rows = data.Sizes.Rows;
            for (var i = rows * thread / team.Threads; i < rows * (thread + 1) / team.Threads; i++)
            {
                // All rows of a head one after the other: they share its spectrum.
                Row(real[thread], complex[thread], i % data.Sizes.Batch, i / data.Sizes.Batch);
            }
        });

        /// <summary>The largest difference from ours, relative to our largest value.</summary>
        public double Difference()
        {
            var meter = new ErrorMeter();
            for (long i = 0; i < y.Length; i++)
            {
                meter.Add(y.Pointer[i], data.Y.Pointer[i]);
            }
            return meter.Error;
        }

        public void Dispose()
        {
            if (forward != 0)
            {
                fftw.DestroyPlan(forward);
            }
            if (backward != 0)
            {
                fftw.DestroyPlan(backward);
            }
            for (var i = 0; i < team.Threads; i++)
            {
                fftw.Free(real[i]);
                fftw.Free(complex[i]);
            }
            fftw.Free(spectra);
            y.Dispose();
        }

        private float* Spectrum(long head) => spectra + head * Numbers;

        private void Row(float* signal, float* transform, long batch, long head)
        {
            var start = (batch * data.Sizes.Channels + head) * data.Sizes.Length;
            var gate = data.Gate is null ? null : data.Gate.Pointer + start;
            Pad(data.U.Pointer + start, gate, signal);
            fftw.Forward(forward, signal, transform);
            Multiply(transform, Spectrum(head), n + 2);
            fftw.Backward(backward, transform, signal);
            AddSkip(signal, data.U.Pointer + start, gate, data.D.Pointer[head], y.Pointer + start);
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private void Pad(float* from, float* gate, float* to)
        {
            var length = data.Sizes.Length;
            long t = 0;
            for (; t + Vector256<float>.Count <= length; t += Vector256<float>.Count)
            {
                var x = Vector256.Load(from + t);
                (gate is null ? x : x * Vector256.Load(gate + t)).Store(to + t);
            }
            for (; t < length; t++)
            {
                to[t] = gate is null ? from[t] : from[t] * gate[t];
            }
            new Span<float>(to + length, (int)(n - length)).Clear();
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private void AddSkip(float* from, float* u, float* gate, float skip, float* to)
        {
            var length = data.Sizes.Length;
            var factor = Vector256.Create(skip);
            long t = 0;
            for (; t + Vector256<float>.Count <= length; t += Vector256<float>.Count)
            {
                var x = Vector256.Load(u + t);
                x = gate is null ? x : x * Vector256.Load(gate + t);
                (Vector256.Load(from + t) + factor * x).Store(to + t);
            }
            for (; t < length; t++)
            {
                to[t] = from[t] + skip * (gate is null ? u[t] : u[t] * gate[t]);
            }
        }

        // Products of complex numbers, the real part first.
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private static void Multiply(float* x, float* by, long count)
        {
            long i = 0;
            if (Fma.IsSupported)
            {
                for (; i + Vector256<float>.Count <= count; i += Vector256<float>.Count)
                {
                    var (a, b) = (Vector256.Load(x + i), Vector256.Load(by + i));
                    var crossed = Avx.Permute(a, 0b10_11_00_01) * Avx.DuplicateOddIndexed(b);
                    Fma.MultiplyAddSubtract(a, Avx.DuplicateEvenIndexed(b), crossed).Store(x + i);
                }
            }
            for (; i < count; i += 2)
            {
                (x[i], x[i + 1]) = (x[i] * by[i] - x[i + 1] * by[i + 1], x[i] * by[i + 1] + x[i + 1] * by[i]);
            }
        }

        private static void Copy(float* from, float* to, long count) =>
            Buffer.MemoryCopy(from, to, count * sizeof(float), count * sizeof(float));
    }
}
