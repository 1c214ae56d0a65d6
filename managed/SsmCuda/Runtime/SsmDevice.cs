using SsmCuda.Interop;

namespace SsmCuda;

/// <summary>A device that contexts can be made on, and what it is.</summary>
public sealed unsafe class SsmDevice
{
    private SsmDevice(in SsmDeviceProperties properties)
    {
        Type = properties.DeviceType;
        Id = properties.DeviceId;
        Multiprocessors = properties.Multiprocessors;
        ComputeCapability = new Version(properties.ComputeMajor, properties.ComputeMinor);
        DriverVersion = VersionOf(properties.DriverVersion);
        RuntimeVersion = VersionOf(properties.RuntimeVersion);
        TotalMemory = properties.TotalMemory;
        SharedMemoryPerBlock = properties.SharedMemoryPerBlock;
        LastLevelCache = properties.LastLevelCache;
        fixed (byte* name = properties.Name, sets = properties.InstructionSets)
        {
            Name = Utf8.ToString(name);
            InstructionSets = Utf8.ToString(sets)
                .Split([' ', ','], StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        }
    }

    /// <summary>The kind of device.</summary>
    public SsmDeviceType Type { get; }

    /// <summary>The number among the devices of its kind, from 0.</summary>
    public int Id { get; }

    /// <summary>The name that the driver or the processor gives.</summary>
    public string Name { get; }

    /// <summary>CUDA multiprocessors, or the hardware threads of a CPU.</summary>
    public int Multiprocessors { get; }

    /// <summary>The CUDA compute capability; 0.0 on a CPU.</summary>
    public Version ComputeCapability { get; }

    /// <summary>The newest CUDA version that the driver supports; 0.0 on a CPU.</summary>
    public Version DriverVersion { get; }

    /// <summary>The CUDA runtime inside the backend; 0.0 on a CPU.</summary>
    public Version RuntimeVersion { get; }

    /// <summary>Bytes of memory.</summary>
    public long TotalMemory { get; }

    /// <summary>Bytes of shared memory that one block may ask for; 0 on a CPU.</summary>
    public long SharedMemoryPerBlock { get; }

    /// <summary>Bytes of the last-level cache; 0 if unknown.</summary>
    public long LastLevelCache { get; }

    /// <summary>The instruction sets that the CPU kernels have been compiled for and that this CPU has, the one in use
    /// first; empty on other devices.</summary>
    public IReadOnlyList<string> InstructionSets { get; }

    /// <summary>Every device there is, CUDA devices first, then the CPU, then the emulated one where its backend was loaded
    /// or lies beside the library.</summary>
    public static IReadOnlyList<SsmDevice> All =>
        [.. Enumerate(SsmDeviceType.Cuda), .. Enumerate(SsmDeviceType.Cpu), .. Enumerate(SsmDeviceType.Emulated)];

    /// <summary>What has been tried so far to find backends and devices and how it ended, a line each: why a device is
    /// missing.</summary>
    public static string BackendLog => Utf8.ToString(NativeMethods.BackendLog());

    /// <summary>The devices of one kind; empty where its backend is absent, and then <see cref="BackendLog"/> says
    /// why.</summary>
    /// <param name="type">The kind.</param>
    /// <returns>The devices in the order of their numbers.</returns>
    /// <exception cref="SsmException">The type is unknown.</exception>
    public static IReadOnlyList<SsmDevice> Enumerate(SsmDeviceType type)
    {
        int count;
        SsmException.ThrowIfFailed(NativeMethods.DeviceCount((int)type, &count));
        var devices = new SsmDevice[count];
        for (var id = 0; id < count; id++)
            devices[id] = Get(type, id);
        return devices;
    }

    /// <summary>One device.</summary>
    /// <param name="type">The kind.</param>
    /// <param name="id">Its number, from 0.</param>
    /// <returns>The device.</returns>
    /// <exception cref="SsmBackendException">There is no such device.</exception>
    public static SsmDevice Get(SsmDeviceType type, int id = 0)
    {
        SsmDeviceProperties properties = new() { StructSize = (uint)sizeof(SsmDeviceProperties) };
        SsmException.ThrowIfFailed(NativeMethods.DeviceGetProperties((int)type, id, &properties));
        return new SsmDevice(properties);
    }

    /// <summary>The kind and number, such as cuda:0, or cpu.</summary>
    /// <returns>The text.</returns>
    public override string ToString() => Describe(Type, Id);

    internal static string Describe(SsmDeviceType type, int id)
    {
        var name = type.ToString().ToLowerInvariant();
        return type == SsmDeviceType.Cpu ? name : $"{name}:{id}";
    }

    private static Version VersionOf(int number) => new(number / 1000, number % 1000 / 10);
}

/// <summary>The native library itself.</summary>
public static unsafe class SsmLibrary
{
    /// <summary>The version of the native library, such as 1.2.3.</summary>
    public static string Version => Utf8.ToString(NativeMethods.Version());

    /// <summary>The number of its binary interface.</summary>
    public static int AbiVersion => (int)NativeMethods.AbiVersion();

    /// <summary>Loads a backend from a file. Backends beside the native library are found without this.</summary>
    /// <param name="path">The absolute path of the backend's library.</param>
    /// <exception cref="SsmBackendException">The file is not there or is not a backend of this build.</exception>
    /// <exception cref="SsmArgumentException">The path is not absolute.</exception>
    public static void LoadBackend(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        fixed (byte* text = Utf8.FromString(path))
            SsmException.ThrowIfFailed(NativeMethods.BackendLoad(text));
    }
}
