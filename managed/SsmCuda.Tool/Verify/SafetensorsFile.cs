using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace SsmCuda.Tool.Verify;

/// <summary>One tensor of a safetensors file: its type by the format's name ("F32"), shape, and little-endian bytes.</summary>
internal sealed record SafetensorsTensor(string Name, string DataType, long[] Shape, ReadOnlyMemory<byte> Data)
{
    public long ElementCount => Shape.Aggregate(1L, (product, length) => product * length);

    public float[] ToSingles() => DataType == "F32"
        ? MemoryMarshal.Cast<byte, float>(Data.Span).ToArray()
        : throw new InvalidDataException($"tensor {Name}: F32 expected, {DataType} found");

    public int[] ToIntegers() => DataType == "I32"
        ? MemoryMarshal.Cast<byte, int>(Data.Span).ToArray()
        : throw new InvalidDataException($"tensor {Name}: I32 expected, {DataType} found");

    public double[] ToDoubles() => DataType == "F64"
        ? MemoryMarshal.Cast<byte, double>(Data.Span).ToArray()
        : throw new InvalidDataException($"tensor {Name}: F64 expected, {DataType} found");
}

/// <summary>
/// Reads a safetensors file: eight bytes of header length, a JSON header, then the tensors one after the other without gaps.
/// A file may come from anywhere, so every length and offset is checked before it is used; whatever is wrong is an
/// <see cref="InvalidDataException"/>.
/// </summary>
internal sealed class SafetensorsFile
{
    // The limit the format itself sets.
    private const ulong MaxHeaderLength = 100_000_000;

    private static readonly Dictionary<string, int> ElementSizes = new(StringComparer.Ordinal)
    {
        ["BOOL"] = 1,
        ["U8"] = 1,
        ["I8"] = 1,
        ["U16"] = 2,
        ["I16"] = 2,
        ["F16"] = 2,
        ["BF16"] = 2,
        ["U32"] = 4,
        ["I32"] = 4,
        ["F32"] = 4,
        ["U64"] = 8,
        ["I64"] = 8,
        ["F64"] = 8,
    };

    private SafetensorsFile(Dictionary<string, string> metadata, Dictionary<string, SafetensorsTensor> tensors)
    {
        Metadata = metadata;
        Tensors = tensors;
    }

    public IReadOnlyDictionary<string, string> Metadata { get; }

    public IReadOnlyDictionary<string, SafetensorsTensor> Tensors { get; }

    public static SafetensorsFile Read(string path) => Parse(File.ReadAllBytes(path));

    public static SafetensorsFile Parse(ReadOnlyMemory<byte> file)
    {
        if (file.Length < 8)
        {
            throw new InvalidDataException($"{file.Length} bytes are too few for the header length");
        }
        var headerLength = BinaryPrimitives.ReadUInt64LittleEndian(file.Span);
        if (headerLength > MaxHeaderLength || headerLength > (ulong)(file.Length - 8))
        {
            throw new InvalidDataException($"a header of {headerLength} bytes does not fit a file of {file.Length}");
        }
        var header = file.Slice(8, (int)headerLength);
        var data = file[(8 + (int)headerLength)..];
        try
        {
            var options = new JsonDocumentOptions { MaxDepth = 8, AllowDuplicateProperties = false };
            using var document = JsonDocument.Parse(header, options);
            return Parse(document.RootElement, data);
        }
        catch (JsonException exception)
        {
            throw new InvalidDataException("the header is not JSON: " + exception.Message, exception);
        }
        catch (InvalidOperationException exception)
        {
            // JsonElement throws this when a value has another kind than the one asked for, or text is not valid UTF-8.
            throw new InvalidDataException("the header has a value of the wrong kind: " + exception.Message, exception);
        }
    }

    private static SafetensorsFile Parse(JsonElement header, ReadOnlyMemory<byte> data)
    {
        var metadata = new Dictionary<string, string>(StringComparer.Ordinal);
        var tensors = new Dictionary<string, SafetensorsTensor>(StringComparer.Ordinal);
        var ranges = new List<(long Begin, long End, string Name)>();
        foreach (var property in header.EnumerateObject())
        {
            if (property.NameEquals("__metadata__"))
            {
                foreach (var entry in property.Value.EnumerateObject())
                {
                    metadata.Add(entry.Name, entry.Value.GetString()
                        ?? throw new InvalidDataException($"metadata {entry.Name} is null"));
                }
                continue;
            }
            var (dataType, shape, begin, end) = ParseTensor(property.Name, property.Value);
            if (begin < 0 || begin > end || end > data.Length)
            {
                throw new InvalidDataException(
                    $"tensor {property.Name}: bytes {begin} to {end} do not lie in the {data.Length} of the file");
            }
            var bytes = ByteCount(property.Name, dataType, shape);
            if (bytes != end - begin)
            {
                throw new InvalidDataException(
                    $"tensor {property.Name}: its shape takes {bytes} bytes, its offsets hold {end - begin}");
            }
            ranges.Add((begin, end, property.Name));
            tensors.Add(property.Name, new SafetensorsTensor(property.Name, dataType, shape, data[(int)begin..(int)end]));
        }

        var expected = 0L;
        foreach (var (begin, end, name) in ranges.Order())
        {
            if (begin != expected)
            {
                throw new InvalidDataException(
                    $"tensor {name} begins at byte {begin}, {expected} expected: tensors overlap or leave a gap");
            }
            expected = end;
        }
        if (expected != data.Length)
        {
            throw new InvalidDataException($"the tensors end at byte {expected}, the file at {data.Length}");
        }
        return new SafetensorsFile(metadata, tensors);
    }

    private static (string DataType, long[] Shape, long Begin, long End) ParseTensor(string name, JsonElement element)
    {
        if (!element.TryGetProperty("dtype", out var dataType) || !element.TryGetProperty("shape", out var shape)
            || !element.TryGetProperty("data_offsets", out var offsets))
        {
            throw new InvalidDataException($"tensor {name}: dtype, shape and data_offsets expected");
        }
        var dimensions = shape.EnumerateArray().Select(dimension => Integer(name, dimension)).ToArray();
        var range = offsets.EnumerateArray().Select(offset => Integer(name, offset)).ToArray();
        if (range.Length != 2)
        {
            throw new InvalidDataException($"tensor {name}: two data_offsets expected, {range.Length} found");
        }
        return (dataType.GetString() ?? "", dimensions, range[0], range[1]);
    }

    private static long Integer(string name, JsonElement element) =>
        element.TryGetInt64(out var value) && value >= 0
            ? value
            : throw new InvalidDataException($"tensor {name}: {element.GetRawText()} is not a length or an offset");

    private static long ByteCount(string name, string dataType, long[] shape)
    {
        if (!ElementSizes.TryGetValue(dataType, out var size))
        {
            throw new InvalidDataException($"tensor {name}: unknown dtype {dataType}");
        }
        try
        {
            return shape.Aggregate((long)size, (bytes, length) => checked(bytes * length));
        }
        catch (OverflowException exception)
        {
            throw new InvalidDataException($"tensor {name}: its shape is too large", exception);
        }
    }
}
