using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace SsmCuda.Interop;

/// <summary>An ssm_context. It lives until its owner and everything made from it have let go, so that objects may be
/// disposed in any order and by the finalizer.</summary>
internal sealed class ContextHandle() : SafeHandle(0, ownsHandle: true)
{
    // What holds the context.
    private const int Nobody = 0, ACall = 1, ADispose = 2;

    private int holder;

    public override bool IsInvalid => handle == 0;

    public void Set(nint pointer) => SetHandle(pointer);

    public nint Pointer => handle;

    /// <summary>Claims the context for the calling thread; a second thread gets an exception instead of a data race.</summary>
    public void Enter()
    {
        if (Interlocked.CompareExchange(ref holder, ACall, Nobody) != Nobody)
            EnterContended();
    }

    private void EnterContended()
    {
        // A Dispose on another thread is legal and short; a call there is not.
        SpinWait wait = default;
        int previous;
        while ((previous = Interlocked.CompareExchange(ref holder, ACall, Nobody)) != Nobody)
        {
            if (previous == ACall)
                ThrowBusy();
            wait.SpinOnce();
        }
    }

    /// <summary>Claims the context for a Dispose, as soon as the call that has it is over.</summary>
    public void EnterForDispose()
    {
        SpinWait wait = default;
        while (Interlocked.CompareExchange(ref holder, ADispose, Nobody) != Nobody)
            wait.SpinOnce();
    }

    public void Exit() => Volatile.Write(ref holder, Nobody);

    private static void ThrowBusy() => throw new InvalidOperationException(
        "The context is in use by another thread. A context serves one thread at a time; give each thread its own.");

    protected override bool ReleaseHandle() => NativeMethods.ContextDestroy(handle) == 0;
}

/// <summary>Something made from a context, which it keeps alive.</summary>
internal abstract class ChildHandle : SafeHandle
{
    protected ChildHandle(ContextHandle parent)
        : base(0, ownsHandle: true)
    {
        Parent = parent;
        var added = false;
        try
        {
            parent.DangerousAddRef(ref added);
        }
        catch
        {
            // The finalizer would release a parent that was never held.
            SetHandleAsInvalid();
            throw;
        }
    }

    public ContextHandle Parent { get; }

    // Zero-sized memory is a null pointer and still has to let its parent go.
    public override bool IsInvalid => false;

    public void Set(nint pointer) => SetHandle(pointer);

    public nint Pointer => handle;

    /// <summary>Releases the native object; must not throw.</summary>
    protected abstract bool Release();

    protected sealed override bool ReleaseHandle()
    {
        var released = Release();
        Parent.DangerousRelease();
        return released;
    }
}

internal sealed class EventHandle(ContextHandle parent) : ChildHandle(parent)
{
    protected override bool Release() => handle == 0 || NativeMethods.EventDestroy(handle) == 0;
}

internal sealed class StreamHandle(ContextHandle parent) : ChildHandle(parent)
{
    protected override unsafe bool Release() =>
        handle == 0 || NativeMethods.StreamDestroy(Parent.Pointer, (void*)handle) == 0;
}

/// <summary>Captured work. It keeps the memory that the work uses.</summary>
internal sealed class GraphHandle(ContextHandle parent, List<MemoryHandle> memory) : ChildHandle(parent)
{
    protected override bool Release()
    {
        var released = handle == 0 || NativeMethods.GraphDestroy(handle) == 0;
        foreach (var item in memory)
            item.DangerousRelease();
        return released;
    }

    /// <summary>Tells memory that must not be released while work uses it that the work was queued again.</summary>
    public void Track(ContextHandle context)
    {
        foreach (var item in memory)
            item.Track(context);
    }
}

/// <summary>A piece of memory that tensors share.</summary>
internal abstract unsafe class MemoryHandle(ContextHandle parent) : ChildHandle(parent)
{
    // Events behind the last use on each context, for memory whose release is not ordered on the stream by itself.
    private readonly Lock gate = new();
    private List<(ContextHandle Context, nint Event)>? uses;

    private long[]? description;
    private volatile bool isClosed;

    /// <summary>The DLTensor of the tensor that the memory was made for, its extents behind it; as long-lived as this
    /// object.</summary>
    public DLTensor* Described { get; private set; }

    /// <summary>True once the owner has let go; set while no call is running on the parent.</summary>
    public bool IsLetGo => isClosed;

    /// <summary>A call on the parent needs no more than to see that the owner has not let go: freeing is ordered behind it.
    /// Other memory is counted.</summary>
    public bool IsOrdered => IsSynchronous || !WaitsForParent;

    /// <summary>Writes the description.</summary>
    public void Describe(nint pointer, DLDataType type, DLDevice device, int rank, in Extents shape, in Extents strides)
    {
        description = GC.AllocateUninitializedArray<long>((sizeof(DLTensor) + (2 * sizeof(Extents))) / sizeof(long), pinned: true);
        var tensor = (DLTensor*)Unsafe.AsPointer(ref MemoryMarshal.GetArrayDataReference(description));
        var extents = (Extents*)(tensor + 1);
        extents[0] = shape;
        extents[1] = strides;
        *tensor = new DLTensor
        {
            Data = (void*)pointer,
            Device = device,
            Ndim = rank,
            Dtype = type,
            Shape = (long*)extents,
            Strides = (long*)(extents + 1),
        };
        Described = tensor;
    }

