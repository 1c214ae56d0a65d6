using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json.Nodes;

namespace SsmCuda.Tool.Tests;

/// <summary>Writes safetensors files, right ones and wrong ones.</summary>
internal sealed class SafetensorsBuilder
{
    private readonly JsonObject header = [];
    private readonly List<byte> data = [];

    public SafetensorsBuilder Metadata(string key, string value)
    {
        if (header["__metadata__"] is not JsonObject metadata)
        {
            header["__metadata__"] = metadata = [];
        }
        metadata[key] = value;
        return this;
    }

    public SafetensorsBuilder Add(string name, long[] shape, params float[] values) =>
        Add(name, "F32", shape, MemoryMarshal.AsBytes(values.AsSpan()));

    public SafetensorsBuilder Add(string name, long[] shape, params double[] values) =>
        Add(name, "F64", shape, MemoryMarshal.AsBytes(values.AsSpan()));

    public SafetensorsBuilder Add(string name, string dataType, long[] shape, ReadOnlySpan<byte> bytes)
    {
        header[name] = Entry(dataType, shape, data.Count, data.Count + bytes.Length);
        data.AddRange(bytes);
        return this;
    }

    public static JsonObject Entry(string dataType, long[] shape, long begin, long end) => new()
    {
        ["dtype"] = dataType,
        ["shape"] = new JsonArray([.. shape.Select(length => JsonValue.Create(length))]),
        ["data_offsets"] = new JsonArray(begin, end),
    };

    public byte[] Build() => Build(header.ToJsonString(), data.ToArray());

    public static byte[] Build(string header, ReadOnlySpan<byte> data) => Build(Encoding.UTF8.GetBytes(header), data);

    public static byte[] Build(ReadOnlySpan<byte> header, ReadOnlySpan<byte> data)
    {
        var length = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, header.Length);
        return [.. length, .. header, .. data];
    }
}
