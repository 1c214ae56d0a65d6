using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What the recurrence of diagonal plus low-rank systems may be told beyond its tensors. Default values are
/// absent.</summary>
public ref struct DplrSsmOptions
{
    /// <summary>The N states given are half of 2N; the rest are their conjugates.</summary>
    public bool ConjugatePairs;

    /// <summary>(H) of the real type of eigenvalues: the skip connection; zero if absent.</summary>
    public ReadOnlyTensorView D;

    /// <summary>(R,H,N) of the type of eigenvalues; zero if absent. R is the number of packed sequences, otherwise
    /// B.</summary>
    public ReadOnlyTensorView InitialState;

    /// <summary>(S+1) of long: where packed sequences start and end; B is 1 then, and time is their
    /// concatenation.</summary>
    public ReadOnlyTensorView CuSeqlens;

    /// <summary>Output (R,H,N) of the type of eigenvalues.</summary>
    public TensorView LastState;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>The recurrence of systems A = diag(eigenvalues) - sum_r p_r p_r^* under the bilinear rule, in N
    /// operations for a step: x_t = a_bar x_{t-1} + b_bar u_t; y_t = Re(c x_t) + d u_t.</summary>
    /// <param name="eigenvalues">(H,N) of Complex64 or Complex.</param>
    /// <param name="p">(H,R,N) of the type of eigenvalues; the rank R is 1 to 4.</param>
    /// <param name="b">(H,N) of the type of eigenvalues.</param>
    /// <param name="c">(H,N) of the type of eigenvalues.</param>
    /// <param name="dt">(H) of the real type of eigenvalues; positive.</param>
    /// <param name="u">(B,H,L) of the real type of eigenvalues.</param>
    /// <param name="y">Output (B,H,L) of the real type of eigenvalues; may be u.</param>
    /// <param name="options">Everything else.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void DplrSsm(in ReadOnlyTensorView eigenvalues, in ReadOnlyTensorView p, in ReadOnlyTensorView b,
        in ReadOnlyTensorView c, in ReadOnlyTensorView dt, in ReadOnlyTensorView u, in TensorView y,
        in DplrSsmOptions options = default) =>
        DplrSsm(eigenvalues, p, b, c, dt, u, y, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="DplrSsm(in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in DplrSsmOptions)"/>
    /// <returns>Bytes.</returns>
    public long DplrSsmWorkspace(in ReadOnlyTensorView eigenvalues, in ReadOnlyTensorView p, in ReadOnlyTensorView b,
        in ReadOnlyTensorView c, in ReadOnlyTensorView dt, in ReadOnlyTensorView u, in TensorView y,
        in DplrSsmOptions options = default)
    {
        ulong bytes;
        DplrSsm(eigenvalues, p, b, c, dt, u, y, options, &bytes);
        return (long)bytes;
    }

    private void DplrSsm(in ReadOnlyTensorView eigenvalues, in ReadOnlyTensorView p, in ReadOnlyTensorView b,
        in ReadOnlyTensorView c, in ReadOnlyTensorView dt, in ReadOnlyTensorView u, in TensorView y,
        in DplrSsmOptions options, ulong* workspace)
    {
        fixed (byte* pEigenvalues = eigenvalues, pP = p, pB = b, pC = c, pDt = dt, pU = u, pY = y, pD = options.D,
        pInitialState = options.InitialState, pCuSeqlens = options.CuSeqlens, pLastState = options.LastState)
        {
            using var call = new Call(this);
            SsmDplrSsmArgs args = new()
            {
                StructSize = (uint)sizeof(SsmDplrSsmArgs),
                ConjugatePairs = options.ConjugatePairs ? 1 : 0,
                Eigenvalues = call.Bind(eigenvalues, pEigenvalues, "eigenvalues"),
                P = call.Bind(p, pP, "p"),
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
                ? NativeMethods.DplrSsm(Handle, &args)
                : NativeMethods.DplrSsmWorkspace(Handle, &args, workspace));
        }
    }
}
