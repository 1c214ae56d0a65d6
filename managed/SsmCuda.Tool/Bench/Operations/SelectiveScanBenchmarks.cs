using System.Globalization;
using System.Runtime.CompilerServices;

namespace SsmCuda.Tool.Bench.Operations;

/// <summary>Mamba-1's scan with everything it has in the model: d, z, dt_bias and softplus. Bound by arithmetic on a CPU.</summary>
internal static class SelectiveScanBenchmarks
{
    private const string Operation = "selective_scan";

    // Per state and step: s a, exp2 by a polynomial of degree 5 with its reduction, h = e h + s b u, y += h c make nine operations
    // of the multiply-add pipes, each of which the peak counts as two.
    private const int FlopsPerState = 18;

    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick)
    {
        yield return Define<float, Float32Arithmetic>("mamba-130m", 1, 1536, 16, 2048, quick);
        yield return Define<BFloat16, BFloat16Arithmetic>("mamba-130m", 1, 1536, 16, 2048, quick);
        yield return Define<float, Float32Arithmetic>("mamba-2.8b", 1, 5120, 16, 2048, quick);
    }

    // The last: few channels and a long sequence, DNA at its published length.
    public static IEnumerable<BenchmarkDefinition> Sweep(bool quick) =>
        MambaShapes.Sequences.Select(sizes => Define<float, Float32Arithmetic>(sizes.Name, sizes.Batch, sizes.Channels, 16,
            (int)sizes.Length, quick).Within(sizes.Elements))
        .Append(Define<float, Float32Arithmetic>("Caduceus-Ph", 1, 512, 16, 131072, quick));

    private static BenchmarkDefinition Define<TStorage, TArithmetic>(string name, int batch, int channels, int states,
        int length, bool quick)
        where TStorage : unmanaged
        where TArithmetic : struct, IArithmetic<TStorage, float>
    {
        var sizes = new SequenceSizes(name, batch, channels, length).Scaled(quick);
        var shape = string.Create(CultureInfo.InvariantCulture, $"{name} {(batch > 1 ? $"B{batch} " : "")}D{channels} N{states} L{sizes.Length}");
        return new(Operation, shape, TArithmetic.Name, device => new Case<TStorage, TArithmetic>(device, sizes, states));
    }

    private sealed unsafe class Case<TStorage, TArithmetic> : BenchmarkCase
        where TStorage : unmanaged
        where TArithmetic : struct, IArithmetic<TStorage, float>
    {
        private readonly SsmContext context;
        private readonly SequenceSizes sizes;
        private readonly int states;
        private readonly BenchmarkTensor<TStorage> u;
        private readonly BenchmarkTensor<TStorage> dt;
        private readonly BenchmarkTensor<float> a;
        private readonly BenchmarkTensor<TStorage> b;
        private readonly BenchmarkTensor<TStorage> c;
        private readonly BenchmarkTensor<float> d;
        private readonly BenchmarkTensor<TStorage> z;
        private readonly BenchmarkTensor<float> dtBias;
        private readonly BenchmarkTensor<TStorage> y;
        private readonly HostArray<TStorage> loopResult;

        public Case(BenchmarkDevice device, SequenceSizes sizes, int states)
        {
            this.sizes = sizes;
            this.states = states;
            context = device.Context;
            nint[] stateShape = [sizes.Batch, 1, states, (nint)sizes.Length];
            nint[] stateStrides = [states * (nint)sizes.Length, states * (nint)sizes.Length, (nint)sizes.Length, 1];
            u = Random(sizes.Shape, sizes.Strides, 1, -1, 1);
            dt = Random(sizes.Shape, sizes.Strides, 2, -1, 1);
            z = Random(sizes.Shape, sizes.Strides, 3, -2, 2);
            b = Random(stateShape, stateStrides, 4, -1, 1);
            c = Random(stateShape, stateStrides, 5, -1, 1);
            // As Mamba starts: a = -(1..N), steps around 0.001 to 0.1.
            a = device.Input<float>([sizes.Channels, states], [states, 1], array =>
            {
                for (var i = 0; i < array.Length; i++)
                {
                    array.Pointer[i] = -(i % states + 1);
                }
            });
            d = device.Input<float>([sizes.Channels], [1], array => array.Fill(6, 0.5f, 1.5f));
            dtBias = device.Input<float>([sizes.Channels], [1], array => array.Fill(7, -6.9f, -2.3f));
            y = device.Output<TStorage>(sizes.Shape, sizes.Strides);
            loopResult = new HostArray<TStorage>(sizes.Elements);

            BenchmarkTensor<TStorage> Random(nint[] shape, nint[] strides, int seed, float low, float high) =>
                device.Input<TStorage>(shape, strides,
                    array => array.Fill(seed, (x, phase) => TArithmetic.FromUniform(low + (high - low) * x, phase)));
        }

        // u, dt, z in, y out; b and c.
        public override long Bytes => (4 * sizes.Elements + 2 * sizes.Batch * states * sizes.Length) * sizeof(TStorage);

        public override double Flops => (double)sizes.Elements * states * FlopsPerState;

        public override Bound Bound => Bound.Arithmetic;

        public override double Tolerance => TArithmetic.Tolerance;

        public override PeerTask PeerTask => new(Operation, TArithmetic.Name, sizes.Batch, sizes.Channels, sizes.Length)
        {
            States = states,
        };

        public override void Run() => context.SelectiveScan(u.Device, dt.Device, a.Device, b.Device, c.Device, y.Device, new()
        {
            DtSoftplus = true,
            D = d.Device,
            Z = z.Device,
            DtBias = dtBias.Device,
        });

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public override void RunLoop()
        {
            var length = sizes.Length;
            var h = stackalloc float[states];
            for (long row = 0; row < sizes.Rows; row++)
            {
                var channel = row % sizes.Channels;
                var pu = u.Host.Pointer + row * length;
                var pdt = dt.Host.Pointer + row * length;
                var pz = z.Host.Pointer + row * length;
                var py = loopResult.Pointer + row * length;
                var offset = row / sizes.Channels * states * length;
                var pa = a.Host.Pointer + channel * states;
                var pb = b.Host.Pointer + offset;
                var pc = c.Host.Pointer + offset;
                var skip = d.Host.Pointer[channel];
                var bias = dtBias.Host.Pointer[channel];
                new Span<float>(h, states).Clear();
                for (long t = 0; t < length; t++)
                {
                    var x = TArithmetic.Load(pdt[t]) + bias;
                    var s = x > 20 ? x : MathF.Log(1 + MathF.Exp(x));
                    var input = TArithmetic.Load(pu[t]);
                    var sum = skip * input;
                    for (var n = 0; n < states; n++)
                    {
                        h[n] = MathF.Exp(s * pa[n]) * h[n] + s * TArithmetic.Load(pb[n * length + t]) * input;
                        sum += h[n] * TArithmetic.Load(pc[n * length + t]);
                    }
                    var gate = TArithmetic.Load(pz[t]);
                    py[t] = TArithmetic.Store(sum * gate / (1 + MathF.Exp(-gate)));
                }
            }
        }

        public override double MaxError()
        {
            var result = y.ToHost();
            var meter = new ErrorMeter();
            var length = sizes.Length;
            var h = new double[states];
            foreach (var row in ErrorMeter.Rows(sizes.Rows, length * states * 4))
            {
                var channel = row % sizes.Channels;
                var offset = row / sizes.Channels * states * length;
                Array.Clear(h);
                for (long t = 0; t < length; t++)
                {
                    var at = row * length + t;
                    var x = TArithmetic.Exact(dt.Host.Pointer[at]).Real + dtBias.Host.Pointer[channel];
                    var s = Math.Max(x, 0) + double.LogP1(Math.Exp(-Math.Abs(x)));
                    var input = TArithmetic.Exact(u.Host.Pointer[at]).Real;
                    var sum = d.Host.Pointer[channel] * input;
                    for (var n = 0; n < states; n++)
                    {
                        h[n] = Math.Exp(s * a.Host.Pointer[channel * states + n]) * h[n]
                            + s * TArithmetic.Exact(b.Host.Pointer[offset + n * length + t]).Real * input;
                        sum += h[n] * TArithmetic.Exact(c.Host.Pointer[offset + n * length + t]).Real;
                    }
                    var gate = TArithmetic.Exact(z.Host.Pointer[at]).Real;
                    meter.Add(TArithmetic.Exact(result.Pointer[at]).Real, sum * gate / (1 + Math.Exp(-gate)));
                }
            }
            return meter.Error;
        }

        public override void Dispose()
        {
            u.Dispose();
            dt.Dispose();
            a.Dispose();
            b.Dispose();
            c.Dispose();
            d.Dispose();
            z.Dispose();
            dtBias.Dispose();
            y.Dispose();
            loopResult.Dispose();
        }
    }
}
