using System.Numerics;
using System.Numerics.Tensors;

namespace SsmCuda.Tests.Operations;

[TestFixture(typeof(float), typeof(float))]
[TestFixture(typeof(double), typeof(double))]
[TestFixture(typeof(Half), typeof(float))]
[TestFixture(typeof(BFloat16), typeof(float))]
[TestFixture(typeof(Complex64), typeof(Complex64))]
[TestFixture(typeof(Complex), typeof(Complex))]
internal sealed class LinearRecurrenceTests<T, TState>
    where T : unmanaged
    where TState : unmanaged
{
    private const int Batch = 2;
    private const int Channels = 5;

    [Test]
    public void DeviceTensors_match_the_loop([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values] bool reverse, [Values] bool states, [Values(0, 1, 2, 33, 257)] int length)
    {
        var (a, b, s0) = Inputs(Batch, length);
        var (h, last) = Reference.LinearRecurrence(Numbers.ToComplex(a), Numbers.ToComplex(b), Reference.Rows(Batch, length, null),
            Channels, length, reverse, states ? Numbers.ToComplex(s0) : null);

        using var context = SsmContext.Create(device);
        using var ta = context.ToDevice<T>(a, Batch, Channels, length);
        using var tb = context.ToDevice<T>(b, Batch, Channels, length);
        using var th = context.Allocate<T>(Batch, Channels, length);
        using var initial = context.ToDevice<TState>(s0, Batch, Channels);
        using var lastState = context.Allocate<TState>(Batch, Channels);
        if (states)
            context.LinearRecurrence(ta, tb, th, new() { Reverse = reverse, InitialState = initial, LastState = lastState });
        else
            context.LinearRecurrence(ta, tb, th, new() { Reverse = reverse, LastState = lastState });

        Numbers.AssertClose(th.ToArray(), h, "h");
        Numbers.AssertClose(lastState.ToArray(), last, "last_state");
    }

    [Test]
    public void Packed_sequences_match_the_loop([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values] bool reverse)
    {
        long[] cuSeqlens = [0, 3, 3, 40, 97];
        var (a, b, _) = Inputs(1, 97);
        var s0 = Numbers.Random<TState>(new Random(5), 4 * Channels, -1, 1);
        var (h, last) = Reference.LinearRecurrence(Numbers.ToComplex(a), Numbers.ToComplex(b), Reference.Rows(1, 97, cuSeqlens),
            Channels, 97, reverse, Numbers.ToComplex(s0));

        using var context = SsmContext.Create(device);
        using var ta = context.ToDevice<T>(a, 1, Channels, 97);
        using var tb = context.ToDevice<T>(b, 1, Channels, 97);
        using var th = context.Allocate<T>(1, Channels, 97);
        using var initial = context.ToDevice<TState>(s0, 4, Channels);
        using var starts = context.ToDevice<long>(cuSeqlens, 5);
        using var lastState = context.Allocate<TState>(4, Channels);
        context.LinearRecurrence(ta, tb, th,
            new() { Reverse = reverse, InitialState = initial, CuSeqlens = starts, LastState = lastState });

        Numbers.AssertClose(th.ToArray(), h, "h");
        Numbers.AssertClose(lastState.ToArray(), last, "last_state");
    }

    [Test]
    public void Permuted_and_sliced_tensors_match_the_loop([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        const int length = 65;
        var (a, b, _) = Inputs(Batch, length);
        var (h, _) = Reference.LinearRecurrence(Numbers.ToComplex(a), Numbers.ToComplex(b), Reference.Rows(Batch, length, null),
            Channels, length, false, null);

        using var context = SsmContext.Create(device);
        // a with the channels innermost; b a part of something longer; h with the batch innermost.
        using var aStorage = context.Allocate<T>(Batch, length, Channels);
        using var ta = aStorage.Permute(0, 2, 1);
        ta.CopyFrom(new ReadOnlyTensorSpan<T>(a, [Batch, Channels, length]));
        using var bStorage = context.Allocate<T>(Batch, Channels, length + 7);
        using var tb = bStorage.Slice(2, 3, length);
        tb.CopyFrom(b);
        using var hStorage = context.Allocate<T>(Channels, length, Batch);
        using var th = hStorage.Permute(2, 0, 1);
        context.LinearRecurrence(ta, tb, th);

        Numbers.AssertClose(th.ToArray(), h, "h");
    }

    [Test]
    public void In_place_matches_the_loop([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values] bool reverse)
    {
        const int length = 129;
        var (a, b, _) = Inputs(Batch, length);
        var (h, _) = Reference.LinearRecurrence(Numbers.ToComplex(a), Numbers.ToComplex(b), Reference.Rows(Batch, length, null),
            Channels, length, reverse, null);

        using var context = SsmContext.Create(device);
        using var ta = context.ToDevice<T>(a, Batch, Channels, length);
        using var tb = context.ToDevice<T>(b, Batch, Channels, length);
        context.LinearRecurrence(ta, tb, tb, new() { Reverse = reverse });

        Numbers.AssertClose(tb.ToArray(), h, "h");
    }

    [Test]
    public void Host_tensor_spans_are_used_in_place()
    {
        const int length = 33;
        var (a, b, s0) = Inputs(Batch, length);
        var (h, last) = Reference.LinearRecurrence(Numbers.ToComplex(a), Numbers.ToComplex(b), Reference.Rows(Batch, length, null),
            Channels, length, false, Numbers.ToComplex(s0));

        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        // h lies in every other column of something larger, which must stay as it is between.
        var storage = new T[Batch * Channels * length * 2];
        var wide = new TensorSpan<T>(storage, [Batch, Channels, length], [Channels * length * 2, length * 2, 2]);
        var lastState = new TState[Batch * Channels];
        context.LinearRecurrence(ReadOnlyTensorView.Create(new ReadOnlyTensorSpan<T>(a, [Batch, Channels, length])),
            ReadOnlyTensorView.Create<T>(b, Batch, Channels, length), TensorView.Create(wide), new()
            {
                InitialState = ReadOnlyTensorView.Create<TState>(s0, Batch, Channels),
                LastState = TensorView.Create<TState>(lastState, Batch, Channels),
            });

        Numbers.AssertClose(storage.Where((_, i) => i % 2 == 0).ToArray(), h, "h");
        Assert.That(storage.Where((_, i) => i % 2 == 1), Is.All.EqualTo(default(T)));
        Numbers.AssertClose(lastState, last, "last_state");
    }

    [Test]
    public void Plain_spans_take_a_shape([Values] bool reverse)
    {
        const int length = 31;
        var (a, b, s0) = Inputs(Batch, length);
        var (h, last) = Reference.LinearRecurrence(Numbers.ToComplex(a), Numbers.ToComplex(b), Reference.Rows(Batch, length, null),
            Channels, length, reverse, Numbers.ToComplex(s0));

        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        var y = new T[a.Length];
        var lastState = new TState[s0.Length];
        context.LinearRecurrence(a, b, y, Batch, Channels, length,
            new() { Reverse = reverse, InitialState = ReadOnlyTensorView.Create<TState>(s0, s0.Length), LastState = TensorView.Create<TState>(lastState, s0.Length) });

        Numbers.AssertClose(y, h, "h");
        Numbers.AssertClose(lastState, last, "last_state");
    }

    [Test]
    public void The_workspace_asked_for_is_enough([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        const int length = 3001;
        var (a, b, _) = Inputs(1, length);
        var (h, _) = Reference.LinearRecurrence(Numbers.ToComplex(a), Numbers.ToComplex(b), Reference.Rows(1, length, null),
            Channels, length, false, null);

        using var context = SsmContext.Create(device);
        using var aStorage = context.Allocate<T>(1, length, Channels);
        using var ta = aStorage.Permute(0, 2, 1);
        ta.CopyFrom(a);
        using var tb = context.ToDevice<T>(b, 1, Channels, length);
        using var th = context.Allocate<T>(1, Channels, length);
        var bytes = context.LinearRecurrenceWorkspace(ta, tb, th);
        Assert.That(bytes, Is.Positive, "one of the inputs has to be packed");
        using (var small = context.Allocate<byte>((nint)bytes - 1))
        {
            context.SetWorkspace(small);
            var error = Assert.Throws<SsmWorkspaceException>(() => context.LinearRecurrence(ta, tb, th));
            Assert.That(error.Message, Does.Contain(bytes.ToString(System.Globalization.CultureInfo.InvariantCulture)));
        }
        using var enough = context.Allocate<byte>((nint)bytes);
        context.SetWorkspace(enough);
        context.LinearRecurrence(ta, tb, th);
        Numbers.AssertClose(th.ToArray(), h, "h");
    }

    private static (T[] A, T[] B, TState[] S0) Inputs(int batch, int length)
    {
        var random = new Random(length + 1);
        return (Numbers.Random<T>(random, (long)batch * Channels * length, 0.3, 0.99),
            Numbers.Random<T>(random, (long)batch * Channels * length, -1, 1),
            Numbers.Random<TState>(random, batch * Channels, -1, 1));
    }
}
