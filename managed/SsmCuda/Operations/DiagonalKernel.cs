using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>How the kernel of a diagonal system is made.</summary>
public ref struct DiagonalKernelOptions
{
    /// <summary>How the system becomes one of steps.</summary>
    public SsmDiscretization Discretization;

    /// <summary>Powers are divided by their sum, which must not be 0.</summary>
    public bool Softmax;

    /// <summary>Of the generalized bilinear discretization, 0 to 1; 0 for the others.</summary>
    public double Alpha;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>The convolution kernel of a diagonal system, S4D's (Gu et al. 2022, arXiv 2206.11893): k_l = 2 Re sum_n
    /// c_n a_bar_n^l b_bar_n, half of the states being given; as DSS's softmax variant too (Gupta 2022, arXiv
    /// 2203.14343).</summary>
    /// <param name="a">(H,N) of Complex64 or Complex; the eigenvalues.</param>
    /// <param name="b">(H,N) of the type of a.</param>
    /// <param name="c">(H,N) of the type of a.</param>
    /// <param name="dt">(H) of the real type of a, above 0.</param>
    /// <param name="k">Output (H,L) of the real type of a.</param>
    /// <param name="options">Settings and the optional tensors.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void DiagonalKernel(in ReadOnlyTensorView a, in ReadOnlyTensorView b, in ReadOnlyTensorView c,
        in ReadOnlyTensorView dt, in TensorView k, in DiagonalKernelOptions options = default) =>
        DiagonalKernel(a, b, c, dt, k, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="DiagonalKernel(in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in DiagonalKernelOptions)"/>
    /// <returns>Bytes.</returns>
    public long DiagonalKernelWorkspace(in ReadOnlyTensorView a, in ReadOnlyTensorView b, in ReadOnlyTensorView c,
        in ReadOnlyTensorView dt, in TensorView k, in DiagonalKernelOptions options = default)
    {
        ulong bytes;
        DiagonalKernel(a, b, c, dt, k, options, &bytes);
        return (long)bytes;
    }

    private void DiagonalKernel(in ReadOnlyTensorView a, in ReadOnlyTensorView b, in ReadOnlyTensorView c,
        in ReadOnlyTensorView dt, in TensorView k, in DiagonalKernelOptions options, ulong* workspace)
    {
        fixed (byte* pA = a, pB = b, pC = c, pDt = dt, pK = k)
        {
            using var call = new Call(this);
            SsmDiagonalKernelArgs args = new()
            {
                StructSize = (uint)sizeof(SsmDiagonalKernelArgs),
                Discretization = options.Discretization,
                Softmax = options.Softmax ? 1 : 0,
                Alpha = options.Alpha,
                A = call.Bind(a, pA, "a"),
                B = call.Bind(b, pB, "b"),
                C = call.Bind(c, pC, "c"),
                Dt = call.Bind(dt, pDt, "dt"),
                K = call.Bind(k, pK, "k"),
            };
            Check(workspace is null
                ? NativeMethods.DiagonalKernel(Handle, &args)
                : NativeMethods.DiagonalKernelWorkspace(Handle, &args, workspace));
        }
    }
}
