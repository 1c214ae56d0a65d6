using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What the gradients of the sums over poles may be told. Gradients that are absent are not computed.</summary>
public ref struct CauchyMultiplyBackwardOptions
{
    /// <summary>As in the forward call.</summary>
    public bool ConjugatePairs;

    /// <summary>Output (H,N) of the type of v.</summary>
    public TensorView GradV;

    /// <summary>Output (H,N) of the type of v.</summary>
    public TensorView GradW;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>Gradients of CauchyMultiply: with q = 1 / (z_l - w_n), the gradient of v is the sum of grad_y conj(q) and
    /// that of w conj(v) times the sum of grad_y conj(q)^2. Of a complex number x it is dL/dRe(x) + i
    /// dL/dIm(x).</summary>
    /// <param name="v">(H,N) of Complex64 or Complex.</param>
    /// <param name="w">(H,N) of the type of v.</param>
    /// <param name="z">(L) of the type of v.</param>
    /// <param name="gradY">(H,L) of the type of v.</param>
    /// <param name="options">Settings and the optional tensors.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void CauchyMultiplyBackward(in ReadOnlyTensorView v, in ReadOnlyTensorView w, in ReadOnlyTensorView z,
        in ReadOnlyTensorView gradY, in CauchyMultiplyBackwardOptions options = default) =>
        CauchyMultiplyBackward(v, w, z, gradY, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="CauchyMultiplyBackward(in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in CauchyMultiplyBackwardOptions)"/>
    /// <returns>Bytes.</returns>
    public long CauchyMultiplyBackwardWorkspace(in ReadOnlyTensorView v, in ReadOnlyTensorView w,
        in ReadOnlyTensorView z, in ReadOnlyTensorView gradY, in CauchyMultiplyBackwardOptions options = default)
    {
        ulong bytes;
        CauchyMultiplyBackward(v, w, z, gradY, options, &bytes);
        return (long)bytes;
    }

    private void CauchyMultiplyBackward(in ReadOnlyTensorView v, in ReadOnlyTensorView w, in ReadOnlyTensorView z,
        in ReadOnlyTensorView gradY, in CauchyMultiplyBackwardOptions options, ulong* workspace)
    {
        fixed (byte* pV = v, pW = w, pZ = z, pGradY = gradY, pGradV = options.GradV, pGradW = options.GradW)
        {
            using var call = new Call(this);
            SsmCauchyMultiplyBackwardArgs args = new()
            {
                StructSize = (uint)sizeof(SsmCauchyMultiplyBackwardArgs),
                ConjugatePairs = options.ConjugatePairs ? 1 : 0,
                V = call.Bind(v, pV, "v"),
                W = call.Bind(w, pW, "w"),
                Z = call.Bind(z, pZ, "z"),
                GradY = call.Bind(gradY, pGradY, "grad_y"),
                GradV = call.Bind(options.GradV, pGradV, "grad_v"),
                GradW = call.Bind(options.GradW, pGradW, "grad_w"),
            };
            Check(workspace is null
                ? NativeMethods.CauchyMultiplyBackward(Handle, &args)
                : NativeMethods.CauchyMultiplyBackwardWorkspace(Handle, &args, workspace));
        }
    }
}
