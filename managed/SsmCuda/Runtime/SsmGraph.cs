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

    /// <summary>Runs the captured work on the stream of the context that captured it.</summary>
    public void Launch()
    {
        ObjectDisposedException.ThrowIf(handle.IsClosed, this);
        context.Enter();
        try
        {
            SsmContext.Check(NativeMethods.GraphLaunch(context.Handle, handle));
            handle.Track(context.Handle);
        }
        finally
        {
            context.Exit();
        }
    }

    /// <summary>Destroys the graph and lets the memory go.</summary>
    public void Dispose() => handle.Dispose();
}
