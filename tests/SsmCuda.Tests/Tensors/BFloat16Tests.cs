using System.Globalization;

namespace SsmCuda.Tests.Tensors;

internal sealed class BFloat16Tests
{
    [Test]
    public void Every_value_survives_the_way_to_float_and_back()
    {
        for (var bits = 0; bits <= ushort.MaxValue; bits++)
        {
            var value = BFloat16.FromBits((ushort)bits);
            var single = (float)value;
            Assert.That(BitConverter.SingleToUInt32Bits(single), Is.EqualTo((uint)bits << 16));
            if (BFloat16.IsNaN(value))
                Assert.That(BFloat16.IsNaN((BFloat16)single) && float.IsNaN(single));
            else
                Assert.That(((BFloat16)single).ToBits(), Is.EqualTo(bits));
        }
    }

    [Test]
    public void Rounding_is_to_the_nearest_and_ties_to_even()
    {
        // Between each two neighbours: just below the middle, the middle, just above it, as float and as double.
        for (var bits = 0; bits < 0x7F7F; bits++)
        {
            double low = BFloat16.FromBits((ushort)bits);
            double high = BFloat16.FromBits((ushort)(bits + 1));
            var middle = (low + high) / 2;
            var even = (ushort)(bits + (bits & 1));
            foreach (var sign in (int[])[0, 0x8000])
            {
                var factor = sign == 0 ? 1 : -1;
                Assert.That(((BFloat16)(factor * middle)).ToBits(), Is.EqualTo(even | sign));
                Assert.That(((BFloat16)(factor * Math.BitDecrement(middle))).ToBits(), Is.EqualTo(bits | sign));
                Assert.That(((BFloat16)(factor * Math.BitIncrement(middle))).ToBits(), Is.EqualTo((bits + 1) | sign));
                Assert.That(((BFloat16)(float)(factor * middle)).ToBits(), Is.EqualTo(even | sign));
                Assert.That(((BFloat16)MathF.BitIncrement((float)middle)).ToBits(), Is.EqualTo(bits + 1));
                Assert.That(((BFloat16)MathF.BitDecrement((float)middle)).ToBits(), Is.EqualTo(bits));
            }
        }
    }

    [Test]
    public void The_edges()
    {
        Assert.That((BFloat16)float.MaxValue, Is.EqualTo(BFloat16.PositiveInfinity));
        Assert.That((BFloat16)double.MinValue, Is.EqualTo(BFloat16.NegativeInfinity));
        Assert.That((BFloat16)double.PositiveInfinity, Is.EqualTo(BFloat16.PositiveInfinity));
        Assert.That(BFloat16.IsNaN((BFloat16)double.NaN));
        Assert.That(BFloat16.IsNaN((BFloat16)BitConverter.UInt32BitsToSingle(0x7F800001)), "a NaN whose payload is cut off");
        Assert.That(((BFloat16)(-0.0)).ToBits(), Is.EqualTo(0x8000));
        Assert.That((double)BFloat16.Epsilon, Is.EqualTo(Math.Pow(2, -133)));
        Assert.That((BFloat16)Math.Pow(2, -135), Is.EqualTo(BFloat16.Zero));
        Assert.That((float)BFloat16.MaxValue, Is.EqualTo(3.3895314e38f));
        Assert.That((Half)(BFloat16)(Half)1.5, Is.EqualTo((Half)1.5));
    }

    [Test]
    public void Arithmetic_comparison_and_text_are_those_of_floats()
    {
        var a = (BFloat16)1.5f;
        var b = (BFloat16)2.25f;
        Assert.Multiple(() =>
        {
            Assert.That((float)(a + b), Is.EqualTo(3.75f));
            Assert.That((float)(a - b), Is.EqualTo(-0.75f));
            Assert.That((float)(a * b), Is.EqualTo(3.375f));
            Assert.That((float)(b / a), Is.EqualTo(1.5f));
            Assert.That((float)-a, Is.EqualTo(-1.5f));
            Assert.That(a < b && b > a && a <= b && b >= a && a != b && !(a == b));
            Assert.That(BFloat16.NaN == BFloat16.NaN, Is.False);
            Assert.That(BFloat16.NaN.Equals(BFloat16.NaN));
            Assert.That(BFloat16.Zero == -BFloat16.Zero && BFloat16.Zero.Equals(-BFloat16.Zero));
            Assert.That((-BFloat16.Zero).GetHashCode(), Is.EqualTo(BFloat16.Zero.GetHashCode()));
            Assert.That(a.CompareTo(b), Is.Negative);
            Assert.That(a.ToString("F2", CultureInfo.InvariantCulture), Is.EqualTo("1.50"));
            Assert.That(BFloat16.Parse("1.5", CultureInfo.InvariantCulture), Is.EqualTo(a));
            Assert.That((float)((BFloat16)256 + BFloat16.One), Is.EqualTo(256), "a tie, to even");
        });
    }
}
