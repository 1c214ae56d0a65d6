namespace SsmCuda.Tests.Operations;

/// <summary>SeqIdx through the managed calls: two sequences, the first with padding between its steps, which holds NaN.</summary>
internal sealed class SequenceIdTests
{
    private static readonly int[] Ids = [4, -1, 4, 0, 0];
    private static readonly float[] Input = [1, float.NaN, 2, 3, 4];
    private static readonly float[] Ones = [1, 1, 1, 1, 1];

    [Test]
    public void A_convolution_passes_over_padding([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        using var ids = context.ToDevice<int>(Ids, 1, 5);
        using var x = context.ToDevice<float>(Input, 1, 1, 5);
        using var weight = context.ToDevice<float>([10, 1], 1, 2);
        using var y = context.Allocate<float>(1, 1, 5);
        using var last = context.Allocate<float>(1, 1, 1);
        context.CausalConv1d(x, weight, y, new() { SeqIdx = ids, LastState = last });
        Assert.That(y.ToArray(), Is.EqualTo((float[])[1, 0, 12, 3, 34]));
        Assert.That(last.ToArray(), Is.EqualTo((float[])[4]));

        using var gradY = context.ToDevice<float>(Ones, 1, 1, 5);
        using var gradWeight = context.Allocate<float>(1, 2);
        context.CausalConv1dBackward(x, weight, gradY, new() { SeqIdx = ids, GradX = y, GradWeight = gradWeight });
        Assert.That(y.ToArray(), Is.EqualTo((float[])[11, 0, 1, 11, 1]));
        Assert.That(gradWeight.ToArray(), Is.EqualTo((float[])[4, 10]));
    }

    [Test]
    public void A_scan_keeps_its_state_through_padding([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        using var ids = context.ToDevice<int>(Ids, 1, 5);
        using var u = context.ToDevice<float>(Input, 1, 1, 5);
        using var dt = context.ToDevice<float>(Ones, 1, 1, 5);
        using var a = context.ToDevice<float>([0], 1, 1);
        using var one = context.ToDevice<float>(Ones, 1, 1, 1, 5);
        using var y = context.Allocate<float>(1, 1, 5);
        using var last = context.Allocate<float>(1, 1, 1);
        context.SelectiveScan(u, dt, a, one, one, y, new() { SeqIdx = ids, LastState = last });
        Assert.That(y.ToArray(), Is.EqualTo((float[])[1, 0, 3, 3, 7]));
        Assert.That(last.ToArray(), Is.EqualTo((float[])[7]));

        using var gradY = context.ToDevice<float>(Ones, 1, 1, 5);
        context.SelectiveScanBackward(u, dt, a, one, one, gradY, new() { SeqIdx = ids, GradU = y, GradInitialState = last });
        Assert.That(y.ToArray(), Is.EqualTo((float[])[2, 0, 1, 2, 1]));
        Assert.That(last.ToArray(), Is.EqualTo((float[])[2]));
    }

    [Test]
    public void Ids_beside_packed_sequences_are_refused()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        var y = new float[5];
        var error = Assert.Throws<SsmArgumentException>(() => context.CausalConv1d(
            ReadOnlyTensorView.Create<float>(Ones, 1, 1, 5), ReadOnlyTensorView.Create<float>(Ones.AsSpan(0, 2), 1, 2),
            TensorView.Create<float>(y, 1, 1, 5),
            new()
            {
                SeqIdx = ReadOnlyTensorView.Create<int>(Ids, 1, 5),
                CuSeqlens = ReadOnlyTensorView.Create<long>([0, 5], 2),
            }));
        Assert.That(error!.Message, Does.Contain("seq_idx: NULL beside cu_seqlens"));
    }
}
