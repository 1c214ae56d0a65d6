using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What the sums of exponentials may be told beyond their tensors.</summary>
public ref struct VandermondeMultiplyOptions
{
    /// <summary>v and x are half of the states, the rest their conjugates; y is real.</summary>
    public bool ConjugatePairs;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>The sums of exponentials y_l = sum_n v_n exp(x_n l), l from 0 to L-1, of each row; with conjugate pairs
    /// the real 2 Re(...). Phases are reduced in double precision, so that float keeps its accuracy at any
    /// length.</summary>
    /// <param name="v">(H,N) of Complex64 or Complex.</param>
    /// <param name="x">(H,N) of the type of v.</param>
    /// <param name="y">Output (H,L) of the type of v, with conjugate_pairs the real type of that precision.</param>
    /// <param name="options">Settings and the optional tensors.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void VandermondeMultiply(in ReadOnlyTensorView v, in ReadOnlyTensorView x, in TensorView y,
        in VandermondeMultiplyOptions options = default) =>
        VandermondeMultiply(v, x, y, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="VandermondeMultiply(in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in VandermondeMultiplyOptions)"/>
    /// <returns>Bytes.</returns>
    public long VandermondeMultiplyWorkspace(in ReadOnlyTensorView v, in ReadOnlyTensorView x, in TensorView y,
        in VandermondeMultiplyOptions options = default)
    {
        ulong bytes;
        VandermondeMultiply(v, x, y, options, &bytes);
        return (long)bytes;
    }

    private void VandermondeMultiply(in ReadOnlyTensorView v, in ReadOnlyTensorView x, in TensorView y,
        in VandermondeMultiplyOptions options, ulong* workspace)
    {
        fixed (byte* pV = v, pX = x, pY = y)
        {
            using var call = new Call(this);
            SsmVandermondeMultiplyArgs args = new()
            {
                StructSize = (uint)sizeof(SsmVandermondeMultiplyArgs),
                ConjugatePairs = options.ConjugatePairs ? 1 : 0,
                V = call.Bind(v, pV, "v"),
                X = call.Bind(x, pX, "x"),
                Y = call.Bind(y, pY, "y"),
            };
            Check(workspace is null
                ? NativeMethods.VandermondeMultiply(Handle, &args)
                : NativeMethods.VandermondeMultiplyWorkspace(Handle, &args, workspace));
        }
    }
}
