using System.Numerics.Tensors;

namespace SsmCuda.Tests.Operations;

/// <summary>T is the type of x, TState that of states and weights.</summary>
[TestFixture(typeof(float), typeof(float))]
[TestFixture(typeof(double), typeof(double))]
[TestFixture(typeof(Half), typeof(float))]
[TestFixture(typeof(BFloat16), typeof(float))]
internal sealed class CausalConv1dTests<T, TState>
    where T : unmanaged
    where TState : unmanaged
{
    private const int Channels = 5;

    [Test]
    public void DeviceTensors_match_the_loop([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values(1, 4, 9)] int width, [Values] bool full, [Values] bool packed, [Values(1, 70)] int length)
    {
        var problem = new CausalConv1dProblem<T, TState>(Channels, width, length, full, packed);
        var (y, last) = problem.Forward();
        using var context = SsmContext.Create(device);
        using var x = context.ToDevice<T>(problem.X, problem.Batch, Channels, length);
        using var weight = context.ToDevice<TState>(problem.Weight, Channels, width);
        using var bias = context.ToDevice<TState>(problem.Bias, Channels);
        using var initial = context.ToDevice<TState>(problem.InitialState, problem.Rows.Count, Channels, width - 1);
        using var starts = problem.CuSeqlens is { } bounds ? context.ToDevice<long>(bounds, bounds.Length) : null;
        using var result = context.Allocate<T>(problem.Batch, Channels, length);
        using var lastState = context.Allocate<TState>(problem.Rows.Count, Channels, width - 1);
        context.CausalConv1d(x, weight, result, new()
        {
            Activation = full ? SsmActivation.Silu : SsmActivation.None,
            Bias = full ? bias : null,
            InitialState = full ? initial : null,
            CuSeqlens = starts,
            LastState = lastState,
        });

        Numbers.AssertClose(result.ToArray(), Numbers.ToComplex(y), "y");
        Numbers.AssertClose(lastState.ToArray(), Numbers.ToComplex(last), "last_state");
    }

    [Test]
    public void Gradients_match_the_loop([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values(1, 4, 9)] int width, [Values] bool full, [Values] bool packed, [Values(1, 70)] int length)
    {
        var problem = new CausalConv1dProblem<T, TState>(Channels, width, length, full, packed);
        var expected = problem.Backward();
        using var context = SsmContext.Create(device);
        using var x = context.ToDevice<T>(problem.X, problem.Batch, Channels, length);
        using var weight = context.ToDevice<TState>(problem.Weight, Channels, width);
        using var bias = context.ToDevice<TState>(problem.Bias, Channels);
        using var initial = context.ToDevice<TState>(problem.InitialState, problem.Rows.Count, Channels, width - 1);
        using var starts = problem.CuSeqlens is { } bounds ? context.ToDevice<long>(bounds, bounds.Length) : null;
        using var gradY = context.ToDevice<T>(problem.GradY, problem.Batch, Channels, length);
        using var gradLast = context.ToDevice<TState>(problem.GradLastState, problem.Rows.Count, Channels, width - 1);
        using var gradX = context.Allocate<T>(problem.Batch, Channels, length);
        using var gradWeight = context.Allocate<TState>(Channels, width);
        using var gradBias = context.Allocate<TState>(Channels);
        using var gradInitial = context.Allocate<TState>(problem.Rows.Count, Channels, width - 1);
        context.CausalConv1dBackward(x, weight, gradY, new()
        {
            Activation = full ? SsmActivation.Silu : SsmActivation.None,
            Bias = full ? bias : null,
            InitialState = full ? initial : null,
            CuSeqlens = starts,
            GradLastState = full ? gradLast : null,
            GradX = gradX,
            GradWeight = gradWeight,
            GradBias = gradBias,
            GradInitialState = gradInitial,
        });

        Numbers.AssertClose(gradX.ToArray(), Numbers.ToComplex(expected.X), "grad_x");
        Numbers.AssertClose(gradWeight.ToArray(), Numbers.ToComplex(expected.Weight), "grad_weight");
        Numbers.AssertClose(gradBias.ToArray(), Numbers.ToComplex(expected.Bias), "grad_bias");
        Numbers.AssertClose(gradInitial.ToArray(), Numbers.ToComplex(expected.InitialState), "grad_initial_state");
    }
}

