using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What the gradients of a norm may be told beyond their required tensors. Default values are absent.</summary>
public ref struct RmsNormBackwardOptions
{
    /// <summary>As in the forward call.</summary>
    public double Eps;

    /// <summary>(D) of the state type of grad_y, as in the forward call.</summary>
    public ReadOnlyTensorView Weight;

    /// <summary>(...) of the state type of grad_y: what the forward call gave. Computed again if absent.</summary>
    public ReadOnlyTensorView Rstd;

    /// <summary>(...,D) of the type of x; zero if absent.</summary>
    public ReadOnlyTensorView GradResidualOut;

    /// <summary>Output (...,D) of the type of grad_y; may be grad_y.</summary>
    public TensorView GradX;

    /// <summary>Output (...,D) of the type of x, the same gradient; may be grad_residual_out.</summary>
    public TensorView GradResidual;

    /// <summary>Output (D) of the state type of grad_y.</summary>
    public TensorView GradWeight;

    /// <summary>Output (D) of the state type of grad_y.</summary>
    public TensorView GradBias;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>Gradients of <see cref="RmsNorm(in ReadOnlyTensorView, in TensorView, in RmsNormOptions)"/>; those that are
    /// given a tensor. Sums over the rows are made in a fixed order.</summary>
    /// <param name="x">(...,D), what the norm was taken of: residual_out where there was a residual. Of the type of grad_y or its state
    /// type.</param>
    /// <param name="gradY">(...,D) of float, double, Half or BFloat16.</param>
    /// <param name="options">Settings and the optional tensors.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void RmsNormBackward(in ReadOnlyTensorView x, in ReadOnlyTensorView gradY,
        in RmsNormBackwardOptions options = default) =>
        RmsNormBackward(x, gradY, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="RmsNormBackward(in ReadOnlyTensorView, in ReadOnlyTensorView, in RmsNormBackwardOptions)"/>
    /// <returns>Bytes.</returns>
    public long RmsNormBackwardWorkspace(in ReadOnlyTensorView x, in ReadOnlyTensorView gradY,
        in RmsNormBackwardOptions options = default)
    {
        ulong bytes;
        RmsNormBackward(x, gradY, options, &bytes);
        return (long)bytes;
    }

    private void RmsNormBackward(in ReadOnlyTensorView x, in ReadOnlyTensorView gradY, in RmsNormBackwardOptions options,
        ulong* workspace)
    {
        fixed (byte* pX = x, pGradY = gradY, pWeight = options.Weight, pRstd = options.Rstd,
               pGradResidualOut = options.GradResidualOut, pGradX = options.GradX, pGradResidual = options.GradResidual,
               pGradWeight = options.GradWeight, pGradBias = options.GradBias)
        {
            using var call = new Call(this);
            SsmRmsNormBackwardArgs args = new()
            {
                StructSize = (uint)sizeof(SsmRmsNormBackwardArgs),
                Eps = options.Eps,
                X = call.Bind(x, pX, "x"),
                GradY = call.Bind(gradY, pGradY, "grad_y"),
                Weight = call.Bind(options.Weight, pWeight, "weight"),
                Rstd = call.Bind(options.Rstd, pRstd, "rstd"),
                GradResidualOut = call.Bind(options.GradResidualOut, pGradResidualOut, "grad_residual_out"),
                GradX = call.Bind(options.GradX, pGradX, "grad_x"),
                GradResidual = call.Bind(options.GradResidual, pGradResidual, "grad_residual"),
                GradWeight = call.Bind(options.GradWeight, pGradWeight, "grad_weight"),
                GradBias = call.Bind(options.GradBias, pGradBias, "grad_bias"),
            };
            Check(workspace is null
                ? NativeMethods.RmsNormBackward(Handle, &args)
                : NativeMethods.RmsNormBackwardWorkspace(Handle, &args, workspace));
        }
    }
}
