using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What the gradients of the kernel of diagonal plus low-rank systems may be told, and which are wanted.
/// Default values are absent.</summary>
public ref struct DplrKernelBackwardOptions
{
    /// <summary>The N states given are half of 2N; the rest are their conjugates.</summary>
    public bool ConjugatePairs;

    /// <summary>c is c_tilde, c (I - a_bar^L). Otherwise that is computed, by powers of a matrix of 2N rows.</summary>
    public bool CIsTilde;

    /// <summary>Output (H,N) of the type of eigenvalues.</summary>
    public TensorView GradEigenvalues;

    /// <summary>Output (H,R,N) of the type of eigenvalues.</summary>
    public TensorView GradP;

    /// <summary>Output (H,N) of the type of eigenvalues.</summary>
    public TensorView GradB;

    /// <summary>Output (H,N) of the type of eigenvalues.</summary>
    public TensorView GradC;

    /// <summary>Output (H) of the real type of eigenvalues.</summary>
    public TensorView GradDt;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>Gradients of DplrKernel. For complex x, the gradient is dL/dRe(x) + i dL/dIm(x). With CIsTilde it is
    /// c_tilde that is held and has the gradient.</summary>
    /// <param name="eigenvalues">(H,N) of Complex64 or Complex.</param>
    /// <param name="p">(H,R,N) of the type of eigenvalues; the rank R is 1 to 4.</param>
    /// <param name="b">(H,N) of the type of eigenvalues.</param>
    /// <param name="c">(H,N) of the type of eigenvalues.</param>
    /// <param name="dt">(H) of the real type of eigenvalues; positive.</param>
    /// <param name="gradK">(H,L) of the real type of eigenvalues.</param>
    /// <param name="options">Everything else.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void DplrKernelBackward(in ReadOnlyTensorView eigenvalues, in ReadOnlyTensorView p, in ReadOnlyTensorView b,
        in ReadOnlyTensorView c, in ReadOnlyTensorView dt, in ReadOnlyTensorView gradK,
        in DplrKernelBackwardOptions options = default) =>
        DplrKernelBackward(eigenvalues, p, b, c, dt, gradK, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="DplrKernelBackward(in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in DplrKernelBackwardOptions)"/>
    /// <returns>Bytes.</returns>
    public long DplrKernelBackwardWorkspace(in ReadOnlyTensorView eigenvalues, in ReadOnlyTensorView p,
        in ReadOnlyTensorView b, in ReadOnlyTensorView c, in ReadOnlyTensorView dt, in ReadOnlyTensorView gradK,
        in DplrKernelBackwardOptions options = default)
    {
        ulong bytes;
        DplrKernelBackward(eigenvalues, p, b, c, dt, gradK, options, &bytes);
        return (long)bytes;
    }

    private void DplrKernelBackward(in ReadOnlyTensorView eigenvalues, in ReadOnlyTensorView p, in ReadOnlyTensorView b,
        in ReadOnlyTensorView c, in ReadOnlyTensorView dt, in ReadOnlyTensorView gradK,
        in DplrKernelBackwardOptions options, ulong* workspace)
    {
        fixed (byte* pEigenvalues = eigenvalues, pP = p, pB = b, pC = c, pDt = dt, pGradK = gradK,
        pGradEigenvalues = options.GradEigenvalues, pGradP = options.GradP, pGradB = options.GradB, pGradC = options.GradC,
        pGradDt = options.GradDt)
        {
            using var call = new Call(this);
            SsmDplrKernelBackwardArgs args = new()
            {
                StructSize = (uint)sizeof(SsmDplrKernelBackwardArgs),
                ConjugatePairs = options.ConjugatePairs ? 1 : 0,
                CIsTilde = options.CIsTilde ? 1 : 0,
                Eigenvalues = call.Bind(eigenvalues, pEigenvalues, "eigenvalues"),
                P = call.Bind(p, pP, "p"),
                B = call.Bind(b, pB, "b"),
                C = call.Bind(c, pC, "c"),
                Dt = call.Bind(dt, pDt, "dt"),
                GradK = call.Bind(gradK, pGradK, "grad_k"),
                GradEigenvalues = call.Bind(options.GradEigenvalues, pGradEigenvalues, "grad_eigenvalues"),
                GradP = call.Bind(options.GradP, pGradP, "grad_p"),
                GradB = call.Bind(options.GradB, pGradB, "grad_b"),
                GradC = call.Bind(options.GradC, pGradC, "grad_c"),
                GradDt = call.Bind(options.GradDt, pGradDt, "grad_dt"),
            };
            Check(workspace is null
                ? NativeMethods.DplrKernelBackward(Handle, &args)
                : NativeMethods.DplrKernelBackwardWorkspace(Handle, &args, workspace));
        }
    }
}
