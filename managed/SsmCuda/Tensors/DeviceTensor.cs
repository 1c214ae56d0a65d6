using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>A tensor in a device's memory, of any element type; <see cref="DeviceTensor{T}"/> has the operations on its
/// elements.</summary>
/// <remarks>Tensors may be disposed at any time and on any thread: memory is freed behind the work that is queued on it, and
/// kept while slices, graphs or DLPack consumers use it.</remarks>
public abstract unsafe partial class DeviceTensor : IDisposable
{
    private readonly Extents shape;
    private readonly Extents strides;

    private protected DeviceTensor(SsmContext context, MemoryHandle memory, nint pointer, DLDataType type, bool isReadOnly,
        ReadOnlySpan<nint> shape, ReadOnlySpan<nint> strides)
    {
        Context = context;
        Memory = memory;
        Pointer = pointer;
        DataType = type;
        IsReadOnly = isReadOnly;
        Rank = shape.Length;
        var compact = (nint)1;
        IsCompact = true;
        Length = 1;
        for (var i = shape.Length - 1; i >= 0; i--)
        {
            this.shape[i] = shape[i];
            this.strides[i] = strides.Length == 0 || shape[i] == 1 ? compact : strides[i];
            IsCompact &= this.strides[i] == compact;
            compact = checked(compact * Math.Max(shape[i], 1));
            Length *= shape[i];
        }
        IsCompact |= Length == 0;
        memory.Describe(pointer, type,
            new DLDevice { DeviceType = (DLDeviceType)context.DeviceType, DeviceId = context.IsCpu ? 0 : context.DeviceId },
            Rank, this.shape, this.strides);
    }

    /// <summary>The context that the tensor was made with; copies run on it.</summary>
    public SsmContext Context { get; }

    /// <summary>The address of the first element: a CUdeviceptr on CUDA devices, a host address on the CPU.</summary>
    /// <remarks>ManagedCuda: <c>new CUdeviceptr(tensor.Pointer)</c>. The memory lives until the tensor is disposed.</remarks>
    /// <exception cref="ObjectDisposedException">The tensor was disposed.</exception>
    public nint Pointer
    {
        get
        {
            ThrowIfDisposed();
            return field;
        }
    }

    /// <summary>The number of dimensions, at most <see cref="TensorView.MaxRank"/>.</summary>
    public int Rank { get; }

    /// <summary>The lengths of the dimensions.</summary>
    public ReadOnlySpan<nint> Shape => Span(in shape);

    /// <summary>The distance between neighbours in each dimension, in elements.</summary>
    public ReadOnlySpan<nint> Strides => Span(in strides);

    /// <summary>The number of elements.</summary>
    public long Length { get; }

    /// <summary>True where the elements lie one after another, the last dimension innermost.</summary>
    public bool IsCompact { get; }

    /// <summary>True for an import that must not be written to.</summary>
    public bool IsReadOnly { get; }

    /// <summary>The .NET type of the elements.</summary>
    public abstract Type ElementType { get; }

    internal MemoryHandle Memory { get; }

    internal DLDataType DataType { get; }

