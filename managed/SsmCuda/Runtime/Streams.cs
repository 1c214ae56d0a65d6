using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>A CUDA stream as a pointer (CUstream, cudaStream_t), whoever made it.</summary>
/// <param name="Handle">The pointer.</param>
/// <remarks>ManagedCuda: <c>stream.Stream.Pointer</c>; ILGPU: <c>CudaStream.StreamPtr</c>. The stream's CUDA context has to
/// be the device's primary one.</remarks>
public readonly record struct CudaStream(nint Handle)
{
    /// <summary>The context's own stream.</summary>
    public static CudaStream Own => default;

    /// <summary>CUDA's legacy default stream.</summary>
    public static CudaStream LegacyDefault => new(1);

    /// <summary>CUDA's default stream of the calling thread.</summary>
    public static CudaStream PerThread => new(2);

    /// <summary>A foreign stream.</summary>
    /// <param name="handle">The CUstream or cudaStream_t.</param>
    /// <returns>The stream.</returns>
    public static CudaStream FromHandle(nint handle) => new(handle);
}

/// <summary>A further stream on a context's device, owned by this library.</summary>
public sealed unsafe class SsmStream : IDisposable
{
    private readonly SsmContext context;
    private readonly StreamHandle handle;

    internal SsmStream(SsmContext context)
    {
        this.context = context;
        context.Enter();
        try
        {
            handle = new StreamHandle(context.Handle);
            void* pointer;
            var status = NativeMethods.StreamCreate(context.Handle, &pointer);
            if (status != 0)
                handle.Dispose();
            SsmContext.Check(status);
            handle.Set((nint)pointer);
        }
        finally
        {
            context.Exit();
        }
    }

    /// <summary>The stream's pointer, for other libraries.</summary>
    public CudaStream Stream
    {
        get
        {
            ObjectDisposedException.ThrowIf(handle.IsClosed, this);
            return CudaStream.FromHandle(handle.Pointer);
        }
    }

    /// <summary>Destroys the stream once its work has ended. A context that uses it goes back to its own.</summary>
    public void Dispose()
    {
        if (handle.IsClosed)
            return;
        context.StreamDisposed(this);
        handle.Dispose();
    }
}
