using System.Globalization;
using System.Runtime.CompilerServices;

namespace SsmCuda.Tool.Bench.Operations;

/// <summary>One token of a batch through one layer, with everything it has in the model: d, z, dt_bias and softplus.
/// Bound by the state, which is read and written.</summary>
internal static class SelectiveStateUpdateBenchmarks
{
    private const string Operation = "selective_state_update";

    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick)
    {
        // Mamba-1: a group of channels, a for each channel and state. Mamba-2: heads of 64 channels, one a each.
        var small = new Sizes("mamba-130m", 1, 1536, 1, false, 16);
        var first = new Sizes("mamba-2.8b", 64, 5120, 1, false, 16);
        var second = new Sizes("mamba2-2.7b", 64, 80, 64, true, 128);
        yield return Define<float, Float32Arithmetic, float, Float32Arithmetic>(small, false);
        yield return Define<float, Float32Arithmetic, float, Float32Arithmetic>(first, quick);
        yield return Define<float, Float32Arithmetic, float, Float32Arithmetic>(second, quick);
        yield return Define<BFloat16, BFloat16Arithmetic, float, Float32Arithmetic>(second, quick);
        yield return Define<BFloat16, BFloat16Arithmetic, BFloat16, BFloat16Arithmetic>(second, quick);
    }

    public static IEnumerable<BenchmarkDefinition> Sweep(bool quick) => MambaShapes.DecodeBatches.SelectMany(batch => new[]
    {
        Define<float, Float32Arithmetic, float, Float32Arithmetic>(new("mamba-130m", batch, 1536, 1, false, 16), quick),
        Define<float, Float32Arithmetic, float, Float32Arithmetic>(new("mamba-2.8b", batch, 5120, 1, false, 16), quick),
        Define<float, Float32Arithmetic, float, Float32Arithmetic>(new("mamba2-2.7b", batch, 80, 64, true, 128), quick),
        Define<BFloat16, BFloat16Arithmetic, float, Float32Arithmetic>(new("mamba2-2.7b", batch, 80, 64, true, 128), quick),
    });

    private static BenchmarkDefinition Define<TStorage, TArithmetic, TState, TStateArithmetic>(Sizes sizes, bool quick)
        where TStorage : unmanaged
        where TArithmetic : struct, IArithmetic<TStorage, float>
        where TState : unmanaged
        where TStateArithmetic : struct, IArithmetic<TState, float>
    {
        var scaled = quick ? sizes with { Batch = Math.Max(1, sizes.Batch / 16) } : sizes;
        return new(Operation, scaled + " state " + TStateArithmetic.Name, TArithmetic.Name,
            device => new Case<TStorage, TArithmetic, TState, TStateArithmetic>(device, scaled));
    }

    /// <summary>Heads are channels, one each, where a is not shared in a head.</summary>
    private sealed record Sizes(string Name, int Batch, int Heads, int Channels, bool IsTied, int States)
    {
        public int Inner => Heads * Channels;

        public long Elements => (long)Batch * Inner;

        public override string ToString() =>
            string.Create(CultureInfo.InvariantCulture, $"{Name} B{Batch} D{Inner} N{States}");
    }

    private sealed unsafe class Case<TStorage, TArithmetic, TState, TStateArithmetic> : BenchmarkCase
        where TStorage : unmanaged
        where TArithmetic : struct, IArithmetic<TStorage, float>
        where TState : unmanaged
        where TStateArithmetic : struct, IArithmetic<TState, float>
    {
        private readonly SsmContext context;
        private readonly Sizes sizes;
        private readonly BenchmarkTensor<TState> state;
        private readonly BenchmarkTensor<TStorage> x;
        private readonly BenchmarkTensor<TStorage> dt;
        private readonly BenchmarkTensor<float> a;
        private readonly BenchmarkTensor<TStorage> b;
        private readonly BenchmarkTensor<TStorage> c;
        private readonly BenchmarkTensor<float> d;
        private readonly BenchmarkTensor<TStorage> z;
        private readonly BenchmarkTensor<float> dtBias;
        private readonly BenchmarkTensor<TStorage> y;
        private readonly HostArray<TState> loopState;
        private readonly HostArray<TStorage> loopResult;

        public Case(BenchmarkDevice device, Sizes sizes)
        {
            this.sizes = sizes;
            context = device.Context;
            var (batch, heads, channels, states) = (sizes.Batch, sizes.Heads, sizes.Channels, sizes.States);
            nint[] shape = sizes.IsTied ? [batch, heads, channels] : [batch, heads];
            state = device.Input<TState>([.. shape, states], Strides.Compact([.. shape, states]), FillState);
            x = Random(shape, 1, -1, 1);
            dt = Random([batch, heads], 2, -1, 1);
            z = Random(shape, 3, -2, 2);
            b = Random([batch, 1, states], 4, -1, 1);
            c = Random([batch, 1, states], 5, -1, 1);
            // As Mamba starts: a = -(1..N) of a channel, or one of 1 to 16 for a head; steps around 0.001 to 0.1.
            nint[] rates = sizes.IsTied ? [heads] : [heads, states];
            a = device.Input<float>(rates, Strides.Compact(rates), array =>
            {
                for (var i = 0; i < array.Length; i++)
                {
                    array.Pointer[i] = -(i % (sizes.IsTied ? 16 : states) + 1);
                }
            });
            d = device.Input<float>([heads], [1], array => array.Fill(6, 0.5f, 1.5f));
            dtBias = device.Input<float>([heads], [1], array => array.Fill(7, -6.9f, -2.3f));
            y = device.Output<TStorage>(shape, Strides.Compact(shape));
            loopState = new HostArray<TState>(sizes.Elements * states);
            FillState(loopState);
            loopResult = new HostArray<TStorage>(sizes.Elements);

            BenchmarkTensor<TStorage> Random(nint[] shape, int seed, float low, float high) =>
                device.Input<TStorage>(shape, Strides.Compact(shape),
                    array => array.Fill(seed, (value, phase) => TArithmetic.FromUniform(low + (high - low) * value, phase)));
        }

        // The state in and out; a of each state once; x, z in and y out, dt, b and c.
        public override long Bytes => (2 * sizes.Elements * sizes.States * sizeof(TState))
            + (sizes.IsTied ? 0 : (long)sizes.Inner * sizes.States * sizeof(float))
            + ((3 * sizes.Elements) + ((long)sizes.Batch * (sizes.Heads + (2 * sizes.States)))) * sizeof(TStorage);

        // Per state: s a and exp where a is its own, s b x, h = e h + s b x, y += h c.
        public override double Flops => (double)sizes.Elements * sizes.States * (sizes.IsTied ? 5 : 18);

        public override PeerTask PeerTask => new(Operation, TArithmetic.Name, sizes.Batch, sizes.Channels, 1)
        {
            Heads = sizes.Heads,
            States = sizes.States,
        };

        public override double Tolerance => TArithmetic.Tolerance;

        public override void Run() => context.SelectiveStateUpdate(state.Device, x.Device, dt.Device, a.Device, b.Device,
            c.Device, y.Device, new()
            {
                DtSoftplus = true,
                D = d.Device,
                Z = z.Device,
                DtBias = dtBias.Device,
            });

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public override void RunLoop()
        {
            var states = sizes.States;
            for (long row = 0; row < sizes.Elements; row++)
            {
                var batch = row / sizes.Inner;
                var head = row % sizes.Inner / sizes.Channels;
                var ph = loopState.Pointer + row * states;
                var pb = b.Host.Pointer + batch * states;
                var pc = c.Host.Pointer + batch * states;
                var pa = a.Host.Pointer + (sizes.IsTied ? head : head * states);
                var biased = TArithmetic.Load(dt.Host.Pointer[batch * sizes.Heads + head]) + dtBias.Host.Pointer[head];
                var s = biased > 20 ? biased : MathF.Log(1 + MathF.Exp(biased));
                var input = TArithmetic.Load(x.Host.Pointer[row]);
                var sum = d.Host.Pointer[head] * input;
                var decay = MathF.Exp(s * pa[0]);
                for (var n = 0; n < states; n++)
                {
                    if (!sizes.IsTied)
                    {
                        decay = MathF.Exp(s * pa[n]);
                    }
                    var h = decay * TStateArithmetic.Load(ph[n]) + s * TArithmetic.Load(pb[n]) * input;
                    sum += h * TArithmetic.Load(pc[n]);
                    ph[n] = TStateArithmetic.Store(h);
                }
                var gate = TArithmetic.Load(z.Host.Pointer[row]);
                loopResult.Pointer[row] = TArithmetic.Store(sum * gate / (1 + MathF.Exp(-gate)));
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
            var states = sizes.States;
            foreach (var row in ErrorMeter.Rows(sizes.Elements, states * 4))
            {
                var batch = row / sizes.Inner;
                var head = row % sizes.Inner / sizes.Channels;
                var biased = TArithmetic.Exact(dt.Host.Pointer[batch * sizes.Heads + head]).Real + dtBias.Host.Pointer[head];
                var s = Math.Max(biased, 0) + double.LogP1(Math.Exp(-Math.Abs(biased)));
                var input = TArithmetic.Exact(x.Host.Pointer[row]).Real;
                var sum = d.Host.Pointer[head] * input;
                for (var n = 0; n < states; n++)
                {
                    var h = Math.Exp(s * a.Host.Pointer[sizes.IsTied ? head : head * states + n])
                        * TStateArithmetic.Exact(loopState.Pointer[row * states + n]).Real
                        + s * TArithmetic.Exact(b.Host.Pointer[batch * states + n]).Real * input;
                    sum += h * TArithmetic.Exact(c.Host.Pointer[batch * states + n]).Real;
                }
                var gate = TArithmetic.Exact(z.Host.Pointer[row]).Real;
                meter.Add(TArithmetic.Exact(result.Pointer[row]).Real, sum * gate / (1 + Math.Exp(-gate)));
            }
            return meter.Error;
        }

        public override void Dispose()
        {
            state.Dispose();
            x.Dispose();
            dt.Dispose();
            a.Dispose();
            b.Dispose();
            c.Dispose();
            d.Dispose();
            z.Dispose();
            dtBias.Dispose();
            y.Dispose();
            loopState.Dispose();
            loopResult.Dispose();
        }

        private static void FillState(HostArray<TState> array) =>
            array.Fill(8, (value, phase) => TStateArithmetic.FromUniform(2 * value - 1, phase));
    }
}
