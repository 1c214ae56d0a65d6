using System.Numerics;
using System.Numerics.Tensors;

namespace SsmCuda.Tests.Operations;

/// <summary>T is the type of u, TState that of the real states, TA that of a, which may be complex.</summary>
[TestFixture(typeof(float), typeof(float), typeof(float))]
[TestFixture(typeof(double), typeof(double), typeof(double))]
[TestFixture(typeof(Half), typeof(float), typeof(float))]
[TestFixture(typeof(BFloat16), typeof(float), typeof(float))]
[TestFixture(typeof(float), typeof(float), typeof(Complex64))]
[TestFixture(typeof(double), typeof(double), typeof(Complex))]
internal sealed class SelectiveScanTests<T, TState, TA>
    where T : unmanaged
    where TState : unmanaged
    where TA : unmanaged
{
    private const int Channels = 6;
    private const int Groups = 2;
    private const int States = 4;

    private static readonly double Factor = typeof(T) == typeof(float) ? 4 : 1;

    [Test]
    public void DeviceTensors_match_the_loop([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values] bool full, [Values] bool constant, [Values] bool packed, [Values(1, 32, 70)] int length)
    {
        // b and c per step are complex where a is, and of u's type otherwise.
        if (Numbers.IsComplex<TA>() || constant)
            Run<TA>(device, full, constant, packed, length);
        else
            Run<T>(device, full, constant, packed, length);
    }

    private static void Run<TB>(SsmDeviceType device, bool full, bool constant, bool packed, int length)
        where TB : unmanaged
    {
        var batch = packed ? 1 : 2;
        long[]? cuSeqlens = packed ? [0, length / 2, length / 2, length] : null;
        var rows = Reference.Rows(batch, length, cuSeqlens);
        var random = new Random(length);
        var u = Numbers.Random<T>(random, batch * Channels * length, -1, 1);
        var dt = Numbers.Random<T>(random, batch * Channels * length, full ? -3 : 0.01, full ? 1 : 0.3);
        var a = Array.ConvertAll(Numbers.Random<TA>(random, Channels * States, 0.2, 2), value =>
        {
            var number = Numbers.ToComplex(value);
            return Numbers.FromComplex<TA>(new Complex(-Math.Abs(number.Real), number.Imaginary));
        });
        nint[] shape = constant ? [Channels, States] : [batch, Groups, States, length];
        var count = shape.Aggregate((x, y) => x * y);
        var b = Numbers.Random<TB>(random, count, -1, 1);
        var c = Numbers.Random<TB>(random, count, -1, 1);
        var d = Numbers.Random<TState>(random, Channels, -1, 1);
        var z = Numbers.Random<T>(random, batch * Channels * length, -1, 1);
        var dtBias = Numbers.Random<TState>(random, Channels, -1, 1);
        var s0 = Numbers.Random<TA>(random, rows.Count * Channels * States, -1, 1);
        var (y, last) = Reference.SelectiveScan(
            new(Numbers.ToComplex(u), Numbers.ToComplex(dt), Numbers.ToComplex(a), Numbers.ToComplex(b), Numbers.ToComplex(c))
            {
                D = full ? Numbers.ToComplex(d) : null,
                Z = full ? Numbers.ToComplex(z) : null,
                DtBias = full ? Numbers.ToComplex(dtBias) : null,
                InitialState = full ? Numbers.ToComplex(s0) : null,
                DtSoftplus = full,
                IsConstant = constant,
                IsComplex = Numbers.IsComplex<TA>(),
            }, rows, Channels, Groups, States, length);

        using var context = SsmContext.Create(device);
        using var tu = context.ToDevice<T>(u, batch, Channels, length);
        using var tdt = context.ToDevice<T>(dt, batch, Channels, length);
        using var ta = context.ToDevice<TA>(a, Channels, States);
        using var tb = context.ToDevice<TB>(b, shape);
        using var tc = context.ToDevice<TB>(c, shape);
        using var td = context.ToDevice<TState>(d, Channels);
        using var tz = context.ToDevice<T>(z, batch, Channels, length);
        using var tdtBias = context.ToDevice<TState>(dtBias, Channels);
        using var initial = context.ToDevice<TA>(s0, rows.Count, Channels, States);
        using var starts = cuSeqlens is null ? null : context.ToDevice<long>(cuSeqlens, cuSeqlens.Length);
        using var ty = context.Allocate<T>(batch, Channels, length);
        using var lastState = context.Allocate<TA>(rows.Count, Channels, States);
        context.SelectiveScan(tu, tdt, ta, tb, tc, ty, new()
        {
            D = full ? td : null,
            Z = full ? tz : null,
            DtBias = full ? tdtBias : null,
            DtSoftplus = full,
            InitialState = full ? initial : null,
            CuSeqlens = starts,
            LastState = lastState,
        });

        Numbers.AssertClose(ty.ToArray(), y, "y", Factor);
        Numbers.AssertClose(lastState.ToArray(), last, "last_state", 4);
    }
}

/// <summary>The ways to write a call, where types are known.</summary>
internal sealed class SelectiveScanCallTests
{
    [Test]
    public void Tensor_and_TensorSpan_convert_by_themselves()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        var u = Tensor.Create<float>([1, 2, 3, 4], [1, 1, 4]);
        var dt = Tensor.Create<float>([1, 1, 1, 1], [1, 1, 4]);
        var a = Tensor.Create<float>([0], [1, 1]);
        var one = Tensor.Create<float>([1, 1, 1, 1], [1, 1, 1, 4]);
        float[] skip = [2];
        var y = new float[4];
        context.SelectiveScan(u, dt, a, one, one, new TensorSpan<float>(y, [1, 1, 4]), new() { D = skip });
        Assert.That(y, Is.EqualTo((float[])[3, 7, 12, 18]));
        Assert.That(context.SelectiveScanWorkspace(u, dt, a, one, one, new TensorSpan<float>(y, [1, 1, 4])), Is.Not.Negative);
    }
}
