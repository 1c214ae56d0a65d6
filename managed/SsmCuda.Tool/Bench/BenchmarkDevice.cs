using System.Globalization;
using System.Numerics.Tensors;

namespace SsmCuda.Tool.Bench;

/// <summary>Where benchmarks run, how time is taken there, and what that place can do at most.</summary>
internal abstract class BenchmarkDevice : IDisposable
{
    protected BenchmarkDevice(SsmContext context) => Context = context;

    public SsmContext Context { get; }

    public string Name => DeviceOption.NameOf(Context);

    public bool IsGpu => Context.Device.Type != SsmDeviceType.Cpu;

    /// <summary>Threads of the CPU at work; 0 on a GPU.</summary>
    public abstract int Threads { get; }

    public abstract string Description { get; }

    public static BenchmarkDevice Open(string? name, bool quick)
    {
        var context = DeviceOption.CreateContext(name);
        return context.Device.Type == SsmDeviceType.Cpu
            ? new CpuBenchmarkDevice(context, quick)
            : new GpuBenchmarkDevice(context, quick);
    }

    /// <summary>Measures the ceilings and says them in a line.</summary>
    public abstract string MeasureCeilings();

    /// <summary>One sample of a ceiling, in bytes or operations per second; null where nothing here measures it.</summary>
    public abstract double? ProbeRate(Bound bound);

    /// <summary>Seconds that calls of something take until their work has ended.</summary>
    public abstract double Time(Action call, int calls);

    public void Synchronize() => Context.Synchronize();

    /// <summary>A tensor whose data is made on the host.</summary>
    public BenchmarkTensor<T> Input<T>(nint[] shape, nint[] strides, Action<HostArray<T>> fill)
        where T : unmanaged
    {
        var tensor = new BenchmarkTensor<T>(Context, shape, strides);
        fill(tensor.Host);
        tensor.ToDevice();
        return tensor;
    }

    /// <summary>A tensor that the operation writes to.</summary>
    public BenchmarkTensor<T> Output<T>(nint[] shape, nint[] strides)
        where T : unmanaged => new(Context, shape, strides);

    public virtual void Dispose() => Context.Dispose();
}

/// <summary>A tensor with a host side for the loops and the checks: the same memory on the CPU, a copy elsewhere.</summary>
internal sealed unsafe class BenchmarkTensor<T> : IDisposable
    where T : unmanaged
{
    // The device's memory as it lies, whatever the strides of the tensor over it; null on the CPU.
    private readonly DeviceTensor<T>? copy;

    public BenchmarkTensor(SsmContext context, nint[] shape, nint[] strides)
    {
        Host = new HostArray<T>(shape.Aggregate(1L, (product, length) => product * length));
        copy = context.Device.Type == SsmDeviceType.Cpu ? null : context.Allocate<T>((nint)Host.Length);
        Device = DeviceTensor.FromPointer<T>(context, copy?.Pointer ?? (nint)Host.Pointer, shape, strides);
    }

    public HostArray<T> Host { get; }

    public DeviceTensor<T> Device { get; }

    public void ToDevice() => copy?.CopyFrom(HostSpan());

    public HostArray<T> ToHost()
    {
        copy?.CopyTo(HostSpan());
        return Host;
    }

    public void Dispose()
    {
        Device.Dispose();
        copy?.Dispose();
        Host.Dispose();
    }

    private TensorSpan<T> HostSpan() => new(Host.Pointer, (nint)Host.Length, [(nint)Host.Length], [1]);
}

/// <summary>The CPU: wall time; the ceilings are those of <see cref="CpuProbes"/>.</summary>
internal sealed class CpuBenchmarkDevice(SsmContext context, bool quick) : BenchmarkDevice(context)
{
    private readonly CpuProbes probes = new(Environment.ProcessorCount, quick);

    public override int Threads => Environment.ProcessorCount;

    public override string Description =>
        $"{Context.Device.Name}, {Threads} threads, {string.Join(' ', Context.Device.InstructionSets.Take(1))}";

    public override string MeasureCeilings()
    {
        var triad = Statistics.Median(Enumerable.Range(0, 9).Select(_ => probes.TriadBytes / probes.TriadSeconds()).ToArray());
        if (!probes.TriadIsRight())
        {
            throw new InvalidDataException("the triad probe computed a wrong result");
        }
        return string.Create(CultureInfo.InvariantCulture,
            $"ceilings: non-temporal triad {triad / 1e9:0.0} GB/s, float32 multiply-adds {probes.FmaRate(9) / 1e9:0.0} GFLOP/s");
    }

    public override double? ProbeRate(Bound bound) =>
        bound == Bound.Memory ? probes.TriadBytes / probes.TriadSeconds() : probes.FmaRate(1);

    public override double Time(Action call, int calls)
    {
        var begin = System.Diagnostics.Stopwatch.GetTimestamp();
        for (var i = 0; i < calls; i++)
        {
            call();
        }
        return System.Diagnostics.Stopwatch.GetElapsedTime(begin).TotalSeconds;
    }

    public override void Dispose()
    {
        probes.Dispose();
        base.Dispose();
    }
}

/// <summary>
/// A GPU: time between events on the stream. The bandwidth is that of a copy within its memory; the library has no kernel that
/// measures its arithmetic, so there is no such ceiling.
/// </summary>
internal sealed class GpuBenchmarkDevice : BenchmarkDevice
{
    private readonly DeviceTensor<float> source;
    private readonly DeviceTensor<float> destination;
    private readonly SsmEvent begin;
    private readonly SsmEvent end;

    public GpuBenchmarkDevice(SsmContext context, bool quick)
        : base(context)
    {
        var length = (nint)(quick ? 1 << 22 : 1 << 28);
        source = context.Allocate<float>(length);
        destination = context.Allocate<float>(length);
        source.Clear();
        begin = context.CreateEvent();
        end = context.CreateEvent();
    }

    public override int Threads => 0;

    public override string Description => $"{Context.Device.Name}, {Context.Device.Multiprocessors} multiprocessors, "
        + $"compute capability {Context.Device.ComputeCapability}";

    public override string MeasureCeilings()
    {
        var copy = Statistics.Median(Enumerable.Range(0, 9).Select(_ => ProbeRate(Bound.Memory)!.Value).ToArray());
        return string.Create(CultureInfo.InvariantCulture,
            $"ceilings: copy within the device {copy / 1e9:0.0} GB/s, arithmetic n/a");
    }

    public override double? ProbeRate(Bound bound) => bound == Bound.Memory
        ? 2.0 * sizeof(float) * source.Length / Time(() => destination.CopyFrom(source), 1)
        : null;

    public override double Time(Action call, int calls)
    {
        begin.Record();
        for (var i = 0; i < calls; i++)
        {
            call();
        }
        end.Record();
        end.Synchronize();
        return end.ElapsedSince(begin).TotalSeconds;
    }

    public override void Dispose()
    {
        source.Dispose();
        destination.Dispose();
        begin.Dispose();
        end.Dispose();
        base.Dispose();
    }
}
