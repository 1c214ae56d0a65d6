using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>How a diagonal system is discretized, its optional tensors and its outputs.</summary>
public ref struct DiscretizeDiagonalOptions
{
    /// <summary>How the system becomes one of steps.</summary>
    public SsmDiscretization Discretization;

    /// <summary>Of the generalized bilinear discretization, 0 to 1; 0 for the others.</summary>
    public double Alpha;

    /// <summary>(H,N) of the type of a; needed for b_bar.</summary>
    public ReadOnlyTensorView B;

    /// <summary>(H) of the real type of a; s is dt interval a, but for b_bar of SSM_DISCRETIZATION_ASYNC. One if
    /// absent.</summary>
    public ReadOnlyTensorView Interval;

    /// <summary>Output (H,N) of the type of a.</summary>
    public TensorView ABar;

    /// <summary>Output (H,N) of the type of a.</summary>
    public TensorView BBar;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>a_bar and b_bar of the steps x_t = a_bar x_{t-1} + b_bar u_t that a diagonal system x' = a x + b u
    /// becomes, one dt for each row. Computed in double precision.</summary>
    /// <param name="a">(H,N) of Complex64 or Complex; the eigenvalues.</param>
    /// <param name="dt">(H) of the real type of a, above 0.</param>
    /// <param name="options">Settings and the optional tensors.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void DiscretizeDiagonal(in ReadOnlyTensorView a, in ReadOnlyTensorView dt,
        in DiscretizeDiagonalOptions options = default) =>
        DiscretizeDiagonal(a, dt, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="DiscretizeDiagonal(in ReadOnlyTensorView, in ReadOnlyTensorView, in DiscretizeDiagonalOptions)"/>
    /// <returns>Bytes.</returns>
    public long DiscretizeDiagonalWorkspace(in ReadOnlyTensorView a, in ReadOnlyTensorView dt,
        in DiscretizeDiagonalOptions options = default)
    {
        ulong bytes;
        DiscretizeDiagonal(a, dt, options, &bytes);
        return (long)bytes;
    }

    private void DiscretizeDiagonal(in ReadOnlyTensorView a, in ReadOnlyTensorView dt,
        in DiscretizeDiagonalOptions options, ulong* workspace)
    {
        fixed (byte* pA = a, pDt = dt, pB = options.B, pInterval = options.Interval, pABar = options.ABar,
               pBBar = options.BBar)
        {
            using var call = new Call(this);
            SsmDiscretizeDiagonalArgs args = new()
            {
                StructSize = (uint)sizeof(SsmDiscretizeDiagonalArgs),
                Discretization = options.Discretization,
                Alpha = options.Alpha,
                A = call.Bind(a, pA, "a"),
                Dt = call.Bind(dt, pDt, "dt"),
                B = call.Bind(options.B, pB, "b"),
                Interval = call.Bind(options.Interval, pInterval, "interval"),
                ABar = call.Bind(options.ABar, pABar, "a_bar"),
                BBar = call.Bind(options.BBar, pBBar, "b_bar"),
            };
            Check(workspace is null
                ? NativeMethods.DiscretizeDiagonal(Handle, &args)
                : NativeMethods.DiscretizeDiagonalWorkspace(Handle, &args, workspace));
        }
    }
}
