using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace SsmCuda;

// C# has no generic conversion operators, so each element type has its own; they are all alike.
// A default span is an absent tensor, an empty one is a tensor without elements.

public readonly ref partial struct TensorView
{
    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator TensorView(Span<float> data) =>
        Unsafe.IsNullRef(ref MemoryMarshal.GetReference(data)) ? default : Create(data, data.Length);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator TensorView(TensorSpan<float> data) => Create(data);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator TensorView(Tensor<float>? data) => data is null ? default : Create(data.AsTensorSpan());

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator TensorView(Span<double> data) =>
        Unsafe.IsNullRef(ref MemoryMarshal.GetReference(data)) ? default : Create(data, data.Length);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator TensorView(TensorSpan<double> data) => Create(data);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator TensorView(Tensor<double>? data) => data is null ? default : Create(data.AsTensorSpan());

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator TensorView(Span<Half> data) =>
        Unsafe.IsNullRef(ref MemoryMarshal.GetReference(data)) ? default : Create(data, data.Length);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator TensorView(TensorSpan<Half> data) => Create(data);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator TensorView(Tensor<Half>? data) => data is null ? default : Create(data.AsTensorSpan());

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator TensorView(Span<BFloat16> data) =>
        Unsafe.IsNullRef(ref MemoryMarshal.GetReference(data)) ? default : Create(data, data.Length);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator TensorView(TensorSpan<BFloat16> data) => Create(data);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator TensorView(Tensor<BFloat16>? data) => data is null ? default : Create(data.AsTensorSpan());

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator TensorView(Span<Complex64> data) =>
        Unsafe.IsNullRef(ref MemoryMarshal.GetReference(data)) ? default : Create(data, data.Length);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator TensorView(TensorSpan<Complex64> data) => Create(data);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator TensorView(Tensor<Complex64>? data) => data is null ? default : Create(data.AsTensorSpan());

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator TensorView(Span<Complex> data) =>
        Unsafe.IsNullRef(ref MemoryMarshal.GetReference(data)) ? default : Create(data, data.Length);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator TensorView(TensorSpan<Complex> data) => Create(data);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator TensorView(Tensor<Complex>? data) => data is null ? default : Create(data.AsTensorSpan());
}

public readonly ref partial struct ReadOnlyTensorView
{
    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(ReadOnlySpan<float> data) =>
        Unsafe.IsNullRef(ref MemoryMarshal.GetReference(data)) ? default : Create(data, data.Length);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(TensorSpan<float> data) => Create<float>(data);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(ReadOnlyTensorSpan<float> data) => Create(data);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(Tensor<float>? data) =>
        data is null ? default : Create(data.AsReadOnlyTensorSpan());

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(ReadOnlySpan<double> data) =>
        Unsafe.IsNullRef(ref MemoryMarshal.GetReference(data)) ? default : Create(data, data.Length);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(TensorSpan<double> data) => Create<double>(data);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(ReadOnlyTensorSpan<double> data) => Create(data);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(Tensor<double>? data) =>
        data is null ? default : Create(data.AsReadOnlyTensorSpan());

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(ReadOnlySpan<Half> data) =>
        Unsafe.IsNullRef(ref MemoryMarshal.GetReference(data)) ? default : Create(data, data.Length);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(TensorSpan<Half> data) => Create<Half>(data);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(ReadOnlyTensorSpan<Half> data) => Create(data);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(Tensor<Half>? data) =>
        data is null ? default : Create(data.AsReadOnlyTensorSpan());

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(ReadOnlySpan<BFloat16> data) =>
        Unsafe.IsNullRef(ref MemoryMarshal.GetReference(data)) ? default : Create(data, data.Length);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(TensorSpan<BFloat16> data) => Create<BFloat16>(data);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(ReadOnlyTensorSpan<BFloat16> data) => Create(data);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(Tensor<BFloat16>? data) =>
        data is null ? default : Create(data.AsReadOnlyTensorSpan());

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(ReadOnlySpan<Complex64> data) =>
        Unsafe.IsNullRef(ref MemoryMarshal.GetReference(data)) ? default : Create(data, data.Length);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(TensorSpan<Complex64> data) => Create<Complex64>(data);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(ReadOnlyTensorSpan<Complex64> data) => Create(data);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(Tensor<Complex64>? data) =>
        data is null ? default : Create(data.AsReadOnlyTensorSpan());

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(ReadOnlySpan<Complex> data) =>
        Unsafe.IsNullRef(ref MemoryMarshal.GetReference(data)) ? default : Create(data, data.Length);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(TensorSpan<Complex> data) => Create<Complex>(data);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(ReadOnlyTensorSpan<Complex> data) => Create(data);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(Tensor<Complex>? data) =>
        data is null ? default : Create(data.AsReadOnlyTensorSpan());

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(ReadOnlySpan<long> data) =>
        Unsafe.IsNullRef(ref MemoryMarshal.GetReference(data)) ? default : Create(data, data.Length);

    /// <summary>A view of the same memory.</summary>
    /// <param name="data">The tensor.</param>
    public static implicit operator ReadOnlyTensorView(ReadOnlySpan<int> data) =>
        Unsafe.IsNullRef(ref MemoryMarshal.GetReference(data)) ? default : Create(data, data.Length);
}
