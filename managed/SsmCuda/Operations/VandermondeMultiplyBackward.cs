using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What the gradients of the sums of exponentials may be told. Gradients that are absent are not
/// computed.</summary>
public ref struct VandermondeMultiplyBackwardOptions
{
    /// <summary>As in the forward call.</summary>
    public bool ConjugatePairs;

    /// <summary>Output (H,N) of the type of v.</summary>
    public TensorView GradV;

    /// <summary>Output (H,N) of the type of v.</summary>
    public TensorView GradX;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>Gradients of VandermondeMultiply: that of v is the sum of grad_y conj(exp(x l)), that of x conj(v) times
    /// the sum of l grad_y conj(exp(x l)), twice that with pairs. Of a complex number x it is dL/dRe(x) + i
    /// dL/dIm(x).</summary>
    /// <param name="v">(H,N) of Complex64 or Complex.</param>
    /// <param name="x">(H,N) of the type of v.</param>
    /// <param name="gradY">(H,L) of the type of v, with conjugate_pairs the real type of that precision.</param>
    /// <param name="options">Settings and the optional tensors.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void VandermondeMultiplyBackward(in ReadOnlyTensorView v, in ReadOnlyTensorView x,
        in ReadOnlyTensorView gradY, in VandermondeMultiplyBackwardOptions options = default) =>
        VandermondeMultiplyBackward(v, x, gradY, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="VandermondeMultiplyBackward(in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in VandermondeMultiplyBackwardOptions)"/>
    /// <returns>Bytes.</returns>
    public long VandermondeMultiplyBackwardWorkspace(in ReadOnlyTensorView v, in ReadOnlyTensorView x,
        in ReadOnlyTensorView gradY, in VandermondeMultiplyBackwardOptions options = default)
    {
        ulong bytes;
        VandermondeMultiplyBackward(v, x, gradY, options, &bytes);
        return (long)bytes;
    }

    private void VandermondeMultiplyBackward(in ReadOnlyTensorView v, in ReadOnlyTensorView x,
        in ReadOnlyTensorView gradY, in VandermondeMultiplyBackwardOptions options, ulong* workspace)
    {
        fixed (byte* pV = v, pX = x, pGradY = gradY, pGradV = options.GradV, pGradX = options.GradX)
        {
            using var call = new Call(this);
            SsmVandermondeMultiplyBackwardArgs args = new()
            {
                StructSize = (uint)sizeof(SsmVandermondeMultiplyBackwardArgs),
                ConjugatePairs = options.ConjugatePairs ? 1 : 0,
                V = call.Bind(v, pV, "v"),
                X = call.Bind(x, pX, "x"),
                GradY = call.Bind(gradY, pGradY, "grad_y"),
                GradV = call.Bind(options.GradV, pGradV, "grad_v"),
                GradX = call.Bind(options.GradX, pGradX, "grad_x"),
            };
            Check(workspace is null
                ? NativeMethods.VandermondeMultiplyBackward(Handle, &args)
                : NativeMethods.VandermondeMultiplyBackwardWorkspace(Handle, &args, workspace));
        }
    }
}
