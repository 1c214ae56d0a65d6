using System.Globalization;
using System.Runtime.CompilerServices;

namespace SsmCuda.Tool.Bench.Operations;

/// <summary>Mamba-2's heads with everything they have in the model: d, z, dt_bias and softplus. Bound by arithmetic on a
/// CPU.</summary>
internal static class SsdBenchmarks
{
    private const string Operation = "ssd";

    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick)
    {
        yield return Define<float, Float32Arithmetic>(new("mamba2-130m", 1, 2048, 24, 64, 128), quick, 1);
        yield return Define<BFloat16, BFloat16Arithmetic>(new("mamba2-130m", 1, 2048, 24, 64, 128), quick, 3);
        yield return Define<float, Float32Arithmetic>(new("mamba2-2.7b", 1, 2048, 80, 64, 128), quick, 1);
    }

    public static IEnumerable<BenchmarkDefinition> Sweep(bool quick) =>
        MambaShapes.Heads.SelectMany(sizes => new[]
        {
            Define<float, Float32Arithmetic>(sizes, quick, 1).Within(sizes.Elements),
            Define<BFloat16, BFloat16Arithmetic>(sizes, quick, 3) with { OnlyOnGpu = true },
        });

    // Rounded factors: the tensor cores take what they multiply in 16 bits.
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
        private readonly BenchmarkTensor<TStorage> y;
        private readonly HostArray<TStorage> loopResult;

        public Case(BenchmarkDevice device, SsdSizes sizes, double tolerance)
        {
            this.sizes = sizes;
            Tolerance = tolerance;
            context = device.Context;
            inputs = new(device, sizes);
            y = device.Output<TStorage>(sizes.Shape, SsdSizes.Compact(sizes.Shape));
            loopResult = new HostArray<TStorage>(sizes.Elements);
        }

        // x, z in, y out; b and c; dt.
        public override long Bytes => (3 * sizes.Elements + 2 * sizes.Steps * sizes.States + sizes.Steps * sizes.Heads)
            * sizeof(TStorage);

        // For each state two multiply-adds, which no way of computing it can do without.
        public override double Flops => (double)sizes.Elements * sizes.States * 4;

        public override Bound Bound => Bound.Arithmetic;

        public override double Tolerance { get; }

        public override PeerTask PeerTask => new(Operation, TArithmetic.Name, sizes.Batch, sizes.Channels, sizes.Length)
        {
            Heads = sizes.Heads,
            States = sizes.States,
        };

        public override void Run() => context.Ssd(inputs.X.Device, inputs.Dt.Device, inputs.A.Device, inputs.B.Device,
            inputs.C.Device, y.Device, new()
            {
                DtSoftplus = true,
                D = inputs.D.Device,
                Z = inputs.Z.Device,
                DtBias = inputs.DtBias.Device,
            });

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public override void RunLoop()
        {
            var (states, length) = (sizes.States, sizes.Length);
            var h = stackalloc float[states];
            for (long row = 0; row < sizes.Rows; row++)
            {
                var (batch, head, channel) = sizes.PlaceOf(row);
                new Span<float>(h, states).Clear();
                for (long t = 0; t < length; t++)
                {
                    var step = batch * length + t;
                    var biased = TArithmetic.Load(inputs.Dt.Host.Pointer[step * sizes.Heads + head])
                        + inputs.DtBias.Host.Pointer[head];
                    var s = biased > 20 ? biased : MathF.Log(1 + MathF.Exp(biased));
                    var decay = MathF.Exp(s * inputs.A.Host.Pointer[head]);
                    var at = (step * sizes.Heads + head) * sizes.Channels + channel;
                    var x = TArithmetic.Load(inputs.X.Host.Pointer[at]);
                    var sum = inputs.D.Host.Pointer[head] * x;
                    var pb = inputs.B.Host.Pointer + step * states;
                    var pc = inputs.C.Host.Pointer + step * states;
                    for (var n = 0; n < states; n++)
                    {
                        h[n] = decay * h[n] + s * x * TArithmetic.Load(pb[n]);
                        sum += h[n] * TArithmetic.Load(pc[n]);
                    }
                    var gate = TArithmetic.Load(inputs.Z.Host.Pointer[at]);
                    loopResult.Pointer[at] = TArithmetic.Store(sum * gate / (1 + MathF.Exp(-gate)));
                }
            }
        }

        public override double MaxError()
        {
            var result = y.ToHost();
            var meter = new ErrorMeter();
            var (states, length) = (sizes.States, sizes.Length);
            var h = new double[states];
            foreach (var row in ErrorMeter.Rows(sizes.Rows, length * states * 4))
            {
                var (batch, head, channel) = sizes.PlaceOf(row);
                Array.Clear(h);
                for (long t = 0; t < length; t++)
                {
                    var step = batch * length + t;
                    var biased = TArithmetic.Exact(inputs.Dt.Host.Pointer[step * sizes.Heads + head]).Real
                        + inputs.DtBias.Host.Pointer[head];
                    var s = Math.Max(biased, 0) + double.LogP1(Math.Exp(-Math.Abs(biased)));
                    var decay = Math.Exp(s * inputs.A.Host.Pointer[head]);
                    var at = (step * sizes.Heads + head) * sizes.Channels + channel;
                    var x = TArithmetic.Exact(inputs.X.Host.Pointer[at]).Real;
                    var sum = inputs.D.Host.Pointer[head] * x;
                    for (var n = 0; n < states; n++)
                    {
                        h[n] = decay * h[n] + s * x * TArithmetic.Exact(inputs.B.Host.Pointer[step * states + n]).Real;
                        sum += h[n] * TArithmetic.Exact(inputs.C.Host.Pointer[step * states + n]).Real;
                    }
                    var gate = TArithmetic.Exact(inputs.Z.Host.Pointer[at]).Real;
                    meter.Add(TArithmetic.Exact(result.Pointer[at]).Real, sum * gate / (1 + Math.Exp(-gate)));
                }
            }
            return meter.Error;
        }

        public override void Dispose()
        {
            inputs.Dispose();
            y.Dispose();
            loopResult.Dispose();
        }
    }
}

