using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>Work that was captured once and can be launched again at little cost. It keeps the memory of the tensors that it
/// uses; the values in them are read at each launch.</summary>
public sealed class SsmGraph : IDisposable
{
    private readonly SsmContext context;
    private readonly GraphHandle handle;

    internal SsmGraph(SsmContext context, nint pointer, List<MemoryHandle> memory)
    {
        this.context = context;
        handle = new GraphHandle(context.Handle, memory);
        handle.Set(pointer);
    }

    /// <summary>Runs the captured work on the context that captured it.</summary>
    public void Launch() => Launch(context);

    /// <summary>Runs the captured work on a context's stream.</summary>
    /// <param name="on">A context on the same device.</param>
    public void Launch(SsmContext on)
    {
        ArgumentNullException.ThrowIfNull(on);
        ObjectDisposedException.ThrowIf(handle.IsClosed, this);
        on.Enter();
        try
        {
            SsmContext.Check(NativeMethods.GraphLaunch(on.Handle, handle));
            handle.Track(on.Handle);
        }
        finally
        {
            on.Exit();
        }
    }

    /// <summary>Destroys the graph and lets the memory go.</summary>
    public void Dispose() => handle.Dispose();
}
