using System.Globalization;
using System.Numerics;

namespace SsmCuda.Tests.Tensors;

internal sealed class Complex64Tests
{
    [Test]
    public void Arithmetic_is_that_of_Complex([Values(-1.5f, 0.25f, 3f)] float real, [Values(-2f, 0f, 1.25f)] float imaginary)
    {
        var x = new Complex64(real, imaginary);
        var y = new Complex64(0.5f, -4f);
        Complex cx = x;
        Complex cy = y;
        Check(x + y, cx + cy);
        Check(x - y, cx - cy);
        Check(x * y, cx * cy);
        Check(x / y, cx / cy);
        Check(x * 2f, cx * 2);
        Check(2f * x, cx * 2);
        Check(x / 2f, cx / 2);
        Check(-x, -cx);
        Check(Complex64.Conjugate(x), Complex.Conjugate(cx));
        Check(Complex64.Exp(x), Complex.Exp(cx));
        Assert.That(x.Magnitude, Is.EqualTo(cx.Magnitude).Within(1e-6));
        Assert.That(x.Phase, Is.EqualTo(cx.Phase).Within(1e-6));
        Check(Complex64.FromPolarCoordinates(x.Magnitude, x.Phase), cx);
    }

    [Test]
    public void Equality_and_text()
    {
        var x = new Complex64(1.5f, -2f);
        var (real, imaginary) = x;
        Assert.Multiple(() =>
        {
            Assert.That(x == new Complex64(1.5f, -2f) && x.Equals(new Complex64(1.5f, -2f)) && x != Complex64.One);
            Assert.That(new Complex64(float.NaN, 0) == new Complex64(float.NaN, 0), Is.False);
            Assert.That(new Complex64(float.NaN, 0).Equals(new Complex64(float.NaN, 0)));
            Assert.That(x.GetHashCode(), Is.EqualTo(new Complex64(1.5f, -2f).GetHashCode()));
            Assert.That(x.ToString("F1", CultureInfo.InvariantCulture), Is.EqualTo("<1.5; -2.0>"));
            Assert.That((real, imaginary), Is.EqualTo((1.5f, -2f)));
            Assert.That((Complex64)2f, Is.EqualTo(new Complex64(2, 0)));
            Assert.That(new Complex64(3e38f, 3e38f) / new Complex64(3e38f, 3e38f), Is.EqualTo(Complex64.One), "no overflow inside");
            Assert.That(new Complex64(3e38f, 0).Magnitude, Is.EqualTo(3e38f));
        });
    }

    [Test]
    public unsafe void It_lies_in_memory_as_two_floats()
    {
        Complex64[] values = [new(1, 2), new(3, 4)];
        Assert.That(sizeof(Complex64), Is.EqualTo(8));
        Assert.That(System.Runtime.InteropServices.MemoryMarshal.Cast<Complex64, float>(values).ToArray(),
            Is.EqualTo((float[])[1, 2, 3, 4]));
    }

    private static void Check(Complex64 actual, Complex expected) =>
        Assert.That(Complex.Abs(actual - expected), Is.LessThanOrEqualTo(1e-6 * (1 + Complex.Abs(expected))));
}
