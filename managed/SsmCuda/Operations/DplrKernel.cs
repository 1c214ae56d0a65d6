using SsmCuda.Interop;

namespace SsmCuda;

public sealed unsafe partial class SsmContext
{
    /// <summary>S4's kernel k_l = Re(c a_bar^l b_bar) of the system A = diag(eigenvalues) - sum_r p_r p_r^* under the
    /// bilinear rule, by its generating function at the roots of unity (Gu et al. 2021, arXiv 2111.00396, appendix
    /// C.3). An eigenvalue of exactly 0 is an error.</summary>
    /// <param name="eigenvalues">(H,N) of Complex64 or Complex.</param>
    /// <param name="p">(H,R,N) of the type of eigenvalues; the rank R is 1 to 4.</param>
    /// <param name="b">(H,N) of the type of eigenvalues.</param>
    /// <param name="c">(H,N) of the type of eigenvalues.</param>
    /// <param name="dt">(H) of the real type of eigenvalues; positive.</param>
    /// <param name="k">Output (H,L) of the real type of eigenvalues.</param>
    /// <param name="conjugatePairs">The N states given are half of 2N; the rest are their conjugates.</param>
    /// <param name="cIsTilde">c is c_tilde, c (I - a_bar^L). Otherwise that is computed, by powers of a matrix of 2N
    /// rows.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void DplrKernel(in ReadOnlyTensorView eigenvalues, in ReadOnlyTensorView p, in ReadOnlyTensorView b,
        in ReadOnlyTensorView c, in ReadOnlyTensorView dt, in TensorView k, bool conjugatePairs, bool cIsTilde) =>
        DplrKernel(eigenvalues, p, b, c, dt, k, conjugatePairs, cIsTilde, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="DplrKernel(in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, bool, bool)"/>
    /// <returns>Bytes.</returns>
    public long DplrKernelWorkspace(in ReadOnlyTensorView eigenvalues, in ReadOnlyTensorView p, in ReadOnlyTensorView b,
        in ReadOnlyTensorView c, in ReadOnlyTensorView dt, in TensorView k, bool conjugatePairs, bool cIsTilde)
    {
        ulong bytes;
        DplrKernel(eigenvalues, p, b, c, dt, k, conjugatePairs, cIsTilde, &bytes);
        return (long)bytes;
    }

    private void DplrKernel(in ReadOnlyTensorView eigenvalues, in ReadOnlyTensorView p, in ReadOnlyTensorView b,
        in ReadOnlyTensorView c, in ReadOnlyTensorView dt, in TensorView k, bool conjugatePairs, bool cIsTilde,
        ulong* workspace)
    {
        fixed (byte* pEigenvalues = eigenvalues, pP = p, pB = b, pC = c, pDt = dt, pK = k)
        {
            using var call = new Call(this);
            SsmDplrKernelArgs args = new()
            {
                StructSize = (uint)sizeof(SsmDplrKernelArgs),
                ConjugatePairs = conjugatePairs ? 1 : 0,
                CIsTilde = cIsTilde ? 1 : 0,
                Eigenvalues = call.Bind(eigenvalues, pEigenvalues, "eigenvalues"),
                P = call.Bind(p, pP, "p"),
                B = call.Bind(b, pB, "b"),
                C = call.Bind(c, pC, "c"),
                Dt = call.Bind(dt, pDt, "dt"),
                K = call.Bind(k, pK, "k"),
            };
            Check(workspace is null
                ? NativeMethods.DplrKernel(Handle, &args)
                : NativeMethods.DplrKernelWorkspace(Handle, &args, workspace));
        }
    }
}
