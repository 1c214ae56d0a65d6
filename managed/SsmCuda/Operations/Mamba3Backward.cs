using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What the gradients of Mamba-3's recurrence are made from and where they go. Default values are absent; an
/// absent gradient is not computed. Gradients of parameters are zero where there is no step.</summary>
public ref struct Mamba3BackwardOptions
{
    /// <summary>As in the forward call.</summary>
    public bool DtSoftplus;

    /// <summary>(B,L,J,A), as in the forward call.</summary>
    public ReadOnlyTensorView Angles;

    /// <summary>(H,N), as in the forward call.</summary>
    public ReadOnlyTensorView BBias;

    /// <summary>(H,N), as in the forward call.</summary>
    public ReadOnlyTensorView CBias;

    /// <summary>(H) or (H,P), as in the forward call.</summary>
    public ReadOnlyTensorView D;

    /// <summary>(B,L,H,P), as in the forward call.</summary>
    public ReadOnlyTensorView Z;

    /// <summary>(H), as in the forward call.</summary>
    public ReadOnlyTensorView DtBias;

    /// <summary>(R,H,P,N), as in the forward call.</summary>
    public ReadOnlyTensorView InitialState;

    /// <summary>(R,H,A), as in the forward call.</summary>
    public ReadOnlyTensorView InitialAngle;

    /// <summary>(R,H,N), as in the forward call.</summary>
    public ReadOnlyTensorView InitialB;

    /// <summary>(R,H,P), as in the forward call.</summary>
    public ReadOnlyTensorView InitialX;

    /// <summary>(S+1), as in the forward call.</summary>
    public ReadOnlyTensorView CuSeqlens;

    /// <summary>(R,H,P,N): the gradient of the loss by it; zero if absent.</summary>
    public ReadOnlyTensorView GradLastState;

    /// <summary>(R,H,A): the gradient of the loss by it; zero if absent.</summary>
    public ReadOnlyTensorView GradLastAngle;

    /// <summary>(R,H,N): the gradient of the loss by it; zero if absent.</summary>
    public ReadOnlyTensorView GradLastB;

    /// <summary>(R,H,P): the gradient of the loss by it; zero if absent.</summary>
    public ReadOnlyTensorView GradLastX;

    /// <summary>Output (B,L,H,P) of the type of x.</summary>
    public TensorView GradX;

    /// <summary>Output (B,L,H) of the type of x.</summary>
    public TensorView GradDt;

    /// <summary>Output shaped as a and of its type.</summary>
    public TensorView GradA;

    /// <summary>Output (B,L,G,N) of the type of x: the sum over the heads of a group.</summary>
    public TensorView GradB;

    /// <summary>Output (B,L,G,N) of the type of x: the sum over the heads of a group.</summary>
    public TensorView GradC;

    /// <summary>Output (B,L,H) of the type of x.</summary>
    public TensorView GradTrap;

    /// <summary>Output (B,L,J,A) of the type of x. Needs Angles.</summary>
    public TensorView GradAngles;

    /// <summary>Output (H,N) of the type of a.</summary>
    public TensorView GradBBias;

    /// <summary>Output (H,N) of the type of a.</summary>
    public TensorView GradCBias;

    /// <summary>Output (H) or (H,P) of the type of a, shaped as d where that is given.</summary>
    public TensorView GradD;

    /// <summary>Output (B,L,H,P) of the type of x; needs z.</summary>
    public TensorView GradZ;

    /// <summary>Output (H) of the type of a.</summary>
    public TensorView GradDtBias;

    /// <summary>Output (R,H,P,N) of the type of a.</summary>
    public TensorView GradInitialState;

    /// <summary>Output (R,H,A) of the type of a. Needs Angles.</summary>
    public TensorView GradInitialAngle;

    /// <summary>Output (R,H,N) of the type of a.</summary>
    public TensorView GradInitialB;

    /// <summary>Output (R,H,P) of the type of a.</summary>
    public TensorView GradInitialX;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>The gradients of <see cref="Mamba3(in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in Mamba3Options)"/>.
    /// The states before chunks are computed again. Sums are made in a fixed order.</summary>
    /// <param name="x">(B,L,H,P), as in the forward call.</param>
    /// <param name="dt">(B,L,H), as in the forward call.</param>
    /// <param name="a">(H) or (B,L,H), as in the forward call.</param>
    /// <param name="b">(B,L,G,N), as in the forward call.</param>
    /// <param name="c">(B,L,G,N), as in the forward call.</param>
    /// <param name="trap">(B,L,H), as in the forward call.</param>
    /// <param name="gradY">(B,L,H,P) of the type of x: the gradient of the loss by y.</param>
    /// <param name="options">The other tensors of the forward call, and the gradients wanted.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void Mamba3Backward(in ReadOnlyTensorView x, in ReadOnlyTensorView dt, in ReadOnlyTensorView a,
        in ReadOnlyTensorView b, in ReadOnlyTensorView c, in ReadOnlyTensorView trap, in ReadOnlyTensorView gradY,
        in Mamba3BackwardOptions options) =>
        Mamba3Backward(x, dt, a, b, c, trap, gradY, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="Mamba3Backward(in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in Mamba3BackwardOptions)"/>
    /// <returns>Bytes.</returns>
    public long Mamba3BackwardWorkspace(in ReadOnlyTensorView x, in ReadOnlyTensorView dt, in ReadOnlyTensorView a,
        in ReadOnlyTensorView b, in ReadOnlyTensorView c, in ReadOnlyTensorView trap, in ReadOnlyTensorView gradY,
        in Mamba3BackwardOptions options)
    {
        ulong bytes;
        Mamba3Backward(x, dt, a, b, c, trap, gradY, options, &bytes);
        return (long)bytes;
    }

    private void Mamba3Backward(in ReadOnlyTensorView x, in ReadOnlyTensorView dt, in ReadOnlyTensorView a,
        in ReadOnlyTensorView b, in ReadOnlyTensorView c, in ReadOnlyTensorView trap, in ReadOnlyTensorView gradY,
        in Mamba3BackwardOptions options, ulong* workspace)
    {
        fixed (byte* pX = x, pDt = dt, pA = a, pB = b, pC = c, pTrap = trap, pGradY = gradY, pAngles = options.Angles,
               pBBias = options.BBias, pCBias = options.CBias, pD = options.D, pZ = options.Z, pDtBias = options.DtBias,
               pInitialState = options.InitialState, pInitialAngle = options.InitialAngle, pInitialB = options.InitialB,
               pInitialX = options.InitialX, pCuSeqlens = options.CuSeqlens, pGradLastState = options.GradLastState,
               pGradLastAngle = options.GradLastAngle, pGradLastB = options.GradLastB, pGradLastX = options.GradLastX,
               pGradX = options.GradX, pGradDt = options.GradDt, pGradA = options.GradA, pGradB = options.GradB,
               pGradC = options.GradC, pGradTrap = options.GradTrap, pGradAngles = options.GradAngles,
               pGradBBias = options.GradBBias, pGradCBias = options.GradCBias, pGradD = options.GradD,
               pGradZ = options.GradZ, pGradDtBias = options.GradDtBias, pGradInitialState = options.GradInitialState,
               pGradInitialAngle = options.GradInitialAngle, pGradInitialB = options.GradInitialB,
               pGradInitialX = options.GradInitialX)
        {
            using var call = new Call(this);
            SsmMamba3BackwardArgs args = new()
            {
                StructSize = (uint)sizeof(SsmMamba3BackwardArgs),
                DtSoftplus = options.DtSoftplus ? 1 : 0,
                X = call.Bind(x, pX, "x"),
                Dt = call.Bind(dt, pDt, "dt"),
                A = call.Bind(a, pA, "a"),
                B = call.Bind(b, pB, "b"),
                C = call.Bind(c, pC, "c"),
                Trap = call.Bind(trap, pTrap, "trap"),
                GradY = call.Bind(gradY, pGradY, "grad_y"),
                Angles = call.Bind(options.Angles, pAngles, "angles"),
                BBias = call.Bind(options.BBias, pBBias, "b_bias"),
                CBias = call.Bind(options.CBias, pCBias, "c_bias"),
                D = call.Bind(options.D, pD, "d"),
                Z = call.Bind(options.Z, pZ, "z"),
                DtBias = call.Bind(options.DtBias, pDtBias, "dt_bias"),
                InitialState = call.Bind(options.InitialState, pInitialState, "initial_state"),
                InitialAngle = call.Bind(options.InitialAngle, pInitialAngle, "initial_angle"),
                InitialB = call.Bind(options.InitialB, pInitialB, "initial_b"),
                InitialX = call.Bind(options.InitialX, pInitialX, "initial_x"),
                CuSeqlens = call.Bind(options.CuSeqlens, pCuSeqlens, "cu_seqlens"),
                GradLastState = call.Bind(options.GradLastState, pGradLastState, "grad_last_state"),
                GradLastAngle = call.Bind(options.GradLastAngle, pGradLastAngle, "grad_last_angle"),
                GradLastB = call.Bind(options.GradLastB, pGradLastB, "grad_last_b"),
                GradLastX = call.Bind(options.GradLastX, pGradLastX, "grad_last_x"),
                GradX = call.Bind(options.GradX, pGradX, "grad_x"),
                GradDt = call.Bind(options.GradDt, pGradDt, "grad_dt"),
                GradA = call.Bind(options.GradA, pGradA, "grad_a"),
                GradB = call.Bind(options.GradB, pGradB, "grad_b"),
                GradC = call.Bind(options.GradC, pGradC, "grad_c"),
                GradTrap = call.Bind(options.GradTrap, pGradTrap, "grad_trap"),
                GradAngles = call.Bind(options.GradAngles, pGradAngles, "grad_angles"),
                GradBBias = call.Bind(options.GradBBias, pGradBBias, "grad_b_bias"),
                GradCBias = call.Bind(options.GradCBias, pGradCBias, "grad_c_bias"),
                GradD = call.Bind(options.GradD, pGradD, "grad_d"),
                GradZ = call.Bind(options.GradZ, pGradZ, "grad_z"),
                GradDtBias = call.Bind(options.GradDtBias, pGradDtBias, "grad_dt_bias"),
                GradInitialState = call.Bind(options.GradInitialState, pGradInitialState, "grad_initial_state"),
                GradInitialAngle = call.Bind(options.GradInitialAngle, pGradInitialAngle, "grad_initial_angle"),
                GradInitialB = call.Bind(options.GradInitialB, pGradInitialB, "grad_initial_b"),
                GradInitialX = call.Bind(options.GradInitialX, pGradInitialX, "grad_initial_x"),
            };
            Check(workspace is null
                ? NativeMethods.Mamba3Backward(Handle, &args)
                : NativeMethods.Mamba3BackwardWorkspace(Handle, &args, workspace));
        }
    }
}
