namespace SsmCuda.Tool.Bench;

/// <summary>Strides of benchmark tensors, in elements.</summary>
internal static class Strides
{
    /// <summary>Row-major without gaps.</summary>
    public static nint[] Compact(nint[] shape)
    {
        var strides = new nint[shape.Length];
        nint stride = 1;
        for (var i = shape.Length - 1; i >= 0; i--)
        {
            strides[i] = stride;
            stride *= shape[i];
        }
        return strides;
    }
}
