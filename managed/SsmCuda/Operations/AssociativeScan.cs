using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>What an associative scan may be told beyond its tensors. Default values are absent.</summary>
public ref struct AssociativeScanOptions
{
    /// <summary>Scan from the end of time to its start.</summary>
    public bool Reverse;

    /// <summary>y_t combines what lies before t, without x_t; add and multiply only.</summary>
    public bool Exclusive;

    /// <summary>(R,C), combined before everything else in place of the identity. R is the number of packed sequences,
    /// otherwise B; the type is float for Half and BFloat16 tensors and the type of x for others.</summary>
    public ReadOnlyTensorView InitialState;

    /// <summary>(S+1) of long: where packed sequences start and end; B is 1 then, and time is their
    /// concatenation.</summary>
    public ReadOnlyTensorView CuSeqlens;

    /// <summary>Output (R,C): everything combined, the initial state included; its type is that of the initial
    /// state.</summary>
    public TensorView LastState;
}

public sealed unsafe partial class SsmContext
{
    /// <summary>y_t = x_0 o x_1 o ... o x_t along the last axis (Blelloch 1990, "Prefix sums and their applications").</summary>
    /// <param name="combine">The operator o. Maximum and minimum take real types.</param>
    /// <param name="x">(B,C,L), of any element type.</param>
    /// <param name="y">Output (B,C,L) of the type of x; may be x.</param>
    /// <param name="options">Direction, initial and last state, packed sequences.</param>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    /// <exception cref="InvalidOperationException">Host memory on a context of another device.</exception>
    public void AssociativeScan(SsmCombine combine, in ReadOnlyTensorView x, in TensorView y,
        in AssociativeScanOptions options = default) => AssociativeScan(combine, x, y, options, null);

    /// <summary>The same over compact spans.</summary>
    /// <param name="combine">The operator.</param>
    /// <param name="x">batch * channels * length elements, time contiguous.</param>
    /// <param name="y">Output, as many; may be x.</param>
    /// <param name="batch">B.</param>
    /// <param name="channels">C.</param>
    /// <param name="length">L.</param>
    /// <param name="options">As in the other overload; states may be spans of rows * channels elements.</param>
    /// <typeparam name="T">The element type.</typeparam>
    /// <exception cref="ArgumentException">A span has another number of elements.</exception>
    /// <exception cref="SsmException">An argument is wrong; the message names it.</exception>
    public void AssociativeScan<T>(SsmCombine combine, ReadOnlySpan<T> x, Span<T> y, nint batch, nint channels, nint length,
        scoped in AssociativeScanOptions options = default)
        where T : unmanaged
    {
        var rows = StateRows(options.CuSeqlens, batch);
        AssociativeScan(combine, ReadOnlyTensorView.Create(x, batch, channels, length),
            TensorView.Create(y, batch, channels, length),
            options with
            {
                InitialState = options.InitialState.Reshaped(rows, channels),
                LastState = options.LastState.Reshaped(rows, channels),
            },
            null);
    }

    /// <summary>The bytes of workspace that the call needs.</summary>
    /// <inheritdoc cref="AssociativeScan(SsmCombine, in ReadOnlyTensorView, in TensorView, in AssociativeScanOptions)"/>
    /// <returns>Bytes.</returns>
    public long AssociativeScanWorkspace(SsmCombine combine, in ReadOnlyTensorView x, in TensorView y,
        in AssociativeScanOptions options = default)
    {
        ulong bytes;
        AssociativeScan(combine, x, y, options, &bytes);
        return (long)bytes;
    }

    private void AssociativeScan(SsmCombine combine, in ReadOnlyTensorView x, in TensorView y,
        in AssociativeScanOptions options, ulong* workspace)
    {
        fixed (byte* px = x, py = y, pInitialState = options.InitialState, pCuSeqlens = options.CuSeqlens, pLastState = options.LastState)
        {
            using var call = new Call(this);
            SsmAssociativeScanArgs args = new()
            {
                StructSize = (uint)sizeof(SsmAssociativeScanArgs),
                Combine = combine,
                Reverse = options.Reverse ? 1 : 0,
                Exclusive = options.Exclusive ? 1 : 0,
                X = call.Bind(x, px, "x"),
                InitialState = call.Bind(options.InitialState, pInitialState, "initial_state"),
                CuSeqlens = call.Bind(options.CuSeqlens, pCuSeqlens, "cu_seqlens"),
                Y = call.Bind(y, py, "y"),
                LastState = call.Bind(options.LastState, pLastState, "last_state"),
            };
            Check(workspace is null
                ? NativeMethods.AssociativeScan(Handle, &args)
                : NativeMethods.AssociativeScanWorkspace(Handle, &args, workspace));
        }
    }
}
