using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>Four numbers in place: the lengths or strides of a view.</summary>
[InlineArray(TensorView.MaxRank)]
internal struct Extents
{
    private long first;
}

/// <summary>What both views are: where the data lies, and its native description, which is the device tensor's own or made
/// here, and then completed when a call has pinned the data.</summary>
internal unsafe ref struct TensorArgument
{
    /// <summary>Host memory that the garbage collector may move.</summary>
    public ref byte Reference;
    /// <summary>Memory of the library or of somebody else, with a fixed address.</summary>
    public MemoryHandle? Memory;
    /// <summary>The description that the memory of a device tensor keeps.</summary>
    public DLTensor* Described;
    /// <summary>True where the fields below are the description; they are undefined otherwise.</summary>
    public bool IsInline;
    public DLTensor Native;
    public Extents Shape;
    public Extents Strides;

    public readonly bool IsPresent => Described is not null || IsInline;

    public readonly int Rank => Described is not null ? Described->Ndim : IsInline ? Native.Ndim : 0;

    public readonly long Length
    {
        get
        {
            var length = 1L;
            for (var i = 0; i < Rank; i++)
                length *= Described is not null ? Described->Shape[i] : Shape[i];
            return length;
        }
    }

    /// <summary>Describes host memory.</summary>
    /// <returns>The number of elements.</returns>
    public long DescribeHost(DLDataType type, scoped ReadOnlySpan<nint> shape, scoped ReadOnlySpan<nint> strides)
    {
        Memory = null;
        Described = null;
        IsInline = true;
        Native.Device = new DLDevice { DeviceType = DLDeviceType.DLCPU };
        Native.Dtype = type;
        Native.ByteOffset = 0;
        return SetShape(shape, strides);
    }

    /// <summary>Sets the lengths and strides.</summary>
    /// <returns>The number of elements.</returns>
    public long SetShape(scoped ReadOnlySpan<nint> shape, scoped ReadOnlySpan<nint> strides)
    {
        if (shape.Length > TensorView.MaxRank)
            ThrowRank(shape.Length);
        Native.Ndim = shape.Length;
        var compact = 1L;
        var length = 1L;
        for (var i = shape.Length - 1; i >= 0; i--)
        {
            Shape[i] = shape[i];
            // A dimension of length 1 has whatever stride; the compact one lets kernels use the data in place.
            Strides[i] = strides.Length == 0 || shape[i] == 1 ? compact : strides[i];
            compact = checked(Strides[i] * Math.Max(shape[i], 1));
            length = checked(length * shape[i]);
        }
        return length;
    }

    /// <summary>Gives a one-dimensional view of the right length another shape; other views stay as they are.</summary>
    public void Reshape(scoped ReadOnlySpan<long> shape)
    {
        var length = 1L;
        foreach (var extent in shape)
            length *= extent;
        if (Described is not null)
            CopyDescription();
        if (!IsInline || Native.Ndim != 1 || Shape[0] != length || (Strides[0] != 1 && length > 1))
            return;
        Native.Ndim = shape.Length;
        var compact = 1L;
        for (var i = shape.Length - 1; i >= 0; i--)
        {
            Shape[i] = shape[i];
            Strides[i] = compact;
            compact *= Math.Max(shape[i], 1);
        }
    }

    private void CopyDescription()
    {
        Native = *Described;
        for (var i = 0; i < Native.Ndim; i++)
        {
            Shape[i] = Native.Shape[i];
            Strides[i] = Native.Strides[i];
        }
        Described = null;
        IsInline = true;
    }

    private static void ThrowRank(int rank) =>
        throw new ArgumentException($"A tensor view has at most {TensorView.MaxRank} dimensions; this one would have {rank}.");

    public static void ThrowLength(ReadOnlySpan<nint> shape, long count) => throw new ArgumentException(
        $"The shape ({string.Join(",", shape.ToArray())}) does not have as many elements as the data, {count}.");
}

