using System.Numerics;

namespace SsmCuda.Tests.Operations;

/// <summary>HiPPO's systems, dense and diagonal plus low-rank: the managed methods against each other and against loops. T is
/// the real type, TComplex the complex one.</summary>
[TestFixture(typeof(float), typeof(Complex64))]
[TestFixture(typeof(double), typeof(Complex))]
internal sealed class StateSpaceTests<T, TComplex>
    where T : unmanaged, IFloatingPointIeee754<T>
    where TComplex : unmanaged
{
    private const int States = 4;
    private const int Length = 30;

    private static readonly double Limit = typeof(T) == typeof(float) ? 1e-4 : 1e-11;

    [Test]
    public void The_kernel_of_the_normal_form_is_that_of_the_matrix(
        [ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        const int size = 2 * States;
        var a = new T[size * size];
        var b = new T[size];
        context.HippoMatrix(SsmHippoMeasure.Legs, TensorView.Create<T>(a, size, size), TensorView.Create<T>(b, size));
        var w = new TComplex[States];
        var p = new TComplex[States];
        var normalB = new TComplex[States];
        var v = new TComplex[size * States];
        context.HippoNplr(SsmHippoMeasure.Legs, TensorView.Create<TComplex>(w, States),
            TensorView.Create<TComplex>(p, 1, States), TensorView.Create<TComplex>(normalB, States),
            TensorView.Create<TComplex>(v, size, States));
        var random = new Random(1);
        var c = Enumerable.Range(0, size).Select(_ => T.CreateChecked(random.NextDouble() - 0.5)).ToArray();
        var normalC = new TComplex[States];
        for (var k = 0; k < States; k++)
        {
            var sum = Complex.Zero;
            for (var i = 0; i < size; i++)
                sum += double.CreateChecked(c[i]) * Numbers.ToComplex(v[i * States + k]);
            normalC[k] = Of(sum);
        }
        T[] dt = [T.CreateChecked(0.05)];

        using var deviceA = context.ToDevice<T>(a, 1, size, size);
        using var deviceB = context.ToDevice<T>(b, 1, size);
        using var deviceC = context.ToDevice<T>(c, 1, size);
        using var deviceDt = context.ToDevice<T>(dt, 1);
        using var dense = context.Allocate<T>(1, Length);
        context.DenseKernel(SsmDiscretization.Bilinear, deviceA, deviceB, deviceC, deviceDt, dense);

        using var deviceW = context.ToDevice<TComplex>(w, 1, States);
        using var deviceP = context.ToDevice<TComplex>(p, 1, 1, States);
        using var deviceNormalB = context.ToDevice<TComplex>(normalB, 1, States);
        using var deviceNormalC = context.ToDevice<TComplex>(normalC, 1, States);
        using var kernel = context.Allocate<T>(1, Length);
        context.DplrKernel(deviceW, deviceP, deviceNormalB, deviceNormalC, deviceDt, kernel, true, false);
        AssertNear(kernel.ToArray(), dense.ToArray());

        // The same with c_tilde, and from it after doubling half the length.
        var tilde = new TComplex[States];
        context.DplrToTilde(ReadOnlyTensorView.Create<TComplex>(w, 1, States), ReadOnlyTensorView.Create<TComplex>(p, 1, 1, States),
            ReadOnlyTensorView.Create<T>(dt, 1), ReadOnlyTensorView.Create<TComplex>(normalC, 1, States),
            TensorView.Create<TComplex>(tilde, 1, States), Length / 2, true);
        context.DplrDoubleLength(ReadOnlyTensorView.Create<TComplex>(w, 1, States),
            ReadOnlyTensorView.Create<TComplex>(p, 1, 1, States), ReadOnlyTensorView.Create<T>(dt, 1),
            ReadOnlyTensorView.Create<TComplex>(tilde, 1, States), TensorView.Create<TComplex>(tilde, 1, States), Length / 2, true);
        using var deviceTilde = context.ToDevice<TComplex>(tilde, 1, States);
        context.DplrKernel(deviceW, deviceP, deviceNormalB, deviceTilde, deviceDt, kernel, true, true);
        AssertNear(kernel.ToArray(), dense.ToArray());
        Assert.That(context.DplrKernelWorkspace(deviceW, deviceP, deviceNormalB, deviceTilde, deviceDt, kernel, true, true),
            Is.GreaterThan(0));
        context.DplrFromTilde(ReadOnlyTensorView.Create<TComplex>(w, 1, States), ReadOnlyTensorView.Create<TComplex>(p, 1, 1, States),
            ReadOnlyTensorView.Create<T>(dt, 1), ReadOnlyTensorView.Create<TComplex>(tilde, 1, States),
            TensorView.Create<TComplex>(tilde, 1, States), Length, true);
        for (var k = 0; k < States; k++)
            Assert.That((Numbers.ToComplex(tilde[k]) - Numbers.ToComplex(normalC[k])).Magnitude, Is.LessThan(10 * Limit));

        // Both recurrences answer an impulse with the kernel.
        var impulse = new T[Length];
        impulse[0] = T.One;
        using var u = context.ToDevice<T>(impulse, 1, 1, Length);
        using var y = context.Allocate<T>(1, 1, Length);
        using var state = context.Allocate<T>(1, 1, size);
        context.DenseSsm(SsmDiscretization.Bilinear, deviceA, deviceB, deviceC, deviceDt, u, y, new() { LastState = state });
        AssertNear(y.ToArray(), dense.ToArray());
        using var normalState = context.Allocate<TComplex>(1, 1, States);
        context.DplrSsm(deviceW, deviceP, deviceNormalB, deviceNormalC, deviceDt, u, y, new()
        {
            ConjugatePairs = true,
            LastState = normalState,
        });
        AssertNear(y.ToArray(), dense.ToArray());

        // The kernel is linear in b and in c_tilde: either's gradient along itself is the kernel's own sum.
        using var gradK = context.ToDevice<T>(Enumerable.Repeat(T.One, Length).ToArray(), 1, Length);
        using var gradB = context.Allocate<TComplex>(1, States);
        using var gradC = context.Allocate<TComplex>(1, States);
        context.DplrKernelBackward(deviceW, deviceP, deviceNormalB, deviceTilde, deviceDt, gradK, new()
        {
            ConjugatePairs = true,
            CIsTilde = true,
            GradB = gradB,
            GradC = gradC,
        });
        var total = kernel.ToArray().Sum(value => double.CreateChecked(value));
        Assert.That(Along(gradB.ToArray(), normalB), Is.EqualTo(total).Within(100 * Limit));
        Assert.That(Along(gradC.ToArray(), deviceTilde.ToArray()), Is.EqualTo(total).Within(100 * Limit));
    }

    [Test]
    public void A_constant_comes_back_from_its_projection([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values(SsmHippoMeasure.Legs, SsmHippoMeasure.Fout)] SsmHippoMeasure measure)
    {
        using var context = SsmContext.Create(device);
        using var f = context.ToDevice<T>(Enumerable.Repeat(T.CreateChecked(3), Length).ToArray(), Length);
        using var coefficients = context.Allocate<T>(Length, States);
        using var last = context.Allocate<T>(States);
        context.HippoProject(measure, f, coefficients, new()
        {
            Discretization = SsmDiscretization.Bilinear,
            Start = SsmHippoStart.First,
            Dt = measure == SsmHippoMeasure.Legs ? 0 : 0.01,
            LastState = last,
        });
        T[] points = [T.Zero, T.CreateChecked(0.3), T.One];
        var values = new T[3];
        context.HippoReconstruct(measure, ReadOnlyTensorView.Create<T>(last.ToArray(), States),
            ReadOnlyTensorView.Create<T>(points, 3), TensorView.Create<T>(values, 3));
        AssertNear(values, [T.CreateChecked(3), T.CreateChecked(3), T.CreateChecked(3)]);
    }

    [Test]
    public void Set_up_is_what_it_says()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        var w = new TComplex[States];
        context.DiagonalInitialize(SsmDiagonalInit.Lin, TensorView.Create<TComplex>(w, States));
        Assert.That((Numbers.ToComplex(w[3]) - new Complex(-0.5, 3 * Math.PI)).Magnitude, Is.LessThan(1e-5));
        var aBar = new T[1];
        var bBar = new T[1];
        context.DiscretizeDense(SsmDiscretization.Zoh, ReadOnlyTensorView.Create<T>([T.Zero], 1, 1, 1),
            ReadOnlyTensorView.Create<T>([T.One], 1, 1), ReadOnlyTensorView.Create<T>([T.CreateChecked(0.25)], 1),
            TensorView.Create<T>(aBar, 1, 1, 1), TensorView.Create<T>(bBar, 1, 1));
        Assert.That(double.CreateChecked(aBar[0]), Is.EqualTo(1));
        Assert.That(double.CreateChecked(bBar[0]), Is.EqualTo(0.25).Within(1e-7));
        var error = Assert.Throws<SsmArgumentException>(() =>
            context.HippoNplr(SsmHippoMeasure.Lmu, TensorView.Create<TComplex>(new TComplex[States], States)));
        Assert.That(error!.Message, Does.Contain("lmu, which is not normal in any such basis"));
    }

    private static TComplex Of(Complex value) => typeof(TComplex) == typeof(Complex)
        ? (TComplex)(object)value
        : (TComplex)(object)new Complex64((float)value.Real, (float)value.Imaginary);

    private static double Along(TComplex[] gradient, TComplex[] direction) => gradient.Zip(direction, (first, second) =>
        (Numbers.ToComplex(first) * Complex.Conjugate(Numbers.ToComplex(second))).Real).Sum();

    private static void AssertNear(T[] given, T[] expected)
    {
        var most = expected.Max(value => Math.Abs(double.CreateChecked(value)));
        for (var i = 0; i < expected.Length; i++)
        {
            Assert.That(double.CreateChecked(given[i]), Is.EqualTo(double.CreateChecked(expected[i])).Within(Limit * most),
                $"element {i}");
        }
    }
}
