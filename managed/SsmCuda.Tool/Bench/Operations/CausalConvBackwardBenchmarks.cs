using System.Runtime.CompilerServices;

namespace SsmCuda.Tool.Bench.Operations;

/// <summary>Gradients of the long convolution of S4: of the sequence, of the kernels and of the skip connection.</summary>
internal static class CausalConvBackwardBenchmarks
{
    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick)
    {
        yield return Define(new("S4, batch of 2", 2, 256, 1024), quick);
        yield return Define(Convolutions.Lra(1024), quick);
    }

    public static IEnumerable<BenchmarkDefinition> Sweep(bool quick) =>
        Convolutions.LraLengths.Concat(Convolutions.Tasks).Select(sizes => Define(sizes, quick));

    private static BenchmarkDefinition Define(SequenceSizes sizes, bool quick)
    {
        var scaled = sizes.Scaled(quick);
        return new("causal_conv_backward", scaled.ToString(), Float32Arithmetic.Name, device => new Case(device, scaled));
    }

    private sealed unsafe class Case : BenchmarkCase
    {
        private readonly SsmContext context;
        private readonly SequenceSizes sizes;
        private readonly long numbers; // of a transform
        private readonly BenchmarkTensor<float> u;
        private readonly BenchmarkTensor<float> k;
        private readonly BenchmarkTensor<float> d;
        private readonly BenchmarkTensor<float> gradY;
        private readonly BenchmarkTensor<float> gradU;
        private readonly BenchmarkTensor<float> gradK;
        private readonly BenchmarkTensor<float> gradD;
        private readonly HostArray<float> loopU;
        private readonly HostArray<float> loopK;

        public Case(BenchmarkDevice device, SequenceSizes sizes)
        {
            this.sizes = sizes;
            context = device.Context;
            nint[] kernels = [sizes.Channels, (nint)sizes.Length];
            u = device.Input<float>(sizes.Shape, sizes.Strides, array => array.Fill(1, -1, 1));
            k = device.Input<float>(kernels, Strides.Compact(kernels), array => array.Fill(2, -0.1f, 0.1f));
            d = device.Input<float>([sizes.Channels], [1], array => array.Fill(3, -1, 1));
            gradY = device.Input<float>(sizes.Shape, sizes.Strides, array => array.Fill(4, -1, 1));
            gradU = device.Output<float>(sizes.Shape, sizes.Strides);
            gradK = device.Output<float>(kernels, Strides.Compact(kernels));
            gradD = device.Output<float>([sizes.Channels], [1]);
            numbers = context.CausalConvSpectrumLength(u.Device, k.Device);
            loopU = new HostArray<float>(HasLoop ? sizes.Elements : 1);
            loopK = new HostArray<float>(HasLoop ? gradK.Host.Length : 1);
        }

        public override long Bytes => sizeof(float) * (3 * sizes.Elements + 2 * sizes.Channels * (sizes.Length + 1));

        // Of each row u and grad_y forward and grad_u back, of each head k forward and grad_k back; two products.
        public override double Flops => (3 * sizes.Rows + 2.0 * sizes.Channels) * Convolutions.Transform(numbers)
            + 6.0 * sizes.Rows * numbers;

        public override Bound Bound => Bound.Arithmetic;

        public override double Tolerance => Float32Arithmetic.Tolerance;

        public override bool HasLoop => Convolutions.IsLoopShort(sizes.Rows * (double)sizes.Length * sizes.Length);

        public override void Run() => context.CausalConvBackward(u.Device, k.Device, gradY.Device, new()
        {
            D = d.Device,
            GradU = gradU.Device,
            GradK = gradK.Device,
            GradD = gradD.Device,
        });

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public override void RunLoop()
        {
            new Span<float>(loopK.Pointer, (int)loopK.Length).Clear();
            for (long row = 0; row < sizes.Rows; row++)
            {
                var start = row * sizes.Length;
                var kernel = row % sizes.Channels * sizes.Length;
                for (long t = 0; t < sizes.Length; t++)
                {
                    var g = gradY.Host.Pointer[start + t];
                    var sum = d.Host.Pointer[row % sizes.Channels] * g;
                    for (long j = 0; j < sizes.Length - t; j++)
                    {
                        sum += k.Host.Pointer[kernel + j] * gradY.Host.Pointer[start + t + j];
                    }
                    loopU.Pointer[start + t] = sum;
                    for (long j = 0; j <= t; j++)
                    {
                        loopK.Pointer[kernel + j] += g * u.Host.Pointer[start + t - j];
                    }
                }
            }
        }

        public override double MaxError() => Math.Max(ErrorOfU(), ErrorOfK());

        public override void Dispose()
        {
            foreach (var tensor in (BenchmarkTensor<float>[])[u, k, d, gradY, gradU, gradK, gradD])
            {
                tensor.Dispose();
            }
            loopU.Dispose();
            loopK.Dispose();
        }

        private double ErrorOfU()
        {
            var result = gradU.ToHost();
            var meter = new ErrorMeter();
            foreach (var row in Convolutions.Rows(sizes.Rows, sizes.Length, sizes.Length))
            {
                var start = row * sizes.Length;
                var weights = k.Host.Pointer + row % sizes.Channels * sizes.Length;
                foreach (var t in Convolutions.Times(sizes.Length, sizes.Length))
                {
                    var sum = (double)d.Host.Pointer[row % sizes.Channels] * gradY.Host.Pointer[start + t];
                    for (long j = 0; j < sizes.Length - t; j++)
                    {
                        sum += (double)weights[j] * gradY.Host.Pointer[start + t + j];
                    }
                    meter.Add(result.Pointer[start + t], sum);
                }
            }
            return meter.Error;
        }

        private double ErrorOfK()
        {
            var result = gradK.ToHost();
            var meter = new ErrorMeter();
            var terms = sizes.Batch * sizes.Length;
            foreach (var head in Convolutions.Rows(sizes.Channels, sizes.Length, terms))
            {
                foreach (var j in Convolutions.Times(sizes.Length, terms))
                {
                    var sum = 0.0;
                    for (long batch = 0; batch < sizes.Batch; batch++)
                    {
                        var start = (batch * sizes.Channels + head) * sizes.Length;
                        for (var t = j; t < sizes.Length; t++)
                        {
                            sum += (double)gradY.Host.Pointer[start + t] * u.Host.Pointer[start + t - j];
                        }
                    }
                    meter.Add(result.Pointer[head * sizes.Length + j], sum);
                }
            }
            return meter.Error;
        }
    }
}
