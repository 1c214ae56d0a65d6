using System.Runtime.CompilerServices;

namespace SsmCuda.Tool.Bench.Operations;

/// <summary>Running sums, products and maxima: one number in and one out per element.</summary>
internal static class AssociativeScanBenchmarks
{
    private const string Operation = "associative_scan";

    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick)
    {
        var rows = new SequenceSizes("", 1024, 1, 65536).Scaled(quick);
        yield return Define<Add>(new SequenceSizes("cumulative sum, single row", 1, 1, 1L << 26).Scaled(quick));
        // The returns of reinforcement learning: the sum of all later rewards.
        yield return Define<Add>(rows with { Name = "returns to go" }, reverse: true);
        yield return Define<Multiply>(rows with { Name = "cumulative product" });
        yield return Define<Maximum>(rows with { Name = "running maximum" });
    }

    private static BenchmarkDefinition Define<TOperator>(SequenceSizes sizes, bool reverse = false)
        where TOperator : struct, IOperator =>
        new(Operation, sizes.ToString(), "float32", device => new Case<TOperator>(device, sizes, reverse));

    private interface IOperator
    {
        static abstract SsmCombine Combine { get; }

        static abstract float Low { get; }

        static abstract float High { get; }

        static abstract double Identity { get; }

        static abstract float Apply(float left, float right);

        static abstract double Apply(double left, double right);
    }

    private readonly struct Add : IOperator
    {
        public static SsmCombine Combine => SsmCombine.Add;

        public static float Low => -1;

        public static float High => 1;

        public static double Identity => 0;

        public static float Apply(float left, float right) => left + right;

        public static double Apply(double left, double right) => left + right;
    }

    private readonly struct Multiply : IOperator
    {
        public static SsmCombine Combine => SsmCombine.Multiply;

        // Around 1, so that the products of a whole row stay in range.
        public static float Low => 0.99f;

        public static float High => 1.01f;

        public static double Identity => 1;

        public static float Apply(float left, float right) => left * right;

        public static double Apply(double left, double right) => left * right;
    }

    private readonly struct Maximum : IOperator
    {
        public static SsmCombine Combine => SsmCombine.Maximum;

        public static float Low => -1;

        public static float High => 1;

        public static double Identity => double.NegativeInfinity;

        public static float Apply(float left, float right) => MathF.Max(left, right);

        public static double Apply(double left, double right) => Math.Max(left, right);
    }

    private sealed unsafe class Case<TOperator> : BenchmarkCase
        where TOperator : struct, IOperator
    {
        private readonly SsmContext context;
        private readonly SequenceSizes sizes;
        private readonly bool reverse;
        private readonly BenchmarkTensor<float> x;
        private readonly BenchmarkTensor<float> y;
        private readonly HostArray<float> loopResult;

        public Case(BenchmarkDevice device, SequenceSizes sizes, bool reverse)
        {
            this.sizes = sizes;
            this.reverse = reverse;
            context = device.Context;
            x = device.Input<float>(sizes.Shape, sizes.Strides, array => array.Fill(1, TOperator.Low, TOperator.High));
            y = device.Output<float>(sizes.Shape, sizes.Strides);
            loopResult = new HostArray<float>(sizes.Elements);
        }

        public override long Bytes => 2 * sizes.Elements * sizeof(float);

        public override double Flops => sizes.Elements;

        // Sums and products of so many terms carry the rounding of each carry; maxima are exact.
        public override double Tolerance => TOperator.Combine == SsmCombine.Maximum ? 0 : 1e-4;

        // A peer scans forward; backward it would have to turn the data round.
        public override PeerTask? PeerTask => reverse ? null : new(Operation, "float32", sizes.Batch, sizes.Channels, sizes.Length)
        {
            Combine = TOperator.Combine switch
            {
                SsmCombine.Add => "add",
                SsmCombine.Multiply => "multiply",
                _ => "maximum",
            },
        };

        public override void Run() => context.AssociativeScan(TOperator.Combine, x.Device, y.Device, new() { Reverse = reverse });

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public override void RunLoop()
        {
            for (long row = 0; row < sizes.Rows; row++)
            {
                var px = x.Host.Pointer + row * sizes.Length;
                var py = loopResult.Pointer + row * sizes.Length;
                var state = (float)TOperator.Identity;
                if (reverse)
                {
                    for (var t = sizes.Length - 1; t >= 0; t--)
                    {
                        py[t] = state = TOperator.Apply(state, px[t]);
                    }
                }
                else
                {
                    for (long t = 0; t < sizes.Length; t++)
                    {
                        py[t] = state = TOperator.Apply(state, px[t]);
                    }
                }
            }
        }

        public override double MaxError()
        {
            var result = y.ToHost();
            var meter = new ErrorMeter();
            foreach (var row in ErrorMeter.Rows(sizes.Rows, sizes.Length))
            {
                var state = TOperator.Identity;
                for (long i = 0; i < sizes.Length; i++)
                {
                    var at = row * sizes.Length + (reverse ? sizes.Length - 1 - i : i);
                    state = TOperator.Apply(state, x.Host.Pointer[at]);
                    meter.Add(result.Pointer[at], state);
                }
            }
            return meter.Error;
        }

        public override void Dispose()
        {
            x.Dispose();
            y.Dispose();
            loopResult.Dispose();
        }
    }
}
