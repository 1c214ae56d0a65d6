using System.Runtime.CompilerServices;
using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>One call of an operation: claims the context, binds the tensors to addresses and keeps their memory until the
/// call has returned. Lives on the stack.</summary>
internal unsafe ref struct Call
{
    [InlineArray(Capacity)]
    private struct Held
    {
        private MemoryHandle? first;
    }

    // The most tensors that one operation takes, with room.
    private const int Capacity = 48;

    private readonly SsmContext context;
    private readonly bool acceptsHostSpans;
    private Held held;
    private int count;
    private bool holdsContext;

    /// <summary>isOnHost: a set-up operation, which takes host memory on every device and is done when it returns.</summary>
    public Call(SsmContext context, bool isCopy = false, bool isOnHost = false)
    {
        this.context = context;
        acceptsHostSpans = isOnHost || ((isCopy || context.IsCpu) && !context.IsCapturing);
        context.Enter();
    }

    /// <summary>The native description of a tensor, or null for an absent one. The view has to live on the caller's stack,
    /// which holds for every ref struct, and pinned is the address of its host memory.</summary>
    public DLTensor* Bind(scoped in ReadOnlyTensorView view, byte* pinned, string name) =>
        view.Argument.IsPresent ? Bind(ref Unsafe.AsRef(in view.Argument), pinned, name) : null;

    /// <inheritdoc cref="Bind(in ReadOnlyTensorView, byte*, string)"/>
    public DLTensor* Bind(scoped in TensorView view, byte* pinned, string name) =>
        view.Argument.IsPresent ? Bind(ref Unsafe.AsRef(in view.Argument), pinned, name) : null;

    private DLTensor* Bind(scoped ref TensorArgument argument, byte* pinned, string name)
    {
        if (argument.Memory is { } memory)
            Keep(memory, name);
        else if (!acceptsHostSpans)
            ThrowHostSpan(name);
        else
            argument.Native.Data = pinned;
        if (argument.Described is not null)
            return argument.Described;
        argument.Native.Shape = (long*)Unsafe.AsPointer(ref argument.Shape);
        argument.Native.Strides = (long*)Unsafe.AsPointer(ref argument.Strides);
        return (DLTensor*)Unsafe.AsPointer(ref argument.Native);
    }

    /// <summary>Keeps memory through the call. The context's own cannot be let go while the call has the context; other memory
    /// is counted, and let go when the call is over or by the graph.</summary>
    private void Keep(MemoryHandle memory, string name)
    {
        if (memory.IsLetGo)
            ThrowDisposed(name);
        if (ReferenceEquals(memory.Parent, context.Handle) && memory.IsOrdered && !context.IsCapturing)
            return;
        var added = false;
        // What is counted is marked with an event at the end, for which the context has to be there still.
        if (!holdsContext)
            context.Handle.DangerousAddRef(ref holdsContext);
        memory.DangerousAddRef(ref added);
        held[count++] = memory;
    }

    public void Dispose()
    {
        for (var i = 0; i < count; i++)
        {
            if (context.KeepsForCapture(held[i]!))
                held[i] = null;
            else
                held[i]!.Track(context.Handle);
        }
        context.Exit();
        // Outside, for what is released may be somebody else's, who comes back to the context.
        for (var i = 0; i < count; i++)
            held[i]?.DangerousRelease();
        if (holdsContext)
            context.Handle.DangerousRelease();
    }

    private static void ThrowDisposed(string name) =>
        throw new ObjectDisposedException(name, $"{name}: the tensor was disposed.");

    private readonly void ThrowHostSpan(string name) => throw new InvalidOperationException(context.IsCapturing
        ? $"{name}: host memory that the garbage collector may move cannot be captured; use a DeviceTensor."
        : $"{name}: host memory was given to a context on {context.Device}; copy it into a DeviceTensor first.");
}
