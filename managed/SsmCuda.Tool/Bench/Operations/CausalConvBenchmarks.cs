using System.Runtime.CompilerServices;

namespace SsmCuda.Tool.Bench.Operations;

/// <summary>The long convolution with a kernel as long as the sequence, its spectrum prepared: with a skip connection as in S4, and
/// with a gate as in Hyena. Sizes are those that the loop of L squared steps gets through; bench/native has the long ones.</summary>
internal static class CausalConvBenchmarks
{
    private const string Operation = "causal_conv";

    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick)
    {
        yield return Define<float, Float32Arithmetic>(new("S4 on LRA", 4, 256, 1024), false, quick);
        yield return Define<float, Float32Arithmetic>(new("S4 on LRA", 2, 64, 4096), false, quick);
        yield return Define<float, Float32Arithmetic>(new("Hyena, gated", 1, 768, 1024), true, quick);
        yield return Define<BFloat16, BFloat16Arithmetic>(new("Hyena, gated", 1, 768, 1024), true, quick);
    }

    private static BenchmarkDefinition Define<TStorage, TArithmetic>(SequenceSizes sizes, bool isGated, bool quick)
        where TStorage : unmanaged
        where TArithmetic : struct, IArithmetic<TStorage, float>
    {
        var scaled = sizes.Scaled(quick);
        return new(Operation, scaled.ToString(), TArithmetic.Name,
            device => new Case<TStorage, TArithmetic>(device, scaled, isGated));
    }

    private sealed unsafe class Case<TStorage, TArithmetic> : BenchmarkCase
        where TStorage : unmanaged
        where TArithmetic : struct, IArithmetic<TStorage, float>
    {
        private readonly SsmContext context;
        private readonly SequenceSizes sizes;
        private readonly long numbers; // of a spectrum
        private readonly BenchmarkTensor<TStorage> u;
        private readonly BenchmarkTensor<TStorage>? gate;
        private readonly BenchmarkTensor<float> k;
        private readonly BenchmarkTensor<float> d;
        private readonly BenchmarkTensor<float> spectrum;
        private readonly BenchmarkTensor<TStorage> y;
        private readonly HostArray<TStorage> loopResult;

        public Case(BenchmarkDevice device, SequenceSizes sizes, bool isGated)
        {
            this.sizes = sizes;
            context = device.Context;
            nint[] kernels = [sizes.Channels, (nint)sizes.Length];
            u = device.Input<TStorage>(sizes.Shape, sizes.Strides,
                array => array.Fill(1, (x, phase) => TArithmetic.FromUniform(2 * x - 1, phase)));
            gate = isGated
                ? device.Input<TStorage>(sizes.Shape, sizes.Strides,
                    array => array.Fill(2, (x, phase) => TArithmetic.FromUniform(2 * x - 1, phase)))
                : null;
            k = device.Input<float>(kernels, Strides.Compact(kernels), array => array.Fill(3, -0.1f, 0.1f));
            d = device.Input<float>([sizes.Channels], [1], array => array.Fill(4, -1, 1));
            y = device.Output<TStorage>(sizes.Shape, sizes.Strides);
            numbers = context.CausalConvSpectrumLength(u.Device, k.Device);
            nint[] spectra = [sizes.Channels, (nint)numbers];
            spectrum = device.Output<float>(spectra, Strides.Compact(spectra));
            context.CausalConvPlan(k.Device, spectrum.Device);
            loopResult = new HostArray<TStorage>(sizes.Elements);
        }

        public override long Bytes =>
            (gate is null ? 2 : 3) * sizes.Elements * sizeof(TStorage) + sizes.Channels * numbers * sizeof(float);

        // Two transforms of a row of n real numbers, at 2.5 n log2 n each, and their product.
        public override double Flops => sizes.Rows * (double)numbers * (5 * Math.Log2(numbers) + 3);

        public override Bound Bound => Bound.Arithmetic;

        public override double Tolerance => TArithmetic.Tolerance;

        public override PeerTask? PeerTask =>
            gate is null ? new(Operation, TArithmetic.Name, sizes.Batch, sizes.Channels, sizes.Length) : null;

        public override void Run() => context.CausalConv(u.Device, k.Device, y.Device, new()
        {
            D = d.Device,
            PreGate = gate is null ? default : gate.Device,
            Spectrum = spectrum.Device,
        });

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public override void RunLoop()
        {
            for (long row = 0; row < sizes.Rows; row++)
            {
                var (start, step) = sizes.Row(row);
                var channel = row % sizes.Channels;
                var taps = k.Host.Pointer + channel * sizes.Length;
                for (long t = 0; t < sizes.Length; t++)
                {
                    var sum = d.Host.Pointer[channel] * Load(start + t * step);
                    for (long j = 0; j <= t; j++)
                    {
                        sum += taps[j] * Load(start + (t - j) * step);
                    }
                    loopResult.Pointer[start + t * step] = TArithmetic.Store(sum);
                }
            }
        }

        public override double MaxError()
        {
            var result = y.ToHost();
            var meter = new ErrorMeter();
            foreach (var row in ErrorMeter.Rows(sizes.Rows, sizes.Length))
            {
                var (start, step) = sizes.Row(row);
                var channel = row % sizes.Channels;
                var taps = k.Host.Pointer + channel * sizes.Length;
                for (long t = 0; t < sizes.Length; t++)
                {
                    var sum = d.Host.Pointer[channel] * Exact(start + t * step);
                    for (long j = 0; j <= t; j++)
                    {
                        sum += taps[j] * Exact(start + (t - j) * step);
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
            y.Dispose();
            loopResult.Dispose();
        }

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
