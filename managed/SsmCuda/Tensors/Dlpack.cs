using System.Runtime.InteropServices;
using SsmCuda.Interop;

namespace SsmCuda;

public abstract unsafe partial class DeviceTensor
{
    // DLPACK_FLAG_BITMASK_READ_ONLY
    private const ulong ReadOnlyFlag = 1;

    /// <summary>What an export allocates: the managed tensor, and behind it the extents that it points to.</summary>
    private struct Exported
    {
        public DLManagedTensor Plain;
        public DLManagedTensorVersioned Versioned;
        public Extents Shape;
        public Extents Strides;
    }

    /// <summary>Exports the tensor as a DLPack <c>DLManagedTensor*</c>, which shares the memory. Whoever consumes it calls its
    /// deleter once, on any thread; the memory lives until then. Work that is queued is not waited for.</summary>
    /// <returns>The pointer.</returns>
    /// <exception cref="InvalidOperationException">The tensor is read-only, which this form cannot say.</exception>
    public nint ToDlpack()
    {
        if (IsReadOnly)
            throw new InvalidOperationException("A read-only tensor needs ToDlpackVersioned.");
        var exported = Export();
        exported->Plain.DlTensor = Describe(exported);
        exported->Plain.ManagerCtx = exported->Versioned.ManagerCtx;
        exported->Plain.Deleter = &DeletePlain;
        return (nint)(&exported->Plain);
    }

    /// <summary>Exports the tensor as a DLPack 1.x <c>DLManagedTensorVersioned*</c>; see <see cref="ToDlpack"/>.</summary>
    /// <returns>The pointer.</returns>
    public nint ToDlpackVersioned()
    {
        var exported = Export();
        exported->Versioned.Version = new DLPackVersion { Major = 1, Minor = 1 };
        exported->Versioned.Flags = IsReadOnly ? ReadOnlyFlag : 0;
        exported->Versioned.DlTensor = Describe(exported);
        exported->Versioned.Deleter = &DeleteVersioned;
        return (nint)(&exported->Versioned);
    }

