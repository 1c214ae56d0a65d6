using System.Numerics;

namespace SsmCuda.Tests.Operations;

/// <summary>rms_norm, gated_rms_norm and their gradients. T is the type of x, TState that of weights and sums.</summary>
[TestFixture(typeof(float), typeof(float))]
[TestFixture(typeof(double), typeof(double))]
[TestFixture(typeof(Half), typeof(float))]
[TestFixture(typeof(BFloat16), typeof(float))]
internal sealed class RmsNormTests<T, TState>
    where T : unmanaged
    where TState : unmanaged
{
    private const int Rows = 6;
    private const double Eps = 1e-3;

    // Sums over a row or over the rows.
    private static readonly double Factor = typeof(T) == typeof(float) ? 4 : 2;

    [Test]
    public void Norm_and_gradients_match_the_loop([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values(1, 33, 600)] int width, [Values] bool full)
    {
        var problem = new Problem(width, width, new Random(width));
        if (!full)
        {
            problem.Weight = null;
        }
        problem.Z = null;
        using var context = SsmContext.Create(device);
        nint[] shape = [2, Rows / 2, width];
        using var x = context.ToDevice<T>(problem.X, shape);
        using var residual = context.ToDevice<TState>(problem.Residual, shape);
        using var weight = problem.Weight is { } values ? context.ToDevice<TState>(values, width) : null;
        using var bias = context.ToDevice<TState>(problem.Bias!, width);
        using var y = context.Allocate<T>(shape);
        using var h = context.Allocate<TState>(shape);
        using var rstd = context.Allocate<TState>(2, Rows / 2);
        context.RmsNorm(x, y, new()
        {
            Eps = Eps,
            Residual = residual,
            Weight = weight,
            Bias = bias,
            ResidualOut = h,
            Rstd = rstd,
        });
        var sum = problem.X.Select((value, i) => Numbers.ToComplex(value) + Numbers.ToComplex(problem.Residual[i])).ToArray();
        var (expected, scales) = problem.Forward(sum);
        Numbers.AssertClose(y.ToArray(), expected, "y", Factor);
        Numbers.AssertClose(h.ToArray(), sum, "residual_out");
        Numbers.AssertClose(rstd.ToArray(), scales, "rstd", Factor);

        using var gradY = context.ToDevice<T>(problem.GradY, shape);
        using var gradX = context.Allocate<T>(shape);
        using var gradResidual = context.Allocate<TState>(shape);
        using var gradWeight = context.Allocate<TState>(width);
        using var gradBias = context.Allocate<TState>(width);
        context.RmsNormBackward(h, gradY, new()
        {
            Eps = Eps,
            Weight = weight,
            Rstd = full ? rstd : null,
            GradResidualOut = residual,
            GradX = gradX,
            GradResidual = gradResidual,
            GradWeight = gradWeight,
            GradBias = gradBias,
        });
        var gradients = problem.Backward(Numbers.ToComplex(h.ToArray()));
        for (var i = 0; i < gradients.X.Length; i++)
        {
            gradients.X[i] += Numbers.ToComplex(problem.Residual[i]);
        }
        Numbers.AssertClose(gradX.ToArray(), gradients.X, "grad_x", Factor);
        Numbers.AssertClose(gradResidual.ToArray(), gradients.X, "grad_residual", Factor);
        Numbers.AssertClose(gradWeight.ToArray(), gradients.Weight, "grad_weight", Factor);
        Numbers.AssertClose(gradBias.ToArray(), gradients.Bias, "grad_bias", Factor);
    }

    [Test]
    public void Gated_norm_and_gradients_match_the_loop([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values(12, 600)] int width, [Values(1, 3)] int groups, [Values] bool normBeforeGate)
    {
        var problem = new Problem(width, width / groups, new Random(width)) { NormBeforeGate = normBeforeGate };
        using var context = SsmContext.Create(device);
        nint[] shape = [Rows, width];
        using var x = context.ToDevice<T>(problem.X, shape);
        using var z = context.ToDevice<T>(problem.Z!, shape);
        using var weight = context.ToDevice<TState>(problem.Weight!, width);
        using var bias = context.ToDevice<TState>(problem.Bias!, width);
        using var y = context.Allocate<T>(shape);
        using var rstd = context.Allocate<TState>(Rows, groups);
        context.GatedRmsNorm(x, y, new()
        {
            NormBeforeGate = normBeforeGate,
            GroupSize = width / groups,
            Eps = Eps,
            Z = z,
            Weight = weight,
            Bias = bias,
            Rstd = rstd,
        });
        var (expected, scales) = problem.Forward(Numbers.ToComplex(problem.X));
        Numbers.AssertClose(y.ToArray(), expected, "y", Factor);
        Numbers.AssertClose(rstd.ToArray(), scales, "rstd", Factor);

        using var gradY = context.ToDevice<T>(problem.GradY, shape);
        using var gradX = context.Allocate<T>(shape);
        using var gradZ = context.Allocate<T>(shape);
        using var gradWeight = context.Allocate<TState>(width);
        using var gradBias = context.Allocate<TState>(width);
        context.GatedRmsNormBackward(x, gradY, new()
        {
            NormBeforeGate = normBeforeGate,
            GroupSize = width / groups,
            Eps = Eps,
            Z = z,
            Weight = weight,
            Bias = bias,
            GradX = gradX,
            GradZ = gradZ,
            GradWeight = gradWeight,
            GradBias = gradBias,
        });
        var gradients = problem.Backward(Numbers.ToComplex(problem.X));
        Numbers.AssertClose(gradX.ToArray(), gradients.X, "grad_x", Factor);
        Numbers.AssertClose(gradZ.ToArray(), gradients.Z, "grad_z", Factor);
        Numbers.AssertClose(gradWeight.ToArray(), gradients.Weight, "grad_weight", Factor);
        Numbers.AssertClose(gradBias.ToArray(), gradients.Bias, "grad_bias", Factor);
    }

    /// <summary>A call as arrays, and what it has to give, by loops over the definition in doubles.</summary>
    private sealed class Problem(int width, int group, Random random)
    {
        public bool NormBeforeGate { get; init; }

        public T[] X { get; } = Numbers.Random<T>(random, Rows * width, -2, 2);

        public T[]? Z { get; set; } = Numbers.Random<T>(random, Rows * width, -2, 2);

        public T[] GradY { get; } = Numbers.Random<T>(random, Rows * width, -1, 1);

        public TState[] Residual { get; } = Numbers.Random<TState>(random, Rows * width, -1, 1);

        public TState[]? Weight { get; set; } = Numbers.Random<TState>(random, width, -1, 1);

        public TState[]? Bias { get; } = Numbers.Random<TState>(random, width, -1, 1);

        public (Complex[] Y, Complex[] Rstd) Forward(Complex[] x)
        {
            var y = new Complex[x.Length];
            var scales = new Complex[x.Length / group];
            for (var i = 0; i < x.Length; i++)
            {
                var rstd = Rstd(x, i / group * group);
                scales[i / group] = rstd;
                y[i] = (Norm(x, i, rstd) * WeightAt(i) + BiasAt(i)) * (NormBeforeGate ? Gate(i) : 1);
            }
            return (y, scales);
        }

        public (Complex[] X, Complex[] Z, Complex[] Weight, Complex[] Bias) Backward(Complex[] x)
        {
            var (gradX, gradZ) = (new Complex[x.Length], new Complex[x.Length]);
            var (gradWeight, gradBias) = (new Complex[width], new Complex[width]);
            for (var first = 0; first < x.Length; first += group)
            {
                var rstd = Rstd(x, first);
                var mean = Enumerable.Range(first, group).Sum(i => From(i) * WeightAt(i) * Norm(x, i, rstd)) / group;
                for (var i = first; i < first + group; i++)
                {
                    var n = Norm(x, i, rstd);
                    var gradH = rstd * (From(i) * WeightAt(i) - n * mean);
                    gradX[i] = gradH * (NormBeforeGate ? 1 : Gate(i));
                    gradZ[i] = Slope(i) * (NormBeforeGate
                        ? Numbers.ToComplex(GradY[i]).Real * (n * WeightAt(i) + BiasAt(i))
                        : gradH * x[i].Real);
                    gradWeight[i % width] += From(i) * n;
                    gradBias[i % width] += From(i);
                }
            }
            return (gradX, gradZ, gradWeight, gradBias);
        }

        private double Norm(Complex[] x, int i, double rstd) => x[i].Real * (NormBeforeGate ? 1 : Gate(i)) * rstd;

        private double Rstd(Complex[] x, int first) =>
            1 / Math.Sqrt(Enumerable.Range(first, group).Sum(i => Math.Pow(Norm(x, i, 1), 2)) / group + Eps);

        private double From(int i) => Numbers.ToComplex(GradY[i]).Real * (NormBeforeGate ? Gate(i) : 1);

        private double WeightAt(int i) => Weight is null ? 1 : Numbers.ToComplex(Weight[i % width]).Real;

        private double BiasAt(int i) => Bias is null ? 0 : Numbers.ToComplex(Bias[i % width]).Real;

        private double Gate(int i) => Z is null ? 1 : Numbers.ToComplex(Z[i]).Real * Sigmoid(i);

        private double Slope(int i) =>
            Z is null ? 0 : Sigmoid(i) * (1 + Numbers.ToComplex(Z[i]).Real * (1 - Sigmoid(i)));

        private double Sigmoid(int i) => 1 / (1 + Math.Exp(-Numbers.ToComplex(Z![i]).Real));
    }
}

