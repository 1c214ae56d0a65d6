using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What a selective scan may be told beyond its required tensors. Default values are absent.</summary>
public ref struct SelectiveScanOptions
{
    /// <summary>s = log(1 + exp(dt + dt_bias)) instead of dt + dt_bias.</summary>
    public bool DtSoftplus;

    /// <summary>(D) of the state type of u (float for Half and BFloat16, otherwise the type of u): the skip connection; zero
    /// if absent.</summary>
    public ReadOnlyTensorView D;

    /// <summary>(B,D,L) of the type of u: the gate, through silu; without it y is not gated.</summary>
    public ReadOnlyTensorView Z;

    /// <summary>(D) of the state type of u; zero if absent.</summary>
    public ReadOnlyTensorView DtBias;

    /// <summary>(R,D,N) of the type of a; zero if absent. R is the number of packed sequences, otherwise B.</summary>
    public ReadOnlyTensorView InitialState;

    /// <summary>(S+1) of long: where packed sequences start and end; B is 1 then, and time is their
    /// concatenation.</summary>
    public ReadOnlyTensorView CuSeqlens;

    /// <summary>(B,L) of int: the sequence that each step belongs to. Where it differs from the id of the step before, padding
    /// passed over, the sequence starts anew; an id may come back. The first id of a row keeps the initial state. A negative id
    /// is padding: the step is as though absent, whatever it holds, and y is 0 there. Not beside CuSeqlens.</summary>
    public ReadOnlyTensorView SeqIdx;

    /// <summary>Output (R,D,N) of the type of a: the state after the last step.</summary>
    public TensorView LastState;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>Mamba-1's selective scan (Gu and Dao 2023, arXiv 2312.00752, algorithm 2): s = dt + dt_bias, through softplus
    /// where asked; h_t = exp(s a) h_{t-1} + s b_t u_t; y = (h_t . c_t + d u) silu(z). Channel i reads group i / (D/G). With
    /// a complex a the states are complex and y takes 2 Re(h_t . c_t).</summary>
    /// <param name="u">(B,D,L) of float, double, Half or BFloat16.</param>
    /// <param name="dt">(B,D,L) of the type of u; Mamba's delta.</param>
    /// <param name="a">(D,N) of the state type of u (float for Half and BFloat16, otherwise the type of u) or the complex
    /// type of that precision.</param>
    /// <param name="b">(B,G,N,L) of the type of u, or of a where that is complex; or constant, (D,N) of the type of a.</param>
    /// <param name="c">As b.</param>
    /// <param name="y">Output (B,D,L) of the type of u.</param>
    /// <param name="options">The optional tensors.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void SelectiveScan(in ReadOnlyTensorView u, in ReadOnlyTensorView dt, in ReadOnlyTensorView a,
        in ReadOnlyTensorView b, in ReadOnlyTensorView c, in TensorView y, in SelectiveScanOptions options = default) =>
        SelectiveScan(u, dt, a, b, c, y, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="SelectiveScan(in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in SelectiveScanOptions)"/>
    /// <returns>Bytes.</returns>
    public long SelectiveScanWorkspace(in ReadOnlyTensorView u, in ReadOnlyTensorView dt, in ReadOnlyTensorView a,
        in ReadOnlyTensorView b, in ReadOnlyTensorView c, in TensorView y, in SelectiveScanOptions options = default)
    {
        ulong bytes;
        SelectiveScan(u, dt, a, b, c, y, options, &bytes);
        return (long)bytes;
    }

    private void SelectiveScan(in ReadOnlyTensorView u, in ReadOnlyTensorView dt, in ReadOnlyTensorView a,
        in ReadOnlyTensorView b, in ReadOnlyTensorView c, in TensorView y, in SelectiveScanOptions options, ulong* workspace)
    {
        fixed (byte* pu = u, pdt = dt, pa = a, pb = b, pc = c, py = y, pd = options.D, pz = options.Z, pDtBias = options.DtBias,
               pInitialState = options.InitialState, pCuSeqlens = options.CuSeqlens, pLastState = options.LastState,
               pSeqIdx = options.SeqIdx)
        {
            using var call = new Call(this);
            SsmSelectiveScanArgs args = new()
            {
                StructSize = (uint)sizeof(SsmSelectiveScanArgs),
                DtSoftplus = options.DtSoftplus ? 1 : 0,
                U = call.Bind(u, pu, "u"),
                Dt = call.Bind(dt, pdt, "dt"),
                A = call.Bind(a, pa, "a"),
                B = call.Bind(b, pb, "b"),
                C = call.Bind(c, pc, "c"),
                D = call.Bind(options.D, pd, "d"),
                Z = call.Bind(options.Z, pz, "z"),
                DtBias = call.Bind(options.DtBias, pDtBias, "dt_bias"),
                InitialState = call.Bind(options.InitialState, pInitialState, "initial_state"),
                CuSeqlens = call.Bind(options.CuSeqlens, pCuSeqlens, "cu_seqlens"),
                Y = call.Bind(y, py, "y"),
                LastState = call.Bind(options.LastState, pLastState, "last_state"),
                SeqIdx = call.Bind(options.SeqIdx, pSeqIdx, "seq_idx"),
            };
            Check(workspace is null
                ? NativeMethods.SelectiveScan(Handle, &args)
                : NativeMethods.SelectiveScanWorkspace(Handle, &args, workspace));
        }
    }
}