    /// <summary>Takes over a DLPack <c>DLManagedTensor*</c>: its deleter is called once, when the tensor and everything that
    /// shares its memory has been disposed and the work queued on it has ended. On an exception it stays the
    /// caller's.</summary>
    /// <param name="context">A context on the memory's device.</param>
    /// <param name="managed">The pointer.</param>
    /// <typeparam name="T">The element type, which has to be the tensor's.</typeparam>
    /// <returns>The tensor.</returns>
    /// <exception cref="ArgumentException">The device, element type or shape does not fit.</exception>
    public static DeviceTensor<T> FromDlpack<T>(SsmContext context, nint managed)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentOutOfRangeException.ThrowIfZero(managed);
        return Import<T>(context, managed, ((DLManagedTensor*)managed)->DlTensor, versioned: false, isReadOnly: false);
    }

    /// <summary>Takes over a DLPack 1.x <c>DLManagedTensorVersioned*</c>; see <see cref="FromDlpack{T}"/>.</summary>
    /// <param name="context">A context on the memory's device.</param>
    /// <param name="managed">The pointer.</param>
    /// <typeparam name="T">The element type, which has to be the tensor's.</typeparam>
    /// <returns>The tensor; read-only if its flag says so.</returns>
    /// <exception cref="ArgumentException">The version, device, element type or shape does not fit.</exception>
    public static DeviceTensor<T> FromDlpackVersioned<T>(SsmContext context, nint managed)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentOutOfRangeException.ThrowIfZero(managed);
        var tensor = (DLManagedTensorVersioned*)managed;
        if (tensor->Version.Major != 1)
            throw new ArgumentException($"DLPack version 1 is understood, not {tensor->Version.Major}.{tensor->Version.Minor}.", nameof(managed));
        return Import<T>(context, managed, tensor->DlTensor, versioned: true, (tensor->Flags & ReadOnlyFlag) != 0);
    }

    private static DeviceTensor<T> Import<T>(SsmContext context, nint managed, in DLTensor tensor, bool versioned, bool isReadOnly)
        where T : unmanaged
    {
        var type = SsmCuda.ElementType.Get<T>();
        if (tensor.Dtype.Code != type.Code || tensor.Dtype.Bits != type.Bits || tensor.Dtype.Lanes != 1)
        {
            throw new ArgumentException(
                $"The DLPack tensor has elements of {SsmCuda.ElementType.Describe(tensor.Dtype)}; {SsmCuda.ElementType.Describe(type)} was asked for.",
                nameof(managed));
        }
        CheckDevice(context, tensor.Device);
        if (tensor.Ndim is < 0 or > TensorView.MaxRank)
            throw new ArgumentException($"A tensor has at most {TensorView.MaxRank} dimensions; the DLPack tensor has {tensor.Ndim}.", nameof(managed));
        var shape = new ReadOnlySpan<nint>(tensor.Shape, tensor.Ndim);
        var strides = new ReadOnlySpan<nint>(tensor.Strides, tensor.Strides is null ? 0 : tensor.Ndim);
        CheckShape(shape, strides);
        context.Enter();
        try
        {
            var memory = new DlpackMemoryHandle(context.Handle, versioned) { IsSynchronous = context.IsCpu, Managed = managed };
            var pointer = (nint)tensor.Data + (nint)tensor.ByteOffset;
            memory.Set(pointer);
            return new DeviceTensor<T>(context, memory, pointer, type, isReadOnly, shape, strides);
        }
        finally
        {
            context.Exit();
        }
    }

    private static void CheckDevice(SsmContext context, DLDevice device)
    {
        var fits = context.DeviceType switch
        {
            SsmDeviceType.Cpu => device.DeviceType is DLDeviceType.DLCPU or DLDeviceType.DLCUDAHost,
            SsmDeviceType.Cuda => device.DeviceType is DLDeviceType.DLCUDA or DLDeviceType.DLCUDAManaged
                                  && device.DeviceId == context.DeviceId,
            _ => device.DeviceType == (DLDeviceType)context.DeviceType && device.DeviceId == context.DeviceId,
        };
        if (!fits)
        {
            throw new ArgumentException(
                $"The DLPack tensor lies on {device.DeviceType.ToString()[2..]}:{device.DeviceId}, the context on " +
                $"{SsmDevice.Describe(context.DeviceType, context.DeviceId)}.");
        }
    }

    /// <summary>Makes a handle that shares the memory, and native memory for the export that holds it.</summary>
    private Exported* Export()
    {
        ThrowIfDisposed();
        var memory = new SharedMemoryHandle(Memory);
        var exported = (Exported*)NativeMemory.AllocZeroed((nuint)sizeof(Exported));
        exported->Versioned.ManagerCtx = (void*)GCHandle.ToIntPtr(GCHandle.Alloc(memory));
        return exported;
    }

    private DLTensor Describe(Exported* exported)
    {
        exported->Shape = shape;
        exported->Strides = strides;
        return new DLTensor
        {
            Data = (void*)Pointer,
            Device = new DLDevice
            {
                DeviceType = (DLDeviceType)Context.DeviceType,
                DeviceId = Context.IsCpu ? 0 : Context.DeviceId,
            },
            Ndim = Rank,
            Dtype = DataType,
            Shape = (long*)&exported->Shape,
            Strides = (long*)&exported->Strides,
        };
    }

    [UnmanagedCallersOnly]
    private static void DeletePlain(DLManagedTensor* tensor) => Delete(tensor->ManagerCtx, (Exported*)tensor);

    [UnmanagedCallersOnly]
    private static void DeleteVersioned(DLManagedTensorVersioned* tensor) =>
        Delete(tensor->ManagerCtx, (Exported*)((DLManagedTensor*)tensor - 1)); // Versioned lies behind Plain

    private static void Delete(void* user, Exported* exported)
    {
        var handle = GCHandle.FromIntPtr((nint)user);
        var memory = (SharedMemoryHandle)handle.Target!;
        handle.Free();
        NativeMemory.Free(exported);
        memory.Dispose();
    }
}
