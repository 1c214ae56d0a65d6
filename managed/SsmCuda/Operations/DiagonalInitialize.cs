using SsmCuda.Interop;

namespace SsmCuda;

public sealed unsafe partial class SsmContext
{
    /// <summary>Eigenvalues and inputs that a diagonal system starts its training from (Gu et al. 2022, arXiv
    /// 2206.11893): half of its 2N states. It runs at once on host memory, whatever the device of the
    /// context.</summary>
    /// <param name="init">Which.</param>
    /// <param name="eigenvalues">Output (N) of Complex64 or Complex.</param>
    /// <param name="b">Output (N) of the type of eigenvalues: 1, and V^* b of the measure for Legs. May be left
    /// out.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    public void DiagonalInitialize(SsmDiagonalInit init, in TensorView eigenvalues, in TensorView b = default)
    {
        fixed (byte* pEigenvalues = eigenvalues, pB = b)
        {
            using var call = new Call(this, isOnHost: true);
            SsmDiagonalInitializeArgs args = new()
            {
                StructSize = (uint)sizeof(SsmDiagonalInitializeArgs),
                Init = init,
                Eigenvalues = call.Bind(eigenvalues, pEigenvalues, "eigenvalues"),
                B = call.Bind(b, pB, "b"),
            };
            Check(NativeMethods.DiagonalInitialize(Handle, &args));
        }
    }
}
