using System.Runtime.CompilerServices;

namespace SsmCuda.Tool.Bench.Operations;

/// <summary>The gradients of Mamba-2's heads: of x, dt, b, c and z, and of the parameters. Bound by arithmetic on a
/// CPU.</summary>
internal static class SsdBackwardBenchmarks
{
    private const string Operation = "ssd_backward";

    // For each state and step: h again, its gradient, and what it gives for x, b and c, a multiply-add each.
    private const int FlopsPerState = 10;

    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick)
    {
        yield return Define<float, Float32Arithmetic>(new("mamba2-130m", 1, 2048, 24, 64, 128), quick, 2);
        yield return Define<BFloat16, BFloat16Arithmetic>(new("mamba2-130m", 1, 2048, 24, 64, 128), quick, 3);
    }

    public static IEnumerable<BenchmarkDefinition> Sweep(bool quick) =>
        MambaShapes.Heads.SelectMany(sizes => new[]
        {
            Define<float, Float32Arithmetic>(sizes, quick, 2).Within(sizes.Elements),
            Define<BFloat16, BFloat16Arithmetic>(sizes, quick, 3) with { OnlyOnGpu = true },
        });

    private static BenchmarkDefinition Define<TStorage, TArithmetic>(SsdSizes sizes, bool quick, double tolerance)
        where TStorage : unmanaged
        where TArithmetic : struct, IArithmetic<TStorage, float>
    {
        var scaled = quick ? sizes with { Length = sizes.Length / 16 } : sizes;
        return new(Operation, scaled.ToString(), TArithmetic.Name,
            device => new Case<TStorage, TArithmetic>(device, scaled, tolerance * TArithmetic.Tolerance));
    }

    private sealed unsafe class Case<TStorage, TArithmetic> : BenchmarkCase
        where TStorage : unmanaged
        where TArithmetic : struct, IArithmetic<TStorage, float>
    {
        private readonly SsmContext context;
        private readonly SsdSizes sizes;
        private readonly SsdBenchmarkInputs<TStorage, TArithmetic> inputs;
        private readonly BenchmarkTensor<TStorage> gradY;
        private readonly BenchmarkTensor<TStorage> gradX;
        private readonly BenchmarkTensor<TStorage> gradZ;
        private readonly BenchmarkTensor<TStorage> gradDt;
        private readonly BenchmarkTensor<TStorage> gradB;
        private readonly BenchmarkTensor<TStorage> gradC;
        private readonly BenchmarkTensor<float> gradA;
        private readonly BenchmarkTensor<float> gradD;
        private readonly BenchmarkTensor<float> gradDtBias;
        private readonly HostArray<TStorage> loopResult;
        private readonly HostArray<float> loopStates;

        public Case(BenchmarkDevice device, SsdSizes sizes, double tolerance)
        {
            this.sizes = sizes;
            Tolerance = tolerance;
            context = device.Context;
            inputs = new(device, sizes);
            gradY = inputs.Random(sizes.Shape, 9, -1, 1);
            gradX = Output(sizes.Shape);
            gradZ = Output(sizes.Shape);
            gradDt = Output([sizes.Batch, (nint)sizes.Length, sizes.Heads]);
            gradB = Output([sizes.Batch, (nint)sizes.Length, 1, sizes.States]);
            gradC = Output([sizes.Batch, (nint)sizes.Length, 1, sizes.States]);
            gradA = device.Output<float>([sizes.Heads], [1]);
            gradD = device.Output<float>([sizes.Heads], [1]);
            gradDtBias = device.Output<float>([sizes.Heads], [1]);
            loopResult = new HostArray<TStorage>(sizes.Elements);
            loopStates = new HostArray<float>(sizes.Length * sizes.States);

            BenchmarkTensor<TStorage> Output(nint[] shape) => device.Output<TStorage>(shape, SsdSizes.Compact(shape));
        }

        // x, z, grad_y in, grad_x, grad_z out; b and c and their gradients; dt and its own.
        public override long Bytes => (5 * sizes.Elements + 4 * sizes.Steps * sizes.States + 2 * sizes.Steps * sizes.Heads)
            * sizeof(TStorage);

        public override double Flops => (double)sizes.Elements * sizes.States * FlopsPerState;

        public override Bound Bound => Bound.Arithmetic;

        public override double Tolerance { get; }

        public override void Run() => context.SsdBackward(inputs.X.Device, inputs.Dt.Device, inputs.A.Device, inputs.B.Device,
            inputs.C.Device, gradY.Device, new()
            {
                DtSoftplus = true,
                D = inputs.D.Device,
                Z = inputs.Z.Device,
                DtBias = inputs.DtBias.Device,
                GradX = gradX.Device,
                GradZ = gradZ.Device,
                GradDt = gradDt.Device,
                GradA = gradA.Device,
                GradB = gradB.Device,
                GradC = gradC.Device,
                GradD = gradD.Device,
                GradDtBias = gradDtBias.Device,
            });

        /// <summary>What the loop and the check have for a step.</summary>
        private float StepSize(long step, long head)
        {
            var biased = TArithmetic.Load(inputs.Dt.Host.Pointer[step * sizes.Heads + head]) + inputs.DtBias.Host.Pointer[head];
            return biased > 20 ? biased : MathF.Log(1 + MathF.Exp(biased));
        }

        // A channel at a time: forward for its states, backward for grad_x; grad_b and grad_c are summed into what is thrown away.
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public override void RunLoop()
        {
            var (states, length) = (sizes.States, sizes.Length);
            var behind = stackalloc float[states];
            var thrown = stackalloc float[2 * states];
            for (long row = 0; row < sizes.Rows; row++)
            {
                var (batch, head, channel) = sizes.PlaceOf(row);
                for (long t = 0; t < length; t++)
                {
                    var step = batch * length + t;
                    var s = StepSize(step, head);
                    var decay = MathF.Exp(s * inputs.A.Host.Pointer[head]);
                    var x = TArithmetic.Load(inputs.X.Host.Pointer[(step * sizes.Heads + head) * sizes.Channels + channel]);
                    var pb = inputs.B.Host.Pointer + step * states;
                    var h = loopStates.Pointer + t * states;
                    for (var n = 0; n < states; n++)
                    {
                        h[n] = (t > 0 ? decay * h[n - states] : 0) + s * x * TArithmetic.Load(pb[n]);
                    }
                }
                new Span<float>(behind, states).Clear();
                for (var t = length - 1; t >= 0; t--)
                {
                    var step = batch * length + t;
                    var s = StepSize(step, head);
                    var decay = MathF.Exp(s * inputs.A.Host.Pointer[head]);
                    var at = (step * sizes.Heads + head) * sizes.Channels + channel;
                    var x = TArithmetic.Load(inputs.X.Host.Pointer[at]);
                    var gate = TArithmetic.Load(inputs.Z.Host.Pointer[at]);
                    var g = TArithmetic.Load(gradY.Host.Pointer[at]) * gate / (1 + MathF.Exp(-gate));
                    var sum = 0f;
                    var through = 0f;
                    var pb = inputs.B.Host.Pointer + step * states;
                    var pc = inputs.C.Host.Pointer + step * states;
                    var h = loopStates.Pointer + t * states;
                    for (var n = 0; n < states; n++)
                    {
                        behind[n] += g * TArithmetic.Load(pc[n]);
                        sum += behind[n] * TArithmetic.Load(pb[n]);
                        thrown[n] += g * h[n];
                        thrown[states + n] += s * x * behind[n];
                        through += t > 0 ? behind[n] * h[n - states] : 0;
                        behind[n] *= decay;
                    }
                    loopResult.Pointer[at] = TArithmetic.Store(s * sum + inputs.D.Host.Pointer[head] * g + 0 * through);
                }
            }
        }

        // Of grad_x, which has everything but the sums over heads in it.
        public override double MaxError()
        {
            var result = gradX.ToHost();
            var meter = new ErrorMeter();
            var (states, length) = (sizes.States, sizes.Length);
            var behind = new double[states];
            foreach (var row in ErrorMeter.Rows(sizes.Rows, length * states * 4))
            {
                var (batch, head, channel) = sizes.PlaceOf(row);
                Array.Clear(behind);
                for (var t = length - 1; t >= 0; t--)
                {
                    var step = batch * length + t;
                    var biased = TArithmetic.Exact(inputs.Dt.Host.Pointer[step * sizes.Heads + head]).Real
                        + inputs.DtBias.Host.Pointer[head];
                    var s = Math.Max(biased, 0) + double.LogP1(Math.Exp(-Math.Abs(biased)));
                    var decay = Math.Exp(s * inputs.A.Host.Pointer[head]);
                    var at = (step * sizes.Heads + head) * sizes.Channels + channel;
                    var gate = TArithmetic.Exact(inputs.Z.Host.Pointer[at]).Real;
                    var g = TArithmetic.Exact(gradY.Host.Pointer[at]).Real * gate / (1 + Math.Exp(-gate));
                    var sum = 0.0;
                    for (var n = 0; n < states; n++)
                    {
                        behind[n] += g * TArithmetic.Exact(inputs.C.Host.Pointer[step * states + n]).Real;
                        sum += behind[n] * TArithmetic.Exact(inputs.B.Host.Pointer[step * states + n]).Real;
                        behind[n] *= decay;
                    }
                    meter.Add(TArithmetic.Exact(result.Pointer[at]).Real, s * sum + inputs.D.Host.Pointer[head] * g);
                }
            }
            return meter.Error;
        }

        public override void Dispose()
        {
            inputs.Dispose();
            gradY.Dispose();
            gradX.Dispose();
            gradZ.Dispose();
            gradDt.Dispose();
            gradB.Dispose();
            gradC.Dispose();
            gradA.Dispose();
            gradD.Dispose();
            gradDtBias.Dispose();
            loopResult.Dispose();
            loopStates.Dispose();
        }
    }
}
