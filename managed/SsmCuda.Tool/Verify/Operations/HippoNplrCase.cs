using System.Numerics;

namespace SsmCuda.Tool.Verify.Operations;

/// <summary>The case has what does not depend on the phases of the eigenvectors: |p|^2, |b|^2 and conj(p) b.</summary>
internal static class HippoNplrCase
{
    public static void Run(CaseRun run)
    {
        run.UseHostMemory();
        var states = run.Number("n") / 2;
        var eigenvalues = run.Output("eigenvalues", isComplex: true);
        var (p, b) = run.IsFloat64
            ? Run<Complex>(run, states, eigenvalues, value => value)
            : Run<Complex64>(run, states, eigenvalues, value => new Complex(value.Real, value.Imaginary));
        run.Answer("p_squared", () => Array.ConvertAll(p, value => value.Real * value.Real + value.Imaginary * value.Imaginary));
        run.Answer("b_squared", () => Array.ConvertAll(b, value => value.Real * value.Real + value.Imaginary * value.Imaginary));
        run.Answer("conj_p_b", () =>
            [.. p.Zip(b, (own, other) => Complex.Conjugate(own) * other).SelectMany(value => new[] { value.Real, value.Imaginary })]);
    }

    private static (Complex[] P, Complex[] B) Run<T>(CaseRun run, int states, in TensorView eigenvalues,
        Converter<T, Complex> widen)
        where T : unmanaged
    {
        var p = new T[states];
        var b = new T[states];
        run.Context.HippoNplr(run.Measure(), eigenvalues, TensorView.Create<T>(p, 1, states), TensorView.Create<T>(b, states));
        return (Array.ConvertAll(p, widen), Array.ConvertAll(b, widen));
    }
}
