using System.Runtime.CompilerServices;

namespace SsmCuda.Tool.Bench.Operations;

/// <summary>The gradients of the short convolution before Mamba's scan: two numbers in, one out per element, and the sums of the
/// weights' and biases' gradients.</summary>
internal static class CausalConv1dBackwardBenchmarks
{
    private const string Operation = "causal_conv1d_backward";
    private const int Width = 4;

    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick)
    {
        yield return Define<float, Float32Arithmetic>(new("mamba-130m", 4, 1536, 2048), quick);
        yield return Define<BFloat16, BFloat16Arithmetic>(new("mamba-130m", 4, 1536, 2048), quick);
        yield return Define<float, Float32Arithmetic>(new("mamba-130m", 4, 1536, 2048) { IsChannelsLast = true }, quick);
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
        private readonly BenchmarkTensor<TStorage> gradY;
        private readonly BenchmarkTensor<TStorage> gradX;
        private readonly BenchmarkTensor<float> weight;
        private readonly BenchmarkTensor<float> bias;
        private readonly BenchmarkTensor<float> gradWeight;
        private readonly BenchmarkTensor<float> gradBias;
        private readonly HostArray<TStorage> loopGradX;
        private readonly HostArray<float> loopGradWeight;
        private readonly HostArray<float> loopGradBias;

        public Case(BenchmarkDevice device, SequenceSizes sizes)
        {
            this.sizes = sizes;
            context = device.Context;
            x = device.Input<TStorage>(sizes.Shape, sizes.Strides,
                array => array.Fill(1, (x, phase) => TArithmetic.FromUniform(2 * x - 1, phase)));
            gradY = device.Input<TStorage>(sizes.Shape, sizes.Strides,
                array => array.Fill(4, (x, phase) => TArithmetic.FromUniform(2 * x - 1, phase)));
            weight = device.Input<float>([sizes.Channels, Width], [Width, 1], array => array.Fill(2, -0.5f, 0.5f));
            bias = device.Input<float>([sizes.Channels], [1], array => array.Fill(3, -0.5f, 0.5f));
            gradX = device.Output<TStorage>(sizes.Shape, sizes.Strides);
            gradWeight = device.Output<float>([sizes.Channels, Width], [Width, 1]);
            gradBias = device.Output<float>([sizes.Channels], [1]);
            loopGradX = new HostArray<TStorage>(sizes.Elements);
            loopGradWeight = new HostArray<float>(sizes.Channels * Width);
            loopGradBias = new HostArray<float>(sizes.Channels);
        }

        public override long Bytes => 3 * sizes.Elements * sizeof(TStorage);

        // The sum computed again, grad_x and grad_weight: a multiply and add for each weight; silu's derivative counts as eight.
        public override double Flops => (double)sizes.Elements * (3 * 2 * Width + 8);

        public override double Tolerance => TArithmetic.Tolerance;

        public override void Run() => context.CausalConv1dBackward(x.Device, weight.Device, gradY.Device, new()
        {
            Activation = SsmActivation.Silu,
            Bias = bias.Device,
            GradX = gradX.Device,
            GradWeight = gradWeight.Device,
            GradBias = gradBias.Device,
        });

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public override void RunLoop()
        {
            for (long channel = 0; channel < sizes.Channels; channel++)
            {
                loopGradBias.Pointer[channel] = 0;
                for (var j = 0; j < Width; j++)
                {
                    loopGradWeight.Pointer[channel * Width + j] = 0;
                }
            }
            for (long row = 0; row < sizes.Rows; row++)
            {
                var (start, step) = sizes.Row(row);
                var channel = row % sizes.Channels;
                var w = weight.Host.Pointer + channel * Width;
                var gw = loopGradWeight.Pointer + channel * Width;
                // grad_x_t needs g at the Width - 1 steps behind t: the last ones stay at hand.
                float g1 = 0, g2 = 0, g3 = 0;
                for (var t = sizes.Length - 1; t >= 0; t--)
                {
                    var sum = bias.Host.Pointer[channel];
                    for (var j = Math.Max(0, Width - 1 - t); j < Width; j++)
                    {
                        sum += w[j] * TArithmetic.Load(x.Host.Pointer[start + (t - Width + 1 + j) * step]);
                    }
                    var sigmoid = 1 / (1 + MathF.Exp(-sum));
                    var g = TArithmetic.Load(gradY.Host.Pointer[start + t * step]) * sigmoid * (1 + sum * (1 - sigmoid));
                    loopGradX.Pointer[start + t * step] = TArithmetic.Store(w[3] * g + w[2] * g1 + w[1] * g2 + w[0] * g3);
                    (g1, g2, g3) = (g, g1, g2);
                    loopGradBias.Pointer[channel] += g;
                    for (var j = Math.Max(0, Width - 1 - t); j < Width; j++)
                    {
                        gw[j] += g * TArithmetic.Load(x.Host.Pointer[start + (t - Width + 1 + j) * step]);
                    }
                }
            }
        }

        // Of grad_x; the sums over all steps and rows are for the tests, which see every element of them.
        public override double MaxError()
        {
            var result = gradX.ToHost();
            var meter = new ErrorMeter();
            foreach (var row in ErrorMeter.Rows(sizes.Rows, sizes.Length))
            {
                var (start, step) = sizes.Row(row);
                var channel = row % sizes.Channels;
                var w = weight.Host.Pointer + channel * Width;
                double g1 = 0, g2 = 0, g3 = 0;
                for (var t = sizes.Length - 1; t >= 0; t--)
                {
                    double sum = bias.Host.Pointer[channel];
                    for (var j = Math.Max(0, Width - 1 - t); j < Width; j++)
                    {
                        sum += w[j] * TArithmetic.Exact(x.Host.Pointer[start + (t - Width + 1 + j) * step]).Real;
                    }
                    var sigmoid = 1 / (1 + Math.Exp(-sum));
                    var g = TArithmetic.Exact(gradY.Host.Pointer[start + t * step]).Real * sigmoid * (1 + sum * (1 - sigmoid));
                    meter.Add(TArithmetic.Exact(result.Pointer[start + t * step]).Real, w[3] * g + w[2] * g1 + w[1] * g2 + w[0] * g3);
                    (g1, g2, g3) = (g, g1, g2);
                }
            }
            return meter.Error;
        }

        public override void Dispose()
        {
            x.Dispose();
            gradY.Dispose();
            gradX.Dispose();
            weight.Dispose();
            bias.Dispose();
            gradWeight.Dispose();
            gradBias.Dispose();
            loopGradX.Dispose();
            loopGradWeight.Dispose();
            loopGradBias.Dispose();
        }
    }
}
