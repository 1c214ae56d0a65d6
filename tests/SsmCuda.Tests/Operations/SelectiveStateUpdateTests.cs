using System.Numerics;

namespace SsmCuda.Tests.Operations;

/// <summary>T is the type of x, TA that of a, TState that of the state.</summary>
[TestFixture(typeof(float), typeof(float), typeof(float))]
[TestFixture(typeof(double), typeof(double), typeof(double))]
[TestFixture(typeof(Half), typeof(float), typeof(float))]
[TestFixture(typeof(BFloat16), typeof(float), typeof(BFloat16))]
[TestFixture(typeof(float), typeof(float), typeof(Half))]
internal sealed class SelectiveStateUpdateTests<T, TA, TState>
    where T : unmanaged
    where TA : unmanaged
    where TState : unmanaged
{
    private const int Batch = 2;
    private const int Channels = 6;
    private const int Groups = 2;

    private static readonly double Factor = typeof(T) == typeof(float) ? 4 : 1;

    [Test]
    public void DeviceTensors_match_the_scan([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values] bool full, [Values(3, 16, 40)] int states, [Values(1, 3)] int steps)
    {
        var random = new Random(states);
        var x = Numbers.Random<T>(random, Batch * Channels * steps, -1, 1);
        var dt = Numbers.Random<T>(random, Batch * Channels * steps, full ? -3 : 0.01, full ? 1 : 0.3);
        var a = Array.ConvertAll(Numbers.Random<TA>(random, Channels * states, 0.2, 2),
            value => Numbers.FromComplex<TA>(-Complex.Abs(Numbers.ToComplex(value))));
        var b = Numbers.Random<T>(random, Batch * Groups * states * steps, -1, 1);
        var c = Numbers.Random<T>(random, Batch * Groups * states * steps, -1, 1);
        var d = Numbers.Random<TA>(random, Channels, -1, 1);
        var z = Numbers.Random<T>(random, Batch * Channels * steps, -1, 1);
        var dtBias = Numbers.Random<TA>(random, Channels, -1, 1);
        var s0 = Numbers.Random<TState>(random, Batch * Channels * states, -1, 1);
        var (y, last) = Reference.SelectiveScan(
            new(Numbers.ToComplex(x), Numbers.ToComplex(dt), Numbers.ToComplex(a), Numbers.ToComplex(b), Numbers.ToComplex(c))
            {
                D = full ? Numbers.ToComplex(d) : null,
                Z = full ? Numbers.ToComplex(z) : null,
                DtBias = full ? Numbers.ToComplex(dtBias) : null,
                InitialState = Numbers.ToComplex(s0),
                DtSoftplus = full,
            }, Reference.Rows(Batch, steps, null), Channels, Groups, states, steps);

        using var context = SsmContext.Create(device);
        nint[] shape = steps == 1 ? [Batch, Channels] : [Batch, Channels, steps];
        nint[] stateShape = steps == 1 ? [Batch, Groups, states] : [Batch, Groups, states, steps];
        using var tx = context.ToDevice<T>(x, shape);
        using var tdt = context.ToDevice<T>(dt, shape);
        using var ta = context.ToDevice<TA>(a, Channels, states);
        using var tb = context.ToDevice<T>(b, stateShape);
        using var tc = context.ToDevice<T>(c, stateShape);
        using var td = context.ToDevice<TA>(d, Channels);
        using var tz = context.ToDevice<T>(z, shape);
        using var tdtBias = context.ToDevice<TA>(dtBias, Channels);
        using var ty = context.Allocate<T>(shape);
        using var state = context.ToDevice<TState>(s0, Batch, Channels, states);
        context.SelectiveStateUpdate(state, tx, tdt, ta, tb, tc, ty, new()
        {
            D = full ? td : null,
            Z = full ? tz : null,
            DtBias = full ? tdtBias : null,
            DtSoftplus = full,
        });

        Numbers.AssertClose(ty.ToArray(), y, "y", Factor);
        Numbers.AssertClose(state.ToArray(), last, "state", 4);
    }

    /// <summary>Heads are channels that share a, dt, d and dt_bias; a row in a slot is the row, one that is skipped is
    /// zero.</summary>
    [Test]
    public void Heads_in_slots_match_channels([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        const int heads = 2, size = 3, states = 20;
        var random = new Random(7);
        var x = Numbers.Random<T>(random, Batch * Channels, -1, 1);
        var dt = Numbers.Random<T>(random, Batch * heads, 0.1, 0.5);
        var a = Array.ConvertAll(Numbers.Random<TA>(random, heads, 0.2, 2),
            value => Numbers.FromComplex<TA>(-Complex.Abs(Numbers.ToComplex(value))));
        var b = Numbers.Random<T>(random, Batch * states, -1, 1);
        var c = Numbers.Random<T>(random, Batch * states, -1, 1);
        var s0 = Numbers.Random<TState>(random, Batch * Channels * states, -1, 1);

        using var context = SsmContext.Create(device);
        using var tb = context.ToDevice<T>(b, Batch, 1, states);
        using var tc = context.ToDevice<T>(c, Batch, 1, states);
        using var tx = context.ToDevice<T>(x, Batch, heads, size);
        using var tdt = context.ToDevice<T>(dt, Batch, heads);
        using var ta = context.ToDevice<TA>(a, heads);
        using var ty = context.Allocate<T>(Batch, heads, size);
        using var slots = context.ToDevice<int>([2, -1], Batch);
        var cache = new TState[3 * Channels * states];
        s0.AsSpan(0, Channels * states).CopyTo(cache.AsSpan(2 * Channels * states));
        using var state = context.ToDevice<TState>(cache, 3, heads, size, states);
        context.SelectiveStateUpdate(state, tx, tdt, ta, tb, tc, ty, new() { Slots = slots });

        using var wx = context.ToDevice<T>(x, Batch, Channels);
        using var wdt = context.ToDevice<T>(Wide(dt, size), Batch, Channels);
        using var wa = context.ToDevice<TA>(Wide(a, size * states), Channels, states);
        using var wy = context.Allocate<T>(Batch, Channels);
        using var wide = context.ToDevice<TState>(s0, Batch, Channels, states);
        context.SelectiveStateUpdate(wide, wx, wdt, wa, tb, tc, wy);

        var (expected, after) = (Numbers.ToComplex(wy.ToArray()), Numbers.ToComplex(wide.ToArray()));
        Array.Clear(expected, Channels, Channels);
        Numbers.AssertClose(ty.ToArray(), expected, "y");
        var kept = new Complex[cache.Length];
        after.AsSpan(0, Channels * states).CopyTo(kept.AsSpan(2 * Channels * states));
        Numbers.AssertClose(state.ToArray(), kept, "state", 4);
    }

    private static TValue[] Wide<TValue>(TValue[] values, int times) =>
        [.. values.SelectMany(value => Enumerable.Repeat(value, times))];
}

/// <summary>The ways to write a call, where types are known.</summary>
internal sealed class SelectiveStateUpdateCallTests
{
    [Test]
    public void Spans_of_the_host_are_updated_in_place()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        float[] state = [1, 2], one = [1], y = [0], skip = [10];
        float[] a = [0, 0], b = [1, 0], c = [1, 1];
        int[] slots = [0];
        for (var step = 1; step <= 3; step++)
        {
            context.SelectiveStateUpdate(TensorView.Create<float>(state, 1, 1, 2),
                ReadOnlyTensorView.Create<float>(one, 1, 1), ReadOnlyTensorView.Create<float>(one, 1, 1),
                ReadOnlyTensorView.Create<float>(a, 1, 2),
                ReadOnlyTensorView.Create<float>(b, 1, 1, 2), ReadOnlyTensorView.Create<float>(c, 1, 1, 2),
                TensorView.Create<float>(y, 1, 1), new() { D = skip, Slots = slots });
            Assert.That(state, Is.EqualTo((float[])[1 + step, 2]));
            Assert.That(y[0], Is.EqualTo(1 + step + 2 + 10));
        }
    }

    [Test]
    public void Nothing_is_left_for_the_garbage_collector()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        using var x = context.Allocate<float>(2, 3);
        using var a = context.Allocate<float>(3, 4);
        using var b = context.Allocate<float>(2, 1, 4);
        using var state = context.Allocate<float>(2, 3, 4);
        using var dt = context.Allocate<float>(2, 3);
        foreach (var tensor in (DeviceTensor<float>[])[x, dt, a, b, state])
            tensor.CopyFrom(new float[tensor.Length]);
        for (var i = 0; i < 3; i++)
            Step();
        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 10; i++)
            Step();
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero);
        Assert.That(context.SelectiveStateUpdateWorkspace(state, x, dt, a, b, b, x), Is.Zero);

        void Step() => context.SelectiveStateUpdate(state, x, dt, a, b, b, x, new() { DtSoftplus = true });
    }
}
