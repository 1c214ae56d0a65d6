using System.Numerics;

namespace SsmCuda.Tests.Operations;

/// <summary>T is the type of x, TState that of a and of the states.</summary>
[TestFixture(typeof(float), typeof(float))]
[TestFixture(typeof(double), typeof(double))]
[TestFixture(typeof(Half), typeof(float))]
[TestFixture(typeof(BFloat16), typeof(float))]
internal sealed class Mamba3Tests<T, TState>
    where T : unmanaged
    where TState : unmanaged
{
    // Rounded factors: ssd takes b and c in the type of x.
    private static readonly double Factor = typeof(T) == typeof(float) ? 8 : 4;
    private static readonly double StateTolerance =
        typeof(T) == typeof(double) ? 1e-12 : typeof(T) == typeof(float) ? 1e-5 : typeof(T) == typeof(Half) ? 1e-2 : 5e-2;

    [Test]
    public void DeviceTensors_match_the_definition([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values] bool full, [Values] bool packed, [Values(1, 70)] int length)
    {
        using var context = SsmContext.Create(device);
        using var inputs = new Mamba3Inputs<T, TState>(context, packed ? 1 : 2, length, full,
            packed ? [0, length / 2, length / 2, length] : null);
        var (y, last) = (inputs.Like(inputs.X), inputs.Like(inputs.State));
        var (angle, k, x) = (inputs.Like(inputs.Angle), inputs.Like(inputs.LastK), inputs.Like(inputs.LastX));
        context.Mamba3(inputs.X, inputs.Dt, inputs.A, inputs.B, inputs.C, inputs.Trap, y, new()
        {
            DtSoftplus = full,
            Angles = full ? inputs.AngleRates : null,
            BBias = full ? inputs.BBias : null,
            CBias = full ? inputs.CBias : null,
            D = full ? inputs.D : null,
            Z = full ? inputs.Z : null,
            DtBias = full ? inputs.DtBias : null,
            InitialState = full ? inputs.State : null,
            InitialAngle = full ? inputs.Angle : null,
            InitialB = full ? inputs.LastK : null,
            InitialX = full ? inputs.LastX : null,
            CuSeqlens = inputs.CuSeqlens,
            LastState = last,
            LastAngle = full ? angle : null,
            LastB = k,
            LastX = x,
        });
        var expected = inputs.Reference.Run();
        Numbers.AssertClose(y.ToArray(), Array.ConvertAll(expected.Y, value => (Complex)value), "y", Factor);
        AssertNear(last, expected.LastState, "last_state");
        AssertNear(k, expected.LastB, "last_b");
        AssertNear(x, expected.LastX, "last_x");
        if (full)
            AssertNear(angle, expected.LastAngle, "last_angle", Mamba3Reference.Wrapped);
    }

    /// <summary>Steps one by one, and all in one call, on states in slots of a cache.</summary>
    [Test]
    public void Updates_match_the_definition([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values(1, 11)] int steps)
    {
        using var context = SsmContext.Create(device);
        using var inputs = new Mamba3Inputs<T, TState>(context, 2, steps, true);
        using var slots = context.ToDevice<int>([1, 0], 2);
        var y = inputs.Like(inputs.X);
        var expected = inputs.Reference with
        {
            InitialState = Swapped(inputs.Reference.InitialState!),
            InitialAngle = Swapped(inputs.Reference.InitialAngle!),
            InitialB = Swapped(inputs.Reference.InitialB!),
            InitialX = Swapped(inputs.Reference.InitialX!),
        };
        context.Mamba3Update(inputs.State, inputs.LastK, inputs.LastX, inputs.X, inputs.Dt, inputs.A, inputs.B, inputs.C,
            inputs.Trap, y, new()
            {
                DtSoftplus = true,
                AngleState = inputs.Angle,
                Angles = inputs.AngleRates,
                BBias = inputs.BBias,
                CBias = inputs.CBias,
                D = inputs.D,
                Z = inputs.Z,
                DtBias = inputs.DtBias,
                Slots = slots,
            });
        var result = expected.Run();
        Numbers.AssertClose(y.ToArray(), Array.ConvertAll(result.Y, value => (Complex)value), "y", Factor);
        AssertNear(inputs.State, Swapped(result.LastState), "state");
        AssertNear(inputs.LastK, Swapped(result.LastB), "b_state");
        AssertNear(inputs.LastX, Swapped(result.LastX), "x_state");
        AssertNear(inputs.Angle, Swapped(result.LastAngle), "angle_state", Mamba3Reference.Wrapped);
    }

    // The rows of two batch elements, the other way round.
    private static double[] Swapped(double[] values) => [.. values[(values.Length / 2)..], .. values[..(values.Length / 2)]];

    private static void AssertNear(DeviceTensor<TState> tensor, double[] expected, string name,
        Func<double, double>? difference = null)
    {
        var values = Array.ConvertAll(tensor.ToArray(), value => Numbers.ToComplex(value).Real);
        var scale = expected.Select(Math.Abs).DefaultIfEmpty(0).Max() + 1;
        for (var i = 0; i < values.Length; i++)
        {
            var error = values[i] - expected[i];
            Assert.That(difference?.Invoke(error) ?? error, Is.Zero.Within(StateTolerance * scale), $"{name} {i}");
        }
    }
}

/// <summary>The ways to write a call, where types are known.</summary>
internal sealed class Mamba3CallTests
{
    [Test]
    public void Spans_of_the_host_are_updated_in_place()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        float[] state = [0], k = [0], x = [0], y = [0], one = [1], zero = [0];
        // lambda is a half and nothing decays: each step adds the mean of the x before and of its own, b being 1.
        foreach (var (input, sum) in (ReadOnlySpan<(float, float)>)[(2, 1), (4, 4), (6, 9)])
        {
            float[] own = [input];
            context.Mamba3Update(TensorView.Create<float>(state, 1, 1, 1, 1), TensorView.Create<float>(k, 1, 1, 1),
                TensorView.Create<float>(x, 1, 1, 1), ReadOnlyTensorView.Create<float>(own, 1, 1, 1),
                ReadOnlyTensorView.Create<float>(one, 1, 1), ReadOnlyTensorView.Create<float>(zero, 1),
                ReadOnlyTensorView.Create<float>(one, 1, 1, 1), ReadOnlyTensorView.Create<float>(one, 1, 1, 1),
                ReadOnlyTensorView.Create<float>(zero, 1, 1), TensorView.Create<float>(y, 1, 1, 1));
            Assert.That((state[0], k[0], x[0], y[0]), Is.EqualTo((sum, 1f, input, sum)));
        }
    }

    [Test]
    public void Workspace_is_queried_without_a_call()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        using var x = context.Allocate<float>(1, 5, 2, 3);
        using var dt = context.Allocate<float>(1, 5, 2);
        using var a = context.Allocate<float>(2);
        using var b = context.Allocate<float>(1, 5, 1, 4);
        using var y = context.Allocate<float>(1, 5, 2, 3);
        using var gradX = context.Allocate<float>(1, 5, 2, 3);
        Assert.That(context.Mamba3Workspace(x, dt, a, b, b, dt, y), Is.Positive);
        Assert.That(context.Mamba3BackwardWorkspace(x, dt, a, b, b, dt, y, new() { GradX = gradX }), Is.Positive);
    }
}
