using System.Numerics.Tensors;
using System.Runtime.InteropServices;

namespace SsmCuda.Tests.Tensors;

internal sealed class DeviceTensorTests
{
    private static readonly float[] Six = [0, 1, 2, 3, 4, 5];

    [Test]
    public void Shape_and_strides([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        using var tensor = context.ToDevice<float>(Six, 2, 3);
        using var turned = tensor.Permute(1, 0);
        using var row = tensor.Slice(0, 1, 1);
        using var column = tensor.Slice(1, 2, 1);
        using var flat = tensor.Reshape(6);
        using var empty = context.Allocate<float>(2, 0, 3);
        Assert.That(tensor.Shape.ToArray(), Is.EqualTo((nint[])[2, 3]));
        Assert.That(tensor.Strides.ToArray(), Is.EqualTo((nint[])[3, 1]));
        Assert.That((tensor.Rank, tensor.Length, tensor.IsCompact, tensor.IsReadOnly), Is.EqualTo((2, 6L, true, false)));
        Assert.That(tensor.ElementType, Is.EqualTo(typeof(float)));
        Assert.That((long)tensor.Pointer % 256, Is.Zero);
        Assert.That(tensor.ToString(), Is.EqualTo($"float32 (2,3) on {context.Device}"));
        Assert.That(turned.Shape.ToArray(), Is.EqualTo((nint[])[3, 2]));
        Assert.That(turned.IsCompact, Is.False);
        Assert.That(turned.ToArray(), Is.EqualTo((float[])[0, 3, 1, 4, 2, 5]));
        Assert.That(row.ToArray(), Is.EqualTo((float[])[3, 4, 5]));
        Assert.That(row.IsCompact);
        Assert.That(column.ToArray(), Is.EqualTo((float[])[2, 5]));
        Assert.That(flat.ToArray(), Is.EqualTo(Six));
        Assert.That(empty.ToArray(), Is.Empty);
        Assert.That(empty.IsCompact);
        Assert.Throws<InvalidOperationException>(() => turned.Reshape(6));
        Assert.Throws<ArgumentException>(() => tensor.Reshape(7));
        Assert.Throws<ArgumentException>(() => tensor.Permute(0, 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => tensor.Slice(1, 2, 2));
        Assert.Throws<ArgumentOutOfRangeException>(() => tensor.Slice(2, 0, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => context.Allocate<float>(-1));
        Assert.Throws<ArgumentException>(() => context.Allocate<float>(1, 1, 1, 1, 1));
        Assert.Throws<NotSupportedException>(() => context.Allocate<char>(1));
    }

    [Test]
    public void Copies_of_every_kind([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        using var tensor = context.Allocate<float>(2, 3);
        tensor.Clear();
        Assert.That(tensor.ToArray(), Is.All.Zero);
        tensor.CopyFrom(new ReadOnlyTensorSpan<float>(Six, [2, 3], [1, 2]));
        Assert.That(tensor.ToArray(), Is.EqualTo((float[])[0, 2, 4, 1, 3, 5]));
        var columns = new float[6];
        tensor.CopyTo(new TensorSpan<float>(columns, [2, 3], [1, 2]));
        Assert.That(columns, Is.EqualTo(Six));
        using var other = context.Allocate<float>(2, 3);
        other.CopyFrom(tensor);
        using var pinned = new PinnedBuffer<float>(context, 6);
        other.CopyTo(pinned);
        context.Synchronize();
        Assert.That(pinned.Span.ToArray(), Is.EqualTo((float[])[0, 2, 4, 1, 3, 5]));
        pinned.Span.Fill(7);
        other.CopyFrom(pinned);
        Assert.That(other.ToArray(), Is.All.EqualTo(7));
        Assert.Throws<ArgumentException>(() => tensor.CopyFrom(new float[5]));
        Assert.Throws<SsmArgumentException>(() => tensor.CopyFrom(new ReadOnlyTensorSpan<float>(Six, [3, 2])));
        using var turned = tensor.Permute(1, 0);
        Assert.Throws<SsmArgumentException>(turned.Clear);
    }

    [Test]
    public void Every_element_type_comes_back([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        Check<float>(1.5f);
        Check(1.5);
        Check((Half)1.5);
        Check((BFloat16)1.5f);
        Check(new Complex64(1, 2));
        Check(new System.Numerics.Complex(1, 2));
        Check(1L << 40);
        Check(1 << 20);
        Check((byte)200);

        void Check<T>(T value)
            where T : unmanaged
        {
            using var tensor = context.ToDevice<T>([value, default, value], 3);
            Assert.That(tensor.ToArray(), Is.EqualTo((T[])[value, default, value]));
        }
    }

    [Test]
    public void Queued_copies_outlive_their_pinned_buffer([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        using var tensor = context.Allocate<float>(100_000);
        var ones = Enumerable.Repeat(1f, 100_000).ToArray();
        for (var i = 0; i < 10; i++)
        {
            var pinned = new PinnedBuffer<float>(context, 100_000);
            ones.CopyTo(pinned.Span);
            tensor.CopyFrom(pinned);
            pinned.Dispose();
            Assert.That(tensor.ToArray(), Is.EqualTo(ones));
            tensor.Clear();
        }
    }

    [Test]
    public unsafe void Raw_pointers_of_others_are_used_in_place()
    {
        using var context = SsmContext.Create(SsmDeviceType.Cpu);
        var memory = (float*)NativeMemory.Alloc(24, sizeof(float));
        try
        {
            for (var i = 0; i < 24; i++)
                memory[i] = i % 2 == 0 ? 1 : -1;
            // Every other element: the rest stays.
            using var tensor = DeviceTensor.FromPointer<float>(context, (nint)memory, [2, 2, 3], [12, 6, 2]);
            context.AssociativeScan(SsmCombine.Add, tensor, tensor);
            Assert.That(tensor.ToArray(), Is.EqualTo((float[])[1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3]));
            Assert.That(new Span<float>(memory, 24).ToArray().Where((_, i) => i % 2 == 1), Is.All.EqualTo(-1));
            Assert.That(tensor.AsTensorSpan()[1, 1, 2], Is.EqualTo(3));
        }
        finally
        {
            NativeMemory.Free(memory);
        }
        Assert.Throws<ArgumentOutOfRangeException>(() => DeviceTensor.FromPointer<float>(context, 0, [2], [-1]));
        Assert.Throws<ArgumentException>(() => DeviceTensor.FromPointer<float>(context, 0, [2], [1, 1]));
    }

    [Test]
    public void Raw_pointers_of_the_device_are_used_in_place([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        using var memory = context.ToDevice<double>([1, 2, 3, 4, 5, 6], 6);
        using var foreign = DeviceTensor.FromPointer<double>(context, memory.Pointer + sizeof(double), [1, 1, 4], default, memory);
        context.AssociativeScan(SsmCombine.Multiply, foreign, foreign);
        Assert.That(memory.ToArray(), Is.EqualTo((double[])[1, 2, 6, 24, 120, 6]));
    }

    [Test]
    public void Spans_of_the_memory_are_the_hosts_alone([ValueSource(typeof(Devices), nameof(Devices.Separate))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        using var tensor = context.Allocate<float>(4);
        Assert.Throws<InvalidOperationException>(() => tensor.AsTensorSpan());
    }

    [Test]
    public void Slices_keep_the_memory([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        var whole = context.ToDevice<float>(Six, 6);
        var part = whole.Slice(0, 2, 3);
        var inner = part.Slice(0, 1, 1);
        whole.Dispose();
        part.Dispose();
        using var noise = context.ToDevice<float>(new float[6], 6);
        Assert.That(inner.ToArray(), Is.EqualTo((float[])[3]));
        inner.Dispose();
    }

    [Test]
    public void Views_check_their_shape()
    {
        var data = new float[6];
        Assert.That(() => { TensorView.Create<float>(data, 2, 4); }, Throws.ArgumentException);
        Assert.That(() => { ReadOnlyTensorView.Create<float>(data, 1, 1, 1, 2, 3); }, Throws.ArgumentException);
        TensorView view = data;
        Assert.That((view.Rank, view.IsPresent), Is.EqualTo((1, true)));
        ReadOnlyTensorView absent = (float[]?)null;
        Assert.That(absent.IsPresent, Is.False);
        absent = (DeviceTensor<float>?)null;
        Assert.That(absent.IsPresent, Is.False);
        absent = (float[])[];
        Assert.That(absent.IsPresent, "empty is not absent");
    }
}
