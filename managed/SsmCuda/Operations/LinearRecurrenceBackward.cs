using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What the gradients of a linear recurrence are made from and where they go. Default values are absent; an absent
/// gradient is not computed.</summary>
public ref struct LinearRecurrenceBackwardOptions
{
    /// <summary>As in the forward call.</summary>
    public bool Reverse;

    /// <summary>(B,C,L) of the type of a: the b of the forward call, needed for <see cref="GradA"/> where <see cref="H"/> is
    /// absent.</summary>
    public ReadOnlyTensorView B;

    /// <summary>(B,C,L) of the type of a: what the forward call gave. Without it h is computed again from
    /// <see cref="B"/>.</summary>
    public ReadOnlyTensorView H;

    /// <summary>(R,C), as in the forward call; zero if absent. R is the number of packed sequences, otherwise B; the type is
    /// float for Half and BFloat16 tensors and the type of a for others.</summary>
    public ReadOnlyTensorView InitialState;

    /// <summary>(S+1) of long, as in the forward call.</summary>
    public ReadOnlyTensorView CuSeqlens;

    /// <summary>(R,C): the gradient of the loss by the last state; zero if absent.</summary>
    public ReadOnlyTensorView GradLastState;

    /// <summary>Output (B,C,L) of the type of a.</summary>
    public TensorView GradA;

    /// <summary>Output (B,C,L) of the type of a.</summary>
    public TensorView GradB;

    /// <summary>Output (R,C), of the type of the initial state.</summary>
    public TensorView GradInitialState;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>The gradients of <see cref="LinearRecurrence(in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in LinearRecurrenceOptions)"/>:
    /// g_t = grad_h_t + conj(a_{t+1}) g_{t+1}, with grad_last_state added at the last step; grad_b = g,
    /// grad_a_t = g_t conj(h_{t-1}), grad_initial_state = conj(a_0) g_0 (Martin and Cundy 2018, arXiv 1709.04057, section
    /// 2.2). For a complex x, grad_x is dL/dRe(x) + i dL/dIm(x).</summary>
    /// <param name="a">(B,C,L), as in the forward call.</param>
    /// <param name="gradH">(B,C,L) of the type of a: the gradient of the loss by h.</param>
    /// <param name="options">The other tensors of the forward call, and the gradients wanted.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void LinearRecurrenceBackward(in ReadOnlyTensorView a, in ReadOnlyTensorView gradH,
        in LinearRecurrenceBackwardOptions options) => LinearRecurrenceBackward(a, gradH, options, null);

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="LinearRecurrenceBackward(in ReadOnlyTensorView, in ReadOnlyTensorView, in LinearRecurrenceBackwardOptions)"/>
    /// <returns>Bytes.</returns>
    public long LinearRecurrenceBackwardWorkspace(in ReadOnlyTensorView a, in ReadOnlyTensorView gradH,
        in LinearRecurrenceBackwardOptions options)
    {
        ulong bytes;
        LinearRecurrenceBackward(a, gradH, options, &bytes);
        return (long)bytes;
    }

    /// <summary>The same over compact spans.</summary>
    /// <param name="a">batch * channels * length elements, time contiguous.</param>
    /// <param name="gradH">As many.</param>
    /// <param name="batch">B.</param>
    /// <param name="channels">C.</param>
    /// <param name="length">L.</param>
    /// <param name="options">As in the other overload; every tensor may be a span of as many elements as its shape
    /// has.</param>
    /// <typeparam name="T">The element type.</typeparam>
    /// <exception cref="ArgumentException">A span has another number of elements.</exception>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    public void LinearRecurrenceBackward<T>(ReadOnlySpan<T> a, ReadOnlySpan<T> gradH, nint batch, nint channels, nint length,
        scoped in LinearRecurrenceBackwardOptions options)
        where T : unmanaged
    {
        var rows = StateRows(options.CuSeqlens, batch);
        LinearRecurrenceBackward(ReadOnlyTensorView.Create(a, batch, channels, length),
            ReadOnlyTensorView.Create(gradH, batch, channels, length),
            options with
            {
                B = options.B.Reshaped(batch, channels, length),
                H = options.H.Reshaped(batch, channels, length),
                InitialState = options.InitialState.Reshaped(rows, channels),
                GradLastState = options.GradLastState.Reshaped(rows, channels),
                GradA = options.GradA.Reshaped(batch, channels, length),
                GradB = options.GradB.Reshaped(batch, channels, length),
                GradInitialState = options.GradInitialState.Reshaped(rows, channels),
            },
            null);
    }

    private void LinearRecurrenceBackward(in ReadOnlyTensorView a, in ReadOnlyTensorView gradH,
        in LinearRecurrenceBackwardOptions options, ulong* workspace)
    {
        fixed (byte* pa = a, pGradH = gradH, pb = options.B, ph = options.H, pInitialState = options.InitialState, pCuSeqlens = options.CuSeqlens,
               pGradLastState = options.GradLastState, pGradA = options.GradA, pGradB = options.GradB, pGradInitialState = options.GradInitialState)
        {
            using var call = new Call(this);
            SsmLinearRecurrenceBackwardArgs args = new()
            {
                StructSize = (uint)sizeof(SsmLinearRecurrenceBackwardArgs),
                Reverse = options.Reverse ? 1 : 0,
                A = call.Bind(a, pa, "a"),
                B = call.Bind(options.B, pb, "b"),
                H = call.Bind(options.H, ph, "h"),
                InitialState = call.Bind(options.InitialState, pInitialState, "initial_state"),
                CuSeqlens = call.Bind(options.CuSeqlens, pCuSeqlens, "cu_seqlens"),
                GradH = call.Bind(gradH, pGradH, "grad_h"),
                GradLastState = call.Bind(options.GradLastState, pGradLastState, "grad_last_state"),
                GradA = call.Bind(options.GradA, pGradA, "grad_a"),
                GradB = call.Bind(options.GradB, pGradB, "grad_b"),
                GradInitialState = call.Bind(options.GradInitialState, pGradInitialState, "grad_initial_state"),
            };
            Check(workspace is null
                ? NativeMethods.LinearRecurrenceBackward(Handle, &args)
                : NativeMethods.LinearRecurrenceBackwardWorkspace(Handle, &args, workspace));
        }
    }
}
