using System.Globalization;
using System.Text.Json;

namespace SsmCuda.Tool.Verify;

/// <summary>
/// One conformance case: tensors "in.NAME" (float32, seq_idx int32) and "out.NAME" (float64), and the metadata op, params and
/// tolerance.
/// </summary>
internal sealed class ConformanceCase
{
    private ConformanceCase(string operation, string name, JsonElement parameters, double tolerance,
        Dictionary<string, SafetensorsTensor> inputs, Dictionary<string, SafetensorsTensor> outputs)
    {
        Operation = operation;
        Name = name;
        Parameters = parameters;
        Tolerance = tolerance;
        Inputs = inputs;
        Outputs = outputs;
    }

    public string Operation { get; }

    public string Name { get; }

    public JsonElement Parameters { get; }

    /// <summary>For float32; float64 has a tolerance of its own.</summary>
    public double Tolerance { get; }

    public IReadOnlyDictionary<string, SafetensorsTensor> Inputs { get; }

    public IReadOnlyDictionary<string, SafetensorsTensor> Outputs { get; }

    public static ConformanceCase Read(string path)
    {
        var file = SafetensorsFile.Read(path);
        var inputs = new Dictionary<string, SafetensorsTensor>(StringComparer.Ordinal);
        var outputs = new Dictionary<string, SafetensorsTensor>(StringComparer.Ordinal);
        foreach (var (name, tensor) in file.Tensors)
        {
            if (name.StartsWith("in.", StringComparison.Ordinal))
            {
                inputs.Add(name[3..], tensor);
            }
            else if (name.StartsWith("out.", StringComparison.Ordinal))
            {
                outputs.Add(name[4..], tensor);
            }
            else
            {
                throw new InvalidDataException($"tensor {name} is neither an input (in.) nor an output (out.)");
            }
        }
        if (outputs.Count == 0)
        {
            throw new InvalidDataException("a case without an output checks nothing");
        }
        if (!double.TryParse(Metadata(file, "tolerance"), NumberStyles.Float, CultureInfo.InvariantCulture, out var tolerance)
            || !(tolerance > 0 && tolerance < 1))
        {
            throw new InvalidDataException("metadata tolerance: a number between 0 and 1 expected");
        }
        try
        {
            using var parameters = JsonDocument.Parse(Metadata(file, "params"));
            return new ConformanceCase(Metadata(file, "op"), Path.GetFileNameWithoutExtension(path),
                parameters.RootElement.Clone(), tolerance, inputs, outputs);
        }
        catch (JsonException exception)
        {
            throw new InvalidDataException("metadata params is not JSON: " + exception.Message, exception);
        }
    }

    private static string Metadata(SafetensorsFile file, string key) =>
        file.Metadata.TryGetValue(key, out var value) ? value : throw new InvalidDataException($"metadata {key} is missing");
}
