namespace SsmCuda.Tool.Bench.Operations;

/// <summary>All gradients of Mamba-3's heads but those of the states. Bound by arithmetic on a CPU.</summary>
internal static class Mamba3BackwardBenchmarks
{
    private const string Operation = "mamba3_backward";

    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick)
    {
        var sizes = new SsdSizes("mamba3-440m", 1, quick ? 128 : 512, 32, 64, 128);
        yield return Define<float, Float32Arithmetic>(sizes, 4);
        yield return Define<BFloat16, BFloat16Arithmetic>(sizes, 4);
    }

    private static BenchmarkDefinition Define<TStorage, TArithmetic>(SsdSizes sizes, double tolerance)
        where TStorage : unmanaged
        where TArithmetic : struct, IArithmetic<TStorage, float> =>
        new(Operation, sizes.ToString(), TArithmetic.Name,
            device => new Case<TStorage, TArithmetic>(device, sizes, tolerance * TArithmetic.Tolerance));

    private sealed unsafe class Case<TStorage, TArithmetic> : BenchmarkCase
        where TStorage : unmanaged
        where TArithmetic : struct, IArithmetic<TStorage, float>
    {
        private readonly SsmContext context;
        private readonly SsdSizes sizes;
        private readonly Mamba3BenchmarkInputs<TStorage, TArithmetic> inputs;
        private readonly BenchmarkTensor<TStorage> gradY;
        private readonly BenchmarkTensor<TStorage> gradX;
        private readonly BenchmarkTensor<TStorage> gradZ;
        private readonly BenchmarkTensor<TStorage> gradDt;
        private readonly BenchmarkTensor<TStorage> gradTrap;
        private readonly BenchmarkTensor<TStorage> gradB;
        private readonly BenchmarkTensor<TStorage> gradC;
        private readonly BenchmarkTensor<TStorage> gradAngles;
        private readonly BenchmarkTensor<float> gradA;
        private readonly BenchmarkTensor<float> gradD;
        private readonly BenchmarkTensor<float> gradDtBias;
        private readonly BenchmarkTensor<float> gradBBias;
        private readonly BenchmarkTensor<float> gradCBias;
        private readonly HostArray<TStorage> loopResult;

        public Case(BenchmarkDevice device, SsdSizes sizes, double tolerance)
        {
            this.sizes = sizes;
            Tolerance = tolerance;
            context = device.Context;
            inputs = new(device, sizes);
            nint[] steps = [sizes.Batch, (nint)sizes.Length, sizes.Heads];
            nint[] perStep = [sizes.Batch, (nint)sizes.Length, 1, sizes.States];
            nint[] turns = [sizes.Batch, (nint)sizes.Length, 1, Mamba3BenchmarkInputs<TStorage, TArithmetic>.AnglesOf(sizes)];
            gradY = inputs.Random(sizes.Shape, 9, -1, 1);
            gradX = inputs.Output(inputs.X, sizes.Shape);
            gradZ = inputs.Output(inputs.Z, sizes.Shape);
            gradDt = inputs.Output(inputs.Dt, steps);
            gradTrap = inputs.Output(inputs.Trap, steps);
            gradB = inputs.Output(inputs.B, perStep);
            gradC = inputs.Output(inputs.C, perStep);
            gradAngles = inputs.Output(inputs.Angles, turns);
            gradA = inputs.Output(inputs.A, steps);
            gradD = inputs.Output(inputs.D, [sizes.Heads]);
            gradDtBias = inputs.Output(inputs.DtBias, [sizes.Heads]);
            gradBBias = inputs.Output(inputs.BBias, [sizes.Heads, sizes.States]);
            gradCBias = inputs.Output(inputs.CBias, [sizes.Heads, sizes.States]);
            loopResult = new HostArray<TStorage>(sizes.Elements);
        }

        // Everything in, its gradient out, and grad_y in.
        public override long Bytes => 2 * inputs.Bytes + sizes.Elements * sizeof(TStorage);

        // For each state the two multiply-adds of the states, as many for their gradients, and one for x.
        public override double Flops => (double)sizes.Elements * sizes.States * 10;

        public override Bound Bound => Bound.Arithmetic;

        public override double Tolerance { get; }

        public override void Run() => context.Mamba3Backward(inputs.X.Device, inputs.Dt.Device, inputs.A.Device,
            inputs.B.Device, inputs.C.Device, inputs.Trap.Device, gradY.Device, new()
            {
                DtSoftplus = true,
                Angles = inputs.Angles.Device,
                BBias = inputs.BBias.Device,
                CBias = inputs.CBias.Device,
                D = inputs.D.Device,
                Z = inputs.Z.Device,
                DtBias = inputs.DtBias.Device,
                GradX = gradX.Device,
                GradDt = gradDt.Device,
                GradA = gradA.Device,
                GradB = gradB.Device,
                GradC = gradC.Device,
                GradTrap = gradTrap.Device,
                GradAngles = gradAngles.Device,
                GradBBias = gradBBias.Device,
                GradCBias = gradCBias.Device,
                GradD = gradD.Device,
                GradZ = gradZ.Device,
                GradDtBias = gradDtBias.Device,
            });

        // Of grad_x alone.
        public override void RunLoop()
        {
            var rows = new Mamba3BenchmarkRows<TStorage, TArithmetic>(inputs, sizes);
            for (long row = 0; row < sizes.Rows; row++)
                rows.ChannelBackward(row, gradY.Host,
                    (at, value) => loopResult.Pointer[at] = TArithmetic.Store((float)value));
        }

        // Of grad_x, which has everything but the sums over heads in it.
        public override double MaxError()
        {
            var result = gradX.ToHost();
            var meter = new ErrorMeter();
            var rows = new Mamba3BenchmarkRows<TStorage, TArithmetic>(inputs, sizes);
            foreach (var row in ErrorMeter.Rows(sizes.Rows, sizes.Length * sizes.States * 4))
                rows.ChannelBackward(row, gradY.Host,
                    (at, value) => meter.Add(TArithmetic.Exact(result.Pointer[at]).Real, value));
            return meter.Error;
        }

        public override void Dispose()
        {
            inputs.Dispose();
            loopResult.Dispose();
        }
    }
}
