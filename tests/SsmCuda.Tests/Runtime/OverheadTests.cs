using System.Diagnostics;
using System.Runtime.CompilerServices;
using SsmCuda.Interop;

namespace SsmCuda.Tests.Runtime;

/// <summary>What a managed call costs over the bare C call with six tensors. Run by name: times are the machine's.</summary>
[Explicit("measures time")]
internal sealed unsafe class OverheadTests
{
    private const int Calls = 50;
    private const int Rounds = 20_000;

    [Test]
    public void Six_tensors_cost_less_than_100_ns_over_the_bare_call()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        context.SetThreads(1);
        float[] host = [0.5f];
        using var x = context.ToDevice<float>(host, 1, 1, 1);
        using var a = context.ToDevice<float>(host, 1, 1);
        using var b = context.ToDevice<float>(host, 1, 1, 1, 1);
        using var y = context.Allocate<float>(1, 1, 1);

        var bare = Best(() => Bare(context, x, a, b, y));
        var device = Best(() => context.SelectiveScan(x, x, a, b, b, y));
        var views = Best(() => Views(context));
        TestContext.Out.WriteLine($"bare {bare:f1} ns; device tensors {device - bare:f1} ns more; host spans {views - bare:f1} ns more");
        Assert.That(device - bare, Is.LessThan(100));
        Assert.That(views - bare, Is.LessThan(100));
    }

    private static readonly float[] Half = [0.5f];
    private static readonly float[] Result = new float[1];

    private static void Views(SsmContext context)
    {
        var x = ReadOnlyTensorView.Create<float>(Half, 1, 1, 1);
        var a = ReadOnlyTensorView.Create<float>(Half, 1, 1);
        var b = ReadOnlyTensorView.Create<float>(Half, 1, 1, 1, 1);
        context.SelectiveScan(x, x, a, b, b, TensorView.Create<float>(Result, 1, 1, 1));
    }

    private static void Bare(SsmContext context, DeviceTensor<float> x, DeviceTensor<float> a, DeviceTensor<float> b, DeviceTensor<float> y)
    {
        var shape = stackalloc long[] { 1, 1, 1, 1 };
        var tx = Tensor(x, shape, 3);
        var ta = Tensor(a, shape, 2);
        var tb = Tensor(b, shape, 4);
        var ty = Tensor(y, shape, 3);
        SsmSelectiveScanArgs args = new()
        {
            StructSize = (uint)sizeof(SsmSelectiveScanArgs),
            U = &tx,
            Dt = &tx,
            A = &ta,
            B = &tb,
            C = &tb,
            Y = &ty,
        };
        if (NativeMethods.SelectiveScan(context.Handle, &args) != 0)
            throw new InvalidOperationException();
    }

    private static DLTensor Tensor(DeviceTensor<float> tensor, long* shape, int rank) => new()
    {
        Data = (void*)tensor.Memory.Pointer,
        Device = new DLDevice { DeviceType = DLDeviceType.DLCPU },
        Ndim = rank,
        Dtype = new DLDataType { Code = 2, Bits = 32, Lanes = 1 },
        Shape = shape,
        Strides = shape, // all lengths are 1
    };

    /// <summary>Nanoseconds of one call: the best of many rounds, each short enough to run undisturbed.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static double Best(Action action)
    {
        var best = double.MaxValue;
        for (var round = 0; round < Rounds; round++)
        {
            var start = Stopwatch.GetTimestamp();
            for (var i = 0; i < Calls; i++)
                action();
            best = Math.Min(best, Stopwatch.GetElapsedTime(start).TotalNanoseconds / Calls);
        }
        return best;
    }
}
