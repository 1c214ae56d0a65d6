using System.Numerics;
using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>The DLPack data types of .NET's element types.</summary>
internal static class ElementType
{
    /// <summary>The data type of T; lanes are 0 where there is none.</summary>
    public static DLDataType Find<T>()
        where T : unmanaged
    {
        // Constant for each T once compiled.
        if (typeof(T) == typeof(float))
            return Of(DLDataTypeCode.DLFloat, 32);
        if (typeof(T) == typeof(double))
            return Of(DLDataTypeCode.DLFloat, 64);
        if (typeof(T) == typeof(Half))
            return Of(DLDataTypeCode.DLFloat, 16);
        if (typeof(T) == typeof(BFloat16))
            return Of(DLDataTypeCode.DLBfloat, 16);
        if (typeof(T) == typeof(Complex64))
            return Of(DLDataTypeCode.DLComplex, 64);
        if (typeof(T) == typeof(Complex))
            return Of(DLDataTypeCode.DLComplex, 128);
        if (typeof(T) == typeof(long))
            return Of(DLDataTypeCode.DLInt, 64);
        if (typeof(T) == typeof(int))
            return Of(DLDataTypeCode.DLInt, 32);
        if (typeof(T) == typeof(byte))
            return Of(DLDataTypeCode.DLUInt, 8);
        return default;
    }

    /// <summary>The data type of T.</summary>
    /// <exception cref="NotSupportedException">T is not an element type of tensors.</exception>
    public static DLDataType Get<T>()
        where T : unmanaged
    {
        var type = Find<T>();
        if (type.Lanes == 0)
            ThrowUnknown(typeof(T));
        return type;
    }

    public static string Describe(DLDataType type) => (DLDataTypeCode)type.Code switch
    {
        DLDataTypeCode.DLFloat => $"float{type.Bits}",
        DLDataTypeCode.DLBfloat => $"bfloat{type.Bits}",
        DLDataTypeCode.DLComplex => $"complex{type.Bits}",
        DLDataTypeCode.DLInt => $"int{type.Bits}",
        DLDataTypeCode.DLUInt => $"uint{type.Bits}",
        DLDataTypeCode.DLBool => $"bool{type.Bits}",
        _ => $"type code {type.Code} of {type.Bits} bits",
    } + (type.Lanes == 1 ? "" : $" x {type.Lanes}");

    private static DLDataType Of(DLDataTypeCode code, byte bits) => new() { Code = (byte)code, Bits = bits, Lanes = 1 };

    private static void ThrowUnknown(Type type) => throw new NotSupportedException(
        $"{type} is not an element type of tensors; these are float, double, Half, BFloat16, Complex64, Complex, long, int and byte.");
}
