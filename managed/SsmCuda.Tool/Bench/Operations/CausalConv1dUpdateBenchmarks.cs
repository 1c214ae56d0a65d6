using System.Globalization;
using System.Runtime.CompilerServices;

namespace SsmCuda.Tool.Bench.Operations;

/// <summary>One token of a batch through the short convolution of a layer: four weights, a bias and silu, as Mamba has
/// it. Bound by the state, which is read and written, and for one sequence by the call.</summary>
internal static class CausalConv1dUpdateBenchmarks
{
    private const string Operation = "causal_conv1d_update";
    private const int Width = 4;
    private const int Kept = Width - 1;

    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick)
    {
        var small = new Sizes("mamba-130m", 1, 1536);
        var large = new Sizes("mamba-2.8b", quick ? 16 : 256, 5120);
        yield return Define<float, Float32Arithmetic>(small);
        yield return Define<float, Float32Arithmetic>(large);
        yield return Define<BFloat16, BFloat16Arithmetic>(large);
    }

    // The state has the type of x, as a cache does.
    private static BenchmarkDefinition Define<TStorage, TArithmetic>(Sizes sizes)
        where TStorage : unmanaged
        where TArithmetic : struct, IArithmetic<TStorage, float> =>
        new(Operation, sizes.ToString(), TArithmetic.Name, device => new Case<TStorage, TArithmetic>(device, sizes));

    private sealed record Sizes(string Name, int Batch, int Channels)
    {
        public long Elements => (long)Batch * Channels;

        public override string ToString() =>
            string.Create(CultureInfo.InvariantCulture, $"{Name} B{Batch} D{Channels} W{Width}");
    }

    private sealed unsafe class Case<TStorage, TArithmetic> : BenchmarkCase
        where TStorage : unmanaged
        where TArithmetic : struct, IArithmetic<TStorage, float>
    {
        private readonly SsmContext context;
        private readonly Sizes sizes;
        private readonly BenchmarkTensor<TStorage> state;
        private readonly BenchmarkTensor<TStorage> x;
        private readonly BenchmarkTensor<TStorage> y;
        private readonly BenchmarkTensor<float> weight;
        private readonly BenchmarkTensor<float> bias;
        private readonly HostArray<TStorage> loopState;
        private readonly HostArray<TStorage> loopResult;

        public Case(BenchmarkDevice device, Sizes sizes)
        {
            this.sizes = sizes;
            context = device.Context;
            nint[] shape = [sizes.Batch, sizes.Channels];
            state = device.Input<TStorage>([.. shape, Kept], Strides.Compact([.. shape, Kept]), FillState);
            x = device.Input<TStorage>(shape, Strides.Compact(shape),
                array => array.Fill(1, (value, phase) => TArithmetic.FromUniform(2 * value - 1, phase)));
            weight = device.Input<float>([sizes.Channels, Width], [Width, 1], array => array.Fill(2, -0.5f, 0.5f));
            bias = device.Input<float>([sizes.Channels], [1], array => array.Fill(3, -0.5f, 0.5f));
            y = device.Output<TStorage>(shape, Strides.Compact(shape));
            loopState = new HostArray<TStorage>(sizes.Elements * Kept);
            FillState(loopState);
            loopResult = new HostArray<TStorage>(sizes.Elements);
        }

        // The state in and out, x in and y out; weights and bias once.
        public override long Bytes => sizes.Elements * (2 * Kept + 2) * sizeof(TStorage)
            + (long)sizes.Channels * (Width + 1) * sizeof(float);

        // A multiply and add for each weight; silu counts as four.
        public override double Flops => (double)sizes.Elements * (2 * Width + 4);

        public override double Tolerance => TArithmetic.Tolerance;

        public override void Run() => context.CausalConv1dUpdate(state.Device, x.Device, weight.Device, y.Device, new()
        {
            Activation = SsmActivation.Silu,
            Bias = bias.Device,
        });

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public override void RunLoop()
        {
            for (long row = 0; row < sizes.Elements; row++)
            {
                var channel = row % sizes.Channels;
                var kept = loopState.Pointer + row * Kept;
                var w = weight.Host.Pointer + channel * Width;
                var sum = bias.Host.Pointer[channel] + w[Kept] * TArithmetic.Load(x.Host.Pointer[row]);
                for (var j = 0; j < Kept; j++)
                {
                    sum += w[j] * TArithmetic.Load(kept[j]);
                }
                (kept[0], kept[1], kept[2]) = (kept[1], kept[2], x.Host.Pointer[row]);
                loopResult.Pointer[row] = TArithmetic.Store(sum / (1 + MathF.Exp(-sum)));
            }
        }

        // Many runs have taken the state on: one more, from the start.
        public override double MaxError()
        {
            FillState(state.Host);
            FillState(loopState);
            state.ToDevice();
            Run();
            var result = y.ToHost();
            var meter = new ErrorMeter();
            foreach (var row in ErrorMeter.Rows(sizes.Elements, Width * 4))
            {
                var channel = row % sizes.Channels;
                var w = weight.Host.Pointer + channel * Width;
                var sum = bias.Host.Pointer[channel] + w[Kept] * TArithmetic.Exact(x.Host.Pointer[row]).Real;
                for (var j = 0; j < Kept; j++)
                {
                    sum += w[j] * TArithmetic.Exact(loopState.Pointer[row * Kept + j]).Real;
                }
                meter.Add(TArithmetic.Exact(result.Pointer[row]).Real, sum / (1 + Math.Exp(-sum)));
            }
            return meter.Error;
        }

        private static void FillState(HostArray<TStorage> array) =>
            array.Fill(9, (value, phase) => TArithmetic.FromUniform(2 * value - 1, phase));

        public override void Dispose()
        {
            state.Dispose();
            x.Dispose();
            y.Dispose();
            weight.Dispose();
            bias.Dispose();
            loopState.Dispose();
            loopResult.Dispose();
        }
    }
}
