namespace SsmCuda.Tests.Runtime;

internal sealed class EventAndGraphTests
{
    [Test]
    public void Events_order_contexts_and_measure_time([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        using var first = SsmContext.Create(device);
        using var second = SsmContext.Create(device);
        using var x = first.ToDevice<double>([1, 2, 3], 1, 1, 3);
        using var y = first.Allocate<double>(1, 1, 3);
        using var z = second.Allocate<double>(1, 1, 3);
        using var start = first.CreateEvent();
        using var end = first.CreateEvent();
        Assert.That(start.IsCompleted, "it was never recorded");
        start.Record();
        first.AssociativeScan(SsmCombine.Add, x, y);
        end.Record();
        second.Wait(end);
        second.AssociativeScan(SsmCombine.Add, y, z); // a tensor of the other context
        end.Synchronize();
        Assert.That(end.IsCompleted);
        Assert.That(end.ElapsedSince(start), Is.GreaterThanOrEqualTo(TimeSpan.Zero).And.LessThan(TimeSpan.FromMinutes(1)));
        Assert.That(z.ToArray(), Is.EqualTo((double[])[1, 4, 10]));
        using var other = second.CreateEvent();
        other.Record(second);
        other.Synchronize();
    }

    [Test]
    public void A_graph_runs_again_with_the_values_of_the_day([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        using var a = context.ToDevice<float>([1, 1, 1, 1], 1, 1, 4);
        var b = context.ToDevice<float>([1, 2, 3, 4], 1, 1, 4);
        using var h = context.ToDevice<float>([0, 0, 0, 0], 1, 1, 4);
        context.LinearRecurrence(a, b, h); // the workspace has its size now
        h.Clear();
        using var graph = context.Capture(() => context.LinearRecurrence(a, b, h));
        Assert.That(context.IsCapturing, Is.False);
        Assert.That(h.ToArray(), Is.All.Zero, "captured, not run");
        graph.Launch();
        Assert.That(h.ToArray(), Is.EqualTo((float[])[1, 3, 6, 10]));
        b.CopyFrom((float[])[1, 1, 1, 1]);
        b.Dispose(); // the graph keeps its memory
        graph.Launch();
        Assert.That(h.ToArray(), Is.EqualTo((float[])[1, 2, 3, 4]));
    }

    [Test]
    public void A_capture_refuses_memory_that_may_move()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        var a = new float[4];
        context.BeginCapture();
        Assert.That(context.IsCapturing);
        var error = Assert.Throws<InvalidOperationException>(() => context.LinearRecurrence(a, a, a, 1, 1, 4));
        Assert.That(error.Message, Does.Contain("captured"));
        using var graph = context.EndCapture();
        graph.Launch();
        Assert.Throws<ArithmeticException>(() => context.Capture(() => throw new ArithmeticException()));
        Assert.That(context.IsCapturing, Is.False);
        context.LinearRecurrence(a, a, a, 1, 1, 4);
    }

    [Test]
    public void Disposing_during_a_capture_waits_for_its_end([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        var x = context.ToDevice<float>([1, 2], 1, 1, 2);
        using var y = context.Allocate<float>(1, 1, 2);
        context.AssociativeScan(SsmCombine.Add, x, y);
        context.BeginCapture();
        context.AssociativeScan(SsmCombine.Multiply, x, y);
        x.Dispose();
        using var graph = context.EndCapture();
        graph.Launch();
        Assert.That(y.ToArray(), Is.EqualTo((float[])[1, 2]));
    }
}
