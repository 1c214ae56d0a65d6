using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>How the kernel was made, and the gradients. Those that are absent are not computed.</summary>
public ref struct DiagonalKernelBackwardOptions
{
    /// <summary>As in the forward call.</summary>
    public SsmDiscretization Discretization;

    /// <summary>As in the forward call.</summary>
    public bool Softmax;

    /// <summary>As in the forward call.</summary>
    public double Alpha;

    /// <summary>Output (H,N) of the type of a.</summary>
    public TensorView GradA;

    /// <summary>Output (H,N) of the type of a.</summary>
    public TensorView GradB;

    /// <summary>Output (H,N) of the type of a.</summary>
    public TensorView GradC;

    /// <summary>Output (H) of the real type of a.</summary>
    public TensorView GradDt;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>Gradients of DiagonalKernel. Of a complex number x it is dL/dRe(x) + i dL/dIm(x). Where a_bar is exactly
    /// 0 they are not defined.</summary>
    /// <param name="a">(H,N) of Complex64 or Complex.</param>
    /// <param name="b">(H,N) of the type of a.</param>
    /// <param name="c">(H,N) of the type of a.</param>
    /// <param name="dt">(H) of the real type of a.</param>
    /// <param name="gradK">(H,L) of the real type of a.</param>
    /// <param name="options">Settings and the optional tensors.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void DiagonalKernelBackward(in ReadOnlyTensorView a, in ReadOnlyTensorView b, in ReadOnlyTensorView c,
        in ReadOnlyTensorView dt, in ReadOnlyTensorView gradK, in DiagonalKernelBackwardOptions options = default) =>
        DiagonalKernelBackward(a, b, c, dt, gradK, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="DiagonalKernelBackward(in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in DiagonalKernelBackwardOptions)"/>
    /// <returns>Bytes.</returns>
    public long DiagonalKernelBackwardWorkspace(in ReadOnlyTensorView a, in ReadOnlyTensorView b,
        in ReadOnlyTensorView c, in ReadOnlyTensorView dt, in ReadOnlyTensorView gradK,
        in DiagonalKernelBackwardOptions options = default)
    {
        ulong bytes;
        DiagonalKernelBackward(a, b, c, dt, gradK, options, &bytes);
        return (long)bytes;
    }

    private void DiagonalKernelBackward(in ReadOnlyTensorView a, in ReadOnlyTensorView b, in ReadOnlyTensorView c,
        in ReadOnlyTensorView dt, in ReadOnlyTensorView gradK, in DiagonalKernelBackwardOptions options,
        ulong* workspace)
    {
        fixed (byte* pA = a, pB = b, pC = c, pDt = dt, pGradK = gradK, pGradA = options.GradA, pGradB = options.GradB,
               pGradC = options.GradC, pGradDt = options.GradDt)
        {
            using var call = new Call(this);
            SsmDiagonalKernelBackwardArgs args = new()
            {
                StructSize = (uint)sizeof(SsmDiagonalKernelBackwardArgs),
                Discretization = options.Discretization,
                Softmax = options.Softmax ? 1 : 0,
                Alpha = options.Alpha,
                A = call.Bind(a, pA, "a"),
                B = call.Bind(b, pB, "b"),
                C = call.Bind(c, pC, "c"),
                Dt = call.Bind(dt, pDt, "dt"),
                GradK = call.Bind(gradK, pGradK, "grad_k"),
                GradA = call.Bind(options.GradA, pGradA, "grad_a"),
                GradB = call.Bind(options.GradB, pGradB, "grad_b"),
                GradC = call.Bind(options.GradC, pGradC, "grad_c"),
                GradDt = call.Bind(options.GradDt, pGradDt, "grad_dt"),
            };
            Check(workspace is null
                ? NativeMethods.DiagonalKernelBackward(Handle, &args)
                : NativeMethods.DiagonalKernelBackwardWorkspace(Handle, &args, workspace));
        }
    }
}
