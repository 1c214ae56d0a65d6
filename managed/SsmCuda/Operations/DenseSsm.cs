using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What the recurrence of dense systems may be told beyond its tensors. Default values are absent.</summary>
public ref struct DenseSsmOptions
{
    /// <summary>Of the generalized bilinear rule, 0 to 1; 0 otherwise.</summary>
    public double Alpha;

    /// <summary>(H) of the type of a: the skip connection; zero if absent.</summary>
    public ReadOnlyTensorView D;

    /// <summary>(R,H,N) of the type of a; zero if absent. R is the number of packed sequences, otherwise B.</summary>
    public ReadOnlyTensorView InitialState;

    /// <summary>(S+1) of long: where packed sequences start and end; B is 1 then, and time is their
    /// concatenation.</summary>
    public ReadOnlyTensorView CuSeqlens;

    /// <summary>Output (R,H,N) of the type of a.</summary>
    public TensorView LastState;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>The recurrence of dense systems: x_t = a_bar x_{t-1} + b_bar u_t; y_t = c x_t + d u_t.</summary>
    /// <param name="discretization">Any but Dirac and Async.</param>
    /// <param name="a">(H,N,N) of float or double.</param>
    /// <param name="b">(H,N) of the type of a.</param>
    /// <param name="c">(H,N) of the type of a.</param>
    /// <param name="dt">(H) of the type of a; positive.</param>
    /// <param name="u">(B,H,L) of the type of a.</param>
    /// <param name="y">Output (B,H,L) of the type of a; may be u.</param>
    /// <param name="options">Everything else.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void DenseSsm(SsmDiscretization discretization, in ReadOnlyTensorView a, in ReadOnlyTensorView b,
        in ReadOnlyTensorView c, in ReadOnlyTensorView dt, in ReadOnlyTensorView u, in TensorView y,
        in DenseSsmOptions options = default) =>
        DenseSsm(discretization, a, b, c, dt, u, y, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="DenseSsm(SsmDiscretization, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in DenseSsmOptions)"/>
    /// <returns>Bytes.</returns>
    public long DenseSsmWorkspace(SsmDiscretization discretization, in ReadOnlyTensorView a, in ReadOnlyTensorView b,
        in ReadOnlyTensorView c, in ReadOnlyTensorView dt, in ReadOnlyTensorView u, in TensorView y,
        in DenseSsmOptions options = default)
    {
        ulong bytes;
        DenseSsm(discretization, a, b, c, dt, u, y, options, &bytes);
        return (long)bytes;
    }

    private void DenseSsm(SsmDiscretization discretization, in ReadOnlyTensorView a, in ReadOnlyTensorView b,
        in ReadOnlyTensorView c, in ReadOnlyTensorView dt, in ReadOnlyTensorView u, in TensorView y,
        in DenseSsmOptions options, ulong* workspace)
    {
        fixed (byte* pA = a, pB = b, pC = c, pDt = dt, pU = u, pY = y, pD = options.D, pInitialState = options.InitialState,
        pCuSeqlens = options.CuSeqlens, pLastState = options.LastState)
        {
            using var call = new Call(this);
            SsmDenseSsmArgs args = new()
            {
                StructSize = (uint)sizeof(SsmDenseSsmArgs),
                Discretization = discretization,
                Alpha = options.Alpha,
                A = call.Bind(a, pA, "a"),
                B = call.Bind(b, pB, "b"),
                C = call.Bind(c, pC, "c"),
                Dt = call.Bind(dt, pDt, "dt"),
                U = call.Bind(u, pU, "u"),
                Y = call.Bind(y, pY, "y"),
                D = call.Bind(options.D, pD, "d"),
                InitialState = call.Bind(options.InitialState, pInitialState, "initial_state"),
                CuSeqlens = call.Bind(options.CuSeqlens, pCuSeqlens, "cu_seqlens"),
                LastState = call.Bind(options.LastState, pLastState, "last_state"),
            };
            Check(workspace is null
                ? NativeMethods.DenseSsm(Handle, &args)
                : NativeMethods.DenseSsmWorkspace(Handle, &args, workspace));
        }
    }
}
