using System.Runtime.CompilerServices;

namespace SsmCuda.Tool.Bench.Operations;

/// <summary>The long convolution, its kernels' spectra prepared: with a kernel as long as the sequence and a skip connection as in
/// S4, with a gate as in Hyena, and of a stream, block by block with the steps before as a state.</summary>
internal static class CausalConvBenchmarks
{
    private const string Operation = "causal_conv";

    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick)
    {
        // The shapes of docs/performance, which the plain loop gets through, and then the published ones.
        yield return Define<float, Float32Arithmetic>(new(new("S4, batch of 4", 4, 256, 1024)), quick);
        yield return Define<float, Float32Arithmetic>(new(new("S4, batch of 4", 4, 256, 4096)), quick);
        yield return Define<float, Float32Arithmetic>(new(new("S4, batch of 4", 4, 256, 16_384)), quick);
        yield return Define<float, Float32Arithmetic>(new(new("S4, one sequence", 1, 64, 65_536)), quick);
        yield return Define<float, Float32Arithmetic>(new(new("single row", 1, 1, 1 << 20)), quick);
        yield return Define<float, Float32Arithmetic>(new(Convolutions.Lra(1024)), quick);
        foreach (var sizes in Convolutions.Tasks)
        {
            yield return Define<float, Float32Arithmetic>(new(sizes), quick);
        }
        yield return Define<float, Float32Arithmetic>(new(new("Hyena, gated", 8, 768, 1024)) { IsGated = true }, quick);
        yield return Define<BFloat16, BFloat16Arithmetic>(new(new("Hyena, gated", 8, 768, 1024)) { IsGated = true }, quick);
        yield return Define<float, Float32Arithmetic>(new(new("S4 stream, blocks", 1, 256, 1024)) { Taps = 4096 }, quick);
        yield return Define<float, Float32Arithmetic>(new(new("S4 stream, steps", 1, 256, 1)) { Taps = 1024 }, quick: false);
    }

    public static IEnumerable<BenchmarkDefinition> Sweep(bool quick) =>
    [
        .. from sizes in Convolutions.LraLengths.Concat(Convolutions.Tasks)
           select Define<float, Float32Arithmetic>(new(sizes), quick),
        .. from length in new long[] { 256, 1024, 4096, 8192, 16_384, 32_768, 65_536, 1 << 18, 1 << 20 }
           from hyena in Convolutions.Hyena(length)
           from definition in new[]
           {
               Define<float, Float32Arithmetic>(new(hyena.Sizes) { IsGated = true }, quick),
               Define<BFloat16, BFloat16Arithmetic>(new(hyena.Sizes) { IsGated = true }, quick),
           }
           select definition with { OnlyOnGpu = hyena.OnlyOnGpu },
    ];

    private static BenchmarkDefinition Define<TStorage, TArithmetic>(Setting setting, bool quick)
        where TStorage : unmanaged
        where TArithmetic : struct, IArithmetic<TStorage, float>
    {
        var scaled = setting with { Sizes = setting.Sizes.Scaled(quick), Taps = setting.Taps / (quick ? 16 : 1) };
        return new(Operation, scaled.ToString(), TArithmetic.Name, device => new Case<TStorage, TArithmetic>(device, scaled));
    }

    private sealed record Setting(SequenceSizes Sizes)
    {
        public bool IsGated { get; init; }

        /// <summary>Of a stream's kernel, which reaches into the blocks before; 0 where the kernel is as long as the
        /// sequence.</summary>
        public long Taps { get; init; }

        public override string ToString() => Taps > 0 ? $"{Sizes} K{Taps}" : Sizes.ToString();
    }

    private sealed unsafe class Case<TStorage, TArithmetic> : BenchmarkCase
        where TStorage : unmanaged
        where TArithmetic : struct, IArithmetic<TStorage, float>
    {
        private readonly SsmContext context;
        private readonly SequenceSizes sizes;
        private readonly long taps;
        private readonly long numbers; // of a spectrum
        private readonly BenchmarkTensor<TStorage> u;
        private readonly BenchmarkTensor<TStorage>? gate;
        private readonly BenchmarkTensor<float> k;
        private readonly BenchmarkTensor<float> d;
        private readonly BenchmarkTensor<float> spectrum;
        private readonly BenchmarkTensor<float>? state; // the steps before
        private readonly BenchmarkTensor<float>? lastState;
        private readonly BenchmarkTensor<TStorage> y;
        private readonly HostArray<TStorage> loopResult;

        public Case(BenchmarkDevice device, Setting setting)
        {
            sizes = setting.Sizes;
            taps = setting.Taps > 0 ? setting.Taps : sizes.Length;
            context = device.Context;
            nint[] kernels = [sizes.Channels, (nint)taps];
            u = device.Input<TStorage>(sizes.Shape, sizes.Strides,
                array => array.Fill(1, (x, phase) => TArithmetic.FromUniform(2 * x - 1, phase)));
            gate = setting.IsGated
                ? device.Input<TStorage>(sizes.Shape, sizes.Strides,
                    array => array.Fill(2, (x, phase) => TArithmetic.FromUniform(2 * x - 1, phase)))
                : null;
            k = device.Input<float>(kernels, Strides.Compact(kernels), array => array.Fill(3, -0.1f, 0.1f));
            d = device.Input<float>([sizes.Channels], [1], array => array.Fill(4, -1, 1));
            if (setting.Taps > 0)
            {
                nint[] before = [sizes.Batch, sizes.Channels, (nint)taps - 1];
                state = device.Input<float>(before, Strides.Compact(before), array => array.Fill(5, -1, 1));
                lastState = device.Output<float>(before, Strides.Compact(before));
            }
            y = device.Output<TStorage>(sizes.Shape, sizes.Strides);
            numbers = context.CausalConvSpectrumLength(u.Device, k.Device, Options());
            nint[] spectra = [sizes.Channels, (nint)numbers];
            spectrum = device.Output<float>(spectra, Strides.Compact(spectra));
            context.CausalConvPlan(k.Device, spectrum.Device);
            loopResult = new HostArray<TStorage>(HasLoop ? sizes.Elements : 1);
        }

        public override long Bytes => (gate is null ? 2 : 3) * sizes.Elements * sizeof(TStorage)
            + sizes.Channels * (IsBySums ? taps : numbers) * sizeof(float)
            + (state is null ? 0 : 2 * sizes.Rows * (taps - 1) * sizeof(float));

        // For each part of a row two transforms and the product; or the sums, where they are fewer.
        public override double Flops => sizes.Rows * Math.Min(ByTransforms, BySums);

        public override Bound Bound => IsBySums && sizes.Length < 16 ? Bound.Memory : Bound.Arithmetic;

        public override double Tolerance => TArithmetic.Tolerance;

        public override bool HasLoop => Convolutions.IsLoopShort(sizes.Rows * (double)sizes.Length * taps / (state is null ? 2 : 1));

        public override PeerTask? PeerTask => gate is null && state is null
            ? new(Operation, TArithmetic.Name, sizes.Batch, sizes.Channels, sizes.Length)
            : null;

        public override ConvolutionData? Convolution => typeof(TStorage) == typeof(float) && state is null
            ? new(sizes, (HostArray<float>)(object)u.Host, k.Host, d.Host, (HostArray<float>?)(object?)gate?.Host,
                (HostArray<float>)(object)y.Host, Tolerance)
            : null;

        private double BySums => 2.0 * sizes.Length * taps / (state is null ? 2 : 1);

        private double ByTransforms
        {
            get
            {
                // A transform gives all of a row that it holds together with the kernel, or else what has met the whole kernel.
                var isWhole = state is null && numbers >= sizes.Length + taps - 1;
                var parts = isWhole ? 1 : Math.Ceiling(sizes.Length / (double)(numbers - taps + 1));
                return parts * (2 * Convolutions.Transform(numbers) + 3 * numbers);
            }
        }

        private bool IsBySums => BySums < ByTransforms;

        public override void Run()
        {
            var options = Options();
            options.Spectrum = spectrum.Device;
            options.LastState = lastState is null ? default : lastState.Device;
            context.CausalConv(u.Device, k.Device, y.Device, options);
        }

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public override void RunLoop()
        {
            for (long row = 0; row < sizes.Rows; row++)
            {
                var (start, step) = sizes.Row(row);
                var channel = row % sizes.Channels;
                var weights = k.Host.Pointer + channel * taps;
                var before = state is null ? null : state.Host.Pointer + (row + 1) * (taps - 1);
                for (long t = 0; t < sizes.Length; t++)
                {
                    var sum = d.Host.Pointer[channel] * Load(start + t * step);
                    for (long j = 0; j <= Math.Min(t, taps - 1); j++)
                    {
                        sum += weights[j] * Load(start + (t - j) * step);
                    }
                    for (var j = t + 1; before is not null && j < taps; j++)
                    {
                        sum += weights[j] * before[t - j];
                    }
                    loopResult.Pointer[start + t * step] = TArithmetic.Store(sum);
                }
            }
        }

        public override double MaxError()
        {
            var result = y.ToHost();
            var meter = new ErrorMeter();
            foreach (var row in Convolutions.Rows(sizes.Rows, sizes.Length, taps))
            {
                var (start, step) = sizes.Row(row);
                var channel = row % sizes.Channels;
                var weights = k.Host.Pointer + channel * taps;
                var before = state is null ? null : state.Host.Pointer + (row + 1) * (taps - 1);
                foreach (var t in Convolutions.Times(sizes.Length, taps))
                {
                    var sum = d.Host.Pointer[channel] * Exact(start + t * step);
                    for (long j = 0; j <= Math.Min(t, taps - 1); j++)
                    {
                        sum += weights[j] * Exact(start + (t - j) * step);
                    }
                    for (var j = t + 1; before is not null && j < taps; j++)
                    {
                        sum += weights[j] * before[t - j];
                    }
                    meter.Add(TArithmetic.Exact(result.Pointer[start + t * step]).Real, sum);
                }
            }
            return meter.Error;
        }

        public override void Dispose()
        {
            u.Dispose();
            gate?.Dispose();
            k.Dispose();
            d.Dispose();
            spectrum.Dispose();
            state?.Dispose();
            lastState?.Dispose();
            y.Dispose();
            loopResult.Dispose();
        }

        private CausalConvOptions Options() => new()
        {
            D = d.Device,
            PreGate = gate is null ? default : gate.Device,
            InitialState = state is null ? default : state.Device,
        };

        private float Load(long at)
        {
            var x = TArithmetic.Load(u.Host.Pointer[at]);
            return gate is null ? x : x * TArithmetic.Load(gate.Host.Pointer[at]);
        }

        private double Exact(long at)
        {
            var x = TArithmetic.Exact(u.Host.Pointer[at]).Real;
            return gate is null ? x : x * TArithmetic.Exact(gate.Host.Pointer[at]).Real;
        }
    }
}