/// <summary>A tensor that an operation writes to. Whatever carries its own shape converts to it: <see cref="TensorSpan{T}"/>,
/// <see cref="Tensor{T}"/>, <see cref="DeviceTensor{T}"/>; a <see cref="Span{T}"/> or an array is one-dimensional, and
/// <see cref="Create{T}(Span{T}, ReadOnlySpan{nint})"/> gives it a shape. Nothing is copied. The default value is an absent
/// tensor.</summary>
/// <remarks>Element types are float, double, Half, <see cref="BFloat16"/>, <see cref="Complex64"/> and
/// System.Numerics.Complex.</remarks>
public readonly ref partial struct TensorView
{
    /// <summary>The largest number of dimensions of a view.</summary>
    public const int MaxRank = 4;

    internal readonly TensorArgument Argument;

    internal TensorView(scoped in TensorArgument argument) => Argument = argument;

    private TensorView(ref byte data, DLDataType type, scoped ReadOnlySpan<nint> shape, scoped ReadOnlySpan<nint> strides, long count)
    {
        Unsafe.SkipInit(out Argument);
        Argument.Reference = ref data;
        var length = Argument.DescribeHost(type, shape, strides);
        if (count >= 0 && count != length)
            TensorArgument.ThrowLength(shape, count);
    }

    private unsafe TensorView(MemoryHandle memory)
    {
        // The description behind these fields is not used, and writing it would be most of the work.
        Unsafe.SkipInit(out Argument);
        Argument.Reference = ref Unsafe.NullRef<byte>();
        Argument.Memory = memory;
        Argument.Described = memory.Described;
        Argument.IsInline = false;
    }

    /// <summary>False for the default value, an absent tensor.</summary>
    public bool IsPresent => Argument.IsPresent;

    /// <summary>The number of dimensions.</summary>
    public int Rank => Argument.Rank;

    /// <summary>A view of compact host memory, the last dimension contiguous.</summary>
    /// <param name="data">The elements.</param>
    /// <param name="shape">The lengths of the dimensions; their product is the length of the data.</param>
    /// <typeparam name="T">The element type.</typeparam>
    /// <exception cref="ArgumentException">The shape has another number of elements or more than four
    /// dimensions.</exception>
    public static TensorView Create<T>(Span<T> data, params scoped ReadOnlySpan<nint> shape)
        where T : unmanaged =>
        new(ref Unsafe.As<T, byte>(ref MemoryMarshal.GetReference(data)), ElementType.Get<T>(), shape, [], data.Length);

    /// <summary>A view of host memory with a shape and strides of its own.</summary>
    /// <param name="span">The tensor.</param>
    /// <typeparam name="T">The element type.</typeparam>
    public static TensorView Create<T>(TensorSpan<T> span)
        where T : unmanaged =>
        new(ref Unsafe.As<T, byte>(ref span.GetPinnableReference()), ElementType.Get<T>(), span.Lengths, span.Strides, -1);

    /// <summary>A view of device memory.</summary>
    /// <param name="tensor">The tensor.</param>
    /// <exception cref="ArgumentException">The tensor is read-only.</exception>
    public static implicit operator TensorView(DeviceTensor? tensor)
    {
        if (tensor is null)
            return default;
        if (tensor.IsReadOnly)
            throw new ArgumentException("The tensor is read-only and cannot be written to.", nameof(tensor));
        return new(tensor.Memory);
    }

    /// <summary>The view with another shape, where it is one-dimensional and has as many elements.</summary>
    internal TensorView Reshaped(params scoped ReadOnlySpan<long> shape)
    {
        var argument = Argument;
        argument.Reshape(shape);
        return new TensorView(argument);
    }

    /// <summary>For <c>fixed</c>: the first byte of host memory; null where the memory is not the garbage collector's.</summary>
    /// <returns>The reference.</returns>
    public ref byte GetPinnableReference() => ref Argument.Reference;
}