    /// <summary>Allocates compact device memory, uninitialised and 256-byte aligned.</summary>
    /// <param name="context">The context.</param>
    /// <param name="shape">The lengths of the dimensions.</param>
    /// <typeparam name="T">The element type.</typeparam>
    /// <returns>The tensor.</returns>
    /// <exception cref="SsmOutOfMemoryException">The device has not enough memory.</exception>
    public static DeviceTensor<T> Allocate<T>(SsmContext context, params ReadOnlySpan<nint> shape)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(context);
        var count = CheckShape(shape, []);
        var type = SsmCuda.ElementType.Get<T>();
        context.Enter();
        try
        {
            var memory = new DeviceMemoryHandle(context.Handle) { IsSynchronous = context.IsCpu };
            void* pointer;
            var status = NativeMethods.Allocate(context.Handle, checked((ulong)count * (ulong)sizeof(T)), &pointer);
            if (status != 0)
                memory.Dispose();
            SsmContext.Check(status);
            memory.Set((nint)pointer);
            return new DeviceTensor<T>(context, memory, (nint)pointer, type, false, shape, []);
        }
        finally
        {
            context.Exit();
        }
    }

    /// <summary>A tensor over memory that somebody else owns, on the context's device.</summary>
    /// <remarks>ManagedCuda: <c>(nint)(ulong)variable.DevicePointer</c> (its PrimaryContext); ILGPU: <c>buffer.NativePtr</c>;
    /// TorchSharp: <c>tensor.storage&lt;T&gt;().data_ptr()</c> plus the storage offset. The memory has to outlive the tensor
    /// and the work queued on it.</remarks>
    /// <param name="context">A context on the memory's device.</param>
    /// <param name="pointer">The address of the first element.</param>
    /// <param name="shape">The lengths of the dimensions.</param>
    /// <param name="strides">The strides in elements, not negative; empty for a compact tensor.</param>
    /// <param name="owner">An object to keep alive as long as the tensor.</param>
    /// <typeparam name="T">The element type.</typeparam>
    /// <returns>The tensor.</returns>
    public static DeviceTensor<T> FromPointer<T>(SsmContext context, nint pointer, ReadOnlySpan<nint> shape,
        ReadOnlySpan<nint> strides = default, object? owner = null)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(context);
        CheckShape(shape, strides);
        var type = SsmCuda.ElementType.Get<T>();
        context.Enter();
        try
        {
            var memory = new ForeignMemoryHandle(context.Handle, owner) { IsSynchronous = context.IsCpu || owner is null };
            memory.Set(pointer);
            return new DeviceTensor<T>(context, memory, pointer, type, false, shape, strides);
        }
        finally
        {
            context.Exit();
        }
    }

    /// <summary>Lets the memory go.</summary>
    public void Dispose()
    {
        Memory.LetGo();
        GC.SuppressFinalize(this);
    }

    /// <summary>The element type, shape and device.</summary>
    /// <returns>The text.</returns>
    public override string ToString() =>
        $"{SsmCuda.ElementType.Describe(DataType)} ({string.Join(",", Shape.ToArray())}) on {SsmDevice.Describe(Context.DeviceType, Context.DeviceId)}";

    /// <summary>Checks lengths and strides.</summary>
    /// <returns>The number of elements.</returns>
    private protected static long CheckShape(ReadOnlySpan<nint> shape, ReadOnlySpan<nint> strides)
    {
        if (shape.Length > TensorView.MaxRank)
            throw new ArgumentException($"A tensor has at most {TensorView.MaxRank} dimensions; {shape.Length} were given.", nameof(shape));
        if (strides.Length != 0 && strides.Length != shape.Length)
            throw new ArgumentException($"{strides.Length} strides were given for {shape.Length} dimensions.", nameof(strides));
        var count = 1L;
        foreach (var length in shape)
        {
            ArgumentOutOfRangeException.ThrowIfNegative(length, nameof(shape));
            count = checked(count * length);
        }
        foreach (var stride in strides)
            ArgumentOutOfRangeException.ThrowIfNegative(stride, nameof(strides));
        return count;
    }

    private protected void ThrowIfDisposed() => ObjectDisposedException.ThrowIf(Memory.IsLetGo, this);

    // nint and the 64-bit numbers of DLPack are the same on every platform that the library is built for.
    private ReadOnlySpan<nint> Span(in Extents extents) =>
        MemoryMarshal.CreateReadOnlySpan(ref Unsafe.As<Extents, nint>(ref Unsafe.AsRef(in extents)), Rank);
}

