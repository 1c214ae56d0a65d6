using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What the gradients of a selective scan are made from and where they go. Default values are absent; an absent
/// gradient is not computed.</summary>
public ref struct SelectiveScanBackwardOptions
{
    /// <summary>As in the forward call.</summary>
    public bool DtSoftplus;

    /// <summary>(D), as in the forward call; zero if absent.</summary>
    public ReadOnlyTensorView D;

    /// <summary>(B,D,L), as in the forward call; without it y is not gated.</summary>
    public ReadOnlyTensorView Z;

    /// <summary>(D), as in the forward call; zero if absent.</summary>
    public ReadOnlyTensorView DtBias;

    /// <summary>(R,D,N), as in the forward call; zero if absent. R is the number of packed sequences, otherwise B.</summary>
    public ReadOnlyTensorView InitialState;

    /// <summary>(S+1) of long, as in the forward call.</summary>
    public ReadOnlyTensorView CuSeqlens;

    /// <summary>(B,L) of int, as in the forward call; gradients are 0 where it is negative.</summary>
    public ReadOnlyTensorView SeqIdx;

    /// <summary>(R,D,N) of the type of a: the gradient of the loss by the last state; zero if absent.</summary>
    public ReadOnlyTensorView GradLastState;

    /// <summary>Output (B,D,L) of the type of u.</summary>
    public TensorView GradU;

    /// <summary>Output (B,D,L) of the type of u.</summary>
    public TensorView GradDt;

    /// <summary>Output (D,N) of the type of a; this and what follows is zero where there is no step.</summary>
    public TensorView GradA;

    /// <summary>Output of the shape and type of b.</summary>
    public TensorView GradB;

    /// <summary>Output of the shape and type of c.</summary>
    public TensorView GradC;

    /// <summary>Output (D) of the state type of u.</summary>
    public TensorView GradD;

    /// <summary>Output (B,D,L) of the type of u; wants <see cref="Z"/>.</summary>
    public TensorView GradZ;

    /// <summary>Output (D) of the state type of u.</summary>
    public TensorView GradDtBias;

    /// <summary>Output (R,D,N) of the type of a.</summary>
    public TensorView GradInitialState;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>The gradients of <see cref="SelectiveScan(in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in SelectiveScanOptions)"/>.
    /// With gy = grad_y silu(z), e_t = exp(s_t a) and g_t = gy_t conj(c_t) + conj(e_{t+1}) g_{t+1} (twice gy where a is complex):
    /// grad_b = s u g and grad_c = gy conj(h), summed over the channels of a group, grad_a = sum s g conj(e h_{t-1}). The states
    /// are computed again. Sums are made in a fixed order. For complex x, grad_x is dL/dRe(x) + i dL/dIm(x).</summary>
    /// <param name="u">(B,D,L), as in the forward call.</param>
    /// <param name="dt">(B,D,L), as in the forward call.</param>
    /// <param name="a">(D,N), as in the forward call.</param>
    /// <param name="b">(B,G,N,L) or (D,N), as in the forward call.</param>
    /// <param name="c">As b.</param>
    /// <param name="gradY">(B,D,L) of the type of u: the gradient of the loss by y.</param>
    /// <param name="options">The other tensors of the forward call, and the gradients wanted.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void SelectiveScanBackward(in ReadOnlyTensorView u, in ReadOnlyTensorView dt, in ReadOnlyTensorView a,
        in ReadOnlyTensorView b, in ReadOnlyTensorView c, in ReadOnlyTensorView gradY, in SelectiveScanBackwardOptions options) =>
        SelectiveScanBackward(u, dt, a, b, c, gradY, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="SelectiveScanBackward(in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in SelectiveScanBackwardOptions)"/>
    /// <returns>Bytes.</returns>
    public long SelectiveScanBackwardWorkspace(in ReadOnlyTensorView u, in ReadOnlyTensorView dt, in ReadOnlyTensorView a,
        in ReadOnlyTensorView b, in ReadOnlyTensorView c, in ReadOnlyTensorView gradY, in SelectiveScanBackwardOptions options)
    {
        ulong bytes;
        SelectiveScanBackward(u, dt, a, b, c, gradY, options, &bytes);
        return (long)bytes;
    }

    private void SelectiveScanBackward(in ReadOnlyTensorView u, in ReadOnlyTensorView dt, in ReadOnlyTensorView a,
        in ReadOnlyTensorView b, in ReadOnlyTensorView c, in ReadOnlyTensorView gradY, in SelectiveScanBackwardOptions options,
        ulong* workspace)
    {
        fixed (byte* pu = u, pdt = dt, pa = a, pb = b, pc = c, pGradY = gradY, pd = options.D, pz = options.Z,
               pDtBias = options.DtBias, pInitialState = options.InitialState, pCuSeqlens = options.CuSeqlens,
               pGradLastState = options.GradLastState, pGradU = options.GradU, pGradDt = options.GradDt, pGradA = options.GradA,
               pGradB = options.GradB, pGradC = options.GradC, pGradD = options.GradD, pGradZ = options.GradZ,
               pGradDtBias = options.GradDtBias, pGradInitialState = options.GradInitialState,
               pSeqIdx = options.SeqIdx)
        {
            using var call = new Call(this);
            SsmSelectiveScanBackwardArgs args = new()
            {
                StructSize = (uint)sizeof(SsmSelectiveScanBackwardArgs),
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
                GradY = call.Bind(gradY, pGradY, "grad_y"),
                GradLastState = call.Bind(options.GradLastState, pGradLastState, "grad_last_state"),
                GradU = call.Bind(options.GradU, pGradU, "grad_u"),
                GradDt = call.Bind(options.GradDt, pGradDt, "grad_dt"),
                GradA = call.Bind(options.GradA, pGradA, "grad_a"),
                GradB = call.Bind(options.GradB, pGradB, "grad_b"),
                GradC = call.Bind(options.GradC, pGradC, "grad_c"),
                GradD = call.Bind(options.GradD, pGradD, "grad_d"),
                GradZ = call.Bind(options.GradZ, pGradZ, "grad_z"),
                GradDtBias = call.Bind(options.GradDtBias, pGradDtBias, "grad_dt_bias"),
                GradInitialState = call.Bind(options.GradInitialState, pGradInitialState, "grad_initial_state"),
                SeqIdx = call.Bind(options.SeqIdx, pSeqIdx, "seq_idx"),
            };
            Check(workspace is null
                ? NativeMethods.SelectiveScanBackward(Handle, &args)
                : NativeMethods.SelectiveScanBackwardWorkspace(Handle, &args, workspace));
        }
    }
}
