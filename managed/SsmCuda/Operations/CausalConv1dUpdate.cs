using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What a step of the short convolution may be told beyond its required tensors. Default values are
/// absent.</summary>
public ref struct CausalConv1dUpdateOptions
{
    /// <summary>What the sum goes through.</summary>
    public SsmActivation Activation;

    /// <summary>(D) of the state type of x (float for Half and BFloat16, otherwise the type of x); zero if absent.</summary>
    public ReadOnlyTensorView Bias;

    /// <summary>(B) of int: the row of the state that each element of the batch has. -1 skips it: no state is read or
    /// written and y is zero. Two elements with one row are an error on the CPU and where the
    /// context checks, and otherwise leave an unspecified state. Without slots the state has B rows.</summary>
    public ReadOnlyTensorView Slots;

    /// <summary>(B) of int: the steps that came before. The state is a ring then: step t of a row lies at
    /// (CacheSeqlens[row] + t) mod S, and nothing else moves.</summary>
    public ReadOnlyTensorView CacheSeqlens;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>One step of
    /// <see cref="CausalConv1d(in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in CausalConv1dOptions)"/>, or T of
    /// them, on a state that is updated where it lies: what a model runs for each new token. The state holds the last S steps
    /// of each channel, oldest first, or is a ring (<see cref="CausalConv1dUpdateOptions.CacheSeqlens"/>).</summary>
    /// <param name="state">Input and output (K,D,S), S at least W-1, of float, Half or BFloat16, whatever x is; of double if and
    /// only if x is. K is B where there are no slots.</param>
    /// <param name="x">(B,D) or (B,D,T) of float, double, Half or BFloat16.</param>
    /// <param name="weight">(D,W) of the state type of x (float for Half and BFloat16, otherwise the type of x); W is 1 to 256,
    /// and the last weight meets the step itself.</param>
    /// <param name="y">Output of the type and shape of x; may be x.</param>
    /// <param name="options">Activation and the optional tensors.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void CausalConv1dUpdate(in TensorView state, in ReadOnlyTensorView x, in ReadOnlyTensorView weight,
        in TensorView y, in CausalConv1dUpdateOptions options = default) =>
        CausalConv1dUpdate(state, x, weight, y, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="CausalConv1dUpdate(in TensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in CausalConv1dUpdateOptions)"/>
    /// <returns>Bytes.</returns>
    public long CausalConv1dUpdateWorkspace(in TensorView state, in ReadOnlyTensorView x, in ReadOnlyTensorView weight,
        in TensorView y, in CausalConv1dUpdateOptions options = default)
    {
        ulong bytes;
        CausalConv1dUpdate(state, x, weight, y, options, &bytes);
        return (long)bytes;
    }

    private void CausalConv1dUpdate(in TensorView state, in ReadOnlyTensorView x, in ReadOnlyTensorView weight,
        in TensorView y, in CausalConv1dUpdateOptions options, ulong* workspace)
    {
        fixed (byte* pState = state, px = x, pWeight = weight, py = y, pBias = options.Bias, pSlots = options.Slots,
               pCacheSeqlens = options.CacheSeqlens)
        {
            using var call = new Call(this);
            SsmCausalConv1dUpdateArgs args = new()
            {
                StructSize = (uint)sizeof(SsmCausalConv1dUpdateArgs),
                Activation = options.Activation,
                State = call.Bind(state, pState, "state"),
                X = call.Bind(x, px, "x"),
                Weight = call.Bind(weight, pWeight, "weight"),
                Bias = call.Bind(options.Bias, pBias, "bias"),
                Slots = call.Bind(options.Slots, pSlots, "slots"),
                CacheSeqlens = call.Bind(options.CacheSeqlens, pCacheSeqlens, "cache_seqlens"),
                Y = call.Bind(y, py, "y"),
            };
            Check(workspace is null
                ? NativeMethods.CausalConv1dUpdate(Handle, &args)
                : NativeMethods.CausalConv1dUpdateWorkspace(Handle, &args, workspace));
        }
    }
}
