using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What Mamba-2's state space duality may be told beyond its required tensors. Default values are absent.</summary>
public ref struct SsdOptions
{
    /// <summary>s = log(1 + exp(dt + dt_bias)) instead of dt + dt_bias.</summary>
    public bool DtSoftplus;

    /// <summary>Steps that are computed together, at most; 0: chosen. Results depend on it by rounding alone.</summary>
    public long ChunkSize;

    /// <summary>The least that s may be; 0: no limit.</summary>
    public double DtMin;

    /// <summary>The most that s may be, at least DtMin; 0: no limit.</summary>
    public double DtMax;

    /// <summary>(H) or (H,P) of the state type of x (float for Half and BFloat16, otherwise the type of x): the skip connection;
    /// zero if absent.</summary>
    public ReadOnlyTensorView D;

    /// <summary>(B,L,H,P) of the type of x: the gate, through silu; without it y is not gated.</summary>
    public ReadOnlyTensorView Z;

    /// <summary>(H) of the state type of x; zero if absent.</summary>
    public ReadOnlyTensorView DtBias;

    /// <summary>(R,H,P,N) of the state type of x; zero if absent. Kept whatever the first SeqIdx is. R is the number of packed
    /// sequences, otherwise B.</summary>
    public ReadOnlyTensorView InitialState;

    /// <summary>(B,L) of int: where it differs from the step before, the state restarts from zero. Numbers may come
    /// back.</summary>
    public ReadOnlyTensorView SeqIdx;

    /// <summary>(S+1) of long: where packed sequences start and end; B is 1 then, and time is their
    /// concatenation.</summary>
    public ReadOnlyTensorView CuSeqlens;

    /// <summary>Output (R,H,P,N) of the state type of x: h after the last step.</summary>
    public TensorView LastState;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>Mamba-2's state space duality (Dao and Gu 2024, arXiv 2405.21060, section 6), chunk by chunk as matrix products:
    /// s = dt + dt_bias, through softplus and limits where asked; h_t = exp(s a) h_{t-1} + s x_t b_t^T;
    /// y_t = (h_t c_t + d x_t) silu(z_t). Head i reads group i / (H/G).</summary>
    /// <param name="x">(B,L,H,P) of float, double, Half or BFloat16.</param>
    /// <param name="dt">(B,L,H) of the type of x.</param>
    /// <param name="a">(H) of the state type of x (float for Half and BFloat16, otherwise the type of x).</param>
    /// <param name="b">(B,L,G,N) of the type of x.</param>
    /// <param name="c">(B,L,G,N) of the type of x.</param>
    /// <param name="y">Output (B,L,H,P) of the type of x.</param>
    /// <param name="options">Everything else.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void Ssd(in ReadOnlyTensorView x, in ReadOnlyTensorView dt, in ReadOnlyTensorView a, in ReadOnlyTensorView b,
        in ReadOnlyTensorView c, in TensorView y, in SsdOptions options = default) => Ssd(x, dt, a, b, c, y, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="Ssd(in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in SsdOptions)"/>
    /// <returns>Bytes.</returns>
    public long SsdWorkspace(in ReadOnlyTensorView x, in ReadOnlyTensorView dt, in ReadOnlyTensorView a,
        in ReadOnlyTensorView b, in ReadOnlyTensorView c, in TensorView y, in SsdOptions options = default)
    {
        ulong bytes;
        Ssd(x, dt, a, b, c, y, options, &bytes);
        return (long)bytes;
    }

    private void Ssd(in ReadOnlyTensorView x, in ReadOnlyTensorView dt, in ReadOnlyTensorView a, in ReadOnlyTensorView b,
        in ReadOnlyTensorView c, in TensorView y, in SsdOptions options, ulong* workspace)
    {
        fixed (byte* px = x, pdt = dt, pa = a, pb = b, pc = c, py = y, pd = options.D, pz = options.Z, pDtBias = options.DtBias,
               pInitialState = options.InitialState, pSeqIdx = options.SeqIdx, pCuSeqlens = options.CuSeqlens,
               pLastState = options.LastState)
        {
            using var call = new Call(this);
            SsmSsdArgs args = new()
            {
                StructSize = (uint)sizeof(SsmSsdArgs),
                DtSoftplus = options.DtSoftplus ? 1 : 0,
                ChunkSize = options.ChunkSize,
                DtMin = options.DtMin,
                DtMax = options.DtMax,
                X = call.Bind(x, px, "x"),
                Dt = call.Bind(dt, pdt, "dt"),
                A = call.Bind(a, pa, "a"),
                B = call.Bind(b, pb, "b"),
                C = call.Bind(c, pc, "c"),
                D = call.Bind(options.D, pd, "d"),
                Z = call.Bind(options.Z, pz, "z"),
                DtBias = call.Bind(options.DtBias, pDtBias, "dt_bias"),
                InitialState = call.Bind(options.InitialState, pInitialState, "initial_state"),
                SeqIdx = call.Bind(options.SeqIdx, pSeqIdx, "seq_idx"),
                CuSeqlens = call.Bind(options.CuSeqlens, pCuSeqlens, "cu_seqlens"),
                Y = call.Bind(y, py, "y"),
                LastState = call.Bind(options.LastState, pLastState, "last_state"),
            };
            Check(workspace is null
                ? NativeMethods.Ssd(Handle, &args)
                : NativeMethods.SsdWorkspace(Handle, &args, workspace));
        }
    }
}
