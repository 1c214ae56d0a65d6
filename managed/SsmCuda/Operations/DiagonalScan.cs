using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>How the scan is discretized, its direction and its optional tensors. Default values are absent.</summary>
public ref struct DiagonalScanOptions
{
    /// <summary>How the system becomes one of steps.</summary>
    public SsmDiscretization Discretization;

    /// <summary>Run from the end of time to its start.</summary>
    public bool Reverse;

    /// <summary>Of the generalized bilinear discretization, 0 to 1; 0 for the others.</summary>
    public double Alpha;

    /// <summary>(B,L) of the real type of bu, the time of each step in units of dt; one if absent.</summary>
    public ReadOnlyTensorView Interval;

    /// <summary>(R,N) of the type of bu; zero if absent.</summary>
    public ReadOnlyTensorView InitialState;

    /// <summary>(S+1), of long: where packed sequences start and end.</summary>
    public ReadOnlyTensorView CuSeqlens;

    /// <summary>Output (R,N) of the type of bu; the final x in the direction of the scan.</summary>
    public TensorView LastState;

    /// <summary>Output (B,N,L) of the type of bu; the states of the scan in the other direction, which starts from
    /// zero.</summary>
    public TensorView XReverse;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>S5's state scan (Smith, Warrington and Linderman 2023, arXiv 2208.04933): x_t = a_bar x_{t-1} + f (B u)_t
    /// of a diagonal system with many inputs, whose product B u the caller makes; a_bar and f = b_bar / b are the
    /// discretization's. Steps may have times of their own, and the other direction comes in the same call.</summary>
    /// <param name="a">(N) of the type of bu; the eigenvalues.</param>
    /// <param name="dt">(N) of the real type of bu, above 0.</param>
    /// <param name="bu">(B,N,L) of float, double, Complex64 or Complex; B u.</param>
    /// <param name="x">Output (B,N,L) of the type of bu; may be bu.</param>
    /// <param name="options">Settings and the optional tensors.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void DiagonalScan(in ReadOnlyTensorView a, in ReadOnlyTensorView dt, in ReadOnlyTensorView bu,
        in TensorView x, in DiagonalScanOptions options = default) =>
        DiagonalScan(a, dt, bu, x, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="DiagonalScan(in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in DiagonalScanOptions)"/>
    /// <returns>Bytes.</returns>
    public long DiagonalScanWorkspace(in ReadOnlyTensorView a, in ReadOnlyTensorView dt, in ReadOnlyTensorView bu,
        in TensorView x, in DiagonalScanOptions options = default)
    {
        ulong bytes;
        DiagonalScan(a, dt, bu, x, options, &bytes);
        return (long)bytes;
    }

    private void DiagonalScan(in ReadOnlyTensorView a, in ReadOnlyTensorView dt, in ReadOnlyTensorView bu,
        in TensorView x, in DiagonalScanOptions options, ulong* workspace)
    {
        fixed (byte* pA = a, pDt = dt, pBu = bu, pX = x, pInterval = options.Interval,
               pInitialState = options.InitialState, pCuSeqlens = options.CuSeqlens, pLastState = options.LastState,
               pXReverse = options.XReverse)
        {
            using var call = new Call(this);
            SsmDiagonalScanArgs args = new()
            {
                StructSize = (uint)sizeof(SsmDiagonalScanArgs),
                Discretization = options.Discretization,
                Reverse = options.Reverse ? 1 : 0,
                Alpha = options.Alpha,
                A = call.Bind(a, pA, "a"),
                Dt = call.Bind(dt, pDt, "dt"),
                Bu = call.Bind(bu, pBu, "bu"),
                X = call.Bind(x, pX, "x"),
                Interval = call.Bind(options.Interval, pInterval, "interval"),
                InitialState = call.Bind(options.InitialState, pInitialState, "initial_state"),
                CuSeqlens = call.Bind(options.CuSeqlens, pCuSeqlens, "cu_seqlens"),
                LastState = call.Bind(options.LastState, pLastState, "last_state"),
                XReverse = call.Bind(options.XReverse, pXReverse, "x_reverse"),
            };
            Check(workspace is null
                ? NativeMethods.DiagonalScan(Handle, &args)
                : NativeMethods.DiagonalScanWorkspace(Handle, &args, workspace));
        }
    }
}
