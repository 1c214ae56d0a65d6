using SsmCuda.Interop;

namespace SsmCuda;

public sealed unsafe partial class SsmContext
{
    /// <summary>The c_tilde of twice the length: c_tilde (I + a_bar^length). It runs at once on host memory, whatever
    /// the device of the context.</summary>
    /// <param name="eigenvalues">(H,N) of Complex64 or Complex.</param>
    /// <param name="p">(H,R,N) of the type of eigenvalues; the rank R is 1 to 4.</param>
    /// <param name="dt">(H) of the real type of eigenvalues; positive.</param>
    /// <param name="cTilde">(H,N) of the type of eigenvalues, of the length.</param>
    /// <param name="cDoubled">Output (H,N) of the type of eigenvalues; may be c_tilde.</param>
    /// <param name="length">Steps of the kernel, at least 1.</param>
    /// <param name="conjugatePairs">The N states given are half of 2N; the rest are their conjugates.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    public void DplrDoubleLength(in ReadOnlyTensorView eigenvalues, in ReadOnlyTensorView p, in ReadOnlyTensorView dt,
        in ReadOnlyTensorView cTilde, in TensorView cDoubled, long length, bool conjugatePairs)
    {
        fixed (byte* pEigenvalues = eigenvalues, pP = p, pDt = dt, pCTilde = cTilde, pCDoubled = cDoubled)
        {
            using var call = new Call(this, isOnHost: true);
            SsmDplrDoubleLengthArgs args = new()
            {
                StructSize = (uint)sizeof(SsmDplrDoubleLengthArgs),
                Length = length,
                ConjugatePairs = conjugatePairs ? 1 : 0,
                Eigenvalues = call.Bind(eigenvalues, pEigenvalues, "eigenvalues"),
                P = call.Bind(p, pP, "p"),
                Dt = call.Bind(dt, pDt, "dt"),
                CTilde = call.Bind(cTilde, pCTilde, "c_tilde"),
                CDoubled = call.Bind(cDoubled, pCDoubled, "c_doubled"),
            };
            Check(NativeMethods.DplrDoubleLength(Handle, &args));
        }
    }
}
