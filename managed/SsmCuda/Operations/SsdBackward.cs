using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What the gradients of Mamba-2's state space duality are made from and where they go. Default values are absent; an
/// absent gradient is not computed.</summary>
public ref struct SsdBackwardOptions
{
    /// <summary>As in the forward call.</summary>
    public bool DtSoftplus;

    /// <summary>Steps that are computed together, at most; 0: chosen. Results depend on it by rounding alone.</summary>
    public long ChunkSize;

    /// <summary>As in the forward call. Where s is at a limit, dt has no gradient.</summary>
    public double DtMin;

    /// <summary>As in the forward call.</summary>
    public double DtMax;

    /// <summary>(H) or (H,P), as in the forward call; zero if absent.</summary>
    public ReadOnlyTensorView D;

    /// <summary>(B,L,H,P), as in the forward call.</summary>
    public ReadOnlyTensorView Z;

    /// <summary>(H), as in the forward call; zero if absent.</summary>
    public ReadOnlyTensorView DtBias;

    /// <summary>(R,H,P,N), as in the forward call; zero if absent. R is the number of packed sequences, otherwise B; the type is
    /// float for Half and BFloat16 tensors and the type of x for others.</summary>
    public ReadOnlyTensorView InitialState;

    /// <summary>(B,L) of int, as in the forward call.</summary>
    public ReadOnlyTensorView SeqIdx;

    /// <summary>(S+1) of long, as in the forward call.</summary>
    public ReadOnlyTensorView CuSeqlens;

    /// <summary>(R,H,P,N): the gradient of the loss by the last state; zero if absent.</summary>
    public ReadOnlyTensorView GradLastState;

    /// <summary>Output (B,L,H,P) of the type of x.</summary>
    public TensorView GradX;

    /// <summary>Output (B,L,H) of the type of x.</summary>
    public TensorView GradDt;

    /// <summary>Output (H) of the type of a; zero where there is no step.</summary>
    public TensorView GradA;

    /// <summary>Output (B,L,G,N) of the type of x: the sum over the heads of a group.</summary>
    public TensorView GradB;

    /// <summary>Output (B,L,G,N) of the type of x: the sum over the heads of a group.</summary>
    public TensorView GradC;

    /// <summary>Output (H) or (H,P) of the type of a, shaped as d where that is given; zero where there is no step.</summary>
    public TensorView GradD;

    /// <summary>Output (B,L,H,P) of the type of x; needs z.</summary>
    public TensorView GradZ;

    /// <summary>Output (H) of the type of a; zero where there is no step.</summary>
    public TensorView GradDtBias;

    /// <summary>Output (R,H,P,N), of the type of the initial state.</summary>
    public TensorView GradInitialState;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>The gradients of <see cref="Ssd(in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in SsdOptions)"/>.
    /// The states before chunks are computed again. Sums are made in a fixed order.</summary>
    /// <param name="x">(B,L,H,P), as in the forward call.</param>
    /// <param name="dt">(B,L,H), as in the forward call.</param>
    /// <param name="a">(H), as in the forward call.</param>
    /// <param name="b">(B,L,G,N), as in the forward call.</param>
    /// <param name="c">(B,L,G,N), as in the forward call.</param>
    /// <param name="gradY">(B,L,H,P) of the type of x: the gradient of the loss by y.</param>
    /// <param name="options">The other tensors of the forward call, and the gradients wanted.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void SsdBackward(in ReadOnlyTensorView x, in ReadOnlyTensorView dt, in ReadOnlyTensorView a,
        in ReadOnlyTensorView b, in ReadOnlyTensorView c, in ReadOnlyTensorView gradY, in SsdBackwardOptions options) =>
        SsdBackward(x, dt, a, b, c, gradY, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="SsdBackward(in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in SsdBackwardOptions)"/>
    /// <returns>Bytes.</returns>
    public long SsdBackwardWorkspace(in ReadOnlyTensorView x, in ReadOnlyTensorView dt, in ReadOnlyTensorView a,
        in ReadOnlyTensorView b, in ReadOnlyTensorView c, in ReadOnlyTensorView gradY, in SsdBackwardOptions options)
    {
        ulong bytes;
        SsdBackward(x, dt, a, b, c, gradY, options, &bytes);
        return (long)bytes;
    }

    private void SsdBackward(in ReadOnlyTensorView x, in ReadOnlyTensorView dt, in ReadOnlyTensorView a,
        in ReadOnlyTensorView b, in ReadOnlyTensorView c, in ReadOnlyTensorView gradY, in SsdBackwardOptions options,
        ulong* workspace)
    {
        fixed (byte* px = x, pdt = dt, pa = a, pb = b, pc = c, pGradY = gradY, pd = options.D, pz = options.Z,
               pDtBias = options.DtBias, pInitialState = options.InitialState, pSeqIdx = options.SeqIdx,
               pCuSeqlens = options.CuSeqlens, pGradLastState = options.GradLastState, pGradX = options.GradX,
               pGradDt = options.GradDt, pGradA = options.GradA, pGradB = options.GradB, pGradC = options.GradC,
               pGradD = options.GradD, pGradZ = options.GradZ, pGradDtBias = options.GradDtBias,
               pGradInitialState = options.GradInitialState)
        {
            using var call = new Call(this);
            SsmSsdBackwardArgs args = new()
            {
                StructSize = (uint)sizeof(SsmSsdBackwardArgs),
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
                GradY = call.Bind(gradY, pGradY, "grad_y"),
                GradLastState = call.Bind(options.GradLastState, pGradLastState, "grad_last_state"),
                GradX = call.Bind(options.GradX, pGradX, "grad_x"),
                GradDt = call.Bind(options.GradDt, pGradDt, "grad_dt"),
                GradA = call.Bind(options.GradA, pGradA, "grad_a"),
                GradB = call.Bind(options.GradB, pGradB, "grad_b"),
                GradC = call.Bind(options.GradC, pGradC, "grad_c"),
                GradD = call.Bind(options.GradD, pGradD, "grad_d"),
                GradZ = call.Bind(options.GradZ, pGradZ, "grad_z"),
                GradDtBias = call.Bind(options.GradDtBias, pGradDtBias, "grad_dt_bias"),
                GradInitialState = call.Bind(options.GradInitialState, pGradInitialState, "grad_initial_state"),
            };
            Check(workspace is null
                ? NativeMethods.SsdBackward(Handle, &args)
                : NativeMethods.SsdBackwardWorkspace(Handle, &args, workspace));
        }
    }
}
