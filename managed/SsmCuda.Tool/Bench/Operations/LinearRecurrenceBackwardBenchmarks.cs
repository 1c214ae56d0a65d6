using System.Numerics;
using System.Runtime.CompilerServices;

namespace SsmCuda.Tool.Bench.Operations;

/// <summary>
/// g_t = grad_h_t + conj(a_{t+1}) g_{t+1}, grad_b = g, grad_a_t = g_t conj(h_{t-1}): three numbers in, two out per element.
/// </summary>
internal static class LinearRecurrenceBackwardBenchmarks
{
    private const string Operation = "linear_recurrence_backward";

    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick)
    {
        yield return Define<float, float, Float32Arithmetic>(new SequenceSizes("accelerated-scan", 8, 1536, 4096).Scaled(quick));
        yield return Define<Complex64, Complex64, Complex64Arithmetic>(new SequenceSizes("S5 Path-X", 1, 256, 16384).Scaled(quick));
        yield return Define<float, float, Float32Arithmetic>(new SequenceSizes("single row", 1, 1, 1L << 26).Scaled(quick));
    }

    private static BenchmarkDefinition Define<TStorage, TState, TArithmetic>(SequenceSizes sizes)
        where TStorage : unmanaged
        where TState : unmanaged
        where TArithmetic : struct, IArithmetic<TStorage, TState> =>
        new(Operation, sizes.ToString(), TArithmetic.Name, device => new Case<TStorage, TState, TArithmetic>(device, sizes));

    private sealed unsafe class Case<TStorage, TState, TArithmetic> : BenchmarkCase
        where TStorage : unmanaged
        where TState : unmanaged
        where TArithmetic : struct, IArithmetic<TStorage, TState>
    {
        private readonly SsmContext context;
        private readonly SequenceSizes sizes;
        private readonly BenchmarkTensor<TStorage> a;
        private readonly BenchmarkTensor<TStorage> h;
        private readonly BenchmarkTensor<TStorage> gradH;
        private readonly BenchmarkTensor<TStorage> gradA;
        private readonly BenchmarkTensor<TStorage> gradB;
        private readonly HostArray<TStorage> loopGradA;
        private readonly HostArray<TStorage> loopGradB;

        public Case(BenchmarkDevice device, SequenceSizes sizes)
        {
            this.sizes = sizes;
            context = device.Context;
            a = device.Input<TStorage>(sizes.Shape, sizes.Strides,
                array => array.Fill(1, (x, phase) => TArithmetic.FromUniform(0.5f + 0.499f * x, phase)));
            h = device.Input<TStorage>(sizes.Shape, sizes.Strides,
                array => array.Fill(2, (x, phase) => TArithmetic.FromUniform(2 * x - 1, phase)));
            gradH = device.Input<TStorage>(sizes.Shape, sizes.Strides,
                array => array.Fill(3, (x, phase) => TArithmetic.FromUniform(2 * x - 1, phase)));
            gradA = device.Output<TStorage>(sizes.Shape, sizes.Strides);
            gradB = device.Output<TStorage>(sizes.Shape, sizes.Strides);
            loopGradA = new HostArray<TStorage>(sizes.Elements);
            loopGradB = new HostArray<TStorage>(sizes.Elements);
        }

        public override long Bytes => 5 * sizes.Elements * sizeof(TStorage);

        // A multiply and add for the recurrence, and the product for grad_a (6 complex, 1 real).
        public override double Flops => (double)sizes.Elements
            * (TArithmetic.FlopsOfMultiplyAdd + (TArithmetic.FlopsOfMultiplyAdd == 2 ? 1 : 6));

        public override double Tolerance => TArithmetic.Tolerance;

        public override void Run() => context.LinearRecurrenceBackward(a.Device, gradH.Device, new()
        {
            H = h.Device,
            GradA = gradA.Device,
            GradB = gradB.Device,
        });

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public override void RunLoop()
        {
            var length = sizes.Length;
            for (long row = 0; row < sizes.Rows; row++)
            {
                var pa = a.Host.Pointer + row * length;
                var ph = h.Host.Pointer + row * length;
                var pg = gradH.Host.Pointer + row * length;
                var pga = loopGradA.Pointer + row * length;
                var pgb = loopGradB.Pointer + row * length;
                TState g = default;
                TState next = default;
                for (var t = length - 1; t >= 0; t--)
                {
                    g = TArithmetic.MultiplyAdd(TArithmetic.Conjugate(next), g, TArithmetic.Load(pg[t]));
                    next = TArithmetic.Load(pa[t]);
                    pgb[t] = TArithmetic.Store(g);
                    var before = t == 0 ? default : TArithmetic.Conjugate(TArithmetic.Load(ph[t - 1]));
                    pga[t] = TArithmetic.Store(TArithmetic.MultiplyAdd(g, before, default));
                }
            }
        }

        public override double MaxError()
        {
            var (resultA, resultB) = (gradA.ToHost(), gradB.ToHost());
            var errorA = new ErrorMeter();
            var errorB = new ErrorMeter();
            foreach (var row in ErrorMeter.Rows(sizes.Rows, sizes.Length))
            {
                var start = row * sizes.Length;
                var (g, next) = (Complex.Zero, Complex.Zero);
                for (var at = start + sizes.Length - 1; at >= start; at--)
                {
                    g = TArithmetic.Exact(gradH.Host.Pointer[at]) + Complex.Conjugate(next) * g;
                    next = TArithmetic.Exact(a.Host.Pointer[at]);
                    var before = at == start ? Complex.Zero : TArithmetic.Exact(h.Host.Pointer[at - 1]);
                    errorA.Add(TArithmetic.Exact(resultA.Pointer[at]), g * Complex.Conjugate(before));
                    errorB.Add(TArithmetic.Exact(resultB.Pointer[at]), g);
                }
            }
            return Math.Max(errorA.Error, errorB.Error);
        }

        public override void Dispose()
        {
            a.Dispose();
            h.Dispose();
            gradH.Dispose();
            gradA.Dispose();
            gradB.Dispose();
            loopGradA.Dispose();
            loopGradB.Dispose();
        }
    }
}
