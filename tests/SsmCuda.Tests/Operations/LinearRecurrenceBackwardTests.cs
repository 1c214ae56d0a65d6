using System.Numerics;

namespace SsmCuda.Tests.Operations;

[TestFixture(typeof(float), typeof(float))]
[TestFixture(typeof(double), typeof(double))]
[TestFixture(typeof(Half), typeof(float))]
[TestFixture(typeof(BFloat16), typeof(float))]
[TestFixture(typeof(Complex64), typeof(Complex64))]
[TestFixture(typeof(Complex), typeof(Complex))]
internal sealed class LinearRecurrenceBackwardTests<T, TState>
    where T : unmanaged
    where TState : unmanaged
{
    private const int Channels = 4;

    // h of 16-bit types is stored rounded, and the gradient of a multiplies with it.
    private static readonly double Factor = typeof(T) == typeof(Half) || typeof(T) == typeof(BFloat16) ? 2 : 1;

    [Test]
    public void DeviceTensors_match_the_loop([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values] bool reverse, [Values] bool recompute, [Values] bool packed, [Values(1, 33, 130)] int length)
    {
        var batch = packed ? 1 : 2;
        long[]? cuSeqlens = packed ? [0, length / 3, length / 3, length] : null;
        var rows = Reference.Rows(batch, length, cuSeqlens);
        var random = new Random(length);
        var a = Numbers.Random<T>(random, batch * Channels * length, 0.3, 0.97);
        var b = Numbers.Random<T>(random, batch * Channels * length, -1, 1);
        var gradH = Numbers.Random<T>(random, batch * Channels * length, -1, 1);
        var s0 = Numbers.Random<TState>(random, rows.Count * Channels, -1, 1);
        var gradLast = Numbers.Random<TState>(random, rows.Count * Channels, -1, 1);
        var expected = Reference.LinearRecurrenceBackward(Numbers.ToComplex(a), Numbers.ToComplex(b), Numbers.ToComplex(gradH), rows,
            Channels, length, reverse, Numbers.ToComplex(s0), Numbers.ToComplex(gradLast));

        using var context = SsmContext.Create(device);
        using var ta = context.ToDevice<T>(a, batch, Channels, length);
        using var tb = context.ToDevice<T>(b, batch, Channels, length);
        using var th = context.Allocate<T>(batch, Channels, length);
        using var tg = context.ToDevice<T>(gradH, batch, Channels, length);
        using var initial = context.ToDevice<TState>(s0, rows.Count, Channels);
        using var tgl = context.ToDevice<TState>(gradLast, rows.Count, Channels);
        using var starts = cuSeqlens is null ? null : context.ToDevice<long>(cuSeqlens, cuSeqlens.Length);
        using var gradA = context.Allocate<T>(batch, Channels, length);
        using var gradB = context.Allocate<T>(batch, Channels, length);
        using var gradInitial = context.Allocate<TState>(rows.Count, Channels);
        if (!recompute)
            context.LinearRecurrence(ta, tb, th, new() { Reverse = reverse, InitialState = initial, CuSeqlens = starts });
        context.LinearRecurrenceBackward(ta, tg, new()
        {
            Reverse = reverse,
            B = recompute ? tb : null,
            H = recompute ? null : th,
            InitialState = initial,
            CuSeqlens = starts,
            GradLastState = tgl,
            GradA = gradA,
            GradB = gradB,
            GradInitialState = gradInitial,
        });

        Numbers.AssertClose(gradA.ToArray(), expected.GradA, "grad_a", Factor);
        Numbers.AssertClose(gradB.ToArray(), expected.GradB, "grad_b");
        Numbers.AssertClose(gradInitial.ToArray(), expected.GradInitialState, "grad_initial_state");
    }

    [Test]
    public void Plain_spans_take_a_shape_and_absent_gradients_are_not_computed()
    {
        const int length = 20;
        var random = new Random(1);
        var a = Numbers.Random<T>(random, Channels * length, 0.3, 0.97);
        var gradH = Numbers.Random<T>(random, Channels * length, -1, 1);
        var expected = Reference.LinearRecurrenceBackward(Numbers.ToComplex(a), new Complex[a.Length], Numbers.ToComplex(gradH),
            Reference.Rows(1, length, null), Channels, length, false, null, null);

        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        var gradB = new T[a.Length];
        context.LinearRecurrenceBackward<T>(a, gradH, 1, Channels, length,
            new() { GradB = TensorView.Create<T>(gradB, gradB.Length) });
        Numbers.AssertClose(gradB, expected.GradB, "grad_b");
        Assert.That(context.LinearRecurrenceBackwardWorkspace(ReadOnlyTensorView.Create<T>(a, 1, Channels, length),
            ReadOnlyTensorView.Create<T>(gradH, 1, Channels, length), new()), Is.Not.Negative);
    }
}
