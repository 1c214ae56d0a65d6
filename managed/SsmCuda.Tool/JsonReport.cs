using System.Text.Json;
using System.Text.Json.Serialization.Metadata;

namespace SsmCuda.Tool;

internal static class JsonReport
{
    public static void Write<T>(string path, T value, JsonTypeInfo<T> type)
    {
        using var stream = File.Create(path);
        JsonSerializer.Serialize(stream, value, type);
        stream.WriteByte((byte)'\n');
    }
}