/// <summary>A call as arrays, and what it has to give, by loops over the definition in doubles.</summary>
internal sealed class CausalConv1dProblem<T, TState>
    where T : unmanaged
    where TState : unmanaged
{
    private readonly int channels;
    private readonly int width;
    private readonly int length;
    private readonly bool full;

    public CausalConv1dProblem(int channels, int width, int length, bool full, bool packed)
    {
        (this.channels, this.width, this.length, this.full) = (channels, width, length, full);
        Batch = packed ? 1 : 2;
        CuSeqlens = packed ? [0, length / 3, length / 3, length] : null;
        Rows = Reference.Rows(Batch, length, CuSeqlens);
        var random = new Random(length + width);
        X = Numbers.Random<T>(random, Batch * channels * length, -1, 1);
        GradY = Numbers.Random<T>(random, Batch * channels * length, -1, 1);
        Weight = Numbers.Random<TState>(random, channels * width, -1, 1);
        Bias = Numbers.Random<TState>(random, channels, -1, 1);
        InitialState = Numbers.Random<TState>(random, Rows.Count * channels * (width - 1), -1, 1);
        GradLastState = Numbers.Random<TState>(random, Rows.Count * channels * (width - 1), -1, 1);
    }

    public int Batch { get; }

    public long[]? CuSeqlens { get; }

    public List<Reference.Row> Rows { get; }

    public T[] X { get; }

    public T[] GradY { get; }

    public TState[] Weight { get; }

    public TState[] Bias { get; }

    public TState[] InitialState { get; }

    public TState[] GradLastState { get; }

    public (double[] Y, double[] LastState) Forward()
    {
        var y = new double[X.Length];
        var last = new double[InitialState.Length];
        foreach (var (row, channel, at, count) in Sequences())
        {
            var steps = Steps(row, channel, at, count);
            for (var t = 0; t < count; t++)
            {
                var z = Sum(channel, steps, t);
                y[at + t] = full ? z / (1 + Math.Exp(-z)) : z;
            }
            steps.AsSpan(count).CopyTo(last.AsSpan(StateAt(row, channel)));
        }
        return (y, last);
    }

    public (double[] X, double[] Weight, double[] Bias, double[] InitialState) Backward()
    {
        var gradX = new double[X.Length];
        var gradWeight = new double[Weight.Length];
        var gradBias = new double[channels];
        var gradInitial = new double[InitialState.Length];
        foreach (var (row, channel, at, count) in Sequences())
        {
            var steps = Steps(row, channel, at, count);
            var gradients = new double[steps.Length];
            for (var k = 0; full && k < width - 1; k++)
                gradients[count + k] = Real(GradLastState[StateAt(row, channel) + k]);
            for (var t = 0; t < count; t++)
            {
                var z = Sum(channel, steps, t);
                var sigmoid = 1 / (1 + Math.Exp(-z));
                var g = Real(GradY[at + t]) * (full ? sigmoid * (1 + (z * (1 - sigmoid))) : 1);
                gradBias[channel] += g;
                for (var j = 0; j < width; j++)
                {
                    gradWeight[(channel * width) + j] += g * steps[t + j];
                    gradients[t + j] += g * Real(Weight[(channel * width) + j]);
                }
            }
            gradients.AsSpan(0, width - 1).CopyTo(gradInitial.AsSpan(StateAt(row, channel)));
            gradients.AsSpan(width - 1).CopyTo(gradX.AsSpan(at));
        }
        return (gradX, gradWeight, gradBias, gradInitial);
    }

    private static double Real<TNumber>(TNumber value) => Numbers.ToComplex(value).Real;

    // Row of states, channel, where the sequence starts in X, and its steps.
    private IEnumerable<(int Row, int Channel, int At, int Count)> Sequences()
    {
        for (var row = 0; row < Rows.Count; row++)
        {
            for (var channel = 0; channel < channels; channel++)
            {
                var at = (((Rows[row].Batch * channels) + channel) * length) + Rows[row].First;
                yield return (row, channel, at, Rows[row].Last - Rows[row].First);
            }
        }
    }

    private int StateAt(int row, int channel) => ((row * channels) + channel) * (width - 1);

    // The initial state, then the sequence.
    private double[] Steps(int row, int channel, int at, int count)
    {
        var steps = new double[width - 1 + count];
        for (var k = 0; full && k < width - 1; k++)
            steps[k] = Real(InitialState[StateAt(row, channel) + k]);
        for (var t = 0; t < count; t++)
            steps[width - 1 + t] = Real(X[at + t]);
        return steps;
    }

    private double Sum(int channel, double[] steps, int t)
    {
        var sum = full ? Real(Bias[channel]) : 0;
        for (var j = 0; j < width; j++)
            sum += Real(Weight[(channel * width) + j]) * steps[t + j];
        return sum;
    }
}

/// <summary>The ways to write a call, where types are known.</summary>
internal sealed class CausalConv1dCallTests
{
    [Test]
    public void Tensor_and_TensorSpan_convert_by_themselves()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        var x = Tensor.Create<float>([1, 2, 3, 4], [1, 1, 4]);
        var weight = Tensor.Create<float>([10, 1], [1, 2]);
        float[] bias = [100];
        var y = new float[4];
        context.CausalConv1d(x, weight, new TensorSpan<float>(y, [1, 1, 4]), new() { Bias = bias });
        Assert.That(y, Is.EqualTo((float[])[101, 112, 123, 134]));
        Assert.That(context.CausalConv1dWorkspace(x, weight, new TensorSpan<float>(y, [1, 1, 4])), Is.Not.Negative);
        var gradX = new float[4];
        context.CausalConv1dBackward(x, weight, x, new() { GradX = new TensorSpan<float>(gradX, [1, 1, 4]) });
        Assert.That(gradX, Is.EqualTo((float[])[21, 32, 43, 4]));
        Assert.That(context.CausalConv1dBackwardWorkspace(x, weight, x, new()), Is.Not.Negative);
    }

    [Test]
    public void A_width_that_is_too_large_is_named()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        var error = Assert.Throws<SsmArgumentException>(() => context.CausalConv1d(Tensor.Create<float>([1], [1, 1, 1]),
            Tensor.Create<float>(new float[257], [1, 257]), new TensorSpan<float>(new float[1], [1, 1, 1])));
        Assert.That(error!.Message, Does.Contain("weight: a width of 1 to 256 expected, 257 given"));
    }
}
