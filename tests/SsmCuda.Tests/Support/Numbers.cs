using System.Numerics;

namespace SsmCuda.Tests;

/// <summary>Element types to and from complex doubles, in which everything is checked.</summary>
internal static class Numbers
{
    public static bool IsComplex<T>() => typeof(T) == typeof(Complex64) || typeof(T) == typeof(Complex);

    /// <summary>What results may differ by, relative to the largest of them.</summary>
    public static double Tolerance<T>() => default(T) switch
    {
        double or Complex => 1e-12,
        Half => 2e-3,
        BFloat16 => 1.6e-2,
        _ => 2e-5,
    };

    public static Complex ToComplex<T>(T value) => value switch
    {
        float x => x,
        double x => x,
        Half x => (double)x,
        BFloat16 x => (double)x,
        Complex64 x => x,
        Complex x => x,
        _ => throw new NotSupportedException(typeof(T).Name),
    };

    public static T FromComplex<T>(Complex value) => (T)(object)(default(T) switch
    {
        float => (float)value.Real,
        double => value.Real,
        Half => (Half)value.Real,
        BFloat16 => (BFloat16)value.Real,
        Complex64 => (Complex64)value,
        Complex => value,
        _ => throw new NotSupportedException(typeof(T).Name),
    });

    public static Complex[] ToComplex<T>(T[] values) => Array.ConvertAll(values, ToComplex);

    /// <summary>Numbers of both signs, up to a magnitude.</summary>
    public static T[] Random<T>(Random random, long count, double low, double high)
    {
        var values = new T[count];
        for (var i = 0; i < values.Length; i++)
        {
            var magnitude = low + (random.NextDouble() * (high - low));
            var value = IsComplex<T>()
                ? Complex.FromPolarCoordinates(magnitude, random.NextDouble() * 2 * Math.PI)
                : magnitude * (low < 0 || random.Next(4) > 0 ? 1 : -1);
            values[i] = FromComplex<T>(value);
        }
        return values;
    }

    /// <summary>Asserts that results are the expected ones, to the type's tolerance of the largest.</summary>
    public static void AssertClose<T>(T[] actual, Complex[] expected, string name, double factor = 1)
    {
        Assert.That(actual, Has.Length.EqualTo(expected.Length), name);
        var scale = expected.Length == 0 ? 1 : Math.Max(1e-3, expected.Max(Complex.Abs));
        var limit = factor * Tolerance<T>() * scale;
        for (var i = 0; i < actual.Length; i++)
        {
            var difference = Complex.Abs(ToComplex(actual[i]) - expected[i]);
            if (!(difference <= limit))
                Assert.Fail($"{name}[{i}]: {expected[i]} expected, {actual[i]} came; the limit is {limit:g3}");
        }
    }
}
