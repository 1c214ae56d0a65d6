namespace SsmCuda.Tool.Bench.Operations;

/// <summary>One token of a batch through Mamba-3's heads, the states in place. Bound by the state, which is read and
/// written, and for one sequence by the call.</summary>
internal static class Mamba3UpdateBenchmarks
{
    private const string Operation = "mamba3_update";

    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick)
    {
        yield return Define<float, Float32Arithmetic>(new("mamba3-440m", 1, 1, 32, 64, 128));
        yield return Define<BFloat16, BFloat16Arithmetic>(new("mamba3-440m", quick ? 4 : 64, 1, 32, 64, 128));
    }

    private static BenchmarkDefinition Define<TStorage, TArithmetic>(SsdSizes sizes)
        where TStorage : unmanaged
        where TArithmetic : struct, IArithmetic<TStorage, float> =>
        new(Operation, sizes.ToString(), TArithmetic.Name, device => new Case<TStorage, TArithmetic>(device, sizes));

    private sealed unsafe class Case<TStorage, TArithmetic> : BenchmarkCase
        where TStorage : unmanaged
        where TArithmetic : struct, IArithmetic<TStorage, float>
    {
        private readonly SsmContext context;
        private readonly SsdSizes sizes;
        private readonly Mamba3BenchmarkInputs<TStorage, TArithmetic> inputs;
        private readonly BenchmarkTensor<TStorage> y;
        private readonly BenchmarkTensor<float> state;
        private readonly BenchmarkTensor<float> angle;
        private readonly BenchmarkTensor<float> k;
        private readonly BenchmarkTensor<float> x;
        // The states as they were: on a CPU calls move the tensors on.
        private readonly Dictionary<BenchmarkTensor<float>, HostArray<float>> starts = [];
        private readonly HostArray<TStorage> loopResult;

        public Case(BenchmarkDevice device, SsdSizes sizes)
        {
            this.sizes = sizes;
            context = device.Context;
            inputs = new(device, sizes);
            y = inputs.Output(inputs.X, sizes.Shape);
            state = inputs.Parameter([sizes.Batch, sizes.Heads, sizes.Channels, sizes.States], 14, -1, 1);
            angle = inputs.Parameter([sizes.Batch, sizes.Heads, Angles], 15, -3, 3);
            k = inputs.Parameter([sizes.Batch, sizes.Heads, sizes.States], 16, -1, 1);
            x = inputs.Parameter([sizes.Batch, sizes.Heads, sizes.Channels], 17, -1, 1);
            foreach (var tensor in (BenchmarkTensor<float>[])[state, angle, k, x])
            {
                starts[tensor] = new HostArray<float>(tensor.Host.Length);
                Copy(tensor.Host, starts[tensor]);
            }
            loopResult = new HostArray<TStorage>(sizes.Elements);
        }

        private int Angles => Mamba3BenchmarkInputs<TStorage, TArithmetic>.AnglesOf(sizes);

        // The state in and out; the small ones too.
        public override long Bytes => inputs.Bytes + sizes.Elements * sizeof(TStorage)
            + 2 * sizeof(float) * ((long)sizes.Batch * sizes.Heads
                * ((long)sizes.Channels * sizes.States + Angles + sizes.States + sizes.Channels));

        // For each state a product and three multiply-adds.
        public override double Flops => (double)sizes.Elements * sizes.States * 7;

        public override double Tolerance => 4 * TArithmetic.Tolerance;

        public override void Run() => context.Mamba3Update(state.Device, k.Device, x.Device, inputs.X.Device, inputs.Dt.Device,
            inputs.A.Device, inputs.B.Device, inputs.C.Device, inputs.Trap.Device, y.Device, new()
            {
                DtSoftplus = true,
                AngleState = angle.Device,
                Angles = inputs.Angles.Device,
                BBias = inputs.BBias.Device,
                CBias = inputs.CBias.Device,
                D = inputs.D.Device,
                Z = inputs.Z.Device,
                DtBias = inputs.DtBias.Device,
            });

        public override void RunLoop()
        {
            var rows = new Mamba3BenchmarkRows<TStorage, TArithmetic>(inputs, sizes);
            for (long row = 0; row < sizes.Rows; row++)
                rows.Channel(row, (at, value) => loopResult.Pointer[at] = TArithmetic.Store((float)value), StateOf(row));
        }

        // Many runs have taken the states on: one more, from the start.
        public override double MaxError()
        {
            foreach (var (tensor, start) in starts)
            {
                Copy(start, tensor.Host);
                tensor.ToDevice();
            }
            Run();
            var result = y.ToHost();
            var meter = new ErrorMeter();
            var rows = new Mamba3BenchmarkRows<TStorage, TArithmetic>(inputs, sizes);
            foreach (var row in ErrorMeter.Rows(sizes.Rows, sizes.States * 8))
                rows.Channel(row, (at, value) => meter.Add(TArithmetic.Exact(result.Pointer[at]).Real, value), StateOf(row));
            return meter.Error;
        }

        public override void Dispose()
        {
            inputs.Dispose();
            loopResult.Dispose();
            foreach (var start in starts.Values)
                start.Dispose();
        }

        private static void Copy(HostArray<float> from, HostArray<float> to) =>
            new ReadOnlySpan<float>(from.Pointer, (int)from.Length).CopyTo(new(to.Pointer, (int)to.Length));

        private (double[] H, double[] K, double X, double[] Theta) StateOf(long row)
        {
            var head = row / sizes.Channels;
            return (Of(state, row, sizes.States), Of(k, head, sizes.States), starts[x].Pointer[row], Of(angle, head, Angles));
        }

        private double[] Of(BenchmarkTensor<float> tensor, long row, int width)
        {
            var values = new double[width];
            for (var i = 0; i < width; i++)
                values[i] = starts[tensor].Pointer[row * width + i];
            return values;
        }
    }
}