/// <summary>A tensor in a device's memory.</summary>
/// <typeparam name="T">The element type: float, double, Half, <see cref="BFloat16"/>, <see cref="Complex64"/>,
/// System.Numerics.Complex, long, int or byte.</typeparam>
public sealed unsafe class DeviceTensor<T> : DeviceTensor
    where T : unmanaged
{
    internal DeviceTensor(SsmContext context, MemoryHandle memory, nint pointer, DLDataType type, bool isReadOnly,
        ReadOnlySpan<nint> shape, ReadOnlySpan<nint> strides)
        : base(context, memory, pointer, type, isReadOnly, shape, strides)
    {
    }

    /// <inheritdoc/>
    public override Type ElementType => typeof(T);

    /// <summary>A part along one dimension, over the same memory, which lives until both are disposed.</summary>
    /// <param name="dimension">The dimension.</param>
    /// <param name="start">The first index.</param>
    /// <param name="length">How many.</param>
    /// <returns>The part.</returns>
    public DeviceTensor<T> Slice(int dimension, nint start, nint length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(dimension);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(dimension, Rank);
        ArgumentOutOfRangeException.ThrowIfNegative(start);
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, Shape[dimension] - start);
        Span<nint> shape = stackalloc nint[Rank];
        Shape.CopyTo(shape);
        shape[dimension] = length;
        return Share(start * Strides[dimension], shape, Strides);
    }

    /// <summary>The same elements in another shape, over the same memory.</summary>
    /// <param name="shape">The lengths of the dimensions.</param>
    /// <returns>The tensor.</returns>
    /// <exception cref="InvalidOperationException">The tensor is not compact.</exception>
    public DeviceTensor<T> Reshape(params ReadOnlySpan<nint> shape)
    {
        if (!IsCompact)
            throw new InvalidOperationException("Only a compact tensor can be reshaped in place.");
        if (CheckShape(shape, []) != Length)
            throw new ArgumentException($"The shape has another number of elements than {this}.", nameof(shape));
        return Share(0, shape, []);
    }

    /// <summary>The dimensions in another order, over the same memory.</summary>
    /// <param name="order">For each new dimension the old one.</param>
    /// <returns>The tensor.</returns>
    public DeviceTensor<T> Permute(params ReadOnlySpan<int> order)
    {
        if (order.Length != Rank)
            throw new ArgumentException($"{order.Length} dimensions were given for {Rank}.", nameof(order));
        Span<nint> shape = stackalloc nint[Rank];
        Span<nint> strides = stackalloc nint[Rank];
        var seen = 0;
        for (var i = 0; i < order.Length; i++)
        {
            if ((uint)order[i] >= (uint)Rank || (seen & (1 << order[i])) != 0)
                throw new ArgumentException("The order has to name every dimension once.", nameof(order));
            seen |= 1 << order[i];
            shape[i] = Shape[order[i]];
            strides[i] = Strides[order[i]];
        }
        return Share(0, shape, strides);
    }

    /// <summary>Copies elements in, in row-major order; returns when the span is done with.</summary>
    /// <param name="source">As many elements as the tensor has.</param>
    public void CopyFrom(ReadOnlySpan<T> source) => Context.Copy(ReadOnlyTensorView.Create(source, Shape), this);

    /// <summary>Copies a tensor in; returns when the span is done with.</summary>
    /// <param name="source">A tensor of this shape.</param>
    public void CopyFrom(ReadOnlyTensorSpan<T> source) => Context.Copy(ReadOnlyTensorView.Create(source), this);

    /// <summary>Queues a copy of another device tensor of this shape.</summary>
    /// <param name="source">The other tensor.</param>
    public void CopyFrom(DeviceTensor<T> source)
    {
        ArgumentNullException.ThrowIfNull(source);
        Context.Copy(source, this);
    }

    /// <summary>Queues a copy from pinned memory.</summary>
    /// <param name="source">At least as many elements as the tensor has, in row-major order.</param>
    public void CopyFrom(PinnedBuffer<T> source)
    {
        ArgumentNullException.ThrowIfNull(source);
        Context.Copy(source.View(Shape), this);
    }

    /// <summary>Copies the elements out in row-major order, after the work that is queued.</summary>
    /// <param name="destination">As many elements as the tensor has.</param>
    public void CopyTo(Span<T> destination) => Context.Copy(this, TensorView.Create(destination, Shape));

    /// <summary>Copies the tensor out, after the work that is queued.</summary>
    /// <param name="destination">A tensor of this shape.</param>
    public void CopyTo(TensorSpan<T> destination) => Context.Copy(this, TensorView.Create(destination));

    /// <summary>Queues a copy to pinned memory; wait for the context before reading it.</summary>
    /// <param name="destination">At least as many elements as the tensor has.</param>
    public void CopyTo(PinnedBuffer<T> destination)
    {
        ArgumentNullException.ThrowIfNull(destination);
        Context.Copy(this, destination.View(Shape));
    }

    /// <summary>The elements in row-major order, after the work that is queued.</summary>
    /// <returns>A new array.</returns>
    public T[] ToArray()
    {
        var elements = new T[checked((int)Length)];
        CopyTo(elements);
        return elements;
    }

    /// <summary>Queues setting every byte to zero.</summary>
    /// <exception cref="SsmArgumentException">The tensor is not compact.</exception>
    public void Clear()
    {
        TensorView view = this;
        var call = new Call(Context);
        try
        {
            SsmContext.Check(NativeMethods.Set(Context.Handle, call.Bind(view, null, "tensor"), 0));
        }
        finally
        {
            call.Dispose();
        }
    }

    /// <summary>The memory as a span, on a CPU context.</summary>
    /// <returns>The span; the tensor has to outlive it.</returns>
    /// <exception cref="InvalidOperationException">The memory is not the host's.</exception>
    public TensorSpan<T> AsTensorSpan()
    {
        if (!Context.IsCpu)
            throw new InvalidOperationException($"The memory of {this} cannot be read by the host; use CopyTo.");
        if (IsReadOnly)
            throw new InvalidOperationException("The tensor is read-only.");
        nint extent = Length == 0 ? 0 : 1;
        for (var i = 0; i < Rank && Length > 0; i++)
            extent += (Shape[i] - 1) * Strides[i];
        return new TensorSpan<T>((T*)Pointer, extent, Shape, Strides);
    }

    private DeviceTensor<T> Share(nint offset, ReadOnlySpan<nint> shape, ReadOnlySpan<nint> strides)
    {
        ThrowIfDisposed();
        var memory = new SharedMemoryHandle(Memory);
        var pointer = Pointer + (Length == 0 ? 0 : offset * sizeof(T));
        memory.Set(pointer);
        return new DeviceTensor<T>(Context, memory, pointer, DataType, IsReadOnly, shape, strides);
    }
}

public sealed unsafe partial class SsmContext
{
    /// <summary>Allocates compact memory on the context's device, uninitialised.</summary>
    /// <param name="shape">The lengths of the dimensions.</param>
    /// <typeparam name="T">The element type.</typeparam>
    /// <returns>The tensor.</returns>
    /// <exception cref="SsmOutOfMemoryException">The device has not enough memory.</exception>
    public DeviceTensor<T> Allocate<T>(params ReadOnlySpan<nint> shape)
        where T : unmanaged => DeviceTensor.Allocate<T>(this, shape);

    /// <summary>Copies host memory into new memory on the context's device.</summary>
    /// <param name="data">The elements in row-major order.</param>
    /// <param name="shape">The lengths of the dimensions.</param>
    /// <typeparam name="T">The element type.</typeparam>
    /// <returns>The tensor.</returns>
    public DeviceTensor<T> ToDevice<T>(ReadOnlySpan<T> data, params ReadOnlySpan<nint> shape)
        where T : unmanaged
    {
        var tensor = Allocate<T>(shape);
        try
        {
            tensor.CopyFrom(data);
            return tensor;
        }
        catch
        {
            tensor.Dispose();
            throw;
        }
    }
}
