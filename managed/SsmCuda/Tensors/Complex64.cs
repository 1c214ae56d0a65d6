using System.Globalization;
using System.Numerics;
using System.Runtime.InteropServices;

namespace SsmCuda;

/// <summary>A complex number of two floats, real part first: complex64 of NumPy and PyTorch.</summary>
/// <param name="real">The real part.</param>
/// <param name="imaginary">The imaginary part.</param>
[StructLayout(LayoutKind.Sequential)]
public readonly struct Complex64(float real, float imaginary) : IEquatable<Complex64>, IFormattable
{
    /// <summary>The real part.</summary>
    public float Real { get; } = real;

    /// <summary>The imaginary part.</summary>
    public float Imaginary { get; } = imaginary;

    /// <summary>0.</summary>
    public static Complex64 Zero => default;

    /// <summary>1.</summary>
    public static Complex64 One => new(1, 0);

    /// <summary>i.</summary>
    public static Complex64 ImaginaryOne => new(0, 1);

    /// <summary>The absolute value, computed without overflow.</summary>
    public float Magnitude => float.Hypot(Real, Imaginary);

    /// <summary>The angle in radians, from -pi to pi.</summary>
    public float Phase => MathF.Atan2(Imaginary, Real);

    /// <summary>The number of a magnitude and an angle.</summary>
    /// <param name="magnitude">The magnitude.</param>
    /// <param name="phase">The angle in radians.</param>
    /// <returns>The number.</returns>
    public static Complex64 FromPolarCoordinates(float magnitude, float phase)
    {
        var (sin, cos) = MathF.SinCos(phase);
        return new(magnitude * cos, magnitude * sin);
    }

    /// <summary>The conjugate.</summary>
    /// <param name="value">The number.</param>
    /// <returns>Its conjugate.</returns>
    public static Complex64 Conjugate(Complex64 value) => new(value.Real, -value.Imaginary);

    /// <summary>The absolute value.</summary>
    /// <param name="value">The number.</param>
    /// <returns>Its absolute value.</returns>
    public static float Abs(Complex64 value) => value.Magnitude;

    /// <summary>True for numbers with a NaN in either part.</summary>
    /// <param name="value">The number.</param>
    /// <returns>Whether it is.</returns>
    public static bool IsNaN(Complex64 value) => float.IsNaN(value.Real) || float.IsNaN(value.Imaginary);

    /// <summary>True where both parts are finite.</summary>
    /// <param name="value">The number.</param>
    /// <returns>Whether it is.</returns>
    public static bool IsFinite(Complex64 value) => float.IsFinite(value.Real) && float.IsFinite(value.Imaginary);

    /// <summary>The exponential function.</summary>
    /// <param name="value">The number.</param>
    /// <returns>e to that power.</returns>
    public static Complex64 Exp(Complex64 value) => FromPolarCoordinates(MathF.Exp(value.Real), value.Imaginary);

    /// <summary>A real number.</summary>
    /// <param name="value">The number.</param>
    public static implicit operator Complex64(float value) => new(value, 0);

    /// <summary>Exact.</summary>
    /// <param name="value">The number.</param>
    public static implicit operator Complex(Complex64 value) => new(value.Real, value.Imaginary);

    /// <summary>Rounds both parts.</summary>
    /// <param name="value">The number.</param>
    public static explicit operator Complex64(Complex value) => new((float)value.Real, (float)value.Imaginary);

    /// <summary>The negative.</summary>
    /// <param name="value">The number.</param>
    /// <returns>Its negative.</returns>
    public static Complex64 operator -(Complex64 value) => new(-value.Real, -value.Imaginary);

    /// <summary>The sum.</summary>
    /// <param name="left">The first number.</param>
    /// <param name="right">The second number.</param>
    /// <returns>The sum.</returns>
    public static Complex64 operator +(Complex64 left, Complex64 right) =>
        new(left.Real + right.Real, left.Imaginary + right.Imaginary);

    /// <summary>The difference.</summary>
    /// <param name="left">The first number.</param>
    /// <param name="right">The second number.</param>
    /// <returns>The difference.</returns>
    public static Complex64 operator -(Complex64 left, Complex64 right) =>
        new(left.Real - right.Real, left.Imaginary - right.Imaginary);

    /// <summary>The product.</summary>
    /// <param name="left">The first number.</param>
    /// <param name="right">The second number.</param>
    /// <returns>The product.</returns>
    public static Complex64 operator *(Complex64 left, Complex64 right) =>
        new((left.Real * right.Real) - (left.Imaginary * right.Imaginary),
            (left.Real * right.Imaginary) + (left.Imaginary * right.Real));

    /// <summary>The product with a real number.</summary>
    /// <param name="left">The first number.</param>
    /// <param name="right">The second number.</param>
    /// <returns>The product.</returns>
    public static Complex64 operator *(Complex64 left, float right) => new(left.Real * right, left.Imaginary * right);

    /// <summary>The product with a real number.</summary>
    /// <param name="left">The first number.</param>
    /// <param name="right">The second number.</param>
    /// <returns>The product.</returns>
    public static Complex64 operator *(float left, Complex64 right) => right * left;

    /// <summary>The quotient with a real number.</summary>
    /// <param name="left">The first number.</param>
    /// <param name="right">The second number.</param>
    /// <returns>The quotient.</returns>
    public static Complex64 operator /(Complex64 left, float right) => new(left.Real / right, left.Imaginary / right);

    /// <summary>The quotient, computed in double, so that nothing overflows on the way.</summary>
    /// <param name="left">The first number.</param>
    /// <param name="right">The second number.</param>
    /// <returns>The quotient.</returns>
    public static Complex64 operator /(Complex64 left, Complex64 right) => (Complex64)((Complex)left / (Complex)right);

    /// <summary>Equality of both parts as of floats.</summary>
    /// <param name="left">The first number.</param>
    /// <param name="right">The second number.</param>
    /// <returns>Whether they are equal.</returns>
    public static bool operator ==(Complex64 left, Complex64 right) =>
        left.Real == right.Real && left.Imaginary == right.Imaginary;

    /// <summary>The opposite of equality.</summary>
    /// <param name="left">The first number.</param>
    /// <param name="right">The second number.</param>
    /// <returns>Whether they differ.</returns>
    public static bool operator !=(Complex64 left, Complex64 right) => !(left == right);

    /// <summary>Equality in which a NaN equals a NaN, as collections need it.</summary>
    /// <param name="other">The other number.</param>
    /// <returns>Whether they are equal.</returns>
    public bool Equals(Complex64 other) => Real.Equals(other.Real) && Imaginary.Equals(other.Imaginary);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is Complex64 other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Real, Imaginary);

    /// <summary>The text of both parts, as System.Numerics.Complex writes them: &lt;real; imaginary&gt;.</summary>
    /// <returns>The text.</returns>
    public override string ToString() => ToString(null, CultureInfo.CurrentCulture);

    /// <inheritdoc/>
    public string ToString(string? format, IFormatProvider? formatProvider) =>
        $"<{Real.ToString(format, formatProvider)}; {Imaginary.ToString(format, formatProvider)}>";

    /// <summary>Both parts.</summary>
    /// <param name="real">The real part.</param>
    /// <param name="imaginary">The imaginary part.</param>
    public void Deconstruct(out float real, out float imaginary) => (real, imaginary) = (Real, Imaginary);
}
