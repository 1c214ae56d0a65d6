using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What the sums over poles may be told beyond their tensors.</summary>
public ref struct CauchyMultiplyOptions
{
    /// <summary>v and w are half of the states, the rest their conjugates.</summary>
    public bool ConjugatePairs;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>The sums over poles y_l = sum_n v_n / (z_l - w_n) of each row, of S4's generating function (Gu, Goel and
    /// Re 2022, arXiv 2111.00396, algorithm 1); with conjugate pairs + conj(v_n) / (z_l - conj(w_n)). Each term is right
    /// to a few roundings however near z lies to w.</summary>
    /// <param name="v">(H,N) of Complex64 or Complex.</param>
    /// <param name="w">(H,N) of the type of v; the poles.</param>
    /// <param name="z">(L) of the type of v; the nodes, shared by the rows.</param>
    /// <param name="y">Output (H,L) of the type of v.</param>
    /// <param name="options">Settings and the optional tensors.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void CauchyMultiply(in ReadOnlyTensorView v, in ReadOnlyTensorView w, in ReadOnlyTensorView z,
        in TensorView y, in CauchyMultiplyOptions options = default) =>
        CauchyMultiply(v, w, z, y, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="CauchyMultiply(in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in CauchyMultiplyOptions)"/>
    /// <returns>Bytes.</returns>
    public long CauchyMultiplyWorkspace(in ReadOnlyTensorView v, in ReadOnlyTensorView w, in ReadOnlyTensorView z,
        in TensorView y, in CauchyMultiplyOptions options = default)
    {
        ulong bytes;
        CauchyMultiply(v, w, z, y, options, &bytes);
        return (long)bytes;
    }

    private void CauchyMultiply(in ReadOnlyTensorView v, in ReadOnlyTensorView w, in ReadOnlyTensorView z,
        in TensorView y, in CauchyMultiplyOptions options, ulong* workspace)
    {
        fixed (byte* pV = v, pW = w, pZ = z, pY = y)
        {
            using var call = new Call(this);
            SsmCauchyMultiplyArgs args = new()
            {
                StructSize = (uint)sizeof(SsmCauchyMultiplyArgs),
                ConjugatePairs = options.ConjugatePairs ? 1 : 0,
                V = call.Bind(v, pV, "v"),
                W = call.Bind(w, pW, "w"),
                Z = call.Bind(z, pZ, "z"),
                Y = call.Bind(y, pY, "y"),
            };
            Check(workspace is null
                ? NativeMethods.CauchyMultiply(Handle, &args)
                : NativeMethods.CauchyMultiplyWorkspace(Handle, &args, workspace));
        }
    }
}
