namespace SsmCuda.Tests.Operations;

/// <summary>T is the type of x, TState that of states and weights.</summary>
[TestFixture(typeof(float), typeof(float))]
[TestFixture(typeof(double), typeof(double))]
[TestFixture(typeof(Half), typeof(float))]
[TestFixture(typeof(BFloat16), typeof(float))]
internal sealed class CausalConv1dUpdateTests<T, TState>
    where T : unmanaged
    where TState : unmanaged
{
    private const int Channels = 5;

    [Test]
    public void DeviceTensors_match_the_convolution([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values(1, 2, 4, 9)] int width, [Values(1, 6)] int steps)
    {
        var problem = new CausalConv1dProblem<T, TState>(Channels, width, steps, full: true, packed: false);
        var (y, last) = problem.Forward();
        using var context = SsmContext.Create(device);
        nint[] shape = steps == 1 ? [problem.Batch, Channels] : [problem.Batch, Channels, steps];
        using var x = context.ToDevice<T>(problem.X, shape);
        using var weight = context.ToDevice<TState>(problem.Weight, Channels, width);
        using var bias = context.ToDevice<TState>(problem.Bias, Channels);
        using var state = context.ToDevice<TState>(problem.InitialState, problem.Batch, Channels, width - 1);
        using var result = context.Allocate<T>(shape);
        context.CausalConv1dUpdate(state, x, weight, result, new() { Activation = SsmActivation.Silu, Bias = bias });

        Numbers.AssertClose(result.ToArray(), Numbers.ToComplex(y), "y");
        Numbers.AssertClose(state.ToArray(), Numbers.ToComplex(last), "state");
    }

    /// <summary>A row in a slot is the row, one that is skipped is zero, and a ring is the state from where it stands.</summary>
    [Test]
    public void Slots_and_rings_match_a_state_of_its_own([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        const int width = 4, kept = width - 1;
        var problem = new CausalConv1dProblem<T, TState>(Channels, width, 1, full: true, packed: false);
        var (y, last) = problem.Forward();
        using var context = SsmContext.Create(device);
        using var x = context.ToDevice<T>(problem.X, problem.Batch, Channels);
        using var weight = context.ToDevice<TState>(problem.Weight, Channels, width);
        using var bias = context.ToDevice<TState>(problem.Bias, Channels);
        using var slots = context.ToDevice<int>([2, -1], problem.Batch);
        using var seqlens = context.ToDevice<int>([7, 0], problem.Batch);
        // Place 7 mod 3 = 1 is the oldest step's, and takes the new one.
        var cache = new TState[3 * Channels * kept];
        for (var i = 0; i < Channels * kept; i++)
        {
            cache[2 * Channels * kept + i / kept * kept + (i + 1) % kept] = problem.InitialState[i];
        }
        using var state = context.ToDevice<TState>(cache, 3, Channels, kept);
        using var result = context.Allocate<T>(problem.Batch, Channels);
        context.CausalConv1dUpdate(state, x, weight, result, new()
        {
            Activation = SsmActivation.Silu,
            Bias = bias,
            Slots = slots,
            CacheSeqlens = seqlens,
        });

        Array.Clear(y, Channels, Channels);
        var expected = new double[cache.Length];
        for (var i = 0; i < Channels * kept; i++)
        {
            expected[2 * Channels * kept + i / kept * kept + (i + 2) % kept] = last[i];
        }
        Numbers.AssertClose(result.ToArray(), Numbers.ToComplex(y), "y");
        Numbers.AssertClose(state.ToArray(), Numbers.ToComplex(expected), "state");
    }
}

/// <summary>The ways to write a call, where types are known.</summary>
internal sealed class CausalConv1dUpdateCallTests
{
    [Test]
    public void Spans_of_the_host_are_updated_in_place()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        float[] state = [1, 2], y = [3], weight = [100, 10, 1];
        context.CausalConv1dUpdate(TensorView.Create<float>(state, 1, 1, 2), TensorView.Create<float>(y, 1, 1),
            ReadOnlyTensorView.Create<float>(weight, 1, 3), TensorView.Create<float>(y, 1, 1));
        Assert.That(y[0], Is.EqualTo(123));
        Assert.That(state, Is.EqualTo((float[])[2, 3]));
    }

    [Test]
    public void Nothing_is_left_for_the_garbage_collector()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        using var state = context.Allocate<float>(2, 3, 3);
        using var x = context.Allocate<float>(2, 3);
        using var weight = context.Allocate<float>(3, 4);
        foreach (var tensor in (DeviceTensor<float>[])[state, x, weight])
            tensor.CopyFrom(new float[tensor.Length]);
        for (var i = 0; i < 3; i++)
            Step();
        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 10; i++)
            Step();
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero);
        Assert.That(context.CausalConv1dUpdateWorkspace(state, x, weight, x), Is.Zero);

        void Step() => context.CausalConv1dUpdate(state, x, weight, x, new() { Activation = SsmActivation.Silu });
    }
}
