using System.CommandLine;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json.Serialization;

namespace SsmCuda.Tool;

/// <summary>`ssm info`: devices, backends and why one is missing, CPU features, versions.</summary>
internal static class InfoCommand
{
    public static Command Create()
    {
        var json = new Option<string?>("--json") { Description = "Writes what is printed, as an object", HelpName = "FILE" };
        var command = new Command("info", "Shows devices, backends (and why one is missing), CPU features and versions") { json };
        command.SetAction(result => Run(result.GetValue(json)));
        return command;
    }

    private static int Run(string? jsonPath)
    {
        try
        {
            // Listing the devices is what looks for backends, so the log comes after it.
            var devices = SsmDevice.All.Select(DeviceInfo.Of).ToArray();
            var info = new Info
            {
                ToolVersion = typeof(InfoCommand).Assembly.GetName().Version?.ToString(3) ?? "",
                LibraryVersion = SsmLibrary.Version,
                AbiVersion = SsmLibrary.AbiVersion,
                Runtime = RuntimeInformation.FrameworkDescription,
                System = RuntimeInformation.OSDescription + " " + RuntimeInformation.ProcessArchitecture,
                Devices = devices,
                BackendLog = SsmDevice.BackendLog.Split('\n',
                    StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries),
            };
            Print(info);
            if (jsonPath is not null)
            {
                JsonReport.Write(jsonPath, info, InfoJson.Default.Info);
            }
            return ExitCode.Success;
        }
        catch (Exception exception) when (ExitCode.IsExpected(exception))
        {
            Screen.Error(exception.Message);
            return ExitCode.CannotRun;
        }
    }

    private static void Print(Info info)
    {
        Screen.Line($"ssm {info.ToolVersion}, library {info.LibraryVersion}, ABI {info.AbiVersion}");
        Screen.Line($"{info.Runtime} on {info.System}");
        var table = Screen.Table(("device", false), ("name", false), ("units", true), ("memory", true), ("last-level cache", true),
            ("compute capability", true), ("driver, runtime", false));
        foreach (var device in info.Devices)
        {
            table.Row(device.Device, device.Name, Screen.Number(device.Multiprocessors, "0"), Mebibytes(device.TotalMemory),
                Mebibytes(device.LastLevelCache), device.ComputeCapability ?? "n/a",
                device.DriverVersion is null ? "n/a" : $"{device.DriverVersion}, {device.RuntimeVersion}");
        }
        Screen.Console.Write(table);
        foreach (var device in info.Devices.Where(device => device.InstructionSets.Count > 0))
        {
            Screen.Line($"{device.Device}: instruction sets {string.Join(", ", device.InstructionSets)} (the first is in use)");
        }
        Screen.Line("backends:");
        foreach (var line in info.BackendLog)
        {
            Screen.Line("  " + line);
        }
    }

    private static string Mebibytes(long bytes) => bytes == 0
        ? "n/a"
        : (bytes / 1048576.0).ToString("n0", CultureInfo.InvariantCulture) + " MiB";
}

internal sealed record Info
{
    public required string ToolVersion { get; init; }

    public required string LibraryVersion { get; init; }

    public required int AbiVersion { get; init; }

    public required string Runtime { get; init; }

    public required string System { get; init; }

    public required IReadOnlyList<DeviceInfo> Devices { get; init; }

    public required IReadOnlyList<string> BackendLog { get; init; }
}

internal sealed record DeviceInfo
{
    public required string Device { get; init; }

    public required string Name { get; init; }

    public required int Multiprocessors { get; init; }

    public required long TotalMemory { get; init; }

    public required long LastLevelCache { get; init; }

    public required long SharedMemoryPerBlock { get; init; }

    public string? ComputeCapability { get; init; }

    public string? DriverVersion { get; init; }

    public string? RuntimeVersion { get; init; }

    public required IReadOnlyList<string> InstructionSets { get; init; }

    public static DeviceInfo Of(SsmDevice device)
    {
        var isCpu = device.Type == SsmDeviceType.Cpu;
        return new DeviceInfo
        {
            Device = device.ToString(),
            Name = device.Name,
            Multiprocessors = device.Multiprocessors,
            TotalMemory = device.TotalMemory,
            LastLevelCache = device.LastLevelCache,
            SharedMemoryPerBlock = device.SharedMemoryPerBlock,
            ComputeCapability = isCpu ? null : device.ComputeCapability.ToString(),
            DriverVersion = isCpu ? null : device.DriverVersion.ToString(),
            RuntimeVersion = isCpu ? null : device.RuntimeVersion.ToString(),
            InstructionSets = device.InstructionSets,
        };
    }
}

[JsonSourceGenerationOptions(WriteIndented = true, PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(Info))]
internal sealed partial class InfoJson : JsonSerializerContext;
