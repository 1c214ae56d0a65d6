using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What a gated norm may be told beyond its required tensors. Default values are absent.</summary>
public ref struct GatedRmsNormOptions
{
    /// <summary>The gate comes after the norm: (norm(x) weight + bias) silu(z) instead of norm(x silu(z)) weight + bias.</summary>
    public bool NormBeforeGate;

    /// <summary>Elements of the last axis that are normed together, a divisor of D; 0: all of them. G = D / GroupSize.</summary>
    public long GroupSize;

    /// <summary>Added to the mean of the squares; 0 or more.</summary>
    public double Eps;

    /// <summary>(...,D) of the type of x: the gate, through silu; without it y is not gated.</summary>
    public ReadOnlyTensorView Z;

    /// <summary>(D) of the state type of x (float for Half and BFloat16, otherwise the type of x); one if absent.</summary>
    public ReadOnlyTensorView Weight;

    /// <summary>(D) of the state type of x; zero if absent.</summary>
    public ReadOnlyTensorView Bias;

    /// <summary>Output (...,G) of the state type of x: 1 / sqrt(mean + eps) of each group.</summary>
    public TensorView Rstd;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>Mamba-2's gated norm (Dao and Gu 2024, arXiv 2405.21060, section 7):
    /// y = norm(x silu(z)) weight + bias, or with the gate after the norm (norm(x) weight + bias) silu(z).</summary>
    /// <param name="x">(...,D) with one to four axes, of float, double, Half or BFloat16.</param>
    /// <param name="y">Output of the type and shape of x; may be x or z.</param>
    /// <param name="options">Settings and the optional tensors.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void GatedRmsNorm(in ReadOnlyTensorView x, in TensorView y, in GatedRmsNormOptions options = default) =>
        GatedRmsNorm(x, y, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="GatedRmsNorm(in ReadOnlyTensorView, in TensorView, in GatedRmsNormOptions)"/>
    /// <returns>Bytes.</returns>
    public long GatedRmsNormWorkspace(in ReadOnlyTensorView x, in TensorView y, in GatedRmsNormOptions options = default)
    {
        ulong bytes;
        GatedRmsNorm(x, y, options, &bytes);
        return (long)bytes;
    }

    private void GatedRmsNorm(in ReadOnlyTensorView x, in TensorView y, in GatedRmsNormOptions options, ulong* workspace)
    {
        fixed (byte* pX = x, pY = y, pZ = options.Z, pWeight = options.Weight, pBias = options.Bias, pRstd = options.Rstd)
        {
            using var call = new Call(this);
            SsmGatedRmsNormArgs args = new()
            {
                StructSize = (uint)sizeof(SsmGatedRmsNormArgs),
                NormBeforeGate = options.NormBeforeGate ? 1 : 0,
                GroupSize = options.GroupSize,
                Eps = options.Eps,
                X = call.Bind(x, pX, "x"),
                Y = call.Bind(y, pY, "y"),
                Z = call.Bind(options.Z, pZ, "z"),
                Weight = call.Bind(options.Weight, pWeight, "weight"),
                Bias = call.Bind(options.Bias, pBias, "bias"),
                Rstd = call.Bind(options.Rstd, pRstd, "rstd"),
            };
            Check(workspace is null
                ? NativeMethods.GatedRmsNorm(Handle, &args)
                : NativeMethods.GatedRmsNormWorkspace(Handle, &args, workspace));
        }
    }
}