/// <summary>Sizes of ssd and the published model that they come from; one group.</summary>
internal sealed record SsdSizes(string Name, int Batch, long Length, int Heads, int Channels, int States)
{
    public long Steps => Batch * Length;

    public long Elements => Steps * Heads * Channels;

    /// <summary>Channels of all heads and batch elements.</summary>
    public long Rows => (long)Batch * Heads * Channels;

    public nint[] Shape => [Batch, (nint)Length, Heads, Channels];

    public (long Batch, long Head, long Channel) PlaceOf(long row) =>
        (row / ((long)Heads * Channels), row / Channels % Heads, row % Channels);

    public static nint[] Compact(nint[] shape)
    {
        var strides = new nint[shape.Length];
        nint stride = 1;
        for (var i = shape.Length - 1; i >= 0; i--)
        {
            strides[i] = stride;
            stride *= shape[i];
        }
        return strides;
    }

    public override string ToString() =>
        string.Create(CultureInfo.InvariantCulture, $"{Name} B{Batch} L{Length} H{Heads} P{Channels} N{States}");
}

/// <summary>What ssd and its gradients read, as a model starts: a from -1 to -16, steps around 0.001 to 0.1.</summary>
internal sealed class SsdBenchmarkInputs<TStorage, TArithmetic> : IDisposable
    where TStorage : unmanaged
    where TArithmetic : struct, IArithmetic<TStorage, float>
{
    private readonly BenchmarkDevice device;

    public SsdBenchmarkInputs(BenchmarkDevice device, SsdSizes sizes)
    {
        this.device = device;
        nint[] steps = [sizes.Batch, (nint)sizes.Length, sizes.Heads];
        nint[] perStep = [sizes.Batch, (nint)sizes.Length, 1, sizes.States];
        X = Random(sizes.Shape, 1, -1, 1);
        Dt = Random(steps, 2, -1, 1);
        Z = Random(sizes.Shape, 3, -2, 2);
        B = Random(perStep, 4, -1, 1);
        C = Random(perStep, 5, -1, 1);
        A = device.Input<float>([sizes.Heads], [1], array => array.Fill(6, -16, -1));
        D = device.Input<float>([sizes.Heads], [1], array => array.Fill(7, 0.5f, 1.5f));
        DtBias = device.Input<float>([sizes.Heads], [1], array => array.Fill(8, -6.9f, -2.3f));
    }

    public BenchmarkTensor<TStorage> X { get; }

    public BenchmarkTensor<TStorage> Dt { get; }

    public BenchmarkTensor<TStorage> Z { get; }

    public BenchmarkTensor<TStorage> B { get; }

    public BenchmarkTensor<TStorage> C { get; }

    public BenchmarkTensor<float> A { get; }

    public BenchmarkTensor<float> D { get; }

    public BenchmarkTensor<float> DtBias { get; }

    public BenchmarkTensor<TStorage> Random(nint[] shape, int seed, float low, float high) =>
        device.Input<TStorage>(shape, SsdSizes.Compact(shape),
            array => array.Fill(seed, (value, phase) => TArithmetic.FromUniform(low + (high - low) * value, phase)));

    public void Dispose()
    {
        X.Dispose();
        Dt.Dispose();
        Z.Dispose();
        B.Dispose();
        C.Dispose();
        A.Dispose();
        D.Dispose();
        DtBias.Dispose();
    }
}