/// <summary>A tensor that an operation reads. Whatever carries its own shape converts to it: <see cref="TensorSpan{T}"/>,
/// <see cref="ReadOnlyTensorSpan{T}"/>, <see cref="Tensor{T}"/>, <see cref="DeviceTensor{T}"/>, <see cref="TensorView"/>; a
/// <see cref="ReadOnlySpan{T}"/> or an array is one-dimensional, and
/// <see cref="Create{T}(ReadOnlySpan{T}, ReadOnlySpan{nint})"/> gives it a shape. Nothing is copied. The default value is an
/// absent tensor.</summary>
/// <remarks>Element types are float, double, Half, <see cref="BFloat16"/>, <see cref="Complex64"/>,
/// System.Numerics.Complex and, for positions, long and int.</remarks>
public readonly ref partial struct ReadOnlyTensorView
{
    internal readonly TensorArgument Argument;

    internal ReadOnlyTensorView(scoped in TensorArgument argument) => Argument = argument;

    private ReadOnlyTensorView(ref byte data, DLDataType type, scoped ReadOnlySpan<nint> shape, scoped ReadOnlySpan<nint> strides, long count)
    {
        Unsafe.SkipInit(out Argument);
        Argument.Reference = ref data;
        var length = Argument.DescribeHost(type, shape, strides);
        if (count >= 0 && count != length)
            TensorArgument.ThrowLength(shape, count);
    }

    private unsafe ReadOnlyTensorView(MemoryHandle memory)
    {
        // As in TensorView.
        Unsafe.SkipInit(out Argument);
        Argument.Reference = ref Unsafe.NullRef<byte>();
        Argument.Memory = memory;
        Argument.Described = memory.Described;
        Argument.IsInline = false;
    }

    /// <summary>False for the default value, an absent tensor.</summary>
    public bool IsPresent => Argument.IsPresent;

    /// <summary>The number of dimensions.</summary>
    public int Rank => Argument.Rank;

    /// <summary>A view of compact host memory, the last dimension contiguous.</summary>
    /// <param name="data">The elements.</param>
    /// <param name="shape">The lengths of the dimensions; their product is the length of the data.</param>
    /// <typeparam name="T">The element type.</typeparam>
    /// <exception cref="ArgumentException">The shape has another number of elements or more than four
    /// dimensions.</exception>
    public static ReadOnlyTensorView Create<T>(ReadOnlySpan<T> data, params scoped ReadOnlySpan<nint> shape)
        where T : unmanaged =>
        new(ref Unsafe.As<T, byte>(ref MemoryMarshal.GetReference(data)), ElementType.Get<T>(), shape, [], data.Length);

    /// <summary>A view of host memory with a shape and strides of its own.</summary>
    /// <param name="span">The tensor.</param>
    /// <typeparam name="T">The element type.</typeparam>
    public static ReadOnlyTensorView Create<T>(ReadOnlyTensorSpan<T> span)
        where T : unmanaged =>
        new(ref Unsafe.As<T, byte>(ref Unsafe.AsRef(in span.GetPinnableReference())), ElementType.Get<T>(), span.Lengths,
            span.Strides, -1);

    /// <summary>A view of device memory.</summary>
    /// <param name="tensor">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(DeviceTensor? tensor) =>
        tensor is null ? default : new(tensor.Memory);

    /// <summary>What may be written may be read.</summary>
    /// <param name="view">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(TensorView view) => new(view.Argument);

    /// <summary>The view with another shape, where it is one-dimensional and has as many elements.</summary>
    internal ReadOnlyTensorView Reshaped(params scoped ReadOnlySpan<long> shape)
    {
        var argument = Argument;
        argument.Reshape(shape);
        return new ReadOnlyTensorView(argument);
    }

    /// <summary>For <c>fixed</c>: the first byte of host memory; null where the memory is not the garbage collector's.</summary>
    /// <returns>The reference.</returns>
    public ref readonly byte GetPinnableReference() => ref Argument.Reference;
}
