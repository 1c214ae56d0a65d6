using System.Numerics;
using System.Numerics.Tensors;

namespace SsmCuda.Tests.Operations;

[TestFixture(typeof(float), typeof(float))]
[TestFixture(typeof(double), typeof(double))]
[TestFixture(typeof(Half), typeof(float))]
[TestFixture(typeof(BFloat16), typeof(float))]
[TestFixture(typeof(Complex64), typeof(Complex64))]
[TestFixture(typeof(Complex), typeof(Complex))]
internal sealed class AssociativeScanTests<T, TState>
    where T : unmanaged
    where TState : unmanaged
{
    private const int Batch = 2;
    private const int Channels = 3;

    [Test]
    public void DeviceTensors_match_the_loop([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values(SsmCombine.Add, SsmCombine.Multiply)] SsmCombine combine, [Values] bool reverse, [Values] bool exclusive,
        [Values(0, 1, 33, 129)] int length) => Check(device, combine, reverse, exclusive, length);

    [Test]
    public void Maximum_and_minimum_take_real_numbers([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values(SsmCombine.Maximum, SsmCombine.Minimum)] SsmCombine combine, [Values] bool reverse)
    {
        if (Numbers.IsComplex<T>())
            Assert.That(() => Check(device, combine, reverse, false, 33), Throws.InstanceOf<SsmException>());
        else
            Check(device, combine, reverse, false, 33);
        Assert.That(() => Check(device, combine, reverse, true, 33), Throws.InstanceOf<SsmException>(), "they have no identity");
    }

    private static void Check(SsmDeviceType device, SsmCombine combine, bool reverse, bool exclusive, int length)
    {
        var (x, s0) = Inputs(combine, Batch, length, Batch);
        var (y, last) = Reference.AssociativeScan(combine, Numbers.ToComplex(x), Reference.Rows(Batch, length, null), Channels,
            length, reverse, exclusive, Numbers.ToComplex(s0));

        using var context = SsmContext.Create(device);
        using var tx = context.ToDevice<T>(x, Batch, Channels, length);
        using var ty = context.Allocate<T>(Batch, Channels, length);
        using var initial = context.ToDevice<TState>(s0, Batch, Channels);
        using var lastState = context.Allocate<TState>(Batch, Channels);
        context.AssociativeScan(combine, tx, ty,
            new() { Reverse = reverse, Exclusive = exclusive, InitialState = initial, LastState = lastState });

        Numbers.AssertClose(ty.ToArray(), y, "y");
        Numbers.AssertClose(lastState.ToArray(), last, "last_state");
    }

    [Test]
    public void Packed_in_place_matches_the_loop([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values] bool reverse)
    {
        long[] cuSeqlens = [0, 1, 34, 34, 80];
        var (x, _) = Inputs(SsmCombine.Add, 1, 80, 1);
        var (y, last) = Reference.AssociativeScan(SsmCombine.Add, Numbers.ToComplex(x), Reference.Rows(1, 80, cuSeqlens), Channels,
            80, reverse, false, null);

        using var context = SsmContext.Create(device);
        using var tx = context.ToDevice<T>(x, 1, Channels, 80);
        using var starts = context.ToDevice<long>(cuSeqlens, 5);
        using var lastState = context.Allocate<TState>(4, Channels);
        context.AssociativeScan(SsmCombine.Add, tx, tx, new() { Reverse = reverse, CuSeqlens = starts, LastState = lastState });

        Numbers.AssertClose(tx.ToArray(), y, "y");
        Numbers.AssertClose(lastState.ToArray(), last, "last_state");
    }

    [Test]
    public void Host_spans_of_any_strides_are_used_in_place()
    {
        const int length = 40;
        var (x, s0) = Inputs(SsmCombine.Multiply, Batch, length, Batch);
        var (y, last) = Reference.AssociativeScan(SsmCombine.Multiply, Numbers.ToComplex(x), Reference.Rows(Batch, length, null),
            Channels, length, false, false, Numbers.ToComplex(s0));

        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        var channelsInside = new T[x.Length];
        var ty = new TensorSpan<T>(channelsInside, [Batch, Channels, length], [Channels * length, 1, Channels]);
        context.AssociativeScan(SsmCombine.Multiply, ReadOnlyTensorView.Create<T>(x, Batch, Channels, length), TensorView.Create(ty),
            new() { InitialState = ReadOnlyTensorView.Create<TState>(s0, Batch, Channels) });
        var compact = new T[x.Length];
        ty.FlattenTo(compact);
        Numbers.AssertClose(compact, y, "y");

        var flat = new T[x.Length];
        var lastState = new TState[Batch * Channels];
        context.AssociativeScan<T>(SsmCombine.Multiply, x, flat, Batch, Channels, length, new()
        {
            InitialState = ReadOnlyTensorView.Create<TState>(s0, s0.Length),
            LastState = TensorView.Create<TState>(lastState, lastState.Length),
        });
        Numbers.AssertClose(flat, y, "y");
        Numbers.AssertClose(lastState, last, "last_state");
        Assert.That(context.AssociativeScanWorkspace(SsmCombine.Add, ReadOnlyTensorView.Create<T>(x, Batch, Channels, length),
            TensorView.Create(ty)), Is.Not.Negative);
    }

    private static (T[] X, TState[] S0) Inputs(SsmCombine combine, int batch, int length, int rows)
    {
        var random = new Random(length + 3);
        var (low, high) = combine == SsmCombine.Multiply ? (0.97, 1.02) : (-1, 1);
        return (Numbers.Random<T>(random, (long)batch * Channels * length, low, high),
            Numbers.Random<TState>(random, rows * Channels, low, high));
    }
}
