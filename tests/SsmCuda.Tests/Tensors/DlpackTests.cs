using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using SsmCuda.Interop;

namespace SsmCuda.Tests.Tensors;

internal sealed unsafe class DlpackTests
{
    // Deletions of what the tests made themselves, by the number in manager_ctx.
    private static readonly int[] Deletions = new int[8];

    [Test]
    public void A_round_trip_shares_the_memory([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device,
        [Values] bool versioned)
    {
        using var context = SsmContext.Create(device);
        var tensor = context.ToDevice<float>([1, 2, 3, 4, 5, 6], 2, 3);
        var turned = tensor.Permute(1, 0);
        var managed = versioned ? turned.ToDlpackVersioned() : turned.ToDlpack();
        turned.Dispose();
        tensor.Dispose(); // the export keeps the memory
        var import = versioned
            ? DeviceTensor.FromDlpackVersioned<float>(context, managed)
            : DeviceTensor.FromDlpack<float>(context, managed);
        Assert.That(import.Shape.ToArray(), Is.EqualTo((nint[])[3, 2]));
        Assert.That(import.Strides.ToArray(), Is.EqualTo((nint[])[1, 3]));
        Assert.That(import.ToArray(), Is.EqualTo((float[])[1, 4, 2, 5, 3, 6]));
        import.Dispose();
    }

    [Test]
    public void A_consumer_may_delete_on_any_thread_and_last([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        nint plain;
        nint versioned;
        using (var context = SsmContext.Create(device))
        {
            using var tensor = context.ToDevice<double>([1, 2], 2);
            plain = tensor.ToDlpack();
            versioned = tensor.ToDlpackVersioned();
        }
        var view = ((DLManagedTensor*)plain)->DlTensor;
        if (device == SsmDeviceType.Cpu)
            Assert.That(new Span<double>(view.Data, 2).ToArray(), Is.EqualTo((double[])[1, 2]));
        Assert.That(((DLManagedTensorVersioned*)versioned)->Version.Major, Is.EqualTo(1));
        var consumer = new Thread(() =>
        {
            ((DLManagedTensor*)plain)->Deleter((DLManagedTensor*)plain);
            ((DLManagedTensorVersioned*)versioned)->Deleter((DLManagedTensorVersioned*)versioned);
        });
        consumer.Start();
        consumer.Join();
    }

    [Test]
    public void A_foreign_deleter_runs_once_when_the_last_part_goes([Values] bool onAnotherThread)
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        var managed = Foreign(0, [1, 2, 3, 4, 5], offset: 1);
        var import = DeviceTensor.FromDlpack<float>(context, (nint)managed);
        var part = import.Slice(0, 1, 2);
        Assert.That(import.ToArray(), Is.EqualTo((float[])[2, 3, 4, 5]), "byte_offset counts");
        import.Dispose();
        import.Dispose();
        Assert.That(Deletions[0], Is.Zero, "a part is still there");
        Assert.That(part.ToArray(), Is.EqualTo((float[])[3, 4]));
        if (onAnotherThread)
        {
            var thread = new Thread(part.Dispose);
            thread.Start();
            thread.Join();
        }
        else
        {
            part.Dispose();
        }
        Assert.That(Interlocked.Exchange(ref Deletions[0], 0), Is.EqualTo(1));
    }

    [Test]
    public void The_finalizer_deletes_too()
    {
        Import();
        for (var i = 0; i < 3; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }
        Assert.That(Interlocked.Exchange(ref Deletions[1], 0), Is.EqualTo(1));

        [MethodImpl(MethodImplOptions.NoInlining)]
        static void Import()
        {
            var context = SsmContext.Create(SsmDeviceType.Cpu);
            _ = DeviceTensor.FromDlpack<float>(context, (nint)Foreign(1, [1, 2], 0));
        }
    }

    [Test]
    public void What_does_not_fit_stays_the_callers()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        var managed = Foreign(2, [1, 2], 0);
        Assert.That(() => DeviceTensor.FromDlpack<double>(context, (nint)managed), Throws.ArgumentException
            .With.Message.Contains("float32").And.Message.Contains("float64"));
        managed->DlTensor.Device.DeviceType = DLDeviceType.DLCUDA;
        Assert.That(() => DeviceTensor.FromDlpack<float>(context, (nint)managed), Throws.ArgumentException.With.Message.Contains("CUDA"));
        managed->DlTensor.Device.DeviceType = DLDeviceType.DLCPU;
        managed->DlTensor.Dtype.Lanes = 4;
        Assert.That(() => DeviceTensor.FromDlpack<float>(context, (nint)managed), Throws.ArgumentException);
        managed->DlTensor.Dtype.Lanes = 1;
        managed->DlTensor.Ndim = 9;
        Assert.That(() => DeviceTensor.FromDlpack<float>(context, (nint)managed), Throws.ArgumentException);
        managed->DlTensor.Ndim = 1;
        Assert.That(() => DeviceTensor.FromDlpack<float>(context, 0), Throws.InstanceOf<ArgumentException>());
        Assert.That(Deletions[2], Is.Zero);
        DeviceTensor.FromDlpack<float>(context, (nint)managed).Dispose();
        Assert.That(Interlocked.Exchange(ref Deletions[2], 0), Is.EqualTo(1));
    }