/// <summary>The ways to write a call, where types are known.</summary>
internal sealed class RmsNormCallTests
{
    [Test]
    public void Spans_of_the_host_are_normed_in_place()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        float[] x = [3, 4, 0, 0], weight = [1, 2];
        context.RmsNorm(ReadOnlyTensorView.Create<float>(x, 2, 2), TensorView.Create<float>(x, 2, 2),
            new() { Weight = weight, Eps = 1 });
        var rstd = 1 / MathF.Sqrt(13.5f);
        Assert.That(x[0], Is.EqualTo(3 * rstd).Within(1e-6));
        Assert.That(x[1], Is.EqualTo(8 * rstd).Within(1e-6));
        Assert.That(x[2], Is.Zero);
    }

    [Test]
    public void Nothing_is_left_for_the_garbage_collector()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        using var x = context.Allocate<float>(2, 6);
        using var weight = context.Allocate<float>(6);
        x.CopyFrom(new float[12]);
        weight.CopyFrom(new float[6]);
        for (var i = 0; i < 3; i++)
            Step();
        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 10; i++)
            Step();
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero);
        Assert.That(context.RmsNormWorkspace(x, x), Is.Zero);
        Assert.That(context.GatedRmsNormWorkspace(x, x), Is.Zero);
        Assert.That(context.RmsNormBackwardWorkspace(x, x), Is.Zero);
        Assert.That(context.GatedRmsNormBackwardWorkspace(x, x), Is.Zero);

        void Step()
        {
            context.RmsNorm(x, x, new() { Weight = weight, Eps = 1 });
            context.GatedRmsNorm(x, x, new() { Weight = weight, Eps = 1 });
            context.RmsNormBackward(weight, weight, new() { Eps = 1 });
        }
    }
}
