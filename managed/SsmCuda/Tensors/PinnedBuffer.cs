using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>Page-locked host memory, which copies to and from a device run asynchronously with. On the CPU it is plain
/// memory with an address that does not change.</summary>
/// <remarks>Disposing waits for copies that are queued.</remarks>
/// <typeparam name="T">The element type.</typeparam>
public sealed unsafe class PinnedBuffer<T> : IDisposable
    where T : unmanaged
{
    private readonly PinnedMemoryHandle memory;
    private readonly SsmContext context;

    /// <summary>Allocates memory, uninitialised.</summary>
    /// <param name="context">A context on the device that copies go to and from.</param>
    /// <param name="length">The number of elements.</param>
    /// <exception cref="SsmOutOfMemoryException">There is not enough memory.</exception>
    public PinnedBuffer(SsmContext context, int length)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        this.context = context;
        Length = length;
        context.Enter();
        try
        {
            memory = new PinnedMemoryHandle(context.Handle) { IsSynchronous = context.IsCpu };
            void* pointer;
            var status = NativeMethods.HostAllocate(context.Handle, (ulong)length * (ulong)sizeof(T), &pointer);
            if (status != 0)
                memory.Dispose();
            SsmContext.Check(status);
            memory.Set((nint)pointer);
        }
        finally
        {
            context.Exit();
        }
    }

    /// <summary>The number of elements.</summary>
    public int Length { get; }

    /// <summary>The address of the first element.</summary>
    public nint Pointer
    {
        get
        {
            ObjectDisposedException.ThrowIf(memory.IsLetGo, this);
            return memory.Pointer;
        }
    }

    /// <summary>The elements; the buffer has to outlive the span.</summary>
    public Span<T> Span => new((void*)Pointer, Length);

    /// <summary>A view of the first elements, for copies and, on the CPU, operations.</summary>
    /// <param name="shape">The lengths of the dimensions.</param>
    /// <returns>The view.</returns>
    public TensorView View(params scoped ReadOnlySpan<nint> shape)
    {
        TensorArgument argument = new() { IsInline = true };
        argument.Memory = memory;
        argument.Native.Data = (void*)Pointer;
        argument.Native.Dtype = ElementType.Get<T>();
        argument.Native.Device.DeviceType = context.IsCpu ? DLDeviceType.DLCPU : DLDeviceType.DLCUDAHost;
        argument.SetShape(shape, []);
        if (argument.Length > Length)
            throw new ArgumentException($"The shape has more elements than the buffer, {Length}.", nameof(shape));
        return new TensorView(argument);
    }

    /// <summary>Frees the memory once copies that use it have ended.</summary>
    public void Dispose() => memory.LetGo();
}
