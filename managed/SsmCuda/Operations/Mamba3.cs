using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What Mamba-3's recurrence may be told beyond its required tensors. Default values are absent.</summary>
public ref struct Mamba3Options
{
    /// <summary>s = log(1 + exp(dt + dt_bias)) instead of dt + dt_bias.</summary>
    public bool DtSoftplus;

    /// <summary>(B,L,J,A) of the type of x: the turns of neighbouring states; 2 A is at most N, and H / J
    /// neighbouring heads read the same. Without them nothing turns.</summary>
    public ReadOnlyTensorView Angles;

    /// <summary>(H,N) of the state type of x (float for Half and BFloat16, otherwise the type of x), added to b; zero
    /// if absent.</summary>
    public ReadOnlyTensorView BBias;

    /// <summary>(H,N) of the state type of x, added to c; zero if absent.</summary>
    public ReadOnlyTensorView CBias;

    /// <summary>(H) or (H,P) of the state type of x: the skip connection; zero if absent.</summary>
    public ReadOnlyTensorView D;

    /// <summary>(B,L,H,P) of the type of x: the gate, through silu; without it y is not gated.</summary>
    public ReadOnlyTensorView Z;

    /// <summary>(H) of the state type of x; zero if absent.</summary>
    public ReadOnlyTensorView DtBias;

    /// <summary>(R,H,P,N) of the state type of x: h before the first step; zero if absent. R is the number of packed
    /// sequences, otherwise B.</summary>
    public ReadOnlyTensorView InitialState;

    /// <summary>(R,H,A) of the state type of x: theta before the first step; zero if absent.</summary>
    public ReadOnlyTensorView InitialAngle;

    /// <summary>(R,H,N) of the state type of x: k before the first step; with InitialX or not at all.</summary>
    public ReadOnlyTensorView InitialB;

    /// <summary>(R,H,P) of the state type of x: x before the first step.</summary>
    public ReadOnlyTensorView InitialX;

    /// <summary>(S+1) of long: where packed sequences start and end; B is 1 then, and time is their
    /// concatenation.</summary>
    public ReadOnlyTensorView CuSeqlens;

    /// <summary>Output (R,H,P,N) of the state type of x: h after the last step.</summary>
    public TensorView LastState;

    /// <summary>Output (R,H,A) of the state type of x: theta after the last step, from -pi to pi. Needs Angles.</summary>
    public TensorView LastAngle;

    /// <summary>Output (R,H,N) of the state type of x: k of the last step.</summary>
    public TensorView LastB;

    /// <summary>Output (R,H,P) of the state type of x: x of the last step.</summary>
    public TensorView LastX;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>Mamba-3's recurrence of single inputs and outputs (Lahoti et al. 2026): s = dt + dt_bias, through
    /// softplus where asked; lambda = sigmoid(trap); theta_t = theta_{t-1} + pi tanh(angles_t) s_t; k and q are b and
    /// c with their biases, whose neighbouring states theta turns; h_t = exp(s_t a_t) (h_{t-1} + (1 - lambda_t) s_t
    /// x_{t-1} k_{t-1}^T) + lambda_t s_t x_t k_t^T; y_t = (h_t q_t + d x_t) silu(z_t). Head i reads group i /
    /// (H/G).</summary>
    /// <param name="x">(B,L,H,P) of float, double, Half or BFloat16.</param>
    /// <param name="dt">(B,L,H) of the type of x.</param>
    /// <param name="a">(H) or (B,L,H) of the state type of x (float for Half and BFloat16, otherwise the type of
    /// x).</param>
    /// <param name="b">(B,L,G,N) of the type of x.</param>
    /// <param name="c">(B,L,G,N) of the type of x.</param>
    /// <param name="trap">(B,L,H) of the type of x: lambda before its sigmoid.</param>
    /// <param name="y">Output (B,L,H,P) of the type of x.</param>
    /// <param name="options">Everything else.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void Mamba3(in ReadOnlyTensorView x, in ReadOnlyTensorView dt, in ReadOnlyTensorView a, in ReadOnlyTensorView b,
        in ReadOnlyTensorView c, in ReadOnlyTensorView trap, in TensorView y, in Mamba3Options options = default) =>
        Mamba3(x, dt, a, b, c, trap, y, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="Mamba3(in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in Mamba3Options)"/>
    /// <returns>Bytes.</returns>
    public long Mamba3Workspace(in ReadOnlyTensorView x, in ReadOnlyTensorView dt, in ReadOnlyTensorView a,
        in ReadOnlyTensorView b, in ReadOnlyTensorView c, in ReadOnlyTensorView trap, in TensorView y,
        in Mamba3Options options = default)
    {
        ulong bytes;
        Mamba3(x, dt, a, b, c, trap, y, options, &bytes);
        return (long)bytes;
    }

    private void Mamba3(in ReadOnlyTensorView x, in ReadOnlyTensorView dt, in ReadOnlyTensorView a, in ReadOnlyTensorView b,
        in ReadOnlyTensorView c, in ReadOnlyTensorView trap, in TensorView y, in Mamba3Options options, ulong* workspace)
    {
        fixed (byte* pX = x, pDt = dt, pA = a, pB = b, pC = c, pTrap = trap, pY = y, pAngles = options.Angles,
               pBBias = options.BBias, pCBias = options.CBias, pD = options.D, pZ = options.Z, pDtBias = options.DtBias,
               pInitialState = options.InitialState, pInitialAngle = options.InitialAngle, pInitialB = options.InitialB,
               pInitialX = options.InitialX, pCuSeqlens = options.CuSeqlens, pLastState = options.LastState,
               pLastAngle = options.LastAngle, pLastB = options.LastB, pLastX = options.LastX)
        {
            using var call = new Call(this);
            SsmMamba3Args args = new()
            {
                StructSize = (uint)sizeof(SsmMamba3Args),
                DtSoftplus = options.DtSoftplus ? 1 : 0,
                X = call.Bind(x, pX, "x"),
                Dt = call.Bind(dt, pDt, "dt"),
                A = call.Bind(a, pA, "a"),
                B = call.Bind(b, pB, "b"),
                C = call.Bind(c, pC, "c"),
                Trap = call.Bind(trap, pTrap, "trap"),
                Y = call.Bind(y, pY, "y"),
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
                LastState = call.Bind(options.LastState, pLastState, "last_state"),
                LastAngle = call.Bind(options.LastAngle, pLastAngle, "last_angle"),
                LastB = call.Bind(options.LastB, pLastB, "last_b"),
                LastX = call.Bind(options.LastX, pLastX, "last_x"),
            };
            Check(workspace is null
                ? NativeMethods.Mamba3(Handle, &args)
                : NativeMethods.Mamba3Workspace(Handle, &args, workspace));
        }
    }
}
