namespace SsmCuda.Tool.Bench;

/// <summary>What limits an operation, and so which ceiling its share is counted of.</summary>
internal enum Bound
{
    Memory,
    Arithmetic,
}

/// <summary>
/// One line of the suite before its data exists: what is run, on which shape, and how to make it. Shared by `ssm bench` and the
/// BenchmarkDotNet project.
/// </summary>
/// <param name="Operation">The name it has in every layer.</param>
/// <param name="Shape">Named after the published model or task it comes from.</param>
/// <param name="Dtype">The storage type.</param>
/// <param name="Create">Makes the data and the call.</param>
internal sealed record BenchmarkDefinition(string Operation, string Shape, string Dtype,
    Func<BenchmarkDevice, BenchmarkCase> Create)
{
    /// <summary>Only worth its time on a GPU.</summary>
    public bool OnlyOnGpu { get; init; }

    public override string ToString() => $"{Operation} {Shape} {Dtype}";
}

/// <summary>An operation with its data in place.</summary>
internal abstract class BenchmarkCase : IDisposable
{
    /// <summary>Every input read once, every output written once.</summary>
    public abstract long Bytes { get; }

    /// <summary>Floating-point operations that the definition asks for; a fused multiply-add counts as two.</summary>
    public abstract double Flops { get; }

    public virtual Bound Bound => Bound.Memory;

    /// <summary>The largest error that is still right.</summary>
    public abstract double Tolerance { get; }

    /// <summary>What a peer needs to know to do the same; null where none of them can.</summary>
    public virtual PeerTask? PeerTask => null;

    /// <summary>What FFTW needs, the result being that of the last check; null where this is no convolution in float32.</summary>
    public virtual ConvolutionData? Convolution => null;

    /// <summary>Whether the plain loop ends within seconds; a part of it is never timed for the whole.</summary>
    public virtual bool HasLoop => true;

    /// <summary>Queues one call on the device.</summary>
    public abstract void Run();

    /// <summary>The plain sequential loop over the same data: the formula, scalar, one thread, no tricks.</summary>
    public abstract void RunLoop();

    /// <summary>
    /// max|y - r| / max|r| of what <see cref="Run"/> left on the device, against the definition in double precision;
    /// infinite where something is not finite. Of many rows a spread-out selection is compared.
    /// </summary>
    public abstract double MaxError();

    public abstract void Dispose();
}

/// <summary>What a peer is asked to time: sizes and options by name, all plain numbers and words.</summary>
internal sealed record PeerTask(string Operation, string Dtype, int Batch, int Channels, long Length)
{
    /// <summary>Of Channels each; 1 where there are none.</summary>
    public int Heads { get; init; } = 1;

    public int States { get; init; }

    /// <summary>Weights of a convolution.</summary>
    public int Width { get; init; }

    public string Combine { get; init; } = "";
}
