using SsmCuda.Interop;

namespace SsmCuda;

public sealed unsafe partial class SsmContext
{
    /// <summary>The system of a HiPPO measure as A = V (diag(w) - sum_r p_r p_r^*) V^* with V unitary (Gu et al. 2021,
    /// arXiv 2111.00396): the half of the states with positive imaginary parts of w, ascending; the other half are
    /// their conjugates. Legs, Lagt and Fout have rank 1, Legt has rank 2, Lmu has no such form. It runs at once on
    /// host memory, whatever the device of the context.</summary>
    /// <param name="measure">The measure.</param>
    /// <param name="eigenvalues">Output (N) of Complex64 or Complex: w, for a matrix of 2N rows.</param>
    /// <param name="p">Output (R,N) of the type of eigenvalues; rows beyond the rank are 0. May be left out.</param>
    /// <param name="b">Output (N) of the type of eigenvalues: V^* b. May be left out.</param>
    /// <param name="v">Output (2N,N) of the type of eigenvalues: the columns of V. May be left out.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    public void HippoNplr(SsmHippoMeasure measure, in TensorView eigenvalues, in TensorView p = default,
        in TensorView b = default, in TensorView v = default)
    {
        fixed (byte* pEigenvalues = eigenvalues, pP = p, pB = b, pV = v)
        {
            using var call = new Call(this, isOnHost: true);
            SsmHippoNplrArgs args = new()
            {
                StructSize = (uint)sizeof(SsmHippoNplrArgs),
                Measure = measure,
                Eigenvalues = call.Bind(eigenvalues, pEigenvalues, "eigenvalues"),
                P = call.Bind(p, pP, "p"),
                B = call.Bind(b, pB, "b"),
                V = call.Bind(v, pV, "v"),
            };
            Check(NativeMethods.HippoNplr(Handle, &args));
        }
    }
}
