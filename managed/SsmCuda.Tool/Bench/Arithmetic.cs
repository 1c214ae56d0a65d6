using System.Numerics;

namespace SsmCuda.Tool.Bench;

/// <summary>
/// How the plain loops and the references compute with a storage type. Implemented by structs, so that each loop is compiled for
/// its type as if written out for it.
/// </summary>
/// <typeparam name="TStorage">The element type of the tensors.</typeparam>
/// <typeparam name="TState">What sums are made in.</typeparam>
internal interface IArithmetic<TStorage, TState>
    where TStorage : unmanaged
    where TState : unmanaged
{
    /// <summary>The name of the storage type in tables and JSON.</summary>
    static abstract string Name { get; }

    /// <summary>Floating-point operations of one multiply and add.</summary>
    static abstract int FlopsOfMultiplyAdd { get; }

    /// <summary>A right result's largest error.</summary>
    static abstract double Tolerance { get; }

    static abstract TState Load(TStorage value);

    static abstract TStorage Store(TState value);

    /// <summary>a h + b.</summary>
    static abstract TState MultiplyAdd(TState a, TState h, TState b);

    static abstract TState Conjugate(TState value);

    static abstract Complex Exact(TStorage value);

    /// <summary>A number of magnitude below 1, from two uniform ones.</summary>
    static abstract TStorage FromUniform(float magnitude, float phase);
}

internal readonly struct Float32Arithmetic : IArithmetic<float, float>
{
    public static string Name => "float32";

    public static int FlopsOfMultiplyAdd => 2;

    public static double Tolerance => 2e-5;

    public static float Load(float value) => value;

    public static float Store(float value) => value;

    public static float MultiplyAdd(float a, float h, float b) => a * h + b;

    public static float Conjugate(float value) => value;

    public static Complex Exact(float value) => value;

    public static float FromUniform(float magnitude, float phase) => magnitude;
}

internal readonly struct Float64Arithmetic : IArithmetic<double, double>
{
    public static string Name => "float64";

    public static int FlopsOfMultiplyAdd => 2;

    public static double Tolerance => 1e-12;

    public static double Load(double value) => value;

    public static double Store(double value) => value;

    public static double MultiplyAdd(double a, double h, double b) => a * h + b;

    public static double Conjugate(double value) => value;

    public static Complex Exact(double value) => value;

    public static double FromUniform(float magnitude, float phase) => magnitude;
}

internal readonly struct BFloat16Arithmetic : IArithmetic<BFloat16, float>
{
    public static string Name => "bfloat16";

    public static int FlopsOfMultiplyAdd => 2;

    // Half a unit in the last of eight bits, 2^-8 at the lower end of a binade, and a little for the computation.
    public static double Tolerance => 4.5e-3;

    public static float Load(BFloat16 value) => (float)value;

    public static BFloat16 Store(float value) => (BFloat16)value;

    public static float MultiplyAdd(float a, float h, float b) => a * h + b;

    public static float Conjugate(float value) => value;

    public static Complex Exact(BFloat16 value) => (float)value;

    public static BFloat16 FromUniform(float magnitude, float phase) => (BFloat16)magnitude;
}

internal readonly struct Complex64Arithmetic : IArithmetic<Complex64, Complex64>
{
    public static string Name => "complex64";

    public static int FlopsOfMultiplyAdd => 8;

    public static double Tolerance => 2e-5;

    public static Complex64 Load(Complex64 value) => value;

    public static Complex64 Store(Complex64 value) => value;

    public static Complex64 MultiplyAdd(Complex64 a, Complex64 h, Complex64 b) =>
        new(a.Real * h.Real - a.Imaginary * h.Imaginary + b.Real, a.Real * h.Imaginary + a.Imaginary * h.Real + b.Imaginary);

    public static Complex64 Conjugate(Complex64 value) => new(value.Real, -value.Imaginary);

    public static Complex Exact(Complex64 value) => new(value.Real, value.Imaginary);

    public static Complex64 FromUniform(float magnitude, float phase) =>
        new(magnitude * MathF.Cos(2 * MathF.PI * phase), magnitude * MathF.Sin(2 * MathF.PI * phase));
}
