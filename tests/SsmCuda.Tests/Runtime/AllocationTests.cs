using System.Numerics.Tensors;

namespace SsmCuda.Tests.Runtime;

/// <summary>Calls leave nothing for the garbage collector.</summary>
internal sealed class AllocationTests
{
    [Test]
    public void Host_spans()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        float[] a = new float[24], b = new float[24], h = new float[24], s0 = new float[6], s1 = new float[6];
        var options = new float[6];
        Assert.That(BytesOf(() =>
        {
            context.LinearRecurrence(a, b, h, 2, 3, 4, new() { InitialState = s0, LastState = s1, Reverse = true });
            context.AssociativeScan(SsmCombine.Add, a, h, 2, 3, 4, new() { InitialState = options });
            context.LinearRecurrenceBackward<float>(a, b, 2, 3, 4, new() { GradB = h });
            context.LinearRecurrence(new ReadOnlyTensorSpan<float>(a, [2, 3, 4]), new ReadOnlyTensorSpan<float>(b, [2, 3, 4]),
                new TensorSpan<float>(h, [2, 3, 4]), new() { LastState = new TensorSpan<float>(s1, [2, 3]) });
        }), Is.Zero);
    }

    [Test]
    public void Device_tensors([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        using var x = context.ToDevice<float>(new float[24], 2, 3, 4);
        using var y = context.Allocate<float>(2, 3, 4);
        using var a = context.ToDevice<float>(new float[6], 3, 2);
        using var b = context.ToDevice<float>(new float[16], 2, 1, 2, 4);
        using var mark = context.CreateEvent();
        var host = new float[24];
        Assert.That(BytesOf(() =>
        {
            context.SelectiveScan(x, x, a, b, b, y, new() { Z = x, DtSoftplus = true });
            context.LinearRecurrence(x, x, y);
            y.CopyTo(host);
            x.CopyFrom(host);
            mark.Record();
            context.Wait(mark);
            context.Synchronize();
        }), Is.Zero);
    }

    private static long BytesOf(Action action)
    {
        for (var i = 0; i < 3; i++)
            action();
        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 10; i++)
            action();
        return GC.GetAllocatedBytesForCurrentThread() - before;
    }
}
