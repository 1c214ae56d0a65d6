using SsmCuda.Interop;

namespace SsmCuda;

public sealed unsafe partial class SsmContext
{
    /// <summary>k_l = c a_bar^l b_bar of dense systems, by repeated squaring, in double inside.</summary>
    /// <param name="discretization">Any but Dirac and Async.</param>
    /// <param name="a">(H,N,N) of float or double.</param>
    /// <param name="b">(H,N) of the type of a.</param>
    /// <param name="c">(H,N) of the type of a.</param>
    /// <param name="dt">(H) of the type of a; positive.</param>
    /// <param name="k">Output (H,L) of the type of a.</param>
    /// <param name="alpha">Of the generalized bilinear rule, 0 to 1; 0 otherwise.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void DenseKernel(SsmDiscretization discretization, in ReadOnlyTensorView a, in ReadOnlyTensorView b,
        in ReadOnlyTensorView c, in ReadOnlyTensorView dt, in TensorView k, double alpha = 0) =>
        DenseKernel(discretization, a, b, c, dt, k, alpha, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="DenseKernel(SsmDiscretization, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, double)"/>
    /// <returns>Bytes.</returns>
    public long DenseKernelWorkspace(SsmDiscretization discretization, in ReadOnlyTensorView a, in ReadOnlyTensorView b,
        in ReadOnlyTensorView c, in ReadOnlyTensorView dt, in TensorView k, double alpha = 0)
    {
        ulong bytes;
        DenseKernel(discretization, a, b, c, dt, k, alpha, &bytes);
        return (long)bytes;
    }

    private void DenseKernel(SsmDiscretization discretization, in ReadOnlyTensorView a, in ReadOnlyTensorView b,
        in ReadOnlyTensorView c, in ReadOnlyTensorView dt, in TensorView k, double alpha, ulong* workspace)
    {
        fixed (byte* pA = a, pB = b, pC = c, pDt = dt, pK = k)
        {
            using var call = new Call(this);
            SsmDenseKernelArgs args = new()
            {
                StructSize = (uint)sizeof(SsmDenseKernelArgs),
                Discretization = discretization,
                Alpha = alpha,
                A = call.Bind(a, pA, "a"),
                B = call.Bind(b, pB, "b"),
                C = call.Bind(c, pC, "c"),
                Dt = call.Bind(dt, pDt, "dt"),
                K = call.Bind(k, pK, "k"),
            };
            Check(workspace is null
                ? NativeMethods.DenseKernel(Handle, &args)
                : NativeMethods.DenseKernelWorkspace(Handle, &args, workspace));
        }
    }
}
