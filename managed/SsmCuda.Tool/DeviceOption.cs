using System.CommandLine;

namespace SsmCuda.Tool;

/// <summary>`--device`: without it the best device present; asking for one that is absent is an error that says why.</summary>
internal static class DeviceOption
{
    public static Option<string?> Create(params string[] names)
    {
        var option = new Option<string?>("--device")
        {
            Description = $"{string.Join(", ", names)}; the best one present if not given",
            HelpName = string.Join('|', names),
        };
        option.AcceptOnlyFromAmong(names);
        return option;
    }

    public static SsmContext CreateContext(string? name) => SsmContext.Create(name switch
    {
        null => SsmDeviceType.Default,
        "cpu" => SsmDeviceType.Cpu,
        "cuda" => SsmDeviceType.Cuda,
        "emulated" => SsmDeviceType.Emulated,
        _ => throw new ArgumentOutOfRangeException(nameof(name), name, "unknown device"),
    });

    /// <summary>The name as the option takes it.</summary>
    public static string NameOf(SsmContext context) => NameOf(context.Device.Type);

    public static string NameOf(SsmDeviceType type) => type switch
    {
        SsmDeviceType.Cpu => "cpu",
        SsmDeviceType.Cuda => "cuda",
        SsmDeviceType.Emulated => "emulated",
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "unknown device"),
    };
}
