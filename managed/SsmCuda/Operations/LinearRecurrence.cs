using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What a linear recurrence may be told beyond its tensors. Default values are absent.</summary>
public ref struct LinearRecurrenceOptions
{
    /// <summary>Run from the end of time to its start: h_t = a_t h_{t+1} + b_t.</summary>
    public bool Reverse;

    /// <summary>(R,C), the h before the first step in the direction of the scan; zero if absent. R is the number of packed
    /// sequences, otherwise B; the type is float for Half and BFloat16 tensors and the type of a for others.</summary>
    public ReadOnlyTensorView InitialState;

    /// <summary>(S+1) of long: where packed sequences start and end; B is 1 then, and time is their
    /// concatenation.</summary>
    public ReadOnlyTensorView CuSeqlens;

    /// <summary>Output (R,C): the final h in the direction of the scan, of the type of the initial state.</summary>
    public TensorView LastState;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>The first-order linear recurrence h_t = a_t h_{t-1} + b_t along the last axis, elementwise over batch and
    /// channels (Martin and Cundy 2018, arXiv 1709.04057, equation 1).</summary>
    /// <param name="a">(B,C,L), of any element type.</param>
    /// <param name="b">(B,C,L) of the type of a.</param>
    /// <param name="h">Output (B,C,L) of the type of a; may be a or b.</param>
    /// <param name="options">Direction, initial and last state, packed sequences.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void LinearRecurrence(in ReadOnlyTensorView a, in ReadOnlyTensorView b, in TensorView h,
        in LinearRecurrenceOptions options = default) => LinearRecurrence(a, b, h, options, null);

    /// <summary>The same over compact spans.</summary>
    /// <param name="a">batch * channels * length elements, time contiguous.</param>
    /// <param name="b">As many.</param>
    /// <param name="h">Output, as many; may be a or b.</param>
    /// <param name="batch">B.</param>
    /// <param name="channels">C.</param>
    /// <param name="length">L.</param>
    /// <param name="options">As in the other overload; states may be spans of rows * channels elements.</param>
    /// <typeparam name="T">The element type.</typeparam>
    /// <exception cref="ArgumentException">A span has another number of elements.</exception>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    public void LinearRecurrence<T>(ReadOnlySpan<T> a, ReadOnlySpan<T> b, Span<T> h, nint batch, nint channels, nint length,
        scoped in LinearRecurrenceOptions options = default)
        where T : unmanaged
    {
        var rows = StateRows(options.CuSeqlens, batch);
        LinearRecurrence(ReadOnlyTensorView.Create(a, batch, channels, length),
            ReadOnlyTensorView.Create(b, batch, channels, length), TensorView.Create(h, batch, channels, length),
            options with
            {
                InitialState = options.InitialState.Reshaped(rows, channels),
                LastState = options.LastState.Reshaped(rows, channels),
            },
            null);
    }

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="LinearRecurrence(in ReadOnlyTensorView, in ReadOnlyTensorView, in TensorView, in LinearRecurrenceOptions)"/>
    /// <returns>Bytes.</returns>
    public long LinearRecurrenceWorkspace(in ReadOnlyTensorView a, in ReadOnlyTensorView b, in TensorView h,
        in LinearRecurrenceOptions options = default)
    {
        ulong bytes;
        LinearRecurrence(a, b, h, options, &bytes);
        return (long)bytes;
    }

    private void LinearRecurrence(in ReadOnlyTensorView a, in ReadOnlyTensorView b, in TensorView h,
        in LinearRecurrenceOptions options, ulong* workspace)
    {
        fixed (byte* pa = a, pb = b, ph = h, pInitialState = options.InitialState, pCuSeqlens = options.CuSeqlens, pLastState = options.LastState)
        {
            using var call = new Call(this);
            SsmLinearRecurrenceArgs args = new()
            {
                StructSize = (uint)sizeof(SsmLinearRecurrenceArgs),
                Reverse = options.Reverse ? 1 : 0,
                A = call.Bind(a, pa, "a"),
                B = call.Bind(b, pb, "b"),
                InitialState = call.Bind(options.InitialState, pInitialState, "initial_state"),
                CuSeqlens = call.Bind(options.CuSeqlens, pCuSeqlens, "cu_seqlens"),
                H = call.Bind(h, ph, "h"),
                LastState = call.Bind(options.LastState, pLastState, "last_state"),
            };
            Check(workspace is null
                ? NativeMethods.LinearRecurrence(Handle, &args)
                : NativeMethods.LinearRecurrenceWorkspace(Handle, &args, workspace));
        }
    }
}
