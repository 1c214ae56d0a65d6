using System.Numerics;

namespace SsmCuda.Tests.Operations;

/// <summary>T is the type of x, TState that of a and of the states.</summary>
[TestFixture(typeof(float), typeof(float))]
[TestFixture(typeof(double), typeof(double))]
[TestFixture(typeof(Half), typeof(float))]
[TestFixture(typeof(BFloat16), typeof(float))]
internal sealed class SsdTests<T, TState>
    where T : unmanaged
    where TState : unmanaged
{
    private const int Heads = 4;
    private const int Channels = 5;
    private const int Groups = 2;
    private const int States = 7;

    [Test]
    public void DeviceTensors_match_the_definition([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values] bool full, [Values] bool packed, [Values(1, 70)] int length, [Values(0, 16)] int chunk)
    {
        var random = new Random(length);
        var batch = packed ? 1 : 2;
        long[]? cuSeqlens = packed ? [0, length / 2, length / 2, length] : null;
        var rows = packed ? 3 : batch;
        nint[] shape = [batch, length, Heads, Channels];
        nint[] perStep = [batch, length, Groups, States];
        nint[] stateShape = [rows, Heads, Channels, States];
        var x = Numbers.Random<T>(random, batch * length * Heads * Channels, -1, 1);
        var dt = Numbers.Random<T>(random, batch * length * Heads, full ? -3 : 0.01, full ? 1 : 0.3);
        var a = Array.ConvertAll(Numbers.Random<TState>(random, Heads, 0.2, 2),
            value => Numbers.FromComplex<TState>(-Complex.Abs(Numbers.ToComplex(value))));
        var b = Numbers.Random<T>(random, batch * length * Groups * States, -1, 1);
        var c = Numbers.Random<T>(random, batch * length * Groups * States, -1, 1);
        var d = Numbers.Random<TState>(random, Heads, -1, 1);
        var z = Numbers.Random<T>(random, x.Length, -1, 1);
        var dtBias = Numbers.Random<TState>(random, Heads, -1, 1);
        var s0 = Numbers.Random<TState>(random, rows * Heads * Channels * States, -1, 1);
        var ids = new int[batch * length];
        for (var i = 0; i < ids.Length; i++)
            ids[i] = i / 9 % 2;
        var (y, last) = new SsdReference(batch, length, Heads, Channels, Groups, States)
        {
            X = Real(x),
            Dt = Real(dt),
            A = Real(a),
            B = Real(b),
            C = Real(c),
            D = full ? Real(d) : null,
            Z = full ? Real(z) : null,
            DtBias = full ? Real(dtBias) : null,
            InitialState = full ? Real(s0) : null,
            SeqIdx = full ? ids : null,
            CuSeqlens = cuSeqlens,
            DtSoftplus = full,
        }.Run();

        using var context = SsmContext.Create(device);
        using var tx = context.ToDevice<T>(x, shape);
        using var tdt = context.ToDevice<T>(dt, batch, length, Heads);
        using var ta = context.ToDevice<TState>(a, Heads);
        using var tb = context.ToDevice<T>(b, perStep);
        using var tc = context.ToDevice<T>(c, perStep);
        using var td = context.ToDevice<TState>(d, Heads);
        using var tz = context.ToDevice<T>(z, shape);
        using var tdtBias = context.ToDevice<TState>(dtBias, Heads);
        using var initial = context.ToDevice<TState>(s0, stateShape);
        using var tids = context.ToDevice<int>(ids, batch, length);
        using var starts = cuSeqlens is null ? null : context.ToDevice<long>(cuSeqlens, cuSeqlens.Length);
        using var ty = context.Allocate<T>(shape);
        using var lastState = context.Allocate<TState>(stateShape);
        context.Ssd(tx, tdt, ta, tb, tc, ty, new()
        {
            DtSoftplus = full,
            ChunkSize = chunk,
            D = full ? td : null,
            Z = full ? tz : null,
            DtBias = full ? tdtBias : null,
            InitialState = full ? initial : null,
            SeqIdx = full ? tids : null,
            CuSeqlens = starts,
            LastState = lastState,
        });

        // Tensor cores take factors that are rounded to 16 bits.
        Numbers.AssertClose(ty.ToArray(), Wide(y), "y", typeof(T) == typeof(double) ? 4 : 2);
        Numbers.AssertClose(lastState.ToArray(), Wide(last), "last_state",
            typeof(T) == typeof(Half) ? 100 : typeof(T) == typeof(BFloat16) ? 800 : 4);
    }

    private static double[] Real<TValue>(TValue[] values) => Array.ConvertAll(values, value => Numbers.ToComplex(value).Real);

    private static Complex[] Wide(double[] values) => Array.ConvertAll(values, value => new Complex(value, 0));
}

/// <summary>The ways to write a call, where types are known.</summary>
internal sealed class SsdCallTests
{
    [Test]
    public void Spans_of_the_host_are_used_in_place()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        float[] x = [1, 2, 3, 4], one = [1, 1, 1, 1], a = [0], skip = [2], y = [0, 0, 0, 0], last = [0];
        var view = ReadOnlyTensorView.Create<float>(x, 1, 4, 1, 1);
        var steps = ReadOnlyTensorView.Create<float>(one, 1, 4, 1);
        var states = ReadOnlyTensorView.Create<float>(one, 1, 4, 1, 1);
        SsdOptions options = new() { D = skip, LastState = TensorView.Create<float>(last, 1, 1, 1, 1) };
        context.Ssd(view, steps, a, states, states, TensorView.Create<float>(y, 1, 4, 1, 1), options);
        Assert.That(y, Is.EqualTo((float[])[3, 7, 12, 18]));
        Assert.That(last[0], Is.EqualTo(10));
        Assert.That(context.SsdWorkspace(view, steps, a, states, states, TensorView.Create<float>(y, 1, 4, 1, 1), options),
            Is.Positive);
        int[] ids = [3, 3, 5, 3];
        options.SeqIdx = ReadOnlyTensorView.Create<int>(ids, 1, 4);
        options.DtMax = 0.5;
        context.Ssd(view, steps, a, states, states, TensorView.Create<float>(y, 1, 4, 1, 1), options);
        Assert.That(y, Is.EqualTo((float[])[2.5f, 5.5f, 7.5f, 10]));
        var error = Assert.Throws<SsmArgumentException>(() =>
        {
            var wrong = new SsdOptions { DtMin = 2, DtMax = 1 };
            context.Ssd(ReadOnlyTensorView.Create<float>(x, 1, 4, 1, 1), ReadOnlyTensorView.Create<float>(one, 1, 4, 1), a,
                ReadOnlyTensorView.Create<float>(one, 1, 4, 1, 1), ReadOnlyTensorView.Create<float>(one, 1, 4, 1, 1),
                TensorView.Create<float>(y, 1, 4, 1, 1), wrong);
        });
        Assert.That(error!.Message, Does.Contain("dt_max"));
    }
}
