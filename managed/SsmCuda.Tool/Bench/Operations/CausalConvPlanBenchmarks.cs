namespace SsmCuda.Tool.Bench.Operations;

/// <summary>The spectra of a layer's kernels, made once for many convolutions.</summary>
internal static class CausalConvPlanBenchmarks
{
    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick)
    {
        yield return Define(new("S4 on LRA", 1, 256, 4096), quick);
        yield return Define(new("single row", 1, 1, 1 << 20), quick);
    }

    private static BenchmarkDefinition Define(SequenceSizes sizes, bool quick)
    {
        var scaled = sizes.Scaled(quick);
        return new("causal_conv_plan", scaled.ToString(), Float32Arithmetic.Name, device => new Case(device, scaled));
    }

    private sealed unsafe class Case : BenchmarkCase
    {
        private readonly SsmContext context;
        private readonly SequenceSizes sizes;
        private readonly long numbers;
        private readonly BenchmarkTensor<float> k;
        private readonly BenchmarkTensor<float> spectrum;
        private readonly BenchmarkTensor<float> u;
        private readonly BenchmarkTensor<float> y;

        public Case(BenchmarkDevice device, SequenceSizes sizes)
        {
            this.sizes = sizes;
            context = device.Context;
            nint[] kernels = [sizes.Channels, (nint)sizes.Length];
            k = device.Input<float>(kernels, Strides.Compact(kernels), array => array.Fill(1, -1, 1));
            u = device.Input<float>(sizes.Shape, sizes.Strides, array =>
            {
                for (var row = 0; row < sizes.Rows; row++)
                {
                    array.Pointer[row * sizes.Length] = 1;
                }
            });
            y = device.Output<float>(sizes.Shape, sizes.Strides);
            numbers = context.CausalConvSpectrumLength(u.Device, k.Device);
            nint[] spectra = [sizes.Channels, (nint)numbers];
            spectrum = device.Output<float>(spectra, Strides.Compact(spectra));
        }

        public override long Bytes => sizeof(float) * sizes.Channels * (sizes.Length + numbers);

        public override double Flops => sizes.Channels * Convolutions.Transform(numbers);

        public override Bound Bound => Bound.Arithmetic;

        public override double Tolerance => Float32Arithmetic.Tolerance;

        // A sum of all steps for each number of a spectrum is nobody's way.
        public override bool HasLoop => false;

        public override void Run() => context.CausalConvPlan(k.Device, spectrum.Device);

        public override void RunLoop() => throw new NotSupportedException();

        // A spectrum's order is the device's own: what it does to a one at the start of time is the kernel again.
        public override double MaxError()
        {
            context.CausalConv(u.Device, k.Device, y.Device, new() { Spectrum = spectrum.Device });
            context.Synchronize();
            var result = y.ToHost();
            var meter = new ErrorMeter();
            for (long i = 0; i < result.Length; i++)
            {
                meter.Add(result.Pointer[i], k.Host.Pointer[i]);
            }
            return meter.Error;
        }

        public override void Dispose()
        {
            foreach (var tensor in (BenchmarkTensor<float>[])[k, spectrum, u, y])
            {
                tensor.Dispose();
            }
        }
    }
}
