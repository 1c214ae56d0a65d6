using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What the gradients of a gated norm may be told beyond their required tensors. Default values are absent.</summary>
public ref struct GatedRmsNormBackwardOptions
{
    /// <summary>As in the forward call.</summary>
    public bool NormBeforeGate;

    /// <summary>As in the forward call.</summary>
    public long GroupSize;

    /// <summary>As in the forward call.</summary>
    public double Eps;

    /// <summary>(...,D) of the type of x, as in the forward call.</summary>
    public ReadOnlyTensorView Z;

    /// <summary>(D) of the state type of x (float for Half and BFloat16, otherwise the type of x), as in the forward call.</summary>
    public ReadOnlyTensorView Weight;

    /// <summary>(D) of the state type of x, as in the forward call.</summary>
    public ReadOnlyTensorView Bias;

    /// <summary>(...,G) of the state type of x: what the forward call gave. Computed again if absent.</summary>
    public ReadOnlyTensorView Rstd;

    /// <summary>Output (...,D) of the type of x; may be grad_y.</summary>
    public TensorView GradX;

    /// <summary>Output (...,D) of the type of x; may be z.</summary>
    public TensorView GradZ;

    /// <summary>Output (D) of the state type of x.</summary>
    public TensorView GradWeight;

    /// <summary>Output (D) of the state type of x.</summary>
    public TensorView GradBias;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>Gradients of <see cref="GatedRmsNorm(in ReadOnlyTensorView, in TensorView, in GatedRmsNormOptions)"/>; those that
    /// are given a tensor. Sums over the rows are made in a fixed order.</summary>
    /// <param name="x">(...,D) of float, double, Half or BFloat16.</param>
    /// <param name="gradY">(...,D) of the type of x.</param>
    /// <param name="options">Settings and the optional tensors.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void GatedRmsNormBackward(in ReadOnlyTensorView x, in ReadOnlyTensorView gradY,
        in GatedRmsNormBackwardOptions options = default) =>
        GatedRmsNormBackward(x, gradY, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="GatedRmsNormBackward(in ReadOnlyTensorView, in ReadOnlyTensorView, in GatedRmsNormBackwardOptions)"/>
    /// <returns>Bytes.</returns>
    public long GatedRmsNormBackwardWorkspace(in ReadOnlyTensorView x, in ReadOnlyTensorView gradY,
        in GatedRmsNormBackwardOptions options = default)
    {
        ulong bytes;
        GatedRmsNormBackward(x, gradY, options, &bytes);
        return (long)bytes;
    }

    private void GatedRmsNormBackward(in ReadOnlyTensorView x, in ReadOnlyTensorView gradY,
        in GatedRmsNormBackwardOptions options, ulong* workspace)
    {
        fixed (byte* pX = x, pGradY = gradY, pZ = options.Z, pWeight = options.Weight, pBias = options.Bias,
               pRstd = options.Rstd, pGradX = options.GradX, pGradZ = options.GradZ, pGradWeight = options.GradWeight,
               pGradBias = options.GradBias)
        {
            using var call = new Call(this);
            SsmGatedRmsNormBackwardArgs args = new()
            {
                StructSize = (uint)sizeof(SsmGatedRmsNormBackwardArgs),
                NormBeforeGate = options.NormBeforeGate ? 1 : 0,
                GroupSize = options.GroupSize,
                Eps = options.Eps,
                X = call.Bind(x, pX, "x"),
                GradY = call.Bind(gradY, pGradY, "grad_y"),
                Z = call.Bind(options.Z, pZ, "z"),
                Weight = call.Bind(options.Weight, pWeight, "weight"),
                Bias = call.Bind(options.Bias, pBias, "bias"),
                Rstd = call.Bind(options.Rstd, pRstd, "rstd"),
                GradX = call.Bind(options.GradX, pGradX, "grad_x"),
                GradZ = call.Bind(options.GradZ, pGradZ, "grad_z"),
                GradWeight = call.Bind(options.GradWeight, pGradWeight, "grad_weight"),
                GradBias = call.Bind(options.GradBias, pGradBias, "grad_bias"),
            };
            Check(workspace is null
                ? NativeMethods.GatedRmsNormBackward(Handle, &args)
                : NativeMethods.GatedRmsNormBackwardWorkspace(Handle, &args, workspace));
        }
    }
}