    /// <summary>Lets go for the owner, who may be on any thread: after a call that is running, so that the call keeps what it
    /// has seen. The release itself is outside, for a foreign deleter may come back to the library.</summary>
    public void LetGo()
    {
        if (isClosed)
            return;
        Parent.EnterForDispose();
        isClosed = true;
        Parent.Exit();
        Dispose();
    }

    /// <summary>True where releasing has to wait for the work of every context; false where it is ordered on the parent's
    /// stream and only other contexts matter.</summary>
    protected virtual bool WaitsForParent => true;

    /// <summary>The device is done with a call when it returns, so that nothing has to be tracked.</summary>
    public bool IsSynchronous { get; init; }

    /// <summary>Marks the end of what is queued on a context as the last use there. The caller holds the context.</summary>
    public virtual void Track(ContextHandle context)
    {
        if (IsSynchronous || (!WaitsForParent && ReferenceEquals(context, Parent)))
            return;
        lock (gate)
        {
            // Without an event to wait for later, the wait is now. A device that failed has no use for the memory any more.
            var mark = EventFor(context);
            if (mark == 0 || NativeMethods.EventRecordRaw(context.Pointer, mark) != 0)
                _ = NativeMethods.ContextSynchronizeRaw(context.Pointer);
        }
    }

    // 0 where none can be made.
    private nint EventFor(ContextHandle context)
    {
        uses ??= [];
        foreach (var (known, mark) in uses)
        {
            if (ReferenceEquals(known, context))
                return mark;
        }
        var added = false;
        try
        {
            context.DangerousAddRef(ref added);
        }
        catch (ObjectDisposedException)
        {
            return 0; // disposed by another thread during the call
        }
        nint created;
        if (NativeMethods.EventCreateRaw(context.Pointer, &created) != 0)
        {
            context.DangerousRelease();
            return 0;
        }
        uses.Add((context, created));
        return created;
    }

    protected sealed override bool Release()
    {
        foreach (var (context, mark) in uses ?? [])
        {
            _ = NativeMethods.EventSynchronizeRaw(mark);
            _ = NativeMethods.EventDestroy(mark);
            context.DangerousRelease();
        }
        return Free();
    }

    protected abstract bool Free();
}

/// <summary>Memory of ssm_allocate; freeing is ordered on the context's stream and legal on any thread.</summary>
internal sealed unsafe class DeviceMemoryHandle(ContextHandle parent) : MemoryHandle(parent)
{
    protected override bool WaitsForParent => false;

    protected override bool Free() => NativeMethods.Free(Parent.Pointer, (void*)handle) == 0;
}

/// <summary>Memory of ssm_host_allocate.</summary>
internal sealed unsafe class PinnedMemoryHandle(ContextHandle parent) : MemoryHandle(parent)
{
    protected override bool Free() => NativeMethods.HostFree(Parent.Pointer, (void*)handle) == 0;
}

/// <summary>Memory that somebody else frees; an object that stands for it may be kept alive.</summary>
internal sealed class ForeignMemoryHandle(ContextHandle parent, object? owner) : MemoryHandle(parent)
{
    protected override bool Free()
    {
        GC.KeepAlive(owner);
        return true;
    }
}

/// <summary>A part of another piece of memory, which it keeps.</summary>
internal sealed class SharedMemoryHandle : MemoryHandle
{
    private readonly MemoryHandle whole;

    public SharedMemoryHandle(MemoryHandle whole)
        : base(whole.Parent)
    {
        var added = false;
        try
        {
            whole.DangerousAddRef(ref added);
        }
        catch
        {
            SetHandleAsInvalid();
            Parent.DangerousRelease();
            throw;
        }
        this.whole = whole;
        IsSynchronous = whole.IsSynchronous;
    }

    protected override bool WaitsForParent => !whole.IsOrdered;

    public override void Track(ContextHandle context) => whole.Track(context);

    protected override bool Free()
    {
        whole.DangerousRelease();
        return true;
    }
}

/// <summary>A DLPack tensor that was given to us: its deleter is called once, when nothing uses the memory any more.</summary>
internal sealed unsafe class DlpackMemoryHandle(ContextHandle parent, bool versioned) : MemoryHandle(parent)
{
    /// <summary>The DLManagedTensor or DLManagedTensorVersioned.</summary>
    public nint Managed { get; set; }

    protected override bool Free()
    {
        if (Managed == 0)
            return true;
        if (versioned)
        {
            var tensor = (DLManagedTensorVersioned*)Managed;
            if (tensor->Deleter != null)
                tensor->Deleter(tensor);
        }
        else
        {
            var tensor = (DLManagedTensor*)Managed;
            if (tensor->Deleter != null)
                tensor->Deleter(tensor);
        }
        return true;
    }
}