    [Test]
    public void Versions_and_the_read_only_flag_are_respected()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        using var tensor = context.ToDevice<float>([1, 2], 1, 1, 2);
        var managed = (DLManagedTensorVersioned*)tensor.ToDlpackVersioned();
        managed->Version.Major = 2;
        Assert.That(() => DeviceTensor.FromDlpackVersioned<float>(context, (nint)managed), Throws.ArgumentException.With.Message.Contains("2."));
        managed->Version.Major = 1;
        managed->Flags = 1;
        using var import = DeviceTensor.FromDlpackVersioned<float>(context, (nint)managed);
        Assert.That(import.IsReadOnly);
        Assert.That(() => context.AssociativeScan(SsmCombine.Add, import, import), Throws.ArgumentException);
        Assert.That(() => import.ToDlpack(), Throws.InvalidOperationException);
        Assert.That(() => import.AsTensorSpan(), Throws.InvalidOperationException);
        var again = (DLManagedTensorVersioned*)import.ToDlpackVersioned();
        Assert.That(again->Flags, Is.EqualTo(1));
        again->Deleter(again);
        context.AssociativeScan(SsmCombine.Add, import, tensor);
        Assert.That(import.ToArray(), Is.EqualTo((float[])[1, 3]), "the memory is the tensor's");
    }

    [Test]
    public void Deleting_waits_for_work_that_is_queued([ValueSource(typeof(Devices), nameof(Devices.Separate))] SsmDeviceType device)
    {
        using var producer = SsmContext.Create(device);
        using var context = SsmContext.Create(device);
        using var y = context.Allocate<float>(1, 64, 4096);
        for (var i = 0; i < 5; i++)
        {
            using var x = producer.Allocate<float>(1, 64, 4096);
            x.Clear();
            producer.Synchronize();
            using (var import = DeviceTensor.FromDlpack<float>(context, x.ToDlpack()))
                context.AssociativeScan(SsmCombine.Add, import, y);
        }
        Assert.That(y.ToArray(), Is.All.Zero);
    }

    /// <summary>A tensor of somebody else's: one-dimensional float, without strides.</summary>
    private static DLManagedTensor* Foreign(int number, float[] values, int offset)
    {
        var managed = (DLManagedTensor*)NativeMemory.AllocZeroed((nuint)(sizeof(DLManagedTensor) + sizeof(long) + (values.Length * sizeof(float))));
        var shape = (long*)(managed + 1);
        var data = (float*)(shape + 1);
        values.CopyTo(new Span<float>(data, values.Length));
        *shape = values.Length - offset;
        managed->DlTensor.Data = data;
        managed->DlTensor.ByteOffset = (ulong)(offset * sizeof(float));
        managed->DlTensor.Device.DeviceType = DLDeviceType.DLCPU;
        managed->DlTensor.Ndim = 1;
        managed->DlTensor.Dtype = new DLDataType { Code = (byte)DLDataTypeCode.DLFloat, Bits = 32, Lanes = 1 };
        managed->DlTensor.Shape = shape;
        managed->ManagerCtx = (void*)number;
        managed->Deleter = &Delete;
        return managed;
    }

    [UnmanagedCallersOnly]
    private static void Delete(DLManagedTensor* managed)
    {
        Interlocked.Increment(ref Deletions[(int)managed->ManagerCtx]);
        NativeMemory.Free(managed);
    }
}
