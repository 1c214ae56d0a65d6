using System.Runtime.CompilerServices;

namespace SsmCuda.Tool.Bench.Operations;

/// <summary>Mamba-3's heads with everything they have in the model: rates of each step, angles for half of the pairs of
/// states, biases, d, z, dt_bias and softplus. Bound by arithmetic on a CPU.</summary>
internal static class Mamba3Benchmarks
{
    private const string Operation = "mamba3";

    public static IEnumerable<BenchmarkDefinition> Definitions(bool quick)
    {
        var sizes = new SsdSizes("mamba3-440m", 1, quick ? 128 : 512, 32, 64, 128);
        yield return Define<float, Float32Arithmetic>(sizes, 4);
        yield return Define<BFloat16, BFloat16Arithmetic>(sizes, 4);
    }

    // Rounded factors: ssd takes b and c in the type of x.
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

        public override long Bytes => inputs.Bytes + sizes.Elements * sizeof(TStorage);

        // For each state two multiply-adds, as in ssd.
        public override double Flops => (double)sizes.Elements * sizes.States * 4;

        public override Bound Bound => Bound.Arithmetic;

        public override double Tolerance { get; }

        public override void Run() => context.Mamba3(inputs.X.Device, inputs.Dt.Device, inputs.A.Device, inputs.B.Device,
            inputs.C.Device, inputs.Trap.Device, y.Device, new()
            {
                DtSoftplus = true,
                Angles = inputs.Angles.Device,
                BBias = inputs.BBias.Device,
                CBias = inputs.CBias.Device,
                D = inputs.D.Device,
                Z = inputs.Z.Device,
                DtBias = inputs.DtBias.Device,
            });

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public override void RunLoop()
        {
            var rows = new Mamba3BenchmarkRows<TStorage, TArithmetic>(inputs, sizes);
            for (long row = 0; row < sizes.Rows; row++)
                rows.Channel(row, (at, value) => loopResult.Pointer[at] = TArithmetic.Store((float)value));
        }

