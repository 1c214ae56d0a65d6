using System.Globalization;

namespace SsmCuda;

/// <summary>A bfloat16 number: the upper half of a float, with its range and 8 bits of precision. Arithmetic is done in float
/// and rounded to the nearest, ties to even.</summary>
public readonly struct BFloat16 : IEquatable<BFloat16>, IComparable<BFloat16>, IComparable, ISpanFormattable
{
    private readonly ushort bits;

    private BFloat16(ushort bits) => this.bits = bits;

    /// <summary>Rounds a number to the nearest, ties to even.</summary>
    /// <param name="value">The number.</param>
    public BFloat16(float value) => bits = Round(value);

    /// <summary>0.</summary>
    public static BFloat16 Zero => default;

    /// <summary>1.</summary>
    public static BFloat16 One => new((ushort)0x3F80);

    /// <summary>Not a number.</summary>
    public static BFloat16 NaN => new((ushort)0xFFC0);

    /// <summary>Positive infinity.</summary>
    public static BFloat16 PositiveInfinity => new((ushort)0x7F80);

    /// <summary>Negative infinity.</summary>
    public static BFloat16 NegativeInfinity => new((ushort)0xFF80);

    /// <summary>The largest finite number, about 3.39e38.</summary>
    public static BFloat16 MaxValue => new((ushort)0x7F7F);

    /// <summary>The smallest finite number, about -3.39e38.</summary>
    public static BFloat16 MinValue => new((ushort)0xFF7F);

    /// <summary>The smallest positive number, about 9.2e-41.</summary>
    public static BFloat16 Epsilon => new((ushort)0x0001);

    /// <summary>The number of 16 bits.</summary>
    /// <param name="bits">Sign, 8 bits of exponent, 7 bits of fraction.</param>
    /// <returns>The number.</returns>
    public static BFloat16 FromBits(ushort bits) => new(bits);

    /// <summary>The bits: sign, 8 bits of exponent, 7 bits of fraction.</summary>
    /// <returns>The bits.</returns>
    public ushort ToBits() => bits;

    /// <summary>True for a NaN.</summary>
    /// <param name="value">The number.</param>
    /// <returns>Whether it is.</returns>
    public static bool IsNaN(BFloat16 value) => (value.bits & 0x7FFF) > 0x7F80;

    /// <summary>True for positive and negative infinity.</summary>
    /// <param name="value">The number.</param>
    /// <returns>Whether it is.</returns>
    public static bool IsInfinity(BFloat16 value) => (value.bits & 0x7FFF) == 0x7F80;

    /// <summary>True for numbers that are neither infinite nor NaN.</summary>
    /// <param name="value">The number.</param>
    /// <returns>Whether it is.</returns>
    public static bool IsFinite(BFloat16 value) => (value.bits & 0x7F80) != 0x7F80;

    /// <summary>True where the sign bit is set.</summary>
    /// <param name="value">The number.</param>
    /// <returns>Whether it is.</returns>
    public static bool IsNegative(BFloat16 value) => (value.bits & 0x8000) != 0;

    /// <summary>The absolute value.</summary>
    /// <param name="value">The number.</param>
    /// <returns>Its absolute value.</returns>
    public static BFloat16 Abs(BFloat16 value) => new((ushort)(value.bits & 0x7FFF));

    /// <summary>Exact.</summary>
    /// <param name="value">The number.</param>
    public static implicit operator float(BFloat16 value) => BitConverter.UInt32BitsToSingle((uint)value.bits << 16);

    /// <summary>Exact.</summary>
    /// <param name="value">The number.</param>
    public static implicit operator double(BFloat16 value) => (float)value;

    /// <summary>Rounds to the nearest, ties to even.</summary>
    /// <param name="value">The number.</param>
    public static explicit operator BFloat16(float value) => new(Round(value));

    /// <summary>Rounds to the nearest, ties to even, once.</summary>
    /// <param name="value">The number.</param>
    public static explicit operator BFloat16(double value)
    {
        // Rounding to float first could make a tie of what is none. Rounding to odd there keeps which side it is on.
        var single = (float)value;
        var exact = (double)single;
        if (exact != value && !double.IsNaN(value))
        {
            var odd = BitConverter.SingleToUInt32Bits(single);
            if (Math.Abs(exact) > Math.Abs(value))
                odd--;
            single = BitConverter.UInt32BitsToSingle(odd | 1);
        }
        return new BFloat16(Round(single));
    }

    /// <summary>Rounds to the nearest, ties to even.</summary>
    /// <param name="value">The number.</param>
    public static explicit operator BFloat16(Half value) => new(Round((float)value));

    /// <summary>Rounds to the nearest, ties to even.</summary>
    /// <param name="value">The number.</param>
    public static explicit operator Half(BFloat16 value) => (Half)(float)value;

    /// <summary>The number itself.</summary>
    /// <param name="value">The number.</param>
    /// <returns>The number.</returns>
    public static BFloat16 operator +(BFloat16 value) => value;

    /// <summary>The number with the other sign.</summary>
    /// <param name="value">The number.</param>
    /// <returns>Its negative.</returns>
    public static BFloat16 operator -(BFloat16 value) => new((ushort)(value.bits ^ 0x8000));

    /// <summary>The rounded sum.</summary>
    /// <param name="left">The first number.</param>
    /// <param name="right">The second number.</param>
    /// <returns>The sum.</returns>
    public static BFloat16 operator +(BFloat16 left, BFloat16 right) => new((float)left + (float)right);

    /// <summary>The rounded difference.</summary>
    /// <param name="left">The first number.</param>
    /// <param name="right">The second number.</param>
    /// <returns>The difference.</returns>
    public static BFloat16 operator -(BFloat16 left, BFloat16 right) => new((float)left - (float)right);

    /// <summary>The rounded product.</summary>
    /// <param name="left">The first number.</param>
    /// <param name="right">The second number.</param>
    /// <returns>The product.</returns>
    public static BFloat16 operator *(BFloat16 left, BFloat16 right) => new((float)left * (float)right);

    /// <summary>The rounded quotient.</summary>
    /// <param name="left">The first number.</param>
    /// <param name="right">The second number.</param>
    /// <returns>The quotient.</returns>
    public static BFloat16 operator /(BFloat16 left, BFloat16 right) => new((float)left / (float)right);

    /// <summary>Equality as of floats: a NaN equals nothing, 0 equals -0.</summary>
    /// <param name="left">The first number.</param>
    /// <param name="right">The second number.</param>
    /// <returns>Whether they are equal.</returns>
    public static bool operator ==(BFloat16 left, BFloat16 right) => (float)left == (float)right;

    /// <summary>The opposite of equality.</summary>
    /// <param name="left">The first number.</param>
    /// <param name="right">The second number.</param>
    /// <returns>Whether they differ.</returns>
    public static bool operator !=(BFloat16 left, BFloat16 right) => (float)left != (float)right;

    /// <summary>Order as of floats.</summary>
    /// <param name="left">The first number.</param>
    /// <param name="right">The second number.</param>
    /// <returns>Whether the first is smaller.</returns>
    public static bool operator <(BFloat16 left, BFloat16 right) => (float)left < (float)right;

    /// <summary>Order as of floats.</summary>
    /// <param name="left">The first number.</param>
    /// <param name="right">The second number.</param>
    /// <returns>Whether the first is larger.</returns>
    public static bool operator >(BFloat16 left, BFloat16 right) => (float)left > (float)right;

    /// <summary>Order as of floats.</summary>
    /// <param name="left">The first number.</param>
    /// <param name="right">The second number.</param>
    /// <returns>Whether the first is not larger.</returns>
    public static bool operator <=(BFloat16 left, BFloat16 right) => (float)left <= (float)right;

    /// <summary>Order as of floats.</summary>
    /// <param name="left">The first number.</param>
    /// <param name="right">The second number.</param>
    /// <returns>Whether the first is not smaller.</returns>
    public static bool operator >=(BFloat16 left, BFloat16 right) => (float)left >= (float)right;

    /// <summary>Equality in which a NaN equals a NaN, as collections need it.</summary>
    /// <param name="other">The other number.</param>
    /// <returns>Whether they are equal.</returns>
    public bool Equals(BFloat16 other) => ((float)this).Equals((float)other);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is BFloat16 other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => ((float)this).GetHashCode();

    /// <summary>Order in which a NaN comes first.</summary>
    /// <param name="other">The other number.</param>
    /// <returns>Negative, zero or positive.</returns>
    public int CompareTo(BFloat16 other) => ((float)this).CompareTo((float)other);

    /// <inheritdoc/>
    public int CompareTo(object? obj) => obj switch
    {
        null => 1,
        BFloat16 other => CompareTo(other),
        _ => throw new ArgumentException("A BFloat16 is compared with BFloat16 alone.", nameof(obj)),
    };

    /// <summary>The text of the number as a float, in the current culture.</summary>
    /// <returns>The text.</returns>
    public override string ToString() => ToString(null, CultureInfo.CurrentCulture);

    /// <inheritdoc/>
    public string ToString(string? format, IFormatProvider? formatProvider) => ((float)this).ToString(format, formatProvider);

    /// <inheritdoc/>
    public bool TryFormat(Span<char> destination, out int charsWritten, ReadOnlySpan<char> format, IFormatProvider? provider) =>
        ((float)this).TryFormat(destination, out charsWritten, format, provider);

    /// <summary>Parses the text of a number.</summary>
    /// <param name="text">The text.</param>
    /// <param name="provider">The culture.</param>
    /// <returns>The rounded number.</returns>
    public static BFloat16 Parse(ReadOnlySpan<char> text, IFormatProvider? provider = null) =>
        (BFloat16)double.Parse(text, NumberStyles.Float | NumberStyles.AllowThousands, provider);

    private static ushort Round(float value)
    {
        var word = BitConverter.SingleToUInt32Bits(value);
        if (float.IsNaN(value))
            return (ushort)((word >> 16) | 0x40); // stays a NaN, quiet
        // Half of the last place, minus one where the last place is even: a carry out of the fraction is right too.
        return (ushort)((word + 0x7FFF + ((word >> 16) & 1)) >> 16);
    }
}
