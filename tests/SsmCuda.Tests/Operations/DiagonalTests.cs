using System.Numerics;

namespace SsmCuda.Tests.Operations;

/// <summary>The operations over rows of poles and diagonal systems through the managed API; their numbers are the native
/// tests' matter.</summary>
[TestFixture(typeof(float), typeof(Complex64))]
[TestFixture(typeof(double), typeof(Complex))]
internal sealed class DiagonalTests<TReal, TComplex>
    where TReal : unmanaged
    where TComplex : unmanaged
{
    private const int Rows = 3;
    private const int States = 5;
    private const int Length = 77;
    private readonly Random random = new(7);

    [Test]
    public void Cauchy_multiply_is_the_sum([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        var (v, w, z) = (Complexes(Rows * States), Complexes(Rows * States), Complexes(Length));
        using var tv = context.ToDevice<TComplex>(v, Rows, States);
        using var tw = context.ToDevice<TComplex>(w, Rows, States);
        using var tz = context.ToDevice<TComplex>(Array.ConvertAll(z, value => Shift(value, 5)), Length);
        using var ty = context.Allocate<TComplex>(Rows, Length);
        using var gradV = context.Allocate<TComplex>(Rows, States);
        context.CauchyMultiply(tv, tw, tz, ty);
        var (exactV, exactW, exactZ) =
            (Numbers.ToComplex(v), Numbers.ToComplex(w), Numbers.ToComplex(Array.ConvertAll(z, value => Shift(value, 5))));
        var y = new Complex[Rows * Length];
        for (var i = 0; i < y.Length; i++)
            for (var n = 0; n < States; n++)
                y[i] += exactV[i / Length * States + n] / (exactZ[i % Length] - exactW[i / Length * States + n]);
        Numbers.AssertClose(ty.ToArray(), y, "y");

        context.CauchyMultiplyBackward(tv, tw, tz, ty, new() { GradV = gradV });
        var g = Numbers.ToComplex(ty.ToArray());
        var expected = new Complex[Rows * States];
        for (var i = 0; i < expected.Length; i++)
            for (var l = 0; l < Length; l++)
                expected[i] += g[i / States * Length + l] * Complex.Conjugate(1 / (exactZ[l] - exactW[i]));
        Numbers.AssertClose(gradV.ToArray(), expected, "grad_v");
    }

    [Test]
    public void Vandermonde_multiply_is_the_sum([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        var (v, x) = (Complexes(Rows * States), Array.ConvertAll(Complexes(Rows * States), value => Shift(value, -1.5)));
        using var tv = context.ToDevice<TComplex>(v, Rows, States);
        using var tx = context.ToDevice<TComplex>(x, Rows, States);
        using var ty = context.Allocate<TReal>(Rows, Length);
        using var gradX = context.Allocate<TComplex>(Rows, States);
        context.VandermondeMultiply(tv, tx, ty, new() { ConjugatePairs = true });
        var (exactV, exactX) = (Numbers.ToComplex(v), Numbers.ToComplex(x));
        var y = new Complex[Rows * Length];
        for (var i = 0; i < y.Length; i++)
            for (var n = 0; n < States; n++)
                y[i] += 2 * (exactV[i / Length * States + n] * Complex.Exp(exactX[i / Length * States + n] * (i % Length))).Real;
        Numbers.AssertClose(ty.ToArray(), y, "y");

        context.VandermondeMultiplyBackward(tv, tx, ty, new() { ConjugatePairs = true, GradX = gradX });
        var g = Numbers.ToComplex(ty.ToArray());
        var expected = new Complex[Rows * States];
        for (var i = 0; i < expected.Length; i++)
            for (var l = 0; l < Length; l++)
                expected[i] += 2 * l * g[i / States * Length + l] * Complex.Conjugate(exactV[i] * Complex.Exp(exactX[i] * l));
        Numbers.AssertClose(gradX.ToArray(), expected, "grad_x");
    }

    [Test]
    public void Diagonal_systems_agree([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values] SsmDiscretization discretization)
    {
        using var context = SsmContext.Create(device);
        var alpha = discretization == SsmDiscretization.GeneralizedBilinear ? 0.6 : 0;
        using var a = context.ToDevice<TComplex>(Array.ConvertAll(Complexes(Rows * States), value => Shift(value, -1.5)), Rows, States);
        using var b = context.ToDevice<TComplex>(Complexes(Rows * States), Rows, States);
        using var c = context.ToDevice<TComplex>(Complexes(Rows * States), Rows, States);
        using var dt = context.ToDevice<TReal>(Steps(Rows), Rows);
        using var k = context.Allocate<TReal>(Rows, Length);
        using var u = context.ToDevice<TReal>(Numbers.Random<TReal>(random, Rows * Length, -1, 1), 1, Rows, Length);
        using var y = context.Allocate<TReal>(1, Rows, Length);
        using var last = context.Allocate<TComplex>(1, Rows, States);
        using var aBar = context.Allocate<TComplex>(Rows, States);
        using var bBar = context.Allocate<TComplex>(Rows, States);
        using var gradDt = context.Allocate<TReal>(Rows);
        using var gradU = context.Allocate<TReal>(1, Rows, Length);
        context.DiscretizeDiagonal(a, dt,
            new() { Discretization = discretization, Alpha = alpha, B = b, ABar = aBar, BBar = bBar });
        context.DiagonalKernel(a, b, c, dt, k, new() { Discretization = discretization, Alpha = alpha });
        context.DiagonalSsm(a, b, c, dt, u, y, new() { Discretization = discretization, Alpha = alpha, LastState = last });
        var (decays, inputs, outputs) =
            (Numbers.ToComplex(aBar.ToArray()), Numbers.ToComplex(bBar.ToArray()), Numbers.ToComplex(c.ToArray()));
        var expected = new Complex[Rows * Length];
        for (var i = 0; i < expected.Length; i++)
            for (var n = i / Length * States; n < (i / Length + 1) * States; n++)
                expected[i] += 2 * (outputs[n] * Complex.Pow(decays[n], i % Length) * inputs[n]).Real;
        Numbers.AssertClose(k.ToArray(), expected, "k");
        var (kernel, signal) = (Numbers.ToComplex(k.ToArray()), Numbers.ToComplex(u.ToArray()));
        var convolved = new Complex[Rows * Length];
        for (var i = 0; i < convolved.Length; i++)
            for (var j = 0; j <= i % Length; j++)
                convolved[i] += kernel[i / Length * Length + j] * signal[i - j];
        Numbers.AssertClose(y.ToArray(), convolved, "y");

        // Both ways to the gradient of dt: through the kernel, and through the recurrence on an impulse.
        using var gradK = context.ToDevice<TReal>(Numbers.Random<TReal>(random, Rows * Length, -1, 1), Rows, Length);
        using var gradY = context.ToDevice<TReal>(gradK.ToArray(), 1, Rows, Length);
        var impulses = new TReal[Rows * Length];
        for (var row = 0; row < Rows; row++)
            impulses[row * Length] = Numbers.FromComplex<TReal>(1);
        using var impulse = context.ToDevice<TReal>(impulses, 1, Rows, Length);
        context.DiagonalKernelBackward(a, b, c, dt, gradK,
            new() { Discretization = discretization, Alpha = alpha, GradDt = gradDt });
        var ofKernel = Numbers.ToComplex(gradDt.ToArray());
        context.DiagonalSsmBackward(a, b, c, dt, impulse, gradY,
            new() { Discretization = discretization, Alpha = alpha, GradDt = gradDt, GradU = gradU });
        Numbers.AssertClose(gradDt.ToArray(), ofKernel, "grad_dt");
    }

    [Test]
    public void Diagonal_scan_is_the_loop([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        using var a = context.ToDevice<TComplex>(Array.ConvertAll(Complexes(States), value => Shift(value, -1.5)), States);
        using var dt = context.ToDevice<TReal>(Steps(States), States);
        using var bu = context.ToDevice<TComplex>(Complexes(States * Length), 1, States, Length);
        using var x = context.Allocate<TComplex>(1, States, Length);
        using var xReverse = context.Allocate<TComplex>(1, States, Length);
        context.DiagonalScan(a, dt, bu, x, new() { Discretization = SsmDiscretization.Dirac, XReverse = xReverse });
        var (rates, steps, inputs) = (Numbers.ToComplex(a.ToArray()), Numbers.ToComplex(dt.ToArray()), Numbers.ToComplex(bu.ToArray()));
        var forward = new Complex[States * Length];
        var reverse = new Complex[States * Length];
        for (var n = 0; n < States; n++)
        {
            var decay = Complex.Exp(rates[n] * steps[n]);
            for (var t = 0; t < Length; t++)
            {
                var i = n * Length + t;
                var j = n * Length + Length - 1 - t;
                forward[i] = inputs[i] + (t > 0 ? decay * forward[i - 1] : 0);
                reverse[j] = inputs[j] + (t > 0 ? decay * reverse[j + 1] : 0);
            }
        }
        Numbers.AssertClose(x.ToArray(), forward, "x");
        Numbers.AssertClose(xReverse.ToArray(), reverse, "x_reverse");
    }

    [Test]
    public void A_wrong_argument_is_named()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        using var a = context.ToDevice<TComplex>(Complexes(Rows * States), Rows, States);
        using var dt = context.ToDevice<TReal>(Steps(Rows + 1), Rows + 1);
        using var k = context.Allocate<TReal>(Rows, Length);
        Assert.That(() => context.DiagonalKernel(a, a, a, dt, k),
            Throws.InstanceOf<SsmException>().With.Message.Contains("dt: shape (3) expected, (4) given"));
    }

    private TReal[] Steps(int count) =>
        Array.ConvertAll(new TReal[count], _ => Numbers.FromComplex<TReal>(0.05 + 0.15 * random.NextDouble()));

    private TComplex[] Complexes(int count) => Numbers.Random<TComplex>(random, count, -1, 1);

    private static TComplex Shift(TComplex value, double by) => value switch
    {
        Complex64 number => (TComplex)(object)(number + (float)by),
        Complex number => (TComplex)(object)(number + by),
        _ => throw new InvalidOperationException(),
    };
}
