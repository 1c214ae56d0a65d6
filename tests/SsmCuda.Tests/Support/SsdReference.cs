namespace SsmCuda.Tests;

/// <summary>Mamba-2's state space duality as its definition says, in doubles, one step after another. Arrays are compact; with
/// seqIdx the state restarts where it changes.</summary>
internal sealed record SsdReference(int Batch, int Length, int Heads, int Channels, int Groups, int States)
{
    public required double[] X { get; init; }
    public required double[] Dt { get; init; }
    public required double[] A { get; init; }
    public required double[] B { get; init; }
    public required double[] C { get; init; }
    public double[]? D { get; init; }
    public double[]? Z { get; init; }
    public double[]? DtBias { get; init; }
    public double[]? InitialState { get; init; }
    public int[]? SeqIdx { get; init; }
    public long[]? CuSeqlens { get; init; }
    public bool DtSoftplus { get; init; }

    public List<Reference.Row> Rows => Reference.Rows(Batch, Length, CuSeqlens);

    public (double[] Y, double[] LastState) Run()
    {
        var y = new double[X.Length];
        var size = Channels * States;
        var last = new double[Rows.Count * Heads * size];
        for (var r = 0; r < Rows.Count; r++)
        {
            var row = Rows[r];
            for (var head = 0; head < Heads; head++)
            {
                var h = new double[size];
                if (InitialState is not null)
                    Array.Copy(InitialState, ((r * Heads) + head) * size, h, 0, size);
                for (var t = row.First; t < row.Last; t++)
                {
                    var step = (row.Batch * Length) + t;
                    if (SeqIdx is not null && t > row.First && SeqIdx[step] != SeqIdx[step - 1])
                        Array.Clear(h);
                    var s = Dt[(step * Heads) + head] + (DtBias?[head] ?? 0);
                    if (DtSoftplus)
                        s = Math.Max(s, 0) + Math.Log(1 + Math.Exp(-Math.Abs(s)));
                    var decay = Math.Exp(s * A[head]);
                    var group = ((step * Groups) + (head / (Heads / Groups))) * States;
                    for (var p = 0; p < Channels; p++)
                    {
                        var at = (((step * Heads) + head) * Channels) + p;
                        var sum = (D?[head] ?? 0) * X[at];
                        for (var n = 0; n < States; n++)
                        {
                            var own = (p * States) + n;
                            h[own] = (decay * h[own]) + (s * X[at] * B[group + n]);
                            sum += h[own] * C[group + n];
                        }
                        y[at] = Z is null ? sum : sum * Z[at] / (1 + Math.Exp(-Z[at]));
                    }
                }
                Array.Copy(h, 0, last, ((r * Heads) + head) * size, size);
            }
        }
        return (y, last);
    }
}
