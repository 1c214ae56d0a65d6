using System.Runtime.CompilerServices;

namespace SsmCuda.Tool.Bench.Operations;

/// <summary>The short convolution before Mamba's scan: four weights, a bias and silu. One number in, one out per element.</summary>
internal static class CausalConv1dBenchmarks
{
    private const string Operation = "causal_conv1d";
    private const int Width = 4;

    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick)
    {
        yield return Define<float, Float32Arithmetic>(new("mamba-130m", 8, 1536, 2048), quick);
        yield return Define<BFloat16, BFloat16Arithmetic>(new("mamba-130m", 8, 1536, 2048), quick);
        yield return Define<float, Float32Arithmetic>(new("mamba-130m", 8, 1536, 2048) { IsChannelsLast = true }, quick);
    }

    public static IEnumerable<BenchmarkDefinition> Sweep(bool quick) =>
        MambaShapes.Sequences.Select(sizes => Define<float, Float32Arithmetic>(sizes, quick).Within(sizes.Elements));

    private static BenchmarkDefinition Define<TStorage, TArithmetic>(SequenceSizes sizes, bool quick)
        where TStorage : unmanaged
        where TArithmetic : struct, IArithmetic<TStorage, float>
    {
        var scaled = sizes.Scaled(quick);
        return new(Operation, scaled.ToString(), TArithmetic.Name, device => new Case<TStorage, TArithmetic>(device, scaled));
    }

    private sealed unsafe class Case<TStorage, TArithmetic> : BenchmarkCase
        where TStorage : unmanaged
        where TArithmetic : struct, IArithmetic<TStorage, float>
    {
        private readonly SsmContext context;
        private readonly SequenceSizes sizes;
        private readonly BenchmarkTensor<TStorage> x;
        private readonly BenchmarkTensor<float> weight;
        private readonly BenchmarkTensor<float> bias;
        private readonly BenchmarkTensor<TStorage> y;
        private readonly HostArray<TStorage> loopResult;

        public Case(BenchmarkDevice device, SequenceSizes sizes)
        {
            this.sizes = sizes;
            context = device.Context;
            x = device.Input<TStorage>(sizes.Shape, sizes.Strides,
                array => array.Fill(1, (x, phase) => TArithmetic.FromUniform(2 * x - 1, phase)));
            weight = device.Input<float>([sizes.Channels, Width], [Width, 1], array => array.Fill(2, -0.5f, 0.5f));
            bias = device.Input<float>([sizes.Channels], [1], array => array.Fill(3, -0.5f, 0.5f));
            y = device.Output<TStorage>(sizes.Shape, sizes.Strides);
            loopResult = new HostArray<TStorage>(sizes.Elements);
        }

        public override long Bytes => 2 * sizes.Elements * sizeof(TStorage);

        // A multiply and add for each weight; silu counts as four.
        public override double Flops => (double)sizes.Elements * (2 * Width + 4);

        public override double Tolerance => TArithmetic.Tolerance;

        // The peer takes the layout it likes best, which is one answer for both of ours.
        public override PeerTask PeerTask => new(Operation, TArithmetic.Name, sizes.Batch, sizes.Channels, sizes.Length)
        {
            Width = Width,
        };

        public override void Run() => context.CausalConv1d(x.Device, weight.Device, y.Device, new()
        {
            Activation = SsmActivation.Silu,
            Bias = bias.Device,
        });

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public override void RunLoop()
        {
            for (long row = 0; row < sizes.Rows; row++)
            {
                var (start, step) = sizes.Row(row);
                var channel = row % sizes.Channels;
                var w = weight.Host.Pointer + channel * Width;
                for (long t = 0; t < sizes.Length; t++)
                {
                    var sum = bias.Host.Pointer[channel];
                    for (var j = Math.Max(0, Width - 1 - t); j < Width; j++)
                    {
                        sum += w[j] * TArithmetic.Load(x.Host.Pointer[start + (t - Width + 1 + j) * step]);
                    }
                    loopResult.Pointer[start + t * step] = TArithmetic.Store(sum / (1 + MathF.Exp(-sum)));
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
                for (long t = 0; t < sizes.Length; t++)
                {
                    double sum = bias.Host.Pointer[channel];
                    for (var j = Math.Max(0, Width - 1 - t); j < Width; j++)
                    {
                        sum += weight.Host.Pointer[channel * Width + j]
                            * TArithmetic.Exact(x.Host.Pointer[start + (t - Width + 1 + j) * step]).Real;
                    }
                    meter.Add(TArithmetic.Exact(result.Pointer[start + t * step]).Real, sum / (1 + Math.Exp(-sum)));
                }
            }
            return meter.Error;
        }

        public override void Dispose()
        {
            x.Dispose();
            weight.Dispose();
            bias.Dispose();
            y.Dispose();
            loopResult.Dispose();
        }
    }
}
