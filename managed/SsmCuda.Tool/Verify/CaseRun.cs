using System.Numerics;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace SsmCuda.Tool.Verify;

/// <summary>
/// One case on one device: what an operation's adapter asks its tensors and parameters of, by their names in the case. On the CPU
/// tensors are arrays used in place; elsewhere they are copied to the device and back.
/// </summary>
internal sealed class CaseRun(SsmContext context, ConformanceCase conformance, bool isFloat64) : IDisposable
{
    private readonly HashSet<string> asked = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Func<double[]>> outputs = new(StringComparer.Ordinal);
    private readonly List<DeviceTensor> tensors = [];
    private bool usesHostMemory = context.Device.Type == SsmDeviceType.Cpu;

    public SsmContext Context => context;

    public bool IsFloat64 => isFloat64;

    /// <summary>A set-up operation, whose tensors lie in host memory on every device.</summary>
    public void UseHostMemory() => usesHostMemory = true;

    /// <summary>A parameter that is true or false; false where it is not given.</summary>
    public bool Flag(string name) => conformance.Parameters.TryGetProperty(name, out var value) && value.ValueKind switch
    {
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        _ => throw new InvalidDataException($"parameter {name}: true or false expected"),
    };

    /// <summary>A parameter that is a whole number.</summary>
    public int Number(string name) =>
        conformance.Parameters.TryGetProperty(name, out var value) && value.TryGetInt32(out var number)
            ? number
            : throw new InvalidDataException($"parameter {name}: a whole number expected");

    /// <summary>A parameter that is a word.</summary>
    public string Word(string name) =>
        conformance.Parameters.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String
            ? value.GetString()!
            : throw new InvalidDataException($"parameter {name}: a text expected");

    /// <summary>An input; a complex one has a last axis of 2 in the case. Absent (the default view) where the case lacks
    /// it.</summary>
    public ReadOnlyTensorView Input(string name, bool isComplex = false)
    {
        asked.Add(name);
        if (!conformance.Inputs.TryGetValue(name, out var tensor))
        {
            return default;
        }
        var shape = ShapeOf(tensor, isComplex);
        var values = tensor.ToSingles();
        if (!isFloat64)
        {
            return isComplex ? Bind(MemoryMarshal.Cast<float, Complex64>(values), shape) : Bind<float>(values, shape);
        }
        var widened = Array.ConvertAll(values, value => (double)value);
        return isComplex ? Bind(MemoryMarshal.Cast<double, Complex>(widened), shape) : Bind<double>(widened, shape);
    }

    /// <summary>An input of 32-bit integers. Absent where the case lacks it.</summary>
    public ReadOnlyTensorView Integers(string name)
    {
        asked.Add(name);
        return conformance.Inputs.TryGetValue(name, out var tensor)
            ? Bind<int>(tensor.ToIntegers(), ShapeOf(tensor, false))
            : default;
    }

    /// <summary>An output, poisoned, so that an element that is not written is not right by chance. Absent where the case has no
    /// reference for it.</summary>
    public TensorView Output(string name, bool isComplex = false)
    {
        if (!conformance.Outputs.TryGetValue(name, out var tensor))
        {
            return default;
        }
        var shape = ShapeOf(tensor, isComplex);
        var count = (int)tensor.ElementCount;
        return (isFloat64, isComplex) switch
        {
            (false, false) => BindOutput(name, shape, Filled(count, float.NaN), values =>
                Array.ConvertAll(values, value => (double)value)),
            (true, false) => BindOutput(name, shape, Filled(count, double.NaN), values => values),
            (false, true) => BindOutput(name, shape, Filled(count / 2, new Complex64(float.NaN, float.NaN)), values =>
                Array.ConvertAll(MemoryMarshal.Cast<Complex64, float>(values).ToArray(), value => (double)value)),
            (true, true) => BindOutput(name, shape, Filled(count / 2, new Complex(double.NaN, double.NaN)), values =>
                MemoryMarshal.Cast<Complex, double>(values).ToArray()),
        };
    }

    /// <summary>An output that is made of what the operation answers.</summary>
    public void Answer(string name, Func<double[]> values) => outputs.Add(name, values);

    /// <summary>An input that the operation overwrites with the output of that name.</summary>
    public TensorView Updated(string name)
    {
        asked.Add(name);
        if (!conformance.Inputs.TryGetValue(name, out var tensor))
        {
            throw new InvalidDataException($"no input {name}");
        }
        var shape = ShapeOf(tensor, false);
        var values = tensor.ToSingles();
        return isFloat64
            ? BindOutput(name, shape, Array.ConvertAll(values, value => (double)value), result => result)
            : BindOutput(name, shape, [.. values], result => Array.ConvertAll(result, value => (double)value));
    }

    /// <summary>Waits for the device and answers the outputs that were asked for, in double precision.</summary>
    /// <exception cref="InvalidDataException">The case has an input that the adapter does not know.</exception>
    public IReadOnlyDictionary<string, double[]> Finish()
    {
        context.Synchronize();
        var unknown = conformance.Inputs.Keys.Except(asked).ToList();
        return unknown.Count == 0
            ? outputs.ToDictionary(output => output.Key, output => output.Value(), StringComparer.Ordinal)
            : throw new InvalidDataException($"inputs that {conformance.Operation} does not take: {string.Join(", ", unknown)}");
    }

    public void Dispose() => tensors.ForEach(tensor => tensor.Dispose());

    private static nint[] ShapeOf(SafetensorsTensor tensor, bool isComplex)
    {
        var shape = Array.ConvertAll(tensor.Shape, length => (nint)length);
        if (!isComplex)
        {
            return shape;
        }
        return shape is [.., 2]
            ? shape[..^1]
            : throw new InvalidDataException($"tensor {tensor.Name}: a last axis of 2 (re, im) expected");
    }

    private static T[] Filled<T>(int count, T value)
    {
        var values = new T[count];
        Array.Fill(values, value);
        return values;
    }

    private ReadOnlyTensorView Bind<T>(ReadOnlySpan<T> values, nint[] shape)
        where T : unmanaged =>
        usesHostMemory ? ReadOnlyTensorView.Create<T>(values, shape) : OnDevice(values, shape);

    private TensorView BindOutput<T>(string name, nint[] shape, T[] values, Func<T[], double[]> widen)
        where T : unmanaged
    {
        if (usesHostMemory)
        {
            outputs.Add(name, () => widen(values));
            return TensorView.Create<T>(values, shape);
        }
        var tensor = OnDevice<T>(values, shape);
        outputs.Add(name, () => widen(tensor.ToArray()));
        return tensor;
    }

    private DeviceTensor<T> OnDevice<T>(ReadOnlySpan<T> values, nint[] shape)
        where T : unmanaged
    {
        var tensor = context.ToDevice(values, shape);
        tensors.Add(tensor);
        return tensor;
    }
}
