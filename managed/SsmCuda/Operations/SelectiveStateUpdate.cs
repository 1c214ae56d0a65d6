using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What a state update may be told beyond its required tensors. Default values are absent.</summary>
public ref struct SelectiveStateUpdateOptions
{
    /// <summary>s = log(1 + exp(dt + dt_bias)) instead of dt + dt_bias.</summary>
    public bool DtSoftplus;

    /// <summary>(D), or with heads (H), of the state type of x (float for Half and BFloat16, otherwise the type of x): the
    /// skip connection; zero if absent.</summary>
    public ReadOnlyTensorView D;

    /// <summary>Of the type and shape of x: the gate, through silu; without it y is not gated.</summary>
    public ReadOnlyTensorView Z;

    /// <summary>(D), or with heads (H), of the state type of x; zero if absent.</summary>
    public ReadOnlyTensorView DtBias;

    /// <summary>(B) of int: the row of the state that each element of the batch has. -1 skips it: no state is read or
    /// written and y is zero. Two elements with one row are an error on the CPU and where the
    /// context checks, and otherwise leave an unspecified state. Without slots the state has B rows.</summary>
    public ReadOnlyTensorView Slots;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>One step of a selective scan, or T of them, on a state that is updated where it lies: what a model runs for
    /// each new token. s = dt + dt_bias, through softplus where asked; state = exp(s a) state + s b x;
    /// y = (state . c + d x) silu(z).
    /// With a state of rank 3 it is Mamba-1's (Gu and Dao 2023, arXiv 2312.00752), shaped as
    /// <see cref="SelectiveScan(in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in SelectiveScanOptions)"/>:
    /// channel i reads group i / (D/G), and time, where there is such an axis, is the last. With a state of rank 4 it is
    /// Mamba-2's (Dao and Gu 2024, arXiv 2405.21060): heads of P channels with one a, dt, d and dt_bias each; head i reads
    /// group i / (H/G), and time is the second axis.</summary>
    /// <param name="state">Input and output (K,D,N) or (K,H,P,N) of float, Half or BFloat16, whatever x is; of double if and
    /// only if x is. K is B where there are no slots. Half and BFloat16 are rounded once, after the last step.</param>
    /// <param name="x">(B,D), (B,D,T), (B,H,P) or (B,T,H,P) of float, double, Half or BFloat16.</param>
    /// <param name="dt">(B,D), (B,D,T), (B,H) or (B,T,H) of the type of x.</param>
    /// <param name="a">(D,N), or with heads (H), of the state type of x.</param>
    /// <param name="b">(B,G,N), with time (B,G,N,T), or with heads and time (B,T,G,N), of the type of x.</param>
    /// <param name="c">As b.</param>
    /// <param name="y">Output of the type and shape of x; may be x or z.</param>
    /// <param name="options">The optional tensors.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void SelectiveStateUpdate(in TensorView state, in ReadOnlyTensorView x, in ReadOnlyTensorView dt,
        in ReadOnlyTensorView a, in ReadOnlyTensorView b, in ReadOnlyTensorView c, in TensorView y,
        in SelectiveStateUpdateOptions options = default) =>
        SelectiveStateUpdate(state, x, dt, a, b, c, y, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="SelectiveStateUpdate(in TensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in SelectiveStateUpdateOptions)"/>
    /// <returns>Bytes.</returns>
    public long SelectiveStateUpdateWorkspace(in TensorView state, in ReadOnlyTensorView x, in ReadOnlyTensorView dt,
        in ReadOnlyTensorView a, in ReadOnlyTensorView b, in ReadOnlyTensorView c, in TensorView y,
        in SelectiveStateUpdateOptions options = default)
    {
        ulong bytes;
        SelectiveStateUpdate(state, x, dt, a, b, c, y, options, &bytes);
        return (long)bytes;
    }

    private void SelectiveStateUpdate(in TensorView state, in ReadOnlyTensorView x, in ReadOnlyTensorView dt,
        in ReadOnlyTensorView a, in ReadOnlyTensorView b, in ReadOnlyTensorView c, in TensorView y,
        in SelectiveStateUpdateOptions options, ulong* workspace)
    {
        fixed (byte* pState = state, px = x, pdt = dt, pa = a, pb = b, pc = c, py = y, pd = options.D, pz = options.Z,
               pDtBias = options.DtBias, pSlots = options.Slots)
        {
            using var call = new Call(this);
            SsmSelectiveStateUpdateArgs args = new()
            {
                StructSize = (uint)sizeof(SsmSelectiveStateUpdateArgs),
                DtSoftplus = options.DtSoftplus ? 1 : 0,
                State = call.Bind(state, pState, "state"),
                X = call.Bind(x, px, "x"),
                Dt = call.Bind(dt, pdt, "dt"),
                A = call.Bind(a, pa, "a"),
                B = call.Bind(b, pb, "b"),
                C = call.Bind(c, pc, "c"),
                D = call.Bind(options.D, pd, "d"),
                Z = call.Bind(options.Z, pz, "z"),
                DtBias = call.Bind(options.DtBias, pDtBias, "dt_bias"),
                Slots = call.Bind(options.Slots, pSlots, "slots"),
                Y = call.Bind(y, py, "y"),
            };
            Check(workspace is null
                ? NativeMethods.SelectiveStateUpdate(Handle, &args)
                : NativeMethods.SelectiveStateUpdateWorkspace(Handle, &args, workspace));
        }
    }
}
