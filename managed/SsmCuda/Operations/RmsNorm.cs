using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What a norm may be told beyond its required tensors. Default values are absent.</summary>
public ref struct RmsNormOptions
{
    /// <summary>Added to the mean of the squares; 0 or more.</summary>
    public double Eps;

    /// <summary>(...,D) of the type of x or its state type (float for Half and BFloat16): is added to x before the norm.</summary>
    public ReadOnlyTensorView Residual;

    /// <summary>(D) of the state type of x (float for Half and BFloat16, otherwise the type of x); one if absent.</summary>
    public ReadOnlyTensorView Weight;

    /// <summary>(D) of the state type of x; zero if absent.</summary>
    public ReadOnlyTensorView Bias;

    /// <summary>Output (...,D) of the type of the residual, or without one of the type of x or its state type: what the norm is
    /// taken of. May be x or the residual.</summary>
    public TensorView ResidualOut;

    /// <summary>Output (...) of the state type of x: 1 / sqrt(mean + eps) of each row.</summary>
    public TensorView Rstd;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>The norm by the root of the mean square (Zhang and Sennrich 2019, arXiv 1910.07467), each row along the last
    /// axis by itself: y = h / sqrt(mean(h^2) + eps) weight + bias with h = x + residual, which is not rounded on the way.
    /// What stands before every Mamba block.</summary>
    /// <param name="x">(...,D) with one to four axes, of float, double, Half or BFloat16.</param>
    /// <param name="y">Output of the type and shape of x; may be x or the residual.</param>
    /// <param name="options">Settings and the optional tensors.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void RmsNorm(in ReadOnlyTensorView x, in TensorView y, in RmsNormOptions options = default) =>
        RmsNorm(x, y, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="RmsNorm(in ReadOnlyTensorView, in TensorView, in RmsNormOptions)"/>
    /// <returns>Bytes.</returns>
    public long RmsNormWorkspace(in ReadOnlyTensorView x, in TensorView y, in RmsNormOptions options = default)
    {
        ulong bytes;
        RmsNorm(x, y, options, &bytes);
        return (long)bytes;
    }

    private void RmsNorm(in ReadOnlyTensorView x, in TensorView y, in RmsNormOptions options, ulong* workspace)
    {
        fixed (byte* pX = x, pY = y, pResidual = options.Residual, pWeight = options.Weight, pBias = options.Bias,
               pResidualOut = options.ResidualOut, pRstd = options.Rstd)
        {
            using var call = new Call(this);
            SsmRmsNormArgs args = new()
            {
                StructSize = (uint)sizeof(SsmRmsNormArgs),
                Eps = options.Eps,
                X = call.Bind(x, pX, "x"),
                Y = call.Bind(y, pY, "y"),
                Residual = call.Bind(options.Residual, pResidual, "residual"),
                Weight = call.Bind(options.Weight, pWeight, "weight"),
                Bias = call.Bind(options.Bias, pBias, "bias"),
                ResidualOut = call.Bind(options.ResidualOut, pResidualOut, "residual_out"),
                Rstd = call.Bind(options.Rstd, pRstd, "rstd"),
            };
            Check(workspace is null
                ? NativeMethods.RmsNorm(Handle, &args)
                : NativeMethods.RmsNormWorkspace(Handle, &args, workspace));
        }
    }
}
