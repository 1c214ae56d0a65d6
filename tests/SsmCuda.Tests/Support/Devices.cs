[assembly: Parallelizable(ParallelScope.None)]

namespace SsmCuda.Tests;

/// <summary>The devices that this machine offers: the CPU, the emulated one where its backend lies beside the tests, CUDA
/// where a device is.</summary>
internal static class Devices
{
    private static readonly SsmDeviceType[] Found =
    [
        .. new[] { SsmDeviceType.Cpu, SsmDeviceType.Emulated, SsmDeviceType.Cuda }
            .Where(type => SsmDevice.Enumerate(type).Count > 0),
    ];

    public static IEnumerable<SsmDeviceType> All => Found;

    /// <summary>Those whose memory is not the host's.</summary>
    public static IEnumerable<SsmDeviceType> Separate => Found.Where(type => type != SsmDeviceType.Cpu);
}
