using SsmCuda.Interop;

namespace SsmCuda;

public sealed unsafe partial class SsmContext
{
    /// <summary>c_tilde = c (I - a_bar^length) of the system A = diag(eigenvalues) - sum_r p_r p_r^*, discretised by
    /// the bilinear rule: what DplrKernel of that length works with. It runs at once on host memory, whatever the
    /// device of the context.</summary>
    /// <param name="eigenvalues">(H,N) of Complex64 or Complex.</param>
    /// <param name="p">(H,R,N) of the type of eigenvalues; the rank R is 1 to 4.</param>
    /// <param name="dt">(H) of the real type of eigenvalues; positive.</param>
    /// <param name="c">(H,N) of the type of eigenvalues.</param>
    /// <param name="cTilde">Output (H,N) of the type of eigenvalues; may be c.</param>
    /// <param name="length">Steps of the kernel, at least 1.</param>
    /// <param name="conjugatePairs">The N states given are half of 2N; the rest are their conjugates.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    public void DplrToTilde(in ReadOnlyTensorView eigenvalues, in ReadOnlyTensorView p, in ReadOnlyTensorView dt,
        in ReadOnlyTensorView c, in TensorView cTilde, long length, bool conjugatePairs)
    {
        fixed (byte* pEigenvalues = eigenvalues, pP = p, pDt = dt, pC = c, pCTilde = cTilde)
        {
            using var call = new Call(this, isOnHost: true);
            SsmDplrToTildeArgs args = new()
            {
                StructSize = (uint)sizeof(SsmDplrToTildeArgs),
                Length = length,
                ConjugatePairs = conjugatePairs ? 1 : 0,
                Eigenvalues = call.Bind(eigenvalues, pEigenvalues, "eigenvalues"),
                P = call.Bind(p, pP, "p"),
                Dt = call.Bind(dt, pDt, "dt"),
                C = call.Bind(c, pC, "c"),
                CTilde = call.Bind(cTilde, pCTilde, "c_tilde"),
            };
            Check(NativeMethods.DplrToTilde(Handle, &args));
        }
    }
}
