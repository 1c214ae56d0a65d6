using FsCheck;
using FsCheck.Fluent;

namespace SsmCuda.Tests.Operations;

/// <summary>Laws of the operations, for shapes that nobody chose.</summary>
internal sealed class PropertyTests
{
    private static readonly Config Runs = Config.QuickThrowOnFailure.WithMaxTest(40);

    // Batch, channels, length and where to split it.
    private static readonly Arbitrary<(int Batch, int Channels, int Length, int Split)> Shapes = (
        from batch in Gen.Choose(1, 3)
        from channels in Gen.Choose(1, 20)
        from length in Gen.Choose(0, 300)
        from split in Gen.Choose(0, length)
        select (batch, channels, length, split)).ToArbitrary();

    [Test]
    public void A_split_with_carry_is_one_call([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        Prop.ForAll(Shapes, shape =>
        {
            var (batch, channels, length, split) = shape;
            using var a = Random(context, shape.GetHashCode(), batch, channels, length);
            using var b = Random(context, shape.GetHashCode() + 1, batch, channels, length);
            using var whole = context.Allocate<double>(batch, channels, length);
            using var parts = context.Allocate<double>(batch, channels, length);
            using var lastOfWhole = context.Allocate<double>(batch, channels);
            using var carry = context.Allocate<double>(batch, channels);
            using var lastOfParts = context.Allocate<double>(batch, channels);
            context.LinearRecurrence(a, b, whole, new() { LastState = lastOfWhole });
            using (DeviceTensor<double> a0 = a.Slice(2, 0, split), b0 = b.Slice(2, 0, split), h0 = parts.Slice(2, 0, split))
                context.LinearRecurrence(a0, b0, h0, new() { LastState = carry });
            var rest = length - split;
            using (DeviceTensor<double> a1 = a.Slice(2, split, rest), b1 = b.Slice(2, split, rest), h1 = parts.Slice(2, split, rest))
                context.LinearRecurrence(a1, b1, h1, new() { InitialState = carry, LastState = lastOfParts });
            return AreClose(whole.ToArray(), parts.ToArray()) && AreClose(lastOfWhole.ToArray(), lastOfParts.ToArray());
        }).Check(Runs);
    }

    [Test]
    public void Reverse_is_the_flip_of_forward([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        Prop.ForAll(Shapes, shape =>
        {
            var (batch, channels, length, _) = shape;
            using var x = Random(context, shape.GetHashCode(), batch, channels, length);
            using var y = context.Allocate<double>(batch, channels, length);
            context.AssociativeScan(SsmCombine.Add, x, y, new() { Reverse = true });
            using var flipped = context.ToDevice<double>(Flip(x.ToArray(), length), batch, channels, length);
            context.AssociativeScan(SsmCombine.Add, flipped, flipped);
            return AreClose(y.ToArray(), Flip(flipped.ToArray(), length));
        }).Check(Runs);
    }

    [Test]
    public void Packed_sequences_are_separate_ones([ValueSource(typeof(Devices), nameof(Devices.All))] SsmDeviceType device)
    {
        using var context = SsmContext.Create(device);
        Prop.ForAll(Shapes, shape =>
        {
            var (_, channels, length, split) = shape;
            using var a = Random(context, shape.GetHashCode(), 1, channels, length);
            using var b = Random(context, shape.GetHashCode() + 1, 1, channels, length);
            using var packed = context.Allocate<double>(1, channels, length);
            using var separate = context.Allocate<double>(1, channels, length);
            using var starts = context.ToDevice<long>([0, split, length], 3);
            context.LinearRecurrence(a, b, packed, new() { CuSeqlens = starts });
            foreach (var (start, count) in ((int, int)[])[(0, split), (split, length - split)])
            {
                using DeviceTensor<double> pa = a.Slice(2, start, count), pb = b.Slice(2, start, count), ph = separate.Slice(2, start, count);
                context.LinearRecurrence(pa, pb, ph);
            }
            return AreClose(packed.ToArray(), separate.ToArray());
        }).Check(Runs);
    }

    private static DeviceTensor<double> Random(SsmContext context, int seed, int batch, int channels, int length) =>
        context.ToDevice<double>(Numbers.Random<double>(new Random(seed), (long)batch * channels * length, -0.99, 0.99),
            batch, channels, length);

    private static double[] Flip(double[] values, int length) =>
        length == 0 ? values : [.. values.Chunk(length).SelectMany(row => row.Reverse())];

    private static bool AreClose(double[] x, double[] y) =>
        x.Length == y.Length && x.Zip(y).All(pair => Math.Abs(pair.First - pair.Second) <= 1e-10 * (1 + Math.Abs(pair.First)));
}
