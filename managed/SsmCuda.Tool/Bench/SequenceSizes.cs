using System.Globalization;

namespace SsmCuda.Tool.Bench;

/// <summary>The sizes of sequence tensors (B,C,L) and the published model or task that they come from.</summary>
internal sealed record SequenceSizes(string Name, int Batch, int Channels, long Length)
{
    /// <summary>Memory holds (B,L,C) instead of (B,C,L).</summary>
    public bool IsChannelsLast { get; init; }

    public long Rows => (long)Batch * Channels;

    public long Elements => Rows * Length;

    /// <summary>Shape and strides of a tensor (B,C,L).</summary>
    public nint[] Shape => [Batch, Channels, (nint)Length];

    public nint[] Strides => IsChannelsLast
        ? [(nint)(Channels * Length), 1, Channels]
        : [(nint)(Channels * Length), (nint)Length, 1];

    /// <summary>Where a row begins, and how far its elements are apart.</summary>
    public (long Start, long Step) Row(long row) => IsChannelsLast
        ? (row / Channels * Channels * Length + row % Channels, Channels)
        : (row * Length, 1);

    /// <summary>Shorter by sixteen, for a quick run.</summary>
    public SequenceSizes Scaled(bool quick) => quick ? this with { Length = Length / 16 } : this;

    public override string ToString() => Rows == 1 && long.IsPow2(Length)
        ? string.Create(CultureInfo.InvariantCulture, $"{Name} 2^{long.Log2(Length)}")
        : string.Create(CultureInfo.InvariantCulture, $"{Name} ({Batch},{Channels},{Length})")
            + (IsChannelsLast ? " channels last" : "");
}
