using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What some steps of Mamba-3 may be told beyond their required tensors. Default values are absent.</summary>
public ref struct Mamba3UpdateOptions
{
    /// <summary>s = log(1 + exp(dt + dt_bias)) instead of dt + dt_bias.</summary>
    public bool DtSoftplus;

    /// <summary>Input and output (K,H,A) of the state type of x: theta. With Angles or not at all.</summary>
    public TensorView AngleState;

    /// <summary>(B,J,A) or (B,T,J,A) of the type of x: the turns of neighbouring states; 2 A is at most N, and H / J
    /// neighbouring heads read the same. Without them nothing turns.</summary>
    public ReadOnlyTensorView Angles;

    /// <summary>(H,N) of the state type of x (float for Half and BFloat16, otherwise the type of x), added to b; zero
    /// if absent.</summary>
    public ReadOnlyTensorView BBias;

    /// <summary>(H,N) of the state type of x, added to c; zero if absent.</summary>
    public ReadOnlyTensorView CBias;

    /// <summary>(H) or (H,P) of the state type of x: the skip connection; zero if absent.</summary>
    public ReadOnlyTensorView D;

    /// <summary>Of the type and shape of x: the gate, through silu; without it y is not gated.</summary>
    public ReadOnlyTensorView Z;

    /// <summary>(H) of the state type of x; zero if absent.</summary>
    public ReadOnlyTensorView DtBias;

    /// <summary>(B) of int: the row of the states that each element of the batch has. -1 skips it: no state is read or
    /// written and y is zero. Two elements with one row leave an unspecified state. Without slots the states have B
    /// rows.</summary>
    public ReadOnlyTensorView Slots;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>One step of Mamba-3's recurrence, or T of them, on states that are updated where they lie: what a
    /// model runs for each new token (Lahoti et al. 2026): s = dt + dt_bias, through softplus where asked; lambda =
    /// sigmoid(trap); theta_t = theta_{t-1} + pi tanh(angles_t) s_t; k and q are b and c with their biases, whose
    /// neighbouring states theta turns; h_t = exp(s_t a_t) (h_{t-1} + (1 - lambda_t) s_t x_{t-1} k_{t-1}^T) +
    /// lambda_t s_t x_t k_t^T; y_t = (h_t q_t + d x_t) silu(z_t). Head i reads group i / (H/G).</summary>
    /// <param name="state">Input and output (K,H,P,N) of the state type of x (float for Half and BFloat16, otherwise
    /// the type of x): h.</param>
    /// <param name="bState">Input and output (K,H,N) of the state type of x: k of the step before.</param>
    /// <param name="xState">Input and output (K,H,P) of the state type of x: x of the step before.</param>
    /// <param name="x">(B,H,P) or (B,T,H,P) of float, double, Half or BFloat16.</param>
    /// <param name="dt">(B,H) or (B,T,H) of the type of x.</param>
    /// <param name="a">(H), or shaped as dt, of the state type of x.</param>
    /// <param name="b">(B,G,N) or (B,T,G,N) of the type of x.</param>
    /// <param name="c">(B,G,N) or (B,T,G,N) of the type of x.</param>
    /// <param name="trap">(B,H) or (B,T,H) of the type of x: lambda before its sigmoid.</param>
    /// <param name="y">Output of the type and shape of x; may be x or z.</param>
    /// <param name="options">Everything else.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void Mamba3Update(in TensorView state, in TensorView bState, in TensorView xState, in ReadOnlyTensorView x,
        in ReadOnlyTensorView dt, in ReadOnlyTensorView a, in ReadOnlyTensorView b, in ReadOnlyTensorView c,
        in ReadOnlyTensorView trap, in TensorView y, in Mamba3UpdateOptions options = default) =>
        Mamba3Update(state, bState, xState, x, dt, a, b, c, trap, y, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="Mamba3Update(in TensorView, in TensorView, in TensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in Mamba3UpdateOptions)"/>
    /// <returns>Bytes.</returns>
    public long Mamba3UpdateWorkspace(in TensorView state, in TensorView bState, in TensorView xState,
        in ReadOnlyTensorView x, in ReadOnlyTensorView dt, in ReadOnlyTensorView a, in ReadOnlyTensorView b,
        in ReadOnlyTensorView c, in ReadOnlyTensorView trap, in TensorView y, in Mamba3UpdateOptions options = default)
    {
        ulong bytes;
        Mamba3Update(state, bState, xState, x, dt, a, b, c, trap, y, options, &bytes);
        return (long)bytes;
    }

    private void Mamba3Update(in TensorView state, in TensorView bState, in TensorView xState, in ReadOnlyTensorView x,
        in ReadOnlyTensorView dt, in ReadOnlyTensorView a, in ReadOnlyTensorView b, in ReadOnlyTensorView c,
        in ReadOnlyTensorView trap, in TensorView y, in Mamba3UpdateOptions options, ulong* workspace)
    {
        fixed (byte* pState = state, pBState = bState, pXState = xState, pX = x, pDt = dt, pA = a, pB = b, pC = c,
               pTrap = trap, pY = y, pAngleState = options.AngleState, pAngles = options.Angles, pBBias = options.BBias,
               pCBias = options.CBias, pD = options.D, pZ = options.Z, pDtBias = options.DtBias, pSlots = options.Slots)
        {
            using var call = new Call(this);
            SsmMamba3UpdateArgs args = new()
            {
                StructSize = (uint)sizeof(SsmMamba3UpdateArgs),
                DtSoftplus = options.DtSoftplus ? 1 : 0,
                State = call.Bind(state, pState, "state"),
                BState = call.Bind(bState, pBState, "b_state"),
                XState = call.Bind(xState, pXState, "x_state"),
                X = call.Bind(x, pX, "x"),
                Dt = call.Bind(dt, pDt, "dt"),
                A = call.Bind(a, pA, "a"),
                B = call.Bind(b, pB, "b"),
                C = call.Bind(c, pC, "c"),
                Trap = call.Bind(trap, pTrap, "trap"),
                Y = call.Bind(y, pY, "y"),
                AngleState = call.Bind(options.AngleState, pAngleState, "angle_state"),
                Angles = call.Bind(options.Angles, pAngles, "angles"),
                BBias = call.Bind(options.BBias, pBBias, "b_bias"),
                CBias = call.Bind(options.CBias, pCBias, "c_bias"),
                D = call.Bind(options.D, pD, "d"),
                Z = call.Bind(options.Z, pZ, "z"),
                DtBias = call.Bind(options.DtBias, pDtBias, "dt_bias"),
                Slots = call.Bind(options.Slots, pSlots, "slots"),
            };
            Check(workspace is null
                ? NativeMethods.Mamba3Update(Handle, &args)
                : NativeMethods.Mamba3UpdateWorkspace(Handle, &args, workspace));
        }
    }
}
