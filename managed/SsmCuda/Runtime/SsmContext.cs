using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>One device, one stream of work and one workspace; operations are its methods. A context serves one thread at a
/// time (another thread gets an <see cref="InvalidOperationException"/>); contexts do not disturb one another, so give each
/// thread its own.</summary>
/// <remarks>
/// On a CUDA device calls return when the work is queued; <see cref="Synchronize"/> and <see cref="CompletionAsync"/> wait.
/// On the CPU they return when it is done. Disposal is safe at any time, from any thread and in any order: tensors,
/// events, streams and graphs keep the native context until they are disposed too, and disposing waits for queued work.
/// </remarks>
public sealed unsafe partial class SsmContext : IDisposable
{
    private SsmDevice? device;
    private SsmStream? ownedStream;
    private MemoryHandle? workspace;
    private List<MemoryHandle>? captured;
    private bool disposed;

    private SsmContext(SsmDeviceType type, int id)
    {
        Handle = new ContextHandle();
        try
        {
            nint pointer;
            SsmException.ThrowIfFailed(NativeMethods.ContextCreate((int)type, id, &pointer));
            Handle.Set(pointer);
            int actual;
            int actualId;
            SsmException.ThrowIfFailed(NativeMethods.ContextGetDevice(Handle, &actual, &actualId));
            DeviceType = (SsmDeviceType)actual;
            DeviceId = actualId;
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Lets go what a context that was never disposed holds, and what keeps the native context in turn.</summary>
    ~SsmContext() => ReleaseHeld();

    internal ContextHandle Handle { get; }

    internal SsmDeviceType DeviceType { get; }

    internal int DeviceId { get; }

    /// <summary>Host memory is the device's own, and work on it has ended when the call returns.</summary>
    internal bool IsCpu => DeviceType == SsmDeviceType.Cpu;

    /// <summary>True between <see cref="BeginCapture"/> and <see cref="EndCapture"/>.</summary>
    public bool IsCapturing => captured is not null;

    /// <summary>The device that the context works on.</summary>
    public SsmDevice Device => device ??= SsmDevice.Get(DeviceType, DeviceId);

    /// <summary>Makes a context.</summary>
    /// <param name="device">The kind of device; by default the best one present.</param>
    /// <param name="id">The number of the device among those of its kind.</param>
    /// <returns>The context.</returns>
    /// <exception cref="SsmBackendException">The device cannot be had; the message says why.</exception>
    public static SsmContext Create(SsmDeviceType device = SsmDeviceType.Default, int id = 0) => new(device, id);

    /// <summary>Makes a context.</summary>
    /// <param name="device">The device.</param>
    /// <returns>The context.</returns>
    /// <exception cref="SsmBackendException">The device cannot be had; the message says why.</exception>
    public static SsmContext Create(SsmDevice device)
    {
        ArgumentNullException.ThrowIfNull(device);
        return new SsmContext(device.Type, device.Id);
    }

    /// <summary>The stream that work is queued on. A new stream starts after what was queued on the old one;
    /// <see cref="CudaStream.Own"/> goes back to the context's own. The caller keeps a foreign stream alive while it is
    /// set.</summary>
    public CudaStream Stream
    {
        get
        {
            Enter();
            try
            {
                void* pointer;
                Check(NativeMethods.ContextGetStream(Handle, &pointer));
                return CudaStream.FromHandle((nint)pointer);
            }
            finally
            {
                Exit();
            }
        }
        set => SetStream(value, owner: null);
    }

    /// <summary>Queues work on a stream of the library from now on, after what was queued before. Disposing the stream puts
    /// the context back on its own.</summary>
    /// <param name="stream">A stream of this context.</param>
    public void UseStream(SsmStream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        SetStream(stream.Stream, stream);
    }

    private void SetStream(CudaStream stream, SsmStream? owner)
    {
        Enter();
        try
        {
            Check(NativeMethods.ContextSetStream(Handle, (void*)stream.Handle));
            ownedStream = owner;
        }
        finally
        {
            Exit();
        }
    }

    /// <summary>Makes a further stream on the context's device; <see cref="UseStream"/> works on it.</summary>
    /// <returns>The stream.</returns>
    public SsmStream CreateStream() => new(this);

    /// <summary>Makes an event.</summary>
    /// <returns>The event.</returns>
    public SsmEvent CreateEvent() => new(this);

    /// <summary>Leaves a stream that is about to go; waits for a call on another thread, because Dispose may come from
    /// anywhere.</summary>
    internal void StreamDisposed(SsmStream stream)
    {
        if (!ReferenceEquals(ownedStream, stream) || disposed)
            return;
        Handle.EnterForDispose();
        try
        {
            // A context that failed has no use for a stream any more; one that is capturing has.
            var status = NativeMethods.ContextSetStream(Handle, null);
            if (status == (int)SsmStatus.InvalidState)
                Check(status);
            ownedStream = null;
        }
        finally
        {
            Exit();
        }
    }

    /// <summary>Uses the caller's memory as workspace, instead of memory of the context that grows as needed. The context
    /// keeps the memory until another workspace is set.</summary>
    /// <param name="memory">Compact memory on the context's device, 256-byte aligned as allocations are; null goes back to
    /// the context's own.</param>
    public void SetWorkspace(DeviceTensor<byte>? memory)
    {
        if (memory is { IsCompact: false })
            throw new ArgumentException("A workspace has to be compact.", nameof(memory));
        MemoryHandle? old = null;
        var held = false;
        Enter();
        try
        {
            Handle.DangerousAddRef(ref held);
            MemoryHandle? handle = null;
            if (memory is not null)
            {
                handle = memory.Memory;
                var added = false;
                handle.DangerousAddRef(ref added);
            }
            var status = NativeMethods.ContextSetWorkspace(Handle, (void*)(memory?.Pointer ?? 0), (ulong)(memory?.Length ?? 0));
            if (status != 0)
            {
                handle?.DangerousRelease();
                Check(status);
            }
            // Work that is queued may still use the old one.
            workspace?.Track(Handle);
            old = workspace;
            workspace = handle;
        }
        finally
        {
            Exit();
            if (held)
                Handle.DangerousRelease();
        }
        old?.DangerousRelease();
    }

    /// <summary>Uses foreign memory on the context's device as workspace; the caller keeps it until another is set and the
    /// work has ended.</summary>
    /// <param name="pointer">256-byte aligned memory; 0 goes back to the context's own.</param>
    /// <param name="bytes">Its size.</param>
    public void SetWorkspace(nint pointer, long bytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(bytes);
        Enter();
        try
        {
            Check(NativeMethods.ContextSetWorkspace(Handle, (void*)pointer, (ulong)bytes));
            ReleaseWorkspace();
        }
        finally
        {
            Exit();
        }
    }

    /// <summary>Sets how many threads one CPU operation may use; 0, the default, is as many as the process may. Results do
    /// not depend on it.</summary>
    /// <param name="threads">The number of threads.</param>
    public void SetThreads(int threads)
    {
        Enter();
        try
        {
            Check(NativeMethods.ContextSetThreads(Handle, threads));
        }
        finally
        {
            Exit();
        }
    }

    /// <summary>Sets whether wrong values in tensors on a device are errors too, as they always are on the CPU: bounds of packed
    /// sequences and slots that are none, two elements of one slot, rates a that are not finite. Each call then waits for the
    /// device, so this is for finding mistakes; work captured into a graph of the device's own is not looked at.</summary>
    /// <param name="enabled">Whether to look; off is the default.</param>
    public void SetChecking(bool enabled)
    {
        Enter();
        try
        {
            Check(NativeMethods.ContextSetChecking(Handle, enabled ? 1 : 0));
        }
        finally
        {
            Exit();
        }
    }

    /// <summary>Sets a tuning option by name.</summary>
    /// <param name="name">The name, such as linear_recurrence.tile.</param>
    /// <param name="value">The value; 0 is the default.</param>
    /// <exception cref="SsmArgumentException">There is no such option.</exception>
    public void SetOption(string name, long value)
    {
        ArgumentNullException.ThrowIfNull(name);
        Enter();
        try
        {
            fixed (byte* text = Utf8.FromString(name))
                Check(NativeMethods.ContextSetOption(Handle, text, value));
        }
        finally
        {
            Exit();
        }
    }

    /// <summary>Waits until everything queued has ended.</summary>
    /// <exception cref="SsmDeviceFaultException">The device reported a fault.</exception>
    public void Synchronize()
    {
        Enter();
        try
        {
            Check(NativeMethods.ContextSynchronize(Handle));
        }
        finally
        {
            Exit();
        }
    }

    /// <summary>A task that ends once everything queued so far has ended, without a thread that waits.</summary>
    /// <returns>The task; it fails with an <see cref="SsmException"/> if the work did.</returns>
    public Task CompletionAsync()
    {
        Enter();
        try
        {
            return Completion.Start(this);
        }
        finally
        {
            Exit();
        }
    }

    /// <summary>Queues a wait: work queued from now on starts after the event.</summary>
    /// <param name="mark">The event, recorded on any context of the same kind of device.</param>
    public void Wait(SsmEvent mark)
    {
        ArgumentNullException.ThrowIfNull(mark);
        Enter();
        try
        {
            Check(NativeMethods.EventWait(Handle, mark.Handle));
        }
        finally
        {
            Exit();
        }
    }

    /// <summary>Begins recording: until <see cref="EndCapture"/>, operations and device copies are recorded instead of run.
    /// Tensors must be <see cref="DeviceTensor{T}"/>s.</summary>
    public void BeginCapture()
    {
        Enter();
        try
        {
            Check(NativeMethods.CaptureBegin(Handle));
            captured = [];
            if (workspace is not null)
                Keep(workspace);
        }
        finally
        {
            Exit();
        }
    }

    /// <summary>Ends recording.</summary>
    /// <returns>The recorded work, which keeps the tensors' memory that it uses.</returns>
    public SsmGraph EndCapture()
    {
        Enter();
        try
        {
            var memory = captured ?? [];
            nint pointer;
            var status = NativeMethods.CaptureEnd(Handle, &pointer);
            captured = null;
            if (status != 0)
            {
                foreach (var item in memory)
                    item.DangerousRelease();
                Check(status);
            }
            return new SsmGraph(this, pointer, memory);
        }
        finally
        {
            Exit();
        }
    }

    /// <summary>Records what a function queues.</summary>
    /// <param name="work">Calls operations of this context.</param>
    /// <returns>The recorded work.</returns>
    public SsmGraph Capture(Action work)
    {
        ArgumentNullException.ThrowIfNull(work);
        BeginCapture();
        try
        {
            work();
        }
        catch
        {
            try
            {
                EndCapture().Dispose();
            }
            catch (SsmException)
            {
                // What the function threw is the reason.
            }
            throw;
        }
        return EndCapture();
    }

    /// <summary>Copies between tensors of one element type and shape, of any strides, in host or device memory.</summary>
    /// <remarks>Copies between device memory and host memory of the garbage collector return when the host side is done
    /// with; copies with <see cref="PinnedBuffer{T}"/> and between device tensors are queued.</remarks>
    /// <param name="source">What is copied.</param>
    /// <param name="destination">Where to.</param>
    /// <exception cref="SsmArgumentException">The shapes or element types differ.</exception>
    public void Copy(in ReadOnlyTensorView source, in TensorView destination)
    {
        fixed (byte* from = source, to = destination)
        {
            using var call = new Call(this, isCopy: true);
            Check(NativeMethods.Copy(Handle, call.Bind(source, from, "source"), call.Bind(destination, to, "destination")));
        }
    }

    /// <summary>Disposes the context. Queued work goes on to its end; the native context goes when everything made from it
    /// has been disposed too.</summary>
    public void Dispose()
    {
        disposed = true;
        ReleaseHeld();
        Handle.Dispose();
        GC.SuppressFinalize(this);
    }

    internal void Enter()
    {
        if (disposed)
            ThrowDisposed();
        Handle.Enter();
    }

    internal void Exit() => Handle.Exit();

    internal static void Check(int status)
    {
        if (status != 0)
            SsmException.ThrowIfFailed(status);
    }

    /// <summary>During a capture, takes over a call's hold on memory, for the graph.</summary>
    internal bool KeepsForCapture(MemoryHandle memory)
    {
        captured?.Add(memory);
        return captured is not null;
    }

    /// <summary>R of the documentation: the packed sequences, or else the batch.</summary>
    private static long StateRows(scoped in ReadOnlyTensorView cuSeqlens, long batch) =>
        cuSeqlens.IsPresent ? cuSeqlens.Argument.Length - 1 : batch;

    private void Keep(MemoryHandle memory)
    {
        var added = false;
        memory.DangerousAddRef(ref added);
        captured!.Add(memory);
    }

    private void ReleaseHeld()
    {
        ReleaseWorkspace();
        foreach (var item in Interlocked.Exchange(ref captured, null) ?? [])
            item.DangerousRelease();
    }

    private void ReleaseWorkspace() => Interlocked.Exchange(ref workspace, null)?.DangerousRelease();

    private void ThrowDisposed() => throw new ObjectDisposedException(GetType().FullName);
}
