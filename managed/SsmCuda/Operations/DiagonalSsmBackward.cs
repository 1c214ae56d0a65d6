using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>The optional tensors of the forward call, and the gradients. Those that are absent are not computed.</summary>
public ref struct DiagonalSsmBackwardOptions
{
    /// <summary>As in the forward call.</summary>
    public SsmDiscretization Discretization;

    /// <summary>As in the forward call.</summary>
    public double Alpha;

    /// <summary>(H) of the real type of a; as in the forward call.</summary>
    public ReadOnlyTensorView D;

    /// <summary>(R,H,N) of the type of a; as in the forward call.</summary>
    public ReadOnlyTensorView InitialState;

    /// <summary>(S+1): int64, as in the forward call.</summary>
    public ReadOnlyTensorView CuSeqlens;

    /// <summary>(R,H,N) of the type of a; zero if absent.</summary>
    public ReadOnlyTensorView GradLastState;

    /// <summary>Output (B,H,L) of the real type of a.</summary>
    public TensorView GradU;

    /// <summary>Output (H,N) of the type of a.</summary>
    public TensorView GradA;

    /// <summary>Output (H,N) of the type of a.</summary>
    public TensorView GradB;

    /// <summary>Output (H,N) of the type of a.</summary>
    public TensorView GradC;

    /// <summary>Output (H) of the real type of a.</summary>
    public TensorView GradDt;

    /// <summary>Output (H) of the real type of a.</summary>
    public TensorView GradD;

    /// <summary>Output (R,H,N) of the type of a.</summary>
    public TensorView GradInitialState;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>Gradients of DiagonalSsm, of the parameters, the input and the initial state. The states are computed
    /// again. Of a complex number x it is dL/dRe(x) + i dL/dIm(x).</summary>
    /// <param name="a">(H,N) of Complex64 or Complex, N at least 1.</param>
    /// <param name="b">(H,N) of the type of a.</param>
    /// <param name="c">(H,N) of the type of a.</param>
    /// <param name="dt">(H) of the real type of a.</param>
    /// <param name="u">(B,H,L) of the real type of a.</param>
    /// <param name="gradY">(B,H,L) of the real type of a.</param>
    /// <param name="options">Settings and the optional tensors.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void DiagonalSsmBackward(in ReadOnlyTensorView a, in ReadOnlyTensorView b, in ReadOnlyTensorView c,
        in ReadOnlyTensorView dt, in ReadOnlyTensorView u, in ReadOnlyTensorView gradY,
        in DiagonalSsmBackwardOptions options = default) =>
        DiagonalSsmBackward(a, b, c, dt, u, gradY, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="DiagonalSsmBackward(in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in ReadOnlyTensorView, in DiagonalSsmBackwardOptions)"/>
    /// <returns>Bytes.</returns>
    public long DiagonalSsmBackwardWorkspace(in ReadOnlyTensorView a, in ReadOnlyTensorView b,
        in ReadOnlyTensorView c, in ReadOnlyTensorView dt, in ReadOnlyTensorView u, in ReadOnlyTensorView gradY,
        in DiagonalSsmBackwardOptions options = default)
    {
        ulong bytes;
        DiagonalSsmBackward(a, b, c, dt, u, gradY, options, &bytes);
        return (long)bytes;
    }

    private void DiagonalSsmBackward(in ReadOnlyTensorView a, in ReadOnlyTensorView b, in ReadOnlyTensorView c,
        in ReadOnlyTensorView dt, in ReadOnlyTensorView u, in ReadOnlyTensorView gradY,
        in DiagonalSsmBackwardOptions options, ulong* workspace)
    {
        fixed (byte* pA = a, pB = b, pC = c, pDt = dt, pU = u, pGradY = gradY, pD = options.D,
               pInitialState = options.InitialState, pCuSeqlens = options.CuSeqlens,
               pGradLastState = options.GradLastState, pGradU = options.GradU, pGradA = options.GradA,
               pGradB = options.GradB, pGradC = options.GradC, pGradDt = options.GradDt, pGradD = options.GradD,
               pGradInitialState = options.GradInitialState)
        {
            using var call = new Call(this);
            SsmDiagonalSsmBackwardArgs args = new()
            {
                StructSize = (uint)sizeof(SsmDiagonalSsmBackwardArgs),
                Discretization = options.Discretization,
                Alpha = options.Alpha,
                A = call.Bind(a, pA, "a"),
                B = call.Bind(b, pB, "b"),
                C = call.Bind(c, pC, "c"),
                Dt = call.Bind(dt, pDt, "dt"),
                U = call.Bind(u, pU, "u"),
                GradY = call.Bind(gradY, pGradY, "grad_y"),
                D = call.Bind(options.D, pD, "d"),
                InitialState = call.Bind(options.InitialState, pInitialState, "initial_state"),
                CuSeqlens = call.Bind(options.CuSeqlens, pCuSeqlens, "cu_seqlens"),
                GradLastState = call.Bind(options.GradLastState, pGradLastState, "grad_last_state"),
                GradU = call.Bind(options.GradU, pGradU, "grad_u"),
                GradA = call.Bind(options.GradA, pGradA, "grad_a"),
                GradB = call.Bind(options.GradB, pGradB, "grad_b"),
                GradC = call.Bind(options.GradC, pGradC, "grad_c"),
                GradDt = call.Bind(options.GradDt, pGradDt, "grad_dt"),
                GradD = call.Bind(options.GradD, pGradD, "grad_d"),
                GradInitialState = call.Bind(options.GradInitialState, pGradInitialState, "grad_initial_state"),
            };
            Check(workspace is null
                ? NativeMethods.DiagonalSsmBackward(Handle, &args)
                : NativeMethods.DiagonalSsmBackwardWorkspace(Handle, &args, workspace));
        }
    }
}
