using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>How a diagonal system is discretized, and its optional tensors. Default values are absent.</summary>
public ref struct DiagonalSsmOptions
{
    /// <summary>How the system becomes one of steps.</summary>
    public SsmDiscretization Discretization;

    /// <summary>Of the generalized bilinear discretization, 0 to 1; 0 for the others.</summary>
    public double Alpha;

    /// <summary>(H) of the real type of a; zero if absent.</summary>
    public ReadOnlyTensorView D;

    /// <summary>(R,H,N) of the type of a; zero if absent.</summary>
    public ReadOnlyTensorView InitialState;

    /// <summary>(S+1), of long: where packed sequences start and end.</summary>
    public ReadOnlyTensorView CuSeqlens;

    /// <summary>Output (R,H,N) of the type of a; x after the last step.</summary>
    public TensorView LastState;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>A diagonal system as a recurrence (S4D's, DSS's): x_t = a_bar x_{t-1} + b_bar u_t and y_t = 2 Re(sum_n
    /// c_n x_tn) + d u_t, half of the states being given. One step or many, with a state to go on from.</summary>
    /// <param name="a">(H,N) of Complex64 or Complex, N at least 1; the eigenvalues.</param>
    /// <param name="b">(H,N) of the type of a.</param>
    /// <param name="c">(H,N) of the type of a.</param>
    /// <param name="dt">(H) of the real type of a, above 0.</param>
    /// <param name="u">(B,H,L) of the real type of a.</param>
    /// <param name="y">Output (B,H,L) of the real type of a; may be u.</param>
    /// <param name="options">Settings and the optional tensors.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void DiagonalSsm(in ReadOnlyTensorView a, in ReadOnlyTensorView b, in ReadOnlyTensorView c,
        in ReadOnlyTensorView dt, in ReadOnlyTensorView u, in TensorView y, in DiagonalSsmOptions options = default)
        =>
        DiagonalSsm(a, b, c, dt, u, y, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="DiagonalSsm(in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in DiagonalSsmOptions)"/>
    /// <returns>Bytes.</returns>
    public long DiagonalSsmWorkspace(in ReadOnlyTensorView a, in ReadOnlyTensorView b, in ReadOnlyTensorView c,
        in ReadOnlyTensorView dt, in ReadOnlyTensorView u, in TensorView y, in DiagonalSsmOptions options = default)
    {
        ulong bytes;
        DiagonalSsm(a, b, c, dt, u, y, options, &bytes);
        return (long)bytes;
    }

    private void DiagonalSsm(in ReadOnlyTensorView a, in ReadOnlyTensorView b, in ReadOnlyTensorView c,
        in ReadOnlyTensorView dt, in ReadOnlyTensorView u, in TensorView y, in DiagonalSsmOptions options,
        ulong* workspace)
    {
        fixed (byte* pA = a, pB = b, pC = c, pDt = dt, pU = u, pY = y, pD = options.D,
               pInitialState = options.InitialState, pCuSeqlens = options.CuSeqlens, pLastState = options.LastState)
        {
            using var call = new Call(this);
            SsmDiagonalSsmArgs args = new()
            {
                StructSize = (uint)sizeof(SsmDiagonalSsmArgs),
                Discretization = options.Discretization,
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
                ? NativeMethods.DiagonalSsm(Handle, &args)
                : NativeMethods.DiagonalSsmWorkspace(Handle, &args, workspace));
        }
    }
}