        public override double MaxError()
        {
            var result = y.ToHost();
            var meter = new ErrorMeter();
            var rows = new Mamba3BenchmarkRows<TStorage, TArithmetic>(inputs, sizes);
            foreach (var row in ErrorMeter.Rows(sizes.Rows, sizes.Length * sizes.States * 4))
                rows.Channel(row, (at, value) => meter.Add(TArithmetic.Exact(result.Pointer[at]).Real, value));
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

/// <summary>What Mamba-3's operations read: a from -1 to -16, steps around 0.001 to 0.1.</summary>
internal sealed class Mamba3BenchmarkInputs<TStorage, TArithmetic> : IDisposable
    where TStorage : unmanaged
    where TArithmetic : struct, IArithmetic<TStorage, float>
{
    private readonly BenchmarkDevice device;
    private readonly List<IDisposable> tensors = [];

    public Mamba3BenchmarkInputs(BenchmarkDevice device, SsdSizes sizes)
    {
        this.device = device;
        nint[] steps = [sizes.Batch, (nint)sizes.Length, sizes.Heads];
        nint[] perStep = [sizes.Batch, (nint)sizes.Length, 1, sizes.States];
        X = Random(sizes.Shape, 1, -1, 1);
        Dt = Random(steps, 2, -1, 1);
        Z = Random(sizes.Shape, 3, -2, 2);
        B = Random(perStep, 4, -1, 1);
        C = Random(perStep, 5, -1, 1);
        A = Parameter(steps, 6, -16, -1);
        D = Parameter([sizes.Heads], 7, 0.5f, 1.5f);
        DtBias = Parameter([sizes.Heads], 8, -6.9f, -2.3f);
        Trap = Random(steps, 10, -2, 2);
        Angles = Random([sizes.Batch, (nint)sizes.Length, 1, AnglesOf(sizes)], 11, -2, 2);
        BBias = Parameter([sizes.Heads, sizes.States], 12, -1, 1);
        CBias = Parameter([sizes.Heads, sizes.States], 13, -1, 1);
        // x and z; b and c; dt and trap; a; the angles.
        Bytes = (2 * sizes.Elements + 2 * sizes.Steps * sizes.States + 2 * sizes.Steps * sizes.Heads
            + sizes.Steps * AnglesOf(sizes)) * Unsafe.SizeOf<TStorage>() + sizes.Steps * sizes.Heads * sizeof(float);
    }

    public long Bytes { get; }

    public BenchmarkTensor<TStorage> X { get; }

    public BenchmarkTensor<TStorage> Dt { get; }

    public BenchmarkTensor<TStorage> Z { get; }

    public BenchmarkTensor<TStorage> B { get; }

    public BenchmarkTensor<TStorage> C { get; }

    public BenchmarkTensor<TStorage> Trap { get; }

    public BenchmarkTensor<TStorage> Angles { get; }

    public BenchmarkTensor<float> A { get; }

    public BenchmarkTensor<float> D { get; }

    public BenchmarkTensor<float> DtBias { get; }

    public BenchmarkTensor<float> BBias { get; }

    public BenchmarkTensor<float> CBias { get; }

    /// <summary>Half of the pairs of states turn.</summary>
    public static int AnglesOf(SsdSizes sizes) => sizes.States / 4;

    public BenchmarkTensor<TStorage> Random(nint[] shape, int seed, float low, float high) =>
        Keep(device.Input<TStorage>(shape, SsdSizes.Compact(shape),
            array => array.Fill(seed, (value, phase) => TArithmetic.FromUniform(low + (high - low) * value, phase))));

    public BenchmarkTensor<float> Parameter(nint[] shape, int seed, float low, float high) =>
        Keep(device.Input<float>(shape, SsdSizes.Compact(shape), array => array.Fill(seed, low, high)));

    public BenchmarkTensor<TValue> Output<TValue>(BenchmarkTensor<TValue> like, nint[] shape)
        where TValue : unmanaged => Keep(device.Output<TValue>(shape, SsdSizes.Compact(shape)));

    public void Dispose() => tensors.ForEach(tensor => tensor.Dispose());

    private BenchmarkTensor<TValue> Keep<TValue>(BenchmarkTensor<TValue> tensor)
        where TValue : unmanaged
    {
        tensors.Add(tensor);
        return tensor;
    }
}

/// <summary>The definition in doubles: the steps of a head, made once, and its channels one by one.</summary>
internal sealed unsafe class Mamba3BenchmarkRows<TStorage, TArithmetic>(
    Mamba3BenchmarkInputs<TStorage, TArithmetic> inputs, SsdSizes sizes)
    where TStorage : unmanaged
    where TArithmetic : struct, IArithmetic<TStorage, float>
{
    private readonly double[] k = new double[sizes.Length * sizes.States];
    private readonly double[] q = new double[sizes.Length * sizes.States];
    private readonly double[] decay = new double[sizes.Length];
    private readonly double[] entering = new double[sizes.Length];
    private readonly double[] now = new double[sizes.Length];
    private readonly double[] theta = new double[Mamba3BenchmarkInputs<TStorage, TArithmetic>.AnglesOf(sizes)];
    private readonly double[] h = new double[sizes.States];
    private long batch = -1;
    private long head = -1;

    /// <summary>Calls back with the place of each y and its value. The states before the first step are what `state`
    /// says.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Channel(long row, Action<long, double> output, (double[] H, double[] K, double X, double[] Theta)? state = null)
    {
        var (ownBatch, ownHead, channel) = sizes.PlaceOf(row);
        MakeSteps(ownBatch, ownHead, state?.Theta);
        var (states, before) = (sizes.States, state?.X ?? 0);
        if (state is { } given)
            given.H.CopyTo(h, 0);
        else
            Array.Clear(h);
        for (long t = 0; t < sizes.Length; t++)
        {
            var at = ((batch * sizes.Length + t) * sizes.Heads + head) * sizes.Channels + channel;
            var x = TArithmetic.Exact(inputs.X.Host.Pointer[at]).Real;
            var sum = inputs.D.Host.Pointer[head] * x;
            var first = t * states;
            for (var n = 0; n < states; n++)
            {
                var previous = t > 0 ? k[first - states + n] : state?.K[n] ?? 0;
                h[n] = decay[t] * (h[n] + entering[t] * before * previous) + now[t] * x * k[first + n];
                sum += h[n] * q[first + n];
            }
            before = x;
            var gate = TArithmetic.Exact(inputs.Z.Host.Pointer[at]).Real;
            output(at, sum * gate / (1 + Math.Exp(-gate)));
        }
    }

    /// <summary>The same of grad_x, from the last step to the first.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void ChannelBackward(long row, HostArray<TStorage> gradY, Action<long, double> output)
    {
        var (ownBatch, ownHead, channel) = sizes.PlaceOf(row);
        MakeSteps(ownBatch, ownHead, null);
        var (states, carried) = (sizes.States, 0.0);
        Array.Clear(h);
        for (var t = sizes.Length - 1; t >= 0; t--)
        {
            var at = ((batch * sizes.Length + t) * sizes.Heads + head) * sizes.Channels + channel;
            var gate = TArithmetic.Exact(inputs.Z.Host.Pointer[at]).Real;
            var g = TArithmetic.Exact(gradY.Pointer[at]).Real * gate / (1 + Math.Exp(-gate));
            var sum = inputs.D.Host.Pointer[head] * g + carried;
            var first = t * states;
            carried = 0;
            for (var n = 0; n < states; n++)
            {
                h[n] += g * q[first + n];
                sum += now[t] * h[n] * k[first + n];
                h[n] *= decay[t];
                carried += t > 0 ? entering[t] * h[n] * k[first - states + n] : 0;
            }
            output(at, sum);
        }
    }

    // Of a head, unless they are there.
    private void MakeSteps(long ownBatch, long ownHead, double[]? initial)
    {
        if (initial is null && ownBatch == batch && ownHead == head)
            return;
        (batch, head) = (ownBatch, ownHead);
        Array.Clear(theta);
        initial?.CopyTo(theta, 0);
        for (long t = 0; t < sizes.Length; t++)
        {
            var step = batch * sizes.Length + t;
            var biased = TArithmetic.Exact(inputs.Dt.Host.Pointer[step * sizes.Heads + head]).Real
                + inputs.DtBias.Host.Pointer[head];
            var s = Math.Max(biased, 0) + double.LogP1(Math.Exp(-Math.Abs(biased)));
            var lambda = 1 / (1 + Math.Exp(-TArithmetic.Exact(inputs.Trap.Host.Pointer[step * sizes.Heads + head]).Real));
            decay[t] = Math.Exp(s * inputs.A.Host.Pointer[step * sizes.Heads + head]);
            (entering[t], now[t]) = ((1 - lambda) * s, lambda * s);
            for (var i = 0; i < theta.Length; i++)
                theta[i] += Math.PI * s * Math.Tanh(TArithmetic.Exact(inputs.Angles.Host.Pointer[step * theta.Length + i]).Real);
            Turn(inputs.B, inputs.BBias, step, k.AsSpan((int)(t * sizes.States), sizes.States));
            Turn(inputs.C, inputs.CBias, step, q.AsSpan((int)(t * sizes.States), sizes.States));
        }
    }

    private void Turn(BenchmarkTensor<TStorage> rows, BenchmarkTensor<float> bias, long step, Span<double> to)
    {
        for (var n = 0; n < to.Length; n++)
            to[n] = TArithmetic.Exact(rows.Host.Pointer[step * to.Length + n]).Real + bias.Host.Pointer[head * to.Length + n];
        for (var i = 0; i < theta.Length; i++)
        {
            var (u, v, (sine, cosine)) = (to[2 * i], to[2 * i + 1], Math.SinCos(theta[i]));
            (to[2 * i], to[2 * i + 1]) = (u * cosine - v * sine, u * sine + v * cosine);
        }
    }
}
