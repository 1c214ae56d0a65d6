using SsmCuda.Interop;

namespace SsmCuda;

public sealed unsafe partial class SsmContext
{
    /// <summary>The way back from c_tilde: c = c_tilde (I - a_bar^length)^-1, as the recurrence takes it. It runs at
    /// once on host memory, whatever the device of the context.</summary>
    /// <param name="eigenvalues">(H,N) of Complex64 or Complex.</param>
    /// <param name="p">(H,R,N) of the type of eigenvalues; the rank R is 1 to 4.</param>
    /// <param name="dt">(H) of the real type of eigenvalues; positive.</param>
    /// <param name="cTilde">(H,N) of the type of eigenvalues.</param>
    /// <param name="c">Output (H,N) of the type of eigenvalues; may be c_tilde.</param>
    /// <param name="length">Steps of the kernel, at least 1.</param>
    /// <param name="conjugatePairs">The N states given are half of 2N; the rest are their conjugates.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    public void DplrFromTilde(in ReadOnlyTensorView eigenvalues, in ReadOnlyTensorView p, in ReadOnlyTensorView dt,
        in ReadOnlyTensorView cTilde, in TensorView c, long length, bool conjugatePairs)
    {
        fixed (byte* pEigenvalues = eigenvalues, pP = p, pDt = dt, pCTilde = cTilde, pC = c)
        {
            using var call = new Call(this, isOnHost: true);
            SsmDplrFromTildeArgs args = new()
            {
                StructSize = (uint)sizeof(SsmDplrFromTildeArgs),
                Length = length,
                ConjugatePairs = conjugatePairs ? 1 : 0,
                Eigenvalues = call.Bind(eigenvalues, pEigenvalues, "eigenvalues"),
                P = call.Bind(p, pP, "p"),
                Dt = call.Bind(dt, pDt, "dt"),
                CTilde = call.Bind(cTilde, pCTilde, "c_tilde"),
                C = call.Bind(c, pC, "c"),
            };
            Check(NativeMethods.DplrFromTilde(Handle, &args));
        }
    }
}
